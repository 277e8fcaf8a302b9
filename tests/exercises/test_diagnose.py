"""Each kind of error is told from the others by what was expected and what came."""

import itertools
import math
import types

import pytest
import torch
from torch import tensor

from course_utils.batches.masks import lengths_to_keep_mask
from course_utils.exercises import check, diagnose
from course_utils.exercises.cases import COMMON, ragged
from course_utils.exercises.diagnose import Trial
from course_utils.exercises.diagnose import explain_or_raise as explain
from course_utils.exercises.engine import edited
from course_utils.exercises.errors import line_of

LENGTHS = ([2, 1], [1, 3], [3, 1, 2], [2, 2], [9, 2, 12], [2, 12, 9])


def batches(expected, wrong):
    """Make a trial a batch: `expected` and `wrong` take (padded, lengths)."""
    trials = []
    for seed, lengths in enumerate(LENGTHS):
        generator = torch.Generator().manual_seed(seed)
        padded = torch.randn(len(lengths), max(lengths) + seed % 2, 3, generator=generator)
        due, got = expected(padded, tensor(lengths)), wrong(padded, tensor(lengths))
        right = diagnose.equal(due, got) and got.dtype == due.dtype
        trials.append(Trial({"padded": padded, "lengths": tensor(lengths)}, due, got, right))
    return trials


def keep(padded, lengths):
    return lengths_to_keep_mask(lengths, padded.shape[1])[..., None]


def steps(padded, lengths):
    return padded * keep(padded, lengths)


def mean(padded, lengths):
    return steps(padded, lengths).sum(1) / lengths[:, None]


def told(wrong, expected=mean, axes="B D", **more):
    found = explain(batches(expected, wrong), axes, **more)
    assert found.explained == bool(found.text)
    return found.text


def steps_told(wrong):
    return told(wrong, steps, "B T D")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda p, n: steps(p, n).sum(1) / p.shape[1], ["factor", "the length", "divided by T"]),
        (lambda p, n: mean(p, n) * n[:, None], ["factor", "the length times"]),
        (lambda p, n: 3 * mean(p, n), ["factor", "3 times"]),
        (lambda p, n: 100 * mean(p, n), ["percent?"]),
        (lambda p, n: mean(p, n) / 4, ["1 / 4"]),
        (lambda p, n: mean(p, n) + 2, ["too large by 2"]),
        (lambda p, n: mean(p, n) - 0.5, ["too small by 0.5"]),
        (lambda p, n: -mean(p, n), ["sign"]),
        (lambda p, n: 1 - mean(p, n), ["1 minus"]),
        (lambda p, n: 1 / mean(p, n), ["1 divided by"]),
        (lambda p, n: mean(p, n) ** 2, ["square"]),
        (lambda p, n: mean(p, n).round(), ["rounded"]),
        (lambda p, n: mean(p, n).flip(0), ["rows", "another order"]),
        (lambda p, n: mean(p, n)[n.argsort(descending=True)], ["sorted, the longest"]),
        (lambda p, n: mean(p, n)[n.argsort()], ["sorted, the shortest"]),
        (lambda p, n: mean(p, n).flip(1), ["features", "the last one comes first"]),
        (lambda p, n: mean(p, n).double(), ["float64", "numbers are right"]),
        (lambda p, n: mean(p, n)[:, None], ["(B, D)", "size 1 is left over"]),
        (lambda p, n: steps(p, n), ["(B, T, D)", "time dimension is still there"]),
        (lambda p, n: mean(p, n).T, ["numbers are right; two dimensions are swapped"]),
        (lambda p, n: mean(p, n).flatten(), ["right order; only the shape"]),
        (lambda p, n: mean(p, n)[:, :2], ["too short along `D`", "first 2 are right"]),
        (lambda p, n: mean(p, n)[:1].expand(len(n), -1), ["Every row of your result is the same"]),
        (lambda p, n: torch.full_like(mean(p, n), 7), ["Every number", "7"]),
        (lambda p, n: mean(p, n).where((n < 2)[:, None], torch.nan), ["NaN", "more than one step"]),
        (lambda p, n: mean(p, n).where((n < 2)[:, None], torch.inf), ["Infinity"]),
        (lambda p, n: mean(p, n) + (n < p.shape[1])[:, None], ["sequences that have padding"]),
        (lambda p, n: mean(p, n) + (n == 1)[:, None], ["sequences of one step"]),
        (lambda p, n: mean(p, n) + (n > 8)[:, None], ["sequences of more than 3 steps"]),
        (lambda p, n: mean(p, n) + (torch.arange(len(n)) > 0)[:, None], ["from the second row on"]),
        (lambda p, n: mean(p, n) + (torch.arange(3) == 0), ["in the first feature"]),
    ],
)
def test_rows(wrong, words):
    text = told(wrong)
    for word in words:
        assert word in text


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda p, n: steps(p, n).roll(1, 1), ["exactly one step too late", "roll"]),
        (
            lambda p, n: torch.cat([p[:, :1] + 1, steps(p, n)[:, :-1]], 1),
            ["exactly one step too late"],
        ),
        (lambda p, n: torch.cat([steps(p, n)[:, 1:], p[:, :1]], 1), ["one step too early"]),
        (lambda p, n: steps(p, n) + ~keep(p, n), ["only at the padding"]),
        (
            lambda p, n: p + 5 * (torch.arange(p.shape[1]) == n[:, None] - 1)[..., None],
            ["last real"],
        ),
        (lambda p, n: steps(p, n) + (torch.arange(p.shape[1]) > 0)[:, None], ["second step on"]),
        (
            lambda p, n: steps(p, n) + (torch.arange(p.shape[1]) == 0)[:, None],
            ["at the first real step"],
        ),
        (
            lambda p, n: steps(p, n) + (torch.arange(p.shape[1]) == n[:, None])[..., None],
            ["first step of the padding"],
        ),
        (lambda p, n: steps(p, n)[:, : n.max()], ["along `T`", "only where the batch is wider"]),
        (lambda p, n: p, ["`padded` as it was given"]),
    ],
)
def test_steps(wrong, words):
    expected = (lambda p, n: p) if words == ["last real"] else steps
    text = told(wrong, expected, "B T D")
    for word in words:
        assert word in text


def test_transposed_although_the_shape_fits():
    trials = [
        Trial({}, x := torch.randn(n, n, generator=torch.Generator().manual_seed(n)), x.T, False)
        for n in (2, 3, 4)
    ]
    assert explain(trials, "B T").text.startswith("Transposed")


def test_sorted_and_otherwise_ordered_values():
    due = [tensor([3, 1, 2]), tensor([5, 9, 1, 4])]
    for change, word in (
        (lambda x: x.sort().values, "sorted, the smallest first"),
        (lambda x: x.sort(descending=True).values, "sorted, the largest first"),
        (lambda x: x.roll(1), "in another order"),
    ):
        assert word in explain([Trial({}, x, change(x), False) for x in due], "N").text


def test_halves_and_directions():
    due = [torch.arange(12.0).view(2, 6) * k for k in (1, 3)]
    swapped = [Trial({}, x, x.roll(3, 1), False) for x in due]
    assert "halves are swapped" in explain(swapped, "B 2H").text
    half = [Trial({}, x, torch.cat([x[:, :3], x[:, 3:] + 1], 1), False) for x in due]
    assert "only in the backward half" in explain(half, "B 2H").text


def test_truth_values():
    masks = [tensor([[True, False], [True, True]]), tensor([[True, True, False]])]
    inverted = [Trial({}, mask, ~mask, False) for mask in masks]
    assert "inverted" in explain(inverted, "B T").text
    floats = [Trial({}, mask, mask.float(), False) for mask in masks]
    assert "only a bool mask" in explain(floats, "B T").text


def numbers(expected, got, **given):
    return [
        Trial({name: values[i] for name, values in given.items()}, e, g, diagnose.equal(e, g))
        for i, (e, g) in enumerate(zip(expected, got, strict=True))
    ]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda x: 100 * x, "percent?"),
        (lambda x: 1 - x, "1 minus"),
        (lambda x: 1 / x, "1 divided by"),
        (lambda x: 0.25, "returns 0.25 in every case"),
        (lambda x: x + 0.125, "too large by 0.125"),
        (lambda x: math.nan, "NaN"),
    ],
)
def test_single_numbers(change, word):
    due = [0.5, 0.75, 0.6, 1.0]
    assert word in explain(numbers(due, map(change, due))).text


def test_a_number_that_is_one_of_the_sizes():
    lengths = [tensor([2, 1]), tensor([3, 1, 2]), tensor([4, 4])]
    found = explain(numbers([0.75, 0.66, 1.0], [3.0, 6.0, 8.0], lengths=lengths))
    assert "the number of real steps, and nothing else" in found.text


def test_only_where_an_argument_has_a_value():
    causal = [False, True, False, True]
    found = explain(numbers([1.0, 2.0, 3.0, 4.0], [1.0, 7.0, 3.0, 5.0], causal=causal))
    assert "only where `causal` is True" in found.text
    sizes = [1, 2, 3, 4]
    found = explain(numbers([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 9.0, 5.0], batch_size=sizes))
    assert "too large only where `batch_size` is more than 2" in found.text


def test_nothing_is_claimed_where_nothing_fits():
    found = explain(numbers([1.0, 2.0, 3.0], [4.0, -1.0, 9.0], batch_size=[2, 1, 3]))
    assert not found.explained and found.text == "" and found.case


def model(name):
    return types.new_class(name, (torch.nn.Module,))()


def test_a_test_that_rejects_right_models_too():
    right, wrong = [model("Fine"), model("Good")], [model("Bad"), model("Worse")]
    models = [*right, *wrong]
    due = [True, True, False, False]
    text = explain(numbers(due, [False, False, False, False], model=models)).text
    assert "reject 2 of 2 that are right (`Fine`, `Good`)" in text and "too strict" in text
    text = explain(numbers(due, [True, True, True, False], model=models)).text
    assert "accept 1 of 2 that are wrong (`Bad`)" in text and "reject" not in text
    text = explain(numbers(due, [False, False, True, True], model=models)).text
    assert "opposite" in text


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda e: [[i + 1 for i in one] for one in e], "count from 1"),
        (lambda e: [*e, []], "an empty one"),
        (lambda e: e[:-1], "last list is missing"),
        (lambda e: e[1:], "first list is missing"),
        (lambda e: [one[:-1] for one in e], "are missing"),
        (lambda e: [e[0] * 2, *e[1:]], "taken twice"),
        (lambda e: [*e[:-1], e[0][: len(e[-1])]], "taken twice, and others never"),
        (lambda e: e[::-1], "reverse order"),
        (lambda e: [one[::-1] for one in e], "within each of them is reversed"),
        (lambda e: [list(itertools.chain(*e))], "a new list begins later"),
        (lambda e: [[i] for one in e for i in one], "a new list begins earlier"),
        (lambda e: list(itertools.chain(*e)), "list of lists is expected"),
        (lambda e: [[99, *one[1:]] for one in e], "not indices"),
    ],
)
def test_lists_of_lists(change, word):
    due = [[[0, 2, 1], [4, 3]], [[3, 1], [0, 2]], [[2, 5, 0], [1, 4, 3], [6]]]
    trials = [Trial({}, one, change(one), False) for one in due]
    assert word in explain(trials).text


def test_two_results():
    due = (tensor([[1.0, 2.0], [3.0, 4.0]]), tensor([2, 1]))
    swapped = [Trial({}, due, due[::-1], False)] * 2
    assert "wrong order" in explain(swapped, "B D, B").text
    second = [Trial({}, due, (due[0], due[1] + 1), False)] * 2
    text = explain(second, "B D, B").text
    assert "The first result is right" in text and "too large by 1" in text


@pytest.mark.parametrize(
    ("got", "word"),
    [
        (lambda x: (x, 1), "return only that one"),
        (lambda x: list(x), "Make one tensor"),
        (lambda x: x.numpy(), "NumPy"),
        (lambda x: 1.5, "was everything reduced?"),
    ],
)
def test_other_types(got, word):
    due = [torch.arange(6.0).view(2, 3), torch.arange(4.0).view(2, 2)]
    assert word in explain([Trial({}, x, got(x), False) for x in due], "B D").text


def test_one_number_wherever_it_is_wrong():
    due = [tensor([[5, 6, 7, -100]]), tensor([[1, 2, -100, 4, 5, -100]])]
    got = [one.clone() for one in due]
    got[0][0, 2], got[1][0, 1], got[1][0, 4] = -100, -100, -100
    text = explain([Trial({}, *pair, False) for pair in zip(due, got, strict=True)], "B T").text
    assert "too small" in text and "Each wrong value is -100." in text


def test_a_tensor_where_one_number_is_due_is_shown_where_it_has_several():
    trials = [Trial({}, 1.0, tensor([0.3]), False), Trial({}, 0.5, tensor([0.3, 0.7]), False)]
    assert "a Tensor of shape (2,), where one number is expected" in explain(trials).text


def test_remembered_results():
    lengths = [tensor([2, 1]), tensor([1, 2]), tensor([3, 1])]
    due = [tensor([0.5, 1.0]), tensor([1.0, 0.5]), tensor([0.3, 1.0])]
    got = [due[0], due[0], due[2]]
    trials = [
        Trial({"lengths": n}, e, g, diagnose.equal(e, g))
        for n, e, g in zip(lengths, due, got, strict=True)
    ]
    assert "remember" in explain(trials, "B").text


def test_two_calls_that_disagree_come_first():
    assert explain(batches(mean, lambda p, n: 3 * mean(p, n)), "B D", False).text.startswith(
        "Two calls"
    )


def with_slopes(change, due):
    x = torch.ones(2, 2, requires_grad=True)
    return [
        Trial({"values": x}, tensor(1.0), tensor(1.0), False, None, [one], change(one))
        for one in due
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: None, ["lost its connection"]),
        (lambda x: [x * 0], ["`values`", "detached"]),
        (lambda x: [x * 3], ["`values`", "3 times"]),
        (lambda x: [x * torch.nan], ["NaN"]),
    ],
)
def test_right_values_with_wrong_gradients(change, words):
    due = [tensor([[1.0, 2.0], [3.0, 4.0]]), tensor([[5.0, 1.0], [2.0, 2.0]])]
    found = explain(with_slopes(change, due))
    assert all(word in found.text for word in ["value is right", *words])
    assert "expected gradient" in found.case


def errors(function, given):
    trials = []
    for one in given:
        try:
            function(one)
            trials.append(Trial({"lengths": one}, 1, 1, True))
        except Exception as error:
            trials.append(Trial({"lengths": one}, 1, None, False, error))
    return trials


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda n: torch.ones(5, 4) + torch.ones(5, 3), ["every case", "do not line up"]),
        (lambda n: n[7], ["every case", "beyond the end"]),
        (lambda n: undefined, ["`undefined` is not defined"]),  # noqa: F821
        (lambda n: bool(n > 0), ["whole tensor"]),
        (lambda n: None.shape, ["None at this line"]),
        (lambda n: n.softmax(3), ["no such dimension"]),
        (lambda n: n.item(), ["only in batches of several sequences"]),
        (
            lambda n: torch.nn.utils.rnn.pack_padded_sequence(torch.ones(len(n), 3, 1), n, True),
            ["only where the lengths are not sorted", "enforce_sorted=False"],
        ),
    ],
)
def test_errors_say_where_and_what_they_mean(function, words):
    given = [tensor(one) for one in ([3], [3, 1], [1, 3], [3, 1, 2])]
    found = explain(errors(function, given))
    assert found.explained and isinstance(found.error, Exception)
    assert all(word in found.text for word in words), found.text


def test_the_line_that_raised_is_found():
    def answer(x):
        y = x + 1
        return y.nothing

    with pytest.raises(AttributeError) as caught:
        answer(1)
    assert line_of(caught.value, answer) == "return y.nothing"
    assert line_of(caught.value, print) == ""


@pytest.mark.parametrize(
    "value",
    [torch.zeros(1000), torch.zeros(40, 40), torch.randn(3, 12, 20), [[7] * 500], "x" * 10_000],
)
def test_a_case_never_takes_more_than_twelve_lines(value):
    text = diagnose.case_text(Trial({"a": value, "b": value, "c": value}, value, value, False))
    assert text.count("\n") < 12 and max(map(len, text.splitlines())) <= 240


def test_of_a_large_tensor_the_first_row_that_differs_is_shown():
    due = torch.zeros(3, 12, 20)
    got = due.clone()
    got[1, 5, 2] = 7
    text = diagnose.case_text(Trial({}, due, got, False))
    assert "expected[1, 5]: [0, 0, 0," in text and "yours[1, 5]: [0, 0, 7," in text


def test_an_edit_of_a_text_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="'<<' is not in its source"):
        edited(mean, {"<<": "<"})
    assert diagnose.equal(
        edited(mean, {"lengths[:, None]": "2"})(torch.ones(1, 3, 1), tensor([3])), tensor([[1.5]])
    )


def test_every_batch_that_an_exercise_needs_is_among_the_ragged_ones():
    found = ragged([2, 1])
    assert found[0] == [2, 1] and found[1:] == [list(one) for one in COMMON]
    assert any(len(one) == 1 for one in found) and max(map(max, found)) > 8
    assert sum((len(one), max(one)) == (3, 12) for one in found) == 3


def test_the_nearest_misconception_is_asked_for_and_never_claimed():
    def answer(padded, lengths):
        keep = torch.arange(padded.shape[1]) <= lengths[:, None]
        total = padded.masked_fill(~keep[..., None], 0).sum(1) / lengths[:, None]
        return total + (len(lengths) == 1)

    verdict = check("01.4", answer)
    assert verdict.kind == "explained" and verdict.name == ""
    assert "Is it “one pad too many”? That mistake gives the same result in" in verdict.text


def test_what_cannot_be_compared_is_not_explained_and_nothing_is_raised():
    for got in (torch.ones(2, 2).to_sparse(), torch.ones(2, 2, device="meta"), object()):
        trials = [Trial({}, torch.zeros(2, 2), got, False)] * 2
        assert isinstance(diagnose.explain(trials, "B D"), diagnose.Explanation)
