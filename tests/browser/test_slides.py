"""A chapter as slides, in Chromium: from one file, with nothing from a network."""

from __future__ import annotations

import os

import pytest
import slides

from .conftest import SCREENSHOTS

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def reveal():
    try:
        return slides.reveal()
    except slides.SlidesError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.mark.parametrize("prefix", ["00", "04"])
def test_every_slide_is_shown_and_can_be_read_to_its_end(page, reveal, tmp_path, prefix):
    path = next(slides.FOLDER.glob(f"{prefix}*.ipynb"))
    file = tmp_path / "slides.html"
    file.write_text(slides.export(path, reveal), encoding="utf-8")
    asked, errors = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(file.as_uri())
    page.wait_for_function("() => window.Reveal?.isReady()")
    total = page.evaluate("() => Reveal.getTotalSlides()")
    pictures = 0
    for number in range(total):
        slide = page.locator("section section.present").last
        assert slide.inner_text().strip() or slide.locator("img").count()
        # Nothing hangs out at the right, and what is below the edge can be scrolled to.
        fits = "(one) => one.scrollWidth <= one.clientWidth && one.clientHeight <= 720"
        assert slide.evaluate(fits), f"slide {number + 1}"
        assert slide.evaluate("(one) => getComputedStyle(one).overflowY") == "auto"
        for picture in slide.locator("img").all():
            box = picture.bounding_box()
            assert box["width"] > 600 and box["height"] > 500 and box["y"] + box["height"] <= 720
            page.screenshot(path=SCREENSHOTS / f"slides_{prefix}_{number + 1}.png")
            pictures += 1
        page.keyboard.press("Space")
    assert page.evaluate("() => Reveal.isLastSlide()")
    assert pictures == page.locator(".slides img").count() > 0
    assert errors == [] and all(one.startswith(("file:", "data:")) for one in asked)


def test_the_speaker_has_the_notes_in_a_window(page, reveal, tmp_path):
    file = tmp_path / "slides.html"
    file.write_text(slides.export(next(slides.FOLDER.glob("00*.ipynb")), reveal), encoding="utf-8")
    page.goto(file.as_uri())
    page.wait_for_function("() => window.Reveal?.isReady()")
    with page.context.expect_page() as window:
        page.keyboard.press("s")
    page.evaluate("""() => {
      const picture = document.querySelector(".slides img").closest("section");
      const { h, v } = Reveal.getIndices(picture);
      Reveal.slide(h, v);
    }""")
    notes = window.value.locator(".speaker-controls-notes")
    notes.get_by_text("The coloured rows are four recordings").wait_for()
