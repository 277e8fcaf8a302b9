"""Each check of `make preflight` is made to fail for real, and tells its mend."""

import importlib.metadata
import os
import socket
import subprocess
import sys

import day_before
import preflight
import pytest


def test_a_line_a_check_and_a_mend_for_each_no(capsys):
    def breaks():
        raise KeyError("surprise")

    checks = {"one": lambda: None, "two": lambda: "it is broken: mend it", "three": breaks}
    assert day_before.main(checks) == 1
    one, two, three, last = capsys.readouterr().out.splitlines()
    assert (one, two) == ("ok  one", "no  two: it is broken: mend it")
    assert three.startswith("no  three: KeyError: 'surprise'") and day_before.AGAIN in three
    assert last.startswith("2 of 3 say no")
    assert day_before.main({"one": lambda: None}) == 0
    assert capsys.readouterr().out.splitlines() == ["ok  one", "This machine is ready."]


def test_disk_and_memory_are_asked_for_what_a_session_takes(monkeypatch):
    monkeypatch.setattr(preflight, "free_disk", lambda: preflight.DISK_TO_RUN - 1)
    monkeypatch.setattr(preflight, "available_memory", lambda: preflight.MEMORY_TO_RUN - 1)
    assert "make room" in day_before.CHECKS["disk"]()
    assert "close other programs" in day_before.CHECKS["memory"]()
    monkeypatch.setattr(preflight, "free_disk", lambda: preflight.DISK_TO_RUN)
    monkeypatch.setattr(preflight, "available_memory", lambda: None)
    assert day_before.CHECKS["disk"]() is None and day_before.CHECKS["memory"]() is None


def test_packages():
    assert day_before.packages_fault() is None

    def installed(name):
        if name == "anywidget":
            raise importlib.metadata.PackageNotFoundError
        return "1.0" if name == "numpy" else importlib.metadata.version(name)

    fault = day_before.packages_fault(installed)
    assert "anywidget is missing, tested is" in fault and "numpy is 1.0, tested is" in fault
    assert "torch" not in fault and ".venv" in fault and "conda:" in fault


def test_torch_and_the_data_work_here():
    assert day_before.CHECKS["torch computes"]() is None
    assert day_before.CHECKS["data is there"]() is None


def test_code_that_fails_crashes_or_hangs_is_told_with_its_mend():
    said = day_before.run_fault("import nowhere", "install it")
    assert said == "ModuleNotFoundError: No module named 'nowhere': install it"
    said = day_before.run_fault("import os; os._exit(132)", "use Binder")
    assert said == "Python crashed (exit 132): use Binder"
    said = day_before.run_fault("import time; time.sleep(60)", "", seconds=0.5)
    assert "no answer" in said and "close other programs" in said


def test_a_kernel_runs_a_cell_and_draws_a_panel():
    assert day_before.CHECKS["a kernel starts and runs a cell"]() is None
    assert day_before.CHECKS["a panel is drawn"]() is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kernel": "nobody"}, "no kernel named nobody"),
        ({"code": "1 / 0"}, "ZeroDivisionError: division by zero"),
        ({"code": "print('no result')"}, "the cell gave no text/plain"),
        ({"wants": ("text/html",)}, "the cell gave no text/html"),
    ],
)
def test_a_kernel_that_fails_is_told_with_its_mend(options, words):
    fault = day_before.kernel_fault(**options)
    assert words in fault and "remove the folder .venv" in fault


def test_a_cell_that_hangs_is_given_up():
    fault = day_before.kernel_fault("import time; time.sleep(90)", seconds=10)
    assert "no answer in 10 s" in fault and "close other programs" in fault


def test_a_kernel_that_cannot_be_reached_points_to_the_firewall(monkeypatch):
    def silent(*_, **__):
        raise RuntimeError("Kernel didn't respond in 60 seconds")

    monkeypatch.setattr("jupyter_client.manager.start_new_kernel", silent)
    fault = day_before.kernel_fault()
    assert "didn't respond" in fault and "firewall" in fault and "127.0.0.1" in fault


def test_ports():
    with socket.socket() as taken, socket.socket() as free:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        fault = day_before.port_fault([port])
        assert "is free: stop other servers" in fault and "ARGS=--port=" in fault
        free.bind(("127.0.0.1", 0))
        other = free.getsockname()[1]
        free.close()
        assert day_before.port_fault([port, other]) is None


def test_jupyterlab_answers_here():
    assert day_before.server_fault(("-m", "jupyterlab", "--allow-root")) is None


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise SystemExit('no such extension')", "did not start (no such extension): remove"),
        ("raise SystemExit('Running as root is not recommended')", "ARGS=--allow-root"),
        ("import time; time.sleep(60)", "did not start (without a word): remove"),
    ],
)
def test_a_server_that_does_not_start_is_told_with_its_mend(code, words):
    assert words in day_before.server_fault(("-c", code), seconds=3)


def test_a_server_that_is_not_to_be_reached_points_to_the_proxy():
    code = (
        "import os, json, time, pathlib\n"
        "file = pathlib.Path(os.environ['JUPYTER_RUNTIME_DIR']) / 'jpserver-1.json'\n"
        "file.write_text(json.dumps({'url': 'http://127.0.0.1:9/'}))\n"
        "time.sleep(60)"
    )
    fault = day_before.server_fault(("-c", code), seconds=10)
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
    assert day_before.server_fault(("-c", code), seconds=10) is None


def test_a_folder_that_cannot_be_written_to(tmp_path):
    assert day_before.write_fault() is None
    fault = day_before.write_fault(tmp_path / "nowhere")
    assert "nothing can be saved" in fault and "copy the course" in fault


@pytest.mark.skipif(os.name == "nt", reason="make is for Linux and macOS")
def test_make_has_the_target():
    command = ["make", "--dry-run", "preflight", f"PYTHON={sys.executable}"]
    done = subprocess.run(command, cwd=preflight.ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "tools/day_before.py" in done.stdout
