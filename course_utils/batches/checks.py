"""What a batch must be before anything is computed from it."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch
from torch import Tensor

# torch has these only to exchange data; it can neither compare nor add them.
_UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)


def reads_values(check: bool) -> bool:
    """Whether a check may look at the numbers in a tensor: if asked to, and not while compiling.

    On a GPU, looking at them waits until all that was queued before is done. Under `torch.compile`
    it breaks the graph in two, and under `torch.export` there are no numbers yet.

    Args:
        check: what the caller was given.
    """
    return check and not torch.compiler.is_compiling()


def check_lengths(
    lengths: Tensor,
    max_length: int | None = None,
    *,
    zero_ok: bool = False,
    values: bool = True,
) -> None:
    """Refuse lengths that cannot describe a padded batch.

    Args:
        lengths: (B,) integers, steps per sequence.
        max_length: T in steps; no upper limit where None.
        zero_ok: whether a sequence may have no step at all.
        values: whether to look at the numbers too, and not only at dtype and shape.
    Raises:
        TypeError: `lengths` is not a tensor, or not of integers that torch can compute with.
        ValueError: `lengths` is not 1-D, is empty, is on the meta device, or one of them is out of
            range; the message says which sequence. Or `max_length` is not a whole number.
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
    if lengths.dtype in _UNSIGNED:
        raise TypeError(
            f"lengths is {lengths.dtype}, which torch can hardly compute with: use lengths.long()."
        )
    if lengths.ndim != 1:
        raise ValueError(
            f"lengths must be 1-D, one per sequence, not of shape {tuple(lengths.shape)}: "
            "use lengths.flatten() or lengths.squeeze()."
        )
    if lengths.numel() == 0:
        raise ValueError("lengths is empty: a batch needs at least one sequence.")
    if max_length is not None and not torch.compiler.is_compiling():  # there, it may be a symbol
        check_whole("max_length", max_length, 0)
    if not reads_values(values):
        return
    if lengths.is_meta:
        raise ValueError(
            "lengths is on the meta device, which holds no numbers: make it on the CPU."
        )
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


def lengths_tensor(lengths: Tensor | Sequence[int]) -> Tensor:
    """Make a tensor from a list of lengths, and refuse what `check_lengths` refuses.

    Args:
        lengths: (N,) integers of at least 1, a tensor or a list.
    Returns:
        (N,) integers; a tensor is given back as it is.
    Raises:
        TypeError, ValueError: as `check_lengths`, or `lengths` is not a list of numbers.

    >>> lengths_tensor([1, 2]).tolist()
    [1, 2]
    """
    if not isinstance(lengths, Tensor):
        try:
            # An empty list would become floats, and be refused for the wrong reason.
            lengths = torch.tensor(lengths, dtype=None if len(lengths) else torch.int64)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(
                f"lengths is a {type(lengths).__name__} that makes no tensor ({error}): give a "
                "list of whole numbers, one per sequence."
            ) from None
    check_lengths(lengths)
    return lengths


def check_same_count(lengths: Tensor, batch_size: int) -> None:
    """Refuse lengths whose number is not the batch size.

    Args:
        lengths: (B,) integers.
        batch_size: the number of sequences in the batch.
    Raises:
        ValueError: the two differ; the message shows both.
    """
    if lengths.shape[0] != batch_size:  # len() would make one number of a symbol
        first = min(len(lengths), batch_size)
        lost = (
            f"sequence {first} has none"
            if first < batch_size
            else f"lengths[{first}] has no sequence"
        )
        raise ValueError(
            f"lengths holds {len(lengths)} numbers for a batch of {batch_size} sequences, so "
            f"{lost}: give one length per sequence."
        )


def check_mask(mask: Tensor, name: str = "keep_mask") -> None:
    """Refuse a mask that is not (B, T) of truth values.

    Args:
        mask: (B, T) bool.
        name: of the argument, for the message.
    Raises:
        TypeError: it is not a tensor, or not bool.
        ValueError: it is not 2-D, or has no sequence.
    """
    if not isinstance(mask, Tensor):
        raise TypeError(
            f"{name} must be a bool tensor, not {type(mask).__name__}: use torch.tensor({name})."
        )
    if mask.dtype != torch.bool:
        # Not simply .bool(): of 0 and -inf that makes the opposite.
        fix = f"{name} == 1 if it holds ones and zeros"
        if mask.is_floating_point():
            fix += f", {name} == 0 if it holds 0 and -inf"
        elif mask.ndim == 1:
            fix = "lengths_to_keep_mask if these are lengths"
        raise TypeError(f"{name} must be a bool tensor, not {mask.dtype}: use {fix}.")
    if mask.ndim != 2 or mask.shape[0] == 0:
        raise ValueError(
            f"{name} has shape {tuple(mask.shape)}, but must be (B, T) with at least one "
            f"sequence: use {name}[None] for a single one."
        )


def check_whole(name: str, value: int, least: int) -> int:
    """Refuse a number that is not whole, or too small.

    Args:
        name: of the argument, for the message.
        value: the number, as an int, a NumPy number or a tensor; a truth value is not one.
        least: the smallest that is allowed.
    Returns:
        the number as an int.
    Raises:
        ValueError: it is not whole, or below `least`.

    >>> check_whole("batch_size", 4, 1)
    4
    """
    try:  # whatever can be an index is whole: lengths.max() too
        whole = None if _is_truth_value(value) else operator.index(value)
    except (TypeError, RuntimeError):
        whole = None
    if whole is None or whole < least:
        raise ValueError(f"{name} is {value!r}: give a whole number of at least {least}.")
    return whole


def _is_truth_value(value: object) -> bool:
    return isinstance(value, bool) or getattr(value, "dtype", None) in (torch.bool, bool)
