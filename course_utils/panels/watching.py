"""Training that is watched: the curves grow while the models learn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from IPython.display import display
from torch import Tensor, nn

from course_utils.panels.trace import TrainingCurves
from course_utils.training import fit


def watch_training(
    makes: Mapping[str, tuple[Callable[[], nn.Module], float]],
    sequences: Sequence[Tensor],
    labels: Tensor,
    *,
    epochs: int,
    seeds: Sequence[int] = range(5),
) -> dict[str, list[nn.Module]]:
    """Train several models from several seeds, and show their losses while they train.

    Args:
        makes: name -> what makes a model, called once per seed right after `torch.manual_seed`; and
            its learning rate.
        sequences, labels, epochs: as of `fit`.
        seeds: of the weights and of the order of the batches.
    Returns:
        name -> the trained models, one a seed.
    Raises:
        TypeError, ValueError: as `fit`.
    """
    curves = TrainingCurves(list(makes), epochs)
    display(curves)
    models = {name: [] for name in makes}
    for seed in seeds:
        for name, (make, learning_rate) in makes.items():
            torch.manual_seed(seed)
            model = make()
            options = {"learning_rate": learning_rate, "on_epoch": partial(curves.record, name)}
            fit(model, sequences, labels, epochs=epochs, seed=seed, bar=False, **options)
            models[name].append(model)
    return models
