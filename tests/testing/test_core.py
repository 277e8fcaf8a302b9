"""The core leaves no trace, converts what it is given, and measures what rounding does."""

import collections
import dataclasses
import functools

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence

from course_utils.batches.masks import masked_mean
from course_utils.batches.padding import pad
from course_utils.models import PackedLSTM
from course_utils.testing import batch_invariance, together_equals_alone
from course_utils.testing.core import (
    Path,
    Rounding,
    Subject,
    convert,
    first_difference,
    gradient_differences,
    largest,
    one_number,
    percent,
    projection,
    recorded,
    relative_difference,
    tensors_in,
)
from tests.ragged import same
from tests.testing.test_invariance import SAMPLES, Mean, keep, of, right_mean

TRAINING, INFERENCE = Path(True, True), Path(False, False)


def test_differences_are_relative_and_never_vanish():
    one, inf, nan = torch.tensor([1.0, -2.0]), float("inf"), float("nan")
    assert relative_difference(one, one, 0.0) == 0
    assert relative_difference(one, one + 0.5, 2.0) == 0.25
    assert relative_difference(one, one + 0.5, 0.0) == 0.5
    assert relative_difference(one, one[:1], 1.0) == inf
    assert relative_difference(one[:0], one[:0], 1.0) == 0
    assert relative_difference(torch.tensor([nan, inf]), torch.tensor([nan, inf]), 1.0) == 0
    for other in (nan, -inf, 0.0):
        assert relative_difference(torch.tensor([inf]), torch.tensor([other]), 1.0) == inf
    assert largest([one, torch.tensor([nan, 7.0, inf]), one[:0]]) == 7 and largest([]) == 0


def test_small_gradients_are_compared_with_a_hundredth_of_the_largest():
    alone = {"large": torch.tensor([100.0]), "small": torch.tensor([1e-3])}
    together = {"large": torch.tensor([101.0]), "small": torch.tensor([2e-3])}
    sizes = {name: largest([one]) for name, one in alone.items()}
    found = gradient_differences(together, alone, sizes)
    assert found == pytest.approx({"large": 0.01, "small": 1e-3})
    assert gradient_differences({}, {}, {}) == {}


def test_the_mixture_depends_on_the_sample_and_the_shape_alone():
    row = torch.randn(3, 2)
    assert projection(row, 1) == projection(row, 1) != projection(row, 2)
    assert projection(row * 2, 1) == pytest.approx(2 * projection(row, 1).item())
    assert projection(row.double(), 0).dtype == torch.float64


@pytest.mark.parametrize(
    "difference, said",
    [(1.234, "by 123%"), (0.1, "by 10%"), (0.0987, "by 9.9%"), (1e-5, "by 0.001%"),
     (float("inf"), "entirely")],
)  # fmt: skip
def test_a_difference_is_said_in_two_digits(difference, said):
    assert percent(difference) == said


def test_a_loss_is_one_number():
    assert one_number(torch.ones(1, 1)).shape == ()
    for wrong in (torch.ones(2), 1.0, None):
        with pytest.raises(ValueError, match="tensor of one number"):
            one_number(wrong)


# --- batches ----------------------------------------------------------------------------------


@dataclasses.dataclass
class Data:
    x: torch.Tensor
    lengths: torch.Tensor
    name: str = "data"


class Bag:
    def __init__(self, x):
        self.x, self.name = x, "bag"


Named = collections.namedtuple("Named", "x lengths")


def test_batches_of_all_kinds_are_copied_and_converted():
    x, lengths, shares = torch.randn(2, 3), torch.tensor([3, 1]), torch.tensor([1.0, 0.3])
    for batch in (
        [x, lengths, shares], (x, lengths), Named(x, lengths), {"x": x, "lengths": lengths},
        collections.UserDict(x=x, lengths=lengths), Data(x, lengths), Bag(x), [[x], {"y": (x,)}],
    ):  # fmt: skip
        moved = convert(batch, torch.float64, 2)
        assert type(moved) is type(batch)
        before, after = tensors_in(batch), tensors_in(moved)
        assert len(before) == len(after) > 0
        for old, new in zip(before, after, strict=True):
            assert old.data_ptr() != new.data_ptr()
            changes = old.is_floating_point() and old.ndim > 1  # relative lengths stay
            assert new.dtype == (torch.float64 if changes else old.dtype)
        kept = [one.dtype for one in tensors_in(convert(batch, None, 2))]
        assert kept == [one.dtype for one in before]
    assert convert(Data(x, lengths), torch.float64, 2).name == "data"
    assert convert("text", torch.float64, 2) == "text" and convert(None, None, 2) is None
    assert convert(x + 1j, torch.float64, 2).dtype == torch.complex128
    layer = nn.Linear(2, 2)
    assert convert(layer, torch.float64, 2) is layer
    packed = pack_sequence([x[0], x[1, :1]])
    assert convert(packed, torch.float64, 2).data.dtype == torch.float64
    same_type = convert(packed, None, 2)
    assert same_type.data.dtype == torch.float32 and same_type.data is not packed.data
    assert tensors_in(packed)[0] is packed.data and tensors_in("text") == []


# --- no trace ---------------------------------------------------------------------------------


class Messy(nn.Module):
    """Keeps a cache, counts, and changes its own weights."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(9, 4, max_norm=0.5)
        self.head = nn.Linear(4, 2)
        self.cache, self.seen, self.last, self.table = {}, [], None, torch.ones(4)
        self.register_buffer("count", torch.zeros(()))

    def forward(self, ids, keep_mask):
        steps = self.embed(ids) * self.table
        self.cache[ids.shape[1]] = steps.dtype
        self.seen.append(len(ids))
        self.last, self.extra = steps, True
        self.count += 1
        return self.head(masked_mean(steps, keep_mask))


TEXTS = [torch.tensor(one) for one in ([3, 1, 2, 7], [5, 8], [4, 4, 1, 2, 6, 3], [2])]


def bags(texts):
    ids = nn.utils.rnn.pad_sequence(texts, batch_first=True)
    return [ids, ids != 0]


def test_nothing_of_a_messy_model_is_left_changed():
    model, texts = Messy(), [one.clone() for one in TEXTS]
    model.cache["own"], model.seen[:] = 1, [9]
    names, weights = set(vars(model)), [one.clone() for one in model.state_dict().values()]
    objects = [*model.parameters(), *model.buffers()]
    assert batch_invariance(model, texts, bags)
    assert set(vars(model)) == names and model.cache == {"own": 1} and model.seen == [9]
    assert model.last is None and model.table.dtype == torch.float32
    assert same(weights, list(model.state_dict().values())) and same(texts, TEXTS)
    assert all(
        a is b for a, b in zip(objects, [*model.parameters(), *model.buffers()], strict=True)
    )
    assert all(one.grad is None for one in model.parameters())


def test_a_model_that_clears_its_input_clears_a_copy():
    samples = [torch.ones(3, 2), torch.ones(3, 2) * 2]
    report = batch_invariance(
        lambda x: x.sum(1) + 0 * x.zero_().sum(1), samples, lambda some: torch.stack(some)
    )
    assert not report.padded and [one.sum().item() for one in samples] == [6, 12]


def test_a_model_that_fails_is_left_as_it_was_too():
    class Fails(Messy):
        def forward(self, ids, keep_mask):
            super().forward(ids, keep_mask)
            raise RuntimeError("of the model's own")

    model = Fails().eval()
    with pytest.raises(RuntimeError, match="own"):
        batch_invariance(model, TEXTS, bags)
    assert model.seen == [] and model.count == 0 and not model.training


def test_modules_are_found_in_whatever_holds_them():
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    hidden = [nn.Linear(4, 2)]  # a list hides it from its owner

    class Owner(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, padded, lengths):
            return hidden[0](right_mean(self.inner(padded), lengths))

        def other(self, padded, lengths, scale=1):
            return scale * self(padded, lengths)

    owner = Owner()
    both = lambda x, n: second(first(right_mean(x, n)))  # noqa: E731
    for model, expected in [
        (both, ["second.bias", "second.weight", "first.bias", "first.weight"]),
        (owner, ["inner.weight", "inner.bias", "Linear.weight", "Linear.bias"]),
        (owner.other, ["inner.weight", "inner.bias", "Linear.weight", "Linear.bias"]),
        (functools.partial(owner.other, scale=3), ["inner.weight", "inner.bias", "Linear.weight"]),
        (lambda x, n: [nn.Identity(), hidden[0]][1](hidden[0].weight.new_ones(len(n), 4)), []),
    ]:
        report = batch_invariance(model, SAMPLES, pad, paths=["training", "evaluation"])
        assert report, report
        assert set(expected) <= set(of(report, "gradients").differences)
    two = lambda x, n: [nn.Linear, hidden[0], nn.Linear][1](first(right_mean(x, n)))  # noqa: E731
    names = set(of(batch_invariance(two, SAMPLES, pad), "gradients").differences)
    assert names == {"first.weight", "first.bias", "Linear.weight", "Linear.bias"}
    twins = [nn.Linear(4, 4), nn.Linear(4, 4)]
    chain = lambda x, n: twins[1](twins[0](right_mean(x, n)))  # noqa: E731
    names = set(of(batch_invariance(chain, SAMPLES, pad), "gradients").differences)
    assert names == {"Linear.weight", "Linear.bias", "Linear'.weight", "Linear'.bias"}


def test_frozen_submodules_stay_in_their_mode_in_training():
    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.head = nn.BatchNorm1d(4), nn.Linear(4, 2)

        def forward(self, padded, lengths):
            return self.head(right_mean(self.norm(padded.mT).mT, lengths))

    model = Frozen().train()
    model.norm.eval()
    assert batch_invariance(model, SAMPLES, pad, perturb=True)
    model.norm.train()
    assert not batch_invariance(model, SAMPLES, pad)


def test_what_counts_as_a_dropout():
    from course_utils.testing.core import _is_dropout

    linear, drop = nn.Linear(2, 2), nn.Dropout(0.5)
    for module, name, value in [
        (drop, "p", 0.5), (linear, "dropout", 0.1), (linear, "attention_drop", 1),
        (linear, "drop_path", 0.2), (linear, "layerdrop", 1.0),
    ]:  # fmt: skip
        assert _is_dropout(module, name, value)
    for module, name, value in [
        (linear, "p", 0.5), (drop, "p", 0.0), (drop, "inplace", True), (linear, "drop_last", True),
        (linear, "dropped", 3), (linear, "dropout", "0.1"), (linear, "dropout", None),
        (linear, "dropout", -0.1), (linear, "dropout", 1.5), (linear, "eps", 0.1),
    ]:  # fmt: skip
        assert not _is_dropout(module, name, value)


def test_a_tied_or_frozen_parameter_is_compared_once_or_not_at_all():
    model = Mean()
    model.again = model.head
    model.head.bias.requires_grad_(False)
    found = of(batch_invariance(model, SAMPLES, pad), "gradients").differences
    assert set(found) == {"head.weight"}
    frozen = batch_invariance(model.requires_grad_(False), SAMPLES, pad)
    assert of(frozen, "gradients").why == "no parameter has a gradient" and frozen


# --- rounding and location --------------------------------------------------------------------


def test_the_tolerance_follows_the_measured_rounding():
    assert Rounding(1e-16, torch.float64).tolerance(in_float64=True) == 1e-9
    assert Rounding(3e-9, torch.float64).tolerance(in_float64=True) == pytest.approx(1.2e-8)
    # A part in float32 rounds like float32, however little the moved runs showed.
    assert Rounding(3e-8, torch.float32).tolerance(in_float64=True) == pytest.approx(8 * 2**-23)
    assert Rounding(1e-6, torch.float32).tolerance(in_float64=True) == pytest.approx(4e-6)
    assert Rounding(0.5, torch.float32).tolerance(in_float64=True) == 1e-5
    assert Rounding(1e-9, torch.float32).tolerance(in_float64=False) == 1e-5
    assert Rounding(1e-2, torch.bfloat16).tolerance(in_float64=False) == pytest.approx(4e-2)
    assert Rounding(1e-4, torch.bfloat16).tolerance(in_float64=False) == 1.6e-2
    assert Rounding(float("inf"), torch.float16).tolerance(in_float64=False) == 1e-3


@pytest.mark.parametrize(
    "dtype, low, high",
    [(torch.float64, 1e-17, 1e-14), (torch.float32, 1e-8, 1e-5), (torch.bfloat16, 5e-4, 0.2)],
)
def test_rounding_is_measured_in_the_precision_that_runs(dtype, low, high):
    torch.manual_seed(0)
    model = PackedLSTM(4, 8, 3).to(dtype)
    samples = [one.to(dtype) for one in SAMPLES]
    subject = Subject(model, lambda own: own(*pad(samples)))
    subject.prepare(None)
    from course_utils.testing.core import Runs, rows_of

    def run(own, batch, count):
        return rows_of(own(*batch), count)

    runs = Runs(subject, lambda some: pad([samples[i] for i in some]), run, projection, TRAINING)
    rounding = runs.rounding(range(4), runs.rows(range(4)))
    assert rounding.coarsest == dtype and low < rounding.size < high


def test_the_verdict_tells_the_bit_from_rounding():
    exact = batch_invariance(lambda x, n: x[:, 0], SAMPLES, pad)
    assert exact.verdict == "equal to the bit" and "equal to the bit" in str(exact)

    class Rounded(Mean):
        def forward(self, padded, lengths):
            return super().forward(padded, lengths) * (1 + 1e-13 * len(lengths))

    report = batch_invariance(Rounded(), SAMPLES, pad)
    assert report.verdict == "equal up to rounding" and 0 < of(report, "alone").size < 1e-11


def test_a_question_without_differences_has_the_size_0():
    report = batch_invariance(nn.Identity(), SAMPLES, pad, run=lambda m, b: right_mean(*b))
    assert of(report, "gradients").state == "not asked" and of(report, "gradients").size == 0


def test_fresh_parameters_are_noted_and_others_are_not():
    said = "perturb=True"
    model = Mean()
    assert not any(said in note for note in batch_invariance(model, SAMPLES, pad).notes)
    nn.init.zeros_(model.head.bias)
    assert any(said in note for note in batch_invariance(model, SAMPLES, pad).notes)
    perturbed = batch_invariance(model, SAMPLES, pad, perturb=True)
    assert not any(said in note for note in perturbed.notes)


class Three(nn.Module):
    """Three layers, the second of which may look at the padding; the last state is not used."""

    def __init__(self, wrong):
        super().__init__()
        self.first, self.second, self.third = nn.Linear(4, 4), nn.Conv1d(4, 4, 3, padding=1), None
        self.third, self.wrong = nn.LSTM(4, 4, batch_first=True), wrong

    def forward(self, padded, lengths):
        steps = self.first(padded)
        if not self.wrong:
            steps = steps * keep(padded, lengths)[..., None]
        steps = self.second(steps.mT).mT * keep(padded, lengths)[..., None]
        return right_mean(self.third(steps)[0], lengths)


def test_the_first_layer_that_differs_is_named_by_its_name():
    report = batch_invariance(Three(True), SAMPLES, pad)
    assert report.first_layer.startswith("second (training, sample ")
    assert "first difference at a real step: second (training" in str(report)
    right = batch_invariance(Three(False), SAMPLES, pad)
    assert right and right.first_layer == ""


def test_outputs_are_compared_at_the_real_steps_on_either_side_and_in_either_layout():
    alone = torch.randn(1, 3, 2)
    zeros, names = torch.zeros(1, 2, 2), "layer"
    for wide in (torch.cat([alone, zeros], 1), torch.cat([zeros, alone], 1)):
        together = torch.cat([torch.randn(1, 5, 2), wide])
        for one, other in [(together, alone), (together.transpose(0, 1), alone.transpose(0, 1))]:
            assert first_difference([(names, [one])], [(names, [other])], 1, 1e-6) is None
            assert first_difference([(names, [one])], [(names, [other])], 0, 1e-6) == names
    # What cannot be laid side by side says nothing: another number of dimensions, or whole numbers.
    for odd in (torch.ones(2), torch.ones(1, 3, 2).long(), torch.ones(1, 0, 2)):
        assert first_difference([(names, [together])], [(names, [odd])], 0, 1e-6) is None


def test_what_goes_into_a_module_and_what_is_read_of_its_output_is_recorded():
    lstm = nn.LSTM(4, 3, batch_first=True)
    subject = Subject(lstm, lambda own: own(SAMPLES[0][None]))
    with recorded(subject.module_names) as calls:
        output, (h_n, _) = lstm(SAMPLES[0][None])
        output.sum()
    assert [name for name, _ in calls] == ["the input of LSTM", "LSTM"]
    assert [tuple(one.shape) for one in calls[1][1]] == [(1, 6, 3)]
    with recorded(subject.module_names) as calls:
        h_n = lstm(SAMPLES[0][None])[1][0] * 1
    assert [tuple(one.shape) for one in calls[1][1]] == [(1, 1, 3)] and h_n.shape == (1, 1, 3)


def test_evaluation_counts_the_worse_of_with_and_without_gradients():
    class Fast(Mean):
        def forward(self, padded, lengths):
            extra = 0 if torch.is_grad_enabled() or len(lengths) == 1 else 0.5
            return super().forward(padded, lengths) + extra

    model = Fast()
    assert together_equals_alone(model.train(), SAMPLES)
    report = together_equals_alone(model.eval(), SAMPLES)
    assert not report and min(report.outputs) > 0 and report.loss <= report.tolerance
