"""Drawn explanations of chapter 03: votes in a loss, batches in pieces, NaN's way back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from course_utils.pictures.grid import grid, label, sheet, step_cell, verdict_cell
from course_utils.pictures.svg import Canvas, Picture, color, letter


def _percent(share: float) -> str:
    return f"{100 * share:.2f}".rstrip("0").rstrip(".") + "%"


def votes(lengths: Sequence[int]) -> Picture:
    """Draw how much each step counts in a mean over real steps, and in one per sequence.

    Args:
        lengths: steps of each of up to 8 sequences, at least 1.
    Returns:
        Picture: SVG; two grids, a cell a step with its share of the loss, and beside each row the
            share of its sequence.
    """
    cell, row, left, bar = 46, 30, 44, 120
    T, total = max(lengths), sum(lengths)
    wide = left + cell * T + 16 + bar + 60
    ways = {
        "over real steps: each step has one vote": [1 / total for _ in lengths],
        "per sequence: each sequence has one vote": [1 / len(lengths) / n for n in lengths],
    }
    high = 44 + row * len(lengths) + 18
    canvas = Canvas(max(wide, 480), 14 + high * len(ways))
    said = []
    for number, (name, shares) in enumerate(ways.items()):
        top = 14 + high * number
        canvas.text(20, top + 18, name, "strong")

        def draw(
            index: int, step: int, x: float, y: float, w: float, h: float, shares=shares
        ) -> None:
            if step < lengths[index]:
                step_cell(canvas, x, y, w, h, index, _percent(shares[index]), small=True)
            else:
                canvas.padding(x, y, w, h)
            if step == T - 1:  # and the bar of the whole sequence
                whole = shares[index] * lengths[index]
                canvas.rect(x + cell + 12, y + 3, bar * whole, h - 6, fill=color(index))
                canvas.text(x + cell + 20 + bar * whole, y + 17, _percent(whole))

        names = [letter(index) for index in range(len(lengths))]
        grid(canvas, left, top + 32, (cell, row), names, [""] * T, draw)
        rows = ", ".join(
            f"{letter(i)} {_percent(share * length)} ({_percent(share)} a step)"
            for i, (length, share) in enumerate(zip(lengths, shares, strict=True))
        )
        said.append(f"{name}: {rows}.")
    return canvas.picture("Shares of the loss. " + " ".join(said))


def accumulation(micro_batches: Sequence[Sequence[int]]) -> Picture:
    """Draw what one word counts for in each micro-batch: with means of means, with one divisor.

    Args:
        micro_batches: for each, the words of its texts.
    Returns:
        Picture: SVG; a row a micro-batch with its words as squares, and two bars: the share of
            one word in the whole gradient, where the means are averaged, and where the sums are
            divided once by all words.
    """
    counts = [sum(texts) for texts in micro_batches]
    total, most = sum(counts), max(counts)
    means = [1 / len(counts) / count for count in counts]
    size, row, left = max(5, min(16, 300 // most)), 44, 110
    middle = left + size * most + 30
    bar = 150 / max(*means, 1 / total)
    title = "One word's share of the gradient"
    canvas, top = sheet(title, "", middle + 2 * 230, 28 + row * len(counts) + 14)
    canvas.text(20, top + 18, "micro-batch", "muted")
    canvas.text(middle, top + 18, "means, averaged", "strong")
    canvas.text(middle + 230, top + 18, "sums, divided once", "strong")
    said, first = [], 0
    for number, texts in enumerate(micro_batches):
        y = top + 28 + row * number
        canvas.text(20, y + 22, f"{counts[number]} words")
        x = left
        for index, words in enumerate(texts):
            for _ in range(words):
                canvas.rect(x, y + 8, size - 1, 18, fill=color(first + index))
                x += size
        first += len(texts)
        for start, share in ((middle, means[number]), (middle + 230, 1 / total)):
            canvas.rect(start, y + 8, bar * share, 18, cls="bar")
            canvas.text(start + bar * share + 8, y + 22, f"{100 * share:.1f}%")
        said.append(f"{counts[number]} words: {100 * means[number]:.1f}%")
    return canvas.picture(
        "One word's share of the gradient where the means of the micro-batches are averaged: "
        f"{', '.join(said)}. Where all sums are divided once: {100 / total:.1f}% everywhere."
    )


def way_back(
    stages: Mapping[str, tuple[Sequence[float], Sequence[float]]], rows: Sequence[str], title: str
) -> Picture:
    """Draw values on their way to the loss, and gradients on their way back, a row per step.

    Args:
        stages: name -> its values and their gradients, one a row; in the order of computation.
        rows: what each row is.
        title: above it.
    Returns:
        Picture: SVG; a value above the arrow to the right, its gradient above the arrow to the
            left; NaN is red and says so.
    """

    def number(value: float) -> str:
        return "NaN" if math.isnan(value) else f"{value:.2f}".rstrip("0").rstrip(".")

    wide, high, left = 180, 92, 140
    canvas, heading = sheet(title, "", left + wide * len(stages) + 20, 38 + high * len(rows) + 8)
    for column, name in enumerate(stages):
        canvas.text(left + wide * column + 60, heading + 24, name, "strong", "middle")
    said = []
    for index, row in enumerate(rows):
        y = heading + 36 + high * index
        canvas.text(20, y + 34, row, "strong")
        for column, (values, gradients) in enumerate(stages.values()):
            x = left + wide * column
            for place, (kind, one) in enumerate(
                {"value": values[index], "gradient": gradients[index]}.items()
            ):
                top = y + 4 + 40 * place
                if math.isnan(one):
                    verdict_cell(canvas, x, top, 120, 32, f"✗ {kind} NaN", wrong=True)
                else:
                    canvas.rect(x, top, 120, 32, cls="ground")
                    label(canvas, x, top, 120, 32, f"{kind} {number(one)}")
                if column + 1 < len(stages):
                    canvas.text(x + 150, top + 22, "←" if place else "→", "strong", "middle")
        said.append(
            f"{row}: "
            + ", ".join(
                f"{name} {number(values[index])} with gradient {number(gradients[index])}"
                for name, (values, gradients) in stages.items()
            )
        )
    return canvas.picture(f"{title}. {'; '.join(said)}.")
