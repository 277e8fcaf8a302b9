"""Masks say in each convention what lengths say; reducing by one is reducing each row alone."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from course_utils.batches.masks import (
    from_attention_mask,
    from_key_padding_mask,
    keep_mask_to_lengths,
    last_real_step,
    lengths_to_keep_mask,
    masked_max,
    masked_mean,
    to_additive_mask,
    to_attention_mask,
    to_key_padding_mask,
    to_sdpa_mask,
)
from course_utils.batches.padding import pad
from tests.batches.test_checks import bad_masks
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


ALL = torch.ones(3, 5, dtype=torch.bool)
ROW_1_EMPTY = torch.arange(5) < torch.tensor([5, 0, 2])[:, None]


@pytest.mark.parametrize("reduce", [masked_mean, masked_max])
@pytest.mark.parametrize(
    "values, keep_mask, error, words",
    [
        ((3, 5, 2), ROW_1_EMPTY, ValueError, ["keep_mask", "row 1", "Drop that sequence"]),
        ((3, 5, 2), ALL.long(), TypeError, ["keep_mask", "int64", "keep_mask == 1"]),
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


@st.composite
def keep_masks(draw, fewest=1):
    """(B, T) masks with holes and padding on both sides, and at least `fewest` real steps a row."""
    T = draw(st.integers(max(fewest, 1), 7))
    row = st.lists(st.booleans(), min_size=T, max_size=T).filter(lambda one: sum(one) >= fewest)
    return torch.tensor(draw(st.lists(row, min_size=1, max_size=5)))


@few
@given(lengths_lists(shortest=0), st.integers(0, 5))
def test_lengths_come_back_from_their_keep_mask(lengths, added):
    found = keep_mask_to_lengths(lengths_to_keep_mask(torch.tensor(lengths), max(lengths) + added))
    assert found.dtype == torch.int64 and found.tolist() == lengths


@few
@given(keep_masks(fewest=0))
def test_lengths_are_given_or_the_first_hole_is_named(keep_mask):
    rows = ["".join("01"[keep] for keep in row) for row in keep_mask.tolist()]
    holes = [index for index, row in enumerate(rows) if "01" in row]
    if holes:
        step = rows[holes[0]].index("0")
        words = [f"keep_mask[{holes[0]}]", f"padding at step {step} ", "~keep_mask"]
        refuses(ValueError, words, keep_mask_to_lengths, keep_mask)
    else:
        assert keep_mask_to_lengths(keep_mask).tolist() == [row.count("1") for row in rows]


@few
@given(keep_masks(fewest=0), st.sampled_from([torch.bool, *INTEGERS]))
def test_keep_mask_comes_back_from_each_convention(keep_mask, dtype):
    ignored, attended = to_key_padding_mask(keep_mask), to_attention_mask(keep_mask)
    assert ignored.tolist() == [[not keep for keep in row] for row in keep_mask.tolist()]
    assert attended.tolist() == [[int(keep) for keep in row] for row in keep_mask.tolist()]
    assert (ignored.dtype, attended.dtype) == (torch.bool, torch.int64)
    assert torch.equal(to_additive_mask(keep_mask, torch.float16) == 0, keep_mask)
    assert to_additive_mask(keep_mask, torch.float16).dtype == torch.float16
    for back in (from_key_padding_mask(ignored), from_attention_mask(attended.to(dtype))):
        assert back.dtype == torch.bool and torch.equal(back, keep_mask)


def by_sdpa(make, causal=False):
    """Attention of two heads without weights, the mask made by `make`, or causal alone."""

    def attend(x, keep_mask=None):
        heads = x.unflatten(-1, (2, 4)).transpose(-3, -2)
        lower = torch.ones(x.shape[-2], x.shape[-2], dtype=torch.bool).tril() if causal else None
        mask = lower if keep_mask is None else make(keep_mask, lower)
        return F.scaled_dot_product_attention(heads, heads, heads, mask).transpose(-3, -2)

    return attend


def by_module(make, **options):
    torch.manual_seed(0)
    module = nn.MultiheadAttention(8, 2, batch_first=True).double()

    def attend(x, keep_mask=None):
        mask = None if keep_mask is None else make(keep_mask)
        return module(x, x, x, key_padding_mask=mask, **options)[0]

    return attend


def by_encoder(x, keep_mask=None):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True).double()
    layer.train(torch.is_grad_enabled())  # without gradients: eval, where torch has a fast path
    ignored = None if keep_mask is None else to_key_padding_mask(keep_mask)
    return layer(x, src_key_padding_mask=ignored)


def by_softmax(bias):
    """Attention written out, `bias(keep_mask)` added to its scores (B, T, T)."""

    def attend(x, keep_mask=None):
        scores = x @ x.transpose(-2, -1)
        return (scores if keep_mask is None else scores + bias(keep_mask)).softmax(-1) @ x

    return attend


def additive(keep_mask):
    return to_additive_mask(keep_mask, torch.float64)


def as_transformers_does(keep_mask):  # get_extended_attention_mask in its modeling_utils.py
    return (1 - to_attention_mask(keep_mask)[:, None].double()) * torch.finfo(torch.float64).min


# Attention as torch offers it, with each mask where it belongs.
ATTENDS = {
    "to_key_padding_mask": by_module(to_key_padding_mask),
    "to_key_padding_mask, no weights": by_module(to_key_padding_mask, need_weights=False),
    "to_key_padding_mask, encoder": by_encoder,
    "to_additive_mask, module": by_module(additive),
    "to_additive_mask, sdpa": by_sdpa(lambda keep, lower: additive(keep)[:, None, None]),
    "to_additive_mask, by hand": by_softmax(lambda keep: additive(keep)[:, None]),
    "to_attention_mask, by hand": by_softmax(as_transformers_does),
    "to_sdpa_mask": by_sdpa(lambda keep, lower: to_sdpa_mask(keep)),
    "to_sdpa_mask & causal": by_sdpa(lambda keep, lower: to_sdpa_mask(keep) & lower, causal=True),
}


@pytest.mark.parametrize("name", ATTENDS)
@few
@given(keep_masks(), st.sampled_from([0.0, 7.0, -1e3]), st.integers(0, 1000))
def test_attention_under_each_mask_equals_each_sequence_alone(name, keep_mask, junk, seed):
    attend = ATTENDS[name]
    if "causal" in name:
        keep_mask[:, 0] = True  # or an early query sees padding alone
    x = randn(*keep_mask.shape, 8, seed=seed, dtype=torch.float64)
    x = x.masked_fill(~keep_mask[..., None], junk).requires_grad_()
    together = attend(x, keep_mask)
    factors = randn(*together.shape, seed=seed + 1, dtype=torch.float64)
    gradient = torch.autograd.grad((together * factors)[keep_mask].sum(), x)[0]
    assert (gradient[~keep_mask] == 0).all()
    with torch.no_grad():
        quick = attend(x, keep_mask)
    for row, keep in enumerate(keep_mask):
        one = x[row, keep].detach().requires_grad_()
        alone = attend(one[None])[0]
        (alone * factors[row, keep]).sum().backward()
        close(together[row, keep], alone)
        close(quick[row, keep], alone)
        close(gradient[row, keep], one.grad)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_additive_mask_refuses_a_dtype_without_minus_inf(dtype):
    refuses(TypeError, ["dtype", str(dtype), "-inf"], to_additive_mask, ALL, dtype)


@pytest.mark.parametrize("mask, error, words", bad_masks())
@pytest.mark.parametrize(
    "convert",
    [
        keep_mask_to_lengths,
        to_key_padding_mask,
        from_key_padding_mask,
        to_sdpa_mask,
        to_additive_mask,
        to_attention_mask,
    ],
)
def test_converters_refuse(convert, mask, error, words):
    name = "key_padding_mask" if convert is from_key_padding_mask else "keep_mask"
    refuses(error, [f"{name} ", *words], convert, mask)


@pytest.mark.parametrize("mask, error, words", bad_masks("int64", "uint8", "float", "lengths"))
def test_from_attention_mask_refuses(mask, error, words):
    refuses(error, ["attention_mask ", *words], from_attention_mask, mask)


@pytest.mark.parametrize("wrong", [2, -1, 5])
def test_from_attention_mask_refuses_what_is_neither_0_nor_1(wrong):
    words = [f"attention_mask holds {wrong}", "0 and 1", "lengths_to_keep_mask"]
    refuses(ValueError, words, from_attention_mask, torch.tensor([[1, 0], [1, wrong]]))


@pytest.mark.parametrize("value", [1.0, -torch.inf, torch.nan, torch.finfo().min])
def test_from_attention_mask_refuses_floats_whatever_they_hold(value):
    words = ["attention_mask", "integers", "attention_mask == 0", "attention_mask.long()"]
    refuses(TypeError, words, from_attention_mask, torch.tensor([[0.0, 0.0], [0.0, value]]))
