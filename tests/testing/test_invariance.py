"""Right models pass all six questions; a faulty one fails just those that its fault can fail."""

import copy
import json

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from course_utils.batches.layers import MaskedConv1d
from course_utils.batches.masks import lengths_to_keep_mask, masked_mean
from course_utils.batches.packed import pack
from course_utils.batches.padding import collate, pad
from course_utils.models import Hybrid, MaskedTransformer, PackedLSTM
from course_utils.testing import batch_invariance
from tests.ragged import calm, few, ragged, refuses, same  # noqa: F401
from tests.testing.test_alone import ScaledGradient

ALONE, MATES, ORDER = "alone", "other batch mates", "another order"
PADDING, CONTENT, GRADIENTS = "more padding", "other content in the padding", "gradients"
QUESTIONS = [ALONE, MATES, ORDER, PADDING, CONTENT, GRADIENTS]
NAN = "NaN in the padding"
PATHS = ["training", "evaluation", "inference"]
fewer = settings(few, max_examples=6)
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


def fails(report, path="training"):
    return [one.name for one in report.questions if one.path == path and not one]


def of(report, name, path="training"):
    """The question of that name on that path."""
    (found,) = [one for one in report.questions if (one.name, one.path) == (name, path)]
    return found


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
@fewer
@given(st.lists(st.integers(1, 12), min_size=3, max_size=5, unique=True))
def test_right_models_pass_on_every_path(make, lengths):
    report = batch_invariance(make(), ragged(*lengths), pad)
    assert report, report
    states = [(one.path, one.name, one.state) for one in report.questions]
    assert states == [
        (path, name, "not asked" if (path, name) == ("inference", GRADIENTS) else "same")
        for path in PATHS
        for name in QUESTIONS
    ]
    assert report.count == len(lengths) and report.verdict.startswith("equal")
    assert set(report.dtypes.values()) == {"float64"}


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
    "unmasked mean": (Mean(lambda x, n: x.mean(1)), [ALONE, MATES, PADDING, CONTENT, GRADIENTS]),
    "lengths scaled like T": (
        Stem(lambda own, lengths, before, behind: (lengths * behind // before).clamp(min=1)),
        [ALONE, GRADIENTS],
    ),
    "centred over the batch": (Mean(centred), [ALONE, MATES, GRADIENTS]),
    "gradient scaled by fill": (ScaledByFill(), [GRADIENTS]),
    "row number": (Mean(numbered), [ALONE, MATES, ORDER, GRADIENTS]),
    "up to 16 steps": (Mean(lambda x, n: right_mean(x, n) + (x.shape[1] > 16)), [PADDING]),
    "one more": (
        Mean(lambda x, n: right_mean(x, n) + (x.shape[1] == n.max() + 1)),
        [PADDING],
    ),
    "three more": (
        Mean(lambda x, n: right_mean(x, n) + (x.shape[1] == n.max() + 3)),
        [PADDING],
    ),
    "a large number in the padding": (
        Mean(lambda x, n: right_mean(x, n) + (x[:, -1, :1] > 9)),
        [CONTENT],
    ),
    "a small number in the padding": (
        Mean(lambda x, n: right_mean(x, n) + (x[:, -1, :1] < -9)),
        [CONTENT],
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_fails_just_the_questions_that_it_can_fail(name):
    model, expected = FAULTS[name]
    report = batch_invariance(model.train(), SAMPLES, pad, paths=["training"])
    if name != "up to 16 steps":  # 7 columns more, in which gradients are compared, are not enough
        expected = expected + [GRADIENTS] * (PADDING in expected and GRADIENTS not in expected)
    found = [one for one in fails(report) if one in expected or one != GRADIENTS]
    assert [one for one in expected if one in found] == found, report
    assert not report and report.verdict == "changes"


def test_differences_are_by_sample_and_relative_to_the_largest_value_alone():
    report = batch_invariance(lambda x, n: x.mean(1), SAMPLES, pad)
    together = torch.stack([one.sum(0) / 8 for one in SAMPLES]).double()
    alone = torch.stack([one.mean(0) for one in SAMPLES]).double()
    shares = ((alone - together).abs().amax(1) / alone.abs().max()).tolist()
    found = of(report, ALONE, "evaluation")
    assert found.differences == pytest.approx(dict(enumerate(shares)), abs=1e-6)
    assert list(found.wrong) == sorted(range(3), key=lambda i: -shares[i])
    assert found.size == max(found.differences.values())
    looser = batch_invariance(lambda x, n: x.mean(1), SAMPLES, pad, tolerance=1.01)
    assert fails(looser, "evaluation") == [CONTENT]


def test_no_total_length_raises_where_columns_are_added():
    report = batch_invariance(NoTotalLength(4, 8, 3), SAMPLES, pad)
    for path, name in [(p, n) for p in PATHS for n in (PADDING, CONTENT)]:
        found = of(report, name, path)
        assert found.state == "raises" and "Error: " in found.why and not found
    assert of(report, ALONE).state == "same" and of(report, GRADIENTS).state == "raises"
    assert report.verdict == "not settled" and "NOT SETTLED" in str(report) and not report


def test_an_error_is_a_state_and_gradients_are_compared_all_the_same():
    squeezed = batch_invariance(Mean(lambda x, n: right_mean(x, n).squeeze()), SAMPLES, pad)
    found = of(squeezed, ALONE)
    assert found.state == "raises" and found.why.startswith("ValueError: model gave 3 rows for 1")
    assert "does it squeeze a dimension away?" in found.why
    assert of(squeezed, GRADIENTS).state == "same"
    assert "against two halves" in of(squeezed, GRADIENTS).why
    assert squeezed.verdict == "not settled"
    few_samples = batch_invariance(Mean(lambda x, n: right_mean(x, n).squeeze()), SAMPLES[:3], pad)
    assert of(few_samples, GRADIENTS).state == "not asked"

    class Scaled(ScaledByFill):
        def forward(self, padded, lengths):
            return super().forward(padded, lengths).squeeze()

    assert of(batch_invariance(Scaled(), SAMPLES, pad), GRADIENTS).state == "differs"


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


def asked(report, path="evaluation"):
    return sum(one.state != "not asked" for one in report.questions if one.path == path)


def test_dicts_lists_and_tensors_are_batches_too():
    named_report = batch_invariance(Named(), SAMPLES, named)
    summed = batch_invariance(lambda x: x.nansum(1), SAMPLES, lambda some: pad(some)[0])
    listed = batch_invariance(Mean(), SAMPLES, lambda some: list(pad(some)))
    ids = [one[:, 0].round().long() for one in SAMPLES]
    numbers = batch_invariance(lambda x, lengths: x.float().sum(1), ids, pad)
    for report, count in [(named_report, 4), (summed, 3), (numbers, 3), (listed, 6)]:
        assert report and asked(report) == count
        assert of(report, PADDING).state == ("same" if count == 6 else "not asked")
    assert "give more_padding" in of(named_report, PADDING).why
    mean = batch_invariance(lambda x: x.mean(1), SAMPLES, lambda some: pad(some)[0])
    assert fails(mean, "evaluation") == [ALONE, MATES]
    assert {one.state for one in mean.questions if one.path == "training"} == {"not asked"}


def test_more_padding_of_ones_own_asks_the_two_questions():
    assert asked(batch_invariance(Named(), SAMPLES, named, more_padding=more_of_named)) == 6
    seen = []

    def real_padding(batch, steps, value):
        seen.append((steps, value))
        wider = more_of_named(batch, steps, value)
        return wider | {"keep_mask": torch.ones_like(wider["keep_mask"])}

    report = batch_invariance(
        Named(), SAMPLES, named, more_padding=real_padding, paths=["training"], strict=True
    )
    assert fails(report) == [PADDING, CONTENT, GRADIENTS, NAN]
    large = 10 * max(one.abs().max().item() for one in SAMPLES)
    finite = [(n, pytest.approx(value)) for n, value in dict.fromkeys(seen) if value == value]
    assert finite == [(1, 0), (3, 0), (20, 0), (3, large), (3, -large), (7, 0)]


def test_run_and_loss_of_ones_own_are_used():
    labelled = list(zip(SAMPLES, [0, 2, 1, 1], strict=True))
    seen = []

    def loss(row, sample):
        seen.append(sample[1])
        return F.cross_entropy(row, torch.tensor(sample[1]))

    options = {"run": lambda model, batch: model(*batch[:2]), "loss": loss, "paths": ["training"]}
    assert batch_invariance(Mean(), labelled, collate, **options)
    assert seen[:4] == [0, 2, 1, 1]
    with pytest.raises(ValueError, match="loss must return a tensor of one number"):
        batch_invariance(Mean(), labelled, collate, **{**options, "loss": lambda row, s: row})


def test_rows_may_be_tensors_of_different_lengths():
    def rows(model, batch):
        padded, lengths = batch
        return [row[:n] for row, n in zip(model(padded), lengths.tolist(), strict=True)]

    assert batch_invariance(nn.Linear(4, 2), SAMPLES, pad, run=rows)
    whole = lambda model, batch: model(batch[0])  # noqa: E731
    report = batch_invariance(nn.Linear(4, 2), SAMPLES, pad, run=whole)
    assert ALONE in fails(report) and PADDING in fails(report)
    assert of(report, ALONE).differences == {0: torch.inf, 1: torch.inf, 2: torch.inf, 3: 0}
    assert "cut it off in run= or with an adapter" in of(report, ALONE).why


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


def test_the_report_is_a_table_of_questions_by_paths():
    text = str(batch_invariance(Mean(), SAMPLES, pad))
    lines = text.splitlines()
    assert lines[0].startswith("the batch does not change the answer: equal ")
    assert lines[0].endswith("(4 samples, float64)")
    assert lines[1].split() == PATHS
    for line, name in zip(lines[2:], QUESTIONS, strict=False):
        last = "not asked" if name == GRADIENTS else "same"
        assert line.split() == [*name.split(), "same", "same", *last.split()]
    report = batch_invariance(Mean(lambda x, n: x.mean(1)), [*SAMPLES, *ragged(2, 4)], pad)
    lines = repr(report).splitlines()
    assert lines[0] == "the batch CHANGES the answer (6 samples, float64)"
    found = of(report, ALONE)
    assert lines[2].split()[:3] == ["alone", "DIFFERS", f"{100 * found.size:.0f}%"]
    worst = [f"{sample} by {100 * share:.0f}%" for sample, share in found.wrong.items()]
    assert f"  alone: samples {', '.join(worst[:3])} and 2 more" in lines
    text = str(batch_invariance(ScaledByFill(), SAMPLES, pad))
    assert "\n  gradients (training, evaluation): gradients of head." in text


def test_the_report_as_plain_values_goes_through_json():
    report = batch_invariance(lambda x, n: x.mean(1) / (n > 3)[:, None], SAMPLES[:1] * 2, pad)
    assert "nothing was padded" not in str(report)
    report = batch_invariance(Mean(lambda x, n: x.mean(1)), SAMPLES, pad)
    values = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert values["verdict"] == "changes" and values["invariant"] is False
    assert values["samples"] == 4 and values["dtypes"] == dict.fromkeys(PATHS, "float64")
    assert [one["state"] for one in values["questions"]] == [q.state for q in report.questions]
    assert values["questions"][0]["differences"]["1"] == of(report, ALONE).differences[1]
    assert values["first_layer"].startswith("the input of head (training, ")


def test_nothing_depends_on_what_the_caller_has_turned_off():
    for off in (torch.no_grad, torch.inference_mode):
        with off():
            report = batch_invariance(ScaledByFill(), SAMPLES, pad)
        assert fails(report) == [GRADIENTS]
        assert report.to_dict() == batch_invariance(ScaledByFill(), SAMPLES, pad).to_dict()


def test_random_numbers_of_collate_are_put_back():
    model, random_state = Mean(), torch.get_rng_state()
    batch_invariance(model, SAMPLES, lambda samples: torch.rand(1) is not None and pad(samples))
    assert torch.equal(torch.get_rng_state(), random_state)


def test_content_is_compared_with_a_batch_just_as_wide():
    # Wrong by its width alone: what the padding holds cannot matter to this model.
    model = Mean(lambda x, n: right_mean(x, n) * n.max() / x.shape[1])
    report = batch_invariance(model, SAMPLES, pad, paths=["training"])
    assert of(report, PADDING).state == "differs"
    assert of(report, CONTENT).state == "same", report
    assert not any("NaN" in note for note in report.notes)
