"""A simulated machine: its own namespaces for network, host name and process numbers, with one of
each process in it.

`python -m faults.machine` is its first process. It reads its configuration as a line of JSON and
runs until its standard input ends. As the first process of its namespace it takes all others with
it, however it ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from faults.cable import Cable
from faults.proxy import Proxy
from worker.processes.supervisor import ROOT, Supervisor

WEB_PORT = 8000
_UNSHARE = ["unshare", "--net", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"]


class Machine:
    """One machine and its cable. The cable must be entered."""

    def __init__(self, name: str, cable: Cable, folder: Path) -> None:
        self.name, self.cable, self.folder = name, cable, folder
        self.spool, self.log = folder / "spool", folder.parent / f"{name}.log"
        self.process: subprocess.Popen[str] | None = None
        folder.mkdir()

    def boot(self, env: Mapping[str, str], relays: Mapping[int, int]) -> None:
        """Starts the machine. `relays`: ports of its own loopback interface, and the ports at our
        end of the cable that they lead to.
        """
        # In a session of its own: a Ctrl-C ends this process, which then ends the machine.
        self.process = subprocess.Popen(
            [*_UNSHARE, sys.executable, "-m", "faults.machine"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if not self.process.stdout.readline():
            raise RuntimeError(
                f"the machine {self.name} did not start: unshare ended with {self.process.wait()}"
            )
        self.cable.plug_in(self.process.pid)
        # A machine without power leaves temporary files behind, so they belong in the run's folder.
        order = {
            "name": self.name,
            "env": {**env, "TMPDIR": str(self.folder)},
            "relays": [[near, self.cable.ours, far] for near, far in relays.items()],
            "log": str(self.log),
            "folder": str(self.folder),
        }
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()

    def power_off(self) -> None:
        """Ends all of it at once; no packet announces it."""
        if self.process is None:
            return
        self.cable.cut()
        first = _children(self.process.pid)
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                if pipe:
                    pipe.close()
        limit = time.monotonic() + 10
        while any(Path(f"/proc/{pid}").exists() for pid in first) and time.monotonic() < limit:
            time.sleep(0.01)
        self.cable.unplug()
        self.process = None


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sys.stdout.write("here\n")
    sys.stdout.flush()
    line = sys.stdin.readline()
    if line:
        order = json.loads(line)
        socket.sethostname(order["name"])
        for near, host, far in order["relays"]:
            Proxy([(host, far)], at=("127.0.0.1", near)).__enter__()
        Supervisor(order["env"], Path(order["log"]), folder=Path(order["folder"])).__enter__()
        sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
