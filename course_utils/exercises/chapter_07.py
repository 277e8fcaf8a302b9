"""Exercises of chapter 07, Sequence packing for Transformers."""

from __future__ import annotations

import torch

from course_utils.exercises.engine import Exercise, Misconception


def _pack_cases():
    return [
        (torch.tensor(lengths), capacity)
        for lengths, capacity in [
            ([1, 2], 4),
            ([1, 2, 3], 4),
            ([2, 3, 1, 2], 4),
            ([1, 3, 2, 2, 4], 5),
            ([2, 5, 8, 5], 12),
            ([3, 2, 5, 2, 4, 3, 1], 7),
            ([5, 3, 6, 2, 2, 4, 4, 1, 1], 8),
            ([2, 4, 8, 4, 7, 3, 5, 10, 3, 9, 5, 9], 14),
            ([3, 2, 7, 5, 1, 2, 10, 3, 8, 1, 7, 6], 14),
            # Of so many equal ones, a sort that is not stable mixes up some.
            ([3, 1, 2] * 8, 6),
        ]
    ]


def best_fit(lengths, capacity):
    rows, free = [], []
    for index in lengths.argsort(descending=True, stable=True).tolist():
        length = int(lengths[index])
        fits = [row for row in range(len(rows)) if free[row] >= length]
        if fits:
            row = min(fits, key=lambda row: free[row])
        else:
            row = len(rows)
            rows.append([])
            free.append(capacity)
        rows[row].append(index)
        free[row] -= length
    return rows


def _packer(order=None, choose=min, fits=lambda space, length: space >= length):
    """Make an answer that takes the sequences in another order, or chooses another row."""

    def answer(lengths, capacity):
        rows, free = [], []
        every = range(len(lengths)) if order is None else order(lengths).tolist()
        for index in every:
            length = int(lengths[index])
            good = [row for row in range(len(rows)) if fits(free[row], length)]
            row = choose(good, key=lambda row: free[row]) if good else len(rows)
            if not good:
                rows.append([])
                free.append(capacity)
            rows[row].append(index)
            free[row] -= length
        return rows

    return answer


def _longest_first(lengths):
    return lengths.argsort(descending=True, stable=True)


def _first(rows, key):
    return rows[0]


def _next_fit(lengths, capacity):
    rows, free = [], 0
    for index in _longest_first(lengths).tolist():
        if int(lengths[index]) > free:
            rows.append([])
            free = capacity
        rows[-1].append(index)
        free -= int(lengths[index])
    return rows


def _places_for_numbers(lengths, capacity):
    return best_fit(lengths.sort(descending=True, stable=True).values, capacity)


def _lengths_returned(lengths, capacity):
    return [lengths[row].tolist() for row in best_fit(lengths, capacity)]


def _room_not_taken(lengths, capacity):
    rows, free = [], []
    for index in _longest_first(lengths).tolist():
        length = int(lengths[index])
        fits = [row for row in range(len(rows)) if free[row] >= length]
        if fits:
            rows[min(fits, key=lambda row: free[row])].append(index)
        else:
            rows.append([index])
            free.append(capacity)
    return rows


def _room_of_the_first_not_taken(lengths, capacity):
    rows, free = [], []
    for index in _longest_first(lengths).tolist():
        length = int(lengths[index])
        fits = [row for row in range(len(rows)) if free[row] >= length]
        if fits:
            row = min(fits, key=lambda row: free[row])
            rows[row].append(index)
            free[row] -= length
        else:
            rows.append([index])
            free.append(capacity)
    return rows


def _never_a_second(lengths, capacity):
    return [[index] for index in _longest_first(lengths).tolist()]


def _document_cases():
    rows = [
        [[0, 0]],
        [[0, 1]],
        [[0, 0, 1]],
        [[0, 0, -1]],
        [[0, 0, 0], [0, 0, 1]],
        [[2, 2, 0, 0, 0, 1]],
        [[0, 0, 1, 1, 1, -1, -1], [2, 3, 3, 3, 3, 3, -1]],
        [[4, 4, 4, 4, 1, 1, 1, 1], [0, 2, 2, 3, 3, 3, 3, -1], [5, 5, 5, -1, -1, -1, -1, -1]],
    ]
    return [(torch.tensor(row),) for row in rows]


def attend_own(document_id):
    same = document_id[:, :, None] == document_id[:, None, :]
    return same.tril()


def _later_steps_too(document_id):
    return document_id[:, :, None] == document_id[:, None, :]


def _causal_only(document_id):
    R, T = document_id.shape
    return torch.ones(R, T, T, dtype=torch.bool).tril()


def _inverted(document_id):
    return ~attend_own(document_id)


def _empty_rows(document_id):
    return attend_own(document_id) & (document_id >= 0)[:, :, None]


def _not_itself(document_id):
    return _later_steps_too(document_id).tril(-1)


def _later_steps_only(document_id):
    return _later_steps_too(document_id).triu()


def _earlier_documents(document_id):
    return (document_id[:, :, None] >= document_id[:, None, :]).tril()


def _padding_hidden_only(document_id):
    real = document_id >= 0
    return (real[:, :, None] & real[:, None, :]).tril()


def positions_anew(document_id):
    place = torch.arange(document_id.shape[1]).expand_as(document_id)
    begins = torch.ones_like(document_id, dtype=torch.bool)
    begins[:, 1:] = document_id[:, 1:] != document_id[:, :-1]
    first = place.where(begins, 0).cummax(dim=1).values
    return (place - first).where(document_id >= 0, 0)


def _not_reset(document_id):
    return torch.arange(document_id.shape[1]).where(document_id >= 0, 0)


def _padding_counted(document_id):
    same = document_id[:, :, None] == document_id[:, None, :]
    return same.tril(-1).sum(dim=2)


def _from_one(document_id):
    return (positions_anew(document_id) + 1).where(document_id >= 0, 0)


def _which_document(document_id):
    begins = torch.ones_like(document_id)
    begins[:, 1:] = document_id[:, 1:] != document_id[:, :-1]
    return (begins.cumsum(dim=1) - 1).where(document_id >= 0, 0)


def _one_late(document_id):
    place = torch.arange(document_id.shape[1]).expand_as(document_id)
    ends = torch.zeros_like(document_id, dtype=torch.bool)
    ends[:, :-1] = document_id[:, 1:] != document_id[:, :-1]
    late = place - place.where(ends, 0).cummax(dim=1).values
    return late.where(document_id >= 0, 0)


def _over_all_rows(document_id):
    flat = document_id.flatten()[None]
    return positions_anew(flat).reshape(document_id.shape)


def _first_row_for_all(document_id):
    return positions_anew(document_id[:1]).where(document_id >= 0, 0)


def _how_long(document_id):
    same = document_id[:, :, None] == document_id[:, None, :]
    return same.sum(dim=2).where(document_id >= 0, 0)


def _steps_left(document_id):
    same = document_id[:, :, None] == document_id[:, None, :]
    return same.triu(1).sum(dim=2).where(document_id >= 0, 0)


def _target_cases():
    return [
        (torch.tensor(content), torch.tensor(documents))
        for content, documents in [
            ([[5, 6]], [[0, 0]]),
            ([[5, 6, 7]], [[0, 0, 0]]),
            ([[5, 6, 7, 8]], [[0, 0, 1, 1]]),
            ([[5, 6, 0, 0]], [[0, 0, -1, -1]]),
            ([[5, 0, 7, 8, 9]], [[0, 0, 0, 1, 1]]),
            ([[3, 1, 4, 1, 5, 9, 0, 0]], [[2, 2, 0, 1, 1, 1, -1, -1]]),
            (
                [[2, 7, 1, 8, 2, 8], [1, 8, 0, 0, 4, 0]],
                [[0, 0, 0, 0, 3, 3], [1, 1, 1, 2, 2, -1]],
            ),
        ]
    ]


def targets_inside(content, document_id):
    targets = torch.full_like(content, -100)
    same = (document_id[:, 1:] == document_id[:, :-1]) & (document_id[:, 1:] >= 0)
    targets[:, :-1] = content[:, 1:].where(same, -100)
    return targets


def _shifted(content, fill):
    targets = torch.full_like(content, fill)
    targets[:, :-1] = content[:, 1:]
    return targets


def _over_the_boundary(content, document_id):
    targets = _shifted(content, -100)
    following = torch.full_like(document_id, -1)
    following[:, :-1] = document_id[:, 1:]
    return targets.where(following >= 0, -100)


def _nothing_ignored(content, document_id):
    return _shifted(content, -100)


def _rolled(content, document_id):
    return content.roll(-1, dims=1)


def _not_shifted(content, document_id):
    return content.where(document_id >= 0, -100)


def _shifted_back(content, document_id):
    same = (document_id[:, 1:] == document_id[:, :-1]) & (document_id[:, 1:] >= 0)
    targets = torch.full_like(content, -100)
    targets[:, 1:] = content[:, :-1].where(same, -100)
    return targets


def _first_step_ignored(content, document_id):
    targets = _over_the_boundary(content, document_id)
    targets[:, 1:][document_id[:, 1:] != document_id[:, :-1]] = -100
    return targets


def _zeros_for_ignored(content, document_id):
    targets = targets_inside(content, document_id)
    return targets.where(targets >= 0, 0)


def _zero_is_padding(content, document_id):
    targets = targets_inside(content, document_id)
    return targets.where(targets != 0, -100)


def _padding_predicted(content, document_id):
    targets = _shifted(content, -100)
    targets[:, :-1][document_id[:, 1:] != document_id[:, :-1]] = -100
    return targets


EXERCISES = [
    Exercise(
        id="07.1",
        title="Best fit, the longest first",
        minutes=10,
        task=(
            "Pack sequences of `lengths` (N,) into rows of `capacity` steps. Take the longest "
            "first (of equal ones, the first given). Of the rows in which it fits, take the one "
            "with the *least* room left (of equal ones, the one opened first); where it fits in "
            "none, open a new one. No sequence is longer than a row. Return the rows in the order "
            "they were opened, each a list of the sequences' numbers in the order they were put in."
        ),
        hints=(
            "Keep two lists: what is in each row, and how much room it has left. "
            "`lengths.argsort(descending=True, stable=True)` gives the order.",
            "`fits = [row for row in range(len(rows)) if free[row] >= length]`, and then "
            "`min(fits, key=lambda row: free[row])`, if there is any.",
        ),
        solution=best_fit,
        cases=_pack_cases,
        misconceptions=(
            Misconception(
                "the first row that fits",
                _packer(_longest_first, _first),
                "You took the first row with room. That is first-fit; the best fit is the row "
                "that has the least room left, and is nearly full then.",
            ),
            Misconception(
                "the row with the most room",
                _packer(_longest_first, max),
                "You took the row with the *most* room. That spreads the gaps over all rows; fill "
                "the fullest that still fits.",
            ),
            Misconception(
                "in the order given",
                _packer(None, min),
                "You took the sequences in the order given. The long ones come first, and the "
                "short ones fill the gaps they leave.",
            ),
            Misconception(
                "in the order given, not best",
                _packer(None, _first),
                "You took the sequences in the order given, and not into the fullest row that "
                "fits. The longest first, each where the least room is left.",
                also=(_packer(None, max),),
            ),
            Misconception(
                "the shortest first",
                _packer(lambda lengths: lengths.argsort(stable=True), min),
                "You began with the shortest: nothing small is left to fill the gaps beside the "
                "long ones. `descending=True`.",
            ),
            Misconception(
                "only the last row",
                _next_fit,
                "You looked at the last row only. An earlier one may still have room.",
            ),
            Misconception(
                "never quite full",
                _packer(_longest_first, min, lambda space, length: space > length),
                "A sequence as long as the room that is left fits: `>=`.",
            ),
            Misconception(
                "too full",
                _room_not_taken,
                "A row holds more than `capacity`. Take each sequence off its row's room, also "
                "when you open the row.",
                also=(_room_of_the_first_not_taken,),
            ),
            Misconception(
                "one sequence a row",
                _never_a_second,
                "Each sequence has a row of its own: that is padding. Look for a row with room "
                "before you open one.",
            ),
            Misconception(
                "places in place of numbers",
                _places_for_numbers,
                "Those are places in the *sorted* order. Return the sequences' own numbers, or "
                "they cannot be found again.",
            ),
            Misconception(
                "lengths returned",
                _lengths_returned,
                "Right rows, but you returned the lengths in them: give numbers of sequences.",
            ),
        ),
    ),
    Exercise(
        id="07.2",
        title="The document mask",
        minutes=6,
        task=(
            "`document_id` (R, T) holds the number of the sequence that each step belongs to, and "
            "-1 at padding. Return the causal mask, (R, T, T) bool, True = attend (`[:, None]` "
            "adds the heads for `scaled_dot_product_attention`): a step (second dimension) attends "
            "to itself and to earlier steps (third dimension) of its own sequence. Let padding "
            "attend to padding in the same way, so that no row of the mask is empty."
        ),
        hints=(
            "Two steps belong together where their ids are equal. How do you compare each step "
            "with each, without a loop?",
            "`document_id[:, :, None] == document_id[:, None, :]`, and of that the `tril()`.",
        ),
        solution=attend_own,
        cases=_document_cases,
        misconceptions=(
            Misconception(
                "later steps too",
                _later_steps_too,
                "Steps see those after them, in their own sequence: a model that predicts the next "
                "word reads it off. Keep the lower triangle.",
            ),
            Misconception(
                "causal only",
                _causal_only,
                "That is causal, but the second sequence in a row sees the first: the neighbours "
                "talk. Compare the ids too.",
            ),
            Misconception(
                "inverted",
                _inverted,
                "Every entry is the wrong way round: for this function True = attend (chapter 04).",
            ),
            Misconception(
                "padding has nothing to attend to",
                _empty_rows,
                "Right at the real steps. But rows of padding are empty now, and an empty row is "
                "NaN on some of the roads of chapter 04. Let padding attend to padding.",
                also=(
                    lambda document_id: attend_own(document_id) & (document_id >= 0)[:, None, :],
                ),
            ),
            Misconception(
                "not itself",
                _not_itself,
                "A step may see itself: without it, the first step of each sequence has nothing to "
                "attend to. `tril()`, not `tril(-1)`.",
            ),
            Misconception(
                "the upper triangle",
                _later_steps_only,
                "You kept the future and hid the past: the second dimension asks, the third is "
                "asked. `tril()`.",
            ),
            Misconception(
                "earlier documents too",
                _earlier_documents,
                "`>=` lets a sequence see those with smaller numbers. Own means `==`.",
            ),
            Misconception(
                "only the padding hidden",
                _padding_hidden_only,
                "You hid the padding, and let all real steps see each other. Compare the ids "
                "themselves, not whether they are real.",
            ),
        ),
    ),
    Exercise(
        id="07.3",
        title="Positions that start anew",
        minutes=8,
        task=(
            "`document_id` (R, T) holds the number of the sequence that each step belongs to; the "
            "steps of a sequence stand together, and another row may use its number again. Return "
            "`positions` (R, T): the place of each step in its own sequence, from 0. At padding "
            "(-1), give 0."
        ),
        hints=(
            "A loop over the steps does it: back to 0 wherever the id changes. Without a loop: "
            "`arange` minus the place where the own sequence begins.",
            "Mark where a sequence begins. `place.where(begins, 0).cummax(dim=1).values` carries "
            "the place of the last beginning along. At the end, `.where(document_id >= 0, 0)`.",
        ),
        solution=positions_anew,
        cases=_document_cases,
        misconceptions=(
            Misconception(
                "not reset",
                _not_reset,
                "The positions run on over the whole row: the second sequence begins in the middle "
                "of nowhere. Start anew where the id changes.",
            ),
            Misconception(
                "not reset, padding too",
                lambda document_id: torch.arange(document_id.shape[1]).expand_as(document_id),
                "The positions run on over the whole row, the padding too. Start anew where the id "
                "changes, and give 0 at padding.",
            ),
            Misconception(
                "padding counted",
                _padding_counted,
                "Right at the real steps. But padding is counted too, and in a long row its "
                "positions may be more than the model has learned. Give 0 there.",
            ),
            Misconception(
                "from 1",
                _from_one,
                "Each sequence begins at 1, but alone it begins at 0: every position is one off.",
            ),
            Misconception(
                "the number of the sequence",
                _which_document,
                "Those say *which* sequence in the row a step belongs to, not its place in it.",
                also=(lambda document_id: document_id.where(document_id >= 0, 0),),
            ),
            Misconception(
                "reset one step early",
                _one_late,
                "You reset at the *last* step of a sequence; the first of the next one is 0.",
            ),
            Misconception(
                "one long row",
                _over_all_rows,
                "You counted on from the end of one row to the next. Each row stands alone: "
                "`dim=1`.",
            ),
            Misconception(
                "the first row for all",
                _first_row_for_all,
                "Every row was given the positions of the first one. They hold other sequences.",
            ),
            Misconception(
                "lengths in place of positions",
                _how_long,
                "That is how long the own sequence is, not how far along it the step stands.",
            ),
            Misconception(
                "counted from the end",
                _steps_left,
                "You counted the steps that are still to come. A position counts those before.",
            ),
        ),
    ),
    Exercise(
        id="07.4",
        title="Labels that stay inside",
        minutes=8,
        task=(
            "Each step is to predict the next one of its own sequence. `content` (R, T) holds word "
            "numbers (0 is a word too), `document_id` (R, T) the number of each step's sequence, "
            "and -1 at padding. Return the targets (R, T): the next word, or -100, which "
            "`cross_entropy` ignores, where there is none: at the last step of each sequence, and "
            "at padding."
        ),
        hints=(
            "Shift by one: `targets[:, :-1] = content[:, 1:]`. At which steps is that the word of "
            "another sequence, or of none?",
            "Keep it where `document_id[:, 1:] == document_id[:, :-1]` and the id is not -1; the "
            "rest is -100, the last column too.",
        ),
        solution=targets_inside,
        cases=_target_cases,
        misconceptions=(
            Misconception(
                "over the boundary",
                _over_the_boundary,
                "The last step of a sequence is asked for the first word of its neighbour, which "
                "nobody can know. Ignore it.",
            ),
            Misconception(
                "nothing ignored",
                _nothing_ignored,
                "Shifted, and nothing ignored: sequences predict their neighbours, and padding is "
                "predicted as if it were words.",
            ),
            Misconception(
                "rolled",
                _rolled,
                "`roll` brings the first word of the row back at its end, and ignores nothing.",
            ),
            Misconception(
                "not shifted",
                _not_shifted,
                "Each step is to predict itself, and it can see itself. Shift by one.",
            ),
            Misconception(
                "shifted the wrong way",
                _shifted_back,
                "Each step predicts the word *before* it, which it has already read.",
            ),
            Misconception(
                "the first step ignored",
                _first_step_ignored,
                "You ignored the first step of each sequence. It has a next word; the *last* one "
                "has none.",
            ),
            Misconception(
                "0 in place of -100",
                _zeros_for_ignored,
                "0 is a word: `cross_entropy` would ask for it. What it ignores is -100.",
            ),
            Misconception(
                "0 taken for padding",
                _zero_is_padding,
                "You ignored every target 0. Where `document_id` says it is real, 0 is a word.",
            ),
            Misconception(
                "padding predicted",
                _padding_predicted,
                "Right at the boundaries between sequences, but padding is asked to predict "
                "padding. Its id is -1 on both sides.",
            ),
        ),
    ),
]
