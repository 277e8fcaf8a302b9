"""Exercises of chapter 01, Naive padding."""

from __future__ import annotations

import torch
from torch.nn.utils.rnn import pad_sequence

from course_utils.batches.padding import pad
from course_utils.exercises.cases import (
    ragged,
    ragged_batches,
    random_sequences,
    with_number_at_real_step,
)
from course_utils.exercises.engine import Exercise, edited, slip

_LENGTHS = ragged([1, 2], [3, 1], [2, 2], [4, 1, 2], [3, 3, 1], [7, 2, 5, 1], [8, 8, 2, 1])


def _sequence_cases():
    cases = [(random_sequences(8, [2]),)]
    for seed, lengths in enumerate(_LENGTHS):
        sequences = random_sequences(seed, lengths)
        cases.append((sequences,))
        # Silence is data: real steps of zeros, at the end and in the middle.
        silent = [sequence.clone() for sequence in sequences]
        silent[0][-1] = 0.0
        silent[-1][len(silent[-1]) // 2] = 0.0
        cases.append((silent,))
    noisy = random_sequences(5, [3, 1, 2])
    noisy[0][1], noisy[2][1] = float("nan"), float("inf")
    return [*cases, (noisy,)]


def pad_and_measure(sequences):
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    padded = torch.zeros(len(sequences), int(lengths.max()), sequences[0].shape[1])
    for row, sequence in enumerate(sequences):
        padded[row, : len(sequence)] = sequence
    return padded, lengths


def _time_first(sequences):
    return pad_sequence(sequences), pad(sequences)[1]


LENGTHS = Exercise(
    id="01.1",
    title="Lengths, when zero is a real value",
    minutes=6,
    notice="""
        The lengths are taken from the list, *before* padding. They cannot be recovered from
        `padded` alone.""",
    larger=lambda: ([torch.randn(1 + i % 200, 16) for i in range(200)],),
    task="""
        Pad `sequences`, tensors of shapes (T_i, D), with zeros at the end, batch first, in the
        order given. Return `padded` (B, T, D) and `lengths` (B,), integers. Some real steps are all
        zero: silence is data too.""",
    hints=(
        """After padding, a silent step and a padded step look the same. Where can you still tell
        them apart?""",
        """Take the lengths from the list, before any padding:
        `torch.tensor([len(sequence) for sequence in sequences])`.""",
    ),
    solution=pad_and_measure,
    cases=_sequence_cases,
    axes="B T D, B",
    misconceptions=(
        slip(
            "counted what is not zero",
            {"padded, lengths": "padded, (padded != 0).any(-1).sum(1)"},
        ).teach("""
            You counted the steps of the padded batch that are not zero, so silent steps are lost.
            Take the lengths before padding."""),
        slip(
            "up to the last step that is not zero",
            {
                "return padded, lengths": "steps = torch.arange(1, padded.shape[1] + 1)\n"
                "    return padded, ((padded != 0).any(-1) * steps).amax(1)"
            },
        ).teach("""
            A sequence may end in silence, and then the search for its last value that is not zero
            stops too early. Take the lengths before padding."""),
        slip(
            "every length is T",
            {"padded, lengths": "padded, torch.full_like(lengths, padded.shape[1])"},
        ).teach("""
            You read the lengths from the padded batch, where all rows are equally long. Take them
            before padding."""),
        slip("time first", _time_first).teach("""
            `pad_sequence` puts time first, (T, B, D), unless you pass `batch_first=True`."""),
        slip("padding in front", {"[row, : len(sequence)]": "[row, -len(sequence) :]"}).teach("""
            The padding comes before the sequences. In this exercise it belongs at the end; padding
            on the left is a topic of chapter 04."""),
        slip(
            "sorted on the way",
            {"    lengths =": "    sequences = sorted(sequences, key=len)[::-1]\n    lengths ="},
            lambda sequences: pad(sorted(sequences, key=len, reverse=True)),
        ).teach("""
            You sorted by length, so row i is no longer sequence i, and its label would be that of
            another sequence. Keep the order."""),
        slip("lengths in a list", {"padded, lengths": "padded, lengths.tolist()"}).teach("""
            The lengths are right, but in a Python list. Wrap them: `torch.tensor(...)`."""),
        slip(
            "the number of sequences, again and again",
            {"padded, lengths": "padded, torch.full_like(lengths, len(sequences))"},
            {"len(sequence) for sequence": "len(sequences) for sequence"},
        ).teach("""
            Each length should be that of its own sequence: `len(sequence)` in the loop, not
            `len(sequences)`."""),
        slip("lengths are not integers", {"padded, lengths": "padded, lengths.float()"}).teach("""
            The lengths are floats. They count steps, and torch expects int64: leave out
            `.float()`."""),
    ),
)


def _length_cases():
    return [(torch.tensor(lengths),) for lengths in [[3], *_LENGTHS]]


def fill(lengths):
    cells = len(lengths) * lengths.max().item()
    return lengths.sum().item() / cells


FILL = Exercise(
    id="01.2",
    title="How full is a batch?",
    minutes=3,
    notice="""
        The longest sequence alone sets the number of columns: one long sequence can halve the fill
        of a batch.""",
    task="""
        Return the fill of a padded batch, given its `lengths` (B,): the number of real steps
        divided by the number of all steps, padding included. It is above 0 and at most 1.""",
    hints=(
        "The padded batch is a rectangle. How many rows does it have, and how many columns?",
        "It has B rows of `lengths.max()` steps, and `lengths.sum()` of these steps are real.",
    ),
    solution=fill,
    cases=_length_cases,
    misconceptions=(
        slip("the padding fraction", {"return ": "return 1 - "}).teach("""
            That is the share of padding. The fill is 1 minus it."""),
        slip("in percent", {"return ": "return 100 * "}).teach("""
            This is the right number times 100. Leave it between 0 and 1, so that 1 / fill means
            something."""),
        slip("divided by T alone", {"len(lengths) * ": ""}).teach("""
            You divided by the number of columns. The rectangle has B * T cells."""),
        slip("whole numbers only", {" / cells": " // cells"}).teach("""
            `//` rounds down, which gives 0 for every batch with padding. Use `/`."""),
        slip(
            "shortest over longest",
            {"len(lengths) * ": "", "lengths.sum()": "lengths.min()"},
        ).teach("""
            The sequences in between count as well: add up all the lengths."""),
        slip(
            "the speed-up, not the fill",
            {"lengths.sum().item() / cells": "cells / lengths.sum().item()"},
        ).teach("""
            That is 1 / fill, the most that skipping the padding can save of work that grows with
            the steps. Turn the fraction upside down."""),
    ),
)


def _batching_cases():
    sizes = [([2, 1], 1), ([2, 1], 2), ([1, 3], 2), ([4, 1, 2], 2), ([5, 1, 1, 5], 2)]
    sizes += [([3, 1, 4, 1, 5, 9, 2], 3), ([9, 1, 1, 1, 2, 2, 2, 2, 7], 4)]
    sizes += [([2, 12, 1, 9, 5, 1, 3], 3), ([3], 2), (list(range(1, 13)), 5)]
    return [(torch.tensor(lengths), batch_size) for lengths, batch_size in sizes]


def speed_up_at_most(lengths, batch_size):
    padded = sum(len(batch) * batch.max().item() for batch in lengths.split(batch_size))
    return padded / lengths.sum().item()


def _worst_batch(lengths, batch_size):
    return max(len(b) * b.max().item() / b.sum().item() for b in lengths.split(batch_size))


def _mean_of_ratios(lengths, batch_size):
    ratios = [len(b) * b.max().item() / b.sum().item() for b in lengths.split(batch_size)]
    return sum(ratios) / len(ratios)


SPEED_UP = Exercise(
    id="01.3",
    title="The most that removing padding can save",
    minutes=5,
    notice="""
        The ratio is 1 / fill, taken over all batches. It limits what packing can save of work that
        grows with the steps, but does not promise it.""",
    task="""
        `lengths` (N,) is cut, in the order given, into batches of `batch_size` (the last one may be
        smaller), and each batch is padded to its own longest sequence. If the work grows with the
        number of steps, by what factor at most could a method that skips the padding be faster,
        over all batches? Return a float, 1 or more.""",
    hints=(
        """Add up the padded steps of all batches, and the real steps. `lengths.split(n)` cuts into
        batches.""",
        "Divide all padded steps by all real steps: that is 1 / fill of the whole epoch.",
    ),
    solution=speed_up_at_most,
    cases=_batching_cases,
    misconceptions=(
        slip(
            "that is the fill", {"padded / lengths.sum().item()": "lengths.sum().item() / padded"}
        ).teach("You returned real / padded. The factor is padded / real."),
        slip(
            "the steps saved, not the factor",
            {"padded / lengths": "padded - lengths"},
            {"padded / lengths.sum().item()": "1 - lengths.sum().item() / padded"},
        ).teach("""
            That is the padding, as a number of steps or as a share. The factor is all padded steps
            divided by all real ones."""),
        slip("the worst batch only", _worst_batch).teach("""
            You took the factor of one batch, the one with the most padding. Add up the steps of all
            batches first, and divide once."""),
        slip("a mean of ratios", _mean_of_ratios).teach("""
            You averaged the factors of the batches, as if each batch were the same amount of work.
            Add up the steps first, and divide once."""),
        slip("one T for the whole data set", {"batch.max": "lengths.max"}).teach("""
            You padded every batch to the longest sequence of all. Each batch has its own
            longest."""),
        slip("the last batch counted as full", {"len(batch)": "batch_size"}).teach("""
            The last batch may have fewer rows: use `len(batch)`, not `batch_size`."""),
        slip("chunk for split", {".split": ".chunk"}).teach("""
            `chunk(n)` makes n pieces; `split(n)` makes pieces of length n."""),
        slip("sorted first", {".split": ".sort().values.split"}).teach("""
            You sorted the lengths first, which makes fuller batches (chapter 06). Here they are cut
            in the order given."""),
        slip(
            "the last batch forgotten",
            {
                "    padded": "    lengths = lengths[: len(lengths) // batch_size * batch_size]\n"
                "    padded"
            },
        ).teach("The last batch is smaller, but it is run too."),
        slip(
            "one over the padding",
            {"padded / lengths.sum().item()": "1 / (1 - lengths.sum().item() / padded)"},
        ).teach("1 / (1 - fill) grows as the padding vanishes. What can be saved is 1 / fill."),
    ),
)


def _padded_cases():
    paddings = ((0, 0.0), (0, 9.0), (2, float("nan")))
    cases = []
    for padded, keep_mask, _ in ragged_batches(_LENGTHS, paddings):
        lengths = keep_mask.sum(1)
        padded[lengths.argmax(), 0] = 0.0  # A real step may be zero; it counts all the same.
        cases.append((padded, lengths))
    # A NaN at a real step says something and must come through; so must infinity.
    return cases + [
        (with_number_at_real_step(padded, number, 1), lengths)
        for number in (float("nan"), float("inf"))
        for padded, lengths in cases[:3]
    ]


def mean_over_real_steps(padded, lengths):
    keep = torch.arange(padded.shape[1]) < lengths[:, None]
    total = padded.masked_fill(~keep[..., None], 0).sum(1)
    return total / lengths[:, None]


def _multiplied(padded, lengths):
    keep = torch.arange(padded.shape[1]) < lengths[:, None]
    total = (padded * keep[..., None]).sum(1)
    return total / lengths[:, None]


def _nan_left_out(padded, lengths):
    keep = torch.arange(padded.shape[1]) < lengths[:, None]
    return padded.masked_fill(~keep[..., None], torch.nan).nanmean(1)


def _say_mean_over_t(padded, lengths):
    return (
        f"`.mean(1)` divides by T = {padded.shape[1]} and includes the padding in the sum. "
        f"Divide by the lengths, {lengths.tolist()}."
    )


MEAN = Exercise(
    id="01.4",
    title="The mean over real steps",
    minutes=7,
    notice="""
        The solution uses `masked_fill`, not a product. 0 times NaN is NaN, so a product does not
        keep out what is in the padding.""",
    larger=lambda: (torch.randn(64, 200, 32), torch.randint(1, 201, (64,))),
    task="""
        Average each row of `padded` (B, T, D) over its real steps, the first `lengths[i]`. Return
        (B, D). The padding may hold anything, even NaN, and you must not change `padded`.""",
    hints=(
        """`torch.arange(T) < lengths[:, None]` has the shape (B, T) and is True where a step is
        real.""",
        """Put zeros where the mask is False with `masked_fill`, sum over time, and divide by
        `lengths[:, None]`.""",
    ),
    solution=mean_over_real_steps,
    cases=_padded_cases,
    axes="B D",
    misconceptions=(
        slip("the mean over T", lambda padded, lengths: padded.mean(1)).teach(_say_mean_over_t),
        slip("the right sum, divided by T", {"/ lengths[:, None]": "/ padded.shape[1]"}).teach("""
            The padding is no longer in the sum, but still in the divisor. Divide each row by its
            own length."""),
        slip("one pad too many", {"<": "<="}).teach("""
            You kept `arange <= lengths`: a sequence of length 3 then keeps the steps 0, 1, 2 and 3.
            Use `<`."""),
        slip("the last step lost", {"< lengths[:, None]": "< lengths[:, None] - 1"}).teach("""
            Steps are counted from 0, so `arange < lengths` already keeps the steps 0 to
            `lengths - 1`. Do not subtract 1."""),
        slip(
            "the mask is inverted",
            {"~keep": "keep"},
            {"<": ">"},
            {"<": ">="},
            edited(_multiplied, {"<": ">="}),
        ).teach("""
            You summed the padding and left out the data. `masked_fill` fills where its mask is
            True, so the mask has to be `~keep`."""),
        slip(
            "NaN left out",
            _nan_left_out,
            lambda padded, lengths: padded.nanmean(1),
            lambda padded, lengths: padded.nansum(1) / lengths[:, None],
            lambda padded, lengths: padded.nan_to_num().mean(1),
            {"padded.masked_fill": "padded.nan_to_num().masked_fill"},
        ).teach("""
            `nanmean` leaves out every NaN, and only NaN. Padding with any other content is averaged
            in, and a NaN at a real step, which you would want to know about, is hidden. Only the
            lengths tell what is padding."""),
        slip("never divided", {"total / lengths[:, None]": "total"}).teach("""
            That is the sum over the real steps. Divide each row by its length."""),
        slip("divided twice", {".sum(1)": ".mean(1)"}).teach("""
            `.mean(1)` has already divided by T, and then you divide by the length. Use `sum`
            first."""),
        slip("divided by the longest", {"/ lengths[:, None]": "/ lengths.max()"}).teach("""
            Every row was divided by the longest length. Each row has its own:
            `lengths[:, None]`."""),
        slip("NaN times zero", _multiplied).teach("""
            You multiplied by the mask, and NaN * 0 is NaN. Replace the padding instead, with
            `masked_fill` or `torch.where`."""),
        slip(
            "zeros not counted",
            {
                "total =": "kept =",
                ".sum(1)": "",
                "total / lengths[:, None]": "kept.sum(1) / (kept != 0).sum(1).clamp(min=1)",
            },
        ).teach("""
            You divided by the number of values that are not zero. But a real step may be zero, so
            only `lengths` tells how many steps are real."""),
        slip("one divisor for all rows", {"/ lengths[:, None]": "/ lengths.sum()"}).teach("""
            You divided every row by the number of real steps in the whole batch. Each row has its
            own length."""),
        slip("lengths along the wrong axis", {"/ lengths[:, None]": "/ lengths"}).teach("""
            `sum / lengths` matches B with D. That is an error or, where B equals D, silently wrong.
            Make the lengths a column: `lengths[:, None]`."""),
        slip("wrote into the batch", {"masked_fill": "masked_fill_"}).teach("""
            You wrote into `padded`, so the caller's tensor has changed. Use `masked_fill` without
            the final underscore, or work on `padded.clone()`."""),
    ),
)


def _text_cases():
    cases = []
    for seed, lengths in enumerate(_LENGTHS):
        generator = torch.Generator().manual_seed(seed)
        table = torch.randn(6, 2, generator=generator).round(decimals=1)
        # Id 0 is a word like any other here, and the padding has the same id.
        texts = [torch.randint(1, 6, (length,), generator=generator) for length in lengths]
        max(texts, key=len)[0] = 0
        cases.append((table, texts))
    return cases


def embed(table, texts):
    ids, lengths = pad(texts)
    keep = torch.arange(ids.shape[1]) < lengths[:, None]
    total = table[ids].masked_fill(~keep[..., None], 0).sum(1)
    return total / lengths[:, None]


EMBED = Exercise(
    id="01.5",
    title="In the wild: a vector that depends on its neighbours",
    minutes=7,
    notice="""
        `table[ids]` looks up a vector for the padding too. Only the mask keeps it out of the
        mean.""",
    task="""
        Find the fault in `embed_as_found`, and write `embed` without it. `table` (V, D) holds a
        vector for each id; `texts` is a list of B texts, tensors of ids. Return (B, D): the mean
        vector of each text, the same in every batch. Every id is a word, including 0.""",
    hints=(
        "The padding has an id as well. Which one, and which vector does the table hold for it?",
        "`pad` returns the lengths, and this code throws them away. Do as in exercise 01.4.",
    ),
    solution=embed,
    cases=_text_cases,
    axes="B D",
    misconceptions=(
        slip("as it was found", lambda table, texts: table[pad(texts)[0]].mean(1)).teach("""
            The mean still includes the padding, for which the table gives the vector of id 0."""),
        slip(
            "id 0 taken for padding",
            {
                "torch.arange(ids.shape[1]) < lengths[:, None]": "ids != 0",
                "/ lengths": "/ keep.sum(1).clamp(min=1)",
            },
        ).teach("""
            You left out every id 0. Here 0 is also a word, so real words are lost: only the lengths
            tell what is padding."""),
        slip(
            "id 0 not counted",
            {"/ lengths[:, None]": "/ (ids != 0).sum(1, keepdim=True)"},
            {"/ lengths[:, None]": "/ (ids != 0).sum(1, keepdim=True).clamp(min=1)"},
        ).teach("""
            The sum is right, but you divided it by the number of ids that are not 0. Here 0 is also
            a word, and it is in the sum: divide by the lengths."""),
        slip(
            "id 0 left out of the sum",
            {"torch.arange(ids.shape[1]) < lengths[:, None]": "ids != 0"},
        ).teach("""
            You divided by the true length, but your mask leaves every id 0 out of the sum. Here 0
            is also a word: make the mask from the lengths too."""),
        slip(
            "a zero vector for id 0",
            {
                "total =": "table = table.clone()\n    table[0] = 0\n    total =",
                "masked_fill(~keep[..., None], 0).sum": "mean",
                " / lengths[:, None]": "",
            },
        ).teach("""
            That is what `padding_idx=0` does. The padding adds nothing to the sum, but it is still
            counted in the divisor, and the real word 0 has lost its vector."""),
        slip("the right sum, divided by T", {"/ lengths[:, None]": "/ ids.shape[1]"}).teach("""
            The padding is no longer in the sum, but still in the divisor. Divide each text by its
            own length."""),
        slip("one pad too many", {"<": "<="}).teach("""
            `arange <= lengths` also keeps the first padded step of each text. Use `<`."""),
        slip("the mask is inverted", {"~keep": "keep"}, {"<": ">"}, {"<": ">="}).teach("""
            You averaged the padding and left out the words. `masked_fill` fills where its mask is
            True, so the mask has to be `~keep`."""),
        slip("never divided", {"total / lengths[:, None]": "total"}).teach("""
            That is the sum of the vectors of each text. Divide it by the length of the text."""),
        slip("divided twice", {".sum(1)": ".mean(1)"}).teach("""
            `.mean(1)` has already divided by T, and then you divide by the length. Use `sum`
            first."""),
        slip(
            "the right divisor, padding in the sum", {".masked_fill(~keep[..., None], 0)": ""}
        ).teach("""
            You divide by the true length, but the vectors of the padding are still in the sum."""),
    ),
)

EXERCISES = [LENGTHS, FILL, SPEED_UP, MEAN, EMBED]
