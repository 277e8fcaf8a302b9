"""Figures of results draw the numbers that they are given."""

import pytest
from matplotlib.colors import to_hex
from matplotlib.markers import MarkerStyle

from course_utils.pictures import results
from course_utils.pictures.svg import PALETTE
from course_utils.testing.measure import Score


@pytest.fixture
def axes(monkeypatch):
    """The axes of the figure that was turned into a picture, with all their artists."""
    found = []
    monkeypatch.setattr(results, "figure", lambda fig, alt: found.extend(fig.axes) or alt)
    return found


def outline(marker):
    style = MarkerStyle(marker)
    return style.get_path().transformed(style.get_transform()).vertices.tolist()


def dots(axis):
    """Each scatter of an axis: its points, colour and marker."""
    found = []
    for one in axis.collections:
        drawn = one.get_paths()[0].vertices.tolist()
        marker = next(marker for marker in "oxD" if outline(marker) == drawn)
        found.append((one.get_offsets().tolist(), to_hex(one.get_edgecolor()[0]), marker))
    return found


def labels(axis):
    return [text.get_text() for text in axis.get_yticklabels()]


def test_accuracies_are_dots_in_percent_a_row_a_model(axes):
    measured, published = {"LSTM": [0.5, 0.75, 1.0], "<b>": [0.25]}, {"a paper": [0.9375]}
    assert results.accuracy_dots(measured, published, "dots") == "dots"
    (axis,) = axes
    grey = "#59636e"
    assert dots(axis) == [
        ([[50, 0], [75, 0], [100, 0]], PALETTE[0], "o"),
        ([[25, 1]], PALETTE[0], "o"),
        ([[93.75, 2]], grey, "D"),
    ]
    assert labels(axis) == ["LSTM", "<b>", "a paper"] and axis.yaxis_inverted()
    *ranges, rule = axis.lines
    assert [list(line.get_xdata()) for line in ranges] == [[50, 100], [25, 25], [93.75, 93.75]]
    assert [to_hex(line.get_color()) for line in ranges] == [PALETTE[0], PALETTE[0], grey]
    assert list(rule.get_ydata()) == [1.5, 1.5], "between measured and published"


def test_without_published_accuracies_there_is_no_rule_between(axes):
    results.accuracy_dots({"LSTM": [0.5]}, {}, "dots")
    (axis,) = axes
    assert len(axis.lines) == 1 and labels(axis) == ["LSTM"]


def test_curves_are_medians_over_their_range(axes):
    curves = {"a": [[1, 2], [3, 8], [2, 4]], "b": [[5, 6]]}
    assert results.spread_curves(curves, xlabel="x", ylabel="y", alt="two") == "two"
    (axis,) = axes
    a, b = axis.lines
    assert (list(a.get_xdata()), list(a.get_ydata())) == ([1, 2], [2, 4])
    assert list(b.get_ydata()) == [5, 6] and a.get_linestyle() != b.get_linestyle()
    corners = axis.collections[0].get_paths()[0].vertices.tolist()
    assert {(1, 1), (1, 3), (2, 2), (2, 8)} <= set(map(tuple, corners))
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["b", "a"], "as the ends"


def test_scoreboard_has_a_chart_for_each_number_and_a_red_cross_for_what_is_wrong(axes):
    rows = [
        Score("padded", False, 0.5, 1.0, 3.0, 0.75),
        Score("packed", True, 1.0, 0.25, 2.0, 0.875),
    ]
    seeds = {"padded": [0.5, 1.0], "packed": [0.75, 1.0]}
    assert results.scoreboard_charts(rows, seeds, "charts") == "charts"
    assert len(axes) == 4 and labels(axes[0]) == ["padded", "packed"]
    expected = [("accuracy", 0.75, 0.875), ("speed", 1, 0.25), ("MiB", 3, 2), ("fill", 0.5, 1)]
    for axis, (word, wrong, right) in zip(axes, expected, strict=True):
        assert word in axis.get_title() and axis.yaxis_inverted()
        assert dots(axis) == [([[wrong, 0]], PALETTE[7], "x"), ([[right, 1]], PALETTE[0], "o")]
    drawn = [list(line.get_xdata()) for axis in axes for line in axis.lines]
    assert drawn == [[0.5, 1.0], [0.75, 1.0], [1, 1]], "the seeds, and the first row's speed"
    assert [list(line.get_ydata()) for line in axes[0].lines] == [[0, 0], [1, 1]]
    assert len(axes[1].lines) == 1


def test_loss_steps_keep_their_alt_text():
    curves = {"random": [[3.0, 2.0], [3.0, 2.5]], "pools of 8": [[3.0, 1.0]]}
    steps = results.loss_steps(curves, "Two falling curves.", epochs=2)
    assert steps.alt == "Two falling curves." and steps.data.startswith(b"\x89PNG")
