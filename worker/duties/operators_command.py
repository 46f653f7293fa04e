"""Runs a command of the operator, without a shell: JSON on its standard input, facts in its
environment, a time limit. None of our secrets is in that environment.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from worker import wire
from worker.vobiz.webhook import Outcome

# What of our environment a command gets.
_PASSED_ON = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR")
_MOST_SAID = 64 * 1024  # bytes of its output that are read; the rest is thrown away
_MOST_SHOWN = 200  # characters of its last line
_LOOK_EVERY_S = 0.2


def facts_of(view: Mapping[str, Any], notice_id: str, public_url: str) -> dict[str, str]:
    """The environment of a command about a recording, given as `/v1` shows it."""
    return {
        "RECORDING_ACCOUNT": view["account"],
        "RECORDING_CALL_UUID": view["call_uuid"],
        "RECORDING_ID": view["recording_id"],
        "RECORDING_ARCHIVE_KEY": view["archive_key"] or "",
        "RECORDING_SHA256": view["sha256"] or "",
        "RECORDING_NOTICE_ID": notice_id,
        "ENDTAPE_PUBLIC_URL": public_url,
    }


def run(
    command: Sequence[str],
    text: str,
    facts: Mapping[str, str],
    within: timedelta,
    check: Callable[[], None],
) -> Outcome:
    """Run a command with `text` on its standard input. Its exit status 0 means that it took it.

    Whatever it started goes with it when `within` is over. Raises what `check` raises, after it
    ended the command.
    """
    known = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    with tempfile.TemporaryFile() as standard_input:
        standard_input.write(text.encode())
        standard_input.seek(0)
        try:
            process = subprocess.Popen(
                list(command),
                stdin=standard_input,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**known, **facts},
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            return Outcome(status=None, why=f"cannot be run: {getattr(error, 'strerror', error)}")
    with process:
        try:
            said = _watch(process, time.monotonic() + within.total_seconds(), check)
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            assert process.stdout is not None
            process.stdout.close()
    if said is None:
        return Outcome(status=None, why=f"was ended after {within.total_seconds():.0f} s")
    status = process.returncode
    why = f"exit status {status}" if status > 0 else f"ended by signal {-status}"
    return Outcome(status=status, why=f"{why}{_last_line(said)}" if status else None)


def _watch(
    process: subprocess.Popen[bytes], until: float, check: Callable[[], None]
) -> bytes | None:
    """What the command said until it ended, at most so much; None where its time was over."""
    assert process.stdout is not None
    output, said, is_open = process.stdout.fileno(), b"", True
    os.set_blocking(output, False)
    readable = select.poll()  # `select` takes no descriptor above 1023
    readable.register(output, select.POLLIN)
    while True:
        has_ended = process.poll() is not None
        if is_open:
            # What it left running may hold its output open: nobody waits for that.
            readable.poll(0 if has_ended else _LOOK_EVERY_S * 1000)
            with contextlib.suppress(BlockingIOError):
                block = os.read(output, _MOST_SAID)
                is_open = block != b""
                said = (said + block)[-_MOST_SAID:]
                if block and time.monotonic() < until:
                    continue
        elif not has_ended:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LOOK_EVERY_S)
        if has_ended:
            return said
        if time.monotonic() >= until:
            return None
        check()


def _last_line(said: bytes) -> str:
    lines = said.decode("utf-8", "replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    plain = "".join(char if char.isprintable() else " " for char in last)[:_MOST_SHOWN]
    return f": {wire.without_numbers(plain)}" if plain else ""
