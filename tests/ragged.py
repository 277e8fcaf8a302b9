"""Ragged batches for property tests, and what every refusal must keep to."""

import copy
from typing import NamedTuple

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor, nn

from course_utils.testing.measure import one_thread

# The same examples on every run: a test that fails, fails for everyone.
few = settings(max_examples=25, deadline=None, derandomize=True, database=None)

JUNK = [0.0, 7.0, 1e30, float("nan"), float("inf"), -float("inf")]


@pytest.fixture(autouse=True, scope="module")
def calm():
    """One thread, in each file that imports this: several wait for each other where it is busy."""
    with one_thread():
        yield


def randn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def ragged(*lengths, features=4, seed=0):
    return [randn(n, features, seed=seed + i) for i, n in enumerate(lengths)]


def lengths_lists(shortest=1):
    """Lists of 1 to 8 lengths up to 16, with ties, ones and full rows."""
    steps = st.integers(shortest, 16)
    same = st.builds(lambda n, count: [n] * count, steps, st.integers(1, 8))
    return st.lists(steps, min_size=1, max_size=8) | same


def padded_lists(shortest=1):
    """Lists of lengths that leave at least one row padded."""
    return lengths_lists(shortest).filter(lambda lengths: min(lengths) < max(lengths))


# The same numbers, lying otherwise in memory or with gradients on.
LAYOUTS = {
    "contiguous": lambda one: one.clone(),
    "transposed": lambda one: one.mT.contiguous().mT,
    "strided": lambda one: one.repeat_interleave(2, dim=0)[::2],
    "gradients": lambda one: one.clone().requires_grad_(),
}


@st.composite
def sequence_lists(draw, features=None):
    """Sequences (T_i, D) of one dtype: contiguous, transposed, strided, or with gradients on."""
    width = features or draw(st.integers(1, 3))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    layout = LAYOUTS[draw(st.sampled_from(list(LAYOUTS)))]
    seed = draw(st.integers(0, 1000))
    return [
        layout(randn(n, width, seed=seed + index, dtype=dtype))
        for index, n in enumerate(draw(lengths_lists()))
    ]


class Batch(NamedTuple):
    """A padded batch, its sequences, and what the functions want beside them.

    `x` is (B, T, D), `ids` (B, T) word numbers below 9, `sequences` the real steps of `x`, and
    `text` what a learner might type.
    """

    x: Tensor
    lengths: Tensor
    keep: Tensor
    ids: Tensor
    sequences: list[Tensor]
    number: int
    text: str

    def laid(self, layout):
        """The same batch in another layout."""
        lay = LAYOUTS[layout]
        sequences = [lay(one.detach()) for one in self.sequences]
        return self._replace(x=lay(self.x.detach()), sequences=sequences)

    def padded_with(self, junk):
        """The same batch with something else in its padding."""
        return self._replace(x=self.x.detach().masked_fill(~self.keep[..., None], junk))


@st.composite
def batches(draw):
    """Batches of 1 to 16 sequences of 1 to 64 steps, with ties, ones and full rows."""
    longest = draw(st.integers(1, 64))
    steps = st.integers(1, longest) | st.sampled_from([1, longest])
    lengths = torch.tensor(draw(st.lists(steps, min_size=1, max_size=16)))
    number = draw(st.integers(0, 100))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    keep = torch.arange(longest) < lengths[:, None]
    x = randn(*keep.shape, draw(st.integers(1, 3)), seed=number, dtype=dtype)
    x = x.masked_fill(~keep[..., None], 0)
    ids = randn(*keep.shape, seed=number).mul(9).long() % 9
    sequences = [row[:n].clone() for row, n in zip(x, lengths.tolist(), strict=True)]
    text = draw(
        st.sampled_from(["<b onclick='x'>\"&", "\x00\x1b\ud800", "]]>|", "ü – 序列 🙂", ""])
    )
    return Batch(x, lengths, keep, ids, sequences, number, text).laid(
        draw(st.sampled_from(list(LAYOUTS)))
    )


def close(one, other):
    """Equal within the rounding of their dtype, NaN to NaN."""
    tolerance = 1e-12 if other.dtype == torch.float64 else 1e-5
    torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance, equal_nan=True)


def same(one, other):
    """Whether two structures of tensors, modules and plain values hold the same."""
    if isinstance(one, Tensor):
        if one.is_meta:
            return other.is_meta and one.shape == other.shape
        return (one.dtype, one.shape) == (other.dtype, other.shape) and torch.allclose(
            one.cdouble(), other.cdouble(), rtol=0, atol=0, equal_nan=True
        )
    if isinstance(one, nn.Module):
        return one.training == other.training and same(one.state_dict(), other.state_dict())
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, (set, frozenset)):
        return one == other  # a copy may show its elements in another order
    return callable(one) or repr(one) == repr(other)  # NaN and arrays too


def refuses(error, words, function, *args, **kwargs):
    """Assert that a call raises just this error, says all the words, and changes no argument."""
    before = copy.deepcopy((args, kwargs))
    with pytest.raises(error) as caught:
        function(*args, **kwargs)
    assert type(caught.value) is error
    missing = [word for word in words if word not in str(caught.value)]
    assert not missing, f"{missing} not in: {caught.value}"
    assert same(list(before), [args, kwargs])


# What no (B,) lengths of a batch of 3 sequences of at most 5 steps can be: error, words.
BAD_LENGTHS = {
    "zero": (torch.tensor([5, 0, 2]), ValueError, ["lengths[1] is 0", "drop sequence 1"]),
    "negative": (torch.tensor([5, 3, -2]), ValueError, ["lengths[2] is -2", "drop sequence 2"]),
    "over T": (torch.tensor([5, 6, 2]), ValueError, ["lengths[1] is 6", "T = 5", "truncating"]),
    "too few": (torch.tensor([5, 3]), ValueError, ["lengths holds 2", "3 sequences", "give one"]),
    "too many": (torch.tensor([5, 3, 1, 1]), ValueError, ["lengths holds 4", "3 sequences"]),
    "float": (torch.tensor([5.0, 3.0, 2.0]), TypeError, ["lengths", "float32", ".long()"]),
    "complex": (torch.tensor([5j, 3j, 2j]), TypeError, ["lengths", "complex64"]),
    "bool": (torch.tensor([True, True, True]), TypeError, ["lengths", "bool", ".sum(1)"]),
    "2-D": (torch.tensor([[5], [3], [2]]), ValueError, ["lengths", "(3, 1)", "flatten()"]),
    "0-D": (torch.tensor(5), ValueError, ["lengths", "1-D", "()"]),
    "empty": (torch.tensor([], dtype=torch.int64), ValueError, ["lengths is empty"]),
    "list": ([5, 3, 2], TypeError, ["lengths", "list", "torch.tensor(lengths)"]),
    "none": (None, TypeError, ["lengths", "NoneType"]),
    "uint16": (torch.tensor([5, 3, 2]).to(torch.uint16), TypeError, ["lengths is torch.uint16"]),
    # The only other device that every machine has.
    "meta": (torch.tensor([5, 3, 2], device="meta"), ValueError, ["lengths", "meta", "CPU"]),
}


def bad_lengths(*without):
    """The cases of BAD_LENGTHS, for parametrize."""
    return [
        pytest.param(*case, id=name) for name, case in BAD_LENGTHS.items() if name not in without
    ]


# What no list of sequences can be: error, words.
BAD_SEQUENCES = {
    "empty": ([], ValueError, ["sequences is empty", "at least one"]),
    "one tensor": (torch.zeros(3, 5, 4), TypeError, ["sequences", "not one Tensor", "list("]),
    "array": (torch.zeros(3, 5, 4).numpy(), TypeError, ["sequences", "ndarray", "list("]),
    "none": (None, TypeError, ["sequences", "NoneType"]),
    "list of lists": ([[1.0], [2.0]], TypeError, ["sequences[0] is a list", "torch.as_tensor"]),
    "one number": ([*ragged(2), 1.0], TypeError, ["sequences[1] is a float", "torch.as_tensor"]),
    "no step": ([*ragged(2, 1), torch.zeros(0, 4)], ValueError, ["sequences[2]", "(0, 4)", "drop"]),
    "0-D": ([torch.tensor(1.0)], ValueError, ["sequences[0]", "()", "drop"]),
    "features": (
        [torch.zeros(2, 4), torch.zeros(2, 3)],
        ValueError,
        ["sequences[1]", "(2, 3)", "(2, 4)", "only the first dimension"],
    ),
    "dimensions": ([torch.zeros(2, 4), torch.zeros(2)], ValueError, ["sequences[1]", "(2,)"]),
    "dtypes": (
        [torch.zeros(2, 4), torch.zeros(2, 4).double()],
        TypeError,
        ["sequences[1]", "float64", "float32", "one dtype"],
    ),
    # The only second device that every machine has.
    "devices": (
        [torch.zeros(2, 4), torch.zeros(2, 4, device="meta")],
        ValueError,
        ["sequences[1]", "meta", "cpu", "one device"],
    ),
}


def bad_sequences():
    """The cases of BAD_SEQUENCES, for parametrize."""
    return [pytest.param(*case, id=name) for name, case in BAD_SEQUENCES.items()]
