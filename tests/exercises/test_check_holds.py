"""`check` gives the same verdict in any state of torch, puts it back, ends, and stays small."""

import contextlib
import itertools
import os
import random
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from course_utils.exercises import EXERCISES, check, guard
from course_utils.exercises.engine import Exercise, judge
from course_utils.exercises.values import COLUMNS, LINES, Other, plain

SOME = ["02.1", "03.2", "03.3", "03.4", "04.3"]


@contextlib.contextmanager
def setting(put, value, before):
    put(value)
    try:
        yield
    finally:
        put(before)


@contextlib.contextmanager
def warnings_as_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def seeds(number):
    torch.manual_seed(number)
    random.seed(number)
    np.random.seed(number)


STATES = {
    "no_grad": torch.no_grad,
    "set_grad_enabled": lambda: setting(torch.set_grad_enabled, False, True),
    "inference": torch.inference_mode,
    "anomaly": torch.autograd.detect_anomaly,
    "float64": lambda: setting(torch.set_default_dtype, torch.float64, torch.float32),
    "bfloat16": lambda: setting(torch.set_default_dtype, torch.bfloat16, torch.float32),
    "meta": lambda: setting(torch.set_default_device, "meta", None),
    "with meta": lambda: torch.device("meta"),
    "four threads": lambda: setting(torch.set_num_threads, 4, torch.get_num_threads()),
    "deterministic": lambda: setting(torch.use_deterministic_algorithms, True, False),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "half products": lambda: setting(torch.set_float32_matmul_precision, "medium", "highest"),
    "one kernel": lambda: sdpa_kernel(SDPBackend.MATH),
    "warnings are errors": warnings_as_errors,
    "seeds": lambda: setting(seeds, 7, 0),
    "printing": lambda: torch._tensor_str.printoptions(precision=1, threshold=1),
}


@pytest.fixture(scope="module")
def usual():
    """The verdicts of solutions and wrong answers in torch's own state."""
    return {key: judge(*key_answer) for key, key_answer in answers(SOME, 3)}


def answers(ids, most):
    for id in ids:
        one = EXERCISES[id]
        yield (id, "solution"), (one, one.solution)
        for wrong in one.misconceptions[:most]:
            yield (id, wrong.name), (one, wrong.wrong)


def put_together():
    """All of what an answer could change, or a caller have set."""
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_default_device(),
        torch.empty(0).device,
        [type(one) for one in torch.overrides._get_current_function_mode_stack()],
        torch._tensor_str.get_printoptions(),
        *(str(get()) for get, _, _ in guard._SETTINGS),
        list(warnings.filters),
        os.getcwd(),
    )


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("name", STATES)
def test_verdicts_are_the_same_in_any_state_which_is_put_back(name, usual):
    with STATES[name]():
        before = put_together()
        found = {key: judge(*key_answer) for key, key_answer in answers(SOME, 3)}
        assert put_together() == before
    assert found == usual


def test_the_exercises_may_be_imported_in_any_state():
    code = (
        "import torch\n"
        "torch.set_default_device('meta')\n"
        "torch.set_default_dtype(torch.float64)\n"
        "with torch.inference_mode():\n"
        "    from course_utils.exercises import EXERCISES, check\n"
        "for id in ('00.2', '03.2', '04.1', '05.3', '07.3'):\n"
        "    print(check(id, EXERCISES[id].solution).kind)\n"
        "print(torch.empty(0).device, torch.empty(0).dtype)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["correct"] * 5 + ["meta", "torch.float64"], done.stderr


@pytest.mark.parametrize("id", ["03.2", "03.3", "03.4", "03.5", "05.3"])
def test_with_gradients_off_no_wrong_answer_is_accepted(id):
    # Where the solution failed too, an answer that failed alike passed for right.
    one = EXERCISES[id]
    with torch.no_grad():
        assert judge(one, one.solution)
        for wrong in one.misconceptions:
            assert judge(one, wrong.wrong).name == wrong.name


def test_a_solution_that_raises_is_never_matched():
    def solution(values):
        raise ValueError("none of your business")

    broken = Exercise("99.1", "", 1, "", ("", ""), solution, lambda: [(torch.ones(1),)], ())
    for answer in (solution, lambda values: values):
        verdict = judge(broken, answer)
        assert verdict.kind == "fault" and not verdict
        assert "the course's fault" in verdict.text and "ValueError" in verdict.text


def test_whatever_an_answer_sets_is_put_back(tmp_path):
    def answer(lengths):
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        torch.set_num_threads(3)
        torch.autograd.set_detect_anomaly(True)
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.set_float32_matmul_precision("medium")
        torch.backends.mha.set_fastpath_enabled(False)
        torch.backends.cuda.enable_flash_sdp(False)
        torch.set_autocast_enabled("cpu", True)
        torch.set_printoptions(precision=1)
        warnings.simplefilter("ignore")
        sys.setrecursionlimit(5000)
        os.chdir(tmp_path)
        seeds(5)
        return 0.5

    before = put_together()
    assert not check("01.2", answer)
    assert put_together() == before


class Hostile:
    """An object each of whose special methods does what it is told."""

    def __init__(self, does):
        self.does = does

    def _do(self, *arguments):
        return self.does()

    __repr__ = __str__ = __bool__ = __len__ = __eq__ = __iter__ = __float__ = __hash__ = _do


def endless():
    for _ in itertools.count():
        pass


def refuse():
    raise ValueError("no")


class HostileList(list):
    __repr__ = __str__ = __bool__ = __len__ = __eq__ = __iter__ = Hostile._do
    does = staticmethod(endless)


class HostileError(Exception):
    def __str__(self):
        endless()


class EndlessBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values):
        return values.sum()

    @staticmethod
    def backward(ctx, gradient):
        endless()


def raise_hostile(*arguments):
    raise HostileError


def deep(depth=10**5):
    inner = []
    for _ in range(depth):
        inner = [inner]
    return inner


def cyclic():
    inner = [1]
    inner.append(inner)
    return inner


def recursive(*arguments):
    return recursive(*arguments)


def backward(*arguments):
    leaf = next(one for one in arguments if torch.is_tensor(one) and one.requires_grad)
    return EndlessBackward.apply(leaf)


def gives(make):
    return lambda *arguments: make()


ODD = {
    "endless methods": gives(lambda: Hostile(endless)),
    "methods that raise": gives(lambda: Hostile(refuse)),
    "methods that give nonsense": gives(lambda: Hostile(lambda: "odd")),
    "a hostile list": gives(lambda: HostileList([1, 2])),
    "an error that cannot be told": raise_hostile,
    "an error of 10**8 characters": lambda *_: (_ for _ in ()).throw(ValueError("x" * 10**8)),
    "endless backward": backward,
    "sleep": gives(lambda: time.sleep(10**6)),
    "recursion": recursive,
    "a list in a list in a list": gives(deep),
    "a list that contains itself": gives(cyclic),
    "10**8 characters": gives(lambda: "*" * 10**8),
    "10**6 lines": gives(lambda: "\n" * 10**6),
    "a list of 10**7": gives(lambda: [0] * 10**7),
    "an int of 10**6 digits": gives(lambda: 1 << 3 * 10**6),
    "a tensor of 10**12": gives(lambda: torch.zeros(1).expand(10**6, 10**6)),
    "sparse": gives(lambda: torch.eye(3).to_sparse()),
    "nested": gives(lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(1)])),
    "jagged": gives(
        lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(1)], layout=torch.jagged)
    ),
    "meta": gives(lambda: torch.ones(3, device="meta")),
    "complex": gives(lambda: torch.ones(3) * 1j),
    "float8": gives(lambda: torch.ones(3).to(torch.float8_e4m3fn)),
    "uint64": gives(lambda: torch.ones(3, dtype=torch.uint64)),
    "quantized": gives(lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8)),
    "numpy": gives(lambda: np.array(["a", "b"])),
    "a date": gives(lambda: np.datetime64("2020-01-01")),
    "a generator": gives(lambda: (i for i in itertools.count())),
    "a class": gives(lambda: Hostile),
    "a model": gives(lambda: nn.Linear(1, 1)),
    "a parameter": gives(lambda: nn.Parameter(torch.ones(2))),
}
TOLD = ("misconception", "explained", "not equal", "error", "stopped")
BY_KIND = ["00.1", "01.1", "01.2", "01.4", "03.2", "06.1"]  # bool, tuple, float, tensor, loss, list


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ODD)
def test_an_odd_answer_is_told_within_ten_seconds_on_one_screen(name, monkeypatch):
    monkeypatch.setattr(guard, "SECONDS", 0.3)
    for id in BY_KIND[-2:-1] if name == "endless backward" else BY_KIND:
        began = time.monotonic()
        verdict = check(id, ODD[name])
        assert time.monotonic() - began < 10, verdict
        assert verdict.kind in TOLD, verdict
        head, *lines = verdict.text.splitlines()
        assert len(head) < 1000 and len(lines) <= LINES + 12
        assert max(map(len, lines), default=0) <= COLUMNS
        assert len(verdict._repr_html_()) < 20_000


def test_endless_things_are_stopped_and_the_others_are_not(monkeypatch):
    monkeypatch.setattr(guard, "SECONDS", 0.3)
    for name, id in [("endless methods", "00.1"), ("endless backward", "03.2"), ("sleep", "01.4")]:
        verdict = check(id, ODD[name])
        assert "stopped after 0.3 seconds" in verdict.text, name
    # Of what is never looked at, nothing is run.
    for name in ("endless methods", "a hostile list"):
        assert "a Hostile" in (text := check("01.4", ODD[name]).text) and "stopped" not in text


def test_the_answer_itself_may_be_hostile():
    class Answer:
        def __getattr__(self, name):
            raise ValueError("no")

        def __call__(self, *arguments):
            return 1.0

        __repr__ = __eq__ = __bool__ = None

    assert check("01.2", Answer()).kind in TOLD
    assert check("01.2", type("Loop", (), {"__getattr__": lambda *_: endless()})()).kind == "error"


def test_many_slow_cases_end_together(monkeypatch):
    monkeypatch.setattr("course_utils.exercises.engine.SECONDS_IN_ALL", 1.0)

    def answer(model, sequences):
        time.sleep(0.4)
        return EXERCISES["00.1"].solution(model, sequences)

    began = time.monotonic()
    verdict = check("00.1", answer)
    assert verdict.kind == "stopped" and "far longer than they should" in verdict.text
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("id", "do"),
    [
        ("02.1", lambda lstm: [one.data.zero_() for one in lstm.parameters()]),
        ("02.1", lambda lstm: lstm.double().float() and lstm.weight_hh_l0.data.add_(1)),
        ("02.5", lambda lstm: lstm.double()),
    ],
)
def test_a_model_that_an_answer_changes_is_told(id, do):
    one = EXERCISES[id]

    def answer(lstm, *others):
        found = one.solution(lstm, *others)
        do(lstm)
        return found

    verdict = judge(one, answer)
    assert verdict.name == "changed the model" and "copy.deepcopy(model)" in verdict.text


def test_a_huge_tensor_is_refused():
    # 4 TB: no machine that runs this has them.
    verdict = check("01.4", lambda padded, lengths: torch.ones(10**12))
    assert verdict.kind == "stopped" and "more memory than this session" in verdict.text


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has control groups")
def test_memory_follows_the_smallest_control_group(tmp_path):
    groups = tmp_path / "cgroup"
    inner = tmp_path / "user" / "kernel"
    inner.mkdir(parents=True)

    def write(folder, most, used, cache=0):
        (folder / "memory.max").write_text(f"{most}\n")
        (folder / "memory.current").write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"anon 5\ninactive_file {cache}\nslab 7\n")

    groups.write_text("0::/user/kernel\n")
    free = guard.memory_left(str(groups), str(tmp_path))
    assert free > 2**25, "no limits: what the machine has"
    write(inner, "max", 2**20)
    write(tmp_path / "user", 2**25, 2**24)
    assert guard.memory_left(str(groups), str(tmp_path)) == 2**24
    write(tmp_path / "user", 2**25, 2**24, cache=2**20)
    assert guard.memory_left(str(groups), str(tmp_path)) == 2**24 + 2**20
    write(inner, 2**22, 2**22 - 5)
    assert guard.memory_left(str(groups), str(tmp_path)) == 5
    # Version 1, and a path that is the host's: the limits are at the top.
    old = tmp_path / "memory"
    old.mkdir()
    (old / "memory.limit_in_bytes").write_text("4096\n")
    (old / "memory.usage_in_bytes").write_text("96\n")
    groups.write_text("3:cpu:/x\n5:memory:/docker/abc\n")
    assert guard.memory_left(str(groups), str(tmp_path)) == 4000
    groups.write_text("no such thing\n" * 0)
    assert guard.memory_left(str(tmp_path / "none"), str(tmp_path)) > 2**25


@pytest.mark.parametrize(("left", "allowed"), [(2**40, 2**30), (2**30, 2**29), (0, 2**25)])
def test_an_answer_may_take_half_of_what_is_left(left, allowed, monkeypatch):
    monkeypatch.setattr(guard, "_left_lately", lambda second: left)
    assert guard._allowed() == allowed


def test_values_are_taken_over_without_the_learners_code():
    class Number(float):
        __repr__ = __eq__ = __add__ = Hostile._do

    Number.does = staticmethod(endless)
    assert type(plain(Number(2.0))) is float
    assert plain((1, [torch.tensor(2.0)], None, "x")) == (1, [2.0], None, "x")
    packed = nn.utils.rnn.pack_sequence([torch.ones(2), torch.ones(1)])
    assert type(plain(packed)).__name__ == "PackedSequence" and len(plain(packed)) == 4
    assert plain(cyclic())[1] == Other("a list that contains itself")
    own = torch.ones(2, requires_grad=True)
    taken = plain(own * 2)
    assert not taken.requires_grad and taken.tolist() == [2, 2]
