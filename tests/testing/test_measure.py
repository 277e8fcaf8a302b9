"""Bytes and operations are counted as by hand; ratios of time are coarse, and leave no trace."""

import copy
import gc
import weakref

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from course_utils.batches.masks import last_real_step
from course_utils.models import PackedLSTM, PaddedLSTM
from course_utils.testing.measure import (
    Ratio,
    activation_bytes,
    fast_path,
    lstm_flops,
    one_thread,
    operations,
    paired_ratio,
    score,
    speed_in_words,
)
from tests.ragged import (
    bad_sequences,
    calm,  # noqa: F401
    few,
    ragged,
    randn,
    refuses,
    same,
)


def leaf(*shape, dtype=torch.float32):
    return torch.ones(*shape, dtype=dtype, requires_grad=True)


X, W = leaf(10), leaf(10, 3)


@pytest.mark.parametrize(
    "forward, exclude, expected",
    [
        (lambda: X.exp(), [], 40),  # keeps its result
        (lambda: X.exp().exp().exp(), [], 120),
        (lambda: X + 1, [], 0),  # keeps nothing
        (lambda: (X + 1).sin(), [], 40),  # keeps what it was given
        (lambda: X * X, [], 40),  # the same memory twice
        (lambda: X * X, [X], 0),
        (lambda: X.exp().square(), [], 40),  # exp's result is square's input
        (lambda: torch.mul(*X.exp().split(5)), [], 40),  # two views of one memory
        (lambda: X @ W, [], 40 + 120),
        (lambda: X @ W, [W], 40),
        (lambda: F.linear(X, W.t()), [W.view(30)], 40),  # a view is the memory that it views
        (lambda: (X.exp(), X.sigmoid()), [], 80),
        (lambda: F.dropout(X, 0.5), [], 40),  # the mask it multiplied by, in float32
        (lambda: X.detach().exp(), [], 0),
        (lambda: None, [], 0),
        (lambda: leaf(10, dtype=torch.float64).exp(), [], 80),
        (lambda: [X.exp() for _ in range(50)], [], 2000),  # no address is counted for another
        (lambda: sum(X.exp() for _ in range(50)), [], 2000),
    ],
)
def test_activation_bytes_on_graphs_that_a_hand_can_count(forward, exclude, expected):
    torch.manual_seed(0)
    assert activation_bytes(forward, exclude=exclude) == expected


def test_activation_bytes_leaves_nothing_behind():
    results = []

    def forward():
        results.append(X.exp())
        reference = weakref.ref(results[0])
        results[0].sum().backward()  # gradients can be taken within
        results.clear()
        results.append(reference)
        return X.exp().exp()

    kept = []
    collecting = gc.isenabled()
    gc.disable()
    try:
        assert activation_bytes(lambda: kept.append(forward())) == 120
        result = weakref.ref(kept.pop())
        assert result() is None and results[0]() is None
    finally:
        if collecting:
            gc.enable()
    assert torch.allclose(X.grad, X.exp())
    X.grad = None


def test_operations_are_counted_by_name_and_only_within():
    def forward():
        F.linear(leaf(2, 3), leaf(4, 3), leaf(4)).exp().exp().sum().backward()

    counted = operations(forward)
    assert (counted["aten::addmm"], counted["aten::exp"], counted["aten::sum"]) == (1, 2, 1)
    assert counted["aten::mm"] == 2 and counted["aten::sin"] == 0  # the gradients of linear
    with pytest.raises(ZeroDivisionError):
        operations(lambda: 1 / 0)
    X.exp()
    assert counted == operations(forward) and operations(lambda: None) == {}


@few
@given(*[st.integers(1, 9)] * 4)
def test_lstm_flops_equal_what_torch_counts_of_the_steps(B, T, D, H):
    cell, steps = nn.LSTMCell(D, H), randn(T, B, D)
    with FlopCounterMode(display=False) as counter:
        state = None
        for step in steps:
            state = cell(step, state)
    assert lstm_flops(B * T, D, H) == counter.get_total_flops()
    assert lstm_flops(B * T, D, H, directions=2) == 2 * counter.get_total_flops()


def counting_down(n):
    def work():
        for _ in range(n):
            pass

    return work


def test_ratio_of_a_function_to_itself_is_about_one():
    work = counting_down(2000)
    ratio = paired_ratio(work, work, pairs=5, min_seconds=0.005)
    assert ratio.low <= ratio.median <= ratio.high
    assert 0.2 < ratio.median < 5


def test_twenty_times_the_work_takes_over_three_times_as_long():
    less, more = counting_down(2000), counting_down(40_000)
    assert paired_ratio(more, less, pairs=5, min_seconds=0.005).median > 3
    assert paired_ratio(less, more, pairs=5, min_seconds=0.005).median < 1 / 3


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_functions_take_turns_on_one_thread(two_threads):
    calls = []

    def note(name):
        def work():
            calls.append((name, torch.get_num_threads()))
            counting_down(20_000)()

        return work

    # So short a time asks for one repeat: a warm-up and a trial each, then the pairs.
    paired_ratio(note("a"), note("b"), pairs=3, min_seconds=0)
    assert [name for name, _ in calls] == list("aabb" + "ab" * 3)
    assert {count for _, count in calls} == {1}
    assert torch.get_num_threads() == 2


def test_threads_come_back_also_after_an_exception(two_threads):
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    with pytest.raises(ZeroDivisionError):
        paired_ratio(lambda: 1 / 0, lambda: None)
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("on", [True, False])
def test_fast_path_is_on_or_off_within_the_block_alone(before, on):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval().requires_grad_(False)

    def is_on():
        return operations(lambda: layer(randn(2, 3, 8)))["aten::_transformer_encoder_layer_fwd"]

    with fast_path(before):
        with fast_path(on):
            assert is_on() == on
        assert is_on() == before
        with pytest.raises(ZeroDivisionError), fast_path(on):
            _ = 1 / 0
        assert is_on() == before
    assert is_on()


@pytest.mark.parametrize("pairs", [0, -1])
def test_ratio_refuses(pairs):
    refuses(ValueError, [f"pairs is {pairs}", "at least one"], paired_ratio, int, int, pairs=pairs)


def test_a_ratio_is_printed_with_its_range():
    assert str(Ratio(1.234, 0.5, 20)) == "1.23 (0.50 to 20.00)"


@pytest.fixture
def no_stopwatch(monkeypatch):
    """Run both functions, as often as it happens, and call the ratio 2."""

    def ratio(a, b):
        for _ in range(3):
            a(), b()
        return Ratio(2.0, 2.0, 2.0)

    monkeypatch.setattr("course_utils.testing.measure.paired_ratio", ratio)


def test_score_says_what_is_correct_and_how_full(no_stopwatch):
    sequences = ragged(5, 3, 7)
    wrong = PaddedLSTM(4, 8, 3, lambda output, lengths: output[:, -1])
    right = PaddedLSTM(4, 8, 3, last_real_step)
    packed = PackedLSTM(4, 8, 3)
    options = {"baseline": wrong, "accuracy": 0.5}
    rows = [
        score("wrong", wrong, sequences, **options),
        score("right", right, sequences, **options),
        score("packed", packed, sequences, **options, runs_padding=False),
    ]
    assert [row.method for row in rows] == ["wrong", "right", "packed"]
    assert [row.correct for row in rows] == [False, True, True]
    assert [row.fill for row in rows] == [15 / 21, 15 / 21, 1]
    assert {row.accuracy for row in rows} == {0.5}
    assert [row.time_ratio for row in rows] == [1, 2, 2]  # the baseline's is 1 by definition
    assert all(row.activation_mib > 0 for row in rows)


def test_score_counts_neither_parameters_nor_the_batch(no_stopwatch):
    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4, 4))

        def forward(self, padded, lengths):
            return ((padded @ self.weight).exp() @ self.weight).sum(1)  # keeps the weight, too

    model = Linear()
    row = score("linear", model, ragged(5, 3, 7), baseline=model, accuracy=1)
    assert row.activation_mib * 2**20 == 3 * 7 * 4 * 4  # exp's result alone


def test_score_divides_the_time_of_the_baseline():
    class Slow(PackedLSTM):
        def forward(self, padded, lengths):
            counting_down(400_000)()
            return super().forward(padded, lengths)

    slow, quick = Slow(4, 8, 3), PackedLSTM(4, 8, 3)
    assert score("quick", quick, ragged(2, 1), baseline=slow, accuracy=0).time_ratio > 1.5


def test_score_leaves_models_and_random_state_alone(no_stopwatch):
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(4)

        def forward(self, padded, lengths):
            return self.norm(F.dropout(padded.sum(1), 0.5))

    model, baseline = Noisy(), Noisy()
    model.norm.eval()  # in training mode it cannot run on one sequence alone
    before, random_state = copy.deepcopy((model, baseline)), torch.get_rng_state()
    score("noisy", model, ragged(2, 1), baseline=baseline, accuracy=0)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert same(before, (model, baseline))
    assert all(p.grad is None for one in (model, baseline) for p in one.parameters())


@pytest.mark.parametrize("sequences, error, words", bad_sequences())
def test_score_refuses(sequences, error, words):
    model = PackedLSTM(4, 8, 3)
    refuses(error, words, score, "any", model, sequences, baseline=model, accuracy=0)


@pytest.mark.parametrize(
    "ratio, words",
    [
        (3.14, "is 3.1 times as fast"),
        (1.11, "is 1.1 times as fast"),
        (1.09, "takes about as long"),
        (0.92, "takes about as long"),
        (0.9, "takes 1.1 times as long"),
        (0.1, "takes 10.0 times as long"),
    ],
)
def test_speed_in_words(ratio, words):
    assert speed_in_words(ratio) == words


@pytest.mark.parametrize("ratio", [0, -1, float("nan")])
def test_speed_in_words_refuses_what_is_no_ratio(ratio):
    with pytest.raises(ValueError, match=f"ratio is {ratio}"):
        speed_in_words(ratio)


def test_padded_to_packed_says_that_packing_keeps_fewer_bytes_where_there_is_padding():
    from course_utils.testing.measure import padded_to_packed

    sizes = {"input_size": 3, "hidden_size": 4}
    ratios = padded_to_packed(torch.nn.GRU, torch.tensor([8, 1, 1, 1]), **sizes)
    assert ratios["kept bytes"] == pytest.approx(32 / 11, rel=0.25)
    assert ratios["training"] > 0 and ratios["inference"] > 0


def test_costs_of_padding_are_those_of_the_steps_run_and_of_the_real_ones():
    from course_utils.testing.measure import costs_of_padding

    torch.manual_seed(5)
    before = torch.get_rng_state()
    costs = costs_of_padding(torch.tensor([8, 2]), input_size=3, hidden_size=4)
    assert costs["padded operations"] == lstm_flops(16, 3, 4)
    assert costs["real operations"] == lstm_flops(10, 3, 4)
    full = costs_of_padding(torch.tensor([8, 8]), input_size=3, hidden_size=4)
    kept = costs["kept bytes per real step"] / full["kept bytes per real step"]
    assert kept == pytest.approx(16 / 10, rel=0.1)
    assert torch.equal(torch.get_rng_state(), before)


def test_operations_of_forward_counts_both_ways_and_draws_nothing():
    from course_utils.testing.measure import operations_of_forward

    torch.manual_seed(5)
    before = torch.get_rng_state()
    sizes = {"input_size": 3, "hidden_size": 4}
    padded, packed = operations_of_forward(torch.nn.GRU, torch.tensor([6, 2]), **sizes)
    assert (padded["way"], packed["way"]) == ("padded", "packed")
    assert padded["steps"] == 6 and packed["operations"] > 6 and not packed["fused"]
    assert torch.equal(torch.get_rng_state(), before)


def test_compare_forms_divides_by_the_first_form():
    from typing import NamedTuple

    from course_utils.testing.measure import compare_forms

    class Steps(NamedTuple):
        content: torch.Tensor

    def padded(group):
        return Steps(nn.utils.rnn.pad_sequence(group, batch_first=True))

    model = nn.Embedding(5, 3)
    forms = {
        "padded": (padded, lambda batch: model(batch.content).exp()),
        "flat": (lambda group: Steps(torch.cat(group)), lambda batch: model(batch.content).exp()),
    }
    groups = [[torch.tensor([1]), torch.tensor([1, 2, 3])], [torch.tensor([4, 4])]]
    table = compare_forms(model, forms, groups)
    assert table["padded"]["fill"] == 6 / 8 and table["flat"]["fill"] == 1
    assert table["flat"]["by fill"] == 8 / 6 and table["flat"]["faster"] > 0
    assert all(table["padded"][name] != table["padded"][name] for name in ("faster", "by fill"))
    assert table["padded"]["MiB"] > table["flat"]["MiB"] > 0


def test_training_steps_leave_the_gradient_of_the_last_batch():
    from course_utils.testing.measure import training_steps

    model = nn.Linear(1, 1, bias=False)
    training_steps(model, [torch.tensor([[2.0]]), torch.tensor([[3.0]])], model)()
    assert model.weight.grad.item() == 3
