"""The oracle on public models: its verdict on each set-up beside an independent measurement.

`make models` installs the libraries, asks, and prints the tables; it exits with 1 where a verdict
is not the truth. `ARGS=--save` writes the tables to benchmarks/MODELS.md as well, `ARGS="--seeds
0,1,2"` repeats all with other weights, lengths and samples, and `ARGS="--only bert"` asks only
about set-ups whose name holds the word. `--keep FILE` notes each result as it comes, and `--kept
FILE` takes what is noted there, so that a long run can be made in parts.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import logging
import math
import os
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.model_setups import FAMILIES
from benchmarks.model_truth import PATHS, THRESHOLDS, Difference, Setup, measure, spread

PAGE = Path(__file__).with_name("MODELS.md")
BEGIN = "<!-- All below is written by `make models ARGS=--save`. -->\n"
FAULTY = ("differs", "raises")  # the states of a question that count against a model


@dataclass(frozen=True)
class Row:
    """What came out for one set-up and one seed.

    Attributes:
        truth: the differences that were measured, a path.
        verdict: on each path the questions that the oracle answers with "differs" or "raises".
        whole: whether the whole report is true.
        seconds: of processor time, what the oracle took.
        other: what torchtest2 says, "pass" or "fail", or why it cannot be asked.
    """

    setup: Setup
    seed: int
    truth: dict[str, Difference]
    verdict: dict[str, tuple[str, ...]]
    whole: bool
    seconds: float
    other: tuple[str, str] = ("", "")

    @property
    def faulty(self) -> tuple[str, ...]:
        """The paths on which a batch does change the answer."""
        return tuple(path for path in PATHS if self.truth[path].faulty)

    @property
    def false_alarms(self) -> tuple[str, ...]:
        return tuple(path for path in PATHS if self.verdict[path] and path not in self.faulty)

    @property
    def misses(self) -> tuple[str, ...]:
        return tuple(path for path in self.faulty if not self.verdict[path])

    @property
    def agrees(self) -> bool:
        return not self.false_alarms and not self.misses and self.whole != bool(self.faulty)


# --- One set-up ---


def draw(setup: Setup, seed: int) -> tuple[nn.Module, list]:
    """The model as a user has it, with its dropout, and the samples."""
    torch.manual_seed(seed)
    model = spread(setup.build(True), seed)
    return model, setup.samples(torch.Generator().manual_seed(seed))


def ask(setup: Setup, seed: int) -> tuple[dict[str, tuple[str, ...]], bool, float]:
    """The oracle's verdict on each path, on all, and the seconds of processor time it took.

    That it refuses, for example because all is NaN, counts against the model on each path.
    """
    from course_utils import testing

    model, samples = draw(setup, seed)
    begin = time.process_time()
    asked = {"collate": setup.batch, **setup.ask(testing)}
    try:
        report = testing.batch_invariance(model, samples, **asked)
    except (TypeError, ValueError):
        return dict.fromkeys(PATHS, ("refused",)), False, time.process_time() - begin
    seconds = time.process_time() - begin
    verdict = {}
    for path in PATHS:
        questions = [one for one in report.questions if one.path == path]
        found = tuple(one.name for one in questions if one.state in FAULTY)
        # Of a random model nothing can be asked, and its report is not true.
        unknown = any(one.state == "not asked" and "random" in one.why for one in questions)
        verdict[path] = found or (("random",) if unknown else ())
    return verdict, bool(report), seconds


class Answers(nn.Module):
    """A set-up as one module that takes a batch and returns one tensor, its padding at 0."""

    def __init__(self, setup: Setup, model: nn.Module, batch: Any) -> None:
        super().__init__()
        self.model, self.rows = model, setup.rows
        self.keys = list(batch) if isinstance(batch, dict) else None
        with torch.no_grad():
            rows = setup.rows(model.eval(), batch)
        self.steps = max(len(row) for row in rows)

    def forward(self, *batch: Tensor, **named: Tensor) -> Tensor:
        rows = self.rows(self.model, named if self.keys else batch)
        if len({row.shape for row in rows}) == 1:
            return torch.stack(rows)
        filled = rows[0].new_zeros(len(rows), self.steps, *rows[0].shape[1:])
        for index, row in enumerate(rows):
            filled[index, : len(row)] = row
        return filled


def ask_torchtest2(setup: Setup, seed: int) -> tuple[str, str]:
    """What torchtest2 says: its check `batch_independence`, and its `assert_invariance`.

    The first comes nearest of those that it makes itself. The second is given what it does not
    know, a change that must not matter: more padding.
    """
    import torchtest2
    from torchtest2.exceptions import InvarianceException

    others = set(torchtest2.CHECKS) - {"forward", "batch_independence"}
    try:
        model, samples = draw(setup, seed)
        batch = setup.batch(samples)
        answers = Answers(setup, model, batch)
        report = torchtest2.check_model(answers, batch, skip=others)
        independent = report["batch_independence"].status.name.lower()
    except Exception as error:
        return (f"raises {type(error).__name__}",) * 2
    try:
        torchtest2.assert_invariance(answers, batch, lambda batch: setup.batch(samples, 5))
    except InvarianceException:
        return independent, "fail"
    except Exception as error:
        return independent, f"raises {type(error).__name__}"
    return independent, "pass"


def try_out(setup: Setup, seed: int) -> Row:
    truth = measure(setup, seed)
    verdict, whole, seconds = ask(setup, seed)
    other = ask_torchtest2(setup, seed)
    gc.collect()
    return Row(setup, seed, truth, verdict, whole, seconds, other)


def collect(
    only: Sequence[str] = (), families: dict[str, Callable[[], Iterator[Setup]]] = FAMILIES
) -> tuple[list[Setup], dict[str, str]]:
    """All set-ups whose name holds one of the words, and the families that cannot be imported."""
    setups, missing = [], {}
    for family, make in families.items():
        try:
            setups += make()
        except Exception as error:
            missing[family] = f"{type(error).__name__}: {(str(error) or '?').splitlines()[0]}"
    wanted = [word.lower() for word in only]
    chosen = [one for one in setups if not wanted or any(w in one.name.lower() for w in wanted)]
    return chosen, missing


def to_json(row: Row) -> str:
    truth = {
        path: dataclasses.asdict(one) | {"dtype": str(one.dtype)} for path, one in row.truth.items()
    }
    parts = {"name": row.setup.name, "truth": truth}
    parts |= {key: getattr(row, key) for key in ("seed", "verdict", "whole", "seconds", "other")}
    return json.dumps(parts)


def from_json(line: str, setups: dict[str, Setup]) -> Row | None:
    """The row of a set-up that there still is, as `to_json` wrote it."""
    parts = json.loads(line)
    if parts["name"] not in setups:
        return None
    truth = {
        path: Difference(**one | {"dtype": getattr(torch, one["dtype"].removeprefix("torch."))})
        for path, one in parts.pop("truth").items()
    }
    verdict = {path: tuple(names) for path, names in parts.pop("verdict").items()}
    return Row(
        setups[parts.pop("name")],
        truth=truth,
        verdict=verdict,
        other=tuple(parts.pop("other")),
        **parts,
    )


# --- The tables ---


def number(value: float) -> str:
    if value == 0 or math.isnan(value):
        return "0" if value == 0 else "NaN"
    return "inf" if math.isinf(value) else f"{value:.0e}"


def percent(value: float) -> str:
    return f"{float(f'{100 * value:.2g}'):g}%" if math.isfinite(value) else "not finite"


def in_words(paths: Sequence[str]) -> str:
    if not paths:
        return "same"
    return "changes" if len(paths) == len(PATHS) else f"changes in {' and '.join(paths)}"


def size(difference: Difference) -> str:
    if difference.errors:
        return "raises"
    words = number(difference.largest)
    words += " (float32)" if difference.dtype == torch.float32 else ""
    return f"{words}, random" if difference.random else words


def worst(row: Row) -> Difference:
    """The path that says most: a faulty one where there is one."""

    def rank(path: str) -> tuple:
        one = row.truth[path]
        return one.faulty, bool(one.errors), one.largest

    return row.truth[max(PATHS, key=rank)]


def by_setup(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.setup.name, []).append(row)
    return found


def table(rows: Sequence[Row]) -> str:
    """One line a set-up; of several seeds, the first that disagrees, or else the first."""
    lines = [
        "| library | model | what was passed | truth | largest difference | the oracle | agree "
        "| torchtest2: batch | torchtest2: padding | s |",
        "|---|---|---|---|--:|---|---|---|---|--:|",
    ]
    for seeds in by_setup(rows).values():
        row = next((one for one in seeds if not one.agrees), seeds[0])
        right = sum(one.agrees for one in seeds)
        agree = "yes" if right == len(seeds) else "**no**"
        agree += f", {right} of {len(seeds)}" if len(seeds) > 1 else ""
        answered = in_words([path for path in PATHS if row.verdict[path]])
        for word, said in (("refused", "refuses"), ("random", "random")):
            if all(names == (word,) for names in row.verdict.values()):
                answered = said
        cells = [
            row.setup.library,
            row.setup.model,
            row.setup.passed,
            in_words(row.faulty),
            size(worst(row)),
            answered,
            agree,
            *row.other,
            f"{sum(one.seconds for one in seeds) / len(seeds):.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def gap(rows: Sequence[Row]) -> str:
    """How far rounding stays below the threshold, and the faults above it, in each precision."""
    parts = []
    for dtype, threshold in THRESHOLDS.items():
        found = [one for row in rows for one in row.truth.values() if one.dtype == dtype]
        right = [one.largest for one in found if not one.faulty]
        wrong = [one.largest for one in found if one.faulty and not one.errors and not one.random]
        if right or wrong:
            name = str(dtype).removeprefix("torch.")
            low = number(max(right)) if right else "none"
            high = number(min(wrong)) if wrong else "none"
            parts.append(
                f"in {name} the largest difference that counts as rounding is {low}, the smallest "
                f"that counts as a fault {high}, and the threshold {number(threshold)}"
            )
    return "Of the measurements, " + "; ".join(parts) + "."


def counts(rows: Sequence[Row]) -> str:
    each = sorted({row.seed for row in rows})
    seeds = ", ".join(
        f"seed {seed} ({sum(row.seed == seed for row in rows)} set-ups)" for seed in each
    )
    setups = by_setup(rows)
    faulty = sum(any(row.faulty for row in group) for group in setups.values())
    alarms = sum(bool(row.false_alarms) for row in rows)
    misses = sum(bool(row.misses) for row in rows)
    others = sum(not row.agrees and not row.false_alarms and not row.misses for row in rows)
    text = (
        f"{len(setups)} set-ups, {len(rows)} runs with {seeds}: in {faulty} of them a batch "
        f"changes the answer, in {len(setups) - faulty} it does not. False alarms: **{alarms}**. "
        f"Faults missed: **{misses}**."
    )
    text += f" Other disagreements: **{others}**." if others else ""
    return f"{text}\n\n{about_torchtest2(rows)}"


def about_torchtest2(rows: Sequence[Row]) -> str:
    names = (
        "`check_model`'s `batch_independence`",
        "`assert_invariance`, given more padding as the change that must not matter,",
    )
    parts = []
    for which, name in enumerate(names):
        asked = [row for row in rows if row.other[which] in ("pass", "fail", "warn")]
        wrong = [row for row in asked if row.truth["evaluation"].faulty]
        missed = sum(row.other[which] == "pass" for row in wrong)
        false = sum(row.other[which] != "pass" for row in asked) - len(wrong) + missed
        parts.append(
            f"{name} could be asked in {len(asked)} of {len(rows)} runs: it passed {missed} of "
            f"{len(wrong)} that a batch changes, and failed {false} of {len(asked) - len(wrong)} "
            "that it does not"
        )
    return f"torchtest2 asks about evaluation alone. {'; '.join(parts)}."


def faults(rows: Sequence[Row], versions: Callable[[str], str]) -> str:
    """What a user of these libraries should know: who passes what the library asks for, and yet."""
    lines = [
        "| library | model | what happens | outputs change by | gradients by | how to see it |",
        "|---|---|---|--:|--:|---|",
    ]
    for seeds in by_setup(rows).values():
        setup = seeds[0].setup
        if not setup.note or not any(row.faulty for row in seeds):
            continue
        found = [one for row in seeds for one in row.truth.values() if not one.errors]
        outputs = max((max(one.outputs, one.again) for one in found), default=math.nan)
        gradients = max((one.gradients for one in found), default=math.nan)
        where = in_words(seeds[0].faulty).removeprefix("changes").strip()
        what = setup.note + (f" (only {where})" if where else "")
        lines.append(
            f"| {setup.library} {versions(setup.library)} | {setup.model}; {setup.passed} | {what} "
            f"| {percent(outputs)} | {percent(gradients)} "
            f"| `make models ARGS='--only \"{setup.name}\"'` |"
        )
    return "\n".join(lines)


# --- Cost: the oracle on a BERT-base, against plain passes ---

BASE = {"vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12}
BASE |= {"num_attention_heads": 12, "intermediate_size": 3072}
COST_LENGTHS = (9, 16, 5, 12)


def bert_base() -> tuple[nn.Module, list[Tensor]]:
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    model = BertModel(BertConfig(**BASE))
    return model, [torch.randint(1000, 30000, (steps,)) for steps in COST_LENGTHS]


def peak() -> float:
    """The most memory that this process has held so far, in MiB."""
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (2**20 if sys.platform == "darwin" else 2**10)


def cost_of_oracle() -> dict:
    """Ask all questions, and note each pass: batch, columns, mode, with gradients, backward."""
    from benchmarks.model_setups import token_batch
    from course_utils import testing

    model, samples = bert_base()
    before, passes = peak(), []
    adapter = testing.hugging_face()

    def noted(model: Any, batch: dict) -> Any:
        answer = adapter.run(model, batch)
        rows = list(answer)
        note = [*batch["input_ids"].shape, rows[0].requires_grad, False]
        passes.append(note)

        def backward(gradient: Tensor) -> None:
            note[3] = True

        if rows[0].requires_grad:
            rows[0].register_hook(backward)
        return answer

    begin = time.process_time()
    report = testing.batch_invariance(
        model, samples, token_batch, run=noted, more_padding=adapter.more_padding
    )
    seconds = time.process_time() - begin
    return {"seconds": seconds, "peak": peak(), "before": before, "passes": passes} | {
        "verdict": bool(report)
    }


def cost_of_passes(passes: list, dtype: torch.dtype) -> dict:
    """As many forward and backward passes of the same batches, in a plain training loop."""
    from benchmarks.model_setups import PAD

    model, _ = bert_base()
    before = peak()
    model = model.to(dtype)
    begin = time.process_time()
    for rows, columns, with_gradients, backward in passes:
        ids = torch.randint(1000, 30000, (rows, columns))
        ids[1:, columns // 2 :] = PAD
        with torch.set_grad_enabled(with_gradients):
            answer = model(input_ids=ids, attention_mask=(ids != PAD).long()).last_hidden_state
        if backward:
            model.zero_grad(set_to_none=True)
            answer.sum().backward()
    return {"seconds": time.process_time() - begin, "peak": peak(), "before": before}


def in_subprocess(part: str, passes: list | None = None) -> dict:
    """Measure one part of the cost where no other has used memory before it."""
    command = [sys.executable, "-m", "benchmarks.models", "--cost-part", part]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        command,
        input=json.dumps(passes or []),
        capture_output=True,
        text=True,
        env=environment,
        cwd=PAGE.parent.parent,
    )
    if done.returncode:
        raise RuntimeError(f"the cost of {part} could not be measured:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def cost() -> str:
    oracle = in_subprocess("oracle")
    passes = oracle["passes"]
    lines = [
        "| what ran | s of processor time | peak MiB | time, oracle to it | memory, oracle to it |",
        "|---|--:|--:|--:|--:|",
        f"| the oracle, all questions | {oracle['seconds']:.1f} | {oracle['peak']:,.0f} | | |",
    ]
    for name in ("float64", "float32"):
        plain = in_subprocess(name, passes)
        lines.append(
            f"| plain passes in {name} | {plain['seconds']:.1f} | {plain['peak']:,.0f} "
            f"| {oracle['seconds'] / plain['seconds']:.2f} × "
            f"| {oracle['peak'] / plain['peak']:.2f} × |"
        )
    backward = sum(one[3] for one in passes)
    lengths = ", ".join(map(str, COST_LENGTHS))
    intro = (
        f"BERT-base of random weights ({', '.join(f'{k} {v:,}' for k, v in BASE.items())}), one "
        f"thread, {len(COST_LENGTHS)} samples of {lengths} tokens. The oracle asked all its "
        f"questions on three paths: {len(passes)} forward passes, {backward} with a backward pass. "
        "Beside it, as many passes over batches of the same shapes in a plain loop, in float64, "
        "the precision that the oracle uses, and in float32. Each ran in a process of its own; "
        "its peak holds Python, torch and the model as well."
    )
    return intro + "\n\n" + "\n".join(lines)


# --- The command ---


def version_of(library: str) -> str:
    try:
        return version(library).split("+")[0]
    except PackageNotFoundError:
        return "(not installed)"


def save(tables: str, page: Path = PAGE) -> None:
    """Write the tables below the line of the page that says so."""
    by_hand, begin, _ = page.read_text(encoding="utf-8").partition(BEGIN)
    if not begin:
        raise ValueError(f"{page.name} has no line {BEGIN!r}: put it where the tables begin.")
    page.write_text(f"{by_hand}{begin}\n{tables}\n", encoding="utf-8")


def seeds_of(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--save", action="store_true", help="write the tables to MODELS.md too")
    parser.add_argument("--seeds", type=seeds_of, default=[0], help="such as 0,1,2; else 0")
    parser.add_argument("--only", action="append", default=[], help="part of a set-up's name")
    parser.add_argument("--keep", type=Path, help="add each result to this file, as a line")
    parser.add_argument(
        "--kept", type=Path, action="append", default=[], help="take results from here"
    )
    parser.add_argument("--no-cost", action="store_true", help="leave the cost out")
    parser.add_argument("--cost-part", choices=["oracle", "float64", "float32"], help="internal")
    return parser.parse_args(arguments)


def main() -> int:
    options = parse()
    os.environ.setdefault("LOGURU_LEVEL", "ERROR")  # x-transformers' log
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    if options.cost_part:
        passes = json.loads(sys.stdin.read() or "[]")
        if options.cost_part == "oracle":
            print(json.dumps(cost_of_oracle()))
        else:
            print(json.dumps(cost_of_passes(passes, getattr(torch, options.cost_part))))
        return 0
    setups, missing = collect(options.only)
    if not setups:
        print(f"No set-up's name holds {options.only}.", file=sys.stderr)
        return 2
    named = {setup.name: setup for setup in setups}
    lines = [line for file in options.kept for line in file.read_text().splitlines()]
    rows = [row for line in lines if (row := from_json(line, named))]
    known = {(row.setup.name, row.seed) for row in rows}
    for setup in setups:
        for seed in options.seeds:
            if (setup.name, seed) in known:
                continue
            row = try_out(setup, seed)
            rows.append(row)
            if options.keep:
                with options.keep.open("a") as file:
                    file.write(to_json(row) + "\n")
            mark = "" if row.agrees else "   <-- the verdict is not the truth"
            answered = in_words([path for path in PATHS if row.verdict[path]])
            print(
                f"{setup.name}, seed {seed}: truth {in_words(row.faulty)} ({size(worst(row))}), "
                f"oracle {answered}, {row.seconds:.1f} s{mark}",
                flush=True,
            )
    order = {name: place for place, name in enumerate(named)}
    rows.sort(key=lambda row: (order[row.setup.name], row.seed))
    libraries = dict.fromkeys(["torch", *(setup.library for setup in setups), "torchtest2"])
    versions = ", ".join(f"{name} {version_of(name)}" for name in libraries)
    parts = [
        f"Measured on Python {platform.python_version()} with {versions}.",
        counts(rows),
        gap(rows),
        "### Set-ups\n\n" + table(rows),
        "### Faults in public libraries\n\n" + faults(rows, version_of),
    ]
    if missing:
        lines = [f"- {family}: {why}" for family, why in missing.items()]
        parts.append("### What could not be had\n\n" + "\n".join(lines))
    if not options.no_cost and not options.only:
        parts.append("### Cost\n\n" + cost())
    print("", *parts, sep="\n\n")
    if options.save:
        save("\n\n".join(parts))
    return 0 if all(row.agrees for row in rows) and not missing else 1


if __name__ == "__main__":
    sys.exit(main())
