"""pytest plugin: each notebook's time, peak memory and share of compared cells under nbval.

Use: ``pytest -p tests.nbval_report --nbval … notebooks``. A kernel above the limit fails the
run; time is only printed, since machines differ.
"""

from __future__ import annotations

import sys
from collections import defaultdict

import pytest

LIMIT_MIB = 1024
_rows: dict[str, dict] = defaultdict(lambda: {"seconds": 0.0, "cells": 0, "compared": 0})
_PEAK = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"


def _peak_mib(kernel) -> float:
    """Ask a kernel for its peak resident memory, in MiB."""
    message = kernel.execute_cell_input(_PEAK, allow_stdin=False)
    while True:
        reply = kernel.get_message("iopub", timeout=30)
        if reply["parent_header"].get("msg_id") == message and reply["msg_type"] == "stream":
            # Kilobytes on Linux, bytes on macOS.
            return int(reply["content"]["text"]) / (2**20 if sys.platform == "darwin" else 2**10)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item, nextitem):
    if hasattr(item, "cell"):
        row = _rows[item.path.name]
        outputs = [o for o in item.cell.outputs if o.get("data") or o.get("text")]
        row["cells"] += bool(outputs)
        row["compared"] += bool(outputs) and bool(item.options["check"])
        if nextitem is None or nextitem.parent is not item.parent:
            row["peak"] = _peak_mib(item.parent.kernel)
    return (yield)


def pytest_runtest_logreport(report):
    if report.nodeid.split("::")[0].endswith(".ipynb"):
        _rows[report.nodeid.split("::")[0].rpartition("/")[2]]["seconds"] += report.duration


def pytest_terminal_summary(terminalreporter):
    terminalreporter.section("notebooks")
    terminalreporter.line(f"{'notebook':32}{'seconds':>9}{'peak MiB':>10}{'compared':>10}")
    for name, row in sorted(_rows.items()):
        share = f"{row['compared']}/{row['cells']}"
        peak = row.get("peak", float("nan"))
        terminalreporter.line(f"{name:32}{row['seconds']:9.1f}{peak:10.0f}{share:>10}")


def pytest_sessionfinish(session):
    heavy = [name for name, row in _rows.items() if row.get("peak", 0) > LIMIT_MIB]
    if heavy:
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        reporter.line(f"\nabove {LIMIT_MIB} MiB: {', '.join(heavy)}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
