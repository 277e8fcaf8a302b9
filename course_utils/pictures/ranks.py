"""Ranks over time: what each of them does in a step, and how long it waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from course_utils.pictures.charts import figure
from course_utils.pictures.grid import WIDEST, sheet
from course_utils.pictures.svg import PALETTE, Picture


def ranks_over_time(padded: Tensor, tokens: Tensor, title: str, facts: dict[str, str]) -> Picture:
    """Draw the ranks as rows, time to the right; a step ends when the slowest rank has ended it.

    Args:
        padded: (steps, ranks) padded steps that a rank runs in a step.
        tokens: (steps, ranks) how many of them are real.
        title: the heading.
        facts: name -> value, of the whole epoch, beside the picture.
    Returns:
        Picture: SVG; coloured is real, hatched is padding, and empty is waiting.
    """
    steps, ranks = padded.shape
    left, width, high = 64, 500, 26
    caption = f"{steps} steps; coloured: real, hatched: padding, empty: waiting for the slowest"
    canvas, top = sheet(title, caption, WIDEST, max(ranks * (high + 8) + 40, 200))
    ends = padded.amax(dim=1).cumsum(0).double()
    scale, starts = width / ends[-1].item(), [0.0, *ends.tolist()]
    bottom = top + 14 + ranks * (high + 8)
    for rank in range(ranks):
        y = top + 18 + rank * (high + 8)
        canvas.text(left - 8, y + 18, f"rank {rank}", "muted small", "end")
        canvas.rect(left, y, width, high, cls="ground")
        for step in range(steps):
            x, run = left + starts[step] * scale, padded[step, rank].item() * scale
            real = tokens[step, rank].item() * scale
            canvas.rect(x, y, real, high, fill=PALETTE[rank % len(PALETTE)])
            canvas.padding(x + real, y, run - real, high)
    for start in starts:
        canvas.line(left + start * scale, top + 12, left + start * scale, bottom + 4, "mark")
    canvas.text(
        left,
        bottom + 22,
        "time, on a scale of its own; an upright line: all ranks exchange gradients",
        "muted small",
    )
    for row, (name, value) in enumerate(facts.items()):
        canvas.text(590, top + 34 + 44 * row, name, "muted")
        canvas.text(590, top + 53 + 44 * row, value, "strong")
    alt = f"{title}: " + "; ".join(f"{name} {value}" for name, value in facts.items()) + "."
    return canvas.picture(alt)


def step_weights(counts: Sequence[int]) -> Picture:
    """Draw the weight of each step in the averaged gradient, for two ways to take the mean.

    Args:
        counts: real steps of each rank.
    Returns:
        Picture: SVG; a column is a step, and all columns of one way together weigh 1.
    """
    everything, width, high, gap = sum(counts), 700, 90, 66
    caption = "a column is a step of a rank; its height is its weight in the averaged gradient"
    canvas, top = sheet("Which step weighs how much?", caption, WIDEST, 2 * (high + gap))
    own = [1 / (len(counts) * count) for count in counts]
    ways = {"a mean on each rank": own, "one mean over all": [1 / everything] * len(counts)}
    column, bottom = width / (everything + 2 * len(counts)), top - 16
    for name, weights in ways.items():
        bottom += high + gap - 10
        canvas.text(20, bottom - high - 14, name, "strong")
        x = 20.0
        for rank, (count, weight) in enumerate(zip(counts, weights, strict=True)):
            tall = high * weight / max(own)
            for place in range(count):
                spot = x + place * column
                canvas.rect(spot, bottom - tall, column - 1, tall, fill=PALETTE[rank])
            label = f"rank {rank}: {count} steps, weight {weight:.4f} each"
            at_end = x > width / 2
            end = x + count * column if at_end else x
            canvas.text(end, bottom + 16, label, "muted small", "end" if at_end else "start")
            x += (count + 2) * column
    alt = "; ".join(
        f"{name}: " + ", ".join(f"a step of rank {i} weighs {w:.4f}" for i, w in enumerate(one))
        for name, one in ways.items()
    )
    return canvas.picture(alt + ".")


def useful_over_ranks(ranks: Sequence[int], useful: Mapping[str, Sequence[float]]) -> Picture:
    """Draw the useful share of the ranks' time over their number, a line a policy.

    Args:
        ranks: their numbers.
        useful: policy -> shares, 0 to 1.
    Returns:
        Picture: PNG.
    """
    import matplotlib.pyplot as plt

    fig, axis = plt.subplots(figsize=(8, 3.4), layout="constrained")
    styles = ("-", "--", ":", "-.", (0, (6, 2)))
    for (name, shares), style, colour in zip(useful.items(), styles, PALETTE, strict=False):
        axis.plot(ranks, shares, "o", linestyle=style, color=colour, label=name)
    axis.set_xscale("log", base=2)
    axis.set_xticks(ranks, [f"{n:,}" for n in ranks])
    axis.set(xlabel="ranks", ylabel="useful share of their time", ylim=(0, 1))
    axis.legend(bbox_to_anchor=(1.01, 1), loc="upper left")
    alt = f"Lines of the useful share of time, from {ranks[0]} to {ranks[-1]} ranks. "
    alt += "; ".join(f"{name}: from {s[0]:.2f} to {s[-1]:.2f}" for name, s in useful.items())
    return figure(fig, alt + ".")
