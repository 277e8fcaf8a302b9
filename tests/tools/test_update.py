"""`make update`: a new version arrives, and no answer is lost."""

import os
import subprocess
import sys

import doctor
import nbformat
import pytest
import update

from tests.tools.test_hub import FIRST, MINE, ROOT, answer, commit, edit, git, stub

NEW = nbformat.v4.new_markdown_cell("A new cell.")


@pytest.fixture
def cloned(tmp_path):
    """The course in a repository, with a newer version than the learner's clone of it has."""
    course, learner = tmp_path / "course", tmp_path / "learner"
    (course / "notebooks").mkdir(parents=True)
    (course / FIRST).write_bytes((ROOT / FIRST).read_bytes())
    git(course, "init", "--initial-branch=main")
    commit(course)
    subprocess.run(["git", "clone", "-q", course.as_uri(), learner], check=True)
    new_version(course)
    return course, learner


def new_version(course):
    edit(course, lambda book: book.cells.insert(9, NEW))
    edit(course, lambda book: book.cells[2].update(source=book.cells[2].source + "\n\nMore."))
    commit(course)


def book_of(folder):
    book = nbformat.read(folder / FIRST, as_version=4)
    nbformat.validate(book)
    return book


def open_elsewhere(book):
    """What another JupyterLab writes into a notebook that is only opened."""
    book.metadata.kernelspec.display_name = "My Python"
    book.metadata.language_info.version = "3.12.4"
    book.metadata.widgets = {"application/vnd.jupyter.widget-state+json": {"state": {}}}


def run(book):
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.execution_count += 31
            cell.metadata.execution = {"iopub.status.idle": "2026-01-01T00:00:00Z"}
            cell.outputs.append(nbformat.v4.new_output("stream", text="0.123 s, here\n"))
    open_elsewhere(book)


def work(book):
    run(book)
    answer(book)


@pytest.mark.parametrize("done", [None, open_elsewhere, run, work])
def test_what_is_new_arrives_and_what_was_done_stays(cloned, done):
    course, learner = cloned
    if done:
        edit(learner, done)
    before, said = book_of(learner), []
    update.update(learner, say=said.append)
    after = book_of(learner)
    assert "A new cell." in [cell.source for cell in after.cells]
    assert after.cells[2].source.endswith("More.")
    assert said[0] == "The newest version is here."
    assert (stub(after).source == MINE) is (done is work)
    if done is None:
        assert (learner / FIRST).read_bytes() == (course / FIRST).read_bytes() and len(said) == 1
        return
    assert after.metadata == before.metadata
    (copy,) = (learner / "notebook-copies").rglob("*.ipynb")
    assert nbformat.read(copy, as_version=4) == before
    assert FIRST.split("/")[1] in said[1] and str(copy.parent) in said[1]
    kept = {cell.id: cell for cell in after.cells}
    for cell in before.cells:
        if cell.cell_type == "code":
            assert kept[cell.id] == cell


def test_the_second_update_keeps_what_the_first_merged(cloned):
    course, learner = cloned
    edit(learner, work)
    update.update(learner, say=lambda _: None)
    said = []
    update.update(learner, say=said.append)
    assert said == ["This is the newest version already."]
    edit(course, lambda book: book.cells.insert(20, nbformat.v4.new_markdown_cell("Newer still.")))
    commit(course)
    update.update(learner, say=said.append)
    sources = [cell.source for cell in book_of(learner).cells]
    assert {MINE, "A new cell.", "Newer still."} <= set(sources)


def test_a_notebook_that_cannot_be_read_after_the_merge_is_the_learners_again(cloned):
    course, learner = cloned
    edit(learner, answer)
    text = (course / FIRST).read_text()
    (course / FIRST).write_text(text.replace(' "nbformat": 4,\n', ' "nbformat": ,\n'))
    commit(course)
    before, said = (learner / FIRST).read_bytes(), []
    update.update(learner, say=said.append)
    assert (learner / FIRST).read_bytes() == before
    assert "could not be merged, and stays as you had it" in said[0]


def test_where_there_is_nothing_to_fetch_from_a_sentence_says_so(tmp_path, cloned, monkeypatch):
    _, learner = cloned
    edit(learner, answer)
    before = (learner / FIRST).read_bytes()
    git(learner, "switch", "-c", "mine")
    with pytest.raises(update.UpdateError, match="no branch 'mine': git switch main"):
        update.update(learner)
    git(learner, "switch", "main")
    git(learner, "remote", "set-url", "origin", (tmp_path / "nowhere").as_uri())
    with pytest.raises(update.UpdateError, match=r"Check the network.*as they were"):
        update.update(learner)
    git(learner, "remote", "remove", "origin")
    with pytest.raises(update.UpdateError, match="did not come from git clone"):
        update.update(learner)
    assert (learner / FIRST).read_bytes() == before
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(update.UpdateError, match="git is not installed"):
        update.update(learner)


def test_a_repository_around_the_course_is_left_alone(cloned):
    _, theirs = cloned
    (theirs / "unzipped/notebooks").mkdir(parents=True)
    (theirs / "mine.txt").touch()
    git(theirs, "add", "mine.txt")
    with pytest.raises(update.UpdateError, match="did not come from git clone"):
        update.update(theirs / "unzipped")
    git(theirs, "diff", "--quiet")
    with pytest.raises(subprocess.CalledProcessError):
        git(theirs, "diff", "--cached", "--quiet")  # what was staged still is


def test_main_ends_in_a_plain_line(cloned, monkeypatch, capsys):
    _, learner = cloned
    monkeypatch.setattr(update.update, "__defaults__", (learner, print))
    assert update.main() == 0 and "newest version is here" in capsys.readouterr().out
    git(learner, "remote", "remove", "origin")
    assert update.main() == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "did not come from git clone" in line


@pytest.mark.skipif(os.name == "nt", reason="make is for Linux and macOS")
def test_make_updates_and_then_brings_the_packages_up_to_date():
    command = ["make", "--dry-run", "update", f"PYTHON={sys.executable}"]
    done = subprocess.run(command, cwd=doctor.ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    merged, after = done.stdout.split("tools/update.py")
    assert "tools/install.py" in merged and "tools/install.py" in after
