"""The shape tracer's picture: a ragged batch in every layer of a model."""

from __future__ import annotations

import math
from collections.abc import Sequence

from course_utils.pictures.grid import WIDEST, WRONG, sheet, step_cell, verdict_cell, wrapped
from course_utils.pictures.svg import Canvas, Picture, color, letter
from course_utils.tracing import Stage

_ROW = 66
_ACROSS, _DOWN = 10, 14  # from one step to the next
_COLUMNS = {
    14: "layer",
    186: "shape",
    300: "steps, and padding",
    504: "mask for the next layer",
    652: "padding",
    716: "equals alone?",
}


def _draw_lengths(canvas: Canvas, x: float, y: float, stage: Stage) -> None:
    """Draw the lengths in force, and the mask that the next layer is given, cell by cell."""
    T = stage.values.shape[1]
    for row, length in enumerate(stage.lengths.tolist()):
        top = y + row * _DOWN
        canvas.text(x, top + 10, letter(row), "strong small")
        for step in range(T):
            place = (x + 14 + step * _ACROSS, top, _ACROSS - 1, _DOWN - 2)
            if step < length:
                step_cell(canvas, *place, row)
            else:
                canvas.padding(*place)
    if stage.keep_mask is not None and stage.keep_mask.shape[1] != T:
        width, height = stage.keep_mask.shape[1] * _ACROSS, len(stage.lengths) * _DOWN
        canvas.rect(x + 12, y - 2, width + 3, height + 2, cls="chosen")


def _draw_stage(canvas: Canvas, y: float, stage: Stage, *, needs_mask: bool) -> str:
    """Draw what came out of a layer, in a row, and return it in words."""
    shape = tuple(stage.values.shape)
    canvas.text(186, y + 24, str(shape))
    said = f"{stage.name}: {shape}"
    if stage.lengths is not None:
        share = 1 - min(int(stage.lengths.sum()) / (shape[0] * shape[1]), 1.0)
        lengths = stage.lengths.tolist()
        _draw_lengths(canvas, 300, y + 8, stage)
        canvas.text(652, y + 24, f"{share:.0%}")
        canvas.text(186, y + 42, f"lengths {lengths}", "muted small")
        said += f", lengths {lengths}, padding {share:.0%}"
        if stage.keep_mask is not None:
            mask = f"(B={shape[0]}, T={stage.keep_mask.shape[1]})"
            canvas.text(504, y + 24, mask)
            said += f", mask {mask}"
        elif needs_mask:
            canvas.text(504, y + 24, "none", "strong")
            said += ", no mask"
    if stage.warning:
        for number, line in enumerate(wrapped(f"! {stage.warning}", 300, "strong small")):
            canvas.text(504, y + 42 + 13 * number, line, "strong small")
        said += f", warning: {stage.warning}"
    if not stage.differs:
        canvas.text(716, y + 24, "yes", "muted")
        return f"{said}, equal to alone"
    who = " ".join(map(letter, stage.differs))
    verdict_cell(canvas, 712, y + 8, 96, 24, f"not {who}", wrong=True)
    return f"{said}, not equal to alone: {who}"


def trace_table(stages: Sequence[Stage], names: Sequence[str], title: str) -> Picture:
    """Draw one row per layer: shape, lengths, mask, share of padding, and whether it equals alone.

    Args:
        stages: from `tracing.trace`, at least one.
        names: the layers in order, to name those that were not reached too.
        title: the heading.
    Returns:
        Picture: SVG.
    """
    # Time is gone in the last layers: their rows need no room for steps.
    heights = [_ROW] * len(names)
    for number, stage in enumerate(stages):
        if stage.error or (stage.lengths is None and not stage.warning):
            heights[number] = 68 if stage.error else 40
    for number in range(len(stages), len(names)):
        heights[number] = 40
    canvas, top = sheet(title, "", WIDEST, 40 + sum(heights))
    for x, head in _COLUMNS.items():
        canvas.text(x, top + 22, head, "muted small")
    alts, y = [], top + 32
    for number, (name, height) in enumerate(zip(names, heights, strict=True)):
        stage = stages[number] if number < len(stages) else None
        canvas.line(14, y, WIDEST - 14, y)
        canvas.text(14, y + 24, name, "muted" if stage is None else "strong")
        if stage is None:
            canvas.text(186, y + 24, "not reached", "muted")
            alts.append(f"{name}: not reached")
        elif stage.values is None:
            canvas.rect(182, y + 6, 624, height - 12, fill=WRONG, opacity=0.15)
            for line, text in enumerate(wrapped(stage.error, 604, "small")[:3]):
                canvas.text(192, y + 22 + 15 * line, text, "small")
            alts.append(f"{name}: {stage.error}")
        else:
            # The layers from the fourth on need a mask.
            alts.append(_draw_stage(canvas, y, stage, needs_mask=number > 2))
        y += height
    return canvas.picture(f"{title}. " + ". ".join(alts) + ".")


def loss_curves(
    curves: dict[str, list[float]], epochs: int, title: str = "Loss while it trains"
) -> Picture:
    """Draw the loss of models in training, on a scale of factors of ten.

    Args:
        curves: name -> loss of each epoch so far.
        epochs: the width of the picture, in epochs.
        title: the heading.
    Returns:
        Picture: SVG.
    """
    left, width, height = 64, 440, 240
    lowest, highest = -3.0, 0.5  # powers of ten
    canvas, top = sheet(title, "", WIDEST, height + 58)
    top += 14
    for power in range(-3, 1):
        y = top + height * (highest - power) / (highest - lowest)
        canvas.line(left, y, left + width, y)
        canvas.text(left - 8, y + 4, f"{10.0**power:g}", "muted small", "end")
    canvas.text(left + width / 2, top + height + 32, f"epoch, of {epochs}", "muted", "middle")
    words = []
    for number, (name, losses) in enumerate(curves.items()):
        points = []
        for epoch, loss in enumerate(losses, 1):
            if math.isnan(loss):
                break  # nothing after it can be drawn either
            power = min(max(math.log10(max(loss, 1e-12)), lowest), highest)
            x = left + width * epoch / epochs
            points.append((x, top + height * (highest - power) / (highest - lowest)))
        if points:
            canvas.curve(points, number)
            x, y = points[-1]
            canvas.rect(x - 4, y - 4, 8, 8, fill=color(number))
        canvas.curve([(524, top + 7 + 26 * number), (548, top + 7 + 26 * number)], number)
        last = f"{losses[-1]:.3f}" if losses else "not yet"
        known = wrapped(name, 180)
        name_shown = known[0] + ("…" if len(known) > 1 else "")
        canvas.text(556, top + 12 + 26 * number, f"{name_shown}: {last}")
        words.append(f"{name} {last}")
    return canvas.picture(f"{title}: " + (", ".join(words) or "nothing yet") + ".")
