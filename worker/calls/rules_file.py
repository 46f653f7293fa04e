"""Reads `endtape.toml`: text in, `Rules` and accounts out, or every mistake at once. Pure.

docs/rules.md describes the format. Every mistake names the file, the key, the value and the way
out.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from worker import wire
from worker.calls.notices import ALL_TYPES
from worker.calls.rules import DEFAULTS, Match, Rule, Rules, Terms
from worker.calls.terms_file import TERMS, TermsReader, duration, is_variable
from worker.errors import SettingsError

_MATCH = ("to", "from", "direction", "account", "labels")
_NOTIFY = ("url", "secret_env", "private", "events", "numbers")
_ACCOUNT = ("auth_id", "token_env", "trunk_secret_env", "parent")


@dataclass(frozen=True, kw_only=True, slots=True)
class FurtherAccount:
    """An account that the file names. `token_env` and `trunk_secret_env` are the names of the
    environment variables that hold its secrets.
    """

    auth_id: str
    token_env: str
    trunk_secret_env: str | None = None
    parent: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Notified:
    """An application to be notified. `secret_env`: the variable that holds what signs."""

    url: str
    secret_env: str
    events: frozenset[str]
    private: bool = False
    numbers: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class RulesFile:
    """Everything that a rules file says."""

    rules: Rules
    accounts: tuple[FurtherAccount, ...] = ()
    notify: tuple[Notified, ...] = ()


def read(text: str, name: str) -> RulesFile:
    """The rules and accounts in `text`; `name` is the file's name for messages. Raises
    SettingsError with all mistakes.
    """
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # Python also refuses a number with too many digits, and too deep a nesting.
        raise SettingsError([f"{name}: not valid TOML: {error}"]) from error
    reader = Reader(name)
    rules_file = reader.document(document)
    if reader.problems:
        raise SettingsError(reader.problems)
    return rules_file


class Reader(TermsReader):
    """Reads one document."""

    def document(self, raw: dict[str, Any]) -> RulesFile:
        top = self.table(raw, "", ("adopt", "defaults", "rules", "accounts", "notify"))
        defaults = self.terms(top.get("defaults", {}), "defaults", Terms())
        rules = [
            self.rule(item, key, defaults)
            for key, item in self.tables(top.get("rules", []), "rules")
        ]
        self.reachable(rules)
        accounts = [
            self.account(item, key)
            for key, item in self.tables(top.get("accounts", []), "accounts")
        ]
        ids = [a.auth_id for a in accounts if a]
        for twice in sorted({i for i in ids if ids.count(i) > 1}):
            self.wrong("accounts.auth_id", twice, "stands there twice; keep one")
        notified = [
            self.notified(item, key) for key, item in self.tables(top.get("notify", []), "notify")
        ]
        in_file = Rules(
            rules=tuple(rules),
            defaults=defaults,
            adopt=self.adopt(top.get("adopt", "new")),
            from_file=True,
        )
        return RulesFile(
            rules=in_file,
            accounts=tuple(a for a in accounts if a),
            notify=tuple(n for n in notified if n),
        )

    def adopt(self, value: Any) -> timedelta | None:
        length = duration(value)
        if length is None and value != "new":
            self.wrong("adopt", value, 'must be "new" or a duration like "30d"')
        return length

    def rule(self, raw: Any, key: str, defaults: Terms) -> Rule:
        table = self.table(raw, key, ("name", "match", *TERMS))
        name = table.get("name", key)
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            self.wrong(f"{key}.name", name, "must be a text that names the rule, on one line")
            name = key
        elif name == DEFAULTS:
            self.wrong(f"{key}.name", name, "is what [defaults] are called; choose another name")
        return Rule(
            name=name,
            match=self.match(table.get("match", {}), f"{key}.match"),
            terms=self.terms({k: v for k, v in table.items() if k in TERMS}, key, defaults),
        )

    def reachable(self, rules: list[Rule]) -> None:
        """Reports each rule that an earlier one leaves no call to, or whose name is taken."""
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
        table = self.table(raw, key, _MATCH)
        patterns: dict[str, Any] = {}
        for side in ("from", "to"):
            if side in table:
                patterns[f"{side}_number"] = self.number(table[side], f"{key}.{side}")
        if "direction" in table:
            direction = table["direction"]
            # Compared with a list, since a value of the file may be a list, which no set can hold.
            if direction not in ["inbound", "outbound"]:
                self.wrong(f"{key}.direction", direction, 'must be "inbound" or "outbound"')
            patterns["direction"] = str(direction)
        if "account" in table:
            patterns["account"] = self.pattern(table["account"], f"{key}.account")
        if "labels" in table:
            patterns["labels"] = self.labels(table["labels"], f"{key}.labels")
        return Match(**patterns)

    def labels(self, value: Any, key: str) -> dict[str, str]:
        if not isinstance(value, dict):
            self.wrong(key, value, 'must be a table of texts, like { team = "billing" }')
            return {}
        return {name: self.pattern(v, f"{key}.{name}") for name, v in value.items()}

    def pattern(self, value: Any, key: str) -> str:
        if not isinstance(value, str) or not value or "*" in value.strip("*") or "**" in value:
            self.wrong(key, value, "must be a text; `*` may stand at its beginning or end only")
            return "*"
        return value

    def number(self, value: Any, key: str) -> str:
        """The pattern of a telephone number, in bare digits.

        Only the user part of a SIP or `tel:` address counts, and a `*` stands at the end of it.
        """
        is_address = isinstance(value, str) and re.search("[:@<]", value)
        user = wire.user_part(value) if is_address else None
        pattern = self.pattern(user or value, key)
        bare = pattern.strip("*")
        digits = wire.bare_digits(bare) or ""
        if re.sub(r"[ ()+.-]", "", bare).strip("0123456789") or (not digits and "*" not in pattern):
            self.wrong(
                key,
                value,
                "must be digits of a telephone number, or an address like sip:91804*@host;"
                " `*` may stand at their beginning or end",
            )
        # A pattern that begins with `*` matches the end of a number, so its leading zeros are kept.
        digits = digits if pattern.startswith("*") else digits.removeprefix("00")
        head = "*" if pattern.startswith("*") else ""
        tail = "*" if pattern.endswith("*") and (digits or not head) else ""
        return f"{head}{digits}{tail}"

    def account(self, raw: Any, key: str) -> FurtherAccount | None:
        """The account; None after its first mistake."""
        table = self.table(raw, key, _ACCOUNT)
        for name in ("auth_id", "token_env"):
            if name not in table:
                self.wrong(f"{key}.{name}", None, "is required")
                return None
        for name in ("auth_id", "parent"):
            if name in table and not _is_identifier(table[name]):
                self.wrong(f"{key}.{name}", table[name], "must be an account id like SA_7QK2XWPD")
                return None
        for name in ("token_env", "trunk_secret_env"):
            if name in table and not is_variable(table[name]):
                self.wrong(
                    f"{key}.{name}",
                    "…",
                    "must be the NAME of an environment variable; secrets never stand in this file",
                )
                return None
        if table.get("parent") == table["auth_id"]:
            self.wrong(f"{key}.parent", table["parent"], "must be another account, or left out")
            return None
        return FurtherAccount(**{name: table[name] for name in _ACCOUNT if name in table})

    def notified(self, raw: Any, key: str) -> Notified | None:
        """The application; None after a mistake that leaves nothing to call."""
        table = self.table(raw, key, _NOTIFY)
        signed = self.signed_url(table, key)
        if signed is None:
            return None
        url, secret_env, private = signed
        numbers = self._watch(table.get("numbers", False), f"{key}.numbers")
        events = self.told_of(table.get("events", list(ALL_TYPES)), f"{key}.events")
        return Notified(
            url=url, secret_env=secret_env, events=events, private=private, numbers=numbers
        )

    def told_of(self, value: Any, key: str) -> frozenset[str]:
        known = isinstance(value, list) and all(v in ALL_TYPES for v in value)
        if not known or not value:
            self.wrong(key, value, f"must be a list of some of {', '.join(ALL_TYPES)}")
            return frozenset(ALL_TYPES)
        return frozenset(value)


def _is_identifier(value: Any) -> bool:
    return isinstance(value, str) and bool(wire.identifier(value))


def gone(place: str) -> str:
    """What to tell an operator whose rules file was read before and is missing now."""
    return (
        f"ENDTAPE_CONFIG: {place} is gone, and it had the rules, so nothing would be stopped "
        "any more; put the file back, or, if nothing is to be stopped, write one with "
        '`[defaults]` and `mode = "observe"`'
    )
