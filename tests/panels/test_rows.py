"""What the panel of chapter 07 shows is what the packers and the masks give."""

import itertools
import re
import xml.etree.ElementTree as ET

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_utils.batches.rows import best_fit_decreasing, first_fit
from course_utils.panels.rows import RowsExplorer
from tests.panels.test_masks import move, on_paper
from tests.ragged import (
    calm,  # noqa: F401
    few,
    refuses,
)

LENGTHS = torch.tensor([3, 9, 4, 7, 12, 5, 8, 8, 1, 2])
LETTERS = "ABCDEFGHIJKLMNOP"
PACKERS = {
    "one sequence a row": lambda lengths, capacity: [[index] for index in range(len(lengths))],
    "first-fit": first_fit,
    "best-fit decreasing": best_fit_decreasing,
}
MASKS = {  # whether a step attends to another: of its own sequence?, earlier or itself?
    "causal": lambda own, past: past,
    "causal, own sequence only": lambda own, past: own and past,
    "own sequence only": lambda own, past: own,
    "none": lambda own, past: True,
}


def order_and_rows(lengths, packer, placed, capacity):
    """The order of arrival, and the rows: all are packed, and those still to come taken out."""
    order = list(range(len(lengths)))
    if packer == "best-fit decreasing":
        order.sort(key=lambda index: -lengths[index])
    every = PACKERS[packer](lengths, capacity)
    rows = [[index for index in row if index in order[:placed]] for row in every]
    return order, [row for row in rows if row]


def names(indices, lengths):
    return " ".join(f"{LETTERS[index]} {lengths[index]}" for index in indices)


def picks(panel):
    """(name, spoken, whether it is chosen) of each row that can be picked."""
    pattern = r'data-pick="(\d+)" role="button" aria-label="([^"]*)" aria-pressed="(\w+)"'
    return [(name, said, on == "true") for name, said, on in re.findall(pattern, panel.picture.svg)]


@st.composite
def settings_of_the_panel(draw):
    lengths = draw(st.lists(st.integers(1, 12), min_size=1, max_size=16))
    return (
        lengths,
        {
            "packer": draw(st.sampled_from(list(PACKERS))),
            "mask": draw(st.sampled_from(list(MASKS))),
            "restart": draw(st.booleans()),
            "placed": draw(st.integers(1, len(lengths))),
            "capacity": draw(st.integers(max(lengths), 18)),
        },
        draw(st.integers(0, 15)),
    )


@few
@given(settings_of_the_panel())
def test_panel_shows_what_packers_and_masks_give(settings):
    lengths, values, row = settings
    panel = RowsExplorer(torch.tensor(lengths))
    move(panel, **values)
    capacity, placed = values["capacity"], values["placed"]
    order, rows = order_and_rows(lengths, values["packer"], placed, capacity)
    row = row % len(rows)
    move(panel, pick=str(row))

    real = sum(lengths[index] for index in order[:placed])
    share = f"fill {real / (len(rows) * capacity):.0%}"
    waiting = ", ".join(LETTERS[index] for index in order[placed:]) or "none"
    count = "1 row" if len(rows) == 1 else f"{len(rows)} rows"
    left = f"{count} of {capacity} steps: {'; '.join(names(one, lengths) for one in rows)}"
    left += f". Waiting: {waiting}. {count}, {-(-real // capacity)} at least. {share}. "
    owners = [index for index in rows[row] for _ in range(lengths[index])]
    again = [step for index in rows[row] for step in range(lengths[index])]
    given = again if values["restart"] else list(range(len(owners)))
    padding = capacity - len(owners)
    pairs = [
        (query, key)
        for query, key in itertools.product(range(len(owners)), repeat=2)
        if MASKS[values["mask"]](owners[query] == owners[key], key <= query)
    ]
    crossing = sum(owners[query] != owners[key] for query, key in pairs)
    right = f"Row {row} is {''.join(LETTERS[index] for index in owners)}{'–' * padding}; "
    right += f"positions {' '.join(map(str, given))}; "
    right += f"{crossing} of {len(pairs)} pairs are of two sequences."
    assert panel.picture.alt == left + right

    assert picks(panel) == [
        (
            str(number),
            f"row {number}: {names(inside, lengths)}; "
            f"steps free: {capacity - sum(lengths[index] for index in inside)}",
            number == row,
        )
        for number, inside in enumerate(rows)
    ]
    rows_svg, mask_svg = panel.picture.parts
    assert 'data-pick="' in rows_svg and 'data-pick="' not in mask_svg
    assert mask_svg.count('class="small on" text-anchor="middle">1</text>') == len(pairs)
    assert mask_svg.count('fill="none" class="mark"/>') == crossing

    faults = {
        "steps attend to other sequences": crossing > 0,
        "only the first sequence has the positions that it has alone": given != again,
        "steps see those after them": any(key > query for query, key in pairs),
        "steps attend to padding": values["mask"] == "none" and padding > 0,
    }
    said = "; ".join(fault for fault, there in faults.items() if there)
    assert panel.words == (
        f"{values['packer'].capitalize()}: {share} with {real} steps placed. "
        f"In row {row}, {said or 'every step sees what it would see alone'}."
    )


@few
@given(settings_of_the_panel())
def test_everything_lies_on_the_paper_and_no_text_over_its_edge(settings):
    panel = RowsExplorer(torch.tensor(settings[0]))
    move(panel, **settings[1])
    on_paper(panel.picture)
    for part in panel.picture.parts:
        root = ET.fromstring(part)
        for one in root.iter("{http://www.w3.org/2000/svg}text"):
            if one.get("text-anchor") is None and "title" not in one.get("class", ""):
                # 6.3 px a letter on average, 7.6 where it is bold
                wide = len(one.text) * (7.6 if one.get("class") == "strong" else 6.3)
                assert float(one.get("x")) + wide <= float(root.get("width")), one.text
            assert 0 <= float(one.get("y")) <= float(root.get("height"))


@pytest.mark.parametrize("packer", PACKERS)
def test_the_pick_follows_the_newest_sequence(packer):
    panel, lengths = RowsExplorer(LENGTHS), LENGTHS.tolist()
    move(panel, packer=packer)
    for placed in (1, 2, 3, 10, 7, 4):
        values = move(panel, placed=placed, pick="")  # the page takes its pick back
        order, rows = order_and_rows(lengths, packer, placed, 14)
        assert order[placed - 1] in rows[int(values["pick"])]
        assert [name for name, _, on in picks(panel) if on] == [values["pick"]]


def test_the_pick_stays_where_another_control_moves_and_is_0_where_its_row_is_gone():
    panel = RowsExplorer(LENGTHS)
    move(panel, pick="3")
    assert move(panel, restart=True, pick="")["pick"] == "3"
    assert move(panel, mask="none")["pick"] == "3"
    assert move(panel, capacity=18, pick="")["pick"] == "3"
    assert "Row 3 is" in panel.picture.alt
    move(panel, packer="one sequence a row")
    assert move(panel, pick="9")["pick"] == "9"
    assert move(panel, packer="first-fit")["pick"] == "0"
    assert "Row 0 is" in panel.picture.alt


def test_first_shown_is_first_fit_with_all_placed_and_both_faults():
    panel = RowsExplorer(LENGTHS)
    assert panel.values["placed"] == 10 and panel.values["capacity"] == 14
    assert [control.name for control in panel.controls] == list(panel.values)
    assert [list(choice.options) for choice in panel.controls[:2]] == [list(PACKERS), list(MASKS)]
    limits = {slider.name: (slider.low, slider.high) for slider in panel.controls[3:5]}
    assert limits == {"placed": (1, 10), "capacity": (12, 18)}
    assert "steps attend to other sequences; only the first sequence has" in panel.words
    move(panel, mask="causal, own sequence only", restart=True)
    assert panel.words.endswith("In row 0, every step sees what it would see alone.")


@pytest.mark.parametrize(
    ("lengths", "error", "words"),
    [
        (torch.tensor([3, 0]), ValueError, ["lengths[1] is 0"]),
        (torch.tensor([3, 13]), ValueError, ["2 sequences of up to 13 steps", "at most 12"]),
        (torch.ones(17).long(), ValueError, ["17 sequences of up to 1 steps", "most 16"]),
        (torch.tensor([3.0]), TypeError, ["lengths", "float32"]),
        (torch.zeros(0).long(), ValueError, ["lengths is empty"]),
        ([3, 2], TypeError, ["lengths", "torch.tensor(lengths)"]),
    ],
)
def test_panel_refuses_bad_lengths(lengths, error, words):
    refuses(error, words, RowsExplorer, lengths)
