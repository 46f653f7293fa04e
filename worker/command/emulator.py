"""`endtape emulator`: the stand-in provider."""

from __future__ import annotations

import os
import sys

import click


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    epilog="Example: endtape emulator --help",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def emulator(arguments: tuple[str, ...]) -> None:
    """Run the stand-in provider (docs/emulator.md)."""
    os.execv(sys.executable, [sys.executable, "-m", "emulator", *arguments])  # noqa: S606 - it replaces this process
