"""The drawn explanations: what they say in words, and that they stay within their frames."""

import re

from course_utils.pictures.explanations import (
    creeping,
    kernel_places,
    lengths_by_group,
    outcome_grid,
)
from course_utils.pictures.loss import accumulation, votes, way_back

NAN = float("nan")


def test_votes_share_the_loss_among_steps_or_among_sequences():
    alt = votes([6, 3, 5, 2]).alt
    assert "each step has one vote: A 37.5% (6.25% a step)" in alt
    assert "each sequence has one vote: A 25% (4.17% a step)" in alt
    assert "D 25% (12.5% a step)" in alt


def test_a_word_of_a_small_micro_batch_weighs_more_until_all_are_divided_once():
    alt = accumulation([[6, 3], [1]]).alt
    assert "9 words: 5.6%, 1 words: 50.0%" in alt and "divided once: 10.0% everywhere" in alt


def test_nan_is_said_where_it_is_and_in_red():
    stages = {"logit": ([2, NAN], [-0.5, NAN]), "loss": ([0.1, 0.1], [1, 1])}
    picture = way_back(stages, ["real step", "padding"], "Title")
    assert "padding: logit NaN with gradient NaN" in picture.alt
    assert picture.svg.count("✗") == 2
    clean = {"logit": ([2, 0], [-0.5, 0]), "loss": ([0.1, 0.1], [1, 1])}
    assert "✗" not in way_back(clean, ["real step", "padding"], "Title").svg


def test_outcomes_are_printed_with_a_sign():
    picture = outcome_grid({"one": {"eval": "NaN"}, "two": {"eval": "zeros"}}, "What?")
    assert "✗ NaN" in picture.svg and "✓ zeros" in picture.svg
    assert picture.alt == "What? one: eval NaN. two: eval zeros."
    found = {"one": {"eval": "LEAK: 8 of 8"}, "two": {"eval": "differs"}, "3": {"eval": "as alone"}}
    svg = outcome_grid(found, "What?").svg
    assert "✗ LEAK: 8 of 8" in svg and "✗ differs" in svg and "✓ as alone" in svg


def test_creeping_counts_wrong_and_written_steps():
    picture = creeping({"1": [False, True]}, {"1": [True, False, False]})
    assert picture.alt == "2 real steps and 3 of padding. 1: 1 wrong, 1 padded steps written."


def test_the_kernel_has_as_many_places_as_steps_come_out():
    for n, k, s, p in ((9, 3, 2, 1), (10, 3, 2, 1), (5, 5, 1, 0)):
        places = (n + 2 * p - k) // s + 1
        picture = kernel_places(n, k, s, p)
        assert f"fits {places} times" in picture.alt
        assert f"place {places - 1}<" in picture.svg and f"place {places}<" not in picture.svg
    assert kernel_places(9, 3, 2, 1).alt.endswith("steps [-1, 1, 3, 5, 7].")


def test_groups_come_in_the_order_of_their_medians():
    alt = lengths_by_group({"slow": [20, 22, 24], "fast": [7, 8, 9]}, "Lengths.").alt
    assert alt == "Lengths. Medians: fast 8 (7 to 9), slow 22 (20 to 24)."


def test_nothing_leaves_its_frame():
    stages = {"logit": ([2, NAN], [-0.5, NAN]), "mean loss": ([0.1, 0.1], [1, 1])}
    pictures = [
        votes([1]),
        votes([7, 1, 7, 2, 3, 3, 4, 5]),
        accumulation([[1], [40, 40]]),
        way_back(stages, ["real step", "padding"], "Title"),
        outcome_grid({"a" * 40: {"training": "NaN in 3 of 4", "eval": "zeros"}}, "What?"),
        creeping({"4 convolutions": [True] * 9}, {"4 convolutions": [True] * 6}),
        kernel_places(9, 3, 2, 1),
        lengths_by_group({f"speaker {i}": [7, 26] for i in range(9)}, "Lengths."),
    ]
    for picture in pictures:
        wide, high = map(int, re.search(r'viewBox="0 0 (\d+) (\d+)"', picture.svg).groups())
        for x, y, w, h in re.findall(
            r'<rect x="([-\d.]+)" y="([-\d.]+)" width="([\d.]+)" height="([\d.]+)"', picture.svg
        ):
            assert float(x) >= 0 and float(x) + float(w) <= wide, picture.alt
            assert float(y) >= 0 and float(y) + float(h) <= high, picture.alt
