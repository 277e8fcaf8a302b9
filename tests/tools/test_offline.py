"""A command in a network of loopback alone: what it reaches, and what is said without one."""

import json
import os
import subprocess
import sys

import doctor
import offline
import pytest

TOOL = doctor.ROOT / "tools/offline.py"
WAYS = """
import json, socket
def tried(what):
    try:
        return what() and "reached"
    except OSError as error:
        return type(error).__name__
with socket.create_server(("127.0.0.1", 0)) as server:
    here = tried(lambda: socket.create_connection(server.getsockname()))
address = tried(lambda: socket.create_connection(("192.0.2.1", 80), timeout=60))
name = tried(lambda: socket.getaddrinfo("example.org", 80))
print(json.dumps([here, address, name]))
"""


def run(*command: str, **variables: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, TOOL, *command],
        env=os.environ | variables,
        capture_output=True,
        text=True,
    )


def test_nothing_but_this_machine_answers():
    if why := offline.cut():
        pytest.skip(f"the network cannot be cut here: {why}")
    done = run(sys.executable, "-c", WAYS)
    assert done.returncode == 0, done.stderr
    said, answers = done.stdout.splitlines()
    assert said == "With the network cut: only this machine itself answers."
    # "Network is unreachable" is a plain OSError: at once, where a time-out would be another.
    assert json.loads(answers) == ["reached", "OSError", "gaierror"]


def test_the_command_keeps_its_exit_status():
    assert run(sys.executable, "-c", "raise SystemExit(7)").returncode == 7


@pytest.mark.parametrize(("must", "status", "ran"), [("0", 0, "ran\n"), ("1", 1, "")])
def test_where_it_cannot_be_cut(tmp_path, must, status, ran):
    """No `unshare` on the PATH: said, and then refused only where it must be cut."""
    done = run(sys.executable, "-c", "print('ran')", PATH=str(tmp_path), OFFLINE=must)
    assert (done.returncode, done.stdout) == (status, ran)
    assert "The network cannot be cut here" in done.stderr and "unshare" in done.stderr


def test_a_way_out_is_seen(monkeypatch):
    """Loopback stands for elsewhere: so this holds on a machine without a network too."""
    monkeypatch.setattr(offline, "ELSEWHERE", {offline.socket.AF_INET: "127.0.0.2"})
    assert offline.fault() == "there is a way to 127.0.0.2"
