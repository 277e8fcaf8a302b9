"""Exercises of chapter 05, Hybrid models."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from course_utils.batches.layers import MaskedConv1d
from course_utils.batches.masks import lengths_to_keep_mask, masked_mean
from course_utils.exercises.cases import (
    filled,
    ragged,
    ragged_batches,
    random_sequences,
    with_number_at_real_step,
)
from course_utils.exercises.chapter_04 import OFF_BY_ONE
from course_utils.exercises.engine import Exercise, edited, slip
from course_utils.models import MaskedTransformer, PackedLSTM
from course_utils.testing import leak_map, together_equals_alone


def _hybrid_cases():
    shapes = ragged([2, 1, 3], [3, 2, 3], [4, 2], [1, 4, 3, 4], [5, 3, 7])
    # The first batch has a column to spare, and so has every second one.
    batches = ragged_batches(shapes, ((1, 0.0), (0, 0.0)), size=10, in_turn=True)
    return [(padded, keep_mask.sum(1)) for padded, keep_mask, _ in batches]


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


_UNFILLED = {"output.masked_fill(~keep_mask[..., None], 0)": "output"}
_NO_BATCH_FIRST = {"dropout=0.0, batch_first=True": "dropout=0.0"}
_NO_TOTAL_LENGTH = {", total_length=padded.shape[1]": ""}
_CUT = _NO_TOTAL_LENGTH | {"arange(padded.shape[1])": "arange(output.shape[1])"}

HYBRID = Exercise(
    id="05.1",
    title="Repair the hybrid snippet",
    minutes=8,
    notice="""
        `total_length` makes the unpacked output as wide as `padded`, and so as wide as the mask
        that follows.""",
    task="""
        Repair the hybrid model as it was found above. `padded` (B, T, 10), `lengths` (B,). Keep its
        first three lines, adding only what is missing. Return (B, T, 20), as wide as
        `padded`, with 0 at the padding.""",
    hints=(
        """There are two faults, and the first hides the second. The first error message comes from
        a layer that takes sequences for steps. Only when that is fixed does the second show.""",
        """Pass `batch_first=True` to the layer. And the unpacked output is only as wide as the
        longest sequence, unless you pass `total_length=padded.shape[1]`.""",
    ),
    solution=hybrid,
    cases=_hybrid_cases,
    axes="B T D",
    twins=(_UNFILLED,),
    misconceptions=(
        slip("as it was found", _NO_BATCH_FIRST | _NO_TOTAL_LENGTH).teach("""
            Both faults are still there: the layer without `batch_first=True`, and an unpacked
            output that may be narrower than the mask."""),
        slip(
            "batch_first is missing",
            _NO_BATCH_FIRST,
            _NO_BATCH_FIRST | _CUT,
            _NO_BATCH_FIRST | {"mask=~keep_mask": "mask=~keep_mask.T"},
        ).teach("""
            Without `batch_first=True`, the layer reads its input as (T, B, D), whatever the width.
            Where B = T it raises no error, and mixes the sequences."""),
        slip("total_length is missing", _NO_TOTAL_LENGTH).teach("""
            The unpacked output is as wide as the longest sequence, not as wide as `padded`. With a
            column to spare, the mask no longer fits: pass `total_length=padded.shape[1]`."""),
        slip("the mask cut to fit", _CUT).teach("""
            That works for the layer, but your output is narrower than `padded`, and whatever was
            made for T columns (labels, other masks) no longer fits. Use `total_length`."""),
        slip("no mask", {", src_key_padding_mask=~keep_mask": ""}).teach("""
            Without a key padding mask, the Transformer layer attends to the zeros at the
            padding."""),
        slip(
            "the mask is inverted",
            {"mask=~keep_mask": "mask=keep_mask"},
            {"~keep_mask": "keep_mask"},
        ).teach("""
            `src_key_padding_mask` is True at the steps to ignore: you hid the real steps."""),
        *OFF_BY_ONE,
        slip("dropout left on", {", dropout=0.0": ""}).teach("""
            A layer drops 10% of its numbers at random unless you pass `dropout=0.0` or put it into
            evaluation mode. Your output is different on each call."""),
        slip(
            "another seed",
            {"    torch.manual_seed(0)\n": ""},
            {"manual_seed(0)": "manual_seed(1)"},
            {"manual_seed(0)": "manual_seed(42)"},
        ).teach("""
            The weights of the layers are drawn at random, and yours differ from those that your
            output is compared with. Call `torch.manual_seed(0)` right before creating them."""),
        slip(
            "another number of heads", *({"nhead=2": f"nhead={number}"} for number in (1, 4, 5))
        ).teach("""
            The snippet says `nhead=2`. Another number of heads divides the same weights
            differently, so all the numbers change."""),
        slip("only for sorted lengths", {", enforce_sorted=False": ""}).teach("""
            This works only if the sequences come sorted, longest first. Pass
            `enforce_sorted=False`; then torch sorts them itself and restores the order
            afterwards."""),
        slip("the wrong side filled", {"~keep_mask[..., None]": "keep_mask[..., None]"}).teach("""
            You filled the real steps and kept the padding: `masked_fill` fills where its mask is
            True."""),
        slip("a mask of floats", {"mask=~keep_mask": "mask=(~keep_mask).float()"}).teach("""
            A float mask is added to the scores: 1.0 makes a step *more* attractive, and hides
            nothing. Use bool."""),
        slip("padding left as it came out", _UNFILLED).teach("""
            The real steps are right. At the padding, the layer leaves numbers that mean nothing:
            fill them with 0."""),
    ),
)


def _stack_cases():
    three = [(3, 2, 0, 1), (3, 1, 2, 2), (2, 2, 0, 1)]
    return [
        (torch.tensor(lengths), layers)
        for lengths, layers in [
            ([4, 5], [(3, 1, 1, 1)]),
            ([5, 6, 7, 8], [(3, 2, 0, 1)]),
            ([1, 2, 3, 9], [(5, 2, 2, 1)]),
            ([5, 9], [(3, 1, 0, 2)]),
            ([7, 8, 9], [(5, 2, 2, 1), (3, 2, 1, 1)]),
            ([9, 15, 16], three),
            ([9, 22, 31], [(7, 3, 3, 1), (3, 2, 0, 1)]),
            ([31, 12, 20], three),
            ([7], three),
        ]
    ]


def lengths_after(lengths, layers):
    for kernel_size, stride, padding, dilation in layers:
        span = dilation * (kernel_size - 1) + 1
        lengths = (lengths + 2 * padding - span) // stride + 1
    return lengths


def _by_ratio(lengths, layers):
    longest = lengths.max()
    after = lengths_after(longest[None], layers)[0]
    return lengths * after // longest


_FORMULA = "(lengths + 2 * padding - span) // stride + 1"

LENGTHS_AFTER = Exercise(
    id="05.2",
    title="Lengths after several layers",
    minutes=6,
    notice="""
        It is the formula for the length of the output in the documentation of `nn.Conv1d`, applied
        to each sequence by itself.""",
    task="""
        Sequences of `lengths` (B,) go through convolutions, one after the other. `layers` is a list
        of `(kernel_size, stride, padding, dilation)`. Return the lengths (B,) that come out,
        integers.""",
    hints=(
        """How far does a kernel reach, from its first to its last step, if it skips some
        (dilation)? How many positions does that leave, with padding on both sides?""",
        "One layer: `(n + 2 * padding - dilation * (kernel_size - 1) - 1) // stride + 1`.",
    ),
    solution=lengths_after,
    cases=_stack_cases,
    axes="B",
    misconceptions=(
        slip(
            "divided by the strides",
            {_FORMULA: "lengths // stride"},
            {_FORMULA: "-(-lengths // stride)"},
        ).teach("Kernel and padding count too: `n // stride` is right only by luck."),
        slip("scaled like T", _by_ratio).teach("""
            You scaled every length in the same proportion as the longest one. The formula rounds
            down for each length by itself."""),
        slip("padding on one side", {"2 * padding": "padding"}).teach("""
            `padding` is added at both ends: `2 * padding`."""),
        slip("no padding", {"2 * padding": "0"}).teach("""
            Padding makes room for the kernel: it adds `2 * padding` steps to the sequence."""),
        slip(
            "padding and dilation swapped",
            {"stride, padding, dilation": "stride, dilation, padding"},
        ).teach("A layer is `(kernel_size, stride, padding, dilation)`, in this order."),
        slip(
            "the lengths of every layer",
            {
                "    for ": "    found = []\n    for ",
                "+ 1\n    return lengths": "+ 1\n        found.append(lengths)\n    return found",
            },
        ).teach("Return only what comes out of the last layer."),
        slip("no dilation", {"dilation * (kernel_size - 1)": "(kernel_size - 1)"}).teach("""
            With a dilation of 2 the kernel skips every second step, so it reaches further:
            `dilation * (kernel_size - 1)`."""),
        slip("one too few", {"// stride + 1": "// stride"}).teach("""
            That is the number of moves. The number of positions is one more: `+ 1`."""),
        slip(
            "both ones left out",
            {
                "dilation * (kernel_size - 1) + 1": "dilation * (kernel_size - 1)",
                "// stride + 1": "// stride",
            },
        ).teach("""
            With a stride of 1, the -1 and the + 1 cancel. With a larger stride they do not: -1
            stands before the division, and + 1 after it."""),
        slip(
            "the -1 left out",
            {"dilation * (kernel_size - 1) + 1": "dilation * (kernel_size - 1)"},
        ).teach("""
            A kernel covers one step more than it moves from its first to its last: subtract 1 more
            before you divide."""),
        slip(
            "a kernel that reaches too far",
            {"dilation * (kernel_size - 1) + 1": "dilation * kernel_size"},
        ).teach("""
            A kernel of size k reaches over `dilation * (k - 1) + 1` steps, not `dilation * k`."""),
        slip("fractions of a step", {"//": "/"}).teach("""
            `/` leaves fractions. A position where the kernel does not fit does not count, so use
            `//`."""),
        slip("rounded up", {"- span)": "- span + stride - 1)"}).teach("""
            Where the kernel no longer fits, there is no step: round down, with `//`."""),
        slip(
            "one layer only", {"in layers": "in layers[-1:]"}, {"in layers": "in layers[:1]"}
        ).teach("""
            What comes out of one layer goes into the next: continue with the new lengths."""),
    ),
)


def _norm_cases():
    shapes = ragged([2, 1], [3, 1, 2], [2, 2], [4, 1], [1, 5, 3])
    paddings = ((1, 6.0), (0, 0.0), (2, float("nan")))
    cases = []
    for values, keep_mask, _ in ragged_batches(shapes, paddings):
        spread = 0.004 if len(cases) % 3 == 1 else 1.0
        values = (spread * (3 + values)).where(keep_mask[..., None], values)
        cases.append((values.requires_grad_(), keep_mask))
    # NaN at a real step must show: the feature has no mean, so none of its numbers may look right.
    values, keep_mask = cases[7]
    broken = with_number_at_real_step(values.detach()[..., :1], float("nan"), 1)
    broken = torch.cat([values.detach()[..., :1], broken], dim=2).requires_grad_()
    # Eighths around 1000: their mean is exact, but not their squares. (Without a gradient, whose
    # last digits differ from one way of writing it to the next.)
    far, keep_far, _ = next(ragged_batches([[4, 3, 1]], ((1, 6.0),)))
    far = filled(1000 + (far * 4).round() / 8, keep_far, 6.0)
    return [*cases, (broken, keep_mask), (far, keep_far)]


def masked_norm(values, keep_mask):
    real = values[keep_mask]
    normed = torch.zeros_like(values)
    normed[keep_mask] = (real - real.mean(0)) / (real.var(0, unbiased=False) + 1e-5).sqrt()
    return normed


def _over_all(values, keep_mask):
    flat = values.flatten(0, 1)
    normed = (values - flat.mean(0)) / (flat.var(0, unbiased=False) + 1e-5).sqrt()
    return normed.masked_fill(~keep_mask[..., None], 0)


def _each_sequence(values, keep_mask):
    normed = torch.zeros_like(values)
    for row, keep in enumerate(keep_mask):
        real = values[row, keep]
        normed[row, keep] = (real - real.mean(0)) / (real.var(0, unbiased=False) + 1e-5).sqrt()
    return normed


def _each_step(values, keep_mask):
    filled = values.masked_fill(~keep_mask[..., None], 0)
    variance = filled.var(2, unbiased=False, keepdim=True)
    normed = (filled - filled.mean(2, keepdim=True)) / (variance + 1e-5).sqrt()
    return normed.masked_fill(~keep_mask[..., None], 0)


def _multiplied(values, keep_mask):
    keep = keep_mask[..., None]
    mean = (values * keep).sum((0, 1)) / keep.sum()
    variance = ((values - mean).square() * keep).sum((0, 1)) / keep.sum()
    return (values - mean) / (variance + 1e-5).sqrt() * keep


def _squares_over_padding(values, keep_mask):
    filled = values.masked_fill(~keep_mask[..., None], 0)
    mean = filled.sum((0, 1)) / keep_mask.sum()
    variance = (filled - mean).square().sum((0, 1)) / keep_mask.sum()
    normed = (filled - mean) / (variance + 1e-5).sqrt()
    return normed.masked_fill(~keep_mask[..., None], 0)


def _less_the_mean_everywhere(values, keep_mask):
    keep = keep_mask[..., None]
    filled = values.masked_fill(~keep, 0)
    mean = filled.sum((0, 1)) / keep_mask.sum()
    variance = (filled - mean).masked_fill(~keep, 0).square().sum((0, 1)) / keep_mask.sum()
    return (filled - mean) / (variance + 1e-5).sqrt()


_UNFILLED_NORM = {"normed.masked_fill(~keep_mask[..., None], 0)": "normed"}
_NOT_WRITTEN_BACK = {"    normed = torch.zeros_like(values)\n": "", "normed[keep_mask]": "normed"}
_ALL_NORMED = _NOT_WRITTEN_BACK | {"= (real -": "= (values -"}

MASKED_NORM = Exercise(
    id="05.3",
    title="Batch normalisation without padding",
    minutes=8,
    notice="""
        `values[keep_mask]` has the shape (real steps, D). On this tensor, mean and variance are
        computed in the ordinary way.""",
    larger=lambda: (
        torch.randn(64, 100, 32, requires_grad=True),
        torch.arange(100) < torch.randint(1, 101, (64, 1)),
    ),
    task="""
        Normalise each feature of `values` (B, T, D): subtract its mean, and divide by the square
        root of its variance + 1e-5, both over all real steps of the batch. `keep_mask` (B, T), True
        where real; divide the variance by n, not n - 1. Return (B, T, D) with 0 at the padding,
        which may hold anything, NaN too. The gradient must be right as well.""",
    hints=(
        "What shape does `values[keep_mask]` have, and what can you do with it in one line?",
        """Normalise `real = values[keep_mask]`, and write it back into zeros:
        `normed[keep_mask] = ...`. The variance is `real.var(0, unbiased=False)`.""",
    ),
    solution=masked_norm,
    cases=_norm_cases,
    axes="B T D",
    gradients=True,
    twins=(_UNFILLED_NORM,),
    misconceptions=(
        slip(
            "over all cells",
            _over_all,
            edited(
                _over_all,
                {"    flat": "    values = values.masked_fill(~keep_mask[..., None], 0)\n    flat"},
            ),
        ).teach("""
            That is what `nn.BatchNorm1d` does: the padding counts in mean and variance."""),
        slip(
            "divided by n - 1",
            {", unbiased=False": ""},
            {"(real.var(0, unbiased=False) + 1e-5).sqrt()": "(real.std(0) + 1e-5)"},
        ).teach("""
            `var` divides by n - 1 unless you pass `unbiased=False`. Batch normalisation divides by
            n when it normalises."""),
        slip("each sequence by itself", _each_sequence).teach("""
            That is instance normalisation: each sequence has its own mean. Here all real steps of
            the batch are taken together."""),
        slip("each step by itself", _each_step).teach("""
            That is layer normalisation, over the features of one step. Here each feature is
            normalised over the real steps."""),
        slip(
            "the mask is inverted",
            {"[keep_mask]": "[~keep_mask]"},
            {
                "normed[keep_mask] = (real": "normed[~keep_mask] = (values[~keep_mask]",
                "torch.zeros_like(values)": "values.clone()",
            },
        ).teach("You normalised the padding: `keep_mask` is True where a step is real."),
        slip(
            "padding left in",
            _ALL_NORMED,
            {"torch.zeros_like(values)": "values.clone()"},
            {"torch.zeros_like(values)": "torch.ones_like(values)"},
            _less_the_mean_everywhere,
        ).teach("""
            The statistics are right. Fill the padding of what you return with 0."""),
        slip("the mask multiplies", _multiplied).teach("""
            With NaN in the padding, NaN × 0 is NaN. Select the real steps instead:
            `values[keep_mask]`."""),
        slip("the padding in the sum of squares", _squares_over_padding).teach("""
            The mean is right. But for the variance you also subtracted it from the zeros of the
            padding, so each padded step adds the square of the mean. Fill *after* subtracting."""),
        slip(
            "NaN swept away",
            {"values[keep_mask]\n": "values.nan_to_num()[keep_mask]\n"},
            {"return normed": "return normed.nan_to_num()"},
        ).teach("""
            `nan_to_num` also hides a NaN at a real step. Select the real steps, and change nothing
            else."""),
        slip("1e-5 forgotten", {" + 1e-5": ""}, {"1e-5": "1e-3"}, {"1e-5": "1e-8"}).teach("""
            Without the 1e-5, a feature that does not vary is divided by 0."""),
        slip(
            "the mean of the squares less the square of the mean",
            {"real.var(0, unbiased=False)": "(real.square().mean(0) - real.mean(0).square())"},
        ).teach("""
            On paper that is the variance. In float32, where the mean is large, the two squares are
            nearly equal and their digits cancel. Subtract the mean first, and then square."""),
        slip("the mean not subtracted", {"real - real.mean(0)": "real"}).teach("""
            To normalise, subtract the mean first."""),
        slip(
            "statistics detached",
            {"real.mean": "real.detach().mean", "real.var": "real.detach().var"},
        ).teach("""
            The value is right, but the gradient is not: mean and variance depend on the values too.
            Do not `detach` them."""),
        slip("1e-5 added to the root", {"real.var": "real.std", ".sqrt()": ""}).teach("""
            1e-5 is added to the variance, inside the root. Where the values hardly vary, that makes
            a difference."""),
        slip("no square root", {".sqrt()": ""}).teach("""
            Divide by the square root of the variance, not by the variance."""),
        slip("one mean for all features", {"mean(0)": "mean()", "var(0, ": "var("}).teach("""
            Each feature has its own mean and variance: reduce over the steps only, with
            `mean(0)`."""),
        slip(
            "filled at the end",
            _ALL_NORMED | {"return normed": "return normed.masked_fill(~keep_mask[..., None], 0)"},
        ).teach("""
            The value is right, but the gradient is not: NaN was computed at the padding, and on the
            way back 0 × NaN is NaN. Compute on `values[keep_mask]` only."""),
        slip("flat", _NOT_WRITTEN_BACK).teach("""
            The numbers are right. Write them back to their places in (B, T, D)."""),
    ),
)


class _Pooled(nn.Module):
    """A linear layer, a pooling that subclasses choose, and a head."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(2, 6), nn.Linear(6, 3)

    def forward(self, padded, lengths):
        return self.head(self.pool(self.embed(padded).relu(), lengths))


class MultipliedMask(_Pooled):
    """Right, as long as the padding holds ordinary numbers."""

    def pool(self, steps, lengths):
        keep = lengths_to_keep_mask(lengths, steps.shape[1])[..., None]
        return (steps * keep).sum(1) / lengths[:, None]


class FullWidthAssumed(_Pooled):
    """Right, as long as the longest sequence fills the width."""

    def pool(self, steps, lengths):
        keep = lengths_to_keep_mask(lengths, steps.shape[1])[..., None]
        padding = lengths.max() - lengths
        return steps.masked_fill(~keep, 0).sum(1) / (steps.shape[1] - padding)[:, None]


class CentredOverBatch(_Pooled):
    """Subtracts the mean of its batch mates."""

    def pool(self, steps, lengths):
        pooled = masked_mean(steps, lengths_to_keep_mask(lengths, steps.shape[1]))
        return pooled - pooled.mean(0)


class ScaledByFill(_Pooled):
    """Right outputs, but gradients that shrink with the fill."""

    def pool(self, steps, lengths):
        keep_mask = lengths_to_keep_mask(lengths, steps.shape[1])
        pooled, fill = masked_mean(steps, keep_mask), keep_mask.to(steps).mean()
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
    *(FullWidthAssumed, CentredOverBatch, NotPutBack, ScaledByFill, MultipliedMask),
    NormOverPadding,
)


def _test_cases():
    makers = [RightConvolution, *FAULTY]
    makers += [lambda: PackedLSTM(2, 4, 3), lambda: MaskedTransformer(2, 8, 3, 2, 1)]
    cases = []
    for seed, make in enumerate(makers):
        torch.manual_seed(seed)
        # None has a single step: in training, BatchNorm refuses that alone, before any comparison.
        lengths = [3, 2, 5, 4] if seed % 2 else [3, 10, 2, 5]
        cases.append((make(), random_sequences(seed, lengths)))
    return cases


def passes(model, sequences):
    report = together_equals_alone(model, sequences, extra_padding=5)
    return bool(report) and not leak_map(model, sequences).any()


_NO_LEAK_MAP = {" and not leak_map(model, sequences).any()": ""}
_OUTPUTS_ONLY = {"bool(report)": "max(report.outputs) <= report.tolerance"}

PASSES = Exercise(
    id="05.4",
    title="A test that finds six faults",
    minutes=10,
    task="""
        Return True if `model` is right and False if not. It is called as `model(padded, lengths)`;
        `sequences` is a list of tensors (T_i, 2), of different lengths and in no particular order.
        Among the models are three right ones and six faulty ones: one counts padding in its mean
        where there are columns to spare, one depends on the other sequences of its batch, one loses
        the order, one has right outputs and wrong gradients, one fails on NaN in the padding, and
        one is wrong in training only, the mode in which the models come.""",
    hints=(
        "You have two tests, and neither sees everything. Which of the six faults does each miss?",
        """`together_equals_alone(model, sequences, extra_padding=5)` compares outputs, loss and
        gradients; `leak_map(model, sequences)` says which rows a NaN reaches. Use both.""",
    ),
    solution=passes,
    cases=_test_cases,
    misconceptions=(
        slip("no NaN tried", _NO_LEAK_MAP).teach("""
            The oracle pads with zeros. One of the models multiplies by its mask, which works with
            zeros, but not with NaN: use `leak_map` too."""),
        slip(
            "only NaN tried", lambda model, sequences: not leak_map(model, sequences).any()
        ).teach("""
            NaN in the padding finds whatever touches the padding. Dependence on other sequences,
            the order and the gradients are different questions: use the oracle too."""),
        slip("gradients not compared", _OUTPUTS_ONLY).teach("""
            One model has right outputs and wrong gradients. The report of the oracle covers both:
            `bool(report)`."""),
        slip("only outputs compared, and no NaN", _OUTPUTS_ONLY | _NO_LEAK_MAP).teach("""
            Two of the faults do not show in the outputs as long as the padding is zero: compare
            the gradients, and try NaN."""),
        slip(
            "in evaluation mode", {"    report": "    model.eval()\n    report"}, uses="eval"
        ).teach("""
            `eval()` fixes the statistics of BatchNorm, and hides that they are computed over
            padding. Test in training mode."""),
        slip("no columns to spare", {", extra_padding=5": ""}, uses="leak_map").teach("""
            One model is right wherever the longest sequence fills the width. Without
            `extra_padding`, it does so in every batch that you try."""),
        slip("one of the two is enough", {"and not": "or not"}, uses="leak_map").teach("""
            A model must pass both: `and`, not `or`."""),
        slip("leaks wanted", {"and not": "and"}, uses="leak_map").teach("""
            `leak_map` is True for each row that NaN *reaches*. A right model has no such row:
            `not leak_map(...).any()`."""),
        slip(
            "sorted first",
            {"    report": "    sequences = sorted(sequences, key=len)[::-1]\n    report"},
            lambda model, sequences: passes(model, sorted(sequences, key=len, reverse=True)),
            uses="sorted",
        ).teach("""
            In a sorted batch, a model that sorts and does not restore the order is right by luck.
            Use the sequences as they come."""),
        slip(
            "one sequence only",
            lambda model, sequences: bool(
                together_equals_alone(model, sequences[:1], extra_padding=5)
            ),
        ).teach("""
            A batch of one sequence has no other sequences and no order that could do harm. Use all
            of them."""),
        slip("everything passes", lambda model, sequences: True).teach("""
            Your test accepts every model, so it finds no fault."""),
        slip("nothing passes", lambda model, sequences: False).teach("""
            Your test rejects every model, the right ones too."""),
        slip("turned round", {"return ": "return not (", ".any()": ".any())"}).teach("""
            Your answers are exactly the opposite: return True for the right models."""),
    ),
)

EXERCISES = [HYBRID, LENGTHS_AFTER, MASKED_NORM, PASSES]
