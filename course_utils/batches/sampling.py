"""Which sequences go into one batch: batch samplers for a DataLoader (chapters 06 and 09)."""

from __future__ import annotations

import heapq
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from course_utils.batches.checks import check_whole, lengths_tensor


def _checked(lengths: Tensor | Sequence[int]) -> Tensor:
    # A copy, because what the caller does with the original later must not change a plan.
    return lengths_tensor(lengths).long().clone()


class _Plan(NamedTuple):
    """The batches of an epoch: `order[begin:end]` is one, its longest sequence last."""

    order: np.ndarray  # (N,) sequence indices
    begin: np.ndarray  # (batches,)
    end: np.ndarray  # (batches,)

    def batch(self, index: int) -> list[int]:
        return self.order[self.begin[index] : self.end[index]].tolist()


class _Progress:
    """How far an epoch has come, on this rank and so on all ranks."""

    def __init__(self, epoch: int, history: list[list[int]], replicas: int | None = None) -> None:
        self.epoch, self.history, self.replicas, self.steps = epoch, history, replicas, 0

    def so_far(self) -> list[list[int]]:
        steps = [] if self.replicas is None else [[self.replicas, self.steps]]
        return [*self.history, *steps]


class _Batches(Iterator[list[int]]):
    """The batches of one rank."""

    def __init__(self, sampler: _PooledBatches) -> None:
        self._sampler = sampler
        self._start()

    def _start(self) -> None:
        self._progress = self._sampler._begin()
        self._plan, steps = self._sampler._plan(self._progress.history)
        self._mine = steps[:, self._sampler.rank]

    def __next__(self) -> list[int]:
        done = self._progress.steps
        if done == len(self._mine):
            raise StopIteration
        self._progress.steps = done + 1
        return self._plan.batch(self._mine[done])

    # torchdata's StatefulDataLoader asks the iterator for its state, not the sampler.
    def state_dict(self) -> dict:
        return self._sampler._state(self._progress)

    def load_state_dict(self, state: dict) -> None:
        self._sampler.load_state_dict(state)
        self._start()


class _PooledBatches(Sampler[list[int]]):
    """Shuffle, cut into pools, sort each pool by length, cut it into batches, shuffle these.

    The batches of an epoch depend only on the seed and the epoch, as in PyTorch's
    `DistributedSampler`. Every rank makes the same plan of all batches and takes its own from it.
    """

    def __init__(
        self,
        lengths: Tensor,
        pool_size: int,
        shuffle: bool,
        drop_last: bool,
        drop: int,
        seed: int,
        generator: torch.Generator | None,
        num_replicas: int,
        rank: int,
    ) -> None:
        self.lengths = lengths
        self.pool_size, self.shuffle, self.drop = pool_size, shuffle, drop
        self.drop_last = drop_last
        if generator is not None and not isinstance(generator, torch.Generator):
            raise TypeError(f"generator is a {type(generator).__name__}: give a torch.Generator.")
        self.seed = check_whole("seed", seed, 0) if generator is None else generator.initial_seed()
        self.num_replicas = check_whole("num_replicas", num_replicas, 1)
        self.rank = check_whole("rank", rank, 0)
        if self.rank >= self.num_replicas:
            raise ValueError(
                f"rank is {rank}, but num_replicas is {num_replicas}: ranks are numbered from 0 "
                f"to {num_replicas - 1}."
            )
        if not drop_last and len(self.lengths) < self.num_replicas:
            raise ValueError(
                f"lengths holds {len(self.lengths)} sequences for num_replicas = {num_replicas}: "
                "each rank needs at least one; use fewer ranks, or more data."
            )
        self.epoch = 0
        self._progress = _Progress(0, [])  # no reference to an iterator, which has one to this
        self._planned: tuple | None = None

    def set_epoch(self, epoch: int) -> None:
        """Shuffle again for this epoch; without this call, every epoch is the same.

        After `load_state_dict`, the interrupted epoch goes on; any other one starts from its
        beginning.

        Args:
            epoch: a whole number of at least 0.
        Raises:
            ValueError: it is not.
        """
        epoch = check_whole("epoch", epoch, 0)
        if epoch != self.epoch:
            self._progress = _Progress(epoch, [])
        self.epoch = epoch

    def _cut(self, lengths: np.ndarray) -> list[int]:
        """Give the places where batches end in a pool of these lengths, which are sorted."""
        raise NotImplementedError

    def _ends(self, lengths: np.ndarray) -> np.ndarray:
        """Give the places where batches end, of all pools; `lengths` are in the plan's order."""
        ends = []
        for start in range(0, len(lengths), self.pool_size):
            pool = lengths[start : start + self.pool_size]
            ends += [start + place for place in self._cut(pool)]
        return np.array(ends, dtype=np.int64)

    def _sorted_pools(self, order: Tensor) -> Tensor:
        """Sort each pool by length; stable, so that equally long sequences stay shuffled."""
        whole = len(order) - len(order) % self.pool_size
        parts = []
        for part in (order[:whole].view(-1, self.pool_size), order[whole:][None]):
            if part.numel():
                places = self.lengths[part].argsort(dim=1, stable=True)
                parts.append(part.gather(1, places).flatten())
        return torch.cat(parts) if parts else order

    def _plan(self, history: list[list[int]]) -> tuple[_Plan, np.ndarray]:
        """Plan the rest of the epoch: its batches, and (steps, ranks) the index of each in turn."""
        key = (self.epoch, history, self.num_replicas)
        if self._planned is None or self._planned[0] != key:
            generator = torch.Generator().manual_seed((self.seed + self.epoch) % 2**63)
            count = len(self.lengths)
            order = torch.arange(count)
            if self.shuffle:
                order = torch.randperm(count, generator=generator)
            # Before sorting, or the longest would be dropped.
            order = self._sorted_pools(order[: count - self.drop])
            end = self._ends(self.lengths[order].numpy())
            plan = _Plan(order.numpy(), np.concatenate([[0], end])[:-1].astype(np.int64), end)
            steps, among = np.arange(len(plan.end))[None], 0
            for replicas, given in [*history, [self.num_replicas, 0]]:
                if replicas != among:  # otherwise they stay shared as they were
                    rest, among = steps.flatten(), replicas
                    plan = _Plan(plan.order, plan.begin[rest], plan.end[rest])
                    plan, steps = self._share(plan, replicas, generator)
                steps = steps[given:]
            self._planned = ((self.epoch, list(history), self.num_replicas), plan, steps)
        return self._planned[1:]

    def _costs(self, plan: _Plan) -> np.ndarray:
        """Padded steps of each batch."""
        longest = self.lengths.numpy()[plan.order[plan.end - 1]]
        return (plan.end - plan.begin) * longest

    def _share(
        self, plan: _Plan, replicas: int, generator: torch.Generator
    ) -> tuple[_Plan, np.ndarray]:
        """Share batches among the ranks: (steps, ranks) indices. The batches of a step cost about
        the same, and so do all batches of each rank together."""

        def mixed(count: int) -> np.ndarray:
            if not self.shuffle:
                return np.arange(count)
            return torch.randperm(count, generator=generator).numpy()

        if replicas == 1 or not len(plan.end):
            return plan, mixed(len(plan.end)).reshape(-1, replicas)
        if self.drop_last:
            kept = np.sort(mixed(len(plan.end))[: len(plan.end) // replicas * replicas])
            plan = _Plan(plan.order, plan.begin[kept], plan.end[kept])
        else:
            plan = self._split_rest(plan, replicas)
        costs = self._costs(plan)
        order = np.argsort(costs, kind="stable") if self.shuffle else np.arange(len(costs))
        steps = order.reshape(-1, replicas)[mixed(len(order) // replicas)]
        loads = np.zeros(replicas, dtype=np.int64)
        for step in steps:  # the costliest batch goes to the rank with the least cost so far
            by_cost = step[np.argsort(-costs[step], kind="stable")]
            step[np.argsort(loads, kind="stable")] = by_cost
            loads += costs[step]
        return plan, steps

    def _split_rest(self, plan: _Plan, replicas: int) -> _Plan:
        """Split cheap batches until each rank can have the same number of batches."""
        over = len(plan.end) % replicas
        if not over:
            return plan
        sizes, costs = plan.end - plan.begin, self._costs(plan)
        cheapest, wanted = np.argsort(costs, kind="stable"), replicas
        while sizes[cheapest[:over]].sum() < wanted and over < len(cheapest):
            over, wanted = over + replicas, wanted + replicas
        if sizes[cheapest[:over]].sum() < wanted:
            raise ValueError(
                f"num_replicas is {replicas}, but the {len(sizes)} batches that are left of this "
                f"epoch hold {int(sizes.sum())} sequences: they cannot be split to give each rank "
                "the same number; set drop_last=True, or take another number of ranks."
            )
        lengths = self.lengths.numpy()
        heap = []

        def push(begin: int, end: int) -> None:
            cost = (end - begin) * int(lengths[plan.order[end - 1]])
            heapq.heappush(heap, (-cost if end - begin > 1 else 0, begin, end))

        for index in cheapest[:over].tolist():
            push(int(plan.begin[index]), int(plan.end[index]))
        while len(heap) < wanted:  # split the costliest in two
            _, begin, end = heapq.heappop(heap)
            middle = (begin + end + 1) // 2
            push(begin, middle)
            push(middle, end)
        kept = np.sort(cheapest[over:])
        begin = np.concatenate([plan.begin[kept], [one[1] for one in heap]])
        end = np.concatenate([plan.end[kept], [one[2] for one in heap]])
        in_order = np.argsort(begin, kind="stable")
        return _Plan(plan.order, begin[in_order], end[in_order])

    def _left(self) -> list[list[int]]:
        """What was handed out before the next iteration: [ranks, steps] per part of the epoch."""
        return self._progress.history if self._progress.replicas is None else []

    def _begin(self) -> _Progress:
        self._progress = _Progress(self.epoch, self._left(), self.num_replicas)
        return self._progress

    def __iter__(self) -> Iterator[list[int]]:
        return _Batches(self)

    def steps(self) -> list[list[list[int]]]:
        """Return what each rank gets in each step of the next iteration, for an overview.

        Returns:
            a list of steps, each a list with the batch of every rank.
        """
        plan, steps = self._plan(self._left())
        return [[plan.batch(index) for index in step] for step in steps]

    def __len__(self) -> int:
        """Return the number of batches of this epoch, which is the same on every rank; after
        `load_state_dict`, the number of those that are left."""
        return len(self._plan(self._left())[1])

    def _settings(self) -> dict:
        kept = ("pool_size", "shuffle", "drop_last", "seed", "batch_size", "max_tokens")
        settings = {name: getattr(self, name) for name in kept if hasattr(self, name)}
        settings["batch_cost"] = getattr(self, "batch_cost", None)
        settings["sequences"] = len(self.lengths)
        settings["lengths"] = zlib.crc32(self.lengths.numpy().tobytes())
        return settings

    def _state(self, progress: _Progress) -> dict:
        return {"epoch": progress.epoch, "history": progress.so_far(), **self._settings()}

    def state_dict(self) -> dict:
        """Say how far the epoch has come; the same on every rank, so one rank may save it.

        It counts the batches that were handed out. A DataLoader with workers takes some before the
        training needs them; torchdata's `StatefulDataLoader` allows for that.

        Returns:
            plain numbers, for `torch.save` or JSON.
        """
        return self._state(self._progress)

    def load_state_dict(self, state: dict) -> None:
        """Go on where `state_dict` was taken, on the same or another number of ranks.

        The next iteration gives what is left of that epoch, every sequence once; those after it
        are whole again.

        Args:
            state: of a sampler with the same lengths and settings; `num_replicas` may differ.
        Raises:
            ValueError: they are not the same; the message names the first that differs.
        """
        for name, own in self._settings().items():
            if state.get(name) != own:
                raise ValueError(
                    f"state was saved with {name} = {state.get(name)}, but here it is {own}: the "
                    "batches would differ; make the sampler with the same lengths and settings."
                )
        self.epoch = check_whole("epoch", state["epoch"], 0)
        self._progress = _Progress(self.epoch, [list(part) for part in state["history"]])


class BucketBatchSampler(_PooledBatches):
    """Batches of a fixed number of sequences of similar length; pass it as `batch_sampler`.

    Over several ranks, the batches of one step cost about the same, and each rank gets the same
    number. Where the batches do not come out even, the cheapest are split (or, with `drop_last`,
    some are dropped). If each batch is a single sequence, none can be split, and that is refused.

    Args:
        lengths: (N,) integers, steps of each sequence of the data set.
        batch_size: sequences per batch.
        pool_batches: how many batches are sorted together: 1 is a plain shuffle, more make fuller
            and less random batches, and the number of all batches makes a full sort.
        shuffle: whether sequences and batches are shuffled; if not, pools keep the given order.
        drop_last: whether the last sequences of the shuffled order are dropped, where they would
            make a batch that is too small.
        seed: of the shuffling; each epoch adds its own number.
        generator: its seed is used in place of `seed`; nothing is drawn from it.
        num_replicas: the number of ranks that share the data; each makes its own sampler with
            the same lengths, settings and seed.
        rank: which of them this is, from 0.
    Raises:
        TypeError, ValueError: `lengths` are not integers of at least 1, `batch_size`,
            `pool_batches` or `num_replicas` is not at least 1, `rank` is not one of the ranks, or
            there are fewer sequences than ranks.

    >>> sampler = BucketBatchSampler([1, 9, 2, 8], batch_size=2, pool_batches=2)
    >>> sorted(sorted(batch) for batch in sampler)
    [[0, 2], [1, 3]]
    """

    def __init__(
        self,
        lengths: Tensor | Sequence[int],
        batch_size: int,
        *,
        pool_batches: int = 8,
        shuffle: bool = True,
        drop_last: bool = False,
        seed: int = 0,
        generator: torch.Generator | None = None,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        self.batch_size = check_whole("batch_size", batch_size, 1)
        pool_size = self.batch_size * check_whole("pool_batches", pool_batches, 1)
        lengths = _checked(lengths)  # it must be 1-D to have a number of sequences
        drop = len(lengths) % self.batch_size if drop_last else 0
        super().__init__(
            lengths, pool_size, shuffle, drop_last, drop, seed, generator, num_replicas, rank
        )

    def _ends(self, lengths: np.ndarray) -> np.ndarray:
        # A pool holds whole batches, so that all are cut at once.
        starts = np.arange(0, len(lengths), self.batch_size)
        return np.minimum(starts + self.batch_size, len(lengths))


class TokenBudgetBatchSampler(_PooledBatches):
    """Batches of as many sequences as fit a budget of padded steps; pass it as `batch_sampler`.

    A batch costs the number of its sequences times the longest. Each sorted pool is cut into as few
    batches as the budget allows, at places that pad little. With a `batch_cost`, it is cut where
    the padded steps plus that cost for each batch are least; with 0, every batch would hold only
    equal lengths.

    Args:
        lengths: (N,) integers, steps of each sequence of the data set.
        max_tokens: the most padded steps of a batch, B * T.
        pool_batches: how many full batches' worth of steps are sorted together, as in
            `BucketBatchSampler`.
        batch_cost: the fixed cost of a batch, in steps: less gives more, smaller batches with
            less padding. It takes some 20 times as long to plan. As few batches as possible where
            None.
        drop_last: whether batches are dropped, not split, where the ranks could not have the same
            number of them.
        shuffle, seed, generator, num_replicas, rank: as in `BucketBatchSampler`.
    Raises:
        TypeError, ValueError: as `BucketBatchSampler`, or a length is larger than `max_tokens`.

    >>> sampler = TokenBudgetBatchSampler([5, 1, 1, 4, 1], max_tokens=10)
    >>> sorted(sorted(batch) for batch in sampler)
    [[0, 3], [1, 2, 4]]
    """

    def __init__(
        self,
        lengths: Tensor | Sequence[int],
        max_tokens: int,
        *,
        pool_batches: int = 8,
        batch_cost: int | None = None,
        shuffle: bool = True,
        drop_last: bool = False,
        seed: int = 0,
        generator: torch.Generator | None = None,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        self.max_tokens = check_whole("max_tokens", max_tokens, 1)
        pool_batches = check_whole("pool_batches", pool_batches, 1)
        self.batch_cost = (
            batch_cost if batch_cost is None else check_whole("batch_cost", batch_cost, 0)
        )
        lengths = _checked(lengths)
        longest = int(lengths.argmax())
        if int(lengths[longest]) > max_tokens:
            raise ValueError(
                f"lengths[{longest}] is {int(lengths[longest])}, more than max_tokens = "
                f"{max_tokens}: raise the budget, or drop or truncate that sequence."
            )
        a_batch = max_tokens / lengths.double().mean().item()
        pool_size = max(1, round(pool_batches * a_batch))
        super().__init__(
            lengths, pool_size, shuffle, drop_last, 0, seed, generator, num_replicas, rank
        )

    def _cut(self, lengths: np.ndarray) -> list[int]:
        return self._fewest(lengths) if self.batch_cost is None else self._cheapest(lengths)

    def _fewest(self, lengths: np.ndarray) -> list[int]:
        # With the fewest batches, filling them from the short end gives the latest place for each
        # cut, and filling them from the long end gives the earliest. Of all places between, only
        # those after which the length changes are tried.
        count = len(lengths)
        first = np.arange(1, count + 1) - self.max_tokens // lengths  # of a batch that ends here
        first_list = first.tolist()
        latest = [0]
        while latest[-1] < count:
            latest.append(bisect_right(first_list, latest[-1]))
        earliest = [count]
        while earliest[-1] > 0:
            earliest.append(first_list[earliest[-1] - 1])
        changes = (np.flatnonzero(lengths[1:] != lengths[:-1]) + 1).tolist()
        begins = best = np.zeros(1, dtype=np.int64)
        levels = []
        for low, high in zip(earliest[-2::-1], latest[1:], strict=True):
            inside = changes[bisect_right(changes, low) : bisect_left(changes, high)]
            ends = np.array([low, *inside, high])[:, None]
            sizes = ends - begins
            costs = sizes * lengths[ends - 1] + best
            costs[(begins < first[ends - 1]) | (sizes <= 0)] = 2**62
            levels.append((ends, costs.argmin(axis=1)))
            begins, best = ends[:, 0], costs.min(axis=1)
        cuts, at = [], 0
        for ends, before in reversed(levels):
            cuts.append(int(ends[at, 0]))
            at = before[at]
        return cuts[::-1]

    def _cheapest(self, lengths: np.ndarray) -> list[int]:
        # best[j]: the least cost of the first j sequences; cut[j]: where their last batch begins.
        # The last sequence of a batch is its longest, because the pool is sorted.
        best, cut = np.zeros(len(lengths) + 1), np.zeros(len(lengths) + 1, dtype=int)
        for end, longest in enumerate(lengths.tolist(), 1):
            starts = np.arange(end - min(end, self.max_tokens // longest), end)
            costs = best[starts] + (end - starts) * longest + self.batch_cost
            best[end], cut[end] = costs.min(), starts[costs.argmin()]
        ends = [len(lengths)]
        while cut[ends[-1]]:
            ends.append(int(cut[ends[-1]]))
        return ends[::-1]


class Epoch(NamedTuple):
    """What a policy gives in one epoch.

    Attributes:
        fill: real steps / padded steps, of all batches together.
        batches: their number.
        correlation: between the place of a batch in the epoch and its mean length, -1 to 1; 0 where
            all are alike.
        repeats: of the pairs in one batch, the share that were in one batch in the epoch before.
        largest: padded steps of the largest batch.
    """

    fill: float
    batches: int
    correlation: float
    repeats: float
    largest: int


def describe_epoch(sampler: _PooledBatches, epoch: int = 1) -> Epoch:
    """Say how full and how random the batches of an epoch are.

    Args:
        sampler: one of this module's; its epoch is set to `epoch`.
        epoch: compared with the one before it.
    Returns:
        Epoch.
    Raises:
        ValueError: `epoch` is not at least 1, or the sampler gives no batch.
    """
    sampler.set_epoch(check_whole("epoch", epoch, 1) - 1)
    # Those that are in no batch get numbers of their own: they shared a batch with no other.
    earlier = -1 - torch.arange(len(sampler.lengths))
    for number, batch in enumerate(sampler):
        earlier[batch] = number
    sampler.set_epoch(epoch)
    batches = list(sampler)
    if not batches:
        raise ValueError("sampler gives no batch: with drop_last, there are too few sequences.")
    lengths = [sampler.lengths[batch] for batch in batches]
    cells = [len(batch) * int(batch.max()) for batch in lengths]
    means = torch.stack([batch.double().mean() for batch in lengths])
    both = torch.stack([torch.arange(len(batches)).double(), means])
    varied = len(batches) > 1 and means.std() > 0
    again = sum(int((earlier[b][:, None] == earlier[b]).sum()) - len(b) for b in batches)
    pairs = sum(len(batch) * (len(batch) - 1) for batch in batches)
    return Epoch(
        fill=sum(int(batch.sum()) for batch in lengths) / sum(cells),
        batches=len(batches),
        correlation=torch.corrcoef(both)[0, 1].item() if varied else 0.0,
        repeats=again / pairs if pairs else 0.0,
        largest=max(cells),
    )
