"""An epoch of batches as a skyline: what each runs, and how much of it is padding."""

from __future__ import annotations

from collections.abc import Sequence

from course_utils.batches.sampling import Epoch
from course_utils.pictures.grid import WIDEST, sheet
from course_utils.pictures.svg import PALETTE, Picture


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
    left, width, height = 64, 500, 230
    caption = "one column a batch, in the order of training; hatched: padding"
    canvas, top = sheet(title, caption, WIDEST, height + 40)
    bottom = top + 18 + height
    # From 0 up and straight, so that an area is what is run, and its coloured share the fill.
    most = max(*cells, 4096)
    every = next(steps for steps in (1024, 2048, 4096, 8192, 16384, most) if most <= 5 * steps)
    for steps in range(0, most + 1, every):
        y = bottom - height * steps / most
        canvas.line(left, y, left + width, y)
        canvas.text(left - 6, y + 4, f"{steps:,}", "muted small", "end")
    step = width / len(cells)
    for place, (padded, kept) in enumerate(zip(cells, real, strict=True)):
        x, tall, full = left + place * step, height * padded / most, height * kept / most
        canvas.padding(x, bottom - tall, max(step - 1, 1), tall)
        canvas.rect(x, bottom - full, max(step - 1, 1), full, fill=PALETTE[0])
    facts = {
        "fill": f"{found.fill:.0%}",
        "batches an epoch": f"{found.batches}",
        "largest batch, padded steps": f"{found.largest:,}",
        "pairs from the epoch before": f"{found.repeats:.0%}",
        "place and length correlate by": f"{found.correlation:+.2f}",
    }
    for row, (name, value) in enumerate(facts.items()):
        canvas.text(590, top + 34 + 44 * row, name, "muted")
        canvas.text(590, top + 53 + 44 * row, value, "strong")
    alt = f"{title}: " + "; ".join(f"{name} {value}" for name, value in facts.items()) + "."
    return canvas.picture(alt)
