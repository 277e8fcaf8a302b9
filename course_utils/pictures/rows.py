"""Rows that fill up, and the mask of one of them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from course_utils.pictures.grid import WIDEST, grid, label, sheet, step_cell, text_width
from course_utils.pictures.svg import Picture, arrange, color, ink, letter


def _cell(capacity: int) -> int:
    """The size of a step, so that rows of T = `capacity` and their mask stand side by side."""
    return min(20, (WIDEST - 150) // (2 * capacity))


def _lines_of(indices: Sequence[int], lengths: Sequence[int], room: float) -> list[list[int]]:
    """Break sequences into lines of at most `room` steps, a gap of one step after each."""
    lines, used = [[]], 0
    for index in indices:
        if used + lengths[index] + 1 > room and lines[-1]:
            lines.append([])
            used = 0
        lines[-1].append(index)
        used += lengths[index] + 1
    return lines


def filling(
    lengths: Sequence[int],
    waiting: Sequence[int],
    rows: Sequence[Sequence[int]],
    capacity: int,
    chosen: int,
    facts: Sequence[str],
) -> Picture:
    """Draw the rows so far, and the sequences that wait.

    Args:
        lengths: steps of each sequence.
        waiting: indices of the sequences that are in no row yet, the next one first.
        rows: the indices of the sequences in each row, of at least one row.
        capacity: T, steps of a row.
        chosen: the row that is marked; each can be picked.
        facts: lines to stand under the rows.
    Returns:
        Picture: SVG.
    """
    size = _cell(capacity)
    width = max(60 + capacity * size, 330, *(28 + text_width(fact, "strong") for fact in facts))
    lines = _lines_of(waiting, lengths, (width - 28) // size)
    caption = "waiting, the next one first" if waiting else "none is waiting"
    # Closer together where there are many, so that all of it stays on the screen.
    many = len(lines) + len(rows)
    line_pitch, pitch = (28, 32) if many <= 9 else (24, 27) if many <= 13 else (24, 25)
    below = line_pitch * len(lines) + 34 + pitch * len(rows) + 12 + 20 * len(facts)
    canvas, top = sheet(f"Rows of T = {capacity} steps", caption, width, below)

    def block(index: int, x: float, y: float, *, pale: bool) -> None:
        wide = lengths[index] * size - 2
        name = f"{letter(index)} {lengths[index]}" if lengths[index] > 1 else letter(index)
        step_cell(canvas, x, y, wide, 22, index, name, pale=pale, small=True)

    for row, line in enumerate(lines):
        x = 14.0
        for index in line:
            block(index, x, top + 6 + line_pitch * row, pale=index != waiting[0])
            x += (lengths[index] + 1) * size
    top += line_pitch * len(lines) + 34
    canvas.text(14, top - 12, "click a row, or press Enter on it, to see its mask", "muted hint")
    names = [" ".join(f"{letter(index)} {lengths[index]}" for index in inside) for inside in rows]
    for row, inside in enumerate(rows):
        y, x = top + pitch * row, 44.0
        canvas.text(30, y + 16, str(row), "strong", "middle")
        free = capacity - sum(lengths[index] for index in inside)
        spoken = f"row {row}: {names[row]}; steps free: {free}"
        canvas.begin_pick(str(row), spoken, chosen=row == chosen)
        # Under the blocks, so that a click into the gap between two of them is on the row.
        canvas.rect(44, y, capacity * size - 2, 22, cls="ground")
        for index in inside:
            block(index, x, y, pale=False)
            x += lengths[index] * size
        canvas.padding(x, y, 44 + capacity * size - x - 2, 22)
        if row == chosen:
            canvas.rect(42, y - 2, capacity * size + 2, 26, cls="chosen")
        canvas.end_pick()
    for line, fact in enumerate(facts):
        canvas.text(14, top + pitch * len(rows) + 14 + 20 * line, fact, "strong")
    count = "1 row" if len(rows) == 1 else f"{len(rows)} rows"
    alt = f"{count} of {capacity} steps: {'; '.join(names)}. "
    alt += f"Waiting: {', '.join(map(letter, waiting)) or 'none'}. " + ". ".join(facts) + "."
    return canvas.picture(alt)


def row_mask(attend: Tensor, document_id: Tensor, positions: Tensor, row: int) -> Picture:
    """Draw which step of a row attends to which, and the positions that the steps are given.

    Args:
        attend: (T, T) bool, True = attend; queries down, keys to the right.
        document_id: (T,) the index of the sequence of each step, -1 at padding; not all padding.
        positions: (T,) the position that each step is given.
        row: its number, for the heading.
    Returns:
        Picture: SVG; a pair of steps of two sequences is outlined.
    """
    documents, given, T = document_id.tolist(), positions.tolist(), len(document_id)
    size, left = _cell(T), 66
    names = [letter(document) if document >= 0 else "–" for document in documents]
    title = f"Who attends to whom in row {row}"
    caption = "queries down, keys to the right"
    canvas, top = sheet(title, caption, left + T * size + 10, 40 + T * size + 48)
    canvas.text(left - 8, top + 14, "position", "muted small", "end")
    for step, document in enumerate(documents):
        if document >= 0:
            x = left + step * size + size / 2 - 1
            canvas.text(x, top + 14, str(given[step]), "small", "middle")
    crossing = pairs = 0

    def pair(query: int, key: int, x: float, y: float, w: float, h: float) -> None:
        nonlocal crossing, pairs
        mine, theirs = documents[query], documents[key]
        real = mine >= 0 and theirs >= 0
        if not real:
            canvas.padding(x, y, w, h)
        elif attend[query, key]:
            canvas.rect(x, y, w, h, fill=color(mine))
            pairs += 1
        else:
            canvas.rect(x, y, w, h, cls="ground")
        if real and attend[query, key] and mine != theirs:
            canvas.rect(x + 1.5, y + 1.5, w - 3, h - 3, fill="none", cls="mark")
            crossing += 1
        if attend[query, key]:
            label(canvas, x, y, w, h, "1", f"small {ink(mine)}" if real else "small")

    grid(canvas, left, top + 40, (size, size), names, names, pair, gap=2)
    fact = f"{crossing} of {pairs} pairs are of two sequences"
    canvas.text(14, top + 40 + T * size + 18, fact, "strong")
    canvas.text(14, top + 40 + T * size + 36, "outlined: a pair of two sequences", "muted")
    real = " ".join(str(p) for p, document in zip(given, documents, strict=True) if document >= 0)
    alt = f"Row {row} is {''.join(names)}; positions {real}; {fact}."
    return canvas.picture(alt)


def beside(left: Picture, right: Picture) -> Picture:
    """Put the rows and the mask side by side, where there is room."""
    return arrange([left, right], f"{left.alt} {right.alt}", left.width + right.width)
