"""Guided tours in JupyterLab: taken by keys, left by moving a control."""

import nbformat
import pytest
from playwright.sync_api import expect

from course_utils.panels.flat import FlatExplorer
from course_utils.panels.masks import AttentionExplorer, LossExplorer
from course_utils.panels.packed import PackedExplorer
from course_utils.panels.trace import TraceExplorer

from .notebook_page import NotebookPage

pytestmark = pytest.mark.browser
PANELS = [
    (FlatExplorer, [5, 2, 4, 1, 3]),
    (LossExplorer,),
    (AttentionExplorer,),
    (PackedExplorer, {"four": [5, 3, 7, 2]}),
    (TraceExplorer,),
]


def test_a_tour_moves_the_panel_and_is_left_by_moving_it(lab, page):
    cells = [
        f"from {made.__module__} import {made.__name__}\n\n"
        f"{made.__name__}({', '.join(map(repr, given))})"
        for made, *given in PANELS
    ]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(book, lab.work / "notebooks" / "tours.ipynb")
    notebook = NotebookPage(lab, page, "tours.ipynb")
    notebook.run_all()
    for place, (made, *given) in enumerate(PANELS):
        twin, panel = made(*given), notebook.root.locator(".vl-panel").nth(place)
        tour, words = panel.locator(".vl-tour"), panel.locator(".vl-words")
        said = tour.get_by_role("status")
        expect(tour.get_by_role("button", name="Back")).to_be_hidden()
        tour.get_by_role("button", name="Guided tour").focus()
        for number, (sentence, values) in enumerate(twin.tour):
            page.keyboard.press("Enter")
            expect(said).to_have_text(f"{number + 1} of {len(twin.tour)}. {sentence}")
            twin.show(**values)
            expect(words).to_contain_text(twin.words)
            notebook.screenshot(panel, f"tour_{made.__name__}_{number + 1}")
        tour.get_by_role("button", name="Back").click()
        _, values = twin.tour[-2]
        twin.show(**values)
        expect(words).to_contain_text(twin.words)
        control = panel.locator(".vl-controls :is(input, select)").first
        control.focus()
        choice = control.evaluate("one => one.tagName") == "SELECT"
        page.keyboard.press("ArrowDown" if choice else "ArrowRight")
        expect(said).to_have_text("")
        expect(tour.get_by_role("button", name="Guided tour")).to_be_visible()
    assert notebook.errors() == []
