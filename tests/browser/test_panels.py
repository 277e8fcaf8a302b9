"""The outputs in JupyterLab for everyone: by keys alone, enlarged, in the dark, read aloud.

After test_notebooks.py, on the pages that it has left open.
"""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, expect

from .conftest import NAMES, ROOT
from .notebook_page import NotebookPage

pytestmark = pytest.mark.browser

# While a theme is loading, something covers the outputs, and axe judges no colour under it.
_UNCOVERED = """() => {
  const box = document.querySelector(".jp-OutputArea-output").getBoundingClientRect();
  return document.elementFromPoint(box.left + 5, box.top + 5)?.closest(".jp-OutputArea");
}"""

# JupyterLab's body is 0 px high, and all is clipped to the window: axe takes what is outside for
# hidden and passes over it.
_FINDINGS = """async () => {
  document.body.style.height = "100vh";
  const found = await axe.run({ include: [[".jp-OutputArea"]] }, {
    // It joins the words of a cell without a space. Below, they are looked for one by one.
    rules: { "label-content-name-mismatch": { enabled: false } },
  });
  const count = (rule) => rule?.nodes.length ?? 0;
  return {
    faults: found.violations
      .filter((one) => ["serious", "critical"].includes(one.impact))
      .map((one) => `${one.id}: ${one.nodes.map((node) => node.html.slice(0, 100))}`),
    texts: count(found.passes.find((one) => one.id === "color-contrast")),
  };
}"""

# axe leaves letters on pictures alone. What is written in a cell to pick must be in its name, for
# who speaks to the computer; and each letter must be told from its ground: from what is drawn
# below its middle, where hatching counts as the colour between its lines. Formula of WCAG 2.2.
_LETTERS = """() => {
  const light = (color) => {
    const [r, g, b] = color.map((one) => one / 255)
      .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const numbers = (text) => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const faults = [];
  let texts = 0;
  for (const svg of document.querySelectorAll(".vl-panel svg")) {
    const ground = numbers(getComputedStyle(svg.querySelector("pattern .ground")).fill);
    const below = [];
    for (const one of svg.querySelectorAll(":scope rect:not(defs *), text")) {
      const style = getComputedStyle(one), box = one.getBoundingClientRect();
      if (one.tagName === "rect") {
        if (style.fill !== "none") below.push([box, style]);
        continue;
      }
      texts += 1;
      const x = box.left + box.width / 2, y = box.top + box.height / 2;
      let behind = [255, 255, 255];
      for (const [area, look] of below) {
        if (x < area.left || x > area.right || y < area.top || y > area.bottom) continue;
        const paint = look.fill.startsWith("url") ? ground : numbers(look.fill);
        const share = Number(look.fillOpacity);
        behind = behind.map((old, i) => old * (1 - share) + paint[i] * share);
      }
      const both = [light(behind), light(numbers(style.fill))].sort((a, b) => a - b);
      const contrast = (both[1] + 0.05) / (both[0] + 0.05);
      if (contrast < 4.5) faults.push(`${contrast.toFixed(1)}: ${one.outerHTML}`);
      const cell = one.closest("[data-pick]");
      if (cell && !cell.ariaLabel.includes(one.textContent)) faults.push(cell.outerHTML);
    }
  }
  return { faults, texts };
}"""

# What of a panel stands out of its output area. The picture may: it scrolls, and so do tables.
_CUT_OFF = """() => [...document.querySelectorAll(".vl-panel")].flatMap((panel) => {
  const edge = panel.closest(".jp-OutputArea-output").getBoundingClientRect();
  const parts = [...panel.querySelectorAll(".vl-controls *, p")];
  return parts.filter((one) => {
    const box = one.getBoundingClientRect();
    return box.width && (box.left < edge.left - 1 || box.right > edge.right + 1);
  }).map((one) => one.outerHTML.slice(0, 100));
})"""

# What has the focus, if that is in a panel; its name is what a screen reader says.
_FOCUSED = """() => {
  const one = document.activeElement, panel = one.closest(".vl-panel");
  if (!panel) return null;
  const outlined = [...panel.querySelectorAll("*")].filter(
    (each) => getComputedStyle(each).outlineStyle === "solid");
  return {
    id: one.id,
    pick: one.dataset.pick ?? null,
    kind: one.tagName === "INPUT" ? one.type : one.tagName.toLowerCase(),
    name: one.labels?.[0]?.textContent ?? one.ariaLabel ?? "",
    last: one.tagName === "SELECT" ? one.selectedIndex === one.length - 1 : one.value === one.max,
    alone: outlined.length === 1 && outlined[0] === one,
    width: parseFloat(getComputedStyle(one).outlineWidth),
  };
}"""


def restore(notebook: NotebookPage) -> None:
    notebook.page.set_viewport_size({"width": 1280, "height": 720})
    notebook.menu("Settings", "Theme", "JupyterLab Light")


def sidebar(notebook: NotebookPage, *, shown: bool) -> None:
    folder = notebook.page.locator("#filebrowser")
    if folder.is_visible() != shown:
        notebook.page.get_by_role("tab", name=re.compile("File Browser")).click()
    expect(folder).to_be_visible(visible=shown)


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_accessible_in_both_themes(ran, axe, name):
    notebook = ran(name)
    page = notebook.page
    assert "No description has been provided for this image" not in page.content()
    page.evaluate(axe)
    found = {}
    try:
        scrolled = notebook.root.locator(".jp-WindowedPanel-outer")
        whole = scrolled.evaluate("(one) => one.scrollHeight")
        page.set_viewport_size({"width": 1280, "height": whole + 500})
        # The notebook may be scrolled past its last cell by as much as the window is high.
        scrolled.evaluate("(one) => one.scrollTo(0, 0)")
        for theme in ("JupyterLab Dark", "JupyterLab Light"):
            notebook.menu("Settings", "Theme", theme)
            light = str(theme.endswith("Light")).lower()
            page.wait_for_function(f"() => document.body.dataset.jpThemeLight === '{light}'")
            page.wait_for_function(_UNCOVERED)
            found[theme] = page.evaluate(_FINDINGS)
            found[f"{theme}, letters on pictures"] = page.evaluate(_LETTERS)
    finally:
        restore(notebook)
    assert not any(one["faults"] for one in found.values()), found
    assert all(one["texts"] > 10 for one in found.values()), "nothing was looked at"


@pytest.mark.parametrize("name", NAMES)
def test_enlarged_to_200_percent_no_control_is_cut_off(ran, name):
    notebook = ran(name)
    try:
        # A window of 1280 x 720 at 200%; with the file browser there is even less room.
        notebook.page.set_viewport_size({"width": 640, "height": 360})
        for shown in (True, False):
            sidebar(notebook, shown=shown)
            notebook.page.wait_for_timeout(300)
            assert notebook.page.evaluate(_CUT_OFF) == [], f"file browser shown: {shown}"
        panel = notebook.root.locator(".vl-panel").first
        notebook.screenshot(panel, f"{name[:2]}_at_200_percent")
        stage = panel.locator(".vl-stage")
        room, needed = stage.evaluate("(one) => [one.clientWidth, one.scrollWidth]")
        if needed > room + 1 and not stage.locator("[data-pick]").count():
            stage.press("ArrowRight")
            notebook.page.wait_for_function(
                "(stage) => stage.scrollLeft > 0", arg=stage.element_handle()
            )
    finally:
        restore(notebook)
        sidebar(notebook, shown=True)


def changes(stage: Locator, before: str) -> None:
    """Wait until the picture is another one."""
    stage.page.wait_for_function(
        "([stage, before]) => stage.innerHTML !== before",
        arg=[stage.element_handle(), before],
        timeout=20_000,
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_control_in_order_by_keys_alone(ran, name):
    notebook = ran(name)
    page = notebook.page
    for panel in notebook.root.locator(".vl-panel").all():
        stage = panel.locator(".vl-stage")
        inputs = panel.locator(".vl-controls :is(input, select)")
        if not inputs.count():
            continue
        inputs.first.focus()
        reached, views = [], 0
        while focused := page.evaluate(_FOCUSED):
            assert focused["alone"] and focused["width"] >= 2, f"focus not seen: {focused}"
            assert focused["name"].strip(), f"no name: {focused}"
            before = stage.inner_html()
            if focused["pick"] is None:
                reached.append(focused["id"])
                back = "ArrowUp" if focused["kind"] == "select" else "ArrowLeft"
                on = "ArrowDown" if focused["kind"] == "select" else "ArrowRight"
                key = "Space" if focused["kind"] == "checkbox" else back if focused["last"] else on
                page.keyboard.press(key)
                changes(stage, before)
                assert page.evaluate(_FOCUSED)["id"] == focused["id"], "the focus was lost"
            else:
                views += 1
                for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"):
                    page.keyboard.press(key)
                    now = page.evaluate(_FOCUSED)
                    if now["pick"] != focused["pick"]:
                        break
                assert now["pick"] != focused["pick"], "arrow keys walk over the cells"
                if stage.locator("[data-toggle]").count():
                    page.keyboard.press("Enter")
                changes(stage, before)
                assert page.evaluate(_FOCUSED)["pick"] == now["pick"], "the focus was lost"
            page.keyboard.press("Tab")
        enabled = panel.locator(".vl-controls :is(input, select):enabled").all()
        assert reached == [one.get_attribute("id") for one in enabled]
        assert views == stage.locator("svg:has([data-pick])").count()


def test_nothing_moves_by_itself():
    # So there is nothing that a reader who asks for less motion would have to be spared.
    files = [*(ROOT / "course_utils").glob("panels/panel.*"), ROOT / "site/_static/site.css"]
    files += [ROOT / "course_utils/pictures/svg.py", ROOT / "course_utils/exercises/engine.py"]
    for file in files:
        found = re.findall(r"animat\w*|transition\w*|@keyframes|smooth", file.read_text())
        assert found == [], f"{file.name}: wrap {found} in @media (prefers-reduced-motion)"


def test_without_its_kernel_a_panel_walks_on_and_says_what_it_lacks(ran):
    notebook = ran("02_packing.ipynb")
    page = notebook.page
    panel = notebook.root.locator(".vl-panel")
    batch = panel.get_by_role("combobox", name="Batch")
    batch.select_option("one long, five short")
    batch.select_option("four sequences")
    expect(panel.locator('[data-pick="C6"]')).to_have_count(3)
    notebook.menu("Kernel", "Shut Down Kernel")
    page.locator('.jp-Notebook-ExecutionIndicator[data-status="unknown"]').first.wait_for()
    step = panel.get_by_role("slider", name="Time step")
    step.focus()
    page.keyboard.press("Home")
    for at, alive in enumerate([4, 4, 3, 2, 2, 1, 1]):
        expect(panel.locator(".vl-words")).to_contain_text(f"t={at}: the LSTM runs on {alive} of 4")
        page.keyboard.press("ArrowRight")
    panel.get_by_role("combobox", name="Rows").select_option("as given")
    expect(panel.locator(".vl-stage > svg").nth(1)).to_contain_text("no stairs")
    expect(panel.locator(".vl-lost")).to_have_text("")
    panel.get_by_role("slider", name="Length of A").press("End")
    expect(panel.locator(".vl-lost")).to_contain_text("Run All Above Selected Cell")
    notebook.screenshot(panel, "02_no_kernel")
