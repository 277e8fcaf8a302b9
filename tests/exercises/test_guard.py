"""An answer is ended from outside, whatever it catches, and the kernel goes on."""

import contextlib
import queue
import random
import signal
import sys
import threading
import time

import numpy as np
import pytest
import torch
from jupyter_client.manager import start_new_kernel

from course_utils.exercises import check, guard


def endless():
    while True:
        pass


def catches_exceptions():
    while True:
        try:  # noqa: SIM105
            torch.ones(3)
        except Exception:
            pass


def catches_everything():
    while True:
        try:  # noqa: SIM105
            torch.ones(3)
        except:  # noqa: E722
            pass


def sleeps_and_catches_everything():
    while True:
        try:  # noqa: SIM105
            time.sleep(0.01)
        except:  # noqa: E722
            pass


def waits():
    while True:
        time.sleep(0.01)


def sleeps_long():
    time.sleep(10**6)


def waits_for_a_lock():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


ENDLESS = [
    sleeps_long,
    waits_for_a_lock,
    endless,
    catches_exceptions,
    catches_everything,
    sleeps_and_catches_everything,
    waits,
]


@pytest.mark.parametrize("function", ENDLESS)
def test_what_never_ends_is_ended(function):
    threads = threading.active_count()
    with pytest.raises(guard.OutOfTime):
        guard.call(function, (), seconds=0.1)
    # Nothing comes after it: the watch has ended, and nothing waits in this thread.
    assert threading.active_count() == threads
    assert sum(range(10_000)) == 49_995_000


def test_and_in_another_thread_too():
    ended = queue.Queue()

    def work():
        try:
            guard.call(endless, (), seconds=0.1)
        except guard.OutOfTime:
            ended.put("ended")

    threading.Thread(target=work, daemon=True).start()
    assert ended.get(timeout=60) == "ended"


def test_an_answer_that_begins_after_its_time_is_over_is_ended_too(monkeypatch):
    # The machine was busy just then.
    monkeypatch.setattr(guard, "_no_huge_block", slowly)
    with pytest.raises(guard.OutOfTime):
        guard.call(endless, (), seconds=0.01)


@contextlib.contextmanager
def slowly(allowed):
    time.sleep(0.3)
    yield


def test_what_only_grows_is_ended_before_memory_is(monkeypatch):
    monkeypatch.setattr(guard, "MEMORY", 2**26)

    def grow():
        rows = []
        while True:
            rows.append(torch.ones(1000, 100))

    with pytest.raises(guard.OutOfMemory, match="more memory than this session can spare"):
        guard.call(grow, (), seconds=300)


def test_a_with_block_is_left_in_order():
    left = []

    def answer():
        try:
            endless()
        finally:
            for number in range(5):
                time.sleep(0.001)
                left.append(number)

    with pytest.raises(guard.OutOfTime):
        guard.call(answer, (), seconds=0.1)
    assert left == [0, 1, 2, 3, 4]


def test_an_answer_that_is_in_a_finalizer_is_ended_without_a_word(monkeypatch):
    class Slow:
        def __del__(self):
            endless()

    def answer():
        while True:
            Slow()

    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    with pytest.raises(guard.OutOfTime):
        guard.call(answer, (), seconds=0.1)
    assert told == [] and sys.unraisablehook == told.append


def test_what_else_a_finalizer_raises_is_still_told(monkeypatch):
    class Wrong:
        def __del__(self):
            raise ValueError("mine")

    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda one: told.append(str(one.exc_value)))
    guard.call(lambda: Wrong() and None, (), seconds=60)
    assert told == ["mine"]


def test_a_debugger_may_take_its_time():
    names = {"__name__": "bdb", "time": time}
    exec("def wait():\n    for _ in range(30):\n        time.sleep(0.01)\n    return 1", names)
    assert guard.call(lambda: names["wait"](), (), seconds=0.05) == 1


def test_an_answer_in_time_gives_its_value_and_its_error():
    assert guard.call(divmod, (7, 2), seconds=60) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        guard.call(divmod, (7, 0), seconds=60)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="Windows has no such signal")
def test_the_learner_can_still_interrupt():
    # A shell starts what it runs in the background with interrupts ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    main = threading.get_ident()
    timer = threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            guard.call(endless, (), seconds=60)
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)


def test_what_an_answer_sets_is_put_back():
    def answer(lengths):
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        for seed in (torch.manual_seed, random.seed, np.random.seed):
            seed(7)
        return 0.5

    expected = torch.get_rng_state(), random.getstate(), np.random.get_state()[1]
    assert not check("01.2", answer)
    assert torch.is_grad_enabled() and torch.get_default_dtype() == torch.float32
    assert torch.equal(torch.get_rng_state(), expected[0])
    assert random.getstate() == expected[1]
    assert (np.random.get_state()[1] == expected[2]).all()


@pytest.mark.parametrize("error", [SystemExit(3), GeneratorExit(), BaseException("odd")])
def test_no_exception_of_the_answer_gets_out(error):
    def answer(lengths):
        raise error

    verdict = check("01.2", answer)
    assert verdict.kind == "error" and type(error).__name__ in verdict.text


def test_endless_recursion_is_told():
    def answer(lengths):
        return answer(lengths)

    assert "RecursionError" in check("01.2", answer).text


CELLS = {
    "loop": "def answer(lengths):\n    while True: pass",
    "input": "def answer(lengths):\n    return int(input('How many? '))",
    "input, and catches everything": (
        "def answer(lengths):\n    while True:\n        try: return int(input())\n"
        "        except: print(end='')"
    ),
}


def test_in_a_real_kernel():
    manager, client = start_new_kernel(300, "python3")

    def run(code):
        shown = []

        def hook(message):
            if message["msg_type"] == "execute_result":
                shown.append(message["content"]["data"]["text/plain"])

        reply = client.execute_interactive(
            code, output_hook=hook, stdin_hook=lambda message: None, timeout=120, allow_stdin=True
        )
        assert reply["content"]["status"] == "ok", reply["content"]
        return "".join(shown)

    try:
        run("from course_utils.exercises import check, guard\nguard.SECONDS, mine = 0.3, 41")
        for cell in CELLS.values():
            assert "stopped after 0.3 seconds" in run(f"{cell}\ncheck('01.2', answer)")
        assert run("mine + 1") == "42"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
