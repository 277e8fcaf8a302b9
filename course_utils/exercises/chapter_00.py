"""Exercises of chapter 00, Start here."""

from __future__ import annotations

import torch
from torch import nn

from course_utils.batching import pad
from course_utils.exercises.engine import Exercise, Misconception
from course_utils.masks import last_real_step, lengths_to_keep_mask, masked_mean


def random_sequences(seed: int, lengths: list[int], size: int = 2) -> list[torch.Tensor]:
    """Make sequences of the given lengths, of shape (T_i, size), rounded for easy reading."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(length, size, generator=generator).round(decimals=1) for length in lengths]


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
    # The same of numbers near 0, where 1e-5 is not to be taken relative to them.
    _Model("rounded near 0", lambda p, lengths: _real_mean(p, lengths) * 0 + 1e-7 * p.shape[1]),
    _Model("a thousandth off", lambda p, lengths: _real_mean(p, lengths) + 1e-3 * p.shape[1]),
    _Model("sum, and T", _sum_and_count),
]


def _model_cases():
    shapes = [[2, 2], [2, 1], [1, 3], [3, 1], [2, 4, 1], [5, 2, 5], [6, 1, 3, 6]]
    return [
        (model, random_sequences(10 * i + j, lengths))
        for i, lengths in enumerate(shapes)
        for j, model in enumerate(_MODELS)
    ]


def agrees(model, sequences):
    together = model(*pad(sequences))
    alone = torch.cat([model(*pad([sequence])) for sequence in sequences])
    return torch.allclose(together, alone, atol=1e-5)


def _first_only(model, sequences):
    return torch.allclose(model(*pad(sequences))[0], model(*pad(sequences[:1]))[0], atol=1e-5)


def _rows_with_padding(model, sequences):
    padded, lengths = pad(sequences)
    rows = [model(padded[i : i + 1], lengths[i : i + 1]) for i in range(len(sequences))]
    return torch.allclose(model(padded, lengths), torch.cat(rows), atol=1e-5)


def _bit_for_bit(model, sequences):
    alone = torch.cat([model(*pad([sequence])) for sequence in sequences])
    return torch.equal(model(*pad(sequences)), alone)


def _averages(model, sequences):
    alone = torch.cat([model(*pad([sequence])) for sequence in sequences])
    return torch.allclose(model(*pad(sequences)).mean(), alone.mean(), atol=1e-5)


def _shapes(model, sequences):
    alone = torch.cat([model(*pad([sequence])) for sequence in sequences])
    return model(*pad(sequences)).shape == alone.shape


def _stacked(model, sequences):
    alone = torch.stack([model(*pad([sequence])) for sequence in sequences])
    return torch.allclose(model(*pad(sequences)), alone, atol=1e-5)


def _shortest_only(model, sequences):
    lengths = [len(sequence) for sequence in sequences]
    row = lengths.index(min(lengths))
    alone = model(*pad([sequences[row]]))[0]
    return torch.allclose(model(*pad(sequences))[row], alone, atol=1e-5)


def _any_row(model, sequences):
    alone = torch.cat([model(*pad([sequence])) for sequence in sequences])
    return bool(torch.isclose(model(*pad(sequences)), alone, atol=1e-5).any())


def _output_cases():
    cases = []
    for seed, lengths in enumerate(
        [[1], [2, 1], [1, 3], [2, 2], [3, 1, 2], [2, 5, 4], [6, 1, 3, 6]]
    ):
        for extra in (0, 1, 3):
            padded, counts = pad(random_sequences(seed, lengths), total_length=max(lengths) + extra)
            # What a recurrent layer writes into its padding is not zero.
            noise = torch.randn(padded.shape, generator=torch.Generator().manual_seed(seed))
            keep = lengths_to_keep_mask(counts, padded.shape[1])[..., None]
            cases.append((padded.where(keep, noise.round(decimals=1)), counts))
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
        f"This is what `output[:, -1]` gives: for sequence {row} (length {length} of {T}) that is "
        "padding. Its own last real step has index `lengths - 1`."
    )


def _say_off_by_one(output, lengths):
    _, length, _ = _where_padding(output, lengths)
    return (
        f"A sequence of length {length} has the steps 0 to {length - 1}, so index {length} is "
        "already its first step of padding, or beyond the end: `lengths - 1`."
    )


EXERCISES = [
    Exercise(
        id="00.1",
        title="Together equals alone, by hand",
        minutes=8,
        task=(
            "Write the oracle. `model(padded, lengths)` gives one row of outputs a sequence, and "
            "`pad(sequences)` gives `padded, lengths`. Return `True` if no number that the model "
            "gives for a sequence differs by more than 1e-5 (the plain difference, not a share) "
            "from what it gives it alone, and `False` if one does."
        ),
        hints=(
            "`pad` also takes a list of one sequence: then there is nothing to pad.",
            "Run the model once on all, once on each, join the rows with `torch.cat`, and compare "
            "with `torch.allclose(..., atol=1e-5)`.",
        ),
        solution=agrees,
        cases=_model_cases,
        misconceptions=(
            Misconception(
                "only one sequence compared",
                _first_only,
                "The first sequence may be the longest, and then nothing was padded onto it. "
                "Compare every row.",
            ),
            Misconception(
                "alone, but with its padding",
                _rows_with_padding,
                "You ran rows of the padded batch one by one, so their padding came along. Alone "
                "means unpadded: `pad([sequence])`.",
            ),
            Misconception(
                "equal to the last bit",
                _bit_for_bit,
                "A batch may add numbers in another order, so rounding differs in the last bits. "
                "Allow for it: `torch.allclose(..., atol=1e-5)`.",
            ),
            Misconception(
                "averages compared",
                _averages,
                "Two wrong rows can have the right mean, as when a model returns the rows in "
                "another order. Compare row by row.",
            ),
            Misconception(
                "always True",
                _shapes,
                "Your function says `True` every time. Comparing shapes does that: padding "
                "changes the numbers, hardly ever the shape. Compare the values.",
            ),
            Misconception(
                "stacked, not joined",
                _stacked,
                "`torch.stack` adds a dimension: (B, 1, H) beside (B, H) compares every row with "
                "every other. Use `torch.cat`.",
            ),
            Misconception(
                "only the shortest compared",
                _shortest_only,
                "The shortest has the most padding, but a model can also mix up the rows. Compare "
                "them all.",
            ),
            Misconception(
                "one equal number is enough",
                _any_row,
                "You asked whether any number agrees. All of them must: `.all()`, or "
                "`torch.allclose`.",
            ),
        ),
    ),
    Exercise(
        id="00.2",
        title="The read-out that survives",
        minutes=5,
        task=(
            "`output` is what a forward LSTM gave for a padded batch, of shape (B, T, H), with H "
            "numbers per step, and `lengths` (B,) says how many steps of each row are real. Return "
            "(B, H): each "
            "sequence's output at its own last real step. A forward LSTM has not met the padding "
            "there yet."
        ),
        hints=(
            "The last real step of a sequence of length 3 has index 2.",
            "Index rows and steps together: `output[rows, steps]` with two tensors of length B "
            "picks one step a row.",
        ),
        solution=read_out,
        cases=_output_cases,
        misconceptions=(
            Misconception("the last column", lambda output, lengths: output[:, -1], _say_last),
            Misconception(
                "off by one",
                lambda output, lengths: output[torch.arange(len(lengths)), lengths],
                _say_off_by_one,
            ),
            Misconception(
                "one index for all",
                lambda output, lengths: output[:, lengths.max() - 1],
                "You took the longest sequence's last step for every row. Each row ends at its "
                "own `lengths[i] - 1`.",
            ),
            Misconception(
                "every row at every length",
                lambda output, lengths: output[:, lengths - 1],
                "`output[:, lengths - 1]` takes all B lengths from each row: shape (B, B, H). "
                "Index the rows too: `output[torch.arange(B), lengths - 1]`.",
            ),
            Misconception(
                "a time dimension left over",
                lambda output, lengths: last_real_step(output, lengths)[:, None],
                "The right steps, but of shape (B, 1, H): `gather` keeps the time dimension. "
                "Take it away with `.squeeze(1)`.",
            ),
            Misconception(
                "the mean over T",
                lambda output, lengths: output.mean(1),
                "The mean runs over the padding too, so more padding changes it.",
            ),
            Misconception(
                "the maximum over T",
                lambda output, lengths: output.amax(1),
                "A large number in the padding wins the maximum, so padding can change it.",
            ),
        ),
    ),
]
