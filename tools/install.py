"""Set the course up in `.venv`: exactly the versions that were tested, in one command.

`python tools/install.py` is what every make target calls first. Where nothing has changed since it
last finished, it returns at once; it makes again what is half finished, moved or broken.
`python tools/install.py --lab-settings` writes the course's JupyterLab settings into the
environment that runs it (conda, Binder). `--site` adds what only the static site needs. It uses
only the standard library.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import venv
from contextlib import contextmanager
from pathlib import Path

import doctor

ROOT = doctor.ROOT
CPU_INDEX = os.environ.get("TORCH_CPU_INDEX", "https://download.pytorch.org/whl/cpu")
# For name resolution, connecting and answering together, because each of them can hang.
PROBE_SECONDS = 10
FIRST_NOTEBOOK = "notebooks/00_start_here.ipynb"
OVERRIDES = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/docmanager-extension:plugin": {"defaultViewers": {"markdown": "Markdown Preview"}},
    # Or a notebook opened the next day says "Error displaying widget: model not found".
    "@jupyter-widgets/jupyterlab-manager:plugin": {"saveState": True},
}
# See that module: JupyterLab would forget a panel whose kernel is gone.
EXTENSIONS = {"ServerApp": {"jpserver_extensions": {"course_utils.panels.saving": True}}}
# Or opening a notebook changes it: JupyterLab writes into it what the kernel says of itself. The
# notebooks are saved with all of that but the version of Python, which differs between learners.
KERNEL_STARTUP = """\
if kernel := getattr(get_ipython(), "kernel", None):
    kernel.language_info.pop("version", None)
"""
OPENS_ON = {"LabApp": {"default_url": f"/lab/tree/{FIRST_NOTEBOOK}"}}


class InstallError(Exception):
    """What went wrong and the fix, in words for the person at the keyboard."""


# --- What is there already ---


def wanted(root: Path = ROOT) -> dict[str, str]:
    """What decides an installation: this Python, this folder, and what the package asks for."""
    import tomllib  # only here: the rest of this file is read by Pythons that lack it

    project = tomllib.loads((root / "pyproject.toml").read_text())
    asked = [project["project"], project["build-system"], project["tool"]["setuptools"]]
    text = json.dumps(asked, sort_keys=True) + (root / "constraints.txt").read_text()
    return {
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
        "folder": str(root),
        "versions": hashlib.sha256(text.encode()).hexdigest(),
    }


def venv_python(env: Path) -> Path:
    """The interpreter of the virtual environment `env`."""
    return env / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def runs(python: Path) -> bool:
    """True where `python` starts and has pip."""
    try:
        command = [str(python), "-c", "import pip"]
        return subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def stamped(stamp: Path) -> dict[str, str]:
    """What the file `stamp` says was installed; nothing where it is missing or half written."""
    try:
        return json.loads(stamp.read_text())
    except (FileNotFoundError, ValueError):
        return {}


def finished(env: Path, want: dict[str, str]) -> bool:
    """True where `env` is what is wanted, and its Python is still there."""
    # A stamp outlives the Python that it was written for, which may be uninstalled.
    return stamped(env / "course.json") == want and (
        Path(sys.prefix).resolve() == env or runs(venv_python(env))
    )


def plan(env: Path, want: dict[str, str]) -> tuple[str, str]:
    """What to do about `env`, and the sentence that says so.

    Returns:
        ("nothing", ""), ("update", sentence) where pip has to run again, or ("make", sentence).
    Raises:
        InstallError: `env` exists, and is not ours to remove.
    """
    stamp = env / "course.json"
    if not env.exists() or not any(env.iterdir()):
        return "make", f"Setting the course up in {env.name}, once: this takes a few minutes."
    if not stamp.exists():
        raise InstallError(
            f"The folder {env} was not made by this course, so it is left alone. "
            "Rename or remove it, then run the command again."
        )
    have = stamped(stamp)
    if finished(env, want):
        return "nothing", ""
    if have == want:
        return "make", f"The Python behind {env.name} is gone: setting the course up again."
    name = env.name
    if have.get("folder", want["folder"]) != want["folder"]:
        return "make", f"The folder was moved or copied since {name} was made: making it again."
    if have.get("python", want["python"]) != want["python"]:
        change = f"from Python {have['python']} to {want['python']}"
        return "make", f"Making {name} again, {change}."
    if "versions" not in have or not runs(venv_python(env)):
        return "make", f"The set-up of {name} was not finished, or is broken: starting it again."
    return "update", f"The tested versions have changed: bringing {env.name} up to date."


# --- One at a time ---


def take(file) -> bool:
    """Lock the open `file` until this process closes it or ends; False where another has the lock.

    Where the file system has no locks, it is True, and the set-up goes on as if it were alone.
    """
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        pass
    return True


@contextmanager
def one_at_a_time(env: Path):
    """Wait, and say so, until no other process is setting `env` up; then keep others waiting."""
    with env.with_name(f"{env.name}.lock").open("a") as file:
        if not take(file):
            print("Another set-up is running here: waiting until it has finished.", flush=True)
            while not take(file):
                time.sleep(0.5)
        yield


# --- Where torch comes from ---

PROBE = """
import sys, urllib.request
page = urllib.request.urlopen(sys.argv[1], timeout=float(sys.argv[2])).read().decode()
sys.exit(sys.argv[3] not in page)
"""


def index_answers(index: str, wheel: str, seconds: float = PROBE_SECONDS) -> bool:
    """True where the package index answers in time, and lists a torch wheel that begins so.

    A process of its own asks, because a name look-up that hangs can only be killed.
    """
    asked = [f"{index.rstrip('/')}/torch/", str(seconds), wheel]
    command = [sys.executable, "-c", PROBE, *asked]
    try:
        return subprocess.run(command, capture_output=True, timeout=seconds).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def has_nvidia_gpu() -> bool:
    """True where `nvidia-smi` runs and finds a GPU."""
    try:
        answer = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0 and "GPU 0" in answer.stdout


def wants_cpu_build() -> bool:
    """True on Linux without a GPU, where the default index would bring CUDA for nothing."""
    return platform.system() == "Linux" and not has_nvidia_gpu()


# --- Installing ---


def pip_runner(env: Path):
    """A function that runs `pip install` with the given arguments, and logs all that pip says.

    It raises `InstallError` where pip fails. On a terminal, one line shows what pip is doing.
    """
    log = env / "install.log"

    def run(*arguments: str) -> None:
        command = [str(venv_python(env)), "-m", "pip", "install", *arguments]
        quiet = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PIP_USER": "0"}
        said = []
        with log.open("a", encoding="utf-8") as file:
            pip = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **quiet},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
            file.write(f"$ {' '.join(command)}\n")
            for line in pip.stdout:
                file.write(line)
                said.append(line)
                if sys.stdout.isatty() and line.strip().startswith(("Downloading", "Installing")):
                    width = shutil.get_terminal_size().columns - 4
                    print(f"\r\033[K  {line.strip()[:width]}", end="", flush=True)
        if sys.stdout.isatty():
            print("\r\033[K", end="", flush=True)
        if pip.wait():
            raise InstallError(f"{explain(''.join(said))} All that pip said is in {log}.")

    return run


def explain(said: str) -> str:
    """Pip's failure in a plain sentence with its fix."""
    if re.search("No space left|[Dd]isk quota exceeded", said):
        return "The disk is full: make room, then run the command again."
    if re.search("NewConnection|ConnectTimeout|ReadTimeout|NameResolution|ProxyError", said):
        return "The package index cannot be reached: check the network, then run it again."
    if "SSLError" in said or "CERTIFICATE_VERIFY_FAILED" in said:
        return "The package index's certificate was refused: check the clock, or the proxy's rules."
    errors = re.findall(r"^ERROR: (.*)", said, re.MULTILINE)
    if missing := re.findall(r"No matching distribution found for (\S+)", said):
        return (
            f"The package index has no {missing[-1]} for this Python on this machine: "
            "try another Python (make lab PYTHON=python3.11), or use Binder."
        )
    return f"pip failed ({errors[-1] if errors else 'without a word'})."


def install(run, version_of: dict[str, str], cpu_index: str | None, say=print) -> None:
    """Install torch, then everything else, at the pinned versions.

    Args:
        run: `run(*arguments)` runs `pip install` with these; raises `InstallError`.
        version_of: the pins.
        cpu_index: where torch comes from first; the default index alone where None.
        say: takes the sentences for the reader.
    Raises:
        InstallError: the default index failed. A failing `cpu_index` is not an error.
    """
    if cpu_index:
        torch = f"torch=={version_of['torch']}"
        # torch alone, because its dependencies come from the default index, at their pins.
        only_torch = ("--index-url", cpu_index, "--no-deps", "--timeout", "15", "--retries", "1")
        try:
            run(*only_torch, torch)
        except InstallError:
            say("PyTorch's CPU index answered, then failed: taking torch from the default index.")
            need_room_for_cuda()
    # The build backend at its pin too, instead of whichever is newest on the day.
    run(f"setuptools=={version_of['setuptools']}")
    run("--no-build-isolation", "-c", "constraints.txt", "-e", ".[course,test]")


def need_room_for_cuda() -> None:
    """Raise `InstallError` where the disk cannot take the CUDA libraries that come with torch."""
    if fault := doctor.disk_fault(doctor.free_disk(), doctor.DISK_TO_INSTALL_CUDA):
        raise InstallError(f"torch would come with CUDA. {fault}")


def set_up(env: Path = ROOT / ".venv") -> None:
    """Make `env` what the course needs, or do nothing where it is.

    Raises:
        InstallError: the machine does not fit, or pip failed.
    """
    if fault := doctor.python_fault():
        raise InstallError(fault)
    want = wanted()
    if not finished(env, want):
        if faults := doctor.before_install():
            raise InstallError("\n".join(faults))
        with one_at_a_time(env):
            bring_up(env, want)
    lab_settings(env)  # they need no pip, and may have changed


def bring_up(env: Path, want: dict[str, str]) -> None:
    """Make or update `env`, unless another process has done so meanwhile."""
    todo, sentence = plan(env, want)
    if todo == "nothing":
        return
    print(sentence, flush=True)
    stamp = env / "course.json"
    if todo == "make":
        if env.exists():
            shutil.rmtree(env)
        if fault := doctor.disk_fault(doctor.free_disk(), doctor.DISK_TO_INSTALL):
            raise InstallError(fault)
        env.mkdir()
    # From here to the end, the stamp says "not finished".
    stamp.write_text("{}\n")
    if todo == "make":
        try:
            venv.EnvBuilder(with_pip=True, symlinks=os.name != "nt").create(env)
        except subprocess.CalledProcessError as error:
            raise InstallError(f"{sys.executable} could not make {env} ({error}).") from None
    version_of = doctor.pins((ROOT / "constraints.txt").read_text())
    cpu_index = None
    if wants_cpu_build():
        if index_answers(CPU_INDEX, f"torch-{version_of['torch']}"):
            cpu_index = CPU_INDEX
        else:
            print("PyTorch's CPU index does not answer: taking torch from the default index.")
    if platform.system() == "Linux" and not cpu_index:
        need_room_for_cuda()
    install(pip_runner(env), version_of, cpu_index)
    stamp.write_text(json.dumps(want, indent=1) + "\n")
    print(f"{env.name} is ready.", flush=True)


def add_site(env: Path = ROOT / ".venv") -> None:
    """Add to `env`, once, what builds the static site: learners do not need it.

    Raises:
        InstallError: pip failed.
    """
    # It has a stamp of its own, which is removed with `env`; `set_up` may run in between.
    stamp, want = env / "site.json", wanted()
    if stamped(stamp) == want:
        return
    with one_at_a_time(env):
        if stamped(stamp) == want:
            return
        print("Adding what builds the site, once.", flush=True)
        asked = ".[course,test,site]"
        pip_runner(env)("--no-build-isolation", "-c", "constraints.txt", "-e", asked)
        stamp.write_text(json.dumps(want) + "\n")


# --- JupyterLab's settings ---


def add_settings(path: Path, settings: dict) -> None:
    """Write `settings` into the JSON file `path`; what is already in the file stays as it is."""
    there = {}
    if path.exists():
        try:
            there = json.loads(path.read_text())
        except ValueError:
            print(f"{path} is not JSON, so it was left as it is.")
            return
    merged = {**settings, **there}
    for name in settings.keys() & there.keys():
        if isinstance(there[name], dict):
            merged[name] = {**settings[name], **there[name]}
    if merged == there:
        return  # or a folder that can only be read would stop what needs no writing
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(merged, indent=2) + "\n")


def lab_settings(prefix: Path) -> None:
    """Make the JupyterLab under `prefix` ask nothing, and leave a notebook as it was opened."""
    add_settings(prefix / "share/jupyter/lab/settings/overrides.json", OVERRIDES)
    # These files are the course's own, so what an earlier version wrote there is removed.
    for name, text in (
        ("jupyter/jupyter_server_config.d/variable_length_batches.json", json.dumps(EXTENSIONS)),
        ("ipython/startup/variable_length_batches.py", KERNEL_STARTUP),
    ):
        path = prefix / "etc" / name
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


def main(arguments: list[str]) -> int:
    """Set up, or write the settings; 1 and a plain line on stderr where that fails."""
    try:
        if arguments == ["--lab-settings"]:
            lab_settings(Path(sys.prefix))
            add_settings(Path(sys.prefix) / "etc/jupyter/jupyter_lab_config.json", OPENS_ON)
        elif arguments not in ([], ["--site"]):
            raise InstallError(
                f"Unknown: {' '.join(arguments)}. Only --lab-settings and --site exist."
            )
        else:
            set_up()
            if arguments:
                add_site()
    except InstallError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. Run the command again to go on.", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"The set-up stopped: {error}. Fix that, then run it again.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
