"""The environment of a process, and the `.env` file in its folder."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from worker.errors import SettingsError


def environment(folder: Path, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables that `.env` sets, overridden by `environ` (None: this process's own). An empty
    value means not set. Raises SettingsError where `.env` cannot be read.
    """
    sources = [dotenv(folder / ".env"), os.environ if environ is None else environ]
    return {
        name: value.strip() for some in sources for name, value in some.items() if value.strip()
    }


def dotenv(place: Path) -> dict[str, str]:
    """The variables that the file sets; none where there is no file. Raises SettingsError where it
    cannot be read.
    """
    try:
        # Editors of Windows begin a file with a mark of three bytes, which would belong to the
        # first name.
        values = dotenv_values(place, encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise SettingsError(
            [
                f"{place} cannot be read ({error}); "
                "it must be a text file in UTF-8 that this user may read"
            ]
        ) from None
    return {name: value for name, value in values.items() if value is not None}


def lines_without_effect(place: Path) -> list[str]:
    """A warning for each line of `.env` that sets nothing and is no comment. It gives the number
    only: the text may be a secret.
    """
    if not place.is_file():  # a pipe can be read only once
        return []
    bindings = parse_stream(io.StringIO(place.read_text(encoding="utf-8-sig")))
    return [
        f"{place.name}: line {binding.original.line} has no effect; "
        "it must be NAME=VALUE, or begin with #"
        for binding in bindings
        if binding.error or (binding.key and binding.value is None)
    ]
