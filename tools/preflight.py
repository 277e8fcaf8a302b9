"""Say what would stop the course on this machine, one plain line a fault, before it does.

`python tools/preflight.py` prints the faults and exits 1 where there is one. Standard library only,
and no syntax that an older Python cannot read: it has to run where the course does not.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST, NEWEST = (3, 11), (3, 13)
GIB = 2**30
# A finished environment with the CPU build of torch takes 1.9 GB, and pip's downloads lie beside it
# meanwhile.
DISK_TO_INSTALL = 4 * GIB
# PyPI's torch for Linux brings the CUDA libraries: gigabytes to download, and more unpacked. A
# generous guess; nothing here measures it.
DISK_TO_INSTALL_CUDA = 10 * GIB
DISK_TO_RUN = GIB // 2
# A notebook's kernel at its peak (0.8 GiB in chapter 05), the server (0.1), and a browser tab.
MEMORY_TO_RUN = 3 * GIB // 2


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
        f"Only {free / GIB:.1f} GiB of disk are free where {folder} lies, and "
        f"{need / GIB:.1f} GiB are needed: make room, or move the folder to a larger disk."
    )


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
    """What stands against setting the course up here, disk aside."""
    faults = [
        python_fault(),
        venv_fault(),
        platform_fault(),
        None if os.access(ROOT, os.W_OK) else f"{ROOT} cannot be written to: copy it to your home.",
    ]
    return [fault for fault in faults if fault]


def before_lab() -> list[str]:
    """What stands against starting JupyterLab here, once the course is set up."""
    faults = [
        python_fault(),
        disk_fault(free_disk(), DISK_TO_RUN),
        memory_fault(available_memory()),
    ]
    return [fault for fault in faults if fault]


def main(arguments: list[str]) -> int:
    """Print the faults; 1 where there is one. `--fits` only tells whether this Python fits."""
    if arguments == ["--fits"]:
        return 0 if python_fits() else 1
    faults = before_lab()
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
