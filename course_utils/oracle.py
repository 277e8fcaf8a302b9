"""Together equals alone: the oracle of the whole course, and the leak detector."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from course_utils.batching import pad
from course_utils.masks import lengths_to_keep_mask

Model = Callable[[Tensor, Tensor], Tensor]


def _relative(together: Tensor, alone: Tensor, scale: float) -> float:
    # NaN and inf on one side only must count as a difference, never vanish in a comparison.
    if not torch.equal(together.isfinite(), alone.isfinite()):
        return float("inf")
    if alone.numel() == 0:
        return 0.0
    difference = (together - alone).nan_to_num(0, 0, 0).abs().max().item()
    return difference / (scale or 1.0)


def _largest(values: Sequence[Tensor]) -> float:
    finite = [value[value.isfinite()].abs() for value in values]
    return max((value.max().item() for value in finite if value.numel()), default=0.0)


@dataclass(frozen=True)
class Report:
    """What `together_equals_alone` found. True in an `if` where everything agrees.

    A difference is the largest absolute one, divided by the largest absolute value alone.

    Attributes:
        lengths: steps of each sequence.
        outputs: one difference a sequence.
        loss: the difference of the loss.
        gradients: one difference a parameter, by its name; empty for a model without any.
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
    if not per_step:
        return list(output)
    if output.ndim < 2 or output.shape[1] < int(lengths.max()):
        raise ValueError(
            f"model gave shape {tuple(output.shape)}, but per_step=True needs (B, T, ...) with "
            f"T at least {int(lengths.max())}."
        )
    return [row[:length] for row, length in zip(output, lengths.tolist(), strict=True)]


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
    the mode it is in (call `model.eval()` first if it has dropout); a copy of it runs, so
    neither its gradients nor its running statistics change.

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
            negative, or the output's shape is not as stated above.

    >>> report = together_equals_alone(lambda x, lengths: x.sum(1), [torch.ones(2, 1)])
    >>> bool(report)
    True
    """
    if extra_padding < 0:
        raise ValueError(f"extra_padding is {extra_padding}: give a number of steps, 0 or more.")
    model = copy.deepcopy(model) if isinstance(model, nn.Module) else model
    loss = loss or (lambda row, index: row.square().mean())
    named = dict(model.named_parameters()) if isinstance(model, nn.Module) else {}
    named = {name: parameter for name, parameter in named.items() if parameter.requires_grad}
    longest = max(map(len, sequences), default=0)

    def run(indices: list[int], total_length: int | None) -> tuple[list[Tensor], Tensor, list]:
        batch = pad([sequences[i] for i in indices], total_length=total_length)
        rows = _rows(model(*batch), batch[1], per_step)
        scalar = sum(loss(row, i) for row, i in zip(rows, indices, strict=True)) / len(sequences)
        grads = [None] * len(named)
        if named and scalar.requires_grad:
            grads = torch.autograd.grad(scalar, named.values(), allow_unused=True)
        return [row.detach() for row in rows], scalar.detach(), list(grads)

    rows, scalar, grads = run(list(range(len(sequences))), longest + extra_padding or None)
    alone = [run([index], None) for index in range(len(sequences))]
    scale = _largest([row for one in alone for row in one[0]])
    gradients = {}
    for position, (name, parameter) in enumerate(named.items()):
        zero = torch.zeros_like(parameter)
        summed = sum((zero if one[2][position] is None else one[2][position]) for one in alone)
        batched = zero if grads[position] is None else grads[position]
        gradients[name] = _relative(batched, summed, _largest([summed]))
    loss_alone = torch.stack([one[1] for one in alone]).sum()
    return Report(
        lengths=[len(sequence) for sequence in sequences],
        outputs=[_relative(row, one[0][0], scale) for row, one in zip(rows, alone, strict=True)],
        loss=_relative(scalar, loss_alone, _largest([loss_alone])),
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
    at a real place has looked at the padding.

    Args:
        model: as in `together_equals_alone`.
        sequences: B tensors of shapes (T_i, ...), of floating point unless `value` is an id.
        value: what the padding holds the second time; NaN goes wherever anything is computed
            from it, 1e30 shows what a mask that multiplies still lets through.
        per_step: whether the output has a time dimension.
        tolerance: the largest change that counts as none.
    Returns:
        bool, True = reached: (B,), or (B, T) with `per_step`, False at the padding itself.
    Raises:
        TypeError, ValueError: as `together_equals_alone`.

    >>> mean = lambda x, lengths: x.mean(1)
    >>> leak_map(mean, [torch.ones(3, 1), torch.ones(1, 1)]).tolist()
    [False, True]
    """
    model = copy.deepcopy(model) if isinstance(model, nn.Module) else model
    with torch.no_grad():
        clean, lengths = pad(sequences)
        spiked, _ = pad(sequences, padding_value=value)
        before = _rows(model(clean, lengths), lengths, per_step)
        after = _rows(model(spiked, lengths), lengths, per_step)
    scale = _largest(before) or 1.0

    def changed(one: Tensor, other: Tensor) -> Tensor:
        same = torch.isclose(one, other, rtol=0, atol=tolerance * scale, equal_nan=True)
        return ~same.reshape(len(same), -1).all(dim=1)

    if not per_step:
        return changed(torch.stack(before), torch.stack(after))
    reached = torch.zeros_like(lengths_to_keep_mask(lengths))
    for index, (one, other) in enumerate(zip(before, after, strict=True)):
        reached[index, : len(one)] = changed(one, other)
    return reached
