"""Training learns, repeats itself for a seed, and leaves the machine as it was."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from course_utils.batches.masks import last_real_step, lengths_to_keep_mask, masked_mean
from course_utils.models import PackedLSTM, PaddedLSTM
from course_utils.training import (
    accuracy,
    fit,
    fit_each,
    fit_seeds,
    four_losses,
    masked_cross_entropy,
)
from tests.batches.test_masks import keep_masks
from tests.ragged import (
    JUNK,
    bad_sequences,
    calm,  # noqa: F401
    close,
    few,
    ragged,
    randn,
    refuses,
)

# Two classes, told apart by the sign of every step.
LABELS = torch.arange(10) % 2
SEQUENCES = [
    one.abs() * (1 if label else -1)
    for one, label in zip(ragged(*range(1, 11), features=2), LABELS, strict=True)
]


class Mean(nn.Module):
    """A linear classifier of the mean, with dropout that shows the mode it runs in."""

    def __init__(self, p=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.head, self.dropout, self.modes = nn.Linear(2, 2), nn.Dropout(p), set()

    def forward(self, padded, lengths):
        self.modes.add(self.training)
        mean = masked_mean(padded, lengths_to_keep_mask(lengths, padded.shape[1]))
        return self.head(self.dropout(mean))


@pytest.mark.parametrize("make", [lambda: PackedLSTM(2, 8, 2), Mean], ids=["LSTM", "mean"])
def test_fit_learns(make):
    torch.manual_seed(0)
    model = make().eval()
    history = fit(model, SEQUENCES, LABELS, epochs=15, batch_size=4, learning_rate=0.05)
    assert len(history) == 15 and history[-1] < history[0] / 2
    assert accuracy(model, SEQUENCES, LABELS) == 1
    assert not model.training


def test_fit_trains_in_training_mode_whatever_the_mode_before():
    model = Mean().eval()
    fit(model, SEQUENCES, LABELS, epochs=1)
    assert model.modes == {True} and not model.training


def weights_after(**options):
    model = Mean()
    history = fit(model, SEQUENCES, LABELS, epochs=3, batch_size=3, **options)
    return history, model.head.weight.detach()


def test_fit_repeats_itself_for_a_seed():
    once, again, other = weights_after(), weights_after(seed=0), weights_after(seed=1)
    assert once[0] == again[0] and torch.equal(once[1], again[1])
    assert once[0] != other[0] and not torch.equal(once[1], other[1])


def test_fit_is_adam_on_the_gradient_of_each_batch():
    model, by_hand = Mean(), Mean()
    fit(model, SEQUENCES[:1], LABELS[:1], epochs=4, learning_rate=0.1)
    optimizer = torch.optim.Adam(by_hand.parameters(), lr=0.1)
    for _ in range(4):
        optimizer.zero_grad()
        F.cross_entropy(by_hand(SEQUENCES[0][None], torch.tensor([1])), LABELS[:1]).backward()
        optimizer.step()
    torch.testing.assert_close(model.head.weight, by_hand.head.weight)


def test_fit_draws_no_random_number_of_the_callers():
    model = Mean()
    random_state = torch.get_rng_state()
    fit(model, SEQUENCES, LABELS, epochs=2)
    assert torch.equal(torch.get_rng_state(), random_state)


def test_history_weighs_each_sequence_alike():
    # Ten sequences in batches of four: the last is smaller. A step of 0 changes nothing.
    model, alone = Mean(), 0.0
    for one, label in zip(SEQUENCES, LABELS, strict=True):
        alone += F.cross_entropy(model(one[None], torch.tensor([len(one)])), label[None]).item()
    history = fit(model, SEQUENCES, LABELS, epochs=2, batch_size=4, learning_rate=0.0)
    assert history == pytest.approx([alone / 10] * 2)


def test_each_epoch_shows_every_sequence_once_with_its_label():
    seen = []

    class Spy(Mean):
        def forward(self, padded, lengths):
            self.lengths = lengths
            return super().forward(padded, lengths)

    model = Spy()

    def loss(output, labels):
        seen.append(list(zip(model.lengths.tolist(), labels.tolist(), strict=True)))
        return F.cross_entropy(output, labels)

    fit(model, SEQUENCES, LABELS, epochs=2, batch_size=4, loss=loss)
    assert [len(batch) for batch in seen] == [4, 4, 2] * 2
    epochs = [[*a, *b, *c] for a, b, c in (seen[:3], seen[3:])]
    assert epochs[0] != epochs[1]
    # The lengths are 1 to 10, so each names its sequence.
    assert [sorted(epoch) for epoch in epochs] == [[(n + 1, n % 2) for n in range(10)]] * 2


def test_on_epoch_is_given_the_losses_so_far_after_each_epoch():
    model, seen, weights = Mean(), [], []

    def on_epoch(losses):
        seen.append(list(losses))
        weights.append(model.head.weight.detach().clone())

    history = fit(model, SEQUENCES, LABELS, epochs=3, batch_size=4, on_epoch=on_epoch)
    assert seen == [history[:1], history[:2], history] and len(history) == 3
    assert torch.equal(weights[-1], model.head.weight), "after the last step of its epoch"
    plain = Mean()
    assert fit(plain, SEQUENCES, LABELS, epochs=3, batch_size=4) == history
    assert torch.equal(plain.head.weight, model.head.weight)


def test_an_error_in_on_epoch_ends_the_training():
    with pytest.raises(ZeroDivisionError):
        fit(Mean(), SEQUENCES, LABELS, epochs=3, on_epoch=lambda losses: 1 / (2 - len(losses)))


def test_fit_prints_its_bar_on_stdout_without_times(capsys):
    fit(Mean(), SEQUENCES, LABELS, epochs=2)
    out, err = capsys.readouterr()
    assert err == ""
    assert out.rstrip("\n").split("\r")[-1] == f"training {'#' * 30} 2 of 2 epochs"


def test_fit_seeds_is_fit_from_each_seed_under_one_bar(capsys):
    def make():
        return PaddedLSTM(2, 4, 3, lambda output, lengths: output[:, 0])

    sequences = [torch.ones(n, 2) for n in (3, 1, 2, 2)]
    labels = torch.tensor([0, 1, 2, 1])
    models = fit_seeds(make, sequences, labels, seeds=[4, 7], epochs=2, batch_size=2)
    out = capsys.readouterr().out
    assert out.rstrip("\n").split("\r")[-1] == f"training {'#' * 30} 2 of 2 seeds"
    assert "epochs" not in out
    for seed, model in zip([4, 7], models, strict=True):
        torch.manual_seed(seed)
        alone = make()
        fit(alone, sequences, labels, epochs=2, batch_size=2, seed=seed)
        for one, other in zip(model.parameters(), alone.parameters(), strict=True):
            assert torch.equal(one, other)
    assert not torch.equal(*(model.head.weight for model in models))


def test_fit_seeds_refuses_no_seed():
    with pytest.raises(ValueError, match=r"seeds is empty.*seeds=\[0\]"):
        fit_seeds(Mean, SEQUENCES, LABELS, seeds=[])


@pytest.mark.parametrize("fails", [False, True])
def test_fit_uses_one_thread_and_gives_the_others_back(fails):
    before, seen = torch.get_num_threads(), []

    def loss(output, labels):
        seen.append(torch.get_num_threads())
        return F.cross_entropy(output, labels) / (0 if not fails else 1 // 0)

    torch.set_num_threads(2)
    try:
        if fails:
            with pytest.raises(ZeroDivisionError):
                fit(Mean(), SEQUENCES, LABELS, epochs=1, loss=loss)
        else:
            fit(Mean(), SEQUENCES, LABELS, epochs=1, loss=loss)
        assert seen == [1] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def guess(rows):
    return lambda padded, lengths: torch.tensor(rows)


@pytest.mark.parametrize(
    "rows, expected",
    [
        ([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [2.0, 1.0]], 1.0),
        ([[1.0, 0.0], [0.0, 1.0], [3.0, 1.0], [2.0, 1.0]], 0.75),
        ([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [1.0, 2.0]], 0.0),
    ],
)
def test_accuracy_by_hand(rows, expected):
    found = accuracy(guess(rows), ragged(3, 1, 2, 2), torch.tensor([0, 1, 1, 0]))
    assert found == expected and type(found) is float


def test_accuracy_pads_as_far_as_it_is_told_and_takes_no_gradients():
    seen = []

    def model(padded, lengths):
        seen.append((tuple(padded.shape), lengths.tolist(), torch.is_grad_enabled()))
        assert padded[1, 1:].eq(0).all()
        return padded.sum(1)

    for extra_padding in (0, 5):
        accuracy(model, ragged(3, 1), torch.tensor([0, 1]), extra_padding=extra_padding)
    assert seen == [((2, 3, 4), [3, 1], False), ((2, 8, 4), [3, 1], False)]
    assert torch.is_grad_enabled()


def test_accuracy_leaves_the_mode_alone():
    for training in (True, False):
        model = Mean().train(training)
        accuracy(model, SEQUENCES, LABELS)
        assert model.training == training and model.modes == {training}


@pytest.mark.parametrize("function", [fit, accuracy])
@pytest.mark.parametrize("sequences, error, words", bad_sequences())
def test_bad_sequences_are_refused(function, sequences, error, words):
    refuses(error, words, function, PaddedLSTM(4, 2, 2, last_real_step), sequences, LABELS[:3])


@pytest.mark.parametrize("function", [fit, accuracy])
@pytest.mark.parametrize(
    "labels, error, words",
    [
        (LABELS[:9], ValueError, ["labels", "(9,)", "10 sequences", "(10,)"]),
        (LABELS[:0], ValueError, ["labels", "(0,)", "10 sequences"]),
        (LABELS[:, None], ValueError, ["labels", "(10, 1)", "(10,)"]),
        (LABELS[0], ValueError, ["labels", "()", "(10,)"]),
        (LABELS.float(), TypeError, ["labels", "integers", ".long()"]),
        (LABELS.tolist(), TypeError, ["labels", "tensor", "torch.tensor(labels)"]),
        (None, TypeError, ["labels", "tensor"]),
    ],
)
def test_bad_labels_are_refused(function, labels, error, words):
    refuses(error, words, function, Mean(), SEQUENCES, labels)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"epochs": 0}, ["epochs (0)", "at least 1"]),
        ({"epochs": -1}, ["epochs (-1)", "at least 1"]),
        ({"batch_size": 0}, ["batch_size (0)", "at least 1"]),
    ],
)
def test_fit_refuses(options, words, capsys):
    refuses(ValueError, words, fit, Mean(), SEQUENCES, LABELS, **options)
    assert capsys.readouterr().out == ""


def test_accuracy_refuses_negative_padding_and_outputs_that_are_no_logits():
    words = ["extra_padding is -1", "0 or more"]
    refuses(ValueError, words, accuracy, Mean(), SEQUENCES, LABELS, extra_padding=-1)
    for model, shape in [
        (lambda padded, lengths: padded, "(10, 10, 2)"),
        (lambda padded, lengths: padded.sum((1, 2)), "(10,)"),
        (lambda padded, lengths: padded.sum(1)[:9], "(9, 2)"),
    ]:
        words = ["model gave shape", shape, "10 sequences", "(N, C)"]
        refuses(ValueError, words, accuracy, model, SEQUENCES, LABELS)


def test_a_loss_of_nan_is_shown_not_hidden():
    history = fit(Mean(), SEQUENCES, LABELS, epochs=1, loss=lambda o, y: o.sum() * float("nan"))
    assert math.isnan(history[0])


def tagged(keep_mask, seed=0, classes=3):
    """Logits (B, T, C) that take gradients, and targets (B, T)."""
    logits = randn(*keep_mask.shape, classes, seed=seed, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    return logits, torch.randint(classes, keep_mask.shape, generator=generator)


def losses_by_loop(logits, targets, keep_mask):
    """The four losses, from one cross-entropy a step and Python's sums."""
    every = [
        [-step.log_softmax(0)[target] for step, target in zip(*pair, strict=True)]
        for pair in zip(logits, targets, strict=True)
    ]
    rows = [
        [one for one, keep in zip(*pair, strict=True) if keep]
        for pair in zip(every, keep_mask, strict=True)
    ]
    real, cells = sum(map(len, rows)), keep_mask.numel()
    total = sum(sum(row) for row in rows)
    own = [sum(row) / len(row) if row else math.nan for row in rows]
    return {
        "unmasked": sum(sum(row) for row in every) / cells,
        "masked, over B x T": total / cells,
        "over real steps": total / real if real else math.nan,
        "per sequence": sum(own) / len(own),
    }


@few
@given(keep_masks(fewest=0), st.integers(0, 1000))
def test_four_losses_and_their_gradients_are_what_loops_give(keep_mask, seed):
    logits, targets = tagged(keep_mask, seed)
    logits.requires_grad_()
    found = four_losses(logits, targets, keep_mask)
    by_loop = losses_by_loop(logits, targets, keep_mask)
    assert list(found) == list(by_loop)
    for name, loss in found.items():
        expected = by_loop[name] + 0 * logits.sum()  # a tensor, where no step is real too
        close(loss, expected)
        if not expected.isnan():
            one, other = (
                torch.autograd.grad(value, logits, retain_graph=True)[0]
                for value in (loss, expected)
            )
            close(one, other)


@few
@given(keep_masks(fewest=0), st.sampled_from(JUNK), st.sampled_from([0, 99, -1, -100]))
def test_masked_cross_entropy_hears_of_real_steps_alone(keep_mask, junk, other):
    keep_mask[0, 0] = True
    clean, targets = tagged(keep_mask)
    clean.requires_grad_()
    expected = losses_by_loop(clean, targets, keep_mask)["over real steps"]
    logits = clean.detach().masked_fill(~keep_mask[..., None], junk).requires_grad_()
    loss = masked_cross_entropy(logits, targets.masked_fill(~keep_mask, other), keep_mask)
    close(loss, expected)
    (gradient,) = torch.autograd.grad(loss, logits)
    close(gradient, torch.autograd.grad(expected, clean)[0])
    assert (gradient[~keep_mask] == 0).all()


@pytest.mark.parametrize("junk", JUNK)
def test_masked_cross_entropy_of_nothing_is_0_and_so_are_its_gradients(junk):
    logits = torch.full((2, 3, 4), junk, requires_grad=True)
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    loss = masked_cross_entropy(logits, torch.full((2, 3), 99), nothing)
    loss.backward()
    assert loss.item() == 0 and (logits.grad == 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_masked_cross_entropy_of_a_long_batch_in_half_precision(dtype):
    # 90,000 losses of 3 add up to more than float16 can hold.
    logits = torch.tensor([3.0, -3.0]).to(dtype).repeat(30, 3000, 1).requires_grad_()
    targets = torch.ones(30, 3000, dtype=torch.int64)
    loss = masked_cross_entropy(logits, targets, torch.ones(30, 3000, dtype=torch.bool))
    loss.backward()
    assert loss.dtype == logits.grad.dtype == dtype
    assert abs(loss.item() - 6.0025) < 0.05 and logits.grad.isfinite().all()


@few
@given(keep_masks())
def test_each_step_or_each_sequence_weighs_alike(keep_mask):
    # A pull at the logit of the target is p - 1 times the weight of its step in the loss.
    logits = torch.zeros(*keep_mask.shape, 2, dtype=torch.float64, requires_grad=True)
    targets = torch.zeros(keep_mask.shape, dtype=torch.int64)
    losses = four_losses(logits, targets, keep_mask)
    weights = {
        name: torch.autograd.grad(loss, logits, retain_graph=True)[0][..., 0] / -0.5
        for name, loss in losses.items()
    }
    close(masked_cross_entropy(logits, targets, keep_mask), losses["over real steps"])
    real = keep_mask.sum(1).double()
    close(weights["over real steps"].sum(1), real / real.sum())
    close(weights["per sequence"].sum(1), torch.full_like(real, 1 / len(real)))
    close(weights["unmasked"], torch.full_like(weights["unmasked"], 1 / keep_mask.numel()))
    assert all((one[~keep_mask] == 0).all() for name, one in weights.items() if name != "unmasked")


FITS = (torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.int64), torch.ones(2, 3).bool())


@pytest.mark.parametrize(
    "at, wrong, error, words",
    [
        (0, torch.zeros(2, 4, 3), ValueError, ["logits (2, 4, 3)", "(B, T, C)"]),
        (0, torch.zeros(6, 4), ValueError, ["logits (6, 4)", "targets (2, 3)"]),
        (0, torch.zeros(1, 3, 4), ValueError, ["logits (1, 3, 4)", "keep_mask (2, 3)"]),
        (1, FITS[1][:, :2], ValueError, ["targets (2, 2)", "keep_mask (2, 3)"]),
        (1, FITS[1].flatten(), ValueError, ["targets (6,)"]),
        (2, FITS[2][:, :1], ValueError, ["keep_mask (2, 1)"]),
        (2, FITS[2][0], ValueError, ["keep_mask", "(3,)", "(B, T)"]),
        (2, FITS[2].long(), TypeError, ["keep_mask", "int64", "keep_mask == 1"]),
        (2, None, TypeError, ["keep_mask", "NoneType"]),
    ],
)
def test_masked_cross_entropy_refuses(at, wrong, error, words):
    arguments = [*FITS]
    arguments[at] = wrong
    refuses(error, words, masked_cross_entropy, *arguments)


def test_fit_each_trains_all_models_from_all_seeds_under_one_bar(capsys):
    sequences = [torch.ones(n, 2) for n in (3, 1, 2, 2)]
    labels = torch.tensor([0, 1, 2, 1])
    makes = {
        "first": lambda: PaddedLSTM(2, 4, 3, lambda output, lengths: output[:, 0]),
        "mean": lambda: PaddedLSTM(2, 4, 3, lambda output, lengths: output.mean(1)),
    }
    models = fit_each(makes, sequences, labels, seeds=[4, 7], epochs=2, batch_size=2)
    assert capsys.readouterr().out.rstrip("\n").split("\r")[-1].endswith("4 of 4 models")
    alone = fit_seeds(makes["mean"], sequences, labels, seeds=[4, 7], epochs=2, batch_size=2)
    for one, other in zip(models["mean"], alone, strict=True):
        assert torch.equal(one.head.weight, other.head.weight)
    with pytest.raises(ValueError, match="makes is empty"):
        fit_each({}, sequences, labels)
