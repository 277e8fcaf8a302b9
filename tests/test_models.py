"""The models give what a loop over the sequences gives."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from course_utils.batching import pad
from course_utils.masks import last_real_step
from course_utils.models import PackedLSTM, PaddedLSTM
from tests.ragged import (
    JUNK,
    bad_lengths,
    calm,  # noqa: F401
    close,
    few,
    lengths_lists,
    ragged,
    randn,
    refuses,
)


def alone(model, sequence):
    """What a bidirectional or forward LSTM says of one sequence, without batch or packing."""
    _, (h_n, _) = model.lstm(sequence)
    return model.head(h_n.flatten())


@pytest.mark.parametrize(
    "make",
    [
        lambda: PackedLSTM(4, 8, 3),
        lambda: PackedLSTM(4, 8, 3, bidirectional=False),
        lambda: PaddedLSTM(4, 8, 3, last_real_step),
    ],
    ids=["PackedLSTM", "forward PackedLSTM", "PaddedLSTM"],
)
@few
@given(lengths_lists(), st.sampled_from(JUNK), st.integers(0, 4), st.integers(0, 1000))
def test_each_row_is_the_sequence_alone(make, lengths, junk, added, seed):
    torch.manual_seed(seed)
    model, sequences = make(), ragged(*lengths, seed=seed)
    if isinstance(model, PaddedLSTM):
        junk = 0.0 if junk != junk or abs(junk) > 1e9 else junk  # its steps do run on the padding
    batch = pad(sequences, padding_value=junk, total_length=max(lengths) + added)
    logits = model(*batch)
    assert logits.shape == (len(lengths), 3)
    close(logits, torch.stack([alone(model, one) for one in sequences]))
    logits.square().sum().backward()
    together = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    sum(alone(model, one).square().sum() for one in sequences).backward()
    for one, parameter in zip(together, model.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad, rtol=1e-4, atol=1e-4)


def test_padded_lstm_hands_output_and_lengths_to_its_read_out():
    seen = []

    def read_out(output, lengths):
        seen.append((tuple(output.shape), lengths))
        return output[:, 0]

    model, (padded, lengths) = PaddedLSTM(4, 8, 3, read_out), pad(ragged(5, 3))
    logits = model(padded, lengths)
    assert seen == [((2, 5, 8), lengths)] and seen[0][1] is lengths
    close(logits, model.head(model.lstm(padded)[0][:, 0]))


def test_shapes_of_the_parameters():
    padded, packed = PaddedLSTM(4, 8, 3, last_real_step), PackedLSTM(4, 8, 3)
    assert padded.head.weight.shape == (3, 8) and packed.head.weight.shape == (3, 16)
    assert not padded.lstm.bidirectional and packed.lstm.bidirectional
    one_way = PackedLSTM(4, 8, 3, bidirectional=False)
    assert one_way.head.weight.shape == (3, 8) and not one_way.lstm.bidirectional
    assert padded.lstm.batch_first and packed.lstm.batch_first


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_lengths_may_be_of_any_integer_dtype(dtype):
    padded, lengths = pad(ragged(5, 3, 1))
    for model in (PackedLSTM(4, 8, 3), PaddedLSTM(4, 8, 3, last_real_step)):
        close(model(padded, lengths.to(dtype)), model(padded, lengths))


@pytest.mark.parametrize("lengths, error, words", bad_lengths())
@pytest.mark.parametrize(
    "model",
    [PackedLSTM(2, 8, 3), PaddedLSTM(2, 8, 3, last_real_step)],
    ids=["PackedLSTM", "PaddedLSTM"],
)
def test_bad_lengths_are_refused(model, lengths, error, words):
    refuses(error, words, nn.Module.__call__, model, randn(3, 5, 2), lengths)
