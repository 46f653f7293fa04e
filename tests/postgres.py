"""A PostgreSQL of the tests' own: Debian's programs, a data directory that goes with it."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from worker.processes.supervisor import free_port

MISSING = "no PostgreSQL here (Debian: apt-get install postgresql)"


def programs():
    """The folder of initdb and pg_ctl; None where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


def _unprivileged(command):
    # PostgreSQL refuses to run as root.
    if os.geteuid() != 0:
        return command
    return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", *command]


@contextlib.contextmanager
def server():
    """The address of an empty database."""
    place, port = programs(), free_port()
    folder = Path(tempfile.mkdtemp(prefix="etpg"))
    data = folder / "data"
    if os.geteuid() == 0:
        shutil.chown(folder, "nobody", "nogroup")

    def run(*command):
        subprocess.run(
            _unprivileged([str(word) for word in command]), check=True, cwd=folder, stdout=-3
        )

    start = f"-k {folder} -p {port} -c listen_addresses=127.0.0.1 -c fsync=off"
    try:
        run(place / "initdb", "-D", data, "-U", "endtape", "-A", "trust", "--no-sync", "-E", "UTF8")
        run(place / "pg_ctl", "-D", data, "-l", folder / "log", "-o", start, "-w", "start")
        yield f"postgresql+psycopg://endtape:secret-word@127.0.0.1:{port}/postgres"
        run(place / "pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
