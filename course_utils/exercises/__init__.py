"""Exercises that are checked on the spot: ``exercise("01.2")`` and ``check("01.2", answer)``."""

from __future__ import annotations

import importlib
import pkgutil

from course_utils.exercises.engine import Card, Exercise, Verdict, judge

# Every chapter_NN.py of this folder, in order: a new one need not be listed anywhere.
_NAMES = sorted(one.name for one in pkgutil.iter_modules(__path__) if "chapter_" in one.name)
EXERCISES: dict[str, Exercise] = {
    one.id: one
    for name in _NAMES
    for one in importlib.import_module(f"{__name__}.{name}").EXERCISES
}


def _find(id: str) -> Exercise:
    if id not in EXERCISES:
        raise ValueError(f"id is {id!r}: the exercises are {', '.join(EXERCISES)}.")
    return EXERCISES[id]


def exercise(id: str) -> Card:
    """Show an exercise: its task, and two hints and the solution to unfold.

    Args:
        id: chapter and number, such as "01.2".
    Returns:
        Card: shown as HTML in a notebook; `hint(1)`, `hint(2)` and `solution()` give text.
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
        Verdict: true where correct. Whatever the function does, an error in it is told, not
            raised; one that is still running after 5 seconds in a case is ended.
    Raises:
        ValueError: there is no such exercise; the message lists them.
    """
    return judge(_find(id), answer)
