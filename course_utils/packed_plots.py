"""The PackedSequence explorer's pictures."""

from __future__ import annotations

from collections.abc import Sequence

from course_utils.packed import Layout
from course_utils.svg import Canvas, Picture, arrange, color, letter

# In CSS pixels: from one cell to the next, and a cell. Two views of ten steps fit side by side.
_ACROSS, _DOWN = 35, 34
_WIDTH, _HEIGHT = 31, 30


def _draw_cell(
    canvas: Canvas,
    x: float,
    y: float,
    id: int,
    step: int,
    place: int,
    *,
    active: bool,
    chosen: bool,
) -> None:
    name = f"{letter(id)}{step}"
    canvas.begin_pick(name, f"{name}, data[{place}]", chosen=chosen)
    canvas.rect(x, y, _WIDTH, _HEIGHT, fill=color(id), opacity=1 if active else 0.22)
    canvas.text(x + _WIDTH / 2, y + 20, name, "strong on" if active else "", "middle")
    if chosen:
        canvas.rect(x, y, _WIDTH, _HEIGHT, cls="chosen")
    canvas.end_pick()


def packed_explorer(
    lengths: Sequence[int],
    layout: Layout,
    *,
    step: int,
    ids: Sequence[int] | None = None,
    in_sorted_order: bool = True,
    chosen: tuple[int, int] | None = None,
) -> Picture:
    """Draw a PackedSequence three times: padded, one column a step, and as it lies in memory.

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

    def grid(title: str, caption: str, rows: Sequence[int], with_padding: bool) -> Canvas:
        canvas = Canvas(
            max(46 + T * _ACROSS + 12, 380), 84 + _DOWN * B + (0 if with_padding else 44)
        )
        canvas.text(14, 26, title, "title")
        canvas.text(14, 48, caption, "muted")
        canvas.rect(44 + step * _ACROSS, 58, _ACROSS, 26 + _DOWN * B, cls="band")
        for t in range(T):
            canvas.text(46 + t * _ACROSS + _WIDTH / 2, 76, f"t={t}", "muted small", "middle")
        for place, row in enumerate(rows):
            y = 84 + _DOWN * place
            canvas.text(24, y + 20, letter(ids[row]), "strong", "middle")
            for t in range(T):
                if t < lengths[row]:
                    k = int(places[row, t])
                    active = t == step
                    where = (46 + t * _ACROSS, y, ids[row], t, k)
                    _draw_cell(canvas, *where, active=active, chosen=chosen == (row, t))
                elif with_padding:
                    canvas.padding(46 + t * _ACROSS, y, _WIDTH, _HEIGHT)
        return canvas

    padded = grid(
        "Padded batch",
        f"x: (B={B}, T={T}), {B * T} cells, {total} real ({total / (B * T):.0%})",
        range(B),
        True,
    )
    rows = order if in_sorted_order else list(range(B))
    columns = grid(
        "One column a step",
        f"sorted_indices = {order}" if in_sorted_order else "rows in the order given: no stairs",
        rows,
        False,
    )
    bottom = 84 + _DOWN * B
    for t, size in enumerate(batch_sizes):
        x = 44 + t * _ACROSS
        columns.text(
            x + _ACROSS / 2, bottom + 20, str(size), "strong" if t == step else "muted", "middle"
        )
        if in_sorted_order:
            stair = 82 + _DOWN * size
            columns.line(x, stair, x + _ACROSS, stair, "mark")
            if t and batch_sizes[t - 1] != size:
                columns.line(x, stair, x, 82 + _DOWN * batch_sizes[t - 1], "mark")
    columns.text(46, bottom + 38, "batch_sizes: sequences alive at step t", "muted small")

    per_row = 22
    width = max(14 + min(per_row, total) * _ACROSS + 12, 380)
    memory = Canvas(width, 62 + 70 * -(-total // per_row))
    memory.text(14, 26, "packed.data, as it lies in memory", "title")
    memory.text(14, 48, f"{total} steps, no padding stored", "muted")
    for k, (row, t) in enumerate(packed.data.tolist()):
        x, y = 14 + k % per_row * _ACROSS, 78 + k // per_row * 70
        if t == step:
            memory.rect(x - 2, y - 18, _ACROSS, 68, cls="band")
        if k % per_row == 0 or t != int(packed.data[k - 1, 1]):
            memory.text(x + 2, y - 5, f"t={t}", "muted small")
        is_chosen = chosen == (row, t)
        _draw_cell(memory, x, y, ids[row], t, k, active=t == step, chosen=is_chosen)
        strong = "strong small" if is_chosen else "muted small"
        memory.text(x + _WIDTH / 2, y + 44, str(k), strong, "middle")

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
    return arrange(pictures, alt, 820)
