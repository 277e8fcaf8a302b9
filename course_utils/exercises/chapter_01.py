"""Exercises of chapter 01, Naive padding."""

from __future__ import annotations

import torch
from torch.nn.utils.rnn import pad_sequence

from course_utils.batching import pad
from course_utils.exercises.chapter_00 import random_sequences
from course_utils.exercises.engine import Exercise, Misconception
from course_utils.masks import lengths_to_keep_mask

_LENGTHS = [
    [1, 2],
    [3, 1],
    [2, 2],
    [4, 1, 2],
    [3, 3, 1],
    [7, 2, 5, 1],
    [1, 9, 3, 3, 6],
    [8, 8, 2, 1],
]


def _length_cases():
    return [(torch.tensor(lengths),) for lengths in [[3], *_LENGTHS]]


def fill(lengths):
    cells = len(lengths) * lengths.max().item()
    return lengths.sum().item() / cells


def _padded_cases():
    cases = []
    for seed, lengths in enumerate(_LENGTHS):
        for extra, junk in ((0, 0.0), (0, 9.0), (2, float("nan"))):
            sequences = random_sequences(seed, lengths)
            # A real step may be zero; it counts all the same.
            max(sequences, key=len)[0] = 0.0
            T = max(lengths) + extra
            cases.append(pad(sequences, padding_value=junk, total_length=T))
    return cases


def mean_over_real_steps(padded, lengths):
    keep = torch.arange(padded.shape[1]) < lengths[:, None]
    total = padded.masked_fill(~keep[..., None], 0).sum(1)
    return total / lengths[:, None]


def _kept_sum(padded, lengths):
    keep = lengths_to_keep_mask(lengths, padded.shape[1])[..., None]
    return padded.masked_fill(~keep, 0).sum(1)


def _one_pad_kept(padded, lengths):
    keep = torch.arange(padded.shape[1]) <= lengths[:, None]
    return padded.masked_fill(~keep[..., None], 0).sum(1) / lengths[:, None]


def _multiplied(padded, lengths):
    keep = lengths_to_keep_mask(lengths, padded.shape[1])[..., None]
    return (padded * keep).sum(1) / lengths[:, None]


def _nonzero_divisor(padded, lengths):
    keep = lengths_to_keep_mask(lengths, padded.shape[1])[..., None]
    kept = padded.masked_fill(~keep, 0)
    return kept.sum(1) / (kept != 0).sum(1).clamp(min=1)


def _written_into(padded, lengths):
    keep = lengths_to_keep_mask(lengths, padded.shape[1])[..., None]
    return padded.masked_fill_(~keep, 0).sum(1) / lengths[:, None]


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
    return cases


def pad_and_measure(sequences):
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    padded = torch.zeros(len(sequences), int(lengths.max()), sequences[0].shape[1])
    for row, sequence in enumerate(sequences):
        padded[row, : len(sequence)] = sequence
    return padded, lengths


def _count_nonzero(sequences):
    padded, _ = pad(sequences)
    return padded, (padded != 0).any(-1).sum(1)


def _up_to_last_nonzero(sequences):
    padded, _ = pad(sequences)
    steps = torch.arange(1, padded.shape[1] + 1)
    return padded, ((padded != 0).any(-1) * steps).amax(1)


def _all_alike(sequences):
    padded, lengths = pad(sequences)
    return padded, torch.full_like(lengths, padded.shape[1])


def _time_first(sequences):
    return pad_sequence(sequences), pad(sequences)[1]


def _left(sequences):
    padded = pad_sequence(sequences, batch_first=True, padding_side="left")
    return padded, pad(sequences)[1]


def _sorted(sequences):
    return pad(sorted(sequences, key=len, reverse=True))


def _float_lengths(sequences):
    padded, lengths = pad(sequences)
    return padded, lengths.float()


def _batching_cases():
    sizes = [([2, 1], 1), ([2, 1], 2), ([1, 3], 2), ([4, 1, 2], 2), ([5, 1, 1, 5], 2)]
    sizes += [([3, 1, 4, 1, 5, 9, 2], 3), ([9, 1, 1, 1, 2, 2, 2, 2, 7], 4)]
    return [(torch.tensor(lengths), batch_size) for lengths, batch_size in sizes]


def speed_up_at_most(lengths, batch_size):
    padded = sum(len(batch) * batch.max().item() for batch in lengths.split(batch_size))
    return padded / lengths.sum().item()


def _mean_of_ratios(lengths, batch_size):
    ratios = [len(b) * b.max().item() / b.sum().item() for b in lengths.split(batch_size)]
    return sum(ratios) / len(ratios)


def _full_batches_only(lengths, batch_size):
    full = lengths[: len(lengths) // batch_size * batch_size]
    return speed_up_at_most(full, batch_size)


def _one_minus(lengths, batch_size):
    share = 1 / speed_up_at_most(lengths, batch_size)
    return 1 / (1 - share)


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


def _embed_where_not_zero(table, texts):
    ids, _ = pad(texts)
    keep = (ids != 0)[..., None]
    return (table[ids] * keep).sum(1) / keep.sum(1).clamp(min=1)


def _embed_zero_vector(table, texts):
    table = table.clone()
    table[0] = 0
    return table[pad(texts)[0]].mean(1)


def _embed_divided_by_longest(table, texts):
    ids, lengths = pad(texts)
    return embed(table, texts) * lengths[:, None] / ids.shape[1]


def _embed_padded_sum(table, texts):
    ids, lengths = pad(texts)
    return table[ids].sum(1) / lengths[:, None]


EXERCISES = [
    Exercise(
        id="01.1",
        title="Lengths, when zero is a real value",
        minutes=6,
        task=(
            "Pad `sequences`, tensors of shapes (T_i, D), with zeros at the end, batch first, "
            "in the order given. Return `padded` (B, T, D) and `lengths` (B,), integers. Some "
            "real steps are all zero: silence is data."
        ),
        hints=(
            "After padding, a silent step and a pad look the same. Where do you still know the "
            "difference?",
            "Take the lengths from the list, before any padding: "
            "`torch.tensor([len(sequence) for sequence in sequences])`.",
        ),
        solution=pad_and_measure,
        cases=_sequence_cases,
        misconceptions=(
            Misconception(
                "counted what is not zero",
                _count_nonzero,
                "You counted the steps of the padded batch that are not zero, so silent steps "
                "are lost. Take the lengths before padding.",
            ),
            Misconception(
                "up to the last step that is not zero",
                _up_to_last_nonzero,
                "A sequence may end in silence, and then the search for its last value stops too "
                "early. Take the lengths before padding.",
            ),
            Misconception(
                "every length is T",
                _all_alike,
                "You read the lengths off the padded batch, where all rows are equally long. "
                "Take them before padding.",
            ),
            Misconception(
                "time first",
                _time_first,
                "`pad_sequence` puts time first, (T, B, D), unless told `batch_first=True`.",
            ),
            Misconception(
                "padding in front",
                _left,
                "The padding stands before the sequences. Here it belongs at the end; left "
                "padding has its place in chapter 04.",
            ),
            Misconception(
                "sorted on the way",
                _sorted,
                "You sorted by length, so row i is no longer sequence i: labels would point to "
                "other rows. Keep the order.",
            ),
            Misconception(
                "lengths in a list",
                lambda sequences: (pad(sequences)[0], [len(sequence) for sequence in sequences]),
                "The lengths are right, but in a Python list. Wrap them: `torch.tensor(...)`.",
            ),
            Misconception(
                "lengths are no whole numbers",
                _float_lengths,
                "The lengths are floats. Steps are counted, and torch wants int64: leave "
                "`.float()` away.",
            ),
        ),
    ),
    Exercise(
        id="01.2",
        title="How full is a batch?",
        minutes=3,
        task=(
            "Return the fill of a padded batch, from its `lengths` (B,): real steps divided by "
            "all steps, padding included. A number above 0 and at most 1."
        ),
        hints=(
            "The padded batch is a rectangle: how many rows, how many columns?",
            "B rows of `lengths.max()` steps; `lengths.sum()` of them are real.",
        ),
        solution=fill,
        cases=_length_cases,
        misconceptions=(
            Misconception(
                "the padding fraction",
                lambda lengths: 1 - fill(lengths),
                "That is the share of padding. Fill is what is left: 1 minus it.",
            ),
            Misconception(
                "in percent",
                lambda lengths: 100 * fill(lengths),
                "Right, times 100. Leave it between 0 and 1, so that 1 / fill means something.",
            ),
            Misconception(
                "divided by T alone",
                lambda lengths: (lengths.sum() / lengths.max()).item(),
                "You divided by the columns. The rectangle has B * T cells.",
            ),
            Misconception(
                "whole numbers only",
                lambda lengths: int(lengths.sum() // (len(lengths) * lengths.max())),
                "`//` rounds down, to 0 for every batch with padding. Use `/`.",
            ),
            Misconception(
                "shortest over longest",
                lambda lengths: (lengths.min() / lengths.max()).item(),
                "The sequences in between count as well: add up all the lengths.",
            ),
            Misconception(
                "the speed-up, not the fill",
                lambda lengths: 1 / fill(lengths),
                "That is 1 / fill, the most that removing the padding can save. Turn it over.",
            ),
        ),
    ),
    Exercise(
        id="01.3",
        title="The most that removing padding can save",
        minutes=5,
        task=(
            "`lengths` (N,) is cut, in the order given, into batches of `batch_size` (the last "
            "may be smaller), each padded to its own longest. If work grows with the steps run, "
            "by what factor at most could a method that skips the padding be faster, over all "
            "batches? Return a float, 1 or more."
        ),
        hints=(
            "Add up the padded steps of all batches, and the real steps. `lengths.split(n)` cuts.",
            "All padded steps divided by all real steps: that is 1 / fill of the whole epoch.",
        ),
        solution=speed_up_at_most,
        cases=_batching_cases,
        misconceptions=(
            Misconception(
                "that is the fill",
                lambda lengths, batch_size: 1 / speed_up_at_most(lengths, batch_size),
                "You returned real / padded. The factor is padded / real.",
            ),
            Misconception(
                "a mean of ratios",
                _mean_of_ratios,
                "You averaged the batches' factors, as if each batch had the same work. Add up "
                "the steps first, and divide once.",
            ),
            Misconception(
                "one T for the whole data set",
                lambda lengths, batch_size: speed_up_at_most(lengths, len(lengths)),
                "You padded every batch to the longest of all. Each batch has its own longest.",
            ),
            Misconception(
                "the last batch counted as full",
                lambda lengths, batch_size: (
                    sum(batch_size * batch.max().item() for batch in lengths.split(batch_size))
                    / lengths.sum().item()
                ),
                "The last batch may have fewer rows: `len(batch)`, not `batch_size`.",
            ),
            Misconception(
                "chunk for split",
                lambda lengths, batch_size: (
                    sum(len(one) * one.max().item() for one in lengths.chunk(batch_size))
                    / lengths.sum().item()
                ),
                "`chunk(n)` makes n pieces; `split(n)` makes pieces of n.",
            ),
            Misconception(
                "sorted first",
                lambda lengths, batch_size: speed_up_at_most(lengths.sort().values, batch_size),
                "You sorted the lengths first, which makes fuller batches (chapter 06). Here they "
                "are cut in the order given.",
            ),
            Misconception(
                "the last batch forgotten",
                _full_batches_only,
                "The last batch is smaller, but it is run too.",
            ),
            Misconception(
                "one over the padding",
                _one_minus,
                "1 / (1 - fill) grows as the padding vanishes. What is saved is 1 / fill.",
            ),
        ),
    ),
    Exercise(
        id="01.4",
        title="The mean over real steps",
        minutes=7,
        task=(
            "Average each row of `padded` (B, T, D) over its real steps, the first `lengths[i]`. "
            "Return (B, D). The padding may hold anything, even NaN, and `padded` is not yours "
            "to change."
        ),
        hints=(
            "`torch.arange(T) < lengths[:, None]` has shape (B, T) and is True where a step is "
            "real.",
            "Put zeros where the mask is False with `masked_fill`, sum over time, and divide by "
            "`lengths[:, None]`.",
        ),
        solution=mean_over_real_steps,
        cases=_padded_cases,
        misconceptions=(
            Misconception(
                "the mean over T",
                lambda padded, lengths: padded.mean(1),
                lambda padded, lengths: (
                    f"`.mean(1)` divides by T = {padded.shape[1]} and adds the padding in. "
                    f"Divide by the lengths, {lengths.tolist()}."
                ),
            ),
            Misconception(
                "the right sum, divided by T",
                lambda padded, lengths: _kept_sum(padded, lengths) / padded.shape[1],
                "The padding is out of the sum, but still in the divisor. Divide each row by its "
                "own length.",
            ),
            Misconception(
                "one pad too many",
                _one_pad_kept,
                "You kept `arange <= lengths`: a sequence of length 3 then keeps steps 0, 1, 2 "
                "and 3. Use `<`.",
            ),
            Misconception(
                "NaN times zero",
                _multiplied,
                "You multiplied by the mask, and NaN * 0 is NaN. Replace instead of multiplying: "
                "`masked_fill` or `torch.where`.",
            ),
            Misconception(
                "zeros not counted",
                _nonzero_divisor,
                "You divided by the number of values that are not zero. A real step may be zero: "
                "only `lengths` knows.",
            ),
            Misconception(
                "one divisor for all rows",
                lambda padded, lengths: _kept_sum(padded, lengths) / lengths.sum(),
                "You divided every row by all the real steps of the batch. Each row has its own "
                "length.",
            ),
            Misconception(
                "lengths across the wrong axis",
                lambda padded, lengths: _kept_sum(padded, lengths) / lengths,
                "`sum / lengths` lines B up with D: an error, or, where B equals D, silently "
                "wrong. Make it a column: `lengths[:, None]`.",
            ),
            Misconception(
                "wrote into the batch",
                _written_into,
                "You wrote into `padded`, and the caller's tensor has changed. Use `masked_fill` "
                "without a final underscore, or work on `padded.clone()`.",
            ),
        ),
    ),
    Exercise(
        id="01.5",
        title="In the wild: a vector that depends on its neighbours",
        minutes=7,
        task=(
            "Find the fault of `embed_as_found`, and write `embed` without it. `table` (V, D) "
            "holds a vector for each id; `texts` is a list of B texts, tensors of ids. Return "
            "(B, D): each text's mean vector, the same in every batch. Every id is a word, 0 too."
        ),
        hints=(
            "The padding has an id as well. Which one, and what does the table say for it?",
            "`pad` returns the lengths, and the code throws them away. Do as in exercise 01.4.",
        ),
        solution=embed,
        cases=_text_cases,
        misconceptions=(
            Misconception(
                "as it was found",
                lambda table, texts: table[pad(texts)[0]].mean(1),
                "The mean still runs over the padding, which looks up the vector of id 0.",
            ),
            Misconception(
                "id 0 taken for padding",
                _embed_where_not_zero,
                "You left out every id 0. Here 0 is also a word, so real words are lost: only "
                "the lengths know what is padding.",
            ),
            Misconception(
                "a zero vector for id 0",
                _embed_zero_vector,
                "That is what `padding_idx=0` does: the padding adds nothing, but is still "
                "counted in the divisor, and the real word 0 has lost its vector.",
            ),
            Misconception(
                "the right sum, divided by T",
                _embed_divided_by_longest,
                "The padding is out of the sum, but still in the divisor. Divide each text by "
                "its own length.",
            ),
            Misconception(
                "the right divisor, padding in the sum",
                _embed_padded_sum,
                "You divide by the true length, but the padding's vectors are still in the sum.",
            ),
        ),
    ),
]
