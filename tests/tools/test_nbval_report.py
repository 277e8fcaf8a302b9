"""The limits of a notebook's run: what the table says, and that it fails where it should."""

import math
import queue
import re
import subprocess
import sys

import doctor
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from tests.nbval_report import Row, ask

TABLE = r"small\.ipynb +\d+\.\d +(\d+) +(\d+/\d+) +(\d+)%"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (Row(peak=1024, cells=20, compared=17), []),
        (Row(peak=1024, seconds=9999), []),
        (Row(peak=1025), ["its kernel took 1025 MiB, and 1024 are allowed"]),
        (Row(peak=1025, cuda=True), []),
        (Row(), ["peak memory is not known"]),
        (Row(peak=1, cells=37, compared=31), ["31 of 37 cells with output are compared"]),
        (Row(peak=math.nan, cells=1), ["not known", "0 of 1"]),
    ],
)
def test_what_fails(row, said):
    found = row.faults()
    assert len(found) == len(said)
    assert all(words in fault for words, fault in zip(said, found, strict=True))


class Kernel:
    """One that answers with these messages, as nbval's does."""

    def __init__(self, *contents: dict) -> None:
        self.contents = iter(contents)

    def is_alive(self):
        return True

    def execute_cell_input(self, code, allow_stdin):
        return "asked"

    def get_message(self, channel, timeout):
        content = next(self.contents, None)
        if content is None:
            raise queue.Empty
        return {"parent_header": {"msg_id": content.pop("to", "asked")}, "content": content}


IDLE = {"execution_state": "idle"}


@pytest.mark.parametrize(
    "contents",
    [
        ({"text": "2097152 False\n"}, IDLE),
        ({"text": "2097152"}, {"text": " False\n"}, IDLE),
        ({"to": "the cell before", "text": "5 True"}, {"text": "2097152 False\n"}, IDLE),
    ],
)
def test_a_kernel_is_asked_and_may_answer_in_parts(contents, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    assert ask(Kernel(*[dict(one) for one in contents])) == (2048, False)


@pytest.mark.parametrize("contents", [(), (IDLE,), ({"text": "2097152"}, IDLE)])
def test_a_kernel_that_does_not_say_is_not_known(contents):
    peak, cuda = ask(Kernel(*[dict(one) for one in contents]))
    assert math.isnan(peak) and not cuda


def run(folder, *cells: nbformat.NotebookNode, options=()):
    """Run a notebook of these cells under nbval, with the table: the finished process."""
    book = new_notebook(cells=cells)
    book.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(book, folder / "small.ipynb")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["-p", "tests.nbval_report", "--nbval", "--nbval-current-env"]
    command += [*options, "--rootdir", str(folder), str(folder / "small.ipynb")]
    return subprocess.run(command, cwd=doctor.ROOT, capture_output=True, text=True)


def cell(source: str, *outputs, **metadata):
    return new_code_cell(source, outputs=list(outputs), execution_count=1, metadata=metadata)


def printed(text: str):
    return new_output("stream", name="stdout", text=f"{text}\n")


@pytest.mark.parametrize("options", [(), ("-n", "2", "--dist", "loadfile")])
def test_a_share_too_low_fails_a_run_whose_cells_all_pass(tmp_path, options):
    ignored = {"tags": ["nbval-ignore-output"]}
    done = run(
        tmp_path,
        cell("one = bytearray(200 * 2**20)"),  # no output: not counted
        cell("print(1)", printed("1")),
        cell("import time; print(time.time())", printed("0"), **ignored),
        options=options,
    )
    assert "3 passed" in done.stdout and done.returncode == 1, done.stdout + done.stderr
    peak, counts, share = re.search(TABLE, done.stdout).groups()
    assert (counts, share) == ("1/2", "50")
    assert int(peak) > 200
    assert "small.ipynb: 1 of 2 cells with output are compared" in done.stdout


def test_a_cell_of_pixels_alone_is_not_compared_and_the_rest_may_pass(tmp_path):
    pixels = new_output("display_data", data={"image/png": "iVBORw0KGgo="})
    show = 'from IPython.display import display\ndisplay({"image/png": "AAAA"}, raw=True)'
    texts = [cell(f"print({i})", printed(str(i))) for i in range(6)]
    done = run(tmp_path, cell(show, pixels), *texts)
    assert "7 passed" in done.stdout and done.returncode == 0, done.stdout + done.stderr
    assert re.search(TABLE, done.stdout).group(2) == "6/7"
