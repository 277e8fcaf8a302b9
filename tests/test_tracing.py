"""The tracer tells the rows that are not as alone, each fault where it is; its panel says so."""

import re
import xml.etree.ElementTree as ET

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_utils.panels.panel import Tick
from course_utils.panels.trace import TraceExplorer, TrainingCurves
from course_utils.pictures.trace import loss_curves, trace_table
from course_utils.tracing import FAULTS, Stage, _layers, trace
from tests.panels.test_masks import move
from tests.ragged import calm, few, refuses  # noqa: F401

LENGTHS = [7, 5, 3, 2]
NAMES = ["input", "convolution, stride 2", "convolution", "BiLSTM", "Transformer layer"]
NAMES += ["mean over time", "classifier"]
SOME = st.sets(st.sampled_from(list(FAULTS)))
BATCHES = st.lists(st.integers(1, 8), min_size=1, max_size=4), st.integers(0, 8)


def alone(sequence):
    """What each layer makes of one sequence, without batch, mask or packing."""
    layers = _layers()
    first = layers["first"].conv(sequence.T[None]).relu()
    second = layers["second"].conv(first).relu()
    steps = layers["lstm"](second.mT)[0]
    seen = layers["layer"](steps)
    mean = seen.mean(1)
    found = [sequence[None], first.mT, second.mT, steps, seen, mean, layers["head"](mean)]
    return [one[0].detach() for one in found]


def wrong_rows(stages, lengths):
    truths = [alone(row[:n]) for row, n in zip(stages[0].values, lengths, strict=True)]
    found = []
    for number, stage in enumerate(stages):
        rows = zip(stage.values if stage.values is not None else [], truths, strict=False)
        pairs = [(row if row.ndim == 1 else row[: len(t[number])], t[number]) for row, t in rows]
        same = [a.shape == b.shape and torch.allclose(a, b, atol=1e-5) for a, b in pairs]
        found.append(tuple(row for row, one in enumerate(same) if not one))
    return found


@few
@given(*BATCHES)
def test_without_a_fault_every_stage_equals_alone(lengths, added):
    random_state = torch.get_rng_state()
    stages = trace(lengths, added)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert [stage.name for stage in stages] == NAMES
    assert wrong_rows(stages, lengths) == [stage.differs for stage in stages] == [()] * 7
    assert not any(stage.error or stage.warning for stage in stages)
    assert stages[0].values.shape == (len(lengths), max(lengths) + added, 3)
    for stage in stages[1:4]:
        assert stage.lengths.tolist() == [(n + 1) // 2 for n in lengths]


@few
@given(*BATCHES, SOME)
def test_the_rows_that_differ_are_found_whatever_the_faults(lengths, added, faults):
    stages = trace(lengths, added, faults)
    assert [stage.differs for stage in stages] == wrong_rows(stages, lengths)


CONV1, CONV2, LSTM, LAYER, MEAN = NAMES[1:6]
SHORT, ALL = [1, 2, 3], [0, 1, 2, 3]
WIDTH, SHOULD = "the mask is 5 wide, but T = 4", "lengths should be [4, 3, 2, 1]"


@pytest.mark.parametrize(
    "fault, added, begins, rows, raises, warned, says",
    [
        ("old_lengths", 0, "", [], CONV2, CONV1, "a length of 7, but T = 4"),
        ("old_lengths", 6, CONV2, ALL, "", CONV1, SHOULD),  # silent: T' is wide enough
        ("not_cleaned", 0, CONV2, SHORT, "", "", ""),
        ("not_cleaned", 2, CONV2, ALL, "", "", ""),
        ("not_packed", 0, LSTM, SHORT, "", "", ""),
        ("not_packed", 2, LSTM, ALL, "", "", ""),
        ("no_total_length", 0, "", [], "", "", ""),  # silent: the longest fills the width
        ("no_total_length", 2, "", [], LAYER, LSTM, WIDTH),
        ("no_batch_first", 0, LAYER, ALL, "", "", ""),  # silent: B == T' == 4
        ("no_batch_first", 2, "", [], LAYER, "", ""),
        ("no_padding_mask", 0, LAYER, SHORT, "", "", ""),
        ("no_padding_mask", 2, LAYER, ALL, "", "", ""),
        ("mean_over_all", 0, MEAN, SHORT, "", "", ""),
        ("mean_over_all", 2, MEAN, ALL, "", "", ""),
    ],
)
def test_each_fault_alone_shows_where_it_is(fault, added, begins, rows, raises, warned, says):
    stages = trace(LENGTHS, added, {fault})
    first = next((stage for stage in stages if stage.differs), Stage(""))
    assert (first.name, list(first.differs)) == (begins, rows)
    errors = [stage.name for stage in stages if stage.error]
    assert errors == [raises] * bool(raises) and (stages[-1].values is None) == bool(raises)
    warning = next((stage for stage in stages if stage.warning), Stage(""))
    assert (warning.name, warning.warning) == (warned, says)
    # The panel's sentence is true of the same setting.
    words = move(panel := TraceExplorer(LENGTHS), added=added, **{fault: True}) and panel.words
    assert words.startswith(f"It raises an error in: {raises}." if raises else "No error, ")
    assert (f"It begins in: {begins}." in words) == bool(rows and not raises)
    who = ", ".join("ABCD"[row] for row in stages[-1].differs)
    assert (f"a wrong answer for {who}. " in words) == bool(who)
    assert ("hidden by this batch" in words) == (not rows and not raises)
    assert (f"disagree first at: {warned}." in words) == bool(warned)


def test_trace_refuses():
    known = ", ".join(FAULTS)
    refuses(ValueError, ["faults has 'mean'", known], trace, LENGTHS, 0, {"mean", "not_packed"})
    refuses(ValueError, ["lengths[1] is 0", "at least 1"], trace, [3, 0])
    refuses(ValueError, ["added is -1"], trace, [3, 2], -1)
    refuses(ValueError, ["lengths is empty"], trace, [])


def test_trace_refuses_a_negative_length():
    refuses(ValueError, [], trace, [3, -1])


def texts(picture):
    root = ET.fromstring(picture.svg)
    return ["".join(one.itertext()) for one in root.iter("{http://www.w3.org/2000/svg}text")]


def whole(picture):
    """Assert that all that is drawn lies on the paper, each text with its first letter."""
    root = ET.fromstring(picture.svg)
    for side, size in ("x", "width"), ("y", "height"):
        for one in root.iter():
            if one.tag[-3:] in ("ect", "ext", "ine"):
                ends = [float(one.get(side + end, 0)) for end in ("", "1", "2")]
                ends.append(ends[0] + float(one.get(size, 0)))
                assert all(0 <= end <= float(root.get(size)) + 0.1 for end in ends)


@few
@given(BATCHES[0].filter(lambda one: len(one) > 1), BATCHES[1], SOME)
def test_table_says_the_numbers_and_lies_on_the_paper(lengths, added, faults):
    panel = TraceExplorer(lengths)
    move(panel, added=added, **dict.fromkeys(faults, True))
    stages, alt = trace(lengths, added, faults), panel.picture.alt
    whole(panel.picture)
    for stage in stages:
        if stage.error:
            assert f"{stage.name}: {stage.error}" in alt
            continue
        said = f"{stage.name}: {tuple(stage.values.shape)}"
        if stage.lengths is not None:
            cells = stage.values[..., 0].numel()
            real = min(sum(stage.lengths.tolist()), cells)
            said += f", lengths {stage.lengths.tolist()}, padding {1 - real / cells:.0%}"
        assert said in alt
        warned = f", warning: {stage.warning}" if stage.warning else ""
        rows = " ".join("ABCD"[row] for row in stage.differs)
        end = f", not equal to alone: {rows}" if rows else ", equal to alone"
        assert f"{warned}{end}." in alt.split(said)[1]
    assert alt.count("not reached") == texts(panel.picture).count("not reached") == 7 - len(stages)


def test_table_draws_a_cell_for_each_step_in_force():
    svg = trace_table(trace(LENGTHS)[:1], ["input"], "One").svg
    cells = re.findall(r'<rect [^>]*width="9.0" height="12.0" rx="3" fill="([^"]*)"', svg)
    assert len(cells) == 4 * 7 and sum(cell.startswith("url") for cell in cells) == 28 - 17


def test_text_is_escaped():
    stage = Stage("<b>", error="ValueError: <i> & co " * 40)
    table = trace_table([stage], ["<b>", "<u>"], "<s>")
    for picture in (table, loss_curves({"<b>": [1.0]}, 2, "<s>")):
        whole(picture)
        assert not re.search("<(b|i|u|s)>", picture.svg) and "&lt;b&gt;" in picture.svg


def test_loss_curves_say_and_draw_the_losses():
    losses = {"a": [1.0, 0.1, 0.01], "b": [], "c": [1e9, 0.0, float("inf")]}
    picture = loss_curves(losses, 4)
    whole(picture)
    assert picture.alt == "Loss while it trains: a 0.010, b not yet, c inf."
    assert {"a: 0.010", "b: not yet", "c: inf", "epoch, of 4"} <= set(texts(picture))
    grid = re.findall(r'y1="([.\d]+)"', picture.svg)[1:5]  # after the line of the hatch
    a, *others = re.findall(r'points="([^"]+)".*?dasharray="([^"]+)"', picture.svg)
    points = [[float(one) for one in point.split(",")] for point in a[0].split()]
    heights = [float(y) for y in grid[:0:-1]]  # 1, 0.1, 0.01
    assert [x for x, _ in points] == [174, 284, 394] and [y for _, y in points] == heights
    # By their dashes, the curves are told apart without colour; the legend shows them again.
    dashes = [dash for _, dash in others]
    assert len({a[1], *dashes}) == 3 and dashes == [a[1], dashes[1], dashes[2], dashes[2]]
    assert loss_curves({}, 4).alt.endswith("nothing yet.")


def test_a_loss_of_nan_is_drawn_nowhere():
    whole(loss_curves({"a": [1.0, float("nan"), 2.0]}, 3))


def test_explorer_has_a_slider_and_a_box_to_tick_for_each_fault():
    panel = TraceExplorer()
    slider, *boxes = panel.controls
    assert (slider.name, slider.low, slider.high, slider.step) == ("added", 0, 8, 1)
    assert {box.name: box.label for box in boxes if isinstance(box, Tick)} == FAULTS
    assert panel.values == {"added": 0} | dict.fromkeys(FAULTS, False)
    assert panel.words == "No error, and every sequence has the same values as alone."
    for count, name in enumerate(FAULTS, 1):
        move(panel, **{name: True})
        assert f"with {count} fault{'s' * (count > 1)} put back" in texts(panel.picture)[0]


@pytest.mark.parametrize("lengths", [[], [3], [1, 2, 3, 4, 5], [3, 0], [9, 1], ["a", 2]])
def test_explorer_refuses(lengths):
    refuses(ValueError, [f"lengths is {lengths}", "2 to 4 lengths of 1..8"], TraceExplorer, lengths)


def test_training_curves_grow_and_refuse_an_unknown_name():
    panel = TrainingCurves(["a", "b"], 3)
    record = panel.record
    assert panel.picture.alt.endswith("a not yet, b not yet.") and panel.controls == []
    history = []
    for count, loss in enumerate([0.5, 0.25, 0.125]):
        history.append(loss)
        record("b", history)
        assert panel.picture.alt.endswith(f"a not yet, b {loss:.3f}.")
        points = re.findall('points="([^"]+)"', panel.picture.svg)  # a in the legend, b's curve, b
        assert [len(one.split()) for one in points] == [2, count + 1, 2]
    history.append(9.0)  # the caller's list is the caller's
    record("a", [2.0])
    assert panel.picture.alt.endswith("a 2.000, b 0.125.")
    with pytest.raises(ValueError, match="name is 'c': the curves are a, b"):
        record("c", [1.0])
