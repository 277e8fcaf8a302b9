"""What is special about a case, and where in a result it goes wrong, in words."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

NOUNS = {"B": "row", "R": "row", "T": "step", "D": "feature", "layer": "layer", "head": "head"}


@dataclass(frozen=True, eq=False)
class Trial:
    """One case: what was given, what was expected, and what came.

    Attributes:
        given: the arguments by name.
        expected: the value that the solution returns.
        got: the value that the answer returned, where it returned one.
        right: whether `expected` and `got` agree, gradients included.
        error: what the answer raised.
        slopes: the gradients expected with respect to each argument that requires one.
        got_slopes: the answer's own gradients; None where it has none.
    """

    given: Mapping[str, object]
    expected: object
    got: object
    right: bool
    error: BaseException | None = None
    slopes: Sequence[Tensor] | None = None
    got_slopes: Sequence[Tensor] | None = None


def close(one: Tensor, other: Tensor) -> Tensor:
    """Tell entry by entry whether two tensors of one shape agree, within the check's tolerance."""
    if one.is_complex() or other.is_complex():
        return torch.zeros(one.shape, dtype=torch.bool)
    return torch.isclose(
        one.detach().double(), other.detach().double(), rtol=1e-4, atol=1e-5, equal_nan=True
    )


def equal(one: object, other: object) -> bool:
    """Tell whether two values agree: tensors of one shape, or lists and tuples of such."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and bool(close(one, other).all())
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(equal, one, other))
    numbers = (bool, int, float)
    if isinstance(one, numbers) and isinstance(other, numbers):
        return bool(close(torch.tensor(float(one)), torch.tensor(float(other))))
    return False


def real_steps(given: Mapping[str, object]) -> Tensor | None:
    """Find which steps of a batch are real, (B, T), by the names of the arguments."""
    for name in ("target_keep_mask", "keep_mask", "attention_mask"):
        if isinstance(given.get(name), Tensor):
            return given[name].bool()
    if isinstance(given.get("key_padding_mask"), Tensor):
        return ~given["key_padding_mask"]
    if isinstance(given.get("document_id"), Tensor):
        return given["document_id"] >= 0
    lengths, T = given.get("lengths"), None
    for name in ("padded", "output"):
        if isinstance(given.get(name), Tensor):
            T = given[name].shape[1]
    for name in ("sequences", "texts", "labels"):
        if isinstance(given.get(name), list):
            lengths = torch.tensor([len(one) for one in given[name]])
            T = int(lengths.max())
    if T is None or not isinstance(lengths, Tensor):
        return None
    return torch.arange(T) < lengths[:, None]


def lengths_of(given: Mapping[str, object]) -> object:
    """Find the lengths that were given, by themselves or as the borders of a flat batch."""
    borders = given.get("cu_seqlens")
    return borders.diff() if isinstance(borders, Tensor) else given.get("lengths")


def tensors_in(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from tensors_in(one)


def quantities(given: Mapping[str, object]) -> dict[str, Tensor]:
    """Collect the numbers that a wrong answer may multiply or divide by: sizes, lengths, counts."""
    found = {"1": torch.tensor(1.0)}
    keep, lengths = real_steps(given), lengths_of(given)
    if keep is not None:
        B, T = keep.shape
        lengths = keep.sum(1)
        found |= {"T": torch.tensor(T), "the number of all steps": torch.tensor(B * T)}
    if isinstance(lengths, Tensor) and lengths.ndim == 1:
        found |= {
            ("B" if keep is not None else "the number of sequences"): torch.tensor(len(lengths)),
            "the length": lengths,
            "the longest length": lengths.max(),
            "the number of real steps": lengths.sum(),
        }
    if keep is None and isinstance(given.get("targets"), Tensor):
        found |= {
            "the number of targets": torch.tensor(len(given["targets"])),
            "the number of targets that are not -100": (given["targets"] != -100).sum(),
        }
        if isinstance(given.get("logits"), Tensor):
            found["the number of classes"] = torch.tensor(given["logits"].shape[-1])
    if "micro_batches" in given:
        keeps = [keep_mask for *_, keep_mask in given["micro_batches"]]
        found |= {
            "the number of real steps": sum(one.sum() for one in keeps),
            "the number of all steps": torch.tensor(sum(one.numel() for one in keeps)),
            "the number of sequences": torch.tensor(sum(map(len, keeps))),
        }
    found |= {
        f"`{name}`": torch.tensor(value)
        for name, value in given.items()
        if isinstance(value, int) and not isinstance(value, bool) and value
    }
    for name, value in given.items():
        if isinstance(value, list) and name not in ("sequences", "texts", "labels"):
            found[f"the number of `{name}`"] = torch.tensor(len(value))
    return {name: value.double() for name, value in found.items()}


def facts(given: Mapping[str, object]) -> dict[str, bool]:
    """Say what is special about a case, each in words that go after "only"."""
    found = {}
    keep, lengths = real_steps(given), lengths_of(given)
    if keep is not None:
        B, T = keep.shape
        lengths = keep.sum(1)
        regular = torch.equal(keep, torch.arange(T) < lengths[:, None])
        found |= {
            "where there is padding": not bool(keep.all()),
            "where nothing is padded": bool(keep.all()),
            "where the batch is wider than its longest sequence": int(lengths.max()) < T,
            "where a sequence has no real step": bool((lengths == 0).any()),
            "where the mask has a hole": "keep_mask" in given and not regular,
            "where B = T": B == T,
            "where B is not T": B != T,
        }
    # What a row of several sequences holds has no length.
    if isinstance(lengths, Tensor) and lengths.ndim == 1 and "document_id" not in given:
        steps = lengths.diff()
        found |= {
            "in a batch of one sequence": len(lengths) == 1,
            "in batches of several sequences": len(lengths) > 1,
            "where the lengths differ": bool(steps.any()),
            "where the longest sequence does not come first": int(lengths.argmax()) > 0,
            "where the lengths are not sorted, longest first": bool((steps > 0).any()),
            "where the lengths are sorted, longest first": not bool((steps > 0).any()),
            "where two lengths are equal": len(lengths.unique()) < len(lengths),
        }
    for name, value in given.items():
        if isinstance(value, bool):
            found |= {f"where `{name}` is {value}": True}
        if isinstance(value, Tensor) and value.is_floating_point():
            at_real = at_padding = value
            if keep is not None and value.shape[: keep.ndim] == keep.shape:
                at_real, at_padding = value[keep], value[~keep]
                found[f"where `{name}` is not finite at the padding"] = not bool(
                    at_padding.isfinite().all()
                )
            found[f"where `{name}` is not finite at a real step"] = not bool(
                at_real.isfinite().all()
            )
            found[f"where `{name}` has large values"] = bool(
                (at_real[at_real.isfinite()].abs() > 80).any()
            )
    targets = given.get("targets")
    if keep is None and isinstance(targets, Tensor):
        found |= {
            "where no target counts": bool((targets == -100).all()),
            "where some target is -100": bool((targets == -100).any()),
            "where no target is -100": not bool((targets == -100).any()),
        }
    layers = given.get("layers")
    if isinstance(layers, list):
        parts = zip(("stride", "padding", "dilation"), (1, 0, 1), (1, 2, 3), strict=True)
        found |= {"where there are several layers": len(layers) > 1}
        found |= {
            f"where a layer has a {name} of more than {least}": any(
                one[i] > least for one in layers
            )
            for name, least, i in parts
        }
        found["where a kernel has an even size"] = any(one[0] % 2 == 0 for one in layers)
    for value in given.values():
        layers = getattr(value, "num_layers", None)
        if isinstance(layers, int):
            found |= {"where there are several layers": layers > 1}
    return found


def measures(given: Mapping[str, object]) -> dict[str, float]:
    """Collect the sizes by which right and wrong cases may be told apart."""
    sizes = ("T", "B", "the number of sequences", "the longest length")
    found = {n: float(value) for n, value in quantities(given).items() if n in sizes}
    found |= {
        f"`{name}`": value
        for name, value in given.items()
        if isinstance(value, int) and not isinstance(value, bool)
    }
    for name, value in given.items():
        if isinstance(value, list) and name not in ("sequences", "texts", "labels"):
            found[f"the number of `{name}`"] = len(value)
    for value in given.values():
        sizes = getattr(value, "batch_sizes", None)
        if sizes is not None:
            found |= {"T": len(sizes), "B": int(sizes[0])}
    return found


def thresholds(trials: Sequence[Trial], bad: Sequence[bool]) -> dict[str, list[bool]]:
    """Find the sizes above or below which the answer goes wrong, and only there."""
    sizes, found = [measures(trial.given) for trial in trials], {}
    if all(bad) or not any(bad):
        return found
    for name in dict.fromkeys(itertools.chain(*sizes)):
        if all(name in one for one in sizes):
            wrong = [one[name] for one, b in zip(sizes, bad, strict=True) if b]
            right = [one[name] for one, b in zip(sizes, bad, strict=True) if not b]
            sequences = name in ("B", "the number of sequences")
            if min(wrong) > max(right):
                phrase = f"where {name} is more than {max(right):g}"
                if sequences and max(right) == 1:
                    phrase = "in batches of several sequences"
                found[phrase] = list(bad)
            elif max(wrong) < min(right):
                phrase = f"where {name} is less than {min(right):g}"
                if sequences and max(wrong) == 1:
                    phrase = "in a batch of one sequence"
                found[phrase] = list(bad)
    return found


def only_cases(trials: Sequence[Trial], bad: Sequence[bool]) -> str:
    """Say in which cases the answer goes wrong, "only where ...", if one fact tells them apart.

    Args:
        trials: all cases.
        bad: for each case, whether it is one of those to be described.
    """
    if all(bad) or not any(bad):
        return ""
    every = [facts(trial.given) for trial in trials]
    exact = []
    for name in dict.fromkeys(itertools.chain(*every)):
        has = [one.get(name, False) for one in every]
        if all(h or not b for h, b in zip(has, bad, strict=True)) and not all(has):
            exact.append((sum(has), name))
    exact = [(sum(bad), name) for name in thresholds(trials, bad)] + exact
    if not exact:
        return ""
    count, name = min(exact, key=lambda one: one[0])
    return f"only {name}" if sum(bad) >= 0.3 * count else ""


def axis_of(axes: Sequence[str], *letters: str) -> int | None:
    return next((i for i, letter in enumerate(axes) if letter in letters), None)


def _along(mask: Tensor, axes: Sequence[int], ndim: int) -> Tensor:
    """Give a mask the dimensions of a result: its own become `axes`, the others have size 1."""
    shape = [1] * ndim
    for size, axis in zip(mask.shape, axes, strict=True):
        shape[axis] = size
    return mask.reshape(shape)


def places(given: Mapping[str, object], shape: Sequence[int], axes: Sequence[str]) -> dict:
    """Name the places in a result: phrase -> bool tensor that broadcasts to its shape."""
    ndim, found = len(shape), {}
    keep, lengths = real_steps(given), lengths_of(given)
    row, step = axis_of(axes, "B", "R"), axis_of(axes, "T")
    if keep is not None:
        lengths = keep.sum(1)
    if row is not None and isinstance(lengths, Tensor) and len(lengths) == shape[row]:
        rows = {
            "in the longest sequences of a batch": lengths == lengths.max(),
            "in the sequences that are shorter than the longest": lengths < lengths.max(),
            "in sequences of one step": lengths == 1,
            "in sequences of more than one step": lengths > 1,
            "in sequences without a real step": lengths == 0,
        }
        if keep is not None:
            rows |= {
                "in sequences that have padding": lengths < keep.shape[1],
                "in sequences without padding": lengths == keep.shape[1],
            }
        found |= {name: _along(mask, [row], ndim) for name, mask in rows.items()}
    flat = axis_of(axes, "S")
    if flat is not None and isinstance(lengths, Tensor) and int(lengths.sum()) == shape[flat]:
        index = torch.cat([torch.arange(int(n)) for n in lengths])
        after = torch.arange(shape[flat]) >= lengths[0]
        steps = {
            "at the first step of a sequence": index == 0,
            "from the second step of a sequence on": index > 0,
            "in the first sequence": ~after,
            "in the sequences after the first": after,
        }
        found |= {name: _along(mask, [flat], ndim) for name, mask in steps.items()}
    if None not in (row, step, keep) and (shape[row], shape[step]) == tuple(keep.shape):
        steps, last = torch.arange(shape[step]), lengths[:, None] - 1
        cells = {
            "at the padding": ~keep,
            "at real steps": keep,
            "at the last real step of a sequence": steps == last,
            "before the last real step of a sequence": steps < last,
            "at the first step of the padding": steps == last + 1,
            "from the second step of the padding on": steps > last + 1,
            "at the first real step of a sequence": (steps == 0) & keep,
            "from the second real step on": (steps > 0) & keep,
        }
        if "document_id" in given:
            ids = given["document_id"]
            new = torch.ones_like(keep)
            new[:, 1:] = ids[:, 1:] != ids[:, :-1]
            ends = new.roll(-1, dims=1)
            ends[:, -1] = True
            first = (new.cumsum(1) == 1) & keep
            for name in ("last real", "first real", "before the last", "second real"):
                cells = {key: mask for key, mask in cells.items() if name not in key}
            cells |= {
                "at the first step of a sequence": new & keep,
                "at the last step of a sequence": ends & keep,
                "in the sequences after the first of a row": keep & ~first,
                "in the first sequence of a row": first,
                "at the last step of a row": _along(steps == shape[step] - 1, [1], 2),
            }
        found |= {name: _along(mask, [row, step], ndim) for name, mask in cells.items()}
    times = [i for i, letter in enumerate(axes) if letter == "T"]
    if len(times) == 2:
        asks, asked = torch.arange(shape[times[0]])[:, None], torch.arange(shape[times[1]])
        pairs = {
            "where a step looks at a later one": asked > asks,
            "where a step looks at an earlier one": asked < asks,
            "where a step looks at itself": asked == asks,
        }
        found |= {name: _along(mask, times, ndim) for name, mask in pairs.items()}
        if "document_id" in given:
            ids = given["document_id"]
            same = ids[:, :, None] == ids[:, None, :]
            pad = (ids[:, :, None] < 0) & (ids[:, None, :] < 0)
            found["where a step looks at another sequence"] = ~same
            found["where padding looks at padding"] = pad
            found["where a step looks at its own sequence"] = same & ~pad
    for axis, letter in enumerate(axes):
        noun, index = NOUNS.get(letter), torch.arange(shape[axis])
        if letter == "2H":
            half = index < shape[axis] // 2
            found["in the forward half"] = _along(half, [axis], ndim)
            found["in the backward half"] = _along(~half, [axis], ndim)
        if noun is None or (letter == "T" and axis != step):
            continue
        prefix = "at" if noun == "step" else "in"
        of = "result" if noun in ("row", "layer") else "row"
        named = {
            f"{prefix} the first {noun}": index == 0,
            f"from the second {noun} on": index > 0,
            f"{prefix} the last {noun} of the {of}": index == shape[axis] - 1,
            f"before the last {noun} of the {of}": index < shape[axis] - 1,
        }
        if noun == "step":
            named["after the first 8 steps"] = index >= 8
        found |= {name: _along(mask, [axis], ndim) for name, mask in named.items()}
    return found


def _longer_than(trials: Sequence[Trial], axes: Sequence[str]) -> int | None:
    """The length up to which every sequence is right, if all longer ones have something wrong."""
    row, wrong, right = axis_of(axes, "B", "R"), [], []
    for trial in trials:
        lengths = quantities(trial.given).get("the length")
        if row is None or len(axes) != trial.expected.ndim or lengths is None:
            return None
        if len(lengths) != trial.expected.shape[row]:
            return None
        unlike = ~close(trial.got, trial.expected).movedim(row, 0).reshape(len(lengths), -1).all(1)
        wrong += lengths[unlike].tolist()
        right += lengths[~unlike].tolist()
    return int(max(right)) if wrong and right and min(wrong) > max(right) > 1 else None


def where(trials: Sequence[Trial], axes: Sequence[str]) -> str:
    """Say where the result is wrong, "only ...", if one or two facts describe the place."""
    wrong, spots, due = [], [], torch.cat([t.expected.detach().double().flatten() for t in trials])
    told = thresholds(trials, [not trial.right for trial in trials])
    tells = [{name: has[i] for name, has in told.items()} for i in range(len(trials))]
    long = _longer_than(trials, axes)
    for trial in trials:
        unlike = ~close(trial.got, trial.expected)
        known = places(trial.given, unlike.shape, axes) if len(axes) == unlike.ndim else {}
        if long is not None:
            mask = quantities(trial.given)["the length"] > long
            known[f"in sequences of more than {long} steps"] = _along(
                mask, [axis_of(axes, "B", "R")], unlike.ndim
            )
        known = {n: torch.tensor(v) for n, v in tells[len(wrong)].items()} | known
        known |= {name: torch.tensor(value) for name, value in facts(trial.given).items()}
        wrong.append(unlike.flatten())
        spots.append({n: m.broadcast_to(unlike.shape).flatten() for n, m in known.items()})
    bad, names = torch.cat(wrong), dict.fromkeys(itertools.chain(*spots))
    everywhere = {
        name: torch.cat(
            [s.get(name, torch.zeros_like(w)) for s, w in zip(spots, wrong, strict=True)]
        )
        for name in names
    }
    covering = {n: m for n, m in everywhere.items() if not bool((bad & ~m).any())}
    count, found = int(bad.sum()), []
    for name, mask in covering.items():
        found.append((int(mask.sum()), [name]))
    for one, other in itertools.combinations(covering, 2):
        both = int((covering[one] & covering[other]).sum())
        if 1.5 * both < min(int(covering[one].sum()), int(covering[other].sum())):
            found.append((1.5 * both, [one, other]))
    found = [one for one in found if one[0] <= 0.9 * len(bad) and count >= 0.25 * one[0]]
    if not found:
        return ""
    # A place in the result is said before a fact about the whole case.
    chosen = sorted(
        min(found, key=lambda one: one[0])[1], key=lambda name: name.startswith("where")
    )
    inside = torch.stack([everywhere[name] for name in chosen]).all(0)
    if count > 0.95 * int(inside.sum()) and len(due[~inside].unique()) < 2 < len(due.unique()):
        return ""  # it says little that only the zeros at the padding are right
    return "only " + ", and only ".join(chosen)


def size_names(trial: Trial, axes: Sequence[str]) -> dict[int, str]:
    """Name the sizes of a case, where no two axes are equally long."""
    named = {}
    keep = real_steps(trial.given)
    known = dict(zip(axes, trial.expected.shape, strict=False)) if axes else {}
    if keep is not None:
        known |= {"T": keep.shape[1]} | ({} if "R" in axes else {"B": keep.shape[0]})
    for value in tensors_in(list(trial.given.values())):
        if value.ndim == 3 and "D" not in known and "H" not in known:
            known["D"] = value.shape[2]
    for letter, size in known.items():
        named.setdefault(int(size), []).append(letter)
    return {size: letters[0] if len(letters) == 1 else "" for size, letters in named.items()}
