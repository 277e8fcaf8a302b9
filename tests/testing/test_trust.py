"""The oracle is right about models that it once misjudged: no false alarm, and no fault missed."""

import random
from collections import namedtuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from course_utils.batches.layers import AttentionPool
from course_utils.batches.masks import last_real_step, lengths_to_keep_mask, masked_mean
from course_utils.batches.padding import pad
from course_utils.models import PackedLSTM, PaddedLSTM
from course_utils.testing import batch_invariance, leak_map, together_equals_alone
from tests.ragged import ragged, same
from tests.testing.test_invariance import SAMPLES, Mean, fails, keep, of, right_mean

PATHS = ["training", "evaluation", "inference"]


class Normed(nn.Module):
    """A linear layer, the mean over steps, and a normalisation at the end."""

    def __init__(self, norm, mean=right_mean, backward=1.0):
        super().__init__()
        self.embed, self.norm, self.mean, self.factor = nn.Linear(4, 6), norm, mean, backward

    def forward(self, padded, lengths):
        pooled = self.mean(self.embed(padded), lengths)
        if len(lengths) > 1 and self.factor != 1.0:  # the value stays, the gradient does not
            pooled = pooled * self.factor + pooled.detach() * (1 - self.factor)
        return self.norm(pooled)


NORMS = {
    "LayerNorm": nn.LayerNorm(6),
    "RMSNorm": nn.RMSNorm(6),
    "normalize": nn.Module(),
}
NORMS["normalize"].forward = F.normalize


@pytest.mark.parametrize("norm", NORMS)
def test_behind_a_normalisation_gradients_are_neither_noise_nor_missed(norm):
    assert batch_invariance(Normed(NORMS[norm]), SAMPLES, pad)
    wrong = batch_invariance(Normed(NORMS[norm], backward=0.36), SAMPLES, pad)
    assert fails(wrong) == ["gradients"]
    assert of(wrong, "gradients").differences["embed.weight"] == pytest.approx(0.64)


def test_a_gradient_that_is_zero_in_exact_arithmetic_is_no_fault():
    for seed in range(5):
        torch.manual_seed(seed)
        model = PaddedLSTM(4, 8, 3, AttentionPool(8))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(3)
        assert together_equals_alone(model, ragged(9, 4, 2, 17), extra_padding=5)
        assert batch_invariance(model, ragged(9, 4, 2, 17), pad)


class Encoder(nn.Module):
    """torch's own encoder, masked as its documentation says, with or without cleaning first."""

    def __init__(self, masked=True, **options):
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, **options)
        self.masked = masked

    def forward(self, padded, lengths):
        hide = ~keep(padded, lengths) if self.masked else None
        return right_mean(self.encoder(padded, src_key_padding_mask=hide), lengths)


def test_nan_in_the_padding_is_a_note_and_decides_only_where_asked_to():
    report = batch_invariance(Encoder(), SAMPLES, pad)
    assert report and any("NaN in the padding would reach" in note for note in report.notes)
    strict = batch_invariance(Encoder(), SAMPLES, pad, strict=True)
    assert not strict and fails(strict) == ["NaN in the padding"]
    unmasked = batch_invariance(Encoder(masked=False), SAMPLES, pad)
    assert "other content in the padding" in fails(unmasked)


Batch = namedtuple("Batch", "padded lengths")
Three = namedtuple("Three", "padded lengths keep_mask")


def relative(samples):
    padded, lengths = pad(samples)
    return padded, lengths / lengths.max()


def channels_first(samples):
    padded, lengths = pad(samples)
    return padded.transpose(1, 2), lengths


def square(samples):
    padded, lengths = pad([one[:4] for one in samples])
    return padded, lengths


def left(samples):
    longest = max(map(len, samples))
    padded = torch.stack([F.pad(one, (0, 0, longest - len(one), 0)) for one in samples])
    return padded, torch.tensor([len(one) for one in samples])


def with_mask(samples):
    padded, lengths = pad(samples)
    return Three(padded, lengths, lengths_to_keep_mask(lengths))


@pytest.mark.parametrize(
    "collate, run, words",
    [
        (relative, lambda m, b: m((b[1] * b[0].shape[1]).round()), "relative=True"),
        (channels_first, lambda m, b: b[0].sum(2), "no dimension is surely time"),
        (square, lambda m, b: b[0].sum(1), "no dimension is surely time"),
        (left, lambda m, b: b[0].sum(1), "left=True"),
        (with_mask, lambda m, b: b[0].sum(1), "also=[2]"),
    ],
)
def test_what_cannot_be_widened_for_sure_is_not_asked(collate, run, words):
    model = lambda lengths: lengths[:, None].double()  # noqa: E731
    report = batch_invariance(model, SAMPLES, collate, run=run)
    question = of(report, "more padding", "evaluation")
    assert question.state == "not asked" and words in question.why and report


def test_a_named_tuple_is_widened_and_stays_one():
    seen = set()

    def run(model, batch):
        seen.add(type(batch))
        return model(batch.padded, batch.lengths)

    report = batch_invariance(Mean(), SAMPLES, lambda some: Batch(*pad(some)), run=run)
    assert report and of(report, "more padding").state == "same" and seen == {Batch}


@pytest.mark.parametrize("hidden", [lambda f: f, lambda f: lambda *a: f(*a)])
def test_a_module_in_a_function_is_found_and_left_alone(hidden):
    norm, head = nn.BatchNorm1d(4), nn.Linear(4, 2)
    model = hidden(lambda padded, lengths: head(right_mean(norm(padded.mT).mT, lengths)))
    before = [one.clone() for one in [*norm.state_dict().values(), *head.state_dict().values()]]
    head.eval()
    report = batch_invariance(model, SAMPLES, pad)
    after = [*norm.state_dict().values(), *head.state_dict().values()]
    assert same(before, [one.clone() for one in after])
    assert norm.training and not head.training and head.weight.grad is None
    assert fails(report) == ["alone", "other batch mates", "more padding", "gradients"] or (
        "alone" in fails(report) and "gradients" in fails(report)
    )
    assert fails(report, "evaluation") == fails(report, "inference") == []
    assert of(report, "gradients").state == "differs"
    names = of(report, "gradients", "evaluation").differences
    assert {name.split(".")[-1] for name in names} == {"weight", "bias"} and len(names) == 4


class LayerDrop(Mean):
    """Drops its first layer now and then, by a generator of choice."""

    def __init__(self, draw):
        super().__init__()
        self.first, self.draw = nn.Linear(4, 4), draw

    def forward(self, padded, lengths):
        padded = padded if self.training and self.draw() < 0.3 else self.first(padded)
        return super().forward(padded, lengths)


@pytest.mark.parametrize(
    "draw, whose",
    [
        (random.random, "Python's random"),
        (np.random.random, "NumPy"),
        (lambda: torch.rand(()).item(), "torch"),
        (np.random.default_rng(0).random, "a generator of its own"),
    ],
)
def test_a_random_model_is_told_and_whose_numbers_they_are(draw, whose):
    models = [LayerDrop(draw) for _ in range(5)]
    states = random.getstate(), torch.get_rng_state()
    reports = [batch_invariance(model, SAMPLES, pad) for model in models]
    told = [of(report, "alone") for report in reports]
    if whose != "a generator of its own":  # which repeats itself only by chance
        assert all(one.state == "not asked" for one in told)
    assert all(whose in one.why for one in told if one.state == "not asked")
    assert any("layerdrop" in one.why for one in told)
    assert all(of(report, "alone", "evaluation").state == "same" for report in reports)
    assert random.getstate() == states[0] and torch.equal(torch.get_rng_state(), states[1])


class Config:
    def __init__(self):
        self.dropout, self.hidden_size = 0.5, 4


class Dropped(Mean):
    def __init__(self):
        super().__init__()
        self.config = Config()
        self.lstm = nn.LSTM(4, 4, 2, dropout=0.4, batch_first=True)
        self.drop, self.attention_dropout = nn.Dropout(0.3), 0.2

    def forward(self, padded, lengths):
        steps = F.dropout(self.lstm(padded)[0], self.attention_dropout, self.training)
        steps = F.dropout(steps, self.config.dropout, self.training)
        return super().forward(self.drop(steps), lengths)


def test_dropout_is_set_to_zero_while_it_is_asked_and_put_back():
    model = Dropped().train()
    report = batch_invariance(model, SAMPLES, pad)
    assert report and of(report, "gradients").state == "same"
    assert [note for note in report.notes if note.startswith("dropout was set to 0 in training")]
    assert (model.lstm.dropout, model.drop.p, model.attention_dropout) == (0.4, 0.3, 0.2)
    assert vars(model.config) == {"dropout": 0.5, "hidden_size": 4}


def test_an_empty_question_proves_nothing_and_says_so():
    equal = ragged(5, 5, 5)
    assert batch_invariance(Mean(), equal, pad).padded  # columns were added
    report = batch_invariance(lambda x: x.mean(1), equal, torch.stack)
    assert not report and report.verdict == "not settled"
    assert "nothing was padded" in str(report) and "different lengths" in str(report)
    fixed = lambda some: torch.stack([F.pad(one, (0, 0, 0, 9 - len(one))) for one in some])  # noqa: E731
    report = batch_invariance(lambda x: x.mean(1), SAMPLES, fixed)
    assert not report and "nothing was padded" in str(report)


IDS = [torch.tensor(one) for one in ([3, 1, 2], [5], [4, 4, 1, 2])]


def ids_and_mask(samples):
    ids = nn.utils.rnn.pad_sequence(samples, batch_first=True)
    return {"input_ids": ids, "attention_mask": (ids != 0).long()}


def test_nan_among_ids_is_an_empty_question():
    table = nn.Embedding(9, 4)

    def run(model, batch):
        return masked_mean(model(batch["input_ids"]), batch["attention_mask"].bool())

    report = batch_invariance(table, IDS, ids_and_mask, run=run, strict=True)
    assert report and of(report, "more padding").state == "not asked"


@pytest.mark.parametrize(
    "give, words",
    [
        (lambda out: out.sum(), ["one number for 4 samples", "reduction='none'"]),
        (lambda out: None, ["gave None for 4 samples", "return"]),
        (lambda out: {"logits": out}, ["model returned logits", "hugging_face()"]),
        (lambda out: (out, out), ["2 rows for 4 samples", "[0]"]),
        (lambda out: out.long(), ["int64", "logits before an argmax"]),
        (lambda out: object(), ["gave a object", "run="]),
        (lambda out: out.to("meta"), ["meta tensor", "to_empty"]),
    ],
)
def test_outputs_that_cannot_be_compared_are_refused_with_the_fix(give, words):
    with pytest.raises((TypeError, ValueError)) as error:
        batch_invariance(lambda x, n: give(right_mean(x, n)), SAMPLES, pad)
    assert all(word in str(error.value) for word in words), error.value


def test_models_that_cannot_be_run_are_refused_with_the_fix():
    with pytest.raises(ValueError, match="meta device"):
        batch_invariance(Mean().to("meta"), SAMPLES, pad, run=lambda m, b: right_mean(*b))
    script = torch.jit.script(nn.Linear(4, 2))
    with pytest.raises(TypeError, match=r"torch\.jit"):
        batch_invariance(script, SAMPLES, pad, run=lambda m, b: m(b[0]).sum(1))
    lazy = nn.LazyLinear(3)
    with pytest.raises(ValueError, match="LazyLinear is lazy and has no shape yet"):
        batch_invariance(lambda x, n: lazy(right_mean(x, n)), SAMPLES, pad)
    assert lazy.has_uninitialized_params()


def test_a_packed_output_needs_no_adapter():
    lstm = nn.LSTM(4, 3)

    def collate(samples):
        return nn.utils.rnn.pack_sequence(samples, enforce_sorted=False)

    report = batch_invariance(lambda packed: lstm(packed)[0], SAMPLES, collate)
    assert report and of(report, "gradients").state == "same"
    assert report.padded  # the lengths differ, though nothing holds their padding


def sorted_collate(samples):
    return pad(sorted(samples, key=len, reverse=True))


def test_a_collate_that_sorts_is_told_from_a_fault():
    report = batch_invariance(Mean(), SAMPLES, sorted_collate)
    told = of(report, "alone")
    assert told.state == "differs" and "right, but those of samples [3, 0, 2, 1]" in told.why
    assert "put them back in run=" in str(report) and of(report, "gradients").state == "differs"
    wrong = batch_invariance(Mean(lambda x, n: x.mean(1)), SAMPLES, sorted_collate)
    assert "samples [3" not in str(wrong)
    order = sorted(range(4), key=lambda i: -len(SAMPLES[i]))
    report = batch_invariance(Mean(), [SAMPLES[i] for i in order], sorted_collate)
    assert of(report, "another order").state == "differs"


def test_legacy_weight_norm_is_run_and_left_alone():
    class Normed(Mean):
        def __init__(self):
            super().__init__()
            self.first = nn.utils.weight_norm(nn.Linear(4, 4))

        def forward(self, padded, lengths):
            return super().forward(self.first(padded), lengths)

    with pytest.warns(FutureWarning):
        model = Normed()
    model(*pad(SAMPLES)).sum().backward()  # its weight is no leaf now
    weight = model.first.weight
    report = batch_invariance(model, SAMPLES, pad)
    assert report and "first.weight_g" in of(report, "gradients").differences
    assert model.first.weight is weight and weight.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("asked", [torch.float64, None])
def test_low_precision_gets_a_verdict_that_means_something(dtype, asked):
    samples = [one.to(dtype) for one in SAMPLES]
    right = batch_invariance(PackedLSTM(4, 8, 3).to(dtype), samples, pad, dtype=asked)
    assert right, right
    wrong = batch_invariance(Mean(lambda x, n: x.mean(1)).to(dtype), samples, pad, dtype=asked)
    assert wrong.verdict == "changes"
    used = {str(asked or dtype).removeprefix("torch.")}
    assert set(right.dtypes.values()) == used
    small = {torch.float64: 1e-9, torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 1.6e-2}
    assert of(right, "alone").tolerance >= small[asked or dtype]
    assert of(right, "alone").tolerance < 0.2


def test_autocast_gets_a_verdict_that_means_something():
    def run(model, batch):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return model(*batch)

    assert batch_invariance(Encoder(), SAMPLES, pad, run=run)
    # On a CPU, its fast path does not run under autocast: that is an error and no difference.
    own = batch_invariance(Encoder(), SAMPLES, pad, run=run, dtype=None)
    assert fails(own, "training") == fails(own, "evaluation") == []
    assert own.verdict == "not settled" and of(own, "alone", "inference").state == "raises"
    for dtype in (torch.float64, None):
        broken = batch_invariance(Encoder(masked=False), SAMPLES, pad, run=run, dtype=dtype)
        assert broken.verdict == "changes"


class Float32Inside(Mean):
    """Computes a part in float32, as rotary angles and norms in many right models do."""

    def forward(self, padded, lengths):
        steps = padded.float().cos().to(padded.dtype) * keep(padded, lengths)[..., None]
        return super().forward(steps @ steps.mT @ steps, lengths)


class RefusesFloat64(Mean):
    def forward(self, padded, lengths):
        if padded.dtype == torch.float64:
            raise RuntimeError("no kernel for Double")
        return super().forward(padded, lengths)


def test_what_is_float32_inside_is_right_within_its_measured_rounding():
    report = batch_invariance(Float32Inside(), ragged(17, 9, 5, 30, 4), pad)
    assert report, report
    assert set(report.dtypes.values()) == {"float64"}


def test_a_model_without_float64_is_compared_in_its_own():
    report = batch_invariance(RefusesFloat64(), SAMPLES, pad)
    assert report and set(report.dtypes.values()) == {"float32"}
    assert any("own precision" in note and "no kernel for Double" in note for note in report.notes)
    assert together_equals_alone(RefusesFloat64(), SAMPLES).dtype is None
    wrong = RefusesFloat64(lambda x, n: x.mean(1))
    assert not batch_invariance(wrong, SAMPLES, pad) and not together_equals_alone(wrong, SAMPLES)


class SmallestNumber(nn.Module):
    """Adds the smallest number of its dtype as a mask, and takes the softmax in float32."""

    def forward(self, padded, lengths):
        hide = ~keep(padded, lengths)
        hide = hide[:, None, :] | hide[:, :, None]  # a padded query sees nothing
        scores = padded @ padded.mT + hide * torch.finfo(padded.dtype).min
        weights = scores.float().softmax(-1).to(padded.dtype)
        return (weights @ padded).nansum(1) * 0 + right_mean(weights @ padded, lengths)


def test_nan_of_float64_alone_is_no_fault():
    report = batch_invariance(SmallestNumber(), SAMPLES, pad, paths=["evaluation"])
    assert report, report
    assert report.dtypes == {"evaluation": "float32"}


class Shifted(nn.Module):
    """Adds its bias at the padding too, before a mean over T: a bias of 0 hides it."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(4, 4)
        nn.init.zeros_(self.embed.bias)

    def forward(self, padded, lengths):
        return self.embed(padded).sum(1) / lengths[:, None]


class FreshNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def forward(self, padded, lengths):
        return self.norm(padded.mT).sum(2) / lengths[:, None]


@pytest.mark.parametrize("make, path", [(Shifted, "training"), (FreshNorm, "evaluation")])
def test_perturbed_parameters_show_what_fresh_ones_hide(make, path):
    hidden = batch_invariance(make(), SAMPLES, pad, paths=[path])
    assert "alone" not in fails(hidden, path)
    assert any("perturb=True" in note for note in hidden.notes)
    shown = batch_invariance(make(), SAMPLES, pad, paths=[path], perturb=True)
    assert "alone" in fails(shown, path)
    model = Mean()
    before = [one.clone() for one in model.parameters()]
    assert batch_invariance(model, SAMPLES, pad, perturb=True)
    assert same(before, list(model.parameters()))
    table = nn.Embedding(9, 4, padding_idx=0)  # its row of zeros is not moved
    batch = lambda some: nn.utils.rnn.pad_sequence(some, batch_first=True)  # noqa: E731
    assert batch_invariance(
        table, IDS, batch, run=lambda m, ids: m(ids).sum(1), paths=["evaluation"], perturb=True
    )


class LeftPaddedCausal(nn.Module):
    """A causal encoder on left padding: right, but for the path without gradients."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, padded, lengths):
        size = padded.shape[1]
        future = torch.ones(size, size, dtype=torch.bool).triu(1)
        hide = torch.arange(size) < size - lengths[:, None]
        return self.encoder(padded, mask=future, src_key_padding_mask=hide)[:, -1]


def test_the_path_of_evaluation_without_gradients_is_taken():
    torch.manual_seed(0)
    report = batch_invariance(LeftPaddedCausal(), SAMPLES, left)
    assert fails(report, "training") == fails(report, "evaluation") == []
    assert "alone" in fails(report, "inference")
    assert of(report, "alone", "inference").size == float("inf")

    class Right(LeftPaddedCausal):
        def forward(self, padded, lengths):
            longest = padded.shape[1]
            moved = [row[:n] for row, n in zip(padded, lengths.tolist(), strict=True)]
            moved = [F.pad(one, (0, 0, longest - len(one), 0)) for one in moved]
            return super().forward(torch.stack(moved), lengths)

    model = Right()
    assert together_equals_alone(model.train(), SAMPLES)
    assert not together_equals_alone(model.eval(), SAMPLES)


# --- the faults that tutorials teach ----------------------------------------------------------


class EncoderOutputs(nn.Module):
    """Reads with an LSTM, and lets a query attend to the outputs."""

    def __init__(self, masked):
        super().__init__()
        self.lstm, self.query = nn.LSTM(4, 4, batch_first=True), nn.Parameter(torch.randn(4))
        self.masked = masked

    def forward(self, padded, lengths):
        steps, _ = self.lstm(padded)
        scores = steps @ self.query
        if self.masked:
            scores = scores.masked_fill(~keep(padded, lengths), -torch.inf)
        return (scores.softmax(1)[..., None] * steps).sum(1)


class StateAfterPadding(nn.Module):
    def __init__(self, packed):
        super().__init__()
        self.lstm, self.packed = nn.LSTM(4, 4, batch_first=True), packed

    def forward(self, padded, lengths):
        if self.packed:
            padded = pack_padded_sequence(padded, lengths, batch_first=True, enforce_sorted=False)
        return self.lstm(padded)[1][0][-1]


class MeanOverPadding(nn.Module):
    def __init__(self, masked):
        super().__init__()
        self.lstm, self.masked = nn.LSTM(4, 4, batch_first=True), masked

    def forward(self, padded, lengths):
        packed = pack_padded_sequence(padded, lengths, batch_first=True, enforce_sorted=False)
        steps, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return masked_mean(steps, lengths_to_keep_mask(lengths)) if self.masked else steps.mean(1)


@pytest.mark.parametrize(
    "make, first",
    [
        (EncoderOutputs, "EncoderOutputs"),
        (StateAfterPadding, "lstm"),
        (MeanOverPadding, "MeanOverPadding"),
    ],
)
def test_the_faults_of_tutorials_are_found_and_where(make, first):
    assert batch_invariance(make(True), SAMPLES, pad)
    report = batch_invariance(make(False), SAMPLES, pad)
    assert [fails(report, path)[0] for path in PATHS] == ["alone"] * 3
    assert report.first_layer.startswith(f"{first} (training, sample ")


# --- lines that nothing tested ----------------------------------------------------------------


def test_the_tolerance_of_leak_map_is_relative_to_the_largest_value():
    def small_leak(padded, lengths):
        return 1000 * last_real_step(padded, lengths) + 1e-3 * padded.sum(1)

    values = [torch.ones(3, 1), torch.ones(1, 1)]
    assert not leak_map(small_leak, values, value=1.0).any()  # 2e-3 of 1000
    assert leak_map(small_leak, values, value=1.0, tolerance=1e-6).tolist() == [False, True]


def test_nan_alone_is_refused_and_names_the_sample():
    model = lambda x, n: right_mean(x, n) / (n != 3)[:, None]  # noqa: E731
    with pytest.raises(ValueError, match="NaN or inf for sample 1 alone, in evaluation"):
        batch_invariance(model, SAMPLES, pad)


def test_a_batch_of_one_element():
    one = [torch.ones(1, 1)]
    report = together_equals_alone(lambda x, n: x.sum(1), one)
    assert report and report.outputs == [0.0] and report.lengths == [1]
    assert leak_map(lambda x, n: x.sum(1), one).tolist() == [False]
