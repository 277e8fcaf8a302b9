"""Exercises of chapter 07, Sequence packing for Transformers."""

from __future__ import annotations

import torch

from course_utils.exercises.engine import Exercise, edited, slip


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
            ([5], 5),
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


_LONGEST_FIRST = "lengths.argsort(descending=True, stable=True)"
_BEST = "min(fits, key=lambda row: free[row])"
_LAST_GIVEN = {_LONGEST_FIRST: "lengths.argsort(stable=True).flip(0)"}
_IN_ORDER = {f"{_LONGEST_FIRST}.tolist()": "range(len(lengths))"}
_TAKEN = "        free[row] -= length\n"

BEST_FIT = Exercise(
    id="07.1",
    title="Best fit, the longest first",
    minutes=10,
    notice="""
        The long sequences come first, while there is room; the short ones then fill the gaps.""",
    task="""
        Pack sequences of `lengths` (N,) into rows of `capacity` steps. Take the longest first (of
        equal ones, the first given). Of the rows in which it fits, choose the one with the *least*
        room left (of equal ones, the one opened first); if it fits in none, open a new one. No
        sequence is longer than a row. Return the rows in the order in which they were opened, each
        a list of sequence indices in the order in which they were put in.""",
    hints=(
        """Keep two lists: what is in each row, and how much room it has left.
        `lengths.argsort(descending=True, stable=True)` gives the order.""",
        """`fits = [row for row in range(len(rows)) if free[row] >= length]`, and then
        `min(fits, key=lambda row: free[row])`, if there is any.""",
    ),
    solution=best_fit,
    cases=_pack_cases,
    misconceptions=(
        slip("the first row that fits", {_BEST: "fits[0]"}).teach("""
            You took the first row with room. That is first-fit. Best fit takes the row with the
            least room left, which is then nearly full."""),
        slip("the row with the most room", {"min(": "max("}).teach("""
            You took the row with the *most* room. That spreads the gaps over all rows; fill the
            fullest row in which the sequence still fits."""),
        slip("in the order given", _IN_ORDER).teach("""
            You took the sequences in the order given. Take the long ones first, so that the short
            ones fill the gaps that they leave."""),
        slip(
            "in the order given, not best",
            _IN_ORDER | {_BEST: "fits[0]"},
            _IN_ORDER | {"min": "max"},
        ).teach("""
            You took the sequences in the order given, and did not choose the fullest row in which
            they fit. Take the longest first, and put each where the least room is left."""),
        slip("of equal rows, the last", {_BEST: _BEST.replace("fits", "fits[::-1]")}).teach("""
            Of rows with equally little room left you took the one opened last. It wastes no more
            room, but the task asks for the one opened first. In a loop, compare with `<`, not
            `<=`."""),
        slip(
            "of equal rows and lengths, the last",
            _LAST_GIVEN | {_BEST: _BEST.replace("fits", "fits[::-1]")},
        ).teach("""
            Of equally long sequences you took the one given last, and of rows with equally little
            room left the one opened last. It wastes no more room, but the task asks for the first
            of equal ones both times."""),
        slip("of equal lengths, the last", _LAST_GIVEN).teach("""
            Of equally long sequences you took the one given last. It wastes no more room, but the
            task asks for the one given first: an order that is turned round at the end turns
            equal ones round too. Use `descending=True, stable=True`."""),
        slip("the shortest first", {"descending=True, ": ""}).teach("""
            You began with the shortest, so nothing small is left to fill the gaps beside the long
            ones. Use `descending=True`."""),
        slip("only the last row", {"range(len(rows))": "range(len(rows))[-1:]"}).teach("""
            You looked at the last row only. An earlier one may still have room."""),
        slip("never quite full", {">= length": "> length"}).teach("""
            A sequence exactly as long as the room that is left does fit: `>=`."""),
        slip(
            "too full",
            {_TAKEN: ""},
            {_TAKEN + "    return": "    return", _BEST: f"{_BEST}\n    {_TAKEN.rstrip()}"},
        ).teach("""
            A row holds more than `capacity`. Subtract the length of each sequence from the room of
            its row, also when you open the row."""),
        slip("one sequence a row", {"if fits": "if False"}).teach("""
            Each sequence has a row of its own: that is padding. Look for a row with room before you
            open one."""),
        slip(
            "positions in place of indices",
            lambda lengths, capacity: best_fit(
                lengths.sort(descending=True, stable=True).values, capacity
            ),
        ).teach("""
            Those are positions in the *sorted* order. Return the indices of the sequences as they
            were given, or the caller cannot tell which sequences are meant."""),
        slip("lengths returned", {"append(index)": "append(length)"}).teach("""
            The rows are right, but you returned the lengths of their sequences: return sequence
            indices."""),
    ),
)


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
        [[0] * 10 + [1] * 2, [2] * 3 + [3] * 8 + [-1]],
        [[5] * 2 + [0] * 9 + [-1], [1] * 12],
        # Another row may use a number again, at another place.
        [[0, 0, 1, 1], [1, 0, 0, 0]],
        [[3, 0, 0, 0, 1, 1, -1], [1, 1, 1, 0, 0, 3, 3], [0, 3, 3, 3, 3, 1, -1]],
    ]
    return [(torch.tensor(row),) for row in rows]


def attend_own(document_id):
    same = document_id[:, :, None] == document_id[:, None, :]
    return same.tril()


_REAL = "(document_id >= 0)"

ATTEND_OWN = Exercise(
    id="07.2",
    title="The document mask",
    minutes=6,
    notice="""
        Padding attends only to padding, and every step attends to itself, so no row is empty and no
        softmax gives NaN.""",
    task="""
        `document_id` (R, T) holds the index of the sequence that each step belongs to, and -1 at
        padding. Return the causal mask, (R, T, T) bool, True = attend (`[:, None]` adds the heads
        for `scaled_dot_product_attention`): a step (second dimension) attends to itself and to
        earlier steps (third dimension) of its own sequence. Let padding attend to padding in the
        same way, so that no row of the mask is empty.""",
    hints=(
        """Two steps belong together where their ids are equal. How do you compare each step with
        every other, without a loop?""",
        """Compare `document_id[:, :, None] == document_id[:, None, :]`, and take `tril()` of the
        result.""",
    ),
    solution=attend_own,
    cases=_document_cases,
    axes="R T T",
    misconceptions=(
        slip("later steps too", {".tril()": ""}).teach("""
            Steps see later steps of their own sequence, so a model that predicts the next word can
            simply read it. Keep the lower triangle."""),
        slip("causal only", {"return same": "return torch.ones_like(same)"}).teach("""
            That is causal, but the second sequence of a row can see the first. Compare the ids
            too."""),
        slip("inverted", {"return same": "return ~same"}).teach("""
            Every entry is the opposite of what it should be: for this function True = attend
            (chapter 04)."""),
        slip(
            "padding has nothing to attend to",
            {".tril()": f".tril() & {_REAL}[:, :, None]"},
            {".tril()": f".tril() & {_REAL}[:, None, :]"},
        ).teach("""
            The real steps are right. But rows of padding are empty now, and an empty row gives NaN
            on some of the paths of chapter 04. Let padding attend to padding."""),
        slip("not itself", {".tril()": ".tril(-1)"}).teach("""
            A step may see itself. Otherwise the first step of each sequence has nothing to attend
            to. Use `tril()`, not `tril(-1)`."""),
        slip("the upper triangle", {".tril()": ".triu()"}).teach("""
            You kept the future and hid the past. The second dimension is the step that attends, and
            the third is the step attended to: `tril()`."""),
        slip("earlier documents too", {"==": ">="}).teach("""
            `>=` lets a sequence see those with smaller numbers. Use `==`, which lets it see only
            itself."""),
        slip("one step of the future", {".tril()": ".tril(1)"}).teach("""
            `tril(1)` keeps one diagonal above the main one, so each step sees the next one. Use
            `tril()`."""),
        slip("only the others", {"==": "!="}).teach("""
            Each step sees the *other* sequences, and not its own. Use `==` for its own."""),
        slip(
            "only the padding hidden",
            {"document_id[:,": f"{_REAL}[:,", "==": "&"},
        ).teach("""
            You hid the padding, but let all real steps see each other. Compare the ids themselves,
            not whether they are real."""),
    ),
)


def restarted_positions(document_id):
    place = torch.arange(document_id.shape[1]).expand_as(document_id)
    begins = torch.ones_like(document_id, dtype=torch.bool)
    begins[:, 1:] = document_id[:, 1:] != document_id[:, :-1]
    first = place.where(begins, 0).cummax(dim=1).values
    return (place - first).where(document_id >= 0, 0)


def _first_in_the_batch(document_id):
    positions = torch.zeros_like(document_id)
    for number in document_id[document_id >= 0].unique():
        rows, steps = (document_id == number).nonzero(as_tuple=True)
        positions[rows, steps] = steps - steps[0]
    return positions


def _counted_by_number(document_id):
    positions = torch.zeros_like(document_id)
    for number in document_id[document_id >= 0].unique():
        mine = document_id == number
        positions[mine] = torch.arange(int(mine.sum()))
    return positions


def _count_kept(document_id):
    positions, count = torch.zeros_like(document_id), 0
    for row, ids in enumerate(document_id.tolist()):
        for step, number in enumerate(ids):
            if step and number != ids[step - 1]:
                count = 0
            positions[row, step] = count if number >= 0 else 0
            count += 1
    return positions


_leftmost_in_the_batch = edited(_first_in_the_batch, {"steps[0]": "steps.min()"})

_OWN = "(document_id[:, :, None] == document_id[:, None, :])"
_EARLY = {"begins[:, 1:] =": "begins[:, :-1] ="}

POSITIONS = Exercise(
    id="07.3",
    title="Positions that start again",
    minutes=8,
    notice="""
        `cummax` carries the beginning of the current sequence along the row, so one call does the
        work of a loop over the steps.""",
    larger=lambda: (torch.randint(0, 2, (64, 200)).cumsum(1),),
    task="""
        `document_id` (R, T) holds the index of the sequence that each step belongs to; the steps
        of a sequence are next to each other, and another row may use its number again. Return
        `positions` (R, T): the position of each step in its own sequence, from 0. At padding (-1),
        give 0.""",
    hints=(
        """A loop over the steps does it: back to 0 wherever the id changes. Without a loop:
        subtract from `arange` the position where the sequence begins.""",
        """Mark where a sequence begins. `place.where(begins, 0).cummax(dim=1).values` carries the
        last beginning along. At the end, `.where(document_id >= 0, 0)`.""",
    ),
    solution=restarted_positions,
    cases=_document_cases,
    axes="R T",
    misconceptions=(
        slip("not reset", {"(place - first)": "place"}).teach("""
            The positions go on over the whole row, so the second sequence does not begin at 0.
            Start again where the id changes."""),
        slip(
            "a running sum without a reset", {"(place - first)": "(~begins).cumsum(dim=1)"}
        ).teach("""
            Your sum stays the same where a sequence begins, but does not go back to 0: the second
            sequence continues where the first one ended."""),
        slip(
            "not reset, padding too", {"(place - first).where(document_id >= 0, 0)": "place"}
        ).teach("""
            The positions go on over the whole row, including the padding. Start again where the id
            changes, and give 0 at padding."""),
        slip("padding counted", {".where(document_id >= 0, 0)": ""}).teach("""
            The real steps are right. But padding is counted too, and in a long row its positions
            may be larger than any that the model has learned. Give 0 there."""),
        slip(
            "from 1",
            {"(place - first)": "(place - first + 1)"},
            {"(place - first).where(document_id >= 0, 0)": "place - first + 1"},
        ).teach("""
            Each sequence begins at 1, but alone it begins at 0: every position is off by one."""),
        slip(
            "the number of the sequence",
            {"(place - first)": "(begins.cumsum(dim=1) - 1)"},
            {"(place - first)": "document_id"},
        ).teach("""
            This says *which* sequence of the row a step belongs to, not its position in it."""),
        slip(
            "reset one step early", _EARLY | {"torch.ones_like": "torch.zeros_like"}, _EARLY
        ).teach("""
            You reset at the *last* step of a sequence. The first step of the next sequence is the
            one that gets 0."""),
        slip(
            "one long row",
            lambda document_id: restarted_positions(document_id.flatten()[None]).view_as(
                document_id
            ),
            _counted_by_number,
            _count_kept,
            edited(_count_kept, {"step and number != ids[step - 1]": "False"}),
            edited(_count_kept, {"count += 1": "count += number >= 0"}),
            edited(
                _count_kept,
                {"step and number != ids[step - 1]": "False", "count += 1": "count += number >= 0"},
            ),
        ).teach("""
            Your count goes on from one row to the next. The rows are independent: begin again at
            0 in each of them."""),
        slip(
            "the first row for all",
            lambda document_id: restarted_positions(document_id[:1]).where(document_id >= 0, 0),
        ).teach("""
            Every row was given the positions of the first row, but the rows hold
            different sequences."""),
        slip("the first place in the batch", _first_in_the_batch, _leftmost_in_the_batch).teach("""
            You looked for the first place of each number in the whole batch. Another row may use
            the number again, at another place: look in each row by itself."""),
        slip("lengths in place of positions", {"(place - first)": f"{_OWN}.sum(2)"}).teach("""
            That is the length of the sequence, not how far along it the step is."""),
        slip("counted from the end", {"(place - first)": f"{_OWN}.triu(1).sum(2)"}).teach("""
            You counted the steps that are still to come. A position counts those before it."""),
    ),
)


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
            (
                [[3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8], [2, 7, 1, 8, 2, 8, 1, 8, 2, 8, 0, 0]],
                [[0] * 10 + [1] * 2, [2] * 3 + [3] * 7 + [-1] * 2],
            ),
            (
                [[8, 5, 3, 5, 6, 2, 9, 5, 1, 4, 1, 3], [0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6]],
                [[5] * 2 + [0] * 10, [1] * 12],
            ),
        ]
    ]


def targets_inside(content, document_id):
    targets = torch.full_like(content, -100)
    same = (document_id[:, 1:] == document_id[:, :-1]) & (document_id[:, 1:] >= 0)
    targets[:, :-1] = content[:, 1:].where(same, -100)
    return targets


_SAME_ID = "(document_id[:, 1:] == document_id[:, :-1])"
_BOUNDARY_CROSSED = {f"{_SAME_ID} & ": ""}


def _rolled_round(content, document_id):
    same = (document_id.roll(-1, dims=1) == document_id) & (document_id >= 0)
    return content.roll(-1, dims=1).where(same, -100)


TARGETS = Exercise(
    id="07.4",
    title="Labels that stay inside",
    minutes=8,
    notice="""
        The last step of each document has no target: the next token belongs to another
        document.""",
    larger=lambda: (torch.randint(0, 99, (64, 200)), torch.randint(0, 2, (64, 200)).cumsum(1)),
    task="""
        Each step is to predict the next one of its own sequence. `content` (R, T) holds word ids (0
        is a word too), `document_id` (R, T) the index of the sequence of each step, and -1 at
        padding. Return the targets (R, T): the next word, or -100, which `cross_entropy` ignores,
        where there is none: at the last step of each sequence, and at padding.""",
    hints=(
        """Shift by one: `targets[:, :-1] = content[:, 1:]`. At which steps is that a word of
        another sequence, or padding?""",
        """Keep it where `document_id[:, 1:] == document_id[:, :-1]` and the id is not -1. The rest
        is -100, the last column included.""",
    ),
    solution=targets_inside,
    cases=_target_cases,
    axes="R T",
    misconceptions=(
        slip("over the boundary", _BOUNDARY_CROSSED).teach("""
            The last step of a sequence is asked for the first word of the next sequence, which
            nobody can know. Ignore it."""),
        slip("nothing ignored", {".where(same, -100)": ""}).teach("""
            The labels are shifted, but nothing is ignored: sequences predict the first word of the
            next one, and padding is predicted as if it were words."""),
        slip("rolled", lambda content, document_id: content.roll(-1, dims=1)).teach("""
            `roll` moves the first word of the row to its end, and ignores nothing."""),
        slip(
            "rolled round the end",
            _rolled_round,
            edited(_rolled_round, {" & (document_id >= 0)": ""}),
        ).teach("""
            `roll` wraps round: the last step of a row is compared with its first, and where both
            belong to one sequence, it is asked for the first word of the row. The last column must
            be -100."""),
        slip(
            "the last step of a row has a label",
            {
                "    return": f"    targets[:, -1] = content[:, 0].where({_REAL}[:, -1], -100)\n"
                "    return"
            },
        ).teach("""
            Inside the row everything is right. But its last step is asked for a word too, although
            none follows it: give it -100."""),
        slip(
            "not shifted", lambda content, document_id: content.where(document_id >= 0, -100)
        ).teach("Each step is asked to predict itself, which it can see. Shift by one."),
        slip(
            "shifted the wrong way",
            {"targets[:, :-1] = content[:, 1:]": "targets[:, 1:] = content[:, :-1]"},
        ).teach("""
            Each step predicts the word *before* it, which it has already read."""),
        slip(
            "the first step ignored",
            _BOUNDARY_CROSSED
            | {"    return": f"    targets[:, 1:][~{_SAME_ID}] = -100\n    return"},
        ).teach("""
            You ignored the first step of each sequence. It has a next word; the *last* one has
            none."""),
        slip("0 in place of -100", {"-100": "0"}).teach("""
            0 is a word, so `cross_entropy` would ask for it. What it ignores is -100."""),
        slip(
            "0 taken for padding", {"return targets": "return targets.where(targets != 0, -100)"}
        ).teach("""
            You ignored every target 0. Where `document_id` says that a step is real, 0 is a
            word."""),
        slip("padding predicted", {" & (document_id[:, 1:] >= 0)": ""}).teach("""
            The boundaries between sequences are right. But padding is asked to predict padding: its
            id is -1 on both sides."""),
    ),
)

EXERCISES = [BEST_FIT, ATTEND_OWN, POSITIONS, TARGETS]
