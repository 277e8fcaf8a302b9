"""Pictures of masks: a batch with its four losses, and attention under a mask."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

from course_utils.svg import PALETTE, Canvas, Picture, arrange, color, letter

_SIZE = 36


def _number(value: float) -> str:
    return "NaN" if math.isnan(value) else f"{value:.3f}"


def _mask_grid(lengths: Sequence[int], keep_mask: Tensor) -> Canvas:
    """Draw a mask of switches: 1 and 0 are printed, colour says whose step it is."""
    T = keep_mask.shape[1]
    canvas = Canvas(max(46 + T * _SIZE + 10, 330), 96 + _SIZE * len(lengths))
    canvas.text(14, 26, "keep_mask: 1 = counts", "title")
    canvas.text(14, 48, "click a cell, or press Enter on it", "muted hint")
    for step in range(T):
        canvas.text(46 + (step + 0.5) * _SIZE - 2, 74, f"t={step}", "muted small", "middle")
    for row, length in enumerate(lengths):
        y = 82 + _SIZE * row
        canvas.text(24, y + 21, letter(row), "strong", "middle")
        for step in range(T):
            x, keep, real = 46 + _SIZE * step, bool(keep_mask[row, step]), step < length
            # What is written in the cell is said too, for who speaks to the computer by name.
            what = f"{letter(row)}{step}: {int(keep)}, {'real' if real else 'padding'}, "
            what += "counts" if keep else "ignored"
            canvas.begin_pick(f"{letter(row)}{step}", what, chosen=keep, toggle=True)
            size = _SIZE - 4
            if real:
                canvas.rect(x, y, size, size, fill=color(row), opacity=1 if keep else 0.22)
            else:
                canvas.padding(x, y, size, size)
                if keep:  # the mistake must catch the eye
                    canvas.rect(x + 1, y + 1, size - 2, size - 2, cls="chosen")
            cls = "strong on" if keep and real else "strong" if keep else "muted"
            canvas.text(x + size / 2, y + 21, str(int(keep)), cls, "middle")
            canvas.end_pick()
    return canvas


def loss_explorer(
    lengths: Sequence[int],
    keep_mask: Tensor,
    losses: Mapping[str, float],
    norms: Mapping[str, float],
    pulls: Mapping[str, Sequence[float]],
) -> Picture:
    """Draw a mask of switches, and beside it what four losses make of it.

    Args:
        lengths: B numbers of real steps.
        keep_mask: (B, T) bool, True = counts.
        losses: name -> value.
        norms: name -> norm of the gradient of all weights.
        pulls: name -> B + 1 numbers: how much the steps of each sequence, and the padding, pull
            at the logits: the sum of the norms of their gradients; at most 1.42 in all.
    Returns:
        Picture: SVG of two parts.
    """
    grid = _mask_grid(lengths, keep_mask)
    bars = Canvas(392, 96 + 64 * len(losses))
    bars.text(14, 26, "Four losses, and who pulls", "title")
    bars.text(14, 48, "bar: gradient from each sequence, and from padding", "muted")
    words = []
    for row, (name, value) in enumerate(losses.items()):
        y = 70 + 64 * row
        bars.text(14, y + 14, name, "strong")
        bars.text(250, y + 14, _number(value), "strong", "end")
        bars.text(378, y + 14, f"gradient {_number(norms[name])}", "muted", "end")
        bars.rect(14, y + 22, 364, 26, cls="ground")
        x = 14.0
        for index, pull in enumerate(pulls[name]):
            width = 364 * pull / 1.42
            if index < len(lengths):
                bars.rect(x, y + 22, width, 26, fill=color(index))
                if width > 14:
                    bars.text(x + width / 2, y + 40, letter(index), "strong on", "middle")
            else:
                bars.padding(x, y + 22, width, 26)
            x += width
        shares = ", ".join(
            f"{letter(index) if index < len(lengths) else 'padding'} {_number(pull)}"
            for index, pull in enumerate(pulls[name])
        )
        words.append(
            f"{name}: {_number(value)}, gradient {_number(norms[name])}, pulled by {shares}"
        )
    rows = "; ".join(
        f"{letter(row)} {''.join('1' if keep else '0' for keep in line)} ({length} real)"
        for row, (length, line) in enumerate(zip(lengths, keep_mask.tolist(), strict=True))
    )
    alt = f"keep_mask: {rows}. " + ". ".join(words) + "."
    return arrange([grid.picture(f"keep_mask: {rows}."), bars.picture(alt)], alt, 820)


def attention_maps(weights: Tensor, shares: Tensor, lengths: Sequence[int], title: str) -> Picture:
    """Draw attention weights, a map a sequence: queries down, keys to the right.

    Args:
        weights: (B, T, T), each row adding up to 1, or NaN.
        shares: (B, T), each row's share of attention on padding, or NaN.
        lengths: B numbers of real steps.
        title: the heading.
    Returns:
        Picture: SVG of B parts; beside each real row stands its share of attention on padding.
    """
    T, size = weights.shape[1], 26
    pictures, alts = [], []
    for row, length in enumerate(lengths):
        canvas = Canvas(max(50 + T * size + 58, 240), 106 + T * size)
        canvas.text(14, 26, title if row == 0 else f"Sequence {letter(row)}", "title")
        what = f"{letter(row)}: {length} of {T} steps real"
        canvas.text(14, 48, what, "muted")
        canvas.text(50 + T * size / 2, 72, "key", "muted small", "middle")
        canvas.text(44, 88, "query", "muted small", "end")
        canvas.text(50 + T * size + 52, 72, "on padding", "muted small", "end")
        for step in range(T):
            shade = "muted small" if step >= length else "small"
            canvas.text(50 + (step + 0.5) * size - 1, 88, f"{letter(row)}{step}", shade, "middle")
            y = 94 + step * size
            canvas.text(44, y + 16, f"{letter(row)}{step}", shade, "end")
            for key in range(T):
                x, weight = 50 + key * size, float(weights[row, step, key])
                if key >= length or step >= length:
                    canvas.padding(x, y, size - 2, size - 2)
                else:
                    canvas.rect(x, y, size - 2, size - 2, cls="ground")
                if math.isnan(weight):
                    canvas.text(x + size / 2 - 1, y + 16, "NaN", "small", "middle")
                elif weight > 0:
                    paint = PALETTE[7] if key >= length else color(row)
                    pale = 0.3 if step >= length else 1
                    side = (size - 2) * math.sqrt(weight)  # the area is the weight
                    off = (size - 2 - side) / 2
                    canvas.rect(x + off, y + off, side, side, fill=paint, opacity=pale)
            if step < length:
                share = float(shares[row, step])
                text = "NaN" if math.isnan(share) else f"{share:.0%}"
                cls = "muted" if share < 0.005 else "strong"
                canvas.text(50 + T * size + 52, y + 16, text, cls, "end")
        mean = float(shares[row, :length].mean())
        text = "NaN" if math.isnan(mean) else f"{mean:.0%}"
        alts.append(f"{letter(row)}, {length} of {T} real: {text} of attention on padding")
        pictures.append(canvas.picture(f"{title}. {alts[-1]}."))
    return arrange(pictures, f"{title}. " + "; ".join(alts) + ".", 820)
