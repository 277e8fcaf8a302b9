"""Audit and list every exercise: ``python -m course_utils.exercises``, exit 1 on any failure.

First comes one line per exercise: the solution must be accepted, the stub called not attempted, and
each misconception recognised by its own name. Then come the same exercises for teachers: minutes,
task, and each misconception with what to say. ``python -m course_utils.exercises 03 04.1`` takes
only those whose numbers begin so, and ``--audit`` leaves out the list. How many wrong answers are
named or explained is counted by ``python -m tests.exercises.mutations``, which takes minutes.

``python -m course_utils.exercises --room FOLDER`` shows instead, live, how many learners have tried
and solved each exercise, and which misconceptions they met. Their sessions write that to the
folder if they were started with COURSE_ROOM=FOLDER; they write no names and no answers.
"""

from __future__ import annotations

import pathlib
import sys
import textwrap
import warnings
from collections.abc import Iterable

from course_utils.exercises import EXERCISES
from course_utils.exercises.engine import Exercise, _run, judge
from course_utils.exercises.records import show_room


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
    errors = [error for case in one.cases() if (error := _run(one.solution, case).error)]
    for error in errors[:1]:  # any answer would have to raise the same
        found.append(f"the solution raises {type(error).__name__}: {error}")
    if judge(one, _stub).kind != "not attempted":
        found.append("the stub is not called not attempted")
    if len(one.misconceptions) < 3:
        found.append("fewer than three misconceptions")
    for misconception in one.misconceptions:
        for number, wrong in enumerate(misconception.forms):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a wrong answer may well make torch warn
                told = judge(one, wrong)
            # A twin may be another mistake too: either name is right.
            if told.name != misconception.name and not (told.name and wrong in misconception.twins):
                which = f"{misconception.name!r}" + (f", variant {number}," if number else "")
                found.append(f"{which} is told as {told.name or told.kind!r}")
    return found


def for_teachers(one: Exercise) -> str:
    """Describe an exercise for its teacher.

    Args:
        one: the exercise.
    Returns:
        title, minutes and task, then one paragraph per misconception: its name, and what the check
        says of the smallest case in which the wrong answer fails.
    """

    def paragraph(text: str, first: str) -> str:
        return textwrap.fill(text, 96, initial_indent=first, subsequent_indent=" " * 6)

    lines = [f"{one.id}  {one.title}: {one.minutes} minutes", paragraph(one.task, " " * 6)]
    for misconception in one.misconceptions:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            told = judge(one, misconception.wrong).text
        said = told.removeprefix(f"Exercise {one.id}: {misconception.name}. ")
        lines.append(paragraph(f"{misconception.name}: {said}", "    - "))
    return "\n".join(lines)


def main(exercises: Iterable[Exercise] = EXERCISES.values(), listing: bool = True) -> int:
    """Audit the exercises, list them if asked to, and return the exit status."""
    exercises, failed = list(exercises), False
    for one in exercises:
        wrong = faults(one)
        failed = failed or bool(wrong)
        told = f"{len(one.misconceptions)} misconceptions, {len(one.cases())} cases"
        print(
            f"{one.id}  {'FAIL' if wrong else 'ok'}  {one.title} ({told})", *wrong, sep="\n      "
        )
    if not listing:
        print(
            "\nHow many wrong answers are named or explained: python -m tests.exercises.mutations"
        )
    if listing:
        print("\nFor teachers: minutes, task, and what to say to each wrong answer.")
        for one in exercises:
            print(f"\n{for_teachers(one)}")
    return int(failed)


def chosen(beginnings: Iterable[str]) -> list[Exercise]:
    """Find the exercises whose numbers begin so, in the chapters' order; all where none is given.

    Args:
        beginnings: the beginnings of numbers, such as "03" or "04.1".
    Returns:
        exercises, at least one.
    Raises:
        SystemExit: there is none; the message lists them.
    """
    asked = tuple(beginnings) or ("",)
    found = [one for id, one in EXERCISES.items() if id.startswith(asked)]
    if not found:
        sys.exit(f"No exercise begins with {' or '.join(asked)}: they are {', '.join(EXERCISES)}.")
    return found


if __name__ == "__main__":
    if sys.argv[1:2] == ["--room"]:
        if len(sys.argv) != 3:
            sys.exit(
                "--room needs the folder to watch: python -m course_utils.exercises --room FOLDER"
            )
        sys.exit(show_room(pathlib.Path(sys.argv[2]), EXERCISES))
    asked = [one for one in sys.argv[1:] if one != "--audit"]
    sys.exit(main(chosen(asked), listing="--audit" not in sys.argv))
