"""From lengths to masks and back, and reductions that use them.

Polarity lives in the name: `keep_mask` is True where a step is real.
"""

from __future__ import annotations

import torch
from torch import Tensor


def check_lengths(lengths: Tensor, max_length: int | None = None, *, zero_ok: bool = False) -> None:
    """Refuse lengths that cannot describe a padded batch.

    Args:
        lengths: (B,) integers, steps per sequence.
        max_length: T in steps; no upper limit where None.
        zero_ok: whether a sequence may have no step at all.
    Raises:
        TypeError: `lengths` is no tensor, or not of integers.
        ValueError: `lengths` is not 1-D, is empty, or one of them is out of range; the message
            says which sequence.
    """
    if not isinstance(lengths, Tensor):
        raise TypeError(
            f"lengths must be a tensor, not {type(lengths).__name__}: use torch.tensor(lengths)."
        )
    if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
        broken = lengths.flatten().frac().nonzero() if lengths.is_floating_point() else []
        which = f" (lengths[{broken[0].item()}] is a fraction)" if len(broken) else ""
        raise TypeError(
            f"lengths must be integers, not {lengths.dtype}{which}: use lengths.long(), "
            "or keep_mask.sum(1) if this is a mask."
        )
    if lengths.ndim != 1:
        raise ValueError(
            f"lengths must be 1-D, one number a sequence, not of shape {tuple(lengths.shape)}: "
            "use lengths.flatten() or lengths.squeeze()."
        )
    if lengths.numel() == 0:
        raise ValueError("lengths is empty: a batch needs at least one sequence.")
    lowest = 0 if zero_ok else 1
    for index, length in enumerate(lengths.tolist()):
        if length < lowest:
            raise ValueError(
                f"lengths[{index}] is {length}, but a sequence has at least {lowest} steps: "
                f"drop sequence {index} from the batch or correct its length."
            )
        if max_length is not None and length > max_length:
            raise ValueError(
                f"lengths[{index}] is {length}, but the batch has only T = {max_length} steps: "
                "take the lengths before padding or truncating."
            )


def lengths_to_keep_mask(lengths: Tensor, max_length: int | None = None) -> Tensor:
    """Mark the real steps of each padded sequence.

    Args:
        lengths: (B,) integers, steps per sequence; 0 is allowed and gives an all-False row.
        max_length: T in steps; the longest length where None.
    Returns:
        (B, T) bool on the device of `lengths`, True = real. Its negation is a
        `key_padding_mask`.
    Raises:
        TypeError: `lengths` is no tensor of integers.
        ValueError: `lengths` is not 1-D, is empty, or a length is negative or exceeds
            `max_length`; the message shows both.

    >>> lengths_to_keep_mask(torch.tensor([1, 2])).tolist()
    [[True, False], [True, True]]
    """
    check_lengths(lengths, max_length, zero_ok=True)
    steps = torch.arange(
        int(lengths.max()) if max_length is None else max_length, device=lengths.device
    )
    return steps < lengths[:, None]


def _check_values(values: Tensor) -> None:
    if not isinstance(values, Tensor):
        raise TypeError(
            f"values must be a tensor (B, T, ...), not {type(values).__name__}: pad the sequences, "
            "or unpack them with pad_packed_sequence."
        )
    if values.ndim < 2 or len(values) == 0:
        raise ValueError(
            f"values has shape {tuple(values.shape)}, but must be (B, T, ...) with at least one "
            "sequence: use values[None] for a single one."
        )


def _checked_keep(values: Tensor, keep_mask: Tensor) -> Tensor:
    """Refuse a mask that does not fit, and give it the dimensions of `values`."""
    _check_values(values)
    if not isinstance(keep_mask, Tensor) or keep_mask.dtype != torch.bool:
        kind = keep_mask.dtype if isinstance(keep_mask, Tensor) else type(keep_mask).__name__
        raise TypeError(f"keep_mask must be a bool tensor, not {kind}: use keep_mask.bool().")
    if values.shape[:2] != keep_mask.shape:
        raise ValueError(
            f"keep_mask of shape {tuple(keep_mask.shape)} does not fit values of shape "
            f"{tuple(values.shape)}: both must begin with the same (B, T)."
        )
    empty = (~keep_mask.any(dim=1)).nonzero().flatten().tolist()
    if empty:
        raise ValueError(
            f"keep_mask has no real step in row {empty[0]}: there is nothing to reduce over. "
            "Drop that sequence from the batch."
        )
    return keep_mask.reshape(keep_mask.shape + (1,) * (values.ndim - 2))


def masked_mean(values: Tensor, keep_mask: Tensor) -> Tensor:
    """Average each sequence over its real steps only, whatever the padding holds.

    Args:
        values: (B, T, ...) floating point.
        keep_mask: (B, T) bool, True = real.
    Returns:
        (B, ...), the mean over the real steps of each row.
    Raises:
        TypeError: `values` is no tensor, or `keep_mask` is not bool.
        ValueError: the batch is empty, the shapes do not fit, or a row has no real step.

    >>> values = torch.tensor([[[2.0], [4.0], [float("nan")]]])
    >>> masked_mean(values, torch.tensor([[True, True, False]])).tolist()
    [[3.0]]
    """
    keep = _checked_keep(values, keep_mask)
    # Not values * keep: NaN * 0 is NaN, so a multiplied mask lets a NaN through.
    total = values.masked_fill(~keep, 0).sum(dim=1)
    return total / keep.sum(dim=1)


def masked_max(values: Tensor, keep_mask: Tensor) -> Tensor:
    """Take each sequence's largest value over its real steps only.

    Args:
        values: (B, T, ...) floating point.
        keep_mask: (B, T) bool, True = real.
    Returns:
        (B, ...), the maximum over the real steps of each row.
    Raises:
        TypeError: `values` is not floating point, or `keep_mask` is not bool.
        ValueError: the batch is empty, the shapes do not fit, or a row has no real step.

    >>> values = torch.tensor([[[-2.0], [-4.0], [0.0]]])
    >>> masked_max(values, torch.tensor([[True, True, False]])).tolist()
    [[-2.0]]
    """
    keep = _checked_keep(values, keep_mask)
    if not values.is_floating_point():
        # Only there is -inf, which no real value can lose to.
        raise TypeError(f"values must be floating point, not {values.dtype}: use values.float().")
    return values.masked_fill(~keep, -torch.inf).amax(dim=1)


def last_real_step(values: Tensor, lengths: Tensor) -> Tensor:
    """Read each sequence at its own last real step.

    Args:
        values: (B, T, ...).
        lengths: (B,) integers from 1 to T, on any device.
    Returns:
        (B, ...), `values[i, lengths[i] - 1]` for each row i.
    Raises:
        TypeError: `values` is no tensor, or `lengths` is no tensor of integers.
        ValueError: `values` is not (B, T, ...), the number of lengths is not B, or a length is
            not in 1..T.

    >>> last_real_step(torch.tensor([[1, 2, 0], [3, 4, 5]]), torch.tensor([2, 3])).tolist()
    [2, 5]
    """
    _check_values(values)
    check_lengths(lengths, values.shape[1])
    check_same_count(lengths, values.shape[0])
    # int64, for torch reads an index of uint8 as a mask.
    last = lengths.to(values.device, torch.int64) - 1
    return values[torch.arange(values.shape[0], device=values.device), last]


def check_same_count(lengths: Tensor, batch_size: int) -> None:
    """Refuse lengths whose number is not the batch size.

    Args:
        lengths: (B,) integers.
        batch_size: the number of sequences in the batch.
    Raises:
        ValueError: the two differ; the message shows both.
    """
    if len(lengths) != batch_size:
        first = min(len(lengths), batch_size)
        lost = (
            f"sequence {first} has none" if first < batch_size else f"lengths[{first}] is no one's"
        )
        raise ValueError(
            f"lengths holds {len(lengths)} numbers for a batch of {batch_size} sequences, so "
            f"{lost}: give one length a sequence."
        )
