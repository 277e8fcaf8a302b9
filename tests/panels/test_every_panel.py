"""Every panel over the range of its controls: legible, and no higher than a projector shows."""

import inspect
import pkgutil
import re

import pytest
import torch

import course_utils.panels
from course_utils.panels.flat import FlatExplorer
from course_utils.panels.masks import AttentionExplorer, LossExplorer
from course_utils.panels.packed import PackedExplorer
from course_utils.panels.padding import PaddingExplorer, PaddingSlider
from course_utils.panels.panel import Cells, Choice, Panel, Slider, Tick
from course_utils.panels.policy import PolicyExplorer
from course_utils.panels.ranks import RanksExplorer
from course_utils.panels.rows import RowsExplorer
from course_utils.panels.trace import TraceExplorer, TrainingCurves
from tests.pictures.legible import assert_legible

# CSS pixels: what is left of 720 under the bars of JupyterLab, with some of the controls.
HIGHEST = 600
LONG = torch.randint(1, 900, (90,), generator=torch.Generator().manual_seed(0))
READ_OUTS = {"last column": 0.95, "mean over all": 0.9, "last real step": 0.97, "masked mean": 0.96}


def falling(added):
    return {name: value - added / 150 * ("real" not in name) for name, value in READ_OUTS.items()}


PANELS = {
    PaddingSlider: [lambda: PaddingSlider(falling, [7, 26, 14, 19], 29)],
    PaddingExplorer: [lambda: PaddingExplorer({"Vowel recordings": LONG, "Short": LONG[:9]})],
    PackedExplorer: [
        lambda: PackedExplorer({"four": [5, 3, 7, 2], "most": [10] * 6, "steps": [10, 2, 1]}),
        lambda: PackedExplorer({"most": [10] * 6}),
    ],
    LossExplorer: [LossExplorer],
    AttentionExplorer: [AttentionExplorer, lambda: AttentionExplorer([1])],
    TraceExplorer: [TraceExplorer, lambda: TraceExplorer([8, 8, 8, 8])],
    TrainingCurves: [lambda: TrainingCurves(["packed BiLSTM", "masked Transformer", "hybrid"], 25)],
    PolicyExplorer: [lambda: PolicyExplorer(LONG), lambda: PolicyExplorer(LONG % 30 + 1)],
    RanksExplorer: [lambda: RanksExplorer(LONG.repeat(40))],
    RowsExplorer: [
        lambda: RowsExplorer(torch.tensor([3, 2, 7, 5, 1, 2, 10, 3, 8, 1, 7, 6])),
        lambda: RowsExplorer(torch.tensor([12] * 16)),
        lambda: RowsExplorer(torch.tensor([1] * 16)),
    ],
    FlatExplorer: [
        lambda: FlatExplorer([5, 2, 4, 1, 3]),
        lambda: FlatExplorer([5] * 5),
        lambda: FlatExplorer([1]),
    ],
}


def test_every_panel_is_tried_here():
    for module in pkgutil.iter_modules(course_utils.panels.__path__, "course_utils.panels."):
        __import__(module.name)
    assert set(Panel.__subclasses__()) >= set(PANELS)
    own = [one for one in Panel.__subclasses__() if one.__module__.startswith("course_utils.")]
    assert set(own) == set(PANELS)


def values_of(control, panel):
    """Some values of a control, its ends among them."""
    if isinstance(control, Slider):
        middle = (control.low + control.high) // 2 // control.step * control.step
        return sorted({control.low, max(middle, control.low), control.high})
    if isinstance(control, Choice):
        return control.options
    if isinstance(control, Tick):
        return [False, True]
    picks = list(dict.fromkeys(re.findall(r'data-pick="([^"]+)"', panel.picture.svg)))
    return [*picks[:2], *picks[-2:]]


def check(panel):
    assert_legible(panel.picture, HIGHEST)
    assert len(panel.picture.alt) > 20 and "|" not in panel.words


CASES = [(panel.__name__, make) for panel, makers in PANELS.items() for make in makers]


@pytest.mark.parametrize(("name", "make"), CASES)
def test_every_control_moves_the_picture_and_it_stays_legible(name, make):
    panel = make()
    first = make is PANELS[type(panel)][0]
    check(panel)
    assert [type(one) for one in panel.controls] == [type(one) for one in make().controls]
    for control in panel.controls:
        assert (control.label and control.label != control.name) or isinstance(control, Cells)
        before, seen = panel.values[control.name], set()
        for value in values_of(control, panel):
            panel.show(**{control.name: value})
            check(panel)
            seen.add(panel.picture.svg)
        if first and not control.off and len(values_of(control, panel)) > 1:
            assert len(seen) > 1, f"{control.label} changes nothing"
        panel.show(**{control.name: before})


@pytest.mark.parametrize(("name", "make"), CASES)
def test_all_controls_at_their_other_end_stay_legible(name, make):
    panel = make()
    for end in (-1, 0):
        for control in panel.controls:
            if not isinstance(control, Cells):
                panel.show(**{control.name: list(values_of(control, panel))[end]})
                check(panel)


@pytest.mark.parametrize("panel", PANELS)
def test_what_a_panel_draws_can_be_asked_for_by_name(panel):
    drawn = inspect.signature(panel.draw).parameters
    made = PANELS[panel][0]()
    named = {name for name, one in drawn.items() if one.kind is not one.VAR_KEYWORD} - {"self"}
    assert named <= set(made.values), "draw asks for a value that the panel does not have"
