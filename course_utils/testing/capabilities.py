"""What a function can do on this machine, found by running it: right, wrong, or refused."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_RIGHT, _WRONG, _REFUSED = "right", "wrong", "refused"


@dataclass(frozen=True)
class Answer:
    """The outcome of one try.

    Attributes:
        state: "right", "wrong" or "refused".
        difference: the largest difference, relative to the largest true value; 0 where refused.
        why: the first line of the error, where refused.
    """

    state: str
    difference: float = 0.0
    why: str = ""

    def __str__(self) -> str:
        return self.state

    def __bool__(self) -> bool:
        return self.state == _RIGHT


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Hide torch's warnings about prototypes, and its logs, within the block."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _judged(found: Sequence[Tensor], truth: Sequence[Tensor], tolerance: float) -> Answer:
    worst = 0.0
    for here, there in zip(found, truth, strict=True):
        if here.shape != there.shape:
            return Answer(_WRONG, float("inf"))
        here, there = here.double().cpu(), there.double().cpu()
        gap = (here - there).abs().max() / there.abs().max().clamp(min=1e-30)
        worst = max(worst, gap.item() if gap.isfinite() else float("inf"))
    return Answer(_RIGHT if worst <= tolerance else _WRONG, worst)


def forward_and_gradient(
    function: Callable[..., Tensor],
    truth: Callable[..., Tensor],
    arguments: Sequence[Tensor],
    *,
    tolerance: float = 1e-4,
) -> dict[str, Answer]:
    """Try a function beside one that is right, without gradients and with them.

    Args:
        function: the function to try; it may raise any error.
        truth: gives the right answer for the same arguments, and has the right gradient.
        arguments: floating-point tensors; the gradient is taken with respect to each.
        tolerance: the largest relative difference that does not count.
    Returns:
        "forward" and "gradient" -> Answer. The gradient is that of a fixed random projection of
        the result, so that no direction goes unnoticed.

    >>> wrong = lambda x: x.detach() + 0 * x
    >>> found = forward_and_gradient(wrong, lambda x: x, [torch.ones(2)])
    >>> {name: str(answer) for name, answer in found.items()}
    {'forward': 'right', 'gradient': 'wrong'}
    """
    return {
        "forward": _tried(lambda: _forward(function, truth, arguments), tolerance),
        "gradient": _tried(lambda: _gradient(function, truth, arguments), tolerance),
    }


def one_graph(
    function: Callable[..., Tensor],
    truth: Callable[..., Tensor],
    arguments: Sequence[Tensor],
    *,
    gradient: bool = True,
    tolerance: float = 1e-4,
) -> Answer:
    """Try whether `torch.compile` takes a function as one graph, and whether that is right.

    It stops before code is generated, so that no compiler is needed.

    Args:
        function, truth, arguments, tolerance: as in `forward_and_gradient`.
        gradient: whether to try the gradient too.
    Returns:
        Answer; "refused" where the graph breaks.
    """
    with silent():
        torch.compiler.reset()
        whole = torch.compile(function, backend="aot_eager", fullgraph=True)
    ask = _gradient if gradient else _forward
    answer = _tried(lambda: ask(whole, truth, arguments), tolerance)
    torch.compiler.reset()
    return answer


_Both = tuple[Sequence[Tensor], Sequence[Tensor]]


def _tried(run: Callable[[], _Both], tolerance: float) -> Answer:
    try:
        with silent():
            found, right = run()
        return _judged(found, right, tolerance)
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        return Answer(_REFUSED, why=f"{type(error).__name__}: {lines[0]}")


@torch.no_grad()
def _forward(function: Callable, truth: Callable, arguments: Sequence[Tensor]) -> _Both:
    arguments = [one.detach() for one in arguments]
    return [function(*arguments)], [truth(*arguments)]


def _gradient(function: Callable, truth: Callable, arguments: Sequence[Tensor]) -> _Both:
    slopes = []
    for one in (function, truth):
        leaves = [argument.detach().clone().requires_grad_() for argument in arguments]
        value = one(*leaves)
        weights = torch.randn(value.shape, generator=torch.Generator().manual_seed(0))
        total = (value * weights.to(value)).sum()
        slopes.append(torch.autograd.grad(total, leaves))
    return slopes[0], slopes[1]
