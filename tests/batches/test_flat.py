"""A flat batch computes what each sequence computes alone, in values and gradients."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from course_utils.batches.flat import (
    attend_within,
    cu_seqlens_to_document_id,
    cu_seqlens_to_positions,
    flatten,
    last_steps,
    lengths_to_cu_seqlens,
    segment_max,
    segment_mean,
    segment_softmax,
)
from course_utils.models import CausalLM
from tests.ragged import (
    calm,  # noqa: F401
    few,
    refuses,
)

LENGTHS = [5, 1, 3, 5, 12, 1, 2]
lengths_lists = st.lists(st.integers(1, 9), min_size=1, max_size=7)


def sequences(lengths, *shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, *shape, generator=generator, dtype=torch.float64) for n in lengths]


def with_gradients(function, parts):
    """The value and the gradients of a weighted sum of it, one for each part."""
    parts = [part.clone().requires_grad_() for part in parts]
    value = function(parts)
    weights = torch.arange(value.numel(), dtype=value.dtype).cos().reshape(value.shape)
    return value, torch.autograd.grad((value * weights).sum(), parts)


def same(here, there):
    for one, other in zip([here[0], *here[1]], [there[0], *there[1]], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


@few
@given(lengths_lists)
def test_where_sequences_begin_and_end(lengths):
    cu = lengths_to_cu_seqlens(lengths)
    assert cu.dtype == torch.int32
    assert cu.tolist() == [sum(lengths[:i]) for i in range(len(lengths) + 1)]
    assert cu_seqlens_to_positions(cu).tolist() == [t for n in lengths for t in range(n)]
    owners = [i for i, n in enumerate(lengths) for _ in range(n)]
    assert cu_seqlens_to_document_id(cu).tolist() == owners
    assert torch.equal(cu, lengths_to_cu_seqlens(torch.tensor(lengths)))


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_flatten_keeps_every_sequence(shape):
    texts = sequences(LENGTHS, *shape)
    content, cu, document_id, positions = flatten(texts)
    for i, text in enumerate(texts):
        assert torch.equal(content[cu[i] : cu[i + 1]], text)
        assert torch.equal(content[document_id == i], text)
        assert positions[document_id == i].tolist() == list(range(len(text)))


REDUCTIONS = {
    segment_mean: lambda one: one.mean(0),
    segment_max: lambda one: one.amax(0),
    last_steps: lambda one: one[-1],
}


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_a_segment_is_reduced_as_the_sequence_alone(reduce, shape):
    texts, cu = sequences(LENGTHS, *shape), lengths_to_cu_seqlens(LENGTHS)
    here = with_gradients(lambda parts: reduce(torch.cat(parts), cu), texts)
    same(here, with_gradients(lambda p: torch.stack(list(map(REDUCTIONS[reduce], p))), texts))


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_softmax_over_a_segment_is_that_of_the_sequence_alone(shape):
    texts, cu = sequences(LENGTHS, *shape), lengths_to_cu_seqlens(LENGTHS)
    texts[2] *= 400  # exp of this overflows
    here = with_gradients(lambda parts: segment_softmax(torch.cat(parts), cu), texts)
    alone = with_gradients(lambda parts: torch.cat([one.softmax(0) for one in parts]), texts)
    same(here, alone)


def test_equal_largest_steps_share_the_gradient_and_nan_is_kept():
    values = torch.tensor([2.0, 2.0, 1.0, 5.0], requires_grad=True)
    cu = torch.tensor([0, 3, 4])
    (slope,) = torch.autograd.grad(segment_max(values, cu).sum(), values)
    assert slope.tolist() == [0.5, 0.5, 0, 1]
    values = torch.tensor([2.0, float("nan"), 1.0, -float("inf")])
    assert segment_max(values, cu)[0].isnan() and segment_max(values, cu)[1] == -float("inf")


def test_a_long_mean_in_half_precision_does_not_overflow():
    values = torch.full((3000,), 50.0, dtype=torch.float16)
    found = segment_mean(values, lengths_to_cu_seqlens([2999, 1]))
    assert found.isfinite().all() and found[1] == 50


@few
@given(lengths_lists, st.booleans(), st.booleans())
def test_attention_within_a_sequence_is_that_of_the_sequence_alone(lengths, causal, in_order):
    lengths = sorted(lengths) if in_order else lengths
    attend = attend_within(lengths_to_cu_seqlens(lengths), causal)
    qkv = sequences([sum(lengths)] * 3, 2, 4)

    def flat(parts):
        return attend(*(one.transpose(0, 1) for one in parts))

    def alone(parts):
        texts = zip(
            *(one.transpose(0, 1)[None].split(lengths, dim=2) for one in parts), strict=True
        )
        heads = [F.scaled_dot_product_attention(*text, is_causal=causal) for text in texts]
        return torch.cat(heads, dim=2)[0]

    same(with_gradients(flat, qkv), with_gradients(alone, qkv))


def test_attention_takes_one_call_for_each_distinct_length(monkeypatch):
    calls, plain = [], F.scaled_dot_product_attention

    def counted(q, *rest, **named):
        calls.append(tuple(q.shape))
        return plain(q, *rest, **named)

    monkeypatch.setattr(F, "scaled_dot_product_attention", counted)
    q = torch.zeros(2, sum(LENGTHS), 4)
    assert attend_within(lengths_to_cu_seqlens(LENGTHS))(q, q, q).shape == q.shape
    assert calls == [(2, 2, 1, 4), (1, 2, 2, 4), (1, 2, 3, 4), (2, 2, 5, 4), (1, 2, 12, 4)]


@pytest.mark.parametrize("lengths", [LENGTHS, sorted(LENGTHS)])
def test_the_causal_model_is_the_same_flat_and_alone(lengths):
    torch.manual_seed(0)
    model = CausalLM(20, d_model=16, nhead=2).double()
    texts = [torch.randint(0, 20, (n,)) for n in lengths]
    flat = flatten(texts)

    def run(one):
        content, cu, _, positions = one
        model.zero_grad()
        model(content, positions, attend_within(cu)).cos().sum().backward()
        return [parameter.grad.clone() for parameter in model.parameters()]

    every = [run(flatten([text])) for text in texts]
    alone = [sum(parts) for parts in zip(*every, strict=True)]
    for here, there in zip(run(flat), alone, strict=True):
        torch.testing.assert_close(here, there, rtol=1e-10, atol=1e-10)


BOTH = torch.tensor([0, 3])


@pytest.mark.parametrize(
    ("error", "words", "function", "arguments"),
    [
        (ValueError, ["add up to", "flat batches"], lengths_to_cu_seqlens, ([2**31 - 1, 1],)),
        (ValueError, ["lengths[1] is 0", "drop"], lengths_to_cu_seqlens, ([3, 0],)),
        (TypeError, ["cu_seqlens", "list", "lengths_to_cu_seqlens"], attend_within, ([0, 3],)),
        (TypeError, ["cu_seqlens", "float32"], cu_seqlens_to_positions, (BOTH.float(),)),
        (ValueError, ["cu_seqlens", "(1,)"], cu_seqlens_to_document_id, (BOTH[:1],)),
        (ValueError, ["begins with 3", "a 0 before"], attend_within, (torch.tensor([3, 5]),)),
        (ValueError, ["sequence 1 has no step"], attend_within, (torch.tensor([0, 3, 3]),)),
        (TypeError, ["values must be"], last_steps, (torch.tensor(1.0), BOTH)),
        *[
            (ValueError, ["ends with 3", "4 steps"], function, (torch.zeros(4), BOTH))
            for function in (segment_mean, segment_max, segment_softmax, last_steps)
        ],
        *[
            (TypeError, ["int64", ".float()"], function, (torch.arange(3), BOTH))
            for function in (segment_mean, segment_max, segment_softmax)
        ],
        (ValueError, ["scores is a single number"], segment_softmax, (torch.tensor(1.0), BOTH)),
    ],
)
def test_what_is_no_flat_batch_is_refused(error, words, function, arguments):
    refuses(error, words, function, *arguments)
