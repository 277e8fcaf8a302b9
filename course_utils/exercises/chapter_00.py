"""Exercises of chapter 00, Start here."""

from __future__ import annotations

import torch
from torch import nn

from course_utils.batches.masks import lengths_to_keep_mask, masked_mean
from course_utils.batches.padding import pad
from course_utils.exercises.cases import filled, ragged, random_sequences
from course_utils.exercises.engine import Exercise, slip


def _real_mean(padded, lengths):
    return masked_mean(padded, lengths_to_keep_mask(lengths, padded.shape[1]))


class _Model(nn.Module):
    """A module around a function, so that `model.eval()` works on it as on any model."""

    def __init__(self, name, function):
        super().__init__()
        self.__name__, self.function = name, function

    def forward(self, padded, lengths):
        return self.function(padded, lengths)


def _longest_first(padded, lengths):
    return _real_mean(padded, lengths)[lengths.argsort(descending=True, stable=True)]


def _sum_and_count(padded, lengths):
    return torch.cat([padded.sum(1), torch.full((len(padded), 1), float(padded.shape[1]))], dim=1)


_MODELS = [
    _Model("mean over real steps", _real_mean),
    _Model("mean over T", lambda padded, lengths: padded.mean(1)),
    _Model("last column", lambda padded, lengths: padded[:, -1]),
    _Model("rows in another order", _longest_first),
    # A rounding error that grows with T: equal in every sense but the last bits.
    _Model("rounded", lambda p, lengths: _real_mean(p, lengths) * (1 + 1e-7 * p.shape[1])),
    # The same for numbers near 0, where 1e-5 must not be taken relative to them.
    _Model("rounded near 0", lambda p, lengths: _real_mean(p, lengths) * 0 + 1e-7 * p.shape[1]),
    _Model("slightly off", lambda p, lengths: _real_mean(p, lengths) + 1e-4 * p.shape[1]),
    _Model("sum, and T", _sum_and_count),
]


def _model_cases():
    shapes = ragged([2, 2], [2, 1], [1, 3], [3, 1], [2, 4, 1], [5, 2, 5])
    return [
        (model, random_sequences(10 * i + j, lengths))
        for i, lengths in enumerate(shapes)
        for j, model in enumerate(_MODELS)
    ]


def agrees(model, sequences):
    together = model(*pad(sequences))
    alone = torch.cat([model(*pad([sequence])) for sequence in sequences])
    return torch.allclose(together, alone, atol=1e-5)


def _rows_with_padding(model, sequences):
    padded, lengths = pad(sequences)
    rows = [model(padded[i : i + 1], lengths[i : i + 1]) for i in range(len(sequences))]
    return torch.allclose(model(padded, lengths), torch.cat(rows), atol=1e-5)


_CLOSE = "torch.allclose(together, alone, atol=1e-5)"

BY_HAND = Exercise(
    id="00.1",
    title="Together equals alone, by hand",
    minutes=8,
    notice="""
        Nothing in the oracle depends on what the model does inside, so the same lines test any
        model that takes `padded, lengths`.""",
    task="""
        Write the oracle. `model(padded, lengths)` returns one row of outputs for each sequence, and
        `pad(sequences)` returns `padded, lengths`. Return `True` if every number that the model
        gives for a sequence in the batch is equal, up to rounding, to the number that it gives for
        the same sequence alone, and `False` otherwise. An absolute difference of up to 1e-5 counts
        as rounding.""",
    hints=(
        "`pad` also takes a list with one sequence, and then adds no padding.",
        """Run the model once on all sequences and once on each of them, join the rows with
        `torch.cat`, and compare with `torch.allclose(..., atol=1e-5)`.""",
    ),
    solution=agrees,
    cases=_model_cases,
    misconceptions=(
        slip("only one sequence compared", {"(together, alone": "(together[0], alone[0]"}).teach("""
            The first sequence may be the longest, and then it had no padding. Compare every
            row."""),
        slip("alone, but with its padding", _rows_with_padding).teach("""
            You ran the rows of the padded batch one by one, so each still had its padding. Alone
            means without padding: `pad([sequence])`."""),
        slip(
            "equal to the last bit",
            {"allclose(together, alone, atol=1e-5)": "equal(together, alone)"},
        ).teach("""
            In a batch, numbers may be added in another order, so rounding can differ in the last
            bits. Allow for it: `torch.allclose(..., atol=1e-5)`."""),
        slip("averages compared", {"(together, alone": "(together.mean(), alone.mean()"}).teach("""
            Two wrong rows can have the right mean, for example when a model returns the rows in
            another order. Compare row by row."""),
        slip(
            "always True",
            {_CLOSE: "together.shape == alone.shape"},
        ).teach("""
            Your function says `True` every time. Comparing shapes does that, because padding
            changes the numbers, but hardly ever the shape. Compare the values."""),
        slip(
            "no absolute value",
            {_CLOSE: "bool((together - alone).max() <= 1e-5)"},
            {_CLOSE: "bool((alone - together).max() <= 1e-5)"},
        ).teach("""
            A difference can be negative, and a negative one is never above 1e-5. Take the absolute
            value first: `(together - alone).abs()`."""),
        slip("stacked, not joined", {"torch.cat": "torch.stack"}).teach("""
            `torch.stack` adds a dimension. Comparing (B, 1, H) with (B, H) broadcasts, so every row
            is compared with every other row. Use `torch.cat`."""),
        slip(
            "only the shortest compared",
            {
                "return": "row = min(range(len(sequences)), key=lambda i: len(sequences[i]))\n"
                "    return",
                "(together, alone": "(together[row], alone[row]",
            },
        ).teach("""
            The shortest sequence has the most padding, but a model can also mix up the rows.
            Compare them all."""),
        slip("no tolerance near 0", {", atol=1e-5": ""}).teach("""
            By default, `allclose` allows a difference in proportion to the numbers. Close to 0 that
            is almost nothing, so even rounding counts as a difference. Pass `atol=1e-5`."""),
        slip(
            "too much allowed",
            {"atol=1e-5": "atol=1e-2"},
            {"atol=1e-5": "atol=1e-3"},
            {", atol=1e-5": ", rtol=1e-2, atol=1e-2"},
        ).teach("""
            A difference of 0.0001 is far more than rounding, but your test does not see it. Use
            `atol=1e-5`."""),
        slip("one equal number is enough", {"allclose": "isclose", "-5)": "-5).any()"}).teach("""
            You asked whether any number agrees. All of them must: `.all()`, or
            `torch.allclose`."""),
    ),
)


def _output_cases():
    cases = []
    for seed, lengths in enumerate(ragged([1], [2, 1], [1, 3], [2, 2], [3, 1, 2], [2, 5, 4])):
        for extra in (0, 1, 3):
            padded, counts = pad(random_sequences(seed, lengths), total_length=max(lengths) + extra)
            # What a recurrent layer writes into its padding is not zero.
            noise = torch.randn(padded.shape, generator=torch.Generator().manual_seed(seed))
            keep = lengths_to_keep_mask(counts, padded.shape[1])
            cases.append((filled(padded, keep, noise.round(decimals=1)), counts))
    return cases


def read_out(output, lengths):
    rows = torch.arange(len(lengths))
    return output[rows, lengths - 1]


def _where_padding(output, lengths):
    row = next((i for i, n in enumerate(lengths.tolist()) if n < output.shape[1]), 0)
    return row, int(lengths[row]), output.shape[1]


def _say_last(output, lengths):
    row, length, T = _where_padding(output, lengths)
    return (
        f"This is what `output[:, -1]` gives. For sequence {row} (length {length} of {T}) that is "
        "padding. Its last real step has the index `lengths - 1`."
    )


def _say_off_by_one(output, lengths):
    _, length, _ = _where_padding(output, lengths)
    return (
        f"A sequence of length {length} has the steps 0 to {length - 1}, so index {length} is "
        "already its first step of padding, or beyond the end. Use `lengths - 1`."
    )


READ_OUT = Exercise(
    id="00.2",
    title="The read-out that survives",
    minutes=5,
    notice="""
        `rows` and `lengths - 1` are paired entry by entry, and pick one step of each row.
        `output[:, lengths - 1]` would pick B steps of *every* row.""",
    task="""
        `output` is what a forward LSTM returned for a padded batch, of shape (B, T, H): H numbers
        for each step. `lengths` (B,) says how many steps of each row are real. Return (B, H): the
        output of each sequence at its own last real step. There, a forward LSTM has not seen any
        padding yet.""",
    hints=(
        "The last real step of a sequence of length 3 has index 2.",
        """Index rows and steps together: `output[rows, steps]`, with two tensors of length B, picks
        one step from each row.""",
    ),
    solution=read_out,
    cases=_output_cases,
    axes="B H",
    misconceptions=(
        slip("the last column", {"rows, lengths - 1": ":, -1"}).teach(_say_last),
        slip("off by one", {"lengths - 1": "lengths"}).teach(_say_off_by_one),
        slip("one step early", {"lengths - 1": "lengths - 2"}).teach("""
            You took the second-to-last step. Steps are counted from 0, so the last of 3 steps has
            the index 2: `lengths - 1`."""),
        slip("counted from the end", {"lengths - 1": "-lengths"}).teach("""
            A negative index counts from the end of the padded row, where the padding is. The last
            real step of a sequence is `lengths - 1`."""),
        slip(
            "one step for all rows",
            *(
                {"rows, lengths - 1": f":, {step}"}
                for step in (
                    "lengths.max() - 1",
                    "lengths.min() - 1",
                    "lengths[0] - 1",
                    "lengths[-1] - 1",
                    "-min(2, output.shape[1])",
                    "-2",
                    "0",
                )
            ),
        ).teach("""
            You took the same step in every row. Each sequence ends at its own `lengths - 1`."""),
        slip("the first row for all", {"rows, ": "0, "}).teach("""
            You took all the steps from the first row. `output[rows, steps]` needs an index for each
            row: `rows = torch.arange(B)`."""),
        slip("every row at every length", {"rows, lengths": ":, lengths"}).teach("""
            `output[:, lengths - 1]` takes all B lengths from each row, which gives (B, B, H). Index
            the rows too: `output[torch.arange(B), lengths - 1]`."""),
        slip("a time dimension left over", {"lengths - 1]": "lengths - 1][:, None]"}).teach("""
            The steps are right, but the shape is (B, 1, H): `gather`, for example, keeps the time
            dimension. Remove it with `.squeeze(1)`."""),
        slip("the mean over T", {"output[rows, lengths - 1]": "output.mean(1)"}).teach("""
            The mean includes the padding, so more padding changes it."""),
        slip("the maximum over T", {"output[rows, lengths - 1]": "output.amax(1)"}).teach("""
            A large number in the padding wins the maximum, so padding can change the result."""),
    ),
)

EXERCISES = [BY_HAND, READ_OUT]
