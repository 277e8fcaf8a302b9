"""A batch padded, in rows and flat, and who attends to whom in the flat one (chapter 08)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from course_utils.batches.flat import flatten
from course_utils.batches.rows import best_fit_decreasing, fill_rows
from course_utils.panels.panel import Cells, Choice, Control, Panel, Slider, Stop, Tick
from course_utils.pictures import flat as flat_pictures
from course_utils.pictures.svg import LETTERS, Picture

_SEQUENCES = LETTERS[:5]
_LONGEST = 5


class _Mask(NamedTuple):
    own_sequence: bool
    causal: bool


_MASKS = {
    "own sequence only, causal": _Mask(own_sequence=True, causal=True),
    "own sequence only": _Mask(own_sequence=True, causal=False),
    "causal": _Mask(own_sequence=False, causal=True),
    "none": _Mask(own_sequence=False, causal=False),
}


class FlatExplorer(Panel):
    """Show a batch in three forms, with what keeps its sequences apart in the flat one.

    A step that is picked is marked in all three forms.

    Args:
        lengths: 1 to 5 lengths of 1 to 5 steps.
    Raises:
        ValueError: `lengths` are not such numbers.
    """

    def __init__(self, lengths: Sequence[int]) -> None:
        lengths = [int(length) for length in lengths]
        if not 1 <= len(lengths) <= len(_SEQUENCES) or not all(
            1 <= length <= _LONGEST for length in lengths
        ):
            raise ValueError(
                f"lengths is {lengths}: give 1 to {len(_SEQUENCES)} lengths from 1 to {_LONGEST}, "
                "or the picture has no room for them."
            )
        given = dict(zip(_SEQUENCES, [*lengths, *[0] * len(_SEQUENCES)], strict=False))
        mask = next(iter(_MASKS))
        tour = [
            Stop(
                "The same sequences in three forms. In the flat batch they stand one after the "
                "other without padding; cu_seqlens, under it, holds their borders."
            ),
            Stop(
                "The marked step is the first one of A, in all three forms. Compare the numbers of "
                "steps and of computed pairs.",
                {"pick": "A0"},
            ),
            Stop(
                "With a mask that is only causal, steps attend across the borders, to the "
                "sequences before their own. Those pairs are red.",
                {"mask": "causal"},
            ),
            Stop(
                "The mask is right again, but the positions run on over the borders: only the "
                "first sequence has those that it has alone.",
                {"restart": False},
            ),
        ]
        super().__init__({"mask": mask, "restart": True, **given, "pick": ""}, tour=tour)

    def controls_for(self, values: Mapping) -> list[Control]:
        return [
            Choice("mask", "Mask", tuple(_MASKS)),
            Tick("restart", "Positions start again at 0"),
            *(Slider(one, f"Length of {one}", 0, _LONGEST, small=True) for one in _SEQUENCES),
            Cells("pick", "Steps", "Pick a step to find it in all three forms."),
        ]

    def settle(self, before: dict, now: dict) -> dict:
        now = dict(now)
        if not any(now[one] for one in _SEQUENCES):
            now["A"] = 1  # a batch needs at least one sequence
        if now["pick"] and int(now["pick"][1:]) >= now[now["pick"][0]]:
            now["pick"] = ""
        return now

    def draw(self, mask: str, restart: bool, pick: str, **lengths: int) -> tuple[Picture, str]:
        kept = [index for index, one in enumerate(_SEQUENCES) if lengths[one]]
        sizes = [lengths[_SEQUENCES[index]] for index in kept]
        steps, T, S = [torch.zeros(size) for size in sizes], max(sizes), sum(sizes)
        padded = fill_rows(steps, [[i] for i in range(len(steps))], T)
        rows = fill_rows(steps, best_fit_decreasing(sizes, T), T)
        flat = flatten(steps)

        def named(document_id: Tensor) -> Tensor:  # by their letters, with those left out
            return torch.tensor([*kept, -1])[document_id]

        def facts(cells: int, pairs: int) -> list[str]:
            return [f"{cells} steps, {S} real", f"{pairs} pairs computed"]

        crossing = flat.document_id[:, None] != flat.document_id
        attend = torch.ones(S, S, dtype=torch.bool)
        attend = attend & ~crossing if _MASKS[mask].own_sequence else attend
        attend = attend.tril() if _MASKS[mask].causal else attend
        positions = flat.positions if restart else torch.arange(S)
        within = sum(size**2 for size in sizes)
        kept_pairs = int((attend & ~crossing).sum())
        computed = f"{within} pairs computed"
        if _MASKS[mask].own_sequence:
            computed += f", of which the mask keeps {kept_pairs}"
        chosen = (LETTERS.index(pick[0]), int(pick[1:])) if pick else None
        pictures = [
            flat_pictures.flat_line(
                flat.cu_seqlens,
                named(flat.document_id),
                positions,
                chosen,
                [*facts(S, within)[:1], computed],
            ),
            *(
                flat_pictures.rectangle(
                    title,
                    named(form.document_id),
                    chosen,
                    facts(form.document_id.numel(), form.document_id.numel() * T),
                )
                for title, form in {"Padded batch": padded, "Rows": rows}.items()
            ),
            flat_pictures.pairs_grid(
                attend,
                named(flat.document_id),
                "Attention in the flat batch",
                "queries down, keys to the right",
            ),
        ]
        faults = {
            "pairs cross a border": attend & crossing,
            "steps see those after them": attend.triu(1),
            "only the first sequence has the positions that it has alone": (
                positions != flat.positions
            ),
        }
        said = "; ".join(fault for fault, where in faults.items() if where.any())
        words = said or "every step sees what it would see alone"
        words = f"{words[0].upper()}{words[1:]}."
        if chosen:
            place = int(flat.cu_seqlens[kept.index(chosen[0])]) + chosen[1]
            words += f" Chosen: step {chosen[1]} of {pick[0]}, content[{place}] of the flat batch."
        return flat_pictures.in_a_line(pictures), words
