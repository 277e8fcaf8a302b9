"""Exercises of chapter 02, Packing."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.rnn import (
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
    pad_sequence,
)

from course_utils.batching import pad
from course_utils.exercises.chapter_00 import random_sequences
from course_utils.exercises.engine import Exercise, Misconception

_LENGTHS = [[2, 1], [1, 2], [1, 3, 2], [2, 4, 1], [3, 3, 5], [5, 1, 2, 5], [4, 1, 6, 2, 3]]
# torch's sort keeps no order among equal lengths, which shows from 17 sequences on.
_MANY_TIES = [3, 1, 2] * 8


def _lstm(seed: int) -> nn.LSTM:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.LSTM(2, 3, batch_first=True, bidirectional=True).requires_grad_(False)


def _lstm_cases():
    return [(_lstm(i), random_sequences(i, lengths)) for i, lengths in enumerate(_LENGTHS)]


def run_lstm(lstm, sequences):
    packed = pack_sequence(sequences, enforce_sorted=False)
    output, _ = lstm(packed)
    padded, _ = pad_packed_sequence(output, batch_first=True)
    return padded


def _all_steps(lstm, sequences):
    return lstm(pad_sequence(sequences, batch_first=True))[0]


def _all_steps_then_zeros(lstm, sequences):
    padded, lengths = pad(sequences)
    keep = torch.arange(padded.shape[1]) < lengths[:, None]
    return lstm(padded)[0] * keep[..., None]


def _not_sorted_back(lstm, sequences):
    return run_lstm(lstm, sorted(sequences, key=len, reverse=True))


def _time_first(lstm, sequences):
    return pad_packed_sequence(lstm(pack_sequence(sequences, enforce_sorted=False))[0])[0]


def _still_packed(lstm, sequences):
    return lstm(pack_sequence(sequences, enforce_sorted=False))[0].data


def _still_a_list(lstm, sequences):
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    return lstm(pack_padded_sequence(sequences, lengths, enforce_sorted=False))


def _swapped(lstm, sequences):
    padded, lengths = pad(sequences)
    packed = pack_padded_sequence(padded, lengths, enforce_sorted=False)
    return pad_packed_sequence(lstm(packed)[0], batch_first=True)[0]


def _must_be_sorted(lstm, sequences):
    return pad_packed_sequence(lstm(pack_sequence(sequences))[0], batch_first=True)[0]


def _state_cases():
    shapes = [(1, 2, 1), (2, 2, 1), (2, 1, 3), (3, 3, 3), (2, 4, 2), (3, 4, 5)]
    return [
        (torch.arange(2 * layers * batch * hidden).float().view(2 * layers, batch, hidden),)
        for layers, batch, hidden in shapes
    ]


def states_by_layer(h_n):
    forward, backward = h_n[0::2], h_n[1::2]
    return torch.cat([forward, backward], dim=2)


def _label_cases():
    return [
        ([torch.arange(n) + 10 * (i + 1) for i, n in enumerate(lengths)],)
        for lengths in [*_LENGTHS, _MANY_TIES]
    ]


def labels_like_packed(labels):
    return pack_sequence(labels, enforce_sorted=False).data


def _by_step_unsorted(labels):
    longest = max(map(len, labels))
    steps = [[one[t] for one in labels if t < len(one)] for t in range(longest)]
    return torch.stack([label for step in steps for label in step])


def _padding_too(labels):
    longest_first = sorted(labels, key=len, reverse=True)
    return pad_sequence(longest_first).flatten()


def _packed_cases():
    cases = []
    for seed, lengths in enumerate(_LENGTHS):
        for extra in (0, 2, 5):
            padded, counts = pad(random_sequences(seed, lengths))
            packed = pack_padded_sequence(padded, counts, batch_first=True, enforce_sorted=False)
            cases.append((packed, max(lengths) + extra))
    # Packed in sorted order, a batch holds no indices to sort it back with.
    return [*cases, (pack_padded_sequence(*pad(random_sequences(9, [3, 1])), batch_first=True), 4)]


def unpack(packed, total_length):
    padded, _ = pad_packed_sequence(packed, batch_first=True, total_length=total_length)
    return padded


def _unpack_short(packed, total_length):
    return pad_packed_sequence(packed, batch_first=True)[0]


def _zeros(padded, total_length):
    missing = total_length - padded.shape[1]
    return padded.new_zeros(padded.shape[0], missing, padded.shape[2])


def _unpack_front(packed, total_length):
    padded = _unpack_short(packed, total_length)
    return torch.cat([_zeros(padded, total_length), padded], dim=1)


def _unpack_wide(packed, total_length):
    padded = _unpack_short(packed, total_length)
    return nn.functional.pad(padded, (0, total_length - padded.shape[1]))


def _encoder_cases():
    return [
        (_lstm(20 + i), *pad(random_sequences(30 + i, lengths)))
        for i, lengths in enumerate(_LENGTHS)
    ]


def encode(lstm, padded, lengths):
    packed = pack_padded_sequence(padded, lengths, batch_first=True, enforce_sorted=False)
    _, (h_n, _) = lstm(packed)
    return torch.cat([h_n[-2], h_n[-1]], dim=1)


def _encode_sorted(lstm, padded, lengths):
    order = lengths.argsort(descending=True, stable=True)
    return encode(lstm, padded[order], lengths[order])


def _encode_sorted_again(lstm, padded, lengths):
    order = lengths.argsort(descending=True, stable=True)
    return encode(lstm, padded[order], lengths[order])[order]


def _encode_lengths_only(lstm, padded, lengths):
    return encode(lstm, padded, lengths.sort(descending=True).values)


def _encode_backward_half(lstm, padded, lengths):
    return encode(lstm, padded, lengths)[:, lstm.hidden_size :]


def _encode_backward_first(lstm, padded, lengths):
    return encode(lstm, padded, lengths).roll(lstm.hidden_size, dims=1)


def _encode_last_step(lstm, padded, lengths):
    packed = pack_padded_sequence(padded, lengths, batch_first=True, enforce_sorted=False)
    output, _ = pad_packed_sequence(lstm(packed)[0], batch_first=True)
    return output[torch.arange(len(lengths)), lengths - 1]


def _encode_swapped(lstm, padded, lengths):
    _, (h_n, _) = lstm(pack_padded_sequence(padded, lengths, enforce_sorted=False))
    return torch.cat([h_n[-2], h_n[-1]], dim=1)


def _encode_padded(lstm, padded, lengths):
    h_n = lstm(padded)[1][0]
    return torch.cat([h_n[-2], h_n[-1]], dim=1)


EXERCISES = [
    Exercise(
        id="02.1",
        title="Repair the snippet that packs a list",
        minutes=6,
        task=(
            "`sequences` is a list of tensors (T_i, D), in any order of lengths, and `lstm` was "
            "made with `batch_first=True` and reads both ways. Pack them, run the LSTM, and return "
            "its outputs as (B, T, 2 H), in the order given, with zeros at the padding."
        ),
        hints=(
            "`pack_padded_sequence` takes one padded tensor, and `pack_sequence` takes a list. "
            "Both want to be told if the lengths are not sorted.",
            "`pack_sequence(sequences, enforce_sorted=False)`, the LSTM, then "
            "`pad_packed_sequence(output, batch_first=True)`, which returns two things.",
        ),
        solution=run_lstm,
        cases=_lstm_cases,
        misconceptions=(
            Misconception(
                "not packed at all",
                _all_steps,
                "The LSTM ran over the padding: its backward half starts there, so the real "
                "steps are wrong as well.",
            ),
            Misconception(
                "not packed, and zeroed afterwards",
                _all_steps_then_zeros,
                "Zeros at the padding hide it, but the LSTM has run over it: its backward half "
                "came through the padding before it met the sequence.",
            ),
            Misconception(
                "sorted, and not sorted back",
                _not_sorted_back,
                "The rows come out longest first, not in the order given. Let torch sort, and "
                "sort back: `enforce_sorted=False`.",
            ),
            Misconception(
                "time first",
                _time_first,
                "`pad_packed_sequence` gives (T, B, H) unless told `batch_first=True`; what the "
                "LSTM was made with does not reach it.",
            ),
            Misconception(
                "not unpacked",
                _still_packed,
                "That is `output.data`, all steps of all sequences in one row. "
                "`pad_packed_sequence` makes a batch of it.",
            ),
            Misconception(
                "still a list",
                _still_a_list,
                "`pack_padded_sequence` wants one padded tensor, and got a list. For a list there "
                "is `pack_sequence`.",
            ),
            Misconception(
                "packed with time first",
                _swapped,
                "`pack_padded_sequence` took your first dimension for time: say "
                "`batch_first=True`. Where B equals T, nothing crashes, and all is wrong.",
            ),
            Misconception(
                "only for sorted lengths",
                _must_be_sorted,
                "This works only if the longest sequence comes first, and so on down. Say "
                "`enforce_sorted=False`, and torch sorts and sorts back.",
            ),
        ),
    ),
    Exercise(
        id="02.2",
        title="Labels in the order of the packed steps",
        minutes=5,
        task=(
            "You want a loss at every step, straight on `packed.data`, with no unpacking. `labels` "
            "is a list of B tensors (T_i,), a label a step, in the order of the sequences, which "
            "were packed with `enforce_sorted=False`. Return all labels as one tensor, so that "
            "entry k belongs to `packed.data[k]`."
        ),
        hints=(
            "`packed.data` holds step 0 of every sequence first, the longest sequence at the "
            "front, then step 1 …",
            "Whatever was done to the inputs, do to the labels: pack them too.",
        ),
        solution=labels_like_packed,
        cases=_label_cases,
        misconceptions=(
            Misconception(
                "one sequence after the other",
                lambda labels: torch.cat(labels),
                "Your labels go sequence after sequence; packed data goes step after step. The "
                "shapes fit, so the loss says nothing.",
            ),
            Misconception(
                "sorted by yourself",
                lambda labels: pack_sequence(sorted(labels, key=len, reverse=True)).data,
                "Longest first, and right for small batches. But torch need not keep the order "
                "given where lengths are equal, so in larger batches labels swap rows. Let torch "
                "sort both: `enforce_sorted=False`.",
            ),
            Misconception(
                "step by step, but not sorted",
                _by_step_unsorted,
                "Step after step is right. Within a step, though, torch puts the longest sequence "
                "first, not the first one given.",
            ),
            Misconception(
                "sorted, one after the other",
                lambda labels: torch.cat(sorted(labels, key=len, reverse=True)),
                "Longest first is right, but you go through one sequence at a time. Packed data "
                "goes through one step at a time.",
            ),
            Misconception(
                "padding among the labels",
                _padding_too,
                "The padding's labels are among them. Packed data has none, so neither has its "
                "labels.",
            ),
            Misconception(
                "only for sorted lengths",
                lambda labels: pack_sequence(labels).data,
                "Without `enforce_sorted=False` this works only if the longest comes first.",
            ),
        ),
    ),
    Exercise(
        id="02.3",
        title="The states of a BiLSTM, layer by layer",
        minutes=6,
        task=(
            "`h_n` (2 L, B, H) comes from a packed batch and a BiLSTM of L layers. Return "
            "(L, B, 2 H): for each layer, lowest first, each sequence's final states, forward, "
            "then backward."
        ),
        hints=(
            "The first dimension goes layer by layer, and within a layer forward, then backward: "
            "f0, b0, f1, b1 …",
            "`h_n[0::2]` are all forward states, `h_n[1::2]` all backward ones. Put them side by "
            "side with `torch.cat`.",
        ),
        solution=states_by_layer,
        cases=_state_cases,
        misconceptions=(
            Misconception(
                "only the last layer",
                lambda h_n: torch.cat([h_n[-2], h_n[-1]], dim=1),
                "That is the last layer alone, (B, 2 H). Here all layers are asked for.",
            ),
            Misconception(
                "direction by direction",
                lambda h_n: torch.cat(h_n.chunk(2), dim=2),
                "You took the first half for forward and the second for backward. `h_n` goes layer "
                "by layer: f0, b0, f1, b1.",
            ),
            Misconception(
                "backward first",
                lambda h_n: torch.cat([h_n[1::2], h_n[0::2]], dim=2),
                "The right states, the wrong way round: forward comes first.",
            ),
            Misconception(
                "reshaped across the batch",
                lambda h_n: h_n.reshape(len(h_n) // 2, h_n.shape[1], -1),
                "A reshape reads on in memory: it puts states of different sequences into one "
                "row. Use `torch.cat`, or move the dimensions before the reshape.",
            ),
            Misconception(
                "one below the other",
                lambda h_n: torch.cat([h_n[0::2], h_n[1::2]], dim=1),
                "`dim=1` puts the backward states below the forward ones, (L, 2 B, H). Side by "
                "side is `dim=2`.",
            ),
        ),
    ),
    Exercise(
        id="02.4",
        title="Back to the width it had",
        minutes=4,
        task=(
            "Unpack `packed` into (B, T, D), batch first, where T is `total_length`: the width of "
            "the batch before it was packed, perhaps more than its longest sequence. Zeros at the "
            "end. Return the tensor alone."
        ),
        hints=(
            "A mask made before packing has the old width. Without help, what does unpacking give?",
            "`pad_packed_sequence` has an argument of just this name, and returns two things.",
        ),
        solution=unpack,
        cases=_packed_cases,
        misconceptions=(
            Misconception(
                "as wide as the longest",
                _unpack_short,
                "You got the longest sequence's width back. The columns that were all padding are "
                "forgotten: `total_length=` brings them back.",
            ),
            Misconception(
                "time first",
                lambda packed, total_length: pad_packed_sequence(packed, total_length=total_length)[
                    0
                ],
                "Time comes first, (T, B, D), unless told `batch_first=True`.",
            ),
            Misconception(
                "the lengths as well",
                lambda packed, total_length: pad_packed_sequence(
                    packed, batch_first=True, total_length=total_length
                ),
                "`pad_packed_sequence` returns the padded tensor, and the lengths with it. Return "
                "only the tensor.",
            ),
            Misconception(
                "the width as padding value",
                lambda packed, total_length: pad_packed_sequence(packed, True, total_length)[0],
                "The third argument is `padding_value`: you filled the padding with the width. "
                "Write `total_length=`.",
            ),
            Misconception(
                "padded in front",
                _unpack_front,
                "The missing columns stand at the beginning, so every step has moved to the right.",
            ),
            Misconception(
                "wider, not longer",
                _unpack_wide,
                "`F.pad(x, (0, n))` lengthens the *last* dimension, the features. Time is the one "
                "before: `(0, 0, 0, n)`.",
            ),
        ),
    ),
    Exercise(
        id="02.5",
        title="In the wild: the embeddings that were mixed up",
        minutes=7,
        task=(
            "Find the fault of `encode_as_found`, and write `encode` without it. `lstm` reads both "
            "ways, `padded` is (B, T, D), `lengths` (B,). Return (B, 2 H): row i holds the final "
            "states of sequence i, forward, then backward."
        ),
        hints=(
            "Each vector is right by itself. Whose vector is in row 0?",
            "Sorting needs its inverse afterwards, `order.argsort()`. Or let torch do both: "
            "`enforce_sorted=False`.",
        ),
        solution=encode,
        cases=_encoder_cases,
        misconceptions=(
            Misconception(
                "as it was found",
                _encode_sorted,
                "The rows are still longest first. Put them back in the order of the batch; "
                "`enforce_sorted=False` undoes only torch's own sorting, not yours.",
            ),
            Misconception(
                "sorted a second time",
                _encode_sorted_again,
                "Indexing with `order` again sorts once more. The way back is the inverse, "
                "`order.argsort()`.",
            ),
            Misconception(
                "only the lengths sorted",
                _encode_lengths_only,
                "You sorted the lengths and left the sequences: each is now cut at another one's "
                "length, and nothing complains.",
            ),
            Misconception(
                "not packed",
                _encode_padded,
                "The order is right now, but without packing both halves have run through the "
                "padding.",
            ),
            Misconception(
                "the output at the last step",
                _encode_last_step,
                "At the last real step the forward half is done, but the backward half has only "
                "begun. Take both from `h_n`.",
            ),
            Misconception(
                "packed with time first",
                _encode_swapped,
                "`pack_padded_sequence` took your first dimension for time: say "
                "`batch_first=True`. Where B equals T, nothing crashes, and all is wrong.",
            ),
            Misconception(
                "backward first",
                _encode_backward_first,
                "The right states, the wrong way round: forward is `h_n[-2]`, and comes first.",
            ),
            Misconception(
                "half of the state",
                _encode_backward_half,
                "Only the backward half came back. Both belong: `h_n[-2]` and `h_n[-1]`.",
            ),
        ),
    ),
]
