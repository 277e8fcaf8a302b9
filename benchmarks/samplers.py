"""The course's batch samplers beside those of other libraries: same lengths, one run.

`make bench` installs the others, and prints the tables; `make bench ARGS=--save` writes them to
benchmarks/README.md as well.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DistributedSampler

from course_utils.batches.sampling import (
    BucketBatchSampler,
    TokenBudgetBatchSampler,
    describe_epoch,
)
from course_utils.batches.streams import StreamBatches
from course_utils.data import japanese_vowels, python_docs_paragraphs
from course_utils.ranks import idle_share
from course_utils.testing.measure import one_thread

PAGE = Path(__file__).with_name("README.md")
BEGIN = "<!-- All below is written by `make bench ARGS=--save`. -->\n"
LIBRARIES = ("torch", "numpy", "transformers", "lhotse", "accelerate")
RANKS = 4
CLOSE = 0.01  # what differs by no more than one per cent counts as equal


class Policy:
    """A sampler of any library, in the form that `describe_epoch` reads; each epoch is timed.

    `plan(epoch)` makes an epoch's batches, and only it is timed. `numbers(batch)` gives the indices
    of the sequences in one of them.
    """

    def __init__(
        self,
        name: str,
        lengths: Sequence[int],
        plan: Callable[[int], list],
        numbers: Callable[[object], list[int]] = list,
        is_ours: bool = False,
    ) -> None:
        self.name, self.lengths, self.is_ours = name, torch.tensor(lengths), is_ours
        self.plan, self.numbers = plan, numbers
        self.milliseconds: list[float] = []

    def set_epoch(self, epoch: int) -> None:
        start = time.process_time()
        batches = self.plan(epoch)
        self.milliseconds.append(1000 * (time.process_time() - start))
        self.batches = [self.numbers(batch) for batch in batches]
        once = sorted(chain(*self.batches)) == list(range(len(self.lengths)))
        assert once, f"{self.name}: not every sequence exactly once"

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)


class Row(NamedTuple):
    """Means over the epochs; but of `largest` the maximum, and of the time the median."""

    name: str
    is_ours: bool
    fill: float
    batches: float
    correlation: float
    repeats: float
    largest: int
    milliseconds: float


def measure(policies: Sequence[Policy], rounds: int) -> list[Row]:
    """Run all policies in turns, two epochs each per round."""
    found = {policy: [] for policy in policies}
    with one_thread():
        for number in range(rounds):
            for policy, epochs in found.items():
                # Two new epochs each time: our samplers keep the plan of the last one.
                epochs.append(describe_epoch(policy, 2 * number + 1))
    rows = []
    for policy, epochs in found.items():
        *averaged, largest = zip(*epochs, strict=True)
        means = [statistics.fmean(values) for values in averaged]
        milliseconds = statistics.median(policy.milliseconds)
        rows.append(Row(policy.name, policy.is_ours, *means, max(largest), milliseconds))
    return rows


def table(rows: Sequence[Row], max_tokens: int | None = None) -> str:
    """The rows in Markdown; a largest batch that is over `max_tokens` is marked."""
    lines = [
        "| sampler | fill | batches | correlation | repeated pairs | largest batch | ms / epoch |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        over = max_tokens is not None and row.largest > max_tokens
        times = f" (**{row.largest / max_tokens:.1f} × the budget**)" if over else ""
        lines.append(
            f"| {row.name} | {row.fill:.3f} | {row.batches:.1f} | {row.correlation:+.2f} "
            f"| {row.repeats:.3f} | {row.largest:,}{times} | {row.milliseconds:.1f} |"
        )
    return "\n".join(lines)


def verdict(theirs: Row, rows: Sequence[Row]) -> str:
    """Compare their row with ours: the fullest of those that are as random, in as few batches.

    Where none has as few, it is the one with the fewest, and the sentence says so.
    """
    most = 1 + CLOSE
    as_random = [row for row in rows if row.is_ours and row.repeats <= most * theirs.repeats]
    if not as_random:
        return f"- {theirs.name}: none of ours here is as random."
    as_few = [row for row in as_random if row.batches <= most * theirs.batches]
    if as_few:
        best, batches = max(as_few, key=lambda row: row.fill), "batches"
    else:
        best, batches = min(as_random, key=lambda row: row.batches), "**more batches**,"
    gain = best.fill / theirs.fill - 1
    word = "as full" if abs(gain) <= CLOSE else "fuller" if gain > 0 else "less full"
    return (
        f"- {theirs.name}, beside {best.name}: ours is **{word}**, {best.fill:.3f} to "
        f"{theirs.fill:.3f}; repeated pairs {best.repeats:.3f} to {theirs.repeats:.3f}; "
        f"{batches} {best.batches:.1f} to {theirs.batches:.1f}."
    )


# --- The samplers ---


def ours(lengths: list[int], size: int, pool: int, cost: int | None = None) -> Policy:
    """`BucketBatchSampler` of `size` sequences, or, where a cost is given,
    `TokenBudgetBatchSampler` of `size` padded steps: a batch costs 1 / `cost` of the budget, or,
    where that is 0, there are as few as possible."""
    name = f"ours, pool {pool}"
    if cost is None:
        sampler = BucketBatchSampler(lengths, size, pool_batches=pool)
    else:
        name += f", cost 1/{cost}" if cost else ""  # as few as possible is the default
        batch_cost = size // cost if cost else None
        sampler = TokenBudgetBatchSampler(lengths, size, pool_batches=pool, batch_cost=batch_cost)

    def plan(epoch: int) -> list[list[int]]:
        sampler.set_epoch(epoch)
        return list(sampler)

    return Policy(name, lengths, plan, is_ours=True)


def transformers_groups(lengths: list[int], batch_size: int, pool: int | None = None) -> Policy:
    """`LengthGroupedSampler`; where a pool is given, the function inside it, which takes one."""
    from transformers.trainer_pt_utils import LengthGroupedSampler, get_length_grouped_indices

    generator = torch.Generator()
    sampler = LengthGroupedSampler(batch_size, lengths=lengths, generator=generator)

    def plan(epoch: int) -> list[list[int]]:
        generator.manual_seed(epoch)
        order = sampler
        if pool is not None:
            order = get_length_grouped_indices(lengths, batch_size, pool, generator)
        return list(BatchSampler(order, batch_size, drop_last=False))

    size = f"{pool}" if pool else f"{min(len(lengths) // (4 * batch_size), 50)} (its default)"
    return Policy(f"transformers, pool {size}", lengths, plan)


def lhotse_buckets(lengths: list[int], max_tokens: int, buckets: int) -> Policy:
    """`DynamicBucketingSampler`, with a text of zeros for each sequence."""
    from lhotse.cut.text import TextExample
    from lhotse.dataset.sampling import DynamicBucketingSampler
    from lhotse.dataset.sampling.base import TokenConstraint

    texts = [TextExample("", np.zeros(n, np.int8), {"number": i}) for i, n in enumerate(lengths)]
    limit = TokenConstraint(max_tokens=max_tokens)
    sampler = DynamicBucketingSampler(
        texts, constraint=limit, num_buckets=buckets, shuffle=True, world_size=1, rank=0
    )

    def plan(epoch: int) -> list:
        sampler.set_epoch(epoch)
        return list(sampler)

    own = " (its default)" if buckets == 10 else ""
    name = f"lhotse, {buckets} buckets{own}"
    return Policy(name, lengths, plan, lambda batch: [text.custom["number"] for text in batch])


# --- Over ranks ---


class RankRow(NamedTuple):
    """Means over the epochs."""

    name: str
    idle: float
    fill: float
    useful: float
    batches: str
    repeated: float
    left_out: float


def of_ranks(name: str, plan: Callable[[int, int], list], lengths: Tensor, epochs: int) -> RankRow:
    """`plan(rank, epoch)` gives a rank's batches. Where some ranks have more batches than others,
    the steps that all have are compared."""
    found, counts = [], set()
    for epoch in range(epochs):
        shares = [plan(rank, epoch) for rank in range(RANKS)]
        counts |= {len({len(share) for share in shares})}
        seen = torch.bincount(torch.tensor(list(chain(*chain(*shares)))), minlength=len(lengths))
        steps = min(map(len, shares))
        parts = [[lengths[batch] for batch in share[:steps]] for share in shares]
        padded = torch.tensor([[len(one) * int(one.max()) for one in share] for share in parts])
        real = sum(int(one.sum()) for share in parts for one in share)
        work = padded.T.double()
        idle, fill = idle_share(work), real / work.sum().item()
        twice, never = (seen - 1).clamp(min=0).sum().item(), (seen == 0).sum().item()
        found.append((idle, fill, (1 - idle) * fill, twice, never))
    idle, fill, useful, twice, never = (statistics.fmean(one) for one in zip(*found, strict=True))
    as_many = "the same" if counts == {1} else "**differ**"
    return RankRow(name, idle, fill, useful, as_many, twice, never)


def ranks_table(lengths: list[int], epochs: int = 8) -> str:
    """Ours over ranks, beside DistributedSampler, accelerate and lhotse."""
    from accelerate.data_loader import BatchSamplerShard
    from lhotse.cut.text import TextExample
    from lhotse.dataset.sampling import DynamicBucketingSampler
    from lhotse.dataset.sampling.base import TokenConstraint

    def ours_of(make: type, size: int) -> Callable[[int, int], list]:
        def plan(rank: int, epoch: int) -> list:
            sampler = make(lengths, size, num_replicas=RANKS, rank=rank)
            sampler.set_epoch(epoch)
            return list(sampler)

        return plan

    def distributed(rank: int, epoch: int) -> list:
        sampler = DistributedSampler(range(len(lengths)), RANKS, rank)
        sampler.set_epoch(epoch)
        return list(BatchSampler(sampler, 32, drop_last=False))

    def accelerated(rank: int, epoch: int) -> list:
        generator = torch.Generator().manual_seed(epoch)
        order = torch.randperm(len(lengths), generator=generator).tolist()
        return list(BatchSamplerShard(BatchSampler(order, 32, drop_last=False), RANKS, rank))

    def lhotse(rank: int, epoch: int) -> list:
        texts = [
            TextExample("", np.zeros(n, np.int8), {"number": i}) for i, n in enumerate(lengths)
        ]
        limit = TokenConstraint(max_tokens=2048)
        sampler = DynamicBucketingSampler(
            texts, constraint=limit, num_buckets=10, shuffle=True, world_size=RANKS, rank=rank
        )
        sampler.set_epoch(epoch)
        return [[text.custom["number"] for text in batch] for batch in sampler]

    plans = {
        "DistributedSampler, 32 per batch": (distributed, "no"),
        "accelerate, 32 per batch": (accelerated, "by skipping"),
        "lhotse, 10 buckets, budget 2,048": (lhotse, "as many ranks"),
        "ours, buckets of 32": (ours_of(BucketBatchSampler, 32), "any number of ranks"),
        "ours, budget 2,048": (ours_of(TokenBudgetBatchSampler, 2048), "any number of ranks"),
    }
    lines = [
        "| sampler | idle | fill | useful | batches on each rank | repeated | left out | resumes |",
        "|---|--:|--:|--:|---|--:|--:|---|",
    ]
    for name, (plan, resumes) in plans.items():
        row = of_ranks(name, plan, torch.tensor(lengths), epochs)
        lines.append(
            f"| {row.name} | {row.idle:.2f} | {row.fill:.2f} | {row.useful:.2f} | {row.batches} "
            f"| {row.repeated:.1f} | {row.left_out:.1f} | {resumes} |"
        )
    return "\n".join(lines)


def stream_table(lengths: list[int]) -> str:
    """The fill of batches from a stream, beside the sampler that knows all lengths."""
    lines = ["| held | fill | batches |", "|---|--:|--:|"]
    samples = list(enumerate(lengths))
    rows = {}
    for size in (100, 400, 1600):
        stream = StreamBatches(samples, 2048, buffer_size=size, length=lambda one: one[1])
        rows[f"stream, {size:,} samples"] = [[one[1] for one in batch] for batch in stream]
    sampler = TokenBudgetBatchSampler(lengths, 2048)
    rows["all lengths, pool 8"] = [[lengths[i] for i in batch] for batch in sampler]
    for name, batches in rows.items():
        padded = sum(len(batch) * max(batch) for batch in batches)
        lines.append(f"| {name} | {sum(lengths) / padded:.3f} | {len(batches)} |")
    return "\n".join(lines)


# --- The comparisons ---


def comparisons() -> Iterator[tuple[str, list[Policy], int, int | None]]:
    """Title, policies, rounds, and the budget or None."""
    docs = [len(words) for words in python_docs_paragraphs()]
    vowels = [len(sequence) for sequence in japanese_vowels().sequences]

    def budget(lengths: list[int], max_tokens: int, own: list[tuple[int, int]]) -> list[Policy]:
        theirs = [lhotse_buckets(lengths, max_tokens, buckets) for buckets in (10, 30)]
        return theirs + [ours(lengths, max_tokens, pool, cost) for pool, cost in own]

    for title, lengths in {
        "Documentation, 32 paragraphs per batch": docs,
        "Its first 2,560 paragraphs, 80 full batches": docs[:2560],
    }.items():
        pools = [ours(lengths, 32, 1)]
        for pool, theirs in ((8, 8), (20, None), (50, 50)):
            pools += [transformers_groups(lengths, 32, theirs), ours(lengths, 32, pool)]
        yield title, pools, 32, None
    # Ours with the default, and with settings that make them about as random, or as few, as theirs.
    own = [(6, 2), (8, 0), (8, 8), (16, 0), (16, 8)]
    yield "Documentation, a budget of 2,048 padded steps", budget(docs, 2048, own), 32, 2048
    own = [(6, 2), (8, 0), (8, 8), (16, 0), (16, 8), (24, 4)]
    yield "Documentation, a budget of 1,024", budget(docs, 1024, own), 32, 1024
    own = [(8, 0), (8, 8), (16, 0), (16, 8), (28, 2)]
    yield "Documentation 20 times, a budget of 2,048", budget(docs * 20, 2048, own), 3, 2048
    pools = [ours(vowels, 32, 1), transformers_groups(vowels, 32), ours(vowels, 32, 2)]
    yield "Vowels, 32 utterances per batch", pools, 64, None
    own = [(4, 8), (7, 16), (8, 0), (8, 8), (9, 64)]
    yield "Vowels, a budget of 512", budget(vowels, 512, own), 64, 512


def save(tables: str, page: Path = PAGE) -> None:
    """Write the tables below the line of the page that says so."""
    by_hand, begin, _ = page.read_text(encoding="utf-8").partition(BEGIN)
    assert begin, f"{page.name} has no line {BEGIN!r}"
    page.write_text(f"{by_hand}{begin}\n{tables}\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--save", action="store_true", help="write the tables to README.md too")
    options = parser.parse_args()
    libraries = [f"{name} {version(name)}" for name in LIBRARIES]
    parts = [f"Measured on Python {platform.python_version()} with {', '.join(libraries)}."]
    print(parts[0])
    for title, policies, rounds, max_tokens in comparisons():
        rows, lengths = measure(policies, rounds), policies[0].lengths
        parts += [
            f"### {title}\n\n{len(lengths):,} sequences of {int(lengths.min())} to "
            f"{int(lengths.max())} steps, {int(lengths.sum()):,} in all; {2 * rounds} epochs.",
            table(rows, max_tokens),
            "\n".join(verdict(row, rows) for row in rows if not row.is_ours),
        ]
        print("", *parts[-3:], sep="\n\n", flush=True)
    docs = [len(words) for words in python_docs_paragraphs()]
    parts += [
        f"### Over {RANKS} ranks\n\nThe documentation without its last paragraph, so that it does "
        f"not come out even: {len(docs) - 1:,} sequences; 8 epochs.",
        ranks_table(docs[:-1]),
        "### From a stream\n\nThe documentation, a budget of 2,048, one epoch.",
        stream_table(docs),
    ]
    print("", *parts[-4:], sep="\n\n")
    if options.save:
        save("\n\n".join(parts))


if __name__ == "__main__":
    main()
