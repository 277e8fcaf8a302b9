"""One training loop for every chapter, with a progress bar."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler
from tqdm import tqdm

from course_utils.batches.checks import check_mask
from course_utils.batches.padding import check_sequences, collate, pad
from course_utils.testing.measure import one_thread


def _check_labels(labels: Tensor, sequences: Sequence[Tensor]) -> None:
    if not isinstance(labels, Tensor) or labels.is_floating_point():
        raise TypeError("labels must be a tensor of integers: use torch.tensor(labels).long().")
    if labels.shape != (len(sequences),):
        raise ValueError(
            f"labels has shape {tuple(labels.shape)}, but there are {len(sequences)} sequences: "
            f"give one number each, ({len(sequences)},)."
        )


def _check_steps(logits: Tensor, targets: Tensor, keep_mask: Tensor) -> None:
    check_mask(keep_mask)
    for name, value in (("logits", logits), ("targets", targets)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} must be a tensor, not {type(value).__name__}: pad the list.")
    if logits.ndim != 3 or not logits.shape[:2] == targets.shape == keep_mask.shape:
        raise ValueError(
            f"logits {tuple(logits.shape)}, targets {tuple(targets.shape)} and keep_mask "
            f"{tuple(keep_mask.shape)} do not fit: give (B, T, C), (B, T) and (B, T)."
        )


def masked_cross_entropy(logits: Tensor, targets: Tensor, keep_mask: Tensor) -> Tensor:
    """Average the cross-entropy over the real steps of a batch, whatever the padding holds.

    float16 and bfloat16 are summed in float32.

    Args:
        logits: (B, T, C).
        targets: (B, T) int64, classes at real steps; anything at padding.
        keep_mask: (B, T) bool, True = real; it may have holes.
    Returns:
        the scalar mean; 0, with gradients of 0, where no step is real.
    Raises:
        TypeError: one of them is not a tensor, or `keep_mask` is not bool.
        ValueError: the shapes do not fit.

    >>> logits, targets = torch.zeros(1, 2, 4), torch.tensor([[1, 99]])
    >>> masked_cross_entropy(logits, targets, torch.tensor([[True, False]])).exp().item()
    4.0
    """
    _check_steps(logits, targets, keep_mask)
    # Only real steps are used, so NaN in the padding reaches neither the loss nor a gradient.
    if logits.dtype in (torch.float16, torch.bfloat16):  # which cannot hold a long batch's sum
        per_step = F.cross_entropy(logits[keep_mask], targets[keep_mask], reduction="none")
        total = per_step.sum(dtype=torch.float32)
    else:
        total = F.cross_entropy(logits[keep_mask], targets[keep_mask], reduction="sum")
    return (total / keep_mask.sum().clamp(min=1)).to(logits.dtype)


def four_losses(logits: Tensor, targets: Tensor, keep_mask: Tensor) -> dict[str, Tensor]:
    """Reduce the cross-entropy of a batch in the four ways that are in use (chapter 03).

    Args:
        logits: (B, T, C).
        targets: (B, T) int64, from 0 to C - 1 at the padding too.
        keep_mask: (B, T) bool, True = real.
    Returns:
        name -> scalar; NaN where a divisor is 0.
    Raises:
        TypeError, ValueError: as `masked_cross_entropy`.
    """
    _check_steps(logits, targets, keep_mask)
    per_step = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    real = per_step.masked_fill(~keep_mask, 0)
    return {
        "unmasked": per_step.mean(),
        "masked, over B x T": real.mean(),
        "over real steps": real.sum() / keep_mask.sum(),
        "per sequence": (real.sum(dim=1) / keep_mask.sum(dim=1)).mean(),
    }


def _with_bar(rounds: Sequence, unit: str) -> tqdm:
    # On stdout and without times: a saved notebook then shows the same bar on every machine.
    look = "{desc} {bar:30} {n_fmt} of {total_fmt} " + unit
    return tqdm(rounds, desc="training", bar_format=look, file=sys.stdout, ascii=".#")


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
    on_epoch: Callable[[list[float]], None] | None = None,
    batch_sampler: Sampler | None = None,
    bar: bool = True,
) -> list[float]:
    """Train a model on padded batches, reshuffled each epoch, with Adam.

    Args:
        model: called as `model(padded, lengths)`; trained in place, left in eval mode.
        sequences: N tensors of shapes (T_i, ...).
        labels: (N,) int64.
        epochs: passes over the data.
        batch_size: sequences per batch.
        learning_rate: Adam's step size.
        loss: `loss(output, labels)` gives the scalar to minimise.
        seed: of the order of the batches; the caller seeds the weights.
        on_epoch: called after each epoch with the mean losses so far.
        batch_sampler: says which sequences go into a batch; `batch_size` and `seed` are then not
            used. Its `set_epoch` is called, if it has one.
        bar: whether to print a progress bar.
    Returns:
        the mean loss of each epoch.
    Raises:
        TypeError, ValueError: `sequences` cannot be in one batch, `labels` are not as many
            integers, `epochs` or `batch_size` is not positive, or `batch_sampler` gives no batch
            or is made for a different number of sequences.
    """
    check_sequences(sequences)
    _check_labels(labels, sequences)
    if epochs < 1 or batch_size < 1:
        raise ValueError(f"epochs ({epochs}) and batch_size ({batch_size}) must be at least 1.")
    planned = getattr(batch_sampler, "lengths", sequences)
    if len(planned) != len(sequences):
        raise ValueError(
            f"batch_sampler is made for {len(planned)} sequences, but there are {len(sequences)}: "
            "give it the lengths of these."
        )
    if batch_sampler is None:
        batches = {"batch_size": batch_size, "shuffle": True}
        batches |= {"generator": torch.Generator().manual_seed(seed)}
    else:
        batches = {"batch_sampler": batch_sampler}
    data = list(zip(sequences, labels, strict=True))
    loader = DataLoader(data, collate_fn=collate, **batches)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    history = []
    model.train()
    with one_thread():
        for epoch in _with_bar(range(epochs), "epochs") if bar else range(epochs):
            if hasattr(batch_sampler, "set_epoch"):
                batch_sampler.set_epoch(epoch)
            total, seen = 0.0, 0
            for padded, lengths, targets in loader:
                # Detached, so that only the model learns, whatever the caller's tensors require.
                value = loss(model(padded.detach(), lengths), targets)
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
                total += value.item() * len(targets)
                seen += len(targets)
            if not seen:
                raise ValueError("batch_sampler gives no batch: there is nothing to train on.")
            history.append(total / seen)
            if on_epoch:
                on_epoch(history)
    model.eval()
    return history


def fit_seeds(
    make: Callable[[], nn.Module],
    sequences: Sequence[Tensor],
    labels: Tensor,
    *,
    seeds: Sequence[int] = range(5),
    **options,
) -> list[nn.Module]:
    """Train a model from several seeds, for a claim that one run cannot support.

    Args:
        make: makes a model; called once per seed, right after `torch.manual_seed`.
        sequences, labels: as for `fit`.
        seeds: of the weights and of the order of the batches.
        options: as for `fit`.
    Returns:
        the trained models, one per seed.
    Raises:
        TypeError, ValueError: as `fit`; or `seeds` is empty.
    """
    return fit_each({"": make}, sequences, labels, seeds=seeds, **options)[""]


def fit_each(
    makes: Mapping[str, Callable[[], nn.Module]],
    sequences: Sequence[Tensor],
    labels: Tensor,
    *,
    seeds: Sequence[int] = range(5),
    **options,
) -> dict[str, list[nn.Module]]:
    """Train several models from several seeds, with one progress bar for all of them.

    Args:
        makes: name -> makes a model; called once per seed, right after `torch.manual_seed`.
        sequences, labels: as for `fit`.
        seeds: of the weights and of the order of the batches.
        options: as for `fit`.
    Returns:
        name -> the trained models, one per seed.
    Raises:
        TypeError, ValueError: as `fit`; or `seeds` or `makes` is empty.
    """
    if not len(seeds):
        raise ValueError("seeds is empty: give at least one, seeds=[0].")
    if not makes:
        raise ValueError("makes is empty: give at least one name and a function.")
    models = {name: [] for name in makes}
    runs = [(name, seed) for name in makes for seed in seeds]
    for name, seed in _with_bar(runs, "seeds" if len(makes) == 1 else "models"):
        torch.manual_seed(seed)
        model = makes[name]()
        fit(model, sequences, labels, seed=seed, bar=False, **options)
        models[name].append(model)
    return models


@torch.no_grad()
def accuracy(
    model: Callable[[Tensor, Tensor], Tensor],
    sequences: Sequence[Tensor],
    labels: Tensor,
    *,
    extra_padding: int = 0,
) -> float:
    """Measure the share of sequences that a model classifies correctly, as one padded batch.

    Args:
        model: called as `model(padded, lengths)`, returns (N, C) logits; runs in the mode it is
            in.
        sequences: N tensors of shapes (T_i, ...).
        labels: (N,) int64.
        extra_padding: steps of zeros added beyond the longest sequence.
    Returns:
        between 0 and 1.
    Raises:
        TypeError, ValueError: `sequences` cannot be in one batch, `labels` are not as many
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
