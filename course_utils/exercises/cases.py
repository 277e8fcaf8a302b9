"""Ragged batches to try an answer on, and those that every exercise needs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch

from course_utils.batches.masks import lengths_to_keep_mask

# One sequence alone; more than 8 steps; two batches of one shape and of the same lengths, which
# hold other values; and one of that shape with other lengths.
COMMON = ([3], [9, 2, 12], [9, 2, 12], [2, 12, 9])


def ragged(*small: list[int]) -> list[list[int]]:
    """Give the lengths of the batches to try an answer on, the small ones first.

    Args:
        small: the lengths of batches that matter to this exercise.
    Returns:
        those, and what every exercise needs: a single sequence, long ones, and two batches of one
        shape, which find an answer that remembers results by shape, or ends at step 8.

    >>> ragged([2, 1])[:2]
    [[2, 1], [3]]
    """
    return [*map(list, small), *map(list, COMMON)]


def random_sequences(seed: int, lengths: list[int], size: int = 2) -> list[torch.Tensor]:
    """Make sequences of the given lengths, of shape (T_i, size), rounded for easy reading."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(length, size, generator=generator).round(decimals=1) for length in lengths]


def filled(
    values: torch.Tensor, keep_mask: torch.Tensor, junk: float | torch.Tensor
) -> torch.Tensor:
    """Write junk into the padding of a batch: a number, or a tensor (B, T, D) of numbers."""
    return values.where(keep_mask[..., None], junk)


def ragged_batches(
    shapes: list[list[int]],
    paddings: tuple[tuple[int, float], ...] = ((0, 0.0),),
    size: int = 2,
    in_turn: bool = False,
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Generator]]:
    """Make padded batches of the given lengths, with padding of various widths and contents.

    Args:
        shapes: the lengths of each batch.
        paddings: columns beyond the longest sequence, and what the padding holds.
        size: features of a step.
        in_turn: give each batch one of the paddings, in turn; otherwise all of them.
    Yields:
        values (B, T, size), rounded for easy reading; keep mask (B, T); and the generator that
        they were drawn from, for whatever else the case needs.
    """
    turns = itertools.cycle(paddings)
    for seed, lengths in enumerate(shapes):
        generator = torch.Generator().manual_seed(seed)
        for extra, junk in [next(turns)] if in_turn else paddings:
            keep_mask = lengths_to_keep_mask(torch.tensor(lengths), max(lengths) + extra)
            values = torch.randn(*keep_mask.shape, size, generator=generator).round(decimals=1)
            yield filled(values, keep_mask, junk), keep_mask, generator


def with_number_at_real_step(value: torch.Tensor, number: float, row: int = 0) -> torch.Tensor:
    """Write a number such as NaN or infinity into the first step of a sequence of a batch.

    Args:
        value: (B, T, ...) or a sequence's (T, ...) with `row` as its step.
        number: to write.
        row: the sequence.
    Returns:
        a copy.
    """
    value = value.clone()
    value[row, 0] = number
    return value
