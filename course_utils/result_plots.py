"""Figures of what was measured: accuracies with their spread, confusion, the scoreboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from course_utils.measure import Row
from course_utils.plots import figure
from course_utils.svg import PALETTE, Picture


def accuracy_dots(
    measured: Mapping[str, Sequence[float]], published: Mapping[str, Sequence[float]], alt: str
) -> Picture:
    """Draw accuracies as dots, a row a model: what was measured, and what others published.

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
    axis.axhline(len(measured) - 0.5, color="#b4bac2", linewidth=1)
    axis.set(xlabel="test accuracy, percent")
    axis.grid(axis="x", alpha=0.4)
    return figure(fig, alt)


def confusion(counts: Tensor, alt: str) -> Picture:
    """Draw how often each class was taken for each.

    Args:
        counts: (C, C) integers, true class down, predicted class to the right.
        alt: what a reader sees.
    Returns:
        Picture: PNG.
    """
    import matplotlib.pyplot as plt
    import seaborn as sns

    fig, axis = plt.subplots(figsize=(5.2, 4.4), layout="constrained")
    labels = range(1, len(counts) + 1)
    sns.heatmap(
        counts.numpy(), annot=True, fmt="d", cmap="Blues", cbar=False, square=True, ax=axis,
        xticklabels=labels, yticklabels=labels,
    )  # fmt: skip
    axis.set(xlabel="speaker, as predicted", ylabel="speaker, as it is")
    return figure(fig, alt)


def scoreboard_charts(rows: Sequence[Row], alt: str) -> Picture:
    """Draw the scoreboard: a row a method, a chart for each of its numbers.

    Args:
        rows: of the scoreboard.
        alt: what a reader sees.
    Returns:
        Picture: PNG; a method that is not correct has an open red cross for a mark.
    """
    import matplotlib.pyplot as plt

    charts = {
        "accuracy": "test accuracy",
        "time_ratio": "speed of a training step,\nrelative to the first row",
        "activation_mib": "kept for the backward pass, MiB",
        "fill": "fill of what is run",
    }
    height = 0.38 * len(rows) + 1.2
    fig, axes = plt.subplots(1, len(charts), figsize=(10.5, height), sharey=True)
    for axis, (column, title) in zip(axes, charts.items(), strict=True):
        for place, row in enumerate(rows):
            look = {"marker": "o", "color": PALETTE[0]} if row.correct else {}
            look = look or {"marker": "x", "color": PALETTE[7], "linewidths": 2.5}
            axis.scatter([getattr(row, column)], [place], s=60, **look)
        axis.set_title(title, fontsize=9)
        axis.grid(alpha=0.4)
    axes[0].set_yticks(range(len(rows)), [row.method for row in rows])
    axes[0].invert_yaxis()
    axes[1].axvline(1, color="black", linewidth=1)
    fig.tight_layout()
    return figure(fig, alt)
