"""Models that are watched are trained as all others are."""

import torch

from course_utils.models import PaddedLSTM
from course_utils.panels.watching import watch_training
from course_utils.training import fit_seeds


def test_watched_models_are_those_of_fit_seeds():
    def make():
        return PaddedLSTM(2, 4, 3, lambda output, lengths: output[:, 0])

    sequences = [torch.ones(n, 2) for n in (3, 1, 2, 2)]
    labels = torch.tensor([0, 1, 2, 1])
    watched = watch_training({"one": (make, 1e-3)}, sequences, labels, epochs=2, seeds=[4, 7])
    others = fit_seeds(make, sequences, labels, epochs=2, learning_rate=1e-3, seeds=[4, 7])
    for one, other in zip(watched["one"], others, strict=True):
        assert torch.equal(one.head.weight, other.head.weight)
