"""Every sequence once an epoch, within the budget, the same again from the same seed."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from course_utils.batching import collate
from course_utils.data import python_docs_paragraphs
from course_utils.sampling import BucketBatchSampler, TokenBudgetBatchSampler
from tests.ragged import (
    calm,  # noqa: F401
    few,
    refuses,
)

DOCS = torch.tensor([len(paragraph) for paragraph in python_docs_paragraphs()])
many = st.lists(st.integers(1, 30), min_size=1, max_size=60)
MAKERS = {
    "bucket": lambda lengths, **options: BucketBatchSampler(lengths, 4, **options),
    "budget": lambda lengths, **options: TokenBudgetBatchSampler(lengths, 40, **options),
}


def fill(sampler):
    batches = [sampler.lengths[batch] for batch in sampler]
    return int(sampler.lengths.sum()) / sum(len(b) * int(b.max()) for b in batches)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@few
@given(many, st.integers(1, 5), st.integers(0, 3))
def test_every_sequence_once_an_epoch_and_len_is_exact(make, lengths, pool_batches, epoch):
    sampler = make(lengths, pool_batches=pool_batches)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert sorted(itertools.chain(*batches)) == list(range(len(lengths)))
    assert len(sampler) == len(batches) and all(batches)


@few
@given(many, st.integers(30, 90), st.integers(1, 5), st.integers(0, 40))
def test_no_batch_is_over_its_budget(lengths, max_tokens, pool_batches, batch_cost):
    options = {"pool_batches": pool_batches, "batch_cost": batch_cost}
    for batch in TokenBudgetBatchSampler(lengths, max_tokens, **options):
        assert len(batch) * max(lengths[index] for index in batch) <= max_tokens


@few
@given(st.lists(st.integers(1, 9), min_size=1, max_size=7), st.integers(0, 12))
def test_a_pool_is_cut_where_it_costs_least(lengths, batch_cost):
    lengths, budget = sorted(lengths), 18
    sampler = TokenBudgetBatchSampler(
        lengths, budget, pool_batches=99, batch_cost=batch_cost, shuffle=False
    )

    def cost(cuts):
        parts = [lengths[a:b] for a, b in itertools.pairwise([0, *cuts, len(lengths)])]
        if any(len(part) * part[-1] > budget for part in parts):
            return float("inf")
        return sum(len(part) * part[-1] + batch_cost for part in parts)

    places = range(1, len(lengths))
    every = itertools.chain(*(itertools.combinations(places, n) for n in range(len(lengths))))
    mine = sum(len(b) * max(lengths[i] for i in b) + batch_cost for b in sampler)
    assert mine == min(map(cost, every))


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_the_same_seed_and_epoch_give_the_same_batches_and_another_epoch_others(make):
    lengths = DOCS[DOCS <= 40][:200]
    one, other = make(lengths, seed=5), make(lengths, seed=5)
    assert list(one) == list(one) == list(other)
    assert list(one) != list(make(lengths, seed=6))
    other.set_epoch(1)
    assert list(one) != list(other)
    generator = torch.Generator().manual_seed(5)
    state = generator.get_state()
    assert list(make(lengths, generator=generator)) == list(one)
    assert torch.equal(generator.get_state(), state), "it is not drawn from"
    random_state = torch.get_rng_state()
    list(one)
    assert torch.equal(torch.get_rng_state(), random_state)


def test_what_a_learner_does_with_a_batch_leaves_the_plan():
    sampler = BucketBatchSampler([3, 1, 2], 3)
    next(iter(sampler)).clear()
    assert len(next(iter(sampler))) == 3


def test_larger_pools_are_fuller():
    fills = [fill(BucketBatchSampler(DOCS, 32, pool_batches=pool)) for pool in (1, 4, 16, 99)]
    assert fills == sorted(fills) and fills[-1] > 3 * fills[0]
    budgets = [fill(TokenBudgetBatchSampler(DOCS, 2048, pool_batches=pool)) for pool in (1, 4, 16)]
    assert budgets == sorted(budgets) and budgets[-1] > 0.9


def test_unshuffled_with_one_pool_is_a_full_sort():
    lengths = [5, 1, 4, 2, 3]
    sampler = BucketBatchSampler(lengths, 2, pool_batches=9, shuffle=False)
    assert list(sampler) == [[1, 3], [4, 2], [0]]
    dropped = BucketBatchSampler(lengths, 2, pool_batches=9, shuffle=False, drop_last=True)
    assert list(dropped) == [[1, 3], [2, 0]] and len(dropped) == 2, "the last given is dropped"


def test_what_is_dropped_is_chosen_before_sorting_and_anew_each_epoch():
    sampler = BucketBatchSampler(list(range(1, 12)), 4, pool_batches=9, drop_last=True)
    left_out = set()
    for epoch in range(12):
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert [len(batch) for batch in batches] == [4, 4]
        left_out |= set(range(11)) - set(itertools.chain(*batches))
    assert len(left_out) > 6, "not the longest three every time"
    assert list(BucketBatchSampler([5, 5], 4, drop_last=True)) == []


def test_a_change_of_the_callers_lengths_changes_no_plan():
    lengths = torch.tensor([3, 1, 2])
    sampler = BucketBatchSampler(lengths, 1)
    lengths[:] = 9
    assert sorted(sampler.lengths.tolist()) == [1, 2, 3]


def test_equally_long_sequences_are_shuffled():
    sampler = BucketBatchSampler([7] * 50, 50)
    assert next(iter(sampler)) != list(range(50))


def test_a_data_loader_with_spawned_workers_gets_the_same_batches():
    sequences = [torch.full((length, 1), float(length)) for length in DOCS[:24].clamp(max=9)]
    data = list(zip(sequences, range(24), strict=True))
    sampler = TokenBudgetBatchSampler([len(one) for one in sequences], 40)
    loader = DataLoader(
        data, batch_sampler=sampler, collate_fn=collate, num_workers=1,
        multiprocessing_context="spawn",
    )  # fmt: skip
    assert [labels.tolist() for _, _, labels in loader] == list(sampler)
    assert len(loader) == len(sampler)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: BucketBatchSampler([], 2), ["lengths is empty"]),
        (lambda: BucketBatchSampler([3, 0], 2), ["lengths[1] is 0"]),
        (lambda: BucketBatchSampler([3], 0), ["batch_size is 0"]),
        (lambda: BucketBatchSampler([3], 2, pool_batches=0), ["pool_batches is 0"]),
        (lambda: TokenBudgetBatchSampler([3, 9], 8), ["lengths[1] is 9", "max_tokens = 8"]),
        (lambda: TokenBudgetBatchSampler([3], 8.5), ["max_tokens is 8.5"]),
        (lambda: TokenBudgetBatchSampler([3], 8, batch_cost=-1), ["batch_cost is -1"]),
        (lambda: BucketBatchSampler([3], True), ["batch_size is True"]),
        (lambda: BucketBatchSampler([3], 2, seed=1.5), ["seed is 1.5"]),
        (lambda: BucketBatchSampler([3], 2).set_epoch(-1), ["epoch is -1"]),
    ],
)
def test_bad_arguments_are_refused(make, words):
    refuses(ValueError, words, make)
