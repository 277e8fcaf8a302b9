"""Exercises of chapter 06, Batching policy."""

from __future__ import annotations

import itertools

import torch

from course_utils.exercises.engine import Exercise, Misconception


def _orders():
    sizes = [
        ([3, 1, 2], 1, 2),
        ([5, 1, 4, 2], 2, 2),
        ([4, 9, 1, 7, 2, 3], 2, 2),
        ([6, 6, 1, 8, 2, 2, 9, 1, 5], 2, 2),
        ([3, 9, 4, 1, 1, 7, 8, 2, 6, 5, 12], 3, 2),
        ([2, 8, 3, 3, 9, 1, 4, 7, 6, 5, 10, 11, 13], 2, 3),
        # Of so many equal ones, a sort that is not stable mixes up some.
        ([3, 1, 2] * 8, 4, 5),
    ]
    cases = []
    for seed, (lengths, batch_size, pool_batches) in enumerate(sizes):
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(lengths), generator=generator)
        cases.append((torch.tensor(lengths), order, batch_size, pool_batches))
    return cases


def pooled_batches(lengths, order, batch_size, pool_batches):
    batches = []
    for pool in order.split(batch_size * pool_batches):
        by_length = pool[lengths[pool].argsort(stable=True)]
        batches += by_length.split(batch_size)
    return [batch.tolist() for batch in batches]


def _fixed(lengths, order, batch_size, pool_batches):
    return [batch.tolist() for batch in order.split(batch_size)]


def _full_sort(lengths, order, batch_size, pool_batches):
    by_length = order[lengths[order].argsort(stable=True)]
    return [batch.tolist() for batch in by_length.split(batch_size)]


def _places_for_numbers(lengths, order, batch_size, pool_batches):
    batches = []
    for pool in order.split(batch_size * pool_batches):
        batches += lengths[pool].argsort(stable=True).split(batch_size)
    return [batch.tolist() for batch in batches]


def _pool_of_too_few(lengths, order, batch_size, pool_batches):
    batches = []
    for pool in order.split(pool_batches):
        batches += pool[lengths[pool].argsort(stable=True)].split(batch_size)
    return [batch.tolist() for batch in batches]


def _within_batches(lengths, order, batch_size, pool_batches):
    batches = order.split(batch_size)
    return [batch[lengths[batch].argsort(stable=True)].tolist() for batch in batches]


def _one_pool_is_one_batch(lengths, order, batch_size, pool_batches):
    pools = order.split(batch_size * pool_batches)
    return [pool[lengths[pool].argsort(stable=True)].tolist() for pool in pools]


def _not_shuffled(lengths, order, batch_size, pool_batches):
    return pooled_batches(lengths, torch.arange(len(order)), batch_size, pool_batches)


def _rest_dropped(lengths, order, batch_size, pool_batches):
    batches = pooled_batches(lengths, order, batch_size, pool_batches)
    return [batch for batch in batches if len(batch) == batch_size]


def _longest_first(lengths, order, batch_size, pool_batches):
    batches = []
    for pool in order.split(batch_size * pool_batches):
        by_length = pool[lengths[pool].argsort(stable=True, descending=True)]
        batches += by_length.split(batch_size)
    return [batch.tolist() for batch in batches]


def _lengths_returned(lengths, order, batch_size, pool_batches):
    batches = pooled_batches(lengths, order, batch_size, pool_batches)
    return [lengths[batch].tolist() for batch in batches]


def _budget_cases():
    return [
        (torch.tensor(lengths), max_tokens)
        for lengths, max_tokens in [
            ([2, 1], 4),
            ([3, 2, 2], 6),
            ([1, 4, 1, 1], 8),
            ([5, 1, 1, 1, 5], 10),
            ([2, 2, 2, 2, 2], 7),
            ([1, 2, 3, 4, 5, 6], 12),
            ([6, 5, 4, 3, 2, 1, 1, 1], 12),
            ([7, 1, 1, 1, 1, 1, 1, 1, 2], 8),
            ([1, 5, 1], 5),
            ([1, 4, 1, 1, 4, 1], 5),
        ]
    ]


def budget_batches(lengths, max_tokens):
    batches, batch, longest = [], [], 0
    for index, length in enumerate(lengths.tolist()):
        if batch and (len(batch) + 1) * max(longest, length) > max_tokens:
            batches.append(batch)
            batch, longest = [], 0
        batch.append(index)
        longest = max(longest, length)
    return [*batches, batch]


def _greedy(full):
    """Make an answer that closes a batch where `full(sizes, length, max_tokens)` says so."""

    def answer(lengths, max_tokens):
        batches, batch, sizes = [], [], []
        for index, length in enumerate(lengths.tolist()):
            if batch and full(sizes, length, max_tokens):
                batches.append(batch)
                batch, sizes = [], []
            batch.append(index)
            sizes.append(length)
        return [*batches, batch]

    return answer


_real_steps_counted = _greedy(lambda sizes, length, most: sum(sizes) + length > most)
_old_longest = _greedy(lambda sizes, length, most: (len(sizes) + 1) * max(sizes) > most)
_newest_length = _greedy(lambda sizes, length, most: (len(sizes) + 1) * length > most)
_never_full = _greedy(lambda sizes, length, most: (len(sizes) + 1) * max(*sizes, length) >= most)
_one_not_counted = _greedy(lambda sizes, length, most: len(sizes) * max(*sizes, length) > most)


def _looked_after(lengths, max_tokens):
    batches, batch, longest = [], [], 0
    for index, length in enumerate(lengths.tolist()):
        batch.append(index)
        longest = max(longest, length)
        if len(batch) * longest > max_tokens:
            batches.append(batch)
            batch, longest = [], 0
    return [*batches, batch] if batch else batches


def _last_one_lost(lengths, max_tokens):
    return budget_batches(lengths, max_tokens)[:-1]


def _reopened(lengths, max_tokens):
    batches = []
    for index, length in enumerate(lengths.tolist()):
        for batch in batches:
            longest = max(length, *(int(lengths[i]) for i in batch))
            if (len(batch) + 1) * longest <= max_tokens:
                batch.append(index)
                break
        else:
            batches.append([index])
    return batches


def _misfit_lost(lengths, max_tokens):
    batches, batch, longest = [], [], 0
    for index, length in enumerate(lengths.tolist()):
        if batch and (len(batch) + 1) * max(longest, length) > max_tokens:
            batches.append(batch)
            batch, longest = [], 0
        else:
            batch.append(index)
            longest = max(longest, length)
    return [*batches, batch] if batch else batches


def _longest_kept(lengths, max_tokens):
    batches, batch, longest = [], [], 0
    for index, length in enumerate(lengths.tolist()):
        if batch and (len(batch) + 1) * max(longest, length) > max_tokens:
            batches.append(batch)
            batch = []
        batch.append(index)
        longest = max(longest, length)
    return [*batches, batch]


def _epoch_cases():
    return [(n, seed, epoch) for n in (5, 9) for seed in (0, 3) for epoch in (0, 1, 2)]


def epoch_order(n, seed, epoch):
    generator = torch.Generator().manual_seed(seed + epoch)
    return torch.randperm(n, generator=generator)


def _everybodys(n, seed, epoch):
    torch.manual_seed(seed + epoch)
    return torch.randperm(n)


def _epoch_forgotten(n, seed, epoch):
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))


def _seed_forgotten(n, seed, epoch):
    return torch.randperm(n, generator=torch.Generator().manual_seed(epoch))


def _no_seed_at_all(n, seed, epoch):
    return torch.randperm(n)


def _seed_times_epoch(n, seed, epoch):
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed * epoch))


def _not_a_permutation(n, seed, epoch):
    generator = torch.Generator().manual_seed(seed + epoch)
    return torch.randint(n, (n,), generator=generator)


def _drawn_before(n, seed, epoch):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epoch + 1):
        order = torch.randperm(n, generator=generator)
    return order


def _rolled(n, seed, epoch):
    return epoch_order(n, seed, 0).roll(epoch)


def _remeet_cases():
    return [
        ([[0, 1], [2]], [[0, 1], [2]]),
        ([[0, 1], [2, 3]], [[0, 2], [1, 3]]),
        ([[0, 1, 2], [3, 4]], [[1, 0, 3], [2, 4]]),
        ([[0, 1, 2, 3], [4, 5]], [[0, 1, 4], [2, 3, 5]]),
        ([[5, 3, 1], [0, 2, 4], [6]], [[1, 3, 5, 6], [0, 4], [2]]),
        ([[0], [1], [2, 3]], [[3, 2], [0, 1]]),
    ]


def met_again(before, now):
    pairs = [
        {(a, b) for batch in epoch for a in batch for b in batch if a < b}
        for epoch in (before, now)
    ]
    return len(pairs[0] & pairs[1]) / len(pairs[1])


def _share_of_before(before, now):
    return met_again(now, before)


def _ordered_pairs(before, now):
    pairs = [
        {(a, b) for batch in epoch for a, b in itertools.pairwise(batch)} for epoch in (before, now)
    ]
    return len(pairs[0] & pairs[1]) / max(len(pairs[1]), 1)


def _same_batches(before, now):
    kept = [batch for batch in now if sorted(batch) in [sorted(one) for one in before]]
    return len(kept) / len(now)


def _with_oneself(before, now):
    pairs = [{(a, b) for batch in epoch for a in batch for b in batch} for epoch in (before, now)]
    return len(pairs[0] & pairs[1]) / len(pairs[1])


def _mean_over_batches(before, now):
    shares = []
    earlier = {(a, b) for batch in before for a in batch for b in batch if a < b}
    for batch in now:
        pairs = {(a, b) for a in batch for b in batch if a < b}
        if pairs:
            shares.append(len(pairs & earlier) / len(pairs))
    return sum(shares) / len(shares)


def _counted(before, now):
    pairs = [
        {(a, b) for batch in epoch for a in batch for b in batch if a < b}
        for epoch in (before, now)
    ]
    return len(pairs[0] & pairs[1])


EXERCISES = [
    Exercise(
        id="06.1",
        title="Pools of like length",
        minutes=8,
        task=(
            "Make one epoch's batches. `lengths` (N,), `order` a shuffled (N,) of the numbers of "
            "the sequences. Cut `order` into pools of `batch_size * pool_batches`, sort each pool "
            "by length, shortest first (equally long ones stay in their order), and cut it into "
            "batches. The last pool and batch may be smaller. Do not shuffle the batches: that "
            "comes later. Return a list of lists of numbers of sequences."
        ),
        hints=(
            "`order.split(size)` gives the pools. `argsort` gives *places in the pool*; which "
            "sequences stand there?",
            "`pool[lengths[pool].argsort(stable=True)]` is the pool sorted by length.",
        ),
        solution=pooled_batches,
        cases=_orders,
        misconceptions=(
            Misconception(
                "nothing sorted",
                _fixed,
                "Those are plain random batches: each pool has to be sorted before it is cut.",
            ),
            Misconception(
                "everything sorted",
                _full_sort,
                "You sorted the whole epoch: the same neighbours meet every time. Sort each pool "
                "by itself.",
            ),
            Misconception(
                "places in place of numbers",
                _places_for_numbers,
                "`argsort` says where in the *pool* the shortest stands. Look up which sequence "
                "that is: `pool[...]`. Otherwise some are taken twice, and others never.",
            ),
            Misconception(
                "pools too small",
                _pool_of_too_few,
                "`pool_batches` counts batches: a pool has `batch_size * pool_batches` sequences.",
            ),
            Misconception(
                "sorted within batches only",
                _within_batches,
                "Sorting inside a batch changes nothing: it has the same longest sequence. Sort "
                "the pool, and then cut.",
            ),
            Misconception(
                "a pool is not cut",
                _one_pool_is_one_batch,
                "Each sorted pool has to be cut into batches of `batch_size`.",
            ),
            Misconception(
                "not shuffled",
                _not_shuffled,
                "You cut the data as it is given. The pools are cut from `order`.",
            ),
            Misconception(
                "the rest dropped",
                _rest_dropped,
                "The last batches are too small and were left out: every sequence, once an epoch.",
            ),
            Misconception(
                "longest first",
                _longest_first,
                "That is as full, but the task asks for the shortest first.",
            ),
            Misconception(
                "lengths returned",
                _lengths_returned,
                "Right batches, but you returned lengths: a sampler gives numbers of sequences.",
            ),
        ),
    ),
    Exercise(
        id="06.2",
        title="The same seed, another epoch",
        minutes=5,
        task=(
            "Return a shuffled order of `n` sequences, a (n,) tensor of `torch.randperm`: the same "
            "for the same `seed` and `epoch`, another for each epoch. The convention of "
            "`DistributedSampler`: seeded with `seed + epoch`. Leave the random numbers of "
            "everybody else alone."
        ),
        hints=(
            "`torch.manual_seed` would change the random numbers of everybody else, dropout too. "
            "What has a seed of its own?",
            "`torch.Generator().manual_seed(...)`, given as `generator=`.",
        ),
        solution=epoch_order,
        cases=_epoch_cases,
        draws=False,
        misconceptions=(
            Misconception(
                "everybody's random numbers",
                _everybodys,
                "The order is right, but `torch.manual_seed` resets the random numbers of all "
                "others, dropout too. Use a generator of your own.",
            ),
            Misconception(
                "the epoch forgotten",
                _epoch_forgotten,
                "Every epoch has the same order. That is what happens when nobody calls "
                "`set_epoch`, and nothing complains.",
            ),
            Misconception(
                "the seed forgotten",
                _seed_forgotten,
                "Whatever seed is given, the orders are the same: two runs cannot differ.",
            ),
            Misconception(
                "no seed",
                _no_seed_at_all,
                "It depends on what was drawn before, so nobody can repeat it, and two workers "
                "would disagree.",
            ),
            Misconception(
                "seed times epoch",
                _seed_times_epoch,
                "In epoch 0 that is 0 for every seed. The convention is `seed + epoch`.",
            ),
            Misconception(
                "not a permutation",
                _not_a_permutation,
                "`randint` takes some twice and others never. Each once an epoch: `randperm`.",
            ),
            Misconception(
                "drawn again and again",
                _drawn_before,
                "Good too, but not the convention, and epoch 500 has to draw 500 times.",
            ),
            Misconception(
                "one order, rolled",
                _rolled,
                "The neighbours are the same in every epoch; they only move. Shuffle anew.",
            ),
        ),
    ),
    Exercise(
        id="06.3",
        title="Who has met before?",
        minutes=6,
        task=(
            "`before` and `now` are the batches of two epochs, lists of lists of numbers of "
            "sequences. Of all pairs of sequences that stand in one batch now, return the share "
            "that stood in one batch before as well, 0 to 1."
        ),
        hints=(
            "A pair has no order: (1, 3) and (3, 1) are one. How can you write every pair of a "
            "batch once?",
            "A set of `(a, b)` with `a < b` for each epoch; then the size of what both share, "
            "divided by the size of the set of now.",
        ),
        solution=met_again,
        cases=_remeet_cases,
        misconceptions=(
            Misconception(
                "the share of before",
                _share_of_before,
                "You divided by the pairs of the earlier epoch. Asked is: of those that meet now.",
            ),
            Misconception(
                "neighbours in the list",
                _ordered_pairs,
                "You looked at neighbours in the list. All sequences of a batch meet, in any "
                "order.",
            ),
            Misconception(
                "whole batches",
                _same_batches,
                "You counted batches that are just the same. Two sequences can meet again in a "
                "batch that is otherwise new.",
            ),
            Misconception(
                "with oneself",
                _with_oneself,
                "You counted pairs of a sequence with itself: `a < b` leaves them out.",
            ),
            Misconception(
                "a mean over batches",
                _mean_over_batches,
                "You averaged the batches. A large batch has more pairs, so count all of them "
                "together.",
            ),
            Misconception(
                "not divided",
                _counted,
                "That is a number of pairs; divide by the number of pairs of now.",
            ),
        ),
    ),
    Exercise(
        id="06.4",
        title="A budget of padded steps",
        minutes=8,
        task=(
            "`lengths` (N,) are those of N sequences. Go through them in the order given, and put "
            "them into batches of at most `max_tokens` padded steps: number of sequences times the "
            "longest. Begin a new batch when the next one does not fit any more. No single length "
            "is above the budget. Return a list of lists of numbers of sequences, 0 for the first."
        ),
        hints=(
            "What would the batch cost *with* the next sequence? It may be one more, and it may "
            "also be longer than all before it.",
            "`(len(batch) + 1) * max(longest, length) > max_tokens`: then begin a new batch. And "
            "do not forget the last one.",
        ),
        solution=budget_batches,
        cases=_budget_cases,
        misconceptions=(
            Misconception(
                "real steps counted",
                _real_steps_counted,
                "You added up the lengths. What is run, and kept in memory, is padded: number of "
                "sequences times the longest.",
            ),
            Misconception(
                "looked after adding",
                _looked_after,
                "You looked when it was too late: the batch is over the budget already.",
            ),
            Misconception(
                "the longest before it",
                _old_longest,
                "The next sequence may be the longest itself: `max(longest, length)`.",
            ),
            Misconception(
                "the newest length only",
                _newest_length,
                "In an unsorted order, an earlier sequence may be longer than the next: keep the "
                "longest of the batch.",
            ),
            Misconception(
                "never quite full",
                _never_full,
                "A batch that is exactly full is allowed: `>`, not `>=`.",
            ),
            Misconception(
                "the last batch lost",
                _last_one_lost,
                "What is in the batch when the loop ends has to be returned too.",
            ),
            Misconception(
                "an old batch reopened",
                _reopened,
                "You put a sequence into an earlier batch that still has room. That is another "
                "policy (chapter 07); here a batch is closed once the next one does not fit.",
            ),
            Misconception(
                "the new one not counted",
                _one_not_counted,
                "With the next sequence the batch has `len(batch) + 1` of them.",
            ),
            Misconception(
                "the misfit lost",
                _misfit_lost,
                "The sequence that did not fit has to begin the new batch; with `else` it is in "
                "none.",
            ),
            Misconception(
                "the longest never forgotten",
                _longest_kept,
                "A new batch begins with a longest of its own: set it back to 0.",
            ),
        ),
    ),
]
