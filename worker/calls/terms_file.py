"""The terms of a rule, as the rules file spells them. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from worker.calls.rules import Action, AfterArchive, DailyTime, Expect, Mode, Terms

_DURATION = re.compile(r"(\d{1,9})(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_STOP_AT = re.compile(r"(\d{2}):(\d{2})(?::(\d{2}))? (\S+)")
TRIGGER = re.compile(
    r"transfer(\.[a-z0-9_-]+)?|dial\.answer|dial\.connected|redirect|conference\.join|machine|custom\.[A-Za-z0-9_-]+"
)
TRIGGERS = (
    "transfer, transfer.KIND, transfer.failed, dial.answer, dial.connected, redirect,"
    " conference.join, machine, custom.NAME"
)
TERMS = (
    "mode",
    "max_duration",
    "stop_at",
    "confirm_within",
    "stop_tries",
    "if_unproven",
    "watch",
    "consent",
    "consent_within",
    "tail_limit",
    "retain",
    "expect",
    "keep_at_provider",
    "after_archive",
    "on",
)
_SECRET = re.compile(r"token|secret|password|key", re.IGNORECASE)  # keys of what is never shown
_TOLD_AT_URL = ("url", "secret_env", "private", "numbers")
_TOLD_BY_COMMAND = ("command", "within", "numbers")
_LONGEST_COMMAND = timedelta(hours=1)


def duration(value: Any) -> timedelta | None:
    """The duration that a text like "45s", "15m", "2h" or "30d" means, from 1 s to 36500 days. None
    for anything else.
    """
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if not match:
        return None
    length = timedelta(seconds=int(match[1]) * _SECONDS[match[2]])
    return length if timedelta(seconds=1) <= length <= timedelta(days=36500) else None


def spelled(length: timedelta) -> str:
    """A duration of whole seconds as a rules file has it, in the largest unit that has no rest."""
    seconds = round(length.total_seconds())
    if not seconds:
        return "0s"
    unit = max((u for u, of in _SECONDS.items() if seconds % of == 0), key=lambda u: _SECONDS[u])
    return f"{seconds // _SECONDS[unit]}{unit}"


class TermsReader:
    """Reads the tables of a document. Collects mistakes in `problems`, and goes on with a harmless
    value.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.problems: list[str] = []

    def wrong(self, key: str, value: Any, fix: str) -> None:
        shown = repr(value)
        self.problems.append(f"{self.name}: {key} = {shown[:80]}: {fix}")

    def table(self, value: Any, key: str, known: tuple[str, ...]) -> dict[str, Any]:
        if not isinstance(value, dict):
            self.wrong(key, value, "must be a table")
            return {}
        for unknown in [k for k in value if k not in known]:
            place = f"{key}.{unknown}" if key else unknown
            shown = "…" if _SECRET.search(unknown) else value[unknown]
            self.wrong(place, shown, f"unknown key; known here: {', '.join(known)}")
        return value

    def tables(self, value: Any, key: str) -> Iterator[tuple[str, Any]]:
        if not isinstance(value, list):
            self.wrong(key, value, f"must be written as [[{key}]]")
            return
        yield from ((f"{key}[{i}]", item) for i, item in enumerate(value))

    def terms(self, raw: Any, key: str, base: Terms) -> Terms:
        """The terms of a table. What it leaves out comes from `base`."""
        readers: dict[str, Callable[[Any, str], Any]] = {
            "mode": self._mode,
            "max_duration": self._max_duration,
            "stop_at": self._stop_at,
            "confirm_within": self._confirm_within,
            "stop_tries": self._stop_tries,
            "if_unproven": self._if_unproven,
            "watch": self._watch,
            "consent": self._consent,
            "consent_within": self._consent_within,
            "tail_limit": self._tail_limit,
            "retain": self._retain,
            "expect": self._expect,
            "keep_at_provider": self._keep_at_provider,
            "after_archive": self._after_archive,
            "on": self._on,
        }
        table = self.table(raw, key, TERMS)
        given = {n: readers[n](v, f"{key}.{n}") for n, v in table.items() if n in readers}
        if "on" in given:
            given["on"] = {**base.on, **given["on"]}
        if "consent" in given:
            given["consent_required"] = given.pop("consent")
        return replace(base, **given)

    def _mode(self, value: Any, key: str) -> Mode:
        if value not in list(Mode):
            self.wrong(key, value, 'must be "enforce" or "observe"')
            return Mode.OBSERVE
        return Mode(value)

    def _max_duration(self, value: Any, key: str) -> timedelta | None:
        length = duration(value)
        if length is None and value != "none":
            self.wrong(
                key, value, 'must be a duration of at least 1s like "45s", "15m" or "2h", or "none"'
            )
        return length

    def _confirm_within(self, value: Any, key: str) -> timedelta:
        length = duration(value)
        if length is None:
            self.wrong(key, value, 'must be a duration of at least 1s like "10s"')
        return length or timedelta(seconds=10)

    def _consent(self, value: Any, key: str) -> bool:
        if value not in ["ignored", "required"]:
            self.wrong(key, value, 'must be "ignored" or "required"')
        return bool(value == "required")

    def _consent_within(self, value: Any, key: str) -> timedelta:
        length = duration(value)
        if length is None:
            self.wrong(key, value, 'must be a duration of at least 1s like "30s"')
        return length or timedelta(seconds=30)

    def _tail_limit(self, value: Any, key: str) -> timedelta | None:
        length = duration(value)
        if length is None and value != "none":
            self.wrong(key, value, 'must be a duration of at least 1s like "1s", or "none"')
        return length

    def _retain(self, value: Any, key: str) -> timedelta | None:
        length = duration(value)
        if length is None and value != "forever":
            self.wrong(key, value, 'must be a duration like "365d", or "forever"')
        return length

    def _expect(self, value: Any, key: str) -> Expect | None:
        if value not in list(Expect):
            self.wrong(key, value, 'must be "any", "every" or "none"')
            return None
        return Expect(value)

    def _keep_at_provider(self, value: Any, key: str) -> timedelta | None:
        length = timedelta(0) if value == "0s" else duration(value)
        if length is None and value != "forever":
            self.wrong(key, value, 'must be a duration like "7d", "0s", or "forever"')
        return length

    def _after_archive(self, raw: Any, key: str) -> AfterArchive | None:
        """Whoever is told; None for `{}`, and after a mistake that leaves nobody."""
        is_command = isinstance(raw, dict) and "command" in raw and "url" not in raw
        table = self.table(raw, key, _TOLD_BY_COMMAND if is_command else _TOLD_AT_URL)
        if not table:
            return None
        numbers = self._watch(table.get("numbers", False), f"{key}.numbers")
        if is_command:
            return self._command(table, key, numbers=numbers)
        signed = self.signed_url(table, key)
        if signed is None:
            return None
        url, secret_env, private = signed
        return AfterArchive(url=url, secret_env=secret_env, private=private, numbers=numbers)

    def _command(self, table: dict[str, Any], key: str, *, numbers: bool) -> AfterArchive | None:
        command, within = table["command"], table.get("within", "60s")
        words = command if isinstance(command, list) else []
        if (
            not words
            or not all(isinstance(w, str) and "\0" not in w for w in words)
            or not words[0]
        ):
            self.wrong(
                f"{key}.command",
                command,
                'must be a list of texts like ["/usr/local/bin/transcribe", "--fast"], the program'
                " first; no shell reads it",
            )
            return None
        length = duration(within)
        if length is None or length > _LONGEST_COMMAND:
            self.wrong(f"{key}.within", within, 'must be a duration from "1s" to "1h"')
            return None
        return AfterArchive(command=tuple(words), within=length, numbers=numbers)

    def signed_url(self, table: dict[str, Any], key: str) -> tuple[str, str, bool] | None:
        """An address, the variable with what signs, and whether its host may be private; None after
        a mistake that leaves nothing to call.
        """
        url, secret_env = table.get("url"), table.get("secret_env")
        if not isinstance(url, str) or not re.fullmatch(r"https?://[!-~]{1,1990}", url):
            self.wrong(f"{key}.url", url, "must be an http or https address")
            return None
        if not isinstance(secret_env, str) or not is_variable(secret_env):
            self.wrong(
                f"{key}.secret_env",
                None if secret_env is None else "…",
                "must be the NAME of an environment variable with a whsec_… secret;"
                " secrets never stand in this file",
            )
            return None
        private = self._watch(table.get("private", False), f"{key}.private")
        if url.startswith("http:") and not private:
            self.wrong(f"{key}.url", url, "must be https, unless `private = true` stands beside it")
        return url, secret_env, private

    def _stop_tries(self, value: Any, key: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 100:
            self.wrong(key, value, "must be a whole number from 1 to 100")
            return 4
        return value

    def _if_unproven(self, value: Any, key: str) -> str:
        if value not in ["hold", "go"]:
            self.wrong(key, value, 'must be "hold" or "go"')
        return str(value)

    def _watch(self, value: Any, key: str) -> bool:
        if not isinstance(value, bool):
            self.wrong(key, value, "must be true or false")
        return value is True

    def _stop_at(self, value: Any, key: str) -> tuple[DailyTime, ...]:
        if not isinstance(value, list):
            self.wrong(key, value, 'must be a list like ["18:00 Asia/Kolkata"]')
            return ()
        times = [self._daily(item, f"{key}[{i}]") for i, item in enumerate(value)]
        return tuple(daily for daily in times if daily)

    def _daily(self, value: Any, key: str) -> DailyTime | None:
        match = _STOP_AT.fullmatch(value) if isinstance(value, str) else None
        try:
            if match is None:
                raise ValueError
            at = time(int(match[1]), int(match[2]), int(match[3] or 0))
            return DailyTime(at=at, zone=ZoneInfo(match[4]))
        except (ValueError, OSError, KeyError):
            # ZoneInfoNotFoundError is a KeyError; the name of a directory raises an OSError.
            self.wrong(
                key, value, 'must be a time and a zone of the tz database like "18:00 Asia/Kolkata"'
            )
            return None

    def _on(self, value: Any, key: str) -> dict[str, Action]:
        if not isinstance(value, dict):
            self.wrong(key, value, 'must be a table like { transfer = "stop" }')
            return {}
        flat = dict(_flat(value))
        return {
            trigger: self._action(trigger, action, f"{key}.{trigger}")
            for trigger, action in flat.items()
        }

    def _action(self, trigger: str, action: Any, key: str) -> Action:
        if not TRIGGER.fullmatch(trigger):
            self.wrong(key, action, f"unknown trigger; known: {TRIGGERS}")
        if action not in list(Action):
            self.wrong(key, action, f"unknown action; known: {', '.join(Action)}")
            return Action.KEEP
        return Action(action)


def is_variable(value: Any) -> bool:
    """Whether a value may be the name of an environment variable. A secret that begins with
    `whsec_` is none, though it may look like one.
    """
    if not isinstance(value, str) or value.startswith("whsec_"):
        return False
    return re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value) is not None


def _flat(table: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    # People write `dial.connected = "stop"` without quotes, which TOML reads as a table in a table.
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
