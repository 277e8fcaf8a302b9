"""Build the course as a static site in build/site: `make site`.

The pages show the saved outputs. The panels' state is not saved with a notebook, so each notebook
is run once for it, and again only when code has changed. What a panel can show without a kernel,
it shows; the rest of its controls say where to find one. Nothing is loaded from outside.
"""

from __future__ import annotations

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

import nbformat
from nbclient import NotebookClient

from course_utils.widgets import HINT
from notebooks import FOLDER, METADATA, ROOT, WIDGET

BUILD = ROOT / "build"
SITE = BUILD / "site"
SOURCE, STATES, NPM = BUILD / "site-source", BUILD / "site-states", BUILD / "npm"
STATE = "application/vnd.jupyter.widget-state+json"
# Package -> version, SHA-512 of its archive as npm writes it.
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
    """What went wrong and the mend, in words for the person at the keyboard."""


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
    """The number of each cell that shows a panel -> the output with its saved picture."""
    return {
        number: output
        for number, cell in enumerate(notebook.cells)
        for output in cell.get("outputs", [])
        if HINT in output.get("data", {}).get("text/html", "")
    }


async def panels(path: pathlib.Path, gate: asyncio.Semaphore) -> dict:
    """Run a notebook as far as its last panel, or take what a former run kept.

    Returns:
        `key`; `views`: the number of a cell -> the model that it shows; `state`: by model.
    """
    notebook = nbformat.read(path, as_version=4)
    kept, now = STATES / f"{path.stem}.json", key(notebook)
    if kept.exists() and (found := json.loads(kept.read_text()))["key"] == now:
        return found
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.cells = notebook.cells[: max(panel_cells(notebook), default=-1) + 1]
    async with gate:
        started = time.monotonic()
        client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": FOLDER}})
        await client.async_execute(stderr=subprocess.DEVNULL)
        print(f"{path.name}: panels in {time.monotonic() - started:.0f} s", flush=True)
    views = {
        number: output.data[WIDGET]["model_id"] for number, output in panel_cells(notebook).items()
    }
    everything = notebook.metadata.get("widgets", {}).get(STATE, {}).get("state", {})
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
        raise SiteError("Sphinx found the faults above: mend them, then run it again.")
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
