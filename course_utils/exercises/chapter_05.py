"""Exercises of chapter 05, Hybrid models."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from course_utils.exercises.chapter_00 import random_sequences
from course_utils.exercises.engine import Exercise, Misconception
from course_utils.layers import MaskedConv1d
from course_utils.masks import lengths_to_keep_mask, masked_mean
from course_utils.models import MaskedTransformer, PackedLSTM
from course_utils.oracle import leak_map, together_equals_alone


def _hybrid_cases():
    cases = []
    for seed, lengths in enumerate([[2, 1, 3], [3, 2, 3], [4, 2], [1, 4, 3, 4], [5, 3, 7]]):
        generator = torch.Generator().manual_seed(seed)
        # The first batch has a column to spare, and so has every second one.
        keep = lengths_to_keep_mask(torch.tensor(lengths), max(lengths) + (seed + 1) % 2)
        padded = torch.randn(*keep.shape, 10, generator=generator).round(decimals=1)
        cases.append((padded.masked_fill(~keep[..., None], 0), torch.tensor(lengths)))
    return cases


def hybrid(padded, lengths):
    torch.manual_seed(0)
    lstm = nn.LSTM(10, 20, batch_first=True)
    layer = nn.TransformerEncoderLayer(d_model=20, nhead=2, dropout=0.0, batch_first=True)

    packed = pack_padded_sequence(padded, lengths, batch_first=True, enforce_sorted=False)
    output, _ = lstm(packed)
    output, _ = pad_packed_sequence(output, batch_first=True, total_length=padded.shape[1])

    keep_mask = torch.arange(padded.shape[1]) < lengths[:, None]
    output = layer(output, src_key_padding_mask=~keep_mask)
    return output.masked_fill(~keep_mask[..., None], 0)


def _hybrid(
    padded, lengths, *, batch_first=True, width="T", mask="padding", packed=True, fill=True
):
    torch.manual_seed(0)
    lstm = nn.LSTM(10, 20, batch_first=True)
    layer = nn.TransformerEncoderLayer(d_model=20, nhead=2, dropout=0.0, batch_first=batch_first)
    total = padded.shape[1] if width == "T" else None
    if packed:
        rows = pack_padded_sequence(padded, lengths, batch_first=True, enforce_sorted=False)
        output, _ = pad_packed_sequence(lstm(rows)[0], batch_first=True, total_length=total)
    else:
        output, _ = lstm(padded)
    cut = output.shape[1] if width == "cut" else padded.shape[1]
    padding = torch.arange(cut) >= lengths[:, None]
    late = torch.arange(cut) > lengths[:, None]
    hide = {"padding": padding, "inverted": ~padding, "none": None, "floats": padding.float()}
    hide |= {"late": late, "transposed": padding.T}
    output = layer(output, src_key_padding_mask=hide[mask])
    if fill == "inverted":
        return output.masked_fill(~padding[..., None], 0)
    return output.masked_fill(padding[..., None], 0) if fill else output


def _variant(**options):
    """Make a wrong answer, and the same without the filled padding."""

    def wrong(padded, lengths):
        return _hybrid(padded, lengths, **options)

    def unfilled(padded, lengths):
        return _hybrid(padded, lengths, **options, fill=False)

    return wrong, unfilled


_as_found = _variant(batch_first=False, width="longest")
_no_batch_first = _variant(batch_first=False)
_no_total_length = _variant(width="longest")
_cut_mask = _variant(width="cut")
_no_mask = _variant(mask="none")
_inverted_mask = _variant(mask="inverted")
_float_mask = _variant(mask="floats")
_cut_no_batch_first = _variant(batch_first=False, width="cut")
_transposed = _variant(batch_first=False, mask="transposed")
_one_pad_too_many = _variant(mask="late")


def _wrong_side(padded, lengths):
    return _hybrid(padded, lengths, fill="inverted")


def _all_inverted(padded, lengths):
    return _hybrid(padded, lengths, mask="inverted", fill="inverted")


def _last_column_cut(padded, lengths):
    output = _hybrid(padded, lengths, width="cut")
    return output[:, : int(lengths.max())]


def _unfilled_hybrid(padded, lengths):
    return _hybrid(padded, lengths, fill=False)


def _stack_cases():
    layers = [
        [(3, 1, 1, 1)],
        [(3, 2, 0, 1)],
        [(5, 2, 2, 1)],
        [(3, 1, 0, 2)],
        [(5, 2, 2, 1), (3, 2, 1, 1)],
        [(3, 2, 0, 1), (3, 1, 2, 2), (2, 2, 0, 1)],
        [(7, 3, 3, 1), (3, 2, 0, 1)],
    ]
    lengths = [[4, 5], [5, 6, 7, 8], [1, 2, 3, 9], [5, 9], [7, 8, 9], [9, 15, 16], [9, 22, 31]]
    return [(torch.tensor(n), stack) for n, stack in zip(lengths, layers, strict=True)]


def lengths_after(lengths, layers):
    for kernel_size, stride, padding, dilation in layers:
        span = dilation * (kernel_size - 1) + 1
        lengths = (lengths + 2 * padding - span) // stride + 1
    return lengths


def _only_strides(lengths, layers):
    for _, stride, _, _ in layers:
        lengths = lengths // stride
    return lengths


def _ceil_strides(lengths, layers):
    for _, stride, _, _ in layers:
        lengths = -(-lengths // stride)
    return lengths


def _by_ratio(lengths, layers):
    longest = lengths.max()
    after = lengths_after(longest[None], layers)[0]
    return lengths * after // longest


def _one_sided(lengths, layers):
    for kernel_size, stride, padding, dilation in layers:
        lengths = (lengths + padding - dilation * (kernel_size - 1) - 1) // stride + 1
    return lengths


def _no_dilation(lengths, layers):
    return lengths_after(lengths, [(k, s, p, 1) for k, s, p, _ in layers])


def _one_missing(lengths, layers):
    for kernel_size, stride, padding, dilation in layers:
        lengths = (lengths + 2 * padding - dilation * (kernel_size - 1) - 1) // stride
    return lengths


def _span_too_long(lengths, layers):
    for kernel_size, stride, padding, dilation in layers:
        lengths = (lengths + 2 * padding - dilation * kernel_size) // stride + 1
    return lengths


def _true_division(lengths, layers):
    for kernel_size, stride, padding, dilation in layers:
        lengths = (lengths + 2 * padding - dilation * (kernel_size - 1) - 1) / stride + 1
    return lengths


def _rounded_up(lengths, layers):
    for kernel_size, stride, padding, dilation in layers:
        free = lengths + 2 * padding - dilation * (kernel_size - 1) - 1
        lengths = -(-free // stride) + 1
    return lengths


def _no_padding(lengths, layers):
    return lengths_after(lengths, [(k, s, 0, d) for k, s, _, d in layers])


def _swapped(lengths, layers):
    return lengths_after(lengths, [(k, s, d, p) for k, s, p, d in layers])


def _every_layer(lengths, layers):
    return [lengths_after(lengths, layers[: depth + 1]) for depth in range(len(layers))]


def _last_layer_only(lengths, layers):
    return lengths_after(lengths, layers[-1:])


def _first_layer_only(lengths, layers):
    return lengths_after(lengths, layers[:1])


def _norm_cases():
    cases = []
    for seed, lengths in enumerate([[2, 1], [3, 1, 2], [2, 2], [4, 1], [1, 5, 3]]):
        generator = torch.Generator().manual_seed(seed)
        for extra, junk, spread in ((1, 6.0, 1.0), (0, 0.0, 0.004), (2, float("nan"), 1.0)):
            keep_mask = lengths_to_keep_mask(torch.tensor(lengths), max(lengths) + extra)
            values = torch.randn(*keep_mask.shape, 2, generator=generator).round(decimals=1)
            values = spread * (3 + values)
            values = values.masked_fill(~keep_mask[..., None], junk)
            cases.append((values.requires_grad_(), keep_mask))
    return cases


def masked_norm(values, keep_mask):
    real = values[keep_mask]
    normed = torch.zeros_like(values)
    normed[keep_mask] = (real - real.mean(0)) / (real.var(0, unbiased=False) + 1e-5).sqrt()
    return normed


def _scaled(real, mean, variance):
    return (real - mean) / (variance + 1e-5).sqrt()


def _over_all(values, keep_mask):
    flat = values.flatten(0, 1)
    normed = _scaled(values, flat.mean(0), flat.var(0, unbiased=False))
    return normed.masked_fill(~keep_mask[..., None], 0)


def _over_all_unfilled(values, keep_mask):
    flat = values.flatten(0, 1)
    return _scaled(values, flat.mean(0), flat.var(0, unbiased=False))


def _zero_filled(values, keep_mask):
    return _over_all(values.masked_fill(~keep_mask[..., None], 0), keep_mask)


def _unbiased(values, keep_mask):
    real, normed = values[keep_mask], torch.zeros_like(values)
    normed[keep_mask] = _scaled(real, real.mean(0), real.var(0))
    return normed


def _each_alone(values, keep_mask):
    normed = torch.zeros_like(values)
    for row, keep in enumerate(keep_mask):
        real = values[row, keep]
        normed[row, keep] = _scaled(real, real.mean(0), real.var(0, unbiased=False))
    return normed


def _each_step(values, keep_mask):
    filled = values.masked_fill(~keep_mask[..., None], 0)
    mean, variance = filled.mean(2, keepdim=True), filled.var(2, unbiased=False, keepdim=True)
    return _scaled(filled, mean, variance).masked_fill(~keep_mask[..., None], 0)


def _detached(values, keep_mask):
    real, normed = values[keep_mask], torch.zeros_like(values)
    still = real.detach()
    normed[keep_mask] = _scaled(real, still.mean(0), still.var(0, unbiased=False))
    return normed


def _added_to_the_root(values, keep_mask):
    real, normed = values[keep_mask], torch.zeros_like(values)
    normed[keep_mask] = (real - real.mean(0)) / (real.std(0, unbiased=False) + 1e-5)
    return normed


def _no_root(values, keep_mask):
    real, normed = values[keep_mask], torch.zeros_like(values)
    normed[keep_mask] = (real - real.mean(0)) / (real.var(0, unbiased=False) + 1e-5)
    return normed


def _one_mean_for_all(values, keep_mask):
    real, normed = values[keep_mask], torch.zeros_like(values)
    normed[keep_mask] = _scaled(real, real.mean(), real.var(unbiased=False))
    return normed


def _multiplied_norm(values, keep_mask):
    keep = keep_mask[..., None]
    mean = (values * keep).sum((0, 1)) / keep.sum()
    variance = ((values - mean).square() * keep).sum((0, 1)) / keep.sum()
    return _scaled(values, mean, variance) * keep


def _clone_kept(values, keep_mask):
    normed = values.clone()
    normed[keep_mask] = masked_norm(values, keep_mask)[keep_mask]
    return normed


def _written_to_padding(values, keep_mask):
    real, normed = values[keep_mask], values.clone()
    normed[~keep_mask] = _scaled(values[~keep_mask], real.mean(0), real.var(0, unbiased=False))
    return normed


def _inverted_norm(values, keep_mask):
    return masked_norm(values, ~keep_mask)


def _not_filled(values, keep_mask):
    real = values[keep_mask]
    return _scaled(values, real.mean(0), real.var(0, unbiased=False))


def _filled_after(values, keep_mask):
    return _not_filled(values, keep_mask).masked_fill(~keep_mask[..., None], 0)


def _flat(values, keep_mask):
    real = values[keep_mask]
    return _scaled(real, real.mean(0), real.var(0, unbiased=False))


class _Pooled(nn.Module):
    """A linear layer, a pooling that subclasses choose, and a head."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(2, 6), nn.Linear(6, 3)

    def forward(self, padded, lengths):
        return self.head(self.pool(self.embed(padded).relu(), lengths))


class UnmaskedMean(_Pooled):
    """Averages over padding too."""

    def pool(self, steps, lengths):
        return steps.mean(1)


class MultipliedMask(_Pooled):
    """Right, as long as the padding holds ordinary numbers."""

    def pool(self, steps, lengths):
        keep = lengths_to_keep_mask(lengths, steps.shape[1])[..., None]
        return (steps * keep).sum(1) / lengths[:, None]


class CentredOverBatch(_Pooled):
    """Subtracts the mean of its batch mates."""

    def pool(self, steps, lengths):
        pooled = masked_mean(steps, lengths_to_keep_mask(lengths, steps.shape[1]))
        return pooled - pooled.mean(0)


class ScaledByFill(_Pooled):
    """Right outputs, but gradients that shrink with the fill."""

    def pool(self, steps, lengths):
        keep_mask = lengths_to_keep_mask(lengths, steps.shape[1])
        pooled, fill = masked_mean(steps, keep_mask), keep_mask.float().mean()
        return pooled * fill + (pooled * (1 - fill)).detach()


class NormOverPadding(_Pooled):
    """Takes its statistics over padding, but in training only."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(6)

    def pool(self, steps, lengths):
        keep_mask = lengths_to_keep_mask(lengths, steps.shape[1])
        return masked_mean(self.norm(steps.mT).mT, keep_mask)


class NotPutBack(nn.Module):
    """Sorts by length, and forgets to put the rows back."""

    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(2, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, padded, lengths):
        lengths, order = lengths.sort(descending=True)
        packed = pack_padded_sequence(padded[order], lengths, batch_first=True)
        return self.head(self.lstm(packed)[1][0][-1])


class RightConvolution(nn.Module):
    """A masked convolution and a masked mean."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = MaskedConv1d(2, 6, 3, padding=1), nn.Linear(6, 3)

    def forward(self, padded, lengths):
        steps, lengths = self.conv(padded, lengths)
        return self.head(masked_mean(steps, lengths_to_keep_mask(lengths, steps.shape[1])))


FAULTY = (
    *(UnmaskedMean, CentredOverBatch, NotPutBack, ScaledByFill, MultipliedMask),
    NormOverPadding,
)


def _test_cases():
    makers = [RightConvolution, *FAULTY]
    makers += [lambda: PackedLSTM(2, 4, 3), lambda: MaskedTransformer(2, 8, 3, 2, 1)]
    cases = []
    for seed, make in enumerate(makers):
        torch.manual_seed(seed)
        # None has a single step: in training, BatchNorm refuses that alone, before any comparison.
        cases.append((make(), random_sequences(seed, [3, 2, 5, 4])))
    return cases


def passes(model, sequences):
    report = together_equals_alone(model, sequences, extra_padding=5)
    return bool(report) and not leak_map(model, sequences).any()


def _oracle_only(model, sequences):
    return bool(together_equals_alone(model, sequences, extra_padding=5))


def _nan_only(model, sequences):
    return not leak_map(model, sequences).any()


def _outputs_only(model, sequences):
    report = together_equals_alone(model, sequences, extra_padding=5)
    same = max(report.outputs) <= report.tolerance
    return same and not bool(leak_map(model, sequences).any())


def _outputs_of_the_oracle_only(model, sequences):
    report = together_equals_alone(model, sequences, extra_padding=5)
    return max(report.outputs) <= report.tolerance


def _in_evaluation(model, sequences):
    return passes(model.eval(), sequences)


def _either(model, sequences):
    same = bool(together_equals_alone(model, sequences, extra_padding=5))
    return same or not bool(leak_map(model, sequences).any())


def _leaks_wanted(model, sequences):
    same = bool(together_equals_alone(model, sequences, extra_padding=5))
    return same and bool(leak_map(model, sequences).any())


def _sorted_first(model, sequences):
    return passes(model, sorted(sequences, key=len, reverse=True))


def _one_alone(model, sequences):
    return bool(together_equals_alone(model, sequences[:1], extra_padding=5))


def _always(model, sequences):
    return True


def _never(model, sequences):
    return False


def _turned_round(model, sequences):
    return not passes(model, sequences)


EXERCISES = [
    Exercise(
        id="05.1",
        title="Repair the hybrid snippet",
        minutes=8,
        task=(
            "Repair the hybrid as it was found above. `padded` (B, T, 10), `lengths` (B,). Keep "
            "its first three lines, but for what is missing in them. Return (B, T, 20), as wide "
            "as `padded`, with 0 at the padding."
        ),
        hints=(
            "Two faults are on top of each other. The first error message is of a layer that takes "
            "sequences for steps. Only when that is mended does the second show.",
            "`batch_first=True` for the layer; and the unpacked output is only as wide as the "
            "longest sequence, unless told `total_length=padded.shape[1]`.",
        ),
        solution=hybrid,
        cases=_hybrid_cases,
        misconceptions=(
            Misconception(
                "as it was found",
                _as_found[1],
                "Both faults are still there: the layer without `batch_first=True`, and an "
                "unpacked output that may be narrower than the mask.",
                _as_found[:1],
            ),
            Misconception(
                "batch_first is missing",
                _no_batch_first[0],
                "With `total_length` the shapes fit better, but the layer still reads (T, B, D): "
                "where B = T it says nothing at all, and mixes the sequences.",
                (_no_batch_first[1], *_cut_no_batch_first, *_transposed),
            ),
            Misconception(
                "total_length is missing",
                _no_total_length[0],
                "Unpacking gives back the longest sequence, not the width that came in. With a "
                "column to spare the mask no longer fits: `total_length=padded.shape[1]`.",
                _no_total_length[1:],
            ),
            Misconception(
                "the mask cut to fit",
                _cut_mask[0],
                "That works for the layer, but your output is narrower than what came in, and "
                "whatever was made for T columns no longer fits: labels, other masks. Use "
                "`total_length`.",
                (_cut_mask[1], _last_column_cut),
            ),
            Misconception(
                "no mask",
                _no_mask[0],
                "The Transformer layer attends to the zeros that stand at the padding.",
                _no_mask[1:],
            ),
            Misconception(
                "the mask is inverted",
                _inverted_mask[0],
                "`src_key_padding_mask` is True where to ignore: you hide the real steps.",
                (_inverted_mask[1], _all_inverted),
            ),
            Misconception(
                "one pad too many",
                _one_pad_too_many[0],
                "Steps are counted from 0: padding is `steps >= lengths`, not `>`.",
                _one_pad_too_many[1:],
            ),
            Misconception(
                "the wrong side filled",
                _wrong_side,
                "You filled the real steps and kept the padding: `masked_fill` fills where its "
                "mask is True.",
            ),
            Misconception(
                "a mask of floats",
                _float_mask[0],
                "A float mask is added to the scores: 1.0 makes a step more attractive, and hides "
                "nothing. Use bool.",
                _float_mask[1:],
            ),
            Misconception(
                "padding left as it came out",
                _unfilled_hybrid,
                "The real steps are right. At the padding the layer leaves numbers that mean "
                "nothing: fill them with 0.",
            ),
        ),
    ),
    Exercise(
        id="05.2",
        title="Lengths after several layers",
        minutes=6,
        task=(
            "`lengths` (B,) go through convolutions, one after the other. `layers` is a list of "
            "`(kernel_size, stride, padding, dilation)`. Return the lengths (B,) that come out, "
            "integers."
        ),
        hints=(
            "How far does a kernel reach, from its first to its last step, if it skips some "
            "(dilation)? How many places does it then have, with padding on both sides?",
            "One layer: `(n + 2 * padding - dilation * (kernel_size - 1) - 1) // stride + 1`.",
        ),
        solution=lengths_after,
        cases=_stack_cases,
        misconceptions=(
            Misconception(
                "divided by the strides",
                _only_strides,
                "Kernel and padding count too: `n // stride` is right only by luck.",
                (_ceil_strides,),
            ),
            Misconception(
                "scaled like T",
                _by_ratio,
                "You scaled each length by what became of the longest. The formula rounds down for "
                "each length by itself.",
            ),
            Misconception(
                "padding on one side",
                _one_sided,
                "`padding` is added at both ends: `2 * padding`.",
            ),
            Misconception(
                "no padding",
                _no_padding,
                "Padding makes room for the kernel: `2 * padding` more places to begin with.",
            ),
            Misconception(
                "padding and dilation swapped",
                _swapped,
                "A layer is `(kernel_size, stride, padding, dilation)`, in this order.",
            ),
            Misconception(
                "the lengths of every layer",
                _every_layer,
                "Return only what comes out of the last layer.",
            ),
            Misconception(
                "no dilation",
                _no_dilation,
                "With a dilation of 2 the kernel skips every second step, so it reaches further: "
                "`dilation * (kernel_size - 1)`.",
            ),
            Misconception(
                "one too few",
                _one_missing,
                "That is the number of moves. The places are one more: `+ 1`.",
            ),
            Misconception(
                "a kernel that reaches too far",
                _span_too_long,
                "A kernel of k reaches over `dilation * (k - 1) + 1` steps, not `dilation * k`.",
            ),
            Misconception(
                "fractions of a step",
                _true_division,
                "`/` leaves fractions. A place that does not fit does not count: `//`.",
            ),
            Misconception(
                "rounded up",
                _rounded_up,
                "A kernel that does not fit any more gives no step: round down, `//`.",
            ),
            Misconception(
                "one layer only",
                _last_layer_only,
                "What comes out of one layer goes into the next: keep the new lengths.",
                (_first_layer_only,),
            ),
        ),
    ),
    Exercise(
        id="05.3",
        title="Batch normalisation without padding",
        minutes=8,
        task=(
            "Normalise each feature of `values` (B, T, D): subtract its mean, and divide by the "
            "square root of its variance + 1e-5, both over all real steps of the batch. "
            "`keep_mask` (B, T), True where real; divide the variance by n, not n - 1. Return "
            "(B, T, D) with 0 at the padding, which may hold anything, NaN too. The gradient must "
            "be right as well."
        ),
        hints=(
            "Which shape has `values[keep_mask]`, and what can you do with it in one line?",
            "Normalise `real = values[keep_mask]`, and write it back into zeros: "
            "`normed[keep_mask] = ...`. The variance is `real.var(0, unbiased=False)`.",
        ),
        solution=masked_norm,
        cases=_norm_cases,
        gradients=True,
        misconceptions=(
            Misconception(
                "over all cells",
                _over_all,
                "That is what `nn.BatchNorm1d` does: the padding counts in mean and variance.",
                (_over_all_unfilled, _zero_filled),
            ),
            Misconception(
                "divided by n - 1",
                _unbiased,
                "`var` divides by n - 1 unless told `unbiased=False`. To normalise, batch "
                "normalisation divides by n.",
            ),
            Misconception(
                "each sequence by itself",
                _each_alone,
                "That is instance normalisation: each sequence has its own mean. Here all real "
                "steps of the batch are taken together.",
            ),
            Misconception(
                "each step by itself",
                _each_step,
                "That is layer normalisation: over the features of one step. Here each feature is "
                "normalised, over the real steps.",
            ),
            Misconception(
                "the mask is inverted",
                _inverted_norm,
                "You normalised the padding: `keep_mask` is True where a step is real.",
                (_written_to_padding,),
            ),
            Misconception(
                "padding left in",
                _not_filled,
                "The statistics are right. Fill the padding of what you return with 0.",
                (_clone_kept,),
            ),
            Misconception(
                "the mask multiplies",
                _multiplied_norm,
                "With NaN in the padding, NaN × 0 is NaN. Select the real steps instead: "
                "`values[keep_mask]`.",
            ),
            Misconception(
                "statistics detached",
                _detached,
                "The value is right, the gradient is not: mean and variance depend on the values "
                "too. Do not `detach` them.",
            ),
            Misconception(
                "1e-5 added to the root",
                _added_to_the_root,
                "1e-5 belongs to the variance, inside the root. Where the values hardly vary, "
                "that makes a difference.",
            ),
            Misconception(
                "no square root",
                _no_root,
                "Divide by the square root of the variance, not by the variance.",
            ),
            Misconception(
                "one mean for all features",
                _one_mean_for_all,
                "Each feature has its own mean and variance: reduce over the steps only, with "
                "`mean(0)`.",
            ),
            Misconception(
                "filled at the end",
                _filled_after,
                "The value is right, the gradient is not: NaN was computed at the padding, and on "
                "the way back 0 × NaN is NaN. Compute on `values[keep_mask]` only.",
            ),
            Misconception(
                "flat",
                _flat,
                "The numbers are right: write them back to their places, (B, T, D).",
            ),
        ),
    ),
    Exercise(
        id="05.4",
        title="A test that six faults do not survive",
        minutes=10,
        task=(
            "Return True if `model` is right and False if not. It is called as "
            "`model(padded, lengths)`; `sequences` is a list of tensors (T_i, 2), of different "
            "lengths and in no order. Among the models are three right ones and six faults: one "
            "averages over padding, one depends on its batch mates, one loses the order, one has "
            "right outputs and wrong gradients, one is undone by NaN in the padding, and one is "
            "wrong in training only, the mode in which the models come."
        ),
        hints=(
            "You have two detectors, and neither sees everything. Which of the six does each miss?",
            "`together_equals_alone(model, sequences, extra_padding=5)` compares outputs, loss "
            "and gradients; `leak_map(model, sequences)` says which rows NaN reaches. Both.",
        ),
        solution=passes,
        cases=_test_cases,
        misconceptions=(
            Misconception(
                "no NaN tried",
                _oracle_only,
                "The oracle pads with zeros. One of the models multiplies with its mask, and that "
                "survives zeros, but not NaN: ask `leak_map` too.",
            ),
            Misconception(
                "only NaN tried",
                _nan_only,
                "NaN in the padding finds what touches the padding. Batch mates, order and "
                "gradients are other things: ask the oracle too.",
            ),
            Misconception(
                "gradients not compared",
                _outputs_only,
                "One model has right outputs and wrong gradients. The report of the oracle has "
                "both: `bool(report)`.",
            ),
            Misconception(
                "only outputs compared, and no NaN",
                _outputs_of_the_oracle_only,
                "Two of the faults are neither in the outputs nor found with zeros: compare the "
                "gradients, and try NaN.",
            ),
            Misconception(
                "in evaluation mode",
                _in_evaluation,
                "`eval()` fixes the statistics of BatchNorm, and hides that they are taken over "
                "padding. Test in the mode that trains.",
            ),
            Misconception(
                "one of the two is enough",
                _either,
                "A model must pass both: `and`, not `or`.",
            ),
            Misconception(
                "leaks wanted",
                _leaks_wanted,
                "`leak_map` is True where NaN *reaches*: a right model has none, `not ... .any()`.",
            ),
            Misconception(
                "sorted first",
                _sorted_first,
                "In a sorted batch, a model that sorts and does not put back is right by luck. Use "
                "the sequences as they come.",
            ),
            Misconception(
                "one sequence only",
                _one_alone,
                "One sequence has neither mates nor an order. Use them all.",
            ),
            Misconception(
                "everything passes",
                _always,
                "A test that cannot fail finds nothing.",
            ),
            Misconception(
                "nothing passes",
                _never,
                "A test that cannot pass finds nothing either.",
            ),
            Misconception(
                "turned round",
                _turned_round,
                "Exactly the opposite: True is for the right models.",
            ),
        ),
    ),
]
