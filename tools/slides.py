"""Show chapters as slides: ``python tools/slides.py`` writes a page each into ``build/slides/``.

    python tools/slides.py        all of them
    python tools/slides.py 01     those whose name begins so

The pages need no network and no kernel: reveal.js, the notebook's outputs and each panel's saved
picture are inside. reveal.js itself comes from PyPI the first time, at the version and hash of
`tools/reveal.txt`, and is kept beside them.

One rule, `mark`, decides what goes where; `tools/notebooks.py` writes it into the cells' metadata,
so that JupyterLab and nbconvert show the same slides.
"""

from __future__ import annotations

import math
import pathlib
import re
import subprocess
import sys
import zipfile

import nbformat

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "notebooks"
SLIDES = ROOT / "build" / "slides"
LOCK = ROOT / "tools" / "reveal.txt"
INSIDE = "sphinx_revealjs/_static/revealjs/"
# Pixels of 720 that one slide has room for; those of a line of prose and of code, and their widths.
ROOM = 690
PROSE, CODE, ROW = 34, 22, 32
PROSE_WIDTH, CODE_WIDTH = 94, 120
# Prose of more lines than this is for the speaker, not for the wall.
SHORT = 4


class SlidesError(Exception):
    """What went wrong and the fix, in words for the person at the keyboard."""


# --- The rule ---


def split_at_headings(notebook: nbformat.NotebookNode) -> None:
    """Let each heading of level 2 or 3 begin a cell of its own, in place: a slide begins there."""
    cells = []
    for cell in notebook.cells:
        parts, fenced = [[]], False
        for line in cell.source.split("\n") if cell.cell_type == "markdown" else []:
            fenced ^= line.startswith("```")
            if re.match("##?#? ", line) and not fenced and "".join(parts[-1]).strip():
                parts.append([])
            parts[-1].append(line)
        if len(parts) == 1:
            cells.append(cell)
            continue
        for number, lines in enumerate(parts):
            one = nbformat.from_dict(dict(cell))
            one.source = "\n".join(lines).strip("\n")
            if number:
                one.id = f"{cell.id[:60]}-{number}"
            cells.append(one)
    notebook.cells = cells


def has_picture(cell: nbformat.NotebookNode) -> bool:
    """Whether a code cell shows a figure or a panel."""
    outputs = cell.get("outputs", [])
    return any("<img" in output.get("data", {}).get("text/html", "") for output in outputs)


def is_card(cell: nbformat.NotebookNode) -> bool:
    """Whether a cell shows an exercise's task."""
    return cell.cell_type == "code" and bool(re.search(r'^exercise\("', cell.source, re.M))


def _lines(text: str, width: int) -> int:
    return sum(max(1, math.ceil(len(line) / width)) for line in text.rstrip("\n").split("\n"))


def height(cell: nbformat.NotebookNode) -> int:
    """Estimate the pixels that a cell takes on a slide, its outputs included."""
    if cell.cell_type == "markdown":
        return PROSE * (_lines(cell.source, PROSE_WIDTH) + 1)
    total = CODE * (_lines(cell.source, CODE_WIDTH) + 1)
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        rows = data.get("text/html", "").count("<tr")
        text = output.get("text") or data.get("text/plain", "")
        total += ROW * (rows + 1) if rows else CODE * (_lines(text, CODE_WIDTH) + 1)
    return total


def is_choice(cell: nbformat.NotebookNode) -> bool:
    """Whether a cell shows the options of a *Predict*."""
    return cell.cell_type == "code" and bool(re.search(r"^\w+ = predict\(", cell.source, re.M))


def hides_code(cell: nbformat.NotebookNode) -> bool:
    """Whether a slide shows only a cell's output: a picture, a task, or what else needs room."""
    return cell.cell_type == "code" and (
        has_picture(cell)
        or is_card(cell)
        or is_choice(cell)
        or (bool(cell.outputs) and height(cell) > ROOM)
    )


def mark(notebook: nbformat.NotebookNode) -> None:
    """Write each cell's place in the slides into its metadata, in place, whatever was there.

    A title or section begins a slide, and a smaller heading begins one below it. A picture or an
    exercise has a slide to itself; the answer to a *Predict*, and what no longer fits, begin a new
    one. Long prose and "What to see" become the speaker's notes. Stubs are left out, because they
    are for the keyboard.
    """
    used, bare, answer_next = 0, False, False
    for cell in notebook.cells:
        source, own = cell.source, hides_code(cell) and not is_choice(cell)
        pixels = ROOM if own else height(cell)
        if re.match("##? ", source):
            kind = "slide"
        elif source.startswith("### "):
            kind = "-" if bare else "subslide"  # beneath a heading with few words of its own
        elif cell.cell_type == "markdown":
            long = _lines(source, PROSE_WIDTH) > SHORT or source.startswith("**What to see.**")
            kind = "notes" if long else "-"
        elif re.search(r'^check\("', source, re.M):
            kind = "skip"
        elif is_choice(cell):
            kind = "-"  # the options are on their question's slide
        else:
            kind = "subslide" if own or answer_next else "-"
        if kind == "-" and used + pixels > ROOM:
            kind = "subslide"
        cell.metadata["slideshow"] = {"slide_type": kind}
        if kind not in ("notes", "skip"):
            used = pixels if kind.endswith("slide") else used + pixels
            bare = source.startswith("##") and _lines(source, PROSE_WIDTH) <= SHORT + 2
            # The answer to a question must not be on its slide.
            answer_next = source.startswith("### Predict") or is_choice(cell)


# --- reveal.js ---


def reveal(say=print) -> dict[str, str]:
    """Return reveal.js as text: "css", "js", "notes" and "license".

    Raises:
        SlidesError: it is not there, and cannot be downloaded.
    """
    SLIDES.mkdir(parents=True, exist_ok=True)
    wheel = next(iter(sorted(SLIDES.glob("sphinx_revealjs-*.whl"))), None)
    if wheel is None:
        say("Getting reveal.js, once (2 MB).")
    # With --no-index, pip only compares the hash, and needs no network.
    where = ["--no-index", "--find-links", str(SLIDES)] if wheel else []
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--only-binary=:all:", "--dest", str(SLIDES), *where, "-r", str(LOCK)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        if wheel:
            raise SlidesError(f"{wheel} is not the one that was tested: remove it, and try again.")
        raise SlidesError(
            "reveal.js could not be downloaded. On a machine with a network, run\n"
            "  pip download --no-deps --require-hashes -r tools/reveal.txt\n"
            "and put the .whl file into build/slides/. What pip said:\n" + done.stderr.strip()
        )
    wheel = wheel or next(iter(sorted(SLIDES.glob("sphinx_revealjs-*.whl"))))
    names = {
        "css": "dist/reveal.css",
        "js": "dist/reveal.js",
        "notes": "plugin/notes/notes.js",
        "license": "LICENSE",
    }
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(INSIDE + path).decode() for name, path in names.items()}


# --- The pages ---


def without_placeholder(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Leave out the empty output with which one that is folded begins (`notebooks.fold`)."""
    return [output for output in outputs if output.get("data") != {}]


def for_the_wall(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Hide, in place, the code that has no room on a slide, and lead links to other slides.

    The empty outputs of folded cells go: nbconvert has no picture of nothing.
    """
    for cell in notebook.cells:
        if hides_code(cell):
            cell.metadata["transient"] = {"remove_source": True}
        if "outputs" in cell:
            cell.outputs = without_placeholder(cell.outputs)
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"\((\d\d_\w+)\.ipynb\)", r"(\1.slides.html)", cell.source)
            cell.source = re.sub(r"\((\w+\.(?:md|html))\)", r"(../../notebooks/\1)", cell.source)
    return notebook


def export(path: pathlib.Path, files: dict[str, str]) -> str:
    """Return a chapter's slides as one HTML page.

    Args:
        path: the notebook.
        files: what `reveal` returns.
    """
    from nbconvert import SlidesExporter

    exporter = SlidesExporter(
        template_name="slides_template", extra_template_basedirs=[str(ROOT / "tools")]
    )
    notebook = for_the_wall(nbformat.read(path, as_version=4))
    title = notebook.cells[0].source.split("\n")[0].lstrip("# ")
    resources = {"metadata": {"name": title}, "reveal_files": files}
    page, _ = exporter.from_notebook_node(notebook, resources)
    return page


def main(arguments: list[str]) -> int:
    """Write the slides of the chapters named, and return the exit status."""
    prefix = arguments[0] if arguments else ""
    paths = sorted(FOLDER.glob(f"{prefix}*.ipynb"))
    if not paths:
        print(f"No notebook in {FOLDER} begins with {prefix!r}.", file=sys.stderr)
        return 2
    try:
        files = reveal()
    except SlidesError as error:
        print(error, file=sys.stderr)
        return 1
    for path in paths:
        page = SLIDES / f"{path.stem}.slides.html"
        page.write_text(export(path, files), encoding="utf-8")
        print(page.relative_to(ROOT))
    print("Open one in a browser. S: the speaker's notes. O: all slides. F: the whole screen.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
