"""A prediction in JupyterLab: picked by keys, folded results, and what is said beside them."""

import nbformat
import pytest
from playwright.sync_api import expect

import notebooks as tool

from .notebook_page import NotebookPage

pytestmark = pytest.mark.browser
CELLS = [
    "from course_utils.panels.predict import predict\n\n"
    'guess = predict("LSTM", "GRU")\nwhich = predict("a", "b", "c", several=True)',
    'guess.came_out("GRU")',
    'which.came_out("a", "c")',
]


@pytest.fixture
def notebook(lab, page):
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    for cell in book.cells[1:]:
        cell.outputs = [nbformat.v4.new_output("stream", text="the answer")]
    tool.fold(book)
    nbformat.write(book, lab.work / "notebooks" / "predict.ipynb")
    return NotebookPage(lab, page, "predict.ipynb")


def test_a_prediction_is_picked_by_keys_and_stands_beside_the_result(notebook):
    page = notebook.page
    # Folded until their cells are run, and nothing in the placeholder tells.
    expect(notebook.root.locator(".jp-OutputPlaceholder")).to_have_count(2)
    expect(notebook.root.get_by_text("the answer").locator("visible=true")).to_have_count(0)
    notebook.screenshot(notebook.root, "predict_folded")
    notebook.root.locator(".jp-InputArea-editor").first.click()
    page.keyboard.press("Shift+Enter")
    first, second = (notebook.root.locator(".vl-ask").nth(index) for index in (0, 1))
    expect(first).to_be_visible()
    first.get_by_role("radio", name="LSTM").focus()
    page.keyboard.press("Space")
    expect(first.locator(".vl-words")).to_have_text("You picked: LSTM.")
    page.keyboard.press("ArrowDown")
    expect(first.locator(".vl-words")).to_have_text("You picked: GRU.")
    page.keyboard.press("ArrowUp")
    for name in ("c", "a"):
        second.get_by_role("checkbox", name=name, exact=True).check()
    notebook.root.locator(".jp-InputArea-editor").nth(1).click()
    page.keyboard.press("Shift+Enter")
    said = "You predicted: LSTM. Result: GRU."
    expect(notebook.root.locator(".jp-OutputArea").get_by_text(said).last).to_be_visible()
    expect(first.locator(".vl-words")).to_have_text(said)
    page.keyboard.press("Shift+Enter")
    expect(second.locator(".vl-words")).to_have_text("✓ As you predicted: a, c.")
    notebook.screenshot(notebook.root, "predict")
