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

from course_utils.batches.padding import pad
from course_utils.exercises.cases import ragged, random_sequences
from course_utils.exercises.engine import Exercise, slip

_LENGTHS = ragged([2, 1], [1, 2], [1, 3, 2], [2, 4, 1], [3, 3, 5], [5, 1, 2, 5])
# torch's sort need not keep the order of equal lengths, which shows from 17 sequences on.
_MANY_TIES = [3, 1, 2] * 8


def _lstm(seed: int) -> nn.LSTM:
    """Make an LSTM that reads both ways, every second one with two layers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        lstm = nn.LSTM(2, 3, 1 + seed % 2, batch_first=True, bidirectional=True)
        return lstm.requires_grad_(False)


def _lstm_cases():
    return [(_lstm(i), random_sequences(i, lengths)) for i, lengths in enumerate(_LENGTHS)]


def run_lstm(lstm, sequences):
    packed = pack_sequence(sequences, enforce_sorted=False)
    output, _ = lstm(packed)
    padded, _ = pad_packed_sequence(output, batch_first=True)
    return padded


def _zeroed_afterwards(lstm, sequences):
    padded, lengths = pad(sequences)
    keep = torch.arange(padded.shape[1]) < lengths[:, None]
    return lstm(padded)[0] * keep[..., None]


RUN_LSTM = Exercise(
    id="02.1",
    title="Repair the snippet that packs a list",
    minutes=6,
    notice="""
        The LSTM returns a `PackedSequence` because it was given one. All it needs to know about the
        lengths is in its input.""",
    task="""
        `sequences` is a list of tensors (T_i, D), in any order of lengths, and `lstm` was made with
        `batch_first=True` and reads in both directions. Pack the sequences, run the LSTM, and
        return its outputs as (B, T, 2 H), in the order given, with zeros at the padding.""",
    hints=(
        """`pack_padded_sequence` takes one padded tensor, and `pack_sequence` takes a list. Both
        must be told if the lengths are not sorted.""",
        """`pack_sequence(sequences, enforce_sorted=False)`, then the LSTM, then
        `pad_packed_sequence(output, batch_first=True)`, which returns two things.""",
    ),
    solution=run_lstm,
    cases=_lstm_cases,
    axes="B T 2H",
    misconceptions=(
        slip(
            "not packed at all",
            lambda lstm, sequences: lstm(pad_sequence(sequences, batch_first=True))[0],
        ).teach("""
            The LSTM also ran over the padding. Its backward half starts there, so the outputs at
            the real steps are wrong as well."""),
        slip("not packed, and zeroed afterwards", _zeroed_afterwards).teach("""
            Writing zeros at the padding hides the fault, but the LSTM has still run over it: its
            backward half went through the padding before it reached the sequence."""),
        slip(
            "sorted, and not sorted back",
            {"pack_sequence(sequences,": "pack_sequence(sorted(sequences, key=len, reverse=True),"},
        ).teach("""
            The rows come out longest first, not in the order given. Let torch sort them and restore
            the order: `enforce_sorted=False`."""),
        slip("time first", {", batch_first=True": ""}).teach("""
            `pad_packed_sequence` returns (T, B, H) unless you pass `batch_first=True`. It does not
            know how the LSTM was made."""),
        slip("not unpacked", {"return padded": "return output.data"}).teach("""
            That is `output.data`, the steps of all sequences in one long tensor.
            `pad_packed_sequence` makes a batch of them."""),
        slip(
            "still a list",
            {"pack_sequence(sequences,": "pack_padded_sequence(sequences, torch.ones(2),"},
        ).teach("""
            `pack_padded_sequence` expects one padded tensor, and was given a list. For a list,
            there is `pack_sequence`."""),
        slip(
            "packed with time first",
            {"pack_sequence(sequences,": "pack_padded_sequence(*pad(sequences),"},
        ).teach("""
            `pack_padded_sequence` took your first dimension for time: pass `batch_first=True`.
            Where B equals T, nothing crashes, and every output is wrong."""),
        slip("only the forward half", {"padded\n": "padded[..., : lstm.hidden_size]\n"}).teach("""
            The LSTM reads in both directions, and its outputs hold both halves, 2 H numbers for
            each step. Return them all."""),
        slip("the lengths as well", {"padded, _ = pad": "padded = pad"}).teach("""
            `pad_packed_sequence` returns the padded tensor together with the lengths. Return only
            the tensor."""),
        slip("only for sorted lengths", {", enforce_sorted=False": ""}).teach("""
            This works only if the sequences come sorted, longest first. Pass
            `enforce_sorted=False`; then torch sorts them itself and restores the order
            afterwards."""),
    ),
)


def _label_cases():
    return [
        ([torch.arange(n) + 100 * case + 10 * (i + 1) for i, n in enumerate(lengths)],)
        for case, lengths in enumerate([*_LENGTHS, _MANY_TIES])
    ]


def labels_like_packed(labels):
    return pack_sequence(labels, enforce_sorted=False).data


def _by_step_unsorted(labels):
    longest = max(map(len, labels))
    return torch.stack([one[t] for t in range(longest) for one in labels if t < len(one)])


LABELS = Exercise(
    id="02.2",
    title="Labels in the order of the packed steps",
    minutes=5,
    notice="""
        Nothing is sorted by hand. Packing does to the labels whatever it did to the inputs.""",
    task="""
        You want a loss at every step, directly on `packed.data`, without unpacking. `labels` is a
        list of B tensors (T_i,), one label for each step, in the order of the sequences, which were
        packed with `enforce_sorted=False`. Return all labels as one tensor, so that entry k belongs
        to `packed.data[k]`.""",
    hints=(
        """`packed.data` holds step 0 of every sequence first, starting with the longest sequence,
        then step 1 of every sequence, and so on.""",
        "Do to the labels whatever was done to the inputs: pack them too.",
    ),
    solution=labels_like_packed,
    cases=_label_cases,
    axes="N",
    misconceptions=(
        slip("one sequence after the other", lambda labels: torch.cat(labels)).teach("""
            Your labels go sequence by sequence; packed data goes step by step. The shapes fit, so
            the loss does not complain."""),
        slip(
            "sorted by yourself",
            {"labels, enforce_sorted=False": "sorted(labels, key=len, reverse=True)"},
        ).teach("""
            Longest first is right, and so is your result for small batches. But torch need not keep
            the given order among equal lengths, so in larger batches labels go to another sequence.
            Let torch sort both: `enforce_sorted=False`."""),
        slip("step by step, but not sorted", _by_step_unsorted).teach("""
            Step by step is right. Within a step, though, torch puts the longest sequence first, not
            the first one given."""),
        slip(
            "sorted, one after the other",
            lambda labels: torch.cat(sorted(labels, key=len, reverse=True)),
        ).teach("""
            Longest first is right, but you go through one sequence at a time. Packed data goes
            through one step at a time."""),
        slip(
            "padding among the labels",
            lambda labels: pad_sequence(sorted(labels, key=len, reverse=True)).flatten(),
        ).teach("""
            The labels of the padding are among them. Packed data has no padding, so its labels must
            have none either."""),
        slip("only for sorted lengths", {", enforce_sorted=False": ""}).teach("""
            Without `enforce_sorted=False` this works only if the sequences come sorted, longest
            first."""),
    ),
)


def _state_cases():
    shapes = [(1, 2, 1), (2, 2, 1), (2, 1, 3), (3, 3, 3), (2, 4, 2)]
    shapes += [(3, 4, 5), (3, 4, 5), (5, 9, 9)]
    # Cases of one shape differ in their values: each goes on counting where the last one ended.
    ends = torch.tensor([2 * layers * batch * hidden for layers, batch, hidden in shapes]).cumsum(0)
    numbers = torch.arange(int(ends[-1])).float().tensor_split(ends[:-1])
    return [
        (one.view(2 * layers, batch, hidden),)
        for one, (layers, batch, hidden) in zip(numbers, shapes, strict=True)
    ]


def states_by_layer(h_n):
    forward, backward = h_n[0::2], h_n[1::2]
    return torch.cat([forward, backward], dim=2)


STATES = Exercise(
    id="02.3",
    title="The states of a BiLSTM, layer by layer",
    minutes=6,
    notice="""
        `torch.cat` along the last dimension leaves layers and batch where they are, so no state can
        move into the row of another sequence.""",
    task="""
        `h_n` (2 L, B, H) comes from a packed batch and a BiLSTM of L layers. Return (L, B, 2 H):
        for each layer, lowest first, the final states of each sequence, forward, then backward.""",
    hints=(
        """The first dimension goes layer by layer, and within a layer forward, then backward: f0,
        b0, f1, b1, and so on.""",
        """`h_n[0::2]` are all forward states, and `h_n[1::2]` all backward ones. Put them side by
        side with `torch.cat`.""",
    ),
    solution=states_by_layer,
    cases=_state_cases,
    axes="L B 2H",
    misconceptions=(
        slip("only the last layer", lambda h_n: torch.cat([h_n[-2], h_n[-1]], dim=1)).teach("""
            That is the last layer alone, (B, 2 H). The task asks for all layers."""),
        slip("direction by direction", {"h_n[0::2], h_n[1::2]": "h_n.chunk(2)"}).teach("""
            You took the first half as forward and the second half as backward. `h_n` goes layer by
            layer: f0, b0, f1, b1."""),
        slip("backward first", {"[forward, backward]": "[backward, forward]"}).teach("""
            These are the right states the wrong way round: forward comes first."""),
        slip("one direction twice", {"h_n[1::2]": "h_n[0::2]"}).teach("""
            Both halves hold the forward states. The backward ones are `h_n[1::2]`."""),
        slip("one direction twice, the other one", {"h_n[0::2]": "h_n[1::2]"}).teach("""
            Both halves hold the backward states. The forward ones are `h_n[0::2]`."""),
        slip(
            "reshaped across the batch",
            lambda h_n: h_n.reshape(len(h_n) // 2, h_n.shape[1], -1),
        ).teach("""
            A reshape reads the numbers in the order of memory, so it puts states of different
            sequences into one row. Use `torch.cat`, or move the dimensions before the reshape."""),
        slip(
            "the directions interleaved",
            {"cat([forward, backward], dim=2)": "stack([forward, backward], dim=3).flatten(2)"},
        ).teach("""
            The numbers of the two directions alternate. The whole forward state comes first, and
            then the whole backward one: `torch.cat`."""),
        slip("the highest layer first", {"dim=2)": "dim=2).flip(0)"}).teach("""
            The layers are in the reverse order. `h_n` begins with the lowest, and so should
            you."""),
        slip("one below the other", {"dim=2": "dim=1"}).teach("""
            `dim=1` puts the backward states below the forward ones, (L, 2 B, H). To put them side
            by side, use `dim=2`."""),
    ),
)


def _packed_cases():
    cases = []
    for seed, lengths in enumerate(_LENGTHS):
        for extra in (0, 2, 5):
            padded, counts = pad(random_sequences(seed, lengths))
            packed = pack_padded_sequence(padded, counts, batch_first=True, enforce_sorted=False)
            cases.append((packed, max(lengths) + extra))
    # A batch packed in sorted order holds no indices with which to undo the sorting.
    return [*cases, (pack_padded_sequence(*pad(random_sequences(9, [3, 1])), batch_first=True), 4)]


def unpack(packed, total_length):
    padded, _ = pad_packed_sequence(packed, batch_first=True, total_length=total_length)
    return padded


def _padded_by(widths):
    """Unpack without `total_length`, and add the missing columns by `F.pad`."""
    return {
        ", total_length=total_length": "",
        "return padded": f"return nn.functional.pad(padded, {widths})",
    }


UNPACK = Exercise(
    id="02.4",
    title="Back to the width it had",
    minutes=4,
    notice="""
        `total_length` matters as soon as something else still has the old width: a mask, labels, a
        residual connection.""",
    task="""
        Unpack `packed` into (B, T, D), batch first, where T is `total_length`: the width that the
        batch had before it was packed, which may be more than the length of its longest
        sequence. Put zeros at the end. Return the tensor alone.""",
    hints=(
        """A mask that was made before packing has the old width. Which width does unpacking give
        unless you tell it?""",
        "`pad_packed_sequence` has an argument of exactly this name, and returns two things.",
    ),
    solution=unpack,
    cases=_packed_cases,
    axes="B T D",
    misconceptions=(
        slip("as wide as the longest", {", total_length=total_length": ""}).teach("""
            Your result is as wide as the longest sequence. A packed batch does not know about
            columns that held nothing but padding; `total_length=` restores them."""),
        slip("time first", {" batch_first=True,": ""}).teach("""
            Time comes first, (T, B, D), unless you pass `batch_first=True`."""),
        slip("the lengths as well", {"padded, _ =": "padded ="}).teach("""
            `pad_packed_sequence` returns the padded tensor together with the lengths. Return only
            the tensor."""),
        slip(
            "the width as padding value",
            {"batch_first=True, total_length=total_length": "True, total_length"},
        ).teach("""
            The third argument is `padding_value`, so you filled the padding with the width. Write
            `total_length=`."""),
        slip("padded in front", _padded_by("(0, 0, total_length - padded.shape[1], 0)")).teach("""
            The missing columns are at the beginning, so every step has moved to the right."""),
        slip("wider, not longer", _padded_by("(0, total_length - padded.shape[1])")).teach("""
            `F.pad(x, (0, n))` lengthens the *last* dimension, the features. Time is the dimension
            before it: `(0, 0, 0, n)`."""),
    ),
)


def _encoder_cases():
    return [
        (_lstm(20 + i), *pad(random_sequences(30 + i, lengths)))
        for i, lengths in enumerate(_LENGTHS)
    ]


def encode(lstm, padded, lengths):
    packed = pack_padded_sequence(padded, lengths, batch_first=True, enforce_sorted=False)
    _, (h_n, _) = lstm(packed)
    return torch.cat([h_n[-2], h_n[-1]], dim=1)


_SORTED = {
    "    packed": "    order = lengths.argsort(descending=True, stable=True)\n"
    "    padded, lengths = padded[order], lengths[order]\n"
    "    packed"
}
_STATES = "torch.cat([h_n[-2], h_n[-1]], dim=1)"
_OUTPUT = {
    "_, (h_n, _) = lstm(packed)": "H = lstm.hidden_size\n"
    "    output, _ = pad_packed_sequence(lstm(packed)[0], batch_first=True)"
}

ENCODE = Exercise(
    id="02.5",
    title="In the wild: the embeddings that were mixed up",
    minutes=7,
    notice="""
        `h_n` comes back in the order of the batch, since torch undoes its own sorting. And
        `h_n[-2]` and `h_n[-1]` belong to the last layer, however many layers there are.""",
    task="""
        Find the fault in `encode_as_found`, and write `encode` without it. `lstm` reads in both
        directions, `padded` is (B, T, D), `lengths` (B,). Return (B, 2 H): row i holds the final
        states of sequence i, forward, then backward.""",
    hints=(
        "Each vector is right by itself. Which sequence does the vector in row 0 belong to?",
        """After sorting you need the inverse, `order.argsort()`. Or let torch do both:
        `enforce_sorted=False`.""",
    ),
    solution=encode,
    cases=_encoder_cases,
    axes="B 2H",
    misconceptions=(
        slip("as it was found", _SORTED).teach("""
            The rows are still longest first. Put them back in the order of the batch;
            `enforce_sorted=False` undoes only torch's own sorting, not yours."""),
        slip("sorted a second time", _SORTED | {"dim=1)": "dim=1)[order]"}).teach("""
            Indexing with `order` again sorts a second time. What restores the order is the inverse,
            `order.argsort()`."""),
        slip(
            "order restored twice",
            {"dim=1)": "dim=1)[lengths.argsort(descending=True).argsort()]"},
        ).teach("""
            With `enforce_sorted=False`, torch sorts the batch and restores its order by itself.
            You restored it once more, which puts the rows in another order again."""),
        slip(
            "only the sequences sorted",
            {"padded, lengths,": "padded[lengths.argsort(descending=True)], lengths,"},
        ).teach("""
            You sorted the sequences but not their lengths, so each sequence is cut at the length
            of another one, and nothing complains."""),
        slip(
            "only the lengths sorted",
            {"padded, lengths,": "padded, lengths.sort(descending=True).values,"},
        ).teach("""
            You sorted the lengths but not the sequences. Each sequence is now cut at the length of
            another one, and nothing complains."""),
        slip("not packed", {"lstm(packed)": "lstm(padded)"}).teach("""
            The order is right now, but without packing both halves have run through the
            padding."""),
        slip(
            "the output at the last step",
            _OUTPUT | {_STATES: "output[torch.arange(len(lengths)), lengths - 1]"},
        ).teach("""
            At the last real step the forward half has finished, but the backward half has only just
            begun. Take both from `h_n`."""),
        slip(
            "the last column",
            _OUTPUT | {_STATES: "output[:, -1]"},
            lambda lstm, padded, lengths: lstm(padded)[0][:, -1],
        ).teach("""
            `output[:, -1]` is padding for all but the longest sequences, and the backward half has
            only just begun there. Take both final states from `h_n`."""),
        slip(
            "the last column, and the first",
            _OUTPUT | {"h_n[-2], h_n[-1]": "output[:, -1, :H], output[:, 0, H:]"},
        ).teach("""
            The backward half does end at step 0. But the forward half ends at the last step of each
            sequence, not in the last column. `h_n` has both."""),
        slip("the first layer", {"h_n[-2], h_n[-1]": "h_n[0], h_n[1]"}).teach("""
            `h_n` goes layer by layer, the lowest first, so `h_n[0]` and `h_n[1]` belong to the
            first layer. With several layers, the last one is `h_n[-2]` and `h_n[-1]`."""),
        slip(
            "one direction twice",
            {"h_n[-2], h_n[-1]": "h_n[-1], h_n[-1]"},
            {"h_n[-2], h_n[-1]": "h_n[-2], h_n[-2]"},
        ).teach("""
            Both halves are the same direction. Forward is `h_n[-2]`, backward `h_n[-1]`."""),
        slip("the cell states", {"_, (h_n, _)": "_, (_, h_n)"}).teach("""
            An LSTM returns `output, (h_n, c_n)`, and you took `c_n`, its internal memory. The state
            that it passes on as its output is `h_n`."""),
        slip("all layers", {_STATES: "h_n.transpose(0, 1).flatten(1)"}).teach("""
            You joined the states of every layer. The task asks for the last layer only: `h_n[-2]`
            and `h_n[-1]`."""),
        slip("packed with time first", {" batch_first=True,": ""}).teach("""
            `pack_padded_sequence` took your first dimension for time: pass `batch_first=True`.
            Where B equals T, nothing crashes, and every state is wrong."""),
        slip("backward first", {"h_n[-2], h_n[-1]": "h_n[-1], h_n[-2]"}).teach("""
            These are the right states the wrong way round: forward is `h_n[-2]`, and it comes
            first."""),
        slip("half of the state", {_STATES: "h_n[-1]"}, {_STATES: "h_n[-2]"}).teach("""
            You returned one direction only. Return both: `h_n[-2]` and `h_n[-1]`."""),
    ),
)

EXERCISES = [RUN_LSTM, LABELS, STATES, UNPACK, ENCODE]
