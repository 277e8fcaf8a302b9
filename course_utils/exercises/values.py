"""What an answer returned: copied as plain data, compared, and cut to what a screen holds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# More than any exercise expects. What is larger is only named by its kind, and not looked into.
NUMBERS = 10**6
ITEMS = 10**4
DEPTH = 20
# Of a verdict.
LINES, COLUMNS = 30, 120


@dataclass(frozen=True)
class Other:
    """A value that no exercise expects.

    Attributes:
        kind: what it is, as in "returned ...".
        truth: what it is in an `if`, where its class says so.
    """

    kind: str
    truth: bool | None = None

    def __repr__(self) -> str:
        return self.kind


def plain(value: object, truths: bool = False) -> object:
    """Copy a learner's value as data in which none of the learner's code is left.

    Tensors become new tensors without a graph; lists and tuples become lists and tuples of plain
    values, with the same class name; a number stays a number, and a tensor of no dimension becomes
    one. Anything else, and anything far larger than an exercise can expect, becomes `Other`.

    Args:
        value: anything.
        truths: whether to ask values that are not numbers whether they are true. That runs the
            learner's `__bool__`, which may never end: guard the call.
    Returns:
        None, ..., a bool, int, float, str, tensor, array, list, tuple or Other.

    >>> plain((torch.tensor(2), "x", {1}))
    (2, 'x', a set)
    """
    return _plain(value, truths, (), [ITEMS])


def _plain(value: object, truths: bool, path: tuple[int, ...], left: list[int]) -> object:
    left[0] -= 1
    if value is None or value is ... or type(value) is bool:
        return value
    if isinstance(value, np.generic):
        number = value.item()
        return number if type(number) in (bool, int, float) else Other(kind(value))
    if isinstance(value, int):
        number = int.__add__(value, 0)
        return number if number.bit_length() < 1000 else Other("an int of hundreds of digits")
    if isinstance(value, float):
        return float.__add__(value, 0.0)
    if isinstance(value, str):
        length = str.__len__(value)
        return str.__str__(value) if length < 1000 else Other(f"a str of {length} characters")
    if isinstance(value, Tensor):
        return _plain_tensor(value)
    if type(value) is np.ndarray and value.size < NUMBERS and value.dtype.kind in "biuf":
        return value.copy()
    if isinstance(value, (list, tuple)):
        base = list if isinstance(value, list) else tuple
        name, length = type(value).__name__, base.__len__(value)
        if id(value) in path:
            return Other(f"a {name} that contains itself")
        if len(path) > DEPTH or length > left[0]:
            return Other(f"a {name} of {length}")
        inner = (*path, id(value))
        items = [_plain(one, truths, inner, left) for one in base.__iter__(value)]
        return base(items) if type(value) is base else type(name, (base,), {})(items)
    truth = None
    if truths and "__bool__" in dir(type(value)):
        try:
            truth = bool(value)
        except Exception:  # an array of many, say
            truth = None
    return Other(kind(value), truth)


def _plain_tensor(value: Tensor) -> object:
    # A subclass could change what every operation on it does.
    with torch._C.DisableTorchFunctionSubclass(), torch.no_grad():
        bare = Tensor.detach(value)
        if bare.is_nested:
            return Other("a nested tensor")
        strange = bare.layout != torch.strided or bare.is_complex() or bare.is_quantized
        if bare.device.type != "cpu" or strange:
            what = f"{bare.dtype}, {bare.layout}, on {bare.device}"
            return Other(f"a tensor of an unexpected kind: {what}")
        if bare.numel() > NUMBERS:
            return torch.empty(bare.shape, dtype=bare.dtype, device="meta")
        bare = torch.empty(bare.shape, dtype=bare.dtype).copy_(bare)
        return bare if bare.ndim else bare.item()


def kind(value: object) -> str:
    """Say what a value is, in a few words."""
    if isinstance(value, Other):
        return value.kind
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if value is None or value is ...:
        return "None" if value is None else "`...`"
    return f"a {type(value).__name__[:60]}"


def is_number(value: object) -> bool:
    """Whether a plain value is one number; a tensor of one is as good."""
    return isinstance(value, (bool, int, float)) or (
        isinstance(value, Tensor) and value.numel() == 1
    )


def difference(value: object, expected: object) -> str:
    """Say how a plain value differs from the expected one; nothing where it does not."""
    if isinstance(expected, (tuple, list)):
        if isinstance(value, Tensor) and value.ndim and not value.is_meta:
            value = list(value)  # a tensor of numbers is as good as a list of them
        if not isinstance(value, (tuple, list)) or len(value) != len(expected):
            found = f" of {len(value)}" if isinstance(value, (tuple, list)) else ""
            return f"returned {kind(value)}{found}, where {len(expected)} values are expected."
        parts = (difference(v, e) for v, e in zip(value, expected, strict=True))
        return next((part for part in parts if part), "")
    if isinstance(value, Other) and value.kind.startswith("a tensor"):
        return f"returned {value.kind}."
    if isinstance(expected, bool) and isinstance(value, Other) and value.truth is not None:
        value = value.truth  # a report that is true or false says enough
    if isinstance(expected, (bool, int, float)):
        if not is_number(value):
            return f"returned {kind(value)}, where one {type(expected).__name__} is expected."
        number = float(value)
        if isinstance(expected, bool) and not isinstance(value, bool) and number not in (0, 1):
            return "returned a number, where True or False is expected."
        both_nan = math.isnan(number) and math.isnan(expected)
        near = 1e-6 if isinstance(expected, int) else 1e-4
        close = both_nan or math.isclose(number, expected, rel_tol=near, abs_tol=1e-8)
        return "" if close else "the value is not equal."
    if isinstance(expected, Tensor):
        return _tensor_difference(value, expected)
    same = type(value) is type(expected) and value == expected
    return "" if same else f"returned {kind(value)}, where {kind(expected)} is expected."


def _tensor_difference(value: object, expected: Tensor) -> str:
    if not isinstance(value, Tensor):
        return f"returned {kind(value)}, where a tensor is expected."
    if value.shape != expected.shape:
        return f"returned shape {tuple(value.shape)}, where {tuple(expected.shape)} is expected."
    # Integers are distinguished from truth values, and each floating-point dtype from the others.
    kinds = [
        one.dtype if one.is_floating_point() else one.dtype == torch.bool
        for one in (value, expected)
    ]
    if kinds[0] != kinds[1]:
        return f"returned {value.dtype}, where {expected.dtype} is expected."
    if not expected.is_floating_point():
        # uint64 and int64 have no type in common.
        return "" if value.tolist() == expected.tolist() else "the values are not equal."
    pair = (one.detach().double() for one in (value, expected))
    close = torch.allclose(*pair, rtol=1e-4, atol=1e-5, equal_nan=True)
    return "" if close else "the values are not equal."


def changed(now: object, was: object) -> str:
    """Say what an answer has changed of an argument: "values", a model's "weights", or nothing.

    Running a model may change its buffers (running statistics), and an answer may have to set its
    mode, so these do not count. Other objects and functions are not looked into.
    """
    if isinstance(was, (list, tuple)):
        if type(now) is not type(was) or len(now) != len(was):
            return "values"
        return next(filter(None, map(changed, now, was)), "")
    if isinstance(was, torch.nn.Module):
        pairs = zip(now.parameters(), was.parameters(), strict=True)
        return "" if all(_same_bits(one, other) for one, other in pairs) else "weights"
    if isinstance(was, Tensor):
        return "" if isinstance(now, Tensor) and _same_bits(now, was) else "values"
    return ""


def _same_bits(one: Tensor, other: Tensor) -> bool:
    if (one.shape, one.dtype, one.device) != (other.shape, other.dtype, other.device):
        return False
    one, other = one.detach(), other.detach()
    return torch.equal(one, other) or bool(((one == other) | (one.isnan() & other.isnan())).all())


def screen(text: str, lines: int = LINES) -> str:
    """Cut a text to what fits on one screen, and say so where something is left out."""
    found = text[: 2 * lines * COLUMNS].splitlines()
    found = [line if len(line) <= COLUMNS else f"{line[: COLUMNS - 2]} …" for line in found]
    if len(found) > lines or len(text) > 2 * lines * COLUMNS:
        found = [*found[: lines - 1], "…"]
    return "\n".join(found)
