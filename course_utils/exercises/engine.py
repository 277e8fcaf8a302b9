"""An exercise is one small object; checking it names the mistake."""

from __future__ import annotations

import copy
import functools
import inspect
import re
import textwrap
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import torch
from torch import Tensor

from course_utils.exercises import guard

Case = tuple


@dataclass(frozen=True)
class Misconception:
    """A named wrong answer that can be run.

    Attributes:
        name: what was done, in a few words.
        wrong: the wrong answer, a function with the arguments of the solution.
        say: what a good teacher would say; a sentence, or a function from the arguments of the
            smallest failing case to one.
        also: other wrong answers with the same mistake in them, told by the same name.
    """

    name: str
    wrong: Callable
    say: str | Callable[..., str]
    also: tuple[Callable, ...] = ()


@dataclass(frozen=True)
class Exercise:
    """A task, its hints, its solution, and the cases and misconceptions that check an answer.

    Attributes:
        id: chapter and number, "01.2".
        title: a few words.
        minutes: to spend on it.
        task: what to write; words in backticks are code.
        hints: two, the second closer to the answer.
        solution: the reference, whose source is shown as the solution.
        cases: makes the argument tuples to try, smallest first.
        misconceptions: the wrong answers that are told by name.
        gradients: whether what is returned must also have the right gradient, with respect to
            each argument that requires one.
        draws: whether an answer may touch torch's own random numbers; where not, one that does is
            another answer than one that does not.
    """

    id: str
    title: str
    minutes: int
    task: str
    hints: tuple[str, str]
    solution: Callable
    cases: Callable[[], Sequence[Case]]
    misconceptions: tuple[Misconception, ...]
    gradients: bool = False
    draws: bool = True

    @property
    def source(self) -> str:
        """The solution's source code."""
        return textwrap.dedent(inspect.getsource(self.solution)).strip()


def _html(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))


@dataclass(frozen=True)
class Card:
    """An exercise as the reader meets it: the task, and what unfolds when pressed."""

    exercise: Exercise

    def hint(self, number: int) -> str:
        """Return hint 1 or 2 as text.

        Raises:
            ValueError: there is no such hint.
        """
        if number not in (1, 2):
            raise ValueError(f"number is {number}: there are hints 1 and 2.")
        return self.exercise.hints[number - 1]

    def solution(self) -> str:
        """Return the solution as text."""
        return self.exercise.source

    def _repr_html_(self) -> str:
        # <details> is a native button that works with no kernel and in an exported page. The
        # data attribute keeps Enter and Space for it: JupyterLab would take them otherwise.
        def fold(name: str, content: str) -> str:
            return (
                '<details style="margin:4px 0"><summary data-lm-suppress-shortcuts="true" '
                'style="cursor:pointer;display:inline-block;padding:2px 12px;'
                f'border:1px solid #8c959f;border-radius:4px">{name}</summary>'
                f'<div style="padding:4px 14px">{content}</div></details>'
            )

        one = self.exercise
        return (
            '<div style="border:1px solid #8c959f;border-radius:6px;padding:8px 14px">'
            f"<strong>Exercise {one.id} · {escape(one.title)}</strong> · {one.minutes} minutes"
            f"<p>{_html(one.task)}</p>"
            + "".join(fold(f"Hint {n}", _html(hint)) for n, hint in enumerate(one.hints, 1))
            + fold("Solution", f"<pre>{escape(one.source, quote=False)}</pre>")
            + "</div>"
        )

    def __repr__(self) -> str:
        one = self.exercise
        return (
            f"Exercise {one.id} · {one.title} · {one.minutes} minutes\n{one.task}\n"
            f'As text: exercise("{one.id}").hint(1), .hint(2), print(….solution())'
        )


@dataclass(frozen=True)
class Verdict:
    """What `check` has to say. True in an `if` where the answer is correct.

    Attributes:
        kind: "correct", "not attempted", "misconception", "not equal", "error" or "stopped".
        name: the misconception's name, where there is one.
        text: the whole answer.
    """

    kind: str
    text: str
    name: str = ""

    def __bool__(self) -> bool:
        return self.kind == "correct"

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        color = {"correct": "#007a57", "not attempted": "#59636e"}.get(self.kind, "#b0413e")
        head, _, rest = self.text.partition("\n")
        more = f"<pre>{escape(rest, quote=False)}</pre>" if rest else ""
        return (
            f'<div style="border-left:5px solid {color};padding:4px 12px">{_html(head)}{more}</div>'
        )


@dataclass(frozen=True)
class _Outcome:
    """What one call gave: a value or an exception, and whether it changed its arguments.

    `gradients` are those of the value's weighted sum; None where they were not asked for, or it
    has none.
    """

    value: object = None
    error: BaseException | None = None
    changed: bool = False
    gradients: list[Tensor] | None = None
    drew: bool = False


def _gradients(value: object, arguments: Case) -> list[Tensor] | None:
    if not isinstance(value, Tensor) or not value.requires_grad:
        return None
    leaves = [one for one in arguments if isinstance(one, Tensor) and one.requires_grad]
    if not leaves:
        return None
    # Weighted: a plain sum of weights, or of normalised values, is the same whatever is changed.
    weights = torch.arange(value.numel(), dtype=value.dtype).cos().reshape(value.shape)
    found = torch.autograd.grad((value * weights).sum(), leaves, allow_unused=True)
    if all(one is None for one in found):
        return None  # made from nothing that was given
    return [torch.zeros_like(a) if g is None else g for g, a in zip(found, leaves, strict=True)]


def _run(
    function: Callable,
    case: Case,
    gradients: bool = False,
    draws: bool = True,
    seconds: float | None = None,
) -> _Outcome:
    arguments = copy.deepcopy(case)
    slopes, drew = None, False
    try:
        with guard.left_alone():
            before = torch.get_rng_state()
            value = guard.call(function, arguments, seconds)
            drew = not draws and not torch.equal(before, torch.get_rng_state())
        if gradients:
            slopes = _gradients(value, arguments)
        if _is_number(value) and getattr(value, "ndim", None) == 0:
            value = value.item()  # a tensor of one number is as good as the number
    except KeyboardInterrupt:
        raise  # the learner's own
    except BaseException as error:
        return _Outcome(error=error)
    changed = any(_changed(now, was) for now, was in zip(arguments, case, strict=True))
    return _Outcome(value, changed=changed, gradients=slopes, drew=drew)


def _kind(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if value is None or value is ...:
        return "None" if value is None else "`...`"
    return f"a {type(value).__name__}"


def _is_number(value: object) -> bool:
    return isinstance(value, (bool, int, float, np.generic)) or (
        isinstance(value, Tensor) and value.numel() == 1
    )


def _truth(value: object) -> object:
    try:
        return bool(value)
    except Exception:  # a tensor of many
        return value


def _difference(value: object, expected: object) -> str:
    """Say how a value differs from the expected one; nothing where it does not."""
    if isinstance(value, Tensor) and (
        value.device.type == "meta" or value.layout != torch.strided or value.is_complex()
    ):
        kind = f"{value.dtype}, {value.layout}, on {value.device}"
        return f"returned a tensor of a kind that is not expected: {kind}."
    if isinstance(expected, (tuple, list)):
        if isinstance(value, Tensor) and value.ndim:
            value = list(value)  # a tensor of numbers is as good as a list of them
        if not isinstance(value, (tuple, list)) or len(value) != len(expected):
            found = f" of {len(value)}" if isinstance(value, (tuple, list)) else ""
            return f"returned {_kind(value)}{found}, where {len(expected)} values are expected."
        parts = (_difference(v, e) for v, e in zip(value, expected, strict=True))
        return next((part for part in parts if part), "")
    if isinstance(expected, bool) and not _is_number(value) and "__bool__" in dir(type(value)):
        value = _truth(value)  # a report that is true or false says enough
    if isinstance(expected, (bool, int, float)):
        if not _is_number(value):
            return f"returned {_kind(value)}, where one {type(expected).__name__} is expected."
        if (
            isinstance(expected, bool)
            and not isinstance(value, bool)
            and float(value) not in (0, 1)
        ):
            return "returned a number, where True or False is expected."
        close = torch.isclose(
            *torch.tensor([float(value), float(expected)]), rtol=1e-4, equal_nan=True
        )
        return "" if close else "the value is not equal."
    if isinstance(expected, Tensor):
        if not isinstance(value, Tensor):
            return f"returned {_kind(value)}, where a tensor is expected."
        if value.shape != expected.shape:
            return (
                f"returned shape {tuple(value.shape)}, where {tuple(expected.shape)} is expected."
            )
        kinds = [(one.is_floating_point(), one.dtype == torch.bool) for one in (value, expected)]
        if kinds[0] != kinds[1]:
            return f"returned {value.dtype}, where {expected.dtype} is expected."
        equal = torch.allclose(
            value.detach().double(),
            expected.detach().double(),
            rtol=1e-4,
            atol=1e-5,
            equal_nan=True,
        )
        return "" if equal else "the values are not equal."
    try:
        same = type(value) is type(expected) and bool(value == expected)
    except Exception:  # an array of many, say: no kind that an exercise expects
        same = False
    return "" if same else f"returned {_kind(value)}, where {_kind(expected)} is expected."


def _changed(now: object, was: object) -> bool:
    """Whether an argument is no longer what it was; models and functions are not looked into."""
    if isinstance(was, (list, tuple)):
        return len(now) != len(was) or any(map(_changed, now, was))
    return isinstance(was, Tensor) and bool(_difference(now, was))


def _alike(one: _Outcome, other: _Outcome) -> bool:
    if one.error is not None or other.error is not None:
        same_type = type(one.error) is type(other.error)
        return same_type and str(one.error) == str(other.error)
    same = (one.changed, one.drew) == (other.changed, other.drew) and not _difference(
        one.value, other.value
    )
    return same and not _difference(one.gradients, other.gradients)


def _show(value: object) -> str:
    if isinstance(value, torch.nn.Module):
        return f"a {type(value).__name__}"
    if isinstance(value, Tensor):
        text = str(value.detach()).removeprefix("tensor(").removesuffix(")")
        text = textwrap.dedent(" " * 7 + text)
        return f"{tuple(value.shape)} {value.dtype}\n{text}"
    if isinstance(value, (list, tuple)) and not re.search("tensor|Module", repr(value)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__} of {len(value)}\n" + "\n".join(map(_show, value))
    return getattr(value, "__name__", None) or repr(value)


def _case_text(exercise: Exercise, case: Case) -> str:
    names = inspect.signature(exercise.solution).parameters
    pairs = zip(names, case, strict=True)
    return "\n".join(f"{name}: {_show(value)}" for name, value in pairs)


def _unwritten(*arguments): ...


def _unwritten_but_documented(*arguments):
    """Only a docstring."""


def _is_stub(answer: Callable) -> bool:
    code = getattr(answer, "__code__", None)
    stubs = (_unwritten.__code__.co_code, _unwritten_but_documented.__code__.co_code)
    return (
        code is not None and code.co_code in stubs and set(code.co_consts) <= {None, answer.__doc__}
    )


def judge(exercise: Exercise, answer: object) -> Verdict:
    """Try an answer on every case and say what it is; never raises.

    Args:
        exercise: the exercise.
        answer: the learner's function.
    Returns:
        Verdict: not attempted, correct, a misconception by name, an error, stopped, or not equal.
    """
    head = f"Exercise {exercise.id}"
    if answer is None or answer is ... or _is_stub(answer):
        return Verdict("not attempted", f"{head}: not attempted yet.")
    if not callable(answer):
        return Verdict(
            "error", f"{head}: give `check` the function itself, not {_kind(answer)}: no brackets."
        )
    with guard.left_alone():
        cases = exercise.cases()
    run = functools.partial(_run, gradients=exercise.gradients, draws=exercise.draws)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = [run(exercise.solution, case) for case in cases]
    given = []
    for case in cases:
        given.append(run(answer, case, seconds=guard.SECONDS))
        if isinstance(given[-1].error, guard.Stopped):
            text = f"{head}: {given[-1].error} in this case. Does a loop in it never end?"
            return Verdict("stopped", f"{text}\n{_case_text(exercise, case)}")
    failing = [i for i in range(len(cases)) if not _alike(given[i], expected[i])]
    if not failing:
        return Verdict("correct", f"{head}: correct, on {len(cases)} cases.")
    first = failing[0]
    for one in exercise.misconceptions:
        with warnings.catch_warnings():
            # What a wrong answer of ours makes torch say is no news to the learner.
            warnings.simplefilter("ignore")
            told = any(
                all(_alike(run(wrong, c), g) for c, g in zip(cases, given, strict=True))
                for wrong in (one.wrong, *one.also)
            )
        if told:
            say = one.say if isinstance(one.say, str) else one.say(*cases[first])
            return Verdict("misconception", f"{head}: {one.name}. {say}", one.name)
    case_text = _case_text(exercise, cases[first])
    result = given[first]
    if result.error is not None:
        error = f"{type(result.error).__name__}: {result.error}"
        return Verdict("error", f"{head}: your function raised an error.\n{error}\n\n{case_text}")
    if result.changed:
        name = "changed its arguments"
        text = "Your function changed what it was given: the caller's tensors are not yours. "
        text += "Work on a copy: `x.clone()` for a tensor, `list(x)` or `sorted(x)` for a list; or "
        text += "use functions whose names have no final `_`."
        return Verdict("misconception", f"{head}: {name}. {text}", name)
    if result.value is None:
        text = "Your function returned None: does it end in `return`?"
        return Verdict("not equal", f"{head}: {text}\n{case_text}")
    difference = _difference(result.value, expected[first].value)
    if not difference:
        wanted, got = expected[first].gradients, result.gradients
        text = "the value is right, but its gradient is not."
        if got is None:
            text = "the value is right, but it has lost its connection to the arguments: nothing "
            text += "would be learned from it."
        shown = f"expected gradients: {_show(wanted)}\nyours: {_show(got)}"
        return Verdict("not equal", f"{head}: {text}\n{case_text}\n\n{shown}")
    return Verdict(
        "not equal",
        f"{head}: {difference} The smallest of {len(failing)} failing cases, of {len(cases)}:\n"
        f"{case_text}\n\nexpected: {_show(expected[first].value)}\nyours: {_show(result.value)}",
    )
