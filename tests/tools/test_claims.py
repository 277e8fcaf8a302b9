"""The tool that runs the notebooks with other kernels, threads and seeds."""

import claims
import nbformat
import pytest
import yaml

SOURCES = {
    "print(1)": "1\n",
    "import torch\ntorch.manual_seed(7)\nprint(torch.initial_seed())": "7\n",
    "print(torch.Generator().manual_seed(7).initial_seed())": "7\n",
    "print(torch.get_num_threads())": "1\n",
    "print(torch.randn(2, generator=torch.Generator().manual_seed(1007)).shape)": (
        "torch.Size([2])\n"
    ),
}


@pytest.fixture
def book(tmp_path):
    notebook = nbformat.v4.new_notebook()
    for count, (source, printed) in enumerate(SOURCES.items(), 1):
        output = nbformat.v4.new_output("stream", name="stdout", text=printed)
        cell = nbformat.v4.new_code_cell(source, outputs=[output], execution_count=count)
        notebook.cells += [nbformat.v4.new_markdown_cell("prose"), cell]
    notebook.cells[5].metadata["tags"] = ["other-seed: prints the seed", "hide-input"]
    path = tmp_path / "09_tiny.ipynb"
    nbformat.write(notebook, path)
    return path


@pytest.mark.parametrize(
    "changes, moved",
    [({}, []), ({"OMP_NUM_THREADS": "2"}, [3]), ({"SEED_OFFSET": "1000"}, [1, 2])],
)
def test_a_run_names_the_cells_that_come_out_differently(book, changes, moved, tmp_path):
    assert claims.run(book, "one", changes, tmp_path / "log") == moved
    said = (tmp_path / "log" / "09-one.txt").read_text()
    assert "5 passed" in said if not moved else "failed" in said


def test_a_cell_that_raises_has_come_out_differently(book, tmp_path):
    notebook = nbformat.read(book, as_version=4)
    notebook.cells[1].source = "1 / 0"
    nbformat.write(notebook, book)
    assert claims.run(book, "one", {}, tmp_path / "log") == [0]


def test_nothing_that_another_run_has_compiled_is_found(book, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    notebook = nbformat.read(book, as_version=4)
    notebook.cells[1].source = (
        "import os\nfolder = os.environ['TORCHINDUCTOR_CACHE_DIR']\n"
        f"assert folder != {str(tmp_path)!r} and os.listdir(folder) == []"
    )
    notebook.cells[1].outputs = []
    nbformat.write(notebook, book)
    assert claims.run(book, "one", {}, tmp_path / "log") == []


def test_a_run_that_never_comes_to_the_cells_is_no_success(tmp_path):
    with pytest.raises(RuntimeError, match=r"05_gone\.ipynb, plain: pytest ended with 4"):
        claims.run(tmp_path / "05_gone.ipynb", "plain", {}, tmp_path / "log")


def test_cells_are_counted_as_nbval_does_and_known_by_what_they_print(book):
    cells = claims.cells_of(book)
    assert [cell.number for cell in cells] == [0, 1, 2, 3, 4]
    assert [cell.reason for cell in cells] == ["", "", "prints the seed", "", ""]
    assert cells[1].first_line == "print(torch.initial_seed())"


def test_a_table_lets_random_numbers_move_with_seeds_alone(book):
    cells = claims.cells_of(book)
    lines, wrong = claims.table(cells, {"plain": set(), "seeds+1000": {2}})
    assert not wrong and len(lines) == 2 and "o" in lines[1] and "X" not in lines[1]
    assert claims.table(cells, {"plain": {2}, "seeds+1000": set()})[1]
    lines, wrong = claims.table(cells, {"avx2": {3}, "seeds+1000": {1, 2}})
    assert wrong and [line.count("X") for line in lines] == [0, 1, 0, 1]
    assert claims.table(cells, {"avx2": set()}) == ([], False)


def test_settings_vary_one_thing_each_and_seeds_are_far_apart():
    found = claims.settings(seeds=5)
    assert found["plain"] == {} and found["threads"] == {"OMP_NUM_THREADS": "2"}
    offsets = [int(one["SEED_OFFSET"]) for one in found.values() if "SEED_OFFSET" in one]
    assert len(offsets) == 5 and min(offsets) >= 1000
    if "oldest" in found:
        assert found["oldest"] == found["scalar"] | found["sse41"]


@pytest.mark.parametrize(
    "names, chosen",
    [
        (["plain", "scalar", "avx2", "oldest", "threads"], "avx2"),
        (["plain", "scalar", "oldest", "threads"], "oldest"),
        (["plain", "threads"], "threads"),
    ],
)
def test_the_other_setting_is_never_the_plain_one(names, chosen):
    assert claims.other(names) == chosen


def test_a_name_that_fits_nothing_is_told(capsys):
    assert claims.main(["99"]) == 2
    assert "No notebook begins with ['99']" in capsys.readouterr().err
    assert claims.main(["--setting", "quantum"]) == 2
    assert "No setting is so named" in capsys.readouterr().err


def test_public_ci_runs_every_notebook_on_linux_and_on_arm():
    path = claims.ROOT / ".github/workflows/claims.yml"
    job = yaml.safe_load(path.read_text())["jobs"]["claims"]
    matrix = job["strategy"]["matrix"]
    assert matrix["notebook"] == sorted(one.name[:2] for one in claims.FOLDER.glob("*.ipynb"))
    assert {"ubuntu-latest", "macos-latest"} <= set(matrix["os"])
    assert any("make claims" in step.get("run", "") for step in job["steps"])
