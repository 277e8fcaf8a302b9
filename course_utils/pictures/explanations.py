"""Drawn explanations: outcomes in colour, a kernel, a fault that creeps, lengths by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from course_utils.pictures.grid import grid, label, sheet, step_cell, verdict_cell
from course_utils.pictures.svg import PALETTE, Picture


def outcome_grid(outcomes: Mapping[str, Mapping[str, str]], title: str) -> Picture:
    """Draw what each of several methods gives in each of several settings.

    Args:
        outcomes: method -> setting -> outcome; one that begins with "NaN", "LEAK" or
            "differs" is wrong.
        title: above it.
    Returns:
        Picture: SVG; a row a method, a cell a setting. What is wrong is red with a cross; others
            have a sign for what they are, and the outcome is printed in each.
    """
    settings = list(next(iter(outcomes.values())))
    left, wide, row = 330, 150, 34
    canvas, top = sheet(title, "", left + wide * len(settings) + 16, 36 + row * len(outcomes) + 8)
    found = [[by_setting[setting] for setting in settings] for by_setting in outcomes.values()]

    def draw(number: int, column: int, x: float, y: float, w: float, h: float) -> None:
        outcome = found[number][column]
        if outcome.startswith(("NaN", "LEAK", "differs")):
            verdict_cell(canvas, x, y, w, h, f"✗ {outcome}", wrong=True)
        elif outcome in ("clean", "zeros", "as alone"):
            verdict_cell(canvas, x, y, w, h, f"✓ {outcome}", wrong=False)
        else:
            canvas.rect(x, y, w, h, cls="ground")
            label(canvas, x, y, w, h, f"· {outcome}")

    grid(canvas, left, top + 36, (wide, row), list(outcomes), settings, draw, gap=6, cls="")
    said = [
        f"{method}: " + ", ".join(f"{setting} {outcome}" for setting, outcome in row.items())
        for method, row in outcomes.items()
    ]
    return canvas.picture(f"{title} {'. '.join(said)}.")


def creeping(wrong: Mapping[str, Sequence[bool]], written: Mapping[str, Sequence[bool]]) -> Picture:
    """Draw how a convolution's padding creeps over the end of a sequence, layer by layer.

    Args:
        wrong: layer -> for each real step of one sequence, whether it differs from alone.
        written: layer -> for each padded step, whether it holds anything but zero.
    Returns:
        Picture: SVG; one row per layer, real steps in colour, wrong ones red with a cross, padding
            hatched, with a dot where the layer wrote into it.
    """
    cell, row, left = 40, 36, 170
    real = len(next(iter(wrong.values())))
    T = real + len(next(iter(written.values())))
    canvas, top = sheet(
        "Where the padding creeps in",
        "✗ differs from alone   ● written into the padding",
        left + cell * T + 20,
        14 + row * len(wrong) + 8,
    )
    layers = list(wrong)

    def draw(number: int, step: int, x: float, y: float, w: float, h: float) -> None:
        name = layers[number]
        if step >= real:
            canvas.padding(x, y, w, h)
            if written[name][step - real]:
                label(canvas, x, y, w, h, "●", "strong")
        elif wrong[name][step]:
            verdict_cell(canvas, x, y, w, h, "✗", wrong=True)
        else:
            step_cell(canvas, x, y, w, h, 0, str(step), small=True)

    grid(canvas, left, top + 14, (cell, row), layers, [""] * T, draw, gap=5, cls="")
    said = [
        f"{name}: {sum(wrong[name])} wrong, {sum(written[name])} padded steps written"
        for name in layers
    ]
    return canvas.picture(f"{real} real steps and {T - real} of padding. {'; '.join(said)}.")


def kernel_places(n: int, k: int, s: int, p: int) -> Picture:
    """Draw each place of a convolution's kernel on a sequence.

    Args:
        n: steps of the sequence, at least 1.
        k, s, p: kernel size, stride, and the layer's own padding at each end; the kernel has to fit
            at least once.
    Returns:
        Picture: SVG; a row for each place, with the steps that the kernel covers in colour and the
            others pale; the layer's own zeros are hatched.
    """
    cell, row, left = 40, 34, 90
    starts = range(0, n + 2 * p - k + 1, s)
    canvas, top = sheet(
        f"Kernel {k}, stride {s}, padding {p}, on {n} steps",
        "hatched: the layer's own zeros; strong: the steps under the kernel",
        left + cell * (n + 2 * p) + 20,
        14 + row * len(starts) + 8,
    )

    def draw(number: int, place: int, x: float, y: float, w: float, h: float) -> None:
        under = starts[number] <= place < starts[number] + k
        if p <= place < p + n:
            step_cell(canvas, x, y, w, h, 0, str(place - p), pale=not under, small=True)
        else:
            canvas.padding(x, y, w, h)
            if under:
                label(canvas, x, y, w, h, "0", "strong")

    names = [f"place {number}" for number in range(len(starts))]
    grid(canvas, left, top + 14, (cell, row), names, [""] * (n + 2 * p), draw, gap=5, cls="")
    return canvas.picture(
        f"A kernel of {k} on {n} steps with a padding of {p} at each end, moved by {s} at a time: "
        f"it fits {len(starts)} times, and begins at the steps {[start - p for start in starts]}."
    )


def lengths_by_group(lengths: Mapping[str, Sequence[int]], title: str) -> Picture:
    """Draw the lengths of each group as dots on one line, with the median marked.

    Args:
        lengths: group -> the lengths of its sequences, in steps; up to 26 groups.
        title: above it.
    Returns:
        Picture: SVG; the groups in the order of their medians.
    """
    most = max(max(one) for one in lengths.values())
    left, right, row = 130, 620, 28
    canvas, top = sheet(title, "", right + 110, 20 + row * len(lengths) + 40)

    def middle(values: Sequence[int]) -> int:
        return sorted(values)[len(values) // 2]

    def place(length: int) -> float:
        return left + (right - left) * length / most

    said = []
    for number, (name, values) in enumerate(sorted(lengths.items(), key=lambda g: middle(g[1]))):
        y = top + 20 + row * number
        canvas.text(20, y + 5, name)
        canvas.line(left, y, right, y)
        for length in sorted(set(values)):
            canvas.rect(place(length) - 4, y - 5, 8, 10, fill=PALETTE[0], opacity=0.35)
        at = place(middle(values))
        canvas.rect(at - 3, y - 11, 6, 22, fill=PALETTE[0])
        canvas.text(right + 12, y + 5, f"median {middle(values)}", "muted")
        said.append(f"{name} {middle(values)} ({min(values)} to {max(values)})")
    y = top + 20 + row * len(lengths)
    for length in range(0, most + 1, 5):
        canvas.text(place(length), y + 12, str(length), "muted", "middle")
    canvas.text(right + 24, y + 12, "steps", "muted")
    return canvas.picture(f"{title} Medians: {', '.join(said)}.")
