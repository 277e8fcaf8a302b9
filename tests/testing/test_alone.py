"""The oracle is right about good models and about planted faults, and leaves no trace."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from course_utils.batches.masks import last_real_step, lengths_to_keep_mask, masked_mean
from course_utils.batches.padding import pad
from course_utils.models import PackedLSTM, PaddedLSTM
from course_utils.testing import Report, leak_map, together_equals_alone
from tests.ragged import (
    bad_sequences,
    calm,  # noqa: F401
    few,
    padded_lists,
    ragged,
    randn,
    refuses,
    same,
)
from tests.ragged import lengths_lists as lengths_

NAN = float("nan")


class Reader(nn.Module):
    """An LSTM, then `read(output, lengths)`, then a linear layer."""

    def __init__(self, read, bidirectional=False):
        super().__init__()
        self.lstm = nn.LSTM(4, 8, batch_first=True, bidirectional=bidirectional)
        self.head = nn.Linear(16 if bidirectional else 8, 3)
        self.read = read

    def forward(self, padded, lengths):
        return self.head(self.read(self.lstm(padded)[0], lengths))


class Norm(nn.Module):
    """BatchNorm over a padded batch, then the right mean; dropout for its random numbers."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.norm, self.dropout = nn.BatchNorm1d(4), nn.Dropout(dropout)

    def forward(self, padded, lengths):
        normed = self.dropout(self.norm(padded.transpose(1, 2)).transpose(1, 2))
        return masked_mean(normed, lengths_to_keep_mask(lengths, padded.shape[1]))


class ScaledGradient(torch.autograd.Function):
    """Hands its input on, and multiplies the gradient."""

    @staticmethod
    def forward(ctx, values, factor):
        ctx.factor = factor
        return values.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.factor, None


def last_column(output, lengths):
    return output[:, -1]


def mean_over_T(output, lengths):  # noqa: N802
    return output.mean(1)


def sum_of_steps(padded, lengths):
    return padded.sum(1)


def detached_in_a_batch(output, lengths):
    state = last_real_step(output, lengths)
    return state.detach() if len(lengths) > 1 else state


def scaled_in_a_batch(output, lengths):
    return ScaledGradient.apply(last_real_step(output, lengths), len(lengths))


def sorted_rows(output, lengths):
    return last_real_step(output, lengths)[lengths.argsort(descending=True)]


def nan_in_a_batch(output, lengths):
    state = last_real_step(output, lengths)
    return state.index_fill(0, torch.tensor([1]), NAN) if len(lengths) > 1 else state


def equal_rows(report):
    return [difference <= report.tolerance for difference in report.outputs]


@pytest.mark.parametrize(
    "make",
    [
        lambda: PackedLSTM(4, 8, 3),
        lambda: PaddedLSTM(4, 8, 3, last_real_step),
        lambda: PackedLSTM(4, 8, 3).double(),
        lambda: Norm().eval(),
    ],
    ids=["PackedLSTM", "PaddedLSTM", "float64", "BatchNorm in eval mode"],
)
@few
@given(lengths_(), st.integers(0, 9), st.integers(0, 1000))
def test_good_models_pass(make, lengths, extra_padding, seed):
    torch.manual_seed(seed)
    model = make()
    dtype = next(model.parameters()).dtype
    sequences = [one.to(dtype) for one in ragged(*lengths, seed=seed)]
    report = together_equals_alone(model, sequences, extra_padding=extra_padding)
    assert report, report
    assert len(report.outputs) == len(lengths) == len(report.lengths)
    assert list(report.gradients) == [name for name, _ in model.named_parameters()]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Reader(last_column),
        lambda: Reader(mean_over_T),
        lambda: Reader(last_column, bidirectional=True),
        lambda: Reader(last_real_step, bidirectional=True),
    ],
    ids=["last column", "mean over T", "BiLSTM", "BiLSTM at the last real step"],
)
@few
@given(padded_lists(), st.integers(0, 1000))
def test_models_that_read_padding_fail_in_just_the_padded_rows(make, lengths, seed):
    torch.manual_seed(seed)
    report = together_equals_alone(make(), ragged(*lengths, seed=seed))
    assert not report
    assert equal_rows(report) == [length == max(lengths) for length in lengths]
    assert report.loss > report.tolerance
    assert report.gradients["head.weight"] > report.tolerance


@few
@given(padded_lists(shortest=2), st.integers(0, 1000))
def test_batch_norm_in_training_fails_in_every_row(lengths, seed):
    report = together_equals_alone(Norm().train(), ragged(*lengths, seed=seed))
    assert not report and not any(equal_rows(report))


@pytest.mark.parametrize("wrong", [detached_in_a_batch, scaled_in_a_batch])
def test_gradients_alone_can_fail(wrong):
    report = together_equals_alone(Reader(wrong), ragged(5, 3, 7))
    assert not report
    assert equal_rows(report) == [True] * 3 and report.loss <= report.tolerance
    faulty = {name for name, gap in report.gradients.items() if not gap <= report.tolerance}
    assert faulty == {f"lstm.{name}" for name, _ in nn.LSTM(4, 8).named_parameters()}
    # Nothing comes back where all is detached; three times too much where it is scaled by B.
    expected = 1.0 if wrong is detached_in_a_batch else 2.0
    assert report.gradients["lstm.bias_hh_l0"] == pytest.approx(expected, rel=1e-4)


def test_a_batch_without_any_gradient_fails():
    class Detached(PackedLSTM):
        def forward(self, padded, lengths):
            logits = super().forward(padded, lengths)
            return logits.detach() if len(lengths) > 1 else logits

    report = together_equals_alone(Detached(4, 8, 3), ragged(5, 3))
    assert not report and max(report.outputs) <= report.tolerance
    assert len(report.gradients) == 10 and min(report.gradients.values()) > report.tolerance


def test_gradients_are_compared_where_the_caller_has_turned_them_off():
    wrong, good, sequences = Reader(last_column), PackedLSTM(4, 8, 3), ragged(5, 3)
    for off in (torch.no_grad, torch.inference_mode):
        with off():
            report = together_equals_alone(wrong, sequences)
            assert together_equals_alone(good, sequences) and not leak_map(good, sequences).any()
            assert not torch.is_grad_enabled()
        assert report.gradients["lstm.weight_ih_l0"] > report.tolerance


def test_rows_in_another_order_fail():
    report = together_equals_alone(Reader(sorted_rows), ragged(5, 3, 7, 1))
    assert not report and equal_rows(report) == [False, False, False, True]
    assert report.loss > report.tolerance  # each sequence's outputs are mixed in their own way


def test_nan_in_the_batch_alone_fails():
    report = together_equals_alone(Reader(nan_in_a_batch), ragged(5, 3, 7))
    assert equal_rows(report) == [True, False, True] and report.outputs[1] == float("inf")
    assert not report and report.loss == float("inf")
    assert "sequence 1 (  3 steps): DIFFERS" in str(report)


def test_infinities_count_by_their_sign_and_nan_is_not_infinity():
    def constant(batch_value, alone_value):
        return lambda x, lengths: torch.full(
            (len(x), 1), batch_value if len(x) > 1 else alone_value
        )

    inf = float("inf")
    for batch_value, alone_value in [(inf, -inf), (inf, NAN), (NAN, inf), (inf, 0.0), (0.0, NAN)]:
        report = together_equals_alone(constant(batch_value, alone_value), ragged(2, 1))
        assert report.outputs == [inf, inf] and not report
    for value in (inf, -inf, NAN):
        assert together_equals_alone(constant(value, value), ragged(2, 1))


def test_an_output_whose_shape_depends_on_the_longest_fails():
    report = together_equals_alone(lambda x, lengths: x.flatten(1), ragged(3, 1))
    assert not report and report.outputs == [0.0, float("inf")]


def test_extra_padding_shows_what_equal_lengths_hide():
    model = Reader(last_column)
    report = together_equals_alone(model, ragged(4, 4))
    assert report and not report.padded and "nothing was padded" in str(report)
    assert together_equals_alone(model, ragged(4, 3)).padded
    assert together_equals_alone(model, ragged(4, 4), extra_padding=1).padded
    assert not together_equals_alone(model, ragged(4, 4), extra_padding=1)
    assert not together_equals_alone(model, ragged(4), extra_padding=1)


# --- what the report says ---------------------------------------------------------------------


def shifted(x, lengths):
    """Sums of steps, row 1 a half too large where it stands in a batch."""
    return x.sum(1) + 0.5 * (len(lengths) > 1) * (torch.arange(len(x)) == 1)[:, None]


def test_differences_are_what_a_hand_computes():
    ones = [torch.ones(4, 1), torch.ones(2, 1), torch.ones(1, 1)]
    report = together_equals_alone(shifted, ones, loss=lambda row, i: row.square().mean())
    assert report.outputs == [0, 0.125, 0]  # 0.5 of 4, the largest of all
    # Mean squares: alone (16 + 4 + 1) / 3, in the batch (16 + 6.25 + 1) / 3; the largest is 16.
    assert report.loss == pytest.approx(0.75 / 16)
    assert report.gradients == {} and report.lengths == [4, 2, 1]
    assert not together_equals_alone(shifted, ones, tolerance=0.1249)
    assert together_equals_alone(shifted, ones, tolerance=0.125)
    assert (
        str(report)
        == repr(report)
        == (
            "together does NOT equal alone\n"
            "  sequence 0 (  4 steps): equal within 1e-09\n"
            "  sequence 1 (  2 steps): DIFFERS by 12% of the largest value\n"
            "  sequence 2 (  1 steps): equal within 1e-09\n"
            "  loss: DIFFERS by 4.7% of the largest value\n"
            "  gradients: 0 of 0 parameters equal"
        )
    )


def test_the_text_of_a_passing_report():
    report = together_equals_alone(PackedLSTM(4, 8, 3), ragged(12, 3), tolerance=1e-4)
    assert str(report) == (
        "together equals alone\n"
        "  sequence 0 ( 12 steps): equal within 1e-04\n"
        "  sequence 1 (  3 steps): equal within 1e-04\n"
        "  loss: equal within 1e-04\n"
        "  gradients: 10 of 10 parameters equal"
    )


def test_the_text_names_the_parameter():
    text = str(together_equals_alone(Reader(detached_in_a_batch), ragged(5, 3)))
    assert "gradients: 2 of 6 parameters equal\n" in text
    assert "    lstm.weight_ih_l0: DIFFERS by 1e+02% of the largest value\n" in text
    assert "head" not in text


@pytest.mark.parametrize(
    "change", [{"outputs": [0.0, 1.0]}, {"loss": 1.0}, {"gradients": {"w": NAN}}, {"loss": NAN}]
)
def test_a_report_is_true_where_all_of_it_agrees(change):
    good = {"lengths": [2, 1], "outputs": [0.0, 1e-5], "loss": 0.0, "gradients": {"w": 0.0}}
    assert Report(**good, tolerance=1e-5)
    bad = Report(**{**good, **change}, tolerance=1e-5)
    assert not bad and str(bad).count("DIFFERS") == 1


# --- gradients and losses ---------------------------------------------------------------------


def test_loss_is_given_each_row_and_its_number():
    sequences, seen = ragged(5, 3, 7), []
    labels = torch.tensor([2, 0, 1])

    def loss(row, i):
        seen.append((i, tuple(row.shape)))
        return F.cross_entropy(row, labels[i])

    assert together_equals_alone(PackedLSTM(4, 8, 3), sequences, loss=loss)
    assert seen == [(i, (3,)) for i in (0, 1, 2, 0, 1, 2)]


def test_per_step_compares_and_gives_real_steps_only():
    lstm, bilstm, sequences = nn.LSTM(4, 2), nn.LSTM(4, 2, bidirectional=True), ragged(5, 3, 7)
    seen = []

    def loss(row, i):
        seen.append(len(row))
        return row.sum().reshape(1)  # one number, whatever its shape

    def forward(layer):
        return lambda x, lengths: layer(x.transpose(0, 1))[0].transpose(0, 1)

    options = {"per_step": True, "extra_padding": 4, "loss": loss}
    assert together_equals_alone(forward(lstm), sequences, **options)
    assert seen == [5, 3, 7, 5, 3, 7]
    assert not together_equals_alone(forward(bilstm), sequences, **options)
    # Numbers, one a step, need no feature dimension.
    assert together_equals_alone(lambda x, lengths: x.sum(2), sequences, per_step=True)


class Attention(nn.Module):
    """Masked self-attention with a bias of the keys, whose true gradient is 0."""

    def __init__(self):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(4, 16) for _ in range(3))

    def forward(self, padded, lengths):
        keep_mask = lengths_to_keep_mask(lengths, padded.shape[1])
        projected = (layer(padded) for layer in (self.query, self.key, self.value))
        attended = F.scaled_dot_product_attention(*projected, attn_mask=keep_mask[:, None])
        return masked_mean(attended, keep_mask)


def test_rounding_noise_in_place_of_a_zero_gradient_is_no_difference():
    for seed in range(5):
        torch.manual_seed(seed)
        report = together_equals_alone(Attention(), ragged(5, 1, 30, 5), extra_padding=7)
        assert report, report


class Scaled(nn.Module):
    """Parameters of unequal weight, `small` with a wrong gradient in a batch."""

    def __init__(self, weight):
        super().__init__()
        self.large, self.small = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4))
        self.weight = weight

    def forward(self, padded, lengths):
        small = ScaledGradient.apply(self.small, 1.0 + 0.5 * (len(lengths) > 1))
        return padded.sum(1) * (self.large + self.weight * small)


def test_a_small_gradient_that_is_wrong_is_still_found():
    for weight in (1.0, 1e-2, 1e-4):
        report = together_equals_alone(Scaled(weight), ragged(5, 3))
        assert report.gradients["large"] <= report.tolerance < report.gradients["small"]


def test_tied_frozen_and_unused_parameters():
    model = Reader(last_real_step)
    model.again, model.unused = model.head, nn.Linear(2, 2)
    model.head.bias.requires_grad_(False)
    report = together_equals_alone(model, ragged(5, 3))
    assert report and "head.bias" not in report.gradients
    assert not any(name.startswith("again") for name in report.gradients)
    assert report.gradients["unused.weight"] == 0
    assert together_equals_alone(model.requires_grad_(False), ragged(5, 3)).gradients == {}


def test_a_lazy_model_stays_lazy():
    class Lazy(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.LazyLinear(3)

        def forward(self, padded, lengths):
            return self.head(masked_mean(padded, lengths_to_keep_mask(lengths, padded.shape[1])))

    model = Lazy()
    report = together_equals_alone(model, ragged(5, 3))
    assert report and list(report.gradients) == ["head.weight", "head.bias"]
    assert not leak_map(model, ragged(5, 3)).any()
    assert model.head.has_uninitialized_params()


# --- no trace ---------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("look", [together_equals_alone, leak_map])
def test_nothing_is_left_changed(look, training, gradients):
    model = Norm(dropout=0.5).train(training)
    sequences = [one.requires_grad_(gradients) for one in ragged(5, 3, 7)]
    if gradients:
        model(*pad(sequences)).sum().backward()
    before = copy.deepcopy(model)  # its gradients are not copied
    old = [None if one.grad is None else one.grad.clone() for one in model.parameters()]
    inputs = [one.detach().clone() for one in sequences]
    grads = [None if one.grad is None else one.grad.clone() for one in sequences]
    random_state = torch.get_rng_state()
    look(model, sequences)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert same(before, model)
    assert all(torch.equal(*pair) for pair in zip(sequences, inputs, strict=True))
    assert all(one.requires_grad == gradients for one in sequences)
    for one, grad in zip([*model.parameters(), *sequences], [*old, *grads], strict=True):
        assert (one.grad is None) == (grad is None) == (not gradients)
        assert grad is None or torch.equal(one.grad, grad)


def test_no_run_sees_what_another_left():
    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, padded, lengths):
            self.calls += 1
            return filled(padded, lengths) + self.calls

    assert together_equals_alone(Counter(), ragged(3, 1))
    assert not leak_map(Counter(), ragged(3, 1)).any()


# --- the leak detector ------------------------------------------------------------------------

LENGTHS = [5, 3, 7]
PADDED = [True, True, False]
REAL = [[step < length for step in range(7)] for length in LENGTHS]


def outputs(layer):
    return lambda padded, lengths: layer(padded)[0]


def keep(padded, lengths):
    return lengths_to_keep_mask(lengths, padded.shape[1])[..., None]


def multiplied(padded, lengths):
    return (padded * keep(padded, lengths)).sum(1) / lengths[:, None]


def filled(padded, lengths):
    return padded.masked_fill(~keep(padded, lengths), 0).sum(1) / lengths[:, None]


def convolved(padded, lengths):
    weight = torch.ones(1, padded.shape[2], 3)
    return F.conv1d(padded.transpose(1, 2), weight, padding=1).transpose(1, 2)


@pytest.mark.parametrize(
    "model, value, reached",
    [
        (Reader(last_column), NAN, PADDED),
        (Reader(mean_over_T), NAN, PADDED),
        (Reader(mean_over_T), 1e30, PADDED),
        (Reader(last_real_step), NAN, [False] * 3),
        (Reader(last_real_step, bidirectional=True), 1e30, PADDED),
        (PackedLSTM(4, 8, 3), NAN, [False] * 3),
        (multiplied, NAN, PADDED),
        (multiplied, 1e30, [False] * 3),
        (multiplied, 0.0, [False] * 3),
        (filled, NAN, [False] * 3),
        (filled, 1e30, [False] * 3),
        (Norm().train(), NAN, [True] * 3),
        (Norm().eval(), NAN, [False] * 3),
        (sum_of_steps, 1e-3, PADDED),
        (sum_of_steps, 1e-8, [False] * 3),  # below the tolerance
    ],
)
def test_leaks_of_known_models(model, value, reached):
    found = leak_map(model, ragged(*LENGTHS), value=value)
    assert found.dtype == torch.bool and found.tolist() == reached


@pytest.mark.parametrize(
    "model, reached",
    [
        (outputs(nn.LSTM(4, 2, batch_first=True)), [[False] * 7] * 3),
        (
            outputs(nn.LSTM(4, 2, batch_first=True, bidirectional=True)),
            [[True] * 5 + [False] * 2, [True] * 3 + [False] * 4, [False] * 7],
        ),
        (lambda x, lengths: nn.BatchNorm1d(4)(x.transpose(1, 2)).transpose(1, 2), REAL),
        # A window of three reaches the padding from the last real step alone.
        (
            convolved,
            [[False] * 4 + [True] + [False] * 2, [False] * 2 + [True] + [False] * 4, [False] * 7],
        ),
        (lambda x, lengths: x, [[False] * 7] * 3),
        (lambda x, lengths: x.cumsum(1).sum(2), [[False] * 7] * 3),
    ],
    ids=["LSTM", "BiLSTM", "BatchNorm", "convolution", "identity", "one number a step"],
)
@pytest.mark.parametrize("value", [NAN, 1e30])
def test_leaks_per_step_of_known_models(model, value, reached):
    torch.manual_seed(0)
    found = leak_map(model, ragged(*LENGTHS), value=value, per_step=True)
    assert found.dtype == torch.bool and found.tolist() == reached


@few
@given(lengths_(), st.integers(0, 1000))
def test_leaks_of_random_batches(lengths, seed):
    torch.manual_seed(seed)
    sequences, longest = ragged(*lengths, seed=seed), max(lengths)
    bilstm = outputs(nn.LSTM(4, 2, batch_first=True, bidirectional=True))
    expected = [[step < n < longest for step in range(longest)] for n in lengths]
    assert leak_map(bilstm, sequences, per_step=True).tolist() == expected
    assert leak_map(sum_of_steps, sequences).tolist() == [n < longest for n in lengths]
    assert not leak_map(PackedLSTM(4, 2, 3), sequences).any()


def test_dropout_is_no_leak():
    torch.manual_seed(0)
    dropout = nn.Dropout(0.5)
    assert not leak_map(lambda x, lengths: dropout(x), ragged(*LENGTHS), per_step=True).any()


def test_leaks_of_ids():
    table, texts = randn(9, 4), [torch.tensor([3, 1, 2]), torch.tensor([5])]
    found = leak_map(lambda ids, lengths: table[ids].mean(1), texts, value=8)
    assert found.tolist() == [False, True]
    words = ["value is nan", "int64 cannot hold", "give an id"]
    refuses(ValueError, words, leak_map, sum_of_steps, texts)


def test_nan_and_infinity_of_the_model_itself_are_no_leak():
    assert not leak_map(lambda x, lengths: filled(x, lengths) * NAN, ragged(5, 3)).any()
    assert not leak_map(lambda x, lengths: filled(x, lengths) / 0, ragged(5, 3)).any()


# --- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize("look", [together_equals_alone, leak_map])
@pytest.mark.parametrize("sequences, error, words", bad_sequences())
def test_bad_sequences_are_refused(look, sequences, error, words):
    refuses(error, words, look, sum_of_steps, sequences)


@pytest.mark.parametrize("look", [together_equals_alone, leak_map])
@pytest.mark.parametrize(
    "model, per_step, error, words",
    [
        (lambda x, n: (x, n), False, ValueError, ["model gave tuple", "3 sequences", "is B"]),
        (lambda x, n: None, False, ValueError, ["model gave NoneType", "is B"]),
        (lambda x, n: x.sum(), False, ValueError, ["model gave ()", "3 sequences"]),
        (lambda x, n: x.transpose(0, 1), False, ValueError, ["(7, 3, 4)", "3 sequences"]),
        (lambda x, n: x.sum(1)[:2], False, ValueError, ["(2, 4)", "3 sequences"]),
        (lambda x, n: x.sum((1, 2)), True, ValueError, ["(3,)", "per_step=True", "at least 7"]),
        (lambda x, n: x[:, :6], True, ValueError, ["(3, 6, 4)", "(B, T, ...)", "at least 7"]),
        (lambda x, n: x.sum(1).argmax(1), False, TypeError, ["int64", "floating", "logits"]),
        (lambda x, n: x.sum(1) > 0, False, TypeError, ["bool", "floating point"]),
        (lambda x, n: x.sum(1) * 1j, False, TypeError, ["complex64", "floating point"]),
    ],
)
def test_wrong_outputs_are_refused(look, model, per_step, error, words):
    refuses(error, ["model", *words], look, model, ragged(*LENGTHS), per_step=per_step)


@pytest.mark.parametrize("loss", [lambda row, i: row, lambda row, i: 1.0, lambda row, i: None])
def test_wrong_losses_are_refused(loss):
    words = ["loss must return a tensor of one number", "mean()"]
    refuses(ValueError, words, together_equals_alone, sum_of_steps, ragged(2, 1), loss=loss)


def test_negative_extra_padding_is_refused():
    words = ["extra_padding is -1", "0 or more"]
    refuses(ValueError, words, together_equals_alone, sum_of_steps, ragged(2, 1), extra_padding=-1)


def test_an_error_leaves_the_random_state_alone():
    def model(padded, lengths):
        torch.rand(1)
        raise RuntimeError("of the model's own")

    random_state = torch.get_rng_state()
    for look in (together_equals_alone, leak_map):
        refuses(RuntimeError, ["of the model's own"], look, model, ragged(2, 1))
    assert torch.equal(torch.get_rng_state(), random_state)
