"""From a list of ragged sequences to one padded batch, and what the padding costs."""

from __future__ import annotations

import cmath
import operator
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from course_utils.batches.checks import check_lengths, check_whole


def check_sequences(sequences: Sequence[Tensor]) -> None:
    """Refuse sequences that cannot be in one batch.

    Args:
        sequences: tensors of shapes (T_i, ...), alike in all but their first dimension.
    Raises:
        TypeError: they are not a list, one of them is not a tensor, or their dtypes differ.
        ValueError: there are none, one has no step, or their feature sizes or devices differ.
    """
    if not isinstance(sequences, Sequence):
        fix = "use list(sequences)"
        if isinstance(sequences, Tensor):
            fix += ", or [sequence] for one sequence alone"
        raise TypeError(
            "sequences must be a list of tensors, one per sequence, not one "
            f"{type(sequences).__name__}: {fix}."
        )
    if len(sequences) == 0:
        raise ValueError("sequences is empty: a batch needs at least one sequence.")
    for index, sequence in enumerate(sequences):
        if not isinstance(sequence, Tensor):
            raise TypeError(
                f"sequences[{index}] is a {type(sequence).__name__}, not a tensor: "
                "use torch.as_tensor on it."
            )
        if sequence.ndim == 0 or len(sequence) == 0:
            raise ValueError(
                f"sequences[{index}] has shape {tuple(sequence.shape)}, so it has no step: "
                "drop it from the batch."
            )
        if sequence.shape[1:] != sequences[0].shape[1:]:
            raise ValueError(
                f"sequences[{index}] has shape {tuple(sequence.shape)}, but sequences[0] has "
                f"{tuple(sequences[0].shape)}: only the first dimension, time, may differ."
            )
        if sequence.dtype != sequences[0].dtype:
            raise TypeError(
                f"sequences[{index}] is {sequence.dtype}, but sequences[0] is "
                f"{sequences[0].dtype}: convert them to one dtype."
            )
        if sequence.device != sequences[0].device:
            raise ValueError(
                f"sequences[{index}] is on {sequence.device}, but sequences[0] is on "
                f"{sequences[0].device}: move them to one device."
            )


def check_padding_value(value: float, dtype: torch.dtype, name: str = "padding_value") -> None:
    """Refuse padding that sequences cannot hold, such as NaN among integers, 1e30 in float16.

    Args:
        value: what the padding is to hold.
        dtype: of the sequences.
        name: of the argument, for the message.
    Raises:
        ValueError: `dtype` cannot hold `value`: exactly where it is not floating point.
    """
    rounds = dtype.is_floating_point or dtype.is_complex
    try:
        found = torch.full((), value, dtype=dtype).item()
        # Here torch turns what is too large into inf, but where it pads, it raises an error.
        held = found == value or (rounds and cmath.isfinite(found) == cmath.isfinite(value))
    except (RuntimeError, OverflowError, TypeError):  # too large, or not a number
        held = False
    if not held:
        what = "a number that it can hold" if rounds else "an id"
        raise ValueError(f"{name} is {value!r}, which {dtype} cannot hold: give {what}, {name}=0.")


def pad(
    sequences: Sequence[Tensor], *, padding_value: float = 0.0, total_length: int | None = None
) -> tuple[Tensor, Tensor]:
    """Pad sequences to one length, and keep the lengths.

    `torch.nn.utils.rnn.pad_sequence` does the padding; this function adds the lengths, which torch
    throws away, and the option to pad further than the longest sequence.

    Args:
        sequences: B tensors of shapes (T_i, ...), T_i at least 1.
        padding_value: what the padding holds; a whole number where the sequences are integers.
        total_length: T in steps; the longest sequence where None.
    Returns:
        padded: (B, T, ...), batch first, in the dtype of the sequences.
        lengths: (B,) int64 on the CPU, where `pack_padded_sequence` wants them.
    Raises:
        TypeError: `sequences` holds anything but tensors of one dtype.
        ValueError: it is empty, a sequence has no step, feature sizes differ, their dtype
            cannot hold `padding_value`, or `total_length` is not a whole number, or is shorter than
            the longest sequence.

    >>> padded, lengths = pad([torch.tensor([1, 2]), torch.tensor([3])])
    >>> padded.tolist(), lengths.tolist()
    ([[1, 2], [3, 0]], [2, 1])
    """
    check_sequences(sequences)
    check_padding_value(padding_value, sequences[0].dtype)
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    longest = int(lengths.argmax())
    if total_length is not None and total_length < lengths[longest]:
        raise ValueError(
            f"total_length is {total_length}, but sequences[{longest}] has "
            f"{lengths[longest]} steps: give at least as many, or truncate the sequence."
        )
    padded = pad_sequence(list(sequences), batch_first=True, padding_value=padding_value)
    if total_length is None:
        return padded, lengths
    total_length = check_whole("total_length", total_length, 1)
    added = padded.new_full(
        (padded.shape[0], total_length - padded.shape[1], *padded.shape[2:]), padding_value
    )
    return torch.cat([padded, added], dim=1), lengths


def collate(samples: Sequence[tuple[Tensor, Tensor | int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Make one padded batch from a DataLoader's samples; pass it as `collate_fn`.

    Args:
        samples: pairs (sequence, label), the sequence of shape (T_i, ...), the label an integer.
    Returns:
        padded (B, T, ...), lengths (B,) int64, labels (B,) int64.
    Raises:
        TypeError: a sample is not such a pair; or as `pad`.
        ValueError: as `pad`.

    >>> _, lengths, labels = collate([(torch.zeros(2, 3), 4), (torch.zeros(1, 3), 5)])
    >>> lengths.tolist(), labels.tolist()
    ([2, 1], [4, 5])
    """
    labels = []
    for index, sample in enumerate(samples):
        if not isinstance(sample, (tuple, list)) or len(sample) != 2:
            raise TypeError(
                f"samples[{index}] is a {type(sample).__name__}, but must be a pair "
                "(sequence, label): use list(zip(sequences, labels)) as the data set."
            )
        try:
            labels.append(operator.index(sample[1]))  # not int(): that turns 0.7 into 0
        except TypeError:
            raise TypeError(
                f"samples[{index}] has the label {sample[1]}, but it must be one integer: "
                "number the classes from 0."
            ) from None
    padded, lengths = pad([sequence for sequence, _ in samples])
    return padded, lengths, torch.tensor(labels)


def fill(lengths: Tensor, max_length: int | None = None) -> float:
    """Say what share of a padded batch is real.

    Args:
        lengths: (B,) integers, at least 1.
        max_length: T in steps; the longest length where None.
    Returns:
        real steps / (B * T), above 0 and at most 1; the rest is the share of padding. Where work
        is linear in the steps, 1 / fill is the most that removing the padding can save; attention
        is quadratic, and can save more.
    Raises:
        TypeError, ValueError: `lengths` cannot describe a batch of T steps.

    >>> fill(torch.tensor([1, 3]))
    0.6666666666666666
    """
    check_lengths(lengths, max_length)
    longest = int(lengths.max()) if max_length is None else max_length
    return int(lengths.sum()) / (len(lengths) * longest)
