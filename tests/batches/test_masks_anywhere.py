"""Masks and reductions in half precision, compiled, exported, and without a wait for a GPU."""

import pytest
import torch
from torch import nn

from course_utils.batches.layers import checked_keep_mask
from course_utils.batches.masks import (
    from_attention_mask,
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
from tests.ragged import calm, close, randn, refuses  # noqa: F401


def through(convert):
    """A function of (values, lengths) that makes the keep mask and gives it to `convert`."""
    return lambda values, lengths, **check: convert(
        lengths_to_keep_mask(lengths, values.shape[1], **check)
    )


def reduced(reduce):
    return lambda values, lengths, **check: reduce(
        values, lengths_to_keep_mask(lengths, values.shape[1], **check), **check
    )


def back(values, lengths, **check):
    keep_mask = lengths_to_keep_mask(lengths, values.shape[1], **check)
    keep_mask = from_attention_mask(to_attention_mask(keep_mask), **check)
    return keep_mask_to_lengths(keep_mask, **check)


BLOCKS = {
    "masked_mean": reduced(masked_mean),
    "masked_max": reduced(masked_max),
    "last_real_step": last_real_step,
    "to_sdpa_mask": through(to_sdpa_mask),
    "to_additive_mask": through(to_additive_mask),
    "to_key_padding_mask": through(to_key_padding_mask),
    "there and back": back,
}


def batch(T, B=3, device="cpu"):
    return randn(B, T, 4).to(device), torch.tensor([T, 2, 1] + [1] * (B - 3)).to(device)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("steps", [3000, 40_000])
def test_a_long_mean_in_half_precision_is_as_exact_as_its_dtype(dtype, steps):
    values = torch.full((2, steps + 5, 3), 50.0, dtype=dtype)
    keep_mask = lengths_to_keep_mask(torch.tensor([steps, 7]), steps + 5)
    mean = masked_mean(values, keep_mask)
    assert mean.dtype == dtype and (mean == 50).all()
    values = randn(2, steps + 5, 3).add(3).to(dtype)
    exact = masked_mean(values.double(), keep_mask)
    within = {"rtol": torch.finfo(dtype).eps, "atol": 0}
    torch.testing.assert_close(masked_mean(values, keep_mask).double(), exact, **within)
    assert torch.equal(
        masked_max(values, keep_mask).double(), masked_max(values.double(), keep_mask)
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_gradient_of_a_half_precision_mean_keeps_its_dtype(dtype):
    values = torch.ones(1, 4, 2, dtype=dtype, requires_grad=True)
    masked_mean(values, torch.tensor([[True, True, False, False]])).sum().backward()
    assert values.grad.dtype == dtype
    assert values.grad[0, :, 0].tolist() == [0.5, 0.5, 0, 0]


def graphs(function):
    """How many graphs torch.compile makes of a function, called with five lengths."""
    made = []

    def count(graph, _):
        made.append(graph)
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(function, backend=count)
    for T in (5, 7, 9, 12, 20):
        close(compiled(*batch(T)), function(*batch(T)))
    return len(made)


def plain_mean(values, lengths):
    keep = (torch.arange(values.shape[1], device=values.device) < lengths[:, None])[..., None]
    return values.masked_fill(~keep, 0).sum(1) / keep.sum(1)


@pytest.mark.parametrize("name", BLOCKS)
def test_compiles_to_no_more_graphs_than_plain_torch(name):
    assert graphs(BLOCKS[name]) <= graphs(plain_mean)


class Module(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, values, lengths):
        return self.function(values, lengths)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("name", BLOCKS)
def test_exports_for_any_batch_and_any_length(name, strict):
    B, T = (torch.export.Dim(one, min=2) for one in "BT")
    module = Module(BLOCKS[name])
    shapes = {"values": {0: B, 1: T}, "lengths": {0: B}}
    exported = torch.export.export(module, batch(5), dynamic_shapes=shapes, strict=strict).module()
    other = batch(9, B=4)
    close(exported(*other), module(*other))


def test_exports_a_mask_as_wide_as_its_longest_length():
    class Mask(nn.Module):
        def forward(self, lengths):
            return lengths_to_keep_mask(lengths)

    exported = torch.export.export(Mask(), (torch.tensor([5, 2]),)).module()
    lengths = torch.tensor([2, 7])
    assert torch.equal(exported(lengths), lengths_to_keep_mask(lengths))


@pytest.mark.parametrize("name", BLOCKS)
def test_without_checks_no_number_is_waited_for(name):
    # A tensor on the meta device holds none: whoever asks for one gets an error.
    result = BLOCKS[name](*batch(5, device="meta"), check=False)
    assert result.is_meta
    assert result.shape == BLOCKS[name](*batch(5)).shape
    with pytest.raises((ValueError, RuntimeError, NotImplementedError)):
        BLOCKS[name](*batch(5, device="meta"))


@pytest.mark.parametrize("name", BLOCKS)
def test_without_checks_the_answer_is_the_same(name):
    assert torch.equal(BLOCKS[name](*batch(5), check=False), BLOCKS[name](*batch(5)))


def test_without_checks_what_does_not_fit_has_no_meaning_but_no_error():
    assert lengths_to_keep_mask(torch.tensor([9]), 3, check=False).tolist() == [[True] * 3]
    nothing = torch.tensor([[False, False]])
    assert masked_mean(torch.ones(1, 2), nothing, check=False).isnan().all()
    assert masked_max(torch.ones(1, 2), nothing, check=False).tolist() == [-torch.inf]
    assert keep_mask_to_lengths(torch.tensor([[False, True]]), check=False).tolist() == [1]
    assert from_attention_mask(torch.tensor([[0, 2]]), check=False).tolist() == [[False, True]]


def test_without_checks_dtypes_and_shapes_are_still_refused():
    lengths = torch.tensor([1.0])
    refuses(TypeError, ["lengths", "integers"], lengths_to_keep_mask, lengths, 3, check=False)
    refuses(
        ValueError,
        ["keep_mask", "(1, 2)", "(1, 3)"],
        masked_mean,
        torch.ones(1, 3),
        torch.ones(1, 2, dtype=torch.bool),
        check=False,
    )


def test_a_layer_copies_lengths_to_the_device_of_its_batch():
    keep_mask = checked_keep_mask(torch.zeros(2, 4, 1, device="meta"), torch.tensor([4, 1]))
    assert keep_mask.is_meta and keep_mask.shape == (2, 4)
