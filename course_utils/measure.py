"""What a method costs: paired ratios of time, activation bytes, floating-point operations."""

from __future__ import annotations

import contextlib
import copy
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from course_utils.batching import fill, pad
from course_utils.oracle import together_equals_alone


class Ratio(NamedTuple):
    """A ratio measured several times.

    Attributes:
        median: the median of the paired ratios.
        low, high: the smallest and the largest of them.
    """

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread within the block: small models are faster so, and timings calmer."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def fast_path(on: bool) -> Iterator[None]:
    """Turn the fused attention that PyTorch uses in evaluation on or off within the block."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(on)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def paired_ratio(
    a: Callable[[], object],
    b: Callable[[], object],
    *,
    pairs: int = 9,
    min_seconds: float = 0.02,
) -> Ratio:
    """Time a against b, in turns, and return time(a) / time(b): above 1 where b is faster.

    Processor time on one thread, A B A B: what else the machine does disturbs both alike, and
    the median drops the worst disturbance.

    Args:
        a, b: functions without arguments.
        pairs: how often each is timed, after one run to warm up.
        min_seconds: each timing repeats its function for at least so long.
    Returns:
        Ratio: median, smallest and largest of the paired ratios; no unit.
    Raises:
        ValueError: `pairs` is not positive.
    """
    if pairs < 1:
        raise ValueError(f"pairs is {pairs}: time at least one pair.")

    def seconds(function: Callable[[], object], repeats: int) -> float:
        start = time.process_time()
        for _ in range(repeats):
            function()
        return time.process_time() - start

    def repeats_for(function: Callable[[], object]) -> int:
        function()
        once = seconds(function, 1)
        return max(1, round(min_seconds / max(once, 1e-6)))

    with one_thread():
        repeats_a, repeats_b = repeats_for(a), repeats_for(b)
        ratios = []
        for _ in range(pairs):
            time_a = seconds(a, repeats_a) / repeats_a
            ratios.append(time_a / max(seconds(b, repeats_b) / repeats_b, 1e-9))
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def activation_bytes(forward: Callable[[], object], *, exclude: Iterable[Tensor] = ()) -> int:
    """Count the bytes that autograd keeps for the backward pass.

    Tensors that share memory are counted once. Bytes are deterministic where seconds are not.

    Args:
        forward: runs the forward pass and returns its result, with gradients on.
        exclude: tensors not to count, such as `model.parameters()`: they are there anyway.
    Returns:
        bytes.
    """
    storages: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        # Detached: an operation that keeps its own result would else keep itself alive for ever.
        tensor = tensor.detach()
        # The storage itself is held, not only its address: a freed address could come again.
        storages[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    # The result lives until the count is made, so that no address is freed and used twice.
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = forward()
    for tensor in exclude:
        storages.pop(tensor.untyped_storage().data_ptr(), None)
    total = sum(tensor.untyped_storage().nbytes() for tensor in storages.values())
    del result
    return total


def operations(function: Callable[[], object]) -> Counter[str]:
    """Count the operations that torch carries out, by name, such as "aten::addmm".

    A fused operation counts as one, whatever it does inside.

    Args:
        function: runs what is to be counted.
    Returns:
        name -> how often.
    """
    counter: Counter[str] = Counter()

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            counter[operation.name()] += 1
            return operation(*args, **(kwargs or {}))

    with Count():
        function()
    return counter


def lstm_flops(steps: int, input_size: int, hidden_size: int, directions: int = 1) -> int:
    """Count the floating-point operations of one LSTM layer's matrix products, forward.

    Each step multiplies its input and its state into four gates; a multiply-add counts as two.
    Counted by formula: PyTorch's own counter reports 0 for an LSTM on a CPU.

    Args:
        steps: all time steps run, padding included: B * T for a padded batch.
        input_size: D, the features of a step.
        hidden_size: H, the features of the state.
        directions: 1, or 2 for a bidirectional layer.
    Returns:
        floating-point operations.

    >>> lstm_flops(steps=1, input_size=3, hidden_size=2)
    80
    """
    return directions * steps * 2 * 4 * hidden_size * (input_size + hidden_size)


class Row(NamedTuple):
    """One method's line on the course's scoreboard.

    Attributes:
        method: its name.
        correct: whether together equals alone, in outputs, loss and gradients.
        fill: real steps / steps run.
        time_ratio: time of a training step of the baseline / of this method; above 1 is faster.
        activation_mib: MiB that autograd keeps for one training step.
        accuracy: on the test set, 0 to 1.
    """

    method: str
    correct: bool
    fill: float
    time_ratio: float
    activation_mib: float
    accuracy: float


# How often it runs depends on the machine; the random numbers that the caller draws next must not.
@torch.random.fork_rng(devices=[])
def score(
    method: str,
    model: nn.Module,
    sequences: Sequence[Tensor],
    *,
    baseline: nn.Module,
    accuracy: float,
    runs_padding: bool = True,
) -> Row:
    """Measure one method on one batch, for the scoreboard.

    Args:
        method: its name.
        model: called as `model(padded, lengths)`.
        sequences: B tensors of shapes (T_i, ...), the batch.
        baseline: the model whose time is 1.
        accuracy: of this model on the test set, 0 to 1.
        runs_padding: whether the method spends steps on padding; its fill is 1 where not.
    Returns:
        Row. Both models are left as they were: copies of them run.
    Raises:
        TypeError, ValueError: `sequences` cannot stand in one batch.
    """
    padded, lengths = pad(sequences)
    model, baseline = copy.deepcopy((model, baseline))

    def step(one: nn.Module) -> Callable[[], None]:
        return lambda: one(padded, lengths).square().mean().backward()

    return Row(
        method=method,
        correct=bool(together_equals_alone(model, sequences, extra_padding=20)),
        fill=fill(lengths) if runs_padding else 1.0,
        time_ratio=paired_ratio(step(baseline), step(model)).median,
        activation_mib=activation_bytes(
            lambda: model(padded, lengths), exclude=[padded, *model.parameters()]
        )
        / 2**20,
        accuracy=accuracy,
    )
