"""The course's small models, each called as `model(padded, lengths)`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from course_utils.masks import check_lengths, check_same_count


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
    """A bidirectional LSTM that reads each sequence to its own end, and a linear classifier.

    Args:
        input_size: D, the features of a step.
        hidden_size: H, the features of the state in each direction.
        num_classes: C.
    """

    def __init__(self, input_size: int, hidden_size: int, num_classes: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(input_size, hidden_size, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * hidden_size, num_classes)

    def forward(self, padded: Tensor, lengths: Tensor) -> Tensor:
        """Classify each sequence.

        Args:
            padded: (B, T, D); what the padding holds does not matter.
            lengths: (B,) integers on the CPU, from 1 to T.
        Returns:
            (B, C) logits.
        Raises:
            TypeError: `lengths` is no tensor of integers.
            ValueError: their number is not B, or a length is not in 1..T.
        """
        # Given fewer lengths than sequences, torch would drop the others without a word.
        check_lengths(lengths, padded.shape[1])
        check_same_count(lengths, padded.shape[0])
        packed = pack_padded_sequence(padded, lengths, batch_first=True, enforce_sorted=False)
        _, (h_n, _) = self.lstm(packed)
        return self.head(torch.cat([h_n[-2], h_n[-1]], dim=1))
