"""The guided tours: each stop is settled and legible, and shows what its sentence says."""

import pytest
import torch

from course_utils.panels.flat import FlatExplorer
from course_utils.panels.masks import AttentionExplorer, LossExplorer
from course_utils.panels.packed import PackedExplorer
from course_utils.panels.padding import PaddingExplorer
from course_utils.panels.policy import PolicyExplorer
from course_utils.panels.ranks import RanksExplorer
from course_utils.panels.rows import RowsExplorer
from course_utils.panels.trace import TraceExplorer
from tests.panels.test_every_panel import CASES, LONG, PANELS, check


def stops(panel):
    """Walk through the tour: the panel at each stop, one after the other."""
    for _, values in panel.tour:
        panel.show(**values)
        yield panel


@pytest.mark.parametrize(("name", "make"), CASES)
def test_a_tour_leads_through_settled_and_legible_positions(name, make):
    panel = make()
    if not panel.controls:
        assert panel.tour == []
        return
    assert 3 <= len(panel.tour) <= 5
    first, seen = dict(panel.values), []
    for (words, values), _ in zip(panel.tour, stops(panel), strict=True):
        assert panel.values == values and panel.settle(first, values) == values
        assert 40 < len(words) < 240 and not set(words) & set("`*")
        check(panel)
        seen.append(panel.picture.svg)
    if make is PANELS[type(panel)][0]:
        assert len(set(seen)) == len(seen), "two stops show the same"


def test_a_tour_can_be_taken_from_any_position():
    panel = LossExplorer()
    panel.show(pick="A0")
    assert panel.values["preset"] == "your own"
    _, values = panel.tour[1]
    panel.show(**values)
    assert panel.values == values


def test_padding_grows_with_the_spread_and_the_batch():
    panel = PaddingExplorer({"Vowel recordings": LONG})
    said = [one.words for one in stops(panel)]
    assert said[0].startswith("Padding is 0%") and not said[1].startswith("Padding is 0%")
    longest = [int(text.split("longest sequence, ")[1].split()[0]) for text in said]
    assert longest[3] >= longest[2]


def test_the_packed_tour_ends_on_few_rows_and_marks_a_cell():
    start, end, marked, as_given = (
        (one.words, one.picture.svg) for one in stops(PackedExplorer({"four": [5, 3, 7, 2]}))
    )
    assert "runs on 4 of 4" in start[0] and "runs on 1 of 4" in end[0]
    assert "is step 4 of sequence A" in marked[0]
    assert as_given[1] != start[1]


def test_the_loss_tour_shows_the_pull_of_padding_and_nan():
    alts = [one.picture.alt for one in stops(LossExplorer())]

    def of(alt, loss, what):
        return float(alt.split(f"{loss}: ")[1].split(f"{what} ")[1].split(",")[0].rstrip("."))

    padding = [of(alt.replace(". ", ", "), "unmasked", "padding") for alt in alts]
    assert padding[1] > padding[0] > 0
    gradients = [of(alt, "masked, over B x T", "gradient") for alt in alts]
    assert gradients[1] < gradients[0]
    for loss in ("over real steps", "per sequence"):
        assert of(alts[0], loss, "gradient") == of(alts[1], loss, "gradient")
    for loss in ("masked, over B x T", "over real steps"):
        assert of(alts[2], loss, "weight of A") == 0
    assert "per sequence: nan" in alts[3].lower()


def test_the_attention_tour_loses_the_sequence_without_padding():
    said = [one.words for one in stops(AttentionExplorer())]
    shares = [int(text.split("spend ")[1].split("%")[0]) for text in said]
    assert shares[1] == shares[4] == 0 and shares[2] == 100 and shares[3] > shares[0] > 0
    assert "NaN" in said[2]


def test_the_trace_tour_finds_its_faults():
    right, cleaned, mean, narrow = (one.words for one in stops(TraceExplorer()))
    assert "same values as alone" in right and "begins in: convolution." in cleaned
    assert "begins in: mean over time." in mean and "raises an error" in narrow


def test_the_policy_tour_trades_padding_for_repeats():
    def percent(alt, what):
        return int(alt.split(f"{what} ")[1].split("%")[0])

    alts = [one.picture.alt for one in stops(PolicyExplorer(LONG.repeat(10)))]
    fill = [percent(alt, "fill") for alt in alts]
    repeats = [percent(alt, "pairs repeated") for alt in alts]
    assert fill[0] < fill[2] < fill[1] and repeats[2] < repeats[1]
    most = int(alts[3].split("largest batch, padded steps ")[1].split(";")[0].replace(",", ""))
    assert most <= 2048


def test_the_rows_tour_ends_where_every_step_sees_what_it_sees_alone():
    lengths = torch.tensor([3, 2, 7, 5, 1, 2, 10, 3, 8, 1, 7, 6])
    said = [one.words for one in stops(RowsExplorer(lengths))]
    assert "attend to other sequences" in said[1]
    assert "attend to other sequences" not in said[2] and "positions" in said[2]
    assert "sees what it would see alone" in said[3]


def test_the_flat_tour_crosses_borders_twice():
    said = [one.words for one in stops(FlatExplorer([5, 2, 4, 1, 3]))]
    assert "alone" in said[0] and "step 0 of A" in said[1]
    assert "Pairs cross a border" in said[2] and "positions" in said[3]


def test_the_flat_batch_says_how_many_computed_pairs_its_mask_keeps():
    panel = FlatExplorer([5, 2, 4, 1, 3])
    assert "55 pairs computed, of which the mask keeps 35." in panel.picture.alt
    assert "35 pairs within a sequence" in panel.picture.alt


def test_the_ranks_tour_waits_most_where_each_sorts_for_itself():
    alts = [one.picture.alt for one in stops(RanksExplorer(LONG.repeat(40)))]
    waiting = [int(alt.split("waiting ")[1].split("%")[0]) for alt in alts]
    assert waiting[1] > waiting[0] and waiting[1] > waiting[2]
    assert max(waiting[3:]) < waiting[1]
