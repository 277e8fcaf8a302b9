"""A PackedSequence explained, and a `pack` that refuses faults which torch lets pass."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from course_utils.batches.checks import check_lengths, check_same_count
from course_utils.batches.masks import lengths_to_keep_mask


def pack(padded: Tensor, lengths: Tensor, *, padding_value: float | None = 0.0) -> PackedSequence:
    """Pack a padded batch as torch does, but refuse what torch silently packs wrongly.

    torch accepts lengths beyond T, too few lengths, fractions of a step, and a batch whose first
    two dimensions are swapped, and packs something other than what was meant. Lengths that do not
    belong to their rows are noticed too, because real data then lies where padding should be.
    Two faults are not noticed: lengths that are too long, since a real step may look like padding,
    and rows that look right by chance, as where the first two dimensions of (3, 3) with lengths
    3, 2, 1 are swapped.

    Args:
        padded: (B, T, ...), batch first.
        lengths: (B,) integers from 1 to T, in any order; moved to the CPU, where torch wants them.
        padding_value: what the padding holds, to be verified; None skips that check.
    Returns:
        PackedSequence: as of `pack_padded_sequence(..., enforce_sorted=False)`.
    Raises:
        TypeError: `padded` is not a tensor, or `lengths` not a tensor of integers.
        ValueError: `padded` has no time dimension, the number of lengths is not B, a length is
            not in 1..T, or padding holds something else; the message names the sequence.

    >>> pack(torch.ones(2, 3, 1), torch.tensor([3, 3])).batch_sizes.tolist()
    [2, 2, 2]
    """
    if not isinstance(padded, Tensor):
        raise TypeError(
            f"padded must be one tensor (B, T, ...), not a {type(padded).__name__}: "
            "torch.nn.utils.rnn.pack_sequence packs a list of sequences."
        )
    if padded.ndim < 2:
        raise ValueError(f"padded has shape {tuple(padded.shape)}: it must be (B, T, ...).")
    check_lengths(lengths)
    check_same_count(lengths, padded.shape[0])
    check_lengths(lengths, padded.shape[1])
    lengths = lengths.cpu()
    if padding_value is not None:
        keep_mask = lengths_to_keep_mask(lengths, padded.shape[1]).to(padded.device)
        # NaN is valid padding too, but NaN is not equal to itself.
        is_pad = padded.isnan() if padding_value != padding_value else padded == padding_value
        real = ~is_pad.flatten(2).all(2) if padded.ndim > 2 else ~is_pad
        stray = (real & ~keep_mask).nonzero()
        if len(stray):
            row, step = stray[0].tolist()
            raise ValueError(
                f"padded[{row}, {step}] holds data, but lengths[{row}] is {int(lengths[row])}, so "
                f"it should be padding ({padding_value}). Is padded really (B, T, ...), and do the "
                "lengths stand in the order of the sequences? If padding holds something else, as "
                "it does after an embedding, give padding_value=None to skip this check."
            )
    return pack_padded_sequence(padded, lengths, batch_first=True, enforce_sorted=False)


class Layout(NamedTuple):
    """Where each step of each sequence lies in a PackedSequence.

    Attributes:
        packed: what torch packed; for each place, its data, (N, 2), hold the sequence's row in
            the padded batch, and the step.
        places: (B, T) int64, the index in `packed.data` of each cell; -1 at the padding.
    """

    packed: PackedSequence
    places: Tensor


def layout(lengths: Tensor) -> Layout:
    """Find out from torch where each step lies: pack the cells' own coordinates.

    Args:
        lengths: (B,) integers, at least 1.
    Returns:
        Layout.
    Raises:
        TypeError, ValueError: `lengths` cannot describe a batch.

    >>> layout(torch.tensor([1, 2])).packed.data.tolist()
    [[1, 0], [0, 0], [1, 1]]
    """
    check_lengths(lengths)
    rows, steps = len(lengths), int(lengths.max())
    cells = torch.cartesian_prod(torch.arange(rows), torch.arange(steps)).view(rows, steps, 2)
    packed = pack(cells, lengths, padding_value=None)
    places = torch.full((rows, steps), -1)
    places[packed.data[:, 0], packed.data[:, 1]] = torch.arange(len(packed.data))
    return Layout(packed, places)
