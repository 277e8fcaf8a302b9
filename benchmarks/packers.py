"""The course's packers beside trl's, next fit, and first-fit decreasing in groups: same lengths.

`make bench` runs it after the samplers; `make bench ARGS=--save` writes the table to
benchmarks/README.md as well. Where trl is not installed, its lines are left out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from course_utils.batches.rows import best_fit_decreasing, first_fit, histogram_packing
from course_utils.data import python_docs_paragraphs, wikipedia_length_counts

PAGE = Path(__file__).with_name("README.md")
BEGIN = "<!-- The packers' tables, written by `make bench ARGS=--save`. -->\n"
END = "<!-- End of the packers' tables. -->\n"
GROUP = 1000


def next_fit(lengths: Tensor, capacity: int) -> int:
    """Fill one row after the other in the order given; return how many rows that takes."""
    rows, free = 1, capacity
    for length in lengths.tolist():
        if length > free:
            rows, free = rows + 1, capacity
        free -= length
    return rows


def in_groups(lengths: Tensor, capacity: int) -> int:
    """First-fit decreasing in groups of a fixed size; return how many rows that takes."""
    groups = lengths.split(GROUP)
    return sum(len(first_fit(one.sort(descending=True).values, capacity)) for one in groups)


def trl_packer() -> Callable[[Tensor, int], int] | None:
    """trl's `pack_dataset` with strategy "bfd", in its default groups; None where it is missing."""
    try:
        import pyarrow
        from datasets import Dataset, disable_progress_bars
        from trl import pack_dataset
    except ImportError:
        return None
    disable_progress_bars()

    def pack(lengths: Tensor, capacity: int) -> int:
        ends = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
        tokens = pyarrow.array(torch.zeros(int(ends[-1]), dtype=torch.int8).numpy())
        texts = pyarrow.LargeListArray.from_arrays(pyarrow.array(ends.numpy()), tokens)
        data = Dataset(pyarrow.table({"input_ids": texts}), fingerprint=f"lengths{len(lengths)}")
        return len(
            pack_dataset(data, capacity, strategy="bfd", map_kwargs={"keep_in_memory": True})
        )

    return pack


class Result(NamedTuple):
    """One packer on one list of lengths."""

    name: str
    count: int
    rows: int
    least: int
    seconds: float


def packers() -> dict[str, tuple[Callable[[Tensor, int], int], int]]:
    """Name -> how many rows it makes, and the largest number of lengths to give it."""
    found = {
        "ours, histogram": (lambda lengths, T: len(histogram_packing(lengths, T)), 10**7),
        "ours, best-fit decreasing": (
            lambda lengths, T: len(best_fit_decreasing(lengths, T)),
            10**6,
        ),
        "ours, first-fit": (lambda lengths, T: len(first_fit(lengths, T)), 10**6),
        f"first-fit decreasing in groups of {GROUP:,}": (in_groups, 10**6),
        "next fit": (next_fit, 10**7),
    }
    if theirs := trl_packer():
        found["trl, bfd"] = (theirs, 10**6)
    return found


def measure_packers(
    lengths: Tensor, capacity: int, powers: Sequence[int] = (5, 6, 7)
) -> Iterator[Result]:
    """Give each packer the first 10^5, 10^6 and 10^7 lengths, as far as it is fast enough."""
    for power in powers:
        some = lengths[: 10**power]
        least = -(-int(some.sum()) // capacity)
        for name, (rows_of, most) in packers().items():
            if len(some) <= most:
                start = time.process_time()
                rows = rows_of(some, capacity)
                yield Result(name, len(some), rows, least, time.process_time() - start)


def packers_table(results: Sequence[Result]) -> str:
    """The results in Markdown."""
    lines = ["| packer | lengths | rows | over the least | seconds |", "|---|--:|--:|--:|--:|"]
    for one in results:
        over = 100 * (one.rows / one.least - 1)
        lines.append(
            f"| {one.name} | {one.count:,} | {one.rows:,} | {over:.2f}% | {one.seconds:.2f} |"
        )
    return "\n".join(lines)


def lengths_of(count: int) -> dict[str, tuple[Tensor, int]]:
    """Name -> so many lengths, and the steps of a row."""
    generator = torch.Generator().manual_seed(0)
    docs = torch.tensor([len(words) for words in python_docs_paragraphs()])
    counts = wikipedia_length_counts().double()
    uniform = torch.rand(count, generator=generator, dtype=torch.float64)
    tail = (20 * (1 - uniform) ** -1.2).long().clamp(1, 8192)
    drawn = counts.multinomial(count, replacement=True, generator=generator)
    return {
        "Wikipedia's lengths, rows of 512": (drawn, 512),
        "The documentation's, rows of 1,024": (
            docs[torch.randint(len(docs), (count,), generator=generator)],
            1024,
        ),
        "A heavy tail, rows of 8,192": (tail, 8192),
    }


def save_packers(text: str, page: Path = PAGE) -> None:
    """Write the tables between their two lines of the page, and leave all else."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin and end, f"{page.name} has no lines {BEGIN!r} and {END!r}"
    page.write_text(f"{before}{BEGIN}\n{text}\n\n{END}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--save", action="store_true", help="write the tables to README.md too")
    parser.add_argument("--powers", type=int, nargs="+", default=[5, 6, 7])
    options = parser.parse_args()
    torch.set_num_threads(1)
    try:
        theirs = f", trl {version('trl')}"
    except PackageNotFoundError:
        theirs = "; trl is not installed"
    parts = [f"Measured with torch {torch.__version__}{theirs}; processor time of one thread."]
    for name, (lengths, capacity) in lengths_of(10 ** max(options.powers)).items():
        table = packers_table(list(measure_packers(lengths, capacity, options.powers)))
        parts.append(f"### {name}\n\n{table}")
        print(f"\n{parts[-1]}", flush=True)
    if options.save:
        save_packers("\n\n".join(parts))


if __name__ == "__main__":
    main()
