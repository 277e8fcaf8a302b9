"""Packers lose no sequence and fill no row too far; what fills the rows keeps sequences apart."""

import itertools
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from course_utils.batches.rows import (
    best_fit_decreasing,
    document_mask,
    fill_rows,
    first_fit,
    histogram_packing,
    next_step_targets,
    pack_histogram,
)
from course_utils.data import wikipedia_length_counts
from course_utils.exercises import chapter_07
from tests.batches import simple_packers
from tests.ragged import (
    bad_sequences,
    calm,  # noqa: F401
    few,
    ragged,
    randn,
    refuses,
    same,
    sequence_lists,
)

PACKERS = {
    "first fit": first_fit,
    "best fit": best_fit_decreasing,
    "histogram": histogram_packing,
}
many = st.lists(st.integers(1, 16), min_size=1, max_size=40)
capacities = st.integers(16, 40)
document_ids = st.integers(1, 7).flatmap(
    lambda T: st.lists(
        st.lists(st.integers(-1, 3), min_size=T, max_size=T), min_size=1, max_size=3
    ).map(torch.tensor)
)


def spaces(rows, lengths, capacity):
    return sorted(capacity - sum(lengths[index] for index in row) for row in rows)


@pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)
@few
@given(many, capacities)
def test_each_sequence_once_and_no_row_too_long(pack, lengths, capacity):
    rows = pack(lengths, capacity)
    assert sorted(itertools.chain(*rows)) == list(range(len(lengths)))
    assert min(spaces(rows, lengths, capacity)) >= 0 and all(rows)
    assert rows == pack(lengths, capacity) == pack(torch.tensor(lengths), capacity)
    assert all(type(index) is int for row in rows for index in row)


@few
@given(many, capacities)
def test_packers_give_the_rows_of_those_written_simply(lengths, capacity):
    assert first_fit(lengths, capacity) == simple_packers.first_fit(lengths, capacity)
    found = best_fit_decreasing(torch.tensor(lengths), capacity)
    assert found == simple_packers.best_fit_decreasing(lengths, capacity)
    assert found == chapter_07.best_fit(torch.tensor(lengths), capacity)
    found = histogram_packing(lengths, capacity)
    assert found == simple_packers.histogram_packing(lengths, capacity)


@few
@given(many, capacities, st.none() | st.integers(1, 6))
def test_a_plan_is_that_of_the_packer_written_simply(lengths, capacity, most):
    counts = torch.bincount(torch.tensor(lengths))
    simple = simple_packers.pack_histogram(counts.tolist(), capacity, most)
    assert pack_histogram(counts, capacity, most) == simple


def heavy_tail(count, capacity, seed=0):
    """Lengths of which most are short, and a few as long as a row."""
    uniform = torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (20 * (1 - uniform) ** -1.2).long().clamp(1, capacity)


@pytest.mark.parametrize("capacity", [700, 8192, 131_072])
def test_packers_give_the_rows_of_those_written_simply_on_a_heavy_tail(capacity):
    lengths = heavy_tail(1500, capacity)
    simple = simple_packers.first_fit(lengths.tolist(), capacity)
    assert first_fit(lengths, capacity) == simple
    simple = simple_packers.best_fit_decreasing(lengths.tolist(), capacity)
    assert best_fit_decreasing(lengths, capacity) == simple
    simple = simple_packers.histogram_packing(lengths.tolist(), capacity)
    assert histogram_packing(lengths, capacity) == simple


@pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)
@pytest.mark.parametrize("capacity", [2048, 131_072])
def test_time_grows_with_the_sequences_and_not_with_their_square(pack, capacity):
    def seconds(count):
        lengths = heavy_tail(count, capacity)
        start = time.process_time()
        pack(lengths, capacity)
        return time.process_time() - start

    few_of_them = min(seconds(5_000) for _ in range(3))
    assert seconds(80_000) < 80 * few_of_them  # 16 times as many; their square is 256 times


@few
@given(many, capacities)
def test_the_plan_of_a_histogram_fills_rows_as_best_fit_decreasing_does(lengths, capacity):
    planned = histogram_packing(lengths, capacity)
    best = best_fit_decreasing(lengths, capacity)
    assert spaces(planned, lengths, capacity) == spaces(best, lengths, capacity)


@pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)
@pytest.mark.parametrize(
    ("lengths", "capacity", "error", "words"),
    [
        ([3], 0, ValueError, ["capacity is 0"]),
        ([3], 8.0, ValueError, ["capacity is 8.0"]),
        ([1], True, ValueError, ["capacity is True"]),
        ([2, 9], 8, ValueError, ["lengths[1] is 9", "capacity = 8", "longer rows"]),
        ([2, 0], 8, ValueError, ["lengths[1] is 0"]),
        ([], 8, ValueError, ["lengths is empty"]),
        (torch.tensor([2.0]), 8, TypeError, ["lengths", "float32"]),
        ([True], 8, TypeError, ["lengths", "bool"]),
    ],
)
def test_packers_refuse(pack, lengths, capacity, error, words):
    refuses(error, words, pack, lengths, capacity)


def counted(plan, capacity):
    """How many sequences of each length a plan holds."""
    counts = torch.zeros(capacity + 1, dtype=torch.int64)
    for rows, inside in plan:
        counts += rows * torch.bincount(torch.tensor(inside), minlength=capacity + 1)
    return counts


@few
@given(many, capacities, st.none() | st.integers(1, 6))
def test_a_plan_holds_what_was_counted_within_its_limits(lengths, capacity, most):
    counts = torch.bincount(torch.tensor(lengths))
    plan = pack_histogram(counts, capacity, most)
    assert counted(plan, capacity)[: len(counts)].tolist() == counts.tolist()
    for rows, inside in plan:
        assert rows >= 1 and sum(inside) <= capacity and 1 <= len(inside) <= (most or capacity)
    assert len(plan) <= 2 * len(set(lengths))
    assert plan == pack_histogram(counts.int(), capacity, most)


def test_a_plan_of_nothing_has_no_row():
    assert pack_histogram(torch.zeros(5, dtype=torch.int64), 4) == []
    assert pack_histogram(torch.zeros(0, dtype=torch.int64), 4) == []


def test_wikipedia_is_filled_as_published():
    # Krell et al., https://arxiv.org/abs/2107.02027: with at most 12 sequences a row.
    counts = wikipedia_length_counts()
    real = int(counts @ torch.arange(513))
    for most in (1, 3, 12, None):
        plan = pack_histogram(counts, 512, most)
        rows = sum(rows for rows, _ in plan)
        assert torch.equal(counted(plan, 512), counts)
        assert all(sum(inside) <= 512 and len(inside) <= (most or 512) for _, inside in plan)
        assert rows >= -(-real // 512) and rows * (most or 512) >= int(counts.sum())
        if most == 1:
            assert rows == int(counts.sum())
        if most == 12:
            assert real / (rows * 512) == pytest.approx(0.998129, abs=1e-6)


@pytest.mark.parametrize("longest", [60, 512])
@pytest.mark.parametrize("exponent", [3, 4, 5, 6])
def test_a_plan_is_no_longer_for_more_sequences(longest, exponent):
    generator = torch.Generator().manual_seed(exponent)
    counts = torch.bincount(torch.randint(1, longest + 1, (10**exponent,), generator=generator))
    for most in (None, 4):
        assert len(pack_histogram(counts, 512, most)) <= 2 * int((counts > 0).sum())


@pytest.mark.parametrize(
    ("counts", "options", "error", "words"),
    [
        ([0, 1], {}, TypeError, ["counts", "list", "torch.bincount(lengths)"]),
        (torch.tensor([0.0, 1.0]), {}, TypeError, ["counts", "float32"]),
        (torch.tensor([False, True]), {}, TypeError, ["counts", "bool"]),
        (torch.tensor([[0, 1]]), {}, ValueError, ["counts", "(1, 2)", "1-D"]),
        (torch.tensor([2, 1]), {}, ValueError, ["counts[0] is 2", "from 1 to capacity = 4"]),
        (torch.tensor([0, -1]), {}, ValueError, ["counts[1] is -1", "torch.bincount(lengths)"]),
        (torch.tensor([0, 0, 0, 0, 0, 3]), {}, ValueError, ["counts[5] is 3", "capacity = 4"]),
        (torch.tensor([0, 1]), {"capacity": 0}, ValueError, ["capacity is 0"]),
        (torch.tensor([0, 1]), {"most": 0}, ValueError, ["most is 0"]),
        (torch.tensor([0, 1]), {"most": True}, ValueError, ["most is True"]),
    ],
)
def test_pack_histogram_refuses(counts, options, error, words):
    refuses(error, words, pack_histogram, counts, **{"capacity": 4, **options})


@pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)
@few
@given(sequence_lists() | many.map(lambda lengths: [torch.arange(n) + 7 for n in lengths]))
def test_filled_rows_give_each_sequence_back(pack, sequences):
    rows = pack([len(one) for one in sequences], 20)
    content, document_id, positions = fill_rows(sequences, rows, 20)
    assert content.shape == (len(rows), 20, *sequences[0].shape[1:])
    assert document_id.dtype == positions.dtype == torch.int64
    assert document_id.shape == positions.shape == (len(rows), 20)
    for index, sequence in enumerate(sequences):
        mine = document_id == index
        assert same(content[mine], sequence)
        assert positions[mine].tolist() == list(range(len(sequence)))
    for row, inside in enumerate(rows):  # one after the other, and padding last
        ids = [index for index in inside for _ in sequences[index]]
        assert document_id[row].tolist() == ids + [-1] * (20 - len(ids))
    assert torch.equal(positions, chapter_07.restarted_positions(document_id))
    assert not content[document_id < 0].any() and not positions[document_id < 0].any()


def test_gradients_find_their_way_back_to_the_sequences():
    sequences = [one.requires_grad_() for one in ragged(3, 1, 2)]
    content, document_id, _ = fill_rows(sequences, [[2, 0], [1]], 6)
    weights = randn(*content.shape, seed=9)
    (weights * content).sum().backward()
    for index, one in enumerate(sequences):
        assert torch.equal(one.grad, weights[document_id == index])


def test_a_sequence_may_be_left_out_and_a_row_left_empty():
    filled = fill_rows([torch.tensor([5]), torch.tensor([6, 7])], [[], [1]], 2)
    assert filled.content.tolist() == [[0, 0], [6, 7]]
    assert filled.document_id.tolist() == [[-1, -1], [1, 1]]
    assert filled.positions.tolist() == [[0, 0], [0, 1]]


def test_rows_are_made_on_the_device_of_the_sequences():
    # The only second device that every machine has.
    filled = fill_rows([torch.zeros(2, device="meta")], [[0]], 3)
    assert {one.device.type for one in filled} == {"meta"}


@pytest.mark.parametrize(
    ("rows", "capacity", "words"),
    [
        ([[0, 3]], 9, ["rows names sequence 3:", "3 sequences"]),
        ([[0], [-1]], 9, ["rows names sequence -1:", "from 0 on"]),
        ([[0, 1], [1]], 9, ["rows names sequence 1 twice", "at most once"]),
        ([[0, 0]], 9, ["rows names sequence 0 twice"]),
        ([], 9, ["rows names no sequence"]),
        ([[], []], 9, ["rows names no sequence"]),
        ([[1], [0, 2]], 5, ["rows[1] holds 6 steps", "capacity = 5", "pack again"]),
        ([[0]], 0, ["capacity is 0"]),
        ([[0]], 4.0, ["capacity is 4.0"]),
        ([[0]], True, ["capacity is True"]),
    ],
)
def test_fill_rows_refuses(rows, capacity, words):
    refuses(ValueError, words, fill_rows, ragged(4, 1, 2), rows, capacity)


@pytest.mark.parametrize("sequences, error, words", bad_sequences())
def test_fill_rows_refuses_what_cannot_stand_in_one_batch(sequences, error, words):
    refuses(error, words, fill_rows, sequences, [[0]], 9)


@few
@given(document_ids, st.booleans())
def test_document_mask_by_a_double_loop(document_id, causal):
    found = document_mask(document_id, causal)
    R, T = document_id.shape
    assert found.shape == (R, 1, T, T) and found.dtype == torch.bool
    for row, query, key in itertools.product(range(R), range(T), range(T)):
        expected = document_id[row, query] == document_id[row, key] and (key <= query or not causal)
        assert found[row, 0, query, key] == expected
    assert found.any(3).all(), "no row of the mask is empty"
    assert torch.equal(found, document_mask(document_id.int(), causal))
    if causal:
        assert torch.equal(found[:, 0], chapter_07.attend_own(document_id))


@few
@given(document_ids, st.sampled_from([torch.int64, torch.int32]))
def test_next_step_targets_by_a_loop(document_id, dtype):
    content = (torch.arange(document_id.numel()) % 5).reshape(document_id.shape).to(dtype)
    found = next_step_targets(content, document_id)
    assert found.dtype == torch.int64, "as cross_entropy takes it"
    for row, ids in enumerate(document_id.tolist()):
        for step, (mine, theirs) in enumerate(itertools.zip_longest(ids, ids[1:])):
            inside = mine == theirs and mine >= 0
            assert found[row, step] == (content[row, step + 1] if inside else -100)
    assert torch.equal(found, chapter_07.targets_inside(content.long(), document_id))


IDS = torch.tensor([[0, 0, 1]])
BAD_GRIDS = {
    "list": (IDS.tolist(), TypeError, ["list"]),
    "float": (IDS.float(), TypeError, ["float32"]),
    "bool": (IDS.bool(), TypeError, ["bool"]),
    "uint8": (IDS.byte(), TypeError, ["uint8"]),  # cannot hold -100
    "1-D": (IDS[0], ValueError, ["(3,)", "(R, T)", "[None]"]),
    "3-D": (IDS[None], ValueError, ["(1, 1, 3)", "(R, T)"]),
}


@pytest.mark.parametrize("grid, error, words", BAD_GRIDS.values(), ids=BAD_GRIDS)
def test_mask_and_targets_refuse(grid, error, words):
    refuses(error, ["document_id", *words], document_mask, grid)
    refuses(error, ["document_id", *words], next_step_targets, IDS, grid)
    refuses(error, ["content", *words], next_step_targets, grid, IDS)


def test_targets_refuse_other_rows():
    words = ["content is (1, 2)", "document_id (1, 3)"]
    refuses(ValueError, words, next_step_targets, IDS[:, :2], IDS)


@pytest.mark.parametrize("causal", [True, False])
@few
@given(many)
def test_attention_with_a_document_mask_is_that_of_each_sequence_alone(causal, lengths):
    sequences = [randn(n, 3 * 2 * 4, seed=i).double() for i, n in enumerate(lengths)]
    filled = fill_rows(sequences, first_fit(lengths, 18), 18)

    def attend(steps, **options):  # (B, T, 3 * H * D), with H = 2 heads
        q, k, v = steps.unflatten(2, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        return scaled_dot_product_attention(q, k, v, **options).transpose(1, 2)

    found = attend(filled.content, attn_mask=document_mask(filled.document_id, causal))
    assert found.isfinite().all(), "at padding too"
    for index, one in enumerate(sequences):
        alone = attend(one[None], is_causal=causal)[0]
        torch.testing.assert_close(found[filled.document_id == index], alone, rtol=0, atol=1e-12)


def test_sequences_keep_their_numbers_where_others_are_left_out():
    sequences = [torch.tensor([7, 7]), torch.tensor([8]), torch.tensor([9, 9, 9])]
    found = fill_rows(sequences, [[2], [0]], capacity=4)
    assert found.document_id.tolist() == [[2, 2, 2, -1], [0, 0, -1, -1]]
    for index in (0, 2):
        assert found.content[found.document_id == index].tolist() == sequences[index].tolist()
    assert not (found.document_id == 1).any()
