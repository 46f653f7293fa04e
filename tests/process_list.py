"""What anybody on the machine can see of its processes."""

import contextlib
import subprocess
from pathlib import Path


def command_lines(*below):
    """The command line of every process, or of these and all that they started."""
    found = list(_all())
    family = set(below)
    for _ in range(6):  # generations
        family |= {pid for pid, parent, _ in found if parent in family}
    return [args for pid, _, args in found if not below or pid in family]


def children(of):
    """The numbers of the processes that this one has started."""
    return [pid for pid, parent, _ in _all() if parent == of]


def those(fits):
    """The numbers of the processes whose folder in /proc fits; what has ended meanwhile does
    not."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if fits(place):
                found.append(int(place.name))
    return found


def _all():
    if Path("/proc/self/cmdline").exists():
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended meanwhile
                parent = (place / "stat").read_text(errors="replace").rpartition(")")[2].split()[1]
                yield (
                    int(place.name),
                    int(parent),
                    (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"),
                )
    else:
        shown = subprocess.run(
            ["ps", "-axww", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
        ).stdout
        for line in shown.splitlines():
            pid, parent, args = (*line.split(None, 2), "")[:3]
            yield int(pid), int(parent), args
