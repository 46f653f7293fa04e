"""The folder of `endtape demo`: it is emptied only where all that it holds is an earlier demo's."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

# Names what the demo left there, one name a line; ALL while it plays, and where it was killed.
MARKER, ALL = ".endtape-demo", "*"


@contextmanager
def taken(folder: Path) -> Iterator[None]:
    """The folder, empty but for the marker, until the block ends; then the marker names what the
    demo leaves there.

    Raises BadParameter where it is no folder, or holds anything that no demo made.
    """
    if others := _of_others(folder):
        shown = ", ".join(others[:3]) + (" …" if len(others) > 3 else "")
        raise click.BadParameter(
            f"{folder} holds what no demo made ({shown}), and a demo begins with an empty folder; "
            "name one that is new or empty, or move away what is there",
            param_hint="--folder",
        )
    folder.mkdir(parents=True, exist_ok=True)
    for entry in folder.iterdir():  # the folder itself stays: somebody may stand in it
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    (folder / MARKER).write_text(f"{ALL}\n")
    try:
        yield
    finally:
        names = [entry.name for entry in folder.iterdir()]
        (folder / MARKER).write_text("".join(f"{name}\n" for name in names))


def _of_others(folder: Path) -> list[str]:
    """What is there and no demo made."""
    if folder.exists() and not folder.is_dir():
        return [f"{folder.name} itself, which is a file"]
    try:
        own = {MARKER, *(folder / MARKER).read_text().splitlines()}
    except FileNotFoundError:
        own = set()
    names = sorted(entry.name for entry in folder.iterdir()) if folder.exists() else []
    return [] if ALL in own else [name for name in names if name not in own]
