"""What is not a batch is refused by every public function, in words that say how to fix it."""

import pytest
import torch

from course_utils import data, exercises, models, testing, tracing, training
from course_utils.batches import checks, layers, masks, packed, padding, rows, sampling
from course_utils.panels import packed as packed_panels
from course_utils.panels import padding as padding_panels
from course_utils.panels import policy as policy_panels
from course_utils.panels import rows as row_panels
from course_utils.testing import measure
from tests.batches.test_checks import BAD_MASKS
from tests.ragged import BAD_LENGTHS, BAD_SEQUENCES, refuses

# For a batch of 3 sequences of at most 5 steps: the call, and which of BAD_LENGTHS it may accept.
XS, COUNT, T = torch.zeros(3, 5, 4), {"too few", "too many"}, {"over T"}
TAKE_LENGTHS = {
    "checks.check_lengths": (lambda n: checks.check_lengths(n, 5), COUNT),
    "checks.lengths_tensor": (checks.lengths_tensor, COUNT | T | {"list"}),
    "padding.fill": (lambda n: padding.fill(n, 5), COUNT),
    "masks.lengths_to_keep_mask": (lambda n: masks.lengths_to_keep_mask(n, 5), COUNT | {"zero"}),
    "masks.last_real_step": (lambda n: masks.last_real_step(XS, n), set()),
    "data.spread_lengths": (lambda n: data.spread_lengths(n, 50, 2), COUNT | T),
    "sampling.BucketBatchSampler": (
        lambda n: sampling.BucketBatchSampler(n, 2, drop_last=True), COUNT | T | {"list"}),
    "sampling.TokenBudgetBatchSampler": (
        lambda n: sampling.TokenBudgetBatchSampler(n, 9), COUNT | T | {"list"}),
    "rows.first_fit": (lambda n: rows.first_fit(n, 9), COUNT | T | {"list"}),
    "rows.best_fit_decreasing": (lambda n: rows.best_fit_decreasing(n, 9), COUNT | T | {"list"}),
    "rows.histogram_packing": (lambda n: rows.histogram_packing(n, 9), COUNT | T | {"list"}),
    "packed.pack": (lambda n: packed.pack(XS, n), set()),
    "packed.layout": (packed.layout, COUNT | T),
    "layers.checked_keep_mask": (lambda n: layers.checked_keep_mask(XS, n), set()),
    "layers.AttentionPool": (lambda n: layers.AttentionPool(4)(XS, n), set()),
    "layers.conv_lengths": (lambda n: layers.conv_lengths(n, 1), COUNT | T),
    "layers.MaskedConv1d": (lambda n: layers.MaskedConv1d(4, 2, 1)(XS, n), set()),
    "models.PaddedLSTM": (
        lambda n: models.PaddedLSTM(4, 4, 2, masks.last_real_step)(XS, n), set()),
    "models.PackedLSTM": (lambda n: models.PackedLSTM(4, 4, 2)(XS, n), set()),
    "models.MaskedTransformer": (lambda n: models.MaskedTransformer(4, 4, 2)(XS, n), set()),
    "models.Hybrid": (lambda n: models.Hybrid(4, 4, 2)(XS, n), set()),
    "padding.PaddingExplorer": (lambda n: padding_panels.PaddingExplorer({"a": n}), COUNT | T),
    "policy.PolicyExplorer": (policy_panels.PolicyExplorer, COUNT | T),
    "rows.RowsExplorer": (row_panels.RowsExplorer, COUNT | T),
}  # fmt: skip
TAKE_SEQUENCES = {
    "padding.check_sequences": padding.check_sequences,
    "padding.pad": padding.pad,
    "rows.fill_rows": lambda many: rows.fill_rows(many, [[0]], 9),
    "testing.together_equals_alone": lambda many: testing.together_equals_alone(len, many),
    "testing.leak_map": lambda many: testing.leak_map(len, many),
    "measure.score": lambda many: measure.score("", None, many, baseline=None, accuracy=0.0),
    "training.fit": lambda many: training.fit(None, many, torch.zeros(3).long()),
    "training.accuracy": lambda many: training.accuracy(None, many, torch.zeros(3).long()),
}
TAKE_MASK = {
    "checks.check_mask": checks.check_mask,
    "masks.keep_mask_to_lengths": masks.keep_mask_to_lengths,
    "masks.to_key_padding_mask": masks.to_key_padding_mask,
    "masks.from_key_padding_mask": masks.from_key_padding_mask,
    "masks.to_sdpa_mask": masks.to_sdpa_mask,
    "masks.to_additive_mask": masks.to_additive_mask,
    "masks.to_attention_mask": masks.to_attention_mask,
    "masks.masked_mean": lambda keep: masks.masked_mean(XS, keep),
    "masks.masked_max": lambda keep: masks.masked_max(XS, keep),
    "layers.MaskedBatchNorm1d": lambda keep: layers.MaskedBatchNorm1d(4)(XS, keep),
    "training.masked_cross_entropy": lambda keep: training.masked_cross_entropy(XS, XS[0], keep),
    "training.four_losses": lambda keep: training.four_losses(XS, XS[0], keep),
}


@pytest.mark.parametrize("kind", BAD_LENGTHS)
@pytest.mark.parametrize("name", TAKE_LENGTHS)
def test_bad_lengths_are_refused(name, kind):
    call, accepts = TAKE_LENGTHS[name]
    bad, error, words = BAD_LENGTHS[kind]
    if kind not in accepts:
        # A message that speaks of T does so where T is known; that lengths are named is for all.
        refuses(error, words if kind != "list" else ["lengths", "list"], call, bad)


@pytest.mark.parametrize("kind", BAD_SEQUENCES)
@pytest.mark.parametrize("name", TAKE_SEQUENCES)
def test_bad_sequences_are_refused(name, kind):
    bad, error, words = BAD_SEQUENCES[kind]
    refuses(error, words, TAKE_SEQUENCES[name], bad)


@pytest.mark.parametrize("kind", BAD_MASKS)
@pytest.mark.parametrize("name", TAKE_MASK)
def test_bad_masks_are_refused(name, kind):
    bad, error, words = BAD_MASKS[kind]
    refuses(error, ["mask", *words], TAKE_MASK[name], bad)


KEEP = torch.ones(3, 5, dtype=torch.bool)
ROW_1_EMPTY = KEEP & torch.tensor([[True], [False], [True]])
HALF = [torch.zeros(2).half(), torch.zeros(1).half()]
V, E = ValueError, TypeError


@pytest.mark.parametrize(
    "error, words, call",
    [
        (V, ["keep_mask", "row 1", "Drop"], lambda: masks.masked_mean(XS, ROW_1_EMPTY)),
        (V, ["keep_mask", "row 1", "Drop"], lambda: masks.masked_max(XS, ROW_1_EMPTY)),
        (V, ["(3, 5)", "(1, 5)"], lambda: training.four_losses(XS, XS[..., 0], KEEP[:1])),
        (E, ["logits", "list"], lambda: training.masked_cross_entropy([], XS[..., 0], KEEP)),
        (E, ["dtype is torch.float8"], lambda: masks.to_additive_mask(KEEP, torch.float8_e5m2)),
        (E, ["dtype is float32"], lambda: masks.to_additive_mask(KEEP, "float32")),
        (V, ["max_length is 5.5"], lambda: padding.fill(torch.tensor([5]), 5.5)),
        (V, ["padding_value is 1e+30"], lambda: padding.pad(HALF, padding_value=1e30)),
        (V, ["padding_value is None"], lambda: padding.pad(HALF, padding_value=None)),
        (V, ["padding_value is 1180"], lambda: padding.pad(list(XS.long()), padding_value=2**70)),
        (V, ["total_length is 7.5"], lambda: padding.pad(HALF, total_length=7.5)),
        (E, ["lengths is a set"], lambda: rows.first_fit({1, 2}, 5)),
        (E, ["lengths is a generator"], lambda: sampling.BucketBatchSampler(iter_of(1), 2)),
        (
            V,
            ["epoch is 0"],
            lambda: sampling.describe_epoch(sampling.BucketBatchSampler([1], 1), 0),
        ),
        (V, ["kernel_size is 0"], lambda: layers.MaskedConv1d(2, 2, 0)),
        (V, ["padding is 'same'"], lambda: layers.MaskedConv1d(2, 2, 3, padding="same")),
        (V, ["kernel_size is True"], lambda: layers.conv_lengths(torch.tensor([3]), True)),
        (V, ["lengths is empty"], lambda: tracing.trace([])),
        (V, ["lengths[1] is 2.0"], lambda: tracing.trace([1, 2.0])),
        (V, ["lengths_by_source is empty"], lambda: padding_panels.PaddingExplorer({})),
        (V, ["presets is empty"], lambda: packed_panels.PackedExplorer({})),
        (V, ["id is '9.9'"], lambda: exercises.exercise("9.9")),
        (V, ["split", "'dev'"], lambda: data.japanese_vowels("dev")),
    ],
)
def test_other_bad_input_is_refused(error, words, call):
    refuses(error, words, call)


def iter_of(*numbers):
    return (number for number in numbers)


@pytest.mark.parametrize("make", [layers.AttentionPool, lambda n: layers.MaskedConv1d(n, n, 1)])
def test_lengths_may_stay_on_the_cpu_for_a_batch_on_another_device(make):
    found = make(4).to("meta")(XS.to("meta"), torch.tensor([5, 3, 1]))
    assert (found[0] if isinstance(found, tuple) else found).is_meta
