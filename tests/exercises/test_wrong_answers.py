"""No wrong answer is accepted, none does harm; right ones of another style are accepted."""

import copy
import dataclasses
import random

import numpy as np
import pytest
import torch

from course_utils.exercises import EXERCISES, diagnose, guard
from course_utils.exercises.engine import judge
from course_utils.testing import measure
from tests.exercises.mutations import mutants, table, wrong_in_one_way
from tests.exercises.right_answers import RIGHT

NUMBERS = "a tensor of one number is as good as the number"
STARTS_AT_0 = "lengths are 1 or more, so any start below 2 is the same"
SYMMETRIC = "a pair is the same pair the other way round"
MAXIMUM = "the larger of two is the same in either order"

# Accepted, and rightly so: what is one change away from the solution, and as right as it is.
EQUIVALENT = {
    ("00.1", "return torch.allclose(alone, together, atol=1e-05)"): "closeness is mutual",
    (
        "01.1",
        "padded = torch.zeros(len(sequences), int(lengths.max()), sequences[-1].shape[1])",
    ): "all sequences have the same number of features",
    ("01.2", "cells = len(lengths) * lengths.max()"): NUMBERS,
    ("01.2", "return lengths.sum() / cells"): NUMBERS,
    ("01.3", "return padded / lengths.sum()"): NUMBERS,
    (
        "01.3",
        "padded = sum((len(batch) * batch.max() for batch in lengths.split(batch_size)))",
    ): NUMBERS,
    ("02.3", "forward, backward = (h_n[::2], h_n[1::2])"): "a slice begins at 0",
    (
        "03.1",
        "has_hole = (keep_mask < (steps < lengths[:, None])).any(dim=1)",
    ): "where a real step stands too late, an earlier one is missing",
    ("03.5", "real = values.masked_fill(~keep_mask[..., None], 1)"): "any number: its weight is 0",
    ("03.5", "real = values.masked_fill(~keep_mask[..., None], -1)"): "any number: its weight is 0",
    (
        "04.3",
        "scores = query @ key.transpose(2, 1) / query.shape[2] ** 0.5",
    ): "transposing is symmetric",
    (
        "04.3",
        "weights = scores.masked_fill(~keep, -torch.inf).softmax(dim=2)",
    ): "the NaN of an empty row, and its gradient, meet a masked_fill on both sides",
    (
        "04.4",
        "output = decoder(target, memory, tgt_mask=future, memory_key_padding_mask="
        "~memory_keep_mask)",
    ): "padding stands at the end, so the causal mask hides it from every real step",
    ("05.1", "lstm = nn.LSTM(10, 20)"): "a packed batch has no order of dimensions",
    ("05.1", "lstm = nn.LSTM(10, 20, batch_first=False)"): "a packed batch has none",
    ("06.1", "return [batch for batch in batches]"): "a tensor of numbers is as good as a list",
    (
        "06.3",
        "pairs = [{(b, a) for batch in epoch for a in batch for b in batch if a < b} "
        "for epoch in (before, now)]",
    ): SYMMETRIC,
    (
        "06.3",
        "pairs = [{(a, b) for batch in epoch for a in batch for b in batch if a > b} "
        "for epoch in (before, now)]",
    ): SYMMETRIC,
    ("06.4", "batches, batch, longest = ([], [], 1)"): STARTS_AT_0,
    ("06.4", "batches, batch, longest = ([], [], -1)"): STARTS_AT_0,
    ("06.4", "batch, longest = ([], 1)"): STARTS_AT_0,
    ("06.4", "batch, longest = ([], -1)"): STARTS_AT_0,
    ("06.4", "for index, length in enumerate(lengths):"): NUMBERS,
    (
        "06.4",
        "if (len(batch) + 1) * max(longest, length) > max_tokens:",
    ): "no single length is above the budget, so an empty batch has room",
    ("06.4", "longest = max(length, longest)"): MAXIMUM,
    ("06.4", "if batch and (len(batch) + 1) * max(length, longest) > max_tokens:"): MAXIMUM,
    ("07.1", "for index in lengths.argsort(descending=True, stable=True):"): NUMBERS,
    ("07.3", "place = torch.arange(document_id.shape[1])"): "it is broadcast",
    (
        "07.3",
        "first = place.where(begins, -1).cummax(dim=1).values",
    ): "a sequence begins at step 0, so the maximum is never below 0",
    ("08.1", "ends = lengths.cumsum(-1)"): "there is one dimension",
    (
        "08.3",
        "earlier = F.pad(x, (0, 0, back, 1))[:len(x)]",
    ): "what is added at the end is cut off again",
    (
        "02.1",
        "padded[row, :len(sequence)] = output[-1]",
    ): "a batch of one, so the last is the first",
    (
        "02.2",
        "order = pack_sequence(labels, enforce_sorted=False).sorted_indices",
    ): NUMBERS,
    ("02.4", "for step, count in enumerate(packed.batch_sizes):"): NUMBERS,
    **{
        (
            "05.4",
            f"report = together_equals_alone(model, sequences{extra})",
        ): "any number of columns to spare will do"
        for extra in (", extra_padding=4", ", extra_padding=6")
    },
    (
        "09.2",
        "loss_sum = F.cross_entropy(logits, targets, reduction='sum')",
    ): "it ignores -100 anyway",
}

# Solutions of one or two calls have few places to change: so their other styles are changed too.
SHORT = ("02.1", "02.2", "02.4")


@pytest.fixture(autouse=True)
def one_thread():
    with measure.one_thread():
        yield


def snapshot(value):
    """Copy all that a check could change in an argument; equal where nothing has changed."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), value.requires_grad, value.detach().numpy().tobytes(), value.grad
    if isinstance(value, torch.nn.Module):
        return value.training, [snapshot(one) for one in value.state_dict().values()]
    if isinstance(value, (list, tuple)):
        return [snapshot(one) for one in value]
    return repr(value)


def state():
    """What an answer could change in torch, NumPy and Python."""
    return (
        torch.get_rng_state().tolist(),
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
        random.getstate(),
        np.random.get_state()[1].tolist(),
    )


def judged_harmlessly(one, answer):
    """Judge an answer, and assert that neither the arguments nor any state has changed."""
    kept = one.cases()
    before = snapshot(kept), state()
    verdict = judge(dataclasses.replace(one, cases=lambda: kept), answer)
    assert (snapshot(kept), state()) == before, answer
    return verdict


@pytest.fixture(autouse=True)
def explanations_that_raise(monkeypatch):
    """Let an error in an explanation be seen: for learners it is caught."""
    monkeypatch.setattr(diagnose, "explain", diagnose.explain_or_raise)


def mutants_of(one):
    found = mutants(one.solution)
    for other in RIGHT[one.id] if one.id in SHORT else ():
        found |= mutants(other)
    return found


# What the check says of the changed solutions, by exercise.
VERDICTS = {}


@pytest.mark.filterwarnings("ignore")  # a wrong answer may well make torch warn
@pytest.mark.parametrize("one", EXERCISES.values(), ids=EXERCISES)
def test_no_wrong_answer_is_accepted_and_none_does_harm(one):
    verdicts = {name: judged_harmlessly(one, answer) for name, answer in mutants_of(one).items()}
    VERDICTS[one.id] = list(verdicts.values())
    accepted = {(one.id, name) for name, verdict in verdicts.items() if verdict}
    assert accepted == {key for key in EQUIVALENT if key[0] == one.id}
    texts = {verdict.text for verdict in verdicts.values() if not verdict}
    for misconception in one.misconceptions:
        for wrong in (misconception.wrong, *misconception.also):
            verdict = judged_harmlessly(one, wrong)
            assert verdict.kind == "misconception"
            texts.add(verdict.text)
    # What the check says of them differs, so these are different wrong answers.
    texts.discard(f"Exercise {one.id}: not attempted yet.")
    assert len(texts) >= 8


def test_most_wrong_answers_are_named_or_explained():
    if set(VERDICTS) != set(EXERCISES):
        pytest.skip("needs the verdicts of the test above, on all exercises")
    print(table(VERDICTS))
    rejected = [one for found in VERDICTS.values() for one in found if not one]
    told = sum(one.kind in ("misconception", "explained") for one in rejected)
    assert told >= 0.9 * len(rejected)
    for id, found in VERDICTS.items():
        for one in found:
            below = one.text.split("cases that fail", 1)[-1]
            assert one.text.count("\n") <= 16 and len(below) < 2000, f"{id}: over a screen: {one}"


# Where a NaN at a real step has to come through.
NAN_COUNTS = ("01.1", "01.4", "03.2", "03.3", "03.5", "05.3")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("one", EXERCISES.values(), ids=EXERCISES)
def test_no_answer_is_accepted_that_is_wrong_in_one_way(one):
    example = one.solution(*copy.deepcopy(one.cases()[0]))
    numbers = example if isinstance(example, (tuple, list)) else [example]
    fractions = any(isinstance(x, torch.Tensor) and x.is_floating_point() for x in numbers)
    modules = [x for x in one.cases()[0] if isinstance(x, torch.nn.Module)]
    applies = {
        "in_float64": fractions and example.ndim > 0 if torch.is_tensor(example) else fractions,
        "without_gradient": one.gradients,
        "ends_at_step_8": one.id != "09.1",  # it takes sums and counts, and no steps
        "without_nan": one.id in NAN_COUNTS,
        "weights_set_to_0": any(True for x in modules for _ in x.parameters()),
    }
    for name, answer in wrong_in_one_way(one.solution).items():
        if applies.get(name, True):
            assert not judge(one, answer), name


@pytest.mark.parametrize("one", EXERCISES.values(), ids=EXERCISES)
def test_right_answers_of_another_style_are_accepted(one):
    for answer in RIGHT[one.id]:
        verdict = judged_harmlessly(one, answer)
        assert verdict, f"{answer.__name__}: {verdict}"


@pytest.mark.parametrize("one", EXERCISES.values(), ids=EXERCISES)
def test_an_endless_loop_is_ended_in_every_exercise(one, monkeypatch):
    monkeypatch.setattr(guard, "SECONDS", 0.02)

    def answer(*arguments):
        while True:
            pass

    before = state()
    verdict = judge(one, answer)
    assert state() == before, "making the cases may need seeds, and they are put back"
    assert verdict.kind == "stopped" and not verdict
    assert (
        "stopped after 0.02 seconds in this case. Is there a loop that never ends?" in verdict.text
    )
