"""Together equals alone: the oracle of the whole course, and the leak detector."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from course_utils.batching import check_padding_value, check_sequences, pad
from course_utils.masks import lengths_to_keep_mask

Model = Callable[[Tensor, Tensor], Tensor]


def relative_difference(together: Tensor, alone: Tensor, scale: float) -> float:
    """Return the largest difference, divided by `scale`; inf for shapes or a NaN that differ."""
    if together.shape != alone.shape:
        return math.inf
    if alone.numel() == 0:
        return 0.0
    # NaN or inf on one side only must count as a difference, never vanish in a comparison.
    same = (together == alone) | (together.isnan() & alone.isnan())
    difference = (together - alone).masked_fill(same, 0).abs().max().item()
    return math.inf if math.isnan(difference) else difference / (scale or 1.0)


def largest(values: Sequence[Tensor]) -> float:
    """Return the largest absolute value that is finite, or 0."""
    finite = [value[value.isfinite()].abs() for value in values]
    return max((value.max().item() for value in finite if value.numel()), default=0.0)


@dataclass(frozen=True)
class Report:
    """What `together_equals_alone` found. True in an `if` where everything agrees.

    A difference is the largest absolute one, divided by the largest absolute value alone, unless
    that is 0; inf where a shape differs, or where NaN stands on one side only. NaN on both sides
    is no difference.

    Attributes:
        lengths: steps of each sequence.
        outputs: one difference a sequence, relative to the largest value of all sequences.
        loss: the difference of the loss.
        gradients: one difference a parameter, by its name; empty for a model without any. It is
            relative to the parameter's own largest gradient, or to 1% of the model's where that
            is more: a gradient that should be 0, as a key bias has, is rounding noise alone.
        tolerance: what still counts as equal.
    """

    lengths: list[int]
    outputs: list[float]
    loss: float
    gradients: dict[str, float]
    tolerance: float

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
        return "\n".join(lines)

    __repr__ = __str__


def _rows(output: Tensor, lengths: Tensor, per_step: bool) -> list[Tensor]:
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


def fresh_copy(model: Model) -> Model:
    """Copy a module, so that no run sees what another left in it, nor does the caller."""
    return copy.deepcopy(model) if isinstance(model, nn.Module) else model


def gradients_of(model: Model, scalar: Tensor) -> dict[str, Tensor]:
    """Return the gradient of `scalar` for each parameter by name; zeros where it has none."""
    named = dict(model.named_parameters()) if isinstance(model, nn.Module) else {}
    named = {name: parameter for name, parameter in named.items() if parameter.requires_grad}
    if not named or not scalar.requires_grad:
        return {name: torch.zeros_like(parameter) for name, parameter in named.items()}
    grads = torch.autograd.grad(scalar, list(named.values()), materialize_grads=True)
    return dict(zip(named, grads, strict=True))


def together_equals_alone(
    model: Model,
    sequences: Sequence[Tensor],
    *,
    loss: Callable[[Tensor, int], Tensor] | None = None,
    per_step: bool = False,
    extra_padding: int = 0,
    tolerance: float = 1e-5,
) -> Report:
    """Run sequences as one padded batch and one by one, and compare all that comes out.

    Outputs, the mean loss and the gradient of every parameter must agree. The model runs in
    the mode it is in (call `model.eval()` first if it has dropout). Where it is a module, a copy
    runs, so neither its gradients nor its running statistics change; torch's random state on
    the CPU is put back. Gradients are compared even within `torch.no_grad()`.

    Args:
        model: called as `model(padded, lengths)` with padded (B, T, ...) and lengths (B,);
            returns (B, ...), or (B, T, ...) with `per_step`.
        sequences: B tensors of shapes (T_i, ...).
        loss: `loss(row, i)` gives the scalar loss of sequence i from its own row of the output
            (its real steps only, with `per_step`). The mean of its squares where None.
        per_step: whether the model's output has a time dimension, to be compared at the real
            steps alone.
        extra_padding: steps of padding added to the batch beyond its longest sequence.
        tolerance: the largest difference that counts as equal, relative to the largest value.
    Returns:
        Report: true where all agree; printed, it says which sequence differs by how much.
    Raises:
        TypeError, ValueError: `sequences` cannot stand in one batch, `extra_padding` is
            negative, or what `model` or `loss` returns is not as stated above.

    >>> report = together_equals_alone(lambda x, lengths: x.sum(1), [torch.ones(2, 1)])
    >>> bool(report)
    True
    """
    check_sequences(sequences)
    if extra_padding < 0:
        raise ValueError(f"extra_padding is {extra_padding}: give a number of steps, 0 or more.")
    loss = loss or (lambda row, index: row.square().mean())
    longest = max(map(len, sequences))

    def run(indices: list[int], total_length: int | None) -> tuple[list[Tensor], Tensor, dict]:
        # inference_mode(False) turns gradients on, whatever the caller has turned off.
        with torch.random.fork_rng(devices=[]), torch.inference_mode(False):
            one = fresh_copy(model)
            batch = pad([sequences[i] for i in indices], total_length=total_length)
            rows = _rows(one(*batch), batch[1], per_step)
            losses = [loss(row, i) for row, i in zip(rows, indices, strict=True)]
            if not all(isinstance(value, Tensor) and value.numel() == 1 for value in losses):
                raise ValueError("loss must return a tensor of one number: take its mean().")
            scalar = torch.stack([value.reshape(()) for value in losses]).sum() / len(sequences)
            gradients = gradients_of(one, scalar)
        return [row.detach() for row in rows], scalar.detach(), gradients

    rows, scalar, batched = run(list(range(len(sequences))), longest + extra_padding)
    alone = [run([index], None) for index in range(len(sequences))]
    scale = largest([row for one in alone for row in one[0]])
    summed = {name: sum(one[2][name] for one in alone) for name in batched}
    # Rounding leaves noise where a gradient should be 0; relative to itself, noise always differs.
    least = largest(list(summed.values())) / 100
    gradients = {
        name: relative_difference(batched[name], one, max(largest([one]), least))
        for name, one in summed.items()
    }
    loss_alone = torch.stack([one[1] for one in alone]).sum()
    return Report(
        lengths=[len(sequence) for sequence in sequences],
        outputs=[
            relative_difference(row, one[0][0], scale) for row, one in zip(rows, alone, strict=True)
        ],
        loss=relative_difference(scalar, loss_alone, largest([loss_alone])),
        gradients=gradients,
        tolerance=tolerance,
    )


def leak_map(
    model: Model,
    sequences: Sequence[Tensor],
    *,
    value: float = float("nan"),
    per_step: bool = False,
    tolerance: float = 1e-5,
) -> Tensor:
    """Find out where the content of the padding reaches.

    The batch runs twice: with zeros in the padding, and with `value` there. Whatever changes
    at a real place has looked at the padding. Both runs start from the same random state, so
    dropout is no leak; nothing is left changed, as in `together_equals_alone`.

    Args:
        model: as in `together_equals_alone`.
        sequences: B tensors of shapes (T_i, ...); give `value` where they are integers.
        value: what the padding holds the second time; NaN goes wherever anything is computed
            from it, 1e30 shows what a mask that multiplies still lets through.
        per_step: whether the output has a time dimension.
        tolerance: the largest change that counts as none.
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

    def run(padding_value: float) -> list[Tensor]:
        padded, lengths = pad(sequences, padding_value=padding_value)
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            return _rows(fresh_copy(model)(padded, lengths), lengths, per_step)

    before, after = run(0.0), run(value)
    scale = largest(before) or 1.0

    def changed(one: Tensor, other: Tensor) -> Tensor:
        same = torch.isclose(one, other, rtol=0, atol=tolerance * scale, equal_nan=True)
        return ~same.reshape(len(same), -1).all(dim=1)

    if not per_step:
        return changed(torch.stack(before), torch.stack(after))
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    reached = torch.zeros_like(lengths_to_keep_mask(lengths))
    for index, (one, other) in enumerate(zip(before, after, strict=True)):
        reached[index, : len(one)] = changed(one, other)
    return reached
