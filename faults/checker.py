"""Judges a run by what the provider saw and by the files in the archive, never by what our own
processes report.

`log` is the emulator's journal, `book` its recordings, `owed` what the load meant to happen to
each. A callback counts from its first 200: from then on it is recorded, and everything that follows
from it must happen.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from emulator.audio import Audio
from faults.deletions import deletions, was_home
from worker.archive import signing
from worker.archive.filing import SIGNERS

_STOP = re.compile(r"/api/v1/Account/[^/]+/Call/([^/]+)/Record/")
_NAME = re.compile(
    r"([^/]+)/(\d{4}/\d{2}/\d{2})/([A-Za-z0-9_-]+)"
    r"\.([a-z0-9]+|json\.sig|(?:absent|erased)\.json(?:\.sig)?)"
)
_BOOKS = re.compile(
    r"[^/]+/(?:facts/[A-Za-z0-9_-]+/[1-9]\d*\.json|days/\d{4}-\d{2}-\d{2}\.(?:json|sha256)|"
    r"history/\d{4}-\d{2}-\d{2}\.jsonl)(?:\.sig)?"
)
_INSTEAD = (".absent.json", ".erased.json", ".peaks")  # beside or instead of audio and receipt
_OTHER = {"mp3": "wav", "wav": "mp3"}
Entry = Mapping[str, Any]
Span = tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Owed:
    """What should happen to one recording. Without both it runs until its call ends."""

    after_s: float | None = None  # the rules end it so long after it was reported
    trigger: str | None = None  # the callback that makes its stop due


@dataclass(slots=True)
class Findings:
    """What a run showed. The lists hold ids or sentences that help to look things up."""

    recordings: int = 0
    owed_stops: int = 0
    unstopped: list[str] = field(default_factory=list)
    stopped_wrongly: list[str] = field(default_factory=list)
    early: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    repeats: int = 0
    # how late each stop was, without the time in which Redis was away
    late_s: list[float] = field(default_factory=list)
    # recordings of which no callback was ever answered 200
    unannounced: list[str] = field(default_factory=list)
    answers: Counter[int] = field(default_factory=Counter)  # to callbacks, by status; 0: none
    slowest_answer_s: float = 0.0
    media_requests: int = 0
    sent_bytes: int = 0  # by the media host, in all
    kept_bytes: int = 0  # of the files under a final name
    unfinished: int = 0  # files with a dot, about which we promise nothing

    def late(self, percent: float) -> float:
        ordered = sorted(self.late_s)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Allowed:
    """Deviations that are legitimate under a run's bad days."""

    deaf: bool = False  # a 204 may have stopped nothing, so repetitions are needed
    other_container: bool = False  # the provider may have served the other container's bytes
    unheard: bool = False  # a recording whose first callback was never answered owes no stop
    start_listed: bool = False  # the list may show a recording before its callback arrives
    erased: bool = False  # somebody orders that recordings are erased, and judges it
    early_s: float = 0.05


def judge(
    log: Sequence[Entry],
    book: Sequence[Entry],
    owed: Mapping[str, Owed],
    archive: Path,
    *,
    account: str,
    down: Sequence[Span] = (),
    allowed: Allowed | None = None,
) -> Findings:
    """Judges a run. `down`: when Redis was away, as pairs of begin and end."""
    allowed, findings, callbacks, stops = (
        allowed or Allowed(),
        Findings(),
        Callbacks(log),
        _stops(log),
    )
    findings.answers, findings.slowest_answer_s = callbacks.answers, callbacks.slowest_s
    findings.media_requests = sum(entry["kind"] == "media" for entry in log)
    findings.sent_bytes = sum(entry["bytes"] for entry in log if entry["kind"] == "media.sent")
    files = _files(archive, findings)
    by_call = {
        c: list(rs)
        for c, rs in itertools.groupby(
            sorted(book, key=lambda r: str(r["call_uuid"])), lambda r: str(r["call_uuid"])
        )
    }
    gone = deletions(log)
    for recording in book:
        rid = str(recording["recording_id"])
        if not callbacks.answered(recording):
            findings.unannounced.append(rid)
        findings.recordings += 1
        if rid in owed and (callbacks.heard(recording) or not allowed.unheard):
            _judge_stop(findings, recording, owed[rid], callbacks, down, allowed)
        own = files.pop(rid, {})
        if not any(name.endswith(".erased.json") for name in own):
            _judge_file(findings, recording, own, account, allowed)
            receipts = [_read(path) for name, path in own.items() if name.endswith(".json")]
            if rid in gone and not was_home(receipts, gone[rid][0]):
                findings.wrong.append(f"{rid}: deleted at the provider before it was archived")
        elif not allowed.erased:
            findings.wrong.append(f"{rid}: erased, and nobody ordered it")
    findings.wrong += [
        f"{rid}: no such recording, but {' '.join(sorted(n.name for n in names.values()))}"
        for rid, names in files.items()
    ]
    for call_uuid, sent in stops.items():
        findings.repeats += _repeats(sent, by_call.get(call_uuid, []), callbacks, allowed)
    return findings


def over(book: Iterable[Entry], archive: Path) -> bool:
    """Whether every recording has ended and has a file of its name in the archive, or was
    erased.
    """
    names = [match for _, match in _named(archive) if match]
    have = Counter(match[3] for match in names if not _is_instead(match[0]))
    erased = {match[3] for match in names if match[4] == "erased.json"}
    return all(
        r["ended_at"] and (have[str(r["recording_id"])] >= 2 or str(r["recording_id"]) in erased)
        for r in book
    )


class Callbacks:
    """The callbacks: their content, when each was first sent, and when first answered 200."""

    def __init__(self, log: Sequence[Entry]) -> None:
        self.answers: Counter[int] = Counter()
        self.slowest_s = 0.0
        self._sent: dict[tuple[str, str], float] = {}
        self._noted: dict[tuple[str, str], float] = {}
        for entry in log:
            if entry["kind"] != "callback" or entry.get("lost"):
                continue
            self.answers[entry["status"]] += 1
            self.slowest_s = max(self.slowest_s, entry["elapsed"])
            subject = (
                entry["fields"].get("RecordingID")
                or entry["fields"].get("recording_id")
                or entry["call_uuid"]
            )
            key = (str(subject), entry["event"])
            self._sent[key] = min(entry["at"], self._sent.get(key, entry["at"]))
            if entry["status"] == 200:
                done = entry["at"] + entry["elapsed"]
                self._noted[key] = min(done, self._noted.get(key, done))

    def answered(self, recording: Entry) -> bool:
        return any(
            (recording["recording_id"], event) in self._noted
            for event in ("Record", "RecordStop", "rest")
        )

    def heard(self, recording: Entry) -> bool:
        return (recording["recording_id"], "Record") in self._noted

    def ended(self, recording: Entry) -> float:
        """When the callback of its end was first answered 200."""
        keys = [
            (recording["recording_id"], "RecordStop"),
            (recording["recording_id"], "rest"),
            (recording["call_uuid"], "Hangup"),
        ]
        return min(self._noted.get(key, math.inf) for key in keys)

    def due(
        self, recording: Entry, owed: Owed, *, noted: bool, listed: bool = False
    ) -> float | None:
        """When its stop is owed: by what was answered 200, or (`noted` False) by what was sent at
        all, the earliest possible. `listed`: the list may have told the provider's own figure of
        the start, which counts, before any callback was sent.
        """
        known = self._noted if noted else self._sent
        begun = known.get((recording["recording_id"], "Record"))
        if begun is None:
            return None if owed.after_s is None else recording["started_at"] + owed.after_s
        if listed:
            begun = min(begun, recording["started_at"])
        asked = known.get((recording["call_uuid"], owed.trigger)) if owed.trigger else None
        found = [begun + owed.after_s] if owed.after_s is not None else []
        return min([*found, max(asked, begun)] if asked else found, default=None)


def _judge_stop(
    findings: Findings,
    recording: Entry,
    owed: Owed,
    callbacks: Callbacks,
    down: Sequence[Span],
    allowed: Allowed,
) -> None:
    rid, ended_at, by_us = (
        str(recording["recording_id"]),
        recording["ended_at"],
        recording["end_reason"] == "StoppedByAPI",
    )
    if owed.after_s is None and owed.trigger is None:
        if by_us:
            findings.stopped_wrongly.append(rid)
        return
    findings.owed_stops += 1
    due, earliest = (
        callbacks.due(recording, owed, noted=True),
        callbacks.due(recording, owed, noted=False, listed=allowed.start_listed),
    )
    if not by_us:
        findings.unstopped.append(rid)
    elif due is not None:
        # A callback may be recorded although its answer was lost; its stop then comes before `due`.
        findings.late_s.append(
            max(0.0, ended_at - due - sum(_shared((due, ended_at), span) for span in down))
        )
        if earliest is not None and ended_at < earliest - allowed.early_s:
            findings.early.append(f"{rid}: {earliest - ended_at:.3f} s early")


def _shared(one: Span, other: Span) -> float:
    return max(0.0, min(one[1], other[1]) - max(one[0], other[0]))


# Stops
# ------------------------------------------------------------------------------------------------


def _stops(log: Sequence[Entry]) -> dict[str, list[Entry]]:
    found: dict[str, list[Entry]] = {}
    for entry in log:
        if (
            entry["kind"] == "request"
            and entry["method"] == "DELETE"
            and (match := _STOP.fullmatch(entry["path"]))
        ):
            found.setdefault(match[1], []).append(entry)
    return found


def _repeats(
    sent: Sequence[Entry], recordings: Sequence[Entry], callbacks: Callbacks, allowed: Allowed
) -> int:
    """Stops that were needless: all that they named had been asked to end before, or had ended and
    we had been told.
    """
    count, asked = 0, set[str]()
    for entry in sorted(sent, key=lambda e: e["at"]):
        url = json.loads(entry["body"]).get("URL") if entry["body"] else None
        meant = [r for r in recordings if url in {None, r["url"]}]
        running = {
            r["recording_id"]
            for r in meant
            if r["ended_at"] is None or r["ended_at"] >= entry["at"]
        }
        unknown = {r["recording_id"] for r in meant if callbacks.ended(r) > entry["at"]} - asked
        if not unknown | (running if allowed.deaf else running - asked):
            count += 1
        if entry["status"] in {204, 404}:
            asked |= {r["recording_id"] for r in meant}
    return count


# Files
# ------------------------------------------------------------------------------------------------


def _named(archive: Path) -> Iterable[tuple[Path, re.Match[str] | None]]:
    for path in archive.rglob("*"):
        parts = path.relative_to(archive).parts
        hidden = any(part.startswith(".") for part in parts)
        if path.is_file() and not hidden and parts[0] != SIGNERS:
            name = str(path.relative_to(archive))
            if not _BOOKS.fullmatch(name):
                yield path, _NAME.fullmatch(name)


def _files(archive: Path, findings: Findings) -> dict[str, dict[str, Path]]:
    """By recording: its files, by their paths below the archive."""
    files: dict[str, dict[str, Path]] = {}
    for path, match in _named(archive):
        if match is None:
            findings.wrong.append(f"{path.relative_to(archive)}: no name of an archive")
        else:
            files.setdefault(match[3], {})[str(path.relative_to(archive))] = path
    findings.unfinished = sum(
        path.name.startswith(".") for path in archive.rglob("*") if path.is_file()
    )
    return files


def _is_instead(name: str) -> bool:
    return name.removesuffix(".sig").endswith(_INSTEAD)


def _judge_file(
    findings: Findings, recording: Entry, files: dict[str, Path], account: str, allowed: Allowed
) -> None:
    rid = str(recording["recording_id"])
    files = {name: path for name, path in files.items() if not _is_instead(name)}
    receipts = [name for name in files if name.endswith(".json")]
    audio = [name for name in files if not name.endswith((".json", ".json.sig"))]
    if len(receipts) != 1 or len(audio) != 1:
        if not audio or not receipts:
            findings.lost.append(rid)
        if len(receipts) > 1 or len(audio) > 1 or (receipts and not audio):
            findings.wrong.append(f"{rid}: {len(audio)} of audio, {len(receipts)} receipts")
        return
    expected = digests(recording, allowed)
    day = datetime.fromtimestamp(recording["started_at"], UTC).strftime("%Y/%m/%d")
    extension = audio[0].rpartition(".")[2]
    data = files[audio[0]].read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    findings.kept_bytes += len(data)
    if (
        audio[0] != f"{account}/{day}/{rid}.{extension}"
        or receipts[0] != f"{account}/{day}/{rid}.json"
    ):
        findings.wrong.append(f"{rid}: filed as {audio[0]} with {receipts[0]}")
    if expected.get(extension) != digest:
        findings.wrong.append(f"{rid}: {len(data)} bytes that are not the provider's")
    receipt = _read(files[receipts[0]])
    told = (
        receipt.get("recording_id"),
        receipt.get("call_uuid"),
        receipt.get("account"),
        receipt.get("media", {}).get("sha256"),
        receipt.get("media", {}).get("bytes"),
    )
    if told != (rid, recording["call_uuid"], account, digest, len(data)):
        findings.wrong.append(f"{rid}: the receipt tells of something else")
    if receipt.get("signature") and not _is_signed(receipts[0], files):
        findings.wrong.append(f"{rid}: the receipt lacks its signature")


def _is_signed(receipt: str, files: dict[str, Path]) -> bool:
    signature = files.get(f"{receipt}.sig")
    try:
        return signature is not None and bool(
            signing.verify(files[receipt].read_bytes(), signature.read_bytes(), signing.RECEIPTS)
        )
    except signing.BadSignature:
        return False


def digests(recording: Entry, allowed: Allowed) -> dict[str, str]:
    """The SHA-256 of the file that the provider would serve, by container."""
    if not recording["ended_at"]:
        return {}
    lasted_ms = (recording["ended_at"] - recording["started_at"]) * 1000
    wanted = [recording["container"]] + [_OTHER[recording["container"]]] * allowed.other_container
    found = {}
    for container in wanted:
        digest = hashlib.sha256()
        for block in Audio(
            container, recording["channels"], lasted_ms, recording["recording_id"]
        ).stream():
            digest.update(block)
        found[container] = digest.hexdigest()
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
