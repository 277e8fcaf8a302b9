"""An exercise is one small object; checking an answer names the mistake."""

from __future__ import annotations

import ast
import contextlib
import copy
import dataclasses
import functools
import inspect
import re
import textwrap
import time
import types
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import torch
from torch import Tensor

from course_utils.exercises import diagnose, guard
from course_utils.exercises.errors import line_of
from course_utils.exercises.show import WIDTH, show
from course_utils.exercises.values import NUMBERS, plain, screen
from course_utils.exercises.values import changed as _changed
from course_utils.exercises.values import difference as _difference
from course_utils.exercises.values import kind as _kind
from course_utils.testing.measure import activation_bytes, paired_ratio

Case = tuple
# For all cases of an exercise together, on a machine that is not slow.
SECONDS_IN_ALL = 6.0


# A text in the source of a right answer, and what was written there instead.
Edit = Mapping[str, str]


@dataclass(frozen=True)
class Misconception:
    """A named wrong answer that can be run.

    Attributes:
        name: what was done, in a few words.
        wrong: the wrong answer: an edit of the solution, `{"<": "<="}`, or a function with the
            arguments of the solution.
        say: what a good teacher would say; a sentence, or a function that makes one from the
            arguments of the smallest failing case.
        also: other wrong answers with the same mistake in them, told by the same name.
        uses: a name that the answer's code must contain, because the sentence speaks of it: an
            answer that is wrong in the same cases may be wrong for another reason.
        twins: wrong answers that also have one of the exercise's twins; the exercise makes them.
    """

    name: str
    wrong: Callable | Edit
    say: str | Callable[..., str]
    also: tuple[Callable | Edit, ...] = ()
    uses: str = ""
    twins: tuple[Callable, ...] = ()

    @property
    def forms(self) -> tuple[Callable, ...]:
        """All wrong answers that are told by this name."""
        return (self.wrong, *self.also, *self.twins)

    def teach(self, say: str | Callable[..., str]) -> Misconception:
        """Return the same with what a teacher would say of it."""
        return dataclasses.replace(self, say=say if callable(say) else _flowing(say))


def slip(name: str, *wrong: Callable | Edit, uses: str = "") -> Misconception:
    """Name one mistake in all the forms that it comes in: `slip(...).teach("...")`."""
    return Misconception(name, wrong[0], "", wrong[1:], uses)


def _flowing(text: str) -> str:
    return " ".join(text.split())


def _source(function: Callable) -> str:
    return getattr(function, "source", None) or textwrap.dedent(inspect.getsource(function))


def edited(function: Callable, edit: Edit) -> Callable:
    """Make another function by changing the source of one.

    Args:
        function: the right answer.
        edit: a text in its source, and what is to replace it; each place is changed.
    Returns:
        the changed function; its `source` can be edited again.
    Raises:
        ValueError: a text to change is not in the source.
    """
    source = _source(function)
    for old, new in edit.items():
        if old not in source:
            raise ValueError(f"edit of {function.__name__}: {old!r} is not in its source.")
        source = source.replace(old, new)
    names = dict(function.__globals__)
    exec(compile(source, f"<{function.__name__}, edited>", "exec"), names)
    made = names[function.__name__]
    made.source = source
    return made


@dataclass(frozen=True)
class Exercise:
    """A task, its hints, its solution, and the cases and misconceptions that check an answer.

    Attributes:
        id: chapter and number, "01.2".
        title: a few words.
        minutes: to spend on it.
        task: what to write; words in backticks are code.
        hints: two, the second closer to the answer. The third is how the solution begins.
        solution: the reference, whose source is shown as the solution.
        cases: makes the argument tuples to try, smallest first.
        misconceptions: the wrong answers that are told by name.
        twins: edits that often accompany another mistake, such as padding that was not filled.
            Each misconception whose source has the text is recognised with them as well.
        gradients: whether what is returned must also have the right gradient, with respect to
            each argument that requires one.
        draws: whether an answer may use torch's own random numbers; where not, an answer that uses
            them is different from one that does not.
        notice: one thing to notice in the solution, said to those who have solved it.
        larger: makes one case large enough to compare what a right answer and the solution cost;
            None where that says nothing.
        axes: the names of the result's dimensions, "B T D"; of several results, "B T D, B".
        backwards: whether calling `backward` once is a different answer from calling it several
            times.
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
    notice: str = ""
    larger: Callable[[], Case] | None = None
    axes: str = ""
    backwards: bool = False
    twins: tuple[Edit, ...] = ()

    def __post_init__(self) -> None:
        found = tuple(map(self._runnable, self.misconceptions))
        object.__setattr__(self, "misconceptions", found)
        object.__setattr__(self, "hints", tuple(map(_flowing, self.hints)))
        for name in ("task", "notice"):
            object.__setattr__(self, name, _flowing(getattr(self, name)))

    def _runnable(self, one: Misconception) -> Misconception:
        """Make functions of a misconception's edits, and their twins."""
        forms = [
            wrong if callable(wrong) else edited(self.solution, wrong)
            for wrong in (one.wrong, *one.also)
        ]
        twins = tuple(
            edited(wrong, twin)
            for twin in self.twins
            for wrong in forms
            if wrong.__name__ != "<lambda>" and all(old in _source(wrong) for old in twin)
        )
        return dataclasses.replace(one, wrong=forms[0], also=tuple(forms[1:]), twins=twins)

    @property
    def source(self) -> str:
        """The solution's source code."""
        return _source(self.solution).strip()

    @property
    def signature(self) -> str:
        """The solution's first line or lines, up to the colon."""
        inside = ast.parse(self.source).body[0].body[0].lineno
        return "\n".join(self.source.splitlines()[: inside - 1])

    @property
    def beginning(self) -> str:
        """The first half of the solution's lines; of a single line, its first half."""
        body = self.source.removeprefix(self.signature).strip("\n").splitlines()
        if len(body) > 1:
            return "\n".join([self.signature, *body[: len(body) // 2], "    …"])
        words = re.findall(r"\s+|\w+|\W", body[0])
        return f"{self.signature}\n{''.join(words[: len(words) // 2]).rstrip()} …"


def inline_html(text: str) -> str:
    """Render one paragraph of Markdown: code in backticks, *emphasis*, **strong**; escape the rest.

    >>> inline_html("`a*b*c` is *not* 2 * 3 * 4 < 5")
    '<code>a*b*c</code> is <em>not</em> 2 * 3 * 4 &lt; 5'
    """
    codes: list[str] = []

    def keep(found: re.Match) -> str:
        codes.append(found[1])
        return f"\0{len(codes) - 1}\0"

    text = re.sub(r"`([^`]+)`", keep, escape(text.replace("\0", ""), quote=False))
    text = re.sub(r"\*\*(?=\S)(.+?)(?<=\S)\*\*", r"<strong>\1</strong>", text)
    text = re.sub(r"(?<![\w*])\*(?=[^\s*])([^*]+)(?<=\S)\*(?![\w*])", r"<em>\1</em>", text)
    return re.sub("\0(\\d+)\0", lambda found: f"<code>{codes[int(found[1])]}</code>", text)


SMALL = ";font-size:12px"  # two columns of code fit side by side


def _pre(code: str, size: str = "") -> str:
    # JupyterLab would break long lines anywhere, in the middle of a word too.
    style = f"margin:2px 0;white-space:pre;overflow-x:auto{size}"
    return f'<pre style="{style}">{escape(code, quote=False)}</pre>'


@dataclass(frozen=True)
class Card:
    """An exercise as the reader sees it: the task, and the hints and solution to unfold."""

    exercise: Exercise

    def hint(self, number: int) -> str:
        """Return hint 1, 2 or 3 as text; the third is how the solution begins.

        Raises:
            ValueError: there is no such hint.
        """
        if number not in (1, 2, 3):
            raise ValueError(f"number is {number}: there are hints 1, 2 and 3.")
        return (*self.exercise.hints, self.exercise.beginning)[number - 1]

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
            f"<p>{inline_html(one.task)}</p>"
            + "".join(fold(f"Hint {n}", inline_html(hint)) for n, hint in enumerate(one.hints, 1))
            + fold("Hint 3", _pre(one.beginning))
            + fold("Solution", _pre(one.source))
            + "</div>"
        )

    def __repr__(self) -> str:
        one = self.exercise
        return (
            f"Exercise {one.id} · {one.title} · {one.minutes} minutes\n{one.task}\n"
            f'As text: exercise("{one.id}").hint(1) to .hint(3), and print(….solution())'
        )


@dataclass(frozen=True)
class Verdict:
    """What `check` has to say. True in an `if` where the answer is correct.

    Attributes:
        kind: "correct", "not attempted", "misconception", "explained" (no listed misconception,
            but the text says where it is wrong, or in which way), "not equal", "error", "stopped",
            or "fault" where the course itself is at fault.
        name: the misconception's name, where there is one.
        text: the whole answer.
        notice: if correct, one thing to notice, and what the answer costs.
        answer: if correct, the learner's source, where it can be read and is not the solution's.
        solution: if correct, the source of the course's own solution.
    """

    kind: str
    text: str
    name: str = ""
    notice: str = ""
    answer: str = ""
    solution: str = ""

    def __bool__(self) -> bool:
        return self.kind == "correct"

    def __repr__(self) -> str:
        parts = [self.text, self.notice]
        if self.solution:
            parts.append(f"The course's solution:\n{self.solution}")
        return "\n\n".join(filter(None, parts))

    def _repr_html_(self) -> str:
        color = {"correct": "#007a57", "not attempted": "#59636e"}.get(self.kind, "#b0413e")
        head, _, rest = self.text.partition("\n")
        more = f"<pre>{escape(rest, quote=False)}</pre>" if rest else ""
        for paragraph in filter(None, self.notice.split("\n\n")):
            more += f'<p style="margin:6px 0">{inline_html(paragraph)}</p>'
        columns = [("Yours", self.answer), ("The course's", self.solution)]
        codes = "".join(
            f'<div style="max-width:100%"><strong>{name}</strong>{_pre(code, SMALL)}</div>'
            for name, code in columns
            if code
        )
        if codes:
            more += f'<div style="display:flex;flex-wrap:wrap;gap:8px 32px">{codes}</div>'
        return (
            f'<div style="border-left:5px solid {color};padding:4px 12px">{inline_html(head)}{more}'
            "</div>"
        )


@dataclass(frozen=True)
class _Outcome:
    """What one call gave: a plain value or an exception, and what it changed of its arguments.

    `message` is what the exception says; `changed` is "values", "weights" (of a model) or nothing;
    `gradients` are those of the value's weighted sum; None where they were not asked for, or where
    the value has none. `complaint` is what an argument that watches how it is used has to say, by
    its method of this name; "" where all is well.
    """

    value: object = None
    error: BaseException | None = None
    message: str = ""
    changed: str = ""
    gradients: list[Tensor] | None = None
    drew: bool = False
    backwards: int = 0
    complaint: str = ""


@contextlib.contextmanager
def _counting_backward(calls: list) -> Iterator[None]:
    """Add an entry to a list for each call of `backward`."""
    plain = torch.autograd.backward

    @functools.wraps(plain)
    def counted(*arguments, **named):
        calls.append(1)
        return plain(*arguments, **named)

    torch.autograd.backward = counted
    try:
        yield
    finally:
        torch.autograd.backward = plain


def _gradients(value: object, arguments: Case) -> list[Tensor] | None:
    if not isinstance(value, Tensor) or not value.requires_grad or value.is_complex():
        return None
    if value.device.type != "cpu" or value.layout != torch.strided or value.numel() > NUMBERS:
        return None  # no value that could be right
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
    truths: bool = False,
    seconds: float | None = None,
    backwards: bool = False,
) -> _Outcome:
    calls: list = []

    def outcome(*arguments: object) -> _Outcome:
        before = torch.get_rng_state()
        with _counting_backward(calls) if backwards else contextlib.nullcontext():
            value = function(*arguments)
        drew = not draws and not torch.equal(before, torch.get_rng_state())
        slopes = _gradients(value, arguments) if gradients else None
        return _Outcome(
            plain(value, truths),
            changed=_changed(arguments, case),
            gradients=slopes,
            drew=drew,
            backwards=min(len(calls), 2),
            complaint=_complaint(arguments),
        )

    arguments = copy.deepcopy(case)
    with guard.left_alone():
        # All that may run the learner's code is called in here: a value's `__bool__`, a backward
        # pass, an error's `__str__`.
        try:
            return guard.call(outcome, arguments, seconds)
        except KeyboardInterrupt:
            raise  # the learner's own
        except BaseException as raised:
            error = raised
        try:
            message = str.__str__(guard.call(str, (error,), seconds)[:2000])
        except KeyboardInterrupt:
            raise
        except guard.Stopped as raised:
            error, message = raised, str(raised)
        except BaseException:
            message = "(its message cannot be read)"
        if guard.refused_memory(error, message):
            error = guard.OutOfMemory()
        if not isinstance(error, guard.Stopped):
            error = _told(error, message)
        return _Outcome(error=error, message=message)


def _complaint(arguments: Case) -> str:
    watching = (one for one in arguments if hasattr(type(one), "complaint"))
    return next(filter(None, (one.complaint() for one in watching)), "")


def _told(error: BaseException, message: str) -> Exception:
    """Make an exception that reads the same, with none of the learner's code in it."""
    own = type(error)
    base = own if own.__module__ == "builtins" and issubclass(own, Exception) else Exception
    made = type(own.__name__[:60], (base,), {"__str__": lambda self: message})
    lines = BaseException.__traceback__.__get__(error)
    return BaseException.with_traceback(base.__new__(made), lines)


def _alike(one: _Outcome, other: _Outcome) -> bool:
    if one.error is not None or other.error is not None:
        kinds = [type(outcome.error).__name__ for outcome in (one, other)]
        return kinds[0] == kinds[1] and one.message == other.message
    same = (one.changed, one.drew, one.backwards) == (other.changed, other.drew, other.backwards)
    same = same and one.complaint == other.complaint
    same = same and not _difference(one.value, other.value)
    return same and not _difference(one.gradients, other.gradients)


def _case_text(exercise: Exercise, case: Case) -> str:
    names = inspect.signature(exercise.solution).parameters
    pairs = zip(names, case, strict=True)
    return "\n".join(f"{name}: {show(value)}" for name, value in pairs)


def _unwritten(*arguments): ...


def _unwritten_but_documented(*arguments):
    """Only a docstring."""


def _is_stub(answer: Callable) -> bool:
    code = getattr(answer, "__code__", None)
    stubs = (_unwritten.__code__.co_code, _unwritten_but_documented.__code__.co_code)
    return (
        isinstance(code, types.CodeType)
        and code.co_code in stubs
        and set(code.co_consts) <= {None, answer.__doc__}
    )


def _names_in(code: object) -> set[str]:
    """Collect the names in a function's code, and in what is defined inside it."""
    if not isinstance(code, types.CodeType):
        return set()
    inner = (_names_in(one) for one in code.co_consts)
    return set().union(code.co_names, code.co_freevars, *inner)


def _attempted(answer: object) -> bool:
    try:
        return not (answer is None or answer is ... or guard.call(_is_stub, (answer,), seconds=1))
    except KeyboardInterrupt:
        raise
    except BaseException:  # an object whose attributes raise, or never return
        return True


def _never_raises(judge: Callable[[Exercise, object], Verdict]) -> Callable:
    """Give a verdict even where judging fails, and leave torch as it was."""

    @functools.wraps(judge)
    def wrapped(exercise: Exercise, answer: object) -> Verdict:
        try:
            with guard.left_alone():
                verdict = judge(exercise, answer)
        except Exception as error:
            text = (
                f"Exercise {exercise.id}: your answer could not be judged. That is the course's "
                f"fault, not yours; please report it.\n{type(error).__name__}: {error}"
            )
            verdict = Verdict("fault", text)
        head, _, rest = verdict.text.partition("\n")
        return dataclasses.replace(verdict, text=f"{head}\n{screen(rest)}" if rest else head)

    return wrapped


@_never_raises
def judge(exercise: Exercise, answer: object) -> Verdict:
    """Try an answer on every case and say what it is; never raises, and ends.

    Torch is in one known state meanwhile (`guard.left_alone`), so that the verdict is the same
    with gradients off, on another default device, or with four threads; afterwards everything is
    as before.

    Args:
        exercise: the exercise.
        answer: the learner's function.
    Returns:
        Verdict: not attempted, correct, a misconception by name, an error, stopped, or not equal;
            its text is no longer than a screen.
    """
    head = f"Exercise {exercise.id}"
    if not _attempted(answer):
        return Verdict("not attempted", f"{head}: not attempted yet.")
    if not callable(answer):
        text = f"give `check` the function itself, without brackets, not {_kind(answer)}"
        return Verdict("error", f"{head}: {text}.")
    cases = exercise.cases()
    run = functools.partial(
        _run,
        gradients=exercise.gradients,
        draws=exercise.draws,
        backwards=exercise.backwards,
    )
    began = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = [run(exercise.solution, case) for case in cases]
    for one in expected:
        if one.error is not None:  # else an answer that raises the same would pass
            raise one.error
    # A slow machine is slow for the solution too.
    run = functools.partial(run, truths=any(isinstance(one.value, bool) for one in expected))
    seconds = max(SECONDS_IN_ALL, 8 * (time.monotonic() - began))
    end, given = time.monotonic() + seconds, []
    for case in cases:
        left = end - time.monotonic()
        most = max(min(guard.SECONDS, left), 0.01)
        result = run(answer, case, seconds=most)
        given.append(result)
        if isinstance(result.error, guard.OutOfTime) and left < guard.SECONDS:
            text = f"{head}: stopped, as its {len(cases)} cases take far longer than they should. "
            text += "Is something done in a loop that could be done once, for all steps?"
            return Verdict("stopped", f"{text}\n{_case_text(exercise, case)}")
        if isinstance(result.error, guard.OutOfTime):
            text = f"{head}: {result.message} in this case. Is there a loop that never ends?"
            return Verdict("stopped", f"{text}\n{_case_text(exercise, case)}")
        if isinstance(result.error, guard.OutOfMemory):
            text = "stopped, as it was taking more memory than this session can spare"
            text = f"{head}: {text}, in this case. How large is the largest tensor or list in it?"
            return Verdict("stopped", f"{text}\n{_case_text(exercise, case)}")
    failing = [i for i in range(len(cases)) if not _alike(given[i], expected[i])]
    if not failing:
        return Verdict("correct", f"{head}: correct, on {len(cases)} cases.")
    first = failing[0]
    for one in exercise.misconceptions:
        if one.uses and one.uses not in _names_in(getattr(answer, "__code__", None)):
            continue
        with warnings.catch_warnings():
            # The warnings of our own wrong answers mean nothing to the learner.
            warnings.simplefilter("ignore")
            told = any(
                all(_alike(run(wrong, c), g) for c, g in zip(cases, given, strict=True))
                for wrong in one.forms
            )
        if told:
            say = one.say if isinstance(one.say, str) else one.say(*cases[first])
            return Verdict("misconception", f"{head}: {one.name}. {say}", one.name)
    case_text = _case_text(exercise, cases[first])
    result = given[first]
    if result.changed == "weights":
        name = "changed the model"
        text = "Your function changed the weights of the model that it was given, but whoever "
        text += "gave it goes on using the model. Work on a copy: `copy.deepcopy(model)`."
        return Verdict("misconception", f"{head}: {name}. {text}", name)
    if result.changed:
        name = "changed its arguments"
        text = "Your function changed its arguments, which still belong to the caller. Work on a "
        text += "copy: `x.clone()` for a tensor, `list(x)` or `sorted(x)` for a list; or use "
        text += "functions whose names do not end in `_`."
        return Verdict("misconception", f"{head}: {name}. {text}", name)
    if result.complaint:
        return Verdict("explained", f"{head}: {result.complaint}\n{case_text}")
    if result.error is None and result.value is None:
        text = "Your function returned None: does it end in `return`?"
        return Verdict("explained", f"{head}: {text}\n{case_text}")
    same = not _difference(result.value, expected[first].value)
    if result.error is None and same and result.drew != expected[first].drew:
        text = "In this case the result is right, but your function uses torch's global random "
        text += "numbers, which all other code draws from, too. Give it a `torch.Generator` of its "
        text += "own, seeded as the task says."
        return Verdict("explained", f"{head}: {text}\n{case_text}")
    return _diagnosed(exercise, answer, cases, expected, given, run)


def _diagnosed(
    exercise: Exercise,
    answer: Callable,
    cases: Sequence[Case],
    expected: Sequence[_Outcome],
    given: Sequence[_Outcome],
    run: Callable[..., _Outcome],
) -> Verdict:
    """Say where an answer that is not a listed misconception goes wrong, and in which way."""
    alike = list(map(_alike, given, expected))
    failing = [i for i, right in enumerate(alike) if not right]
    names = inspect.signature(exercise.solution).parameters
    trials = [
        diagnose.Trial(
            dict(zip(names, case, strict=True)),
            due.value,
            got.value,
            right,
            got.error,
            due.gradients,
            got.gradients,
        )
        for case, due, got, right in zip(cases, expected, given, alike, strict=True)
    ]

    def seeded(*arguments):
        torch.manual_seed(1)
        return answer(*arguments)

    first = failing[0]
    again = run(seeded, cases[first], seconds=min(guard.SECONDS, 1))
    kept = given[first].value
    # Of a tensor that is too large to keep, only the shape is kept.
    large = getattr(kept, "is_meta", False)
    comparable = again.error is None and not large and not _difference(kept, kept)
    agree = not comparable or not _difference(again.value, kept)
    told = diagnose.explain(trials, exercise.axes, agree)
    head = f"Exercise {exercise.id}"
    error = told.error
    if error is not None:
        at = line_of(error, answer)
        shown = f"{type(error).__name__}: {error}"
        shown = textwrap.shorten(shown, 3 * WIDTH, placeholder=" ...")
        shown = textwrap.fill(shown, WIDTH) + (f"\nin the line: {at}" if at else "")
        kind = "explained" if told.explained else "error"
        return Verdict(kind, f"{head}: {told.text}\n{shown}\n\n{told.case}")
    unlike = (_difference(given[i].value, expected[i].value) for i in failing)
    text = told.text or next(filter(None, unlike), "")
    text = text or "the numbers are right, but the task asks you to compute them in another way."
    question = _nearest(exercise, cases, given, failing, run)
    explained = told.explained or question
    text = f"{text[0].upper()}{text[1:]} {question}".strip()
    few = f"The smallest of {len(failing)} failing cases, of {len(cases)}:"
    return Verdict("explained" if explained else "not equal", f"{head}: {text}\n{few}\n{told.case}")


def _nearest(
    exercise: Exercise,
    cases: Sequence[Case],
    given: Sequence[_Outcome],
    failing: Sequence[int],
    run: Callable[..., _Outcome],
) -> str:
    """Ask whether it is the misconception that gives the same result in most failing cases."""
    if isinstance(given[failing[0]].value, bool):
        return ""  # of two possible answers, many are the same by chance
    best, most = None, 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for one in exercise.misconceptions:
            for wrong in one.forms:
                same = 0
                for place, i in enumerate(failing, 1):
                    made = run(wrong, cases[i])
                    same += _alike(made, given[i]) and _alike(given[i], made)
                    if same + len(failing) - place <= max(most, 0.6 * len(failing)):
                        break
                else:
                    best, most = one, same
    if best is None or most < 2:
        return ""
    same = f"gives the same result in {most} of the {len(failing)} failing cases"
    return f"Is it “{best.name}”? That mistake {same}."


def source_of(answer: object) -> str:
    """Return an answer's source; "" where it cannot be read, as where it is not a function."""
    try:
        with guard.left_alone():
            source = guard.call(inspect.getsource, (answer,), seconds=1)
        return textwrap.dedent(source).strip()[:20_000]
    except KeyboardInterrupt:
        raise
    except BaseException:
        return ""


def _meaning(source: str) -> str:
    try:
        return ast.unparse(ast.parse(source))
    except SyntaxError:  # a lambda inside a call, say
        return source


def _times(ratio: float) -> str:
    """A ratio in words that come out the same on most machines."""
    steps = [(0.7, "less"), (1.5, "about as much"), (4, "two or three times as much")]
    steps += [(25, "around ten times as much")]
    return next((words for most, words in steps if ratio < most), "far more than ten times as much")


def _cost(exercise: Exercise, answer: Callable) -> str:
    """Say in words what a right answer costs, compared with the solution; "" where not known."""

    def compare() -> str:
        case = exercise.larger()
        pair = [functools.partial(function, *case) for function in (answer, exercise.solution)]
        time_ratio = paired_ratio(*pair, pairs=3, min_seconds=0.01).median
        yours, course = map(activation_bytes, pair)
        than = "than" if _times(time_ratio) == "less" else "as"
        text = f"In a larger batch your answer takes {_times(time_ratio)} time {than} the course's"
        if course:
            text += f", and keeps {_times(yours / course)} for the backward pass"
        return f"{text}."

    try:
        with guard.left_alone():
            return guard.call(compare, (), seconds=3)
    except KeyboardInterrupt:
        raise
    except BaseException:  # too slow to be compared, or only right for small cases
        return ""


def rewarded(exercise: Exercise, answer: Callable, verdict: Verdict) -> Verdict:
    """Add to a verdict of "correct" what there is to learn from a right answer.

    Args:
        exercise: the exercise.
        answer: the learner's function.
        verdict: what `judge` says of it.
    Returns:
        the verdict, with the course's solution beside the answer, one thing to notice, and, where
        that is useful, what the answer costs. Any other verdict is returned unchanged.
    """
    if not verdict:
        return verdict
    own = source_of(answer)
    same = _meaning(own) == _meaning(exercise.source)
    cost = _cost(exercise, answer) if exercise.larger and not same else ""
    return dataclasses.replace(
        verdict,
        notice="\n\n".join(filter(None, [exercise.notice, cost])),
        answer="" if same else screen(own),
        solution=exercise.source,
    )
