"""A mask and its losses (chapter 03), and attention under a mask (chapter 04)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from course_utils.batches.masks import lengths_to_keep_mask
from course_utils.batches.padding import pad
from course_utils.panels.panel import Cells, Choice, Control, Panel, Slider, Stop
from course_utils.pictures.masks import attention_maps, mask_and_losses
from course_utils.pictures.svg import LETTERS, Picture
from course_utils.training import four_losses

_LENGTHS = [6, 3, 5, 2]
_CLASSES = 3
_PRESETS = ("right", "one pad too many", "inverted", "C is empty", "all zeros")
_OWN = "your own"


def _batch(added: int) -> tuple[Tensor, Tensor]:
    """The steps (B, T, 4), zeros at padding, and targets (B, T), 0 at padding."""
    generator = torch.Generator().manual_seed(5)
    T = max(_LENGTHS)
    steps = torch.randn(len(_LENGTHS), T, 4, generator=generator)
    targets = torch.randint(0, _CLASSES, (len(_LENGTHS), T), generator=generator)
    padding = ~lengths_to_keep_mask(torch.tensor(_LENGTHS))
    steps, targets = steps.masked_fill(padding[..., None], 0), targets.masked_fill(padding, 0)
    return (
        torch.nn.functional.pad(steps, (0, 0, 0, added)),
        torch.nn.functional.pad(targets, (0, added)),
    )


def _preset(name: str, added: int) -> list[str]:
    """A mask as the page keeps it: a text of 1 and 0 for each sequence."""
    lengths, T = torch.tensor(_LENGTHS), max(_LENGTHS) + added
    keep_mask = lengths_to_keep_mask(lengths, T)
    if name == "one pad too many":
        keep_mask = lengths_to_keep_mask((lengths + 1).clamp(max=T), T)
    elif name == "inverted":
        keep_mask = ~keep_mask
    elif name == "C is empty":
        keep_mask[2] = False
    elif name == "all zeros":
        keep_mask[:] = False
    return ["".join("1" if keep else "0" for keep in row) for row in keep_mask.tolist()]


class LossExplorer(Panel):
    """Show what four losses make of a mask, whose cells are switched one by one.

    A linear layer tags each step of four sequences; torch computes losses and gradients again at
    each change.
    """

    def __init__(self) -> None:
        values = {"preset": _PRESETS[0], "added": 0, "mask": _preset(_PRESETS[0], 0), "pick": ""}
        stops = {
            ("right", 0): "This mask is right. The coloured parts of a bar are the weights of the "
            "sequences in that loss. Only the unmasked loss has a hatched part: the padding.",
            ("right", 4): "Four columns of padding were added. They pull at the unmasked loss more "
            "than before, and the loss over B x T grows weaker. The other two have not changed.",
            ("inverted", 4): "The mask is inverted. The three masked losses now learn from the "
            "padding alone, and no error is raised.",
            ("C is empty", 0): "C has no real step left. Its own mean is 0 / 0, so the loss per "
            "sequence is NaN for the whole batch.",
        }
        tour = [
            Stop(words, {"preset": name, "added": added, "mask": _preset(name, added)})
            for (name, added), words in stops.items()
        ]
        super().__init__(values, tour=tour)

    def controls_for(self, values: Mapping) -> list[Control]:
        return [
            Choice("preset", "Mask", (*_PRESETS, _OWN)),
            Slider("added", "Columns of padding added", 0, 4),
            Cells("pick", "keep_mask"),
        ]

    def settle(self, before: dict, now: dict) -> dict:
        now = dict(now)
        # The mask changes here alone: two quick clicks must not undo each other.
        mask = list(before["mask"])
        row, step = (LETTERS.index(now["pick"][0]), int(now["pick"][1:])) if now["pick"] else (0, 0)
        gone = step >= len(mask[row])  # a column that the slider has just taken away
        # Moved before the page heard that the mask has become one's own: it still says "right".
        stale = before["preset"] == _OWN and now["added"] != before["added"]
        now["pick"], picked = "", bool(now["pick"]) and not gone
        if picked:
            flipped = "0" if mask[row][step] == "1" else "1"
            mask[row] = mask[row][:step] + flipped + mask[row][step + 1 :]
            now["preset"] = _OWN
        elif stale:
            now["preset"] = _OWN
        elif now["preset"] != _OWN:
            mask = _preset(now["preset"], now["added"])
        T = max(_LENGTHS) + now["added"]
        now["mask"] = [row[:T].ljust(T, "0") for row in mask]
        for name in _PRESETS:
            if now["mask"] == _preset(name, now["added"]):
                now["preset"] = name
        return now

    def draw(self, preset: str, added: int, mask: list[str], pick: str) -> tuple[Picture, str]:
        keep_mask = torch.tensor([[cell == "1" for cell in row] for row in mask])
        steps, targets = _batch(added)
        weight = torch.randn(4, _CLASSES, generator=torch.Generator().manual_seed(1))
        weight.requires_grad_()
        logits = steps @ weight
        bias = torch.zeros(_CLASSES, requires_grad=True)
        logits = logits + bias
        padding = ~lengths_to_keep_mask(torch.tensor(_LENGTHS), keep_mask.shape[1])
        # Each step pulls at its logits with p - y, times its weight in the loss.
        each = torch.nn.functional.cross_entropy(logits.mT, targets, reduction="sum")
        (own,) = torch.autograd.grad(each, logits, retain_graph=True)
        losses, norms, weights = {}, {}, {}
        for name, loss in four_losses(logits, targets, keep_mask).items():
            at_logits, *slopes = torch.autograd.grad(
                loss, [logits, weight, bias], retain_graph=True
            )
            share = (at_logits * own).sum(dim=2) / own.square().sum(dim=2)
            losses[name] = loss.item()
            norms[name] = torch.cat([slope.flatten() for slope in slopes]).norm().item()
            weights[name] = [
                *share.masked_fill(padding, 0).sum(dim=1).tolist(),
                share.masked_fill(~padding, 0).sum().item(),
            ]
        picture = mask_and_losses(_LENGTHS, keep_mask, losses, norms, weights)
        return picture, _said(keep_mask, padding, losses, norms)


def _said(keep_mask: Tensor, padding: Tensor, losses: Mapping, norms: Mapping) -> str:
    """The sentence under the picture: what counts, what is ignored, and what is lost."""
    counted, wrong = int(keep_mask.sum()), int((keep_mask & padding).sum())
    missing = int((~keep_mask & ~padding).sum())
    words = f"{counted} cells count"
    words += f", {wrong} of them padding" if wrong else ""
    steps = "1 real step is" if missing == 1 else f"{missing} real steps are"
    words += f"; {steps} ignored." if missing else "."
    empty = [LETTERS[row] for row, line in enumerate(keep_mask) if not line.any()]
    if len(empty) == len(keep_mask):
        words += " Nothing to learn from: 0 / 0."
    elif empty:
        words += f" {', '.join(empty)} has no step: its own mean is 0 / 0."
    lost = [name for name, loss in losses.items() if math.isnan(loss)]
    if lost:
        gradient = "too" if any(math.isnan(norms[name]) for name in lost) else "not"
        words += f" The loss is NaN ({', '.join(lost)}), its gradient is {gradient}."
    return words


class AttentionExplorer(Panel):
    """Show where attention goes under a right mask, under wrong ones, and under none.

    `nn.MultiheadAttention` gives the weights of each. All positions are drawn beforehand and need
    no kernel.

    Args:
        lengths: 1 to 3 numbers of steps, from 1 to 6.
    Raises:
        ValueError: there are no or more than 3 lengths, or one is not in 1..6.
    """

    def __init__(self, lengths: Sequence[int] = (6, 4, 2)) -> None:
        if not 1 <= len(lengths) <= 3 or not all(length in range(1, 7) for length in lengths):
            raise ValueError(f"lengths is {list(lengths)}: give 1 to 3 lengths of 1..6.")
        self._lengths = list(lengths)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)
            self._attention = torch.nn.MultiheadAttention(8, 1, batch_first=True)
            self._x, counts = pad([torch.randn(length, 8) for length in lengths])
        self._keep_mask = keep_mask = lengths_to_keep_mask(counts)
        T = self._x.shape[1]
        future = torch.ones(T, T, dtype=torch.bool).triu(1)
        # Name -> what attention is given, and the same in words.
        self._masks = {
            "none": ({}, "No mask. "),
            "right": (
                {"key_padding_mask": ~keep_mask},
                "key_padding_mask is True at padding. ",
            ),
            "inverted": (
                {"key_padding_mask": keep_mask},
                "key_padding_mask is True at real steps. ",
            ),
            "floats, 0 and 1": (
                {"key_padding_mask": (~keep_mask).float()},
                "key_padding_mask is 1.0 at padding, and 0.0 at real steps. ",
            ),
            "causal": ({"attn_mask": future}, "attn_mask is True at later steps. "),
            "causal and padding": (
                {"attn_mask": future, "key_padding_mask": ~keep_mask},
                "attn_mask is True at later steps, key_padding_mask at padding. ",
            ),
        }
        positions = [{"mask": name} for name in self._masks]
        stops = {
            "none": "Without a mask, every row gives a share of its attention to padding, where "
            "there is any: the hatched columns.",
            "right": "With key_padding_mask True at padding, those columns are 0. Each row still "
            "adds up to 1, so the real steps share what padding had.",
            "inverted": "This mask is the wrong way round: True at real steps. All attention goes "
            "to padding, and a sequence without padding has no key left. Its weights are NaN.",
            "floats, 0 and 1": "A mask of floats is added to the scores. So 1.0 at padding does "
            "not hide it; it gives padding a larger share.",
            "causal and padding": "Causal and padding together: a step sees itself and those "
            "before it, and no padding.",
        }
        tour = [Stop(words, {"mask": name}) for name, words in stops.items()]
        super().__init__(positions[0], positions, tour=tour)

    def controls_for(self, values: Mapping) -> list[Control]:
        return [Choice("mask", "Mask", tuple(self._masks))]

    def draw(self, mask: str) -> tuple[Picture, str]:
        x, keep_mask, (given, words) = self._x, self._keep_mask, self._masks[mask]
        with warnings.catch_warnings(record=True) as said, torch.no_grad():
            warnings.simplefilter("always")
            _, weights = self._attention(x, x, x, **given)
        # NaN times 0 is NaN: a row without weights has no share either.
        shares = (weights * ~keep_mask[:, None]).sum(dim=2)
        picture = attention_maps(weights, shares, self._lengths, f"Mask: {mask}")
        words += f"torch raised nothing and warned {len(said)} times. "
        lost = int(shares[keep_mask].isnan().sum())
        if lost:
            words += f"{lost} of {int(keep_mask.sum())} real steps have NaN for weights. "
        if lost < len(shares[keep_mask]):
            who = "the others" if lost else "the real steps"
            share = shares[keep_mask].nanmean()
            words += f"On average, {who} spend {share:.0%} of their attention on padding."
        return picture, words
