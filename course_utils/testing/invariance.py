"""The oracle for your own model and your own collate function: does the batch change the answer?"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from course_utils.testing.adapters import (
    GIVE_MORE_PADDING,
    Adapter,
    MorePadding,
    call,
    sure_widening,
)
from course_utils.testing.core import (
    PATHS,
    TOLERANCES,
    Runs,
    Subject,
    first_difference,
    gradient_differences,
    in_doubt,
    largest,
    one_number,
    percent,
    projection,
    recorded,
    relative_difference,
    rows_of,
    seeded,
    tensors_in,
)

ALONE, MATES, ORDER = "alone", "other batch mates", "another order"
PADDING, CONTENT, GRADIENTS = "more padding", "other content in the padding", "gradients"
NAN = "NaN in the padding"
_NO_GRADIENTS = "there are none on this path"
# With the indent of a report, 88 columns: what a page of a notebook shows without breaking a word.
_FOLD = textwrap.TextWrapper(
    86, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
)
QUESTIONS = (ALONE, MATES, ORDER, PADDING, CONTENT, GRADIENTS)


@dataclass(frozen=True)
class Question:
    """One question to the model, on one path, and its outcome. True where nothing is wrong.

    Attributes:
        path: "training", "evaluation" or "inference", which is evaluation without gradients.
        name: what was changed.
        state: "same", "differs", "raises" or "not asked".
        differences: sample, or name of a parameter -> its relative difference; inf for NaN on one
            side, or for another shape. All of them are here, the small ones too.
        why: why it was not asked, the error that was raised, or a hint.
        tolerance: the largest difference that does not count.
    """

    path: str
    name: str
    state: str
    differences: dict[int | str, float] = field(default_factory=dict)
    why: str = ""
    tolerance: float = 0.0

    def __bool__(self) -> bool:
        return self.state in ("same", "not asked")

    @property
    def size(self) -> float:
        """The largest difference; 0 where there is none."""
        return max(self.differences.values(), default=0.0)

    @property
    def wrong(self) -> dict[int | str, float]:
        """The differences beyond the tolerance, the largest first."""
        beyond = {key: d for key, d in self.differences.items() if not d <= self.tolerance}
        # Sorted as printed: two biases that share one gradient differ only in their rounding, and
        # would change places from machine to machine.
        return dict(sorted(beyond.items(), key=lambda item: -float(f"{item[1]:.1e}")))

    def _cell(self) -> str:
        if self.state != "differs":
            return self.state
        return f"DIFFERS {percent(self.size).removeprefix('by ')}"

    def _detail(self) -> str:
        if self.state != "differs":
            return "" if self.why == _NO_GRADIENTS else self.why
        wrong = self.wrong
        shown = ", ".join(f"{key} {percent(wrong[key])}" for key in list(wrong)[:3])
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        what = "gradients of" if self.name == GRADIENTS else "samples"
        return f"{what} {shown}{more}" + (f" ({self.why})" if self.why else "")


@dataclass(frozen=True)
class InvarianceReport:
    """What `batch_invariance` found. True in an `if` where nothing that was asked changes anything.

    It is also false where a question raised an error, and where nothing was padded, because then
    the answer would prove nothing.

    Attributes:
        questions: one for each question and path.
        count: the number of samples.
        dtypes: the precision in which each path was compared.
        first_layer: where a difference of outputs begins, by the name of the module; "" if unknown.
        padded: whether any batch held padding.
        notes: what else a reader should know.
        allowed: the exceptions that were asked for, "path: question".
    """

    questions: tuple[Question, ...]
    count: int
    dtypes: dict[str, str]
    first_layer: str = ""
    padded: bool = True
    notes: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()

    def _failing(self) -> list[Question]:
        return [
            question
            for question in self.questions
            if not question and not any(_matches(rule, question) for rule in self.allowed)
        ]

    def __bool__(self) -> bool:
        asked = any(question.state != "not asked" for question in self.questions)
        return self.padded and asked and not self._failing()

    @property
    def verdict(self) -> str:
        """One of four: "changes", "equal up to rounding", "equal to the bit", "not settled"."""
        if any(question.state == "differs" for question in self._failing()):
            return "changes"
        if not self:
            return "not settled"
        exact = all(question.size == 0 for question in self.questions if question.state == "same")
        return "equal to the bit" if exact else "equal up to rounding"

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values, for JSON; an infinite difference is None."""

        def finite(value: float) -> float | None:
            return value if math.isfinite(value) else None

        return {
            "verdict": self.verdict,
            "invariant": bool(self),
            "samples": self.count,
            "dtypes": dict(self.dtypes),
            "first_layer": self.first_layer,
            "padded": self.padded,
            "notes": list(self.notes),
            "allowed": list(self.allowed),
            "questions": [
                {
                    "path": question.path,
                    "name": question.name,
                    "state": question.state,
                    "tolerance": question.tolerance,
                    "differences": {str(key): finite(d) for key, d in question.differences.items()},
                    "why": question.why,
                }
                for question in self.questions
            ],
        }

    def _headline(self) -> str:
        head = {
            "changes": "the batch CHANGES the answer",
            "equal up to rounding": "the batch does not change the answer: equal up to rounding",
            "equal to the bit": "the batch does not change the answer: equal to the bit",
        }.get(self.verdict)
        if head is None:
            head = "whether the batch changes the answer is NOT SETTLED"
        return f"{head} ({self.count} samples, {', '.join(sorted(set(self.dtypes.values())))})"

    def __str__(self) -> str:
        paths = list(dict.fromkeys(question.path for question in self.questions))
        names = list(dict.fromkeys(question.name for question in self.questions))
        found = {(question.path, question.name): question for question in self.questions}
        width = max(map(len, names))
        lines = [self._headline()]
        lines.append(" ".join(["".ljust(width), *(path.ljust(18) for path in paths)]).rstrip())
        details: dict[str, list[Question]] = {}
        for name in names:
            asked = [found.get((path, name)) for path in paths]
            cells = ["" if question is None else question._cell() for question in asked]
            row = [name.ljust(width), *(cell.ljust(18) for cell in cells)]
            lines.append(" ".join(row).rstrip())
            for question in asked:
                if question is not None and (detail := question._detail()):
                    key = f"{name}: {detail}" if question.state == "differs" else detail
                    details.setdefault(key, []).append(question)
        said = []  # below the table, and folded to the width of a notebook's page
        for detail, whose in details.items():
            where = list(dict.fromkeys(question.path for question in whose))
            which = list(dict.fromkeys(question.name for question in whose))
            if whose[0].state == "differs":
                name, text = detail.split(": ", 1)
                of = "" if len(where) == len(paths) else f" ({', '.join(where)})"
                said.append(f"{name}{of}: {text}")
            elif len(whose) == len(where) * len(names):  # the whole path
                said.append(f"{', '.join(where)}: {detail}")
            else:
                said.append(f"{', '.join(which)} ({', '.join(where)}): {detail}")
        if self.first_layer:
            said.append(f"first difference at a real step: {self.first_layer}")
        if not self.padded:
            said.append(
                "nothing was padded, so padding was never tried: give samples of different "
                "lengths, and a collate that pads to the longest of them"
            )
        said += [f"note: {note}" for note in self.notes]
        if self.allowed:
            said.append(f"allowed: {', '.join(self.allowed)}")
        for text in said:
            lines += [part for line in text.splitlines() for part in _FOLD.wrap(line)]
        return "\n  ".join(lines)

    __repr__ = __str__


def _matches(rule: str, question: Question) -> bool:
    return rule in (question.path, question.name, f"{question.path}: {question.name}")


def _shapes(batch: Any, count: int) -> list[tuple[int, ...]]:
    """Return the shapes of the tensors in a batch, without the dimension of the samples."""
    if isinstance(batch, PackedSequence):
        return [(len(batch.batch_sizes),)]
    tensors = tensors_in(batch)
    shapes = [tensor.shape for tensor in tensors]
    return [shape[1:] if shape[:1] == (count,) else shape for shape in shapes]


@torch.inference_mode(False)
def batch_invariance(
    model: Callable,
    samples: Sequence,
    collate: Callable[[list], Any],
    *,
    run: Callable[[Callable, Any], Tensor | Sequence[Tensor]] | None = None,
    more_padding: MorePadding | None = None,
    adapter: Adapter | None = None,
    loss: Callable[[Tensor, Any], Tensor] | None = None,
    dtype: torch.dtype | None = torch.float64,
    tolerance: float | None = None,
    paths: Sequence[str] = ("training", "evaluation", "inference"),
    perturb: bool = False,
    strict: bool = False,
) -> InvarianceReport:
    """Ask whether padding, batch mates or order change what a model says, or learns.

    The samples run as one batch, alone, in two halves, in another order, with more padding, and
    with other content there; then the gradients of all parameters are compared. Each question is
    asked in training, in evaluation, and in evaluation without gradients ("inference"), where
    PyTorch may run different code. The comparison is in float64, where rounding is smaller than any
    fault. Dropout is set to 0 where a model would otherwise be random. The model, its mode, its
    gradients and all random states are left as they were, whether `model` is a module or a function
    that calls modules.

    Args:
        model: any module or function.
        samples: N of them, at least 2, of different lengths and unsorted; 4 or more find more.
        collate: makes a batch from a list of samples, like a DataLoader's `collate_fn`; it must
            keep their order.
        run: `run(model, batch)` gives one row per sample: a tensor (B, ...), or B tensors with
            nothing at padding. Where not given: `model(*batch)`, `model(**batch)` or
            `model(batch)`, depending on what `collate` returns.
        more_padding: `more_padding(batch, steps, value)` gives the batch with so many more steps
            of padding, where floats hold `value`, or None if it cannot. Where not given, padding is
            added if it is certain how: for `(padded, lengths, ...)` with padded (B, T, ...) of
            floats.
        adapter: `run` and `more_padding` for a kind of batch: `hugging_face()`, `padded_batch()`,
            `packed_batch()`.
        loss: `loss(row, sample)` gives a sample's scalar loss; a fixed random mixture of the row
            where None.
        dtype: the precision to compare in; the model's own where None, or where it cannot compute
            in float64.
        tolerance: the largest difference that does not count, relative to the largest value. Where
            None, 1e-9 in float64; otherwise that of the dtype, or four times the rounding that is
            measured on this model.
        paths: which of "training", "evaluation", "inference" to ask on.
        perturb: give parameters and running statistics values like those after training, because a
            bias of 0, or a fresh BatchNorm, hides faults.
        strict: ask about NaN in the padding as well. A right model may fail: NaN × 0 is NaN.
    Returns:
        InvarianceReport: true where nothing that was asked differs; printed, a table of questions
        by paths. `questions` holds each with its state, `to_dict()` is for JSON.
    Raises:
        TypeError, ValueError: there are fewer than 2 samples, or the batch does not give a row of
            floats for each of them; the message says what to do.

    A model that is given ids and their mask, with an output for each step, cut to the real steps:

    >>> def collate(texts):
    ...     ids = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True)
    ...     return {"ids": ids, "keep_mask": ids != 0}
    >>> def more_padding(batch, steps, value):
    ...     wider = torch.nn.functional.pad(batch["ids"], (0, steps), value=1 if value else 0)
    ...     keep_mask = torch.nn.functional.pad(batch["keep_mask"], (0, steps))
    ...     return {"ids": wider, "keep_mask": keep_mask}
    >>> table = torch.nn.Embedding(9, 4)
    >>> def run(model, batch):
    ...     return [row[keep] for row, keep in zip(model(batch["ids"]), batch["keep_mask"])]
    >>> texts = [torch.tensor([3, 1, 2]), torch.tensor([5, 4])]
    >>> report = batch_invariance(table, texts, collate, run=run, more_padding=more_padding)
    >>> bool(report), {q.state for q in report.questions if q.path == "training"}
    (True, {'same'})
    """
    samples = list(samples)
    if len(samples) < 2:
        raise ValueError(f"samples holds {len(samples)}: give 2 or more, best 4 of them.")
    unknown = [path for path in paths if path not in PATHS]
    if unknown or not paths:
        raise ValueError(f"paths holds {unknown or 'nothing'}: choose from {', '.join(PATHS)}.")
    run = run or (adapter.run if adapter else call)
    count = len(samples)

    def rows(model: Callable, batch: Any, number: int) -> list[Tensor]:
        return rows_of(run(model, batch), number)

    def first_call(own: Callable) -> None:
        for row, sample in zip(rows(own, collate(samples), count), samples, strict=True):
            if loss is not None:
                one_number(loss(row, sample))

    try:
        subject = Subject(model, first_call)
    except TypeError as error:
        if run is call and "argument" in str(error):
            error.add_note(
                "The whole batch was given to the model. If it holds more, labels for example, "
                "give run=lambda model, batch: model(*batch[:2])."
            )
        raise
    settings = (loss, dtype, tolerance, perturb, strict)
    with seeded(0):  # collate may draw as well
        interview = _Interview(subject, samples, collate, rows, *settings)
        if more_padding is None and adapter is not None:
            interview.widening = adapter.more_padding or adapter.why
            interview.why = adapter.why
        else:
            interview.widening = more_padding or sure_widening(interview.batch())
        return interview.report([question for path in paths for question in interview.ask(path)])


class _Interview:
    """All questions to one model, with what the paths have in common."""

    def __init__(self, subject, samples, collate, run, loss, dtype, tolerance, perturb, strict):
        self.subject, self.samples, self.collate, self.run = subject, samples, collate, run
        self.dtype, self.tolerance = dtype, tolerance
        self.perturb, self.strict = perturb, strict
        self.everyone = list(range(len(samples)))
        self.widening: MorePadding | str = ""
        self.why = GIVE_MORE_PADDING
        self.loss = projection if loss is None else lambda row, i: loss(row, samples[i])
        self.dtypes: dict[str, str] = {}
        self.notes: list[str] = []
        self.first_layer = ""
        self.padded = any(
            _shapes(self.batch([index]), 1) != _shapes(self.batch(), len(samples))
            for index in self.everyone
        )

    def batch(self, indices: list[int] | None = None, steps: int = 0, value: float = 0.0) -> Any:
        indices = self.everyone if indices is None else indices
        batch = self.collate([self.samples[index] for index in indices])
        if not steps:
            return batch
        wider = self.widening(batch, steps, value)
        if wider is None:
            raise _CannotWidenError
        return wider

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def report(self, questions: list[Question]) -> InvarianceReport:
        if not self.perturb and self._looks_fresh():
            self.note(
                "biases are 0, or statistics are fresh, as in a model that was just made: a fault "
                "that they hide is found with perturb=True"
            )
        widened = any(q.name == PADDING and q.state != "not asked" for q in questions)
        return InvarianceReport(
            questions=tuple(questions),
            count=len(self.samples),
            dtypes=self.dtypes,
            first_layer=self.first_layer,
            padded=self.padded or widened,
            notes=tuple(self.notes),
        )

    def _looks_fresh(self) -> bool:
        zeros = any(
            name.endswith("bias") and tensor.numel() and not bool(tensor.any())
            for name, tensor in self.subject.holder.named_parameters()
        )
        return zeros or any(
            name.endswith("num_batches_tracked") and not bool(tensor.any())
            for name, tensor in self.subject.holder.named_buffers()
        )

    # --- one path ---

    def ask(self, path: str) -> list[Question]:
        """Ask everything on one path, in float64 if the model can run in it."""
        if path == "training" and not self.subject.has_module:
            why = "model is a function in which no module was called: it has no mode"
            return [Question(path, name, "not asked", why=why) for name in QUESTIONS]
        try:
            return self._ask(path, self.dtype)
        except _OwnPrecisionError as error:
            self.note(
                f"{path} was compared in the model's own precision, for in {self.dtype} {error}"
            )
            return self._ask(path, None)

    def _ask(self, path: str, dtype: torch.dtype | None) -> list[Question]:
        subject = self.subject
        self.path = path
        self.runs = Runs(subject, self.batch, self.run, self.loss, PATHS[path])
        subject.dropout_off = False
        try:
            self.whole = self._prepare(dtype)
            random_by = self._random()
            if random_by and path == "training":
                off = subject.dropouts()
                subject.dropout_off = True
                self.whole = self.runs.rows(self.everyone)
                random_by = self._random()
                if off and not random_by:
                    more = f" and {len(off) - 3} more" if len(off) > 3 else ""
                    self.note(f"dropout was set to 0 in training: {', '.join(off[:3])}{more}")
        except _OwnPrecisionError:
            raise
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            return [Question(path, name, "raises", why=why) for name in QUESTIONS]
        if random_by:
            return [Question(path, name, "not asked", why=random_by) for name in QUESTIONS]
        self._alone()
        self.scale = largest(self.alone.values()) or largest(self.whole)
        self._tolerances()
        asked = {
            ALONE: self._ask_alone,
            MATES: lambda: self._compare([self.everyone[::2], self.everyone[1::2]]),
            # Rotated, because reversing is its own inverse, so that a fault could undo itself.
            ORDER: lambda: self._compare([self.everyone[1:] + self.everyone[:1]]),
            PADDING: lambda: self._widened([(1, 0.0), (3, 0.0), (20, 0.0)]),
            CONTENT: lambda: self._with_content([self._large(), -self._large()]),
            GRADIENTS: self._ask_gradients,
        }
        questions = [self._question(name, ask) for name, ask in asked.items()]
        self._ask_nan(questions)
        self._locate(questions)
        return questions

    def _prepare(self, dtype: torch.dtype | None) -> list[Tensor]:
        self.subject.prepare(dtype, self.perturb)
        try:
            rows = self.runs.rows(self.everyone)
        except Exception as error:
            if dtype is None:
                raise
            # Is the precision the cause? If not, this raises what the model raises in its own.
            self.subject.prepare(None, self.perturb)
            self.runs.rows(self.everyone)
            first = (str(error).splitlines() or [""])[0]
            raise _OwnPrecisionError(f"it raised {type(error).__name__}: {first}") from None
        used = self.subject.dtype or rows[0].dtype
        self.dtypes[self.path] = str(used).removeprefix("torch.")
        self._finite(rows, [self.everyone])
        return rows

    def _finite(self, found: Iterable[Tensor], groups: list[list[int]], **options: Any) -> None:
        """Ask again in the model's own precision where float64 alone gives NaN.

        The smallest number of float64, added as a mask, is minus infinity to a softmax in float32.
        """
        dtype = self.subject.dtype
        if dtype is None or all(bool(tensor.isfinite().all()) for tensor in found):
            return
        self.subject.gradients()
        self.subject.prepare(None, self.perturb)
        try:
            own = []
            for indices in groups:
                own += self.runs.rows(indices, backward=self.runs.path.gradients, **options)
            own += self.subject.gradients().values()
        finally:
            self.subject.prepare(dtype, self.perturb)
        if all(bool(tensor.isfinite().all()) for tensor in own):
            raise _OwnPrecisionError("there is NaN or inf that its own does not have")

    def _random(self) -> str:
        """Say which random numbers change the output; "" where none do."""
        drawn = list(self.runs.drawn)
        # A model that drops a layer now and then may need several tries to be noticed.
        for seed in range(1, 9 if drawn else 4):
            again = self.runs.rows(self.everyone, seed=seed)
            scale = largest(self.whole)
            moved = max(map(relative_difference, again, self.whole, [scale] * len(again)))
            if moved > 1e-6:
                by = f"draws from {' and '.join(drawn)}" if drawn else "has a generator of its own"
                return (
                    f"the model is random in {self.path}: it {by} (dropout, layerdrop, "
                    "augmentation, a noise layer?). Switch that off, and ask again"
                )
        return ""

    def _alone(self) -> None:
        """Run each sample alone, and sum the gradients."""
        runs = self.runs
        gradients = runs.path.gradients
        self.alone, self.alone_error, self.gradients = {}, "", None
        self.subject.gradients()
        for index in self.everyone:
            try:
                self.alone[index] = runs.rows([index], backward=gradients)[0]
            except Exception as error:
                self.alone_error = f"{type(error).__name__}: {error}"
        each = [[index] for index in self.alone]
        if gradients and not self.alone_error:
            self.gradients = self.subject.gradients()
            self._finite(self.gradients.values(), each)
        self._finite(self.alone.values(), each)
        for index, row in self.alone.items():
            if not row.isfinite().all():
                raise ValueError(
                    f"model gives NaN or inf for sample {index} alone, in {self.path}: fix that "
                    "first, or leave the sample out."
                )
        self._notice_another_order()

    def _notice_another_order(self) -> None:
        """Say whether the batch gives the right rows in another order."""
        self.reordered = ""
        if len(self.alone) < len(self.samples):
            return
        scale, found = largest(self.alone.values()), []
        for row in self.whole:
            fits = [
                index
                for index, row_alone in self.alone.items()
                if relative_difference(row, row_alone, scale) <= 1e-6
            ]
            if len(fits) != 1:
                return
            found += fits
        if sorted(found) == self.everyone and found != self.everyone:
            self.reordered = (
                f"its rows are right, but those of samples {found}: collate or model puts them in "
                "another order; put them back in run=, or keep the order"
            )

    def _tolerances(self) -> None:
        """Measure rounding in the model's own precision, and in float64 only where it matters."""
        self.limit = self.tolerance
        if self.limit is not None:
            return
        own = self.subject.dtype != torch.float64
        self.limit = self._measured(own) if own else TOLERANCES[torch.float64]
        if own and self.limit > 0.1:
            self.note(
                f"in {self.path}, rounding alone moves the outputs {percent(self.limit / 4)}: "
                "smaller differences are not seen in this precision"
            )

    def _measured(self, own: bool) -> float:
        return self.runs.rounding(self.everyone, self.whole).tolerance(in_float64=not own)

    def _judged(self, differences: dict, why: str = "") -> tuple[str, dict, str]:
        small = TOLERANCES[torch.float64]
        unmeasured = self.tolerance is None and self.limit == small
        in_float64 = self.subject.dtype == torch.float64
        if unmeasured and in_float64 and in_doubt(differences.values()):
            self.limit = self._measured(own=False)
            if self.limit > small:
                self.note(
                    f"in {self.path}, the model computes in part in a coarser type than float64: "
                    f"differences up to {self.limit:.0e} are its rounding, as measured"
                )
        worst = max(differences.values(), default=0.0)
        return ("differs" if worst > self.limit else "same"), differences, why

    def _question(self, name: str, ask: Callable[[], tuple[str, dict, str]]) -> Question:
        try:
            state, differences, why = ask()
        except _OwnPrecisionError:
            raise
        except _CannotWidenError:
            state, differences, why = "not asked", {}, self.why
        except Exception as error:
            state, differences, why = "raises", {}, f"{type(error).__name__}: {error}"
        return Question(self.path, name, state, differences, why, self.limit)

    # --- the questions ---

    def _ask_alone(self) -> tuple[str, dict, str]:
        if self.alone_error:
            return "raises", {}, self.alone_error
        state, differences, why = self._against(self.alone, enumerate(self.whole))
        return state, differences, self.reordered or why

    def _against(
        self, truth: dict[int, Tensor], rows: Iterable[tuple[int, Tensor]]
    ) -> tuple[str, dict, str]:
        found, why = {}, ""
        for index, row in rows:
            expected = truth[index]
            if row.shape != expected.shape:
                why = (
                    f"shape {tuple(row.shape)} against {tuple(expected.shape)}: if that is "
                    "padding, cut it off in run= or with an adapter"
                )
            difference = relative_difference(row, expected, self.scale)
            found[index] = max(difference, found.get(index, 0.0))
        return self._judged(found, why)

    def _compare(
        self,
        groups: list[list[int]],
        steps: int = 0,
        value: float = 0.0,
        truth: Sequence[Tensor] | None = None,
    ) -> tuple[str, dict, str]:
        rows = []
        options = {"steps": steps, "value": value} if steps else {}
        for indices in groups:
            rows += zip(indices, self.runs.rows(indices, **options), strict=True)
        self._finite((row for _, row in rows), groups, **options)
        return self._against(dict(enumerate(self.whole if truth is None else truth)), rows)

    def _with_content(self, values: list[float]) -> tuple[str, dict, str]:
        """Compare with a batch just as wide that holds zeros: its width is another question."""
        if isinstance(self.widening, str):
            return "not asked", {}, self.widening
        zeros = self.runs.rows(self.everyone, steps=3, value=0.0)
        return self._widened([(3, value) for value in values], zeros)

    def _widened(
        self, ways: list[tuple[int, float]], truth: Sequence[Tensor] | None = None
    ) -> tuple[str, dict, str]:
        if isinstance(self.widening, str):
            return "not asked", {}, self.widening
        answers = [self._compare([self.everyone], *way, truth) for way in ways]
        worst = {
            index: max(answer[1].get(index, 0.0) for answer in answers) for index in self.everyone
        }
        return self._judged(worst, next((why for *_, why in answers if why), ""))

    def _large(self) -> float:
        """Return a number ten times as large as any in the batch."""
        floats = [tensor for tensor in tensors_in(self.batch()) if tensor.is_floating_point()]
        return 10 * (largest(floats) or 1.0)

    def _ask_gradients(self) -> tuple[str, dict, str]:
        if not self.runs.path.gradients:
            return "not asked", {}, _NO_GRADIENTS
        if not self.subject.has_module:
            return "not asked", {}, "model is a function in which no module was called"
        reference, why = self.gradients, ""
        if reference is None:
            halves = [self.everyone[::2], self.everyone[1::2]]
            if min(map(len, halves)) < 2:
                return "not asked", {}, "a sample alone raises, and there are too few for halves"
            reference, why = self.runs.summed(halves), "against two halves, for alone raises"
        if not any(gradient.any() for gradient in reference.values()):
            return "not asked", {}, "no parameter has a gradient"
        sizes = {name: largest([gradient]) for name, gradient in reference.items()}
        found = dict.fromkeys(reference, 0.0)
        ways = [{}] if isinstance(self.widening, str) else [{}, {"steps": 7}]
        for options in ways:
            try:
                together = self.runs.summed([self.everyone], **options)
            except _CannotWidenError:
                continue
            self._finite(together.values(), [self.everyone], **options)
            differences = gradient_differences(together, reference, sizes)
            found = {name: max(found[name], d) for name, d in differences.items()}
        return self._judged(found, why)

    def _ask_nan(self, questions: list[Question]) -> None:
        """Note what NaN in the padding does; it is a question of its own only if asked for."""
        asked = self.strict or not any(NAN in note for note in self.notes)
        if not asked or isinstance(self.widening, str):
            return
        if not any(tensor.is_floating_point() for tensor in tensors_in(self.batch())):
            if self.strict:
                why = "the batch holds no floats, and integers cannot be NaN"
                questions.append(Question(self.path, NAN, "not asked", why=why))
            return
        found = self._question(NAN, lambda: self._with_content([math.nan]))
        if self.strict:
            questions.append(found)
        elif found.state == "differs":
            self.note(
                f"{NAN} would reach {len(found.wrong)} of {len(self.samples)} samples, "
                f"in {self.path} (NaN x 0 is NaN; strict=True makes this a question)"
            )

    def _locate(self, questions: list[Question]) -> None:
        """Find the first layer that differs, only for the first question that is about outputs."""
        if self.first_layer or len(self.alone) < len(self.samples):
            return
        for question in questions:
            if question.state == "differs" and question.name in (ALONE, MATES, PADDING):
                break
        else:
            return
        index = next(iter(question.wrong))
        options = {"steps": 20} if question.name == PADDING else {}
        names = self.subject.module_names
        group = self.everyone
        if question.name == MATES:
            group = group[index % 2 :: 2]
        try:
            with recorded(names) as together:
                self.runs.rows(group, **options)
            with recorded(names) as alone:
                self.runs.rows([index])
        except Exception:  # a model that cannot be watched keeps its other answers
            return
        found = first_difference(together, alone, group.index(index), self.limit)
        self.first_layer = f"{found} ({self.path}, sample {index})" if found else ""


class _CannotWidenError(Exception):
    """A batch cannot be given more padding."""


class _OwnPrecisionError(Exception):
    """The model cannot be asked in float64; the message says why."""


def assert_batch_invariant(
    model: Callable,
    samples: Sequence,
    collate: Callable[[list], Any],
    *,
    allow: Sequence[str] = (),
    **options: Any,
) -> InvarianceReport:
    """Fail, with the whole report, where the batch changes what a model says or learns.

    Args:
        model, samples, collate: as in `batch_invariance`.
        allow: known exceptions: a path, a question, or "path: question", such as
            "training: alone" of a model with BatchNorm.
        options: as in `batch_invariance`.
    Returns:
        InvarianceReport: of a model that passes.
    Raises:
        AssertionError: a question differs or raises and is not allowed, or nothing was padded.
        TypeError, ValueError: as `batch_invariance`; or `allow` names no question.

    >>> samples = [torch.ones(3, 2), torch.ones(1, 2)]
    >>> def collate(some):
    ...     lengths = torch.tensor([len(sample) for sample in some])
    ...     return torch.nn.utils.rnn.pad_sequence(some, batch_first=True), lengths
    >>> bool(assert_batch_invariant(lambda x, lengths: x[:, 0], samples, collate))
    True
    """
    __tracebackhide__ = True  # pytest shows the caller's line, and the report
    names = (*QUESTIONS, NAN)
    for rule in allow:
        path, _, name = rule.rpartition(": ")
        if not (rule in PATHS or (name in names and (not path or path in PATHS))):
            raise ValueError(
                f"allow holds {rule!r}: give a path ({', '.join(PATHS)}), a question "
                f"({', '.join(names)}), or 'path: question'."
            )
    found = batch_invariance(model, samples, collate, **options)
    report = InvarianceReport(**{**vars(found), "allowed": tuple(allow)})
    if not report:
        raise AssertionError(f"\n{report}")
    return report
