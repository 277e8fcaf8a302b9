"""The live panels about masks, in chapters 03 and 04."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from course_utils import mask_plots
from course_utils.batching import pad
from course_utils.masks import lengths_to_keep_mask
from course_utils.svg import LETTERS, Picture
from course_utils.training import four_losses
from course_utils.widgets import Panel

_LENGTHS = [6, 3, 5, 2]
_CLASSES = 3


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


def loss_explorer() -> Panel:
    """Show what four losses make of a mask, whose cells are switched one by one.

    A linear layer tags each step of four sequences; torch computes losses and gradients anew at
    each change.

    Returns:
        Panel: a choice of masks, a slider that adds columns of padding, and the cells.
    """
    presets = ["right", "one pad too many", "inverted", "C is empty", "all zeros"]
    own = "your own"
    torch_lengths = torch.tensor(_LENGTHS)

    def preset(name: str, added: int) -> list[str]:
        T = max(_LENGTHS) + added
        keep_mask = lengths_to_keep_mask(torch_lengths, T)
        if name == "one pad too many":
            keep_mask = lengths_to_keep_mask((torch_lengths + 1).clamp(max=T), T)
        elif name == "inverted":
            keep_mask = ~keep_mask
        elif name == "C is empty":
            keep_mask[2] = False
        elif name == "all zeros":
            keep_mask[:] = False
        return ["".join("1" if keep else "0" for keep in row) for row in keep_mask.tolist()]

    def settle(before: dict, now: dict) -> dict:
        now = dict(now)
        # The mask changes here alone: two quick clicks must not undo each other.
        mask = list(before["mask"])
        row, step = (LETTERS.index(now["pick"][0]), int(now["pick"][1:])) if now["pick"] else (0, 0)
        gone = step >= len(mask[row])  # a column that the slider has just taken away
        # Moved before the page heard that the mask has become one's own: it still says "right".
        stale = before["preset"] == own and now["added"] != before["added"]
        now["pick"], picked = "", bool(now["pick"]) and not gone
        if picked:
            flipped = "0" if mask[row][step] == "1" else "1"
            mask[row] = mask[row][:step] + flipped + mask[row][step + 1 :]
            now["preset"] = own
        elif stale:
            now["preset"] = own
        elif now["preset"] != own:
            mask = preset(now["preset"], now["added"])
        T = max(_LENGTHS) + now["added"]
        now["mask"] = [row[:T].ljust(T, "0") for row in mask]
        for name in presets:
            if now["mask"] == preset(name, now["added"]):
                now["preset"] = name
        return now

    def draw(preset: str, added: int, mask: list[str], pick: str) -> tuple[Picture, str]:
        keep_mask = torch.tensor([[cell == "1" for cell in row] for row in mask])
        steps, targets = _batch(added)
        weight = torch.randn(4, _CLASSES, generator=torch.Generator().manual_seed(1))
        weight.requires_grad_()
        logits = steps @ weight
        bias = torch.zeros(_CLASSES, requires_grad=True)
        logits = logits + bias
        padding = ~lengths_to_keep_mask(torch_lengths, keep_mask.shape[1])
        losses, norms, pulls = {}, {}, {}
        for name, loss in four_losses(logits, targets, keep_mask).items():
            at_logits, *at_weights = torch.autograd.grad(
                loss, [logits, weight, bias], retain_graph=True
            )
            pull = at_logits.norm(dim=2)
            losses[name] = loss.item()
            norms[name] = torch.cat([one.flatten() for one in at_weights]).norm().item()
            pulls[name] = [
                *pull.masked_fill(padding, 0).sum(dim=1).tolist(),
                pull.masked_fill(~padding, 0).sum().item(),
            ]
        picture = mask_plots.loss_explorer(_LENGTHS, keep_mask, losses, norms, pulls)
        counted, wrong = int(keep_mask.sum()), int((keep_mask & padding).sum())
        missing = int((~keep_mask & ~padding).sum())
        words = f"{counted} cells count"
        words += f", {wrong} of them padding" if wrong else ""
        steps = "1 real step is" if missing == 1 else f"{missing} real steps are"
        words += f"; {steps} ignored." if missing else "."
        empty = [LETTERS[row] for row, line in enumerate(mask) if "1" not in line]
        if len(empty) == len(mask):
            words += " Nothing to learn from: 0 / 0."
        elif empty:
            words += f" {', '.join(empty)} has no step: its own mean is 0 / 0."
        return picture, words

    controls = [
        {"name": "preset", "label": "Mask", "options": [*presets, own]},
        {"name": "added", "label": "Columns of padding added", "unit": ""}
        | {"min": 0, "max": 4, "step": 1},
    ]
    values = {"preset": presets[0], "added": 0, "mask": preset(presets[0], 0), "pick": ""}
    return Panel(draw, controls, values, settle=settle)


def attention_explorer(lengths: Sequence[int] = (6, 4, 2)) -> Panel:
    """Show where attention goes under a right mask, under wrong ones, and under none.

    Args:
        lengths: 1 to 3 numbers of steps, from 1 to 6.
    Returns:
        Panel: a choice of masks; `nn.MultiheadAttention` gives the weights of each. All
            positions are drawn beforehand and need no kernel.
    Raises:
        ValueError: there are no or more than 3 lengths, or one is not in 1..6.
    """
    if not 1 <= len(lengths) <= 3 or not all(length in range(1, 7) for length in lengths):
        raise ValueError(f"lengths is {list(lengths)}: give 1 to 3 lengths of 1..6.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        attention = torch.nn.MultiheadAttention(8, 1, batch_first=True)
        x, counts = pad([torch.randn(length, 8) for length in lengths])
    keep_mask = lengths_to_keep_mask(counts)
    future = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
    masks = {
        "none": {},
        "right": {"key_padding_mask": ~keep_mask},
        "inverted": {"key_padding_mask": keep_mask},
        "floats, 0 and 1": {"key_padding_mask": (~keep_mask).float()},
        "causal": {"attn_mask": future},
        "causal and padding": {"attn_mask": future, "key_padding_mask": ~keep_mask},
    }

    given = {
        "none": "No mask. ",
        "right": "key_padding_mask is True at padding. ",
        "inverted": "key_padding_mask is True at real steps. ",
        "floats, 0 and 1": "key_padding_mask is 1.0 at padding, and 0.0 at real steps. ",
        "causal": "attn_mask is True at later steps. ",
        "causal and padding": "attn_mask is True at later steps, key_padding_mask at padding. ",
    }

    def draw(mask: str) -> tuple[Picture, str]:
        with warnings.catch_warnings(record=True) as said, torch.no_grad():
            warnings.simplefilter("always")
            _, weights = attention(x, x, x, **masks[mask])
        # NaN times 0 is NaN: a row without weights has no share either.
        shares = (weights * ~keep_mask[:, None]).sum(dim=2)
        picture = mask_plots.attention_maps(weights, shares, list(lengths), f"Mask: {mask}")
        words = f"{given[mask]}torch raised nothing and warned {len(said)} times. "
        lost = int(shares[keep_mask].isnan().sum())
        if lost:
            words += f"{lost} of {int(keep_mask.sum())} real steps have NaN for weights. "
        if lost < len(shares[keep_mask]):
            who = "the others" if lost else "the real steps"
            share = shares[keep_mask].nanmean()
            words += f"On average, {who} spend {share:.0%} of their attention on padding."
        return picture, words

    control = {"name": "mask", "label": "Mask", "options": list(masks)}
    positions = [{"mask": name} for name in masks]
    return Panel(draw, [control], positions[0], positions)
