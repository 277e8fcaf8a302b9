"""The inside of a PackedSequence (chapter 02)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from course_utils.batches.packed import layout
from course_utils.panels.panel import Cells, Choice, Control, Panel, Slider, Stop
from course_utils.pictures.packed import packed_views
from course_utils.pictures.svg import LETTERS, Picture

_LETTERS = LETTERS[:6]
_SORTED, _AS_GIVEN = "sorted by length", "as given"
_OWN = "your own"


def _present(values: Mapping) -> dict[str, int]:
    """Letter -> length of each sequence that is in the batch."""
    return {letter: values[letter] for letter in _LETTERS if values[letter]}


class PackedExplorer(Panel):
    """Show the inside of a PackedSequence: padded grid, columns, memory, step by step.

    A cell that is picked is marked in all three views.

    Args:
        presets: name -> up to 6 lengths of 1 to 10 steps; the first is shown first, and can be
            walked through without a kernel.
    Raises:
        ValueError: there is no preset, or one has no or more than 6 lengths, or one not in 1..10.
    """

    def __init__(self, presets: Mapping[str, Sequence[int]]) -> None:
        if not presets:
            raise ValueError("presets is empty: give at least one name and its lengths.")
        for name, lengths in presets.items():
            if not 1 <= len(lengths) <= 6 or not all(1 <= length <= 10 for length in lengths):
                raise ValueError(
                    f"presets[{name!r}] is {list(lengths)}: give 1 to 6 lengths of 1..10."
                )
        self._presets = {
            name: dict(zip(_LETTERS, [*lengths, *[0] * 6], strict=False))
            for name, lengths in presets.items()
        }
        first, lengths = next(iter(self._presets.items()))
        values = {"batch": first, "order": _SORTED, "step": 0, **lengths, "pick": ""}
        steps = range(max(lengths.values()))
        walk = [values | {"order": o, "step": step} for o in (_SORTED, _AS_GIVEN) for step in steps]
        longest = max(lengths.values())
        tour = [
            Stop("At step 0 every sequence still has a step, so the LSTM runs on all the rows."),
            Stop(
                f"At step {longest - 1}, the last, only the longest sequence is left, and any that "
                "is as long. The LSTM runs on no other row, and sees no padding.",
                {"step": longest - 1},
            ),
            Stop(
                "In memory the steps lie column by column: all steps 0 first, then all steps 1. "
                "The marked cell is one step, in all three views.",
                {"step": lengths["A"] - 1, "pick": f"A{lengths['A'] - 1}"},
            ),
            Stop(
                "Here the rows stand in the order in which they were given. Packing sorted them, "
                "and unsorted_indices leads back.",
                {"order": _AS_GIVEN},
            ),
        ]
        super().__init__(values, walk, tour=tour)

    def controls_for(self, values: Mapping) -> list[Control]:
        return [
            Choice("batch", "Batch", (*self._presets, _OWN)),
            Choice("order", "Rows", (_SORTED, _AS_GIVEN)),
            Slider("step", "Time step", 0, max(_present(values).values()) - 1),
            *(Slider(letter, f"Length of {letter}", 0, 10, small=True) for letter in _LETTERS),
            Cells("pick", "Steps", invite="Pick a cell to find it in all three views."),
        ]

    def settle(self, before: dict, now: dict) -> dict:
        now = dict(now)
        if now["batch"] != before["batch"] and now["batch"] != _OWN:
            now |= self._presets[now["batch"]]
        elif now["batch"] != _OWN and _present(now) != _present(self._presets[now["batch"]]):
            now["batch"] = _OWN
        if not _present(now):
            now["A"] = 1  # a batch needs at least one sequence
        lengths = _present(now)
        if now["pick"] != before["pick"] and now["pick"]:
            now["step"] = int(now["pick"][1:])
        now["step"] = min(now["step"], max(lengths.values()) - 1)
        if now["pick"] and int(now["pick"][1:]) >= lengths.get(now["pick"][0], 0):
            now["pick"] = ""
        return now

    def draw(
        self, batch: str, order: str, step: int, pick: str, **lengths_by_letter: int
    ) -> tuple[Picture, str]:
        present = _present(lengths_by_letter)
        names, lengths = list(present), list(present.values())
        found = layout(torch.tensor(lengths))
        chosen = (names.index(pick[0]), int(pick[1:])) if pick else None
        picture = packed_views(
            lengths,
            found,
            step=step,
            ids=[LETTERS.index(name) for name in names],
            in_sorted_order=order == _SORTED,
            chosen=chosen,
        )
        alive = int(found.packed.batch_sizes[step])
        words = f"Step t={step}: the LSTM runs on {alive} of {len(names)} rows. "
        ended = [name for name, length in present.items() if length <= step]
        words += f"Already ended: {', '.join(ended)}. " if ended else "None has ended yet. "
        if chosen:
            place = int(found.places[chosen])
            rank = int(found.packed.unsorted_indices[chosen[0]])
            words += f"Chosen: data[{place}] is step {chosen[1]} of sequence {pick[0]}, row "
            words += f"{chosen[0]} of the padded batch, row {rank} after sorting."
        return picture, words.strip()
