"""The keys that are trusted, as a file `allowed_signers` of OpenSSH names them. Pure.

Its dates are days without a zone, which `ssh-keygen` reads by the local time of its machine, in
every version that knows them. So a line begins a day early and ends two days late, wherever it is
read.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from worker.archive.signing import NAMESPACES, PublicKey

_EARLY, _LATE = timedelta(days=1), timedelta(days=2)
_DATE = re.compile(r"([0-9]{8})(?:([0-9]{4})([0-9]{2})?)?Z?")


@dataclass(frozen=True, kw_only=True, slots=True)
class AllowedSigner:
    """A key that is trusted for what was signed from `valid_after` to `valid_before` (None: no
    limit) in one of the namespaces (None: in each).

    `made_at`: no later than this the key began to sign; None where nobody knows.
    """

    signer: str
    key: PublicKey
    namespaces: tuple[str, ...] | None = NAMESPACES
    valid_after: datetime | None = None
    valid_before: datetime | None = None
    made_at: datetime | None = None

    @classmethod
    def used(
        cls, signer: str, key: PublicKey, *, since: datetime, until: datetime | None
    ) -> AllowedSigner:
        """The line of a key that signs since one instant, and until another one where another key
        took its place.
        """
        return cls(
            signer=signer,
            key=key,
            valid_after=_midnight(since) - _EARLY,
            valid_before=_midnight(until) + _LATE if until else None,
            made_at=since,
        )

    @property
    def line(self) -> str:
        """The line of the file, without its end."""
        options = {
            "namespaces": ",".join(self.namespaces or ()),
            "valid-after": f"{self.valid_after:%Y%m%d}" if self.valid_after else "",
            "valid-before": f"{self.valid_before:%Y%m%d}" if self.valid_before else "",
        }
        written = ",".join(f'{name}="{value}"' for name, value in options.items() if value)
        return " ".join(word for word in (self.signer, written, self.key.text) if word)

    def why_not(self, namespace: str, at: datetime | None) -> str | None:
        """Why this key may not have signed in the namespace at that instant; None if it may."""
        if self.namespaces is not None and namespace not in self.namespaces:
            return f"the key is not trusted for the namespace {namespace}"
        if at is None:
            return "it does not say when it was signed" if self.valid_before else None
        if self.valid_after and at < self.valid_after:
            return f"the key is valid after {self.valid_after:%Y-%m-%d} only"
        if self.valid_before and at > self.valid_before:
            return f"the key was valid before {self.valid_before:%Y-%m-%d} only"
        return None


class Use(Protocol):
    """A key of the service and its use, as the ledger knows it."""

    @property
    def key(self) -> str: ...
    @property
    def signer(self) -> str: ...
    @property
    def since(self) -> datetime: ...
    @property
    def used(self) -> datetime: ...


def of_service(uses: Sequence[Use]) -> list[AllowedSigner]:
    """The keys of the service, the one in use first: each other one ends where it was last used."""
    return [
        AllowedSigner.used(
            use.signer,
            PublicKey.parse(use.key),
            since=use.since,
            until=use.used if number else None,
        )
        for number, use in enumerate(uses)
    ]


def since(line: str, key: PublicKey) -> datetime | None:
    """An instant on the day since which this key signs, by a line that `used` made; None where the
    line is another.
    """
    try:
        (found,) = read(line)
    except ValueError:
        return None
    if found.key != key or found.made_at is None:
        return None
    return found.made_at - timedelta(seconds=1)


def read(text: str) -> list[AllowedSigner]:
    """The keys of a file `allowed_signers`. Raises ValueError, which names the line, for one that
    cannot be understood: a key that is left out would make good signatures look forged.
    """
    signers = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                signers.append(_read_line(line.strip()))
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
    return signers


def written(signers: Iterable[AllowedSigner]) -> str:
    """The file, a line for each key."""
    return "".join(f"{signer.line}\n" for signer in signers)


def _read_line(line: str) -> AllowedSigner:
    signer, at, rest = line.partition(" ssh-ed25519 ")
    if not at:
        raise ValueError("it names no Ed25519 key (ssh-ed25519 AAAA…)")
    name, _, options = signer.strip().partition(" ")
    found = dict(_option(word) for word in _options(options))
    after = _instant(found.get("valid-after"))
    return AllowedSigner(
        signer=name.strip('"'),
        key=PublicKey.parse(f"ssh-ed25519 {rest}"),
        namespaces=tuple(found["namespaces"].split(",")) if "namespaces" in found else None,
        valid_after=after,
        valid_before=_instant(found.get("valid-before")),
        made_at=after + _EARLY + timedelta(days=1) if after else None,
    )


def _options(text: str) -> list[str]:
    """The options between name and key: words with commas between, some of them quoted."""
    lexer = shlex.shlex(text.strip(), posix=True, punctuation_chars="")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = ",", True, ""
    return list(lexer)


def _option(word: str) -> tuple[str, str]:
    name, _, value = word.partition("=")
    if name.lower() not in {"namespaces", "valid-after", "valid-before"}:
        raise ValueError(f"the option {name[:40]!r} is not understood")
    return name.lower(), value


def _instant(text: str | None) -> datetime | None:
    if text is None:
        return None
    parts = _DATE.fullmatch(text)
    if not parts:
        raise ValueError(f"{text[:40]!r} is no date like 20261125")
    day, minutes, seconds = parts.groups()
    written_out = f"{day}{minutes or '0000'}{seconds or '00'}+0000"
    return datetime.strptime(written_out, "%Y%m%d%H%M%S%z")


def _midnight(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
