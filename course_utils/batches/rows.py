"""Rows filled with several sequences, and what keeps them apart (chapter 07).

Packers say which sequences share a row; `fill_rows` makes the tensors. This is not what a
`PackedSequence` does (chapter 02), which packs steps in time, for an LSTM.

A packer takes `lengths`, (N,) integers from 1 to `capacity`, and `capacity`, the T steps of a row.
It returns the rows, each a list of sequence indices. It raises a TypeError or ValueError where
`lengths` are not such integers, or `capacity` is not at least 1.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from course_utils.batches.checks import check_whole, lengths_tensor
from course_utils.batches.padding import check_sequences

IGNORED = -100  # what PyTorch's cross_entropy ignores by default
_FIX = "give (R, T), as fill_rows does, or [None] of a single row"


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


def _check_integers(name: str, value: Tensor, ndim: int, fix: str) -> None:
    if not isinstance(value, Tensor) or value.dtype not in (torch.int64, torch.int32):
        kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"{name} must be a tensor of int64, not {kind}: {fix}.")
    if value.ndim != ndim:
        raise ValueError(f"{name} has shape {tuple(value.shape)}, but must be {ndim}-D: {fix}.")


def first_fit(lengths: Tensor | Sequence[int], capacity: int) -> list[list[int]]:
    """Put each sequence, in the given order, into the first row with room: a packer.

    >>> first_fit([3, 2, 1, 2], capacity=4)
    [[0, 2], [1, 3]]
    """
    sizes = _checked(lengths, capacity)
    # Two neighbouring rows hold more than one row can, or the second would not have been opened.
    most = min(len(sizes), 2 * sum(sizes) // capacity + 2)
    half = 1 << (most - 1).bit_length()
    # A tree over all rows: each node knows the most room in a row below it, and the last `half`
    # nodes are the rows. So the first row with room is found in as many steps as the tree is high.
    room = [capacity] * (2 * half)
    rows: list[list[int]] = []
    for index, length in enumerate(sizes):
        node = 1
        while node < half:
            node *= 2
            if room[node] < length:
                node += 1
        if node - half == len(rows):
            rows.append([])
        rows[node - half].append(index)
        room[node] -= length
        while node > 1:
            node //= 2
            largest = max(room[2 * node], room[2 * node + 1])
            if room[node] == largest:
                break
            room[node] = largest
    return rows


class _ByRoom:
    """Items that are stored by the room that is left, and found by the least room that suffices."""

    def __init__(self) -> None:
        self._sorted: list[int] = []  # the amounts of room under which something is stored
        self._kept: dict[int, list] = {}

    def tightest(self, length: int, otherwise: int) -> int:
        """Find the least room of at least `length`; `otherwise` where there is none."""
        place = bisect_left(self._sorted, length)
        return self._sorted[place] if place < len(self._sorted) else otherwise

    def at(self, room: int) -> list:
        """Return the list of what is stored under this room, so that more can be added."""
        if room not in self._kept:
            insort(self._sorted, room)
            self._kept[room] = []
        return self._kept[room]

    def drop(self, room: int) -> None:
        """Forget a room under which nothing is stored any more."""
        if not self._kept[room]:
            del self._kept[room]
            del self._sorted[bisect_left(self._sorted, room)]

    def everything(self) -> list:
        """Return all that is stored, from the least room on."""
        return [kept for room in self._sorted for kept in self._kept[room]]


def best_fit_decreasing(lengths: Tensor | Sequence[int], capacity: int) -> list[list[int]]:
    """Put each sequence, longest first, into the row where it leaves the least room: a packer.

    Of rows with equal room, it takes the one opened first; of equal lengths, the one given first.

    >>> best_fit_decreasing([1, 2, 2, 3], capacity=4)
    [[3, 0], [1, 2]]
    """
    sizes = _checked(lengths, capacity)
    rows: list[list[int]] = []
    open_rows = _ByRoom()  # heaps of indices of rows
    for index in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        length = sizes[index]
        space = open_rows.tightest(length, capacity)
        if space == capacity:
            row = len(rows)
            rows.append([])
        else:
            row = heapq.heappop(open_rows.at(space))
            open_rows.drop(space)
        rows[row].append(index)
        if space > length:
            heapq.heappush(open_rows.at(space - length), row)
    return rows


def pack_histogram(
    counts: Tensor, capacity: int, most: int | None = None
) -> list[tuple[int, list[int]]]:
    """Plan best-fit decreasing for all sequences of one length at once.

    Its time depends on how many different lengths there are, not on how many sequences.

    Args:
        counts: (at most T + 1,) integers, how many sequences have each length, from 0 on:
            `torch.bincount(lengths)`.
        capacity: T, steps of a row.
        most: sequences that a row may hold; no limit where None.
    Returns:
        pairs: a number of rows, and the lengths that each of these rows holds.
    Raises:
        TypeError, ValueError: `counts` are not such integers, one of them counts a length outside
            1 to `capacity`, or `capacity` or `most` is not at least 1.

    Source: the histogram packers of Krell et al., https://arxiv.org/abs/2107.02027.

    >>> pack_histogram(torch.tensor([0, 1, 2, 1]), capacity=4)
    [(1, [2, 2]), (1, [3, 1])]
    """
    capacity = check_whole("capacity", capacity, 1)
    most = capacity if most is None else check_whole("most", most, 1)
    _check_integers("counts", counts, 1, "give torch.bincount(lengths)")
    numbers = counts.tolist()
    for length, count in enumerate(numbers):
        if count < 0 or (count and not 1 <= length <= capacity):
            raise ValueError(
                f"counts[{length}] is {count}: give how many sequences have each length from 1 to "
                f"capacity = {capacity}, as torch.bincount(lengths) does."
            )
    plan = []
    open_rows = _ByRoom()  # how many rows, and what is inside each
    for length in range(min(capacity, len(counts) - 1), 0, -1):
        left = numbers[length]
        while left:
            space = open_rows.tightest(length, capacity)
            many, inside = open_rows.at(space).pop() if space < capacity else (left, [])
            # The length that fits this row best still fits it best, until no more of it goes in.
            each = min(space // length, most - len(inside), left)
            taken = min(many, left // each)
            left -= taken * each
            if inside and taken < many:
                open_rows.at(space).append((many - taken, inside))
            elif inside:
                open_rows.drop(space)
            space, inside = space - each * length, inside + [length] * each
            full = space == 0 or len(inside) == most
            (plan if full else open_rows.at(space)).append((taken, inside))
    return plan + open_rows.everything()


def histogram_packing(lengths: Tensor | Sequence[int], capacity: int) -> list[list[int]]:
    """Pack by the plan of `pack_histogram`, in as few rows as best-fit decreasing: a packer.

    >>> histogram_packing([1, 2, 2, 3], capacity=4)
    [[1, 2], [3, 0]]
    """
    sizes = torch.tensor(_checked(lengths, capacity))
    counts = torch.bincount(sizes)
    waiting = sizes.argsort(stable=True).tolist()  # those of one length are together
    following = (counts.cumsum(0) - counts).tolist()  # by length, the next one to be placed
    rows: list[list[int]] = []
    for many, inside in pack_histogram(counts, capacity):
        columns = []
        for length in inside:
            begin = following[length]
            following[length] += many
            columns.append(waiting[begin : begin + many])
        rows += map(list, zip(*columns, strict=True))
    return rows


class PackedRows(NamedTuple):
    """Sequences that share rows.

    Attributes:
        content: (R, T, ...) the steps; 0 at padding.
        document_id: (R, T) int64, the index of the sequence that a step belongs to; -1 at padding.
        positions: (R, T) int64, the place of a step in its own sequence, from 0; 0 at padding.

    All three are on the device of the sequences.
    """

    content: Tensor
    document_id: Tensor
    positions: Tensor


def fill_rows(
    sequences: Sequence[Tensor], rows: Sequence[Sequence[int]], capacity: int
) -> PackedRows:
    """Write sequences one after the other into rows.

    Args:
        sequences: N tensors of shapes (T_i, ...).
        rows: a list of indices of sequences for each row, as a packer gives it.
        capacity: T, steps of a row.
    Returns:
        PackedRows; `content[document_id == i]` is sequence i again.
    Raises:
        TypeError, ValueError: `sequences` cannot be in one batch, an index is not of one of them
            or is given twice, or a row is longer than `capacity`.

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
    return PackedRows(content, document_id, positions)


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
    _check_integers("document_id", document_id, 2, _FIX)
    attend = document_id[:, None, :, None] == document_id[:, None, None, :]
    return attend.tril() if causal else attend


def next_step_targets(content: Tensor, document_id: Tensor) -> Tensor:
    """Let each step predict the next one of its own sequence; the last step predicts nothing.

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
    _check_integers("document_id", document_id, 2, _FIX)
    _check_integers("content", content, 2, _FIX)
    if content.shape != document_id.shape:
        raise ValueError(
            f"content is {tuple(content.shape)}, but document_id {tuple(document_id.shape)}: "
            "give both as (R, T) of the same rows."
        )
    same = (document_id[:, 1:] == document_id[:, :-1]) & (document_id[:, 1:] >= 0)
    targets = torch.full_like(content, IGNORED, dtype=torch.int64)
    targets[:, :-1] = content[:, 1:].where(same, IGNORED)
    return targets
