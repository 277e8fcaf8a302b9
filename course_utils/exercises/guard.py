"""Call an answer so that it always ends, and leaves torch as it was before."""

from __future__ import annotations

import collections
import contextlib
import ctypes
import functools
import os
import pathlib
import random
import signal
import sys
import threading
import time
import types
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import psutil
import torch
from torch._tensor_str import printoptions
from torch.overrides import _get_current_function_mode_stack, _pop_mode, _push_mode
from torch.utils import _device

try:
    import resource
except ImportError:  # Windows
    resource = None

# For one case. The slowest solution needs about 0.01 s of one core per case, so a laptop, or a hub
# full of learners, may be hundreds of times slower before a right answer is stopped.
SECONDS = 5.0
# The most by which the process may grow; the solutions need a few MiB. Where the session has less
# than twice this much left, the process may grow by half of what is left.
MEMORY = 2**30
_LEAST = 2**25


class Stopped(BaseException):
    """An answer was ended from outside. Not an `Exception`: `except Exception` must let it pass."""


class OutOfTime(Stopped):
    """It ran for too long."""

    def __str__(self) -> str:
        return f"stopped after {SECONDS:g} seconds"


class OutOfMemory(Stopped):
    """It took too much memory."""

    def __str__(self) -> str:
        return "stopped, as it was taking more memory than this session can spare"


def _numbers(file: pathlib.Path) -> dict[str, int]:
    """Read the numbers of a control group's file by name; one without a name is under ""."""
    try:
        lines = [line.split() for line in file.read_text().splitlines()]
    except OSError:
        return {}
    return {" ".join(line[:-1]): int(line[-1]) for line in lines if line and line[-1].isdigit()}


def memory_left(groups: str = "/proc/self/cgroup", mounted: str = "/sys/fs/cgroup") -> int:
    """Return how many bytes this session can still take.

    It is the least of what the machine has available, and what is left in each control group of
    the process (a container's limit, or a hub's for one user). A group's file cache counts as
    free, because it is given up when memory is needed.

    Args:
        groups: the file that names this process's control groups.
        mounted: where their files are.
    Returns:
        bytes, 0 or more.
    """
    left = [psutil.virtual_memory().available]
    try:
        lines = pathlib.Path(groups).read_text().splitlines()
    except OSError:  # no Linux
        lines = []
    for line in lines:
        _, kind, path = line.split(":", 2)
        if kind not in ("", "memory"):
            continue
        limit, usage = ("max", "current") if not kind else ("limit_in_bytes", "usage_in_bytes")
        top = pathlib.Path(mounted, kind)
        inner = top / path.lstrip("/")
        # Inside a container the path may be the host's: then the limits are those at the top.
        for folder in {inner, *inner.parents, top}:
            if folder == top or top in folder.parents:
                most = _numbers(folder / f"memory.{limit}").get("")
                used = _numbers(folder / f"memory.{usage}").get("")
                if most is not None and used is not None:
                    cache = _numbers(folder / "memory.stat").get("inactive_file", 0)
                    left.append(most - used + min(cache, used))
    return max(min(left), 0)


@functools.lru_cache(maxsize=1)
def _left_lately(second: int) -> int:
    return memory_left()  # takes a millisecond, and an exercise has fifty cases


def _allowed() -> int:
    return max(min(MEMORY, _left_lately(int(time.monotonic())) // 2), _LEAST)


@contextlib.contextmanager
def _no_huge_block(allowed: int) -> Iterator[None]:
    """Let Linux refuse one huge block of memory: nothing else stops a single call into C."""
    # CUDA reserves far more addresses than it uses, and is left alone.
    if resource is None or sys.platform != "linux" or torch.cuda.is_available():
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    # More than the watch lets pass, so that what grows step by step is ended by the watch.
    most = psutil.Process().memory_info().vms + allowed + allowed // 2 + 2**26
    ends = [end for end in (most, soft, hard) if end != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(ends), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def refused_memory(error: BaseException, message: str) -> bool:
    """Say whether an error and its message mean that a block of memory was refused."""
    refused = isinstance(error, RuntimeError) and "can't allocate memory" in message
    return refused or isinstance(error, MemoryError)


def _answer(function: Callable, arguments: tuple) -> object:
    return function(*arguments)


def _inside(thread: int) -> list[types.FrameType]:
    """The frames of a thread up to the answer that it runs; none where it runs no answer."""
    frame, frames = sys._current_frames().get(thread), []
    while frame is not None:
        frames.append(frame)
        if frame.f_code is _answer.__code__:
            return frames
        frame = frame.f_back
    return []


def _at_work(thread: int) -> bool:
    """Whether a thread is running an answer now, and not a debugger that waits for a command."""
    frames = _inside(thread)
    return bool(frames) and all(one.f_globals.get("__name__") != "bdb" for one in frames)


# Of the ways to interrupt a thread, this one works on Windows too, and in any thread:
# https://docs.python.org/3/c-api/threads.html#c.PyThreadState_SetAsyncExc
_raise_in = ctypes.PYFUNCTYPE(None, ctypes.c_ulong, ctypes.py_object)(
    ("PyThreadState_SetAsyncExc", ctypes.pythonapi)
)


@contextlib.contextmanager
def _woken_by_signals() -> Iterator[Callable[[int], None]]:
    """Give a function that wakes a thread from `time.sleep`, a lock or a read, where that can be.

    A signal ends the wait, and Python then raises what was sent to the thread meanwhile. The signal
    is one that does nothing by default, so that one too many does no harm. Python handles signals
    only in the main thread, and Windows has none.
    """
    if (
        not hasattr(signal, "pthread_kill")
        or threading.current_thread() is not threading.main_thread()
    ):
        yield lambda thread: None
        return
    before = signal.signal(signal.SIGURG, lambda number, frame: None)
    try:
        yield lambda thread: signal.pthread_kill(thread, signal.SIGURG)
    finally:
        signal.signal(signal.SIGURG, signal.SIG_DFL if before is None else before)


@contextlib.contextmanager
def _silent_where_nobody_catches() -> Iterator[None]:
    """Say nothing of a `Stopped` that reached the answer where Python lets no exception out.

    In a `__del__`, or a callback of the garbage collector's, it ends that, is printed, and goes no
    further. The answer is still at work, and will be sent another.
    """
    # Nothing in Python, or what is sent next would be raised in the hook, and be lost there.
    before, unraisable = sys.unraisablehook, collections.deque(maxlen=100)
    sys.unraisablehook = unraisable.append
    try:
        yield
    finally:
        sys.unraisablehook = before
        for one in unraisable:
            if not isinstance(one.exc_value, Stopped):
                before(one)


def _watch(
    thread: int,
    done: threading.Event,
    seconds: float,
    allowed: int,
    wake: Callable[[int], None],
) -> None:
    process, end, error = psutil.Process(), time.monotonic() + seconds, None
    memory = process.memory_info().rss + allowed
    while error is None:
        if done.wait(min(0.02, max(end - time.monotonic(), 0))):
            return
        if time.monotonic() >= end:
            error = OutOfTime
        elif process.memory_info().rss > memory:
            error = OutOfMemory
    again = type("Again", (error,), {"__init__": functools.partial(_raise_in, thread, error)})
    while not _inside(thread):  # on a busy machine its time may be over before it begins
        if done.wait(0.001):
            return
    pause = 0.05  # for what the answer has to put back: `with` blocks, `finally`
    while _at_work(thread):
        _raise_in(thread, error)
        wake(thread)
        if done.wait(pause):
            return
        # It was caught, by a bare `except:` perhaps. From now on each, as soon as it is made, is
        # followed by a second, which is raised inside that `except`, or after it.
        error, pause = again, 0.001


def call(function: Callable, arguments: tuple, seconds: float | None = None) -> object:
    """Call a function, and end it if it takes too long, or more memory than can be spared.

    Some things cannot be ended: one long computation in C that never looks at Python, such as
    `sum(range(10**12))`, until it returns; and a long `time.sleep`, on Windows or outside the main
    thread. Nor can a process be kept from being killed from within (`os._exit`).

    Args:
        function: anything callable.
        arguments: what to call it with.
        seconds: of wall time; no limit where None, nor in a debugger (`breakpoint()`).
    Returns:
        what the function returns; what it raises is raised.
    Raises:
        OutOfTime, OutOfMemory: it was ended.

    >>> call(max, (1, 2), seconds=1)
    2
    """
    if seconds is None:
        return function(*arguments)
    thread, done, allowed = threading.get_ident(), threading.Event(), _allowed()
    nothing = ctypes.py_object()
    with _silent_where_nobody_catches(), _woken_by_signals() as wake:
        watch = threading.Thread(
            target=_watch, args=(thread, done, seconds, allowed, wake), daemon=True
        )
        watch.start()
        try:
            with _no_huge_block(allowed):
                return _answer(function, arguments)
        finally:
            # Should one arrive in these lines, the watch ends all the same: it finds no answer.
            _raise_in(thread, nothing)
            done.set()
            watch.join()
            _raise_in(thread, nothing)


# A seed that nobody would choose: an answer that forgets to set its own must not hit upon it.
_SEED = 749_213
_sdp = torch.backends.cuda
# What torch and Python keep for the whole process: how it is read, how set, and what it is while
# an answer is tried. Thread-local settings have `with` blocks of their own, in `left_alone`.
_SETTINGS: list[tuple[Callable, Callable, object]] = [
    (torch.get_default_dtype, torch.set_default_dtype, torch.float32),
    (torch.get_num_threads, torch.set_num_threads, 1),
    (
        lambda: (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
        lambda value: torch.set_anomaly_enabled(*value),
        (False, True),
    ),
    (
        lambda: (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        lambda value: torch.use_deterministic_algorithms(value[0], warn_only=value[1]),
        (False, False),
    ),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest"),
    (torch.backends.mha.get_fastpath_enabled, torch.backends.mha.set_fastpath_enabled, True),
    (_sdp.flash_sdp_enabled, _sdp.enable_flash_sdp, True),
    (_sdp.mem_efficient_sdp_enabled, _sdp.enable_mem_efficient_sdp, True),
    (_sdp.math_sdp_enabled, _sdp.enable_math_sdp, True),
    (sys.getrecursionlimit, sys.setrecursionlimit, 3000),
    (random.getstate, random.setstate, random.Random(_SEED).getstate()),
    (
        lambda: np.random.get_state(legacy=False),
        np.random.set_state,
        np.random.RandomState(_SEED).get_state(legacy=False),
    ),
    (
        torch.get_rng_state,
        torch.set_rng_state,
        torch.Generator(device="cpu").manual_seed(_SEED).get_state(),
    ),
]


@contextlib.contextmanager
def _no_default_device() -> Iterator[None]:
    """Let torch make tensors on the CPU, whatever `torch.set_default_device` or a `with` says."""
    # There is no public way to leave a `with torch.device("meta"):` for a while. Another device on
    # top would do, but torch takes no fast path while there is any.
    keeper, current = torch._GLOBAL_DEVICE_CONTEXT, _device.CURRENT_DEVICE
    chosen = getattr(keeper, "device_context", None)
    modes = [_pop_mode() for _ in _get_current_function_mode_stack()]
    keeper.device_context, _device.CURRENT_DEVICE = None, None
    try:
        yield
    finally:
        for _ in _get_current_function_mode_stack():
            _pop_mode()
        for mode in reversed(modes):
            _push_mode(mode)
        keeper.device_context, _device.CURRENT_DEVICE = chosen, current


def _folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it was deleted meanwhile
        return None


@contextlib.contextmanager
def left_alone() -> Iterator[None]:
    """Run what is inside in one known state of torch, and put all that it changes back at the end.

    Whatever was set before, gradients are on; dtype, device and kernels are torch's own defaults,
    on one thread; and random numbers (Python's, NumPy's, torch's) begin at one seed. Warnings are
    shown, and never raised. At the end all of this, and the working folder, is as it was before.
    """
    before, folder = [get() for get, _, _ in _SETTINGS], _folder()
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(_no_default_device())
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.enable_grad())
            stack.enter_context(torch.autocast("cpu", enabled=False))
            stack.enter_context(printoptions(profile="default"))
            stack.enter_context(warnings.catch_warnings())
            if any(kind == "error" for kind, *_ in warnings.filters):
                warnings.simplefilter("default")
            for (get, put, value), was in zip(_SETTINGS, before, strict=True):
                _put(get, put, value, was)
            yield
    finally:
        for (get, put, _), was in zip(_SETTINGS, before, strict=True):
            _put(get, put, was, None)
        if folder is not None and folder != _folder():
            os.chdir(folder)


def _put(get: Callable, put: Callable, value: object, now: object) -> None:
    # Setting some of them imports a good part of torch, so only set what changes.
    now = get() if now is None else now
    same = isinstance(now, (bool, int, str, tuple, torch.dtype)) and now == value
    if not same:
        put(value)
