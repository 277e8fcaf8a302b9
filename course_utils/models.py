"""The course's small models, each called as `model(padded, lengths)`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from course_utils.checks import check_lengths, check_same_count
from course_utils.masks import lengths_to_keep_mask, masked_mean, to_key_padding_mask
from course_utils.packed import pack


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
        """Classify each sequence.

        Args:
            padded: (B, T, D).
            lengths: (B,) int64, from 1 to T.
        Returns:
            (B, C) logits. Whether padding changes them depends on the read-out.
        """
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
        """Classify each sequence.

        Args:
            padded: (B, T, D); what the padding holds does not matter.
            lengths: (B,) integers, from 1 to T.
        Returns:
            (B, C) logits.
        Raises:
            TypeError: `lengths` is no tensor of integers.
            ValueError: their number is not B, or a length is not in 1..T.
        """
        # The padding may hold anything: this model does not look at it.
        packed = pack(padded, lengths, padding_value=None)
        _, (h_n, _) = self.lstm(packed)
        return self.head(torch.cat(list(h_n[-self.directions :]), dim=1))


class AttentionPool(nn.Module):
    """Average the steps of each sequence with learned weights, over real steps only (chapter 03).

    Args:
        size: H, the features of a step.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.score = nn.Linear(size, 1)

    def forward(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Reduce time.

        Args:
            values: (B, T, H); what the padding holds does not matter.
            lengths: (B,) integers, from 1 to T.
        Returns:
            (B, H).
        Raises:
            TypeError: `lengths` is no tensor of integers.
            ValueError: their number is not B, or a length is not in 1..T.
        """
        check_lengths(lengths, values.shape[1])
        check_same_count(lengths, len(values))
        keep = lengths_to_keep_mask(lengths, values.shape[1])[..., None]
        # Before the score and the sum alike: a weight of 0 does not stop a NaN.
        values = values.masked_fill(~keep, 0)
        weights = self.score(values).masked_fill(~keep, -torch.inf).softmax(dim=1)
        return (weights * values).sum(dim=1)


def sinusoids(num_steps: int, d_model: int) -> Tensor:
    """Encode positions as sines and cosines, for any number of steps.

    Source: Vaswani et al., https://arxiv.org/abs/1706.03762, section 3.5.

    Args:
        num_steps: T.
        d_model: D, even.
    Returns:
        (T, D) float32.
    Raises:
        ValueError: `d_model` is odd.
    """
    if d_model % 2:
        raise ValueError(f"d_model is {d_model}: give an even number, half sines, half cosines.")
    rates = 10_000 ** (-torch.arange(0, d_model, 2) / d_model)
    angles = torch.arange(num_steps)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class MaskedTransformer(nn.Module):
    """A Transformer encoder that never looks at padding, and a linear classifier (chapter 04).

    Args:
        input_size: the features of a step.
        d_model: D, the features inside; even, and a multiple of `nhead`.
        num_classes: C.
        nhead: attention heads.
        num_layers: encoder layers.
    """

    def __init__(
        self, input_size: int, d_model: int, num_classes: int, nhead: int = 4, num_layers: int = 2
    ) -> None:
        super().__init__()
        self.project = nn.Linear(input_size, d_model)
        layer = nn.TransformerEncoderLayer(d_model, nhead, 2 * d_model, 0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)
        self.head = nn.Linear(d_model, num_classes)

    def forward(self, padded: Tensor, lengths: Tensor) -> Tensor:
        """Classify each sequence.

        Args:
            padded: (B, T, input_size); what the padding holds does not matter.
            lengths: (B,) integers, from 1 to T.
        Returns:
            (B, C) logits.
        Raises:
            TypeError: `lengths` is no tensor of integers.
            ValueError: their number is not B, or a length is not in 1..T.
        """
        check_lengths(lengths, padded.shape[1])
        check_same_count(lengths, len(padded))
        keep_mask = lengths_to_keep_mask(lengths, padded.shape[1])
        # The mask cannot stop a NaN in the padding: it goes at the door.
        steps = self.project(padded.masked_fill(~keep_mask[..., None], 0))
        steps = steps + sinusoids(padded.shape[1], steps.shape[2]).to(steps)
        steps = self.encoder(steps, src_key_padding_mask=to_key_padding_mask(keep_mask))
        return self.head(masked_mean(steps, keep_mask))
