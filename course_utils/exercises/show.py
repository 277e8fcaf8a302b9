"""A failing case in a few lines: what was given, what is expected, and what came."""

from __future__ import annotations

import torch
from torch import Tensor

from course_utils.exercises.places import Trial, close, equal, tensors_in

LINES = 12  # of the case that is shown beneath the sentence
WIDTH = 84  # as many letters as fit on a line of JupyterLab at 1280 pixels


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _listed(value: object, most: int = 12) -> str:
    """Write nested lists on one line, long ones with dots."""
    if not isinstance(value, list):
        return _number(value)
    if len(value) > most:
        value = [*value[: most - 3], ..., *value[-2:]]
    return "[" + ", ".join("..." if one is ... else _listed(one, most) for one in value) + "]"


def _lines(value: object, width: int) -> list[str]:
    """Write nested lists on as many lines as they need."""
    text = _listed(value)
    if len(text) <= width or not isinstance(value, list) or not isinstance(value[0], list):
        return [text]
    found = []
    for i, child in enumerate(value):
        inner = _lines(child, width - 2)
        inner[0] = ("[" if i == 0 else " ") + inner[0]
        inner[1:] = [" " + one for one in inner[1:]]
        inner[-1] += "]" if i == len(value) - 1 else ","
        found += inner
    return found


def show(value: object, lines: int = LINES) -> str:
    """Write a value in few lines: small tensors in full, large ones as dtype and shape."""
    if isinstance(value, Tensor):
        found = _lines(value.detach().tolist(), WIDTH - 10)
        if len(found) <= lines and max(map(len, found)) <= WIDTH:
            return "\n".join(found)
        return f"{str(value.dtype).removeprefix('torch.')}, of shape {tuple(value.shape)}"
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, torch.nn.Module):
        return getattr(value, "__name__", type(value).__name__)
    if isinstance(value, (list, tuple)) and any(True for _ in tensors_in(value)):
        rows = [show(one, 1) for one in value]
        if sum(map(len, rows)) <= WIDTH - 12:
            return "; ".join(rows)
        if len(rows) <= lines and max(map(len, rows)) <= WIDTH - 2:
            return "\n".join(rows)
        shapes = [str(tuple(one.shape)) for one in tensors_in(value)]
        listed = ", ".join(shapes[:6]) + (", ..." if len(shapes) > 6 else "")
        return f"{type(value).__name__} of {len(value)}, with tensors of shapes {listed}"
    text = _listed(value) if isinstance(value, list) else repr(value)
    return text if len(text) <= 2 * WIDTH else text[: 2 * WIDTH] + " ..."


def _shortened(due: object, got: object) -> bool:
    """Whether two tensors are so large that only the first row that differs is shown."""
    return (
        isinstance(due, Tensor)
        and isinstance(got, Tensor)
        and due.shape == got.shape
        and due.ndim > 1
        and not equal(due, got)
        and any("of shape" in show(one, 4) for one in (due, got))
    )


def case_text(trial: Trial, lines: int = LINES) -> str:
    """Write a case in a few lines: arguments, what is expected, and what came."""
    due, got = trial.expected, trial.got
    names = ("expected", "yours")
    if trial.error is None and equal(due, got) and trial.slopes:
        wrong = [
            i
            for i, one in enumerate(trial.slopes)
            if trial.got_slopes is None or not equal(one, trial.got_slopes[i])
        ]
        due = trial.slopes[wrong[0]] if wrong else due
        got = None if trial.got_slopes is None else trial.got_slopes[wrong[0]] if wrong else got
        names = ("expected gradient", "your gradient")
    kinds = [str(getattr(one, "dtype", "")).removeprefix("torch.") for one in (due, got)]
    if trial.error is None and all(kinds) and kinds[0] != kinds[1]:
        names = tuple(f"{name} ({kind})" for name, kind in zip(names, kinds, strict=True))
    pairs = list(trial.given.items())
    if trial.error is None:
        pairs += [(names[0], due), (names[1], got)]
    if _shortened(due, got):
        at = tuple((~close(got, due)).nonzero()[0].tolist()[:-1])
        pairs = pairs[:-2]
        pairs += [
            (f"{name}{list(at)}", one[at]) for name, one in zip(names, (due, got), strict=True)
        ]
    # What came is worth more lines than what was given: that is shortened first.
    last = {name for name, _ in pairs[-2:]}
    for budget, own in ((lines, lines), (4, lines), (3, 4), (2, 4), (1, 4), (1, 3), (1, 1)):
        parts = []
        for name, value in pairs:
            text = show(value, own if name in last else budget)
            gap = "\n  " if "\n" in text else " "
            parts.append(f"{name}:{gap}" + text.replace("\n", "\n  "))
        text = "\n".join(parts)
        if text.count("\n") < lines:
            return text
    return "\n".join(text.splitlines()[:lines])
