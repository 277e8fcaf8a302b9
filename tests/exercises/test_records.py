"""What a learner has solved is remembered, never in the way, and never in a saved notebook."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import nbformat
import pytest

from course_utils.exercises import EXERCISES, check, progress, records, reset, use
from course_utils.exercises.engine import Verdict

ROOT = pathlib.Path(__file__).parents[2]
FILL = EXERCISES["01.2"]


def half(lengths):
    return 0.5


def inverted(lengths):
    return 1 - FILL.solution(lengths)


def right(lengths):
    return lengths.sum().item() / (len(lengths) * lengths.max().item())


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """The file of a learner's session, which is not there yet."""
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path))
    monkeypatch.delenv("COURSE_ROOM", raising=False)
    return tmp_path / records.NAME


def entry(kept, id="01.2"):
    return json.loads(kept.read_text(encoding="utf-8"))["exercises"][id]


def test_tries_answers_and_misconceptions_are_remembered(kept):
    check("01.2", ...)
    assert not kept.exists(), "a stub is not an attempt"
    check("01.2", inverted)
    name = FILL.misconceptions[0].name
    assert entry(kept)["tried"] == 1 and not entry(kept)["solved"]
    assert entry(kept)["met"] == [check("01.2", inverted).name] and name
    assert entry(kept)["answer"][0] == "def inverted(lengths):"
    check("01.2", right)
    assert entry(kept)["solved"] and entry(kept)["answer"][0] == "def right(lengths):"
    assert entry(kept)["earlier"] == [
        ["def inverted(lengths):", "    return 1 - FILL.solution(lengths)"]
    ]
    # A try afterwards takes nothing away.
    check("01.2", half)
    assert entry(kept)["solved"] and entry(kept)["answer"][0] == "def right(lengths):"
    assert entry(kept)["tried"] == 4
    assert "Delete this file" in kept.read_text().splitlines()[1], "it says what it is"
    assert sorted(os.listdir(kept.parent)) == [records.NAME], "nothing else is left behind"


def test_a_faulty_exercise_is_not_counted(kept):
    records.record(FILL, Verdict("fault", ""), right)
    assert not kept.exists()


def test_progress_counts_exercises_and_minutes_and_names_the_next_step(kept):
    card = progress()
    minutes = sum(one.minutes for one in EXERCISES.values())
    assert f"0 of {len(EXERCISES)} exercises solved, about {minutes} minutes" in repr(card)
    assert card.next[1].id == "00.1"
    for id in ("00.1", "00.2", "01.2"):
        check(id, EXERCISES[id].solution)
    card = progress()
    minutes -= sum(EXERCISES[id].minutes for id in ("00.1", "00.2", "01.2"))
    assert f"3 of {len(EXERCISES)} exercises solved, about {minutes} minutes" in repr(card)
    assert card.next[0].number == "01" and card.next[1].id == "01.1"
    assert "Next: exercise 01.1" in repr(card) and "01  □■□□□" in repr(card)
    html = card._repr_html_()
    assert html.count(": solved") == 3 and html.count("not solved yet") == len(EXERCISES) - 3
    assert "1 of 5" in html and "2 of 2" in html and "done" in html


def test_links_lead_to_the_notebooks_where_these_are(kept, monkeypatch):
    assert "<a " not in progress()._repr_html_()
    monkeypatch.chdir(ROOT / "notebooks")
    links = re.findall(r'<a [^>]*href="([^"]+)"', progress()._repr_html_())
    chapters = list((ROOT / "notebooks").glob("[0-9]*.ipynb"))
    assert len(links) == len(chapters) + 1 and all(pathlib.Path(link).exists() for link in links)


def test_all_solved(kept):
    entries = {id: {"solved": True} for id in EXERCISES}
    kept.write_text(json.dumps({"exercises": entries}))
    card = progress()
    assert card.next is None and "Every exercise is solved" in card._repr_html_()
    assert f"{len(EXERCISES)} of {len(EXERCISES)} exercises solved, all of them" in repr(card)


DAMAGED = [
    "",
    "{",
    "[]",
    "null",
    '{"exercises": 3}',
    '{"exercises": {"01.2": 7}}',
    '{"exercises": {"01.2": {"tried": "x"}}}',
    '{"exercises": {"01.2": {"tried": Infinity}}}',
    '{"exercises": {"01.2": {"answer": 3}}}',
    "[" * 100_000,
    "\xff\xfe",
]


@pytest.mark.parametrize("text", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_file_changes_nothing_and_is_put_aside(kept, text):
    kept.write_text(text, encoding="latin-1")
    assert "0 of" in repr(progress())
    assert reset("01.2").startswith("def fill(lengths): ...")
    verdict = check("01.2", right)
    assert verdict and entry(kept)["solved"]
    aside = kept.with_name(f"damaged_{records.NAME}")
    assert aside.read_text(encoding="latin-1") == text


@pytest.mark.parametrize("place", ["a file", "nowhere"])
def test_where_nothing_can_be_written_nothing_changes(tmp_path, monkeypatch, place):
    # Not by permissions: the tests may run as one who has them all.
    blocked = tmp_path / "blocked"
    if place == "a file":
        blocked.write_text("")
    monkeypatch.setenv("COURSE_PROGRESS", str(blocked))
    monkeypatch.setenv("COURSE_ROOM", str(blocked))
    assert check("01.2", right) and not check("01.2", half)
    assert "0 of" in repr(progress())
    assert reset("01.2")


def test_a_folder_in_place_of_the_file_changes_nothing(kept):
    kept.mkdir()
    assert check("01.2", right) and "0 of" in repr(progress())
    assert os.listdir(kept.parent) == [records.NAME]


def test_a_file_of_another_version_keeps_what_is_not_understood(kept):
    kept.write_text('{"exercises": {"99.9": {"solved": true}}, "more": [1]}')
    check("01.2", right)
    found = json.loads(kept.read_text())
    assert found["more"] == [1] and found["exercises"]["99.9"]["solved"]
    assert f"1 of {len(EXERCISES)}" in repr(progress())


def test_reset_gives_the_stub_back_and_keeps_the_answer(kept):
    check("01.2", right)
    stub = reset("01.2")
    assert repr(stub) == str(stub) and 'check("01.2", fill)' in stub
    assert not entry(kept)["solved"] and entry(kept)["answer"] == []
    assert entry(kept)["earlier"][-1][0] == "def right(lengths):"
    names = {"check": check}
    exec(stub, names)
    assert check("01.2", names["fill"]).kind == "not attempted"
    for _ in range(9):
        check("01.2", right)
        reset("01.2")
    assert len(entry(kept)["earlier"]) == records.KEPT


@pytest.mark.parametrize("one", EXERCISES.values(), ids=EXERCISES)
def test_every_stub_can_be_run_and_has_the_arguments_of_its_notebook(one, kept):
    names = {"check": lambda id, answer: (id, answer)}
    exec(reset(one.id), names)
    found = names[one.solution.__name__].__code__
    expected = one.solution.__code__
    assert found.co_varnames == expected.co_varnames[: expected.co_argcount]


def test_the_cells_below_use_the_learners_function_where_it_is_right(capsys):
    assert use("01.2", right) is right
    assert "your own function is used" in capsys.readouterr().out
    for answer in (half, ..., None):
        assert use("01.2", answer) is FILL.solution
        assert "the course's function is used" in capsys.readouterr().out


def test_the_working_folder_is_used_only_beside_the_notebooks_and_not_by_tools(
    tmp_path, monkeypatch
):
    monkeypatch.delenv("COURSE_PROGRESS", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "00_start_here.ipynb").write_text("{}")
    check("01.2", right)
    assert records.folder() is None, "pytest runs"
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    assert records.folder() == tmp_path
    monkeypatch.setenv("COURSE_PROGRESS", "off")
    assert records.folder() is None
    monkeypatch.delenv("COURSE_PROGRESS")
    (tmp_path / "00_start_here.ipynb").unlink()
    assert records.folder() is None
    assert os.listdir(tmp_path) == []


CELLS = [
    "from course_utils.exercises import EXERCISES, check, progress\n\nprogress()",
    "def fill(lengths):\n    return 0.5\n\n\ncheck('01.2', fill)",
    "progress()",
]


@pytest.fixture
def course(tmp_path):
    """A folder of notebooks of somebody who has solved something."""
    cells = [nbformat.v4.new_code_cell(cell) for cell in CELLS]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "00_start_here.ipynb")
    solved = {"exercises": {"00.1": {"solved": True, "tried": 1}}}
    (tmp_path / records.NAME).write_text(json.dumps(solved))
    return tmp_path


def run(*command, folder, **environment):
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder,
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith(("COURSE_", "PYTEST_"))},
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tools'}",
            **environment,
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


EXECUTE = (
    "import pathlib, nbformat, notebooks\n"
    "notebooks.FOLDER = pathlib.Path()\n"
    "path = pathlib.Path('00_start_here.ipynb').resolve()\n"
    "path.write_text(nbformat.writes(notebooks.execute(path)))"
)


def test_running_the_notebooks_neither_shows_nor_changes_what_was_solved(course):
    before = (course / records.NAME).read_text()
    run("-c", EXECUTE, folder=course)
    saved = (course / "00_start_here.ipynb").read_text()
    assert f"0 of {len(EXERCISES)} exercises solved" in saved and "1 of 3" not in saved
    # And nbval, by itself, finds the same as was saved.
    run(
        *["-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval", "--nbval-current-env"],
        folder=course,
    )
    assert (course / records.NAME).read_text() == before
    # A learner's own session does show and change it.
    code = "from course_utils.exercises import check, progress\n" + CELLS[1] + "\nprint(progress())"
    script = course / "cell.py"
    script.write_text(code)
    assert f"1 of {len(EXERCISES)} exercises solved" in run(script, folder=course)
    assert json.loads((course / records.NAME).read_text())["exercises"]["01.2"]["tried"] == 1


def test_git_ignores_what_a_learner_has_solved():
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("no clone, or no git")
    names = [f"notebooks/{records.NAME}", f"notebooks/damaged_{records.NAME}"]
    done = subprocess.run(["git", "check-ignore", *names], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == names


def test_a_room_counts_without_names_or_answers(tmp_path, monkeypatch):
    room = tmp_path / "room"
    room.mkdir()
    assert "0 learners" in records.room(room, EXERCISES)
    monkeypatch.setenv("COURSE_ROOM", str(room))
    for number in range(3):
        home = tmp_path / f"learner_{number}"
        home.mkdir()
        monkeypatch.setenv("COURSE_PROGRESS", str(home))
        monkeypatch.setattr(records, "_PLACE", f"{number:08x}")
        name = check("01.2", inverted).name
        if number:
            check("01.2", right)
            check("01.1", EXERCISES["01.1"].solution)
    (room / "other.json").write_text("[1]")
    (room / "odd.json").write_text(
        json.dumps({"exercises": {"01.2": {"tried": 1, "met": ["\x1b[2J"]}, "77.7": {}}})
    )
    text = records.room(room, EXERCISES)
    lines = [line.split() for line in text.splitlines()]
    assert text.startswith("4 learners")
    assert ["01.1", "2", "2"] in lines
    assert f"3 × {name}" in text and ["01.2", "4", "2"] in [line[:3] for line in lines]
    assert "\x1b" not in text and "77.7" not in text
    for file in room.iterdir():
        assert "def " not in file.read_text() and "learner" not in file.read_text()


def test_the_room_on_the_command_line(tmp_path):
    command = [sys.executable, "-m", "course_utils.exercises", "--room"]
    done = subprocess.run([*command, tmp_path], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and "Nobody has tried an exercise yet." in done.stdout
    done = subprocess.run([*command, tmp_path / "none"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1 and "there is no such folder" in done.stderr
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1 and "needs the folder to watch" in done.stderr
