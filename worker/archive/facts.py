"""Facts about a recording that come after its receipt, a small signed file each. Pure.

`{account}/facts/{recording_id}/{n}.json`: the first has the number 1. A file is never changed; the
highest number of a kind counts, and of hold and release the higher one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from itertools import chain
from typing import Any

from worker import wire

SCHEMA = "endtape/fact/1"
_NUMBER = re.compile(r"([1-9][0-9]{0,8})\.json")


class FactKind(StrEnum):
    HOLD = "hold"
    RELEASE = "release"
    # `particulars` has `on` (False lifts it) and `restricted_by`, why
    RESTRICTED = "restricted"
    # `particulars`: what counts of the consent, as `/v1` shows it, and in `statements` every
    # statement about it that was ever known
    CONSENT = "consent"
    DELETED_AT_PROVIDER = "deleted_at_provider"
    ERASE = "erase"  # it is being erased, and no other fact is written any more


@dataclass(frozen=True, kw_only=True, slots=True)
class Fact:
    """One fact. `who` and `claimed`: as in the history. `particulars`: JSON data of its kind.
    `signed`: whether its signature stands beside it.
    """

    account: str
    recording_id: str
    kind: FactKind
    at: datetime
    who: str
    claimed: str | None = None
    reason: str | None = None
    particulars: Mapping[str, Any] = field(default_factory=dict)
    n: int = 0
    signed: bool = False

    def written(self) -> dict[str, Any]:
        """The fact as JSON data, unsigned and without telephone numbers in what people wrote."""
        at = self.at.astimezone(UTC).isoformat(timespec="milliseconds")
        return {
            "schema": SCHEMA,
            "account": self.account,
            "recording_id": self.recording_id,
            "n": self.n,
            "kind": self.kind.value,
            "at": at.replace("+00:00", "Z"),
            "who": self.who,
            "claimed": wire.without_numbers(self.claimed) if self.claimed else None,
            "reason": wire.without_numbers(self.reason) if self.reason else None,
            "particulars": dict(self.particulars),
            "signature": None,
        }


def folder_of(account: str, recording_id: str) -> str:
    """The folder of a recording's facts. Raises ValueError for ids that are not safe as names."""
    for name in (account, recording_id):
        if wire.identifier(name) != name:
            raise ValueError(f"not fit for a file name: {name[:140]!r}")
    return f"{account}/facts/{recording_id}"


def name_of(account: str, recording_id: str, n: int) -> str:
    return f"{folder_of(account, recording_id)}/{n}.json"


def number_of(file_name: str) -> int | None:
    """The number in the last step of a fact's name; None where it is no fact."""
    found = _NUMBER.fullmatch(file_name)
    return int(found[1]) if found else None


def parse(content: bytes, name: str, *, signed: bool) -> Fact:
    """The fact that stands under this name. Raises ValueError where the content is none, or is
    about another recording or number.
    """
    try:
        said = json.loads(content)
        at = wire.parse_rfc3339(said["at"])
        fact = Fact(
            account=said["account"],
            recording_id=said["recording_id"],
            kind=FactKind(said["kind"]),
            at=at or datetime.min.replace(tzinfo=UTC),
            who=said["who"],
            claimed=said.get("claimed"),
            reason=said.get("reason"),
            particulars=said.get("particulars") or {},
            n=said["n"],
            signed=signed,
        )
        stands_at = name_of(fact.account, fact.recording_id, fact.n)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{name} is no fact: {error!r}"[:300]) from None
    if at is None or said.get("schema") != SCHEMA or stands_at != name:
        raise ValueError(f"{name} is about another recording or number, or of another form")
    return fact


# What they say together
# --------------------------------------------------------------------------------------------------


def is_held(facts: Iterable[Fact]) -> bool:
    """Whether nothing may be deleted. A hold counts as soon as it is written, a release once it is
    signed.
    """
    last = _last(f for f in facts if f.kind is FactKind.HOLD or _is_signed(f, FactKind.RELEASE))
    return last is not None and last.kind is FactKind.HOLD


def standing_holds(facts: Iterable[Fact]) -> list[Fact]:
    """The holds since the last release that is signed, the first of them first."""
    standing = list[Fact]()
    for fact in sorted(facts, key=lambda one: one.n):
        if _is_signed(fact, FactKind.RELEASE):
            standing.clear()
        elif fact.kind is FactKind.HOLD:
            standing.append(fact)
    return standing


def locked_by_us(facts: Iterable[Fact]) -> list[str]:
    """The files on which the holds that stand set the bucket's own legal hold."""
    locked = (map(str, fact.particulars.get("locked") or ()) for fact in standing_holds(facts))
    return list(dict.fromkeys(chain.from_iterable(locked)))


def is_restricted(facts: Iterable[Fact]) -> bool:
    """Whether it is played only with a reason that stands in the history. To restrict counts as
    soon as it is written, to lift it once that is signed.
    """
    last = _last(f for f in facts if f.kind is FactKind.RESTRICTED and (f.signed or _restricts(f)))
    return last is not None and _restricts(last)


def restricted_by(receipt: Mapping[str, Any], facts: Sequence[Fact]) -> list[str]:
    """Why a recording is restricted: by the fact that counts, else by its receipt."""
    if not is_restricted(facts):
        lifted = any(_is_signed(fact, FactKind.RESTRICTED) for fact in facts)
        return [] if lifted else [*((receipt.get("restriction") or {}).get("restricted_by") or ())]
    last = _last(f for f in facts if f.kind is FactKind.RESTRICTED and _restricts(f))
    return [*((last.particulars.get("restricted_by") if last else None) or ())]


def statements(receipt: Mapping[str, Any], facts: Iterable[Fact]) -> list[Mapping[str, Any]]:
    """Every statement about consent that the archive knows, by their own instants: those of the
    last fact, else those of the receipt.
    """
    last = last_of(facts, FactKind.CONSENT)
    if last:
        return [*(last.particulars.get("statements") or [_shown(last.particulars)])]
    consent = receipt.get("consent")
    known = (receipt.get("restriction") or {}).get("statements")
    return [*(known or ([consent] if consent else []))]


def consent(receipt: Mapping[str, Any], facts: Iterable[Fact]) -> Mapping[str, Any] | None:
    """What counts of the consent, as `/v1` shows it: by the last fact, else by the receipt."""
    last = last_of(facts, FactKind.CONSENT)
    return _shown(last.particulars) if last else receipt.get("consent")


def _shown(particulars: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in particulars.items() if name != "statements"}


def erasing(facts: Iterable[Fact]) -> Fact | None:
    """The fact that says that it is being erased. It counts as soon as it is written."""
    return next((fact for fact in facts if fact.kind is FactKind.ERASE), None)


def offload_of(facts: Iterable[Fact]) -> Fact | None:
    """The fact that the provider's copy is gone. One whose particulars have `gone` False says that
    it is about to be deleted.
    """
    last = last_of(facts, FactKind.DELETED_AT_PROVIDER)
    return last if last and last.particulars.get("gone") is True else None


def last_of(facts: Iterable[Fact], kind: FactKind) -> Fact | None:
    """The fact of this kind that counts."""
    return _last(f for f in facts if f.kind is kind)


def _last(facts: Iterable[Fact]) -> Fact | None:
    return max(facts, key=lambda fact: fact.n, default=None)


def _restricts(fact: Fact) -> bool:
    return fact.particulars.get("on") is not False


def _is_signed(fact: Fact, kind: FactKind) -> bool:
    return fact.kind is kind and fact.signed
