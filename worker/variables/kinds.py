"""The kinds of values that settings take: how each is read and shown."""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worker import wire
from worker.archive import places
from worker.archive.places import Place
from worker.calls import terms_file

RABBIT = ("amqp", "amqps")
NOTHING = re.compile(r"(?!)")
_BYTES = re.compile(r"([0-9]{1,19}) ?(|B|KB|MB|GB|TB)")
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIGNER = re.compile(r"[A-Za-z0-9._~@:+-]{1,128}")
_KEY_NAME = re.compile(r"([A-Za-z0-9._@+-]{1,64}):(.+)", re.DOTALL)
_NOT_NAMES = frozenset({"api", "app", "view", "cli", "rule", "us"})  # say who did it, as they are
_PATH_SAFE = re.compile(r"[A-Za-z0-9._~-]+")


class Unaccepted(Exception):
    """A value that its setting does not take. `fixes`: a text for each mistake, saying what is
    accepted. `secret`: the value must not be shown.
    """

    def __init__(self, *fixes: str, secret: bool = False) -> None:
        super().__init__(*fixes)
        self.fixes = fixes
        self.secret = secret


class Kind:
    """The values that a setting takes. This one takes every text."""

    def read(self, text: str) -> Any:
        """The value that `text` stands for. Raises Unaccepted."""
        return text

    def shown(self, value: Any) -> str:
        """The value as `endtape doctor` prints it, without secrets."""
        if value is None:
            return "(none)"
        if isinstance(value, tuple):
            return ", ".join(map(str, value)) or "(none)"
        return str(value)


class Secret(Kind):
    """A kind whose values are never shown."""

    def shown(self, value: Any) -> str:
        return "(set)" if value else "(not set)"


class Identifier(Kind):
    def read(self, text: str) -> str:
        if not wire.identifier(text):
            raise Unaccepted("must be the id of the main account, like MA_7QK2XWPD")
        return text


class Tokens(Secret):
    """One or two tokens of the provider."""

    def read(self, text: str) -> tuple[str, ...]:
        tokens = split(text)
        plain = all(token.isprintable() and token.isascii() for token in tokens)
        if not 1 <= len(tokens) <= 2 or not plain:
            raise Unaccepted(
                "must be a secret of plain characters, or two with a comma between, newest first",
                secret=True,
            )
        return tokens


@dataclass(frozen=True, slots=True)
class NamedKey:
    """A bearer key of our own API, and the name of who has it; None where it has no name."""

    name: str | None
    secret: str = field(repr=False)


class SigningSecrets(Tokens):
    """One or two secrets that sign notifications, as Standard Webhooks has them."""

    def read(self, text: str) -> tuple[str, ...]:
        secrets = super().read(text)
        if not all(map(_signs, secrets)):
            raise Unaccepted(
                "must be whsec_ and the base64 of 24 to 64 bytes;"
                " make one with: echo whsec_$(openssl rand -base64 32)",
                secret=True,
            )
        return secrets


def _signs(secret: str) -> bool:
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError:
        return False
    return secret.startswith("whsec_") and 24 <= len(key) <= 64


class Keys(Secret):
    """Keys of our own API, each `NAME:KEY` or a bare one: two of a name at most, two bare ones at
    most.
    """

    def read(self, text: str) -> tuple[NamedKey, ...]:
        keys = [_named_key(entry) for entry in split(text)]
        if not keys or not all(_is_key(key.secret) for key in keys):
            raise Unaccepted(
                "must have 16 characters or more, or be such keys, or NAME:KEY, with commas "
                "between",
                secret=True,
            )
        names = Counter(key.name for key in keys)
        if max(names.values()) > 2:
            raise Unaccepted(
                "must have two keys of one name at most, two without a name at most: "
                "the new one and the old one",
                secret=True,
            )
        if len({key.secret for key in keys}) < len(keys):
            raise Unaccepted("must not have one key twice: it says who did it", secret=True)
        if taken := sorted(_NOT_NAMES & {key.name for key in keys if key.name}):
            raise Unaccepted(f"must not use the name {taken[0]}, which means others", secret=True)
        return tuple(keys)


class OneKey(Secret):
    def read(self, text: str) -> str:
        if not _is_key(text):
            raise Unaccepted("must have 16 characters or more, or be left out", secret=True)
        return text


class PathToken(Secret):
    """A secret that stands in the path of a URL."""

    def read(self, text: str) -> str:
        if len(text) < 16 or not _PATH_SAFE.fullmatch(text):
            raise Unaccepted(
                "must have 16 characters or more of A-Z a-z 0-9 . _ ~ - (it stands in a URL)",
                secret=True,
            )
        return text


@dataclass(frozen=True)
class Choice(Kind):
    allowed: tuple[str, ...]

    def read(self, text: str) -> Any:
        if text not in self.allowed:
            raise Unaccepted(f"must be one of: {', '.join(self.allowed)}")
        return text


@dataclass(frozen=True)
class Whether(Choice):
    """A choice between two words. The value: whether it is `yes`."""

    yes: str

    def read(self, text: str) -> bool:
        return bool(super().read(text) == self.yes)

    def shown(self, value: Any) -> str:
        return next(word for word in self.allowed if (word == self.yes) is value)


@dataclass(frozen=True)
class Whole(Kind):
    low: int
    high: int

    def read(self, text: str) -> int:
        digits = text.isascii() and text.isdigit()
        if not digits or not self.low <= int(text[:30]) <= self.high:
            raise Unaccepted(f"must be a whole number from {self.low} to {self.high}")
        return int(text)


@dataclass(frozen=True)
class Number(Kind):
    low: float
    high: float = 1e6

    def read(self, text: str) -> float:
        value = wire.number(text)
        if value is None or not self.low <= value <= self.high:
            raise Unaccepted(f"must be a number from {self.low:g} to {self.high:.0f}")
        return value

    def shown(self, value: Any) -> str:
        return f"{value:g}"


class Duration(Kind):
    def read(self, text: str) -> Any:
        value = terms_file.duration(text)
        if value is None:
            raise Unaccepted('must be a duration like "30d"')
        return value

    def shown(self, value: Any) -> str:
        return terms_file.spelled(value)


class File(Kind):
    """A path; a relative one begins at the folder of `.env`."""

    def read(self, text: str) -> Path:
        if "://" in text:
            raise Unaccepted("must be a path on this machine, not an address")
        return Path(text)


class SignerName(Kind):
    """A name that stands in a file `allowed_signers`, where commas, quotes, spaces, `*`, `?` and
    `!` have a meaning.
    """

    def read(self, text: str) -> str:
        if not _SIGNER.fullmatch(text):
            raise Unaccepted(
                "must be a name like endtape@example.org: up to 128 characters of "
                "A-Z a-z 0-9 . _ ~ @ : + -"
            )
        return text


class Archive(Kind):
    """A directory, or the address of a bucket; `Settings` adds what its client needs."""

    def read(self, text: str) -> Place:
        try:
            return places.parse(text)
        except ValueError as error:
            raise Unaccepted(str(error), secret="@" in text) from None


class Options(Kind):
    """Pairs KEY=VALUE with commas between. The keys are written as the client knows them."""

    def read(self, text: str) -> tuple[tuple[str, str], ...]:
        pairs = [part.partition("=") for part in split(text)]
        if not all(name.strip() and value.strip() for name, _, value in pairs):
            raise Unaccepted("must be KEY=VALUE pairs with commas between")
        return tuple((name.strip().lower(), value.strip()) for name, _, value in pairs)

    def shown(self, value: Any) -> str:
        """The names; a value may be a customer's key."""
        return ", ".join(name for name, _ in value or ()) or "(none)"


class Bytes(Kind):
    """A number of bytes, with or without a unit of powers of ten."""

    def read(self, text: str) -> int:
        parts = _BYTES.fullmatch(text.strip().upper())
        if not parts or not 1 <= int(parts[1]) * _UNITS[parts[2]] <= 2**60:
            raise Unaccepted('must be a size like "10GB": a whole number and kB, MB, GB or TB')
        return int(parts[1]) * _UNITS[parts[2]]


def keys_of_two_doors(values: Mapping[str, Any]) -> Iterator[str]:
    """A problem for each lesser key of these settings that is another's, too: it would open all
    that the other opens.
    """
    taken = {key.secret: "ENDTAPE_API_KEY" for key in values["api_keys"] or ()}
    viewers = [("ENDTAPE_VIEW_KEY", key.secret) for key in values["view_keys"] or ()]
    for name, secret in [("ENDTAPE_APP_KEY", values["app_key"]), *viewers]:
        if secret in taken:
            yield f"{name} = (secret): must be another key than {taken[secret]}"
        elif secret:
            taken[secret] = name


def split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _named_key(entry: str) -> NamedKey:
    named = _KEY_NAME.fullmatch(entry)
    return NamedKey(named[1], named[2]) if named else NamedKey(None, entry)


def _is_key(text: str) -> bool:
    return len(text) >= 16 and text.isascii()
