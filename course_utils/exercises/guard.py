"""Call an answer so that it ends, and so that torch is afterwards as it was before."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import psutil
import torch

# For one case. The slowest solution needs about 0.01 s of one core for one, so a laptop, or a hub
# full of learners, may be hundreds of times slower before a right answer is stopped.
SECONDS = 5.0
# By which the process may grow: a loop that fills a list would else end the kernel on a machine of
# 2 GiB, as Binder's, before its time is over. The solutions need a few MiB.
MEMORY = 2**30


class Stopped(BaseException):
    """An answer was ended from outside. No `Exception`: `except Exception` must let it pass."""


class OutOfTime(Stopped):
    """It ran for too long."""

    def __str__(self) -> str:
        return f"stopped after {SECONDS:g} seconds"


class OutOfMemory(Stopped):
    """It took too much memory."""

    def __str__(self) -> str:
        return f"stopped, as it had taken {MEMORY / 2**30:g} GiB of memory"


def _answer(function: Callable, arguments: tuple) -> object:
    return function(*arguments)


def _at_work(thread: int) -> bool:
    """Whether a thread is inside an answer now, and not in a debugger that waits for a command."""
    frame, debugger = sys._current_frames().get(thread), False
    while frame is not None and frame.f_code is not _answer.__code__:
        debugger = debugger or frame.f_globals.get("__name__") == "bdb"
        frame = frame.f_back
    return frame is not None and not debugger


# Of the ways to interrupt a thread the one that works on Windows too, and in any thread:
# https://docs.python.org/3/c-api/threads.html#c.PyThreadState_SetAsyncExc
_raise_in = ctypes.PYFUNCTYPE(None, ctypes.c_ulong, ctypes.py_object)(
    ("PyThreadState_SetAsyncExc", ctypes.pythonapi)
)


def _watch(thread: int, done: threading.Event, seconds: float) -> None:
    process, end, error = psutil.Process(), time.monotonic() + seconds, None
    memory = process.memory_info().rss + MEMORY
    while error is None:
        if done.wait(min(0.05, max(end - time.monotonic(), 0))):
            return
        if time.monotonic() >= end:
            error = OutOfTime
        elif process.memory_info().rss > memory:
            error = OutOfMemory
    again = type("Again", (error,), {"__init__": functools.partial(_raise_in, thread, error)})
    pause = 0.05  # for what the answer has to put back: `with` blocks, `finally`
    while _at_work(thread):
        _raise_in(thread, error)
        if done.wait(pause):
            return
        # It was caught, by a bare `except:` perhaps. From now on each, as soon as it is made, is
        # followed by a second, which is raised inside that `except`, or after it.
        error, pause = again, 0.001


def call(function: Callable, arguments: tuple, seconds: float | None = None) -> object:
    """Call a function, and end it if it takes too long, or more than `MEMORY`.

    What cannot be ended: one long call into C, such as `time.sleep(1e6)`, `sum(range(10**12))` or
    one huge tensor, until it returns; a process that is killed from within (`os._exit`).

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
    thread, done = threading.get_ident(), threading.Event()
    watch = threading.Thread(target=_watch, args=(thread, done, seconds), daemon=True)
    nothing = ctypes.py_object()
    watch.start()
    try:
        return _answer(function, arguments)
    finally:
        # Should one arrive in these lines, the watch ends all the same: it finds no answer.
        _raise_in(thread, nothing)
        done.set()
        watch.join()
        _raise_in(thread, nothing)


@contextlib.contextmanager
def left_alone() -> Iterator[None]:
    """Put random numbers (Python's, NumPy's, torch's), gradient mode and dtype back at the end."""
    python, numpy, dtype = random.getstate(), np.random.get_state(), torch.get_default_dtype()
    gradients = torch.is_grad_enabled()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_grad_enabled(gradients)
        torch.set_default_dtype(dtype)
        random.setstate(python)
        np.random.set_state(numpy)
