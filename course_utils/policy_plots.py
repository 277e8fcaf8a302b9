"""An epoch of batches as a skyline: what each runs, and how much of it is padding."""

from __future__ import annotations

from collections.abc import Sequence

from course_utils.sampling import Epoch
from course_utils.svg import PALETTE, Canvas, Picture


def skyline(cells: Sequence[int], real: Sequence[int], found: Epoch, title: str) -> Picture:
    """Draw the batches of an epoch in the order of training, a column each.

    Args:
        cells: padded steps of each batch, B * T.
        real: real steps of each batch.
        found: what the epoch was found to be.
        title: the heading.
    Returns:
        Picture: SVG; the height of a column is its padded steps, the coloured part is real.
    """
    canvas = Canvas(820, 330)
    canvas.text(14, 28, title, "title")
    canvas.text(14, 50, "one column a batch, in the order of training; hatched: padding", "muted")
    left, bottom, width, height = 64, 300, 500, 220
    # Square roots: one batch of one long text would else flatten all the others.
    scale = height / max(max(cells), 4096) ** 0.5
    for steps in (256, 1024, 4096, 16384):
        y = bottom - scale * steps**0.5
        if y > bottom - height - 1:
            canvas.line(left, y, left + width, y)
            canvas.text(left - 6, y + 4, f"{steps:,}", "muted small", "end")
    step = width / len(cells)
    for place, (padded, kept) in enumerate(zip(cells, real, strict=True)):
        x, tall, full = left + place * step, scale * padded**0.5, scale * kept**0.5
        canvas.padding(x, bottom - tall, max(step - 1, 1), tall)
        canvas.rect(x, bottom - full, max(step - 1, 1), full, fill=PALETTE[0])
    facts = {
        "fill": f"{found.fill:.0%}",
        "batches an epoch": f"{found.batches}",
        "largest batch, padded steps": f"{found.largest:,}",
        "met again": f"{found.met_again:.0%}",
        "place and length correlate by": f"{found.correlation:+.2f}",
    }
    for row, (name, value) in enumerate(facts.items()):
        canvas.text(590, 84 + 44 * row, name, "muted")
        canvas.text(590, 103 + 44 * row, value, "strong")
    alt = f"{title}: " + "; ".join(f"{name} {value}" for name, value in facts.items()) + "."
    return canvas.picture(alt)
