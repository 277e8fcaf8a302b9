"""Figures of what was measured: accuracies with their spread, the scoreboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from course_utils.pictures.charts import figure
from course_utils.pictures.policy import policy_color
from course_utils.pictures.svg import PALETTE, Picture
from course_utils.testing.measure import Score


def accuracy_dots(
    measured: Mapping[str, Sequence[float]], published: Mapping[str, Sequence[float]], alt: str
) -> Picture:
    """Draw accuracies as dots, a row a model: what was measured, and what others published, if any.

    Args:
        measured: model -> accuracies, 0 to 1, one a seed.
        published: source -> accuracies, 0 to 1.
        alt: what a reader sees.
    Returns:
        Picture: PNG.
    """
    import matplotlib.pyplot as plt

    names = [*measured, *published]
    fig, axis = plt.subplots(figsize=(8.5, 0.5 * len(names) + 1), layout="constrained")
    for row, name in enumerate(names):
        ours = name in measured
        values = 100 * np.array(measured[name] if ours else published[name])
        look = {"color": PALETTE[0], "s": 60} if ours else {"color": "#59636e", "marker": "D"}
        axis.plot([values.min(), values.max()], [row, row], color=look["color"], alpha=0.4)
        axis.scatter(values, [row] * len(values), alpha=0.8, **look)
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    if published:
        axis.axhline(len(measured) - 0.5, color="#b4bac2", linewidth=1)
    axis.set(xlabel="test accuracy, percent")
    axis.grid(axis="x", alpha=0.4)
    return figure(fig, alt)


def spread_curves(
    curves: Mapping[str, Sequence[Sequence[float]]], *, xlabel: str, ylabel: str, alt: str
) -> Picture:
    """Draw curves with their spread over several seeds.

    Args:
        curves: name -> for each seed, its numbers at 1, 2, 3 ...
        xlabel, ylabel: what the axes are, with their units.
        alt: what a reader sees.
    Returns:
        Picture: PNG; a line is a median, the area around it reaches from the lowest seed to the
            highest, and each line has dashes of its own. Their names stand beside their right
            ends, in the same order.
    """
    import matplotlib.pyplot as plt

    fig, axis = plt.subplots(figsize=(8.5, 3.6), layout="constrained")
    for index, (name, seeds) in enumerate(curves.items()):
        values = np.array(seeds)
        x = np.arange(1, values.shape[1] + 1)
        look = {"color": PALETTE[index], "linestyle": ("-", "--", ":", "-.")[index % 4]}
        axis.fill_between(
            x, values.min(0), values.max(0), color=PALETTE[index], alpha=0.15, linewidth=0
        )
        axis.plot(x, np.median(values, axis=0), linewidth=2, label=name, **look)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.grid(alpha=0.4)
    axis.margins(x=0.02)
    lines = sorted(axis.lines, key=lambda line: -line.get_ydata()[-1])
    axis.legend(
        handles=lines,
        labelcolor="linecolor",
        frameon=False,
        loc="upper left" if lines[0].get_ydata()[-1] > sum(axis.get_ylim()) / 2 else "lower left",
        bbox_to_anchor=(1, 0, 0.3, 1),
    )
    return figure(fig, alt)


def scoreboard_charts(
    rows: Sequence[Score], accuracies: Mapping[str, Sequence[float]], alt: str
) -> Picture:
    """Draw the scoreboard: a row a method, a chart for each of its numbers.

    Args:
        rows: of the scoreboard.
        accuracies: method -> the accuracies, 0 to 1, that its row's is the mean of, one a seed.
        alt: what a reader sees.
    Returns:
        Picture: PNG; a method that is not correct has an open red cross for a mark.
    """
    import matplotlib.pyplot as plt

    charts = {
        "accuracy": "test accuracy,\n0 to 1",
        "time_ratio": "speed of a training step,\nfirst row = 1, log scale",
        "activation_mib": "kept for the\nbackward pass, MiB",
        "fill": "fill of what is run,\n0 to 1",
    }
    height = 0.38 * len(rows) + 1.2
    fig, axes = plt.subplots(1, len(charts), figsize=(10.5, height), sharey=True)
    for axis, (column, title) in zip(axes, charts.items(), strict=True):
        for place, row in enumerate(rows):
            look = {"marker": "o", "color": PALETTE[0]} if row.correct else {}
            look = look or {"marker": "x", "color": PALETTE[7], "linewidths": 2.5}
            axis.scatter([getattr(row, column)], [place], s=60, **look)
            if column == "accuracy":
                seeds = accuracies[row.method]
                axis.plot(seeds, [place] * len(seeds), "|", color=look["color"], alpha=0.7)
        axis.set_title(title, fontsize=9)
        axis.grid(alpha=0.4)
        if column in ("activation_mib", "fill"):
            axis.set_xlim(0, 1.1 * max(getattr(row, column) for row in rows))
    axes[0].set_yticks(range(len(rows)), [row.method for row in rows])
    axes[0].invert_yaxis()
    axes[1].axvline(1, color="black", linewidth=1)
    axes[1].set_xscale("log", base=2)
    axes[1].xaxis.set_major_formatter(lambda speed, _: f"{speed:.3g}")
    fig.tight_layout()
    return figure(fig, alt)


def loss_steps(
    curves: Mapping[str, Sequence[Sequence[float]]], alt: str, *, epochs: int = 1
) -> Picture:
    """Draw training losses step by step, a chart a policy, side by side on one scale.

    Args:
        curves: policy -> for each seed, the loss of each step.
        alt: what a reader sees.
        epochs: equal parts of the steps, with a line between them.
    Returns:
        Picture: PNG; the first seed is strong, the others are pale.
    """
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(
        1, len(curves), figsize=(9.5, 2.8), sharey=True, layout="constrained", squeeze=False
    )
    for axis, (name, seeds) in zip(axes[0], curves.items(), strict=True):
        first, *others = (np.array(losses) for losses in seeds)
        for losses in others:
            axis.plot(losses, color=policy_color(name), linewidth=0.8, alpha=0.25)
        axis.plot(first, color=policy_color(name), linewidth=1.5)
        for epoch in range(1, epochs):
            axis.axvline(epoch * len(first) / epochs, color="#59636e", linewidth=1, linestyle="--")
        axis.set(title=name, xlabel="step of training")
        axis.grid(axis="y", alpha=0.4)
    axes[0, 0].set_ylabel("loss of the batch")
    return figure(fig, alt)
