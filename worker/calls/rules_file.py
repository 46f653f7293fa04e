"""Reads `endtape.toml`: text in, `Rules` and accounts out, or every mistake at once. Pure.

The format is described in docs/rules.md. Every error names the file, the key, the value and the way
out.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from datetime import time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from worker import wire
from worker.calls.rules import Action, DailyTime, Match, Mode, Rule, Rules, Terms
from worker.errors import SettingsError

_DURATION = re.compile(r"(\d{1,9})(s|m|h|d)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_STOP_AT = re.compile(r"(\d{2}):(\d{2})(?::(\d{2}))? (\S+)")
TRIGGER = re.compile(
    r"transfer(\.[a-z0-9_-]+)?|dial\.answer|dial\.connected|redirect|conference\.join|machine|custom\.[A-Za-z0-9_-]+"
)
TRIGGERS = "transfer, transfer.KIND, transfer.failed, dial.answer, dial.connected, redirect, conference.join, machine, custom.NAME"
_TERMS = (
    "mode",
    "max_duration",
    "stop_at",
    "confirm_within",
    "stop_tries",
    "if_unproven",
    "watch",
    "on",
)
_MATCH = ("to", "from", "direction", "account", "labels")
_ACCOUNT = ("auth_id", "token_env", "trunk_secret_env", "parent")


@dataclass(frozen=True, kw_only=True, slots=True)
class FurtherAccount:
    """An account of the file. Its secrets stand in the environment under the names given here."""

    auth_id: str
    token_env: str
    trunk_secret_env: str | None = None
    parent: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RulesFile:
    rules: Rules
    accounts: tuple[FurtherAccount, ...] = ()


def read(text: str, name: str) -> RulesFile:
    """The rules and accounts in `text`; `name` is the file's name for messages. Raises
    SettingsError with all mistakes.
    """
    try:
        document = tomllib.loads(text)
    except (
        ValueError,
        RecursionError,
    ) as error:  # tomllib lets a number or a nesting without end through to Python
        raise SettingsError([f"{name}: not valid TOML: {error}"]) from error
    reader = _Reader(name)
    found = reader.document(document)
    if reader.problems:
        raise SettingsError(reader.problems)
    return found


def duration(value: Any) -> timedelta | None:
    """`"45s" "15m" "2h" "30d"` of at least one second, or None when it is not one."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    found = timedelta(seconds=int(match[1]) * _SECONDS[match[2]]) if match else None
    return found if found and timedelta(seconds=1) <= found <= timedelta(days=36500) else None


class _Reader:
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
            self.wrong(place, value[unknown], f"unknown key; known here: {', '.join(known)}")
        return value

    def tables(self, value: Any, key: str) -> Iterator[tuple[str, Any]]:
        if not isinstance(value, list):
            self.wrong(key, value, f"must be written as [[{key}]]")
            return
        yield from ((f"{key}[{i}]", item) for i, item in enumerate(value))

    def document(self, raw: dict[str, Any]) -> RulesFile:
        known = self.table(raw, "", ("adopt", "defaults", "rules", "accounts"))
        defaults = self.terms(known.get("defaults", {}), "defaults", Terms(), _TERMS)
        rules = [
            self.rule(item, key, defaults)
            for key, item in self.tables(known.get("rules", []), "rules")
        ]
        self.reachable(rules)
        accounts = [
            self.account(item, key)
            for key, item in self.tables(known.get("accounts", []), "accounts")
        ]
        ids = [a.auth_id for a in accounts if a]
        for twice in sorted({i for i in ids if ids.count(i) > 1}):
            self.wrong("accounts.auth_id", twice, "stands there twice; keep one")
        in_file = Rules(
            rules=tuple(rules),
            defaults=defaults,
            adopt=self.adopt(known.get("adopt", "new")),
            from_file=True,
        )
        return RulesFile(rules=in_file, accounts=tuple(a for a in accounts if a))

    def adopt(self, value: Any) -> timedelta | None:
        found = duration(value)
        if found is None and value != "new":
            self.wrong("adopt", value, 'must be "new" or a duration like "30d"')
        return found

    def rule(self, raw: Any, key: str, defaults: Terms) -> Rule:
        known = self.table(raw, key, ("name", "match", *_TERMS))
        name = known.get("name", key)
        if not isinstance(name, str) or not name.strip():
            self.wrong(f"{key}.name", name, "must be a text that names the rule")
            name = key
        return Rule(
            name=name,
            match=self.match(known.get("match", {}), f"{key}.match"),
            terms=self.terms(
                {k: v for k, v in known.items() if k in _TERMS}, key, defaults, _TERMS
            ),
        )

    def reachable(self, rules: list[Rule]) -> None:
        for i, rule in enumerate(rules):
            for earlier in rules[:i]:
                if earlier.name == rule.name:
                    self.wrong(
                        f"rules[{i}].name",
                        rule.name,
                        "an earlier rule has this name; names must differ",
                    )
                if earlier.match.covers(rule.match):
                    self.wrong(
                        f"rules[{i}]",
                        rule.name,
                        f"can never apply: the earlier rule {earlier.name!r} matches every call"
                        " that it matches; move it up or narrow the other",
                    )
                    break

    def match(self, raw: Any, key: str) -> Match:
        known = self.table(raw, key, _MATCH)
        found = Match()
        for side in ("from", "to"):
            if side in known:
                number = self.number(known[side], f"{key}.{side}")
                found = (
                    replace(found, from_number=number)
                    if side == "from"
                    else replace(found, to_number=number)
                )
        if "direction" in known:
            if known["direction"] not in [
                "inbound",
                "outbound",
            ]:  # a list: the value may be one, which no set can hold
                self.wrong(
                    f"{key}.direction", known["direction"], 'must be "inbound" or "outbound"'
                )
            found = replace(found, direction=str(known["direction"]))
        if "account" in known:
            found = replace(found, account=self.pattern(known["account"], f"{key}.account"))
        if "labels" in known:
            labels = known["labels"]
            if not isinstance(labels, dict):
                self.wrong(
                    f"{key}.labels", labels, 'must be a table of texts, like { team = "billing" }'
                )
                labels = {}
            found = replace(
                found, labels={k: self.pattern(v, f"{key}.labels.{k}") for k, v in labels.items()}
            )
        return found

    def pattern(self, value: Any, key: str) -> str:
        if not isinstance(value, str) or not value or "*" in value.strip("*") or "**" in value:
            self.wrong(key, value, "must be a text; `*` may stand at its beginning or end only")
            return "*"
        return value

    def number(self, value: Any, key: str) -> str:
        # Of a SIP or `tel:` address the user part counts, and the `*` stands at the end of it.
        user = (
            wire.user_part(value) if isinstance(value, str) and re.search("[:@<]", value) else None
        )
        pattern = self.pattern(user or value, key)
        bare = pattern.strip("*")
        found = wire.bare_digits(bare) or ""
        if re.sub(r"[ ()+.-]", "", bare).strip("0123456789") or (not found and "*" not in pattern):
            self.wrong(
                key,
                value,
                "must be digits of a telephone number, or an address like sip:91804*@host;"
                " `*` may stand at their beginning or end",
            )
        # What stands after a `*` is no prefix of a number: its zeros count.
        found = found if pattern.startswith("*") else found.removeprefix("00")
        head = "*" if pattern.startswith("*") else ""
        tail = "*" if pattern.endswith("*") and (found or not head) else ""
        return f"{head}{found}{tail}"

    def terms(self, raw: Any, key: str, base: Terms, known_keys: tuple[str, ...]) -> Terms:
        known = self.table(raw, key, known_keys)
        found: dict[str, Any] = {}
        for name, value in known.items():
            reader = getattr(self, f"_{name}", None) if name in known_keys else None
            if reader is not None:
                parsed = reader(value, f"{key}.{name}")
                if name == "on":
                    parsed = {**base.on, **(parsed or {})}
                found[name] = parsed
        return replace(base, **{f.name: found[f.name] for f in fields(base) if f.name in found})

    def _mode(self, value: Any, key: str) -> Mode:
        if value not in list(Mode):
            self.wrong(key, value, 'must be "enforce" or "observe"')
            return Mode.OBSERVE
        return Mode(value)

    def _max_duration(self, value: Any, key: str) -> timedelta | None:
        found = duration(value)
        if found is None and value != "none":
            self.wrong(
                key, value, 'must be a duration of at least 1s like "45s", "15m" or "2h", or "none"'
            )
        return found

    def _confirm_within(self, value: Any, key: str) -> timedelta:
        found = duration(value)
        if found is None:
            self.wrong(key, value, 'must be a duration of at least 1s like "10s"')
        return found or timedelta(seconds=10)

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
        found = [self._daily(item, f"{key}[{i}]") for i, item in enumerate(value)]
        return tuple(daily for daily in found if daily)

    def _daily(self, value: Any, key: str) -> DailyTime | None:
        match = _STOP_AT.fullmatch(value) if isinstance(value, str) else None
        try:
            if match is None:
                raise ValueError
            return DailyTime(
                at=time(int(match[1]), int(match[2]), int(match[3] or 0)), zone=ZoneInfo(match[4])
            )
        except (
            ValueError,
            OSError,
            KeyError,
        ):  # ZoneInfoNotFoundError is a KeyError; a directory name is an OSError
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

    def account(self, raw: Any, key: str) -> FurtherAccount | None:
        known = self.table(raw, key, _ACCOUNT)
        for name in ("auth_id", "token_env"):
            if name not in known:
                self.wrong(f"{key}.{name}", None, "is required")
                return None
        for name in ("auth_id", "parent"):
            if name in known and (
                not isinstance(known[name], str) or not wire.identifier(known[name])
            ):
                self.wrong(f"{key}.{name}", known[name], "must be an account id like SA_7QK2XWPD")
                return None
        for name in ("token_env", "trunk_secret_env"):
            if name in known and (
                not isinstance(known[name], str)
                or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", known[name])
            ):
                self.wrong(
                    f"{key}.{name}",
                    "…",
                    "must be the NAME of an environment variable; secrets never stand in this file",
                )
                return None
        return FurtherAccount(**{name: known[name] for name in _ACCOUNT if name in known})


def _flat(table: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    # TOML reads an unquoted `dial.connected = "stop"` as a table in a table; people will write it
    # so.
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def gone(place: str) -> str:
    """What to tell an operator whose rules file was read before and is missing now."""
    return (
        f"ENDTAPE_CONFIG: {place} is gone, and it had the rules, so nothing would be stopped "
        "any more; put the file back, or, if nothing is to be stopped, write one with "
        '`[defaults]` and `mode = "observe"`'
    )
