"""What is said before the start, and the day before; each check is made to fail for real."""

import importlib.metadata
import os
import shutil
import socket
import subprocess
import sys

import doctor
import pytest
from doctor import GIB


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 12, 1), (3, 13, 9)])
def test_fitting_python(version):
    assert doctor.python_fits(version)
    assert doctor.python_fault(version) is None


@pytest.mark.parametrize("version", [(3, 10, 14), (3, 14, 0), (2, 7, 18), (4, 11, 0)])
def test_unfit_python(version):
    assert not doctor.python_fits(version)
    fault = doctor.python_fault(version)
    assert f"Python {version[0]}.{version[1]} " in fault
    assert "3.11" in fault and "make lab PYTHON=" in fault


@pytest.mark.parametrize("missing", ["venv", "ensurepip"])
def test_python_without_venv(missing):
    assert doctor.venv_fault(lambda name: name != missing) is not None
    assert "python3-venv" in doctor.venv_fault(lambda name: name != missing)
    assert doctor.venv_fault(lambda name: True) is None


def test_platforms():
    assert doctor.platform_fault("Linux", "x86_64") is None
    assert doctor.platform_fault("Windows", "AMD64") is None
    assert doctor.platform_fault("Darwin", "arm64", "14.0") is None
    assert "Intel" in doctor.platform_fault("Darwin", "x86_64", "15.1")
    assert "13.6" in doctor.platform_fault("Darwin", "arm64", "13.6")


def test_disk():
    assert doctor.disk_fault(4 * GIB, 4 * GIB) is None
    fault = doctor.disk_fault(4 * GIB - 1, 5 * GIB)
    assert "4.0 GiB" in fault and "5.0 GiB" in fault and "make room" in fault


def test_memory():
    assert doctor.memory_fault(2 * GIB, 2 * GIB) is None
    assert doctor.memory_fault(None) is None
    fault = doctor.memory_fault(GIB // 2, 2 * GIB)
    assert "0.5 GiB" in fault and "2.0 GiB" in fault and "close other programs" in fault


def test_meminfo():
    text = "MemTotal:       2000 kB\nMemFree:         100 kB\nMemAvailable:    700 kB\n"
    assert doctor.parse_meminfo(text) == 700 * 1024
    assert doctor.parse_meminfo("MemTotal: 2000 kB\n") is None


def test_vm_stat():
    text = (
        "Mach Virtual Memory Statistics: (page size of 16384 bytes)\n"
        "Pages free:                                3000.\n"
        "Pages active:                            400000.\n"
        "Pages inactive:                            2000.\n"
        "Pages speculative:                          100.\n"
        "Pages purgeable:                             10.\n"
    )
    assert doctor.parse_vm_stat(text) == 16384 * 5110
    assert doctor.parse_vm_stat("nothing of the kind") is None


def test_this_machine_says_how_much_it_has():
    if sys.platform in ("linux", "darwin"):
        assert doctor.available_memory() > 0
    assert doctor.free_disk() > 0


def test_main_prints_each_fault_on_one_line_and_fails(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "available_memory", lambda: GIB)
    monkeypatch.setattr(doctor, "free_disk", lambda: 0)
    assert doctor.main(["--quick"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "disk" in lines[0] and "memory" in lines[1]
    monkeypatch.setattr(doctor, "available_memory", lambda: 8 * GIB)
    monkeypatch.setattr(doctor, "free_disk", lambda: 8 * GIB)
    assert doctor.main(["--quick"]) == 0
    assert capsys.readouterr() == ("", "")


def test_a_folder_where_nothing_can_be_saved(tmp_path):
    assert doctor.notebooks_fault() is None and doctor.home_fault() is None
    assert doctor.write_fault(tmp_path / "new/folder", "") is None
    (tmp_path / "file").touch()
    fault = doctor.notebooks_fault(tmp_path / "file/notebooks")
    assert "Nothing can be saved in" in fault and "copy the course" in fault


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("ro", "another home, as in: make lab HOME="),
        ("size=512k", "delete what you no longer need on that disk"),
    ],
)
def test_a_home_that_is_read_only_or_full_is_told_by_both_in_one_sentence(tmp_path, options, words):
    """A real file system, mounted for these commands alone."""
    inside = f"mount -t tmpfs -o {options} tmpfs {tmp_path} && export HOME={tmp_path} && "
    unshare = [shutil.which("unshare") or "unshare", "--map-root-user", "--mount", "sh", "-c"]
    if not shutil.which("unshare") or subprocess.run([*unshare, f"{inside}true"]).returncode:
        pytest.skip("only where a file system can be mounted, as on most Linux machines")
    own = "import doctor as d; print(d.CHECKS['JupyterLab can keep its files']())"
    # These would name other places than the home.
    places = ("JUPYTER", "XDG")
    rest = {name: value for name, value in os.environ.items() if not name.startswith(places)}

    def answer(command):
        done = [*unshare, f"{inside}cd tools && {sys.executable} {command}"]
        return subprocess.run(done, cwd=doctor.ROOT, env=rest, capture_output=True, text=True)

    lab, before = answer("doctor.py --quick"), answer(f'-c "{own}"')
    assert lab.returncode == 1 and lab.stderr == before.stdout
    (sentence,) = lab.stderr.splitlines()
    assert words in sentence and str(tmp_path) in sentence


@pytest.mark.skipif(os.name == "nt", reason="make is for Linux and macOS")
def test_make_takes_another_home(tmp_path):
    command = ["make", "--no-print-directory", "--file=-", f"HOME={tmp_path}"]
    done = subprocess.run(command, input="all:\n\t@echo $$HOME\n", capture_output=True, text=True)
    assert done.stdout == f"{tmp_path}\n"


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
    return subprocess.run(command, cwd=doctor.ROOT, env=environment, capture_output=True, text=True)


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


# --- what is tried the day before ---


def test_a_line_a_check_and_a_fix_for_each_no(capsys):
    def breaks():
        raise KeyError("surprise")

    checks = {"one": lambda: None, "two": lambda: "it is broken: fix it", "three": breaks}
    assert doctor.report(checks) == 1
    one, two, three, last = capsys.readouterr().out.splitlines()
    assert (one, two) == ("ok  one", "no  two: it is broken: fix it")
    assert three.startswith("no  three: KeyError: 'surprise'") and doctor.AGAIN in three
    assert last.startswith("2 of 3 say no")
    assert doctor.report({"one": lambda: None}) == 0
    assert capsys.readouterr().out.splitlines() == ["ok  one", "This machine is ready."]


def test_disk_and_memory_are_asked_for_what_a_session_takes(monkeypatch):
    monkeypatch.setattr(doctor, "free_disk", lambda: doctor.DISK_TO_RUN - 1)
    monkeypatch.setattr(doctor, "available_memory", lambda: doctor.MEMORY_TO_RUN - 1)
    assert "make room" in doctor.CHECKS["disk"]()
    assert "close other programs" in doctor.CHECKS["memory"]()
    monkeypatch.setattr(doctor, "free_disk", lambda: doctor.DISK_TO_RUN)
    monkeypatch.setattr(doctor, "available_memory", lambda: None)
    assert doctor.CHECKS["disk"]() is None and doctor.CHECKS["memory"]() is None


def test_packages():
    assert doctor.packages_fault() is None

    def installed(name):
        if name == "anywidget":
            raise importlib.metadata.PackageNotFoundError
        return "1.0" if name == "numpy" else importlib.metadata.version(name)

    fault = doctor.packages_fault(installed)
    assert "anywidget is missing, tested is" in fault and "numpy is 1.0, tested is" in fault
    assert "torch" not in fault and ".venv" in fault and "conda:" in fault


def test_torch_and_the_data_work_here():
    assert doctor.CHECKS["torch computes"]() is None
    assert doctor.CHECKS["data is there"]() is None


def test_code_that_fails_crashes_or_hangs_is_told_with_its_fix():
    said = doctor.run_fault("import nowhere", "install it")
    assert said == "ModuleNotFoundError: No module named 'nowhere': install it"
    said = doctor.run_fault("import os; os._exit(132)", "use Binder")
    assert said == "Python crashed (exit 132): use Binder"
    said = doctor.run_fault("import time; time.sleep(60)", "", seconds=0.5)
    assert "no answer" in said and "close other programs" in said


def test_a_kernel_runs_a_cell_and_draws_a_panel():
    assert doctor.CHECKS["a kernel starts and runs a cell"]() is None
    assert doctor.CHECKS["a panel is drawn"]() is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kernel": "nobody"}, "no kernel named nobody"),
        ({"code": "1 / 0"}, "ZeroDivisionError: division by zero"),
        ({"code": "print('no result')"}, "the cell gave no text/plain"),
        ({"wants": ("text/html",)}, "the cell gave no text/html"),
    ],
)
def test_a_kernel_that_fails_is_told_with_its_fix(options, words):
    fault = doctor.kernel_fault(**options)
    assert words in fault and "remove the folder .venv" in fault


def test_a_cell_that_hangs_is_given_up():
    fault = doctor.kernel_fault("import time; time.sleep(90)", seconds=10)
    assert "no answer in 10 s" in fault and "close other programs" in fault


def test_a_kernel_that_cannot_be_reached_points_to_the_firewall(monkeypatch):
    def silent(*_, **__):
        raise RuntimeError("Kernel didn't respond in 60 seconds")

    monkeypatch.setattr("jupyter_client.manager.start_new_kernel", silent)
    fault = doctor.kernel_fault()
    assert "didn't respond" in fault and "firewall" in fault and "127.0.0.1" in fault


def test_ports():
    with socket.socket() as taken, socket.socket() as free:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        fault = doctor.port_fault([port])
        assert "is free: stop other servers" in fault and "ARGS=--port=" in fault
        free.bind(("127.0.0.1", 0))
        other = free.getsockname()[1]
        free.close()
        assert doctor.port_fault([port, other]) is None


def test_jupyterlab_answers_here():
    assert doctor.server_fault(("-m", "jupyterlab", "--allow-root")) is None


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise SystemExit('no such extension')", "did not start (no such extension): remove"),
        ("raise SystemExit('Running as root is not recommended')", "ARGS=--allow-root"),
        ("import time; time.sleep(60)", "did not start (without a word): remove"),
    ],
)
def test_a_server_that_does_not_start_is_told_with_its_fix(code, words):
    assert words in doctor.server_fault(("-c", code), seconds=3)


def test_a_server_that_is_not_to_be_reached_points_to_the_proxy():
    code = (
        "import os, json, time, pathlib\n"
        "file = pathlib.Path(os.environ['JUPYTER_RUNTIME_DIR']) / 'jpserver-1.json'\n"
        "file.write_text(json.dumps({'url': 'http://127.0.0.1:9/'}))\n"
        "time.sleep(60)"
    )
    fault = doctor.server_fault(("-c", code), seconds=10)
    assert "does not answer" in fault and "VPN or proxy" in fault


def test_a_server_that_listens_a_moment_after_it_gave_its_address_is_waited_for():
    code = (
        "import os, json, time, pathlib, socket\n"
        "one = socket.socket()\n"
        "one.bind(('127.0.0.1', 0))\n"
        "file = pathlib.Path(os.environ['JUPYTER_RUNTIME_DIR']) / 'jpserver-1.json'\n"
        "file.write_text(json.dumps({'url': f'http://127.0.0.1:{one.getsockname()[1]}/'}))\n"
        "time.sleep(1)\n"
        "one.listen()\n"
        "there, _ = one.accept()\n"
        "there.recv(9999)\n"
        "there.sendall(b'HTTP/1.0 200 OK\\r\\n\\r\\nJupyterLab')\n"
        "there.close()\n"
        "time.sleep(60)"
    )
    assert doctor.server_fault(("-c", code), seconds=10) is None


@pytest.mark.skipif(os.name == "nt", reason="make is for Linux and macOS")
def test_make_has_the_target():
    command = ["make", "--dry-run", "preflight", f"PYTHON={sys.executable}"]
    done = subprocess.run(command, cwd=doctor.ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "tools/doctor.py\n" in done.stdout
