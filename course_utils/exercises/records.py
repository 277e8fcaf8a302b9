"""What a learner has solved, kept in one small file beside the notebooks; and a room of learners.

The file is `my_progress.json`, in the folder of the notebooks; it is readable, and may be deleted.
`check` writes it in a learner's session, and never where the notebooks are run by a tool (under
pytest, or with COURSE_PROGRESS=off), so that such a run shows the same on every machine. Nothing
here ever raises because of the file: where it cannot be read or written, the course goes on as if
there were none.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import sys
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

from course_utils.exercises.engine import Exercise, Verdict, source_of

NAME = "my_progress.json"
KEPT = 5  # earlier answers of an exercise
_DAMAGED = (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError)
_PLACE = uuid.uuid4().hex[:8]  # a name in a room's folder that does not say who it is


def folder() -> pathlib.Path | None:
    """Return the folder of this session's file; None where nothing is remembered.

    COURSE_PROGRESS names a folder, or is "off"; where it is not set, it is the working folder, if
    the course's notebooks are in it.
    """
    chosen = os.environ.get("COURSE_PROGRESS", "")
    if chosen == "off":
        return None
    try:
        if chosen:
            return pathlib.Path(chosen)
        here = pathlib.Path.cwd()
        run_by_a_tool = "PYTEST_CURRENT_TEST" in os.environ
        return here if (here / "00_start_here.ipynb").exists() and not run_by_a_tool else None
    except OSError:
        return None


def read() -> dict[str, dict]:
    """Return what is remembered: exercise -> tried, solved, met, answer, earlier; {} if nothing."""
    return _read()["exercises"]


def _parse(text: str) -> dict:
    found = json.loads(text)
    return {**found, "exercises": {id: _entry(one) for id, one in found["exercises"].items()}}


def _read() -> dict:
    where, empty = folder(), {"exercises": {}}
    if where is None:
        return empty
    try:
        return _parse((where / NAME).read_text(encoding="utf-8"))
    except (OSError, *_DAMAGED):
        return empty


def _entry(found: Mapping) -> dict:
    return {
        "tried": int(found.get("tried", 0)),
        "solved": bool(found.get("solved", False)),
        "met": [str(name) for name in found.get("met", [])],
        "answer": [str(line) for line in found.get("answer", [])],
        "earlier": [[str(line) for line in one] for one in found.get("earlier", [])],
    }


def _write(where: pathlib.Path, name: str, content: dict) -> None:
    # Whole or not at all: a kernel may be killed while it writes.
    part = where / f".{name}.{os.getpid()}"
    try:
        part.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        part.replace(where / name)
    except (OSError, ValueError):
        with contextlib.suppress(OSError):
            part.unlink()


def _keep_damaged(where: pathlib.Path) -> None:
    """Put a file aside that cannot be read, because what is in it may still be worth something."""
    file = where / NAME
    try:
        _parse(file.read_text(encoding="utf-8"))
    except _DAMAGED:
        with contextlib.suppress(OSError):
            file.replace(where / f"damaged_{NAME}")
    except OSError:
        pass


def record(exercise: Exercise, verdict: Verdict, answer: object) -> None:
    """Remember what `check` said; neither a stub nor a fault of the course counts as an attempt.

    Args:
        exercise: the exercise.
        verdict: what `check` said.
        answer: the learner's function, whose source is kept.
    """
    where = folder()
    if where is None or verdict.kind in ("not attempted", "fault"):
        return
    _keep_damaged(where)
    kept = _read()
    entry = kept["exercises"].setdefault(exercise.id, _entry({}))
    entry["tried"] += 1
    entry["solved"] = entry["solved"] or bool(verdict)
    if verdict.name and verdict.name not in entry["met"]:
        entry["met"].append(verdict.name)
    # A right answer is not lost to a later try that is wrong.
    source = source_of(answer).splitlines()
    if source and (verdict or not entry["solved"]) and source != entry["answer"]:
        _put_aside(entry)
        entry["answer"] = source
    _save(where, kept)


def _put_aside(entry: dict) -> None:
    if entry["answer"]:
        entry["earlier"] = [*entry["earlier"], entry["answer"]][-KEPT:]
        entry["answer"] = []


def _save(where: pathlib.Path, kept: dict) -> None:
    room = os.environ.get("COURSE_ROOM")
    if room:
        kept.setdefault("place", _PLACE)
    about = "What you have solved in this course. Delete this file, and all of it is forgotten."
    kept = {"about": about, **kept, "exercises": dict(sorted(kept["exercises"].items()))}
    _write(where, NAME, kept)
    if room:
        told = {
            id: {key: entry[key] for key in ("tried", "solved", "met")}
            for id, entry in kept["exercises"].items()
        }
        _write(pathlib.Path(room), f"{kept['place']}.json", {"exercises": told})


def forget(exercise: Exercise) -> list[str]:
    """Count an exercise as not solved, and put its answer aside.

    Returns:
        the lines of the answer that was put aside; none where there was none.
    """
    where, kept = folder(), _read()
    entry = kept["exercises"].get(exercise.id)
    if where is None or entry is None:
        return []
    answer = entry["answer"]
    _put_aside(entry)
    entry["solved"] = False
    _save(where, kept)
    return answer


@dataclass(frozen=True)
class Chapter:
    """A chapter and its exercises.

    Attributes:
        number: such as "03".
        title: its title.
        notebook: its file's name; "" where it is not in the working folder.
        exercises: all of its exercises, in order.
    """

    number: str
    title: str
    notebook: str
    exercises: tuple[Exercise, ...]


def _link(chapter: Chapter, text: str) -> str:
    text = escape(text)
    return (
        f'<a style="text-decoration:underline" href="{escape(chapter.notebook)}">{text}</a>'
        if chapter.notebook
        else text
    )


def _mark(exercise: Exercise, solved: bool) -> str:
    style = "display:inline-block;width:13px;height:13px;margin-right:3px;border-radius:3px"
    style += f";border:1px solid #00805c;background:{'#00805c' if solved else 'transparent'}"
    title = f"{exercise.id} {exercise.title}: {'solved' if solved else 'not solved yet'}"
    return f'<span title="{escape(title)}" style="{style}"></span>'


@dataclass(frozen=True)
class Progress:
    """The whole course on one card: chapters, exercises solved, minutes left, the next step.

    Attributes:
        chapters: in order.
        solved: numbers of the exercises that were solved.
    """

    chapters: tuple[Chapter, ...]
    solved: frozenset[str]

    def _left(self, chapter: Chapter) -> list[Exercise]:
        return [one for one in chapter.exercises if one.id not in self.solved]

    @property
    def next(self) -> tuple[Chapter, Exercise] | None:
        """The first exercise that is not solved yet; None where all are."""
        return next(((c, one) for c in self.chapters for one in self._left(c)), None)

    @property
    def _head(self) -> str:
        exercises = [one for chapter in self.chapters for one in chapter.exercises]
        left = sum(one.minutes for one in exercises if one.id not in self.solved)
        done = sum(one.id in self.solved for one in exercises)
        rest = f"about {left} minutes of exercises left" if left else "all of them"
        return f"{done} of {len(exercises)} exercises solved, {rest}"

    def __repr__(self) -> str:
        lines = [self._head]
        for chapter in self.chapters:
            marks = "".join("■" if one.id in self.solved else "□" for one in chapter.exercises)
            left = sum(one.minutes for one in self._left(chapter))
            lines.append(f"{chapter.number}  {marks:8}{left:4} min left  {chapter.title}")
        if self.next:
            chapter, one = self.next
            lines.append(f"Next: exercise {one.id}, {one.title} ({one.minutes} minutes)")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = []
        for chapter in self.chapters:
            left = self._left(chapter)
            # Filled or empty, and a number beside them: not by colour alone.
            marks = "".join(_mark(one, one.id in self.solved) for one in chapter.exercises)
            done = f"{len(chapter.exercises) - len(left)} of {len(chapter.exercises)}"
            minutes = f"{sum(one.minutes for one in left)} min left" if left else "done"
            cell = '<td style="text-align:left;padding:3px 14px 3px 0;background:transparent'
            rows.append(
                f'<tr style="background:transparent">{cell}">'
                f"{_link(chapter, f'{chapter.number} · {chapter.title}')}</td>"
                f'{cell};white-space:nowrap">{marks}</td>{cell};white-space:nowrap">{done}</td>'
                f'{cell};white-space:nowrap">{minutes}</td></tr>'
            )
        step = "Every exercise is solved."
        if self.next:
            chapter, one = self.next
            step = (
                f"Next: {_link(chapter, f'exercise {one.id}')}, {escape(one.title)} "
                f"({one.minutes} minutes)"
            )
        return (
            '<div style="border:1px solid #8c959f;border-radius:6px;padding:8px 14px">'
            f"<strong>{self._head[0].upper() + self._head[1:]}</strong>"
            f'<table style="margin:6px 0;border-collapse:collapse">{"".join(rows)}</table>{step}'
            "</div>"
        )


def room(where: pathlib.Path, exercises: Mapping[str, Exercise]) -> str:
    """Say how a room of learners is doing, from the files that their sessions write there.

    Args:
        where: the folder, COURSE_ROOM of each session.
        exercises: the course's, by number.
    Returns:
        a line for each exercise that somebody has tried: how many tried it, how many solved it,
        and the misconceptions that were met, the most frequent first.
    """
    tried, solved, met, learners = Counter(), Counter(), {}, 0
    for file in sorted(where.glob("*.json")):
        try:
            found = _parse(file.read_text(encoding="utf-8"))["exercises"]
        except (OSError, *_DAMAGED):
            continue  # not one of ours
        learners += 1
        for id, entry in found.items():
            if id not in exercises:
                continue
            tried[id] += 1
            solved[id] += entry["solved"]
            names = {one.name for one in exercises[id].misconceptions}
            met.setdefault(id, Counter()).update(names.intersection(entry["met"]))
    lines = [
        f"{learners} learner{'s' * (learners != 1)}",
        "",
        f"{'':5}{'tried':>6}{'solved':>8}   met",
    ]
    for id in sorted(tried):
        counted = sorted(met[id].items(), key=lambda pair: (-pair[1], pair[0]))
        names = "; ".join(f"{count} × {name}" for name, count in counted[:3])
        lines.append(f"{id:5}{tried[id]:6}{solved[id]:8}   {names}".rstrip())
    return "\n".join(lines if tried else [*lines[:1], "", "Nobody has tried an exercise yet."])


def show_room(where: pathlib.Path, exercises: Mapping[str, Exercise], seconds: float = 3) -> int:
    """Show a room on the terminal until Ctrl+C; only once where the output is not a terminal.

    Returns:
        the exit status: 1 where the folder is not there.
    """
    if not where.is_dir():
        text = f"--room {where}: there is no such folder. Make it, and start each learner's session"
        print(f"{text} with COURSE_ROOM={where}.", file=sys.stderr)
        return 1
    try:
        while sys.stdout.isatty():
            print(f"\033[2J\033[H{room(where, exercises)}\n\nPress Ctrl+C to end.", flush=True)
            time.sleep(seconds)
        print(room(where, exercises))
    except KeyboardInterrupt:
        print()
    return 0
