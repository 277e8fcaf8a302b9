"""The plans of TEACHING.md add up, and what they name exists."""

import itertools
import re
from pathlib import Path

import nbformat
import pytest

from course_utils.exercises import EXERCISES

ROOT = Path(__file__).resolve().parent.parent
TEACHING = (ROOT / "TEACHING.md").read_text()
README = (ROOT / "README.md").read_text()
# Chapter -> minutes, of the README's map.
MAP = {
    number: int(minutes)
    for number, minutes in re.findall(r"^\| \[?(\d\d) .*\| (\d+) \|$", README, re.M)
}
WRITTEN = {path.name[:2]: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}


def section(title: str) -> str:
    """The text under a heading, up to the next one of any level."""
    found = re.search(rf"^##+ {title}\n(.*?)(?=^##|\Z)", TEACHING, re.M | re.S)
    assert found, f"no section {title}"
    return found[1]


def plan(title: str) -> list[tuple[int, int, str, str]]:
    """(start in minutes since midnight, minutes, chapter, what) for each row."""
    rows = re.findall(r"^\| (\d\d):(\d\d) \| (\d+) \| (\S+) \| (.+) \|$", section(title), re.M)
    assert len(rows) > 10
    return [(60 * int(h) + int(m), int(n), chapter, what) for h, m, n, chapter, what in rows]


PLANS = {
    title: plan(title)
    for title in ("Half a day", "Day one", "Day two", "One more morning", "One more afternoon")
}


@pytest.mark.parametrize("title", PLANS)
def test_each_row_ends_where_the_next_begins(title):
    rows = PLANS[title]
    for (start, minutes, _, what), (then, *_) in itertools.pairwise(rows):
        assert start + minutes == then, what
        assert minutes > 0
    assert rows[-1][1:] == (0, "–", "End")


@pytest.mark.parametrize("title", PLANS)
def test_nobody_sits_longer_than_100_minutes(title):
    since = PLANS[title][0][0]
    for start, minutes, _, what in PLANS[title]:
        if what.startswith(("Break", "Lunch")):
            assert minutes >= 15
            since = start + minutes
        assert start + minutes - since <= 100, what


@pytest.mark.parametrize("title", PLANS)
def test_exercises_are_in_their_chapter_with_their_own_minutes(title):
    for _, minutes, chapter, what in PLANS[title]:
        for id, stated in re.findall(r"(\d\d\.\d) \((\d+)\)", what):
            assert id[:2] == chapter and EXERCISES[id].minutes == int(stated) == minutes
        assert chapter == "–" or chapter in MAP


def test_the_days_give_every_chapter_its_minutes_and_all_its_exercises():
    rows = PLANS["Day one"] + PLANS["Day two"] + PLANS["One more morning"]
    rows = rows + PLANS["One more afternoon"]
    for chapter in WRITTEN:
        assert sum(n for _, n, own, _ in rows if own == chapter) == MAP[chapter], chapter
    named = [id for *_, what in rows for id in re.findall(r"\d\d\.\d", what)]
    assert named == list(EXERCISES), "in the chapters' order, each once"


def test_half_a_day_says_how_many_exercises_and_how_long():
    rows = PLANS["Half a day"]
    assert rows[-1][0] - rows[0][0] == 3 * 60 + 45
    assert sum("(" in what and bool(re.match(r"\d\d\.\d", what)) for *_, what in rows) == 4


def test_what_can_be_cut_adds_up():
    rows = re.findall(r"^\| (\d\d\.\d) \| (\d+) \| .+ \|$", section("What to cut"), re.M)
    assert rows and all(EXERCISES[id].minutes == int(minutes) for id, minutes in rows)
    stated = re.search(r"Together that is (\d+) minutes", TEACHING)[1]
    assert sum(int(minutes) for _, minutes in rows) == int(stated)
    day_one = sum(int(n) for id, n in rows if any(id in what for *_, what in PLANS["Day one"]))
    assert f"{day_one} of them on day one" in section("What to cut")
    half_cut = re.search(
        r"there cut 02's .*? \((\d+).*?06's .*? \((\d+)\).*?04's .*? \((\d+)\)", TEACHING
    )
    minutes = {(chapter, n) for _, n, chapter, _ in PLANS["Half a day"]}
    assert {*zip(("02", "06", "04"), map(int, half_cut.groups()), strict=True)} <= minutes
    kept = re.findall(r"\d\d\.\d", re.search(r"Keep (.*?):", section("What to cut"))[1])
    assert kept and not set(kept) & {id for id, _ in rows}
    half = {id for *_, what in PLANS["Half a day"] for id in re.findall(r"^\d\d\.\d", what)}
    assert half <= set(kept)


def test_every_exercise_and_target_that_is_named_exists():
    for id in re.findall(r"\b\d\d\.\d\b", TEACHING):
        assert id in EXERCISES
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.M)[1].split()
    assert set(re.findall(r"`make (\w+)`", TEACHING)) <= set(targets)
    for link in re.findall(r"\]\((?!https?:|#)([^)]+)\)", TEACHING):
        assert (ROOT / link).exists(), link
    anchors = {
        re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-")
        for one in re.findall(r"^##+ (.+)$", TEACHING, re.M)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", TEACHING)) <= anchors


def panels() -> dict[str, str]:
    """Name of each panel -> chapter: what a notebook imports from the panels."""
    found = {}
    for chapter, path in WRITTEN.items():
        for cell in nbformat.read(path, as_version=4).cells:
            line = r"^from course_utils\.panels\.(?!predict)\w+ import (\w+)"
            imports = re.findall(line, cell.source, re.M) if cell.cell_type == "code" else []
            found |= dict.fromkeys(imports, chapter)
    return found


def test_there_are_words_for_every_panel_and_a_note_for_every_chapter():
    named = dict(
        re.findall(r"^\| `(\w+)` \| (\d\d) \|", section("What to say before each panel"), re.M)
    )
    assert named == panels() and len(named) > 6
    for chapter in WRITTEN:
        assert f"**{chapter}.**" in section("Where people get stuck")


def test_there_are_ten_questions():
    numbers = re.findall(
        r"^(\d+)\. \*\*[^*]+\?\*\*", section("Ten questions that people ask"), re.M
    )
    assert [int(one) for one in numbers] == list(range(1, 11))


def test_the_readme_leads_here():
    assert "(TEACHING.md)" in README
