"""What a method costs: paired ratios of time, activation bytes, floating-point operations."""

from __future__ import annotations

import contextlib
import copy
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from course_utils.batches.padding import fill, pad
from course_utils.testing import together_equals_alone

Batch = TypeVar("Batch")


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
    """Let torch use one thread in the block: small models run faster, and timings vary less."""
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


def speed_in_words(ratio: float) -> str:
    """Say what a ratio of times means, for a sentence that begins with what is timed.

    Args:
        ratio: time of the other / time of this one; above 1 where this one is faster.
    Returns:
        "is 2.0 times as fast", "takes 3.1 times as long", or "takes about as long", within a tenth.

    >>> speed_in_words(2), speed_in_words(0.25), speed_in_words(1.05)
    ('is 2.0 times as fast', 'takes 4.0 times as long', 'takes about as long')
    """
    if not ratio > 0:
        raise ValueError(f"ratio is {ratio}: give a number above 0, one time divided by another.")
    if 1 / 1.1 < ratio < 1.1:
        return "takes about as long"
    return f"is {ratio:.1f} times as fast" if ratio > 1 else f"takes {1 / ratio:.1f} times as long"


def paired_ratio(
    a: Callable[[], object],
    b: Callable[[], object],
    *,
    pairs: int = 9,
    min_seconds: float = 0.02,
) -> Ratio:
    """Time a against b, in turns, and return time(a) / time(b): above 1 where b is faster.

    It measures processor time on one thread, in the order A B A B, so that whatever else the
    machine does disturbs both alike; the median drops the worst disturbance.

    Args:
        a, b: functions without arguments.
        pairs: how often each is timed, after one run to warm up.
        min_seconds: each timing repeats its function for at least this long.
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

    Tensors that share memory are counted once. Unlike seconds, bytes are deterministic.

    Args:
        forward: runs the forward pass and returns its result, with gradients on.
        exclude: tensors not to count, such as `model.parameters()`, which exist anyway.
    Returns:
        bytes.
    """
    storages: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        # Detached, or an operation that keeps its own result would keep itself alive for ever.
        tensor = tensor.detach()
        # The storage itself is held, not only its address, because a freed address could be reused.
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
        function: runs the operations to count.
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
    A formula counts them, because PyTorch's own counter reports 0 for an LSTM on a CPU.

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


@torch.random.fork_rng(devices=[])
def costs_of_padding(lengths: Tensor, *, input_size: int, hidden_size: int) -> dict[str, float]:
    """Say what an LSTM layer does and keeps for a padded batch.

    Args:
        lengths: (B,) int64, steps of the sequences; their content does not matter.
        input_size, hidden_size: features of a step, and of the state.
    Returns:
        "padded operations" and "real operations", by `lstm_flops`, of all steps run and of the real
        ones alone; "kept bytes per real step", which autograd keeps for the backward pass.
    """
    padded, lengths = pad([torch.zeros(n, input_size) for n in lengths.tolist()])
    lstm = nn.LSTM(input_size, hidden_size, batch_first=True)
    kept = activation_bytes(lambda: lstm(padded), exclude=[padded, *lstm.parameters()])
    real = int(lengths.sum())
    return {
        "padded operations": lstm_flops(padded.shape[0] * padded.shape[1], input_size, hidden_size),
        "real operations": lstm_flops(real, input_size, hidden_size),
        "kept bytes per real step": kept / real,
    }


class Score(NamedTuple):
    """One method's line on the course's scoreboard.

    Attributes:
        method: its name.
        correct: whether together equals alone, in outputs, loss and gradients.
        fill: real steps / steps run.
        time_ratio: time of a training step of the baseline / of this method; above 1 is faster.
        activation_mib: MiB that autograd keeps for one training step.
        accuracy: on the test set, 0 to 1; NaN if it was not measured.
    """

    method: str
    correct: bool
    fill: float
    time_ratio: float
    activation_mib: float
    accuracy: float


# How often it runs depends on the machine, but the caller's next random numbers must not.
@torch.random.fork_rng(devices=[])
def score(
    method: str,
    model: nn.Module,
    sequences: Sequence[Tensor],
    *,
    baseline: nn.Module,
    accuracy: float = float("nan"),
    runs_padding: bool = True,
) -> Score:
    """Measure one method on one batch, for the scoreboard.

    Args:
        method: its name.
        model: called as `model(padded, lengths)`.
        sequences: B tensors of shapes (T_i, ...), the batch.
        baseline: the model whose time is 1.
        accuracy: of this model on the test set, 0 to 1; NaN if it was not measured.
        runs_padding: whether the method spends steps on padding; if not, its fill is 1.
    Returns:
        Score. Both models are left as they were, because copies of them run.
    Raises:
        TypeError, ValueError: `sequences` cannot be in one batch.
    """
    padded, lengths = pad(sequences)
    itself = model is baseline  # its ratio is 1 by definition, and not what a clock says
    model, baseline = copy.deepcopy((model, baseline))

    def step(timed: nn.Module) -> Callable[[], None]:
        return lambda: timed(padded, lengths).square().mean().backward()

    return Score(
        method=method,
        correct=bool(together_equals_alone(model, sequences, extra_padding=20)),
        fill=fill(lengths) if runs_padding else 1.0,
        time_ratio=1.0 if itself else paired_ratio(step(baseline), step(model)).median,
        activation_mib=activation_bytes(
            lambda: model(padded, lengths), exclude=[padded, *model.parameters()]
        )
        / 2**20,
        accuracy=accuracy,
    )


def _padded_and_packed(
    cell: type[nn.RNNBase], lengths: Tensor, input_size: int, hidden_size: int
) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    model = cell(input_size, hidden_size, batch_first=True)
    padded, lengths = pad([torch.randn(n, input_size) for n in lengths.tolist()])
    return model, padded, lengths


def _pack(padded: Tensor, lengths: Tensor) -> nn.utils.rnn.PackedSequence:
    return nn.utils.rnn.pack_padded_sequence(
        padded, lengths, batch_first=True, enforce_sorted=False
    )


@torch.random.fork_rng(devices=[])
def padded_to_packed(
    cell: type[nn.RNNBase], lengths: Tensor, *, input_size: int, hidden_size: int
) -> dict[str, float]:
    """Measure a recurrent layer on a padded batch against the same layer on a packed one.

    Args:
        cell: `nn.LSTM`, `nn.GRU` or `nn.RNN`.
        lengths: (B,) int64, steps of the sequences; their content is random.
        input_size, hidden_size: features of a step, and of the state.
    Returns:
        "training" (forward and backward), "inference" and "kept bytes", each as padded / packed:
        above 1 where packing needs less. The packed time includes the packing.
    """
    model, padded, lengths = _padded_and_packed(cell, lengths, input_size, hidden_size)
    forwards = (lambda: model(padded)[0], lambda: model(_pack(padded, lengths))[0].data)
    backwards = [lambda forward=forward: forward().sum().backward() for forward in forwards]
    with torch.no_grad():
        inference = paired_ratio(*forwards, pairs=5).median
    exclude = [padded, *model.parameters()]
    kept = [activation_bytes(forward, exclude=exclude) for forward in forwards]
    return {
        "training": paired_ratio(*backwards, pairs=5).median,
        "inference": inference,
        "kept bytes": kept[0] / kept[1],
    }


@torch.random.fork_rng(devices=[])
def operations_of_forward(
    cell: type[nn.RNNBase], lengths: Tensor, *, input_size: int, hidden_size: int
) -> list[dict[str, object]]:
    """Count the operations of a recurrent layer's forward pass, padded and packed.

    Args:
        cell, lengths, input_size, hidden_size: as for `padded_to_packed`.
    Returns:
        two rows, "padded" and "packed" under "way": "steps", T; "operations", how many torch
        carries out; "fused", whether one of them runs all steps.
    """
    model, padded, lengths = _padded_and_packed(cell, lengths, input_size, hidden_size)
    model.requires_grad_(False)
    rows = []
    for way, batch in {"padded": padded, "packed": _pack(padded, lengths)}.items():
        seen = operations(lambda batch=batch: model(batch))
        fused = any("rnn_layer" in operation for operation in seen)
        row = {"steps": padded.shape[1], "way": way, "operations": sum(seen.values())}
        rows.append(row | {"fused": fused})
    return rows


def seconds_taken(function: Callable, *arguments: object) -> tuple[object, float]:
    """Call a function, and measure the processor time that it takes.

    Args:
        function: called once with the arguments.
        *arguments: of the call.
    Returns:
        what it returned, and the seconds.
    """
    start = time.process_time()
    result = function(*arguments)
    return result, time.process_time() - start


def training_steps(
    model: nn.Module, batches: Iterable[Batch], losses: Callable[[Batch], Tensor]
) -> Callable[[], None]:
    """Make a function that runs forward and backward on each batch; no optimizer takes a step.

    Args:
        model: its gradients are cleared before each batch.
        batches: what `losses` takes.
        losses: gives the losses of a batch, of any shape; their sum goes backward.
    Returns:
        a function without arguments, for `paired_ratio`.
    """

    def run() -> None:
        for batch in batches:
            model.zero_grad()
            losses(batch).sum().backward()

    return run


def compare_forms(
    model: nn.Module,
    forms: Mapping[str, tuple[Callable[[Sequence[Tensor]], Batch], Callable[[Batch], Tensor]]],
    groups: Sequence[Sequence[Tensor]],
) -> dict[str, dict[str, float]]:
    """Measure what training on the same groups of sequences costs, batched in several ways.

    Args:
        model: the model that runs; see `training_steps`.
        forms: name -> a collate function, whose batches have a tensor `content` with one element a
            step, and a function that gives the losses of a batch. The first form is the baseline.
        groups: sequences (T_i, ...), those of a batch together.
    Returns:
        name -> "fill", real steps / steps run; "MiB", what autograd keeps for the largest batch;
        "faster", the baseline's time / this one's; "by fill", this fill / the baseline's. The last
        two are NaN for the baseline.
    """
    real, table, baseline = sum(len(one) for group in groups for one in group), {}, None
    for name, (collate, losses) in forms.items():
        batches = [collate(group) for group in groups]
        fill_of_form = real / sum(batch.content.numel() for batch in batches)
        largest = max(batches, key=lambda batch: batch.content.numel())
        kept = activation_bytes(
            lambda losses=losses, largest=largest: losses(largest), exclude=model.parameters()
        )
        row = {"fill": fill_of_form, "MiB": kept / 2**20}
        steps, faster, by_fill = training_steps(model, batches, losses), float("nan"), float("nan")
        if baseline is None:
            baseline, first_fill = steps, fill_of_form
        else:
            faster = paired_ratio(baseline, steps, pairs=3).median
            by_fill = fill_of_form / first_fill
        table[name] = row | {"faster": faster, "by fill": by_fill}
    return table
