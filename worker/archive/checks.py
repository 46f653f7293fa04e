"""What a downloaded file is checked for before it is archived. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from worker.archive.media import Media

PASSED = "passed"
NOT_ANNOUNCED = "not announced"
EXACT_TO_S = 0.1  # about one frame: no provider's duration is more exact


class Arrived(Protocol):
    """What the checks need to know of a download: the bytes that came, and the announced length."""

    @property
    def bytes(self) -> int: ...
    @property
    def declared_bytes(self) -> int | None: ...


def check_media(
    media: Media,
    download: Arrived,
    provider_duration_s: float | None,
    max_bytes: int,
    *,
    broken_off: str | None = None,
) -> dict[str, str]:
    """Each check by name: "passed", or why it failed. "not announced" means that the host stated no
    length to compare with.

    `broken_off`: how the download broke off, if it did. `length` fails then, announced or not.

    `duration`: the audio present is within 2 s or 2 %, whichever is more, of the provider's
    duration. `frames`: where audio may be missing (`lost_s`) and the bytes alone do not show it,
    the provider's duration decides.
    """
    sound = media.container in ("wav", "mp3")
    return {
        "length": broken_off or _length(download),
        "container": PASSED if sound else media.problem or f"{media.container} is no audio",
        "frames": _frames(media, provider_duration_s) if sound else "not walked",
        "duration": _duration(media.duration_s, provider_duration_s),
        "size": _size(media.bytes, max_bytes),
    }


def first_failed(checks: Mapping[str, str]) -> str | None:
    """The name of the first check that failed, or None. A length that was not announced has not
    failed.
    """
    for name, result in checks.items():
        if result != PASSED and (name, result) != ("length", NOT_ANNOUNCED):
            return name
    return None


def _length(download: Arrived) -> str:
    if download.declared_bytes is None:
        return NOT_ANNOUNCED
    if download.bytes == download.declared_bytes:
        return PASSED
    return f"{download.bytes} bytes arrived, {download.declared_bytes} were announced"


def _frames(media: Media, provider_s: float | None) -> str:
    if media.problem is None:
        return PASSED
    if media.lost_s is None or media.duration_s is None or provider_s is None:
        return media.problem
    with_lost_s = media.duration_s + media.lost_s
    nothing_lost = abs(media.duration_s - provider_s) <= abs(with_lost_s - provider_s) + EXACT_TO_S
    return PASSED if nothing_lost else media.problem


def _duration(present_s: float | None, provider_s: float | None) -> str:
    if present_s is None:
        return "no audio to measure"
    if provider_s is None:
        return "the provider gives no duration"
    if abs(present_s - provider_s) <= max(2.0, provider_s * 0.02):
        return PASSED
    return f"{present_s:.2f} s of audio are there, the provider says {provider_s:.2f} s"


def _size(size: int, max_bytes: int) -> str:
    if 0 < size <= max_bytes:
        return PASSED
    return f"{size} bytes, allowed are 1 to {max_bytes}"
