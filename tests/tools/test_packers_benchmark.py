"""The comparison of packers, on lengths that are few enough to know the answer."""

import pytest
import torch

from benchmarks import packers
from benchmarks.packers import in_groups, lengths_of, measure_packers, next_fit, packers_table

LENGTHS = torch.tensor([6, 5, 4, 3, 2, 8, 10, 2])  # 40 steps: four rows of 10 at least


def test_next_fit_never_looks_back_and_groups_are_packed_apart(monkeypatch):
    assert next_fit(LENGTHS, 10) == 6  # 6 | 5 4 | 3 2 | 8 | 10 | 2
    assert in_groups(LENGTHS, 10) == 4
    monkeypatch.setattr(packers, "GROUP", 4)
    assert in_groups(LENGTHS, 10) == 2 + 3  # 6 4, 5 3 and 10, 8 2, 2


def test_each_packer_is_measured_up_to_its_limit():
    lengths = torch.arange(2000) % 37 + 1
    rows = list(measure_packers(lengths, 100, powers=(2, 3)))
    names = set(packers.packers())
    assert {(one.name, one.count) for one in rows} == {(n, c) for n in names for c in (100, 1000)}
    for one in rows:
        assert one.least == -(-int(lengths[: one.count].sum()) // 100) <= one.rows
    ours = {one.rows for one in rows if one.name.startswith("ours, hist") and one.count == 1000}
    plain = {one.rows for one in rows if one.name == "next fit" and one.count == 1000}
    assert max(ours) < min(plain)
    line = packers_table(rows).splitlines()[2]
    assert line.startswith(f"| {rows[0].name} | 100 | {rows[0].rows:,} |")


@pytest.mark.parametrize(("name", "made"), lengths_of(500).items())
def test_lengths_fit_their_rows(name, made):
    lengths, capacity = made
    assert len(lengths) == 500 and int(lengths.min()) >= 1 and int(lengths.max()) <= capacity
    assert f"{capacity:,}" in name
