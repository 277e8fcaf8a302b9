"""The course's small models, each called as `model(padded, lengths)`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

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
