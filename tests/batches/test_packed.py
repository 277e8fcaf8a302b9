"""`layout` says what torch did, and `pack` is torch's packing for all that is right."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from course_utils.batches.packed import layout, pack
from course_utils.batches.padding import pad
from course_utils.testing import together_equals_alone

LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=8)


def batch_of(lengths, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    return pad([torch.randn(n, 2, generator=generator) for n in lengths], **options)


@given(LENGTHS, st.integers(0, 3))
def test_pack_equals_torch(lengths, extra):
    padded, counts = batch_of(lengths, total_length=max(lengths) + extra)
    ours = pack(padded, counts)
    torchs = pack_padded_sequence(padded, counts, batch_first=True, enforce_sorted=False)
    for one, other in zip(ours, torchs, strict=True):
        assert torch.equal(one, other)


@given(LENGTHS)
def test_layout_leads_from_each_cell_to_its_step_and_back(lengths):
    padded, counts = batch_of(lengths)
    packed, places = layout(counts)
    data = pack(padded, counts).data
    assert len(packed.data) == sum(lengths) == int((places >= 0).sum())
    for row, length in enumerate(lengths):
        assert (places[row, length:] == -1).all()
        for step in range(length):
            place = int(places[row, step])
            assert packed.data[place].tolist() == [row, step]
            assert torch.equal(data[place], padded[row, step])


@given(LENGTHS)
def test_an_lstm_over_pack_agrees_with_each_sequence_alone(lengths):
    torch.manual_seed(0)
    lstm = nn.LSTM(2, 3, batch_first=True, bidirectional=True)
    generator = torch.Generator().manual_seed(1)
    sequences = [torch.randn(n, 2, generator=generator) for n in lengths]

    def model(padded, counts):
        h_n = lstm(pack(padded, counts))[1][0]
        return torch.cat([h_n[-2], h_n[-1]], dim=1)

    assert together_equals_alone(model, sequences, extra_padding=2)


@given(st.lists(st.integers(1, 8), min_size=2, max_size=6).filter(lambda one: len(set(one)) > 1))
def test_pack_refuses_lengths_that_belong_to_other_rows(lengths):
    padded, counts = batch_of(lengths)
    swapped = counts.flip(0) if not torch.equal(counts, counts.flip(0)) else counts.roll(1)
    if torch.equal(swapped, counts):
        return
    with pytest.raises(ValueError, match=r"padded\[\d+, \d+\] holds data, but lengths\[\d+\] is"):
        pack(padded, swapped)


SQUARE = batch_of([4, 2, 3, 1])
BAD = {
    "a length beyond T": (SQUARE[0], [4, 2, 5, 1], ValueError, r"lengths\[2\] is 5.*only T = 4"),
    "too few": (SQUARE[0], [4, 2, 3], ValueError, "batch of 4.*sequence 3 has none"),
    "too many": (SQUARE[0], [4, 2, 3, 1, 1], ValueError, r"batch of 4.*lengths\[4\] has no seq"),
    "zero": (SQUARE[0], [4, 0, 3, 1], ValueError, r"lengths\[1\] is 0"),
    "negative": (SQUARE[0], [4, -2, 3, 1], ValueError, r"lengths\[1\] is -2"),
    "a fraction": (
        SQUARE[0],
        [4, 2.7, 3, 1],
        TypeError,
        r"not torch.float32 \(lengths\[1\] is a fraction",
    ),
    "a mask": (SQUARE[0], [True] * 4, TypeError, "must be integers, not torch.bool"),
    "2-D": (SQUARE[0], [[4, 2, 3, 1]], ValueError, r"must be 1-D.*\(1, 4\)"),
    "time first": (SQUARE[0].transpose(0, 1), [4, 2, 3, 1], ValueError, r"really \(B, T, ...\)"),
    "other order": (SQUARE[0], [4, 3, 2, 1], ValueError, r"padded\[2, 2\] holds data"),
    "no time": (torch.ones(4), [4, 2, 3, 1], ValueError, r"shape \(4,\): it must be \(B, T"),
    "a list": ([torch.ones(3, 2)], [3], TypeError, "not a list: torch.nn.utils.rnn.pack_sequence"),
}


@pytest.mark.parametrize("name", BAD)
def test_pack_refuses(name):
    padded, lengths, error, says = BAD[name]
    lengths = torch.tensor(lengths)
    before = lengths.clone()
    with pytest.raises(error, match=says):
        pack(padded, lengths)
    assert torch.equal(lengths, before)


def test_pack_wants_lengths_as_a_tensor():
    with pytest.raises(TypeError, match=r"lengths must be a tensor, not list: use torch.tensor"):
        pack(SQUARE[0], [4, 2, 3, 1])


def test_other_padding_values_are_verified_or_left_alone():
    for value in (-1.0, float("nan")):
        padded, counts = batch_of([3, 1], padding_value=value)
        assert len(pack(padded, counts, padding_value=value).data) == 4
        assert len(pack(padded, counts, padding_value=None).data) == 4
        with pytest.raises(ValueError, match=r"padded\[1, 1\] holds data"):
            pack(padded, counts)


def test_ids_without_features_can_be_packed():
    padded, counts = pad([torch.tensor([1, 2, 3]), torch.tensor([4])])
    assert pack(padded, counts).data.tolist() == [1, 4, 2, 3]


@pytest.mark.parametrize("lengths", [[0], [2, -1], []])
def test_layout_refuses_what_is_no_batch(lengths):
    with pytest.raises((ValueError, TypeError)):
        layout(torch.tensor(lengths, dtype=torch.int64))
