"""Batches of sequences of similar length from a stream, with a bounded buffer (chapter 09)."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from random import Random

from torch.utils.data import IterableDataset, get_worker_info

from course_utils.batches.checks import check_whole


class StreamBatches(IterableDataset):
    """Batches within a budget of padded steps from a stream whose lengths are not known beforehand.

    It holds `buffer_size` samples, sorted by length. When the buffer is full, it draws one sample
    and takes as many shorter neighbours along as the budget allows. Give it to a `DataLoader` with
    `batch_size=None`, a `collate_fn`, and any number of workers: all of them read the stream, and
    each keeps its share of the samples. The ranks have different numbers of batches, because nobody
    counts them beforehand: they must agree on the end, or wait for each other forever.

    Args:
        stream: samples, which can be iterated over again in the next epoch; so not a generator.
        max_tokens: the most padded steps of a batch, B * T.
        buffer_size: samples that are held in each worker; more make fuller batches.
        length: gives the steps of a sample.
        shuffle: whether a random sample is drawn; if not, the longest is taken.
        seed: of the draws; each epoch adds its own number.
        num_replicas, rank: the number of ranks that share the stream, and which this is.
    Raises:
        TypeError: `stream` is an iterator, which could be read only once.
        ValueError: a number is too small; on reading, a sample has no step or over `max_tokens`.

    >>> stream = StreamBatches(["aaaa", "b", "cccc", "d"], max_tokens=8, buffer_size=4)
    >>> sorted(sorted(batch) for batch in stream)
    [['aaaa', 'cccc'], ['b', 'd']]
    """

    def __init__(
        self,
        stream: Iterable,
        max_tokens: int,
        *,
        buffer_size: int = 1000,
        length: Callable[[object], int] = len,
        shuffle: bool = True,
        seed: int = 0,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        if isinstance(stream, Iterator):
            raise TypeError(
                f"stream is a {type(stream).__name__}, which can be read only once: give an object "
                "whose __iter__ begins from the start."
            )
        self.stream, self.length, self.shuffle = stream, length, shuffle
        self.max_tokens = check_whole("max_tokens", max_tokens, 1)
        self.buffer_size = check_whole("buffer_size", buffer_size, 1)
        self.seed = check_whole("seed", seed, 0)
        self.num_replicas = check_whole("num_replicas", num_replicas, 1)
        self.rank = check_whole("rank", rank, 0)
        if self.rank >= self.num_replicas:
            raise ValueError(
                f"rank is {rank}: with num_replicas = {num_replicas} it is below that."
            )
        self.epoch, self._given, self._resume = 0, 0, None

    def set_epoch(self, epoch: int) -> None:
        """Shuffle again for this epoch; workers learn of it when they start, at the next `iter`.

        Args:
            epoch: a whole number of at least 0.
        Raises:
            ValueError: it is not.
        """
        epoch = check_whole("epoch", epoch, 0)
        if epoch != self.epoch:
            self._given, self._resume = 0, None
        self.epoch = epoch

    def _share(self) -> tuple[int, int]:
        """Which samples belong to this share: every `parts`-th, from `first` on."""
        worker = get_worker_info()
        workers, number = (1, 0) if worker is None else (worker.num_workers, worker.id)
        return self.num_replicas * workers, self.rank * workers + number

    def _samples(self) -> Iterator:
        parts, first = self._share()
        return islice(iter(self.stream), first, None, parts)

    def _take(self, held: list, random: Random) -> list:
        """Remove a batch from the sorted buffer."""
        last = random.randrange(len(held)) if self.shuffle else len(held) - 1
        size = self.max_tokens // held[last][0]
        begin = max(0, last + 1 - size)
        end = last + 1
        # Near the short end there are too few shorter ones: longer ones are taken while they fit.
        while end < len(held) and (end + 1 - begin) * held[end][0] <= self.max_tokens:
            end += 1
        batch = [sample for _, _, sample in held[begin:end]]
        del held[begin:end]
        return batch

    def _batches(self) -> Iterator[list]:
        random = Random(self.seed + self.epoch)
        held: list[tuple[int, int, object]] = []  # the number keeps samples from being compared
        for number, sample in enumerate(self._samples()):
            steps = self.length(sample)
            if not 1 <= steps <= self.max_tokens:
                raise ValueError(
                    f"sample {number} of this share of the stream has {steps} steps: a batch holds "
                    f"1 to max_tokens = {self.max_tokens}; drop, split or truncate it."
                )
            insort(held, (steps, number, sample), key=lambda one: one[:2])
            if len(held) == self.buffer_size:
                yield self._take(held, random)
        while held:
            yield self._take(held, random)

    def __iter__(self) -> Iterator[list]:
        given, self._resume = self._resume or 0, None
        self._given = 0
        for batch in self._batches():
            self._given += 1
            if self._given > given:
                yield batch

    def state_dict(self) -> dict:
        """Say how many batches this share of the stream has given.

        Returns:
            plain numbers; torchdata's `StatefulDataLoader` keeps one for each worker.
        """
        return {"epoch": self.epoch, "given": self._given, "share": list(self._share())}

    def load_state_dict(self, state: dict) -> None:
        """Go on after the batches that were given: the next `iter` reads the stream from its start,
        and drops those batches.

        Args:
            state: from the same share of the same stream.
        Raises:
            ValueError: the number of ranks or workers is different: each had a buffer of its own,
                so that what it had not given yet is in no other's share.
        """
        if list(state["share"]) != list(self._share()):
            parts, first = self._share()
            raise ValueError(
                f"state is of share {state['share'][1]} of {state['share'][0]} (ranks x workers), "
                f"but here it is {first} of {parts}: each share has its own buffer; resume with as "
                "many, or begin the epoch again."
            )
        self.epoch, self._given = state["epoch"], state["given"]
        self._resume = state["given"]
