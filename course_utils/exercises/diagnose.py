"""Say what kind of error a wrong answer makes, and where.

Nothing here calls the answer: each kind looks at what was expected and what came, and gives a
sentence, or "" where it has nothing to say. `explain` asks them all, the most specific first.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from course_utils.exercises.errors import raised
from course_utils.exercises.places import (
    NOUNS,
    Trial,
    axis_of,
    close,
    equal,
    only_cases,
    quantities,
    real_steps,
    size_names,
    tensors_in,
    where,
)
from course_utils.exercises.show import case_text


def _bad(trials: Sequence[Trial]) -> list[Trial]:
    return [trial for trial in trials if not trial.right]


def _all_bad(trials: Sequence[Trial], holds: Callable[[Trial], bool]) -> bool:
    return bool(_bad(trials)) and all(map(holds, _bad(trials)))


def _made_by(trials: Sequence[Trial], change: Callable[[Tensor], Tensor]) -> bool:
    """Whether every wrong result is the right one, changed in one way."""
    return _all_bad(trials, lambda trial: equal(trial.got, change(trial.expected)))


def _varied(trials: Sequence[Trial]) -> bool:
    """Whether something in what is expected can be told apart at all."""
    due = [trial.expected for trial in _bad(trials)]
    return any(isinstance(one, Tensor) and len(one.unique()) > 1 for one in due)


def remembered(trials: Sequence[Trial], axes: Sequence[str]) -> str:
    """Find an answer that gives for a case what was right for an earlier one."""
    bad = [i for i, trial in enumerate(trials) if not trial.right]
    for i in bad:
        before = [
            j
            for j in range(i)
            if equal(trials[j].got, trials[i].got)
            and not equal(trials[j].expected, trials[i].expected)
        ]
        if not before or not any(trials[j].right for j in before):
            return ""
    if len(bad) == 1 and isinstance(trials[0].expected, (bool, int)):
        return ""
    return (
        "For some cases your function returns what was right for an earlier one. Does it remember "
        "a result from one call to the next, by the shape perhaps? The same shape can hold other "
        "values and other lengths."
    )


def constant(trials: Sequence[Trial], axes: Sequence[str]) -> str:
    """Find a number that is the same in every case, whatever is given."""
    first = trials[0].got
    numbers = all(isinstance(trial.got, (bool, int, float)) for trial in trials)
    if len(trials) < 3 or not numbers or isinstance(first, bool) or first != first:
        return ""
    if not all(equal(first, trial.got) for trial in trials):
        return ""
    return f"Your function returns {first:g} in every case, whatever it is given."


def as_given(trials: Sequence[Trial], axes: Sequence[str]) -> str:
    """Find an answer that hands an argument back, or hands it back one step late or early."""
    if len(_bad(trials)) < 2:
        return ""
    for name in trials[0].given:
        if _all_bad(trials, lambda trial, name=name: equal(trial.got, trial.given.get(name))):
            return f"You returned `{name}` as it was given."
    step = axis_of(axes, "T")
    if step is None or not _varied(trials):
        return ""

    def moved_by(trial: Trial, name: str, by: int) -> bool:
        value = trial.given.get(name)
        if not isinstance(value, Tensor) or trial.expected.shape[step] < 2:
            return False
        return value.shape == trial.got.shape and _shifted(trial.got, value, step, by)

    for name, by in itertools.product(trials[0].given, (1, -1)):
        if _all_bad(trials, lambda trial, name=name, by=by: moved_by(trial, name, by)):
            word = "late" if by == 1 else "early"
            return f"You returned `{name}`, one step too {word}, and nothing else."
    return ""


def one_step(trials: Sequence[Trial], axes: Sequence[str]) -> str:
    """Find one step of an argument where each row needs its own."""
    if axis_of(axes, "B", "R") != 0 or "T" in axes:
        return ""
    if sum(len(trial.expected) > 1 for trial in _bad(trials)) < 2:
        return ""

    def is_step(trial: Trial, name: str) -> bool:
        value = trial.given[name]
        fits = isinstance(value, Tensor) and value.ndim == trial.got.ndim + 1
        return fits and any(equal(trial.got, one) for one in value.unbind(1))

    for name in trials[0].given:
        if _all_bad(trials, lambda trial, name=name: is_step(trial, name)):
            return f"You returned one step of `{name}`, the same for all rows."
    return ""


def same_everywhere(trials: Sequence[Trial], axes: Sequence[str]) -> str:
    """Find a tensor of one number, or one with the same values in every row."""
    if not _varied(trials) or sum(not trial.right for trial in trials) < 2:
        return ""

    def one_number(trial: Trial) -> bool:
        return bool(close(trial.got, trial.got.flatten()[0]).all())

    if any(t.got.numel() > 1 for t in _bad(trials)) and _all_bad(trials, one_number):
        first = next(trial.got for trial in trials if not trial.right).flatten()[0].item()
        return f"Every number of your result is the same, {first:.4g} in the smallest case."
    row = axis_of(axes, "B", "R")
    if row is None or len(axes) < 2:
        return ""

    def one_row(trial: Trial) -> bool:
        return trial.got.shape[row] == 1 or bool(
            close(trial.got, trial.got.narrow(row, 0, 1).expand_as(trial.got)).all()
        )

    several = any(trial.got.shape[row] > 1 for trial in trials if not trial.right)
    if several and _all_bad(trials, one_row):
        return "Every row of your result is the same. Each sequence needs its own."
    return ""


def nan(trials: Sequence[Trial], axes: Sequence[str]) -> str:
    """Find NaN or infinity where numbers are expected, and the reverse."""

    def too_many(trial: Trial) -> Tensor:
        return ~trial.got.isfinite() & trial.expected.isfinite()

    def too_few(trial: Trial) -> Tensor:
        return trial.got.isfinite() & trial.expected.isnan()

    if not all(trial.got.is_floating_point() for trial in trials):
        return ""
    if _all_bad(trials, lambda trial: bool(too_few(trial).any())):
        return (
            "A NaN has disappeared: your function gives a number where a *real* step is NaN, or "
            "was computed from one. Such a NaN is a warning, and must come through. Does "
            "something like `nan_to_num` or `nanmean` replace it?"
        )
    if not _all_bad(trials, lambda trial: bool(too_many(trial).any())):
        return ""
    marked = [
        replace(trial, got=too_many(trial), expected=torch.zeros_like(too_many(trial)))
        for trial in trials
    ]
    place = where(marked, axes)
    bad = _bad(trials)
    infinite = not any(bool(trial.got.isnan().any()) for trial in bad)
    if infinite:
        why = "Something is divided by 0, or its exponential is too large for float32."
    elif any(
        not bool(one.isfinite().all())
        for trial in bad
        for one in tensors_in(list(trial.given.values()))
    ):
        why = (
            "NaN times 0 is NaN, and so is infinity times 0: what is not finite has to be "
            "replaced or left out, not multiplied by 0."
        )
    else:
        why = "The usual sources are 0 / 0, 0 × ∞, and a softmax over nothing but `-inf`."
    what = "Infinity" if infinite else "NaN"
    return f"{what} where numbers are expected{', ' + place if place else ''}. {why}"


# What is said of a result that is right except for one operation, and the operation.
TURNS = {
    "The sign is wrong: each number is the negative of the right one.": torch.neg,
    "You returned 1 minus the right value.": lambda due: 1 - due,
    "You returned 1 divided by the right value: turn the fraction over.": torch.reciprocal,
    "You returned the square of the right value.": torch.square,
    "You returned the square root of the right value.": torch.sqrt,
    "You returned the right value, rounded to an integer.": torch.round,
    "You returned the right value, rounded down to an integer.": torch.floor,
    "You returned the right value, rounded to 1 decimal.": lambda due: due.round(decimals=1),
    "You returned the right value, rounded to 2 decimals.": lambda due: due.round(decimals=2),
    "You returned the right value, rounded to 3 decimals.": lambda due: due.round(decimals=3),
}


def turned(trials: Sequence[Trial], axes: Sequence[str]) -> str:
    """Find a result that is right except for one operation: inverted, the reciprocal, the sign."""
    if all(trial.expected.dtype == torch.bool for trial in _bad(trials)):
        if _bad(trials)[0].got.dtype == torch.bool and _made_by(trials, torch.logical_not):
            return "Every entry is inverted: True where False is expected, and the reverse."
        return ""
    if all(trial.expected.is_floating_point() for trial in _bad(trials)):
        for sentence, turn in TURNS.items():
            if _made_by(trials, lambda due, turn=turn: turn(due.detach().double())):
                return sentence
    return ""


def _shifted(got: Tensor, due: Tensor, step: int, by: int) -> bool:
    """Whether two tensors of one shape agree once one of them is moved by a step."""
    T = due.shape[step]
    if got.shape != due.shape or T < 2:
        return got.shape == due.shape
    return equal(got.narrow(step, max(by, 0), T - 1), due.narrow(step, max(-by, 0), T - 1))


def moved(trials: Sequence[Trial], axes: Sequence[str]) -> str:
    """Find steps that are one late or early."""
    step = axis_of(axes, "T")
    longer = step is not None and any(trial.expected.shape[step] > 2 for trial in _bad(trials))
    if not longer or not _varied(trials):
        return ""
    for by, word in ((1, "late"), (-1, "early")):
        if _all_bad(trials, lambda trial, by=by: _shifted(trial.got, trial.expected, step, by)):
            text = f"Everything comes exactly one step too {word}."
            if _made_by(trials, lambda due, by=by: due.roll(by, step)):
                text += " What leaves at one end comes back at the other, as with `roll`."
            return text
    return ""


def _is_permutation(got: Tensor, expected: Tensor, axis: int) -> list[int] | None:
    """Which row of `expected` each row of `got` is, if it is a permutation of them."""
    rows, free = expected.movedim(axis, 0), list(range(expected.shape[axis]))
    order = []
    for one in got.movedim(axis, 0):
        match = next((i for i in free if equal(one, rows[i])), None)
        if match is None:
            return None
        free.remove(match)
        order.append(match)
    return order


def reordered(trials: Sequence[Trial], axes: Sequence[str]) -> str:
    """Find right values in another order: transposed, rows or steps mixed up, sorted."""
    if not _varied(trials):
        return ""
    ndim = _bad(trials)[0].expected.ndim
    for i, j in itertools.combinations(range(ndim), 2):
        if _made_by(trials, lambda due, i=i, j=j: due.transpose(i, j)):
            named = f"`{axes[i]}` and `{axes[j]}`" if len(axes) == ndim else f"{i} and {j}"
            return f"Transposed: the numbers are right, but the dimensions {named} are swapped."
    if ndim == 1:
        for descending, first in ((False, "smallest"), (True, "largest")):
            if _made_by(trials, lambda due, down=descending: due.sort(descending=down).values):
                return f"The values are right, but sorted, the {first} first. Do not sort them."
        same = _all_bad(trials, lambda t: equal(t.got.sort().values, t.expected.sort().values))
        return "The values are right, but in another order." if same else ""
    for axis, letter in enumerate(axes if len(axes) == ndim else ()):
        if letter == "2H" and _made_by(trials, lambda due, a=axis: due.roll(due.shape[a] // 2, a)):
            return "The two halves are swapped: forward comes first, then backward."
        if letter in NOUNS and max(trial.expected.shape[axis] for trial in _bad(trials)) > 1:
            orders = [_is_permutation(one.got, one.expected, axis) for one in _bad(trials)]
            if None not in orders:
                return _of_orders(_bad(trials), orders, NOUNS[letter])
    return ""


def _of_orders(bad: Sequence[Trial], orders: Sequence[list[int]], noun: str) -> str:
    """Say in which order the rows or steps come, given that of each wrong case."""
    text = f"The {noun}s are right, but in another order"
    if all(order == sorted(order, reverse=True) for order in orders):
        return f"{text}: the last one comes first."
    lengths = [quantities(trial.given).get("the length") for trial in bad]
    pairs = list(zip(lengths, orders, strict=True))
    if noun == "row" and all(n is not None and len(n) == len(order) for n, order in pairs):
        steps = torch.cat([n[order].diff() for n, order in pairs])
        for fits, first in ((steps <= 0, "longest"), (steps >= 0, "shortest")):
            if bool(fits.all()):
                return f"{text}: sorted, the {first} sequence first. Restore the given order."
    mine = next((i for i, place in enumerate(orders[0]) if i != place), 0)
    return f"{text}: in the smallest case, your {noun} {mine} should be {noun} {orders[0][mine]}."


def _rows(value: Tensor, axis: int | None) -> Tensor:
    value = value.detach().double()
    return value.reshape(1, -1) if axis is None else value.movedim(axis, 0).flatten(1)


def _ratio(trial: Trial, axis: int | None) -> Tensor | None:
    """The factor of each row, NaN where none can be seen; None where a row has no single factor."""
    got, due = _rows(trial.got, axis), _rows(trial.expected, axis)
    if not (got.isfinite() == due.isfinite()).all():
        return None
    clear = due.isfinite() & (due.abs() > 1e-3)
    factor = torch.full((len(due),), torch.nan, dtype=torch.float64)
    for i in range(len(due)):
        if not clear[i].any() and not torch.allclose(got[i], due[i], atol=1e-4, equal_nan=True):
            return None
        if clear[i].any():
            at = due[i].where(clear[i], 0).abs().argmax()
            factor[i] = got[i, at] / due[i, at]
            if not torch.allclose(
                got[i][due[i].isfinite()],
                (due[i] * factor[i])[due[i].isfinite()],
                rtol=1e-3,
                atol=1e-4,
            ):
                return None
    return factor


def factor(trials: Sequence[Trial], axes: Sequence[str]) -> str:
    """Find a constant factor, or one that is made of sizes and lengths."""
    if not all(trial.expected.is_floating_point() for trial in trials):
        return ""
    axis = axis_of(axes, "B", "R") if axes else None
    ratios = [_ratio(trial, axis) for trial in trials]
    if any(one is None for one in ratios):
        return ""
    known = [~one.isnan() for one in ratios]
    if not any(bool(k.any()) for k, t in zip(known, trials, strict=True) if not t.right):
        return ""
    flat = torch.cat([one[k] for one, k in zip(ratios, known, strict=True)])
    if bool((flat == 0).any()) or len(flat) < 2:
        return ""
    bad = _bad(trials)
    shown = torch.cat([r[~r.isnan()] for r, t in zip(ratios, trials, strict=True) if not t.right])
    if torch.allclose(shown, shown[0], rtol=1e-3) and len(bad) > 1:
        value = shown[0].item()
        text = f"{value:.4g}" if value >= 1 else f"1 / {1 / value:.4g}"
        share = " Did you return percent?" if abs(value - 100) < 1e-3 else ""
        return f"Right except for a factor: each number is {text} times the right one.{share}"
    sizes = [quantities(trial.given) for trial in trials]
    for one in sizes:
        one |= {f"the square of {name}": value**2 for name, value in one.items() if name != "1"}
    common = [name for name in sizes[0] if all(name in one for one in sizes)]
    for over, under in itertools.permutations(common, 2):
        fits = True
        for one, k, size in zip(ratios, known, sizes, strict=True):
            made = (
                (size[over] / size[under]).broadcast_to(one.shape)
                if (
                    (size[over] / size[under]).ndim == 0
                    or len(size[over] / size[under]) == len(one)
                )
                else None
            )
            if made is None or not torch.allclose(one[k], made[k], rtol=1e-3):
                fits = False
                break
        if fits:
            if under == "1":
                text = f"{over} times the right one"
            elif over == "1":
                text = f"the right one divided by {under}"
            else:
                text = f"the right one times {over}, divided by {under}"
            return f"Right except for a factor: each number is {text}. Look at your divisor."
    return ""


def offset(trials: Sequence[Trial], axes: Sequence[str]) -> str:
    """Find numbers that are all too large, or too small, by the same amount."""
    bad = _bad(trials)
    if bad[0].expected.dtype == torch.bool:
        return ""
    gaps = [trial.got.detach().double() - trial.expected.detach().double() for trial in bad]
    first = gaps[0].flatten()[0]
    if not bool(first.isfinite()) or len(bad) < 2:
        return ""
    if all(torch.allclose(gap, first, atol=1e-4) for gap in gaps):
        word = "large" if first > 0 else "small"
        return f"Each number is too {word} by {abs(first.item()):.4g}."
    several = any(gap.numel() > 1 for gap in gaps)
    if several and all(torch.allclose(gap, gap.flatten()[0], atol=1e-4) for gap in gaps):
        return "In each case, all numbers are off by one amount, which differs from case to case."
    return ""


def _tuple(letters: Sequence[str]) -> str:
    return f"({', '.join(letters)}{',' if len(letters) == 1 else ''})"


def shape(trials: Sequence[Trial], axes: Sequence[str]) -> str:
    """Say a wrong shape in the words of the axes."""
    bad = [t for t in trials if not t.right and t.got.shape != t.expected.shape]
    if not bad:
        return ""
    trial, same_kind = bad[0], [t for t in bad if t.got.ndim == bad[0].got.ndim]
    got, due, letters = trial.got, trial.expected, []
    for one in same_kind:  # the first in which each size belongs to one axis
        names = size_names(one, axes)
        # A size of 1 may be any axis that was kept.
        found = [names.get(size, "") if size > 1 else "" for size in one.got.shape]
        letters = letters or found
        twice = {letter for letter in letters if letters.count(letter) > 1}
        letters = letters if all(letters) and twice <= {"B"} else []
    due_names = f", which is {_tuple(axes)}" if len(axes) == due.ndim and axes else ""
    got_names = f", which is {_tuple(letters)}" if letters else ""
    text = f"You returned shape {tuple(got.shape)}{got_names}. Expected was {tuple(due.shape)}"
    text += due_names
    place = only_cases(trials, [one in bad for one in trials])
    text += f". It differs {place}." if place else "."

    def fits(change: Callable[[Tensor, Tensor], Tensor]) -> bool:
        try:
            return all(equal(change(t.got, t.expected), t.expected) for t in bad)
        except (RuntimeError, IndexError):
            return False

    if fits(
        lambda g, d: g.squeeze().reshape(d.shape) if g.squeeze().shape == d.squeeze().shape else g
    ):
        more = got.ndim > due.ndim
        return text + (
            " The numbers are right; a dimension of size 1 is "
            + ("left over." if more else "missing, perhaps because of a `squeeze`.")
        )
    for i, j in itertools.combinations(range(got.ndim), 2):
        if fits(lambda g, d, i=i, j=j: g.transpose(i, j)):
            return text + " The numbers are right; two dimensions are swapped."
    if fits(lambda g, d: g.reshape(d.shape)):
        return text + " The numbers are right, and in the right order; only the shape is wrong."
    if got.ndim == due.ndim and letters and (lost := [a for a in axes if a not in letters]):
        kept = [letter for letter in letters if letter not in axes]
        if kept and lost[0] in NOUNS:
            return text + f" {lost[0]} was reduced, and {kept[0]} is still there: the wrong `dim`?"
    if got.ndim == due.ndim:
        unlike = [i for i in range(due.ndim) if got.shape[i] != due.shape[i]]
        if len(unlike) == 1:
            axis = unlike[0]
            same = all(t.got.ndim == t.expected.ndim for t in bad)
            least = min(got.shape[axis], due.shape[axis])
            kept = same and fits(
                lambda g, d: torch.cat(
                    [
                        g.narrow(axis, 0, min(g.shape[axis], d.shape[axis])),
                        d.narrow(axis, g.shape[axis], d.shape[axis] - g.shape[axis])
                        if g.shape[axis] < d.shape[axis]
                        else d.narrow(axis, 0, 0),
                    ],
                    axis,
                )
            )
            word = "short" if got.shape[axis] < due.shape[axis] else "long"
            name = f"`{axes[axis]}`" if len(axes) == due.ndim else str(axis)
            text += f" It is too {word} along {name}"
            return text + (f"; the first {least} are right." if kept and least else ".")
    extra = [one for one in letters if one not in axes]
    if got.ndim > due.ndim and "T" in extra:
        return text + " The time dimension is still there: reduce over `dim=1`."
    if got.ndim > due.ndim and letters.count("B") > 1:
        return text + " B occurs twice: each row was combined with every row."
    if got.ndim < due.ndim:
        gone = [letter for letter in axes if letter not in letters and letter in NOUNS]
        if gone and letters:
            return text + f" The dimension {gone[0]} is gone: was it reduced, or flattened?"
    return text


def dtype(trials: Sequence[Trial], axes: Sequence[str]) -> str:
    """Find right numbers of another dtype."""
    bad = [t for t in trials if not t.right and t.got.dtype != t.expected.dtype]
    if not bad or len(bad) < sum(not t.right for t in trials):
        return ""
    got, due = (str(one.dtype).removeprefix("torch.") for one in (bad[0].got, bad[0].expected))
    text = f"The dtype is {got}, where {due} is expected."
    if not all(equal(t.got, t.expected) for t in bad):
        return text
    more = " The numbers are right."
    if got == "float64":
        more += " The next layer would refuse them: use `.float()`, or find what made them float64."
    elif due == "bool":
        more += " But a mask of numbers is added, or counted; only a bool mask is True or False."
    elif due.startswith("int"):
        more += " Counts, indices and labels are whole numbers, int64 in torch."
    return text + more


def a_size(trials: Sequence[Trial], axes: Sequence[str]) -> str:
    """Find an answer that only returns one of the numbers to be used: a length, a count."""
    if len(_bad(trials)) < 2:
        return ""
    for name in quantities(trials[0].given):
        if name != "1" and all(
            name in (known := quantities(trial.given))
            and known[name].numel() == trial.got.numel()
            and equal(trial.got.flatten(), known[name].flatten())
            for trial in trials
        ):
            return f"What you return is {name}, and nothing else."
    return ""


TENSOR_KINDS = (
    nan,
    as_given,
    one_step,
    a_size,
    turned,
    same_everywhere,
    moved,
    reordered,
    factor,
    offset,
)


def direction(trials: Sequence[Trial]) -> str:
    """Say of whole numbers whether all that are wrong are too large, or all too small."""
    if any(t.expected.is_floating_point() or t.expected.dtype == torch.bool for t in trials):
        return ""
    gaps = torch.cat([(t.got.long() - t.expected.long()).flatten() for t in trials])
    if bool((gaps >= 0).all()):
        return "too large"
    return "too small" if bool((gaps <= 0).all()) else ""


def always(trials: Sequence[Trial]) -> str:
    """Say which number it is, if all wrong values are one and the same number."""
    wrong = torch.cat([trial.got[~close(trial.got, trial.expected)] for trial in trials])
    if wrong.dtype == torch.bool or len(wrong) < 3 or len(wrong.unique()) > 1:
        return ""
    return f" Each wrong value is {wrong[0].item() + 0:.4g}."


def _ordinary(trial: Trial) -> bool:
    parts = [trial.got, trial.expected, *tensors_in(list(trial.given.values()))]
    return all(bool(one.isfinite().all()) for one in parts)


def _of_tensors(trials: Sequence[Trial], axes: Sequence[str]) -> str:
    """Explain tensors: shape and dtype first, then kind, then place."""
    if not all(isinstance(trial.got, Tensor) for trial in trials):
        return ""
    for trial in trials:
        got, due = trial.got, trial.expected
        if got.is_complex() or got.layout != due.layout or got.device != due.device:
            return ""  # the check says of what kind it is
    for one in (shape, dtype):
        if said := one(trials, axes):
            return said
    same = [trial for trial in trials if trial.got.shape == trial.expected.shape]
    same = [trial for trial in same if trial.expected.numel()]
    if not any(not trial.right for trial in same):
        return ""
    if said := remembered(trials, axes):
        return said
    ordinary = [trial for trial in same if _ordinary(trial)]
    groups = [(same, "")]
    if len(ordinary) < len(same) and any(not trial.right for trial in ordinary):
        groups.append((ordinary, "Where all numbers are finite: "))
    for group, start in groups:
        for find in TENSOR_KINDS:
            if said := find(group, axes):
                return start + (_lower(said) if start else said)
    place, size = where(same, axes), direction(same)
    if size and not place:
        return f"The values are {size} wherever they are wrong.{always(same)}"
    text = f"The values are {size or 'wrong'} {place}; everywhere else they are right."
    fine = [trial.expected[close(trial.got, trial.expected)] for trial in same]
    if not place and not any(one.dtype == torch.bool or bool(one.any()) for one in fine):
        zeros = ", except for zeros" if any(map(len, fine)) else ""
        return f"Every number is wrong{zeros}, so the mistake is not at one special place."
    return text + always(same) if place else ""


def _of_numbers(trials: Sequence[Trial], axes: Sequence[str]) -> str:
    if not all(isinstance(trial.got, (bool, int, float)) for trial in trials):
        return ""
    if said := constant(trials, axes):
        return said
    kind = torch.float64
    as_tensors = [
        replace(
            trial,
            expected=torch.tensor([float(trial.expected)], dtype=kind),
            got=torch.tensor([float(trial.got)], dtype=kind),
        )
        for trial in trials
    ]
    ordinary = [trial for trial in as_tensors if _ordinary(trial)]
    if all(trial.right for trial in ordinary):
        ordinary = as_tensors
    for group in (as_tensors, ordinary):
        for find in (nan, a_size, turned, factor, offset):
            if said := find(group, ()):
                return said
    if said := remembered(trials, axes):
        return said
    bad = [not trial.right for trial in trials]
    pairs = [(t.got, t.expected) for t in trials if not equal(t.got, t.expected)]
    size = ""
    if all(got > due for got, due in pairs):
        size = "too large"
    elif all(got < due for got, due in pairs):
        size = "too small"
    place = only_cases(trials, bad)
    if place:
        return f"The number is {size or 'wrong'} {place}; everywhere else it is right."
    return f"The number is {size} wherever it is wrong." if size and len(pairs) > 1 else ""


def _of_truth(trials: Sequence[Trial], axes: Sequence[str]) -> str:
    """Explain a yes-or-no answer: what it rejects wrongly, and what it accepts wrongly."""
    if not all(isinstance(trial.got, bool) for trial in trials):
        return ""

    def names(chosen: list[Trial]) -> str:
        values = itertools.chain.from_iterable(trial.given.values() for trial in chosen)
        models = [one for one in values if isinstance(one, torch.nn.Module)]
        found = list(dict.fromkeys(getattr(m, "__name__", type(m).__name__) for m in models))
        listed = ", ".join(f"`{name}`" for name in found[:3])
        return f" ({listed}{', ...' if len(found) > 3 else ''})" if found else ""

    lost = [t for t in trials if t.expected and not t.got]
    passed = [t for t in trials if not t.expected and t.got]
    right = sum(bool(t.expected) for t in trials)
    wrong = len(trials) - right
    parts = [f"reject {len(lost)} of {right} that are right{names(lost)}"] if lost else []
    parts += [f"accept {len(passed)} of {wrong} that are wrong{names(passed)}"] if passed else []
    text = f"You {' and '.join(parts)}."
    place = only_cases(trials, [not trial.right for trial in trials])
    if len(lost) == right and len(passed) < wrong / 2:
        text += " Is your comparison too strict? Rounding differs in the last bits."
    elif len(lost) == right and len(passed) == wrong:
        text += " That is exactly the opposite of what the task asks for."
    elif place:
        text += f" It goes wrong {place}."
    return text


def _flat(value: object) -> list:
    return [one for part in value for one in _flat(part)] if isinstance(value, list) else [value]


def _of_lists(trials: Sequence[Trial], axes: Sequence[str]) -> str:
    """Explain a list of lists: batches, or rows, of the indices of sequences."""
    bad = _bad(trials)

    def all_lists(value: object) -> bool:
        return isinstance(value, list) and all(isinstance(one, list) for one in value)

    if not all(all_lists(trial.expected) for trial in bad):
        return ""
    if not all(all_lists(trial.got) for trial in bad):
        return "A list of lists is expected: a list of indices for each batch or row."

    def every(holds: Callable[[list, list], bool]) -> bool:
        return all(holds(trial.got, trial.expected) for trial in bad)

    def some(holds: Callable[[list, list], bool]) -> bool:
        return any(holds(trial.got, trial.expected) for trial in bad)

    def sets(value: list) -> list:
        return sorted(map(sorted, value))

    if every(lambda g, e: _flat(g) == [i + 1 for i in _flat(e)]):
        return "You count from 1: the first sequence has the index 0."
    if some(lambda g, e: bool(set(map(str, _flat(g))) - set(map(str, _flat(e))))):
        return "Some of your numbers are not indices: N sequences have the indices 0 to N - 1."
    if some(lambda g, e: len(_flat(g)) > len(set(map(str, _flat(g))))):
        lost = some(lambda g, e: bool(set(map(str, _flat(e))) - set(map(str, _flat(g)))))
        text = "Some sequences are taken twice"
        return f"{text}, and others never." if lost else f"{text}: each index must occur once."
    if every(lambda g, e: [b for b in g if b] == e):
        return "The lists are right, but there is an empty one among them."
    if every(lambda g, e: g == e[:-1]):
        return "The last list is missing: what is left at the end of the loop belongs to it."
    if every(lambda g, e: g == e[1:]):
        return "The first list is missing."
    if some(lambda g, e: len(_flat(g)) < len(_flat(e))):
        return "Some sequences are missing: each index must occur exactly once."
    if every(lambda g, e: g == e[::-1]):
        return "The lists are right, but in the reverse order."
    if every(lambda g, e: [b[::-1] for b in g] == e):
        return "The lists are right, but the order within each of them is reversed."
    if every(lambda g, e: list(map(sorted, g)) == list(map(sorted, e))):
        return (
            "The right sequences are together, but in another order within their list. "
            "How are equal lengths ordered?"
        )
    if every(lambda g, e: sets(g) == sets(e)):
        return "The right sequences are together, but the lists come in another order."
    if every(lambda g, e: _flat(g) == _flat(e)):
        sizes = "later" if every(lambda g, e: len(g) <= len(e)) else "earlier"
        if every(lambda g, e: len(g) <= len(e)) or every(lambda g, e: len(g) >= len(e)):
            return f"The order is right, but a new list begins {sizes} than it should."
        return "The order is right, but new lists do not begin where they should."
    if every(lambda g, e: list(map(len, g)) == list(map(len, e))):
        starts = [
            next(i for i, (a, b) in enumerate(zip(g.got, g.expected, strict=True)) if a != b)
            for g in bad
        ]
        if min(starts) > 0:
            return "The first list is right; the later ones hold other sequences."
        place = only_cases(trials, [not trial.right for trial in trials])
        place = ", " + place if place else ""
        return f"The lists have the right sizes, but hold other sequences{place}."
    place = only_cases(trials, [not trial.right for trial in trials])
    if every(lambda g, e: len(g) > len(e)):
        return f"There are too many lists{', ' + place if place else ''}."
    if every(lambda g, e: len(g) < len(e)):
        return (
            f"There are too few lists, so that one holds too much{', ' + place if place else ''}."
        )
    if place:
        return f"The lists are wrong {place}; everywhere else they are right."
    sizes = [list(map(len, one)) for one in (bad[0].got, bad[0].expected)]
    if sizes[0] != sizes[1]:
        return f"In the smallest case, your lists hold {sizes[0]}, where {sizes[1]} are expected."
    return ""


def kind(trials: Sequence[Trial], axes: Sequence[str]) -> str:
    """Find values of an unexpected type."""
    # A tensor of one number is as good as the number: it shows where there are several.
    most = max(_bad(trials), key=lambda one: one.got.numel() if torch.is_tensor(one.got) else 0)
    wanted, got = most.expected, most.got
    named = f"You returned a {type(got).__name__}"

    def inside(trial: Trial) -> bool:
        several = isinstance(trial.got, (tuple, list))
        return several and any(equal(one, trial.expected) for one in trial.got)

    def stacked(trial: Trial) -> bool:
        parts = trial.got if isinstance(trial.got, (tuple, list)) else ()
        try:
            whole = torch.stack([torch.as_tensor(one) for one in parts])
        except (TypeError, ValueError, RuntimeError):
            return False
        return equal(whole, trial.expected)

    match wanted, got:
        case Tensor(), tuple() | list() if _all_bad(trials, inside):
            return f"{named} of {len(got)}. The right tensor is in it: return only that one."
        case Tensor(), tuple() | list() if _all_bad(trials, stacked):
            return (
                f"{named}; its values are right. Make one tensor of them: `torch.stack(...)`, or "
                "`torch.tensor(...)` of numbers."
            )
        case Tensor(), tuple() | list():
            return f"{named} of {len(got)}, where one tensor is expected."
        case Tensor(), np.ndarray():
            return "You returned a NumPy array, where a tensor is expected: use torch throughout."
        case Tensor(), bool() | int() | float():
            shape = f"{tuple(wanted.shape)}{f', {_tuple(axes)},' if axes else ''}"
            return (
                f"You returned one number, where a tensor of shape {shape} is expected: was "
                "everything reduced?"
            )
        case int() | float(), Tensor() if got.numel() > 1:
            one = "True or False" if isinstance(wanted, bool) else "one number"
            return f"{named} of shape {tuple(got.shape)}, where {one} is expected."
        case tuple(), Tensor():
            return f"You returned one tensor, where {len(wanted)} are expected."
    return ""


def _of_parts(trials: Sequence[Trial], axes: str) -> str:
    """Explain the part of several results that is wrong."""
    if not all(
        isinstance(t.expected, tuple)
        and isinstance(t.got, (tuple, list))
        and len(t.got) == len(t.expected)
        for t in trials
    ):
        return ""
    every = [one.split() for one in axes.split(",")]
    count = len(trials[0].expected)
    if all(equal(list(t.got), list(t.expected)[::-1]) for t in trials if not t.right):
        return "Both results are right, but in the wrong order."
    words = ("first", "second", "third")
    parts = []
    for i in range(count):
        own = [
            replace(
                t,
                got=t.got[i],
                expected=t.expected[i],
                right=equal(t.got[i], t.expected[i])
                and getattr(t.got[i], "dtype", None) == getattr(t.expected[i], "dtype", None),
            )
            for t in trials
        ]
        if not all(t.right for t in own):
            said = _of_values(own, " ".join(every[i]) if i < len(every) else "")
            parts.append((i, said))
    if not parts:
        return ""
    fine = [words[i] for i in range(count) if i not in dict(parts)]
    start = f"The {' and the '.join(fine)} result is right. " if fine else ""
    if not parts[0][1]:
        return f"{start}The {words[parts[0][0]]} result is wrong." if fine else ""
    return f"{start}The {words[parts[0][0]]} result: " + _lower(parts[0][1])


def _lower(text: str) -> str:
    return text if text[:3] in ("NaN",) or text[:2] == "B " else text[0].lower() + text[1:]


def _of_values(trials: Sequence[Trial], axes: str) -> str:
    letters = axes.split()
    bad = _bad(trials)
    if not bad:
        return ""
    if said := _of_parts(trials, axes):
        return said
    if all(isinstance(trial.expected, bool) for trial in bad):
        return _of_truth(trials, letters) or kind(trials, letters)
    if isinstance(bad[0].expected, (int, float)):
        return _of_numbers(trials, letters) or kind(trials, letters)
    if isinstance(bad[0].expected, list):
        return _of_lists(trials, letters)
    return _of_tensors(trials, letters) or kind(trials, letters)


def slopes(trials: Sequence[Trial]) -> str:
    """Explain right values with a wrong gradient."""
    bad = _bad(trials)
    if not all(equal(trial.got, trial.expected) and trial.slopes for trial in bad):
        return ""
    if all(trial.got_slopes is None for trial in bad):
        return (
            "The value is right, but it has lost its connection to the arguments: nothing would be "
            "learned from it. Does the answer go through `.item()`, `.detach()`, `torch.tensor` or "
            "NumPy?"
        )
    bad = [trial for trial in bad if trial.got_slopes is not None]
    names = [
        name
        for name, value in bad[0].given.items()
        if isinstance(value, Tensor) and value.requires_grad
    ]
    for i, name in enumerate(names):
        own = [
            replace(
                trial,
                got=trial.got_slopes[i],
                expected=trial.slopes[i],
                right=equal(trial.got_slopes[i], trial.slopes[i]),
            )
            for trial in trials
            if trial.slopes and trial.got_slopes
        ]
        if all(trial.right for trial in own):
            continue
        start = f"The value is right, but its gradient with respect to `{name}` is not"
        if all(not trial.got.any() for trial in own):
            return f"{start}: it is 0 everywhere, as if `{name}` had been detached."
        size = own[0].expected.ndim
        letters = {2: "B T", 3: "B T D"}.get(size, "")
        keep = real_steps(bad[0].given)
        said = _of_tensors(own, letters.split() if keep is not None else [])
        return f"{start}: {_lower(said)}" if said else f"{start}."
    return ""


@dataclass(frozen=True)
class Explanation:
    """What is said of an answer that is not a listed misconception.

    Attributes:
        text: a sentence or two; "" where nothing more can be said than that it is wrong.
        case: the smallest failing case, at most `LINES` lines.
        explained: whether the text says where, or what kind.
        error: what was raised in this case, if anything.
    """

    text: str
    case: str
    explained: bool
    error: BaseException | None = None


DISAGREE = (
    "Two calls with the same arguments do not agree. Is something drawn at random, by dropout that "
    "is still on, or by a layer that is made without `torch.manual_seed`? Or does your function "
    "remember something from one call to the next?"
)


def explain(trials: Sequence[Trial], axes: str = "", agree: bool = True) -> Explanation:
    """Explain a wrong answer.

    Args:
        trials: all cases, smallest first; at least one is wrong.
        axes: the names of the result's dimensions, "B T D"; of several results "B T D, B".
        agree: whether a second call with the same arguments gave the same.
    Returns:
        Explanation: where it goes wrong and what kind of error it is, and the smallest such case.
    """
    try:
        return explain_or_raise(trials, axes, agree)
    except Exception:  # a value of an unforeseen kind must not stop the check
        return Explanation("", "", False)


def explain_or_raise(trials: Sequence[Trial], axes: str = "", agree: bool = True) -> Explanation:
    """Explain a wrong answer, as `explain` does; an error in here is raised."""
    first = next(trial for trial in trials if not trial.right)
    if first.error is None and not agree:
        return Explanation(DISAGREE, case_text(first), True)
    text, came = "", [trial for trial in trials if trial.error is None]
    errors = [trial for trial in trials if trial.error is not None]
    wrong = [trial for trial in came if not trial.right]
    if first.error is None and len(errors) <= len(wrong):
        steep = all(trial.slopes and equal(trial.got, trial.expected) for trial in wrong)
        text = (slopes(came) if steep else "") or _of_values(came, axes)
    if not text and errors:
        text, known = raised(trials)
        return Explanation(text, case_text(errors[0]), known, errors[0].error)
    if not text:
        place = only_cases(trials, [not trial.right for trial in trials])
        text = f"The result is wrong {place}; everywhere else it is right." if place else ""
    return Explanation(text, case_text(first), bool(text))
