"""The settings in force: how a process follows reloads, how a person orders a reload, and the
settings as text without secrets.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NoReturn

from worker import logs
from worker.errors import EndtapeError
from worker.ledger.client import Ledger
from worker.settings import Settings
from worker.variables.table import SHOWN

FOLLOW_S = 1.0  # between two questions whether a reload was ordered
_ROLE = "settings"
_HEARTBEAT_S = 2.0
_ENDED_AFTER = timedelta(seconds=10)  # a process without a heartbeat for so long has ended
_ASK_AGAIN_S = 0.1


def exit_with(problems: Iterable[str]) -> NoReturn:
    """Ends this process with exit status 2, with a line on standard error for each problem."""
    os.write(2, "".join(f"{problem}\n" for problem in problems).encode())
    raise SystemExit(2)


# Following reloads
# ------------------------------------------------------------------------------------------------


def read_again(settings: Settings) -> tuple[Settings, tuple[str, ...]]:
    """The settings as they are set now, and no problems; or, where those cannot be read, the given
    ones and why, a line for each reason.
    """
    try:
        new = settings.again()
    except Exception as error:  # noqa: BLE001 - whatever is wrong with the new ones, the old stay
        problems = getattr(error, "problems", None) or [f"{type(error).__name__}: {error}"]
        return settings, tuple(problems)
    logs.hide(new.secrets())
    return new, ()


class InForce:
    """The settings in force in one process: those of its start, then those of each reload. A reload
    that finds mistakes keeps the settings it found in force.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        generation: int | None = None,
        on_problems: Callable[[tuple[str, ...]], None] = lambda _: None,
    ) -> None:
        """`generation`: the number of reloads before these settings were read; None where it is not
        known, so that they are read again at once. `on_problems` is called with the mistakes of a
        reload, a line for each.
        """
        self.settings, self.generation = settings, generation
        self.problems: tuple[str, ...] = ()
        self._on_problems = on_problems
        self._reading = threading.Lock()

    def current(self) -> Settings:
        return self.settings

    def follow(self, generation: int) -> Settings:
        """Reads the settings again unless this generation's were read, and returns those in
        force.
        """
        with self._reading:
            if generation != self.generation:
                self.settings, self.problems = read_again(self.settings)
                if self.problems:
                    self._on_problems(self.problems)
                self.generation = generation
            return self.settings


class Follower:
    """One process's part in reloads: it follows them, answers them, and sends a heartbeat and what
    it has counted.
    """

    def __init__(self, ledger: Ledger, kind: str, in_force: InForce) -> None:
        """`kind`: the name of the process in the Procfile."""
        self._ledger, self._in_force = ledger, in_force
        self.name = f"{kind} {socket.gethostname()}:{os.getpid()}"
        self._answered: int | None = None
        self._heartbeat_at = -_HEARTBEAT_S

    def turn(self) -> None:
        """Follows and answers a new reload, and sends the heartbeat. To be called every FOLLOW_S.

        Raises LedgerUnavailable. Then the next turn does what this one could not.
        """
        generation = self._ledger.generation()
        settings = self._in_force.follow(generation)
        if generation != self._answered:
            self._answer(generation, settings, self._in_force.problems)
            self._answered = generation
        if time.monotonic() - self._heartbeat_at >= _HEARTBEAT_S:
            self._ledger.seen(_ROLE, self.name)
            self._heartbeat_at = time.monotonic()
            self._ledger.count_tally()

    def run(self, ended: threading.Event) -> None:
        """Takes turns until `ended` is set. It reports no Redis that does not answer: the process
        itself does that.
        """
        while True:  # the first turn comes at once, so that a reload just after the start counts it
            with contextlib.suppress(EndtapeError):
                self.turn()
            if ended.wait(FOLLOW_S):
                break
        with contextlib.suppress(EndtapeError):
            self.gone()

    def gone(self) -> None:
        """Tells those who order reloads that this process ends and will answer no more."""
        self._ledger.gone(_ROLE, self.name)
        self._ledger.count_tally()

    def _answer(self, generation: int, settings: Settings, problems: tuple[str, ...]) -> None:
        rules = settings.rules
        answer = {
            "problems": list(problems),
            "restart": list(settings.restart),
            "rules": len(rules.rules) if rules.from_file else None,
        }
        self._ledger.answer(generation, self.name, json.dumps(answer))
        self._ledger.publish_settings(json.dumps(shown(settings)))
        self._ledger.had_rules(settings.config.name if settings.config else None)


# Ordering a reload
# ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Reload:
    """The outcome of a reload: each process's answer by the name of the process."""

    number: int
    took: dict[str, dict[str, Any]]  # the answers of processes with the new settings
    refused: dict[str, dict[str, Any]]  # the answers of those that found mistakes
    silent: tuple[str, ...]  # processes that live and did not answer
    ended: tuple[str, ...]  # processes that ended before they answered

    @property
    def restart(self) -> list[str]:
        """The settings that changed and need a restart."""
        return sorted({name for answer in self.took.values() for name in answer["restart"]})

    @property
    def rules(self) -> int | None:
        """How many rules are in force; None without a rules file."""
        return max(
            (answer["rules"] for answer in self.took.values() if answer["rules"] is not None),
            default=None,
        )

    @property
    def done(self) -> bool:
        return bool(self.took) and not self.refused and not self.silent


def order(ledger: Ledger, *, wait_s: float) -> Reload:
    """Orders a reload, and waits until each living process has answered, or for `wait_s` seconds.
    Raises LedgerUnavailable.
    """
    awaited = set(_living(ledger))
    number, until = ledger.reload(), time.monotonic() + wait_s
    while True:
        answers = {name: json.loads(text) for name, text in ledger.answers(number).items()}
        living = set(_living(ledger))
        if not (awaited & living) - answers.keys() or time.monotonic() >= until:
            break
        time.sleep(_ASK_AGAIN_S)
    lacking = awaited - answers.keys()
    return Reload(
        number=number,
        took={name: answer for name, answer in answers.items() if not answer["problems"]},
        refused={name: answer for name, answer in answers.items() if answer["problems"]},
        silent=tuple(sorted(lacking & living)),
        ended=tuple(sorted(lacking - living)),
    )


def processes(ledger: Ledger) -> dict[str, datetime]:
    """The last heartbeat of each process of the service, by `KIND HOST:PID`. One that was killed
    stays for an hour.
    """
    return ledger.last_seen(_ROLE)


def _living(ledger: Ledger) -> Iterator[str]:
    since = ledger.now() - _ENDED_AFTER
    return (name for name, at in ledger.last_seen(_ROLE).items() if at >= since)


def by_kind(names: Iterable[str]) -> str:
    """`web 2, stops 5`: how many processes of each kind."""
    kinds = [name.partition(" ")[0] for name in names]
    return ", ".join(f"{kind} {kinds.count(kind)}" for kind in dict.fromkeys(sorted(kinds)))


# The settings as text
# ---------------------------------------------------------------------------------------------


def shown(settings: Settings) -> dict[str, str]:
    """Each setting as text, without secrets."""
    texts = {"accounts": ", ".join(settings.accounts)}
    texts |= {field: SHOWN[field].shown(getattr(settings, field)) for field in sorted(SHOWN)}
    rules = settings.rules
    texts["rules"] = (
        f"{len(rules.rules)} and the defaults"
        if rules.from_file
        else "no file: mode observe, nothing is stopped"
    )
    return texts


def shown_by_the_service(ledger: Ledger) -> dict[str, str] | None:
    """The settings as the process of the service that read them last shows them. None if no process
    runs, or Redis does not answer.
    """
    try:
        text = ledger.published_settings()
        return json.loads(text) if text and any(_living(ledger)) else None
    except EndtapeError:
        return None
