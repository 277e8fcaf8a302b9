"""Pure functions: numbers that torch computed in, a picture out.

Time runs right and the batch runs down; what is reached or active is in full colour.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from course_utils.svg import PALETTE, Canvas, Picture, color, letter


def figure(fig, alt: str) -> Picture:
    """Turn a matplotlib figure into a picture with alt text, and close it.

    Args:
        fig: matplotlib.figure.Figure.
        alt: what a reader sees in it.
    Returns:
        Picture: a PNG at twice the figure's size in CSS pixels (96 an inch).
    """
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=192, bbox_inches="tight", metadata={"Software": None})
    plt.close(fig)
    # The PNG header holds the width, which bbox_inches="tight" has changed.
    width = int.from_bytes(buffer.getvalue()[16:20], "big") // 2
    return Picture(buffer.getvalue(), "png", alt, width)


def line_charts(
    x: Sequence[float],
    charts: Mapping[str, Sequence[float]],
    *,
    xlabel: str,
    alt: str,
    ticks: Sequence[str] | None = None,
) -> Picture:
    """Draw line charts side by side over the same x, each from 0 up.

    Args:
        x: N numbers.
        charts: title -> N numbers.
        xlabel: what x is, with its unit.
        alt: what a reader sees.
        ticks: N names for x, where its numbers are not what they say.
    Returns:
        Picture: PNG.
    """
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(1, len(charts), figsize=(9.5, 2.8), layout="constrained")
    for axis, (title, y) in zip(np.atleast_1d(axes), charts.items(), strict=True):
        axis.plot(x, y, "o-", color="#4b5563")
        axis.set(title=title, xlabel=xlabel, ylim=(0, 1.1 * max(y)))
        if ticks is not None:
            axis.set_xticks(x, ticks)
    return figure(fig, alt)


def ratio_charts(
    table, columns: Sequence[str], *, x: str, hue: str, limit: str, ylabel: str, alt: str
) -> Picture:
    """Draw ratios as dots, a chart a column, on a scale of factors of two around 1.

    Args:
        table: pandas.DataFrame with a row for each x and hue.
        columns: the columns of ratios, a chart each.
        x, hue: the columns that give the place and the colour of a dot.
        limit: the column with the largest ratio that can be, drawn as a dashed line.
        ylabel: what is divided by what.
        alt: what a reader sees.
    Returns:
        Picture: PNG.
    """
    import matplotlib.pyplot as plt
    import seaborn as sns

    fig, axes = plt.subplots(
        1, len(columns), figsize=(10, 3.2), sharey=True, squeeze=False, layout="constrained"
    )
    limits = table.groupby(x, sort=False)[limit].first()
    look = {"linestyle": "none", "dodge": 0.3, "markers": ["o", "s"], "palette": PALETTE[:2]}
    for axis, column in zip(axes[0], columns, strict=True):
        axis.plot(range(len(limits)), limits, "--", color=PALETTE[7], label=f"limit {limit}")
        first = column == columns[0]
        sns.pointplot(table, x=x, y=column, hue=hue, ax=axis, legend=first, **look)
        axis.axhline(1, color="black", linewidth=1)
        axis.set_yscale("log", base=2)
        axis.yaxis.set_major_formatter(lambda v, _: f"{v:g}" if v >= 1 else f"1/{1 / v:g}")
        axis.set(title=column, ylabel=ylabel)
        axis.tick_params(axis="x", labelsize=8)
    axes[0, 0].legend()
    return figure(fig, alt)


def padded_grid(
    lengths: Sequence[int],
    *,
    marked: Tensor | None = None,
    title: str = "Padded batch",
    caption: str = "",
) -> Picture:
    """Draw a padded batch cell by cell: real steps in colour, padding hatched.

    Args:
        lengths: B numbers of steps.
        marked: (B, T) bool, cells that a leak reached: full colour, and the word.
        title: the heading.
        caption: a line under the heading.
    Returns:
        Picture: SVG.
    """
    T = max(lengths)
    size, left, top = 46, 62, 92
    canvas = Canvas(max(left + T * size + 20, 420), top + len(lengths) * size + 16)
    canvas.text(20, 32, title, "title")
    canvas.text(20, 54, caption, "muted")
    for step in range(T):
        canvas.text(left + step * size + 20, top - 10, f"t={step}", "muted small", "middle")
    for row, length in enumerate(lengths):
        y = top + row * size
        canvas.text(34, y + 26, letter(row), "strong", "middle")
        for step in range(T):
            x = left + step * size
            full = marked is not None and bool(marked[row, step])
            if step < length:
                canvas.rect(x, y, 40, 40, fill=color(row), opacity=1 if full else 0.22)
            else:
                canvas.padding(x, y, 40, 40)
            text = f"{letter(row)}{step}" if step < length else ""
            canvas.text(
                x + 20, y + (18 if full else 25), text, "strong on" if full else "", "middle"
            )
            if full:
                canvas.text(x + 20, y + 34, "leak", "small on", "middle")
    real = sum(lengths)
    alt = f"{title}: {len(lengths)} sequences of {', '.join(map(str, lengths))} steps, T = {T}, "
    alt += f"{real} of {len(lengths) * T} cells real. {caption}"
    if marked is not None:
        alt += f" {int(marked.sum())} cells marked."
    return canvas.picture(alt.strip())


def read_out_bars(
    added: int,
    lengths: Sequence[int],
    longest: int,
    accuracies: Mapping[str, float],
    without: Mapping[str, float],
    max_added: int,
) -> Picture:
    """Draw a few padded utterances, and the accuracy of each read-out on the whole test set.

    Args:
        added: steps of padding added.
        lengths: steps of the utterances to draw.
        longest: steps of the longest in the whole set; T is that plus `added`.
        accuracies: read-out -> accuracy with this padding, 0 to 1.
        without: read-out -> accuracy with none added.
        max_added: the most steps ever added; it fixes the scale.
    Returns:
        Picture: SVG.
    """
    left, width = 176, 520
    scale = width / (longest + max_added)
    canvas = Canvas(760, 132 + 26 * len(lengths) + 40 * len(accuracies))
    canvas.text(20, 32, f"Padding added: {added} steps of zeros", "title")
    canvas.text(
        20, 56, f"{len(lengths)} of the test utterances, as the model is given them", "muted"
    )
    for row, length in enumerate(lengths):
        y = 70 + 26 * row
        canvas.text(20, y + 15, f"utterance {letter(row)}, {length} steps", "muted")
        canvas.rect(left, y, length * scale, 20, fill=color(row))
        canvas.padding(left + length * scale, y, (longest + added - length) * scale, 20)
    top = 70 + 26 * len(lengths)
    canvas.text(
        20, top + 30, "Accuracy on the test set; the upright mark: with none added", "muted"
    )
    for row, (name, accuracy) in enumerate(accuracies.items()):
        y = top + 44 + 40 * row
        canvas.text(20, y + 19, name, "strong")
        canvas.rect(left, y, width, 28, cls="ground")
        canvas.rect(left, y, accuracy * width, 28, cls="bar")
        start = left + without[name] * width
        canvas.line(start, y - 3, start, y + 31, "mark")
        canvas.text(left + width + 10, y + 19, f"{accuracy:.0%}", "strong")
    alt = f"{added} steps of padding added. Accuracy: "
    alt += ", ".join(
        f"{name} {a:.0%} (none added: {without[name]:.0%})" for name, a in accuracies.items()
    )
    return canvas.picture(alt + ".")


def padded_batch(lengths: Sequence[int], facts: Sequence[tuple[str, str]], title: str) -> Picture:
    """Draw a padded batch of any size, a bar a sequence, its fill, and some facts beside it.

    Args:
        lengths: B numbers of steps.
        facts: pairs (name, value), one a line.
        title: the heading.
    Returns:
        Picture: SVG of one size for every batch of up to 32 sequences.
    """
    T, real = max(lengths), sum(lengths)
    share = real / (len(lengths) * T)
    left, width, height = 20, 470, 320
    bar = height / max(len(lengths), 8)
    canvas = Canvas(760, 420)
    canvas.text(20, 32, title, "title")
    canvas.text(20, 54, f"B = {len(lengths)} sequences down, T = {T} steps to the right", "muted")
    for row, length in enumerate(lengths):
        y = 70 + row * bar
        real_width = max(width * length / T, 2)  # a sliver is still a sequence
        canvas.rect(left, y, real_width, bar - 2, fill=color(row))
        canvas.padding(left + real_width, y, width - real_width, bar - 2)
    x = left + width + 30
    canvas.text(x, 84, f"fill {share:.0%}", "title")
    canvas.rect(x, 96, 210 * share, 18, cls="bar")
    canvas.padding(x + 210 * share, 96, 210 * (1 - share), 18)
    canvas.text(x, 134, f"{real:,} real steps of {len(lengths) * T:,}", "muted")
    for row, (name, value) in enumerate(facts):
        canvas.text(x, 176 + 46 * row, name, "muted")
        canvas.text(x, 195 + 46 * row, value, "strong")
    alt = f"{title}. {len(lengths)} sequences padded to {T} steps: fill {share:.0%}, {real} of "
    alt += f"{len(lengths) * T} steps real. " + "; ".join(f"{n}: {v}" for n, v in facts) + "."
    return canvas.picture(alt)


def leak_table(leaks: Mapping[str, Sequence[bool]], lengths: Sequence[int], title: str) -> Picture:
    """Draw which sequences the padding reaches, a row a method.

    Args:
        leaks: method -> B truth values, True = the padding reached that sequence.
        lengths: B numbers of steps.
        title: the heading.
    Returns:
        Picture: SVG.
    """
    left, cell = 44 + 8 * max(map(len, leaks)), 88
    canvas = Canvas(max(left + cell * len(lengths) + 20, 480), 96 + 38 * len(leaks))
    canvas.text(20, 32, title, "title")
    for column, length in enumerate(lengths):
        x = left + cell * column + cell / 2 - 3
        canvas.text(x, 62, letter(column), "strong", "middle")
        canvas.text(x, 78, f"{length} steps", "muted small", "middle")
    for row, (name, reached) in enumerate(leaks.items()):
        y = 88 + 38 * row
        canvas.text(20, y + 21, name)
        for column, leak in enumerate(reached):
            x = left + cell * column
            canvas.rect(
                x, y, cell - 6, 32, fill=PALETTE[7 if leak else 2], opacity=1 if leak else 0.2
            )
            text, cls = ("LEAK", "strong on") if leak else ("clean", "")
            canvas.text(x + cell / 2 - 3, y + 21, text, cls, "middle")
    alt = f"{title} " + " ".join(
        f"{name}: " + (f"reaches {sum(map(bool, r))} of {len(r)}." if any(r) else "clean.")
        for name, r in leaks.items()
    )
    return canvas.picture(alt)
