"""Does a batch change a model's answer? Measured a second time, with no line of the oracle's.

The oracle is asked the same in `models.py`, and both answers must agree. So nothing is imported
from the course here: own copies, own precision, own dropout, own loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

PATHS = ("training", "evaluation", "inference")
# Between rounding, which parts in float32 within a model of float64 take to 1e-6, and the faults.
THRESHOLDS = {torch.float64: 1e-5, torch.float32: 1e-3}
SMALL = 1e-2  # a gradient is compared with the model's largest times this, at least


@dataclass(frozen=True)
class Setup:
    """One model, and how its batches are made and read.

    Attributes:
        library: the distribution it comes from, whose version is printed.
        model: what the table calls it.
        passed: what the model is told about the padding.
        build: `build(dropout)` gives the model, with its dropout at 0 where `dropout` is False.
        samples: gives the samples of one seed.
        batch: `batch(samples, extra, value)` collates them with `extra` more columns of padding;
            `value` fills all of the padding, where it is not None.
        rows: `rows(model, batch)` gives the answer of each sample, at its real steps.
        ask: `ask(testing)` gives the oracle's arguments, of the module `course_utils.testing`:
            an adapter where it has one for this kind of batch. Where `collate` is none of them, it
            is `batch`.
        has_content: whether `value` is a question: padding of floats, not of a token of its own.
        note: what a reader should know beside the row.
    """

    library: str
    model: str
    passed: str
    build: Callable[[bool], nn.Module]
    samples: Callable[[torch.Generator], list]
    batch: Callable[..., Any]
    rows: Callable[[Any, Any], list[Tensor]]
    ask: Callable[[Any], dict]
    has_content: bool = False
    note: str = ""

    @property
    def name(self) -> str:
        return f"{self.library}: {self.model}, {self.passed}"


@dataclass
class Difference:
    """The largest differences on one path, each relative to the largest value alone.

    Attributes:
        outputs, gradients: with padding as the set-up makes it.
        content: of outputs and gradients, once something else stands in the padding.
        again: of two runs on one batch. Where that is not 0, the model itself is random.
        errors: what was raised.
        dtype: the precision in which all was measured.
    """

    outputs: float = 0.0
    gradients: float = 0.0
    content: float = 0.0
    again: float = 0.0
    errors: list[str] = field(default_factory=list)
    dtype: torch.dtype = torch.float64

    @property
    def largest(self) -> float:
        return max(self.outputs, self.gradients, self.content, self.again)

    @property
    def threshold(self) -> float:
        return THRESHOLDS[self.dtype]

    @property
    def random(self) -> bool:
        return not self.again <= self.threshold / 1000

    @property
    def faulty(self) -> bool:
        return bool(self.errors) or self.random or not self.largest <= self.threshold


def spread(model: nn.Module, seed: int) -> nn.Module:
    """Move all weights and running statistics a little, as training does.

    A bias of 0 or a fresh BatchNorm would hide what padding does to them.
    """
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point():
                parameter += 0.1 * torch.randn(parameter.shape, generator=noise)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer += 0.3 * torch.randn(buffer.shape, generator=noise)
            elif name.endswith("running_var"):
                buffer *= torch.exp(0.3 * torch.randn(buffer.shape, generator=noise))
    return model


def cast(value: Any, dtype: torch.dtype) -> Any:
    """Give each floating-point tensor of a batch this precision."""
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, dict):
        return {key: cast(one, dtype) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(cast(one, dtype) for one in value)
    return value


def without_dropout(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        elif isinstance(module, (nn.MultiheadAttention, nn.RNNBase)):
            module.dropout = 0.0


def difference(ours: Tensor, theirs: Tensor, scale: float) -> float:
    """The largest absolute difference over `scale`; infinite where shape, NaN or inf differ."""
    if ours.shape != theirs.shape:
        return math.inf
    equal = (ours == theirs) | (torch.isnan(ours) & torch.isnan(theirs))
    if bool(equal.all()):
        return 0.0
    gap = (ours[~equal] - theirs[~equal]).abs().max().item()
    return gap / scale if math.isfinite(gap) and scale > 0 else math.inf


def plans(count: int, has_content: bool) -> Iterator[tuple[list[list[int]], int, float | None]]:
    """The batches to try: groups of samples, columns of padding, what the padding holds."""
    everyone = list(range(count))
    yield [everyone], 0, None
    yield [everyone], 1, None
    yield [everyone], 13, None
    yield [everyone[i : i + 2] for i in range(0, count, 2)], 0, None
    yield [everyone[2:] + everyone[:2]], 0, None
    if has_content:
        yield [everyone], 3, 11.0


def measure(setup: Setup, seed: int, paths: tuple[str, ...] = PATHS) -> dict[str, Difference]:
    """Run the samples alone and in other batches, on each path, and compare at the real steps.

    All in float64. A model that raises or gives NaN there and not in float32, because it masks
    with the least number of float64 for example, is measured in float32.
    """
    found = measure_in(setup, seed, paths, torch.float64)
    if any(one.errors or not math.isfinite(one.largest) for one in found.values()):
        again = measure_in(setup, seed, paths, torch.float32)
        if not any(one.errors or not math.isfinite(one.largest) for one in again.values()):
            return again
    return found


def measure_in(
    setup: Setup, seed: int, paths: tuple[str, ...], dtype: torch.dtype
) -> dict[str, Difference]:
    samples = setup.samples(torch.Generator().manual_seed(seed))
    torch.manual_seed(seed)
    model = spread(setup.build(False), seed).to(dtype)
    without_dropout(model)
    state = {name: value.clone() for name, value in model.state_dict().items()}

    def run(
        order: list[int], extra: int, value: float | None, path: str, noise: int = 0
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        model.load_state_dict(state)
        model.train(path == "training")
        model.zero_grad(set_to_none=True)
        torch.manual_seed(seed + noise)
        batch = cast(setup.batch([samples[index] for index in order], extra, value), dtype)
        with torch.set_grad_enabled(path != "inference"):
            rows = list(setup.rows(model, batch))
        assert len(rows) == len(order), f"{len(rows)} rows for {len(order)} samples"
        if path == "inference":
            return rows, {}
        total = torch.zeros((), dtype=dtype)
        for index, row in zip(order, rows, strict=True):
            direction = torch.randn(row.shape, generator=torch.Generator().manual_seed(index))
            total = total + (row * direction).sum()
        total.backward()
        gradients = {
            name: torch.zeros_like(one) if one.grad is None else one.grad.clone()
            for name, one in model.named_parameters()
        }
        return [row.detach() for row in rows], gradients

    def compare(path: str, found: Difference) -> None:
        alone: list[Tensor] = []
        summed: dict[str, Tensor] = {}
        for index in range(len(samples)):
            rows, gradients = run([index], 0, None, path)
            alone += rows
            for name, one in gradients.items():
                summed[name] = summed.get(name, 0) + one
        scale = max(row.abs().max().item() for row in alone)
        largest = max((one.abs().max().item() for one in summed.values()), default=0.0)
        everyone = list(range(len(samples)))
        first, second = (run(everyone, 0, None, path, noise=noise)[0] for noise in (0, 1))
        for one, other in zip(first, second, strict=True):
            found.again = max(found.again, difference(other, one, scale))
        for groups, extra, value in plans(len(samples), setup.has_content):
            together: dict[str, Tensor] = {}
            outputs, slopes = 0.0, 0.0
            for order in groups:
                rows, gradients = run(order, extra, value, path)
                for index, row in zip(order, rows, strict=True):
                    outputs = max(outputs, difference(row, alone[index], scale))
                for name, one in gradients.items():
                    together[name] = together.get(name, 0) + one
            for name, one in together.items():
                size = max(summed[name].abs().max().item(), SMALL * largest)
                slopes = max(slopes, difference(one, summed[name], size))
            if value is not None:
                found.content = max(found.content, outputs, slopes)
            else:
                found.outputs = max(found.outputs, outputs)
                found.gradients = max(found.gradients, slopes)

    def on(path: str) -> Difference:
        found = Difference(dtype=dtype)
        try:
            compare(path, found)
        except Exception as error:
            found.errors.append(f"{type(error).__name__}: {(str(error) or '?').splitlines()[0]}")
        return found

    return {path: on(path) for path in paths}
