"""One notebook open in a browser: what a learner sees, presses and types."""

from __future__ import annotations

import contextlib
import re

from playwright.sync_api import Locator, Page, expect

from .conftest import SCREENSHOTS, TOKEN, Lab

_NUMBERED = re.compile(r"\[\d+\]")

# Milliseconds from a key press, as the page gets it, to the first change inside an element.
_CLOCK = """(element) => {
  element.ownerDocument.defaultView.__delay = null;
  let start = null;
  const onKey = () => { start ??= performance.now(); };
  document.addEventListener("keydown", onKey, { capture: true, once: true });
  new MutationObserver((_, observer) => {
    if (start === null) return;
    window.__delay = performance.now() - start;
    observer.disconnect();
  }).observe(element, { childList: true, subtree: true, characterData: true, attributes: true });
}"""


class NotebookPage:
    """A notebook of the lab, open in a page."""

    def __init__(self, lab: Lab, page: Page, name: str) -> None:
        self.lab, self.page, self.name = lab, page, name
        page.goto(f"{lab.url}lab/tree/notebooks/{name}?token={TOKEN}&reset")
        self.root = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook")
        self.root.locator(".jp-Cell").first.wait_for()
        lab.kernel_id(name)

    def run_all(self) -> None:
        """Menu Run → Run All Cells, and wait until the kernel is idle and all prompts numbered."""
        # The saved prompts have numbers already, and would pass for those of this run.
        # On a busy machine, the notebook may come after the first click.
        first = self.root.locator(".jp-CodeCell .jp-InputPrompt").first
        for _ in range(10):
            self.menu("Edit", "Clear Outputs of All Cells")
            with contextlib.suppress(AssertionError):
                expect(first).to_have_text("[ ]:", timeout=10_000)
                break
        expect(first).to_have_text("[ ]:")
        self.menu("Run", "Run All Cells")
        prompts = self.root.locator(".jp-CodeCell .jp-InputPrompt")
        idle = self.page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]')
        self.page.wait_for_function(
            """() => [...document.querySelectorAll(
                  ".jp-NotebookPanel:not(.lm-mod-hidden) .jp-CodeCell .jp-InputPrompt")]
                .every((prompt) => /\\d/.test(prompt.textContent))""",
            timeout=300_000,
        )
        idle.first.wait_for(timeout=60_000)
        assert prompts.count() > 0

    def menu(self, *path: str) -> None:
        """Click through the menus."""
        self.page.locator(".lm-MenuBar-item", has_text=path[0]).first.click()
        for depth, entry in enumerate(path[1:]):
            item = self.page.locator(".lm-Menu").nth(depth).get_by_text(entry, exact=True)
            item.first.click()

    def errors(self) -> list[str]:
        """Texts of all error outputs, and of widgets that could not be shown."""
        bad = self.root.locator(
            ".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error'], "
            ".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']"
        ).all_inner_texts()
        for words in ("model not found", "Error displaying widget", "Loading widget"):
            bad += self.root.get_by_text(words).all_inner_texts()
        return bad

    def cell(self, code: str) -> Locator:
        """The code cell that holds this code."""
        return self.root.locator(".jp-CodeCell", has_text=code).first

    def run_cell(self, cell: Locator, code: str) -> str:
        """Replace a cell's code by typing over it, run it, and return the text of its output."""
        cell.scroll_into_view_if_needed()
        cell.locator(".cm-content").click()
        before = cell.locator(".jp-InputPrompt").inner_text()
        self.page.keyboard.press("Control+A")
        self.page.keyboard.insert_text(code)
        self.page.keyboard.press("Control+Enter")
        expect(cell.locator(".jp-InputPrompt")).not_to_have_text(before, timeout=60_000)
        expect(cell.locator(".jp-InputPrompt")).to_have_text(_NUMBERED, timeout=60_000)
        return cell.locator(".jp-OutputArea").inner_text()

    def delays(self, control: Locator, target: Locator, keys: list[str]) -> list[float]:
        """Milliseconds from each key press on a control to the first change of the target."""
        control.focus()
        found = []
        for key in keys:
            target.evaluate(_CLOCK)
            self.page.keyboard.press(key)
            self.page.wait_for_function("() => window.__delay !== null")
            found.append(self.page.evaluate("() => window.__delay"))
            # Let the kernel's answer arrive as well, before the next press.
            self.page.wait_for_timeout(120)
        return found

    def screenshot(self, what: Locator, name: str) -> None:
        """Keep a picture of an element for people to look at."""
        size = self.page.viewport_size
        # JupyterLab scrolls inside its window: what is higher than that would be cut off.
        higher = max(size["height"], int(what.bounding_box()["height"]) + 300)
        self.page.set_viewport_size(size | {"height": higher})
        what.scroll_into_view_if_needed()
        self.page.wait_for_timeout(200)
        what.screenshot(path=SCREENSHOTS / f"{name}.png")
        self.page.set_viewport_size(size)
