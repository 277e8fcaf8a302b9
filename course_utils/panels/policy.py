"""How sequences are chosen for a batch (chapter 06)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from course_utils.batches.checks import check_lengths
from course_utils.batches.sampling import (
    BucketBatchSampler,
    TokenBudgetBatchSampler,
    describe_epoch,
)
from course_utils.panels.panel import Choice, Control, Panel, Slider, Stop
from course_utils.pictures.policy import skyline
from course_utils.pictures.svg import Picture

_FIXED, _BUDGET = "fixed number of sequences", "budget of padded steps"
_ALL = "all"
_POOLS = ("1", "2", "4", "8", "16", "32", "64", _ALL)


class PolicyExplorer(Panel):
    """Show the batches that a policy draws, over pool size and budget.

    Args:
        lengths: (N,) integers, steps of each sequence.
    Raises:
        TypeError, ValueError: `lengths` are not integers of at least 1.
    """

    def __init__(self, lengths: Tensor) -> None:
        check_lengths(lengths)
        self._lengths = lengths
        tour = [
            Stop(
                "Each bar is a batch, in the order in which they are drawn; its hatched part is "
                "padding. Here nothing is sorted, and the batches are random."
            ),
            Stop(
                "Everything is sorted together. There is hardly any padding left, but look at the "
                "pairs repeated: many sequences share a batch again that shared one before.",
                {"pool": _ALL, "epoch": 2},
            ),
            Stop(
                "A middle way: sort within pools of a few batches. There is a little more padding, "
                "and the pairs are mixed again.",
                {"pool": "4", "epoch": 2},
            ),
            Stop(
                "A budget of padded steps instead of a number of sequences: no bar rises above it, "
                "and batches of short sequences hold more of them.",
                {"policy": _BUDGET, "pool": "4", "epoch": 2},
            ),
        ]
        values = {"policy": _FIXED, "pool": "1", "batch_size": 32, "max_tokens": 2048, "epoch": 1}
        super().__init__(values, tour=tour)

    def controls_for(self, values: Mapping) -> list[Control]:
        fixed = values["policy"] == _FIXED
        return [
            Choice("policy", "Batches of a", (_FIXED, _BUDGET)),
            Choice("pool", "Sorted together", _POOLS),
            Slider("batch_size", "Sequences", 8, 64, 8, small=True, off=not fixed),
            Slider("max_tokens", "Budget", 1024, 8192, 512, small=True, off=fixed),
            Slider("epoch", "Epoch", 1, 5, small=True),
        ]

    def draw(
        self, policy: str, pool: str, batch_size: int, max_tokens: int, epoch: int
    ) -> tuple[Picture, str]:
        lengths = self._lengths
        pool_batches = len(lengths) if pool == _ALL else int(pool)
        if policy == _FIXED:
            sampler = BucketBatchSampler(lengths, batch_size, pool_batches=pool_batches)
            kind = {"1": "random", _ALL: "sorted"}.get(pool, "pools")
            title = f"{batch_size} sequences a batch"
        else:
            limit = max(max_tokens, int(lengths.max()))
            sampler = TokenBudgetBatchSampler(lengths, limit, pool_batches=pool_batches)
            title, kind = f"at most {limit:,} padded steps a batch", "budget"
        found = describe_epoch(sampler, epoch)
        batches = [lengths[batch] for batch in sampler]
        cells = [len(batch) * int(batch.max()) for batch in batches]
        real = [int(batch.sum()) for batch in batches]
        picture = skyline(cells, real, found, f"{title}, pool {pool}", kind)
        words = f"{1 - found.fill:.0%} of what is run is padding. Pairs repeated: of the pairs in "
        words += f"one batch, {found.repeats:.0%} also shared a batch in the epoch before."
        return picture, words
