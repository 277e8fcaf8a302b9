"""Pure functions: numbers that torch computed in, a picture out.

Time runs right and the batch runs down; what is reached or active is in full colour.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from course_utils.pictures.grid import (
    WRONG,
    grid,
    label,
    sheet,
    step_cell,
    text_width,
    verdict_cell,
)
from course_utils.pictures.svg import PALETTE, Picture, letter

_RULE = "#b4bac2"


def figure(fig, alt: str) -> Picture:
    """Turn a matplotlib figure into a picture with alt text, and close it.

    Args:
        fig: matplotlib.figure.Figure.
        alt: what a reader sees in it.
    Returns:
        Picture: a PNG at twice the figure's size in CSS pixels (96 an inch).
    """
    import matplotlib.pyplot as plt

    for axis in fig.axes:  # the frame of the panels: a light rule, and a heading at the left
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color(_RULE)
        axis.tick_params(which="both", color=_RULE)
        axis.set_axisbelow(True)
        title = axis.title
        axis.set_title(title.get_text(), loc="left", fontsize=title.get_fontsize())
        title.set_text("")
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=192, bbox_inches="tight", metadata={"Software": None})
    plt.close(fig)
    # The PNG header holds the size, which bbox_inches="tight" has changed.
    data = buffer.getvalue()
    width, height = (int.from_bytes(data[at : at + 4], "big") // 2 for at in (16, 20))
    return Picture(data, "png", alt, width, height)


def line_charts(
    x: Sequence[float],
    charts: Mapping[str, Sequence[float] | Sequence[Sequence[float]]],
    *,
    xlabel: str,
    alt: str,
    ticks: Sequence[str] | None = None,
) -> Picture:
    """Draw line charts side by side over the same x, each from 0 up.

    Args:
        x: N numbers.
        charts: title -> N numbers; or N numbers for each seed, drawn as their median in the range
            of all seeds.
        xlabel: what x is, with its unit.
        alt: what a reader sees.
        ticks: N names for x, where its numbers are not what they say.
    Returns:
        Picture: PNG.
    """
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(1, len(charts), figsize=(9.5, 2.8), layout="constrained")
    for axis, (title, numbers) in zip(np.atleast_1d(axes), charts.items(), strict=True):
        y = np.atleast_2d(numbers)
        axis.fill_between(x, y.min(0), y.max(0), color="#4b5563", alpha=0.2, linewidth=0)
        axis.plot(x, np.median(y, axis=0), "o-", color="#4b5563")
        axis.set(title=title, xlabel=xlabel, ylim=(0, 1.1 * y.max()))
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:,.5g}")
        axis.grid(axis="y", alpha=0.4)
        if ticks is not None:
            axis.set_xticks(x, ticks)
    return figure(fig, alt)


def error_charts(tables: Mapping[str, Mapping[str, Mapping[int, float]]]) -> Picture:
    """Draw how far gradients in micro-batches are off, a chart a table, all on one scale.

    Args:
        tables: title -> order of the texts -> number of micro-batches -> error / gradient; two
            orders, with the same numbers of micro-batches in each.
    Returns:
        Picture: PNG.
    """
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(
        1, len(tables), figsize=(9.5, 2.8), sharey=True, squeeze=False, layout="constrained"
    )
    said = []
    for axis, (title, table) in zip(axes[0], tables.items(), strict=True):
        for mark, (order, row) in zip("os", table.items(), strict=True):
            axis.plot(range(len(row)), list(row.values()), f"{mark}-", label=f"{order} texts")
            errors = ", ".join(f"{error:.2f} in {pieces}" for pieces, error in row.items())
            said.append(f"{order} texts, {title}: {errors}")
        axis.set(title=title, xlabel="micro-batches")
        axis.set_xticks(range(len(row)), list(row))
    axes[0, 0].set_ylim(bottom=0)  # of all charts, now that all lines are drawn
    axes[0, 0].set_ylabel("error / gradient")
    axes[0, 0].legend()
    return figure(fig, f"Error in micro-batches. {'; '.join(said)}.")


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
        axis.axhline(1, color="black", linewidth=1, label="1: no difference")
        axis.set_yscale("log", base=2)
        axis.grid(axis="y", alpha=0.4)
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
        marked: (B, T) bool, cells that a leak reached: red, and the word.
        title: the heading.
        caption: a line under the heading.
    Returns:
        Picture: SVG.
    """
    T = max(lengths)
    size, left, top = 46, 46, 30
    canvas, y = sheet(title, caption, left + T * size + 14, top + len(lengths) * size + 10)

    def cell(row: int, step: int, x: float, y: float, w: float, h: float) -> None:
        name = f"{letter(row)}{step}"
        if marked is not None and bool(marked[row, step]):
            canvas.rect(x, y, w, h, fill=WRONG)
            canvas.text(
                x + w / 2, y + 18, name if step < lengths[row] else "", "strong on", "middle"
            )
            canvas.text(x + w / 2, y + 34, "leak", "small on", "middle")
        elif step < lengths[row]:
            step_cell(canvas, x, y, w, h, row, name, pale=True)
        else:
            canvas.padding(x, y, w, h)

    rows, columns = map(letter, range(len(lengths))), (f"t={step}" for step in range(T))
    grid(canvas, left, y + top, (size, size), list(rows), list(columns), cell, gap=6)
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
        Picture: SVG; what a read-out has lost is red.
    """
    left, width = 176, 480
    scale = width / (longest + max_added)
    canvas, top = sheet(
        f"Padding added: {added} steps of zeros",
        f"{len(lengths)} of the test utterances, as the model is given them",
        800,
        66 + 26 * len(lengths) + 40 * len(accuracies),
    )
    for row, length in enumerate(lengths):
        y = top + 14 + 26 * row
        canvas.text(14, y + 15, f"utterance {letter(row)}, {length} steps", "muted")
        step_cell(canvas, left, y, length * scale, 20, row)
        canvas.padding(left + length * scale, y, (longest + added - length) * scale, 20)
    top += 14 + 26 * len(lengths)
    words = "Accuracy on the test set; the upright mark: with none added; red: lost since then"
    canvas.text(14, top + 26, words, "muted")
    for row, (name, accuracy) in enumerate(accuracies.items()):
        y, start = top + 40 + 40 * row, left + without[name] * width
        canvas.text(14, y + 19, name, "strong")
        canvas.rect(left, y, width, 28, cls="ground")
        canvas.rect(left, y, accuracy * width, 28, cls="bar")
        lost = without[name] - accuracy
        if lost > 0:
            canvas.rect(left + accuracy * width, y, lost * width, 28, fill=WRONG)
        canvas.line(start, y - 3, start, y + 31, "mark")
        # Points of a hundred, between the two numbers as they are printed.
        points = round(100 * without[name]) - round(100 * accuracy)
        down = f"  ({points} lost)" if points > 0 else ""
        canvas.text(left + width + 10, y + 19, f"{accuracy:.0%}{down}", "strong")
    alt = f"{added} steps of padding added. Accuracy: "
    alt += ", ".join(
        f"{name} {a:.0%} (none added: {without[name]:.0%})" for name, a in accuracies.items()
    )
    return canvas.picture(alt + ".")


def batch_bars(lengths: Sequence[int], facts: Sequence[tuple[str, str]], title: str) -> Picture:
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
    left, width, height = 40, 450, 384
    bar = height / max(len(lengths), 8)
    caption = f"B = {len(lengths)} sequences down, T = {T} steps to the right"
    canvas, top = sheet(title, caption, 760, height + 24)
    for row, length in enumerate(lengths):
        y = top + 14 + row * bar
        real_width = max(width * length / T, 2)  # a sliver is still a sequence
        label(canvas, 14, y, left - 18, bar - 2, letter(row), "strong small")
        step_cell(canvas, left, y, real_width, bar - 2, row)
        canvas.padding(left + real_width, y, width - real_width, bar - 2)
    x = left + width + 30
    canvas.text(x, top + 28, f"fill {share:.0%}", "title")
    canvas.rect(x, top + 40, 210 * share, 18, cls="bar")
    canvas.padding(x + 210 * share, top + 40, 210 * (1 - share), 18)
    canvas.text(x, top + 78, f"{real:,} real steps of {len(lengths) * T:,}", "muted")
    for row, (name, value) in enumerate(facts):
        canvas.text(x, top + 120 + 46 * row, name, "muted")
        canvas.text(x, top + 139 + 46 * row, value, "strong")
    alt = f"{title}. {len(lengths)} sequences padded to {T} steps: fill {share:.0%}, {real} of "
    alt += f"{len(lengths) * T} steps real. " + "; ".join(f"{n}: {v}" for n, v in facts) + "."
    return canvas.picture(alt)


def verdict_table(
    verdicts: Mapping[str, Sequence[bool]], columns: Sequence[str], title: str, caption: str = ""
) -> Picture:
    """Draw what is right and what is wrong, a row a method.

    Args:
        verdicts: method -> N truth values, True = right.
        columns: N names.
        title: the heading.
        caption: a line under the heading.
    Returns:
        Picture: SVG.
    """
    left, cell = 30 + max(text_width(name) for name in verdicts), (80, 34)
    height = 44 + cell[1] * len(verdicts)
    canvas, top = sheet(title, caption, left + cell[0] * len(columns) + 10, height)
    right = [list(map(bool, row)) for row in verdicts.values()]

    def verdict(row: int, column: int, *place: float) -> None:
        good = right[row][column]
        verdict_cell(canvas, *place, "right" if good else "WRONG", wrong=not good)

    grid(canvas, left, top + 34, cell, list(verdicts), columns, verdict, gap=6, cls="")
    alt = f"{title} " + " ".join(
        f"{name}: right in "
        + (", ".join(c for c, good in zip(columns, row, strict=True) if good) or "none")
        + "."
        for name, row in zip(verdicts, right, strict=True)
    )
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
    left, cell = 30 + max(text_width(name) for name in leaks), 88
    canvas, top = sheet(title, "", left + cell * len(lengths) + 10, 60 + 38 * len(leaks))
    for column in range(len(lengths)):
        middle = left + cell * column + (cell - 6) / 2
        canvas.text(middle, top + 24, letter(column), "strong", "middle")
    reached = [list(map(bool, row)) for row in leaks.values()]

    def verdict(row: int, column: int, *place: float) -> None:
        leak = reached[row][column]
        verdict_cell(canvas, *place, "LEAK" if leak else "clean", wrong=leak)

    columns = [f"{length} steps" for length in lengths]
    grid(canvas, left, top + 50, (cell, 38), list(leaks), columns, verdict, gap=6, cls="")
    alt = f"{title} " + " ".join(
        f"{name}: " + (f"reaches {sum(row)} of {len(row)}." if any(row) else "clean.")
        for name, row in zip(leaks, reached, strict=True)
    )
    return canvas.picture(alt)
