"""What the check before the start says, and when it says nothing."""

import os
import subprocess
import sys

import preflight
import pytest
from preflight import GIB


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 12, 1), (3, 13, 9)])
def test_fitting_python(version):
    assert preflight.python_fits(version)
    assert preflight.python_fault(version) is None


@pytest.mark.parametrize("version", [(3, 10, 14), (3, 14, 0), (2, 7, 18), (4, 11, 0)])
def test_unfit_python(version):
    assert not preflight.python_fits(version)
    fault = preflight.python_fault(version)
    assert f"Python {version[0]}.{version[1]} " in fault
    assert "3.11" in fault and "make lab PYTHON=" in fault


@pytest.mark.parametrize("missing", ["venv", "ensurepip"])
def test_python_without_venv(missing):
    assert preflight.venv_fault(lambda name: name != missing) is not None
    assert "python3-venv" in preflight.venv_fault(lambda name: name != missing)
    assert preflight.venv_fault(lambda name: True) is None


def test_platforms():
    assert preflight.platform_fault("Linux", "x86_64") is None
    assert preflight.platform_fault("Windows", "AMD64") is None
    assert preflight.platform_fault("Darwin", "arm64", "14.0") is None
    assert "Intel" in preflight.platform_fault("Darwin", "x86_64", "15.1")
    assert "13.6" in preflight.platform_fault("Darwin", "arm64", "13.6")


def test_disk():
    assert preflight.disk_fault(4 * GIB, 4 * GIB) is None
    fault = preflight.disk_fault(4 * GIB - 1, 5 * GIB)
    assert "4.0 GiB" in fault and "5.0 GiB" in fault and "make room" in fault


def test_memory():
    assert preflight.memory_fault(2 * GIB, 2 * GIB) is None
    assert preflight.memory_fault(None) is None
    fault = preflight.memory_fault(GIB // 2, 2 * GIB)
    assert "0.5 GiB" in fault and "2.0 GiB" in fault and "close other programs" in fault


def test_meminfo():
    text = "MemTotal:       2000 kB\nMemFree:         100 kB\nMemAvailable:    700 kB\n"
    assert preflight.parse_meminfo(text) == 700 * 1024
    assert preflight.parse_meminfo("MemTotal: 2000 kB\n") is None


def test_vm_stat():
    text = (
        "Mach Virtual Memory Statistics: (page size of 16384 bytes)\n"
        "Pages free:                                3000.\n"
        "Pages active:                            400000.\n"
        "Pages inactive:                            2000.\n"
        "Pages speculative:                          100.\n"
        "Pages purgeable:                             10.\n"
    )
    assert preflight.parse_vm_stat(text) == 16384 * 5110
    assert preflight.parse_vm_stat("nothing of the kind") is None


def test_this_machine_says_how_much_it_has():
    if sys.platform in ("linux", "darwin"):
        assert preflight.available_memory() > 0
    assert preflight.free_disk() > 0


def test_main_prints_each_fault_on_one_line_and_fails(monkeypatch, capsys):
    monkeypatch.setattr(preflight, "available_memory", lambda: GIB)
    monkeypatch.setattr(preflight, "free_disk", lambda: 0)
    assert preflight.main([]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "disk" in lines[0] and "memory" in lines[1]
    monkeypatch.setattr(preflight, "available_memory", lambda: 8 * GIB)
    monkeypatch.setattr(preflight, "free_disk", lambda: 8 * GIB)
    assert preflight.main([]) == 0
    assert capsys.readouterr() == ("", "")


def python_that_says(folder, name, body):
    """An executable `name` in `folder`, a shell script."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def make_setup(pythons):
    """`make setup` with these Pythons, whatever make runs the tests."""
    command = ["make", "--no-print-directory", "setup", f"PYTHON={pythons}"]
    environment = {name: value for name, value in os.environ.items() if name != "MAKEFLAGS"}
    return subprocess.run(
        command, cwd=preflight.ROOT, env=environment, capture_output=True, text=True
    )


@pytest.mark.skipif(os.name == "nt", reason="make is for Linux and macOS")
def test_make_passes_over_a_python_that_is_there_and_does_not_run(tmp_path):
    python_that_says(tmp_path, "python3.11", "echo 'not installed' >&2; exit 127")
    fits = python_that_says(
        tmp_path, "python3.12", 'case "$2" in --fits) exit 0;; esac; echo "taken: $1"'
    )
    done = make_setup(f"{tmp_path}/python3.11 {fits}")
    assert (done.returncode, done.stdout) == (0, "taken: tools/install.py\n")


@pytest.mark.skipif(os.name == "nt", reason="make is for Linux and macOS")
def test_make_says_where_no_python_fits():
    done = make_setup("/nowhere/python3.9")
    assert done.returncode != 0
    assert done.stdout == ""
    first = done.stderr.splitlines()[0]
    assert "No Python 3.11, 3.12 or 3.13 runs here" in first
    assert "/nowhere/python3.9" in first and "python.org" in first
