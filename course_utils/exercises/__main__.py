"""Audit every exercise: ``python -m course_utils.exercises``, exit 1 on any failure.

The solution must be accepted, the stub called not attempted, and each misconception told by
its own name. One line an exercise.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable

from course_utils.exercises import EXERCISES
from course_utils.exercises.engine import Exercise, judge


def _stub(*arguments): ...


def faults(one: Exercise) -> list[str]:
    """List what is wrong with an exercise.

    Args:
        one: the exercise.
    Returns:
        sentences; empty where all is well.
    """
    found = []
    if judge(one, one.solution).kind != "correct":
        found.append("the solution is not accepted")
    if judge(one, _stub).kind != "not attempted":
        found.append("the stub is not called not attempted")
    if len(one.misconceptions) < 3:
        found.append("fewer than three misconceptions")
    for misconception in one.misconceptions:
        for number, wrong in enumerate((misconception.wrong, *misconception.also)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a wrong answer may well make torch warn
                told = judge(one, wrong)
            if told.name != misconception.name:
                which = f"{misconception.name!r}" + (f", variant {number}," if number else "")
                found.append(f"{which} is told as {told.name or told.kind!r}")
    return found


def main(exercises: Iterable[Exercise] = EXERCISES.values()) -> int:
    """Print one line an exercise, and return the exit status."""
    failed = False
    for one in exercises:
        wrong = faults(one)
        failed = failed or bool(wrong)
        told = f"{len(one.misconceptions)} misconceptions, {len(one.cases())} cases"
        print(
            f"{one.id}  {'FAIL' if wrong else 'ok'}  {one.title} ({told})", *wrong, sep="\n      "
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
