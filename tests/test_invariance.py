"""Right models pass all six questions; a faulty one fails just those that its fault can fail."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from course_utils.batching import collate, pad
from course_utils.invariance import batch_invariance
from course_utils.layers import MaskedConv1d
from course_utils.masks import lengths_to_keep_mask, masked_mean
from course_utils.models import Hybrid, MaskedTransformer, PackedLSTM
from course_utils.packed import pack
from tests.ragged import calm, few, ragged, refuses, same  # noqa: F401
from tests.test_oracle import ScaledGradient

QUESTIONS = ["alone", "other batch mates", "another order"]
QUESTIONS += ["more padding", "NaN in that padding", "gradients"]
ALONE, MATES, ORDER, PADDING, NAN, GRADIENTS = QUESTIONS
SAMPLES = ragged(6, 3, 5, 8)  # the longest of each half, (6, 5) and (3, 8), is even


def keep(padded, lengths):
    return lengths_to_keep_mask(lengths, padded.shape[1])


def right_mean(padded, lengths):
    return masked_mean(padded, keep(padded, lengths))


class Mean(nn.Module):
    """A linear classifier of the mean over real steps, or of something else."""

    def __init__(self, pool=None):
        super().__init__()
        self.head, self.pool = nn.Linear(4, 3), pool or right_mean

    def forward(self, padded, lengths):
        return self.head(self.pool(padded, lengths))


class Stem(nn.Module):
    """A strided masked convolution, then the mean over the steps that are real by `after`."""

    def __init__(self, after=lambda own, lengths, before, behind: own):
        super().__init__()
        self.stem, self.after = MaskedConv1d(4, 3, 5, 2, 2), after

    def forward(self, padded, lengths):
        steps, own = self.stem(padded, lengths)
        lengths = self.after(own, lengths, padded.shape[1], steps.shape[1])
        return masked_mean(steps, keep(steps, lengths))


class NoTotalLength(PackedLSTM):
    def forward(self, padded, lengths):
        packed, _ = self.lstm(pack(padded, lengths, padding_value=None))
        steps, _ = nn.utils.rnn.pad_packed_sequence(packed, batch_first=True)
        return masked_mean(steps, keep(padded, lengths))


def fails(report):
    return [finding.question for finding in report.findings if not finding]


@pytest.mark.parametrize(
    "make",
    [
        lambda: PackedLSTM(4, 8, 3),
        lambda: MaskedTransformer(4, 8, 3),
        lambda: Hybrid(4, 4, 3),
        Stem,
        Mean,
    ],
    ids=["packed", "Transformer", "hybrid", "convolution", "mean"],
)
@few
@given(st.lists(st.integers(1, 12), min_size=2, max_size=6), st.booleans())
def test_right_models_pass(make, lengths, training):
    report = batch_invariance(make().train(training), ragged(*lengths), pad)
    assert report and fails(report) == [], report
    assert [finding.question for finding in report.findings] == QUESTIONS
    assert all(finding.tried and not finding.trouble for finding in report.findings)
    assert report.mode == ("training" if training else "evaluation")
    assert report.count == len(lengths)


def centred(padded, lengths):
    return right_mean(padded - padded[keep(padded, lengths)].mean(0), lengths)


def not_put_back(padded, lengths):
    return right_mean(padded, lengths)[lengths.argsort(descending=True)]


def multiplied(padded, lengths):
    return (padded * keep(padded, lengths)[..., None]).sum(1) / lengths[:, None]


class ScaledByFill(Mean):
    def forward(self, padded, lengths):
        share = lengths.sum() / padded[..., 0].numel()
        return ScaledGradient.apply(super().forward(padded, lengths), share)


def numbered(padded, lengths):
    return right_mean(padded, lengths) + torch.arange(len(padded))[:, None]


FAULTS = {
    "unmasked mean": (Mean(lambda x, n: x.mean(1)), [ALONE, MATES, PADDING, NAN, GRADIENTS]),
    "lengths scaled like T": (
        Stem(lambda own, lengths, before, behind: (lengths * behind // before).clamp(min=1)),
        [ALONE, GRADIENTS],
    ),
    "centred over the batch": (Mean(centred), [ALONE, MATES, GRADIENTS]),
    "sorted and not put back": (Mean(not_put_back), [ALONE, MATES, ORDER]),
    "mask multiplied": (Mean(multiplied), [NAN]),
    "gradient scaled by fill": (ScaledByFill(), [GRADIENTS]),
    "row number": (Mean(numbered), [ALONE, MATES, ORDER, GRADIENTS]),
    "up to 16 steps": (Mean(lambda x, n: right_mean(x, n) + (x.shape[1] > 16)), [PADDING]),
    "one more": (Mean(lambda x, n: right_mean(x, n) + (x.shape[1] == n.max() + 1)), [PADDING]),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_fails_just_the_questions_that_it_can_fail(name):
    model, expected = FAULTS[name]
    report = batch_invariance(model.train(), SAMPLES, pad)
    assert fails(report) == expected, report
    assert not report


def test_differences_are_by_sample_and_relative_to_the_largest_value_of_the_batch():
    report = batch_invariance(lambda x, n: x.mean(1), SAMPLES, pad)
    together = torch.stack([one.sum(0) / 8 for one in SAMPLES])
    alone = torch.stack([one.mean(0) for one in SAMPLES])
    shares = ((alone - together).abs().amax(1) / together.abs().max()).tolist()
    assert report.findings[0].differences == pytest.approx(dict(enumerate(shares[:3])))
    looser = {"tolerance": 1.01}  # no mean of more zeros is off by more than the largest
    assert fails(batch_invariance(lambda x, n: x.mean(1), SAMPLES, pad, **looser)) == [NAN]


def test_no_total_length_fails_where_columns_are_added():
    report = batch_invariance(NoTotalLength(4, 8, 3), SAMPLES, pad)
    assert fails(report) == [PADDING, NAN, GRADIENTS]


def test_an_error_is_reported_with_its_question_and_not_raised():
    squeezed = batch_invariance(lambda x, n: right_mean(x, n).squeeze(), SAMPLES, pad)
    assert fails(squeezed) == [ALONE, GRADIENTS]
    trouble = squeezed.findings[0].trouble
    assert trouble.startswith("ValueError: model gave 4 rows for 1 sample")
    assert f"{ALONE:26s} RAISES {trouble}" in str(squeezed)

    def more_padding(batch, steps, value):  # the first time, to see whether it can, is no question
        return F.pad(batch[0], (0, 0, 0, steps), value=value), batch[1]

    report = batch_invariance(NoTotalLength(4, 8, 3), SAMPLES, pad, more_padding=more_padding)
    assert fails(report) == [PADDING, NAN, GRADIENTS]
    assert all("Error: " in finding.trouble for finding in report.findings if not finding)


def test_a_random_model_is_told_so():
    report = batch_invariance(nn.Sequential(nn.Dropout(0.5)), SAMPLES, lambda some: pad(some)[0])
    assert not report and "The model is random: set dropout to 0" in str(report)


class Named(Mean):
    def forward(self, sound, keep_mask):
        return self.head(masked_mean(sound, keep_mask))


def named(samples):
    padded, lengths = pad(samples)
    return {"keep_mask": lengths_to_keep_mask(lengths), "sound": padded}


def more_of_named(batch, steps, value):
    return {
        "sound": F.pad(batch["sound"], (0, 0, 0, steps), value=value),
        "keep_mask": F.pad(batch["keep_mask"], (0, steps)),
    }


def test_dicts_lists_and_tensors_are_batches_too():
    named_report = batch_invariance(Named(), SAMPLES, named)
    summed = batch_invariance(lambda x: x.nansum(1), SAMPLES, lambda some: pad(some)[0])
    listed = batch_invariance(Mean(), SAMPLES, lambda some: list(pad(some)))
    ids = [one[:, 0].round().long() for one in SAMPLES]
    numbers = batch_invariance(lambda x, lengths: x.float().sum(1), ids, pad)
    for report, tried in [(named_report, 4), (summed, 3), (numbers, 3), (listed, 6)]:
        assert report and sum(finding.tried for finding in report.findings) == tried
        assert str(report).count("not tried: give more_padding") == (0 if tried == 6 else 2)
    mean = batch_invariance(lambda x: x.mean(1), SAMPLES, lambda some: pad(some)[0])
    assert fails(mean) == [ALONE, MATES]


def test_more_padding_of_ones_own_asks_the_two_questions():
    assert batch_invariance(Named(), SAMPLES, named, more_padding=more_of_named)
    seen = []

    def real_padding(batch, steps, value):
        seen.append((steps, value))
        wider = more_of_named(batch, steps, value)
        return wider | {"keep_mask": torch.ones_like(wider["keep_mask"])}

    report = batch_invariance(Named(), SAMPLES, named, more_padding=real_padding)
    assert fails(report) == [PADDING, NAN, GRADIENTS]
    assert [(n, value == 0) for n, value in seen] == [
        (1, True), (1, True), (20, True), (3, False), (7, True)
    ]  # fmt: skip


def test_run_and_loss_of_ones_own_are_used():
    labelled = list(zip(SAMPLES, [0, 2, 1, 1], strict=True))
    options = {
        "run": lambda model, batch: model(*batch[:2]),
        "loss": lambda row, sample: F.cross_entropy(row, torch.tensor(sample[1])),
    }
    assert batch_invariance(Mean(), labelled, collate, **options)
    # A loss that knows its sample sees in the gradients, too, that rows were exchanged.
    report = batch_invariance(Mean(not_put_back), labelled, collate, **options)
    assert fails(report) == [ALONE, MATES, ORDER, GRADIENTS]


def test_rows_may_be_tensors_of_different_lengths():
    def rows(model, batch):
        padded, lengths = batch
        return [row[:n] for row, n in zip(model(padded), lengths.tolist(), strict=True)]

    assert batch_invariance(nn.Linear(4, 2), SAMPLES, pad, run=rows)
    whole = lambda model, batch: model(batch[0])  # noqa: E731
    report = batch_invariance(nn.Linear(4, 2), SAMPLES, pad, run=whole)
    assert fails(report) == [ALONE, MATES, PADDING, NAN, GRADIENTS]
    assert report.findings[0].differences == {0: torch.inf, 1: torch.inf, 2: torch.inf}


class Noisy(nn.Module):
    """Draws a random number, and counts and averages in its buffers."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def forward(self, padded, lengths):
        torch.rand(1)
        return self.norm(padded.mT).mT.sum(1)


@pytest.mark.parametrize("training", [True, False])
def test_nothing_is_left_changed(training):
    model = Noisy().train(training)
    model(*pad(SAMPLES)).sum().backward()
    before, inputs = copy.deepcopy(model), copy.deepcopy(SAMPLES)
    grads = [one.grad.clone() for one in model.parameters()]
    random_state = torch.get_rng_state()
    assert not batch_invariance(model, SAMPLES, pad)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert same(before, model) and same(inputs, SAMPLES)
    assert same(grads, [one.grad for one in model.parameters()])


@pytest.mark.parametrize("samples", [[], SAMPLES[:1]])
def test_fewer_than_two_samples_are_refused(samples):
    words = [f"samples holds {len(samples)}", "2 or more"]
    refuses(ValueError, words, batch_invariance, Mean(), samples, pad)


@pytest.mark.parametrize("rows", [0, 3, 5])
def test_a_wrong_number_of_rows_is_refused(rows):
    words = [f"gave {rows} rows", "4 samples"]
    model = lambda padded, lengths: torch.zeros(rows, 2)  # noqa: E731
    refuses(ValueError, words, batch_invariance, model, SAMPLES, pad)


def test_the_report_is_printed_a_line_a_question():
    lines = str(batch_invariance(Mean(), SAMPLES, pad)).splitlines()
    assert lines[0] == "the batch does not change the answer (4 samples, training mode)"
    assert [line.split() for line in lines[1:]] == [[*one.split(), "ok"] for one in QUESTIONS]
    report = batch_invariance(lambda x, n: x.mean(1), [*SAMPLES, *ragged(2, 4)], pad)
    lines = repr(report).splitlines()
    assert lines[0].startswith("the batch CHANGES the answer (6 samples, evaluation mode")
    worst = sorted(report.findings[0].differences.items(), key=lambda one: -one[1])
    shown = ", ".join(f"{sample} by {100 * share:.0f}%" for sample, share in worst[:3])
    assert lines[1].split(maxsplit=1)[1] == f"DIFFERS: samples {shown} and 2 more"
    assert lines[5].endswith("0 entirely, 1 entirely, 2 entirely and 3 more")
    report = batch_invariance(ScaledByFill(), SAMPLES, pad)
    assert "DIFFERS: gradients of head." in str(report).splitlines()[6]


def test_gradients_are_compared_within_no_grad_too():
    with torch.no_grad():
        assert fails(batch_invariance(ScaledByFill(), SAMPLES, pad)) == [GRADIENTS]


def test_a_packed_sequence_is_one_argument():
    def collate_packed(samples):
        return nn.utils.rnn.pack_sequence(samples, enforce_sorted=False)

    lstm = nn.LSTM(4, 3)
    assert batch_invariance(lambda packed: lstm(packed)[1][0][-1], SAMPLES, collate_packed)


def test_random_numbers_of_collate_are_put_back():
    model, random_state = Mean(), torch.get_rng_state()
    batch_invariance(model, SAMPLES, lambda samples: torch.rand(1) is not None and pad(samples))
    assert torch.equal(torch.get_rng_state(), random_state)
