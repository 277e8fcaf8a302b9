"""The live panel of chapter 07: sequences drop into rows, and the mask that keeps them apart."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from course_utils import row_plots
from course_utils.checks import check_lengths
from course_utils.rows import best_fit_decreasing, document_mask, fill_rows, first_fit
from course_utils.svg import Picture
from course_utils.widgets import Panel


def _one_each(lengths: Tensor, capacity: int) -> list[list[int]]:
    return [[index] for index in range(len(lengths))]


_PACKERS = {
    "one sequence a row": _one_each,
    "first-fit": first_fit,
    "best-fit decreasing": best_fit_decreasing,
}
_MASKS = ("causal", "causal, own sequence only", "own sequence only", "none")


def packing_explorer(lengths: Tensor) -> Panel:
    """Let sequences drop into rows, one after the other, and show the mask of a row.

    Args:
        lengths: (N,) integers, 1 to 16 sequences of 1 to 12 steps.
    Returns:
        Panel: a choice of packer and of mask, a box for positions that start anew, sliders for T
        and for the sequences placed so far; a row that is picked shows its mask.
    Raises:
        TypeError, ValueError: `lengths` are no such integers.
    """
    check_lengths(lengths)
    if len(lengths) > 16 or int(lengths.max()) > 12:
        raise ValueError(
            f"lengths holds {len(lengths)} sequences of up to {int(lengths.max())} steps: give at "
            "most 16 of at most 12 steps, or the picture has no room for them."
        )
    sequences = [torch.zeros(length) for length in lengths.tolist()]

    def order_of(values: Mapping) -> list[int]:
        if values["packer"] == "best-fit decreasing":
            return lengths.argsort(stable=True, descending=True).tolist()
        return list(range(len(lengths)))

    def rows_of(values: Mapping) -> list[list[int]]:
        # These packers never move a sequence again: the first ones alone give the same rows.
        taken = order_of(values)[: values["placed"]]
        rows = _PACKERS[values["packer"]](lengths[taken], values["capacity"])
        return [[taken[place] for place in row] for row in rows]

    def settle(before: dict, now: dict) -> dict:
        now, rows = dict(now), rows_of(now)
        if now["placed"] != before["placed"]:
            newest = order_of(now)[now["placed"] - 1]
            now["pick"] = str(next(row for row, inside in enumerate(rows) if newest in inside))
        now["pick"] = now["pick"] or before["pick"]  # a slider or a tick takes the page's pick back
        if int(now["pick"]) >= len(rows):
            now["pick"] = "0"
        return now

    def draw(**values: object) -> tuple[Picture, str]:
        rows, capacity, row = rows_of(values), values["capacity"], int(values["pick"])
        filled = fill_rows(sequences, rows, capacity)
        real = int((filled.document_id >= 0).sum())
        share = real / (len(rows) * capacity)
        least = -(-real // capacity)
        count = "1 row" if len(rows) == 1 else f"{len(rows)} rows"
        facts = [f"{count}, {least} at least", f"fill {share:.0%}"]
        left = row_plots.filling(
            lengths.tolist(), order_of(values)[values["placed"] :], rows, capacity, row, facts
        )
        causal = values["mask"].startswith("causal")
        own = values["mask"].endswith("own sequence only")
        documents = filled.document_id[row]
        neighbours = documents if own else torch.zeros_like(documents)
        attend = document_mask(neighbours[None], causal)[0, 0]
        positions = filled.positions[row] if values["anew"] else torch.arange(capacity)
        right = row_plots.row_mask(attend, documents, positions, row)
        steps = documents >= 0
        seen = attend & steps[:, None]  # what padding sees, nobody reads
        words = f"{values['packer'].capitalize()}: fill {share:.0%} with {real} steps placed. "
        faults = {
            "steps attend to other sequences": seen & steps & (documents[:, None] != documents),
            "only the first sequence has the positions that it has alone": (
                steps & (positions != filled.positions[row])
            ),
            "steps see those after them": (seen & steps).triu(1),
            "steps attend to padding": seen & ~steps,
        }
        said = "; ".join(fault for fault, where in faults.items() if where.any())
        said = said or "every step sees what it would see alone"
        return row_plots.beside(left, right), f"{words}In row {row}, {said}."

    longest = int(lengths.max())
    small = {"unit": "", "step": 1, "small": True}
    controls = [
        {"name": "packer", "label": "Packer", "options": list(_PACKERS)},
        {"name": "mask", "label": "Mask", "options": list(_MASKS)},
        {"name": "anew", "label": "Positions start anew", "check": True},
        {"name": "placed", "label": "Placed", "min": 1, "max": len(lengths)} | small,
        {"name": "capacity", "label": "Steps a row, T", "min": longest, "max": 18} | small,
    ]
    values = {
        "packer": "first-fit",
        "mask": "causal",
        "anew": False,
        "placed": len(lengths),
        "capacity": max(longest, 14),
        "pick": "0",
    }
    return Panel(draw, controls, values, settle=settle)
