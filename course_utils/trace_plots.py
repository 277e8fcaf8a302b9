"""The shape tracer's picture: a ragged batch in every layer of a model."""

from __future__ import annotations

import math
from collections.abc import Sequence

from course_utils.svg import PALETTE, Canvas, Picture, color, letter
from course_utils.tracing import Stage

_ROW, _CELL = 56, 8


def _grid(canvas: Canvas, x: float, y: float, stage: Stage) -> None:
    """Draw the lengths in force, and the mask that the next layer is given, cell by cell."""
    T = stage.values.shape[1]
    for row, length in enumerate(stage.lengths.tolist()):
        top = y + row * (_CELL + 2)
        for step in range(T):
            left = x + step * (_CELL + 1)
            if step < length:
                canvas.rect(left, top, _CELL, _CELL, fill=color(row))
            else:
                canvas.padding(left, top, _CELL, _CELL)
    if stage.keep_mask is not None and stage.keep_mask.shape[1] != T:
        width, height = stage.keep_mask.shape[1] * (_CELL + 1), len(stage.lengths) * (_CELL + 2)
        canvas.rect(x - 2, y - 3, width + 3, height + 3, cls="chosen")


def trace_table(stages: Sequence[Stage], names: Sequence[str], title: str) -> Picture:
    """Draw a row a layer: shape, lengths, mask, share of padding, and whether it equals alone.

    Args:
        stages: from `tracing.trace`, at least one.
        names: the layers in order, to name those that were not reached too.
        title: the heading.
    Returns:
        Picture: SVG.
    """
    canvas = Canvas(820, 82 + _ROW * len(names) + 8)
    canvas.text(14, 28, title, "title")
    columns = {14: "layer", 186: "shape", 300: "steps, and padding", 494: "mask for the next layer"}
    for x, head in (columns | {650: "padding", 716: "equals alone?"}).items():
        canvas.text(x, 66, head, "muted small")
    alts = []
    for number, name in enumerate(names):
        y = 76 + _ROW * number
        canvas.line(14, y, 806, y)
        stage = stages[number] if number < len(stages) else None
        if stage is None:
            canvas.text(14, y + 24, name, "muted")
            canvas.text(186, y + 24, "not reached", "muted")
            alts.append(f"{name}: not reached")
            continue
        canvas.text(14, y + 24, name, "strong")
        if stage.values is None:
            canvas.rect(182, y + 6, 624, _ROW - 12, fill=PALETTE[7], opacity=0.15)
            words = stage.error.split()
            lines = [""]
            for word in words:
                if len(lines[-1]) + len(word) > 86:
                    lines.append("")
                lines[-1] += f"{word} "
            for index, line in enumerate(lines[:3]):
                canvas.text(192, y + 22 + 15 * index, line.strip(), "small")
            alts.append(f"{name}: {stage.error}")
            continue
        shape = tuple(stage.values.shape)
        canvas.text(186, y + 24, str(shape))
        alt = f"{name}: {shape}"
        if stage.lengths is not None:
            T = shape[1]
            _grid(canvas, 300, y + 10, stage)
            share = 1 - min(int(stage.lengths.sum()) / (shape[0] * T), 1.0)
            canvas.text(650, y + 24, f"{share:.0%}")
            canvas.text(186, y + 42, f"lengths {stage.lengths.tolist()}", "muted small")
            alt += f", lengths {stage.lengths.tolist()}, padding {share:.0%}"
            if stage.keep_mask is not None:
                mask = f"(B={shape[0]}, T={stage.keep_mask.shape[1]})"
                canvas.text(494, y + 24, mask)
                alt += f", mask {mask}"
            elif number > 2:  # the layers from here on need one
                canvas.text(494, y + 24, "none", "strong")
                alt += ", no mask"
        if stage.warning:
            canvas.text(494, y + 44, f"! {stage.warning}", "strong small")
            alt += f", warning: {stage.warning}"
        if stage.differs:
            who = " ".join(map(letter, stage.differs))
            canvas.rect(712, y + 8, 96, 24, fill=PALETTE[7])
            canvas.text(760, y + 25, f"not {who}", "strong on", "middle")
            alt += f", not equal to alone: {who}"
        else:
            canvas.text(716, y + 24, "yes", "muted")
            alt += ", equal to alone"
        alts.append(alt)
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
    left, top, width, height = 64, 50, 520, 240
    lowest, highest = -3.0, 0.5  # powers of ten
    canvas = Canvas(820, 340)
    canvas.text(14, 28, title, "title")
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
        canvas.curve([(600, top + 7 + 26 * number), (624, top + 7 + 26 * number)], number)
        last = f"{losses[-1]:.3f}" if losses else "not yet"
        canvas.text(632, top + 12 + 26 * number, f"{name}: {last}")
        words.append(f"{name} {last}")
    return canvas.picture(f"{title}: " + (", ".join(words) or "nothing yet") + ".")
