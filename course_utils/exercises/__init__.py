"""Exercises that are checked on the spot: ``exercise("01.2")`` and ``check("01.2", answer)``.

``progress()`` shows what is solved, ``reset("01.2")`` gives the stub back, and ``use("01.2",
answer)`` takes the learner's own function where it is right, and the course's where it is not.
"""

from __future__ import annotations

import importlib
import pathlib
import pkgutil
import sys
from collections.abc import Callable

from course_utils.exercises import guard, records
from course_utils.exercises.engine import Card, Exercise, Verdict, judge, rewarded
from course_utils.exercises.records import Chapter, Progress

# Every chapter_NN.py of this folder, in order: a new one need not be listed anywhere.
_NAMES = sorted(one.name for one in pkgutil.iter_modules(__path__) if "chapter_" in one.name)
with guard.left_alone():  # what they make on import must not depend on the current settings
    _MODULES = [importlib.import_module(f"{__name__}.{name}") for name in _NAMES]
EXERCISES: dict[str, Exercise] = {one.id: one for module in _MODULES for one in module.EXERCISES}


def _find(id: str) -> Exercise:
    if id not in EXERCISES:
        raise ValueError(f"id is {id!r}: the exercises are {', '.join(EXERCISES)}.")
    return EXERCISES[id]


def exercise(id: str) -> Card:
    """Show an exercise: its task, and three hints and the solution to unfold.

    Args:
        id: chapter and number, such as "01.2".
    Returns:
        Card: shown as HTML in a notebook; `hint(1)` to `hint(3)` and `solution()` give text.
    Raises:
        ValueError: there is no such exercise; the message lists them.
    """
    return Card(_find(id))


def check(id: str, answer: object) -> Verdict:
    """Try an answer on many random ragged cases, and name the mistake.

    Args:
        id: chapter and number, such as "01.2".
        answer: the function that you wrote. It is called on copies.
    Returns:
        Verdict: true where correct. An error in the function is reported, and never raised; a
            function that is still running after 5 seconds in a case is ended.
    Raises:
        ValueError: there is no such exercise; the message lists them.
    """
    one = _find(id)
    verdict = judge(one, answer)
    records.record(one, verdict, answer)
    return rewarded(one, answer, verdict)


def use(id: str, answer: object) -> Callable:
    """Take the learner's own function where it is right, and the course's solution where it is not.

    ``encode = use("02.5", encode)`` lets the cells below go on with what the learner wrote. It
    prints which of the two it took.

    Args:
        id: chapter and number, such as "02.5".
        answer: the function that you wrote, or its stub.
    Returns:
        a function that passes the exercise's check.
    Raises:
        ValueError: there is no such exercise; the message lists them.
    """
    one = _find(id)
    own = bool(judge(one, answer))
    whose = "your own" if own else "the course's"
    print(f"Exercise {id}: from here on {whose} function is used.")
    return answer if own else one.solution


def progress() -> Progress:
    """Show the whole course on one card: chapters, exercises solved, minutes left, the next step.

    What was solved is read from `my_progress.json` beside the notebooks. Where notebooks are run
    by a tool, as in the course's tests, the card is that of a learner who has just begun.

    Returns:
        Progress: shown as HTML in a notebook.
    """
    chapters, here = [], pathlib.Path()
    for name, module in zip(_NAMES, _MODULES, strict=True):
        number = name.removeprefix("chapter_")
        title = module.__doc__.splitlines()[0].split(", ", 1)[1].rstrip(".")
        found = sorted(here.glob(f"{number}_*.ipynb"), key=lambda path: (len(path.name), path))
        notebook = found[0].name if found else ""
        chapters.append(Chapter(number, title, notebook, tuple(module.EXERCISES)))
    solved = {id for id, entry in records.read().items() if entry["solved"]}
    return Progress(tuple(chapters), frozenset(solved & set(EXERCISES)))


class Stub(str):
    """The text of a cell that is to be written; it is shown as plain text, without quotes."""

    def __repr__(self) -> str:
        return str(self)


def reset(id: str) -> Stub:
    """Give an exercise's stub back, in a new cell below; the old answer is put aside, not lost.

    It stays in `my_progress.json`, under "earlier".

    Args:
        id: chapter and number, such as "03.2".
    Returns:
        Stub: the cell's text.
    Raises:
        ValueError: there is no such exercise; the message lists them.
    """
    one = _find(id)
    records.forget(one)
    call = f'check("{id}", {one.solution.__name__})'
    stub = Stub(f"{one.signature} ...  # your code here; then run this cell\n\n\n{call}")
    if (shell := sys.modules.get("IPython")) and (shell := shell.get_ipython()):
        shell.set_next_input(stub)
    return stub
