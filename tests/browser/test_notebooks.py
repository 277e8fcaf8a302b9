"""Each notebook as a learner meets it: opened, run, every control moved, exercises solved."""

from __future__ import annotations

import json
import re

import nbformat
import pytest
import torch
from playwright.sync_api import Locator, expect
from torch.nn.utils.rnn import pack_padded_sequence

from course_utils.batches.padding import pad
from course_utils.data import japanese_vowels, python_docs_paragraphs
from course_utils.exercises import EXERCISES
from course_utils.panels.flat import FlatExplorer
from course_utils.panels.masks import AttentionExplorer, LossExplorer
from course_utils.panels.padding import PaddingExplorer
from course_utils.panels.panel import Cells
from course_utils.panels.policy import PolicyExplorer
from course_utils.panels.ranks import RanksExplorer
from course_utils.panels.rows import RowsExplorer
from course_utils.panels.trace import TraceExplorer
from course_utils.tracing import FAULTS

from .conftest import DELAYS, NAMES, ROOT
from .notebook_page import NotebookPage

pytestmark = pytest.mark.browser
KEYS = ["ArrowRight", "ArrowLeft"] * 10


def panel_cells(page: NotebookPage) -> Locator:
    return page.root.locator(".jp-CodeCell", has=page.page.locator(".vl-panel"))


def alt(panel: Locator) -> str:
    return panel.locator(".vl-stage svg").get_attribute("aria-label")


def set_by_mouse(page: NotebookPage, slider: Locator, share: float) -> None:
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    page.page.mouse.click(box["x"] + box["width"] * share, box["y"] + box["height"] / 2)


@pytest.fixture(scope="module")
def record(request, lab, browser):
    """Puts a panel's delays into the table at the end, under a bare IntSlider: the yardstick."""
    rows = request.config.stash[DELAYS]
    code = (
        "import ipywidgets as w\ns, l = w.IntSlider(), w.Label('0')\n"
        "s.observe(lambda c: setattr(l, 'value', str(c['new'])), 'value')\nw.VBox([s, l])"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, lab.work / "notebooks" / "yardstick.ipynb")
    browser_page = browser.new_page()
    page = NotebookPage(lab, browser_page, "yardstick.ipynb")
    page.run_all()
    handle = page.root.locator(".noUi-handle")
    label = page.root.locator(".widget-label").last
    rows.append(("bare IntSlider to Label", "by the kernel", page.delays(handle, label, KEYS)))
    browser_page.close()
    return lambda *row: rows.append(row)


def shown_by(panel, twin):
    """Make `shows(**values)`: it moves the twin, and expects the page's panel to show the same."""
    pictures, words = panel.locator(".vl-stage svg"), panel.locator(".vl-words")

    def shows(**changed: object) -> None:
        twin.show(**changed)
        if not twin.picture.parts:
            expect(pictures).to_have_attribute("aria-label", twin.picture.alt)
        for place, part in enumerate(twin.picture.parts):
            label = re.search('aria-label="([^"]*)"', part)[1]
            expect(pictures.nth(place)).to_have_attribute("aria-label", label)
        invites = [
            one.invite
            for one in twin.controls
            if isinstance(one, Cells) and one.invite and not twin.values[one.name]
        ]
        expect(words).to_have_text(" ".join([twin.words, *invites]))

    return shows


def test_opened_and_not_run_every_panel_has_its_picture(lab, page):
    seen = 0
    for name in NAMES:
        notebook = NotebookPage(lab, page, name)
        saved = nbformat.read(ROOT / "notebooks" / name, as_version=4)
        pictures = sum(
            "<img" in output.get("data", {}).get("text/html", "")
            for cell in saved.cells
            if not cell.metadata.get("jupyter", {}).get("outputs_hidden")
            for output in cell.get("outputs", [])
        )
        shown = notebook.root.locator(".jp-OutputArea img[alt]:visible")
        assert shown.count() == pictures  # none where a Predict folds all of them
        seen += pictures
        for index in range(pictures):
            image = shown.nth(index)
            image.scroll_into_view_if_needed()
            assert image.evaluate("(one) => one.complete && one.naturalWidth > 100")
            assert len(image.get_attribute("alt")) > 30
        assert notebook.errors() == []
        assert notebook.root.locator(".vl-panel").count() == 0
    assert seen > len(NAMES)


def test_chapter_00(lab, ran, record):
    notebook = ran("00_start_here.ipynb")
    page = notebook.page
    assert notebook.errors() == []
    panel = notebook.root.locator(".vl-panel")
    expect(panel).to_have_count(1)
    slider = panel.get_by_role("slider", name="Padding added")
    code = "import json; print(json.dumps(Out[1]._accuracies))"
    truth = json.loads(lab.ask(notebook.name, code))
    none = truth["0"]

    def shows(added: int) -> None:
        expect(panel.locator("output")).to_have_text(f"{added} steps")
        for name, accuracy in truth[str(added)].items():
            assert f"{name} {accuracy:.0%} (none added: {none[name]:.0%})" in alt(panel)
        kept = [name for name in none if truth[str(added)][name] == none[name]]
        words = f"Unchanged by {added} added steps: {', '.join(kept)}." if added else "Nothing"
        expect(panel.locator(".vl-words")).to_contain_text(words)

    shows(0)
    notebook.screenshot(panel, "00_slider_0")
    slider.focus()
    for added in (10, 20, 30):
        page.keyboard.press("ArrowRight")
        shows(added)
    page.keyboard.press("ArrowLeft")
    shows(20)
    page.keyboard.press("End")
    shows(100)
    notebook.screenshot(panel, "00_slider_100")
    set_by_mouse(notebook, slider, 0.5)
    shows(50)
    notebook.screenshot(panel, "00_slider_50")
    assert page.evaluate("() => document.activeElement.type") == "range", "focus was lost"
    record(
        "00 padding slider", "beforehand", notebook.delays(slider, panel.locator(".vl-stage"), KEYS)
    )


def test_chapter_01(ran, record):
    notebook = ran("01_naive_padding.ipynb")
    page = notebook.page
    assert notebook.errors() == []
    panel = notebook.root.locator(".vl-panel")
    expect(panel).to_have_count(1)
    sources = {
        "Vowel recordings": torch.tensor([len(s) for s in japanese_vowels("train").sequences]),
        "Python documentation": torch.tensor([len(p) for p in python_docs_paragraphs()]),
    }
    twin = PaddingExplorer(sources)
    shows = shown_by(panel, twin)
    shows()
    notebook.screenshot(panel, "01_explorer_vowels")
    batch_size, spread = (
        panel.get_by_role("slider", name=name) for name in ("Batch size", "Spread")
    )
    batch_size.focus()
    page.keyboard.press("ArrowRight")
    shows(batch_size=17)
    page.keyboard.press("End")
    shows(batch_size=32)
    page.keyboard.press("Home")
    shows(batch_size=1)
    set_by_mouse(notebook, batch_size, 0.999)
    shows(batch_size=32)
    spread.focus()
    page.keyboard.press("ArrowLeft")
    shows(spread=95)
    set_by_mouse(notebook, spread, 0.001)
    shows(spread=0)
    page.keyboard.press("End")
    shows(spread=100)
    panel.get_by_role("combobox", name="Lengths from").select_option("Python documentation")
    shows(source="Python documentation")
    notebook.screenshot(panel, "01_explorer_documentation")
    panel.get_by_role("combobox", name="Lengths from").focus()
    page.keyboard.press("ArrowUp")
    shows(source="Vowel recordings")
    record(
        "01 padding explorer",
        "by the kernel",
        notebook.delays(batch_size, panel.locator(".vl-stage"), KEYS[::-1]),
    )


def packed_by_torch(lengths: dict[str, int]) -> tuple[list[str], list[int]]:
    """Names of the steps in the order of packed.data, and batch_sizes, from torch itself."""
    padded, counts = pad([torch.arange(length) for length in lengths.values()])
    names = [[f"{name}{step}" for step in range(padded.shape[1])] for name in lengths]
    codes = torch.arange(padded.numel()).view(padded.shape)
    packed = pack_padded_sequence(codes, counts, batch_first=True, enforce_sorted=False)
    flat = [name for row in names for name in row]
    return [flat[code] for code in packed.data.tolist()], packed.batch_sizes.tolist()


def test_chapter_02_packed_sequence_explorer(ran, record):
    notebook = ran("02_packing.ipynb")
    page = notebook.page
    assert notebook.errors() == []
    panel = notebook.root.locator(".vl-panel")
    expect(panel).to_have_count(1)
    views = panel.locator(".vl-stage > svg")
    step = panel.get_by_role("slider", name="Time step")
    lengths = {"A": 5, "B": 3, "C": 7, "D": 2}

    def shows(at: int, chosen: str = "") -> None:
        """All three views and the sentence agree with what torch packs."""
        data, batch_sizes = packed_by_torch(lengths)
        expect(panel.locator(".vl-words")).to_contain_text(f"Step t={at}: the LSTM runs on")
        words = panel.locator(".vl-words").inner_text()
        assert f"runs on {batch_sizes[at]} of {len(lengths)} rows" in words
        expect(views).to_have_count(3)
        for index in range(3):
            cells = views.nth(index).locator("[data-pick]")
            names = cells.evaluate_all("(all) => all.map((one) => one.dataset.pick)")
            assert sorted(names) == sorted(data)
            labels = cells.evaluate_all("(all) => all.map((one) => one.ariaLabel)")
            assert labels == [f"{name}, data[{data.index(name)}]" for name in names]
            full = cells.filter(has=page.locator(".strong.on"))
            active = full.evaluate_all("(all) => all.map((one) => one.dataset.pick)")
            assert sorted(active) == sorted(name for name in data if int(name[1:]) == at)
            pressed = views.nth(index).locator('[aria-pressed="true"]')
            marked = pressed.evaluate_all("(all) => all.map((one) => one.dataset.pick)")
            assert marked == ([chosen] if chosen else [])
        memory = views.nth(2).locator("[data-pick]")
        assert memory.evaluate_all("(all) => all.map((one) => one.dataset.pick)") == data
        texts = views.nth(1).locator("text").all_text_contents()
        assert texts[-len(batch_sizes) - 1 : -1] == [str(size) for size in batch_sizes]
        if chosen:
            assert f"data[{data.index(chosen)}] is step {at} of sequence {chosen[0]}" in words
        assert ("Pick a cell" in words) == (not chosen)

    shows(0)
    notebook.screenshot(panel, "02_explorer_start")
    step.focus()
    for at in (1, 2, 3):
        page.keyboard.press("ArrowRight")
        shows(at)
    page.keyboard.press("End")
    shows(6)
    # Picking, by mouse and by keyboard, marks the same step in all three views.
    views.nth(0).locator('[data-pick="C2"]').click()
    shows(2, "C2")
    notebook.screenshot(panel, "02_explorer_picked")
    page.keyboard.press("ArrowRight")
    shows(3, "C3")
    page.keyboard.press("ArrowUp")
    expect(panel.locator('[data-pick="A3"][aria-pressed="true"]')).to_have_count(3)
    shows(3, "A3")
    focused = "() => document.activeElement.dataset.pick"
    assert page.evaluate(focused) == "A3", "the focus survives the redraw"
    views.nth(2).locator('[data-pick="B1"]').click()
    shows(1, "B1")
    page.keyboard.press("Tab")
    assert page.evaluate(focused) is None, "one Tab leaves the view"
    panel.get_by_role("combobox", name="Rows").select_option("as given")
    expect(views.nth(1)).to_contain_text("no stairs")
    shows(1, "B1")
    panel.get_by_role("combobox", name="Rows").select_option("sorted by length")
    # Other lengths: torch packs again.
    panel.get_by_role("slider", name="Length of E").focus()
    page.keyboard.press("End")
    lengths["E"] = 10
    expect(panel.locator('[data-pick="E9"]')).to_have_count(3)
    shows(1)
    set_by_mouse(notebook, panel.get_by_role("slider", name="Length of A"), 0.001)
    del lengths["A"]
    expect(panel.locator('[data-pick^="A"]')).to_have_count(0)
    shows(1)
    assert step.get_attribute("max") == "9"
    notebook.screenshot(panel, "02_explorer_own_lengths")
    panel.get_by_role("combobox", name="Batch").select_option("one long, five short")
    lengths.clear()
    lengths.update(zip("ABCDEF", [10, 2, 1, 2, 1, 1], strict=True))
    expect(panel.locator('[data-pick="F0"]')).to_have_count(3)
    shows(1)
    record(
        "02 PackedSequence explorer",
        "by the kernel",
        notebook.delays(step, panel.locator(".vl-stage"), KEYS),
    )
    panel.get_by_role("combobox", name="Batch").select_option("four sequences")
    lengths.clear()
    lengths.update({"A": 5, "B": 3, "C": 7, "D": 2})
    expect(panel.locator('[data-pick="C6"]')).to_have_count(3)


@pytest.mark.parametrize("width", [1280, 900])
def test_explorer_is_legible_and_whole(ran, width):
    notebook = ran("02_packing.ipynb")
    notebook.page.set_viewport_size({"width": width, "height": 720})
    panel = notebook.root.locator(".vl-panel")
    panel.get_by_role("combobox", name="Batch").select_option("one long, five short")
    expect(panel.locator('[data-pick="F0"]')).to_have_count(3)
    notebook.page.wait_for_timeout(300)
    for index in range(3):
        view = panel.locator(".vl-stage > svg").nth(index)
        scale = view.evaluate(
            "(one) => one.getBoundingClientRect().width / one.viewBox.baseVal.width"
        )
        assert scale >= 0.89, "letters of 11 px stay about 10 px or larger"
    # In a narrow window the views stand one below the other, and scroll rather than shrink.
    stage = panel.locator(".vl-stage")
    room, needed, overflow = stage.evaluate(
        "(one) => [one.clientWidth, one.scrollWidth, getComputedStyle(one).overflowX]"
    )
    assert needed <= room or overflow == "auto", "nothing is cut off"
    assert width < 1280 or needed <= room, "no scrolling on a projector"
    notebook.screenshot(panel, f"02_explorer_{width}")
    panel.get_by_role("combobox", name="Batch").select_option("four sequences")
    notebook.page.set_viewport_size({"width": 1280, "height": 720})


def test_chapter_03_mask_of_switches(ran, record):
    notebook = ran("03_masking_and_the_loss.ipynb")
    page = notebook.page
    assert notebook.errors() == []
    panel = notebook.root.locator(".vl-panel")
    expect(panel).to_have_count(1)
    grid, bars = (panel.locator(".vl-stage > svg").nth(index) for index in (0, 1))
    twin = LossExplorer()

    def shows(**changed: object) -> None:
        twin.show(**changed)
        expect(bars).to_have_attribute("aria-label", twin.picture.alt)
        expect(panel.locator(".vl-words")).to_have_text(twin.words)

    shows()
    notebook.screenshot(panel, "03_losses_right")
    grid.locator('[data-pick="B3"]').click()  # one pad counts
    shows(pick="B3")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowUp")
    focused = "() => document.activeElement.dataset.pick"
    assert page.evaluate(focused) == "A2", "arrow keys walk"
    shows()  # and switch nothing
    page.keyboard.press("Enter")
    shows(pick="A2")
    assert page.evaluate(focused) == "A2", "the focus survives the redraw"
    page.keyboard.press("Space")
    shows(pick="A2")
    notebook.screenshot(panel, "03_losses_one_pad")
    page.keyboard.press("Tab")
    assert page.evaluate(focused) is None, "one Tab leaves the grid"
    grid.locator('[data-pick="B3"]').click()
    grid.locator('[data-pick="D1"]').click()
    twin.show(pick="B3")
    shows(pick="D1")  # two quick clicks, and both count
    slider = panel.get_by_role("slider", name="Columns of padding added")
    slider.focus()
    page.keyboard.press("End")
    shows(added=4)
    expect(grid.locator("[data-pick]")).to_have_count(40)
    for name in ("one pad too many", "inverted", "C is empty", "all zeros", "right"):
        panel.get_by_role("combobox", name="Mask").select_option(name)
        shows(preset=name)
        notebook.screenshot(panel, f"03_losses_{name.replace(' ', '_')}")
    set_by_mouse(notebook, slider, 0.001)
    shows(added=0)
    cell, stage = grid.locator('[data-pick="A0"]'), panel.locator(".vl-stage")
    record("03 mask of switches", "by the kernel", notebook.delays(cell, stage, ["Enter"] * 10))


def test_chapter_04_attention_under_a_mask(ran, record):
    notebook = ran("04_transformer_masks.ipynb")
    page = notebook.page
    assert notebook.errors() == []
    panel = notebook.root.locator(".vl-panel")
    expect(panel).to_have_count(1)
    twin = AttentionExplorer()
    choice = panel.get_by_role("combobox", name="Mask")

    shown = shown_by(panel, twin)

    def shows(mask: str) -> None:
        shown(mask=mask)
        expect(panel.locator(".vl-stage > svg")).to_have_count(3)
        notebook.screenshot(panel, f"04_attention_{mask.replace(' ', '_')}")

    shows("none")
    for mask in choice.locator("option").all_text_contents():
        choice.select_option(mask)
        shows(mask)
    choice.focus()
    page.keyboard.press("Home")
    shows("none")
    page.keyboard.press("ArrowDown")
    shows("right")
    record(
        "04 attention under a mask",
        "beforehand",
        notebook.delays(choice, panel.locator(".vl-stage"), ["ArrowDown", "ArrowUp"] * 10),
    )


def test_chapter_05_shape_tracer_and_curves(ran, record):
    notebook = ran("05_hybrid_models.ipynb")
    page = notebook.page
    assert notebook.errors() == []
    panels = notebook.root.locator(".vl-panel")
    expect(panels).to_have_count(2)
    panel, curves = panels.nth(0), panels.nth(1)
    twin = TraceExplorer()
    shows = shown_by(panel, twin)
    shows()
    notebook.screenshot(panel, "05_tracer_right")
    slider = panel.get_by_role("slider", name="Columns of padding added")
    for fault, label in FAULTS.items():
        box = panel.get_by_role("checkbox", name=label, exact=True)
        box.check()
        shows(**{fault: True})
        slider.focus()
        page.keyboard.press("End")
        shows(added=8)
        notebook.screenshot(panel, f"05_tracer_{fault}")
        page.keyboard.press("Home")
        shows(added=0)
        box.focus()
        page.keyboard.press("Space")
        shows(**{fault: False})
    for fault in ("no_total_length", "no_batch_first"):
        panel.get_by_label(FAULTS[fault], exact=True).click()
        shows(**{fault: True})
    set_by_mouse(notebook, slider, 0.5)
    shows(added=4)
    label = curves.locator(".vl-stage svg").get_attribute("aria-label")
    losses = [float(one) for one in re.findall(r"\d\.\d+", label)]
    assert len(losses) == 3 and all(0 < loss < 0.2 for loss in losses), label
    notebook.screenshot(curves, "05_curves")
    record(
        "05 shape tracer",
        "by the kernel",
        notebook.delays(slider, panel.locator(".vl-stage"), KEYS),
    )


def test_chapter_06_policies(ran, record):
    notebook = ran("06_batching_policy.ipynb")
    page = notebook.page
    assert notebook.errors() == []
    panel = notebook.root.locator(".vl-panel")
    expect(panel).to_have_count(1)
    twin = PolicyExplorer(torch.tensor([len(words) for words in python_docs_paragraphs()]))
    shows = shown_by(panel, twin)
    shows()
    notebook.screenshot(panel, "06_policy_random")
    pool = panel.get_by_role("combobox", name="Sorted together")
    for name in ("8", "all"):
        pool.select_option(name)
        shows(pool=name)
    notebook.screenshot(panel, "06_policy_sorted")
    panel.get_by_role("combobox", name="Batches of a").select_option("budget of padded steps")
    shows(policy="budget of padded steps")
    pool.select_option("8")
    shows(pool="8")
    notebook.screenshot(panel, "06_policy_budget")
    budget = panel.get_by_role("slider", name="Budget")
    budget.focus()
    page.keyboard.press("End")
    shows(max_tokens=8192)
    set_by_mouse(notebook, panel.get_by_role("slider", name="Epoch"), 0.999)
    shows(epoch=5)
    panel.get_by_role("combobox", name="Batches of a").select_option("fixed number of sequences")
    shows(policy="fixed number of sequences")
    size = panel.get_by_role("slider", name="Sequences")
    size.focus()
    page.keyboard.press("Home")
    shows(batch_size=8)
    page.keyboard.press("ArrowRight")
    shows(batch_size=16)
    record("06 policies", "by the kernel", notebook.delays(size, panel.locator(".vl-stage"), KEYS))


def test_chapter_07_rows(ran, record):
    notebook = ran("07_sequence_packing.ipynb")
    page = notebook.page
    assert notebook.errors() == []
    panel = notebook.root.locator(".vl-panel")
    expect(panel).to_have_count(1)
    twin = RowsExplorer(torch.tensor([3, 2, 7, 5, 1, 2, 10, 3, 8, 1, 7, 6]))
    shows = shown_by(panel, twin)
    shows()
    notebook.screenshot(panel, "07_rows_first_fit")
    panel.get_by_role("combobox", name="Packer").select_option("best-fit decreasing")
    shows(packer="best-fit decreasing")
    panel.get_by_role("combobox", name="Mask").select_option("causal, own sequence only")
    shows(mask="causal, own sequence only")
    panel.get_by_role("checkbox", name="Positions start again at 0").check()
    shows(restart=True)
    notebook.screenshot(panel, "07_rows_best_fit")
    panel.locator("[data-pick='2']").click()
    shows(pick="2")
    page.keyboard.press("ArrowDown")
    placed = panel.get_by_role("slider", name="Placed")
    placed.focus()
    page.keyboard.press("Home")
    shows(placed=1)
    for count in (2, 3, 4, 5):
        page.keyboard.press("ArrowRight")
        shows(placed=count)
    notebook.screenshot(panel, "07_rows_five_placed")
    set_by_mouse(notebook, panel.get_by_role("slider", name="Steps a row, T"), 0.999)
    shows(capacity=18)
    panel.get_by_role("combobox", name="Packer").select_option("one sequence a row")
    shows(packer="one sequence a row")
    record("07 rows", "by the kernel", notebook.delays(placed, panel.locator(".vl-stage"), KEYS))


def test_chapter_08_flat(ran, record):
    notebook = ran("08_flat_batches.ipynb")
    page = notebook.page
    assert notebook.errors() == []
    panel = notebook.root.locator(".vl-panel")
    expect(panel).to_have_count(1)
    twin = FlatExplorer([5, 2, 4, 1, 3])
    shows = shown_by(panel, twin)
    shows()
    notebook.screenshot(panel, "08_flat")
    panel.get_by_role("combobox", name="Mask").select_option("causal")
    shows(mask="causal")
    panel.get_by_role("checkbox", name="Positions start again at 0").uncheck()
    shows(restart=False)
    panel.locator("[data-pick='C2']").first.click()
    shows(pick="C2")
    notebook.screenshot(panel, "08_flat_causal")
    length = panel.get_by_role("slider", name="Length of C")
    length.focus()
    page.keyboard.press("Home")
    shows(C=0)
    record("08 flat", "by the kernel", notebook.delays(length, panel.locator(".vl-stage"), KEYS))


def test_the_cheat_sheet_opens_from_its_chapter_and_prints_on_one_page(ran, browser):
    page = browser.new_page()
    page.goto((ROOT / "notebooks" / "masks_cheat_sheet.html").as_uri())
    expect(page.get_by_role("heading", name="What a mark does")).to_be_visible()
    for paper in ("A4", "Letter"):
        pages = re.findall(rb"/Type\s*/Page\b", page.pdf(format=paper))
        assert len(pages) == 1, f"{len(pages)} sheets of {paper}"
    page.close()
    notebook = ran("04_transformer_masks.ipynb")
    notebook.root.get_by_role("link", name="the cheat sheet").first.click()
    frame = notebook.page.frame_locator(".jp-HTMLViewer iframe")
    expect(frame.get_by_role("heading", name="What a mark does")).to_be_visible()
    notebook.page.keyboard.press("Alt+w")
    notebook.page.locator(".lm-TabBar-tab", has_text="04_transformer_masks").first.click()


@pytest.mark.parametrize("chapter", sorted({one.id[:2] for one in EXERCISES.values()}))
def test_exercises(ran, chapter):
    notebook = ran(next(name for name in NAMES if name.startswith(chapter)))
    page = notebook.page
    for one in (one for one in EXERCISES.values() if one.id.startswith(chapter)):
        card = notebook.cell(f'exercise("{one.id}")')
        expect(card.locator("summary")).to_have_count(4)
        for index, part in enumerate([*one.hints, one.beginning, one.source]):
            fold = card.locator("details").nth(index)
            press = fold.locator("summary")
            body = fold.locator("div")
            expect(body).not_to_be_visible()
            press.scroll_into_view_if_needed()
            press.click()
            expect(body).to_be_visible()
            shown, written = (re.sub(r"[`*]", "", text) for text in (body.inner_text(), part))
            assert shown.strip()[:20] == written[:20]
            press.focus()
            page.keyboard.press("Enter")
            expect(body).not_to_be_visible()
            page.keyboard.press("Space")
            expect(body).to_be_visible()
        notebook.screenshot(card, f"{one.id}_card")
        answer = notebook.cell(f'check("{one.id}"')
        expect(answer.locator(".jp-OutputArea")).to_contain_text("not attempted yet")
        given = one.solution.__name__
        call = f'\n\n\ncheck("{one.id}", {given})'
        wrong = one.misconceptions[0]
        code = f"from course_utils.exercises import EXERCISES\n{given} = EXERCISES['{one.id}']"
        text = notebook.run_cell(answer, f"{code}.misconceptions[0].wrong{call}")
        assert wrong.name in text
        notebook.screenshot(answer, f"{one.id}_wrong")
        text = notebook.run_cell(answer, one.source + call)
        assert f"Exercise {one.id}: correct" in text
        notebook.screenshot(answer, f"{one.id}_right")
    assert notebook.errors() == []


def test_a_wrong_answer_typed_by_hand_and_one_that_crashes(ran):
    notebook = ran("01_naive_padding.ipynb")
    page = notebook.page
    cell = notebook.cell('check("01.2", fill)')
    cell.scroll_into_view_if_needed()
    cell.locator(".cm-content").click()
    page.keyboard.press("Control+A")
    page.keyboard.type(
        "def fill(lengths): return 1 - lengths.sum() / (len(lengths) * lengths.max())\n"
    )
    page.keyboard.press("Home")
    page.keyboard.type('\ncheck("01.2", fill)')
    page.keyboard.press("Control+Enter")
    expect(cell.locator(".jp-OutputArea")).to_contain_text("the padding fraction")
    crash = 'def fill(lengths):\n    return lengths.no_such_thing()\n\n\ncheck("01.2", fill)'
    text = notebook.run_cell(cell, crash)
    assert "AttributeError" in text and "raises an error" in text
    assert notebook.errors() == [], "the check tells an error, and raises none"


@pytest.mark.parametrize("name", NAMES)
def test_dark_theme(ran, name):
    notebook = ran(name)
    page = notebook.page
    notebook.menu("Settings", "Theme", "JupyterLab Dark")
    page.wait_for_function("() => document.body.dataset.jpThemeLight === 'false'")
    panel = notebook.root.locator(".vl-panel").first
    panel.scroll_into_view_if_needed()
    paper = panel.locator(".paper").first.evaluate("(one) => getComputedStyle(one).fill")
    ink = panel.locator("text.title").first.evaluate("(one) => getComputedStyle(one).fill")
    assert paper == "rgb(28, 33, 40)" and ink == "rgb(230, 237, 243)"
    notebook.screenshot(panel, f"{name[:2]}_dark")
    card = notebook.root.locator(".jp-OutputArea details").first.locator("..")
    notebook.screenshot(card, f"{name[:2]}_card_dark")
    notebook.menu("Settings", "Theme", "JupyterLab Light")


def test_chapter_09_ranks(ran, record):
    notebook = ran("09_loss_and_data_at_scale.ipynb")
    assert notebook.errors() == []
    panel = notebook.root.locator(".vl-panel")
    expect(panel).to_have_count(1)
    twin = RanksExplorer(torch.tensor([len(words) for words in python_docs_paragraphs()]))
    shows = shown_by(panel, twin)
    shows()
    notebook.screenshot(panel, "09_ranks_random")
    policy = panel.get_by_role("combobox", name="Batches")
    for name in ("own buckets", "shared buckets", "shared budget"):
        policy.select_option(name)
        shows(policy=name)
        notebook.screenshot(panel, f"09_ranks_{name.replace(' ', '_')}")
    ranks = panel.get_by_role("slider", name="Ranks")
    ranks.focus()
    notebook.page.keyboard.press("End")
    shows(ranks=8)
    notebook.screenshot(panel, "09_ranks_eight")
    notebook.page.keyboard.press("Home")
    shows(ranks=2)
    record("09 ranks", "drawn beforehand", notebook.delays(ranks, panel.locator(".vl-stage"), KEYS))
