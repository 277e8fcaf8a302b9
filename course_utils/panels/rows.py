"""Sequences that drop into rows, and the mask that keeps them apart (chapter 07)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from course_utils.batches.checks import check_lengths
from course_utils.batches.rows import best_fit_decreasing, document_mask, fill_rows, first_fit
from course_utils.panels.panel import Cells, Choice, Control, Panel, Slider, Stop, Tick
from course_utils.pictures import rows as row_pictures
from course_utils.pictures.svg import Picture


class _Packer(NamedTuple):
    pack: Callable[[Tensor, int], list[list[int]]]
    longest_first: bool = False


class _Mask(NamedTuple):
    causal: bool
    own_sequence: bool


_PACKERS = {
    "one sequence a row": _Packer(lambda lengths, capacity: [[i] for i in range(len(lengths))]),
    "first-fit": _Packer(first_fit),
    "best-fit decreasing": _Packer(best_fit_decreasing, longest_first=True),
}
_MASKS = {
    "causal": _Mask(causal=True, own_sequence=False),
    "causal, own sequence only": _Mask(causal=True, own_sequence=True),
    "own sequence only": _Mask(causal=False, own_sequence=True),
    "none": _Mask(causal=False, own_sequence=False),
}


class RowsExplorer(Panel):
    """Let sequences drop into rows, one after the other, and show the mask of a row.

    A row that is picked shows its mask.

    Args:
        lengths: (N,) integers, 1 to 16 sequences of 1 to 12 steps.
    Raises:
        TypeError, ValueError: `lengths` are not such integers.
    """

    def __init__(self, lengths: Tensor) -> None:
        check_lengths(lengths)
        if len(lengths) > 16 or int(lengths.max()) > 12:
            raise ValueError(
                f"lengths holds {len(lengths)} sequences of up to {int(lengths.max())} steps: give "
                "at most 16 of at most 12 steps, or the picture has no room for them."
            )
        self._lengths = lengths
        values = {
            "packer": "first-fit",
            "mask": "causal",
            "restart": False,
            "placed": len(lengths),
            "capacity": max(int(lengths.max()), 14),
            "pick": "0",
        }
        packed = {"packer": "best-fit decreasing"}
        apart = packed | {"mask": "causal, own sequence only"}
        tour = [
            Stop(
                "One sequence a row, as in a padded batch: what is hatched is wasted.",
                {"packer": "one sequence a row"},
            ),
            Stop(
                "Best-fit decreasing takes the longest first and fills the gaps with the short "
                "ones. Fewer rows hold the same sequences.",
                packed,
            ),
            Stop(
                "This mask is causal and lets each step attend only to its own sequence: where a "
                "row holds several, one triangle for each.",
                apart,
            ),
            Stop(
                "Now the positions start again at 0 with each sequence, too. Every step sees what "
                "it would see alone.",
                apart | {"restart": True},
            ),
        ]
        super().__init__(values, tour=tour)

    def controls_for(self, values: Mapping) -> list[Control]:
        return [
            Choice("packer", "Packer", tuple(_PACKERS)),
            Choice("mask", "Mask", tuple(_MASKS)),
            Tick("restart", "Positions start again at 0"),
            Slider("placed", "Placed", 1, len(self._lengths), small=True),
            Slider("capacity", "Steps a row, T", int(self._lengths.max()), 18, small=True),
            Cells("pick", "Rows"),
        ]

    def _order(self, packer: str) -> list[int]:
        """The indices of the sequences, in the order in which they are placed."""
        if _PACKERS[packer].longest_first:
            return self._lengths.argsort(stable=True, descending=True).tolist()
        return list(range(len(self._lengths)))

    def _rows(self, packer: str, placed: int, capacity: int) -> list[list[int]]:
        # These packers never move a sequence again: the first ones alone give the same rows.
        taken = self._order(packer)[:placed]
        rows = _PACKERS[packer].pack(self._lengths[taken], capacity)
        return [[taken[place] for place in row] for row in rows]

    def settle(self, before: dict, now: dict) -> dict:
        now = dict(now)
        rows = self._rows(now["packer"], now["placed"], now["capacity"])
        if now["placed"] != before["placed"]:
            newest = self._order(now["packer"])[now["placed"] - 1]
            now["pick"] = str(next(row for row, inside in enumerate(rows) if newest in inside))
        now["pick"] = now["pick"] or before["pick"]  # a slider or a tick takes the page's pick back
        if int(now["pick"]) >= len(rows):
            now["pick"] = "0"
        return now

    def draw(
        self, packer: str, mask: str, restart: bool, placed: int, capacity: int, pick: str
    ) -> tuple[Picture, str]:
        lengths, row = self._lengths.tolist(), int(pick)
        rows, waiting = self._rows(packer, placed, capacity), self._order(packer)[placed:]
        filled = fill_rows([torch.zeros(length) for length in lengths], rows, capacity)
        real = int((filled.document_id >= 0).sum())
        share = f"fill {real / (len(rows) * capacity):.0%}"
        count = "1 row" if len(rows) == 1 else f"{len(rows)} rows"
        facts = [f"{count}, {-(-real // capacity)} at least", share]
        left = row_pictures.filling(lengths, waiting, rows, capacity, row, facts)

        documents = filled.document_id[row]
        neighbours = documents if _MASKS[mask].own_sequence else torch.zeros_like(documents)
        attend = document_mask(neighbours[None], _MASKS[mask].causal)[0, 0]
        positions = filled.positions[row] if restart else torch.arange(capacity)
        right = row_pictures.row_mask(attend, documents, positions, row)

        steps = documents >= 0
        seen = attend & steps[:, None]  # what padding sees, nobody reads
        faults = {
            "steps attend to other sequences": seen & steps & (documents[:, None] != documents),
            "only the first sequence has the positions that it has alone": (
                steps & (positions != filled.positions[row])
            ),
            "steps see those after them": (seen & steps).triu(1),
            "steps attend to padding": seen & ~steps,
        }
        said = "; ".join(fault for fault, where in faults.items() if where.any())
        words = f"{packer.capitalize()}: {share} with {real} steps placed. "
        words += f"In row {row}, {said or 'every step sees what it would see alone'}."
        return row_pictures.beside(left, right), words
