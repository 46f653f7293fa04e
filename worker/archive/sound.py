"""What a walk over audio found, whatever kind of audio it is. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Sound:
    """The audio that is present. `problem`: None if all of it is sound.

    `lost_s`: how many seconds more there would be if nothing were missing, by the header or by the
    bytes that are no audio. None where nobody can say. Whether that audio ever existed, the bytes
    alone do not show.
    """

    codec: str | None = None
    channels: int | None = None
    sample_rate: int | None = None
    duration_s: float | None = None
    problem: str | None = None
    lost_s: float | None = None
