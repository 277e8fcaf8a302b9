"""Padding is a round trip: nothing of a sequence is lost, and nothing is added to it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from course_utils.batches.padding import check_padding_value, check_sequences, collate, fill, pad
from tests.ragged import (
    JUNK,
    bad_lengths,
    bad_sequences,
    calm,  # noqa: F401
    few,
    lengths_lists,
    ragged,
    refuses,
    sequence_lists,
)


@few
@given(sequence_lists(), st.sampled_from(JUNK), st.none() | st.integers(0, 5))
def test_pad_is_a_round_trip(sequences, junk, added):
    before = [one.detach().clone() for one in sequences]
    longest = max(map(len, sequences))
    total_length = None if added is None else longest + added
    padded, lengths = pad(sequences, padding_value=junk, total_length=total_length)
    assert padded.shape == (len(sequences), longest + (added or 0), sequences[0].shape[1])
    assert padded.dtype == sequences[0].dtype
    assert (lengths.dtype, lengths.device.type) == (torch.int64, "cpu")
    assert lengths.tolist() == [len(one) for one in sequences]
    for row, one in zip(padded, before, strict=True):
        assert torch.equal(row[: len(one)], one)
        padding = row[len(one) :]
        assert torch.equal(padding.nan_to_num(-1), torch.full_like(padding, junk).nan_to_num(-1))
    # The batch is a copy: writing into it leaves the sequences alone.
    padded.detach().fill_(5)
    assert all(torch.equal(one, old) for one, old in zip(sequences, before, strict=True))


@few
@given(lengths_lists(), st.integers(0, 3))
def test_gradient_reaches_each_sequence(lengths, added):
    sequences = [one.requires_grad_() for one in ragged(*lengths)]
    padded, _ = pad(sequences, total_length=max(lengths) + added)
    scale = 1.0 + torch.arange(len(lengths))
    (padded * scale[:, None, None]).sum().backward()
    for one, factor in zip(sequences, scale, strict=True):
        assert torch.equal(one.grad, factor.expand_as(one))


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.complex64])
def test_pad_takes_every_dtype(dtype):
    sequences = [torch.ones(3, dtype=dtype), torch.ones(1, dtype=dtype)]
    padded, _ = pad(sequences, padding_value=1, total_length=4)
    assert padded.dtype == dtype and padded.shape == (2, 4) and (padded == 1).all()


def test_pad_takes_a_tuple_and_more_dimensions():
    padded, lengths = pad((torch.ones(1, 2, 3), torch.ones(4, 2, 3)))
    assert padded.shape == (2, 4, 2, 3) and lengths.tolist() == [1, 4] and padded.sum() == 30


def test_pad_stays_on_the_device_of_the_sequences():
    padded, lengths = pad([torch.zeros(2, 1, device="meta")], total_length=3)
    assert (padded.device.type, padded.shape) == ("meta", (1, 3, 1))
    assert lengths.device.type == "cpu"


@few
@given(lengths_lists(), st.integers(0, 5))
def test_fill_equals_counting(lengths, added):
    cells = [[step < n for step in range(max(lengths) + added)] for n in lengths]
    counted = sum(map(sum, cells)) / sum(map(len, cells))
    assert fill(torch.tensor(lengths), max(lengths) + added) == pytest.approx(counted)
    if not added:
        assert fill(torch.tensor(lengths)) == pytest.approx(counted)
        assert (fill(torch.tensor(lengths)) == 1) == (min(lengths) == max(lengths))


def test_collate_keeps_sequences_and_labels_together_in_a_spawned_worker():
    sequences, labels = ragged(3, 1, 5, 5, 2), torch.tensor([4, 0, 2, 2, 7])
    loader = DataLoader(
        list(zip(sequences, labels, strict=True)),
        batch_size=2,
        collate_fn=collate,
        num_workers=1,
        multiprocessing_context="spawn",
    )
    seen = []
    for padded, lengths, targets in loader:
        assert targets.dtype == lengths.dtype == torch.int64
        assert padded.shape[1] == lengths.max()
        rows = zip(padded, lengths, targets, strict=True)
        seen += [(row[:length], target) for row, length, target in rows]
    assert [int(target) for _, target in seen] == labels.tolist()
    assert all(torch.equal(row, one) for (row, _), one in zip(seen, sequences, strict=True))


@few
@given(sequence_lists(features=2), st.integers(0, 100))
def test_collate_is_pad_and_the_labels(sequences, first):
    labels = list(range(first, first + len(sequences)))
    padded, lengths, targets = collate(list(zip(sequences, labels, strict=True)))
    assert torch.equal(padded, pad(sequences)[0]) and torch.equal(lengths, pad(sequences)[1])
    assert targets.tolist() == labels


@pytest.mark.parametrize("sequences, error, words", bad_sequences())
@pytest.mark.parametrize("function", [check_sequences, pad])
def test_bad_sequences_are_refused(function, sequences, error, words):
    refuses(error, words, function, sequences)


def test_a_generator_is_no_list():
    with pytest.raises(TypeError, match=r"sequences .* generator: use list\(sequences\)"):
        pad(one for one in ragged(2, 1))


@pytest.mark.parametrize("total_length", [4, 0, -1])
def test_pad_refuses_a_total_length_below_the_longest(total_length):
    words = [f"total_length is {total_length}", "sequences[1] has 5 steps", "give at least"]
    refuses(ValueError, words, pad, ragged(2, 5, 5), total_length=total_length)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.5, 1e30])
def test_integers_refuse_padding_that_they_cannot_hold(value):
    ids = [torch.tensor([3, 1])]
    words = [f"padding_value is {value}", "int64 cannot hold", "padding_value=0"]
    refuses(ValueError, words, pad, ids, padding_value=value)
    check_padding_value(value, torch.float32)
    check_padding_value(9.0, torch.int64)


@pytest.mark.parametrize(
    "samples, error, words",
    [
        ([], ValueError, ["sequences is empty"]),
        (ragged(2, 2), TypeError, ["samples[0] is a Tensor", "pair", "zip(sequences, labels)"]),
        ([(torch.zeros(2), 1), (torch.zeros(2),)], TypeError, ["samples[1] is a tuple", "pair"]),
        ([(torch.zeros(2), 0.7)], TypeError, ["samples[0]", "label 0.7", "one integer"]),
        ([(torch.zeros(2), torch.zeros(3))], TypeError, ["samples[0]", "one integer"]),
        ([(torch.zeros(2), "a")], TypeError, ["samples[0]", "label a", "number the classes"]),
        ([(torch.zeros(2, 1), 1), (torch.zeros(2, 3), 1)], ValueError, ["sequences[1]", "(2, 3)"]),
        ([([1.0], 1)], TypeError, ["sequences[0] is a list"]),
    ],
)
def test_collate_refuses(samples, error, words):
    refuses(error, words, collate, samples)


@pytest.mark.parametrize("lengths, error, words", bad_lengths("too few", "too many"))
def test_fill_refuses(lengths, error, words):
    refuses(error, words, fill, lengths, 5)
