"""Run the notebooks with other kernels, threads and seeds; say which cells come out differently.

    python tools/claims.py                     all notebooks, all settings
    python tools/claims.py 00 05               those whose name begins so
    python tools/claims.py 05 --setting seeds  settings whose name has this in it
    python tools/claims.py --other             one setting, unlike "plain" but not slower
    python tools/claims.py --seeds 5           five offsets to the seeds, not three
    python tools/claims.py --list              only name the settings, and what they set

A cell's saved output is compared strictly, as in `make test`. With other kernels and threads no
cell may come out differently. With other seeds, a cell that prints random numbers may: it has a tag
`other-seed: …` that says why. A cell that states a claim has no such tag. The output of pytest for
each run is in build/claims.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple
from xml.etree import ElementTree

import nbformat

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "notebooks"
TAG = "other-seed: "
STEP = 1000  # seeds that the notebooks use themselves are nearer to each other


def settings(seeds: int = 3) -> dict[str, dict[str, str]]:
    """Name what can be varied on this machine.

    Args:
        seeds: how many offsets to the seeds.
    Returns:
        name -> the environment variables that it sets; "plain" sets one thread, as `make test`.
    """
    import torch

    best = torch.backends.cpu.get_cpu_capability()
    found = {"plain": {}}
    if best != "DEFAULT":
        found["scalar"] = {"ATEN_CPU_CAPABILITY": "default"}
    if best == "AVX512":
        found["avx2"] = {"ATEN_CPU_CAPABILITY": "avx2"}
    if platform.machine().lower() in ("x86_64", "amd64"):
        found["sse41"] = {"ONEDNN_MAX_CPU_ISA": "SSE41"}
        if "scalar" in found:
            found["oldest"] = found["scalar"] | found["sse41"]
    found["threads"] = {"OMP_NUM_THREADS": "2"}
    for number in range(1, seeds + 1):
        found[f"seeds+{number * STEP}"] = {"SEED_OFFSET": str(number * STEP)}
    return found


def other(names: Iterable[str]) -> str:
    """Choose the setting that `make test` runs beside the plain one.

    It is AVX2, which most readers' processors have, and which takes as long as the newest kernels;
    where AVX2 is the best there is, it is the oldest kernels; on Arm, which has one kind, it is two
    threads.
    """
    return next(name for name in ("avx2", "oldest", "threads") if name in names)


class Cell(NamedTuple):
    """A code cell: its number among them from 0, as nbval counts, and what it is known by."""

    number: int
    id: str
    first_line: str
    reason: str  # why it may come out differently with other seeds; empty where it may not


def cells_of(path: pathlib.Path) -> list[Cell]:
    """The code cells of a notebook, in order."""
    book = nbformat.read(path, as_version=4)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    found = []
    for number, cell in enumerate(code):
        tags = [tag for tag in cell.metadata.get("tags", []) if tag.startswith(TAG)]
        # What a cell prints identifies it better than its imports do.
        lines = [line for line in cell.source.splitlines() if "print(" in line]
        first = (lines or cell.source.splitlines() or [""])[0].strip()
        found.append(Cell(number, cell.id, first, tags[0][len(TAG) :] if tags else ""))
    return found


def run(path: pathlib.Path, name: str, changes: dict[str, str], log: pathlib.Path) -> list[int]:
    """Run a notebook in a setting, compared strictly.

    Args:
        path: the notebook.
        name: of the setting.
        changes: the environment variables that the setting sets.
        log: the folder for the output of pytest.
    Returns:
        the numbers of the cells that came out differently, or raised an error.
    Raises:
        RuntimeError: pytest did not get as far as the cells.
    """
    log.mkdir(parents=True, exist_ok=True)
    report = log / f"{path.stem[:2]}-{name}.xml"
    report.unlink(missing_ok=True)
    unset = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "SEED_OFFSET")
    environment = {key: value for key, value in os.environ.items() if key not in unset}
    environment |= {"OMP_NUM_THREADS": "1", **changes}
    if "SEED_OFFSET" in changes:
        environment["PYTHONSTARTUP"] = str(ROOT / "tools" / "other_seeds.py")
    command = [sys.executable, "-m", "pytest", "-q", "--color=no", f"--junitxml={report}"]
    command += ["-p", "no:cacheprovider", "--nbval", "--nbval-current-env"]
    command += ["--nbval-cell-timeout=600", "--nbval-sanitize-with", "tests/nbval_sanitize.cfg"]
    # torch keeps what it has compiled, and finds it again whatever the kernels are by then: what
    # was compiled for AVX-512 gave FlexAttention wrong numbers with AVX2 (torch 2.13).
    with tempfile.TemporaryDirectory() as compiled:
        environment["TORCHINDUCTOR_CACHE_DIR"] = compiled
        done = subprocess.run(
            [*command, str(path)], cwd=ROOT, env=environment, capture_output=True, text=True
        )
    report.with_suffix(".txt").write_text(done.stdout + done.stderr)
    if done.returncode not in (0, 1) or not report.exists():
        said = f"pytest ended with {done.returncode}:\n{done.stdout}"
        raise RuntimeError(f"{path.name}, {name}: {said}")
    tests = ElementTree.parse(report).iter("testcase")
    return sorted(
        int(re.search(r"Cell (\d+)", test.get("name")).group(1))
        for test in tests
        if test.find("failure") is not None or test.find("error") is not None
    )


def table(cells: list[Cell], moved: dict[str, set[int]]) -> tuple[list[str], bool]:
    """Write a notebook's table, cell by setting.

    Args:
        cells: its code cells.
        moved: setting -> numbers of the cells that came out differently.
    Returns:
        the lines, and whether a cell moved that may not: `X`. `o` is one that may, and did.
    """
    lines, wrong = [], False
    for cell in cells:
        row = []
        for name, numbers in moved.items():
            allowed = bool(cell.reason) and name.startswith("seeds")
            bad = cell.number in numbers and not allowed
            wrong |= bad
            sign = "." if cell.number not in numbers else "o" if allowed else "X"
            row.append(sign.center(max(len(name), 5)))
        if set("".join(row)) - {".", " "}:
            what = f"{cell.number:3d} {cell.id:12.12s} "
            lines.append(f"{what}{' '.join(row)}  {cell.first_line[:60]}")
    if lines:
        names = " ".join(name.center(max(len(name), 5)) for name in moved)
        lines.insert(0, f"{'':17}{names}")
    return lines, wrong


def main(arguments: list[str]) -> int:
    """Run the matrix and print it; 1 where a claim moved."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("prefix", nargs="*", default=[""], help="such as 05; all where left out")
    parser.add_argument(
        "--other", action="store_true", help="one setting that is not the plain one"
    )
    parser.add_argument("--setting", default="", help="only settings with this in their name")
    parser.add_argument("--seeds", type=int, default=3, help="how many offsets (3)")
    parser.add_argument("--jobs", type=int, default=1, help="notebooks at a time (1)")
    parser.add_argument("--list", action="store_true", help="name the settings, run nothing")
    options = parser.parse_args(arguments)
    every = settings(options.seeds)
    chosen = {name: changes for name, changes in every.items() if options.setting in name}
    if options.other:
        chosen = {name: every[name] for name in [other(every)]}
    paths = sorted({path for one in options.prefix for path in FOLDER.glob(f"{one}*.ipynb")})
    if not paths or not chosen:
        what = f"notebook begins with {options.prefix}" if not paths else "setting is so named"
        print(f"No {what}. Settings: {', '.join(every)}.", file=sys.stderr)
        return 2
    if options.list:
        for name, changes in chosen.items():
            print(f"{name:12s} {' '.join(f'{key}={value}' for key, value in changes.items())}")
        return 0
    moved: dict[pathlib.Path, dict[str, set[int]]] = defaultdict(dict)

    def one(path: pathlib.Path, name: str) -> None:
        started = time.monotonic()
        numbers = run(path, name, chosen[name], ROOT / "build" / "claims")
        moved[path][name] = set(numbers)
        spent = f"{time.monotonic() - started:4.0f} s"
        print(f"{path.name:32} {name:12} {spent}  different: {numbers or 'none'}", flush=True)

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(lambda task: one(*task), [(path, name) for path in paths for name in chosen]))

    failed = False
    for path in paths:
        cells = cells_of(path)
        lines, wrong = table(cells, {name: moved[path][name] for name in chosen})
        failed |= wrong
        print(f"\n{path.name}: {'no claim moves' if not wrong else 'CLAIMS MOVE'}")
        print("".join(line + "\n" for line in lines), end="")
        seeded = [numbers for name, numbers in moved[path].items() if name.startswith("seeds")]
        for cell in cells:
            if cell.reason:
                still = seeded and not any(cell.number in numbers for numbers in seeded)
                note = " (and came out the same with every seed: drop the tag?)" if still else ""
                print(f"    o {cell.number:3d}: {cell.reason}{note}")
    print("\nX: came out differently, and may not. o: prints random numbers, as its tag says.")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
