"""The settings in force: how a process follows a reload, how a person orders one, and the settings
as text without secrets.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from worker.errors import EndtapeError
from worker.ledger.client import Ledger
from worker.settings import Settings

_ROLE = "settings"
_SAY_S = 2.0  # so often a process says that it lives
_ENDED_AFTER = timedelta(seconds=10)  # a process that has said nothing for so long has ended
_ASK_AGAIN_S = 0.1
_ADDRESSES, _SECRETS = {"redis_url", "broker_url"}, {"callback_token", "api_keys", "app_key"}
_SHOWN_ELSEWHERE = {"accounts", "rules", "warnings", "restart"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """The settings in force after a reload. `problems`: why the new ones were refused, and the old
    ones stay in force.
    """

    generation: int
    settings: Settings
    problems: tuple[str, ...] = ()


def problems_of(error: Exception) -> tuple[str, ...]:
    """Why settings could not be read, a line for each reason."""
    return tuple(getattr(error, "problems", None) or [f"{type(error).__name__}: {error}"])


class Follower:
    """One process's part in reloads. `read` reads the settings anew if there was a reload since,
    and returns the last outcome.
    """

    def __init__(self, ledger: Ledger, kind: str, read: Callable[[], Outcome]) -> None:
        """`kind`: its line of the Procfile."""
        self._ledger, self._read = ledger, read
        self.name = f"{kind} {socket.gethostname()}:{os.getpid()}"
        self._answered: int | None = None
        self._said_at = -_SAY_S

    def turn(self) -> None:
        """Answers a new reload, and says that the process lives. To be called about once a second.

        Raises LedgerUnavailable. Then the next turn does what this one could not.
        """
        outcome = self._read()
        if outcome.generation != self._answered:
            self._ledger.answer(outcome.generation, self.name, json.dumps(_answer(outcome)))
            self._ledger.publish_settings(json.dumps(shown(outcome.settings)))
            self._ledger.had_rules(
                outcome.settings.config.name if outcome.settings.config else None
            )
            self._answered = outcome.generation
        if time.monotonic() - self._said_at >= _SAY_S:
            self._ledger.seen(_ROLE, self.name)
            self._said_at = time.monotonic()

    def gone(self) -> None:
        """The process ends: nobody waits for its answers any more."""
        self._ledger.gone(_ROLE, self.name)


def _answer(outcome: Outcome) -> dict[str, Any]:
    rules = outcome.settings.rules
    return {
        "problems": list(outcome.problems),
        "restart": list(outcome.settings.restart),
        "rules": len(rules.rules) if rules.from_file else None,
    }


# Ordering a reload
# ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Reload:
    """What came of a reload, by process."""

    number: int
    took: dict[str, dict[str, Any]]
    refused: dict[str, dict[str, Any]]
    silent: tuple[str, ...]  # alive, and did not answer
    ended: tuple[str, ...]  # ended before they answered

    @property
    def restart(self) -> list[str]:
        """The settings that changed and need a restart."""
        return sorted({name for answer in self.took.values() for name in answer["restart"]})

    @property
    def rules(self) -> int | None:
        """How many rules there are now. None: there is no file."""
        return max(
            (answer["rules"] for answer in self.took.values() if answer["rules"] is not None),
            default=None,
        )

    @property
    def done(self) -> bool:
        return bool(self.took) and not self.refused and not self.silent


def order(ledger: Ledger, *, wait_s: float) -> Reload:
    """Orders a reload, and waits until each process that lives has answered."""
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
    for name in sorted(settings.__slots__):
        if name not in _SHOWN_ELSEWHERE:
            texts[name] = _shown(name, getattr(settings, name))
    rules = settings.rules
    texts["rules"] = (
        f"{len(rules.rules)} and the defaults"
        if rules.from_file
        else "no file: mode observe, nothing is stopped"
    )
    return texts


def _shown(name: str, value: Any) -> str:
    if name in _ADDRESSES:
        return without_login(value)
    if name in _SECRETS:
        return "(set)" if value else "(not set)"
    return _text(value)


def shown_by_the_service(ledger: Ledger) -> dict[str, str] | None:
    """The settings of the running service, by the process that read them last. None if none runs,
    or Redis does not answer.
    """
    try:
        text = ledger.published_settings()
        return json.loads(text) if text and any(_living(ledger)) else None
    except EndtapeError:
        return None


def without_login(url: str) -> str:
    """One address, or several with semicolons between, without names, passwords and options."""
    return ";".join(_one_without_login(one) for one in url.split(";"))


def _one_without_login(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('?')[0].rpartition('@')[2]}"


def _text(value: Any) -> str:
    if value is None:
        return "(none)"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
