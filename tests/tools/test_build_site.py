"""What the static site is made of, without building it."""

import re
import subprocess

import build_site
import nbformat
import pytest
from build_site import SiteError, fetch

from course_utils.panels.panel import Panel, Slider
from course_utils.pictures.svg import Canvas


def test_without_npm_the_mend_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(build_site.shutil, "which", lambda name: None)
    with pytest.raises(SiteError, match=r"install Node\.js, or put the package's archive at"):
        fetch("requirejs", tmp_path)


def test_what_npm_says_is_passed_on(tmp_path, monkeypatch):
    said = subprocess.CompletedProcess([], 1, "", "npm error code ENOTFOUND")
    monkeypatch.setattr(build_site.shutil, "which", lambda name: "npm")
    monkeypatch.setattr(build_site.subprocess, "run", lambda *args, **kwargs: said)
    with pytest.raises(SiteError, match=r"check the network.*ENOTFOUND"):
        fetch("requirejs", tmp_path)


def test_an_npm_that_never_answers_is_ended(tmp_path, monkeypatch):
    def run(command, timeout, **kwargs):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(build_site.shutil, "which", lambda name: "npm")
    monkeypatch.setattr(build_site.subprocess, "run", run)
    with pytest.raises(SiteError, match=r"check the network.*nothing for two minutes"):
        fetch("requirejs", tmp_path)


def test_an_archive_that_was_not_tested_is_refused_and_removed(tmp_path):
    version, _ = build_site.PACKAGES["requirejs"]
    archive = tmp_path / f"requirejs-{version}.tgz"
    archive.write_bytes(b"something else")
    with pytest.raises(SiteError, match="not the archive that was tested"):
        fetch("requirejs", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_first_page_lists_every_chapter_and_loads_nothing_from_outside():
    text = build_site.index((build_site.ROOT / "README.md").read_text())
    listed = re.findall(r"^\d\d .* <(notebooks/.*)>$", text, re.MULTILINE)
    assert listed == [
        f"notebooks/{path.stem}" for path in sorted(build_site.FOLDER.glob("*.ipynb"))
    ]
    assert not re.search(r"!\[[^]]*\]\(http", text)
    assert "](https://mybinder.org/" in text and "<!--" not in text


def test_a_public_copy_is_found_by_its_name(monkeypatch):
    monkeypatch.setenv("GITHUB_REPOSITORY", "someone/course")
    assert "/gh/someone/course/" in build_site.index((build_site.ROOT / "README.md").read_text())


class Box(Panel):
    def controls_for(self, values):
        return [Slider("n", "Number", 1, 2)]

    def draw(self, n):
        return Canvas(100, 20).picture("A box."), ""


def test_a_panel_is_put_before_its_picture():
    panel = Box({"n": 1})
    data, _ = panel._repr_mimebundle_()
    data = {name: data[name] for name in ("text/html", "text/plain")}
    saved = nbformat.v4.new_output("execute_result", data)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("", outputs=[saved])])
    assert list(build_site.panel_cells(notebook)) == [0]
    found = {"views": {"0": "m"}, "state": {"m": {"state": {}}}}
    build_site.enliven(notebook, found, "https://launch")
    page = notebook.cells[0].outputs[0].data["text/html"]
    assert page.index('"model_id": "m"') < page.index('alt="A box."')
    state = notebook.metadata["widgets"][build_site.STATE]["state"]
    assert state["m"]["state"]["launch"] == "https://launch"


def test_any_change_of_the_package_or_of_a_cell_makes_the_panels_anew(monkeypatch, tmp_path):
    one = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")])
    before = build_site.key(one)
    assert build_site.key(one) == before
    one.cells.append(nbformat.v4.new_markdown_cell("words"))
    assert build_site.key(one) == before
    one.cells[0].source = "2"
    assert build_site.key(one) != before


def test_only_what_a_panel_builds_on_is_run_for_it():
    sources = [
        "import torch\nfrom some import fit, trained",
        "lengths = [3, 2]",
        "model = trained()",
        "fit(model, lengths)",
        "losses = [fit(model, n) for n in lengths]",
        "print(lengths)",
        "lengths.append(1)",
        "other = 1",
        "lengths[0] = other",
        "panel(lengths)",
        "late = 1",
    ]
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    cells.insert(0, nbformat.v4.new_markdown_cell("Words."))
    # `fit` may have changed the lengths that it was given, and so needs all that it is made of.
    assert build_site.needed(cells, [10]) == [1, 2, 3, 4, 7, 8, 9, 10]
    assert build_site.needed(cells, []) == []


@pytest.mark.parametrize("path", sorted(build_site.FOLDER.glob("*.ipynb")), ids=lambda p: p.stem)
def test_what_the_site_runs_of_a_chapter_holds_its_panels(path):
    cells = nbformat.read(path, as_version=4).cells
    shown = build_site.panel_cells(nbformat.read(path, as_version=4))
    assert set(shown) <= set(build_site.needed(cells, shown))
