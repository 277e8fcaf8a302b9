"""Pictures of masks: a batch with its four losses, and attention under a mask."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

from course_utils.pictures.grid import (
    WIDEST,
    WRONG,
    grid,
    label,
    sheet,
    stacked_bar,
    step_cell,
)
from course_utils.pictures.svg import Canvas, Picture, arrange, color, letter

_SIZE = 36


def _number(value: float) -> str:
    return "NaN" if math.isnan(value) else f"{value:.3f}"


def _mask_grid(lengths: Sequence[int], keep_mask: Tensor) -> Canvas:
    """Draw a mask of switches: 1 and 0 are printed, colour says whose step it is."""
    T = keep_mask.shape[1]
    canvas, top = sheet(
        "keep_mask: 1 = counts",
        "click a cell, or press Enter on it",
        38 + T * _SIZE + 10,
        30 + _SIZE * len(lengths) + 10,
        hint=True,
    )

    def switch(row: int, step: int, x: float, y: float, w: float, h: float) -> None:
        keep, real = bool(keep_mask[row, step]), step < lengths[row]
        # What is written in the cell is said too, for who speaks to the computer by name.
        what = f"{letter(row)}{step}: {int(keep)}, {'real' if real else 'padding'}, "
        what += "counts" if keep else "ignored"
        canvas.begin_pick(f"{letter(row)}{step}", what, chosen=keep, toggle=True)
        if real:
            step_cell(canvas, x, y, w, h, row, str(int(keep)), pale=not keep)
        else:
            canvas.padding(x, y, w, h)
            if keep:  # the mistake must catch the eye
                canvas.rect(x + 1, y + 1, w - 2, h - 2, cls="chosen")
            label(canvas, x, y, w, h, str(int(keep)), "strong" if keep else "muted")
        canvas.end_pick()

    names = [letter(row) for row in range(len(lengths))]
    grid(canvas, 38, top + 30, (_SIZE, _SIZE), names, [f"t={t}" for t in range(T)], switch)
    return canvas


def mask_and_losses(
    lengths: Sequence[int],
    keep_mask: Tensor,
    losses: Mapping[str, float],
    norms: Mapping[str, float],
    weights: Mapping[str, Sequence[float]],
) -> Picture:
    """Draw a mask of switches, and beside it what four losses make of it.

    Args:
        lengths: B numbers of real steps.
        keep_mask: (B, T) bool, True = counts.
        losses: name -> value.
        norms: name -> norm of the gradient of all weights.
        weights: name -> B + 1 numbers, at most 1 in all: how much the loss changes where the loss
            of each step of a sequence changes by 1; the last, of the padding.
    Returns:
        Picture: SVG of two parts.
    """
    switches = _mask_grid(lengths, keep_mask)
    caption = "bar: weight of each sequence; hatched: of padding"
    bars, top = sheet("Four losses, and who counts", caption, 392, 12 + 64 * len(losses))
    said = []
    for row, (name, value) in enumerate(losses.items()):
        y = top + 12 + 64 * row
        bars.text(14, y + 14, name, "strong")
        bars.text(250, y + 14, _number(value), "strong", "end")
        bars.text(378, y + 14, f"gradient {_number(norms[name])}", "muted", "end")
        stacked_bar(bars, 14, y + 22, 364, 26, weights[name])
        who = [*map(letter, range(len(lengths))), "padding"]
        parts = zip(who, weights[name], strict=True)
        shares = ", ".join(f"{owner} {_number(weight)}" for owner, weight in parts)
        said.append(
            f"{name}: {_number(value)}, gradient {_number(norms[name])}, weight of {shares}"
        )
    rows = "; ".join(
        f"{letter(row)} {''.join('1' if keep else '0' for keep in line)} ({length} real)"
        for row, (length, line) in enumerate(zip(lengths, keep_mask.tolist(), strict=True))
    )
    alt = f"keep_mask: {rows}. " + ". ".join(said) + "."
    return arrange([switches.picture(f"keep_mask: {rows}."), bars.picture(alt)], alt, WIDEST)


def attention_maps(weights: Tensor, shares: Tensor, lengths: Sequence[int], title: str) -> Picture:
    """Draw attention weights, a map a sequence: queries down, keys to the right.

    Args:
        weights: (B, T, T), each row adding up to 1, or NaN.
        shares: (B, T), each row's share of attention on padding, or NaN.
        lengths: B numbers of real steps.
        title: what is written under the name of each sequence.
    Returns:
        Picture: SVG of B parts; beside each real row stands its share of attention on padding.
    """
    pictures, alts = [], []
    for row, length in enumerate(lengths):
        mean = float(shares[row, :length].mean())
        text = "NaN" if math.isnan(mean) else f"{mean:.0%}"
        alts.append(
            f"{letter(row)}, {length} of {len(weights[row])} real: {text} of attention on padding"
        )
        canvas = _attention_map(weights[row], shares[row], row, length, title)
        pictures.append(canvas.picture(f"{title}. {alts[-1]}."))
    return arrange(pictures, f"{title}. " + "; ".join(alts) + ".", WIDEST)


def _attention_map(weights: Tensor, shares: Tensor, row: int, length: int, title: str) -> Canvas:
    T, size, left = len(weights), 26, 44
    wide = max(left + T * size + 70, 240)
    canvas, top = sheet(f"Sequence {letter(row)}", title, wide, 76 + T * size)
    canvas.text(14, top + 16, f"{length} of {T} steps real", "muted")
    top += 18
    end = left + T * size + 62
    canvas.text(left + T * size / 2, top + 20, "key", "muted small", "middle")
    canvas.text(left - 8, top + 38, "query", "muted small", "end")
    canvas.text(end, top + 38, "on padding", "muted small", "end")

    def weight(step: int, key: int, x: float, y: float, w: float, h: float) -> None:
        share = float(weights[step, key])
        if key >= length or step >= length:
            canvas.padding(x, y, w, h)
        else:
            canvas.rect(x, y, w, h, cls="ground")
        if math.isnan(share):
            label(canvas, x, y, w, h, "NaN", "small")
        elif share > 0:
            side = w * math.sqrt(share)  # the area is the weight
            off = (w - side) / 2
            paint = WRONG if key >= length else color(row)
            pale = 0.3 if step >= length else 1
            canvas.rect(x + off, y + off, side, side, fill=paint, opacity=pale)

    names = [f"{letter(row)}{step}" for step in range(T)]
    grid(canvas, left, top + 46, (size, size), names, names, weight, gap=2, cls="small")
    for step in range(length):
        share = float(shares[step])
        text = "NaN" if math.isnan(share) else f"{share:.0%}"
        cls = "muted" if share < 0.005 else "strong"
        canvas.text(end, top + 62 + step * size, text, cls, "end")
    return canvas
