"""From lengths to masks and back, from one convention to another, and reductions that use them.

The name gives the polarity: `keep_mask` is True where a step is real. It is the hub: each `to_`
function turns it into what another library expects, and each `from_` function converts back.

Functions with a `check` argument look at the numbers they are given; on a GPU, this waits until all
that was queued before is done. `check=False` leaves that out: dtypes and shapes are still checked,
but what is computed from numbers that do not fit has no meaning. Under `torch.compile` and
`torch.export` it is left out automatically.
"""

from __future__ import annotations

import torch
from torch import Tensor

from course_utils.batches.checks import check_lengths, check_mask, check_same_count, reads_values


def lengths_to_keep_mask(
    lengths: Tensor, max_length: int | None = None, *, check: bool = True
) -> Tensor:
    """Mark the real steps of each padded sequence.

    Args:
        lengths: (B,) integers, steps per sequence; 0 is allowed and gives an all-False row.
        max_length: T in steps; the longest length where None. Give it where you can
            (`padded.shape[1]`): finding it waits for the GPU, and breaks a compiled graph.
        check: whether to look at the lengths themselves.
    Returns:
        (B, T) bool on the device of `lengths`, True = real. Its negation is a
        `key_padding_mask`.
    Raises:
        TypeError: `lengths` is not a tensor of integers.
        ValueError: `lengths` is not 1-D, is empty, or a length is negative or exceeds
            `max_length`; the message shows both.

    >>> lengths_to_keep_mask(torch.tensor([1, 2])).tolist()
    [[True, False], [True, True]]
    """
    check_lengths(lengths, max_length, zero_ok=True, values=check)
    if max_length is None:
        max_length = lengths.max().item()  # not int(), which torch.export cannot follow
    return torch.arange(max_length, device=lengths.device) < lengths[:, None]


def keep_mask_to_lengths(keep_mask: Tensor, *, check: bool = True) -> Tensor:
    """Count the real steps of each row, where real steps come first and padding after.

    Args:
        keep_mask: (B, T) bool, True = real.
        check: whether to look for rows with padding before a real step.
    Returns:
        (B,) int64; 0 for a row with no real step.
    Raises:
        TypeError: `keep_mask` is not bool.
        ValueError: it is not (B, T), or a row has padding before a real step: a hole, padding on
            the left, or an inverted mask. No length describes such a row.

    >>> keep_mask_to_lengths(torch.tensor([[True, False], [True, True]])).tolist()
    [1, 2]
    """
    check_mask(keep_mask)
    lengths = keep_mask.sum(dim=1)
    if not reads_values(check):
        return lengths
    wrong = (keep_mask != lengths_to_keep_mask(lengths, keep_mask.shape[1])).any(dim=1)
    if wrong.any():
        row = int(wrong.nonzero()[0])
        step = int((~keep_mask[row]).nonzero()[0])
        raise ValueError(
            f"keep_mask[{row}] has padding at step {step} and real steps after it, so no length "
            "describes it: keep the mask itself, or use ~keep_mask if True means padding there."
        )
    return lengths


def to_key_padding_mask(keep_mask: Tensor) -> Tensor:
    """Make the mask of `nn.MultiheadAttention` and `nn.Transformer*`: True = ignore this key.

    Args:
        keep_mask: (B, T) bool, True = real.
    Returns:
        (B, T) bool, True = padding.
    Raises:
        TypeError, ValueError: `keep_mask` is not (B, T) bool.

    >>> to_key_padding_mask(torch.tensor([[True, False]])).tolist()
    [[False, True]]
    """
    check_mask(keep_mask)
    return ~keep_mask


def from_key_padding_mask(key_padding_mask: Tensor) -> Tensor:
    """Return the keep mask, True = real, of a key padding mask, True = ignore; both (B, T) bool.

    Raises:
        TypeError, ValueError: `key_padding_mask` is not (B, T) bool.
    """
    check_mask(key_padding_mask, "key_padding_mask")
    return ~key_padding_mask


def to_sdpa_mask(keep_mask: Tensor) -> Tensor:
    """Make the `attn_mask` of `F.scaled_dot_product_attention`: True = attend to this key.

    Args:
        keep_mask: (B, T) bool, True = real.
    Returns:
        (B, 1, 1, T) bool, True = attend, for queries of shape (B, heads, L, D); combine it by `&`
        with a causal mask (L, T) of the same polarity.
    Raises:
        TypeError, ValueError: `keep_mask` is not (B, T) bool.

    >>> to_sdpa_mask(torch.tensor([[True, False]])).tolist()
    [[[[True, False]]]]
    """
    check_mask(keep_mask)
    return keep_mask[:, None, None, :]


def to_additive_mask(keep_mask: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Make the mask that is added to attention scores: 0 = attend, -inf = ignore.

    Args:
        keep_mask: (B, T) bool, True = real.
        dtype: of the scores.
    Returns:
        (B, T) of `dtype`; use it unchanged as a `key_padding_mask`, and with `[:, None, None, :]`
        for scores (B, heads, L, T).
    Raises:
        TypeError: `keep_mask` is not bool, or `dtype` cannot hold -inf.
        ValueError: it is not (B, T).

    >>> to_additive_mask(torch.tensor([[True, False]])).tolist()
    [[0.0, -inf]]
    """
    check_mask(keep_mask)
    if dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        raise TypeError(f"dtype is {dtype}, which cannot hold -inf: use the dtype of the scores.")
    return torch.zeros(keep_mask.shape, dtype=dtype, device=keep_mask.device).masked_fill(
        ~keep_mask, -torch.inf
    )


def to_attention_mask(keep_mask: Tensor) -> Tensor:
    """Make the `attention_mask` of Hugging Face's transformers: 1 = attend, 0 = padding.

    Source: https://huggingface.co/docs/transformers/glossary#attention-mask

    Args:
        keep_mask: (B, T) bool, True = real.
    Returns:
        (B, T) int64 of ones and zeros.
    Raises:
        TypeError, ValueError: `keep_mask` is not (B, T) bool.

    >>> to_attention_mask(torch.tensor([[True, False]])).tolist()
    [[1, 0]]
    """
    check_mask(keep_mask)
    return keep_mask.long()


def from_attention_mask(attention_mask: Tensor, *, check: bool = True) -> Tensor:
    """Return the keep mask, True = real, of an attention mask of Hugging Face's, 1 = attend.

    Args:
        attention_mask: (B, T) integers, ones and zeros.
        check: whether to look for other numbers.
    Returns:
        (B, T) bool.
    Raises:
        TypeError: `attention_mask` is not a tensor, or is of floats: those are masks to add, where
            0 means what 1 means here.
        ValueError: it is not (B, T), or holds anything but 0 and 1.
    """
    if not isinstance(attention_mask, Tensor):
        raise TypeError(
            f"attention_mask must be a tensor, not {type(attention_mask).__name__}: use "
            "torch.tensor(attention_mask)."
        )
    if attention_mask.is_floating_point():
        raise TypeError(
            "attention_mask must be of integers, 1 = attend: use attention_mask.long() if it holds "
            "ones and zeros; if it is added to scores, attention_mask == 0 is the keep mask."
        )
    if reads_values(check):
        wrong = attention_mask[(attention_mask != 0) & (attention_mask != 1)]
        if wrong.numel():
            raise ValueError(
                f"attention_mask holds {wrong[0].item()}, but only 0 and 1 are expected: use "
                "lengths_to_keep_mask if these are lengths."
            )
    keep_mask = attention_mask.bool()
    check_mask(keep_mask, "attention_mask")
    return keep_mask


def _check_values(values: Tensor) -> None:
    if not isinstance(values, Tensor):
        raise TypeError(
            f"values must be a tensor (B, T, ...), not {type(values).__name__}: pad the sequences, "
            "or unpack them with pad_packed_sequence."
        )
    if values.ndim < 2 or values.shape[0] == 0:
        raise ValueError(
            f"values has shape {tuple(values.shape)}, but must be (B, T, ...) with at least one "
            "sequence: use values[None] for a single one."
        )


def _checked_keep(values: Tensor, keep_mask: Tensor, check: bool) -> Tensor:
    """Refuse a mask that does not fit, and give it the dimensions of `values`."""
    _check_values(values)
    check_mask(keep_mask)
    if values.shape[:2] != keep_mask.shape:
        raise ValueError(
            f"keep_mask of shape {tuple(keep_mask.shape)} does not fit values of shape "
            f"{tuple(values.shape)}: both must begin with the same (B, T)."
        )
    empty = (~keep_mask.any(dim=1)).nonzero().flatten().tolist() if reads_values(check) else []
    if empty:
        raise ValueError(
            f"keep_mask has no real step in row {empty[0]}: there is nothing to reduce over. "
            "Drop that sequence from the batch."
        )
    return keep_mask.reshape(keep_mask.shape + (1,) * (values.ndim - 2))


def masked_mean(values: Tensor, keep_mask: Tensor, *, check: bool = True) -> Tensor:
    """Average each sequence over its real steps only, whatever the padding holds.

    float16 and bfloat16 are summed in float32: 3,000 steps of 50.0 are more than float16 can hold.

    Args:
        values: (B, T, ...) floating point.
        keep_mask: (B, T) bool, True = real.
        check: whether to look for a row with no real step; its mean is NaN where that is left out.
    Returns:
        (B, ...), the mean over the real steps of each row, in the dtype of `values`.
    Raises:
        TypeError: `values` is not a tensor, or `keep_mask` is not bool.
        ValueError: the batch is empty, the shapes do not fit, or a row has no real step.

    >>> values = torch.tensor([[[2.0], [4.0], [float("nan")]]])
    >>> masked_mean(values, torch.tensor([[True, True, False]])).tolist()
    [[3.0]]
    """
    keep = _checked_keep(values, keep_mask, check)
    # Not values * keep: NaN * 0 is NaN, so multiplying by the mask lets a NaN through.
    real = values.masked_fill(~keep, 0)
    if values.dtype in (torch.float16, torch.bfloat16):
        return (real.sum(dim=1, dtype=torch.float32) / keep.sum(dim=1)).to(values.dtype)
    return real.sum(dim=1) / keep.sum(dim=1)


def masked_max(values: Tensor, keep_mask: Tensor, *, check: bool = True) -> Tensor:
    """Take each sequence's largest value over its real steps only.

    Args:
        values: (B, T, ...) floating point.
        keep_mask: (B, T) bool, True = real.
        check: whether to look for a row with no real step; its maximum is -inf where that is left
            out.
    Returns:
        (B, ...), the maximum over the real steps of each row.
    Raises:
        TypeError: `values` is not floating point, or `keep_mask` is not bool.
        ValueError: the batch is empty, the shapes do not fit, or a row has no real step.

    >>> values = torch.tensor([[[-2.0], [-4.0], [0.0]]])
    >>> masked_max(values, torch.tensor([[True, True, False]])).tolist()
    [[-2.0]]
    """
    keep = _checked_keep(values, keep_mask, check)
    if not values.is_floating_point():
        # Only floating point has -inf, which is never above a real value.
        raise TypeError(f"values must be floating point, not {values.dtype}: use values.float().")
    return values.masked_fill(~keep, -torch.inf).amax(dim=1)


def last_real_step(values: Tensor, lengths: Tensor, *, check: bool = True) -> Tensor:
    """Read each sequence at its own last real step.

    Args:
        values: (B, T, ...).
        lengths: (B,) integers from 1 to T, on any device.
        check: whether to look at the lengths themselves.
    Returns:
        (B, ...), `values[i, lengths[i] - 1]` for each row i.
    Raises:
        TypeError: `values` is not a tensor, or `lengths` is not a tensor of integers.
        ValueError: `values` is not (B, T, ...), the number of lengths is not B, or a length is
            not in 1..T.

    >>> last_real_step(torch.tensor([[1, 2, 0], [3, 4, 5]]), torch.tensor([2, 3])).tolist()
    [2, 5]
    """
    _check_values(values)
    check_lengths(lengths, values.shape[1], values=check)
    check_same_count(lengths, values.shape[0])
    # int64, because torch reads an index of uint8 as a mask.
    last = lengths.to(values.device, torch.int64) - 1
    return values[torch.arange(values.shape[0], device=values.device), last]
