"""The course's batch samplers beside those of transformers and lhotse: same lengths, one run.

`make bench` installs the other two, and prints the tables; `make bench ARGS=--save` writes them to
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
from torch.utils.data import BatchSampler

from course_utils.data import japanese_vowels, python_docs_paragraphs
from course_utils.measure import one_thread
from course_utils.sampling import BucketBatchSampler, TokenBudgetBatchSampler, describe_epoch

PAGE = Path(__file__).with_name("README.md")
BEGIN = "<!-- All below is written by `make bench ARGS=--save`. -->\n"
CLOSE = 0.01  # what differs by no more than one per cent counts as equal


class Policy:
    """A sampler of any library, in the form that `describe_epoch` reads; each epoch is timed.

    `plan(epoch)` makes an epoch's batches: it alone is timed. `numbers(batch)` gives the numbers
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
    met_again: float
    largest: int
    milliseconds: float


def measure(policies: Sequence[Policy], rounds: int) -> list[Row]:
    """Run all policies in turns, two epochs each a round."""
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
        "| sampler | fill | batches | correlation | met again | largest batch | ms an epoch |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        over = max_tokens is not None and row.largest > max_tokens
        times = f" (**{row.largest / max_tokens:.1f} × the budget**)" if over else ""
        lines.append(
            f"| {row.name} | {row.fill:.3f} | {row.batches:.1f} | {row.correlation:+.2f} "
            f"| {row.met_again:.3f} | {row.largest:,}{times} | {row.milliseconds:.1f} |"
        )
    return "\n".join(lines)


def verdict(theirs: Row, rows: Sequence[Row]) -> str:
    """Theirs beside ours: the fullest of those that are as random, in as few batches.

    Where none has as few, it is the one with the fewest, and the sentence says so.
    """
    most = 1 + CLOSE
    as_random = [row for row in rows if row.is_ours and row.met_again <= most * theirs.met_again]
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
        f"{theirs.fill:.3f}; met again {best.met_again:.3f} to {theirs.met_again:.3f}; "
        f"{batches} {best.batches:.1f} to {theirs.batches:.1f}."
    )


# --- The samplers ---


def ours(lengths: list[int], size: int, pool: int, cost: int | None = None) -> Policy:
    """`BucketBatchSampler` of `size` sequences, or, where a batch costs 1 / `cost` of the budget,
    `TokenBudgetBatchSampler` of `size` padded steps."""
    name = f"ours, pool {pool}"
    if cost is None:
        sampler = BucketBatchSampler(lengths, size, pool_batches=pool)
    else:
        name += "" if cost == 8 else f", cost 1/{cost}"  # an eighth is the default
        sampler = TokenBudgetBatchSampler(lengths, size, pool_batches=pool, batch_cost=size // cost)

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


# --- The comparisons ---


def comparisons() -> Iterator[tuple[str, list[Policy], int, int | None]]:
    """Title, policies, rounds, and the budget or None."""
    docs = [len(words) for words in python_docs_paragraphs()]
    vowels = [len(sequence) for sequence in japanese_vowels().sequences]

    def budget(lengths: list[int], max_tokens: int, own: list[tuple[int, int]]) -> list[Policy]:
        theirs = [lhotse_buckets(lengths, max_tokens, buckets) for buckets in (10, 30)]
        return theirs + [ours(lengths, max_tokens, pool, cost) for pool, cost in own]

    for title, lengths in {
        "Documentation, 32 paragraphs a batch": docs,
        "Its first 2,560 paragraphs, 80 full batches": docs[:2560],
    }.items():
        pools = [ours(lengths, 32, 1)]
        for pool, theirs in ((8, 8), (20, None), (50, 50)):
            pools += [transformers_groups(lengths, 32, theirs), ours(lengths, 32, pool)]
        yield title, pools, 32, None
    # Ours stand at the default, and where they are about as random, or as few, as theirs.
    own = [(6, 2), (8, 8), (8, 2), (16, 8)]
    yield "Documentation, a budget of 2,048 padded steps", budget(docs, 2048, own), 32, 2048
    own = [(6, 2), (8, 8), (8, 2), (16, 8), (24, 4)]
    yield "Documentation, a budget of 1,024", budget(docs, 1024, own), 32, 1024
    own = [(8, 8), (8, 2), (16, 8), (28, 2)]
    yield "Documentation 20 times, a budget of 2,048", budget(docs * 20, 2048, own), 3, 2048
    pools = [ours(vowels, 32, 1), transformers_groups(vowels, 32), ours(vowels, 32, 2)]
    yield "Vowels, 32 utterances a batch", pools, 64, None
    own = [(4, 8), (7, 16), (8, 8), (9, 64)]
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
    libraries = [f"{name} {version(name)}" for name in ("torch", "numpy", "transformers", "lhotse")]
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
    if options.save:
        save("\n\n".join(parts))


if __name__ == "__main__":
    main()
