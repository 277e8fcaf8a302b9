"""Which sequences stand in one batch: batch samplers for a DataLoader (chapter 06)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from course_utils.checks import check_whole, lengths_tensor


def _checked(lengths: Tensor | Sequence[int]) -> Tensor:
    return (
        lengths_tensor(lengths).long().clone()
    )  # what the caller does with theirs is no business of a plan


class _PooledBatches(Sampler[list[int]]):
    """Shuffle, cut into pools, sort each pool by length, cut it into batches, shuffle those.

    What one epoch holds depends on the seed and the epoch alone, as in PyTorch's
    `DistributedSampler`.
    """

    def __init__(
        self,
        lengths: Tensor | Sequence[int],
        pool_size: int,
        shuffle: bool,
        drop: int,
        seed: int,
        generator: torch.Generator | None,
    ) -> None:
        self.lengths = _checked(lengths)
        self.pool_size, self.shuffle, self.drop = pool_size, shuffle, drop
        if generator is not None and not isinstance(generator, torch.Generator):
            raise TypeError(f"generator is a {type(generator).__name__}: give a torch.Generator.")
        self.seed = check_whole("seed", seed, 0) if generator is None else generator.initial_seed()
        self.epoch = 0
        self._planned: tuple[int, list[list[int]]] | None = None

    def set_epoch(self, epoch: int) -> None:
        """Shuffle anew for this epoch; without it, every epoch is the same.

        Args:
            epoch: a whole number of at least 0.
        Raises:
            ValueError: it is not.
        """
        self.epoch = check_whole("epoch", epoch, 0)

    def _cut(self, pool: list[int]) -> list[list[int]]:
        """Cut a pool, sorted by length, into batches."""
        raise NotImplementedError

    def _plan(self) -> list[list[int]]:
        if self._planned is None or self._planned[0] != self.epoch:
            generator = torch.Generator().manual_seed((self.seed + self.epoch) % 2**63)
            count = len(self.lengths)
            order = torch.arange(count)
            if self.shuffle:
                order = torch.randperm(count, generator=generator)
            # Before sorting, or it would be the longest that are dropped.
            order = order[: count - self.drop]
            batches = []
            for pool in order.split(self.pool_size):
                # Stable, so that equally long sequences stay shuffled.
                by_length = pool[self.lengths[pool].argsort(stable=True)]
                batches += self._cut(by_length.tolist())
            if self.shuffle:
                mixed = torch.randperm(len(batches), generator=generator)
                batches = [batches[index] for index in mixed.tolist()]
            self._planned = (self.epoch, batches)
        return self._planned[1]

    def __iter__(self) -> Iterator[list[int]]:
        return iter([list(batch) for batch in self._plan()])

    def __len__(self) -> int:
        """Return the number of batches of this epoch."""
        return len(self._plan())


class BucketBatchSampler(_PooledBatches):
    """Batches of a fixed number of sequences of like length; give it as `batch_sampler`.

    Args:
        lengths: (N,) integers, steps of each sequence of the data set.
        batch_size: sequences a batch.
        pool_batches: how many batches are sorted together: 1 is a plain shuffle, more is fuller
            and less random, as many as there are is a full sort.
        shuffle: whether sequences and batches are shuffled; if not, pools are taken as given.
        drop_last: whether the last sequences of the shuffled order are dropped, where they would
            make a batch that is too small.
        seed: of the shuffling; each epoch adds its own number.
        generator: its seed is taken in place of `seed`; it is not drawn from.
    Raises:
        TypeError, ValueError: `lengths` are no integers of at least 1, or `batch_size` or
            `pool_batches` is not at least 1.

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
    ) -> None:
        self.batch_size = check_whole("batch_size", batch_size, 1)
        pool_size = self.batch_size * check_whole("pool_batches", pool_batches, 1)
        lengths = _checked(lengths)  # it must be 1-D to have a number of sequences
        drop = len(lengths) % self.batch_size if drop_last else 0
        super().__init__(lengths, pool_size, shuffle, drop, seed, generator)

    def _cut(self, pool: list[int]) -> list[list[int]]:
        size = self.batch_size
        return [pool[start : start + size] for start in range(0, len(pool), size)]


class TokenBudgetBatchSampler(_PooledBatches):
    """Batches of as many sequences as fit a budget of padded steps; give it as `batch_sampler`.

    A batch costs its sequences times its longest. Each sorted pool is cut where that cost, with a
    fixed cost for each batch, is least: without one, every batch would hold equal lengths only.

    Args:
        lengths: (N,) integers, steps of each sequence of the data set.
        max_tokens: the most padded steps of a batch, B * T.
        pool_batches: how many full batches' worth of steps are sorted together, as in
            `BucketBatchSampler`.
        batch_cost: the fixed cost of a batch, in steps: more gives fewer, larger batches with
            more padding; an eighth of `max_tokens` where None.
        shuffle, seed, generator: as in `BucketBatchSampler`.
    Raises:
        TypeError, ValueError: `lengths` are no integers of at least 1, one of them is larger than
            `max_tokens`, or a number is too small.

    >>> sampler = TokenBudgetBatchSampler([5, 1, 1, 4, 1], max_tokens=10, batch_cost=3)
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
        seed: int = 0,
        generator: torch.Generator | None = None,
    ) -> None:
        max_tokens = check_whole("max_tokens", max_tokens, 1)
        pool_batches = check_whole("pool_batches", pool_batches, 1)
        batch_cost = (
            max_tokens // 8 if batch_cost is None else check_whole("batch_cost", batch_cost, 0)
        )
        lengths = _checked(lengths)
        longest = int(lengths.argmax())
        if int(lengths[longest]) > max_tokens:
            raise ValueError(
                f"lengths[{longest}] is {int(lengths[longest])}, more than max_tokens = "
                f"{max_tokens}: raise the budget, or drop or truncate that sequence."
            )
        self.max_tokens, self.batch_cost = max_tokens, batch_cost
        a_batch = max_tokens / lengths.double().mean().item()
        pool_size = max(1, round(pool_batches * a_batch))
        super().__init__(lengths, pool_size, shuffle, 0, seed, generator)

    def _cut(self, pool: list[int]) -> list[list[int]]:
        # best[j]: the least cost of the first j sequences; cut[j]: where their last batch begins.
        # The longest of a batch is its last, for the pool is sorted.
        sizes = self.lengths[pool].tolist()
        best, cut = np.zeros(len(pool) + 1), np.zeros(len(pool) + 1, dtype=int)
        for end, longest in enumerate(sizes, 1):
            starts = np.arange(end - min(end, self.max_tokens // longest), end)
            costs = best[starts] + (end - starts) * longest + self.batch_cost
            best[end], cut[end] = costs.min(), starts[costs.argmin()]
        batches, end = [], len(pool)
        while end:
            batches.append(pool[cut[end] : end])
            end = int(cut[end])
        return batches


class Epoch(NamedTuple):
    """What a policy gives in one epoch.

    Attributes:
        fill: real steps / padded steps, of all batches together.
        batches: their number.
        correlation: of the place of a batch in the epoch and its mean length, -1 to 1; 0 where all
            are alike.
        met_again: of the pairs in one batch, the share that were in one batch in the epoch before.
        largest: padded steps of the largest batch.
    """

    fill: float
    batches: int
    correlation: float
    met_again: float
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
    # Numbers of their own for those that are in no batch: they have met nobody.
    earlier = -1 - torch.arange(len(sampler.lengths))
    for number, batch in enumerate(sampler):
        earlier[batch] = number
    sampler.set_epoch(epoch)
    batches = list(sampler)
    if not batches:
        raise ValueError("sampler gives no batch: with drop_last, there are too few sequences.")
    lengths = [sampler.lengths[batch] for batch in batches]
    cells = [len(one) * int(one.max()) for one in lengths]
    means = torch.stack([one.double().mean() for one in lengths])
    both = torch.stack([torch.arange(len(batches)).double(), means])
    varied = len(batches) > 1 and means.std() > 0
    again = sum(int((earlier[b][:, None] == earlier[b]).sum()) - len(b) for b in batches)
    pairs = sum(len(batch) * (len(batch) - 1) for batch in batches)
    return Epoch(
        fill=sum(int(one.sum()) for one in lengths) / sum(cells),
        batches=len(batches),
        correlation=torch.corrcoef(both)[0, 1].item() if varied else 0.0,
        met_again=again / pairs if pairs else 0.0,
        largest=max(cells),
    )
