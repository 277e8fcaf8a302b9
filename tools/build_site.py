"""Build the course as a static site in build/site: `make site`.

The pages show the saved outputs. The panels' state is not saved with a notebook, so the cells that
its panels build on are run, and again only when code has changed. A panel shows what it can without
a kernel; its other controls say where to find one. Nothing is loaded from outside.
"""

from __future__ import annotations

import ast
import asyncio
import base64
import hashlib
import html
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Collection

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from slides import without_placeholder

from course_utils.panels.panel import MARK
from notebooks import FOLDER, METADATA, ROOT, WIDGET

BUILD = ROOT / "build"
SITE = BUILD / "site"
SOURCE, STATES, NPM = BUILD / "site-source", BUILD / "site-states", BUILD / "npm"
STATE = "application/vnd.jupyter.widget-state+json"
# Package -> version, and the SHA-512 of its archive as npm writes it.
PACKAGES = {
    "@jupyter-widgets/html-manager": (
        "1.0.15",
        "5thBIV6ymNgmPVOHvzx+gGy8ZSKmSazhtGw4/c4xJDVzRhG9PTeQsRjF3FUTopvFi//SABeNz1yp47bCrJ3CQA==",
    ),
    "requirejs": (
        "2.3.8",
        "7/cTSLOdYkNBNJcDMWf+luFvMriVm7eYxp4BcFCsAX0wF421Vyce5SXP17c+Jd5otXKGNehIonFlyQXSowL6Mw==",
    ),
    "axe-core": (
        "4.14.1",
        "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==",
    ),
}
PAGE = "notebooks/masks_cheat_sheet.html"


class SiteError(Exception):
    """What went wrong and the fix, in words for the person at the keyboard."""


# --- What comes from npm ---


def fetch(package: str, folder: pathlib.Path = NPM) -> pathlib.Path:
    """Return the folder of an npm package of `PACKAGES`, fetched the first time.

    Raises:
        SiteError: npm is missing or failed, or the archive is not the one that was tested.
    """
    version, digest = PACKAGES[package]
    name = f"{package.strip('@').replace('/', '-')}-{version}"
    unpacked, archive = folder / name, folder / f"{name}.tgz"
    if unpacked.exists():
        return unpacked
    if not archive.exists():
        folder.mkdir(parents=True, exist_ok=True)
        npm = shutil.which("npm")
        if npm is None:
            raise SiteError(
                f"{package} {version} comes from npm, which is not here: install Node.js, "
                f"or put the package's archive at {archive}."
            )
        command = [npm, "pack", f"{package}@{version}", "--pack-destination", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=120)
        except subprocess.TimeoutExpired:  # without a network, npm tries on for long
            done = subprocess.CompletedProcess(command, 1, "", "nothing for two minutes")
        if done.returncode:
            raise SiteError(
                f"npm could not fetch {package} {version}: check the network, then run it again. "
                f"npm said: {done.stderr.strip()[-400:]}"
            )
    found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != digest:
        archive.unlink()
        raise SiteError(
            f"{package} {version} is not the archive that was tested (SHA-512 {found}), "
            "and was removed: run it again."
        )
    part = folder / f"{name}.part"
    with tarfile.open(archive) as file:
        file.extractall(part, filter="data")
    (part / "package").rename(unpacked)
    part.rmdir()
    return unpacked


# --- The panels' state ---


def key(notebook: nbformat.NotebookNode) -> str:
    """What decides a notebook's panels: its code, the package, and the versions."""
    digest = hashlib.sha256()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            digest.update(cell.source.encode())
    package = (ROOT / "course_utils").rglob("*")
    for path in sorted(one for one in package if one.suffix in (".py", ".js", ".css")):
        digest.update(path.read_bytes())
    digest.update((ROOT / "constraints.txt").read_bytes())
    return digest.hexdigest()


def panel_cells(notebook: nbformat.NotebookNode) -> dict[int, nbformat.NotebookNode]:
    """The number of each cell that shows a panel with controls -> the output with its picture."""
    return {
        number: output
        for number, cell in enumerate(notebook.cells)
        for output in cell.get("outputs", [])
        if f"<p {MARK}>" in output.get("data", {}).get("text/html", "")
    }


def _binds(tree: ast.AST) -> set[str]:
    """The names that a cell gives a value."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(name.asname or name.name).partition(".")[0] for name in node.names}
    return found


def _root(node: ast.AST) -> set[str]:
    """The name that an expression such as `model.head[0]` begins with."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return {node.id} if isinstance(node, ast.Name) else set()


def _changes(tree: ast.AST) -> set[str]:
    """The names of what a cell may change: by a call whose result it drops, or in a part."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store):
            found |= _root(node)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            called = node.value
            given = [*called.args, *(keyword.value for keyword in called.keywords)]
            if _root(called.func) != {"print"}:
                found |= _root(called.func).union(
                    *(_root(one) for one in given if isinstance(one, ast.Name))
                )
    return found


def needed(cells: list[nbformat.NotebookNode], shown: Collection[int]) -> list[int]:
    """The numbers of the cells in `shown`, and of the cells that these build on.

    Only these run, so that no model is trained for a panel that needs none. They are found from the
    code alone; that they are enough is checked by the panels' pictures, which must be the saved
    ones.
    """
    trees = {
        number: ast.parse(cell.source)
        for number, cell in enumerate(cells)
        if cell.cell_type == "code" and not cell.source.startswith("%%")
    }
    imports = [
        node for tree in trees.values() for node in tree.body if isinstance(node, ast.Import)
    ]
    modules = set().union(*map(_binds, imports))
    wanted, kept = set(), []
    for number in range(max(shown, default=-1), -1, -1):
        if number not in trees:
            continue
        tree = trees[number]
        if number in shown or (_binds(tree) | _changes(tree) - modules) & wanted:
            kept.append(number)
            wanted |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return kept[::-1]


async def run_for_panels(
    path: pathlib.Path, numbers: list[int]
) -> tuple[dict[int, nbformat.NotebookNode], dict]:
    """Run these cells of a notebook: its panels' outputs by number, and the state of all."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.cells = [notebook.cells[number] for number in numbers]
    client = NotebookClient(
        notebook, timeout=900, startup_timeout=300, resources={"metadata": {"path": FOLDER}}
    )
    await client.async_execute(stderr=subprocess.DEVNULL)
    shown = {numbers[place]: output for place, output in panel_cells(notebook).items()}
    return shown, notebook.metadata.get("widgets", {}).get(STATE, {}).get("state", {})


async def panels(path: pathlib.Path, gate: asyncio.Semaphore) -> dict:
    """Run what a notebook's panels need, or take what an earlier run kept.

    Returns:
        `key`; `views`: the number of a cell -> the model that it shows; `state`: by model.
    """
    notebook = nbformat.read(path, as_version=4)
    kept, now = STATES / f"{path.stem}.json", key(notebook)
    if kept.exists() and (found := json.loads(kept.read_text()))["key"] == now:
        return found
    saved = panel_cells(notebook)
    numbers = needed(notebook.cells, saved)
    async with gate:
        started = time.monotonic()
        try:
            shown, everything = await run_for_panels(path, numbers)
            same = [shown[number].data["text/plain"] for number in saved] == [
                output.data["text/plain"] for output in saved.values()
            ]
        except (CellExecutionError, KeyError):
            same = False
        if not same:  # what is measured on each machine, or what the code alone does not say
            shown, everything = await run_for_panels(path, list(range(max(saved, default=-1) + 1)))
        print(f"{path.name}: panels in {time.monotonic() - started:.0f} s", flush=True)
    views = {number: output.data[WIDGET]["model_id"] for number, output in shown.items()}
    layouts = [
        everything[one]["state"]["layout"].partition("IPY_MODEL_")[2] for one in views.values()
    ]
    found = {
        "key": now,
        "views": views,
        "state": {model: everything[model] for model in [*views.values(), *layouts]},
    }
    STATES.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(found))
    # As the next run will read it.
    return json.loads(kept.read_text())


def enliven(notebook: nbformat.NotebookNode, found: dict, launch: str) -> None:
    """Put a panel's view before its saved picture, in place; the picture stays until it is drawn.

    Args:
        notebook: with its saved outputs.
        found: of `panels`.
        launch: where the reader finds a kernel.
    """
    pictures = panel_cells(notebook)
    for number, model in found["views"].items():
        data = pictures[int(number)].data
        view = json.dumps({"version_major": 2, "version_minor": 0, "model_id": model})
        data["text/html"] = (
            f'<div class="vl-live"><script type="{WIDGET}">{view}</script>'
            f'<div class="vl-still">{data["text/html"]}</div></div>'
        )
        found["state"][model]["state"]["launch"] = launch
    widgets = {"version_major": 2, "version_minor": 0, "state": found["state"]}
    notebook.metadata["widgets"] = {STATE: widgets}


# --- Pages ---


def repository() -> str:
    """Owner and name of the public copy: what GitHub Actions say, or else the README's badge."""
    badge = re.search(r"mybinder\.org/v2/gh/([^/]+/[^/]+)/", (ROOT / "README.md").read_text())
    return os.environ.get("GITHUB_REPOSITORY") or badge[1]


def link_page(text: str) -> str:
    """Make links to the cheat sheet open it: Sphinx would offer it as a download."""
    return re.sub(
        rf"\[([^]]*)\]\(((?:notebooks/)?{pathlib.Path(PAGE).name})\)",
        lambda m: f'<a href="{m[2]}">{html.escape(m[1], quote=False)}</a>',
        text,
    )


def index(readme: str) -> str:
    """The first page: the README, and the order of all pages."""
    # The badge would be loaded from outside; each chapter has a launch button.
    text = re.sub(
        r"\[!\[Launch on Binder\]\([^)]*\)\]\(([^)]*)\)\n<!--.*?-->\n",
        r"[Launch on Binder](\1)\n",
        readme,
    ).replace("OWNER/REPOSITORY", repository())
    chapters = re.findall(r"\[(\d\d [^]]*)\]\((notebooks/\d\d_\w*)\.ipynb\)", text)
    lines = [f"{title} <{page}>" for title, page in chapters]
    more = ["notebooks/glossary", "notebooks/troubleshooting", "TEACHING", "benchmarks/README"]
    more += ["CONTRIBUTING", "LICENSE-docs"]
    toc = "\n".join(
        [
            "```{toctree}",
            ":hidden:",
            ":caption: Chapters",
            "",
            *lines,
            "```",
            "",
            "```{toctree}",
            ":hidden:",
            ":caption: To keep",
            "",
            *more,
            "```",
        ]
    )
    return f"{link_page(text)}\n{toc}\n"


def copy_linked(page: pathlib.Path) -> None:
    """Copy the files of the course that a page links to, and those that they link to."""
    for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text()):
        path = (page.parent / link).resolve()
        copy = SOURCE / path.relative_to(ROOT) if path.is_relative_to(ROOT) else SOURCE
        # The README is the first page, and the chapters are written on their own.
        known = copy.exists() or path in (ROOT / "README.md", ROOT / PAGE)
        if known or not path.is_file() or path.suffix == ".ipynb":
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            copy.write_text(link_page(path.read_text()))
            copy_linked(path)
        else:
            shutil.copy(path, copy)


def write_source() -> None:
    """Lay out what Sphinx reads."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    widgets = SOURCE / "_static/widgets"
    shutil.copytree(ROOT / "site", SOURCE)
    widgets.mkdir(exist_ok=True)
    shutil.copy(fetch("requirejs") / "require.js", widgets)
    shutil.copy(fetch("@jupyter-widgets/html-manager") / "dist/embed-amd.js", widgets)
    shutil.copy(
        pathlib.Path(sys.prefix) / "share/jupyter/nbextensions/anywidget/index.js",
        widgets / "anywidget.js",
    )
    (SOURCE / "extra/notebooks").mkdir(parents=True)
    shutil.copy(ROOT / PAGE, SOURCE / "extra" / PAGE)
    (SOURCE / "notebooks").mkdir()
    (SOURCE / ".github").mkdir()
    for picture in (ROOT / ".github").glob("*.png"):
        shutil.copy(picture, SOURCE / ".github")
    (SOURCE / "index.md").write_text(index((ROOT / "README.md").read_text()))
    for path in FOLDER.glob("*.md"):
        (SOURCE / "notebooks" / path.name).write_text(link_page(path.read_text()))
    copy_linked(ROOT / "README.md")


async def write_notebooks() -> None:
    """Write the notebooks for Sphinx, their panels alive."""
    gate = asyncio.Semaphore(max(1, min(os.cpu_count() or 1, 4)))
    # The last chapters take longest.
    paths = sorted(FOLDER.glob("*.ipynb"), reverse=True)
    found = await asyncio.gather(*(panels(path, gate) for path in paths))
    for path, one in zip(paths, found, strict=True):
        notebook = nbformat.read(path, as_version=4)
        launch = (
            f"https://mybinder.org/v2/gh/{repository()}/HEAD?urlpath=lab/tree/notebooks/{path.name}"
        )
        enliven(notebook, one, launch)
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = link_page(cell.source)
            for output in cell.get("outputs", []):  # progress() leads to the notebooks
                data = output.get("data", {})
                if "text/html" in data:
                    pages = re.sub(
                        r'href="(\d\d_\w+)\.ipynb"', r'href="\1.html"', data["text/html"]
                    )
                    data["text/html"] = pages
            if cell.metadata.get("jupyter", {}).get("outputs_hidden"):  # as in JupyterLab
                cell.metadata["tags"] = [*cell.metadata.get("tags", []), "hide-output"]
                cell.outputs = without_placeholder(cell.outputs)
        nbformat.write(notebook, SOURCE / "notebooks" / path.name)


def build() -> pathlib.Path:
    """Build the site and return its folder.

    Raises:
        SiteError: a package could not be fetched, or Sphinx found a fault, such as a link that
            leads nowhere.
    """
    write_source()
    asyncio.run(write_notebooks())
    shutil.rmtree(SITE, ignore_errors=True)
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q"]
    command += ["-d", str(BUILD / "site-doctrees"), "-E", str(SOURCE), str(SITE)]
    if subprocess.run(command, env={**os.environ, "SITE_REPOSITORY": repository()}).returncode:
        raise SiteError("Sphinx found the faults above: fix them, then run it again.")
    # myst-nb's label for what unfolds differs from its visible text, so voice control misses it.
    for path in SITE.rglob("*.html"):
        text = path.read_text()
        if 'aria-label="Toggle hidden content"' in text:
            path.write_text(text.replace(' aria-label="Toggle hidden content"', ""))
    # What is downloaded is the notebook as it is, not the one made for this site.
    for path in FOLDER.glob("*.ipynb"):
        shutil.copy(path, SITE / "_sources/notebooks" / path.name)
    return SITE


def main() -> int:
    """Build, and say where the site is."""
    try:
        site = build()
    except SiteError as error:
        print(error, file=sys.stderr)
        return 1
    size = sum(one.stat().st_size for one in site.rglob("*") if one.is_file()) / 2**20
    print(f"The site is in {site} ({size:.0f} MB). To read it:")
    print(f"  {sys.executable} -m http.server --bind 127.0.0.1 --directory {site}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
