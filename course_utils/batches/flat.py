"""All steps of a batch in one line, with no padding, and what keeps sequences apart (chapter 08).

A *flat batch* is (S, ...), where S is the sum of the lengths. `cu_seqlens` says where each sequence
begins and ends; the name comes from attention kernels for flat batches. Jagged tensors call the
same numbers `offsets`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from course_utils.batches.checks import lengths_tensor, reads_values
from course_utils.batches.padding import check_sequences

_FIX = "make it with lengths_to_cu_seqlens(lengths)"


class Flat(NamedTuple):
    """Sequences in one line, one after the other.

    Attributes:
        content: (S, ...) the steps.
        cu_seqlens: (B + 1,) int32, where each sequence begins, and S at the end.
        document_id: (S,) int64, the index of the sequence that a step belongs to.
        positions: (S,) int64, the place of a step in its own sequence, from 0.

    All are on the device of the sequences. `content[cu_seqlens[i]:cu_seqlens[i + 1]]` is sequence
    i, and `content.split(cu_seqlens.diff().tolist())` gives all of them.
    """

    content: Tensor
    cu_seqlens: Tensor
    document_id: Tensor
    positions: Tensor


def lengths_to_cu_seqlens(lengths: Tensor | Sequence[int]) -> Tensor:
    """Say where each sequence of a flat batch begins, and where the last one ends.

    Args:
        lengths: (B,) integers of at least 1, steps per sequence.
    Returns:
        (B + 1,) int32, which attention kernels ask for: 0, and then the running sum of the lengths.
    Raises:
        TypeError, ValueError: `lengths` are not such integers, or their sum does not fit int32.

    >>> lengths_to_cu_seqlens([3, 1, 2]).tolist()
    [0, 3, 4, 6]
    """
    lengths = lengths_tensor(lengths)
    ends = lengths.cumsum(0, dtype=torch.int64)
    if int(ends[-1]) > torch.iinfo(torch.int32).max:
        raise ValueError(
            f"lengths add up to {int(ends[-1])} steps, more than int32 can count: "
            "make several flat batches of them."
        )
    return F.pad(ends, (1, 0)).int()


def _check(cu_seqlens: Tensor, steps: int | None = None) -> None:
    if not isinstance(cu_seqlens, Tensor) or cu_seqlens.dtype not in (torch.int32, torch.int64):
        kind = cu_seqlens.dtype if isinstance(cu_seqlens, Tensor) else type(cu_seqlens).__name__
        raise TypeError(f"cu_seqlens must be a tensor of int32 or int64, not {kind}: {_FIX}.")
    if cu_seqlens.ndim != 1 or len(cu_seqlens) < 2:
        raise ValueError(
            f"cu_seqlens has shape {tuple(cu_seqlens.shape)}, but must be (B + 1,) for at least "
            f"one sequence: {_FIX}."
        )
    if not reads_values(True):
        return
    numbers = cu_seqlens.tolist()
    if numbers[0] != 0:
        raise ValueError(
            f"cu_seqlens begins with {numbers[0]}, but the first sequence begins at 0: {_FIX}, "
            "which puts a 0 before the running sum."
        )
    for index, (begin, end) in enumerate(pairwise(numbers)):
        if end <= begin:
            raise ValueError(
                f"cu_seqlens[{index + 1}] is {end}, not more than {begin} before it, so sequence "
                f"{index} has no step: {_FIX} of at least 1."
            )
    if steps is not None and numbers[-1] != steps:
        raise ValueError(
            f"cu_seqlens ends with {numbers[-1]}, but there are {steps} steps: {_FIX} of the "
            "sequences in this flat batch."
        )


def _checked_values(name: str, values: Tensor, cu_seqlens: Tensor) -> tuple[Tensor, Tensor]:
    """Refuse what is not a flat batch of numbers; return lengths, and each step's sequence."""
    if not isinstance(values, Tensor) or not values.is_floating_point():
        kind = values.dtype if isinstance(values, Tensor) else type(values).__name__
        raise TypeError(f"{name} must be a tensor of floating point, not {kind}: use .float().")
    if values.ndim == 0:
        raise ValueError(f"{name} is a single number, but must be (S, ...), a row for each step.")
    _check(cu_seqlens, values.shape[0])
    lengths = cu_seqlens.diff().long()
    return lengths, torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths)


def _across(one_each: Tensor, values: Tensor) -> Tensor:
    """(S,) as (S, 1, ...), to be broadcast over values (S, ...)."""
    return one_each.reshape(-1, *[1] * (values.ndim - 1))


def cu_seqlens_to_positions(cu_seqlens: Tensor) -> Tensor:
    """Count the steps of each sequence of a flat batch, from 0.

    Args:
        cu_seqlens: (B + 1,) integers.
    Returns:
        (S,) int64.
    Raises:
        TypeError, ValueError: `cu_seqlens` does not begin with 0, or does not grow.

    >>> cu_seqlens_to_positions(torch.tensor([0, 3, 4])).tolist()
    [0, 1, 2, 0]
    """
    _check(cu_seqlens)
    begins = cu_seqlens[:-1].long().repeat_interleave(cu_seqlens.diff().long())
    return torch.arange(len(begins), device=begins.device) - begins


def cu_seqlens_to_document_id(cu_seqlens: Tensor) -> Tensor:
    """Say which sequence each step of a flat batch belongs to.

    Args:
        cu_seqlens: (B + 1,) integers.
    Returns:
        (S,) int64, from 0.
    Raises:
        TypeError, ValueError: `cu_seqlens` does not begin with 0, or does not grow.

    >>> cu_seqlens_to_document_id(torch.tensor([0, 3, 4])).tolist()
    [0, 0, 0, 1]
    """
    _check(cu_seqlens)
    lengths = cu_seqlens.diff().long()
    return torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths)


def flatten(sequences: Sequence[Tensor]) -> Flat:
    """Put sequences into one line; use it in the collate function of a DataLoader.

    Args:
        sequences: B tensors of shapes (T_i, ...), T_i at least 1.
    Returns:
        Flat, in the order and the dtype of the sequences.
    Raises:
        TypeError, ValueError: `sequences` cannot be in one batch.

    >>> found = flatten([torch.tensor([7, 8]), torch.tensor([9])])
    >>> found.content.tolist(), found.cu_seqlens.tolist(), found.positions.tolist()
    ([7, 8, 9], [0, 2, 3], [0, 1, 0])
    """
    check_sequences(sequences)
    content = torch.cat(list(sequences))
    cu_seqlens = lengths_to_cu_seqlens([len(one) for one in sequences]).to(content.device)
    return Flat(
        content,
        cu_seqlens,
        cu_seqlens_to_document_id(cu_seqlens),
        cu_seqlens_to_positions(cu_seqlens),
    )


def segment_mean(values: Tensor, cu_seqlens: Tensor) -> Tensor:
    """Take the mean over the steps of each sequence.

    Args:
        values: (S, ...) floating point.
        cu_seqlens: (B + 1,) integers.
    Returns:
        (B, ...), with a gradient: each step gets 1 / length of what its sequence gets.
    Raises:
        TypeError, ValueError: `values` or `cu_seqlens` are not a flat batch; the message says why.

    >>> segment_mean(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 2, 3])).tolist()
    [2.0, 5.0]
    """
    lengths, ids = _checked_values("values", values, cu_seqlens)
    # Divided before they are added, because a long sum would overflow in half precision.
    shares = values / _across(lengths[ids], values)
    return values.new_zeros(len(lengths), *values.shape[1:]).index_add(0, ids, shares)


def segment_max(values: Tensor, cu_seqlens: Tensor) -> Tensor:
    """Take the largest value over the steps of each sequence, feature by feature.

    Args:
        values: (S, ...) floating point.
        cu_seqlens: (B + 1,) integers.
    Returns:
        (B, ...), with a gradient: it goes to the largest step; equal ones share it, as with `amax`.
    Raises:
        TypeError, ValueError: `values` or `cu_seqlens` are not a flat batch; the message says why.

    >>> segment_max(torch.tensor([1.0, 3.0, -5.0]), torch.tensor([0, 2, 3])).tolist()
    [3.0, -5.0]
    """
    lengths, ids = _checked_values("values", values, cu_seqlens)
    largest = values.new_zeros(len(lengths), *values.shape[1:])
    index = _across(ids, values).expand_as(values)
    return largest.scatter_reduce(0, index, values, "amax", include_self=False)


def segment_softmax(scores: Tensor, cu_seqlens: Tensor) -> Tensor:
    """Turn scores into weights that add up to 1 over the steps of each sequence.

    Args:
        scores: (S, ...) floating point.
        cu_seqlens: (B + 1,) integers.
    Returns:
        (S, ...), with a gradient that stays in the sequence.
    Raises:
        TypeError, ValueError: `scores` or `cu_seqlens` are not a flat batch; the message says why.

    >>> segment_softmax(torch.tensor([0.0, 0.0, 7.0]), torch.tensor([0, 2, 3])).tolist()
    [0.5, 0.5, 1.0]
    """
    lengths, ids = _checked_values("scores", scores, cu_seqlens)
    # A shift does not change a softmax, so the largest score may be subtracted without a gradient.
    powers = (scores - segment_max(scores.detach(), cu_seqlens)[ids]).exp()
    sums = scores.new_zeros(len(lengths), *scores.shape[1:]).index_add(0, ids, powers)
    return powers / sums[ids]


def last_steps(values: Tensor, cu_seqlens: Tensor) -> Tensor:
    """Take the last step of each sequence.

    Args:
        values: (S, ...).
        cu_seqlens: (B + 1,) integers.
    Returns:
        (B, ...), with a gradient.
    Raises:
        TypeError, ValueError: `values` or `cu_seqlens` are not a flat batch; the message says why.

    >>> last_steps(torch.tensor([7, 8, 9]), torch.tensor([0, 2, 3])).tolist()
    [8, 9]
    """
    if not isinstance(values, Tensor) or values.ndim == 0:
        raise TypeError("values must be a tensor (S, ...), a row for each step.")
    _check(cu_seqlens, values.shape[0])
    return values[cu_seqlens[1:].long() - 1]


def attend_within(
    cu_seqlens: Tensor, causal: bool = True
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Let each step of a flat batch attend to the steps of its own sequence only.

    It makes one call of `scaled_dot_product_attention` for each distinct length, because sequences
    of equal length make a batch with no padding. What all layers share is computed here, once; and
    where equal lengths are together already, as in a batch sorted by length, nothing is moved.

    Args:
        cu_seqlens: (B + 1,) integers.
        causal: whether a step attends to itself and earlier steps only.
    Returns:
        `attend(q, k, v)` on tensors (..., H, S, D), which gives one of that shape.
    Raises:
        TypeError, ValueError: `cu_seqlens` does not begin with 0, or does not grow.

    >>> attend = attend_within(torch.tensor([0, 2, 3]))
    >>> q, k, v = torch.zeros(3, 1, 3, 1), torch.zeros(3, 1, 3, 1), torch.tensor([2.0, 4.0, 9.0])
    >>> attend(q[0], k[0], v[None, :, None]).flatten().tolist()
    [2.0, 3.0, 9.0]
    """
    _check(cu_seqlens)
    lengths = cu_seqlens.diff().long()
    order = lengths.argsort(stable=True)
    sizes, counts = lengths[order].unique_consecutive(return_counts=True)
    groups = list(zip(counts.tolist(), sizes.tolist(), strict=True))
    steps = cu_seqlens[:-1].long()[order].repeat_interleave(lengths[order])
    steps = steps + cu_seqlens_to_positions(lengths_to_cu_seqlens(lengths[order]))
    in_order = torch.equal(order, torch.arange(len(order), device=order.device))
    back = steps.argsort()

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        parts = [one if in_order else one.index_select(-2, steps) for one in (q, k, v)]
        parts = [one.split([count * size for count, size in groups], dim=-2) for one in parts]
        outputs = []
        for group, *part in zip(groups, *parts, strict=True):
            if group[0] == 1:  # a length of its own needs no second view of each tensor
                part = [one.unsqueeze(0) for one in part]
                outputs.append(F.scaled_dot_product_attention(*part, is_causal=causal).squeeze(0))
                continue
            # (..., H, count * size, D) -> (count, ..., H, size, D): a batch with no padding
            part = [one.unflatten(-2, group).movedim(-3, 0) for one in part]
            output = F.scaled_dot_product_attention(*part, is_causal=causal)
            outputs.append(output.movedim(0, -3).flatten(-3, -2))
        output = torch.cat(outputs, dim=-2)
        return output if in_order else output.index_select(-2, back)

    return attend
