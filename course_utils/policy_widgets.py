"""The live panel of chapter 06: how sequences are chosen for a batch."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from course_utils.checks import check_lengths
from course_utils.policy_plots import skyline
from course_utils.sampling import BucketBatchSampler, TokenBudgetBatchSampler, describe_epoch
from course_utils.svg import Picture
from course_utils.widgets import Panel

_POOLS = ("1", "2", "4", "8", "16", "32", "64", "all")


def policy_explorer(lengths: Tensor) -> Panel:
    """Show the batches that a policy draws, over pool size and budget.

    Args:
        lengths: (N,) integers, steps of each sequence.
    Returns:
        Panel: a choice of policy, of how many batches are sorted together, and sliders for the
        size of a batch, the budget and the epoch.
    Raises:
        TypeError, ValueError: `lengths` are no integers of at least 1.
    """
    check_lengths(lengths)
    fixed, budget = "fixed number of sequences", "budget of padded steps"
    longest = int(lengths.max())

    def draw(
        policy: str, pool: str, batch_size: int, max_tokens: int, epoch: int
    ) -> tuple[Picture, str]:
        pool_batches = len(lengths) if pool == "all" else int(pool)
        if policy == fixed:
            sampler = BucketBatchSampler(lengths, batch_size, pool_batches=pool_batches)
            title = f"{batch_size} sequences a batch"
        else:
            limit = max(max_tokens, longest)
            sampler = TokenBudgetBatchSampler(lengths, limit, pool_batches=pool_batches)
            title = f"at most {limit:,} padded steps a batch"
        found = describe_epoch(sampler, epoch)
        parts = [lengths[batch] for batch in sampler]
        cells = [len(one) * int(one.max()) for one in parts]
        picture = skyline(cells, [int(one.sum()) for one in parts], found, f"{title}, pool {pool}")
        words = f"{1 - found.fill:.0%} of what is run is padding. Of the pairs in one batch, "
        words += f"{found.met_again:.0%} met in the epoch before."
        return picture, words

    def controls(values: Mapping) -> list[dict]:
        is_fixed = values["policy"] == fixed
        return [
            {"name": "policy", "label": "Batches of a", "options": [fixed, budget]},
            {"name": "pool", "label": "Sorted together", "options": list(_POOLS)},
            {"name": "batch_size", "label": "Sequences", "unit": "", "off": not is_fixed}
            | {"min": 8, "max": 64, "step": 8, "small": True},
            {"name": "max_tokens", "label": "Budget", "unit": "", "off": is_fixed}
            | {"min": 1024, "max": 8192, "step": 512, "small": True},
            {"name": "epoch", "label": "Epoch", "unit": ""}
            | {"min": 1, "max": 5, "step": 1, "small": True},
        ]

    values = {"policy": fixed, "pool": "1", "batch_size": 32, "max_tokens": 2048, "epoch": 1}
    return Panel(draw, controls, values)
