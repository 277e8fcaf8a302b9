"""The engine tells each kind of answer apart, and never harms the learner's work."""

import ast
import dataclasses
import pathlib
import re
import subprocess
import sys

import nbformat
import numpy as np
import pytest
import torch

from course_utils.exercises import EXERCISES, check, exercise, guard
from course_utils.exercises.__main__ import chosen, faults, for_teachers, main
from course_utils.exercises.engine import (
    Exercise,
    Misconception,
    Verdict,
    _cost,
    _times,
    inline_html,
    judge,
    rewarded,
    slip,
)

NOTEBOOKS = pathlib.Path(__file__).parents[2] / "notebooks"


def double(values):
    return values * 2


TOY = Exercise(
    id="99.1",
    title="Double",
    minutes=1,
    task="Return `values` times two.",
    hints=("one", "two"),
    solution=double,
    cases=lambda: [(torch.tensor([1.0]),), (torch.tensor([[1.0, 2.0], [3.0, 4.0]]),)],
    misconceptions=(
        Misconception("same", lambda values: values, "You returned what you were given."),
        Misconception("square", lambda values: values**2, lambda values: f"{values.tolist()}?"),
        Misconception("half", lambda values: values / 2, "Half."),
    ),
)


@pytest.mark.parametrize("one", EXERCISES.values(), ids=EXERCISES)
def test_audit_finds_nothing(one):
    assert faults(one) == []
    paragraph = for_teachers(one)
    assert paragraph.startswith(f"{one.id}  {one.title}: {one.minutes} minutes\n")
    assert paragraph.count("\n    - ") == len(one.misconceptions)
    assert len(one.hints) == 2 and all(one.hints)
    assert one.id[:2].isdigit() and one.minutes > 0
    # What is wider than a page of a notebook has to be scrolled, and keys do not reach it.
    assert max(map(len, one.source.splitlines())) <= 91


@pytest.mark.parametrize("one", EXERCISES.values(), ids=EXERCISES)
def test_solution_runs_with_what_the_notebook_has_imported_by_then(one):
    # What "Solution" shows must run when it is pasted into the cell of its check.
    path = next(NOTEBOOKS.glob(f"{one.id[:2]}_*.ipynb"))
    names = {}
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code" and not cell.source.startswith("%%"):  # a file of its own
            for node in ast.parse(cell.source).body:
                if isinstance(node, (ast.Import, ast.ImportFrom)):
                    exec(ast.unparse(node), names)
            if f'check("{one.id}"' in cell.source:
                break
    exec(one.source, names)
    assert judge(one, names[one.solution.__name__])


def test_audit_prints_a_line_an_exercise_and_fails_on_a_fault(capsys):
    blind = Exercise(**{**vars(TOY), "misconceptions": TOY.misconceptions[:2]})
    assert main([TOY]) == 0
    assert capsys.readouterr().out.startswith("99.1  ok  Double")
    assert main([TOY, blind]) == 1
    assert "fewer than three misconceptions" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"solution": lambda values: None if values.ndim > 1 else values * 2}, "stub"),
        ({"misconceptions": (*TOY.misconceptions[:2], Misconception("right", double, ""))}, "told"),
    ],
)
def test_audit_finds_planted_faults(change, fault):
    broken = Exercise(**{**vars(TOY), **change})
    found = " ".join(faults(broken))
    assert ("told as" in found) if fault == "told" else found == ""


def test_audit_finds_a_solution_that_raises():
    """Then the learner's answer would have to raise as well."""
    one = Exercise(**{**vars(TOY), "solution": lambda values: double(values[:, :])})
    assert any(found.startswith("the solution raises IndexError") for found in faults(one))


def test_audit_finds_two_misconceptions_that_are_one():
    twins = (*TOY.misconceptions, Misconception("copy", lambda values: values.clone(), ""))
    assert faults(Exercise(**{**vars(TOY), "misconceptions": twins})) == [
        "'copy' is told as 'same'"
    ]


def with_variants(*also):
    same, *others = TOY.misconceptions
    same = Misconception(same.name, same.wrong, same.say, also=also)
    return Exercise(**{**vars(TOY), "misconceptions": (same, *others)})


def test_a_variant_is_told_by_the_name_of_its_misconception():
    one = with_variants(lambda values: values + 1, lambda values: values - 1)
    assert faults(one) == []
    for answer in (lambda values: 1 + values, lambda values: values - 1, lambda values: values):
        verdict = judge(one, answer)
        assert verdict.name == "same" and "You returned what you were given." in verdict.text
    assert judge(TOY, lambda values: values + 1).kind == "not equal"


def test_an_edit_of_a_text_that_is_not_in_the_solution_fails_at_import():
    with pytest.raises(ValueError, match=r"edit of double: '\* 3' is not in its source"):
        with_edits(slip("other", {"* 3": "* 4"}).teach("No."))


def with_edits(*slips, **more):
    return Exercise(**{**vars(TOY), "misconceptions": slips, **more})


def test_an_edit_and_its_twins_are_told_by_one_name():
    half = slip("half", {"* 2": "/ 2"}, {"* 2": "* 0.5"}).teach("""
        Times two,
        not half.""")
    one = with_edits(half, twins=({"values ": "values.abs() "},))
    (found,) = one.misconceptions
    assert found.say == "Times two, not half." and len(found.forms) == 4
    for answer in (lambda values: values / 2, lambda values: values.abs() / 2):
        assert judge(one, answer).name == "half"


def test_a_twin_that_cannot_be_made_is_left_out():
    one = with_edits(slip("given back", {"values * 2": "values"}), twins=({"* 2": "* 3"},))
    assert len(one.misconceptions[0].forms) == 1


def test_audit_finds_a_variant_that_is_right_or_told_otherwise():
    one = with_variants(lambda values: values + 1, double, lambda values: values.mul_(2))
    assert faults(one) == ["'same', variant 2, is told as 'correct'"]
    later = Misconception("later", lambda values: values - 1, "", (lambda values: values * values,))
    one = Exercise(**{**vars(TOY), "misconceptions": (*TOY.misconceptions, later)})
    assert faults(one) == ["'later', variant 1, is told as 'square'"]


def test_listing_says_what_the_check_says():
    text = for_teachers(TOY)
    assert text.splitlines()[0] == "99.1  Double: 1 minutes"
    assert "Return `values` times two." in text
    assert "    - same: You returned what you were given." in text
    # The sentence of a misconception that depends on its case is that of the smallest failing one.
    assert "    - square: [1.0]?" in text


def test_all_are_audited_and_listed_where_none_is_named():
    assert [one.id for one in chosen([])] == list(EXERCISES)


def test_listing_of_one_chapter_and_of_none():
    command = [sys.executable, "-m", "course_utils.exercises"]
    done = subprocess.run([*command, "01.2", "00"], capture_output=True, text=True)
    assert done.returncode == 0
    audit, _, listing = done.stdout.partition("\n\n")
    assert [line[:4] for line in audit.splitlines()] == ["00.1", "00.2", "01.2"]
    named = [EXERCISES[name] for name in ("00.1", "00.2", "01.2")]
    for one, paragraph in zip(named, listing.split("\n\n")[1:], strict=True):
        assert paragraph.startswith(f"{one.id}  {one.title}: {one.minutes} minutes\n")
        assert paragraph.count("\n    - ") == len(one.misconceptions)
    done = subprocess.run([*command, "--audit", "01.2"], capture_output=True, text=True)
    assert done.returncode == 0
    audit, _, note = done.stdout.partition("\n\n")
    assert len(audit.splitlines()) == 1 and "tests.exercises.mutations" in note
    done = subprocess.run([*command, "77"], capture_output=True, text=True)
    assert done.returncode == 1 and "No exercise begins with 77" in done.stderr


def documented(values):
    """Not written yet."""


def stub(values): ...


def with_pass(values):
    pass


@pytest.mark.parametrize("answer", [stub, with_pass, documented, None, ...])
def test_not_attempted(answer):
    assert judge(TOY, answer).kind == "not attempted"


@pytest.mark.parametrize(
    "answer", [double, lambda values: values + values, lambda v: 2 * v.clone()]
)
def test_right_answers_in_other_styles_are_accepted(answer):
    verdict = judge(TOY, answer)
    assert verdict and verdict.kind == "correct" and "2 cases" in verdict.text


def test_misconception_by_name_with_the_smallest_failing_case():
    verdict = judge(TOY, lambda values: values * values)
    assert not verdict and verdict.kind == "misconception" and verdict.name == "square"
    assert "[1.0]?" in verdict.text


def test_wrong_in_a_new_way_shows_case_and_both_values():
    verdict = judge(TOY, lambda values: values * 2 + (values.ndim == 2))
    assert verdict.kind == "not equal" and verdict.name == ""
    for part in ("values: [[1, 2]", "expected: [[2, 4]", "yours: [[3, 5]", "1 failing cases, of 2"):
        assert part in verdict.text


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda values: (values * 2).tolist(), "a list; its values are right"),
        (lambda values: (values * 2)[None], "shape (1, 1)"),
        (lambda values: (values * 2).long(), "int64, where float32"),
        (lambda values: print(end=""), "returned None: does it end in `return`?"),
        (lambda values: (values * 2).numpy(), "NumPy array, where a tensor is expected"),
        (torch.zeros(2), "give `check` the function itself"),
        (7, "give `check` the function itself"),
    ],
)
def test_wrong_kinds_of_answer_are_told(answer, says):
    verdict = judge(TOY, answer)
    assert not verdict and says in verdict.text


@pytest.mark.parametrize(
    ("expected", "right", "wrong"),
    [
        (True, [True, np.True_, torch.tensor(True)], [False, None, "yes", torch.ones(2), 0.5]),
        (0.5, [0.5, np.float64(0.5), torch.tensor(0.5)], [0.6, [0.5], None, torch.ones(1)]),
        ((1, 2.0), [(1, 2.0), [1, 2.0]], [(1,), (2.0, 1), 1]),
    ],
)
def test_numbers_truth_values_and_tuples_are_compared_by_meaning(expected, right, wrong):
    one = Exercise(**{**vars(TOY), "solution": lambda values: expected, "misconceptions": ()})
    for value in right:
        assert judge(one, lambda values, value=value: value), value
    for value in wrong:
        assert not judge(one, lambda values, value=value: value), value


def test_the_learners_own_error_is_told_with_its_case():
    def answer(values):
        if values.ndim == 2:
            raise KeyError("<b>lost</b>")
        return values * 2

    verdict = judge(TOY, answer)
    assert verdict.kind == "error" and "KeyError" in verdict.text and "values: [[1," in verdict.text
    assert "<b>" not in verdict._repr_html_(), "text from the learner is escaped"


def test_changing_the_argument_is_told_even_if_the_result_is_right():
    verdict = judge(TOY, lambda values: values.mul_(2))
    assert verdict.name == "changed its arguments"


def test_an_interrupt_is_not_swallowed():
    def answer(values):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judge(TOY, answer)


def test_random_numbers_of_the_learner_are_left_alone():
    torch.manual_seed(1)
    judge(TOY, lambda values: torch.rand_like(values))
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(1))


def test_a_verdict_says_the_same_every_time():
    def answer(padded, lengths):
        return padded.mean(1) + 1

    assert repr(check("01.4", answer)) == repr(check("01.4", answer))


def test_the_card_holds_task_hints_and_solution_in_both_forms():
    card = exercise("01.4")
    html, one = card._repr_html_(), card.exercise
    assert html.count("<details") == 4 and html.count("<summary") == 4
    assert "masked_fill(~keep" in html and "`" not in html.replace("<pre>", "").split("<pre")[0]
    assert [card.hint(number) for number in (1, 2, 3)] == [*one.hints, one.beginning]
    assert card.solution().startswith("def mean_over_real_steps")
    assert one.task in repr(card) and card.solution() not in repr(card)
    with pytest.raises(ValueError, match="number is 4: there are hints 1, 2 and 3"):
        card.hint(4)


@pytest.mark.parametrize("one", EXERCISES.values(), ids=EXERCISES)
def test_the_third_hint_is_how_the_solution_begins_and_not_all_of_it(one):
    begun = one.beginning.removesuffix("…").rstrip()
    assert one.source.startswith(begun) and begun.startswith(one.signature)
    rest = one.source.removeprefix(begun)
    assert len(begun) > len(one.signature) and "return" in begun + rest
    assert rest.strip(), "something is left to find"


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("a *hole* and **two**", "a <em>hole</em> and <strong>two</strong>"),
        ("`*args` of `a*b`", "<code>*args</code> of <code>a*b</code>"),
        ("*not `x` here*", "<em>not <code>x</code> here</em>"),
        ("2 * 3 * 4, f(*args, **more)", "2 * 3 * 4, f(*args, **more)"),
        ("a_b_c and x*y*z", "a_b_c and x*y*z"),
        ("<b>&`<i>`", "&lt;b&gt;&amp;<code>&lt;i&gt;</code>"),
        ("\x000\x00 `a`", "0 <code>a</code>"),
    ],
)
def test_markdown_is_rendered_and_all_else_escaped(text, html):
    assert inline_html(text) == html


def words(html):
    """The text of a page that is not code."""
    return re.sub(r"<[^>]*>", "", re.sub(r"<(code|pre)\b.*?</\1>", "", html, flags=re.S))


@pytest.mark.parametrize("one", EXERCISES.values(), ids=EXERCISES)
def test_no_asterisk_or_backtick_is_shown_raw(one):
    shown = [exercise(one.id)._repr_html_(), inline_html(one.notice)]
    for misconception in one.misconceptions:
        if isinstance(misconception.say, str):
            shown.append(Verdict("misconception", misconception.say)._repr_html_())
    for html in shown:
        assert not re.search(r"`|\*\S|\S\*", words(html)), words(html)


def test_a_right_answer_is_shown_beside_the_courses_with_what_to_notice():
    one = dataclasses.replace(TOY, notice="It is *linear*.")

    def answer(values):
        return values + values

    verdict = rewarded(one, answer, judge(one, answer))
    assert verdict and verdict.answer.startswith("def answer(values):")
    assert verdict.solution == one.source and "It is *linear*." in repr(verdict)
    html = verdict._repr_html_()
    assert "<em>linear</em>" in html and "Yours" in html and html.count("<pre") == 2
    # One's own is not shown where it is the course's, or cannot be read.
    assert rewarded(one, double, judge(one, double)).answer == ""
    names = {}
    exec("def answer(values):\n    return 2 * values", names)
    assert rewarded(one, names["answer"], judge(one, names["answer"])).answer == ""
    wrong = judge(one, lambda values: values)
    assert rewarded(one, lambda values: values, wrong) is wrong


def test_what_a_right_answer_costs_is_said_in_words():
    def larger():
        return (torch.rand(2000, requires_grad=True),)

    def slow(values):
        return torch.stack([2 * one for one in values])

    def wasteful(values):
        same = values
        for _ in range(5):
            same = same.exp().log()
        return same + values

    one = dataclasses.replace(TOY, larger=larger, cases=lambda: [(torch.ones(2),)])
    costly = rewarded(one, slow, judge(one, slow)).notice
    assert costly.startswith("In a larger batch your answer takes far more than ten times as much")
    squares = dataclasses.replace(one, solution=lambda values: values.square() / values + values)
    told = rewarded(squares, wasteful, judge(squares, wasteful)).notice
    assert "keeps two or three times as much for the backward pass" in told
    endless = rewarded(one, lambda values: values * 2 if len(values) < 9 else while_true(), YES)
    assert endless.notice == "" and endless.solution == one.source


YES = Verdict("correct", "")


def while_true():
    while True:
        pass


@pytest.mark.parametrize(
    ("ratio", "words"),
    [(0.5, "less"), (1, "about as"), (3, "two or three"), (9, "around ten"), (99, "far more")],
)
def test_ratios_in_words(ratio, words):
    assert _times(ratio).startswith(words)


@pytest.mark.parametrize(
    "one", [one for one in EXERCISES.values() if one.larger], ids=lambda one: one.id
)
def test_the_larger_case_is_one_that_the_solution_can_do(one):
    with guard.left_alone():
        value = one.solution(*one.larger())
    assert value is not None
    assert "takes" in _cost(one, one.solution)


@pytest.mark.parametrize("function", [exercise, lambda id: check(id, stub)])
def test_an_unknown_id_lists_the_known_ones(function):
    with pytest.raises(ValueError, match=r"id is '01.9': the exercises are 00.1, 00.2, 01.1"):
        function("01.9")


def needing_gradients(*values):
    return lambda: [(torch.tensor(one, requires_grad=True),) for one in values]


STEEP = Exercise(
    **{
        **vars(TOY),
        "gradients": True,
        "cases": needing_gradients([1.0], [[1.0, 2.0], [3.0, 4.0]]),
        "misconceptions": (
            Misconception("half stopped", lambda values: values + values.detach(), "Half."),
            Misconception("cut", lambda values: (values * 2).detach(), "Cut."),
        ),
    }
)
UNNAMED = Exercise(**{**vars(STEEP), "misconceptions": ()})


def test_with_gradients_a_right_value_is_not_enough():
    half, cut = (one.wrong for one in STEEP.misconceptions)
    for answer in (double, lambda values: values + values):
        assert judge(STEEP, answer)
    assert judge(STEEP, half).name == "half stopped" and judge(STEEP, cut).name == "cut"
    for answer in (half, cut):
        assert judge(Exercise(**{**vars(UNNAMED), "gradients": False}), answer)
    verdict = judge(UNNAMED, half)
    assert verdict.kind == "explained" and "its gradient" in verdict.text
    assert "values: [1]" in verdict.text, "the smallest case"
    expected, yours = verdict.text.split("expected gradient:")[1].split("your gradient:")
    assert "[2]" in expected and "[1]" in yours
    assert "lost its connection" in judge(UNNAMED, cut).text


def test_gradients_of_each_argument_that_requires_one_are_compared():
    def two():
        first = torch.tensor([1.0, 2.0], requires_grad=True)
        return [(first, torch.tensor([3.0, 4.0], requires_grad=True), torch.ones(2))]

    one = Exercise(**{**vars(UNNAMED), "solution": lambda a, b, c: (a * b * c).sum(), "cases": two})
    assert judge(one, lambda a, b, c: a @ b)
    verdict = judge(one, lambda a, b, c: a @ b.detach())
    assert "its gradient with respect to `b` is not" in verdict.text and "[0, 0]" in verdict.text


@pytest.mark.parametrize(
    ("solution", "right", "wrong"),
    [
        (lambda v: v > 1, [lambda v: ~(v <= 1)], [torch.long, torch.uint8, torch.float32]),
        (lambda v: v.long(), [lambda v: v.int(), lambda v: v.byte()], [torch.bool, torch.float32]),
        (lambda v: v + 0, [lambda v: 1 * v], [torch.bool, torch.int64, torch.half]),
    ],
    ids=["bool", "int", "float"],
)
def test_truth_values_integers_and_fractions_are_told_apart(solution, right, wrong):
    cases = lambda: [(torch.tensor([0.0, 1.0]),)]  # noqa: E731
    one = Exercise(**{**vars(TOY), "solution": solution, "cases": cases, "misconceptions": ()})
    for answer in right:
        assert judge(one, answer), judge(one, answer)
    for dtype in wrong:
        verdict = judge(one, lambda v, dtype=dtype: solution(v).to(dtype))
        got, due = (
            str(one).removeprefix("torch.") for one in (dtype, solution(torch.ones(1)).dtype)
        )
        assert f"dtype is {got}, where {due} is" in verdict.text


@pytest.mark.parametrize(
    ("expected", "answer"),
    [
        (0.5, torch.tensor([1j])),
        (0.5, torch.zeros(1, device="meta")),
        (torch.zeros(1), torch.zeros(1, device="meta")),
        (torch.zeros(1), torch.ones(1).to_sparse()),
    ],
    ids=["complex for a number", "meta for a number", "meta", "sparse"],
)
def test_an_answer_of_a_strange_kind_is_told(expected, answer):
    one = Exercise(**{**vars(TOY), "solution": lambda values: expected, "misconceptions": ()})
    assert not judge(one, lambda values: answer)


def test_a_parameter_of_ones_own_is_no_error_where_no_argument_requires_gradients():
    one = Exercise(**{**vars(TOY), "gradients": True})
    own = torch.zeros(1, requires_grad=True)
    assert "your function raised" not in judge(one, lambda values: values * 2 + own).text


def test_every_rank_has_to_exchange_its_own_count_once():
    def with_call(call):
        def rank_loss(loss_sum, count, all_reduce, ranks):
            total = count.clone()
            call(all_reduce, total)
            return loss_sum * ranks / total

        return check("09.1", rank_loss)

    assert with_call(lambda all_reduce, total: all_reduce(total))

    def doubled(all_reduce, total):
        total *= 2
        all_reduce(total)

    def twice(all_reduce, total):
        all_reduce(total.clone())
        all_reduce(total)

    def on_the_side(all_reduce, total):
        total += all_reduce.others

    for call, said in ((doubled, "hands 4"), (twice, "2 times"), (on_the_side, "does not call")):
        verdict = with_call(call)
        assert verdict.kind == "explained" and said in verdict.text, verdict
