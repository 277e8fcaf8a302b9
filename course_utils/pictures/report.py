"""The picture of a report of the oracle: samples by questions, parameters by difference."""

from __future__ import annotations

import math
from itertools import islice

from course_utils.pictures.grid import WRONG, grid, label, sheet, step_cell, verdict_cell
from course_utils.pictures.svg import Picture, letter
from course_utils.testing import InvarianceReport


def _short(difference: float) -> str:
    if math.isinf(difference):
        return "all"
    return f"{100 * difference:.0f}%" if difference >= 0.1 else f"{100 * difference:.2g}%"


def invariance_picture(
    report: InvarianceReport, path: str | None = None, most: int = 10, numbered: bool = False
) -> Picture:
    """Draw what `batch_invariance` found on one path.

    Args:
        report: of at most 26 samples.
        path: "training", "evaluation" or "inference"; where None, the first on which something is
            wrong, else the first.
        most: the largest number of parameters to draw, the worst first.
        numbered: call samples by their numbers, as the printed report does, not by letters.
    Returns:
        Picture: SVG; a cell for each question and sample, with the size of the difference where
        there is one, and a bar for each parameter whose gradient was compared.
    Raises:
        ValueError: the report has no such path, or more samples than there are letters.
    """
    paths = list(dict.fromkeys(question.path for question in report.questions))
    wrong = [question.path for question in report.questions if not question]
    path = path or (wrong[0] if wrong else paths[0])
    if path not in paths:
        raise ValueError(f"path is {path!r}, but the report has {', '.join(paths)}: choose one.")
    if report.count > 26:
        raise ValueError(
            f"report is of {report.count} samples, but there are letters for 26: ask with fewer."
        )
    questions = [q for q in report.questions if q.path == path and q.name != "gradients"]
    gradients = [q for q in report.questions if q.path == path and q.name == "gradients"]
    # The wrong ones first, the worst at the top; the equal ones as the model has them, because
    # their rounding differs from machine to machine.
    bars = gradients[0].wrong | gradients[0].differences if gradients else {}
    left, cell, row = 240, 70, 34
    below = 30 + row * len(questions) + (58 + 24 * min(len(bars), most) if bars else 14)
    title = f"Does the batch change the answer? ({path})"
    caption = "one column per sample; a number is the largest change, relative to the largest value"
    canvas, top = sheet(title, caption, max(left + cell * report.count + 14, 720), below)

    def called(index: int) -> str:
        return f"sample {index}" if numbered else letter(index)

    for index in range(report.count):
        x = left + cell * index
        step_cell(canvas, x, top + 8, cell - 6, 16, index, called(index), small=True)
    top += 30

    def verdict(number: int, index: int, x: float, y: float, w: float, h: float) -> None:
        question = questions[number]
        if question.state in ("raises", "not asked"):
            canvas.rect(x, y, w, h, cls="ground")
            sign, cls = ("!", "strong") if question.state == "raises" else ("–", "muted")
            label(canvas, x, y, w, h, sign, cls)
        else:
            difference = question.wrong.get(index)
            sign = "=" if difference is None else f"≠ {_short(difference)}"
            verdict_cell(canvas, x, y, w, h, sign, wrong=difference is not None)

    names = [question.name for question in questions]
    grid(canvas, left, top, (cell, row), names, [""] * report.count, verdict, gap=6, cls="")
    said = []
    for question in questions:
        named = ", ".join(f"{called(i)} by {_short(d)}" for i, d in question.wrong.items())
        said.append(f"{question.name}: {named or question.state}.")
    if bars:
        y = top + row * len(questions) + 34
        canvas.text(14, y, "gradients, by parameter", "strong")
        full = canvas.width - left - 24
        for name, difference in islice(bars.items(), most):
            y += 24
            canvas.text(14, y + 4, name if len(name) <= 30 else f"…{name[-29:]}")
            equal = difference <= gradients[0].tolerance
            share = 0.0 if equal else min(difference, 1.0)
            canvas.rect(left, y - 9, full, 16, cls="ground")
            if not equal:
                canvas.rect(left, y - 9, max(full * share, 3), 16, fill=WRONG)
            text = "= equal" if equal else f"≠ {_short(difference)}"
            inside = share > 0.85
            x = left + full * share + (-8 if inside else 8)
            canvas.text(x, y + 4, text, "strong on" if inside else "", "end" if inside else "start")
        differ = gradients[0].wrong
        said.append(
            "gradients: "
            + (", ".join(f"{name} by {_short(d)}" for name, d in differ.items()) or "same")
            + "."
        )
    return canvas.picture(f"{path}, {report.count} samples. " + " ".join(said))
