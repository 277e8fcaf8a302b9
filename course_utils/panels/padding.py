"""What padding does to read-outs (chapter 00), and what it costs (chapter 01)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from course_utils.batches.checks import check_lengths
from course_utils.batches.padding import fill, pad
from course_utils.data import spread_lengths
from course_utils.panels.panel import Choice, Control, Panel, Slider, Stop
from course_utils.pictures import charts
from course_utils.pictures.svg import Picture
from course_utils.testing.measure import lstm_flops


class PaddingSlider(Panel):
    """Show what padding alone does to the accuracy of several read-outs of one model.

    Every position of its one slider is drawn beforehand and needs no kernel.

    Args:
        evaluate: `evaluate(steps)` gives read-out -> accuracy, 0 to 1, with so many steps of
            padding added. It is called once for each position, before the panel is shown.
        lengths: steps of a few utterances to draw.
        longest: steps of the longest utterance that is evaluated.
        added: the positions of the slider, in steps, evenly spaced from 0.
    Raises:
        ValueError: `added` does not begin with 0, or is not evenly spaced.
    """

    def __init__(
        self,
        evaluate: Callable[[int], Mapping[str, float]],
        lengths: Sequence[int],
        longest: int,
        *,
        added: Sequence[int] = tuple(range(0, 101, 10)),
    ) -> None:
        self._step = added[1] - added[0] if len(added) > 1 else 0
        if self._step < 1 or list(added) != list(range(0, added[-1] + 1, self._step)):
            raise ValueError(f"added is {list(added)}: give evenly spaced steps that begin with 0.")
        self._lengths, self._longest = lengths, longest
        self._accuracies = {steps: dict(evaluate(steps)) for steps in added}
        positions = [{"added": steps} for steps in added]
        most = positions[-1]
        tour = [
            Stop("Nothing is added yet. Each bar is the accuracy of one way to read the model."),
            Stop(
                "Now every recording has padding added at its end. Not one step of speech has "
                "changed, and the model is the same.",
                positions[len(positions) // 2],
            ),
            Stop(
                "With the most padding, compare each bar with where it began. A bar that has not "
                "moved belongs to a read-out that never sees the padding.",
                most,
            ),
        ]
        super().__init__(positions[0], positions, still=most, tour=tour)

    def controls_for(self, values: Mapping) -> list[Control]:
        most = max(self._accuracies)
        return [Slider("added", "Padding added", 0, most, self._step, unit="steps")]

    def draw(self, added: int) -> tuple[Picture, str]:
        now, without = self._accuracies[added], self._accuracies[0]
        picture = charts.read_out_bars(
            added, self._lengths, self._longest, now, without, max(self._accuracies)
        )
        kept = [name for name in now if now[name] == without[name]]
        words = f"Unchanged by {added} added steps: {', '.join(kept) or 'none'}."
        return picture, words if added else "Nothing added yet."


class PaddingExplorer(Panel):
    """Show what padding costs, over batch size and spread of real lengths.

    Args:
        lengths_by_source: name -> (N,) integers, real lengths.
        input_size: D, features of a step, of float32.
        hidden_size: H of the LSTM whose operations are counted.
    Raises:
        ValueError: `lengths_by_source` is empty.
        TypeError, ValueError: what it holds are not integers of at least 1.
    """

    def __init__(
        self,
        lengths_by_source: Mapping[str, Tensor],
        *,
        input_size: int = 12,
        hidden_size: int = 32,
    ) -> None:
        if not lengths_by_source:
            raise ValueError("lengths_by_source is empty: give at least one name and its lengths.")
        for lengths in lengths_by_source.values():
            check_lengths(lengths)
        self._lengths_by_source = dict(lengths_by_source)
        self._input_size, self._hidden_size = input_size, hidden_size
        tour = [
            Stop(
                "Begin with a spread of 0: all sequences have the same length, so nothing is "
                "padded, and 1 / fill is 1.",
                {"spread": 0},
            ),
            Stop(
                "Halfway: the lengths lie around their median, and padding appears.", {"spread": 50}
            ),
            Stop(
                "These are the lengths as found in the data. The longest sequence sets T for all "
                "the others; what they lack is hatched."
            ),
            Stop(
                "A larger batch only adds sequences. Its longest one can only get longer, and "
                "every row is padded to it.",
                {"batch_size": 32},
            ),
        ]
        values = {"source": next(iter(lengths_by_source)), "batch_size": 16, "spread": 100}
        super().__init__(values, tour=tour)

    def controls_for(self, values: Mapping) -> list[Control]:
        return [
            Choice("source", "Lengths from", tuple(self._lengths_by_source)),
            Slider("batch_size", "Batch size", 1, 32, unit="sequences"),
            Slider("spread", "Spread", 0, 100, 5, unit="percent"),
        ]

    def draw(self, source: str, batch_size: int, spread: int) -> tuple[Picture, str]:
        # The first of the same shuffled window each time: a larger batch adds sequences to it.
        real = self._lengths_by_source[source]
        lengths = spread_lengths(real, spread, max(len(real), 32))[:batch_size]
        D, H = self._input_size, self._hidden_size
        padded, lengths = pad([torch.zeros(length, D) for length in lengths.tolist()])
        share = fill(lengths)
        real_bytes = int(lengths.sum()) * D * padded.element_size()
        steps = padded.shape[0] * padded.shape[1]
        facts = [
            ("padded tensor", f"{padded.nbytes / 1024:,.1f} KiB"),
            ("of which real", f"{real_bytes / 1024:,.1f} KiB"),
            (f"LSTM({H}) forward", f"{lstm_flops(steps, D, H) / 1e6:,.1f} MFLOP"),
            ("saving at most, 1 / fill", f"{1 / share:.2f}x"),
        ]
        picture = charts.batch_bars(lengths.tolist(), facts, source)
        words = f"Padding is {1 - share:.0%} of this batch. "
        words += f"The longest sequence, {padded.shape[1]} steps, sets T for all."
        return picture, words
