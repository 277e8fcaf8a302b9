"""What cannot describe a padded batch is refused, in words that say how to fix it."""

import numpy as np
import pytest
import torch

from course_utils.batches.checks import check_lengths, check_mask, check_same_count, check_whole
from tests.ragged import bad_lengths, refuses

ONES = torch.ones(3, 5, dtype=torch.bool)

# What no (B, T) mask of truth values can be: error, words beside the argument's name.
BAD_MASKS = {
    "list": (ONES.tolist(), TypeError, ["list"]),
    "none": (None, TypeError, ["NoneType"]),
    "array": (ONES.numpy(), TypeError, ["ndarray"]),
    "int64": (ONES.long(), TypeError, ["int64", "== 1"]),
    "uint8": (ONES.byte(), TypeError, ["uint8", "== 1"]),
    "float": (ONES.float(), TypeError, ["float32", "== 0 if", "-inf"]),
    "lengths": (torch.tensor([5, 3, 2]), TypeError, ["int64", "lengths_to_keep_mask"]),
    "0-D": (ONES[0, 0], ValueError, ["()", "(B, T)"]),
    "1-D": (ONES[0], ValueError, ["(5,)", "(B, T)", "[None]"]),
    "3-D": (ONES[..., None], ValueError, ["(3, 5, 1)", "(B, T)"]),
    "empty": (ONES[:0], ValueError, ["(0, 5)", "at least one sequence"]),
}


def bad_masks(*without):
    """The cases of BAD_MASKS, for parametrize."""
    return [pytest.param(*case, id=name) for name, case in BAD_MASKS.items() if name not in without]


@pytest.mark.parametrize("lengths, error, words", bad_lengths("too few", "too many"))
def test_check_lengths_refuses(lengths, error, words):
    refuses(error, words, check_lengths, lengths, 5)


def test_check_lengths_accepts():
    check_lengths(torch.tensor([1, 5]), 5)
    check_lengths(torch.tensor([1, 5000]))
    check_lengths(torch.tensor([0, 5]), 5, zero_ok=True)
    check_same_count(torch.tensor([1, 5]), 2)
    refuses(ValueError, ["lengths[0] is -1"], check_lengths, torch.tensor([-1]), zero_ok=True)


def test_check_same_count_names_who_is_left_over():
    two = torch.tensor([1, 5])
    refuses(ValueError, ["holds 2", "batch of 3", "sequence 2 has"], check_same_count, two, 3)
    refuses(ValueError, ["holds 2", "batch of 1", "lengths[1] has"], check_same_count, two, 1)


@pytest.mark.parametrize("mask, error, words", bad_masks())
@pytest.mark.parametrize("name", ["keep_mask", "key_padding_mask"])
def test_check_mask_refuses_by_the_name_of_the_argument(name, mask, error, words):
    refuses(error, [name, *words], check_mask, mask, name)


def test_check_mask_accepts_holes_empty_rows_and_no_steps():
    check_mask(torch.tensor([[True, False, True], [False, False, False]]))
    check_mask(torch.zeros(2, 0, dtype=torch.bool))


@pytest.mark.parametrize(
    "value", [0, 3.0, 2.5, True, "3", None, torch.tensor(3.0), torch.tensor(True), np.float64(3)]
)
def test_check_whole_refuses_by_the_name_of_the_argument(value):
    words = [f"size is {value!r}:", "whole number of at least 1"]
    refuses(ValueError, words, check_whole, "size", value, 1)


def test_check_whole_gives_an_int():
    for value in (4, np.int32(4), np.uint8(4)):
        found = check_whole("size", value, 4)
        assert type(found) is int and found == 4
    assert check_whole("seed", 0, 0) == 0 and check_whole("shift", -2, -3) == -2
    refuses(ValueError, ["shift is -4", "at least -3"], check_whole, "shift", -4, -3)


def test_check_whole_takes_what_can_be_an_index():
    assert check_whole("size", torch.tensor([2, 3]).max(), 1) == 3
    assert check_whole("size", np.int32(3), 1) == 3
