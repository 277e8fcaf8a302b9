"""Batching policies: the batches of an epoch, how they are ordered, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from course_utils.batches.sampling import Epoch
from course_utils.pictures.charts import figure
from course_utils.pictures.grid import WIDEST, sheet
from course_utils.pictures.svg import PALETTE, Picture
from course_utils.testing.measure import Ratio

# The first word that is in a policy's name gives its colour, in every figure.
_COLORS = {"budget": 4, "pools": 3, "short to long": 2, "sorted": 1, "random": 0}


def policy_color(name: str) -> str:
    """Return the colour in which every figure draws a policy.

    Args:
        name: with "budget", "pools", "short to long", "sorted" or "random" in it.
    Returns:
        a colour of the palette, such as "#0066a6".
    Raises:
        ValueError: none of these words is in the name.
    """
    for word, index in _COLORS.items():
        if word in name:
            return PALETTE[index]
    raise ValueError(f"name is {name!r}: put one of these into it: {', '.join(_COLORS)}.")


def length_by_place(means: Mapping[str, Sequence[float]], alt: str) -> Picture:
    """Draw the mean length of each batch over its place in the epoch, a chart a policy.

    Args:
        means: policy -> the mean length of each batch, in steps, in the order of training.
        alt: what a reader sees.
    Returns:
        Picture: PNG; a dot a batch, and the straight line that fits them best.
    """
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(
        1, len(means), figsize=(9.5, 2.8), sharey=True, layout="constrained", squeeze=False
    )
    for axis, (name, lengths) in zip(axes[0], means.items(), strict=True):
        places = np.arange(1, len(lengths) + 1)
        slope, start = np.polyfit(places, lengths, 1)
        axis.plot(places, start + slope * places, "--", color="#59636e")
        axis.scatter(places, lengths, s=20, color=policy_color(name))
        axis.set(title=name, xlabel="place of the batch in the epoch")
        axis.grid(axis="y", alpha=0.4)
    axes[0, 0].set_ylabel("mean length, words")
    return figure(fig, alt)


def words_of_batches(words: Mapping[str, Sequence[int]], alt: str) -> Picture:
    """Draw how many words each batch has, the fewest first, a chart a policy.

    Args:
        words: policy -> the words of each batch, in any order.
        alt: what a reader sees.
    Returns:
        Picture: PNG; a bar a batch, with the numbers at the smallest and the largest.
    """
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(
        1, len(words), figsize=(9.5, 2.8), sharey=True, layout="constrained", squeeze=False
    )
    for axis, (name, counts) in zip(axes[0], words.items(), strict=True):
        counts = sorted(counts)
        axis.bar(range(len(counts)), counts, color=policy_color(name))
        for place, where in ((0, "left"), (len(counts) - 1, "right")):
            beside = counts[min(place + 4, len(counts) - 1)]  # as high as the bars under the text
            axis.annotate(f"{counts[place]:,}", (place, beside), ha=where, va="bottom")
        axis.set(title=name, xlabel="the batches of an epoch, fewest words first", xticks=[])
        axis.grid(axis="y", alpha=0.4)
        axis.yaxis.set_major_formatter("{x:,.0f}")
    axes[0, 0].set_ylabel("words in the batch")
    return figure(fig, alt)


def cost_charts(
    fuller: Mapping[str, float],
    speeds: Mapping[str, Mapping[str, Ratio]],
    kept: Mapping[str, Mapping[str, float]],
    alt: str,
) -> Picture:
    """Draw what policies cost, a row each: speed beside fill, and memory.

    Args:
        fuller: policy -> its fill, relative to the first policy.
        speeds: policy -> model -> time of the first policy / time of this one.
        kept: policy -> model -> MiB kept for the backward pass of the largest batch.
        alt: what a reader sees.
    Returns:
        Picture: PNG; a model has a mark of its own, the fill is an upright line, and a bar reaches
        from the lowest to the highest of the paired ratios.
    """
    import matplotlib.pyplot as plt

    height = 0.5 * len(fuller) + 1.3
    fig, axes = plt.subplots(1, 2, figsize=(9.5, height), sharey=True, layout="constrained")
    for row, name in enumerate(fuller):
        axes[0].plot([fuller[name]] * 2, [row - 0.35, row + 0.35], color="#1f2328", linewidth=2)
        for number, model in enumerate(speeds[name]):
            place = row + 0.3 * (number - (len(speeds[name]) - 1) / 2)
            look = {"marker": "os^D"[number], "color": policy_color(name), "s": 45, "zorder": 3}
            speed = speeds[name][model]
            axes[0].plot([speed.low, speed.high], [place] * 2, color=look["color"], alpha=0.5)
            axes[0].scatter([speed.median], [place], **look)
            axes[1].scatter([kept[name][model]], [place], **look)
    for number, model in enumerate(speeds[name]):
        axes[1].scatter([], [], marker="os^D"[number], color="#59636e", label=model)
    axes[1].legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    axes[0].set_yticks(range(len(fuller)), list(fuller))
    axes[0].invert_yaxis()
    axes[0].set(title="speed of an epoch, first row = 1\n(upright line: fill)", xlim=(0, None))
    axes[1].set(title="kept for the largest batch,\nMiB", xlim=(0, None))
    for axis in axes:
        axis.title.set_fontsize(10)
        axis.grid(axis="x", alpha=0.4)
    return figure(fig, alt)


def skyline(
    cells: Sequence[int],
    real: Sequence[int],
    found: Epoch,
    title: str,
    policy: str = "random",
) -> Picture:
    """Draw the batches of an epoch in the order of training, a column each.

    Args:
        cells: padded steps of each batch, B * T.
        real: real steps of each batch.
        found: what the epoch was found to be.
        title: the heading.
        policy: gives the colour, as for `policy_color`.
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
        canvas.rect(x, bottom - full, max(step - 1, 1), full, fill=policy_color(policy))
    facts = {
        "fill": f"{found.fill:.0%}",
        "batches an epoch": f"{found.batches}",
        "largest batch, padded steps": f"{found.largest:,}",
        "pairs repeated": f"{found.repeats:.0%}",
        "place and length correlate by": f"{found.correlation:+.2f}",
    }
    for row, (name, value) in enumerate(facts.items()):
        canvas.text(590, top + 34 + 44 * row, name, "muted")
        canvas.text(590, top + 53 + 44 * row, value, "strong")
    alt = f"{title}: " + "; ".join(f"{name} {value}" for name, value in facts.items()) + "."
    return canvas.picture(alt)
