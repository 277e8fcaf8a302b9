"""What goes wrong in a session, and what a learner then sees."""

from __future__ import annotations

import nbformat
import pytest
from playwright.sync_api import expect

from .conftest import NAMES, Lab
from .notebook_page import NotebookPage

pytestmark = pytest.mark.browser
CELLS = [
    "import torch",
    "from course_utils.panels.masks import LossExplorer\n\nLossExplorer()",
    "# my answer",
]


def notebook(lab: Lab, page, name: str) -> NotebookPage:
    """A notebook with one panel, run."""
    cells = [nbformat.v4.new_code_cell(code) for code in CELLS]
    new = nbformat.v4.new_notebook(cells=cells)
    new.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(new, lab.work / "notebooks" / name)
    opened = NotebookPage(lab, page, name)
    opened.run_all()
    return opened


def add_columns(opened: NotebookPage, key: str) -> None:
    opened.root.get_by_role("slider", name="Columns of padding added").press(key)


def run_panel(opened: NotebookPage) -> None:
    opened.cell("LossExplorer()").locator(".cm-content").click()
    opened.page.keyboard.press("Control+Enter")


def save(lab, one):
    """Save a notebook, wait until its file is written, and return the file."""
    file = lab.work / "notebooks" / one.name
    written = file.stat().st_mtime_ns
    one.page.keyboard.press("Control+s")
    for _ in range(600):
        if file.stat().st_mtime_ns != written:
            expect(one.page.locator(".lm-TabBar-tab.jp-mod-dirty")).to_have_count(0)
            return file
        one.page.wait_for_timeout(100)
    raise AssertionError(f"{one.name} was not saved")


def test_two_notebooks_a_reload_a_restart_and_the_next_day(lab, page):
    page.on("dialog", lambda dialog: dialog.accept())
    other_page = page.context.new_page()
    one, other = notebook(lab, page, "one.ipynb"), notebook(lab, other_page, "other.ipynb")
    panel = one.root.locator(".vl-panel")
    cells, slider = panel.locator("[data-pick]"), panel.get_by_role("slider")
    lost = panel.locator(".vl-lost")

    # Two notebooks at once: both panels answer, each for itself.
    add_columns(one, "End")
    expect(cells).to_have_count(40)
    expect(other.root.locator("[data-pick]")).to_have_count(24)
    add_columns(other, "ArrowRight")
    expect(other.root.locator("[data-pick]")).to_have_count(28)
    expect(cells).to_have_count(40)
    other_page.close()

    # The page is reloaded: the panel comes back from its kernel as it was left.
    save(lab, one)
    page.reload()
    expect(slider).to_have_value("4", timeout=60_000)
    expect(cells).to_have_count(40)
    add_columns(one, "Home")
    expect(cells).to_have_count(24)

    # The kernel is restarted: the panel that stayed says so as soon as it is used.
    one.menu("Kernel", "Restart Kernel…")
    page.locator(".jp-Dialog .jp-mod-accept").click()
    page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').first.wait_for()
    add_columns(one, "End")
    expect(lost).to_contain_text("Run All Above Selected Cell")
    one.screenshot(panel, "mishap_restarted")
    run_panel(one)
    expect(lost).to_have_text("", timeout=60_000)  # torch is imported again
    add_columns(one, "End")
    expect(cells).to_have_count(40)

    # The next day, in another kernel: what was saved is there, the panel too.
    answer = one.cell("# my answer").locator(".cm-content")
    answer.click()
    page.keyboard.press("Control+End")
    page.keyboard.insert_text(": 42")
    file = save(lab, one)
    assert "# my answer: 42" in file.read_text()
    one.menu("Kernel", "Shut Down Kernel")
    page.locator('.jp-Notebook-ExecutionIndicator[data-status="unknown"]').first.wait_for()
    page.reload()
    expect(cells).to_have_count(40, timeout=60_000)
    expect(answer).to_have_text("# my answer: 42")
    assert one.errors() == []

    # Saved without a cell having been run: the file is the same, and the panel still there after.
    before = file.read_bytes()
    save(lab, one)
    assert file.read_bytes() == before
    page.reload()
    expect(cells).to_have_count(40, timeout=60_000)
    assert one.errors() == []
    run_panel(one)
    expect(cells).to_have_count(24, timeout=60_000)
    add_columns(one, "End")
    expect(cells).to_have_count(40)


def test_opening_a_notebook_changes_nothing_and_typing_does(tmp_path, page):
    lab = Lab(tmp_path, autosave=1)
    dirty = page.locator(".lm-TabBar-tab.jp-mod-dirty")
    try:
        for name in (NAMES[-1], NAMES[0]):
            file = lab.work / "notebooks" / name
            before = file.read_bytes(), file.stat().st_mtime_ns
            opened = NotebookPage(lab, page, name)
            page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').first.wait_for()
            page.wait_for_timeout(4000)
            expect(dirty).to_have_count(0)
            assert (file.read_bytes(), file.stat().st_mtime_ns) == before
        # One key, and what is open is autosaved within seconds.
        opened.root.locator(".jp-CodeCell .cm-content").first.click()
        page.keyboard.insert_text("# mine ")
        expect(dirty).to_have_count(1)
        expect(dirty).to_have_count(0)
        assert "# mine " in file.read_text()
    finally:
        lab.stop()
