"""Every sequence once an epoch, within the budget, the same again from the same seed."""

import itertools
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from course_utils.batches.padding import collate
from course_utils.batches.sampling import BucketBatchSampler, TokenBudgetBatchSampler
from course_utils.data import python_docs_paragraphs
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


def greedy(lengths, max_tokens):
    """Cut as exercise 06.4 does, and give the number of batches."""
    batches, size = 1, 0
    for length in lengths:
        size += 1
        if size * length > max_tokens:
            batches, size = batches + 1, 1
    return batches


@few
@given(many, st.integers(30, 90), st.integers(1, 5))
def test_a_budget_makes_as_few_batches_as_greedy_cutting_of_the_same_pools(lengths, budget, pool):
    sampler = TokenBudgetBatchSampler(lengths, budget, pool_batches=pool, shuffle=False)
    pools = torch.tensor(lengths).split(sampler.pool_size)
    assert len(sampler) == sum(greedy(sorted(pool.tolist()), budget) for pool in pools)


@few
@given(many, st.integers(30, 60))
def test_and_pads_no_more_than_filling_from_either_end(lengths, budget):
    lengths = sorted(lengths)
    sampler = TokenBudgetBatchSampler(lengths, budget, pool_batches=999, shuffle=False)
    from_short, group = 0, []
    for length in lengths:
        if (len(group) + 1) * length > budget:
            from_short, group = from_short + len(group) * group[-1], []
        group.append(length)
    from_short += len(group) * group[-1]
    from_long, end = 0, len(lengths)
    while end:
        size = min(end, budget // lengths[end - 1])
        from_long, end = from_long + size * lengths[end - 1], end - size
    padded = sum(len(batch) * max(lengths[i] for i in batch) for batch in sampler)
    assert padded <= min(from_short, from_long)


# --- several ranks ---


def of_ranks(make, lengths, count, **options):
    return [make(lengths, num_replicas=count, rank=rank, **options) for rank in range(count)]


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@few
@given(many, st.integers(1, 9), st.integers(1, 4), st.integers(0, 2), st.booleans())
def test_ranks_share_an_epoch_every_sequence_once_in_as_many_batches_each(
    make, lengths, count, pool_batches, epoch, shuffle
):
    if len(lengths) < count:
        refuses(ValueError, ["num_replicas"], lambda: make(lengths, num_replicas=count))
        return
    ranks = of_ranks(make, lengths, count, pool_batches=pool_batches, shuffle=shuffle)
    for sampler in ranks:
        sampler.set_epoch(epoch)
    shares = [list(sampler) for sampler in ranks]
    assert sorted(itertools.chain(*itertools.chain(*shares))) == list(range(len(lengths)))
    assert {len(share) for share in shares} == {len(sampler) for sampler in ranks}
    assert all(itertools.chain(*shares))
    assert ranks[-1].steps() == [list(step) for step in zip(*shares, strict=True)]

    cost = [[len(b) * max(lengths[i] for i in b) for b in share] for share in shares]
    spread = max(max(step) - min(step) for step in zip(*cost, strict=True))
    assert max(map(sum, cost)) - min(map(sum, cost)) <= spread, "shares balanced by cost"


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@few
@given(
    st.lists(st.integers(1, 9), min_size=20, max_size=60),
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 4)), min_size=1, max_size=3),
    st.booleans(),
)
def test_an_epoch_goes_on_after_a_stop_on_any_number_of_ranks(make, lengths, parts, shuffle):
    seen, state = [], None
    for count, steps in [*parts, (2, 999)]:
        ranks = of_ranks(make, lengths, count, shuffle=shuffle, seed=3)
        for sampler in ranks:
            if state is None:
                sampler.set_epoch(2)
            else:
                sampler.load_state_dict(json.loads(state))
                sampler.set_epoch(2)  # as a training loop does, at the start of each epoch
        left = len(lengths) - len(seen)
        try:
            gives = [iter(sampler) for sampler in ranks]
        except ValueError as error:  # too few are left for so many ranks: it says so
            assert "num_replicas" in str(error) and 0 < left < 2 * count
            return
        for give in gives:
            seen += itertools.chain(*itertools.islice(give, steps))
        states = {json.dumps(sampler.state_dict()) for sampler in ranks}
        assert len(states) == 1, "any rank may save it"
        state = states.pop()
    assert sorted(seen) == list(range(len(lengths)))
    for sampler in ranks:
        sampler.set_epoch(3)
    assert sorted(itertools.chain(*itertools.chain(*ranks))) == list(range(len(lengths)))


def test_a_stop_changes_nothing_on_the_same_number_of_ranks():
    whole = list(BucketBatchSampler(DOCS, 32, num_replicas=4, rank=1))
    first = BucketBatchSampler(DOCS, 32, num_replicas=4, rank=1)
    begun = list(itertools.islice(first, 5))
    again = BucketBatchSampler(DOCS, 32, num_replicas=4, rank=1)
    again.load_state_dict(first.state_dict())
    assert len(again) == len(whole) - 5
    assert begun + list(again) == whole
    assert list(again) == whole, "once: the next iteration is whole"


def test_a_state_of_another_sampler_is_refused():
    state = BucketBatchSampler(DOCS, 32).state_dict()
    for other, word in (
        (BucketBatchSampler(DOCS, 16, pool_batches=16), "batch_size = 32, but here it is 16"),
        (BucketBatchSampler(DOCS, 32, seed=1), "seed = 0, but here it is 1"),
        (BucketBatchSampler(DOCS.flip(0), 32), "lengths = "),
        (BucketBatchSampler(DOCS[1:], 32), "sequences = 2608, but here it is 2607"),
        (TokenBudgetBatchSampler(DOCS, 2048), "pool_size = "),
    ):
        refuses(ValueError, [word], lambda: other.load_state_dict(state))  # noqa: B023


def test_with_drop_last_all_batches_of_all_ranks_are_whole():
    ranks = of_ranks(lambda n, **k: BucketBatchSampler(n, 4, drop_last=True, **k), [5] * 43, 3)
    shares = [list(sampler) for sampler in ranks]
    assert [[len(batch) for batch in share] for share in shares] == [[4] * 3] * 3
    seen = list(itertools.chain(*itertools.chain(*shares)))
    assert len(seen) == len(set(seen)) == 36
    assert list(BucketBatchSampler([5, 5], 2, drop_last=True, num_replicas=4, rank=3)) == []


def test_single_sequences_that_do_not_come_out_even_are_refused_or_dropped():
    words = ["num_replicas is 2", "5 sequences", "drop_last=True"]
    for make in (BucketBatchSampler, TokenBudgetBatchSampler):
        size = 1 if make is BucketBatchSampler else 9
        refuses(ValueError, words, lambda: list(make([7] * 5, size, num_replicas=2)))  # noqa: B023
        ranks = of_ranks(lambda n, **k: make(n, size, drop_last=True, **k), [7] * 5, 2)  # noqa: B023
        assert [len(sampler) for sampler in ranks] == [2, 2]


def test_ranks_wait_little_for_each_other():
    """Padded steps: what is lost waiting for the rank with the most in each step."""
    for make, most in (
        (lambda n, **k: BucketBatchSampler(n, 32, **k), 0.35),
        (lambda n, **k: TokenBudgetBatchSampler(n, 2048, **k), 0.15),
    ):
        cost = torch.tensor(
            [
                [len(batch) * int(DOCS[batch].max()) for batch in sampler]
                for sampler in of_ranks(make, DOCS, 4)
            ]
        ).double()
        idle = 1 - cost.mean() / cost.amax(dim=0).mean()
        assert idle < most, idle


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
        (lambda: BucketBatchSampler([3, 4], 1, num_replicas=2, rank=2), ["rank is 2", "0 to 1"]),
        (lambda: BucketBatchSampler([3, 4], 1, num_replicas=0), ["num_replicas is 0"]),
        (
            lambda: TokenBudgetBatchSampler([3], 9, num_replicas=2),
            ["1 sequences for num_replicas = 2"],
        ),
    ],
)
def test_bad_arguments_are_refused(make, words):
    refuses(ValueError, words, make)
