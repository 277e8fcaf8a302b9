"""What the panel of chapter 06 shows is what the sampler gives; an epoch is described rightly."""

import itertools

import pytest
import torch

from course_utils.batches.sampling import (
    BucketBatchSampler,
    TokenBudgetBatchSampler,
    describe_epoch,
)
from course_utils.data import japanese_vowels
from course_utils.models import PackedLSTM
from course_utils.panels.policy import PolicyExplorer
from course_utils.training import fit
from tests.ragged import refuses

LENGTHS = torch.tensor([3, 9, 4, 26, 7, 12, 5, 8, 8, 1, 30, 2])


def pairs(batches):
    return {frozenset(pair) for batch in batches for pair in itertools.combinations(batch, 2)}


@pytest.mark.parametrize("pool", [1, 2, 9])
def test_an_epoch_is_described_by_counting(pool):
    sampler = BucketBatchSampler(LENGTHS, 3, pool_batches=pool)
    epochs = []
    for epoch in (1, 2):
        sampler.set_epoch(epoch)
        epochs.append(list(sampler))
    found = describe_epoch(sampler, 2)
    cells = [len(batch) * int(LENGTHS[batch].max()) for batch in epochs[1]]
    assert found.fill == int(LENGTHS.sum()) / sum(cells)
    assert found.batches == 4 and found.largest == max(cells)
    again = pairs(epochs[0]) & pairs(epochs[1])
    assert found.repeats == pytest.approx(len(again) / len(pairs(epochs[1])))


def test_correlation_is_that_of_place_and_mean_length():
    straight = BucketBatchSampler(LENGTHS, 3, pool_batches=9, shuffle=False)
    means = [LENGTHS[batch].double().mean() for batch in straight]
    expected = torch.corrcoef(torch.stack([torch.arange(4).double(), torch.stack(means)]))[0, 1]
    assert describe_epoch(straight).correlation == pytest.approx(expected.item())
    assert describe_epoch(BucketBatchSampler([5, 5, 5, 5], 2)).correlation == 0
    assert describe_epoch(BucketBatchSampler([5, 6], 2)).correlation == 0
    assert describe_epoch(BucketBatchSampler([5, 6], 1)).repeats == 0


def test_what_was_dropped_has_met_nobody():
    sampler = BucketBatchSampler([1] * 10, 6, pool_batches=1, drop_last=True)
    epochs = []
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        epochs.append(pairs(sampler))
    expected = len(epochs[0] & epochs[1]) / len(epochs[1])
    assert describe_epoch(sampler, 1).repeats == pytest.approx(expected)
    none = BucketBatchSampler([1, 2], 6, drop_last=True)
    with pytest.raises(ValueError, match="gives no batch: with drop_last"):
        describe_epoch(none)


def test_fit_refuses_a_sampler_that_does_not_fit():
    train = japanese_vowels("train")
    data = train.sequences[:4], train.labels[:4]
    for lengths, words in (([5] * 9, "made for 9 sequences"), ([5] * 4, "gives no batch")):
        sampler = BucketBatchSampler(lengths, 6, drop_last=True)
        with pytest.raises(ValueError, match=words):
            fit(PackedLSTM(12, 4, 9), *data, epochs=1, batch_sampler=sampler)


@pytest.mark.parametrize(
    ("changed", "sampler"),
    [
        ({}, lambda: BucketBatchSampler(LENGTHS, 32, pool_batches=1)),
        ({"pool": "4", "batch_size": 8}, lambda: BucketBatchSampler(LENGTHS, 8, pool_batches=4)),
        ({"pool": "all"}, lambda: BucketBatchSampler(LENGTHS, 32, pool_batches=12)),
        (
            {"policy": "budget of padded steps", "pool": "2", "max_tokens": 1024, "epoch": 3},
            lambda: TokenBudgetBatchSampler(LENGTHS, 1024, pool_batches=2),
        ),
    ],
)
def test_panel_shows_what_the_sampler_gives(changed, sampler):
    panel = PolicyExplorer(LENGTHS)
    panel.show(**changed)
    found = describe_epoch(sampler(), changed.get("epoch", 1))
    assert f"fill {found.fill:.0%}; batches an epoch {found.batches}" in panel.picture.alt
    assert f"pairs repeated {found.repeats:.0%}" in panel.picture.alt
    assert panel.words.startswith(f"{1 - found.fill:.0%} of what is run is padding.")


def test_the_size_that_the_policy_does_not_use_is_greyed_out():
    panel = PolicyExplorer(LENGTHS)
    off = [control.name for control in panel.controls if control.off]
    panel.show(policy="budget of padded steps")
    now_off = [control.name for control in panel.controls if control.off]
    assert (off, now_off) == (["max_tokens"], ["batch_size"])


def test_panel_refuses_bad_lengths():
    refuses(ValueError, ["lengths is empty"], PolicyExplorer, torch.zeros(0, dtype=torch.int64))


def test_fit_trains_on_the_batches_of_a_sampler_and_sets_its_epoch():
    train = japanese_vowels("train")
    sequences, labels = train.sequences[:12], train.labels[:12]
    seen = []

    class Watched(BucketBatchSampler):
        def __iter__(self):
            batches = list(super().__iter__())
            seen.append((self.epoch, batches))
            return iter(batches)

    sampler = Watched([len(one) for one in sequences], 4, pool_batches=2)
    torch.manual_seed(0)
    history = fit(PackedLSTM(12, 4, 9), sequences, labels, epochs=3, batch_sampler=sampler)
    assert [epoch for epoch, _ in seen] == [0, 1, 2] and len(history) == 3
    assert all(sorted(itertools.chain(*batches)) == list(range(12)) for _, batches in seen)
    assert seen[0][1] != seen[1][1]
