"""Panels without a browser: a value changes, torch runs, the picture follows."""

import pytest
import torch

from course_utils.batching import pad
from course_utils.data import spread_lengths
from course_utils.plots import padded_grid
from course_utils.widgets import Panel, padding_explorer, padding_slider

LENGTHS = torch.tensor([3, 9, 4, 26, 7, 12, 5, 8])
CONTROL = {"name": "n", "label": "Number", "min": 1, "max": 4, "step": 1, "unit": "steps"}


def draw(n):
    return padded_grid([n, 4]), f"{n} of 4."


def test_a_changed_value_redraws():
    panel = Panel(draw, [CONTROL], {"n": 2})
    assert panel.svg == padded_grid([2, 4]).svg and panel.words == "2 of 4."
    panel.values = {"n": 3}
    assert panel.svg == padded_grid([3, 4]).svg and panel.words == "3 of 4."


def test_the_kernel_says_that_it_heard_even_where_nothing_changed():
    panel = Panel(lambda n: (padded_grid([n]), ""), [], {"n": 1})
    panel.set_state({"asked": 1, "values": {"n": 1}})
    assert panel.heard == 1


def test_positions_drawn_beforehand_equal_those_drawn_live():
    panel = Panel(draw, [CONTROL], {"n": 2}, [{"n": n} for n in (1, 2, 3, 4)])
    assert set(panel.frames) == {"1", "2", "3", "4"}
    for n in (1, 2, 3, 4):
        panel.values = {"n": n}
        assert panel.frames[str(n)] == [panel.svg, panel.words]


def test_saved_notebook_keeps_a_picture_with_alt_text():
    panel = Panel(draw, [CONTROL], {"n": 2})
    data, _ = panel._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert data["text/plain"] == panel.picture.alt
    assert panel.picture._repr_html_() in data["text/html"]
    assert "Run this cell to use the controls: Number." in data["text/html"]
    assert "0x" not in data["text/plain"], "an address differs at every run"
    curves = Panel(draw, [], {"n": 2})._repr_mimebundle_()[0]["text/html"]
    assert "Run this cell to see the picture change." in curves, "it has no controls to name"


def test_padding_slider_evaluates_each_position_once_and_up_front():
    asked = []

    def evaluate(added):
        asked.append(added)
        return {"falls": 0.9 - added / 200, "stands": 0.5}

    panel = padding_slider(evaluate, [5, 9], 10, added=range(0, 101, 50))
    assert asked == [0, 50, 100]
    assert panel.words == "Nothing added yet."
    panel.values = {"added": 100}
    assert panel.words == "Unchanged by 100 added steps: stands."
    assert "falls 40% (none added: 90%)" in panel.picture.alt
    assert asked == [0, 50, 100]


@pytest.mark.parametrize("added", [[], [5, 10], [0, 10, 15], [0]])
def test_padding_slider_refuses_uneven_positions(added):
    with pytest.raises(ValueError, match=r"added is .*: give evenly spaced steps"):
        padding_slider(lambda steps: {"a": 1.0}, [5], 5, added=added)


@pytest.mark.parametrize(("batch_size", "spread"), [(1, 100), (8, 0), (5, 50), (32, 100)])
def test_padding_explorer_shows_what_torch_gives(batch_size, spread):
    panel = padding_explorer({"some": LENGTHS})
    panel.values = {"source": "some", "batch_size": batch_size, "spread": spread}
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
    panel = padding_explorer({"<script>": LENGTHS})
    assert "<script>" not in panel.svg and "&lt;script&gt;" in panel.svg
