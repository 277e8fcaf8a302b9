"""Flat batches beside padded ones and rows, what looks at what, and what PyTorch can do there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from course_utils.pictures.charts import figure
from course_utils.pictures.grid import (
    WIDEST,
    WRONG,
    grid,
    label,
    sheet,
    step_cell,
    text_width,
    verdict_cell,
)
from course_utils.pictures.svg import PALETTE, Canvas, Picture, arrange, color, letter

_CELL = 22
_STATES = ("right", "wrong", "refused", "not asked")


def _names(document_id: Sequence[int]) -> str:
    return "".join(letter(document) if document >= 0 else "–" for document in document_id)


def _steps(
    canvas: Canvas, x: float, y: float, documents: Sequence[int], chosen: tuple[int, int] | None
) -> None:
    """Draw a line of steps; each can be picked by its sequence and its place in it."""
    places: dict[int, int] = {}
    for column, document in enumerate(documents):
        left, size = x + column * _CELL, _CELL - 2
        if document < 0:
            canvas.padding(left, y, size, size)
            continue
        place = places[document] = places.get(document, -1) + 1
        name = f"{letter(document)}{place}"
        canvas.begin_pick(name, name, chosen=chosen == (document, place))
        step_cell(canvas, left, y, size, size, document, letter(document), small=True)
        if chosen == (document, place):
            canvas.rect(left, y, size, size, cls="chosen")
        canvas.end_pick()


def rectangle(
    title: str, document_id: Tensor, chosen: tuple[int, int] | None, facts: Sequence[str]
) -> Picture:
    """Draw a padded batch, or rows filled with several sequences.

    Args:
        title: its name.
        document_id: (R, T) whose step it is, -1 at padding.
        chosen: (sequence, step) of the cell with a thick border.
        facts: lines to stand under it.
    Returns:
        Picture: SVG.
    """
    R, T = document_id.shape
    width = max(28 + T * _CELL, *(28 + text_width(fact, "strong") for fact in facts))
    canvas, top = sheet(title, "", width, 16 + R * (_CELL + 4) + 20 * len(facts) + 8)
    for row, documents in enumerate(document_id.tolist()):
        _steps(canvas, 14, top + 10 + row * (_CELL + 4), documents, chosen)
    for line, fact in enumerate(facts):
        y = top + 10 + R * (_CELL + 4) + 16 + 20 * line
        canvas.text(14, y, fact, "muted" if line else "strong")
    rows = ", ".join(map(_names, document_id.tolist()))
    return canvas.picture(f"{title}: {rows}. {'. '.join(facts)}.")


def flat_line(
    cu_seqlens: Tensor,
    document_id: Tensor,
    positions: Tensor,
    chosen: tuple[int, int] | None,
    facts: Sequence[str],
) -> Picture:
    """Draw a flat batch with the positions above its steps and `cu_seqlens` at its borders.

    Args:
        cu_seqlens: (B + 1,).
        document_id, positions: (S,).
        chosen: (sequence, step) of the cell with a thick border.
        facts: lines to stand under it.
    Returns:
        Picture: SVG.
    """
    canvas, top = sheet("Flat batch", "", WIDEST, 100 + 20 * len(facts))
    left = 110
    canvas.text(left - 10, top + 20, "positions", "muted small", "end")
    canvas.text(left - 10, top + 78, "cu_seqlens", "muted small", "end")
    for place, position in enumerate(positions.tolist()):
        canvas.text(left + (place + 0.5) * _CELL - 1, top + 20, str(position), "small", "middle")
    _steps(canvas, left, top + 28, document_id.tolist(), chosen)
    for border in cu_seqlens.tolist():
        x = left - 1 + border * _CELL
        canvas.line(x, top + 24, x, top + 64, "mark")
        canvas.text(x, top + 78, str(border), "strong small", "middle")
    for line, fact in enumerate(facts):
        canvas.text(14, top + 106 + 20 * line, fact, "muted" if line else "strong")
    alt = f"Flat batch: {_names(document_id.tolist())}; cu_seqlens {cu_seqlens.tolist()}; "
    alt += f"positions {' '.join(map(str, positions.tolist()))}. {'. '.join(facts)}."
    return canvas.picture(alt)


def pairs_grid(pairs: Tensor, document_id: Tensor, title: str, caption: str) -> Picture:
    """Draw which step takes something from which: an attention mask, or a layer's reach.

    Args:
        pairs: (S, S) bool; the step that takes runs down, the step it takes from to the right.
        document_id: (S,) whose step it is.
        title, caption: what it is, and how to read it.
    Returns:
        Picture: SVG; a pair of two sequences has the colour of what is wrong, and a cross in it.
    """
    documents, S = document_id.tolist(), len(document_id)
    size = min(18, 300 // S)
    within = across = 0

    def pair(step: int, source: int, x: float, y: float, w: float, h: float) -> None:
        nonlocal within, across
        if not pairs[step, source]:
            canvas.rect(x, y, w, h, cls="ground")
        elif documents[step] == documents[source]:
            canvas.rect(x, y, w, h, fill=color(documents[step]))
            within += 1
        else:
            canvas.rect(x, y, w, h, fill=WRONG)
            label(canvas, x, y, w, h, "×", "small on")
            across += 1

    widest = text_width(f"{S * S} pairs within a sequence", "strong")
    canvas, top = sheet(title, caption, max(44 + S * size, 28 + widest), 78 + S * size)
    names = list(map(letter, documents))
    grid(canvas, 36, top + 26, (size, size), names, names, pair, gap=2, cls="strong small")
    facts = [f"{within} pairs within a sequence", f"{across} across a border"]
    for line, fact in enumerate(facts):
        canvas.text(14, top + 44 + S * size + 18 * line, fact, "strong")
    return canvas.picture(f"{title}. Steps {''.join(names)}: {', '.join(facts)}.")


def weight_bars(weights: Mapping[str, Tensor], document_id: Tensor) -> Picture:
    """Draw weights over a flat batch as bars, and what they add up to in each sequence.

    Args:
        weights: name -> (S,) numbers from 0 to 1.
        document_id: (S,) whose step it is.
    Returns:
        Picture: SVG; a line of bars for each name.
    """
    documents, S = document_id.tolist(), len(document_id)
    cell, tall, pitch = 30, 70, 140
    caption = "one bar a step; under each sequence, what its weights add up to"
    canvas, top = sheet("Weights", caption, 28 + S * cell, pitch * len(weights))
    said = []
    for line, (name, values) in enumerate(weights.items()):
        base = top + pitch * line + 28 + tall
        canvas.text(14, base - tall - 8, name, "strong")
        for step, (document, value) in enumerate(zip(documents, values.tolist(), strict=True)):
            x = 14 + step * cell
            canvas.rect(x, base - tall, cell - 3, tall, cls="ground")
            canvas.rect(x, base - tall * value, cell - 3, tall * value, fill=color(document))
            canvas.text(x + cell / 2 - 1.5, base + 14, letter(document), "small", "middle")
        sums = []
        for document in dict.fromkeys(documents):
            inside = [step for step in range(S) if documents[step] == document]
            total = sum(values[step].item() for step in inside)
            left, right = 14 + inside[0] * cell, 14 + (inside[-1] + 1) * cell - 3
            canvas.line(left, base + 19, right, base + 19, "mark")
            canvas.text((left + right) / 2, base + 33, f"{total:.2f}", "strong small", "middle")
            sums.append(f"{letter(document)} {total:.2f}")
        said.append(f"{name}: the weights add up to {', '.join(sums)}")
    return canvas.picture(f"Weights. {'. '.join(said)}.")


def capability_table(table: Mapping[str, Mapping[str, str]], title: str) -> Picture:
    """Draw what was tried, line by line, and whether it came out right.

    Args:
        table: what was tried -> question -> "right", "wrong", "refused" or "not asked".
        title: of the table, with version and device.
    Returns:
        Picture: SVG.
    Raises:
        ValueError: a state is none of these four.
    """
    for name, row in table.items():
        for question, state in row.items():
            if state not in _STATES:
                raise ValueError(
                    f"table[{name!r}][{question!r}] is {state!r}: give one of {', '.join(_STATES)}."
                )
    questions = list(dict.fromkeys(question for row in table.values() for question in row))
    left = 28 + max(text_width(name) for name in table)
    wide = max(90, *(text_width(question, "small") + 8 for question in questions))
    height = 40 + 34 * len(table)
    canvas, top = sheet(title, "", left + wide * len(questions) + 14, height)

    def answer(line: int, column: int, x: float, y: float, w: float, h: float) -> None:
        state = list(table.values())[line].get(questions[column], "not asked")
        if state in ("right", "wrong"):
            sign = "=" if state == "right" else "≠"
            verdict_cell(canvas, x, y, w, h, f"{sign} {state}", wrong=state == "wrong")
        else:
            canvas.rect(x, y, w, h, cls="ground")
            label(canvas, x, y, w, h, "– refused" if state == "refused" else "", "muted")

    grid(canvas, left, top + 30, (wide, 34), list(table), questions, answer, gap=6, cls="")
    said = [
        f"{name}: " + ", ".join(f"{question} {state}" for question, state in row.items())
        for name, row in table.items()
    ]
    return canvas.picture(f"{title}. {'. '.join(said)}.")


def block_grid(blocks: Tensor, size: int, title: str) -> Picture:
    """Draw which blocks of an attention mask are computed, and which are skipped.

    Args:
        blocks: (Q, K) integers: 0 skipped, 1 partly hidden, 2 nothing hidden.
        size: steps of a block.
        title: what mask it is.
    Returns:
        Picture: SVG.
    """
    cell = 40
    Q, K = blocks.shape
    caption = f"blocks of {size} by {size} steps"
    canvas, top = sheet(title, caption, 44 + K * cell, 56 + Q * cell)

    def block(row: int, column: int, x: float, y: float, w: float, h: float) -> None:
        kind = int(blocks[row, column])
        if kind == 0:
            canvas.rect(x, y, w, h, cls="ground")
        else:
            canvas.rect(x, y, w, h, fill=PALETTE[0], opacity=1 if kind == 2 else 0.3)
            label(
                canvas, x, y, w, h, ("part", "full")[kind - 1], "small on" if kind == 2 else "small"
            )

    grid(canvas, 30, top + 14, (cell, cell), [""] * Q, [""] * K, block, gap=3)
    counts = [int((blocks == kind).sum()) for kind in (0, 1, 2)]
    fact = f"{counts[0]} of {blocks.numel()} blocks skipped"
    canvas.text(14, top + 14 + Q * cell + 22, fact, "strong")
    alt = f"{title}: {fact}, {counts[1]} computed with the mask, {counts[2]} without."
    return canvas.picture(alt)


def limits_chart(
    table: Mapping[str, Mapping[str, float]], limits: Sequence[str], alt: str
) -> Picture:
    """Draw speeds beside their limits, one row per batch.

    Args:
        table: batch -> name -> ratio; above 1 is faster than padded.
        limits: the names among them that are limits; they are drawn as strokes.
        alt: what a reader sees.
    Returns:
        Picture: PNG.
    """
    import matplotlib.pyplot as plt

    names = list(next(iter(table.values())))
    fig, axis = plt.subplots(figsize=(8.5, 0.55 * len(table) + 1.3), layout="constrained")
    for number, name in enumerate(names):
        x = np.array([row[name] for row in table.values()])
        if name in limits:
            look = {"marker": "|", "s": 420, "linewidths": 2.5}
            look["color"] = ("#1f2328", "#8c959f")[list(limits).index(name) % 2]
        else:
            look = {"marker": "oD^s"[number % 4], "s": 60, "color": PALETTE[number]}
        axis.scatter(x, range(len(table)), label=name, zorder=3, **look)
    axis.set_yticks(range(len(table)), list(table))
    axis.set_ylim(len(table) - 0.4, -0.6)
    axis.set_xscale("log")
    values = [value for row in table.values() for value in row.values()]
    ends = min(*values, 1) / 1.3, max(values) * 1.3
    ticks = [2.0**power for power in range(-5, 8) if ends[0] <= 2.0**power <= ends[1]]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_xlim(*ends)
    axis.minorticks_off()
    axis.axvline(1, color="black", linewidth=1)
    axis.set(xlabel="times as fast as padded")
    axis.grid(axis="x", alpha=0.4)
    fig.legend(loc="outside upper center", ncols=len(names), markerscale=0.7, frameon=False)
    return figure(fig, alt)


def in_a_line(pictures: Sequence[Picture]) -> Picture:
    """Put pictures side by side as far as there is room, and then into a new line."""
    return arrange(pictures, " ".join(picture.alt for picture in pictures), WIDEST)
