"""What a running `endtape run` tells the other commands of its folder: where Redis, the emulator
and the web process are.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from dotenv import dotenv_values

from worker.settings import Settings
from worker.variables.dotenv_file import environment

DATA = Path("data")
RUNNING = DATA / "run.env"


def overlay() -> dict[str, str]:
    """The environment of this process, completed by what a running `endtape run` of this folder
    shares. What `.env` or the environment sets wins.
    """
    shared = dotenv_values(RUNNING) if RUNNING.exists() else {}
    own = environment(Path.cwd())
    return {
        **{name: value for name, value in os.environ.items() if value},
        **{name: value for name, value in shared.items() if value and name not in own},
    }


@contextlib.contextmanager
def shared_with_commands(env: Mapping[str, str], settings: Settings) -> Iterator[None]:
    """Tells the other commands of this folder, while the context is open, where Redis, the emulator
    and the web process are.
    """
    shared = {
        **env,
        "PORT": str(settings.port),
        "HOST": settings.host,
        "ENDTAPE_PUBLIC_URL": settings.public_url,
    }
    RUNNING.unlink(missing_ok=True)
    _write_secret(RUNNING, "".join(f"{name}={value}\n" for name, value in shared.items()))
    try:
        yield
    finally:
        RUNNING.unlink(missing_ok=True)


def _write_secret(place: Path, text: str) -> None:
    with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
