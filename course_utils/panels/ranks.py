"""Who waits for whom (chapter 09)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from course_utils.panels.panel import Choice, Control, Panel, Slider, Stop
from course_utils.pictures.ranks import ranks_over_time
from course_utils.pictures.svg import Picture
from course_utils.ranks import POLICIES, idle_share, useful_share, workload_of_ranks


class RanksExplorer(Panel):
    """Show ranks over time, work and waiting, over the policy that gives them their batches.

    Args:
        lengths: (N,) integers, steps of each sequence.
    Raises:
        TypeError, ValueError: `lengths` are not integers of at least 1, or too few for 8 ranks.
    """

    def __init__(self, lengths: Tensor) -> None:
        self._lengths = lengths
        positions = [{"policy": one, "ranks": n} for one in POLICIES for n in range(2, 9)]
        random, own, shared, budget, _ = POLICIES
        tour = [
            Stop(
                "Each row is a rank, and time runs to the right. At every upright line all ranks "
                "wait for the slowest one; hatched is padding, and empty is waiting.",
                {"policy": random},
            ),
            Stop(
                "Each rank sorts its own sequences. There is less padding, but now a rank with "
                "short texts waits for one with long texts.",
                {"policy": own},
            ),
            Stop(
                "The ranks share one sorted list. The batches of a step have similar lengths, so "
                "there is less waiting.",
                {"policy": shared},
            ),
            Stop(
                "Each batch is filled up to the same budget of padded steps: all ranks have about "
                "the same work.",
                {"policy": budget},
            ),
            Stop(
                "The same with 8 ranks: compare the share of waiting with that of random batches.",
                {"policy": budget, "ranks": 8},
            ),
        ]
        super().__init__({"policy": random, "ranks": 4}, positions, tour=tour)

    def controls_for(self, values: Mapping) -> list[Control]:
        return [Choice("policy", "Batches", POLICIES), Slider("ranks", "Ranks", 2, 8)]

    def draw(self, policy: str, ranks: int) -> tuple[Picture, str]:
        work = workload_of_ranks(self._lengths, policy, ranks)
        idle, useful = idle_share(work.padded), useful_share(work)
        facts = {
            "waiting": f"{idle:.0%}",
            "padding": f"{1 - idle - useful:.0%}",
            "real steps": f"{useful:.0%}",
            "steps an epoch": f"{len(work.padded)}",
        }
        picture = ranks_over_time(
            work.padded[:5], work.tokens[:5], f"{ranks} ranks, {policy}", facts
        )
        words = f"Of all the ranks' time in an epoch, {useful:.0%} goes into real steps."
        return picture, words
