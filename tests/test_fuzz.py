"""Every public function on random ragged batches: a new one must be entered here, or excused."""

import copy
import functools
import importlib
import pkgutil
import re
import xml.etree.ElementTree as ET

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import course_utils
from course_utils import data, exercises, models, testing, tracing, training
from course_utils.batches import checks, layers, masks, packed, padding, rows, sampling
from course_utils.panels import flat as flat_panels
from course_utils.panels import masks as mask_panels
from course_utils.panels import packed as packed_panels
from course_utils.panels import padding as padding_panels
from course_utils.panels import panel as panels
from course_utils.panels import policy as policy_panels
from course_utils.panels import rows as row_panels
from course_utils.panels import trace as trace_panels
from course_utils.pictures import charts, svg
from course_utils.pictures import flat as flat_pictures
from course_utils.pictures import masks as mask_pictures
from course_utils.pictures import packed as packed_pictures
from course_utils.pictures import policy as policy_pictures
from course_utils.pictures import report as report_pictures
from course_utils.pictures import rows as row_pictures
from course_utils.pictures import trace as trace_pictures
from course_utils.testing import measure
from tests.ragged import (
    batches,
    calm,  # noqa: F401
    close,
    few,
)

fewer = settings(few, max_examples=12)


@functools.cache
def _net(dtype, make, *sizes):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make(*sizes).to(dtype)


def net(b, make, *sizes):
    """A fresh module with the same weights each time, in the dtype of the batch."""
    return copy.deepcopy(_net(b.x.dtype, make, *sizes))


def pool(b):
    return net(b, layers.AttentionPool, b.x.shape[2])


def labels(b):
    return torch.arange(len(b.lengths)) % 2


def filled(b):
    return rows.fill_rows(b.sequences, rows.first_fit(b.lengths, b.x.shape[1]), b.x.shape[1])


def causal(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def logits(b):
    return torch.cat([b.x, -b.x], dim=2)


def conv(b):
    out, after = net(b, layers.MaskedConv1d, b.x.shape[2], 4, 3, 2, 1)(b.x, b.lengths)
    return out * 1, after


def norm(b):
    layer = net(b, layers.MaskedBatchNorm1d, b.x.shape[2])
    return layer.train(int(b.keep.sum()) > 1)(b.x, b.keep)


def fitted(b):
    model = net(b, models.PaddedLSTM, b.x.shape[2], 4, 2, masks.last_real_step)
    return training.fit(model, b.sequences, labels(b), epochs=1)


def report(b):
    samples = b.sequences * (2 if len(b.sequences) == 1 else 1)
    adapter = testing.padded_batch()  # of one step and one feature, time is not sure
    return bool(testing.batch_invariance(pool(b), samples[:5], padding.pad, adapter=adapter))


# What a call gives: the axes of each tensor in turn and its dtype, where x stands for that of b.x.
N, X, M = torch.int64, "x", torch.bool
CALLS = {
    "checks.check_lengths": (lambda b: checks.check_lengths(b.lengths, b.x.shape[1]), []),
    "checks.lengths_tensor": (lambda b: checks.lengths_tensor(b.lengths.tolist()), [("B", N)]),
    "checks.check_same_count": (lambda b: checks.check_same_count(b.lengths, len(b.x)), []),
    "checks.check_mask": (lambda b: checks.check_mask(b.keep), []),
    "checks.check_whole": (lambda b: checks.check_whole("n", b.number, 0), []),
    "padding.check_sequences": (lambda b: padding.check_sequences(b.sequences), []),
    "padding.check_padding_value": (lambda b: padding.check_padding_value(-1.5, b.x.dtype), []),
    "padding.pad": (lambda b: padding.pad(b.sequences, total_length=b.x.shape[1]),
        [("BTD", X), ("B", N)]),
    "padding.collate": (
        lambda b: padding.collate(list(zip(b.sequences, labels(b), strict=True))),
        [("BLD", X), ("B", N), ("B", N)]),
    "padding.fill": (lambda b: padding.fill(b.lengths, b.x.shape[1]), []),
    "masks.lengths_to_keep_mask": (lambda b: masks.lengths_to_keep_mask(b.lengths), [("BL", M)]),
    "masks.keep_mask_to_lengths": (lambda b: masks.keep_mask_to_lengths(b.keep), [("B", N)]),
    "masks.to_key_padding_mask": (lambda b: masks.to_key_padding_mask(b.keep), [("BT", M)]),
    "masks.from_key_padding_mask": (lambda b: masks.from_key_padding_mask(~b.keep), [("BT", M)]),
    "masks.to_sdpa_mask": (lambda b: masks.to_sdpa_mask(b.keep), [("B11T", M)]),
    "masks.to_additive_mask": (lambda b: masks.to_additive_mask(b.keep, b.x.dtype).exp(),
        [("BT", X)]),
    "masks.to_attention_mask": (lambda b: masks.to_attention_mask(b.keep), [("BT", N)]),
    "masks.from_attention_mask": (lambda b: masks.from_attention_mask(b.keep.long()),
        [("BT", M)]),
    "masks.masked_mean": (lambda b: masks.masked_mean(b.x, b.keep), [("BD", X)]),
    "masks.masked_max": (lambda b: masks.masked_max(b.x, b.keep), [("BD", X)]),
    "masks.last_real_step": (lambda b: masks.last_real_step(b.x, b.lengths), [("BD", X)]),
    "data.spread_lengths": (lambda b: data.spread_lengths(b.lengths, b.number, 4), [("4", N)]),
    "sampling.BucketBatchSampler": (lambda b: list(sampling.BucketBatchSampler(b.lengths, 3)), []),
    "sampling.TokenBudgetBatchSampler": (
        lambda b: list(sampling.TokenBudgetBatchSampler(b.lengths, 64 + b.number)), []),
    "sampling.describe_epoch": (
        lambda b: sampling.describe_epoch(sampling.BucketBatchSampler(b.lengths, 3)), []),
    "rows.first_fit": (lambda b: rows.first_fit(b.lengths, b.x.shape[1]), []),
    "rows.best_fit_decreasing": (lambda b: rows.best_fit_decreasing(b.lengths, 64), []),
    "rows.pack_histogram": (lambda b: rows.pack_histogram(b.lengths.bincount(), 64), []),
    "rows.histogram_packing": (lambda b: rows.histogram_packing(b.lengths.tolist(), 64), []),
    "rows.fill_rows": (filled, [("RTD", X), ("RT", N), ("RT", N)]),
    "rows.document_mask": (lambda b: rows.document_mask(filled(b).document_id), [("R1TT", M)]),
    "rows.next_step_targets": (lambda b: rows.next_step_targets(b.ids, b.keep.long() - 1),
        [("BT", N)]),
    "packed.pack": (lambda b: packed.pack(b.x, b.lengths, padding_value=None),
        [("ND", X), ("L", N), ("B", N), ("B", N)]),
    "packed.layout": (lambda b: packed.layout(b.lengths),
        [("N2", N), ("L", N), ("B", N), ("B", N), ("BL", N)]),
    "testing.together_equals_alone": (
        lambda b: bool(testing.together_equals_alone(pool(b), b.sequences, extra_padding=2)), []),
    "testing.leak_map": (lambda b: testing.leak_map(pool(b), b.sequences), [("B", M)]),
    "testing.batch_invariance": (report, []),
    "layers.checked_keep_mask": (lambda b: layers.checked_keep_mask(b.x, b.lengths), [("BT", M)]),
    "layers.AttentionPool": (lambda b: pool(b)(b.x, b.lengths), [("BD", X)]),
    "layers.sinusoids": (lambda b: layers.sinusoids(b.x.shape[1], 4), [("T4", torch.float32)]),
    "layers.conv_lengths": (lambda b: layers.conv_lengths(b.lengths, 3, 2, 1), [("B", N)]),
    "layers.MaskedConv1d": (conv, [("BC4", X), ("B", N)]),
    "layers.MaskedBatchNorm1d": (norm, [("BTD", X)]),
    "measure.activation_bytes": (lambda b: measure.activation_bytes(pool(b).score.weight.exp), []),
    "measure.operations": (lambda b: measure.operations(lambda: b.x.sum()), []),
    "measure.lstm_flops": (lambda b: measure.lstm_flops(b.keep.numel(), 3, 4), []),
    "models.PaddedLSTM": (
        lambda b: net(b, models.PaddedLSTM, b.x.shape[2], 4, 2, masks.last_real_step)(
            b.x, b.lengths), [("B2", X)]),
    "models.PackedLSTM": (
        lambda b: net(b, models.PackedLSTM, b.x.shape[2], 4, 2)(b.x, b.lengths), [("B2", X)]),
    "models.MaskedTransformer": (
        lambda b: net(b, models.MaskedTransformer, b.x.shape[2], 4, 2)(b.x, b.lengths),
        [("B2", X)]),
    "models.Hybrid": (
        lambda b: net(b, models.Hybrid, b.x.shape[2], 4, 2)(b.x, b.lengths), [("B2", X)]),
    "models.Block": (lambda b: net(b, models.Block, b.x.shape[2], 1)(b.x, causal), [("BTD", X)]),
    "models.CausalLM": (
        lambda b: net(b, models.CausalLM, 9, 4, 1, 1)(b.ids, torch.arange(b.ids.shape[1]), causal),
        [("BT9", X)]),
    "training.masked_cross_entropy": (
        lambda b: training.masked_cross_entropy(logits(b), b.ids % 2, b.keep), [("", X)]),
    "training.four_losses": (lambda b: training.four_losses(logits(b), b.ids % 2, b.keep),
        [("", X)] * 4),
    "training.fit": (fitted, []),
    "training.accuracy": (
        lambda b: training.accuracy(
            net(b, models.PackedLSTM, b.x.shape[2], 4, 2), b.sequences, labels(b)), []),
    "tracing.trace": (lambda b: [s.differs for s in tracing.trace(b.lengths.tolist())], []),
}  # fmt: skip
# What their docstrings say of padding: it may hold anything.
IGNORE_PADDING = [
    "masks.masked_mean", "masks.masked_max", "masks.last_real_step", "packed.pack",
    "layers.AttentionPool", "layers.MaskedConv1d", "layers.MaskedBatchNorm1d", "models.PackedLSTM",
    "models.MaskedTransformer", "models.Hybrid", "training.masked_cross_entropy",
]  # fmt: skip


def tensors(value):
    """All tensors in what a call gave, from first to last."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [tensor for one in value for tensor in tensors(one)]
    return [value] if isinstance(value, Tensor) else []


def snapshot(b):
    inputs = [b.x, b.lengths, b.keep, b.ids, *b.sequences]
    return [(one.detach().clone(), one.requires_grad, one.grad, one._version) for one in inputs]


@pytest.mark.parametrize("name", CALLS)
@fewer
@given(batches())
def test_a_call_gives_what_it_documents_and_changes_nothing(name, b):
    call, documented = CALLS[name]
    before, state = snapshot(b), torch.get_rng_state()
    given = call(b)
    for was, now in zip(before, snapshot(b), strict=True):
        assert torch.equal(was[0], now[0]) and was[1:] == now[1:]
    assert torch.equal(torch.get_rng_state(), state)
    sizes = dict(zip("BTD", b.x.shape, strict=True)) | {"L": int(b.lengths.max())}
    sizes |= {"N": int(b.lengths.sum()), "R": len(rows.first_fit(b.lengths, b.x.shape[1]))}
    sizes |= {"C": (sizes["T"] - 1) // 2 + 1}
    found = [(tuple(one.shape), one.dtype) for one in tensors(given)]
    assert found == [
        (tuple(sizes.get(axis) or int(axis) for axis in axes), b.x.dtype if kind == X else kind)
        for axes, kind in documented
    ]
    plain = call(b.laid("contiguous"))
    for one, other in zip(tensors(given), tensors(plain), strict=True):
        assert one.is_floating_point() <= bool(one.isfinite().all())
        close(one, other)
    if not found:
        assert repr(given) == repr(plain) and given is not False


@pytest.mark.parametrize("name", IGNORE_PADDING)
@fewer
@given(batches())
def test_padding_may_hold_anything_and_learns_nothing(name, b):
    def run(b):
        b = b._replace(x=b.x.detach().clone().requires_grad_())
        given = [one for one in tensors(CALLS[name][0](b)) if one.is_floating_point()]
        if name == "layers.MaskedConv1d":  # what it leaves at padding has no meaning
            after = layers.conv_lengths(b.lengths, 3, 2, 1)
            given = [given[0][masks.lengths_to_keep_mask(after, given[0].shape[1])]]
        # Weighted: the plain sum of what was normalised has no gradient.
        sums = [(one.flatten() * torch.arange(one.numel()).cos()).sum() for one in given]
        (slope,) = torch.autograd.grad(sum(sums), b.x)
        assert slope.isfinite().all() and (slope[~b.keep] == 0).all()
        return [*given, slope]

    expected = run(b)
    for junk in (float("nan"), 1e30, -float("inf")):
        for one, other in zip(run(b.padded_with(junk)), expected, strict=True):
            close(one, other)


def picture_of(b):
    return charts.padded_grid([2, 1], title=b.text)


def epoch(b):
    return sampling.describe_epoch(sampling.BucketBatchSampler(b.lengths, 3))


PICTURES = {
    "svg.Picture": picture_of,
    "svg.Canvas": lambda b: _drawn(b),
    "svg.arrange": lambda b: svg.arrange([picture_of(b)] * 2, b.text, 500),
    "charts.padded_grid": lambda b: charts.padded_grid(
        b.lengths.tolist(), marked=b.keep, title=b.text, caption=b.text),
    "charts.read_out_bars": lambda b: charts.read_out_bars(
        b.number, b.lengths.tolist(), 64, {b.text: 0.5}, {b.text: 1.0}, 100),
    "charts.batch_bars": lambda b: charts.batch_bars(
        b.lengths.tolist(), [(b.text, b.text)], b.text),
    "charts.leak_table": lambda b: charts.leak_table(
        {b.text: (b.lengths > 3).tolist()}, b.lengths.tolist(), b.text),
    "charts.verdict_table": lambda b: charts.verdict_table(
        {b.text: (b.lengths > 3).tolist()}, [b.text] * len(b.lengths), b.text, b.text),
    "report.invariance_picture": lambda b: report_pictures.invariance_picture(
        testing.batch_invariance(pool(b), b.sequences[:1] * 2, padding.pad)),
    "packed.packed_views": lambda b: packed_pictures.packed_views(
        b.lengths.tolist(), packed.layout(b.lengths), step=0, chosen=(0, 0)),
    "masks.mask_and_losses": lambda b: mask_pictures.mask_and_losses(
        b.lengths.tolist(), b.keep, {b.text: float("nan")}, {b.text: 1.0},
        {b.text: [0.01] * (len(b.x) + 1)}),
    "masks.attention_maps": lambda b: mask_pictures.attention_maps(
        torch.full((len(b.x[:2]), 4, 4), 0.25), torch.zeros(len(b.x[:2]), 4),
        b.lengths[:2].clamp(max=4).tolist(), b.text),
    "trace.trace_table": lambda b: trace_pictures.trace_table(
        [*tracing.trace(b.lengths[:4].tolist()), tracing.Stage(b.text, error=b.text)],
        [b.text] * 8, b.text),
    "trace.loss_curves": lambda b: trace_pictures.loss_curves(
        {b.text: [1.0, float("inf"), 0.0, float("nan")]}, 5, b.text),
    "policy.skyline": lambda b: policy_pictures.skyline([64, 9], [1, 9], epoch(b), b.text),
    "rows.filling": lambda b: row_pictures.filling(
        b.lengths.tolist(), [0], rows.first_fit(b.lengths, 64), 64, 0, [b.text]),
    "rows.row_mask": lambda b: row_pictures.row_mask(
        rows.document_mask(torch.zeros(1, 5).long())[0, 0], torch.tensor([0, 0, 1, 1, -1]),
        torch.tensor([0, 1, 0, 1, 0]), b.number),
    "rows.beside": lambda b: row_pictures.beside(picture_of(b), picture_of(b)),
    "flat.flat_line": lambda b: flat_pictures.flat_line(
        torch.tensor([0, 2, 3]), torch.tensor([0, 0, 1]), torch.tensor([0, 1, 0]), None, [b.text]),
    "flat.rectangle": lambda b: flat_pictures.rectangle(
        b.text, b.keep.long() - 1, (0, 0), [b.text]),
    "flat.pairs_grid": lambda b: flat_pictures.pairs_grid(
        torch.ones(3, 3, dtype=torch.bool), torch.tensor([0, 0, 1]), b.text, b.text),
    "flat.weight_bars": lambda b: flat_pictures.weight_bars(
        {b.text: torch.tensor([0.5, 0.5, 1.0])}, torch.tensor([0, 0, 1])),
    "flat.capability_table": lambda b: flat_pictures.capability_table(
        {b.text: {b.text: "right", "b": "refused"}}, b.text),
    "flat.block_grid": lambda b: flat_pictures.block_grid(
        torch.tensor([[2, 0], [1, 2]]), 4, b.text),
    "flat.in_a_line": lambda b: flat_pictures.in_a_line([picture_of(b)] * 2),
}  # fmt: skip


def _drawn(b):
    canvas = svg.Canvas(100, 100)
    canvas.begin_pick(b.text, b.text, chosen=True)
    canvas.text(1, 2, b.text)
    canvas.end_pick()
    return canvas.picture(b.text)


def check_html(html):
    assert "<b " not in html and "alt=" in html
    html.encode()


@pytest.mark.parametrize("name", PICTURES)
@fewer
@given(batches())
def test_a_picture_is_whole_whatever_its_texts_hold(name, b):
    before = snapshot(b)
    picture = PICTURES[name](b)
    root = ET.fromstring(picture.data)  # a text that is not escaped breaks it
    assert root.get("aria-label") is not None and "<b " not in picture.svg
    assert not re.search(r'="-?(nan|inf)', picture.svg)
    assert picture.data == PICTURES[name](b).data
    check_html(picture._repr_html_())
    for was, now in zip(before, snapshot(b), strict=True):
        assert torch.equal(was[0], now[0])


short = st.lists(st.integers(1, 10), min_size=1, max_size=6)
PANELS = {
    "panel.Panel": lambda n, text: _Any(n, text),
    "padding.PaddingSlider": lambda n, text: padding_panels.PaddingSlider(
        lambda steps: {text: 0.5}, n, max(n), added=(0, 50, 100)),
    "padding.PaddingExplorer": lambda n, text: padding_panels.PaddingExplorer(
        {text: torch.tensor(n)}),
    "packed.PackedExplorer": lambda n, text: packed_panels.PackedExplorer({text: n}),
    "masks.LossExplorer": lambda n, text: mask_panels.LossExplorer(),
    "masks.AttentionExplorer": lambda n, text: mask_panels.AttentionExplorer(
        [min(one, 6) for one in n[:3]]),
    "trace.TraceExplorer": lambda n, text: trace_panels.TraceExplorer(
        [min(one, 8) for one in (n * 2)[:4]]),
    "trace.TrainingCurves": lambda n, text: _recorded(text),
    "policy.PolicyExplorer": lambda n, text: policy_panels.PolicyExplorer(
        torch.tensor(n)),
    "flat.FlatExplorer": lambda n, text: flat_panels.FlatExplorer([min(one, 5) for one in n[:5]]),
    "rows.RowsExplorer": lambda n, text: row_panels.RowsExplorer(torch.tensor(n)),
}  # fmt: skip


class _Any(panels.Panel):
    def __init__(self, lengths, text):
        self._lengths, self._text = lengths, text
        super().__init__({"v": text})

    def controls_for(self, values):
        return [panels.Choice("v", self._text, (self._text,))]

    def draw(self, v):
        return charts.padded_grid(self._lengths, title=v), self._text


def _recorded(text):
    curves = trace_panels.TrainingCurves([text], 3)
    curves.record(text, [1.0, 0.5])
    return curves


@pytest.mark.parametrize("name", PANELS)
@settings(few, max_examples=4)
@given(short, st.sampled_from(["<b onclick=''>", "\x00&\ud800"]))
def test_a_panel_draws_at_once_whatever_its_texts_hold(name, lengths, text):
    state = torch.get_rng_state()
    panel = PANELS[name](lengths, text)
    assert torch.equal(torch.get_rng_state(), state)
    for part in re.findall("<svg.*?</svg>", panel.picture.svg, re.DOTALL):
        ET.fromstring(part)
    html = panel._repr_mimebundle_()[0]["text/html"]
    check_html(html)


ANSWERS = [
    *(None, ..., 1, "<b >", torch.ones(2), torch.nn.Linear(1, 1), lambda: 0, lambda *a: 1 / 0),
    *(lambda *a: "<b >", lambda *a, **k: a, lambda *a: torch.full((2, 3), float("nan"))),
]


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("id", ["00.1", "01.1", "04.1"])
def test_no_answer_breaks_an_exercise(id, answer):
    verdict = exercises.check(id, answer)
    assert not verdict and id in str(verdict) and "<b >" not in verdict._repr_html_()
    assert "<script" not in exercises.exercise(id)._repr_html_()


CHART = "matplotlib draws it: tests/pictures"
FIXED = "takes no batch: the test file of its module says what it gives"
RECORDS = "tests/exercises/test_records.py"
ADAPTER = "tests/testing/test_adapters.py"
EXEMPT = {
    "data.japanese_vowels": FIXED, "data.python_docs_paragraphs": FIXED,
    "data.published_accuracies": FIXED,
    "data.wikipedia_length_counts": FIXED, "measure.one_thread": FIXED, "measure.fast_path": FIXED,
    "conventions.effect_of_marking": FIXED, "conventions.ways_to_mask": FIXED,
    "conventions.paths_of_attention": FIXED, "conventions.empty_row_outcomes": FIXED,
    "charts.figure": CHART, "charts.line_charts": CHART, "charts.ratio_charts": CHART,
    "charts.error_charts": CHART, "results.accuracy_dots": CHART,
    "results.scoreboard_charts": CHART, "results.spread_curves": CHART,
    "training.fit_seeds": "is `fit`, called again and again: test_training",
    "checks.reads_values": FIXED, "measure.speed_in_words": FIXED,
    "svg.letter": FIXED, "svg.color": FIXED, "svg.ink": FIXED,
    **dict.fromkeys(
        ("grid.grid", "grid.label", "grid.sheet", "grid.stacked_bar", "grid.step_cell",
         "grid.text_width", "grid.verdict_cell", "grid.wrapped"), "drawn by every picture"),
    **dict.fromkeys(
        ("explanations.creeping", "explanations.kernel_places", "explanations.lengths_by_group",
         "explanations.outcome_grid",
         "loss.accumulation", "loss.votes", "loss.way_back"),
        "tests/pictures/test_explanations.py"),
    **dict.fromkeys(
        ("predict.Outcome", "predict.Predict", "predict.predict"), "tests/panels/test_predict.py"),
    "results.loss_steps": CHART,
    **dict.fromkeys(
        ("policy.cost_charts", "policy.length_by_place", "policy.policy_color",
         "policy.words_of_batches"), "tests/pictures/test_policy.py"),
    "start.first_look": "trains a model: the notebook 00",
    "watching.watch_training": "trains a model: tests/panels/test_watching.py",
    "training.fit_each": "is `fit`, called again and again: test_training",
    **dict.fromkeys(
        ("measure.compare_forms", "measure.costs_of_padding", "measure.operations_of_forward",
         "measure.padded_to_packed", "measure.seconds_taken", "measure.training_steps"),
        "tests/testing/test_measure.py"),
    "flat.limits_chart": CHART,
    **dict.fromkeys(
        ("ranks.RanksExplorer", "ranks.idle_share", "ranks.loss_of_rank", "ranks.ranks_over_time",
         "ranks.run_ranks", "ranks.step_weights", "ranks.torchrun", "ranks.useful_over_ranks",
         "ranks.useful_share", "ranks.work_and_wait", "ranks.workload_of_ranks"),
        "tests/test_ranks.py"),
    "streams.StreamBatches": "tests/batches/test_streams.py",
    **dict.fromkeys(
        ("flat.attend_within", "flat.cu_seqlens_to_document_id", "flat.cu_seqlens_to_positions",
         "flat.flatten", "flat.last_steps", "flat.lengths_to_cu_seqlens", "flat.segment_max",
         "flat.segment_mean", "flat.segment_softmax"), "tests/batches/test_flat.py"),
    "measure.paired_ratio": "measures seconds", "measure.score": "measures seconds",
    "svg.escape": "drawn by every picture",
    "testing.hugging_face": ADAPTER, "testing.padded_batch": ADAPTER,
    "testing.packed_batch": ADAPTER, "testing.assert_batch_invariant": ADAPTER,
    "saving.keep_panels": "tests/panels/test_saving.py",
    "exercises.exercise": "above", "exercises.check": "above",
    "exercises.use": RECORDS, "exercises.progress": RECORDS,
    "exercises.reset": RECORDS, "exercises.Stub": RECORDS,
}  # fmt: skip


def public():
    """The names of all functions and classes that the modules define, exercises' answers aside."""
    for info in pkgutil.walk_packages(course_utils.__path__, "course_utils."):
        # What exercises and the oracle are made of is not for learners, and has tests of its own.
        if re.search(r"(exercises|data|testing(?!\.measure))\.", info.name):
            continue
        module = importlib.import_module(info.name)
        given = getattr(module, "__all__", ())
        for name, value in vars(module).items():
            own = getattr(value, "__module__", "") == info.name or name in given
            if callable(value) and own:
                # What only holds what a function found is seen by that function's call.
                record = hasattr(value, "__dataclass_fields__") or hasattr(value, "_fields")
                if not name.startswith("_") and not (record and not hasattr(value, "_repr_html_")):
                    yield f"{info.name.rpartition('.')[2]}.{name}"


def test_every_public_function_is_called_here():
    called = {*CALLS, *PICTURES, *PANELS}
    assert set(public()) == called | set(EXEMPT) and not called & set(EXEMPT)
