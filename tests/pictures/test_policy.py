"""Figures of batching policies draw the numbers that they are given, a policy in one colour."""

import pytest
from matplotlib.colors import to_hex

from course_utils.data import published_accuracies
from course_utils.pictures import policy
from course_utils.pictures.svg import PALETTE
from course_utils.testing.measure import Ratio
from tests.ragged import refuses


@pytest.fixture
def axes(monkeypatch):
    """The axes of the figure that was turned into a picture, with all their artists."""
    found = []
    monkeypatch.setattr(policy, "figure", lambda fig, alt: found.extend(fig.axes) or alt)
    return found


def test_each_kind_of_policy_has_a_colour_of_its_own():
    names = ["random, 32", "sorted, 32", "sorted, short to long", "pools of 4, 32"]
    names += ["budget 2048, pools of 4"]
    assert [policy.policy_color(name) for name in names] == list(PALETTE[:5])
    refuses(ValueError, ["name is 'best'", "budget, pools"], policy.policy_color, "best")


def test_a_dot_a_batch_and_the_line_that_fits_best(axes):
    assert policy.length_by_place({"random": [1, 2, 3], "sorted": [5, 5, 5]}, "dots") == "dots"
    assert [one.collections[0].get_offsets()[:, 1].tolist() for one in axes] == [
        [1, 2, 3],
        [5, 5, 5],
    ]
    for axis, line in zip(axes, ([1, 2, 3], [5, 5, 5]), strict=True):
        assert axis.lines[0].get_ydata() == pytest.approx(line)


def test_words_of_batches_are_sorted_bars_with_both_ends_named(axes):
    assert policy.words_of_batches({"random": [20, 10], "pools of 8": [3000, 1]}, "bars") == "bars"
    heights = [[bar.get_height() for bar in axis.patches] for axis in axes]
    assert heights == [[10, 20], [1, 3000]]
    assert [text.get_text() for text in axes[1].texts] == ["1", "3,000"]
    assert to_hex(axes[1].patches[0].get_facecolor()) == policy.policy_color("pools")


def test_cost_charts_have_a_mark_a_model_and_the_fill_beside_it(axes):
    speeds = {"random": {"LSTM": Ratio(1, 1, 1)}, "sorted": {"LSTM": Ratio(2.0, 1.5, 2.5)}}
    kept = {"random": {"LSTM": 4.0}, "sorted": {"LSTM": 3.0}}
    assert policy.cost_charts({"random": 1.0, "sorted": 3.0}, speeds, kept, "costs") == "costs"
    speed, memory = axes
    assert [one.get_offsets().tolist() for one in speed.collections] == [[[1, 0]], [[2, 1]]]
    assert [list(line.get_xdata()) for line in speed.lines] == [[1, 1], [1, 1], [3, 3], [1.5, 2.5]]
    assert memory.collections[1].get_offsets().tolist() == [[3, 1]]
    assert [text.get_text() for text in memory.get_legend().get_texts()] == ["LSTM"]


def test_published_accuracies_are_ten_shares():
    values = [value for group in published_accuracies().values() for value in group]
    assert len(values) == 10 and all(0.9 < value < 1 for value in values)
