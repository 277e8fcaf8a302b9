"""What a panel is: typed controls, and a picture that Python draws for their values."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import anywidget
import traitlets

from course_utils.pictures.svg import Picture, escape

_HERE = pathlib.Path(__file__).parent


@dataclass(frozen=True)
class Slider:
    """A whole number from `low` to `high`; `off` greys it out where it changes nothing now."""

    name: str
    label: str
    low: int
    high: int
    step: int = 1
    unit: str = ""
    small: bool = False
    off: bool = False


@dataclass(frozen=True)
class Choice:
    """One of several texts."""

    name: str
    label: str
    options: tuple[str, ...]
    off: bool = False


@dataclass(frozen=True)
class Tick:
    """A box to tick: True or False."""

    name: str
    label: str
    off: bool = False


@dataclass(frozen=True)
class Cells:
    """The cells of the picture, to pick or to switch; the value is a cell's name, or empty.

    `invite` asks for a pick, and is shown while there is none and one can be made.
    """

    name: str
    label: str
    invite: str = ""
    off: bool = False


Control = Slider | Choice | Tick | Cells


@dataclass(frozen=True)
class Stop:
    """A stop of a guided tour: what to look at, and the values that differ from the first ones."""

    words: str
    changed: Mapping = field(default_factory=dict)


class Panel:
    """Labelled native controls above a picture. A panel is a subclass, with a `draw` of its own.

    It needs no browser: `show(**changed)` moves controls, and then `values`, `picture` and `words`
    are what a reader has before them.

    Args:
        values: name -> first value, of the controls and of what else `draw` needs to know.
        positions: values to draw beforehand, so that those positions need no kernel.
        still: the values of the picture in a saved notebook; the first ones where None.
        tour: three to five stops, which lead a reader through what there is to see.
    """

    def __init__(
        self,
        values: Mapping,
        positions: Sequence[Mapping] = (),
        still: Mapping | None = None,
        tour: Sequence[Stop] = (),
    ) -> None:
        self.values = dict(values)
        self.tour = [(stop.words, self.values | dict(stop.changed)) for stop in tour]
        self.frames = {}
        for position in positions:
            picture, words = self.draw(**position)
            # In the order of names: a saved state is sorted by them.
            key = "|".join(str(position[name]) for name in sorted(position))
            self.frames[key] = [picture.svg, words]
        self.picture, self.words = self.draw(**self.values)
        self._still = self.draw(**still)[0] if still else self.picture
        self._view: _View | None = None

    def draw(self, **values: object) -> tuple[Picture, str]:
        """Give the picture for these values, and a sentence to stand under it."""
        raise NotImplementedError

    def controls_for(self, values: Mapping) -> list[Control]:
        """Give the controls; only their limits, and what is off, may depend on the values."""
        return []

    def settle(self, before: dict, now: dict) -> dict:
        """Give values that fit together, where one that changed asks others to change.

        Args:
            before: the settled values, shown until now.
            now: what the page sends; it may not have heard of `before` yet.
        """
        return now

    @property
    def controls(self) -> list[Control]:
        """The controls for the values that are shown."""
        return self.controls_for(self.values)

    def show(self, **changed: object) -> None:
        """Move controls: settle the values, draw, and tell the page if there is one."""
        before, now = self.values, self.values | changed
        # A stop is settled already, and comes from any position.
        on_tour = any(now == values for _, values in self.tour)
        self.values = now if on_tour else self.settle(before, now)
        self.picture, self.words = self.draw(**self.values)
        if self._view:
            self._view.update()

    def _repr_mimebundle_(self, **kwargs: object) -> tuple[dict, dict]:
        self._view = self._view or _View(self)
        data, metadata = self._view._repr_mimebundle_(**kwargs)
        # A notebook that is opened and not yet run has no kernel to draw: it shows this picture.
        names = [escape(one.label) for one in self.controls if not isinstance(one, Cells)]
        what = f"use the controls: {', '.join(names)}" if names else "see the picture change"
        data["text/plain"] = repr(self._still)
        # By the attribute, `tools/build_site.py` finds the panels that can be alive on a page.
        mark = f" {MARK}" if names else ""
        hint = f"<p{mark}><em>Run this cell to {what}.</em></p>"
        data["text/html"] = self._still._repr_html_() + hint
        return data, metadata


MARK = "data-vl-panel"


class _View(anywidget.AnyWidget):
    """A panel in a page. anywidget builds on ipywidgets.

    Native controls, because they have a label that a screen reader finds, keep the focus while the
    picture changes, and answer fast.
    """

    _esm = _HERE / "panel.js"
    _css = _HERE / "panel.css"
    controls = traitlets.List().tag(sync=True)
    values = traitlets.Dict().tag(sync=True)
    svg = traitlets.Unicode().tag(sync=True)
    words = traitlets.Unicode().tag(sync=True)
    frames = traitlets.Dict().tag(sync=True)
    tour = traitlets.List().tag(sync=True)
    # The page counts what it asks, and sees by the echo whether a kernel hears it.
    asked = traitlets.Int().tag(sync=True)
    heard = traitlets.Int().tag(sync=True)
    # A page without a kernel says here where its reader finds one.
    launch = traitlets.Unicode().tag(sync=True)

    def __init__(self, panel: Panel) -> None:
        self._panel = panel
        super().__init__(frames=panel.frames, tour=[list(stop) for stop in panel.tour])
        self.update()
        self.observe(self._moved, "values")
        traitlets.dlink((self, "asked"), (self, "heard"))

    def _moved(self, change: Mapping) -> None:
        if change["new"] != self._panel.values:
            self._panel.show(**change["new"])

    def update(self) -> None:
        """Send the page what the panel shows now."""
        panel = self._panel
        self.values = dict(panel.values)
        # One message: the picture and its sentence must never be of two positions.
        with self.hold_sync():
            self.controls = [
                {"kind": type(control).__name__.lower(), **asdict(control)}
                for control in panel.controls
            ]
            self.words = panel.words
            self.svg = panel.picture.svg
