"""Panels without a browser: a value changes, torch runs, the picture follows."""

import pytest
import torch

from course_utils.batches.padding import pad
from course_utils.data import spread_lengths
from course_utils.panels.padding import PaddingExplorer, PaddingSlider
from course_utils.panels.panel import MARK, Panel, Slider
from course_utils.pictures.charts import padded_grid

LENGTHS = torch.tensor([3, 9, 4, 26, 7, 12, 5, 8])


class Grid(Panel):
    """One slider, and a picture of two sequences."""

    def controls_for(self, values):
        return [Slider("n", "Number", 1, 4, unit="steps")]

    def draw(self, n):
        return padded_grid([n, 4]), f"{n} of 4."


class Bare(Panel):
    """No controls."""

    def draw(self, n):
        return padded_grid([n]), ""


def view_of(panel):
    """What stands in a page: a widget that sends and is sent values."""
    panel._repr_mimebundle_()
    return panel._view


def test_a_moved_control_redraws():
    panel = Grid({"n": 2})
    assert panel.picture.svg == padded_grid([2, 4]).svg and panel.words == "2 of 4."
    panel.show(n=3)
    assert panel.picture.svg == padded_grid([3, 4]).svg and panel.words == "3 of 4."


def test_the_page_is_told_what_is_shown_and_tells_what_is_moved():
    panel = Grid({"n": 2})
    view = view_of(panel)
    assert view.controls == [
        {"kind": "slider", "name": "n", "label": "Number", "low": 1, "high": 4}
        | {"step": 1, "unit": "steps", "small": False, "off": False}
    ]
    view.set_state({"values": {"n": 3}})
    assert panel.values == {"n": 3} and view.words == panel.words == "3 of 4."
    panel.show(n=4)
    assert view.values == {"n": 4} and view.svg == panel.picture.svg
    assert view_of(panel) is view, "shown twice, it is one panel"


def test_the_page_is_told_the_settled_values():
    class Even(Grid):
        def settle(self, before, now):
            return {"n": now["n"] // 2 * 2}

    panel = Even({"n": 2})
    view = view_of(panel)
    view.set_state({"values": {"n": 3}})
    assert view.values == panel.values == {"n": 2} and view.words == "2 of 4."


def test_the_kernel_says_that_it_heard_even_where_nothing_changed():
    view = view_of(Bare({"n": 1}))
    view.set_state({"asked": 1, "values": {"n": 1}})
    assert view.heard == 1


def test_positions_drawn_beforehand_equal_those_drawn_live():
    panel = Grid({"n": 2}, [{"n": n} for n in (1, 2, 3, 4)])
    assert set(panel.frames) == {"1", "2", "3", "4"} and view_of(panel).frames == panel.frames
    for n in (1, 2, 3, 4):
        panel.show(n=n)
        assert panel.frames[str(n)] == [panel.picture.svg, panel.words]


def test_saved_notebook_keeps_a_picture_with_alt_text():
    panel = Grid({"n": 2})
    data, _ = panel._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert data["text/plain"] == panel.picture.alt
    assert panel.picture._repr_html_() in data["text/html"] and MARK in data["text/html"]
    assert "Run this cell to use the controls: Number." in data["text/html"]
    assert "0x" not in data["text/plain"], "an address differs at every run"
    curves = Bare({"n": 2})._repr_mimebundle_()[0]["text/html"]
    assert "Run this cell to see the picture change." in curves, "it has no controls to name"
    assert MARK not in curves, "on a page without a kernel, it is its picture"


def test_padding_slider_evaluates_each_position_once_and_up_front():
    asked = []

    def evaluate(added):
        asked.append(added)
        return {"falls": 0.9 - added / 200, "stands": 0.5}

    panel = PaddingSlider(evaluate, [5, 9], 10, added=range(0, 101, 50))
    assert asked == [0, 50, 100]
    assert panel.words == "Nothing added yet."
    panel.show(added=100)
    assert panel.words == "Unchanged by 100 added steps: stands."
    assert "falls 40% (none added: 90%)" in panel.picture.alt
    assert asked == [0, 50, 100]


@pytest.mark.parametrize("added", [[], [5, 10], [0, 10, 15], [0]])
def test_padding_slider_refuses_uneven_positions(added):
    with pytest.raises(ValueError, match=r"added is .*: give evenly spaced steps"):
        PaddingSlider(lambda steps: {"a": 1.0}, [5], 5, added=added)


@pytest.mark.parametrize(("batch_size", "spread"), [(1, 100), (8, 0), (5, 50), (32, 100)])
def test_padding_explorer_shows_what_torch_gives(batch_size, spread):
    panel = PaddingExplorer({"some": LENGTHS})
    panel.show(source="some", batch_size=batch_size, spread=spread)
    lengths = spread_lengths(LENGTHS, spread, 32)[:batch_size]
    padded, _ = pad([torch.zeros(length, 12) for length in lengths.tolist()])
    real = int(lengths.sum())
    cells = padded.shape[0] * padded.shape[1]
    assert f"{batch_size} sequences padded to {int(lengths.max())} steps" in panel.picture.alt
    assert f"fill {real / cells:.0%}, {real} of {cells} steps real" in panel.picture.alt
    assert f"padded tensor: {padded.nbytes / 1024:,.1f} KiB" in panel.picture.alt
    assert f"{cells / real:.2f}x" in panel.picture.alt
    assert panel.words.startswith(f"Padding is {1 - real / cells:.0%} of this batch.")


def test_text_of_the_learner_is_escaped():
    panel = PaddingExplorer({"<script>": LENGTHS})
    assert "<script>" not in panel.picture.svg and "&lt;script&gt;" in panel.picture.svg
