"""The first thing that the course shows: padding is added, and answers fall."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_utils.batches.packed import pack
from course_utils.batches.padding import pad
from course_utils.data import japanese_vowels
from course_utils.panels.padding import PaddingSlider
from course_utils.training import fit

_NAMES = ("output[:, -1]", "h_n", "mean over T", "packed h_n")


class _FourReadOuts(nn.Module):
    """One BiLSTM, and a linear classifier for each of four ways to read it out.

    The packed one trains the LSTM; the others learn to read what that LSTM gives them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(12, 32, batch_first=True, bidirectional=True)
        self.heads = nn.ModuleList(nn.Linear(64, 9) for _ in _NAMES)

    def forward(self, padded: Tensor, lengths: Tensor) -> Tensor:
        """Return (B, 4, 9) logits of a batch (B, T, 12)."""
        output, (h_n, _) = self.lstm(padded)
        _, (packed_h_n, _) = self.lstm(pack(padded, lengths))
        states = [output[:, -1], h_n.transpose(0, 1).flatten(1), output.mean(1)]
        states = [state.detach() for state in states] + [packed_h_n.transpose(0, 1).flatten(1)]
        guesses = [head(state) for head, state in zip(self.heads, states, strict=True)]
        return torch.stack(guesses, dim=1)


def _four_losses(output: Tensor, labels: Tensor) -> Tensor:
    return sum(F.cross_entropy(output[:, i], labels) for i in range(len(_NAMES)))


def first_look(*, epochs: int = 15) -> PaddingSlider:
    """Train one LSTM with four read-outs, and show what padding alone does to each.

    Args:
        epochs: passes over the recordings.
    Returns:
        PaddingSlider: a slider of added padding; every position is drawn beforehand.
    """
    train, test = japanese_vowels("train"), japanese_vowels("test")
    longest = max(map(len, test.sequences))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = _FourReadOuts()
        fit(model, train.sequences, train.labels, epochs=epochs, loss=_four_losses)

    @torch.no_grad()
    def evaluate(added: int) -> dict[str, float]:
        padded, lengths = pad(test.sequences, total_length=longest + added)
        right = model(padded, lengths).argmax(dim=2) == test.labels[:, None]
        return dict(zip(_NAMES, right.float().mean(dim=0).tolist(), strict=True))

    drawn = [len(one) for one in test.sequences[::100]]
    return PaddingSlider(evaluate, drawn, longest)
