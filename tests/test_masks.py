"""A masked reduction of a padded batch is the plain one of each sequence alone."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_utils.batching import pad
from course_utils.checks import check_lengths, check_same_count
from course_utils.masks import (
    last_real_step,
    lengths_to_keep_mask,
    masked_max,
    masked_mean,
)
from tests.ragged import (
    JUNK,
    bad_lengths,
    calm,  # noqa: F401
    close,
    few,
    lengths_lists,
    randn,
    refuses,
)
from tests.ragged import sequence_lists as sequences_

INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]


def by_keep_mask(reduce):
    return lambda values, lengths: reduce(values, lengths_to_keep_mask(lengths, values.shape[1]))


# Each reduction of (B, T, ...) with lengths, and what it does to one sequence (T, ...) alone.
REDUCTIONS = [
    pytest.param(by_keep_mask(masked_mean), lambda one: one.mean(0), id="masked_mean"),
    pytest.param(by_keep_mask(masked_max), lambda one: one.amax(0), id="masked_max"),
    pytest.param(last_real_step, lambda one: one[-1], id="last_real_step"),
]


@few
@given(lengths_lists(shortest=0), st.integers(0, 5), st.sampled_from(INTEGERS))
def test_keep_mask_is_what_counting_gives(lengths, added, dtype):
    T = max(lengths) + added
    keep_mask = lengths_to_keep_mask(torch.tensor(lengths, dtype=dtype), T)
    assert keep_mask.dtype == torch.bool
    assert keep_mask.tolist() == [[step < length for step in range(T)] for length in lengths]
    assert lengths_to_keep_mask(torch.tensor(lengths)).shape == (len(lengths), max(lengths))


@pytest.mark.parametrize("batched, alone", REDUCTIONS)
@few
@given(sequences_(), st.sampled_from(JUNK), st.integers(0, 4))
def test_reduction_equals_each_sequence_alone(batched, alone, sequences, junk, added):
    longest = max(map(len, sequences))
    padded, lengths = pad(sequences, padding_value=junk, total_length=longest + added)
    before = padded.detach().clone()
    result = batched(padded, lengths)
    close(result, torch.stack([alone(one) for one in sequences]))
    assert torch.equal(padded.nan_to_num(), before.nan_to_num())


@pytest.mark.parametrize("batched, alone", REDUCTIONS)
@few
@given(sequences_(), st.sampled_from(JUNK))
def test_gradient_equals_each_sequence_alone_and_is_zero_at_padding(
    batched, alone, sequences, junk
):
    sequences = [one.detach().requires_grad_() for one in sequences]
    padded, lengths = pad([one.detach() for one in sequences], padding_value=junk)
    padded.requires_grad_()
    weights = randn(len(sequences), padded.shape[2], seed=1, dtype=padded.dtype)
    (batched(padded, lengths) * weights).sum().backward()
    for one, row, weight in zip(sequences, padded.grad, weights, strict=True):
        (alone(one) * weight).sum().backward()
        close(row[: len(one)], one.grad)
        assert (row[len(one) :] == 0).all()


@few
@given(st.integers(0, 1000), st.integers(1, 5), st.integers(1, 9), st.sampled_from(JUNK))
def test_keep_mask_may_have_holes(seed, B, T, junk):
    values = randn(B, T, 2, seed=seed)
    keep_mask = randn(B, T, seed=seed + 1) > 0
    keep_mask[:, seed % T] = True
    values[~keep_mask] = junk
    for masked, plain in ((masked_mean, torch.mean), (masked_max, torch.amax)):
        rows = [plain(row[keep], dim=0) for row, keep in zip(values, keep_mask, strict=True)]
        close(masked(values, keep_mask), torch.stack(rows))


@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 2), (3, 5, 2, 4)])
def test_reductions_keep_what_follows_time(shape):
    values, lengths = randn(*shape), torch.tensor([2, 5, 1])
    for reduction in REDUCTIONS:
        batched, alone = reduction.values
        rows = [alone(row[:length]) for row, length in zip(values, [2, 5, 1], strict=True)]
        close(batched(values, lengths), torch.stack(rows))


def test_ties_of_the_maximum_share_the_gradient_with_no_padding():
    values = torch.zeros(1, 4, 1, requires_grad=True)  # padding ties with the real maximum
    masked_max(values, torch.tensor([[True, True, False, False]])).sum().backward()
    assert values.grad.flatten().tolist() == [0.5, 0.5, 0, 0]


@pytest.mark.parametrize("dtype", INTEGERS)
def test_last_real_step_takes_every_integer_dtype(dtype):
    values = torch.arange(6).reshape(2, 3)
    assert last_real_step(values, torch.tensor([3, 1], dtype=dtype)).tolist() == [2, 3]


def test_values_may_be_on_another_device_than_lengths():
    values = torch.zeros(2, 3, 4, device="meta")
    result = last_real_step(values, torch.tensor([3, 1]))
    assert (result.device.type, result.shape) == ("meta", (2, 4))


@pytest.mark.parametrize("lengths, error, words", bad_lengths())
def test_last_real_step_refuses(lengths, error, words):
    refuses(error, words, last_real_step, torch.zeros(3, 5, 2), lengths)


@pytest.mark.parametrize("lengths, error, words", bad_lengths("zero", "too few", "too many"))
def test_keep_mask_refuses(lengths, error, words):
    refuses(error, words, lengths_to_keep_mask, lengths, 5)


@pytest.mark.parametrize("lengths, error, words", bad_lengths("too few", "too many"))
def test_check_lengths_refuses(lengths, error, words):
    refuses(error, words, check_lengths, lengths, 5)


def test_check_lengths_accepts():
    check_lengths(torch.tensor([1, 5]), 5)
    check_lengths(torch.tensor([1, 5000]))
    check_lengths(torch.tensor([0, 5]), 5, zero_ok=True)
    check_same_count(torch.tensor([1, 5]), 2)
    refuses(ValueError, ["lengths[0] is -1"], check_lengths, torch.tensor([-1]), zero_ok=True)
    refuses(ValueError, ["holds 2", "batch of 3"], check_same_count, torch.tensor([1, 5]), 3)


ALL = torch.ones(3, 5, dtype=torch.bool)
ROW_1_EMPTY = torch.arange(5) < torch.tensor([5, 0, 2])[:, None]


@pytest.mark.parametrize("reduce", [masked_mean, masked_max])
@pytest.mark.parametrize(
    "values, keep_mask, error, words",
    [
        ((3, 5, 2), ROW_1_EMPTY, ValueError, ["keep_mask", "row 1", "Drop that sequence"]),
        ((3, 5, 2), ALL.long(), TypeError, ["keep_mask", "int64", "keep_mask.bool()"]),
        ((3, 5, 2), ALL.tolist(), TypeError, ["keep_mask", "list"]),
        ((3, 5, 2), ALL.t(), ValueError, ["keep_mask", "(5, 3)", "(3, 5, 2)", "(B, T)"]),
        ((3, 5, 2), ALL[:2], ValueError, ["keep_mask", "(2, 5)"]),
        ((3, 5, 2), ALL[0], ValueError, ["keep_mask", "(5,)"]),
        ((3, 5, 2), ALL[..., None], ValueError, ["keep_mask", "(3, 5, 1)"]),
        ((3, 0, 2), ALL[:, :0], ValueError, ["keep_mask", "row 0"]),
        ((0, 5, 2), ALL[:0], ValueError, ["values", "(0, 5, 2)", "at least one sequence"]),
        ((5,), ALL[0], ValueError, ["values", "(5,)", "values[None]"]),
    ],
)
def test_masked_reductions_refuse(reduce, values, keep_mask, error, words):
    refuses(error, words, reduce, torch.zeros(values), keep_mask)


@pytest.mark.parametrize("reduce", [masked_mean, masked_max, last_real_step])
def test_reductions_refuse_values_that_are_no_padded_tensor(reduce):
    packed = torch.nn.utils.rnn.pack_sequence([torch.zeros(2, 1), torch.zeros(1, 1)])
    words = ["values must be a tensor", "PackedSequence", "pad_packed_sequence"]
    refuses(TypeError, words, reduce, packed, torch.tensor([2, 1]))
    refuses(TypeError, ["values", "list"], reduce, [torch.zeros(2, 1)], torch.tensor([2]))
    refuses(ValueError, ["values", "()"], reduce, torch.tensor(1.0), torch.tensor([1]))


def test_last_real_step_refuses_an_empty_batch_and_no_steps():
    none = torch.tensor([], dtype=torch.int64)
    refuses(ValueError, ["values", "(0, 5)"], last_real_step, torch.zeros(0, 5), none)
    one = torch.tensor([1, 1])
    refuses(ValueError, ["lengths[0]", "T = 0"], last_real_step, torch.zeros(2, 0), one)


def test_masked_max_refuses_integers():
    words = ["values", "int64", "values.float()"]
    refuses(TypeError, words, masked_max, torch.zeros(3, 5, dtype=torch.int64), ALL)
