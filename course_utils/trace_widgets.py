"""The live panels of chapter 05: the shape tracer, and curves while models train."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from course_utils import trace_plots
from course_utils.svg import LETTERS, Picture
from course_utils.tracing import FAULTS, trace
from course_utils.widgets import Panel


def trace_explorer(lengths: Sequence[int] = (7, 5, 3, 2)) -> Panel:
    """Follow a ragged batch through every layer of a hybrid model, and break it.

    Args:
        lengths: 2 to 4 numbers of steps, from 1 to 8.
    Returns:
        Panel: a slider for added columns of padding, and a box to tick for each classic fault.
    Raises:
        ValueError: there are fewer than 2 or more than 4 lengths, or one is not in 1..8.
    """
    if not 2 <= len(lengths) <= 4 or not all(
        isinstance(length, int) and 1 <= length <= 8 for length in lengths
    ):
        raise ValueError(f"lengths is {list(lengths)}: give 2 to 4 lengths of 1..8.")
    names = [stage.name for stage in trace(list(lengths))]

    def draw(added: int, **ticked: bool) -> tuple[Picture, str]:
        faults = {name for name, on in ticked.items() if on}
        stages = trace(list(lengths), added, faults)
        title = "The hybrid, as it should be"
        if faults:
            title = f"The hybrid, with {len(faults)} fault{'s'[: len(faults) > 1]} put back"
        picture = trace_plots.trace_table(stages, names, title)
        broken = next((stage for stage in stages if stage.differs or stage.error), None)
        warned = next((stage for stage in stages if stage.warning), None)
        if stages[-1].error:
            words = f"It raises an error in: {stages[-1].name}."
        elif not broken:
            words = "No error, and every sequence has what it has alone."
            words += " The fault is still there: it is hidden by this batch." if faults else ""
        else:
            who = ", ".join(LETTERS[row] for row in stages[-1].differs)
            words = f"No error, and a wrong answer for {who}. "
            words += f"It begins in: {broken.name}."
        if warned:
            words += f" Lengths, mask and shape disagree first at: {warned.name}."
        return picture, words

    controls = [
        {"name": "added", "label": "Columns of padding added", "unit": ""}
        | {"min": 0, "max": 8, "step": 1},
        *({"name": name, "label": label, "check": True} for name, label in FAULTS.items()),
    ]
    values = {"added": 0, **dict.fromkeys(FAULTS, False)}
    return Panel(draw, controls, values)


def training_curves(names: Sequence[str], epochs: int) -> tuple[Panel, Callable]:
    """Make a picture of losses that grows while models train.

    Args:
        names: of the models.
        epochs: how many there will be.
    Returns:
        panel: a Panel without controls, to show before training begins.
        record: `record(name, losses)` draws the losses of each epoch so far.
    Raises:
        ValueError: `record` is given a name that is not in `names`.
    """
    curves: dict[str, list[float]] = {name: [] for name in names}

    def draw(version: int) -> tuple[Picture, str]:
        return trace_plots.loss_curves(curves, epochs), ""

    panel = Panel(draw, [], {"version": 0})

    def record(name: str, losses: Sequence[float]) -> None:
        if name not in curves:
            raise ValueError(f"name is {name!r}: the curves are {', '.join(curves)}.")
        curves[name] = list(losses)
        panel.values = {"version": panel.values["version"] + 1}

    return panel, record
