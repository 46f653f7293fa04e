"""What is written beside each archived file, what it is checked for, and where it is filed.
Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from worker import wire
from worker.archive.media import Media

SCHEMA = "endtape/receipt/1"
PASSED = "passed"
NOT_ANNOUNCED = "not announced"
EXACT_TO_S = 0.1  # a frame or so: no provider's figure is more exact


class Arrived(Protocol):
    """What `checks` wants to know of a download."""

    @property
    def bytes(self) -> int: ...
    @property
    def declared_bytes(self) -> int | None: ...


def key(
    account: str,
    recording_id: str,
    *,
    started_at: datetime | None,
    ended_at: datetime | None,
    duration_s: float | None,
    added_at: datetime | None,
    extension: str,
) -> str:
    """`{account}/{YYYY}/{MM}/{DD}/{recording_id}.{extension}` by the start in UTC.

    A start that is unknown is the end minus the duration, else the provider's add_time. Raises
    ValueError where none of them is known, and for ids and extensions that are not safe as names.
    """
    derived = ended_at - timedelta(seconds=duration_s) if ended_at and duration_s else None
    day = started_at or derived or added_at
    if day is None:
        raise ValueError(f"no time is known by which recording {recording_id} could be filed")
    for name in (account, recording_id, extension):
        if wire.identifier(name) != name:
            raise ValueError(f"not fit for a file name: {name[:140]!r}")
    return f"{account}/{day.astimezone(UTC):%Y/%m/%d}/{recording_id}.{extension}"


def checks(
    media: Media, download: Arrived, provider_duration_s: float | None, max_bytes: int
) -> dict[str, str]:
    """Each check by name: "passed", or why not. "not announced" stands for a length that could not
    be compared.

    `duration`: the audio present is within 2 s or 2 %, whichever is more, of the provider's figure.
    `frames`: where audio may be missing (`lost_s`) and the bytes alone do not tell, the provider's
    figure does.
    """
    sound = media.container in ("wav", "mp3")
    return {
        "length": _length(download),
        "container": PASSED if sound else media.problem or f"{media.container} is no audio",
        "frames": _frames(media, provider_duration_s) if sound else "not walked",
        "duration": _duration(media.duration_s, provider_duration_s),
        "size": PASSED
        if 0 < media.bytes <= max_bytes
        else f"{media.bytes} bytes, allowed are 1 to {max_bytes}",
    }


def failed(checks: Mapping[str, str]) -> str | None:
    """The name of the first check that failed; a length that was not announced has not."""
    fine = {("length", NOT_ANNOUNCED)}
    return next(
        (
            name
            for name, result in checks.items()
            if result != PASSED and (name, result) not in fine
        ),
        None,
    )


def _length(download: Arrived) -> str:
    if download.declared_bytes is None:
        return NOT_ANNOUNCED
    same = download.bytes == download.declared_bytes
    return (
        PASSED
        if same
        else f"{download.bytes} bytes arrived, {download.declared_bytes} were announced"
    )


def _frames(media: Media, provider_s: float | None) -> str:
    if media.problem is None:
        return PASSED
    if media.lost_s is None or media.duration_s is None or provider_s is None:
        return media.problem
    with_it_s = media.duration_s + media.lost_s
    nothing_lost = abs(media.duration_s - provider_s) <= abs(with_it_s - provider_s) + EXACT_TO_S
    return PASSED if nothing_lost else media.problem


def _duration(present_s: float | None, provider_s: float | None) -> str:
    if present_s is None:
        return "no audio to measure"
    if provider_s is None:
        return "the provider gives no duration"
    if abs(present_s - provider_s) <= max(2.0, provider_s * 0.02):
        return PASSED
    return f"{present_s:.2f} s of audio are there, the provider says {provider_s:.2f} s"


def receipt(
    *,
    account: str,
    call_uuid: str,
    recording_id: str,
    from_number: str | None,
    to_number: str | None,
    direction: str | None,
    labels: Mapping[str, str],
    started_at: datetime | None,
    ended_at: datetime | None,
    provider_url: str | None,
    provider_duration_s: float | None,
    provider_format: str | None,
    media: Media,
    sha256: str,
    checks: Mapping[str, str],
    stop: Mapping[str, Any],
    attempts: int,
    fetched_at: datetime,
    segment_of: str | None = None,
    gaps: Sequence[Any] = (),
    events: Sequence[Any] = (),
) -> dict[str, Any]:
    """The receipt as it is written. Instants anywhere in it become RFC 3339 in UTC with
    milliseconds; it is unsigned.
    """
    written = {
        "schema": SCHEMA,
        "recording_id": recording_id,
        "account": account,
        "call_uuid": call_uuid,
        "from": from_number,
        "to": to_number,
        "direction": direction,
        "labels": labels,
        "started_at": started_at,
        "ended_at": ended_at,
        "provider": {
            "url": provider_url,
            "duration_ms": _ms(provider_duration_s),
            "format": provider_format,
        },
        "media": {
            "container": media.container,
            "codec": media.codec,
            "channels": media.channels,
            "sample_rate": media.sample_rate,
            "duration_ms": _ms(media.duration_s),
            "bytes": media.bytes,
            "sha256": sha256,
        },
        "checks": checks,
        "stop": stop,
        "fetch": {"attempts": attempts, "fetched_at": fetched_at},
        **({"segment_of": segment_of} if segment_of else {}),
        "gaps": gaps,
        "events": events,
        "signature": None,
    }
    plain: dict[str, Any] = _plain(written)
    return plain


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [
            _plain(inner)
            for inner in (sorted(value) if isinstance(value, (set, frozenset)) else value)
        ]
    return value
