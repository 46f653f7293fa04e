"""The settings in force: how a process follows reloads and answers them, and what the settings look like without secrets."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from worker.errors import EndtapeError
from worker.ledger import Ledger
from worker.settings import Settings

_ROLE = "settings"
_SAY_S = 2.0
_ENDED_AFTER = timedelta(seconds=10)        # a process that has not been heard of for so long is there no more
_ASK_AGAIN_S = 0.1
_ADDRESSES, _SECRETS = {"redis_url", "broker_url"}, {"callback_token", "api_keys", "app_key"}
_SHOWN_ELSEWHERE = {"accounts", "policy", "warnings", "restart"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What came of reading the settings: those in force since, and why they are the old ones where they are."""

    generation: int
    settings: Settings
    problems: tuple[str, ...] = ()


def problems_of(error: Exception) -> tuple[str, ...]:
    """Why settings could not be read, a line for each reason."""
    return tuple(getattr(error, "problems", None) or [f"{type(error).__name__}: {error}"])


class Follower:
    """One process's part in reloads. `read` returns the outcome of its last reading, and reads when a reload is new to it."""

    def __init__(self, ledger: Ledger, kind: str, read: Callable[[], Outcome]) -> None:
        """`kind`: its line of the Procfile."""
        self._ledger, self._read = ledger, read
        self.name = f"{kind} {socket.gethostname()}:{os.getpid()}"
        self._answered: int | None = None
        self._said_at = -_SAY_S

    def turn(self) -> None:
        """Once a second or so. Raises LedgerUnavailable; what could not be said is said the next time."""
        found = self._read()
        if found.generation != self._answered:
            self._ledger.answer(found.generation, self.name, json.dumps(_answer(found)))
            self._ledger.command("SET", self._ledger.key("settings"), json.dumps(shown(found.settings)))
            self._ledger.had_rules(found.settings.config.name if found.settings.config else None)
            self._answered = found.generation
        if time.monotonic() - self._said_at >= _SAY_S:
            self._ledger.seen(_ROLE, self.name)
            self._said_at = time.monotonic()

    def gone(self) -> None:
        """Takes back what was said: the process ends."""
        self._ledger.gone(_ROLE, self.name)


def _answer(found: Outcome) -> dict[str, Any]:
    rules = found.settings.policy
    return {"problems": list(found.problems), "restart": list(found.settings.restart), "rules": len(rules.rules) if rules.from_file else None}


# A reload, from the side of whoever orders it ---------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Reload:
    """What came of it, by process."""

    number: int
    took: dict[str, dict[str, Any]]
    refused: dict[str, dict[str, Any]]
    silent: tuple[str, ...]         # alive, and without an answer
    ended: tuple[str, ...]          # not heard of any more

    @property
    def restart(self) -> list[str]:
        return sorted({name for said in self.took.values() for name in said["restart"]})

    @property
    def rules(self) -> int | None:
        """How many there are for those that took them; None: there is no file."""
        return max((said["rules"] for said in self.took.values() if said["rules"] is not None), default=None)

    @property
    def done(self) -> bool:
        return bool(self.took) and not self.refused and not self.silent


def order(ledger: Ledger, *, wait_s: float) -> Reload:
    """Tells every process, and waits until each that lives has answered."""
    awaited = set(_living(ledger))
    number, until = ledger.reload(), time.monotonic() + wait_s
    while True:
        said = {name: json.loads(text) for name, text in ledger.answers(number).items()}
        living = set(_living(ledger))
        if not (awaited & living) - said.keys() or time.monotonic() >= until:
            break
        time.sleep(_ASK_AGAIN_S)
    lacking = awaited - said.keys()
    return Reload(number=number, took={n: a for n, a in said.items() if not a["problems"]}, refused={n: a for n, a in said.items() if a["problems"]},
                  silent=tuple(sorted(lacking & living)), ended=tuple(sorted(lacking - living)))


def _living(ledger: Ledger) -> Iterator[str]:
    since = ledger.now() - _ENDED_AFTER
    return (name for name, at in ledger.last_seen(_ROLE).items() if at >= since)


def by_kind(names: Iterator[str] | list[str] | tuple[str, ...] | dict[str, Any]) -> str:
    """`web 2, stops 5`: how many processes of each kind."""
    kinds = [name.partition(" ")[0] for name in names]
    return ", ".join(f"{kind} {kinds.count(kind)}" for kind in dict.fromkeys(sorted(kinds)))


# What they look like ----------------------------------------------------------------------------------------------


def shown(settings: Settings) -> dict[str, str]:
    """Each setting as text, without secrets."""
    found = {"accounts": ", ".join(settings.accounts)}
    for name in sorted(settings.__slots__):
        value = getattr(settings, name)
        if name not in _SHOWN_ELSEWHERE:
            found[name] = without_login(value) if name in _ADDRESSES else ("(set)" if value else "(not set)") if name in _SECRETS else _text(value)
    rules = settings.policy
    found["rules"] = f"{len(rules.rules)} and the defaults" if rules.from_file else "no file: mode observe, nothing is stopped"
    return found


def shown_by_the_service(ledger: Ledger) -> dict[str, str] | None:
    """The same of the running service, as the process that read them last has them; None where none runs or Redis does not answer."""
    try:
        text = ledger.command("GET", ledger.key("settings"))
        return json.loads(text) if text and any(True for _ in _living(ledger)) else None
    except EndtapeError:
        return None


def without_login(url: str) -> str:
    """The address, or several with semicolons between, without names, passwords and options."""
    return ";".join(f"{scheme}://{rest.partition('?')[0].rpartition('@')[2]}" for scheme, _, rest in (one.partition("://") for one in url.split(";")))


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else "(none)" if value is None else str(value)
