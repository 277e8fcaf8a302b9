"""Which cell begins a slide, and that the pages need nothing from outside."""

import re
import subprocess

import nbformat
import pytest
import slides
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import notebooks

PATHS = sorted(slides.FOLDER.glob("*.ipynb"))
BOOKS = {path.name: nbformat.read(path, as_version=4) for path in PATHS}
FILES = {name: f"/* {name} */" for name in ("css", "js", "notes", "license")}
PICTURE = '<img alt="A picture." src="data:image/png;base64,AAAA">'


def shown(html):
    return [new_output("display_data", data={"text/html": html})]


def marked(*cells):
    book = new_notebook(cells=list(cells))
    slides.split_at_headings(book)
    slides.mark(book)
    return book, [cell.metadata["slideshow"]["slide_type"] for cell in book.cells]


# --- the rule ---


def test_headings_pictures_exercises_and_answers_begin_a_slide():
    _, kinds = marked(
        new_markdown_cell("# Title\n\nA word."),
        new_markdown_cell("## Section\n\nA word.\n\n### Predict\n\n*What?*"),
        new_code_cell("print(1)"),
        new_code_cell("panel()", outputs=shown(PICTURE)),
        new_markdown_cell("**What to see.** A bar."),
        new_code_cell('exercise("00.1")', outputs=shown("<p>Write it.</p>")),
        new_code_cell('def f(): ...\n\n\ncheck("00.1", f)'),
        new_markdown_cell("And so on."),
        new_code_cell("print(2)"),
    )
    # The section has few words, so its question stands beneath it.
    expected = ["slide", "slide", "-", "subslide", "subslide", "notes", "subslide", "skip"]
    assert kinds == [*expected, "subslide", "-"]


def test_an_answer_never_stands_beside_its_question():
    _, kinds = marked(
        new_markdown_cell("### Predict\n\n*What?*"),
        new_markdown_cell("**What to see.** Not yet."),
        new_code_cell("print(1)"),
    )
    assert kinds == ["subslide", "notes", "subslide"]


def test_the_options_of_a_question_stand_beside_it_and_its_answer_is_folded():
    book = notebooks.clean(
        new_notebook(
            cells=[
                new_markdown_cell("### Predict\n\n*What?*"),
                new_code_cell('guess = predict("a", "b")', outputs=shown("<ul></ul>")),
                new_code_cell("print(1)"),
                new_code_cell("guess.came_out('a')"),
                new_code_cell("print(2)"),
            ]
        )
    )
    kinds = [cell.metadata["slideshow"]["slide_type"] for cell in book.cells]
    assert kinds == ["subslide", "-", "subslide", "-", "-"]
    folded = [cell.metadata.get("jupyter") == {"outputs_hidden": True} for cell in book.cells]
    assert folded == [False, False, True, True, False]
    book.cells.pop(3)
    assert any("Predict without what came out" in one for one in notebooks.faults(book))


def test_what_does_not_fit_begins_another_slide_and_long_prose_is_spoken():
    ten = "\n".join(["x = 1"] * 10)
    _, kinds = marked(
        new_markdown_cell("# T"),
        *(new_code_cell(ten) for _ in range(4)),
        new_markdown_cell("w " * 300),
    )
    assert kinds == ["slide", "-", "-", "subslide", "-", "notes"]


def test_a_heading_inside_a_cell_gets_a_cell_and_a_name_of_its_own():
    fence = "```\n## not a heading\n```"
    cell = new_markdown_cell(f"First.\n\n## Two\n\n{fence}\n\n### Three\n\nThird.", id="abc")
    book, _ = marked(cell, new_code_cell("## a comment"))
    sources = [one.source for one in book.cells]
    assert sources == ["First.", f"## Two\n\n{fence}", "### Three\n\nThird.", "## a comment"]
    assert [one.id for one in book.cells[:3]] == ["abc", "abc-1", "abc-2"]
    nbformat.validate(book)
    again = nbformat.writes(book)
    slides.split_at_headings(book)
    slides.mark(book)
    assert nbformat.writes(book) == again


def test_marks_set_by_hand_are_found_and_made_anew():
    book = notebooks.clean(new_notebook(cells=[new_markdown_cell("# T"), new_markdown_cell("w")]))
    assert notebooks.faults(book) == []
    book.cells[1].metadata["slideshow"] = {"slide_type": "slide"}
    assert "slides not as marked" in notebooks.faults(book)[0]
    assert notebooks.clean(book).cells[1].metadata["slideshow"] == {"slide_type": "-"}


# --- the chapters ---


@pytest.mark.parametrize("name", BOOKS)
def test_every_chapter_is_marked(name):
    """`notebooks.faults` compares each mark with the rule; here, what the rule made of it."""
    used = []
    for cell in BOOKS[name].cells:
        kind = cell.metadata["slideshow"]["slide_type"]
        used.append(kind)
        heading = re.findall(r"^(##?#?) ", cell.source, re.M)
        if cell.cell_type == "markdown" and heading:
            assert len(heading) == 1 and cell.source.startswith(heading[0])
            assert kind == "slide" if len(heading[0]) < 3 else kind in ("subslide", "-")
        if cell.source.startswith("**What to see.**"):
            assert kind == "notes"
        if slides.has_picture(cell) or slides.is_card(cell):
            assert kind == "subslide"
        assert (kind == "skip") == (cell.cell_type == "code" and 'check("' in cell.source)
    assert used[0] == "slide" and used.count("slide") >= 6
    assert used.count("subslide") > used.count("slide")
    assert used.count("notes") >= 3


# --- the pages ---


def test_a_page_holds_everything_and_asks_nobody():
    for path in PATHS[:2]:
        page = slides.export(path, FILES)
        loads = re.findall(r"<(?:script|link|img|iframe)\b[^>]*?\b(?:src|href)=\"([^\"]+)\"", page)
        assert loads and all(one.startswith("data:") for one in loads)
        assert "@import" not in page and "url(http" not in page
        for name in FILES:
            assert f"/* {name} */" in page
        pictures = sum(slides.has_picture(cell) for cell in BOOKS[path.name].cells)
        assert len(loads) == pictures > 0
        assert "No description has been provided" not in page
        assert page.count("<section") == page.count("</section>") > 10
        assert '<aside class="notes">' in page


def test_on_a_slide_pictures_and_tasks_stand_without_their_code():
    page = slides.export(PATHS[0], FILES)
    assert "Exercise 00.1" in page and "your code here" not in page
    assert "PaddingSlider" not in page and "japanese_vowels" in page
    assert 'href="01_naive_padding.slides.html"' in page
    assert 'href="../../notebooks/glossary.md"' in page


def test_a_chapter_that_is_not_there_is_told(capsys):
    assert slides.main(["77"]) == 2
    assert "begins with '77'" in capsys.readouterr().err


# --- reveal.js ---


def test_without_a_network_the_mend_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(slides, "SLIDES", tmp_path / "slides")
    failed = subprocess.CompletedProcess([], 1, "", "no route to host")
    monkeypatch.setattr(slides.subprocess, "run", lambda *_, **__: failed)
    assert slides.main(["00"]) == 1
    said = capsys.readouterr().err
    assert "pip download --no-deps --require-hashes -r tools/reveal.txt" in said
    assert "put the .whl file into build/slides/" in said and "no route to host" in said


def test_a_file_that_is_not_the_tested_one_is_refused(tmp_path, monkeypatch):
    version = re.search(
        r"sphinx-revealjs==(\S+) --hash=sha256:[0-9a-f]{64}$", slides.LOCK.read_text(), re.M
    )
    monkeypatch.setattr(slides, "SLIDES", tmp_path)
    (tmp_path / f"sphinx_revealjs-{version[1]}-py3-none-any.whl").write_bytes(b"something else")
    with pytest.raises(slides.SlidesError, match="remove it"):
        slides.reveal()
