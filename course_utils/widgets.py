"""The live panels: a control moves, torch runs, Python draws. The only file with ipywidgets."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping, Sequence

import anywidget
import torch
import traitlets
from torch import Tensor

from course_utils import packed_plots, plots
from course_utils.batching import fill, pad
from course_utils.checks import check_lengths
from course_utils.data import spread_lengths
from course_utils.measure import lstm_flops
from course_utils.packed import layout
from course_utils.svg import LETTERS, Picture, escape

_HERE = pathlib.Path(__file__).parent
HINT = "Run this cell to"


class Panel(anywidget.AnyWidget):
    """Labelled native controls above a picture that Python draws for their values.

    anywidget builds on ipywidgets. Native controls, because they have a label that a screen
    reader finds, keep the focus while the picture changes, and answer fast.

    Args:
        draw: `draw(**values)` gives the picture and a sentence under it.
        controls: dicts with `name`, `label` and either `options` (a list of strings), or
            `check` (a truth value to tick), or `min`, `max`, `step` and `unit`, perhaps `small`;
            `off` greys one out that changes nothing now;
            or a function from the values to such a list.
        values: name -> first value. The value "pick" is the name of the picked cell, if the
            picture has cells to pick.
        positions: values to draw beforehand, so that those positions need no kernel.
        settle: `settle(before, now)` gives values that fit together, where one that changed
            asks others to change; `before` are the settled values shown until now.
        still: the values of the picture that a saved notebook shows; the first ones where None.
        invite: a sentence that asks for a pick, shown while there is none and one can be made.
    """

    _esm = _HERE / "widget.js"
    _css = _HERE / "widget.css"
    controls = traitlets.List().tag(sync=True)
    values = traitlets.Dict().tag(sync=True)
    svg = traitlets.Unicode().tag(sync=True)
    words = traitlets.Unicode().tag(sync=True)
    frames = traitlets.Dict().tag(sync=True)
    # The page counts what it asks, and sees by the echo whether a kernel hears it.
    asked = traitlets.Int().tag(sync=True)
    heard = traitlets.Int().tag(sync=True)
    invite = traitlets.Unicode().tag(sync=True)
    # A page without a kernel says here where its reader finds one.
    launch = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        draw: Callable[..., tuple[Picture, str]],
        controls: Sequence[Mapping] | Callable[[Mapping], Sequence[Mapping]],
        values: Mapping,
        positions: Sequence[Mapping] = (),
        settle: Callable[[dict, dict], dict] = lambda before, now: now,
        still: Mapping | None = None,
        invite: str = "",
    ) -> None:
        frames = {}
        for position in positions:
            picture, words = draw(**position)
            # In the order of names: a saved state is sorted by them.
            key = "|".join(str(position[name]) for name in sorted(position))
            frames[key] = [picture.svg, words]
        self._draw, self._settle = draw, settle
        self._controls = controls if callable(controls) else lambda values: controls
        self._settled = dict(values)
        super().__init__(values=dict(values), frames=frames, invite=invite)
        self._redraw({"new": self.values})
        self._still = draw(**still)[0] if still else self.picture
        self.observe(self._redraw, "values")
        traitlets.dlink((self, "asked"), (self, "heard"))

    def _redraw(self, change: Mapping) -> None:
        settled = change["new"]
        if settled != self._settled:
            self._settled = settled = self._settle(self._settled, settled)
            if settled != change["new"]:
                self.values = settled  # comes back here
                return
        self.picture, words = self._draw(**settled)
        # One message: the picture and its sentence must never be of two positions.
        with self.hold_sync():
            self.controls = list(self._controls(settled))
            self.words = words
            self.svg = self.picture.svg

    def _repr_mimebundle_(self, **kwargs) -> tuple[dict, dict]:
        # A notebook that is opened and not yet run has no kernel to draw: it shows this picture.
        data, metadata = super()._repr_mimebundle_(**kwargs)
        names = ", ".join(escape(control["label"]) for control in self.controls)
        what = f"use the controls: {names}" if names else "see the picture change"
        hint = f"<p><em>{HINT} {what}.</em></p>"
        data["text/plain"] = repr(self._still)
        data["text/html"] = self._still._repr_html_() + hint
        return data, metadata


def padding_slider(
    evaluate: Callable[[int], Mapping[str, float]],
    lengths: Sequence[int],
    longest: int,
    *,
    added: Sequence[int] = tuple(range(0, 101, 10)),
) -> Panel:
    """Show what padding alone does to the accuracy of several read-outs of one model.

    Args:
        evaluate: `evaluate(steps)` gives read-out -> accuracy, 0 to 1, with so many steps of
            padding added. It is called once for each position, before the panel is shown.
        lengths: steps of a few utterances to draw.
        longest: steps of the longest utterance that is evaluated.
        added: the positions of the slider, in steps, evenly spaced from 0.
    Returns:
        Panel: with one slider; every position is drawn beforehand and needs no kernel.
    Raises:
        ValueError: `added` does not begin with 0, or is not evenly spaced.
    """
    step = added[1] - added[0] if len(added) > 1 else 0
    if step < 1 or list(added) != list(range(0, added[-1] + 1, step)):
        raise ValueError(f"added is {list(added)}: give evenly spaced steps that begin with 0.")
    table = {steps: dict(evaluate(steps)) for steps in added}

    def draw(added: int) -> tuple[Picture, str]:
        now, without = table[added], table[0]
        picture = plots.read_out_bars(added, lengths, longest, now, without, max(table))
        kept = [name for name in now if now[name] == without[name]]
        words = f"Unchanged by {added} added steps: {', '.join(kept) or 'none'}."
        return picture, words if added else "Nothing added yet."

    control = {"name": "added", "label": "Padding added", "unit": "steps"}
    control |= {"min": 0, "max": added[-1], "step": step}
    positions = [{"added": steps} for steps in added]
    return Panel(draw, [control], positions[0], positions, still=positions[-1])


def padding_explorer(
    lengths_by_source: Mapping[str, Tensor], *, input_size: int = 12, hidden_size: int = 32
) -> Panel:
    """Show what padding costs, over batch size and spread of real lengths.

    Args:
        lengths_by_source: name -> (N,) integers, real lengths.
        input_size: D, features of a step, of float32.
        hidden_size: H of the LSTM whose operations are counted.
    Returns:
        Panel: a choice of source, sliders for batch size and spread.
    Raises:
        ValueError: `lengths_by_source` is empty.
        TypeError, ValueError: what it holds are no integers of at least 1.
    """
    if not lengths_by_source:
        raise ValueError("lengths_by_source is empty: give at least one name and its lengths.")
    for lengths in lengths_by_source.values():
        check_lengths(lengths)

    def draw(source: str, batch_size: int, spread: int) -> tuple[Picture, str]:
        # The first of the same shuffled window each time: a larger batch adds sequences to it.
        real = lengths_by_source[source]
        lengths = spread_lengths(real, spread, max(len(real), 32))[:batch_size]
        padded, lengths = pad([torch.zeros(length, input_size) for length in lengths.tolist()])
        share = fill(lengths)
        real_bytes = int(lengths.sum()) * input_size * padded.element_size()
        steps = padded.shape[0] * padded.shape[1]
        facts = [
            ("padded tensor", f"{padded.nbytes / 1024:,.1f} KiB"),
            ("of which real", f"{real_bytes / 1024:,.1f} KiB"),
            (
                f"LSTM({hidden_size}) forward",
                f"{lstm_flops(steps, input_size, hidden_size) / 1e6:,.1f} MFLOP",
            ),
            ("saving at most, 1 / fill", f"{1 / share:.2f}x"),
        ]
        picture = plots.padded_batch(lengths.tolist(), facts, source)
        words = f"Padding is {1 - share:.0%} of this batch. "
        words += f"The longest sequence, {padded.shape[1]} steps, sets T for all."
        return picture, words

    sources = list(lengths_by_source)
    controls = [
        {"name": "source", "label": "Lengths from", "options": sources},
        {
            "name": "batch_size",
            "label": "Batch size",
            "min": 1,
            "max": 32,
            "step": 1,
            "unit": "sequences",
        },
        {"name": "spread", "label": "Spread", "min": 0, "max": 100, "step": 5, "unit": "percent"},
    ]
    return Panel(draw, controls, {"source": sources[0], "batch_size": 16, "spread": 100})


def packed_explorer(presets: Mapping[str, Sequence[int]]) -> Panel:
    """Show the inside of a PackedSequence: padded grid, columns, memory, step by step.

    Args:
        presets: name -> up to 6 lengths of 1 to 10 steps; the first is shown first, and can be
            walked through without a kernel.
    Returns:
        Panel: a choice of batch, a slider for each of 6 lengths (0 leaves the sequence out), the
        time step, the order of the rows; a cell that is picked is marked in all three views.
    Raises:
        ValueError: there is no preset, or one has no or more than 6 lengths, or one not in 1..10.
    """
    if not presets:
        raise ValueError("presets is empty: give at least one name and its lengths.")
    for name, lengths in presets.items():
        if not 1 <= len(lengths) <= 6 or not all(1 <= length <= 10 for length in lengths):
            raise ValueError(f"presets[{name!r}] is {list(lengths)}: give 1 to 6 lengths of 1..10.")
    letters, own, orders = LETTERS[:6], "your own", ["sorted by length", "as given"]
    first = next(iter(presets))

    def lengths_of(values: Mapping) -> dict[str, int]:
        return {one: values[one] for one in letters if values[one]}

    def preset(name: str) -> dict[str, int]:
        return dict(zip(letters, [*presets[name], *[0] * 6], strict=False))

    def settle(before: dict, now: dict) -> dict:
        now = dict(now)
        if now["batch"] != before["batch"] and now["batch"] != own:
            now |= preset(now["batch"])
        elif now["batch"] != own and lengths_of(now) != lengths_of(preset(now["batch"])):
            now["batch"] = own
        if not lengths_of(now):
            now["A"] = 1  # a batch needs at least one sequence
        lengths = lengths_of(now)
        if now["pick"] != before["pick"] and now["pick"]:
            now["step"] = int(now["pick"][1:])
        now["step"] = min(now["step"], max(lengths.values()) - 1)
        if now["pick"] and int(now["pick"][1:]) >= lengths.get(now["pick"][0], 0):
            now["pick"] = ""
        return now

    def controls(values: Mapping) -> list[dict]:
        last = max(lengths_of(values).values()) - 1
        return [
            {"name": "batch", "label": "Batch", "options": [*presets, own]},
            {"name": "order", "label": "Rows", "options": orders},
            {"name": "step", "label": "Time step", "min": 0, "max": last, "step": 1, "unit": ""},
            *(
                {"name": one, "label": f"Length of {one}", "unit": "", "small": True}
                | {"min": 0, "max": 10, "step": 1}
                for one in letters
            ),
        ]

    def draw(batch: str, order: str, step: int, pick: str, **values: int) -> tuple[Picture, str]:
        kept = lengths_of(values)
        names, lengths = list(kept), list(kept.values())
        found = layout(torch.tensor(lengths))
        chosen = (names.index(pick[0]), int(pick[1:])) if pick else None
        picture = packed_plots.packed_explorer(
            lengths,
            found,
            step=step,
            ids=[LETTERS.index(name) for name in names],
            in_sorted_order=order == orders[0],
            chosen=chosen,
        )
        alive = int(found.packed.batch_sizes[step])
        words = f"Step t={step}: the LSTM runs on {alive} of {len(names)} rows. "
        ended = [name for name, length in kept.items() if length <= step]
        words += f"Already ended: {', '.join(ended)}. " if ended else "None has ended yet. "
        if chosen:
            place = int(found.places[chosen])
            rank = int(found.packed.unsorted_indices[chosen[0]])
            words += f"Chosen: data[{place}] is step {chosen[1]} of sequence {pick[0]}, row "
            words += f"{chosen[0]} of the padded batch, row {rank} after sorting."
        return picture, words.strip()

    values = {"batch": first, "order": orders[0], "step": 0, **preset(first), "pick": ""}
    steps = range(max(presets[first]))
    walk = [values | {"order": order, "step": step} for order in orders for step in steps]
    invite = "Pick a cell to find it in all three views."
    return Panel(draw, controls, values, walk, settle, invite=invite)
