"""Rows filled with several sequences, and what keeps them apart (chapter 07).

Packers say which sequences share a row; `fill_rows` makes the tensors. Not to be confused with a
`PackedSequence` (chapter 02): that one packs steps in time, for an LSTM.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from course_utils.batching import check_sequences
from course_utils.checks import check_whole, lengths_tensor

IGNORED = -100  # what PyTorch's cross_entropy ignores where nothing else is said
_MEND = "give (R, T), as fill_rows does, or [None] of a single row"


def _checked(lengths: Tensor | Sequence[int], capacity: int) -> list[int]:
    capacity = check_whole("capacity", capacity, 1)
    lengths = lengths_tensor(lengths)
    longest = int(lengths.argmax())
    if int(lengths[longest]) > capacity:
        raise ValueError(
            f"lengths[{longest}] is {int(lengths[longest])}, more than capacity = {capacity}: "
            "take longer rows, or truncate or split that sequence."
        )
    return lengths.tolist()


def _check_integers(name: str, value: Tensor, ndim: int, mend: str) -> None:
    if not isinstance(value, Tensor) or value.dtype not in (torch.int64, torch.int32):
        kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"{name} must be a tensor of int64, not {kind}: {mend}.")
    if value.ndim != ndim:
        raise ValueError(f"{name} has shape {tuple(value.shape)}, but must be {ndim}-D: {mend}.")


def first_fit(lengths: Tensor | Sequence[int], capacity: int) -> list[list[int]]:
    """Put each sequence, as it comes, into the first row with room for it.

    Args:
        lengths: (N,) integers, steps of each sequence, from 1 to `capacity`.
        capacity: T, steps of a row.
    Returns:
        rows, each a list of numbers of sequences.
    Raises:
        TypeError, ValueError: `lengths` are no such integers, or `capacity` is not at least 1.

    >>> first_fit([3, 2, 1, 2], capacity=4)
    [[0, 2], [1, 3]]
    """
    rows, free = [], []
    for index, length in enumerate(_checked(lengths, capacity)):
        fits = (row for row, space in enumerate(free) if length <= space)
        row = next(fits, len(rows))
        if row == len(rows):
            rows.append([])
            free.append(capacity)
        rows[row].append(index)
        free[row] -= length
    return rows


def best_fit_decreasing(lengths: Tensor | Sequence[int], capacity: int) -> list[list[int]]:
    """Put the longest first, each into the row where the least room is left over.

    Of rows with equal room the one opened first is taken; of equal lengths, the one given first.

    Args:
        lengths: (N,) integers, steps of each sequence, from 1 to `capacity`.
        capacity: T, steps of a row.
    Returns:
        rows, each a list of numbers of sequences.
    Raises:
        TypeError, ValueError: `lengths` are no such integers, or `capacity` is not at least 1.

    >>> best_fit_decreasing([1, 2, 2, 3], capacity=4)
    [[3, 0], [1, 2]]
    """
    sizes = _checked(lengths, capacity)
    rows = []
    open_rows = [[] for _ in range(capacity + 1)]  # by the room left: heaps of numbers of rows
    for index in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        length = sizes[index]
        space = next((space for space in range(length, capacity) if open_rows[space]), capacity)
        if space == capacity:
            row = len(rows)
            rows.append([])
        else:
            row = heapq.heappop(open_rows[space])
        rows[row].append(index)
        if space > length:
            heapq.heappush(open_rows[space - length], row)
    return rows


def pack_histogram(
    counts: Tensor, capacity: int, most: int | None = None
) -> list[tuple[int, list[int]]]:
    """Plan best-fit decreasing for all sequences of a length at once.

    Its time depends on how many different lengths there are, not on how many sequences.

    Args:
        counts: (at most T + 1,) integers, how many sequences have each length, from 0 on:
            `torch.bincount(lengths)`.
        capacity: T, steps of a row.
        most: sequences that a row may hold; no limit where None.
    Returns:
        pairs: so many rows, and the lengths that each of them holds.
    Raises:
        TypeError, ValueError: `counts` are no such integers, one of them is of no length from 1 to
            `capacity`, or `capacity` or `most` is not at least 1.

    Source: the histogram packers of Krell et al., https://arxiv.org/abs/2107.02027.

    >>> pack_histogram(torch.tensor([0, 1, 2, 1]), capacity=4)
    [(1, [2, 2]), (1, [3, 1])]
    """
    capacity = check_whole("capacity", capacity, 1)
    most = capacity if most is None else check_whole("most", most, 1)
    _check_integers("counts", counts, 1, "give torch.bincount(lengths)")
    for length, count in enumerate(counts.tolist()):
        if count < 0 or (count and not 1 <= length <= capacity):
            raise ValueError(
                f"counts[{length}] is {count}: give how many sequences have each length from 1 to "
                f"capacity = {capacity}, as torch.bincount(lengths) does."
            )
    plan = []
    open_rows = [[] for _ in range(capacity + 1)]  # by the room left: how many rows, what is inside
    for length in range(min(capacity, len(counts) - 1), 0, -1):
        left = int(counts[length])
        while left:
            fits = (space for space in range(length, capacity) if open_rows[space])
            space = next(fits, capacity)
            many, inside = open_rows[space].pop() if space < capacity else (left, [])
            # What fits this row best fits it best again, until the next one does not go in.
            each = min(space // length, most - len(inside), left)
            taken = min(many, left // each)
            left -= taken * each
            if inside and taken < many:
                open_rows[space].append((many - taken, inside))
            space, inside = space - each * length, inside + [length] * each
            full = space == 0 or len(inside) == most
            (plan if full else open_rows[space]).append((taken, inside))
    return plan + [group for groups in open_rows for group in groups]


def histogram_packing(lengths: Tensor | Sequence[int], capacity: int) -> list[list[int]]:
    """Pack by the plan of `pack_histogram`: as few rows as best-fit decreasing.

    Args:
        lengths: (N,) integers, steps of each sequence, from 1 to `capacity`.
        capacity: T, steps of a row.
    Returns:
        rows, each a list of numbers of sequences.
    Raises:
        TypeError, ValueError: `lengths` are no such integers, or `capacity` is not at least 1.

    >>> histogram_packing([1, 2, 2, 3], capacity=4)
    [[1, 2], [3, 0]]
    """
    sizes = torch.tensor(_checked(lengths, capacity))
    counts = torch.bincount(sizes)
    waiting = list(sizes.argsort(stable=True).split(counts.tolist()))  # by length
    rows = []
    for many, inside in pack_histogram(counts, capacity):
        columns = []
        for length in inside:
            columns.append(waiting[length][:many])
            waiting[length] = waiting[length][many:]
        rows += torch.stack(columns, dim=1).tolist()
    return rows


class Rows(NamedTuple):
    """Sequences that share rows.

    Attributes:
        content: (R, T, ...) the steps; 0 at padding.
        document_id: (R, T) int64, the number of the sequence that a step belongs to; -1 at padding.
        positions: (R, T) int64, the place of a step in its own sequence, from 0; 0 at padding.

    All three are on the device of the sequences.
    """

    content: Tensor
    document_id: Tensor
    positions: Tensor


def fill_rows(sequences: Sequence[Tensor], rows: Sequence[Sequence[int]], capacity: int) -> Rows:
    """Write sequences one after the other into rows.

    Args:
        sequences: N tensors of shapes (T_i, ...).
        rows: a list of numbers of sequences for each row, as a packer gives it.
        capacity: T, steps of a row.
    Returns:
        Rows; `content[document_id == i]` is sequence i again.
    Raises:
        TypeError, ValueError: `sequences` cannot stand in one batch, a number is not of one of
            them or stands in two places, or a row is longer than `capacity`.

    >>> found = fill_rows([torch.tensor([7, 8]), torch.tensor([9])], [[0, 1]], capacity=4)
    >>> found.content.tolist(), found.document_id.tolist(), found.positions.tolist()
    ([[7, 8, 9, 0]], [[0, 0, 1, -1]], [[0, 1, 0, 0]])
    """
    check_sequences(sequences)
    capacity = check_whole("capacity", capacity, 1)
    numbers = [index for row in rows for index in row]
    unknown = [index for index in numbers if not 0 <= index < len(sequences)]
    twice = [index for index, times in Counter(numbers).items() if times > 1]
    if unknown or twice or not numbers:
        what = f"sequence {[*unknown, *twice][0]}" if unknown or twice else "no sequence"
        what += " twice" if twice and not unknown else ""
        raise ValueError(
            f"rows names {what}: give each of the {len(sequences)} sequences at most once, by its "
            "number from 0 on."
        )
    content = sequences[0].new_zeros(len(rows), capacity, *sequences[0].shape[1:])
    document_id = torch.full((len(rows), capacity), -1, device=content.device)
    positions = torch.zeros_like(document_id)
    for row, inside in enumerate(rows):
        start = 0
        for index in inside:
            end = start + len(sequences[index])
            if end > capacity:
                raise ValueError(
                    f"rows[{row}] holds {sum(len(sequences[i]) for i in inside)} steps, more than "
                    f"capacity = {capacity}: pack again for this capacity."
                )
            content[row, start:end] = sequences[index]
            document_id[row, start:end] = index
            positions[row, start:end] = torch.arange(end - start)
            start = end
    return Rows(content, document_id, positions)


def document_mask(document_id: Tensor, causal: bool = True) -> Tensor:
    """Let each step attend to the steps of its own sequence only: a block-diagonal mask.

    Padding attends to padding, so that no row of the mask is empty.

    Args:
        document_id: (R, T) integers, equal within a sequence.
        causal: whether a step attends to itself and earlier steps only.
    Returns:
        (R, 1, T, T) bool, True = attend, for `scaled_dot_product_attention` with any number of
        heads.
    Raises:
        TypeError, ValueError: `document_id` is not (R, T) of integers.

    >>> document_mask(torch.tensor([[0, 0, 1]])).int().tolist()
    [[[[1, 0, 0], [1, 1, 0], [0, 0, 1]]]]
    """
    _check_integers("document_id", document_id, 2, _MEND)
    attend = document_id[:, None, :, None] == document_id[:, None, None, :]
    return attend.tril() if causal else attend


def next_step_targets(content: Tensor, document_id: Tensor) -> Tensor:
    """Let each step predict the next one of its own sequence; the last has nothing to predict.

    Args:
        content: (R, T) integers.
        document_id: (R, T) integers, equal within a sequence, -1 at padding.
    Returns:
        (R, T) int64 for `cross_entropy`: -100, which it ignores, at the last step of each sequence
        and at padding.
    Raises:
        TypeError, ValueError: `document_id` or `content` is not (R, T) of integers.

    >>> next_step_targets(torch.tensor([[7, 8, 9, 0]]), torch.tensor([[0, 0, 1, -1]])).tolist()
    [[8, -100, -100, -100]]
    """
    _check_integers("document_id", document_id, 2, _MEND)
    _check_integers("content", content, 2, _MEND)
    if content.shape != document_id.shape:
        raise ValueError(
            f"content is {tuple(content.shape)}, but document_id {tuple(document_id.shape)}: "
            "give both as (R, T) of the same rows."
        )
    same = (document_id[:, 1:] == document_id[:, :-1]) & (document_id[:, 1:] >= 0)
    targets = torch.full_like(content, IGNORED, dtype=torch.int64)
    targets[:, :-1] = content[:, 1:].where(same, IGNORED)
    return targets
