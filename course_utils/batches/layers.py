"""Layers that know where a sequence ends, and what they do to its length."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from course_utils.batches.checks import check_lengths, check_mask, check_same_count, check_whole
from course_utils.batches.masks import lengths_to_keep_mask


def checked_keep_mask(padded: Tensor, lengths: Tensor) -> Tensor:
    """Mark the real steps of a padded batch, and refuse lengths that do not fit it.

    Args:
        padded: (B, T, ...).
        lengths: (B,) integers, from 1 to T.
    Returns:
        (B, T) bool on the device of `padded`, True = real.
    Raises:
        TypeError: `lengths` is not a tensor of integers.
        ValueError: their number is not B, or a length is not in 1..T.
    """
    check_lengths(lengths, padded.shape[1])
    check_same_count(lengths, len(padded))
    # `pad` leaves the lengths on the CPU, where `pack_padded_sequence` wants them. They are checked
    # there, and then copied, because the mask would be T times as large.
    return lengths_to_keep_mask(lengths.to(padded.device), padded.shape[1], check=False)


class AttentionPool(nn.Module):
    """Average the steps of each sequence with learned weights, over real steps only (chapter 03).

    Args:
        size: H, the features of a step.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.score = nn.Linear(size, 1)

    def forward(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Reduce the dimension of time.

        Args:
            values: (B, T, H); what the padding holds does not matter.
            lengths: (B,) integers, from 1 to T.
        Returns:
            (B, H).
        Raises:
            TypeError: `lengths` is not a tensor of integers.
            ValueError: their number is not B, or a length is not in 1..T.
        """
        keep = checked_keep_mask(values, lengths)[..., None]
        # Before both the score and the sum: a weight of 0 does not stop a NaN.
        values = values.masked_fill(~keep, 0)
        weights = self.score(values).masked_fill(~keep, -torch.inf).softmax(dim=1)
        return (weights * values).sum(dim=1)


def sinusoids(num_steps: int, d_model: int) -> Tensor:
    """Encode positions as sines and cosines, for any number of steps.

    Source: Vaswani et al., https://arxiv.org/abs/1706.03762, section 3.5.

    Args:
        num_steps: T.
        d_model: D, even.
    Returns:
        (T, D) float32.
    Raises:
        ValueError: `d_model` is odd.
    """
    if d_model % 2:
        raise ValueError(f"d_model is {d_model}: give an even number, half sines, half cosines.")
    rates = 10_000 ** (-torch.arange(0, d_model, 2) / d_model)
    angles = torch.arange(num_steps)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _check_options(**options: int) -> None:
    for name, value in options.items():
        check_whole(name, value, 0 if name == "padding" else 1)


def conv_lengths(
    lengths: Tensor, kernel_size: int, stride: int = 1, padding: int = 0, dilation: int = 1
) -> Tensor:
    """Say how many steps a convolution, or a pooling that rounds down, leaves of each sequence.

    Source: the formula of `nn.Conv1d`,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.Conv1d.html

    Args:
        lengths: (B,) integers.
        kernel_size, stride, padding, dilation: those of the layer, in steps.
    Returns:
        (B,) int64.
    Raises:
        TypeError: `lengths` is not a tensor of integers.
        ValueError: `kernel_size`, `stride` or `dilation` is not a whole number of at least 1, or
            `padding` is not one of at least 0; or a sequence is too short to give a single step,
            which nothing else would report in a padded batch.

    >>> conv_lengths(torch.tensor([5, 6, 7]), kernel_size=3, stride=2).tolist()
    [2, 2, 3]
    """
    check_lengths(lengths)
    _check_options(kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation)
    span = dilation * (kernel_size - 1) + 1
    after = (lengths.long() + 2 * padding - span) // stride + 1
    if (after < 1).any():
        short = int((after < 1).nonzero()[0])
        raise ValueError(
            f"lengths[{short}] is {int(lengths[short])}, too short for a kernel that spans {span} "
            f"steps with padding {padding}: drop that sequence, or give the layer more padding."
        )
    return after


class MaskedConv1d(nn.Module):
    """A convolution over time of a padded batch that sees zeros where a sequence ends.

    For a sequence alone, `nn.Conv1d` puts zeros beyond its end; here the padding is set to zero,
    too, whatever the layer before has written there.

    Args:
        in_channels, out_channels: features of a step, before and after.
        kernel_size, stride, padding: as for `nn.Conv1d`, one number each.
    Raises:
        ValueError: `kernel_size` or `stride` is not a whole number of at least 1, or `padding` is
            not one of at least 0.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
    ) -> None:
        super().__init__()
        self.options = {"kernel_size": kernel_size, "stride": stride, "padding": padding}
        _check_options(**self.options)
        self.conv = nn.Conv1d(in_channels, out_channels, **self.options)

    def forward(self, padded: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Convolve.

        Args:
            padded: (B, T, in_channels); what the padding holds does not matter.
            lengths: (B,) integers, from 1 to T.
        Returns:
            (B, T', out_channels), with meaningless numbers at the padding, and its lengths (B,)
            int64.
        Raises:
            TypeError: `lengths` is not a tensor of integers.
            ValueError: their number is not B, a length is not in 1..T, or a sequence is too short.
        """
        keep = checked_keep_mask(padded, lengths)[..., None]
        after = conv_lengths(lengths, **self.options)
        return self.conv(padded.masked_fill(~keep, 0).mT).mT, after


class MaskedBatchNorm1d(nn.Module):
    """Batch normalisation over real steps alone (chapter 05).

    In training, its sequences still influence each other, because that is what batch normalisation
    does. Their padding has no influence.

    Args:
        num_features: D, the features of a step.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(num_features)

    def forward(self, padded: Tensor, keep_mask: Tensor) -> Tensor:
        """Normalise each feature.

        Args:
            padded: (B, T, D); what the padding holds does not matter.
            keep_mask: (B, T) bool, True = real.
        Returns:
            (B, T, D), zeros at the padding.
        Raises:
            TypeError: `keep_mask` is not bool.
            ValueError: it is not (B, T), or in training it has fewer than two real steps.
        """
        check_mask(keep_mask)
        if self.training and int(keep_mask.sum()) < 2:
            raise ValueError(
                f"keep_mask has {int(keep_mask.sum())} real step in all, but a variance needs two: "
                "use a larger batch, or eval()."
            )
        if padded.shape[:2] != keep_mask.shape:
            raise ValueError(
                f"keep_mask of shape {tuple(keep_mask.shape)} does not fit padded of shape "
                f"{tuple(padded.shape)}: both must begin with the same (B, T)."
            )
        normed = torch.zeros_like(padded)
        normed[keep_mask] = self.norm(padded[keep_mask])
        return normed
