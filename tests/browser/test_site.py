"""The static site as a reader meets it: every page, every panel, search; nothing from outside."""

from __future__ import annotations

import functools
import http.server
import subprocess
import sys
import threading
from urllib.parse import unquote, urldefrag, urljoin

import build_site
import pytest
import torch
from bs4 import BeautifulSoup
from playwright.sync_api import Locator, Page, expect
from torch.nn.utils.rnn import pack_sequence

from .conftest import ROOT, SCREENSHOTS

pytestmark = pytest.mark.browser
CHAPTERS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(axe):
    """Address of the site, built again and served from this machine."""
    command = [sys.executable, ROOT / "tools/build_site.py"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    handler = functools.partial(_Quiet, directory=build_site.SITE)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


class Reader:
    """A page with the network cut, which keeps what went wrong."""

    def __init__(self, page: Page, site: str) -> None:
        self.page, self.site = page, site
        self.faults: list[str] = []
        page.context.route("**/*", self._only_here)
        page.on("pageerror", lambda error: self.faults.append(f"{page.url}: {error}"))
        page.on("console", self._console)

    def _only_here(self, route) -> None:
        if route.request.url.startswith(self.site):
            route.continue_()
        else:
            self.faults.append(f"{self.page.url} asks for {route.request.url}")
            route.abort()

    def _console(self, message) -> None:
        # A page without an icon makes the browser ask for this one by itself.
        if message.type == "error" and not message.location["url"].endswith("/favicon.ico"):
            self.faults.append(f"{self.page.url}: {message.text} {message.location['url']}")

    def open(self, path: str) -> None:
        """Open a page of the site, and wait until its panels are drawn."""
        self.page.goto(self.site + path, wait_until="networkidle")
        panels = self.page.locator(".vl-live").count()
        expect(self.page.locator(".vl-panel .vl-stage svg:first-child")).to_have_count(panels)
        # What gives a Predict away is folded.
        for folded in self.page.locator("details.hide").all():
            folded.evaluate("one => { one.open = true; }")


@pytest.fixture
def reader(page, site):
    reader = Reader(page, site)
    yield reader
    assert reader.faults == []


def pages() -> list[str]:
    found = (path.relative_to(build_site.SITE) for path in build_site.SITE.rglob("*.html"))
    return sorted(str(path) for path in found if path.parts[0] != "_static")


def chapter(name: str) -> str:
    return f"notebooks/{name}.html"


def alts(panel: Locator) -> list[str]:
    views = panel.locator(".vl-stage > svg")
    return [view.get_attribute("aria-label") for view in views.all()]


def drawn(panel: Locator) -> str:
    return panel.locator(".vl-stage").inner_html()


def test_every_page_opens_without_a_fault_and_is_accessible(reader, axe):
    found = pages()
    assert {chapter(name) for name in CHAPTERS} < set(found) and "index.html" in found
    assert {build_site.PAGE, "notebooks/glossary.html", "search.html"} < set(found)
    worst = []
    for path in found:
        reader.open(path)
        assert "No description has been provided" not in reader.page.content()
        for picture in reader.page.locator("article img").all():
            assert len(picture.get_attribute("alt") or "") > 30, path
        for panel in reader.page.locator(".vl-panel").all():
            assert all(len(alt) > 20 for alt in alts(panel)), path
        reader.page.evaluate(axe)
        for width, scheme in ((1280, "light"), (400, "dark")):
            reader.page.emulate_media(color_scheme=scheme)
            reader.page.set_viewport_size({"width": width, "height": 720})
            # The theme makes what now scrolls reachable by keys, 0.3 s later.
            reader.page.wait_for_timeout(500)
            result = reader.page.evaluate('axe.run(document, {resultTypes: ["violations"]})')
            for one in result["violations"]:
                if one["impact"] in ("serious", "critical"):
                    nodes = [node["target"] for node in one["nodes"]]
                    worst.append(f"{path}, {width} px, {scheme}: {one['id']} {nodes}")
            wide = reader.page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{path} is {wide} px wide on a screen of {width} px"
    assert worst == []


def test_the_walk_through_a_packed_sequence_steps(reader):
    reader.open(chapter("02_packing"))
    panel = reader.page.locator(".vl-panel")
    step = panel.get_by_role("slider", name="Time step")
    lengths = [int(panel.get_by_label(f"Length of {one}").input_value()) for one in "ABCD"]
    alive = pack_sequence([torch.zeros(n) for n in lengths], enforce_sorted=False).batch_sizes
    seen = [drawn(panel)]
    for t in range(1, 4):
        step.press("ArrowRight")
        expect(panel.locator(".vl-words").last).to_contain_text(f"Step t={t}: ")
        seen.append(drawn(panel))
        words = f"At step {t} of {max(lengths)}, {int(alive[t])} of 4 sequences are alive."
        assert all(words in alt for alt in alts(panel))
    panel.get_by_label("Rows").select_option("as given")
    seen.append(drawn(panel))
    assert len(set(seen)) == 5
    panel.screenshot(path=SCREENSHOTS / "site_walk.png")
    # What torch would have to compute cannot be asked for, and the page says where it can.
    expect(panel.get_by_role("slider", name="Length of A")).to_be_disabled()
    expect(panel.get_by_role("combobox", name="Batch")).to_be_disabled()
    assert panel.locator("[data-pick], [role=button]").count() == 0
    expect(panel.get_by_text("Pick a cell")).to_have_count(0)
    expect(panel.get_by_text("The greyed controls, and picking a cell, need a")).to_be_visible()


def test_a_panel_without_a_kernel_is_alive_or_says_where_to_find_one(reader):
    asleep = 0
    for name in CHAPTERS:
        reader.open(chapter(name))
        for panel in reader.page.locator(".vl-panel").all():
            expect(panel.locator("xpath=../..").locator(".vl-still")).to_be_hidden()
            dead = panel.locator(".vl-controls :disabled").count()
            asleep += bool(dead)
            link = panel.get_by_role("link", name="launch on Binder")
            expect(link).to_have_count(int(dead > 0))
            if dead:
                assert link.get_attribute("href").endswith(f"=lab/tree/notebooks/{name}.ipynb")
            for control in panel.locator(".vl-controls :is(input, select):enabled").all():
                before = drawn(panel)
                control.press("End")
                assert drawn(panel) != before, f"{name}: a control does nothing"
    assert 0 < asleep < len(CHAPTERS)


def test_without_javascript_each_panel_is_its_saved_picture(browser, site):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    for name in CHAPTERS:
        page.goto(site + chapter(name))
        for summary in page.locator("details.hide > summary").all():
            summary.click()  # what gives a Predict away is folded
        stills = page.locator(".vl-still img")
        assert stills.count() == page.locator(".vl-live").count() > 0
        for still in stills.all():
            expect(still).to_be_visible()
    context.close()


def test_search_finds_a_word(reader):
    reader.open("search.html?q=PackedSequence")
    expect(reader.page.locator("#search-results a[href*='02_packing']").first).to_be_visible()


def test_hints_unfold(reader):
    reader.open(chapter("02_packing"))
    hint = reader.page.locator("details", has_text="Hint 1").first
    hint.locator("summary").press("Enter")
    expect(hint.locator("div")).to_be_visible()


def test_no_link_leads_nowhere(site):
    soups = {}

    def soup(path: str) -> BeautifulSoup:
        if path not in soups:
            text = (build_site.SITE / path).read_text()
            soups[path] = BeautifulSoup(text, "html.parser")
        return soups[path]

    broken, tried = [], 0
    for path in pages():
        for tag in soup(path).select("[href], [src]"):
            address = tag.get("href") or tag.get("src") or ""
            target, anchor = urldefrag(urljoin(site + path, address))
            if not target.startswith(site):
                inline = target.startswith("data:image/")
                if not inline and not (tag.name == "a" and target.startswith("https://")):
                    broken.append(f"{path} -> {address}: neither here nor a link to follow")
                continue
            tried += 1
            file = unquote(target.removeprefix(site).partition("?")[0]) or "index.html"
            if not (build_site.SITE / file).is_file():
                broken.append(f"{path} -> {address}")
            elif anchor and file.endswith(".html") and not soup(file).find(id=unquote(anchor)):
                broken.append(f"{path} -> {address}: no such place")
    assert broken == [] and tried > 500


def test_each_chapter_can_be_launched_and_downloaded(site):
    for name in CHAPTERS:
        text = (build_site.SITE / chapter(name)).read_text()
        where = (
            f"mybinder.org/v2/gh/{build_site.repository()}/HEAD?urlpath=lab/tree/notebooks/{name}"
        )
        assert text.count(f'href="https://{where}.ipynb"') == 1
        assert f"_sources/notebooks/{name}.ipynb" in text
        download = build_site.SITE / f"_sources/notebooks/{name}.ipynb"
        assert download.read_bytes() == (ROOT / f"notebooks/{name}.ipynb").read_bytes()
