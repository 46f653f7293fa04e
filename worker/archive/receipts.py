"""The receipt beside each archived file: what it says, and how that is written. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from worker import wire
from worker.archive.media import Media

SCHEMA = "endtape/receipt/1"
ABSENT_SCHEMA = "endtape/absent/1"
ERASED_SCHEMA = "endtape/erased/1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Receipt:
    """All that one receipt says. `started_at` and `ended_at` are the recording's; `provider_…` is
    what the provider's list states; `attempts` counts the fetches, with the one that succeeded.
    """

    account: str
    call_uuid: str
    recording_id: str
    from_number: str | None
    to_number: str | None
    direction: str | None
    labels: Mapping[str, str]
    started_at: datetime | None
    ended_at: datetime | None
    provider_url: str | None
    provider_duration_s: float | None
    provider_format: str | None
    media: Media
    sha256: str
    checks: Mapping[str, str]
    stop: Mapping[str, Any]
    attempts: int
    fetched_at: datetime
    first_seen_at: datetime | None = None
    consent: Mapping[str, Any] | None = None
    # Why it is restricted, with the limits that say so; None where no limit holds.
    restriction: Mapping[str, Any] | None = None
    # Until when it is kept, and by which rule; None where that is for ever.
    retain: Mapping[str, Any] | None = None
    segment_of: str | None = None
    gaps: Sequence[Any] = ()
    events: Sequence[Any] = ()

    def written(self) -> dict[str, Any]:
        """The receipt as JSON data, unsigned. Every instant in it, also a nested one, becomes RFC
        3339 in UTC with milliseconds.
        """
        plain: dict[str, Any] = _plain(
            {
                "schema": SCHEMA,
                "recording_id": self.recording_id,
                "account": self.account,
                "call_uuid": self.call_uuid,
                "from": self.from_number,
                "to": self.to_number,
                "direction": self.direction,
                "labels": self.labels,
                "first_seen_at": self.first_seen_at,
                "started_at": self.started_at,
                "ended_at": self.ended_at,
                "provider": self._provider(),
                "media": self._media(),
                "checks": self.checks,
                "stop": self.stop,
                "fetch": {"attempts": self.attempts, "fetched_at": self.fetched_at},
                **({"segment_of": self.segment_of} if self.segment_of else {}),
                **({"consent": self.consent} if self.consent else {}),
                **({"retain": self.retain} if self.retain else {}),
                **({"restriction": self.restriction} if self.restriction else {}),
                "gaps": self.gaps,
                "events": self.events,
                "signature": None,
            }
        )
        return plain

    def _provider(self) -> dict[str, Any]:
        return {
            "url": self.provider_url,
            "duration_ms": _milliseconds(self.provider_duration_s),
            "format": self.provider_format,
        }

    def _media(self) -> dict[str, Any]:
        return {
            "container": self.media.container,
            "codec": self.media.codec,
            "channels": self.media.channels,
            "sample_rate": self.media.sample_rate,
            "duration_ms": _milliseconds(self.media.duration_s),
            "bytes": self.media.bytes,
            "sha256": self.sha256,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Absence:
    """What is said of a recording that was given up, without numbers. `at`: when this was written;
    `attempts` counts the fetches since a person last ordered one.
    """

    account: str
    call_uuid: str
    recording_id: str
    started_at: datetime | None
    ended_at: datetime | None
    first_seen_at: datetime | None
    at: datetime
    gave_up_at: datetime | None
    fault: str
    reason: str | None
    attempts: int
    stop: Mapping[str, Any]

    def written(self) -> dict[str, Any]:
        """The statement as JSON data, unsigned."""
        masked = wire.without_numbers(self.reason) if self.reason else None
        plain: dict[str, Any] = _plain(
            {"schema": ABSENT_SCHEMA, **asdict(self), "reason": masked, "signature": None}
        )
        return plain


@dataclass(frozen=True, kw_only=True, slots=True)
class Tombstone:
    """What stays of a recording that was erased, without numbers. `at`: when erasing began.
    `sha256`: of the audio, where there was any. `rule`: whose `retain` was over; None where a
    person ordered it. `who` and `claimed`: as in the history. `stop`: how its recording ended, as
    the receipt had it.
    """

    account: str
    call_uuid: str
    recording_id: str
    first_seen_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    at: datetime
    sha256: str | None
    rule: str | None
    reason: str | None
    who: str
    claimed: str | None
    stop: Mapping[str, Any]

    def written(self) -> dict[str, Any]:
        """The tombstone as JSON data, unsigned."""
        said = asdict(self)
        for name in ("reason", "claimed"):
            said[name] = wire.without_numbers(said[name]) if said[name] else None
        plain: dict[str, Any] = _plain({"schema": ERASED_SCHEMA, **said, "signature": None})
        return plain


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


def _plain(value: Any) -> Any:
    """The value as JSON can hold it: instants as text, sets as sorted lists."""
    if isinstance(value, datetime):
        # Rounded, as Redis keeps instants, so that `/v1` and the receipt agree.
        rounded = value.astimezone(UTC) + timedelta(microseconds=500)
        return rounded.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, (set, frozenset)):
        return [_plain(inner) for inner in sorted(value)]
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value
