"""A prediction to make before a result is seen, and to read beside it afterwards."""

from __future__ import annotations

import pathlib

import anywidget
import traitlets
from IPython.display import display

from course_utils.pictures.svg import escape

_HERE = pathlib.Path(__file__).parent


def _listed(options: list[str]) -> str:
    return ", ".join(options) or "none of them"


class Outcome:
    """What came out, beside what was predicted.

    Args:
        picked: the options that were picked; None where no choice was made.
        came: the options that came out.
    """

    def __init__(self, picked: list[str] | None, came: list[str]) -> None:
        self.right = None if picked is None else set(picked) == set(came)
        self._came = _listed(came)
        self._picked = None if picked is None else _listed(picked)

    def __repr__(self) -> str:
        if self.right is None:
            return f"Result: {self._came}."
        if self.right:
            return f"✓ As you predicted: {self._came}."
        return f"You predicted: {self._picked}. Result: {self._came}."

    def _repr_html_(self) -> str:
        style = "display:inline-block;border-left:4px solid #5a4fa2;padding:2px 10px"
        return f'<span style="{style}">{escape(repr(self))}</span>'


class Predict(anywidget.AnyWidget):
    """The options of a question, of which one or several are picked.

    It needs a kernel only to tell `came_out` what was picked.

    Args:
        options: at least two different answers.
        several: whether more than one can be picked.
    Raises:
        ValueError: fewer than two options, or two that are alike.
    """

    _esm = _HERE / "predict.js"
    _css = _HERE / "predict.css"
    options = traitlets.List(traitlets.Unicode()).tag(sync=True)
    several = traitlets.Bool().tag(sync=True)
    # Whether a choice was made: with several options, none of them may be one.
    made = traitlets.Bool().tag(sync=True)
    picked = traitlets.List(traitlets.Unicode()).tag(sync=True)
    came = traitlets.List(traitlets.Unicode(), None, allow_none=True).tag(sync=True)

    def __init__(self, options: tuple[str, ...], several: bool) -> None:
        options = [str(option) for option in options]
        if len(options) < 2 or len(set(options)) < len(options):
            raise ValueError(f"options are {options}: give at least two, no two of them alike.")
        super().__init__(options=options, several=several)

    def came_out(self, *answers: object) -> Outcome:
        """Say what came out, beside what was picked.

        Args:
            *answers: the options that are right; none where none of them is.
        Returns:
            what to show under the result; the choice itself shows it too.
        Raises:
            ValueError: an answer is not one of the options.
        """
        answers = [str(answer) for answer in answers]
        unknown = [answer for answer in answers if answer not in self.options]
        if unknown:
            raise ValueError(f"answers hold {unknown}: give some of the options {self.options}.")
        self.came = answers
        return Outcome(self.picked if self.made else None, answers)

    def _repr_mimebundle_(self, **kwargs) -> tuple[dict, dict]:
        data, metadata = super()._repr_mimebundle_(**kwargs)
        data["text/plain"] = "Your prediction: " + " / ".join(self.options)
        items = "".join(f"<li>{escape(option)}</li>" for option in self.options)
        how = "several may be right" if self.several else "one is right"
        data["text/html"] = (
            f'<div class="vl-predict"><strong>Your prediction</strong> ({how})'
            f"<ul>{items}</ul></div>"
        )
        return data, metadata


def predict(*options: str, several: bool = False) -> Predict:
    """Show the options of a question, to pick from before the result is seen.

    Args:
        *options: the possible answers, in the order in which they are shown.
        several: whether more than one can be picked.
    Returns:
        the choice; its `came_out` says, under the result, what was picked and what came out.
    Raises:
        ValueError: fewer than two options, or two that are alike.
    """
    choice = Predict(options, several)
    display(choice)
    return choice
