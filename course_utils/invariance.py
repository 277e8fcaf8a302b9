"""The oracle for your own model and your own collate function: does the batch change the answer?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from course_utils.oracle import fresh_copy, gradients_of, largest, relative_difference


@dataclass(frozen=True)
class Finding:
    """What one question to the model gave.

    Attributes:
        question: what was changed.
        differences: sample, or name of a parameter -> the relative difference, of those that
            differ; inf for NaN on one side, or another shape.
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
        if not self.differences:
            return f"{self.question:26s} {'RAISES ' + self.trouble if self.trouble else 'ok'}"
        worst = sorted(self.differences, key=self.differences.get, reverse=True)[:3]
        shown = ", ".join(f"{one} {_share(self.differences[one])}" for one in worst)
        more = f" and {len(self.differences) - 3} more" if len(self.differences) > 3 else ""
        what = "samples" if isinstance(worst[0], int) else "gradients of"
        note = f" ({self.trouble})" if self.trouble else ""
        return f"{self.question:26s} DIFFERS: {what} {shown}{more}{note}"


def _share(difference: float) -> str:
    if math.isinf(difference):
        return "entirely"
    percent = 100 * difference
    return f"by {percent:.0f}%" if percent >= 10 else f"by {percent:.2g}%"


@dataclass(frozen=True)
class InvarianceReport:
    """What `batch_invariance` found. True in an `if` where nothing that was tried changes anything.

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
        untried = sum(not finding.tried for finding in self.findings)
        left = f", {untried} of {len(self.findings)} questions not tried" if untried else ""
        head = f"the batch {verdict} the answer ({self.count} samples, {self.mode} mode{left})"
        return "\n  ".join([head, *map(str, self.findings)])

    __repr__ = __str__


def _call(model: Callable, batch: Any) -> Any:
    if isinstance(batch, Mapping):
        return model(**batch)
    spread = isinstance(batch, (tuple, list)) and not isinstance(batch, PackedSequence)
    return model(*batch) if spread else model(batch)


def _widen(batch: Any, steps: int, value: float) -> Any:
    """Add columns to `(padded, lengths, ...)`; None where the batch is not of that kind."""
    if not isinstance(batch, (tuple, list)) or isinstance(batch, PackedSequence):
        return None
    padded, lengths = batch[0], batch[1] if len(batch) > 1 else None
    if not all(isinstance(one, Tensor) for one in (padded, lengths)):
        return None
    if padded.ndim < 2 or not padded.is_floating_point() or lengths.shape != padded.shape[:1]:
        return None
    columns = padded.new_full((padded.shape[0], steps, *padded.shape[2:]), value)
    return (torch.cat([padded, columns], dim=1), *batch[1:])


def _rows(output: Any, count: int) -> list[Tensor]:
    """Check that a model gave a row of floats for each sample, and return them."""
    if isinstance(output, Mapping):
        raise TypeError(
            f"model returned {', '.join(map(str, output))}: say which, "
            "run=lambda model, batch: model(**batch)[...]."
        )
    rows = list(output)
    if len(rows) != count or not all(isinstance(row, Tensor) for row in rows):
        samples = "1 sample" if count == 1 else f"{count} samples"
        hint = "does it squeeze a dimension away?" if count == 1 else "say which with run=."
        if isinstance(output, (tuple, list)):
            hint = "say which part with run=lambda model, batch: model(*batch)[0]."
        raise ValueError(f"model gave {len(rows)} rows for {samples}: {hint}")
    if not all(row.is_floating_point() for row in rows):
        raise TypeError(
            f"model gave {rows[0].dtype}: return floating point, the logits before an argmax."
        )
    return rows


@torch.random.fork_rng(devices=[])
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
        collate: makes a batch of a list of samples, as a DataLoader's `collate_fn`; it must keep
            their order.
        run: `run(model, batch)` gives one row a sample: a tensor (B, ...), or B tensors with
            nothing at padding. Where not given: `model(*batch)`, `model(**batch)` or
            `model(batch)`, by what `collate` returns.
        loss: `loss(row, sample)` gives a sample's scalar loss; the mean of its squares where None.
        more_padding: `more_padding(batch, steps, value)` gives the batch with so many more columns
            of padding, or None if it cannot. Where not given, it can if the batch is
            `(padded, lengths, ...)` with padded (B, T, ...) of floats and lengths (B,).
        tolerance: the largest difference that counts as none, relative to the largest value.
    Returns:
        InvarianceReport: true where nothing that was tried differs; printed, a line a question.
    Raises:
        TypeError, ValueError: there are fewer than 2 samples, or the whole batch does not give a
            row of floats for each of them, all finite; the message says what to do.
    """
    samples = list(samples)
    if len(samples) < 2:
        raise ValueError(f"samples holds {len(samples)}: give 2 or more, best 4 of them.")
    loss = loss or (lambda row, sample: row.square().mean())
    everyone = list(range(len(samples)))

    def rows_of(
        indices: list[int], steps: int = 0, value: float = 0.0, seed: int | None = None
    ) -> tuple[Callable, list[Tensor]]:
        batch = collate([samples[index] for index in indices])
        batch = more_padding(batch, steps, value) if steps else batch
        with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
            if seed is not None:
                torch.manual_seed(seed)
            one = fresh_copy(model)
            return one, _rows(run(one, batch), len(indices))

    @torch.enable_grad()
    def gradients(indices: list[int], steps: int = 0) -> dict[str, Tensor]:
        one, rows = rows_of(indices, steps)
        parts = [loss(row, samples[index]) for row, index in zip(rows, indices, strict=True)]
        return gradients_of(one, torch.stack([part.reshape(()) for part in parts]).sum())

    try:
        expected = [row.detach() for row in rows_of(everyone)[1]]
    except TypeError as error:
        if run is _call and "argument" in str(error):
            error.add_note(
                "The whole batch was given to the model. If it holds more, labels for example, "
                "give run=lambda model, batch: model(*batch[:2])."
            )
        raise
    if not all(row.isfinite().all() for row in expected):
        raise ValueError("model gave NaN or inf for the whole batch: mend that first.")
    scale = largest(expected)
    can_widen = more_padding(collate(samples), 1, 0.0) is not None

    def compare(
        groups: list[list[int]], steps: int = 0, value: float = 0.0, seed: int | None = None
    ) -> Finding:
        found, note = {}, ""
        for indices in groups:
            for index, row in zip(indices, rows_of(indices, steps, value, seed)[1], strict=True):
                truth = expected[index]
                if row.shape != truth.shape:
                    note = (
                        f"shape {tuple(row.shape)} where it was {tuple(truth.shape)}: if that is "
                    )
                    note += "padding, cut it off in run="
                found[index] = max(
                    relative_difference(row.detach(), truth, scale), found.get(index, 0.0)
                )
        return Finding("", {index: d for index, d in found.items() if d > tolerance}, note)

    def compare_gradients() -> Finding:
        parts = [gradients([index]) for index in everyone]
        alone = {name: sum(part[name] for part in parts) for name in parts[0]}
        if not any(one.any() for one in alone.values()):
            return Finding("", {}, "no parameter has a gradient", tried=False)
        least = largest(list(alone.values())) / 100  # as in the oracle: rounding noise is no fault
        found = {}
        for together in (gradients(everyone), *([gradients(everyone, 7)] if can_widen else [])):
            for name, one in alone.items():
                size = max(largest([one]), least)
                difference = relative_difference(together[name], one, size)
                found[name] = max(difference, found.get(name, 0.0))
        return Finding("", {name: d for name, d in found.items() if d > tolerance})

    def ask(question: str, answer: Callable[[], Finding]) -> Finding:
        if "padding" in question and not can_widen:
            why = "give more_padding, which adds columns to your batch"
            return Finding(question, {}, why, tried=False)
        try:
            found = answer()
        except Exception as error:
            return Finding(question, {}, f"{type(error).__name__}: {error}")
        return Finding(question, found.differences, found.trouble, found.tried)

    def widened() -> Finding:
        few, many = compare([everyone], 1), compare([everyone], 20)
        both = few.differences | many.differences
        worst = {i: max(few.differences.get(i, 0), many.differences.get(i, 0)) for i in both}
        return Finding("", worst, few.trouble or many.trouble)

    training = "training" if isinstance(model, nn.Module) and model.training else "evaluation"
    again = ask("the same batch again", lambda: compare([everyone], seed=1))
    if again.differences:
        why = "The model is random: set dropout to 0, and ask again"
        findings = (Finding(again.question, again.differences, why),)
        return InvarianceReport(findings, training, len(samples))
    questions = {
        "alone": lambda: compare([[index] for index in everyone]),
        "other batch mates": lambda: compare([everyone[::2], everyone[1::2]]),
        # Rotated, for turning round is its own inverse: a fault could undo itself.
        "another order": lambda: compare([everyone[1:] + everyone[:1]]),
        "more padding": widened,
        "NaN in that padding": lambda: compare([everyone], 3, float("nan")),
        "gradients": compare_gradients,
    }
    findings = tuple(ask(question, answer) for question, answer in questions.items())
    return InvarianceReport(findings, training, len(samples))
