"""pytest plugin: each notebook's time, peak memory and share of compared cells under nbval.

Use: ``pytest -p tests.nbval_report --nbval … notebooks``, with pytest-xdist too. Fails the run
where a kernel takes more memory than ``PEAK_MIB``, or where fewer than ``SHARE`` of the code cells
with output are compared. Time is told and never fails: machines differ. Nor does memory with a
CUDA build of torch: its libraries alone take hundreds of MiB. Of processes that a kernel starts,
nothing is known.
"""

from __future__ import annotations

import math
import queue
import sys
from collections import defaultdict
from dataclasses import asdict, dataclass

import pytest

SECONDS = 120
PEAK_MIB = 1024
SHARE = 0.85
_ASK = """
import resource, sys
cuda = "torch" in sys.modules and sys.modules["torch"].version.cuda
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, bool(cuda))
"""


@dataclass
class Row:
    """What is known of one notebook.

    `peak` is in MiB, NaN where its kernel did not say; `cuda`: its torch is a CUDA build.
    """

    seconds: float = 0.0
    cells: int = 0
    compared: int = 0
    peak: float = math.nan
    cuda: bool = False

    def faults(self) -> list[str]:
        """What fails the run, in words."""
        found = []
        if math.isnan(self.peak):
            found.append("its kernel's peak memory is not known")
        if self.peak > PEAK_MIB and not self.cuda:
            found.append(f"its kernel took {self.peak:.0f} MiB, and {PEAK_MIB} are allowed")
        if self.compared < SHARE * self.cells:
            found.append(
                f"{self.compared} of {self.cells} cells with output are compared, "
                f"and {SHARE:.0%} should be: a cell beside one with `nbval-ignore-output` can "
                "print what is true on every machine"
            )
        return found


def ask(kernel) -> tuple[float, bool]:
    """`peak` and `cuda` of a row, as a kernel of nbval's tells them."""
    if not kernel.is_alive():
        return math.nan, False
    message, said = kernel.execute_cell_input(_ASK, allow_stdin=False), ""
    try:
        while True:
            reply = kernel.get_message("iopub", timeout=30)
            if reply["parent_header"].get("msg_id") != message:
                continue
            said += reply["content"].get("text", "")  # one line may come in several messages
            if reply["content"].get("execution_state") == "idle":
                peak, cuda = said.split()
                # Kilobytes on Linux, bytes on macOS.
                return int(peak) / (2**20 if sys.platform == "darwin" else 2**10), cuda == "True"
    except (queue.Empty, ValueError):
        return math.nan, False


def is_compared(item) -> bool:
    """True where nbval compares anything of the cell: pixels and numbers of widgets it skips."""
    shown = {key for output in item.cell.outputs for key in [*output, *output.get("data", {})]}
    return bool(item.options["check"] and shown - {"data", *item.parent.skip_compare})


class Report:
    """The hooks, and what they have seen: notebook -> row."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = defaultdict(Row)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item, nextitem):
        if hasattr(item, "cell"):
            row = self.rows[item.path.name]
            row.cells += bool(item.cell.outputs)
            row.compared += bool(item.cell.outputs) and is_compared(item)
            if nextitem is None or nextitem.parent is not item.parent:
                row.peak, row.cuda = ask(item.parent.kernel)
        return (yield)

    def pytest_runtest_logreport(self, report):
        path = report.nodeid.split("::")[0]
        if path.endswith(".ipynb"):
            self.rows[path.rpartition("/")[2]].seconds += report.duration

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node):
        # What a worker of xdist has seen of cells and memory; of seconds it sends reports.
        for name, found in getattr(node, "workeroutput", {}).get("notebooks", {}).items():
            self.rows[name] = Row(**found | {"seconds": self.rows[name].seconds})

    def pytest_sessionfinish(self, session):
        if hasattr(session.config, "workeroutput"):
            seen = {name: asdict(row) for name, row in self.rows.items() if row.cells}
            session.config.workeroutput["notebooks"] = seen
            return  # the verdict is the controller's
        if session.exitstatus == 0 and any(row.faults() for row in self.rows.values()):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter):
        write = terminalreporter.write_line
        terminalreporter.section("notebooks")
        write(f"{'notebook':32}{'seconds':>9}{'peak MiB':>10}{'compared':>10}{'share':>7}")
        for name, row in sorted(self.rows.items()):
            counts, share = f"{row.compared}/{row.cells}", row.compared / max(row.cells, 1)
            line = f"{name:32}{row.seconds:9.1f}{row.peak:10.0f}{counts:>10}{share:7.0%}"
            late = f"  over {SECONDS} s" if row.seconds > SECONDS else ""
            write(line + late + ("  CUDA build" if row.cuda else ""))
        for name, row in sorted(self.rows.items()):
            for fault in row.faults():
                write(f"{name}: {fault}", red=True)


def pytest_configure(config):
    config.pluginmanager.register(Report())
