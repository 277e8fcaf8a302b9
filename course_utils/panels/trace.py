"""The shape tracer, and curves while models train (chapter 05)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from course_utils.panels.panel import Control, Panel, Slider, Stop, Tick
from course_utils.pictures.svg import LETTERS, Picture
from course_utils.pictures.trace import loss_curves, trace_table
from course_utils.tracing import FAULTS, trace


class TraceExplorer(Panel):
    """Follow a ragged batch through every layer of a hybrid model, and break it.

    Args:
        lengths: 2 to 4 numbers of steps, from 1 to 8.
    Raises:
        ValueError: there are fewer than 2 or more than 4 lengths, or one is not in 1..8.
    """

    def __init__(self, lengths: Sequence[int] = (7, 5, 3, 2)) -> None:
        if not 2 <= len(lengths) <= 4 or not all(
            isinstance(length, int) and 1 <= length <= 8 for length in lengths
        ):
            raise ValueError(f"lengths is {list(lengths)}: give 2 to 4 lengths of 1..8.")
        self._lengths = list(lengths)
        self._layers = [stage.name for stage in trace(self._lengths)]
        tour = [
            Stop(
                "Read from the top, layer by layer: the shape, the lengths, and whether each "
                "sequence has the same values as alone. Nothing is wrong here."
            ),
            Stop(
                "Here the padding is not cleared between the two convolutions, and columns of "
                "padding were added. Look for the first layer with a difference: every later one "
                "inherits it.",
                {"not_cleaned": True, "added": 4},
            ),
            Stop(
                "Only the last step is at fault here: the mean is taken over all steps, padding "
                "included. Everything above it is right.",
                {"mean_over_all": True, "added": 4},
            ),
            Stop(
                "Without total_length, the LSTM gives back fewer columns than it was given. With "
                "the added columns, the mask no longer fits, and PyTorch raises an error.",
                {"no_total_length": True, "added": 4},
            ),
        ]
        super().__init__({"added": 0, **dict.fromkeys(FAULTS, False)}, tour=tour)

    def controls_for(self, values: Mapping) -> list[Control]:
        boxes = [Tick(name, label) for name, label in FAULTS.items()]
        return [Slider("added", "Columns of padding added", 0, 8), *boxes]

    def draw(self, added: int, **ticked: bool) -> tuple[Picture, str]:
        faults = {name for name, on in ticked.items() if on}
        stages = trace(self._lengths, added, faults)
        title = "The hybrid, as it should be"
        if faults:
            title = f"The hybrid, with {len(faults)} fault{'s'[: len(faults) > 1]} put back"
        picture = trace_table(stages, self._layers, title)
        broken = next((stage for stage in stages if stage.differs or stage.error), None)
        warned = next((stage for stage in stages if stage.warning), None)
        if stages[-1].error:
            words = f"It raises an error in: {stages[-1].name}."
        elif not broken:
            words = "No error, and every sequence has the same values as alone."
            words += " The fault is still there: it is hidden by this batch." if faults else ""
        else:
            who = ", ".join(LETTERS[row] for row in stages[-1].differs)
            words = f"No error, and a wrong answer for {who}. "
            words += f"It begins in: {broken.name}."
        if warned:
            words += f" Lengths, mask and shape disagree first at: {warned.name}."
        return picture, words


class TrainingCurves(Panel):
    """A picture of losses that grows while models train; it has no controls.

    Args:
        names: of the models.
        epochs: how many there will be.
    """

    def __init__(self, names: Sequence[str], epochs: int) -> None:
        self._curves: dict[str, list[float]] = {name: [] for name in names}
        self._epochs = epochs
        super().__init__({})

    def draw(self) -> tuple[Picture, str]:
        return loss_curves(self._curves, self._epochs), ""

    def record(self, name: str, losses: Sequence[float]) -> None:
        """Draw the losses of each epoch so far.

        Raises:
            ValueError: there is no model of that name.
        """
        if name not in self._curves:
            raise ValueError(f"name is {name!r}: the curves are {', '.join(self._curves)}.")
        self._curves[name] = list(losses)
        self.show()
