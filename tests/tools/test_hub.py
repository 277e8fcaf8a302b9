"""The values for a JupyterHub, its links, and what a pull does to a learner's work."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import nbformat
import pytest
import yaml
from docker.utils.build import exclude_paths  # what repo2docker asks
from traitlets.config import Config

ROOT = Path(__file__).resolve().parents[2]
TEACHING = (ROOT / "TEACHING.md").read_text()
VALUES = yaml.safe_load((ROOT / "hub/values.yaml").read_text())
FIRST = "notebooks/00_start_here.ipynb"
MINE = 'def agrees(model, sequences):\n    return "mine"\n\n\ncheck("00.1", agrees)'


def test_values_are_for_this_release_and_say_that_nobody_has_tried_them():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert VALUES["singleuser"]["image"]["tag"] == project["version"]
    assert "Untried on a cluster" in (ROOT / "hub/values.yaml").read_text()
    assert "untried on a cluster" in TEACHING


def test_memory_and_cores_are_enough_and_add_up():
    """GiB measured: a server .12, the largest chapter's kernel .82."""
    single = VALUES["singleuser"]
    memory = {key: float(value.removesuffix("G")) for key, value in single["memory"].items()}
    assert memory["guarantee"] >= 0.12 + 0.82 and memory["limit"] >= 0.12 + 2 * 0.82
    learners = int(re.search(r"for (\d+) learners", (ROOT / "hub/values.yaml").read_text())[1])
    assert f"{learners} learners: {learners * memory['guarantee']:.0f} GiB" in TEACHING
    assert f"{learners * single['cpu']['guarantee']:.0f} cores" in TEACHING
    assert single["cpu"]["limit"] >= 1 and single["extraEnv"]["OMP_NUM_THREADS"] == "1"


def test_what_is_pulled_lies_on_the_learners_disk():
    """The chart mounts it at /home/jovyan; nbgitpuller pulls into a server's own folder."""
    c = Config()
    for lines in VALUES["hub"]["extraConfig"].values():
        exec(lines, {"c": c})
    assert c.KubeSpawner.working_dir == "/home/jovyan"
    assert "homeMountPath" not in VALUES["singleuser"]["storage"]


def test_a_kernel_outlives_lunch():
    settings = VALUES["singleuser"]["extraFiles"]["kernels"]["data"]["MappingKernelManager"]
    lunches = [int(one) for one in re.findall(r"\| (\d+) \| – \| Lunch", TEACHING)]
    assert lunches and VALUES["cull"]["timeout"] > settings["cull_idle_timeout"]
    assert settings["cull_idle_timeout"] > 60 * max(lunches)


def test_the_image_takes_no_environment_of_this_machine_along():
    left_out = (ROOT / "binder/.dockerignore").read_text().split()
    added = exclude_paths(ROOT, left_out)
    assert "Makefile" in added
    assert not any(one.split("/")[0] in (".venv", ".bench", "build") for one in added)


def test_the_image_does_not_lie_where_the_hub_mounts_the_learners_disk():
    command = [sys.executable, str(Path(sys.executable).with_name("jupyter-repo2docker"))]
    asked = re.search(r"--target-repo-dir (\S+)", TEACHING)[1]
    assert not asked.startswith("/home/jovyan")
    options = ["--no-build", "--debug", "--target-repo-dir", asked, "."]
    done = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True)
    assert 'R2D_ENTRYPOINT="${REPO_DIR}/binder/start"' in done.stdout
    assert "- nbgitpuller==" in (ROOT / "binder/environment.yml").read_text()


def test_links_lead_to_what_there_is():
    links = re.findall(r"https://HUB/\S*git-pull\?[^\s`]+", TEACHING)
    assert links
    for link in links:
        query = parse_qs(urlsplit(link).query)
        assert query["repo"] == ["https://github.com/OWNER/REPOSITORY"]
        assert query["branch"] == ["main"]
        place = query["urlpath"][0].removeprefix("lab/tree/REPOSITORY/")
        assert (ROOT / place).exists()


# --- what a pull does ---


@pytest.fixture
def pulled(tmp_path):
    """The course in a repository, and a learner's folder that was pulled from it once."""
    course, learner = tmp_path / "course", tmp_path / "learner"
    (course / "notebooks").mkdir(parents=True)
    (course / FIRST).write_bytes((ROOT / FIRST).read_bytes())
    git(course, "init", "--initial-branch=main")
    commit(course)
    pull(course, learner)
    return course, learner


def git(folder, *arguments):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    subprocess.run(command, check=True, capture_output=True)


def commit(folder):
    git(folder, "add", "--all")
    git(folder, "commit", "-m", "a change")


def pull(course, learner):
    command = [str(Path(sys.executable).with_name("gitpuller")), course.as_uri(), "main"]
    subprocess.run([*command, str(learner)], check=True, capture_output=True)


def edit(folder, change):
    book = nbformat.read(folder / FIRST, as_version=4)
    change(book)
    nbformat.write(book, folder / FIRST)


def stub(book):
    return next(cell for cell in book.cells if 'check("00.1"' in cell.source)


def answer(book):
    stub(book).source = MINE
    # Running the notebook changes a number in every cell.
    for cell in book.cells:
        if cell.cell_type == "code":
            cell.execution_count += 7


def test_an_answer_stays_and_a_new_cell_arrives(pulled):
    course, learner = pulled
    edit(learner, answer)
    new = nbformat.v4.new_markdown_cell("A new cell.")
    edit(course, lambda book: book.cells.insert(9, new))
    commit(course)
    pull(course, learner)
    book = nbformat.read(learner / FIRST, as_version=4)
    nbformat.validate(book)
    assert stub(book).source == MINE and "A new cell." in [cell.source for cell in book.cells]


def test_where_both_changed_a_cell_the_learners_stays(pulled):
    course, learner = pulled
    edit(learner, answer)
    edit(course, lambda book: stub(book).update(source='check("00.1", None)'))
    commit(course)
    pull(course, learner)
    assert stub(nbformat.read(learner / FIRST, as_version=4)).source == MINE


def test_a_file_in_the_way_is_renamed_and_a_deleted_one_comes_back(pulled):
    course, learner = pulled
    (learner / FIRST).unlink()
    (learner / "notebooks/07_mine.ipynb").write_text("the learner's")
    (course / "notebooks/07_mine.ipynb").write_text("the course's")
    commit(course)
    pull(course, learner)
    assert (learner / FIRST).exists()
    (kept,) = (learner / "notebooks").glob("07_mine__*.ipynb")
    assert kept.read_text() == "the learner's"
    assert (learner / "notebooks/07_mine.ipynb").read_text() == "the course's"
