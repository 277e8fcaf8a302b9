"""Figures of results draw the numbers that they are given."""

import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.markers import MarkerStyle

from course_utils import result_plots
from course_utils.measure import Row
from course_utils.svg import PALETTE


@pytest.fixture
def axes(monkeypatch):
    """The axes of the figure that was turned into a picture, with all their artists."""
    found = []
    monkeypatch.setattr(result_plots, "figure", lambda fig, alt: found.extend(fig.axes) or alt)
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
    assert result_plots.accuracy_dots(measured, published, "dots") == "dots"
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


def test_confusion_writes_each_count_in_its_cell(axes):
    counts = torch.tensor([[5, 0, 1], [2, 7, 0], [0, 3, 9]])
    assert result_plots.confusion(counts, "table") == "table"
    (axis,) = axes
    shown = {one.get_position(): int(one.get_text()) for one in axis.texts}
    assert shown == {(c + 0.5, r + 0.5): int(counts[r, c]) for r in range(3) for c in range(3)}
    assert axis.yaxis_inverted() and not axis.xaxis_inverted()
    assert labels(axis) == ["1", "2", "3"]
    assert ("predicted" in axis.get_xlabel()) and ("as it is" in axis.get_ylabel())


def test_scoreboard_has_a_chart_for_each_number_and_a_red_cross_for_what_is_wrong(axes):
    rows = [Row("padded", False, 0.5, 1.0, 3.0, 0.75), Row("packed", True, 1.0, 0.25, 2.0, 0.875)]
    assert result_plots.scoreboard_charts(rows, "charts") == "charts"
    assert len(axes) == 4 and labels(axes[0]) == ["padded", "packed"]
    expected = [("accuracy", 0.75, 0.875), ("speed", 1, 0.25), ("MiB", 3, 2), ("fill", 0.5, 1)]
    for axis, (word, wrong, right) in zip(axes, expected, strict=True):
        assert word in axis.get_title() and axis.yaxis_inverted()
        assert dots(axis) == [([[wrong, 0]], PALETTE[7], "x"), ([[right, 1]], PALETTE[0], "o")]
    assert [list(line.get_xdata()) for axis in axes for line in axis.lines] == [[1, 1]]
    assert len(axes[1].lines) == 1, "the first row's speed"
