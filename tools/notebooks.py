"""Re-execute notebooks from a clean kernel and save them as the course keeps them.

    python tools/notebooks.py            all of them
    python tools/notebooks.py 01         those whose name begins so
    python tools/notebooks.py --check    only say whether they are saved that way
    python tools/notebooks.py --tidy     save them that way without running them

Kept: outputs and execution counts. Dropped: widget state, widget views (their static picture
with alt text stays), timestamps, and whatever else differs from one run to the next. Made again:
the slide marks (`tools/slides.py`); a heading begins a cell, because a slide begins there. From
a *Predict* to the cell with its answer, outputs are folded until their cell is run. A cell
tagged `nbval-ignore-output` shows figures of one machine; while no code cell of its notebook
has changed, its saved output stays, so that a second run changes nothing (FRESH=1 measures
again).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import nbformat
from nbclient import NotebookClient
from slides import mark, split_at_headings, without_placeholder

from course_utils.exercises import progress

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "notebooks"
COPIES = ROOT / "notebook-copies"
WIDGET = "application/vnd.jupyter.widget-view+json"
# What JupyterLab writes when a kernel starts (see KERNEL_STARTUP in install.py), so that opening a
# notebook changes nothing.
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {
        "codemirror_mode": {"name": "ipython", "version": 3},
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
        "nbconvert_exporter": "python",
        "pygments_lexer": "ipython3",
    },
}


def _git(path: pathlib.Path, *arguments: str) -> str | None:
    """What git prints in the folder of `path`; None where git fails or is not installed."""
    try:
        command = ["git", *arguments]
        done = subprocess.run(command, cwd=path.parent, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


def keep_copy(path: pathlib.Path) -> pathlib.Path | None:
    """Copy a notebook that git could not bring back, before it is overwritten.

    Args:
        path: the notebook.
    Returns:
        the copy, or None where git holds the notebook as it is.
    """
    status = _git(path, "status", "--porcelain", "--ignored", "--", path.name)
    if status is not None and not status.strip():
        return None
    COPIES.mkdir(exist_ok=True)
    copy = COPIES / f"{path.stem}.{time.strftime('%Y-%m-%d-%H%M%S')}.ipynb"
    shutil.copy2(path, copy)
    return copy


def fold(notebook: nbformat.NotebookNode) -> None:
    """Fold, in place, the outputs that give the answer to a *Predict*.

    They are those of the cells after `guess = predict(...)`, down to the one that says
    `guess.came_out(...)`. JupyterLab unfolds an output when its cell is run. Until then it shows
    how the first output begins, which may be the answer: so the first one here is empty.
    """
    asked: set[str] = set()
    for cell in _code(notebook):
        if asked:
            cell.metadata["jupyter"] = {"outputs_hidden": True}
            if cell.outputs:
                cell.outputs = [nbformat.v4.new_output("display_data", {}), *cell.outputs]
        asked -= {name for name in asked if f"{name}.came_out(" in cell.source}
        asked |= set(re.findall(r"^(\w+) = predict\(", cell.source, re.M))


def _show_progress(notebook: nbformat.NotebookNode) -> None:
    """Bring the cards of `progress()` up to date, in place: a new chapter changes all of them."""
    before = os.environ.get("COURSE_PROGRESS")
    os.environ["COURSE_PROGRESS"] = "off"
    try:
        with contextlib.chdir(FOLDER):  # where its links lead
            card = progress()
            data = {"text/html": card._repr_html_(), "text/plain": repr(card)}
    finally:
        if before is None:
            del os.environ["COURSE_PROGRESS"]
        else:
            os.environ["COURSE_PROGRESS"] = before
    for cell in _code(notebook):
        if cell.source.split("\n")[-1] == "progress()" and cell.outputs:
            cell.outputs[-1].data = nbformat.from_dict(data)


def _collapse(text: str) -> str:
    # A progress bar writes over its own line; a reader sees only what was written last.
    return re.sub(r"[^\n]*\r(?=[^\n])", "", text)


def clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Drop what differs from run to run and mark the slides, in place; return the notebook."""
    notebook.metadata = nbformat.from_dict(METADATA)
    split_at_headings(notebook)
    for cell in notebook.cells:
        kept = {"tags": cell.metadata["tags"]} if "tags" in cell.metadata else {}
        cell.metadata = nbformat.from_dict(kept)
        if cell.cell_type != "code":
            continue
        outputs = []
        for output in without_placeholder(cell.outputs):
            output.pop("transient", None)
            if outputs and output.get("name", "") == outputs[-1].get("name"):
                outputs[-1].text += output.text
                continue
            output.get("data", {}).pop(WIDGET, None)
            if "metadata" in output:
                output.metadata = nbformat.from_dict({})
            outputs.append(output)
        for output in outputs:
            if output.output_type == "stream":
                output.text = _collapse(output.text)
        cell.outputs = outputs
    _show_progress(notebook)
    mark(notebook)
    fold(notebook)
    return notebook


def faults(notebook: nbformat.NotebookNode) -> list[str]:
    """List what keeps a notebook from being saved as the course keeps them."""
    found = []
    code = _code(notebook)
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        found.append("not run from top to bottom")
    if any(output.output_type == "error" for cell in code for output in cell.outputs):
        found.append("an error in the outputs")
    if any(output.get("name") == "stderr" for cell in code for output in cell.outputs):
        found.append("stderr in the outputs")
    pictures = ("image/png", "image/jpeg", "image/svg+xml")
    if any(key in output.get("data", {}) for c in code for output in c.outputs for key in pictures):
        found.append("a picture without alt text: show it with course_utils.pictures.charts.figure")
    sources = [cell.source for cell in code]
    asked = re.findall(r"^(\w+) = predict\(", "\n".join(sources), re.M)
    answered = re.findall(r"(\w+)\.came_out\(", "\n".join(sources))
    if asked != answered:
        found.append("a Predict without what came out, or one that begins before another has ended")
    before = nbformat.writes(notebook)
    if nbformat.writes(clean(nbformat.reads(before, as_version=4))) != before:
        found.append(
            "run-dependent metadata, widget views, progress-bar leftovers, or slides not as marked "
            "by tools/slides.py"
        )
    return found


def _code(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def execute(path: pathlib.Path) -> nbformat.NotebookNode:
    """Run a notebook in a clean kernel and return it as it is to be saved.

    Args:
        path: the notebook; it is not written.
    Returns:
        the notebook, run and cleaned.
    Raises:
        nbclient.exceptions.CellExecutionError: a cell raised an error.
    """
    notebook = nbformat.read(path, as_version=4)
    # The environment's own kernel, whatever name the notebook was saved with.
    notebook.metadata = nbformat.from_dict(METADATA)
    os.environ["COURSE_PROGRESS"] = "off"  # what a learner has solved here is not to be saved
    client = NotebookClient(
        notebook, timeout=900, startup_timeout=300, resources={"metadata": {"path": FOLDER}}
    )
    # ipykernel warns about its own transport on stderr; a cell's stderr is an output, not this.
    client.execute(stderr=subprocess.DEVNULL)
    clean(notebook)
    shown = None if os.environ.get("FRESH") else _git(path, "show", f"HEAD:./{path.name}")
    new, old = _code(notebook), _code(nbformat.reads(shown, as_version=4)) if shown else []
    if [cell.source for cell in new] == [cell.source for cell in old]:
        for cell, saved in zip(new, old, strict=True):
            if "nbval-ignore-output" in cell.metadata.get("tags", []) and saved.outputs:
                cell.outputs = saved.outputs
    return notebook


def main(arguments: list[str]) -> int:
    """Re-execute or check the notebooks named, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("prefix", nargs="?", default="", help="such as 01; all where left out")
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--tidy", action="store_true", help="clean and mark, do not run")
    options = parser.parse_args(arguments)
    paths = sorted(FOLDER.glob(f"{options.prefix}*.ipynb"))
    if not paths:
        print(f"No notebook in {FOLDER} begins with {options.prefix!r}.", file=sys.stderr)
        return 2
    failed = False
    for path in paths:
        if options.check:
            found = faults(nbformat.read(path, as_version=4))
            failed = failed or bool(found)
            print(f"{path.name}: {'; '.join(found) or 'ok'}")
            continue
        started = time.monotonic()
        notebook = clean(nbformat.read(path, as_version=4)) if options.tidy else execute(path)
        text = nbformat.writes(notebook) + "\n"
        how = "not run" if options.tidy else f"run in {time.monotonic() - started:.0f} s"
        if path.read_text() == text:
            print(f"{path.name}: unchanged, {how}")
            continue
        copy = keep_copy(path)
        if copy:
            print(f"{path.name} had edits that git does not hold; a copy is in {copy}")
        path.write_text(text)
        print(f"{path.name}: saved, {how}")
    if failed:
        print("Run `make notebooks` to save them as the course keeps them.", file=sys.stderr)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
