"""Run a command where only this machine answers: in a network of its own, with only a loopback.

`python tools/offline.py COMMAND …` needs Linux, and the right to make namespaces (`unshare`, of
util-linux). Where it lacks these, it says so, and runs the command as it is; with OFFLINE=1 it
refuses instead. It uses only the standard library.
"""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import sys

# Addresses reserved for examples (RFC 5737, RFC 3849), which nobody has.
ELSEWHERE = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


def loopback_up() -> None:
    """Switch the interface `lo` on, as `ip link set lo up` does; in a new network it is off."""
    from fcntl import ioctl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        flags = struct.unpack_from("H", ioctl(control, SIOCGIFFLAGS, b"lo".ljust(40, b"\0")), 16)[0]
        ioctl(control, SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", flags | IFF_UP))


def fault() -> str | None:
    """Why this is not a network of loopback alone; None where it is, as tried just now."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), timeout=5).close()
    except OSError as error:
        return f"loopback does not answer ({error})"
    for family, address in ELSEWHERE.items():
        try:
            # For UDP, connecting only looks for a way there: nothing is sent.
            with socket.socket(family, socket.SOCK_DGRAM) as way:
                way.connect((address, 9))
            return f"there is a way to {address}"
        except OSError:
            pass
    return None


def cut() -> str | None:
    """Why the network cannot be cut here, None where it can."""
    unshare = shutil.which("unshare")
    if not sys.platform.startswith("linux") or unshare is None:
        return "it needs Linux, and util-linux's `unshare`"
    command = [unshare, "--map-root-user", "--net", sys.executable, __file__, "--inside", "true"]
    done = subprocess.run(command, capture_output=True, text=True)
    return (done.stderr.strip() or "without a word") if done.returncode else None


def main(arguments: list[str]) -> int:
    """Become the command, without the network if possible; 1 where it must not run with it."""
    if arguments[:1] == ["--inside"]:
        loopback_up()
        if why := fault():
            print(why, file=sys.stderr)
            return 1
        arguments = arguments[1:]
    elif why := cut():
        print(f"The network cannot be cut here: {why.splitlines()[-1]}", file=sys.stderr)
        if os.environ.get("OFFLINE") == "1":
            return 1
    else:
        print("With the network cut: only this machine itself answers.", flush=True)
        inside = [sys.executable, __file__, "--inside", *arguments]
        arguments = ["unshare", "--map-root-user", "--net", *inside]
    os.execvp(arguments[0], arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
