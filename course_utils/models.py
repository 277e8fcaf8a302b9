"""The course's small models.

A classifier of sequences is called as `model(padded, lengths)`: `padded` is (B, T, D), and what its
padding holds does not matter; `lengths` is (B,) integers from 1 to T. It returns (B, C) logits. It
raises a TypeError if `lengths` is not a tensor of integers, and a ValueError if their number is not
B, or a length is not in 1..T.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_packed_sequence

from course_utils.batches.layers import checked_keep_mask, sinusoids
from course_utils.batches.masks import masked_mean, to_key_padding_mask
from course_utils.batches.packed import pack


class PaddedLSTM(nn.Module):
    """A forward LSTM over a padded batch, a read-out, and a linear classifier (chapter 01).

    Args:
        input_size: D, the features of a step.
        hidden_size: H, the features of the state.
        num_classes: C.
        read_out: `read_out(output, lengths)` makes (B, H) of the output (B, T, H).
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_classes: int,
        read_out: Callable[[Tensor, Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.lstm = nn.LSTM(input_size, hidden_size, batch_first=True)
        self.head = nn.Linear(hidden_size, num_classes)
        self.read_out = read_out

    def forward(self, padded: Tensor, lengths: Tensor) -> Tensor:
        """Classify each sequence; whether padding changes the logits depends on the read-out."""
        output, _ = self.lstm(padded)
        return self.head(self.read_out(output, lengths))


class PackedLSTM(nn.Module):
    """An LSTM that reads each sequence to its own end, and a linear classifier (chapter 02).

    Args:
        input_size: D, the features of a step.
        hidden_size: H, the features of the state in each direction.
        num_classes: C.
        bidirectional: whether it reads backwards as well.
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_classes: int, bidirectional: bool = True
    ) -> None:
        super().__init__()
        self.lstm = nn.LSTM(input_size, hidden_size, batch_first=True, bidirectional=bidirectional)
        self.directions = 2 if bidirectional else 1
        self.head = nn.Linear(self.directions * hidden_size, num_classes)

    def forward(self, padded: Tensor, lengths: Tensor) -> Tensor:
        """Classify each sequence, as the module's docstring says."""
        # The padding may hold anything: this model does not look at it.
        packed = pack(padded, lengths, padding_value=None)
        _, (h_n, _) = self.lstm(packed)
        return self.head(torch.cat(list(h_n[-self.directions :]), dim=1))


class MaskedTransformer(nn.Module):
    """A Transformer encoder that never looks at padding, and a linear classifier (chapter 04).

    Args:
        input_size: the features of a step.
        d_model: D, the features inside; even, and a multiple of `nhead`.
        num_classes: C.
        nhead: attention heads.
        num_layers: encoder layers.
    Raises:
        ValueError: `d_model` is odd.
    """

    def __init__(
        self, input_size: int, d_model: int, num_classes: int, nhead: int = 4, num_layers: int = 2
    ) -> None:
        super().__init__()
        sinusoids(1, d_model)  # refuses an odd d_model here, and not at the first batch
        self.project = nn.Linear(input_size, d_model)
        layer = nn.TransformerEncoderLayer(d_model, nhead, 2 * d_model, 0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)
        self.head = nn.Linear(d_model, num_classes)

    def forward(self, padded: Tensor, lengths: Tensor) -> Tensor:
        """Classify each sequence, as the module's docstring says."""
        keep_mask = checked_keep_mask(padded, lengths)
        # The mask cannot stop a NaN in the padding, so it is removed at the input.
        steps = self.project(padded.masked_fill(~keep_mask[..., None], 0))
        steps = steps + sinusoids(padded.shape[1], steps.shape[2]).to(steps)
        steps = self.encoder(steps, src_key_padding_mask=to_key_padding_mask(keep_mask))
        return self.head(masked_mean(steps, keep_mask))


class Hybrid(nn.Module):
    """A packed BiLSTM, then a masked Transformer layer, and a linear classifier (chapter 05).

    Args:
        input_size: D, the features of a step.
        hidden_size: H, the features of the LSTM's state in each direction; 2 H inside.
        num_classes: C.
        nhead: attention heads.
    """

    def __init__(self, input_size: int, hidden_size: int, num_classes: int, nhead: int = 4) -> None:
        super().__init__()
        self.lstm = nn.LSTM(input_size, hidden_size, batch_first=True, bidirectional=True)
        width = 2 * hidden_size
        self.layer = nn.TransformerEncoderLayer(width, nhead, 2 * width, 0.0, batch_first=True)
        self.head = nn.Linear(width, num_classes)

    def forward(self, padded: Tensor, lengths: Tensor) -> Tensor:
        """Classify each sequence, as the module's docstring says."""
        packed, _ = self.lstm(pack(padded, lengths, padding_value=None))
        # Unpacking writes zeros at the padding, so the mask below has nothing worse to hide.
        steps, _ = pad_packed_sequence(packed, batch_first=True, total_length=padded.shape[1])
        keep_mask = checked_keep_mask(padded, lengths)
        steps = self.layer(steps, src_key_padding_mask=to_key_padding_mask(keep_mask))
        return self.head(masked_mean(steps, keep_mask))


Attention = Callable[[Tensor, Tensor, Tensor], Tensor]


class Block(nn.Module):
    """A Transformer block whose caller decides which step attends to which (chapter 07).

    Args:
        d_model: D, the features; a multiple of `nhead`.
        nhead: H, attention heads.
    """

    def __init__(self, d_model: int, nhead: int) -> None:
        super().__init__()
        self.nhead = nhead
        self.norm1, self.norm2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.qkv, self.out = nn.Linear(d_model, 3 * d_model), nn.Linear(d_model, d_model)
        self.feed = nn.Sequential(
            nn.Linear(d_model, 2 * d_model), nn.GELU(), nn.Linear(2 * d_model, d_model)
        )

    def forward(self, x: Tensor, attend: Attention) -> Tensor:
        """Let the steps attend to each other, and then change each step by itself.

        Args:
            x: (..., S, D): padded or packed rows, or one flat run of steps.
            attend: `attend(q, k, v)` on tensors (..., H, S, D / H) gives one of that shape.
        Returns:
            (..., S, D).
        """
        parts = self.qkv(self.norm1(x)).unflatten(-1, (3, self.nhead, -1))
        q, k, v = parts.movedim(-3, 0).transpose(-3, -2)
        x = x + self.out(attend(q, k, v).transpose(-3, -2).flatten(-2))
        return x + self.feed(self.norm2(x))


class CausalLM(nn.Module):
    """A small Transformer that predicts the next word (chapter 07).

    The caller says which position each step has, and which step attends to which, so that the same
    weights run on padded rows, on packed rows, and on one flat run of steps.

    Args:
        vocabulary: V, the number of words.
        d_model: D, the features inside.
        nhead: attention heads.
        num_layers: blocks.
        longest: positions that can be learned.
    """

    def __init__(
        self,
        vocabulary: int,
        d_model: int = 64,
        nhead: int = 4,
        num_layers: int = 2,
        longest: int = 128,
    ) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(vocabulary, d_model), nn.Embedding(longest, d_model)
        self.blocks = nn.ModuleList(Block(d_model, nhead) for _ in range(num_layers))
        self.norm, self.head = nn.LayerNorm(d_model), nn.Linear(d_model, vocabulary)

    def forward(self, content: Tensor, positions: Tensor, attend: Attention) -> Tensor:
        """Predict the word after each step.

        Args:
            content: (..., S) int64, word numbers below V.
            positions: (..., S) int64, below `longest`.
            attend: as in `Block`.
        Returns:
            (..., S, V) logits.
        """
        x = self.embed(content) + self.place(positions)
        for block in self.blocks:
            x = block(x, attend)
        return self.head(self.norm(x))
