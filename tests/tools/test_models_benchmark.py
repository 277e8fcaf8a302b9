"""The parts of `make models` that need no other library."""

import math
import re
from functools import partial

import pytest
import torch
from packaging.utils import canonicalize_name
from torch import nn

from benchmarks import models
from benchmarks.model_setups import (
    float_batch,
    floats,
    keep_of,
    lengths_of,
    to_lengths,
    token_batch,
    widen_floats,
    widen_tokens,
)
from benchmarks.model_truth import PATHS, Difference, measure, spread
from benchmarks.models import BEGIN, Row, collect, counts, faults, gap, in_words, save, table
from tests.tools.test_versions import BENCH_PINS, constraints, exact


def linear(dropout):
    return nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5 * dropout), nn.Linear(8, 3))


def real_mean(model, batch):
    keep = keep_of(*batch)[..., None]
    return list((model(batch[0]) * keep).sum(1) / batch[1][:, None])


def mean(model, batch):
    return list(model(batch[0]).mean(1))


def per_step(model, batch):
    return to_lengths(model(batch[0]), batch[1])


def one_step_less(model, batch):
    lost = int(len(batch[1]) > 1)
    return [row[: len(row) - lost] for row in per_step(model, batch)]


def raising(model, batch):
    if len(batch[1]) == 1:
        raise ValueError("one sample alone")
    return real_mean(model, batch)


class FillsBehind(nn.Module):
    """Right with zeros in the padding, and with nothing else there."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(8, 3, bias=False)

    def forward(self, padded):
        return self.last(padded)


class FaultyGradient(nn.Module):
    """Its outputs are right; the gradient of its weight counts each step of padding."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(8, 3)

    def forward(self, padded):
        hidden = self.last(padded)
        leak = hidden.sum()
        return hidden + (leak - leak.detach())


def normed(dropout):
    return nn.Sequential(nn.Linear(8, 3), Columns())


class Columns(nn.Module):
    """BatchNorm over all steps: it couples samples in training alone."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)

    def forward(self, padded):
        return self.norm(padded.transpose(1, 2)).transpose(1, 2)


class Noise(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(8, 3)

    def forward(self, padded):
        return self.last(padded) + 0.01 * torch.randn(())


class LeastNumber(nn.Module):
    """Right in float32; in float64 the mask of a batch overflows a softmax in float32 to NaN."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(8, 3)

    def forward(self, padded):
        least = torch.tensor(torch.finfo(padded.dtype).min, dtype=padded.dtype).repeat(2)
        weight = (least if len(padded) > 1 else 0 * least).float().softmax(0).sum()
        return self.last(padded) * weight


def setup(build, rows, note=""):
    return floats("torch", rows.__name__, "padded", build, rows, note=note)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("rows", [real_mean, per_step])
def test_a_right_model_is_the_same_on_each_path(rows, seed):
    found = measure(setup(linear, rows), seed)
    assert list(found) == list(PATHS)
    for one in found.values():
        assert not one.faulty and not one.random and one.largest < 1e-12


@pytest.mark.parametrize("rows", [mean, one_step_less, raising])
def test_a_faulty_model_is_found_on_each_path(rows):
    found = measure(setup(linear, rows), 0)
    assert all(one.faulty for one in found.values())


def test_a_mean_over_padding_is_wrong_by_what_it_adds():
    one = measure(setup(linear, mean), 0, ("evaluation",))["evaluation"]
    assert 0.01 < one.outputs < 10 and 0.01 < one.gradients < 10 and one.content > one.outputs


def test_other_content_in_the_padding_is_a_question_of_its_own():
    found = measure(setup(lambda dropout: FillsBehind(), lambda m, b: list(m(b[0]).sum(1))), 0)
    for one in found.values():
        assert one.outputs < 1e-12 and one.gradients < 1e-12 and one.content > 0.1 and one.faulty


def test_a_fault_of_the_gradients_alone_is_found_where_there_are_gradients():
    found = measure(setup(lambda dropout: FaultyGradient(), per_step), 0)
    assert [one.faulty for one in found.values()] == [True, True, False]
    assert found["training"].outputs < 1e-12


def test_batch_norm_is_at_fault_in_training_alone():
    found = measure(setup(normed, per_step), 0)
    assert [one.faulty for one in found.values()] == [True, False, False]


def test_a_random_model_is_called_random():
    found = measure(setup(lambda dropout: Noise(), per_step), 0)
    assert all(one.random and one.faulty for one in found.values())


def test_what_float64_alone_breaks_is_measured_in_float32():
    found = measure(setup(lambda dropout: LeastNumber(), per_step), 0)
    assert all(one.dtype == torch.float32 and not one.faulty for one in found.values())


def test_nan_on_one_side_is_a_fault():
    def infinite(model, batch):
        return [row * (1 if len(batch[1]) == 1 else math.nan) for row in real_mean(model, batch)]

    assert all(one.faulty for one in measure(setup(linear, infinite), 0).values())


def test_weights_are_moved_alike_by_one_seed():
    torch.manual_seed(0)
    fresh = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    moved = [spread(torch.nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)), 5) for _ in range(2)]
    assert torch.equal(moved[0][1].running_var, moved[1][1].running_var)
    assert not torch.equal(moved[0][1].running_var, fresh[1].running_var)
    assert (moved[0][1].running_var > 0).all() and (moved[0][1].bias != 0).all()


@pytest.mark.parametrize("left", [False, True])
def test_widening_a_batch_is_what_collating_with_more_columns_gives(left):
    generator = torch.Generator().manual_seed(0)
    texts = [torch.randint(5, 9, (size,), generator=generator) for size in lengths_of(generator)]
    make = partial(token_batch, left=left, positions=not left)
    wider = widen_tokens(token_batch(texts, left=left), 4, 0.0, left=left)
    made = token_batch(texts, 4, left=left)
    assert wider.keys() == made.keys() and all(torch.equal(wider[k], made[k]) for k in made)
    assert make(texts)["attention_mask"].sum(1).tolist() == [len(text) for text in texts]
    rows = [torch.randn(len(text), 2, generator=generator) for text in texts]
    wider = widen_floats(float_batch(rows, 0, 3.0, left=left), 4, 3.0, left=left)
    assert all(map(torch.equal, wider, float_batch(rows, 4, 3.0, left=left)))


# --- The tables ---

RIGHT = setup(linear, real_mean)
WRONG = setup(linear, mean, note="it counts padding")
SAME = {path: Difference(outputs=1e-15) for path in PATHS}
CHANGED = {path: Difference(outputs=0.25, gradients=0.5) for path in PATHS}
NONE = dict.fromkeys(PATHS, ())
ALL = dict.fromkeys(PATHS, ("alone",))
GOOD = Row(RIGHT, 0, SAME, NONE, True, 0.5, ("pass", "pass"))
BAD = Row(WRONG, 0, CHANGED, ALL, False, 0.5, ("pass", "fail"))


@pytest.mark.parametrize(
    ("row", "alarms", "misses", "agrees"),
    [
        (GOOD, (), (), True),
        (BAD, (), (), True),
        (Row(RIGHT, 0, SAME, ALL, False, 0.5), PATHS, (), False),
        (Row(WRONG, 0, CHANGED, NONE, True, 0.5), (), PATHS, False),
        (Row(WRONG, 0, CHANGED, ALL | {"inference": ()}, False, 0.5), (), ("inference",), False),
        (Row(RIGHT, 0, SAME, NONE, False, 0.5), (), (), False),
    ],
)
def test_a_verdict_agrees_only_where_it_is_the_truth_on_each_path(row, alarms, misses, agrees):
    assert (row.false_alarms, row.misses, row.agrees) == (alarms, misses, agrees)


def test_the_table_shows_the_seed_that_disagrees():
    alarm = Row(RIGHT, 1, SAME, ALL, False, 1.5, ("pass", "pass"))
    lines = table([GOOD, alarm, BAD]).splitlines()
    assert len(lines) == 4 and len({line.count("|") for line in lines}) == 1
    assert "**no**, 1 of 2" in lines[2] and lines[2].endswith("| 1.0 |")
    assert "| changes | 5e-01 | changes | yes |" in lines[3]


def test_the_counts_are_of_rows():
    alarm = Row(RIGHT, 1, SAME, ALL, False, 1.5, ("fail", "pass"))
    missed = Row(WRONG, 1, CHANGED, NONE, True, 0.5, ("skip", "pass"))
    text = counts([GOOD, alarm, BAD, missed])
    seeds = "seed 0 (2 set-ups), seed 1 (2 set-ups)"
    assert f"2 set-ups, 4 runs with {seeds}: in 1 of them a batch changes the answer" in text
    assert "False alarms: **1**. Faults missed: **1**." in text
    assert "asked in 3 of 4 runs: it passed 1 of 1 that a batch changes, and failed 1 of 2" in text
    assert "asked in 4 of 4 runs: it passed 1 of 2 that a batch changes, and failed 0 of 2" in text


def test_the_gap_between_rounding_and_faults_is_printed():
    single = {path: Difference(outputs=2e-7, dtype=torch.float32) for path in PATHS}
    text = gap([GOOD, BAD, Row(RIGHT, 1, single, NONE, True, 0.5)])
    assert "rounding is 1e-15, the smallest that counts as a fault 5e-01" in text
    assert "in float32 the largest difference that counts as rounding is 2e-07" in text


def test_only_what_is_noted_and_at_fault_is_a_fault_of_a_library():
    noted = setup(linear, real_mean, note="nothing is wrong")
    text = faults([BAD, GOOD, Row(noted, 0, SAME, NONE, True, 0.5)], lambda library: "1.0")
    assert text.count("\n") == 2
    assert "| torch 1.0 | mean; padded | it counts padding | 25% | 50% |" in text


def test_words_for_paths():
    assert in_words([]) == "same" and in_words(PATHS) == "changes"
    assert in_words(["training"]) == "changes in training"


def test_a_family_that_cannot_be_imported_is_named():
    def missing():
        import a_library_that_nobody_has  # noqa: F401

        yield RIGHT

    def found():
        yield from (RIGHT, WRONG)

    setups, lost = collect(["REAL_mean"], {"one": missing, "two": found})
    assert setups == [RIGHT] and list(lost) == ["one"] and "ModuleNotFoundError" in lost["one"]


def test_saving_leaves_what_was_written_by_hand(tmp_path):
    page = tmp_path / "MODELS.md"
    page.write_text(f"By hand.\n{BEGIN}old", encoding="utf-8")
    for tables in ("one", "two"):
        save(tables, page)
        assert page.read_text(encoding="utf-8") == f"By hand.\n{BEGIN}\n{tables}\n"
    page.write_text("By hand.", encoding="utf-8")
    with pytest.raises(ValueError, match="has no line"):
        save("three", page)


def test_the_page_has_the_line_below_which_tables_are_saved():
    assert models.PAGE.read_text(encoding="utf-8").count(BEGIN) == 1


def test_the_libraries_are_pinned_and_bring_no_other_version_of_what_the_course_has():
    """Their folder comes first on the path: a second torch there would be the one that runs."""
    pins, tested = constraints("benchmarks/models-requirements.txt"), constraints()
    assert not {"torch", "numpy"} & pins.keys()
    for name, pin in pins.items():
        assert name not in tested or exact(pin) == exact(tested[name])
    bench = constraints(BENCH_PINS)
    assert exact(pins["transformers"]) == exact(bench["transformers"])


def test_the_saved_tables_are_of_these_versions():
    pins = constraints("benchmarks/models-requirements.txt") | {"torch": constraints()["torch"]}
    saved = models.PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].splitlines()[1]
    named = dict(re.findall(r"([\w-]+) (\d[\w.]*?)[,.](?: |$)", saved.partition(" with ")[2]))
    assert len(named) > 10
    for name, version in named.items():
        assert exact(pins[canonicalize_name(name)]) == version
