"""One ragged batch through every layer of a hybrid model, with its classic faults to put back."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_packed_sequence

from course_utils.batches.checks import check_whole
from course_utils.batches.layers import MaskedConv1d
from course_utils.batches.masks import lengths_to_keep_mask, masked_mean
from course_utils.batches.packed import pack
from course_utils.batches.padding import pad

FAULTS = {
    "old_lengths": "lengths not updated after the convolution",
    "not_cleaned": "padding not cleared between convolutions",
    "not_packed": "LSTM not packed",
    "no_total_length": "no total_length",
    "no_batch_first": "no batch_first in the Transformer layer",
    "no_padding_mask": "no key padding mask",
    "mean_over_all": "mean over all steps",
}


@dataclass(frozen=True)
class Stage:
    """What comes out of one layer.

    Attributes:
        name: of the layer.
        values: (B, T, D), or (B, D) once time is gone; None where it raised an error, or was not
            reached.
        lengths: (B,) int64, the lengths in force; None once time is gone.
        keep_mask: (B, T) bool, the mask in force; None where there is none.
        true_lengths: (B,) int64, the lengths that are right here.
        differs: the rows that differ from what their sequence gives alone.
        error: what was raised.
    """

    name: str
    values: Tensor | None = None
    lengths: Tensor | None = None
    keep_mask: Tensor | None = None
    true_lengths: Tensor | None = None
    differs: tuple[int, ...] = ()
    error: str = ""

    @property
    def warning(self) -> str:
        """Say where shape, lengths and mask do not fit together, in a few words."""
        if self.values is None or self.lengths is None:
            return ""
        T = self.values.shape[1]
        if int(self.lengths.max()) > T:
            return f"a length of {int(self.lengths.max())}, but T = {T}"
        if not torch.equal(self.lengths, self.true_lengths):
            return f"lengths should be {self.true_lengths.tolist()}"
        if self.keep_mask is not None and self.keep_mask.shape[1] != T:
            return f"the mask is {self.keep_mask.shape[1]} wide, but T = {T}"
        return ""


@torch.random.fork_rng(devices=[])
def _layers() -> nn.ModuleDict:
    torch.manual_seed(4)
    options = {"d_model": 8, "nhead": 2, "dim_feedforward": 16, "dropout": 0.0}
    layer = nn.TransformerEncoderLayer(**options, batch_first=True)
    forgetful = nn.TransformerEncoderLayer(**options)
    forgetful.load_state_dict(layer.state_dict())
    return nn.ModuleDict(
        {
            "first": MaskedConv1d(3, 8, kernel_size=5, stride=2, padding=2),
            "second": MaskedConv1d(8, 8, kernel_size=3, padding=1),
            "lstm": nn.LSTM(8, 4, batch_first=True, bidirectional=True),
            "layer": layer,
            "forgetful": forgetful,
            "head": nn.Linear(8, 3),
        }
    )


def _run(layers: nn.ModuleDict, padded: Tensor, lengths: Tensor, faults: frozenset) -> list[Stage]:
    stages = [Stage("input", padded, lengths, None, lengths)]
    name = "convolution, stride 2"
    try:
        x, true = layers["first"](padded, lengths)
        x = x.relu()
        if "old_lengths" not in faults:
            lengths = true
        stages.append(Stage(name, x, lengths, None, true))

        name = "convolution"
        if "not_cleaned" in faults:
            x = layers["second"].conv(x.mT).mT
        else:
            x, _ = layers["second"](x, lengths)
        x = x.relu()
        keep_mask = lengths_to_keep_mask(lengths, x.shape[1])
        stages.append(Stage(name, x, lengths, keep_mask, true))

        name = "BiLSTM"
        if "not_packed" in faults:
            x, _ = layers["lstm"](x)
        else:
            width = None if "no_total_length" in faults else x.shape[1]
            packed, _ = layers["lstm"](pack(x, lengths, padding_value=None))
            x, _ = pad_packed_sequence(packed, batch_first=True, total_length=width)
        hide = None if "no_padding_mask" in faults else ~keep_mask
        seen = None if hide is None else keep_mask
        stages.append(Stage(name, x, lengths, seen, true))

        name = "Transformer layer"
        layer = layers["forgetful" if "no_batch_first" in faults else "layer"]
        x = layer(x, src_key_padding_mask=hide)
        seen = None if "mean_over_all" in faults else keep_mask
        stages.append(Stage(name, x, lengths, seen, true))

        name = "mean over time"
        x = x.mean(1) if "mean_over_all" in faults else masked_mean(x, keep_mask)
        stages.append(Stage(name, x))
        stages.append(Stage("classifier", layers["head"](x)))
    except (RuntimeError, AssertionError, ValueError) as error:
        stages.append(Stage(name, error=f"{type(error).__name__}: {error}"))
    return stages


@torch.no_grad()
def trace(lengths: list[int], added: int = 0, faults: frozenset | set = frozenset()) -> list[Stage]:
    """Run a ragged batch through the hybrid, layer by layer, and compare with each sequence alone.

    Args:
        lengths: B numbers of steps, at least 1.
        added: columns of padding beyond the longest.
        faults: names in `FAULTS` to put back.
    Returns:
        one Stage per layer, up to the first that raises an error.
    Raises:
        ValueError: a fault is not in `FAULTS`, `lengths` cannot be in one batch, or `added` is
            not a whole number of at least 0.
    """
    if unknown := set(faults) - set(FAULTS):
        raise ValueError(f"faults has {sorted(unknown)[0]!r}: they are {', '.join(FAULTS)}.")
    lengths = [check_whole(f"lengths[{index}]", length, 1) for index, length in enumerate(lengths)]
    if not lengths:
        raise ValueError("lengths is empty: a batch needs at least one sequence.")
    added = check_whole("added", added, 0)
    generator = torch.Generator().manual_seed(4)
    sequences = [torch.randn(length, 3, generator=generator) for length in lengths]
    layers = _layers()
    padded, counts = pad(sequences, total_length=max(lengths) + added)
    stages = _run(layers, padded, counts, frozenset(faults))
    alone = [_run(layers, *pad([sequence]), frozenset()) for sequence in sequences]
    return [
        replace(stage, differs=_differing(stage, [stages_alone[index] for stages_alone in alone]))
        for index, stage in enumerate(stages)
    ]


def _differing(stage: Stage, alone: list[Stage]) -> tuple[int, ...]:
    if stage.values is None:
        return ()
    found = []
    for row, truth in enumerate(alone):
        mine, expected = stage.values[row], truth.values[0]
        if stage.true_lengths is not None:
            mine = mine[: int(stage.true_lengths[row])]
        same = mine.shape == expected.shape and torch.allclose(mine, expected, atol=1e-5)
        found += [] if same else [row]
    return tuple(found)
