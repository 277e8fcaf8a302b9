"""Rows that fill up, and the mask of one of them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from course_utils.svg import Canvas, Picture, arrange, color, letter

_CELL = 20


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
        waiting: numbers of the sequences that are in no row yet, the next one first.
        rows: the numbers of the sequences in each row, of at least one row.
        capacity: T, steps of a row.
        chosen: the row that is marked; each can be picked.
        facts: lines to stand under the rows.
    Returns:
        Picture: SVG.
    """
    width = max(60 + capacity * _CELL, 330)
    per_line = (width - 28) // _CELL
    lines, used = [[]], 0
    for index in waiting:
        if used + lengths[index] + 1 > per_line:
            lines.append([])
            used = 0
        lines[-1].append(index)
        used += lengths[index] + 1
    top = 92 + 28 * len(lines)
    canvas = Canvas(width, top + 34 * len(rows) + 20 + 20 * len(facts))
    canvas.text(14, 26, f"Rows of T = {capacity} steps", "title")
    canvas.text(14, 50, "waiting, the next one first" if waiting else "none is waiting", "muted")

    def block(index: int, x: float, y: float, pale: bool) -> None:
        wide = lengths[index] * _CELL - 2
        canvas.rect(x, y, wide, 22, fill=color(index), opacity=0.22 if pale else 1)
        text = f"{letter(index)} {lengths[index]}" if lengths[index] > 1 else letter(index)
        canvas.text(x + wide / 2, y + 16, text, "small" if pale else "small on", "middle")

    for row, line in enumerate(lines):
        x = 14.0
        for index in line:
            block(index, x, 58 + 28 * row, index != waiting[0])
            x += (lengths[index] + 1) * _CELL
    canvas.text(14, top - 10, "click a row, or press Enter on it, to see its mask", "muted hint")
    names = [" ".join(f"{letter(index)} {lengths[index]}" for index in inside) for inside in rows]
    for row, inside in enumerate(rows):
        y, x = top + 34 * row, 44.0
        canvas.text(30, y + 16, str(row), "strong", "middle")
        free = capacity - sum(lengths[index] for index in inside)
        label = f"row {row}: {names[row]}; steps free: {free}"
        canvas.begin_pick(str(row), label, chosen=row == chosen)
        # Under the blocks, so that a click into the gap between two of them is on the row.
        canvas.rect(44, y, capacity * _CELL - 2, 22, cls="ground")
        for index in inside:
            block(index, x, y, False)
            x += lengths[index] * _CELL
        canvas.padding(x, y, 44 + capacity * _CELL - x - 2, 22)
        if row == chosen:
            canvas.rect(41, y - 3, capacity * _CELL + 4, 28, cls="chosen")
        canvas.end_pick()
    for line, fact in enumerate(facts):
        canvas.text(14, canvas.height - 14 - 20 * (len(facts) - 1 - line), fact, "strong")
    count = "1 row" if len(rows) == 1 else f"{len(rows)} rows"
    alt = f"{count} of {capacity} steps: {'; '.join(names)}. "
    alt += f"Waiting: {', '.join(map(letter, waiting)) or 'none'}. " + ". ".join(facts) + "."
    return canvas.picture(alt)


def row_mask(attend: Tensor, document_id: Tensor, positions: Tensor, row: int) -> Picture:
    """Draw which step of a row attends to which, and the positions that the steps are given.

    Args:
        attend: (T, T) bool, True = attend; queries down, keys to the right.
        document_id: (T,) the number of the sequence of each step, -1 at padding; not all padding.
        positions: (T,) the position that each step is given.
        row: its number, for the heading.
    Returns:
        Picture: SVG; a pair of steps of two sequences is outlined.
    """
    documents, T = document_id.tolist(), len(document_id)
    canvas = Canvas(max(72 + T * _CELL, 330), 158 + T * _CELL)
    canvas.text(14, 26, f"Who attends to whom in row {row}", "title")
    canvas.text(14, 50, "queries down, keys to the right", "muted")
    canvas.text(50, 76, "position", "muted small", "end")
    crossing = pairs = 0
    for step, (mine, place) in enumerate(zip(documents, positions.tolist(), strict=True)):
        middle, name = 58 + (step + 0.5) * _CELL - 1, letter(mine) if mine >= 0 else "–"
        if mine >= 0:
            canvas.text(middle, 76, str(place), "small", "middle")
        canvas.text(middle, 96, name, "strong" if mine >= 0 else "muted", "middle")
        y = 102 + step * _CELL
        canvas.text(50, y + 14, name, "strong" if mine >= 0 else "muted", "end")
        for key, theirs in enumerate(documents):
            x, size = 58 + key * _CELL, _CELL - 2
            if mine < 0 or theirs < 0:
                canvas.padding(x, y, size, size)
            else:
                canvas.rect(x, y, size, size, cls="ground")
            if not attend[step, key]:
                continue
            real = mine >= 0 and theirs >= 0
            if real:
                canvas.rect(x, y, size, size, fill=color(mine))
                pairs += 1
            if real and mine != theirs:
                canvas.rect(x + 1.5, y + 1.5, size - 3, size - 3, fill="none", cls="mark")
                crossing += 1
            canvas.text(x + size / 2, y + 13, "1", "small on" if real else "small", "middle")
    fact = f"{crossing} of {pairs} pairs are of two sequences"
    canvas.text(14, 102 + T * _CELL + 24, fact, "strong")
    canvas.text(14, 102 + T * _CELL + 44, "outlined: a pair of two sequences", "muted")
    names = "".join(letter(one) if one >= 0 else "–" for one in documents)
    given = " ".join(
        str(p) for p, one in zip(positions.tolist(), documents, strict=True) if one >= 0
    )
    alt = f"Row {row} is {names}; positions {given}; {fact}."
    return canvas.picture(alt)


def beside(left: Picture, right: Picture) -> Picture:
    """Put the rows and the mask side by side, where there is room."""
    return arrange([left, right], f"{left.alt} {right.alt}", left.width + right.width)
