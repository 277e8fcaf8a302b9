"""The pictures of chapter 08 say the numbers that they are given, and are legible."""

import pytest
import torch

from course_utils.batches.flat import flatten, segment_softmax
from course_utils.pictures.flat import (
    block_grid,
    capability_table,
    flat_line,
    in_a_line,
    limits_chart,
    pairs_grid,
    rectangle,
    weight_bars,
)
from tests.pictures.legible import assert_legible

FLAT = flatten([torch.zeros(n) for n in (5, 3, 4)])


def test_a_flat_line_says_its_borders_and_positions():
    picture = flat_line(FLAT.cu_seqlens, FLAT.document_id, FLAT.positions, (1, 2), ["12 steps"])
    assert "cu_seqlens [0, 5, 8, 12]" in picture.alt and "0 1 2 3 4 0 1 2 0" in picture.alt
    assert 'data-pick="B2"' in picture.svg and picture.svg.count('aria-pressed="true"') == 1
    assert_legible(picture)


def test_a_rectangle_says_whose_its_steps_are():
    document_id = torch.tensor([[0, 0, 1], [2, -1, -1]])
    picture = rectangle("Rows", document_id, None, ["6 steps, 4 real"])
    assert picture.alt == "Rows: AAB, C––. 6 steps, 4 real."
    assert_legible(picture)


def test_pairs_across_a_border_are_counted_and_crossed():
    steps = torch.arange(12)
    back = steps[:, None] - steps
    picture = pairs_grid((back >= 0) & (back < 4), FLAT.document_id, "Convolution", "down, right")
    assert "30 pairs within a sequence, 12 across a border" in picture.alt
    assert picture.svg.count("×") == 12
    assert_legible(picture)
    assert_legible(in_a_line([picture, picture]))


def test_bars_say_what_the_weights_of_a_sequence_add_up_to():
    scores = torch.arange(12.0).cos()
    weights = {"each": segment_softmax(scores, FLAT.cu_seqlens), "all": scores.softmax(0)}
    picture = weight_bars(weights, FLAT.document_id)
    assert "each: the weights add up to A 1.00, B 1.00, C 1.00" in picture.alt
    assert_legible(picture)


def test_a_capability_table_says_each_answer_and_refuses_others():
    table = {"jagged": {"forward": "right", "gradient": "wrong"}, "varlen": {"forward": "refused"}}
    picture = capability_table(table, "torch 2.13.0, CPU")
    assert "jagged: forward right, gradient wrong. varlen: forward refused" in picture.alt
    assert_legible(picture)
    with pytest.raises(ValueError, match=r"'varlen'.*is 'no'.*right, wrong"):
        capability_table({"varlen": {"forward": "no"}}, "")


def test_blocks_are_counted_by_kind():
    picture = block_grid(torch.tensor([[1, 0], [2, 1]]), 128, "Two texts")
    assert "1 of 4 blocks skipped, 2 computed with the mask, 1 without" in picture.alt
    assert_legible(picture)


def test_limits_are_drawn_for_every_batch():
    table = {"random": {"flat": 3.0, "1/fill": 4.0}, "one long": {"flat": 9.0, "1/fill": 8.0}}
    assert limits_chart(table, ["1/fill"], "flat 3.0 and 9.0").alt == "flat 3.0 and 9.0"
