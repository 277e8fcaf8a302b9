"""One training loop for every chapter, with a progress bar."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from course_utils.batching import check_sequences, collate, pad
from course_utils.measure import one_thread


def _check_labels(labels: Tensor, sequences: Sequence[Tensor]) -> None:
    if not isinstance(labels, Tensor) or labels.is_floating_point():
        raise TypeError("labels must be a tensor of integers: use torch.tensor(labels).long().")
    if labels.shape != (len(sequences),):
        raise ValueError(
            f"labels has shape {tuple(labels.shape)}, but there are {len(sequences)} sequences: "
            f"give one number each, ({len(sequences)},)."
        )


def fit(
    model: nn.Module,
    sequences: Sequence[Tensor],
    labels: Tensor,
    *,
    epochs: int = 30,
    batch_size: int = 32,
    learning_rate: float = 1e-2,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    seed: int = 0,
) -> list[float]:
    """Train a model on padded batches, shuffled anew each epoch, with Adam.

    Args:
        model: called as `model(padded, lengths)`; trained in place, left in eval mode.
        sequences: N tensors of shapes (T_i, ...).
        labels: (N,) int64.
        epochs: passes over the data.
        batch_size: sequences a batch.
        learning_rate: Adam's step size.
        loss: `loss(output, labels)` gives the scalar to minimise.
        seed: of the order of the batches; the caller seeds the weights.
    Returns:
        the mean loss of each epoch.
    Raises:
        TypeError, ValueError: `sequences` cannot stand in one batch, `labels` are not as many
            integers, or `epochs` or `batch_size` is not positive.
    """
    check_sequences(sequences)
    _check_labels(labels, sequences)
    if epochs < 1 or batch_size < 1:
        raise ValueError(f"epochs ({epochs}) and batch_size ({batch_size}) must be at least 1.")
    loader = DataLoader(
        list(zip(sequences, labels, strict=True)),
        batch_size=batch_size,
        shuffle=True,
        collate_fn=collate,
        generator=torch.Generator().manual_seed(seed),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    history = []
    model.train()
    # On stdout and without times: a saved notebook then shows the same bar on every machine.
    bar = "{desc} {bar:30} {n_fmt} of {total_fmt} epochs"
    rounds = tqdm(range(epochs), desc="training", bar_format=bar, file=sys.stdout, ascii=".#")
    with one_thread():
        for _ in rounds:
            total = 0.0
            for padded, lengths, targets in loader:
                value = loss(model(padded, lengths), targets)
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
                total += value.item() * len(targets)
            history.append(total / len(sequences))
    model.eval()
    return history


@torch.no_grad()
def accuracy(
    model: Callable[[Tensor, Tensor], Tensor],
    sequences: Sequence[Tensor],
    labels: Tensor,
    *,
    extra_padding: int = 0,
) -> float:
    """Measure the share of sequences that a model classifies rightly, as one padded batch.

    Args:
        model: called as `model(padded, lengths)`, returns (N, C) logits; runs in the mode it is
            in.
        sequences: N tensors of shapes (T_i, ...).
        labels: (N,) int64.
        extra_padding: steps of zeros added beyond the longest sequence.
    Returns:
        between 0 and 1.
    Raises:
        TypeError, ValueError: `sequences` cannot stand in one batch, `labels` are not as many
            integers, `extra_padding` is negative, or the output is not (N, C).
    """
    check_sequences(sequences)
    _check_labels(labels, sequences)
    if extra_padding < 0:
        raise ValueError(f"extra_padding is {extra_padding}: give a number of steps, 0 or more.")
    padded, lengths = pad(sequences, total_length=max(map(len, sequences)) + extra_padding)
    output = model(padded, lengths)
    if output.ndim != 2 or len(output) != len(labels):
        raise ValueError(
            f"model gave shape {tuple(output.shape)} for {len(labels)} sequences: it must return "
            "(N, C), a logit for each class."
        )
    return (output.argmax(dim=1) == labels).float().mean().item()
