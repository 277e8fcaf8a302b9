"""The parts of the comparison that need no other library."""

import pytest
import torch

from benchmarks import samplers
from benchmarks.samplers import BEGIN, Policy, Row, measure, ours, save, table, verdict
from course_utils.batches.sampling import BucketBatchSampler, describe_epoch

LENGTHS = [1, 2, 3, 8, 2, 5]
THEIRS = Row("theirs", False, 0.8, 50.0, 0.1, 0.2, 100, 1.0)
OURS = THEIRS._replace(name="ours", is_ours=True)


@pytest.mark.parametrize("batches", [[[0, 1], [2, 3, 4]], [[0, 1, 2], [2, 3, 4, 5]], [[1, 2, 3]]])
def test_a_sampler_that_loses_or_repeats_a_sequence_is_refused(batches):
    policy = Policy("faulty", LENGTHS, lambda epoch: batches)
    with pytest.raises(AssertionError, match="faulty: not every sequence exactly once"):
        policy.set_epoch(0)


def test_foreign_batches_are_described_like_ours():
    sampler = BucketBatchSampler(LENGTHS, 2, pool_batches=2)

    def plan(epoch):
        sampler.set_epoch(epoch)
        return [{"numbers": batch} for batch in sampler]

    policy = Policy("foreign", LENGTHS, plan, lambda batch: batch["numbers"])
    assert describe_epoch(policy, 3) == describe_epoch(sampler, 3)


def test_rows_are_means_over_rounds_and_each_epoch_is_planned_once():
    planned = []
    policy = Policy(
        "theirs", LENGTHS, lambda epoch: planned.append(epoch) or [[0, 1, 2], [3, 4, 5]]
    )
    row, mine = measure([policy, ours(LENGTHS, 2, 2)], rounds=3)
    assert planned == [0, 1, 2, 3, 4, 5] and len(policy.milliseconds) == 6
    assert row.fill == pytest.approx(21 / 33) and row.largest == 24 and row.repeats == 1
    assert not row.is_ours and mine.is_ours
    sampler = BucketBatchSampler(LENGTHS, 2, pool_batches=2)
    fills = [describe_epoch(sampler, epoch).fill for epoch in (1, 3, 5)]
    assert mine.fill == pytest.approx(sum(fills) / 3)
    assert len(set(fills)) > 1


def test_ours_have_the_budget_and_the_cost_that_their_name_says():
    lengths = list(range(1, 31))
    fewest, cheap = ours(lengths, 60, 9, 1), ours(lengths, 60, 9, 20)
    rows = measure([fewest, cheap], rounds=1)
    assert [row.name for row in rows] == ["ours, pool 9, cost 1/1", "ours, pool 9, cost 1/20"]
    assert all(row.largest <= 60 for row in rows)
    assert rows[0].batches < rows[1].batches and rows[0].fill < rows[1].fill


def test_a_table_marks_what_is_over_the_budget():
    rows = [THEIRS, OURS._replace(largest=2500)]
    first, second = table(rows, 1000).splitlines()[2:]
    assert "×" not in first and "**2.5 × the budget**" in second
    assert "×" not in table(rows)
    assert len({line.count("|") for line in table(rows).splitlines()}) == 1


@pytest.mark.parametrize(
    ("mine", "said"),
    [
        ([OURS._replace(fill=0.81)], "**fuller**, 0.810 to 0.800"),
        ([OURS._replace(fill=0.805)], "**as full**"),
        ([OURS._replace(fill=0.79)], "**less full**"),
        ([OURS._replace(fill=0.9, repeats=0.21)], "none of ours here is as random"),
        ([OURS._replace(fill=0.9, batches=60.0)], "**more batches**, 60.0 to 50.0"),
        ([OURS, OURS._replace(fill=0.9)], "**fuller**, 0.900"),
        ([OURS._replace(fill=0.7), OURS._replace(fill=0.9, batches=60.0)], "**less full**, 0.700"),
        ([OURS._replace(batches=70.0), OURS._replace(batches=60.0)], "60.0 to 50.0"),
    ],
)
def test_the_verdict_says_what_the_rows_say(mine, said):
    assert said in verdict(THEIRS, [THEIRS, *mine])


def test_saving_leaves_what_was_written_by_hand(tmp_path):
    page = tmp_path / "README.md"
    page.write_text(f"By hand.\n{BEGIN}old", encoding="utf-8")
    for tables in ("one", "3 × two"):
        save(tables, page)
        assert page.read_text(encoding="utf-8") == f"By hand.\n{BEGIN}\n{tables}\n"


def test_the_page_has_the_line_below_which_tables_are_saved():
    assert samplers.PAGE.read_text(encoding="utf-8").count(BEGIN) == 1


def test_one_thread_is_given_back():
    before = torch.get_num_threads()
    measure([ours(LENGTHS, 2, 1)], rounds=1)
    assert torch.get_num_threads() == before
