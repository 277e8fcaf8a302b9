"""Try on this machine all that a session will need: ``make preflight``, the day before.

One line a check, "ok" or "no", and with each "no" what mends it; exit 1 where there is one. Needs
no network. `tools/preflight.py` has the checks that must run before anything is installed.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import queue
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import install
import preflight
from preflight import ROOT

AGAIN = "remove the folder .venv, and run this again (conda: pip install -c constraints.txt -e .)"
# JupyterLab takes the first free one of these.
PORTS = range(8888, 8938)
# An old laptop reads torch from its disk for the first time, under a virus scanner.
SECONDS = 120

TORCH = """
import torch
lstm = torch.nn.LSTM(12, 32, batch_first=True, bidirectional=True)
output = lstm(torch.randn(4, 9, 12))[0]
output.square().mean().backward()
assert all(one.grad.isfinite().all() for one in lstm.parameters())
"""
DATA = """
from course_utils.data import japanese_vowels, python_docs_paragraphs
assert len(japanese_vowels("train").sequences) == 270 and len(python_docs_paragraphs()) > 1000
"""
PANEL = """
from course_utils.widgets import packed_explorer
packed_explorer({"two": [3, 2]})
"""


def packages_fault(installed: Callable[[str], str] = importlib.metadata.version) -> str | None:
    """What to print where a package that the course needs is not at its tested version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    tested = install.pins((ROOT / "constraints.txt").read_text())
    wrong = []
    for requirement in project["dependencies"]:
        name = requirement.split(">")[0].lower()
        try:
            # torch's CPU build calls itself 2.13.0+cpu.
            have = installed(name).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            have = "missing"
        if have != tested[name]:
            wrong.append(f"{name} is {have}, tested is {tested[name]}")
    return f"{'; '.join(wrong)}: {AGAIN}" if wrong else None


def run_fault(code: str, mend: str, seconds: float = SECONDS) -> str | None:
    """What to print where `code` fails in a Python of its own, which may crash."""
    command = [sys.executable, "-c", code]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return f"no answer in {seconds:.0f} s: close other programs, and try again"
    if done.returncode == 0:
        return None
    said = done.stderr.strip().splitlines() or [f"Python crashed (exit {done.returncode})"]
    return f"{said[-1]}: {mend}"


def kernel_fault(
    code: str = "6 * 7",
    wants: Sequence[str] = ("text/plain",),
    seconds: float = SECONDS,
    kernel: str = "python3",
) -> str | None:
    """What to print where a notebook's kernel does not start, or a cell does not give `wants`.

    Args:
        code: the cell.
        wants: the MIME types that its result must have.
        seconds: to wait for the kernel, and for the cell.
        kernel: name of the kernel.
    """
    from jupyter_client.kernelspec import NoSuchKernel
    from jupyter_client.manager import start_new_kernel

    shown, errors = {}, []

    def keep(message: dict) -> None:
        if message["msg_type"] in ("execute_result", "display_data"):
            shown.update(message["content"]["data"])
        if message["msg_type"] == "error":
            errors.append(f"{message['content']['ename']}: {message['content']['evalue']}")

    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    try:
        manager, client = start_new_kernel(seconds, kernel, cwd=str(ROOT / "notebooks"), **quiet)
    except NoSuchKernel:
        return f"there is no kernel named {kernel}: {AGAIN}"
    except RuntimeError as error:
        return (
            f"the kernel did not start ({error}): let the firewall or virus scanner allow "
            "Python to talk to 127.0.0.1"
        )
    try:
        client.execute_interactive(code, output_hook=keep, timeout=seconds)
    except (TimeoutError, queue.Empty):
        return f"no answer in {seconds:.0f} s: close other programs, and try again"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    missing = [one for one in wants if not shown.get(one)]
    if errors or missing:
        return f"{errors[0] if errors else 'the cell gave no ' + ', '.join(missing)}: {AGAIN}"
    return None


def port_fault(ports: Iterable[int] = PORTS) -> str | None:
    """What to print where none of `ports` is free on 127.0.0.1."""
    ports = list(ports)
    for port in ports:
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", port))
                return None
            except OSError:
                continue
    return (
        f"none of the ports {ports[0]} to {ports[-1]} is free: stop other servers "
        "(.venv/bin/jupyter server list, and then: server stop PORT), or start with "
        "make lab ARGS=--port=9999"
    )


def server_fault(command: Sequence[str] = ("-m", "jupyterlab"), seconds: float = SECONDS):
    """What to print where JupyterLab does not start, or its page does not come, else None."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        options = ["--no-browser", "--ip=127.0.0.1", "--port=0", "--IdentityProvider.token=try"]
        with (Path(folder) / "log").open("w+") as log:
            server = subprocess.Popen(
                [sys.executable, *command, *options],
                cwd=ROOT,
                env={**os.environ, "JUPYTER_RUNTIME_DIR": folder},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            try:
                url = _address(Path(folder), server, time.monotonic() + seconds)
                if url is None:
                    log.seek(0)
                    said = log.read().strip().splitlines() or ["without a word"]
                    if "as root" in said[-1]:
                        return (
                            "JupyterLab refuses to run as root: log in as yourself, or in a "
                            "container: make lab ARGS=--allow-root"
                        )
                    return f"JupyterLab did not start ({said[-1]}): {AGAIN}"
                # A proxy in the environment must not be asked for this machine.
                opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
                page = _page(opener, f"{url}lab?token=try", time.monotonic() + 5)
                return None if "JupyterLab" in page else f"its page is not JupyterLab's: {AGAIN}"
            except OSError as error:
                return (
                    f"JupyterLab does not answer ({error}): switch off VPN or proxy for 127.0.0.1"
                )
            finally:
                server.terminate()
                server.wait()


def _address(folder: Path, server: subprocess.Popen, until: float) -> str | None:
    while time.monotonic() < until and server.poll() is None:
        for file in folder.glob("jpserver-*.json"):
            try:
                return json.loads(file.read_text())["url"]
            except ValueError:  # it appears before it is whole
                continue
        time.sleep(0.2)
    return None


def _page(opener: urllib.request.OpenerDirector, url: str, until: float) -> str:
    """The page, waited for: a server names its address a moment before it listens."""
    while True:
        try:
            with opener.open(url, timeout=30) as answer:
                return answer.read().decode()
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ConnectionRefusedError) or time.monotonic() > until:
                raise
        time.sleep(0.2)


def write_fault(folder: Path = ROOT / "notebooks") -> str | None:
    """What to print where answers could not be saved in `folder`."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return f"nothing can be saved in {folder} ({error.strerror}): copy the course to your home"


CHECKS: dict[str, Callable[[], str | None]] = {
    "Python": preflight.python_fault,
    "disk": lambda: preflight.disk_fault(preflight.free_disk(), preflight.DISK_TO_RUN),
    "memory": lambda: preflight.memory_fault(preflight.available_memory()),
    "notebooks can be saved": write_fault,
    "packages at their tested versions": packages_fault,
    "torch computes": lambda: run_fault(TORCH, f"torch does not run here. Use Binder, or {AGAIN}"),
    "data is there": lambda: run_fault(DATA, AGAIN),
    "a kernel starts and runs a cell": kernel_fault,
    "a panel is drawn": lambda: kernel_fault(
        PANEL, ("text/html", "application/vnd.jupyter.widget-view+json")
    ),
    "a port is free": port_fault,
    "JupyterLab answers": server_fault,
}


def main(checks: dict[str, Callable[[], str | None]] = CHECKS) -> int:
    """Print a line a check, and return the exit status."""
    failed = 0
    for name, check in checks.items():
        try:
            fault = check()
        except Exception as error:  # a check that breaks must not hide the others
            fault = f"{type(error).__name__}: {error}: {AGAIN}"
        failed += bool(fault)
        print(f"no  {name}: {fault}" if fault else f"ok  {name}", flush=True)
    if failed:
        print(f"{failed} of {len(checks)} say no. Mend them, and run this again; or use Binder.")
    else:
        print("This machine is ready.")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
