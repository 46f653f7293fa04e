"""What the bytes of a file really are, and how much audio is present. Pure; no content of a file
makes it raise.

The provider's file names and content types lie (WAV under `.mp3` was seen), so only the bytes
count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from worker.archive import mpeg, pages, tags, wav
from worker.archive.pages import FoundPages
from worker.archive.sound import Sound

# Kinds of audio that the provider does not send and that we do not walk. Each gets its name, and
# fails the check of the container.
_OTHERS = (
    (b"OggS", "ogg"),
    (b"fLaC", "flac"),
    (b".snd", "au"),
    (b"#!AMR", "amr"),
    (b"caff", "caf"),
    (b"\x1aE\xdf\xa3", "webm"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Media:
    """What the bytes are. `duration_s`: of the audio that is present, found by walking. `problem`:
    None if all of it is sound.

    `container` is "wav", "mp3", "html", "json", "xml", "empty", another kind of audio, or
    "unknown". Some problems may mean that nothing is missing: the header counts more than is
    there, or other bytes stand amid the audio. Then `lost_s` says how much may be missing; the
    bytes alone do not show whether it is.
    """

    container: str
    bytes: int
    extension: str = "bin"
    codec: str | None = None
    channels: int | None = None
    sample_rate: int | None = None
    duration_s: float | None = None
    problem: str | None = None
    lost_s: float | None = None


def examine(file: BinaryIO, found: FoundPages | None = None) -> Media:
    """Walk the whole of an open, seekable file, in constant memory and linear time. Raises only the
    errors of reading it (OSError).
    """
    size = file.seek(0, 2)
    if not size:
        return Media(container="empty", bytes=0, problem="the file is empty")
    kind = pages.kind(_head(file, tags.behind(file, 0, size, b"\0 \t\r\n\f")))
    if kind:
        return Media(
            container=kind,
            bytes=size,
            extension=kind,
            problem=f"the bytes are {kind.upper()}, not audio",
        )
    start = behind_tags(file, size)
    head = _head(file, start)
    if wav.is_here(head):
        return _media("wav", size, wav.extension(head), wav.measure(file, start, size, found))
    return _other(head, size) or _mpeg(file, start, size, found) or _unknown(file, start, size)


def _head(file: BinaryIO, start: int) -> bytes:
    file.seek(start)
    return file.read(512)


def behind_tags(file: BinaryIO, size: int) -> int:
    """The offset behind the leading tags. Some writers put ID3 before a WAV, too, and players step
    over it.
    """
    at = 0
    for _ in range(16):
        length = tags.length_at(_head(file, at))
        if not length or at + length >= size:
            break
        at += length
    return at


def _other(head: bytes, size: int) -> Media | None:
    name = next((name for mark, name in _OTHERS if head.startswith(mark)), None)
    if head[4:8] == b"ftyp":
        name = "m4a"
    elif head[:4] == b"FORM" and head[8:11] == b"AIF":
        name = "aiff"
    if name is None:
        return None
    return Media(
        container=name,
        bytes=size,
        extension=name,
        problem=f"the bytes are {name.upper()}, which is not looked into",
    )


def _mpeg(file: BinaryIO, start: int, size: int, found: FoundPages | None) -> Media | None:
    sound = mpeg.walk(file, start, tags.before(file, start, size), found).sound
    if sound is None and start:
        # The leading tag may be shorter than it states: walk again from behind its header.
        sound = mpeg.walk(file, 10, tags.before(file, 10, size), found).sound
    return _media("mp3", size, sound.codec or "mp3", sound) if sound else None


def _media(container: str, size: int, extension: str, sound: Sound) -> Media:
    return Media(
        container=container,
        bytes=size,
        extension=extension,
        codec=sound.codec,
        channels=sound.channels,
        sample_rate=sound.sample_rate,
        duration_s=sound.duration_s,
        problem=sound.problem,
        lost_s=sound.lost_s,
    )


def _unknown(file: BinaryIO, start: int, size: int) -> Media:
    what = (
        "an ID3 tag without MPEG audio behind it"
        if start
        else f"they begin with {_head(file, 0)[:8].hex(' ')}"
    )
    return Media(
        container="unknown", bytes=size, problem=f"the bytes are no audio that we know: {what}"
    )
