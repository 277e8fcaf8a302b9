"""The oracle for your own model and your own collate function: does the batch change the answer?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from course_utils.oracle import fresh_copy, gradients_of, largest, relative_difference


@dataclass(frozen=True)
class Finding:
    """What one question to the model gave.

    Attributes:
        question: what was changed.
        differences: sample, or name of a parameter -> the relative difference, of those that
            differ.
        trouble: why it could not be answered, or the error that was raised; empty where it was.
        tried: whether the question was put at all.
    """

    question: str
    differences: dict[int | str, float]
    trouble: str = ""
    tried: bool = True

    def __bool__(self) -> bool:
        return not self.tried or not (self.differences or self.trouble)

    def __str__(self) -> str:
        if not self.tried:
            return f"{self.question:26s} not tried: {self.trouble}"
        if self.trouble:
            return f"{self.question:26s} RAISES {self.trouble}"
        if not self.differences:
            return f"{self.question:26s} ok"
        worst = sorted(self.differences, key=self.differences.get, reverse=True)[:3]
        sizes = [self.differences[one] for one in worst]
        # inf stands for NaN, or for another shape: no share of anything.
        sizes = ["entirely" if math.isinf(size) else f"by {100 * size:.2g}%" for size in sizes]
        shown = ", ".join(f"{one} {size}" for one, size in zip(worst, sizes, strict=True))
        more = f" and {len(self.differences) - 3} more" if len(self.differences) > 3 else ""
        what = "samples" if isinstance(worst[0], int) else "gradients of"
        return f"{self.question:26s} DIFFERS: {what} {shown}{more}"


@dataclass(frozen=True)
class InvarianceReport:
    """What `batch_invariance` found. True in an `if` where nothing changes the answer.

    Attributes:
        findings: one for each question.
        mode: "training" or "evaluation", the mode the model was in.
        count: the number of samples.
    """

    findings: tuple[Finding, ...]
    mode: str
    count: int

    def __bool__(self) -> bool:
        return all(self.findings)

    def __str__(self) -> str:
        verdict = "does not change" if self else "CHANGES"
        head = f"the batch {verdict} the answer ({self.count} samples, {self.mode} mode)"
        return "\n  ".join([head, *map(str, self.findings)])

    __repr__ = __str__


def _call(model: Callable, batch: Any) -> Any:
    if isinstance(batch, Mapping):
        return model(**batch)
    return model(*batch) if isinstance(batch, (tuple, list)) else model(batch)


def _widen(batch: Any, steps: int, value: float) -> Any:
    """Add columns to `(padded, ...)`; None where the batch is not of that kind."""
    if not isinstance(batch, (tuple, list)) or not isinstance(batch[0], Tensor):
        return None
    padded = batch[0]
    if padded.ndim < 2 or not padded.is_floating_point():
        return None
    columns = padded.new_full((padded.shape[0], steps, *padded.shape[2:]), value)
    return (torch.cat([padded, columns], dim=1), *batch[1:])


def batch_invariance(
    model: Callable,
    samples: Sequence,
    collate: Callable[[list], Any],
    *,
    run: Callable[[Callable, Any], Tensor | Sequence[Tensor]] = _call,
    loss: Callable[[Tensor, Any], Tensor] | None = None,
    more_padding: Callable[[Any, int, float], Any] = _widen,
    tolerance: float = 1e-5,
) -> InvarianceReport:
    """Ask whether padding, batch mates or order change what a model says, or learns.

    The samples run as one batch, alone, in two halves, in another order, and with more padding,
    of zeros and of NaN; then the gradients of all parameters are compared. The model runs in the
    mode it is in: ask in training mode, with dropout at 0, for that is where most faults are. It
    is left as it was: copies of it run.

    Args:
        model: any module or function.
        samples: N of them, at least 2, of different lengths and in no order; 4 or more find more.
        collate: makes a batch of a list of samples, as a DataLoader's `collate_fn`.
        run: `run(model, batch)` gives one row a sample: a tensor (B, ...), or B tensors with
            nothing at padding. Where not given: `model(*batch)`, `model(**batch)` or
            `model(batch)`, by what `collate` returns.
        loss: `loss(row, sample)` gives a sample's scalar loss; the mean of its squares where None.
        more_padding: `more_padding(batch, steps, value)` gives the batch with so many more columns
            of padding, or None if it cannot. Where not given, it can if the batch is
            `(padded, ...)` with padded (B, T, ...) of floats.
        tolerance: the largest difference that counts as none, relative to the largest value.
    Returns:
        InvarianceReport: true where nothing differs; printed, a line a question.
    Raises:
        ValueError: there are fewer than 2 samples, or the whole batch does not give a row for
            each of them.
    """
    samples = list(samples)
    if len(samples) < 2:
        raise ValueError(f"samples holds {len(samples)}: give 2 or more, best 4 of them.")
    loss = loss or (lambda row, sample: row.square().mean())
    everyone = list(range(len(samples)))

    def rows_of(indices: list[int], steps: int = 0, value: float = 0.0) -> tuple[Callable, list]:
        batch = collate([samples[index] for index in indices])
        batch = more_padding(batch, steps, value) if steps else batch
        with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
            one = fresh_copy(model)
            rows = list(run(one, batch))
        if len(rows) != len(indices):
            raise ValueError(
                f"run gave {len(rows)} rows for a batch of {len(indices)} samples: it must return "
                "one for each."
            )
        return one, rows

    def gradients(indices: list[int], steps: int = 0) -> dict[str, Tensor]:
        one, rows = rows_of(indices, steps)
        parts = [loss(row, samples[index]) for row, index in zip(rows, indices, strict=True)]
        return gradients_of(one, torch.stack([part.reshape(()) for part in parts]).sum())

    _, expected = rows_of(everyone)
    scale = largest([row.detach() for row in expected])
    can_widen = more_padding(collate(samples), 1, 0.0) is not None

    def compare(groups: list[list[int]], steps: int = 0, value: float = 0.0) -> dict[int, float]:
        found = {}
        for indices in groups:
            for index, row in zip(indices, rows_of(indices, steps, value)[1], strict=True):
                difference = relative_difference(row.detach(), expected[index].detach(), scale)
                found[index] = max(difference, found.get(index, 0.0))
        return {index: difference for index, difference in found.items() if difference > tolerance}

    def compare_gradients() -> dict[str, float]:
        parts = [gradients([index]) for index in everyone]
        alone = {name: sum(part[name] for part in parts) for name in parts[0]}
        least = largest(list(alone.values())) / 100  # as in the oracle: rounding noise is no fault
        found = {}
        for together in (gradients(everyone), *([gradients(everyone, 7)] if can_widen else [])):
            for name, one in alone.items():
                size = max(largest([one]), least)
                difference = relative_difference(together[name], one, size)
                found[name] = max(difference, found.get(name, 0.0))
        return {name: difference for name, difference in found.items() if difference > tolerance}

    questions = {
        "alone": lambda: compare([[index] for index in everyone]),
        "other batch mates": lambda: compare([everyone[::2], everyone[1::2]]),
        # Rotated, for turning round is its own inverse: a fault could undo itself.
        "another order": lambda: compare([everyone[1:] + everyone[:1]]),
        "more padding": lambda: compare([everyone], 1) | compare([everyone], 20),
        "NaN in that padding": lambda: compare([everyone], 3, float("nan")),
        "gradients": compare_gradients,
    }
    findings = []
    for question, ask in questions.items():
        if "padding" in question and not can_widen:
            why = "give more_padding, which adds columns to your batch"
            findings.append(Finding(question, {}, why, tried=False))
            continue
        try:
            findings.append(Finding(question, ask()))
        except Exception as error:
            findings.append(Finding(question, {}, f"{type(error).__name__}: {error}"))
    training = isinstance(model, nn.Module) and model.training
    return InvarianceReport(tuple(findings), "training" if training else "evaluation", len(samples))
