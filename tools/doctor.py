"""Say what keeps this machine from running the course, and how to fix each fault.

    python tools/doctor.py           try everything, one line per check: ``make preflight``
    python tools/doctor.py --quick   only the faults, before JupyterLab starts
    python tools/doctor.py --fits    only whether this Python fits

The exit status is 1 where there is a fault. No network is needed. It uses only the standard
library, and no syntax that an older Python cannot read, because it has to run where the course does
not.
"""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import platform
import queue
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST, NEWEST = (3, 11), (3, 13)
GIB = 2**30
# A finished environment with the CPU build of torch takes 1.9 GB, and pip's downloads need space
# besides.
DISK_TO_INSTALL = 4 * GIB
# PyPI's torch for Linux brings the CUDA libraries: gigabytes to download, and more unpacked. The
# number is a generous guess; nothing here measures it.
DISK_TO_INSTALL_CUDA = 10 * GIB
DISK_TO_RUN = GIB // 2
# A notebook's kernel at its peak (0.8 GiB in chapter 05), the server (0.1), and a browser tab.
MEMORY_TO_RUN = 3 * GIB // 2
AGAIN = (
    "remove the folder .venv, and run this again "
    '(conda: pip install -c constraints.txt -e ".[course]")'
)
# JupyterLab takes the first free one of these.
PORTS = range(8888, 8938)
# Long enough for an old laptop that reads torch for the first time, under a virus scanner.
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
from course_utils.panels.packed import PackedExplorer
PackedExplorer({"two": [3, 2]})
"""


def python_fits(version=None) -> bool:
    """True where this Python (or `version`, a tuple) is one that the course is made for."""
    return OLDEST <= tuple(version or sys.version_info)[:2] <= NEWEST


def python_fault(version=None) -> str | None:
    """The line to print where Python is too old or too new, else None."""
    version = tuple(version or sys.version_info)
    if python_fits(version):
        return None
    return (
        f"Python {version[0]}.{version[1]} does not fit: the course needs 3.11, 3.12 or 3.13. "
        "Install one from python.org and name it, as in: make lab PYTHON=python3.11"
    )


def venv_fault(find_spec=importlib.util.find_spec) -> str | None:
    """The line to print where this Python cannot make virtual environments, else None."""
    if find_spec("venv") and find_spec("ensurepip"):
        return None
    return (
        "This Python cannot make virtual environments (venv or ensurepip is missing). "
        "On Debian and Ubuntu: sudo apt install python3-venv"
    )


def platform_fault(system=None, machine=None, mac_release=None) -> str | None:
    """The line to print where PyTorch has no build for this machine, else None."""
    if (system or platform.system()) != "Darwin":
        return None
    if (machine or platform.machine()) == "x86_64":
        return (
            "PyTorch no longer has builds for Intel Macs (or this Python runs under Rosetta: "
            "then take one built for Apple silicon). The course runs on Binder instead."
        )
    release = mac_release or platform.mac_ver()[0]
    if int(release.split(".")[0] or 0) < 14:
        return f"PyTorch needs macOS 14 or later, and this is {release}: update, or use Binder."
    return None


def disk_fault(free: int, need: int, folder: Path = ROOT) -> str | None:
    """The line to print where fewer than `need` bytes are free on the disk of `folder`."""
    if free >= need:
        return None
    return (
        f"Only {free / GIB:.1f} GiB of disk are free where {folder} is, and "
        f"{need / GIB:.1f} GiB are needed: make room, or move the folder to a larger disk."
    )


def write_fault(folder: Path, fix: str) -> str | None:
    """The line to print, with its `fix`, where nothing can be saved in `folder`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Enough for a full disk to say so.
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(2**20))
    except OSError as error:
        if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
            fix = "delete what you no longer need on that disk"
        return f"Nothing can be saved in {folder} ({error.strerror}): {fix}."
    return None


def notebooks_fault(folder: Path = ROOT / "notebooks") -> str | None:
    """The line to print where answers could not be saved."""
    return write_fault(folder, "copy the course to your home folder")


def home_fault() -> str | None:
    """The line to print where JupyterLab could not keep its own files, most of them at home."""
    try:
        from jupyter_core import paths
    except ImportError:  # nothing is installed yet
        return None
    # Ask Jupyter where these are, because the environment can name other places.
    for place in (paths.jupyter_runtime_dir, paths.jupyter_data_dir, paths.jupyter_config_dir):
        fault = write_fault(
            Path(place()), "give JupyterLab another home, as in: make lab HOME=/a/folder/of/yours"
        )
        if fault:
            return fault
    return None


def memory_fault(available: int | None, need: int = MEMORY_TO_RUN) -> str | None:
    """The line to print where fewer than `need` bytes of memory are available.

    None where there is enough, and where the system does not say (`available` is None).
    """
    if available is None or available >= need:
        return None
    return (
        f"Only {available / GIB:.1f} GiB of memory are available, and {need / GIB:.1f} GiB are "
        "needed: close other programs (or kernels of other notebooks), then try again."
    )


def parse_meminfo(text: str) -> int | None:
    """Bytes of `MemAvailable` in Linux's /proc/meminfo; None where the line is missing."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def parse_vm_stat(text: str) -> int | None:
    """Bytes that macOS's `vm_stat` counts as free or free at need; None where it says nothing."""
    page = re.search(r"page size of (\d+) bytes", text)
    kinds = re.findall(r"^Pages (?:free|inactive|speculative|purgeable):\s+(\d+)", text, re.M)
    return int(page[1]) * sum(map(int, kinds)) if page and kinds else None


def available_memory() -> int | None:
    """Bytes of memory that a new program may take; None where the system does not say."""
    try:
        if sys.platform == "darwin":
            answer = subprocess.run(["vm_stat"], capture_output=True, text=True, timeout=5)
            return parse_vm_stat(answer.stdout)
        return parse_meminfo(Path("/proc/meminfo").read_text())
    except (OSError, subprocess.SubprocessError):
        return None


def free_disk(folder: Path = ROOT) -> int:
    """Bytes free on the disk that holds `folder`."""
    return shutil.disk_usage(folder).free


def before_install() -> list[str]:
    """What keeps the course from being set up here, apart from the disk."""
    faults = [
        python_fault(),
        venv_fault(),
        platform_fault(),
        None if os.access(ROOT, os.W_OK) else f"{ROOT} cannot be written to: copy it to your home.",
    ]
    return [fault for fault in faults if fault]


def pins(constraints: str) -> dict[str, str]:
    """Lower-case package name -> version, from the text of a constraints file."""
    return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", constraints.lower(), re.MULTILINE))


def packages_fault(installed: Callable[[str], str] | None = None) -> str | None:
    """What to print where a package that the course needs is not at its tested version."""
    import importlib.metadata  # only here: older Pythons lack them
    import tomllib

    installed = installed or importlib.metadata.version
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = project["dependencies"] + project["optional-dependencies"]["course"]
    tested = pins((ROOT / "constraints.txt").read_text())
    wrong = []
    for requirement in needed:
        name = requirement.split(">")[0].lower()
        try:
            # torch's CPU build calls itself 2.13.0+cpu.
            have = installed(name).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            have = "missing"
        if have != tested[name]:
            wrong.append(f"{name} is {have}, tested is {tested[name]}")
    return f"{'; '.join(wrong)}: {AGAIN}" if wrong else None


def run_fault(code: str, fix: str, seconds: float = SECONDS) -> str | None:
    """What to print where `code` fails in a Python of its own, which may crash."""
    command = [sys.executable, "-c", code]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return f"no answer in {seconds:.0f} s: close other programs, and try again"
    if done.returncode == 0:
        return None
    said = done.stderr.strip().splitlines() or [f"Python crashed (exit {done.returncode})"]
    return f"{said[-1]}: {fix}"


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
    """The page, after a wait: a server names its address a moment before it listens."""
    while True:
        try:
            with opener.open(url, timeout=30) as answer:
                return answer.read().decode()
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ConnectionRefusedError) or time.monotonic() > until:
                raise
        time.sleep(0.2)


# What can change from one start to the next, and is asked each time.
BEFORE_LAB: dict[str, Callable[[], str | None]] = {
    "Python": python_fault,
    "disk": lambda: disk_fault(free_disk(), DISK_TO_RUN),
    "memory": lambda: memory_fault(available_memory()),
    "notebooks can be saved": notebooks_fault,
    "JupyterLab can keep its files": home_fault,
}
CHECKS = {
    **BEFORE_LAB,
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


def report(checks: dict[str, Callable[[], str | None]] = CHECKS) -> int:
    """Print one line per check, "ok" or "no" with the fix, and return the exit status."""
    failed = 0
    for name, check in checks.items():
        try:
            fault = check()
        except Exception as error:  # a check that breaks must not hide the others
            fault = f"{type(error).__name__}: {error}: {AGAIN}"
        failed += bool(fault)
        print(f"no  {name}: {fault}" if fault else f"ok  {name}", flush=True)
    if failed:
        print(f"{failed} of {len(checks)} say no. Fix them and run this again, or use Binder.")
    else:
        print("This machine is ready.")
    return int(failed > 0)


def main(arguments: list[str]) -> int:
    """Report on everything; `--quick` prints the faults alone, `--fits` nothing."""
    if arguments == ["--fits"]:
        return 0 if python_fits() else 1
    if arguments == ["--quick"]:
        faults = list(filter(None, (check() for check in BEFORE_LAB.values())))
        for fault in faults:
            print(fault, file=sys.stderr)
        return 1 if faults else 0
    return report()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
