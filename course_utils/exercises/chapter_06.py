"""Exercises of chapter 06, Batching policy."""

from __future__ import annotations

import torch

from course_utils.exercises.engine import Exercise, slip


def _orders():
    sizes = [
        ([3, 1, 2], 1, 2),
        ([5, 1, 4, 2], 2, 2),
        ([4, 9, 1, 7, 2, 3], 2, 2),
        ([6, 6, 1, 8, 2, 2, 9, 1, 5], 2, 2),
        ([3, 9, 4, 1, 1, 7, 8, 2, 6, 5, 12], 3, 2),
        ([2, 8, 3, 3, 9, 1, 4, 7, 6, 5, 10, 11, 13], 2, 3),
        ([11, 2, 9, 1, 13, 4, 3, 12, 6, 8, 5, 7, 10], 2, 3),
        # Among so many equal lengths, a sort that is not stable mixes up some.
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


POOLS = Exercise(
    id="06.1",
    title="Pools of similar lengths",
    minutes=8,
    notice="""
        `argsort` gives positions in the pool, and `pool[...]` turns these into sequence
        indices.""",
    task="""
        Make the batches of one epoch. `lengths` (N,) holds the length of each sequence, and `order`
        (N,) is a random order of the sequence indices. Cut `order` into pools of
        `batch_size * pool_batches`, sort each pool by length, shortest first (equal lengths keep
        their order), and cut it into batches. The last pool and the last batch may be smaller. Do
        not shuffle the batches: that comes later. Return a list of lists of sequence indices.""",
    hints=(
        """`order.split(size)` gives the pools. `argsort` gives *positions in the pool*; which
        sequences are at these positions?""",
        "`pool[lengths[pool].argsort(stable=True)]` is the pool sorted by length.",
    ),
    solution=pooled_batches,
    cases=_orders,
    misconceptions=(
        slip("nothing sorted", {"pool[lengths[pool].argsort(stable=True)]": "pool"}).teach("""
            Those are plain random batches: each pool has to be sorted before it is cut."""),
        slip("everything sorted", {"batch_size * pool_batches": "len(order)"}).teach("""
            You sorted the whole epoch, so the same sequences are batched together every time. Sort
            each pool by itself."""),
        slip(
            "positions in place of indices",
            {"pool[lengths[pool].argsort(stable=True)]": "lengths[pool].argsort(stable=True)"},
        ).teach("""
            `argsort` gives the position of the shortest sequence in the *pool*. Look up which
            sequence that is, with `pool[...]`. Otherwise some sequences are taken twice, and others
            never."""),
        slip(
            "looked up in the whole order",
            {
                "pool[lengths[pool].argsort(stable=True)]": "order["
                "lengths[pool].argsort(stable=True)]"
            },
        ).teach("""
            `argsort` counts from the start of the *pool*, and you looked its positions up in the
            whole `order`. So every pool gets the sequences of the first one. Use `pool[...]`."""),
        slip("pools too small", {"batch_size * pool_batches": "pool_batches"}).teach("""
            `pool_batches` counts batches: a pool has `batch_size * pool_batches` sequences."""),
        slip("sorted within batches only", {"batch_size * pool_batches": "batch_size"}).teach("""
            Sorting inside a batch changes nothing: its longest sequence stays the same. Sort the
            pool, and then cut it."""),
        slip("a pool is not cut", {"by_length.split(batch_size)": "[by_length]"}).teach("""
            Each sorted pool has to be cut into batches of `batch_size`."""),
        slip("not shuffled", {"order.split": "torch.arange(len(order)).split"}).teach("""
            You cut the data in the order in which it is stored. Cut the pools from `order`."""),
        slip(
            "the rest dropped", {"in batches]": "in batches if len(batch) == batch_size]"}
        ).teach("""
            You left out the last batches because they are too small. Every sequence belongs to each
            epoch once."""),
        slip("longest first", {"stable=True": "stable=True, descending=True"}).teach("""
            The batches are just as full, but the task asks for the shortest first."""),
        slip("lengths returned", {"batch.tolist()": "lengths[batch].tolist()"}).teach("""
            The batches are right, but you returned lengths: a sampler gives sequence indices."""),
    ),
)


def _epoch_cases():
    return [(n, seed, epoch) for n in (5, 9, 17) for seed in (0, 3) for epoch in (0, 1, 2)]


def epoch_order(n, seed, epoch):
    generator = torch.Generator().manual_seed(seed + epoch)
    return torch.randperm(n, generator=generator)


EPOCH_ORDER = Exercise(
    id="06.2",
    title="The same seed, another epoch",
    minutes=5,
    notice="""
        The function has a generator of its own: the global random state is neither used nor
        changed.""",
    task="""
        Return a random order of `n` sequences, a tensor (n,) from `torch.randperm`: the same for
        the same `seed` and `epoch`, and a different one for each epoch. Follow the convention of
        `DistributedSampler`: the seed is `seed + epoch`. Do not touch the random numbers that other
        code draws.""",
    hints=(
        """`torch.manual_seed` would change the random numbers of all other code, dropout included.
        What has a seed of its own?""",
        "`torch.Generator().manual_seed(...)`, passed as `generator=`.",
    ),
    solution=epoch_order,
    cases=_epoch_cases,
    axes="n",
    draws=False,
    misconceptions=(
        slip(
            "the global random numbers",
            {"generator = torch.Generator()": "torch", ", generator=generator": ""},
        ).teach("""
            The order is right, but `torch.manual_seed` resets the random numbers of all other code,
            dropout included. Use a generator of your own."""),
        slip("the epoch forgotten", {"seed + epoch": "seed"}).teach("""
            Every epoch has the same order. The same happens, without a warning, when nobody calls
            `set_epoch`."""),
        slip("the seed forgotten", {"seed + epoch": "epoch"}).teach("""
            Whatever the seed, the orders are the same, so no two runs can differ."""),
        slip(
            "a generator that is not passed", {", generator=generator": ""}, uses="Generator"
        ).teach("""
            You made a generator, but `randperm` does not use it: pass it as
            `generator=generator`."""),
        slip("no seed", lambda n, seed, epoch: torch.randperm(n)).teach("""
            The order depends on which random numbers were drawn before, so nobody can repeat it,
            and two workers would disagree."""),
        slip("seed times epoch", {"seed + epoch": "seed * epoch"}).teach("""
            In epoch 0 that is 0 for every seed. The convention is `seed + epoch`."""),
        slip(
            "a hash of the two",
            *(
                {"seed + epoch": mixed}
                for mixed in (
                    "hash((seed, epoch)) % 2**32",
                    "hash((seed, epoch)) & 0x7FFFFFFF",
                    "hash((epoch, seed)) % 2**32",
                    "1000 * seed + epoch",
                    "seed + 1000 * epoch",
                    "100 * seed + epoch",
                    "seed + 100 * epoch",
                )
            ),
        ).teach("""
            A hash, or any other mixture, gives a good order, but it is not the convention. The
            convention of `DistributedSampler` is `seed + epoch`."""),
        slip("one epoch further", {"seed + epoch": "seed + epoch + 1"}).teach("""
            The first epoch is 0, and its seed is `seed` itself: `seed + epoch`."""),
        slip("not a permutation", {"torch.randperm(n,": "torch.randint(n, (n,),"}).teach("""
            `randint` takes some sequences twice and others never. Use `randperm`: each sequence
            once in an epoch."""),
        slip(
            "drawn again and again",
            {
                "seed + epoch": "seed",
                "    return": "    for _ in range(epoch):\n"
                "        torch.randperm(n, generator=generator)\n    return",
            },
        ).teach("""
            That works too, but it is not the convention, and epoch 500 has to draw 500 times."""),
        slip(
            "one order, rolled",
            {"seed + epoch": "seed", "generator=generator)": "generator=generator).roll(epoch)"},
        ).teach("""
            Each sequence has the same neighbours in every epoch; the order only moves along.
            Shuffle again in each epoch."""),
    ),
)


def _remeet_cases():
    return [
        ([[0, 1], [2]], [[0, 1], [2]]),
        ([[0, 1], [2, 3]], [[0, 2], [1, 3]]),
        ([[0, 1, 2], [3, 4]], [[1, 0, 3], [2, 4]]),
        ([[0, 1, 2, 3], [4, 5]], [[0, 1, 4], [2, 3, 5]]),
        ([[5, 3, 1], [0, 2, 4], [6]], [[1, 3, 5, 6], [0, 4], [2]]),
        ([[0], [1], [2, 3]], [[3, 2], [0, 1]]),
        ([[0, 1], [2, 3]], [[0, 3], [1, 2]]),
        (
            [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]],
            [[0, 6, 1, 7, 2, 8], [3, 9, 4, 10, 5, 11]],
        ),
        (
            [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]],
            [[0, 1, 2, 3, 6, 7], [4, 5, 8, 9, 10, 11]],
        ),
    ]


def repeats(before, now):
    pairs = [
        {(a, b) for batch in epoch for a in batch for b in batch if a < b}
        for epoch in (before, now)
    ]
    return len(pairs[0] & pairs[1]) / len(pairs[1])


def _same_batches(before, now):
    kept = [batch for batch in now if sorted(batch) in [sorted(one) for one in before]]
    return len(kept) / len(now)


def _mean_over_batches(before, now):
    shares = []
    earlier = {(a, b) for batch in before for a in batch for b in batch if a < b}
    for batch in now:
        pairs = {(a, b) for a in batch for b in batch if a < b}
        if pairs:
            shares.append(len(pairs & earlier) / len(pairs))
    return sum(shares) / len(shares)


REPEATS = Exercise(
    id="06.3",
    title="Which pairs are repeated?",
    minutes=6,
    notice="""
        Sets of pairs make the order of the batches, and the order within a batch, irrelevant.""",
    task="""
        `before` and `now` are the batches of two epochs, lists of lists of sequence indices. Of all
        pairs of sequences that share a batch now, return the fraction that also shared a batch
        before, from 0 to 1.""",
    hints=(
        """A pair has no order: (1, 3) and (3, 1) are the same pair. How can you list every pair of
        a batch exactly once?""",
        """Make a set of `(a, b)` with `a < b` for each epoch. Then divide the number of pairs that
        are in both sets by the number of pairs in the set of `now`.""",
    ),
    solution=repeats,
    cases=_remeet_cases,
    misconceptions=(
        slip("the share of before", {"/ len(pairs[1])": "/ len(pairs[0])"}).teach("""
            You divided by the pairs of the earlier epoch. The question is about the pairs that
            share a batch now."""),
        slip(
            "neighbours in the list",
            {"for a in batch for b in batch if a < b": "for a, b in zip(batch, batch[1:])"},
        ).teach("""
            You compared neighbours in the list. All sequences of a batch form pairs, in any
            order."""),
        slip(
            "pairs with an order",
            {
                "for a in batch for b in batch if a < b": "for i, a in enumerate(batch) "
                "for b in batch[i + 1 :]"
            },
            {"if a < b": "if batch.index(a) < batch.index(b)"},
        ).teach("""
            You counted (1, 3) and (3, 1) as different pairs. Two sequences share a batch whatever
            their order in it: put the smaller index first."""),
        slip("whole batches", _same_batches).teach("""
            You counted batches that are exactly the same. Two sequences can also share a batch
            again when the rest of the batch is new."""),
        slip("with oneself", {" if a < b": ""}, {"a < b": "a <= b"}).teach("""
            You counted pairs of a sequence with itself: `a < b` leaves them out."""),
        slip("a mean over batches", _mean_over_batches).teach("""
            You averaged over the batches. A large batch has more pairs, so count the pairs of all
            batches together."""),
        slip("divided by all pairs", {"/ len(pairs[1])": "/ len(pairs[0] | pairs[1])"}).teach("""
            You divided by the pairs of both epochs. The task asks for a fraction of the pairs of
            `now`."""),
        slip("not divided", {" / len(pairs[1])": ""}).teach("""
            That is the number of repeated pairs. Divide it by the number of pairs of `now`."""),
    ),
)


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
            ([9, 2, 12, 1, 3, 3, 8, 2, 2, 10, 4, 4], 24),
            ([3, 3, 8, 9, 2, 12, 1, 2, 4, 2, 10, 4], 24),
            ([7], 7),
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


def _looked_after(lengths, max_tokens):
    batches, batch, longest = [], [], 0
    for index, length in enumerate(lengths.tolist()):
        batch.append(index)
        longest = max(longest, length)
        if len(batch) * longest > max_tokens:
            batches.append(batch)
            batch, longest = [], 0
    return [*batches, batch] if batch else batches


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


BUDGET = Exercise(
    id="06.4",
    title="A budget of padded steps",
    minutes=8,
    notice="""
        The check comes *before* the sequence is added, with the length that the batch would then
        have: a longer sequence raises the cost of all those that are already in it.""",
    task="""
        `lengths` (N,) are the lengths of N sequences. Go through them in the order given, and put
        them into batches of at most `max_tokens` padded steps: the number of sequences times the
        longest length. Begin a new batch when the next sequence no longer fits. No single
        length is above the budget. Return a list of lists of sequence indices, counted from 0.""",
    hints=(
        """What would the batch cost *with* the next sequence? There would be one more sequence, and
        it may also be longer than all before it.""",
        """If `(len(batch) + 1) * max(longest, length) > max_tokens`, begin a new batch. And do not
        forget the last one.""",
    ),
    solution=budget_batches,
    cases=_budget_cases,
    misconceptions=(
        slip(
            "real steps counted",
            {"(len(batch) + 1) * max(longest, length)": "int(lengths[batch].sum()) + length"},
        ).teach("""
            You added up the lengths. What is computed, and kept in memory, is padded: the number of
            sequences times the longest length."""),
        slip("looked after adding", _looked_after).teach("""
            You checked too late: the batch is already over the budget."""),
        slip("the longest before it", {"max(longest, length) > max": "longest > max"}).teach("""
            The next sequence may be the longest itself: `max(longest, length)`."""),
        slip("the newest length only", {"max(longest, length) > max": "length > max"}).teach("""
            The lengths are not sorted, so an earlier sequence may be longer than the next one: keep
            the longest of the batch."""),
        slip(
            "the newcomer's length lost",
            {
                "        if batch and (len(batch) + 1) * max(longest, length)": "        longest = "
                "max(longest, length)\n        if batch and (len(batch) + 1) * longest",
                "        batch.append(index)\n        longest = max(longest, length)\n": "        "
                "batch.append(index)\n",
            },
        ).teach("""
            You updated `longest` before the check, and then set it back to 0. The sequence that
            begins the new batch is in it too: begin with its length."""),
        slip("never quite full", {"> max_tokens": ">= max_tokens"}).teach("""
            A batch that is exactly full is allowed: `>`, not `>=`."""),
        slip("the last batch lost", {"return [*batches, batch]": "return batches"}).teach("""
            What is in the batch when the loop ends has to be returned too."""),
        slip("an old batch reopened", _reopened).teach("""
            You put a sequence into an earlier batch that still has room. That is another policy
            (chapter 07); here a batch is closed once the next sequence does not fit."""),
        slip("the new one not counted", {"(len(batch) + 1)": "len(batch)"}).teach("""
            With the next sequence, the batch has `len(batch) + 1` sequences."""),
        slip(
            "the misfit lost",
            {
                "        batch.append(index)\n        longest = max": "        else:\n"
                "            batch.append(index)\n            longest = max",
                "return [*batches, batch]": "return [*batches, batch] if batch else batches",
            },
        ).teach("""
            The sequence that did not fit has to begin the new batch; with `else` it is in no
            batch."""),
        slip(
            "the longest never forgotten",
            {"batch, longest = [], 0\n        batch": "batch = []\n        batch"},
        ).teach("The longest length belongs to one batch: set it back to 0 for a new one."),
    ),
)

EXERCISES = [POOLS, EPOCH_ORDER, REPEATS, BUDGET]
