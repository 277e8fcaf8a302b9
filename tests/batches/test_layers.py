"""Layers over time give what torch's own give on each sequence alone, or on all real steps."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from course_utils.batches.layers import MaskedBatchNorm1d, MaskedConv1d, conv_lengths
from course_utils.batches.masks import lengths_to_keep_mask
from course_utils.batches.padding import pad
from tests.ragged import JUNK, bad_lengths, calm, close, few, lengths_lists, ragged, randn, refuses  # noqa: F401

LAYER = st.tuples(*[st.integers(*ends) for ends in [(1, 5), (1, 4), (0, 3), (1, 3)]])


@few
@given(lengths_lists(), LAYER, st.sampled_from([torch.uint8, torch.int32, torch.int64]))
def test_conv_lengths_are_what_torch_makes_of_each_length_alone(lengths, layer, dtype):
    kernel_size, _, padding, dilation = layer
    span = dilation * (kernel_size - 1) + 1
    fits = [length + 2 * padding >= span for length in lengths]
    counts = torch.tensor(lengths, dtype=dtype)
    if not all(fits):
        row = fits.index(False)
        words = [f"lengths[{row}] is {lengths[row]}, too short", f"spans {span} steps", "drop"]
        refuses(ValueError, words, conv_lengths, counts, *layer)
        return
    weight = torch.zeros(1, 1, kernel_size)
    alone = [F.conv1d(torch.zeros(1, 1, n), weight, None, *layer[1:]).shape[2] for n in lengths]
    found = conv_lengths(counts, *layer)
    assert found.tolist() == alone and found.dtype == torch.int64


@pytest.mark.parametrize("lengths, error, words", bad_lengths("over T", "too few", "too many"))
def test_conv_lengths_refuses(lengths, error, words):
    refuses(error, words, conv_lengths, lengths, 1)


def both(layers, sequences, junk, added):
    """Masked convolutions over the batch, and their `nn.Conv1d` on each sequence alone."""
    batch, lengths = pad(
        sequences, padding_value=junk, total_length=max(map(len, sequences)) + added
    )
    batch.requires_grad_()
    steps = batch
    for layer in layers:
        steps, lengths = layer(steps, lengths)
        # A layer may leave anything behind the end: NaN there must not reach the next one.
        keep_mask = lengths_to_keep_mask(lengths, steps.shape[1])
        steps = steps.masked_fill(~keep_mask[..., None], junk)
    alone = []
    for sequence in sequences:
        one = sequence.requires_grad_().T[None]
        for layer in layers:
            one = layer.conv(one)
        alone.append(one[0].T)
    return batch, steps, lengths, alone


@few
@given(
    lengths_lists(5),
    st.lists(LAYER.map(lambda layer: layer[:3]), min_size=1, max_size=2),
    st.sampled_from(JUNK),
    st.integers(0, 4),
)
def test_masked_convolutions_and_gradients_are_those_of_each_sequence_alone(
    lengths, shapes, junk, added
):
    torch.manual_seed(0)
    layers = nn.ModuleList(MaskedConv1d(3, 3, *shape) for shape in shapes).double()
    sequences = [one.double() for one in ragged(*lengths, features=3)]
    try:
        batch, steps, counts, alone = both(layers, sequences, junk, added)
    except (ValueError, RuntimeError) as error:
        assert "too short" in str(error) or "Kernel size can't be greater" in str(error)
        assume(False)
    assert counts.tolist() == [len(one) for one in alone]
    rows = [row[:count] for row, count in zip(steps, counts.tolist(), strict=True)]
    for one, other in zip(rows, alone, strict=True):
        close(one, other)
    weights = list(layers.parameters())
    loss, loss_alone = (sum(one.square().sum() for one in ones) for ones in (rows, alone))
    at_batch, *at_weights = torch.autograd.grad(loss, [batch, *weights])
    at_alone = torch.autograd.grad(loss_alone, [*sequences, *weights])
    for row, one in zip(at_batch, at_alone[: len(sequences)], strict=True):
        torch.testing.assert_close(row[: len(one)], one)
        assert (row[len(one) :] == 0).all()
    for one, other in zip(at_weights, at_alone[len(sequences) :], strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("lengths, error, words", bad_lengths())
def test_masked_convolution_refuses_bad_lengths(lengths, error, words):
    refuses(error, words, nn.Module.__call__, MaskedConv1d(2, 2, 1), randn(3, 5, 2), lengths)


@pytest.mark.parametrize("T", [9, 3])
def test_masked_convolution_refuses_a_sequence_that_is_too_short(T):
    words = ["is 3, too short", "spans 4 steps"]
    layer = MaskedConv1d(2, 2, 4)
    refuses(ValueError, words, nn.Module.__call__, layer, randn(2, T, 2), torch.tensor([T, 3]))


def norms(features, training, seed):
    """A masked and a plain BatchNorm that agree, with weights and statistics of their own."""
    masked, plain = MaskedBatchNorm1d(features).double(), nn.BatchNorm1d(features).double()
    values = randn(4, features, seed=seed, dtype=torch.float64)
    state = dict(zip(["weight", "bias", "running_mean", "running_var"], values, strict=True))
    plain.load_state_dict(state | {"running_var": values[3].exp()}, strict=False)
    masked.norm.load_state_dict(plain.state_dict())
    return masked.train(training), plain.train(training)


@few
@given(
    st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=5),
    st.sampled_from(JUNK),
    st.booleans(),
    st.integers(0, 99),
)
def test_masked_batch_norm_is_the_plain_one_of_all_real_steps(rows, junk, training, seed):
    keep_mask = torch.tensor(rows)
    assume(keep_mask.sum() >= 2)
    masked, plain = norms(3, training, seed)
    values = 5 + randn(*keep_mask.shape, 3, seed=seed, dtype=torch.float64)
    values = values.masked_fill(~keep_mask[..., None], junk).requires_grad_()
    steps = torch.cat([row[keep] for row, keep in zip(values.detach(), keep_mask, strict=True)])
    found, expected = masked(values, keep_mask), plain(steps.requires_grad_())
    close(found[keep_mask], expected)
    assert found.shape == values.shape and (found[~keep_mask] == 0).all()
    found.pow(3).sum().backward(), expected.pow(3).sum().backward()
    torch.testing.assert_close(values.grad[keep_mask], steps.grad)
    assert (values.grad[~keep_mask] == 0).all()
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(masked.norm.get_parameter(name).grad, parameter.grad)
    for name, buffer in plain.named_buffers():
        close(masked.norm.get_buffer(name), buffer)
    assert (plain.num_batches_tracked > 0) == training


@pytest.mark.parametrize(
    "keep_mask, error, words",
    [
        (torch.ones(3, 5), TypeError, ["keep_mask", "float32", "keep_mask == 1"]),
        (torch.tensor([5, 3, 2]), TypeError, ["keep_mask", "int64", "lengths_to_keep_mask"]),
        (None, TypeError, ["keep_mask", "NoneType"]),
        (torch.ones(3, 4).bool(), ValueError, ["(3, 4)", "(3, 5, 2)", "same (B, T)"]),
        (torch.ones(5, 3).bool(), ValueError, ["(5, 3)", "(3, 5, 2)"]),
        (torch.ones(5).bool(), ValueError, ["keep_mask has shape (5,)", "(B, T)"]),
    ],
)
def test_masked_batch_norm_refuses(keep_mask, error, words):
    layer = MaskedBatchNorm1d(2)
    refuses(error, words, nn.Module.__call__, layer, randn(3, 5, 2), keep_mask)


@pytest.mark.parametrize("real", [0, 1])
def test_masked_batch_norm_in_training_refuses_fewer_than_two_real_steps(real):
    keep_mask = torch.arange(5)[None] < real
    assert MaskedBatchNorm1d(2).eval()(randn(1, 5, 2), keep_mask).isfinite().all()
    with pytest.raises(ValueError):
        MaskedBatchNorm1d(2)(randn(1, 5, 2), keep_mask)
