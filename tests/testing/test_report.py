"""The printed reports, line by line, and what is surely widened: no model runs here."""

import json
import math

import pytest
import torch
from torch.nn.utils.rnn import pack_sequence

from course_utils.testing import InvarianceReport, Question, Report, padded_batch
from course_utils.testing.adapters import call, sure_widening, widen

EVALUATION, INFERENCE = "evaluation", "inference"
SAME = {0: 1e-15, 1: 0.0}


def report(*questions, **more):
    given = {"count": 2, "dtypes": dict.fromkeys((EVALUATION, INFERENCE), "float64"), **more}
    return InvarianceReport(tuple(questions), **given)


def both(name, state, differences=None, why="", tolerance=1e-9):
    return [
        Question(path, name, state, differences or {}, why, tolerance)
        for path in (EVALUATION, INFERENCE)
    ]


def test_a_report_is_a_table_and_what_is_to_be_said_of_it():
    wrong = {0: 0.5, 1: 0.001, 2: 0.04, 3: 0.04, 4: 0.0}
    found = report(
        Question(EVALUATION, "alone", "differs", wrong, "see run=", 1e-9),
        Question(INFERENCE, "alone", "same", SAME, "", 1e-9),
        *both("another order", "differs", {1: math.inf}),
        *both("more padding", "not asked", why="it holds ids"),
        Question(EVALUATION, "gradients", "differs", {"a.weight": 0.25}, "", 1e-9),
        Question(INFERENCE, "gradients", "not asked", why="there are none on this path"),
        count=5,
        first_layer="encoder (evaluation, sample 0)",
        notes=("the first", "the second"),
        allowed=("evaluation: gradients", "more padding"),
    )
    assert str(found) == repr(found)
    assert str(found).splitlines() == [
        "the batch CHANGES the answer (5 samples, float64)",
        "                evaluation         inference",
        "  alone         DIFFERS 50%        same",
        "  another order DIFFERS entirely   DIFFERS entirely",
        "  more padding  not asked          not asked",
        "  gradients     DIFFERS 25%        not asked",
        "  alone (evaluation): samples 0 by 50%, 2 by 4%, 3 by 4% and 1 more (see run=)",
        "  another order: samples 1 entirely",
        "  more padding (evaluation, inference): it holds ids",
        "  gradients (evaluation): gradients of a.weight by 25%",
        "  first difference at a real step: encoder (evaluation, sample 0)",
        "  note: the first",
        "  note: the second",
        "  allowed: evaluation: gradients, more padding",
    ]


def test_a_path_that_was_not_asked_is_told_once():
    why = "model is a function: it has no mode"
    questions = [
        Question("training", name, "not asked", why=why) for name in ("alone", "another order")
    ]
    asked = [Question(EVALUATION, name, "same", SAME) for name in ("alone", "another order")]
    lines = str(report(*questions, *asked, dtypes={EVALUATION: "float32"})).splitlines()
    assert lines[0].endswith("(2 samples, float32)")
    assert lines[1:] == [
        "                training           evaluation",
        "  alone         not asked          same",
        "  another order not asked          same",
        f"  training: {why}",
    ]


def test_a_question_of_one_path_alone_leaves_the_other_cell_empty():
    nan = Question(INFERENCE, "NaN in the padding", "raises", why="ValueError: no")
    lines = str(report(*both("alone", "same", SAME), nan)).splitlines()
    assert lines[1:] == [
        "                     evaluation         inference",
        "  alone              same               same",
        "  NaN in the padding                    raises",
        "  NaN in the padding (inference): ValueError: no",
    ]


@pytest.mark.parametrize(
    ("states", "more", "truth", "verdict", "headline"),
    [
        (
            ("same", "same"),
            {},
            True,
            "equal up to rounding",
            "does not change the answer: equal up",
        ),
        (("same", "not asked"), {}, True, "equal up to rounding", "does not change the answer"),
        (("same", "differs"), {}, False, "changes", "CHANGES the answer"),
        (("raises", "differs"), {}, False, "changes", "CHANGES the answer"),
        (("same", "raises"), {}, False, "not settled", "NOT SETTLED"),
        (("not asked", "not asked"), {}, False, "not settled", "NOT SETTLED"),
        (("same", "same"), {"padded": False}, False, "not settled", "NOT SETTLED"),
        (("same", "differs"), {"allowed": ("b",)}, True, "equal up to rounding", "does not"),
        (("same", "differs"), {"allowed": ("evaluation: b",)}, True, "equal up to", "does not"),
        (("same", "differs"), {"allowed": ("evaluation",)}, True, "equal up to", "does not"),
        (("same", "differs"), {"allowed": ("inference: b",)}, False, "changes", "CHANGES"),
        (("raises", "differs"), {"allowed": ("b",)}, False, "not settled", "NOT SETTLED"),
    ],
)
def test_the_verdict_follows_from_what_was_asked(states, more, truth, verdict, headline):
    questions = [
        Question(EVALUATION, name, state, {0: 0.5 if state == "differs" else 1e-15}, "", 1e-9)
        for name, state in zip("ab", states, strict=True)
    ]
    found = report(*questions, **more)
    assert bool(found) == truth and found.verdict.startswith(verdict)
    assert headline in str(found).splitlines()[0]
    assert ("nothing was padded" in str(found)) == (more.get("padded") is False)


def test_to_the_bit_means_no_difference_at_all():
    exact = Question(EVALUATION, "alone", "same", {0: 0.0, 1: 0.0})
    assert report(exact).verdict == "equal to the bit"
    assert "equal to the bit (2 samples" in str(report(exact))
    assert report(exact, *both("gradients", "same", SAME)).verdict == "equal up to rounding"
    # What differs and is allowed says nothing about what was asked besides.
    differs = Question(EVALUATION, "gradients", "differs", {"w": 0.5})
    assert report(exact, differs, allowed=("gradients",)).verdict == "equal to the bit"


def test_a_question_tells_its_size_and_what_is_wrong():
    asked = Question(EVALUATION, "alone", "differs", {0: 1e-9, 1: 0.2, 2: math.inf}, "", 1e-9)
    assert asked.size == math.inf and list(asked.wrong.items()) == [(2, math.inf), (1, 0.2)]
    assert not asked and Question(EVALUATION, "alone", "same")
    assert Question(EVALUATION, "alone", "not asked") and not Question(EVALUATION, "a", "raises")
    three = Question(EVALUATION, "alone", "differs", {0: 0.3, 1: 0.2, 2: 0.1})
    assert str(report(three)).endswith("samples 0 by 30%, 1 by 20%, 2 by 10%")


def test_a_report_becomes_json_with_null_for_what_is_infinite():
    found = report(
        Question(EVALUATION, "alone", "differs", {0: math.inf, 1: 0.5}, "why", 1e-9),
        first_layer="encoder",
        notes=("a note",),
        allowed=("inference",),
    )
    assert json.loads(json.dumps(found.to_dict())) == {
        "verdict": "changes",
        "invariant": False,
        "samples": 2,
        "dtypes": {EVALUATION: "float64", INFERENCE: "float64"},
        "first_layer": "encoder",
        "padded": True,
        "notes": ["a note"],
        "allowed": ["inference"],
        "questions": [
            {
                "path": EVALUATION,
                "name": "alone",
                "state": "differs",
                "tolerance": 1e-9,
                "differences": {"0": None, "1": 0.5},
                "why": "why",
            }
        ],
    }


def test_the_short_report_line_by_line():
    found = Report([3, 12], [1e-12, 0.25], 0.5, {"w": 0.0, "b": 0.014}, 1e-9, padded=False)
    assert str(found) == repr(found)
    assert str(found).splitlines() == [
        "together does NOT equal alone",
        "  sequence 0 (  3 steps): equal within 1e-09",
        "  sequence 1 ( 12 steps): DIFFERS by 25% of the largest value",
        "  loss: DIFFERS by 50% of the largest value",
        "  gradients: 1 of 2 parameters equal",
        "    b: DIFFERS by 1.4% of the largest value",
        "  nothing was padded, so padding was never tried: give sequences of different lengths, "
        "or extra_padding",
    ]
    right = Report([3], [1e-9], 1e-9, {"w": 1e-9}, 1e-9)
    assert right and right.dtype == torch.float64 and right.padded
    assert str(right).splitlines() == [
        "together equals alone",
        "  sequence 0 (  3 steps): equal within 1e-09",
        "  loss: equal within 1e-09",
        "  gradients: 1 of 1 parameters equal",
    ]
    for outputs, loss, gradients in (([1.0], 0, {}), ([0], 1.0, {}), ([0], 0, {"w": math.nan})):
        assert not Report([3], outputs, loss, gradients, 1e-9)


# --- what is surely widened -----------------------------------------------------------------------

FLOATS = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], [[7.0, 8.0], [0.0, 0.0], [0.0, 0.0]]])
LENGTHS = torch.tensor([3, 1])
SQUARE = torch.zeros(2, 3, 3)
UNSURE = "give more_padding, which adds steps of padding to your batch, or an adapter"


@pytest.mark.parametrize(
    "batch",
    [
        (FLOATS, LENGTHS),
        [FLOATS, LENGTHS],
        (FLOATS, LENGTHS.int()),
        (FLOATS[..., 0], LENGTHS),
        (FLOATS, LENGTHS, torch.tensor([0, 1])),  # labels
        (FLOATS, LENGTHS, torch.zeros(2, 5)),
        (FLOATS, LENGTHS, "names"),
        (FLOATS.half(), LENGTHS),
        (torch.ones(2, 3, 2), torch.tensor([3, 3])),  # nothing is padded: no place to be wrong
        (torch.where(torch.arange(3)[:, None] < LENGTHS[:, None, None], FLOATS, -7.0), LENGTHS),
    ],
)
def test_floats_and_their_lengths_are_surely_widened(batch):
    more = sure_widening(batch)
    assert callable(more)
    wider = more(batch, 2, 5.0)
    assert type(wider) is type(batch) and wider[0].shape[1] == 5 and (wider[0][:, 3:] == 5).all()
    assert torch.equal(wider[0][:, :3], batch[0])
    assert all(one is other for one, other in zip(wider[1:], batch[1:], strict=True))


@pytest.mark.parametrize(
    ("batch", "why"),
    [
        (FLOATS, UNSURE),
        ({"padded": FLOATS, "lengths": LENGTHS}, UNSURE),
        (pack_sequence([torch.ones(2, 1)]), UNSURE),
        ((FLOATS,), UNSURE),
        ((FLOATS, [3, 1]), UNSURE),
        (("texts", LENGTHS), UNSURE),
        ((torch.ones(2), LENGTHS), UNSURE),
        ((FLOATS, torch.tensor([3, 1, 2])), UNSURE),
        ((FLOATS, torch.tensor([[3, 1]])), UNSURE),
        ((FLOATS, torch.tensor([True, False])), UNSURE),
        ((FLOATS, torch.tensor([1.0, 0.4])), "lengths are torch.float32: say so with adapter="),
        ((FLOATS, torch.tensor([1.0, 0.4, 1.0])), UNSURE),
        ((FLOATS.long(), LENGTHS), "the batch holds ids: give adapter=padded_batch(pad_id=...)"),
        ((FLOATS, torch.tensor([2, 1])), "no dimension is surely time: the longest is 2 of (2, 3"),
        ((SQUARE, LENGTHS), "no dimension is surely time: the longest is 3 of (2, 3, 3)"),
        ((FLOATS, LENGTHS, torch.ones(2, 3)), "batch[2] has T columns too: give adapter=padded"),
        ((FLOATS, LENGTHS, "x", torch.ones(2, 1, 3)), "batch[3] has T columns too: give adapter="),
        ((FLOATS.flip(1), LENGTHS), "the padding is not behind the real steps: say so with padded"),
    ],
)
def test_what_is_not_certain_is_not_widened_and_says_what_to_give(batch, why):
    found = sure_widening(batch)
    assert isinstance(found, str) and found.startswith(why)
    assert (why == UNSURE) == (found == UNSURE)


def test_tensors_are_widened_on_the_side_and_in_the_dimension_asked_for():
    x = torch.tensor([[[1.0, 2.0]]])
    assert widen(x, 2, 9).tolist() == [[[1.0, 2.0], [9.0, 9.0], [9.0, 9.0]]]
    assert widen(x, 1, 9, left=True).tolist() == [[[9.0, 9.0], [1.0, 2.0]]]
    assert widen(x, 1, 9, time=2).tolist() == [[[1.0, 2.0, 9.0]]]
    assert widen(torch.tensor([[True]]), 1, 3.0).tolist() == [[True, True]]
    assert widen(torch.tensor([[True]]), 1, 0.0).tolist() == [[True, False]]


def test_a_batch_is_given_to_the_model_as_what_it_is():
    def given(*args, **kwargs):
        return args, kwargs

    packed = pack_sequence([torch.ones(2, 1)])
    assert call(given, (1, 2)) == ((1, 2), {}) and call(given, [1, 2]) == ((1, 2), {})
    assert call(given, {"a": 1}) == ((), {"a": 1})
    assert call(given, packed)[0][0] is packed and call(given, 7) == ((7,), {})


def test_ids_are_widened_with_the_padding_or_with_another_id():
    ids, keep = torch.tensor([[4, 5, 6], [7, 9, 9]]), torch.tensor([[1, 1, 1], [1, 0, 0]]).bool()
    batch = {"ids": ids, "keep": keep, "n": LENGTHS}
    adapter = padded_batch(padded="ids", lengths="n", also=["keep"], pad_id=9)
    wider = adapter.more_padding(batch, 1, 0.0)
    assert wider["ids"][:, 3].tolist() == [9, 9] and wider["keep"][:, 3].tolist() == [False, False]
    assert wider["n"] is LENGTHS and batch["ids"] is ids
    assert adapter.more_padding(batch, 1, 5.0)["ids"][:, 3].tolist() == [4, 4]
    nothing = {"ids": torch.full((2, 3), 9), "keep": keep, "n": LENGTHS}
    assert adapter.more_padding(nothing, 1, 5.0) is None
    assert adapter.more_padding(nothing, 1, 0.0)["ids"].tolist() == [[9] * 4] * 2
    left = padded_batch(padded="ids", lengths="n", also=["keep"], pad_id=9, left=True)
    wider = left.more_padding({**batch, "keep": ~keep}, 1, 0.0)
    assert wider["ids"][:, 0].tolist() == [9, 9] and wider["keep"][:, 0].tolist() == [False, False]
    assert torch.equal(wider["keep"][:, 1:], ~keep)
    without = padded_batch(padded="ids", lengths="n")
    assert without.more_padding(batch, 1, 0.0)["ids"][:, 3].tolist() == [0, 0]


def test_rows_are_cut_where_their_time_is():
    x, n = torch.arange(12.0).reshape(2, 2, 3), torch.tensor([3, 1])
    model = lambda *batch: batch[0]  # noqa: E731
    first = padded_batch(time=2, per_step=True).run(model, (x, n))
    assert [one.tolist() for one in first] == [x[0].tolist(), x[1, :, :1].tolist()]
    left = padded_batch(time=2, left=True, per_step=True).run(model, (x, n))
    assert left[1].tolist() == x[1, :, 2:].tolist()
    moved = padded_batch(time=2, per_step=True, output_time=1)
    assert [len(one) for one in moved.run(lambda x, n: x.mT, (x, n))] == [3, 1]
    shares = padded_batch(time=2, relative=True, per_step=True)
    assert [one.shape[1] for one in shares.run(model, (x, torch.tensor([1.0, 1 / 3])))] == [3, 1]
    assert padded_batch().run(model, (x, n)) is x
    wide = shares.more_padding((x, torch.tensor([1.0, 1 / 3])), 3, 0.0)
    torch.testing.assert_close(wide[1], torch.tensor([0.5, 1 / 6]))
    own = padded_batch(run=lambda model, batch: model(batch[0], batch[1]) + 1)
    assert torch.equal(own.run(model, (x, n)), x + 1)


def test_a_widened_batch_stays_the_kind_that_it_was():
    from collections import namedtuple

    kind = namedtuple("kind", "padded lengths")
    wider = padded_batch().more_padding(kind(FLOATS, LENGTHS), 1, 0.0)
    assert isinstance(wider, kind) and wider.padded.shape == (2, 4, 2)
    assert isinstance(padded_batch().more_padding([FLOATS, LENGTHS], 1, 0.0), list)


def test_long_lines_of_a_report_are_folded_at_88_columns():
    found = report(Question(EVALUATION, "alone", "same"), notes=("word " * 40,))
    lines = str(found).splitlines()
    assert max(map(len, lines)) <= 88 and sum("word" in line for line in lines) > 2
    assert lines[-1].startswith("      word"), "under its own line, not at the margin"
