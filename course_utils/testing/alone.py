"""Together equals alone: the oracle of the whole course, and the leak detector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from course_utils.batches.masks import lengths_to_keep_mask
from course_utils.batches.padding import check_padding_value, check_sequences, pad
from course_utils.testing.core import (
    TOLERANCES,
    Path,
    Runs,
    Subject,
    gradient_differences,
    in_doubt,
    largest,
    projection,
    relative_difference,
)

Model = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Report:
    """What `together_equals_alone` found. True in an `if` where everything agrees.

    A difference is the largest absolute one, divided by the largest absolute value alone, unless
    that is 0; it is inf where a shape differs, or where only one side is NaN. NaN on both sides is
    not a difference.

    Attributes:
        lengths: steps of each sequence.
        outputs: one difference per sequence, relative to the largest value of all sequences.
        loss: the difference of the loss, relative to the largest loss of a sequence.
        gradients: one difference per parameter, by its name; empty for a model without any. It is
            relative to the parameter's own largest gradient, or to 1% of the model's where that
            is more, because a gradient that is 0 in exact arithmetic, such as that of a key bias,
            is nothing but rounding.
        tolerance: the largest difference that counts as equal.
        dtype: the precision in which it was compared; None for the model's own.
        padded: whether the batch held any padding; if not, the report says so.
    """

    lengths: list[int]
    outputs: list[float]
    loss: float
    gradients: dict[str, float]
    tolerance: float
    dtype: torch.dtype | None = torch.float64
    padded: bool = True

    def __bool__(self) -> bool:
        differences = [*self.outputs, self.loss, *self.gradients.values()]
        return all(difference <= self.tolerance for difference in differences)

    def _verdict(self, difference: float) -> str:
        if difference <= self.tolerance:
            return f"equal within {self.tolerance:.0e}"
        return f"DIFFERS by {100 * difference:.2g}% of the largest value"

    def __str__(self) -> str:
        lines = ["together equals alone" if self else "together does NOT equal alone"]
        for index, (length, difference) in enumerate(zip(self.lengths, self.outputs, strict=True)):
            lines.append(f"  sequence {index} ({length:3d} steps): {self._verdict(difference)}")
        lines.append(f"  loss: {self._verdict(self.loss)}")
        wrong = {name: d for name, d in self.gradients.items() if not d <= self.tolerance}
        right = len(self.gradients) - len(wrong)
        lines.append(f"  gradients: {right} of {len(self.gradients)} parameters equal")
        lines += [f"    {name}: {self._verdict(difference)}" for name, difference in wrong.items()]
        if not self.padded:
            lines.append(
                "  nothing was padded, so padding was never tried: give sequences of different "
                "lengths, or extra_padding"
            )
        return "\n".join(lines)

    __repr__ = __str__


def _checked_rows(output: Tensor, lengths: Tensor, per_step: bool) -> list[Tensor]:
    if not isinstance(output, Tensor) or output.ndim == 0 or len(output) != len(lengths):
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(
            f"model gave {shape} for a batch of {len(lengths)} sequences: it must return a "
            "tensor whose first dimension is B."
        )
    if not output.is_floating_point():
        raise TypeError(
            f"model gave {output.dtype}: it must return floating point, such as the logits before "
            "an argmax."
        )
    if not per_step:
        return list(output)
    if output.ndim < 2 or output.shape[1] < int(lengths.max()):
        raise ValueError(
            f"model gave shape {tuple(output.shape)}, but per_step=True needs (B, T, ...) with "
            f"T at least {int(lengths.max())}."
        )
    return [row[:length] for row, length in zip(output, lengths.tolist(), strict=True)]


def _run(per_step: bool) -> Callable:
    def run(model: Model, batch: tuple[Tensor, Tensor], count: int) -> list[Tensor]:
        return _checked_rows(model(*batch), batch[1], per_step)

    return run


def _subject(model: Model, sequences: Sequence[Tensor], per_step: bool) -> Subject:
    """Find the modules in a function by calling it once; a module need not be called."""
    run = _run(per_step)
    search = not isinstance(model, nn.Module)
    return Subject(model, lambda own: run(own, pad(sequences), len(sequences)), search)


def _prepare(subject: Subject, attempt: Callable[[], object], dtype: torch.dtype | None) -> None:
    """Take float64 where the model can, else its own precision."""
    subject.prepare(dtype)
    if dtype is None:
        return
    try:
        attempt()
    except Exception:
        # Is the precision the cause? In its own precision, an error is the model's.
        subject.prepare(None)
        attempt()


@torch.inference_mode(False)
def together_equals_alone(
    model: Model,
    sequences: Sequence[Tensor],
    *,
    loss: Callable[[Tensor, int], Tensor] | None = None,
    per_step: bool = False,
    extra_padding: int = 0,
    dtype: torch.dtype | None = torch.float64,
    tolerance: float | None = None,
) -> Report:
    """Run sequences as one padded batch and one by one, and compare the results.

    Outputs, the mean loss and the gradient of every parameter must agree. The model runs in the
    mode it is in; in evaluation it runs without gradients as well, where PyTorch may take another
    path, and the larger difference counts. Modules inside a function are found by calling it.
    Everything is compared in float64, where rounding is smaller than any fault. The model and all
    random states are left as they were.

    Args:
        model: called as `model(padded, lengths)` with padded (B, T, ...) and lengths (B,);
            returns (B, ...), or (B, T, ...) with `per_step`.
        sequences: B tensors of shapes (T_i, ...).
        loss: `loss(row, i)` gives the scalar loss of sequence i from its own row of the output
            (its real steps only, with `per_step`). A fixed random mixture of the row where None.
        per_step: whether the model's output has a time dimension, to be compared at the real
            steps alone.
        extra_padding: steps of padding added to the batch beyond its longest sequence.
        dtype: the precision to compare in; the model's own where None, or where it cannot compute
            in float64.
        tolerance: the largest difference that counts as equal, relative to the largest value.
            Where None, 1e-9 in float64; otherwise that of the dtype, or four times the rounding
            that is measured on this model.
    Returns:
        Report: true where all agree; printed, it says which sequence differs by how much.
    Raises:
        TypeError, ValueError: `sequences` cannot be in one batch, `extra_padding` is
            negative, or what `model` or `loss` returns is not as stated above.

    >>> report = together_equals_alone(lambda x, lengths: x.sum(1), [torch.ones(2, 1)])
    >>> bool(report)
    True
    """
    check_sequences(sequences)
    if extra_padding < 0:
        raise ValueError(f"extra_padding is {extra_padding}: give a number of steps, 0 or more.")
    count, longest = len(sequences), max(map(len, sequences))
    everyone = range(count)
    subject = _subject(model, sequences, per_step)
    training = isinstance(model, nn.Module) and model.training

    def batch_of(indices: list[int], together: bool = False) -> tuple[Tensor, Tensor]:
        total_length = longest + extra_padding if together else None
        return pad([sequences[index] for index in indices], total_length=total_length)

    def runs_on(path: Path) -> Runs:
        return Runs(subject, batch_of, _run(per_step), loss or projection, path)

    # None leaves each module in the mode it is in.
    recorded, unrecorded = runs_on(Path(None, True)), runs_on(Path(None, False))
    _prepare(subject, lambda: recorded.rows(everyone, together=True), dtype)

    subject.gradients()
    alone, losses = [], []
    for index in everyone:
        alone += recorded.rows([index], backward=True)
        losses += recorded.losses
    gradients = subject.gradients()
    together = recorded.rows(everyone, backward=True, together=True)
    scalars = torch.stack(recorded.losses).mean(), torch.stack(losses).mean()
    scale = largest(alone)
    outputs = _compare(together, alone, scale)
    if not training:
        apart = [unrecorded.rows([index])[0] for index in everyone]
        without = _compare(unrecorded.rows(everyone, together=True), apart, largest(apart))
        outputs = [max(pair) for pair in zip(outputs, without, strict=True)]
    sizes = {name: largest([gradient]) for name, gradient in gradients.items()}
    differences = gradient_differences(subject.gradients(), gradients, sizes)
    if tolerance is None:
        found = [*outputs, *differences.values()]
        tolerance = _tolerance(recorded, list(everyone), together, found)
    return Report(
        lengths=[len(sequence) for sequence in sequences],
        outputs=outputs,
        loss=relative_difference(*scalars, largest(losses)),
        gradients=differences,
        tolerance=tolerance,
        dtype=subject.dtype,
        padded=extra_padding > 0 or any(len(sequence) < longest for sequence in sequences),
    )


def _compare(rows: Sequence[Tensor], others: Sequence[Tensor], scale: float) -> list[float]:
    return [relative_difference(row, other, scale) for row, other in zip(rows, others, strict=True)]


def _tolerance(
    runs: Runs, indices: list[int], rows: list[Tensor], differences: list[float]
) -> float:
    """Return what counts as equal; rounding is measured only where it can matter."""
    if runs.subject.dtype == torch.float64 and not in_doubt(differences):
        return TOLERANCES[torch.float64]
    return runs.rounding(indices, rows).tolerance(runs.subject.dtype == torch.float64)


@torch.inference_mode(False)
def leak_map(
    model: Model,
    sequences: Sequence[Tensor],
    *,
    value: float = float("nan"),
    per_step: bool = False,
    dtype: torch.dtype | None = torch.float64,
    tolerance: float = 1e-5,
) -> Tensor:
    """Find out where the content of the padding reaches.

    The batch runs twice, without gradients: with zeros in the padding, and with `value` there.
    Any real place whose output changes has looked at the padding. Both runs start from the same
    random state, so dropout does not count as a leak. As in `together_equals_alone`, nothing is
    left changed.

    Args:
        model: as in `together_equals_alone`.
        sequences: B tensors of shapes (T_i, ...); give `value` where they are integers.
        value: what the padding holds the second time; NaN reaches everything that is computed from
            it, and 1e30 shows what a mask that multiplies still lets through.
        per_step: whether the output has a time dimension.
        dtype: as in `together_equals_alone`; 1e30 overflows in float32, and not in float64.
        tolerance: the largest change that does not count, relative to the largest value.
    Returns:
        bool, True = reached: (B,), or (B, T) with `per_step`, False at the padding itself.
    Raises:
        TypeError, ValueError: as `together_equals_alone`, or the sequences are integers, which
            cannot hold `value`.

    >>> mean = lambda x, lengths: x.mean(1)
    >>> leak_map(mean, [torch.ones(3, 1), torch.ones(1, 1)]).tolist()
    [False, True]
    """
    check_sequences(sequences)
    check_padding_value(value, sequences[0].dtype, "value")
    subject = _subject(model, sequences, per_step)

    def batch_of(indices: list[int], padding_value: float = 0.0) -> tuple[Tensor, Tensor]:
        return pad([sequences[index] for index in indices], padding_value=padding_value)

    runs = Runs(subject, batch_of, _run(per_step), projection, Path(None, False))
    everyone = range(len(sequences))
    _prepare(subject, lambda: runs.rows(everyone), dtype)
    before, after = runs.rows(everyone), runs.rows(everyone, padding_value=value)
    scale = largest(before) or 1.0

    def changed(row: Tensor, other: Tensor) -> Tensor:
        same = torch.isclose(row, other, rtol=0, atol=tolerance * scale, equal_nan=True)
        return ~same.reshape(len(same), -1).all(dim=1)

    if not per_step:
        return changed(torch.stack(before), torch.stack(after))
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    reached = torch.zeros_like(lengths_to_keep_mask(lengths))
    for index, (row, other) in enumerate(zip(before, after, strict=True)):
        reached[index, : len(row)] = changed(row, other)
    return reached
