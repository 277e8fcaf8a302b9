"""A PackedSequence, drawn three times."""

from __future__ import annotations

from collections.abc import Sequence

from course_utils.batches.packed import Layout
from course_utils.pictures.grid import WIDEST, grid, sheet, step_cell
from course_utils.pictures.svg import Canvas, Picture, arrange, letter

# In CSS pixels, from one cell to the next: two views of ten steps fit side by side.
_ACROSS, _DOWN, _GAP = 35, 34, 4
_LEFT = 38
_LINE = 60  # from one line of memory to the next


def packed_views(
    lengths: Sequence[int],
    layout: Layout,
    *,
    step: int,
    ids: Sequence[int] | None = None,
    in_sorted_order: bool = True,
    chosen: tuple[int, int] | None = None,
) -> Picture:
    """Draw a PackedSequence three times: padded, one column per step, and as it lies in memory.

    Args:
        lengths: B numbers of steps.
        layout: of the same lengths, from `packed.layout`; every number shown is read from it.
        step: the current time step, marked in yellow.
        ids: B numbers that give each sequence its letter and colour; 0 to B - 1 where None.
        in_sorted_order: whether the columns' rows are sorted by length, as torch packs them.
        chosen: (row, step) of the cell with a thick border.
    Returns:
        Picture: SVG of three parts.
    """
    T, B = max(lengths), len(lengths)
    ids = range(B) if ids is None else ids
    packed, places = layout
    batch_sizes, order = packed.batch_sizes.tolist(), packed.sorted_indices.tolist()
    total = len(packed.data)

    def draw_step(canvas: Canvas, row: int, t: int, x: float, y: float, w: float, h: float) -> None:
        name, is_chosen = f"{letter(ids[row])}{t}", chosen == (row, t)
        canvas.begin_pick(name, f"{name}, data[{int(places[row, t])}]", chosen=is_chosen)
        step_cell(canvas, x, y, w, h, ids[row], name, pale=t != step)
        if is_chosen:
            canvas.rect(x, y, w, h, cls="chosen")
        canvas.end_pick()

    def steps(
        title: str, caption: str, rows: Sequence[int], below: float, *, with_padding: bool
    ) -> tuple[Canvas, float]:
        width = max(_LEFT + T * _ACROSS + 12, 380)
        canvas, top = sheet(title, caption, width, 30 + _DOWN * B + below)
        canvas.rect(_LEFT - 2 + step * _ACROSS, top + 6, _ACROSS, 24 + _DOWN * B, cls="band")

        def cell(place: int, t: int, *where: float) -> None:
            if t < lengths[rows[place]]:
                draw_step(canvas, rows[place], t, *where)
            elif with_padding:
                canvas.padding(*where)

        names, columns = [letter(ids[row]) for row in rows], [f"t={t}" for t in range(T)]
        grid(canvas, _LEFT, top + 30, (_ACROSS, _DOWN), names, columns, cell, gap=_GAP)
        return canvas, top + 30

    caption = f"x: (B={B}, T={T}), {B * T} cells, {total} real ({total / (B * T):.0%})"
    padded, _ = steps("Padded batch", caption, range(B), 6, with_padding=True)

    rows, caption = range(B), "rows in the order given: no stairs"
    if in_sorted_order:
        rows, caption = order, f"sorted_indices = {order}"
    columns, top = steps("One column a step", caption, rows, 46, with_padding=False)
    for t, size in enumerate(batch_sizes):
        x, cls = _LEFT - 2 + t * _ACROSS, "strong" if t == step else "muted"
        columns.text(x + _ACROSS / 2, top + _DOWN * B + 18, str(size), cls, "middle")
        if in_sorted_order:
            stair = top - 2 + _DOWN * size
            columns.line(x, stair, x + _ACROSS, stair, "mark")
            if t and batch_sizes[t - 1] != size:
                columns.line(x, stair, x, top - 2 + _DOWN * batch_sizes[t - 1], "mark")
    words = "batch_sizes: sequences alive at step t"
    columns.text(_LEFT, top + _DOWN * B + 36, words, "muted small")

    per_line = 22
    memory, top = sheet(
        "packed.data, as it lies in memory",
        f"{total} steps, no padding stored",
        max(14 + min(per_line, total) * _ACROSS + 12, 380),
        8 + _LINE * -(-total // per_line),
    )
    for k, (row, t) in enumerate(packed.data.tolist()):
        x, y = 14 + k % per_line * _ACROSS, top + 18 + k // per_line * _LINE
        w, h = _ACROSS - _GAP, _DOWN - _GAP
        if t == step:
            memory.rect(x - 2, y - 15, _ACROSS, _LINE, cls="band")
        if k % per_line == 0 or t != int(packed.data[k - 1, 1]):
            memory.text(x + 2, y - 4, f"t={t}", "muted small")
        draw_step(memory, row, t, x, y, w, h)
        cls = "strong small" if chosen == (row, t) else "muted small"
        memory.text(x + w / 2, y + h + 12, str(k), cls, "middle")

    alive = batch_sizes[step]
    names = ", ".join(f"{letter(ids[row])} {length} steps" for row, length in enumerate(lengths))
    alt = f"{names}. batch_sizes {batch_sizes}, sorted_indices {order}. At step {step} of {T}, "
    alt += f"{alive} of {B} sequences are alive."
    pictures = [
        padded.picture(f"The padded batch. {alt}"),
        columns.picture(f"One column a step. {alt}"),
        memory.picture(f"The packed data in memory. {alt}"),
    ]
    if chosen:
        alt += f" Chosen: {letter(ids[chosen[0]])}{chosen[1]}, data[{int(places[chosen])}]."
    return arrange(pictures, alt, WIDEST)
