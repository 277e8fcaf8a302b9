"""Bring the newest version of the course into this folder and keep every answer: ``make update``.

nbgitpuller merges: a line that the learner changed stays as it is, and what is new is added beside
it. Before that, each notebook with edits is copied into `notebook-copies/`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
from nbgitpuller.pull import BranchExistError, GitPuller

ROOT = Path(__file__).resolve().parent.parent


class UpdateError(Exception):
    """What went wrong and the fix, in words for the person at the keyboard."""


def git(root: Path, *arguments: str) -> str:
    """What git prints in the folder `root`.

    Raises:
        subprocess.CalledProcessError: git failed; its `stderr` says why.
    """
    command = ["git", *arguments]
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout


def source(root: Path) -> tuple[str, str]:
    """The address that the course in `root` came from, and its branch.

    Raises:
        UpdateError: `root` is not a clone.
    """
    try:
        # A copy without a history of its own may be inside another repository.
        if Path(git(root, "rev-parse", "--show-toplevel").strip()).samefile(root):
            url = git(root, "remote", "get-url", "origin").strip()
            return url, git(root, "branch", "--show-current").strip()
    except FileNotFoundError:
        raise UpdateError("git is not installed, and it fetches the new version.") from None
    except subprocess.CalledProcessError:
        pass
    raise UpdateError(
        f"{root} did not come from git clone, so there is nowhere to fetch a new version from. "
        "Download the course again, into another folder; your answers stay in this one."
    )


def edited(root: Path, newest: str) -> list[Path]:
    """The notebooks that differ from the version of the course that `root` has."""
    base = git(root, "merge-base", "HEAD", newest).strip()
    names = git(root, "diff", "--name-only", "--diff-filter=AM", "-z", base, "--", "notebooks")
    return [root / name for name in names.split("\0") if name.endswith(".ipynb")]


def readable(notebook: Path) -> bool:
    """True where JupyterLab can open `notebook`."""
    try:
        nbformat.validate(nbformat.read(notebook, as_version=4))
    except (OSError, ValueError, nbformat.ValidationError):
        return False
    return True


def update(root: Path = ROOT, say=print) -> None:
    """Merge the newest version of the course into `root`.

    Args:
        root: the course's folder, a clone.
        say: takes the sentences for the reader.
    Raises:
        UpdateError: it could not be done; the notebooks are as they were.
    """
    url, branch = source(root)
    newest = f"origin/{branch}"
    try:
        puller = GitPuller(url, str(root), branch=branch)
        git(root, "fetch")
        if git(root, "rev-list", "--count", f"HEAD..{newest}").strip() == "0":
            say("This is the newest version already.")
            return
        copies, folder = {}, root / "notebook-copies" / time.strftime("%Y-%m-%d-%H%M%S")
        for notebook in edited(root, newest):
            folder.mkdir(parents=True, exist_ok=True)
            copies[notebook] = shutil.copy2(notebook, folder)
        for _ in puller.pull():
            pass
    except BranchExistError:
        raise UpdateError(
            f"The course has no branch {branch!r}: git switch main, then run this again."
        ) from None
    except subprocess.CalledProcessError as error:
        subprocess.run(["git", "merge", "--abort"], cwd=root, capture_output=True)
        said = (error.stderr or "").strip().splitlines() or [str(error)]
        raise UpdateError(
            f"git failed ({said[-1]}). Check the network, then run this again; "
            "your notebooks are as they were."
        ) from None
    for notebook, copy in copies.items():
        if not readable(notebook):
            shutil.copy2(copy, notebook)
            say(f"{notebook.name} could not be merged, and stays as you had it.")
    say("The newest version is here.")
    if copies:
        names = ", ".join(sorted(notebook.name for notebook in copies))
        say(f"Your work in {names} is still there. Copies from before: {folder}")


def main() -> int:
    """Update this folder; 1 and a plain line on stderr where that fails."""
    try:
        update()
    except (UpdateError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
