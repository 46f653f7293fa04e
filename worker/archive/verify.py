"""Re-reads an archive, and names what is missing, altered, unsigned or unreferenced.

It trusts the keys that it is given and nothing that lies in the archive. A file that was written
within the last ten minutes may still wait for its receipt or its signature.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from worker import wire
from worker.archive import facts, signing
from worker.archive.filing import SIGNERS
from worker.archive.keys import is_derived
from worker.archive.signers import AllowedSigner
from worker.archive.store import Entry, Level, Store
from worker.errors import Conflict

READERS = {False: 4, True: 16}  # files that are read at once; in a bucket the answers take longer
_FRESH_S = 600.0
_STRANGE = "nobody knows it"
_ACCOUNT_HAS = frozenset({"facts", "days", "history", SIGNERS})
_NAME = re.compile(
    r"(?P<id>[A-Za-z0-9_-]{1,128})"
    r"(?P<kind>\.json|\.absent\.json|\.erased\.json|\.peaks|(?:\.[0-9a-f]{16})?\.[a-z0-9]{1,8}"
    r"|\.derived\.[a-z0-9_-]{1,32}\.[0-9a-f]{16}(?:\.json)?)"
    r"(?P<sig>\.sig)?"
)
_SIGNED = (".json", ".absent.json", ".erased.json")
_COUNTS = {".absent.json": "absent", ".erased.json": "erased"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """`what` is one of: altered, audio_missing, derived_missing, receipt_missing, unsigned,
    bad_signature, unknown_key, expired_key, misplaced, unreadable, unreferenced, came_back; of days
    day_missing, list_missing, file_missing, unlisted, history_missing, history_cut, chain_broken;
    of facts fact_missing.
    """

    what: str
    path: str
    detail: str


@dataclass(slots=True)
class Report:
    """What was checked, by kind, and what was found."""

    counts: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    def add(self, what: str, path: str, detail: str) -> None:
        self.findings.append(Finding(what=what, path=path, detail=detail))

    def take(self, other: Report) -> None:
        self.counts.update(other.counts)
        self.findings += other.findings


class Trust:
    """Which keys are trusted, for what and when."""

    def __init__(self, signers: Iterable[AllowedSigner]) -> None:
        self._signers = list(signers)
        made = [signer.made_at for signer in self._signers if signer.made_at]
        self.began = min(made, default=None)  # no later than this the first key began to sign

    def judge(
        self,
        content: bytes,
        signature: bytes,
        at: datetime | None,
        namespace: str = signing.RECEIPTS,
    ) -> tuple[str, str] | None:
        """What is wrong with a signature, and why; None where it is good."""
        try:
            key = signing.verify(content, signature, namespace)
        except signing.BadSignature as error:
            return "bad_signature", str(error)
        reasons = [s.why_not(namespace, at) for s in self._signers if s.key == key]
        if not reasons:
            return "unknown_key", f"signed with {key.fingerprint}, which is not trusted"
        return None if None in reasons else ("expired_key", str(reasons[0]))


@dataclass(slots=True)
class _Recording:
    """The files of one recording in one folder, by the part of their names after its id."""

    recording_id: str
    files: dict[str, Entry] = field(default_factory=dict)

    @property
    def audio(self) -> list[str]:
        known = {*_SIGNED, *(f"{kind}.sig" for kind in _SIGNED), ".peaks"}
        return sorted(kind for kind in self.files.keys() - known if not is_derived(kind))

    @property
    def derived(self) -> list[str]:
        """The files that were made from it, without what speaks about them."""
        endings = (kind.removesuffix(".sig").removesuffix(".json") for kind in self.files)
        return sorted({ending for ending in endings if is_derived(ending)})


class Verifier:
    """Checks the archive in a store, folder by folder; `quick` leaves the audio unread.

    Raises Unstored where a bucket does not answer.
    """

    def __init__(self, store: Store, trust: Trust, *, quick: bool) -> None:
        self._store, self._trust, self._quick = store, trust, quick
        self._now = time.time()

    def folders(self, report: Report) -> list[str]:
        """The folders of all days, in order. What nobody knows on the way to them is added to the
        report.
        """
        found: list[str] = []
        for account in self._folders("", wire.identifier, report, beside={SIGNERS}):
            for year in self._folders(account, _digits(4), report, beside=_ACCOUNT_HAS):
                for month in self._folders(year, _digits(2), report):
                    found += self._folders(month, _digits(2), report)
        return found

    def check(self, folder: str, readers: ThreadPoolExecutor) -> Report:
        """The report of one folder."""
        report, recordings = Report(), dict[str, _Recording]()
        level = self._level(folder, report)
        for step in level.folders:
            report.add("unreferenced", f"{folder}/{step}", _STRANGE)
        for entry in level.files:
            parts = _NAME.fullmatch(entry.last)
            signs = parts and parts["sig"] and not parts["kind"].endswith(".json")
            if parts is None or signs or not entry.is_plain:
                report.add("unreferenced", entry.name, _STRANGE)
                continue
            recording = recordings.setdefault(parts["id"], _Recording(parts["id"]))
            recording.files[parts["kind"] + (parts["sig"] or "")] = entry
        for part in readers.map(lambda one: self._recording(folder, one), recordings.values()):
            report.take(part)
        return report

    # One recording
    # --------------------------------------------------------------------------------------------

    def _recording(self, folder: str, recording: _Recording) -> Report:
        report, files = Report(), recording.files
        path = f"{folder}/{recording.recording_id}"
        try:
            if ".erased.json" in files:
                self._erased(folder, recording, report)
                return report
            for kind in _SIGNED:
                if kind in files:
                    self._statement(folder, recording, kind, report)
                elif f"{kind}.sig" in files:
                    report.add("unreferenced", f"{path}{kind}.sig", "what it signs is missing")
            if ".json" not in files:
                self._without_receipt(path, recording, report)
            for ending in recording.derived:
                self._derived(folder, recording, ending, report)
        except (OSError, Conflict) as error:
            report.add("unreadable", path, str(error))
        return report

    def _erased(self, folder: str, recording: _Recording, report: Report) -> None:
        """Check a tombstone, and name what came back of the recording: a backup was restored."""
        files, tombstone = recording.files, ".erased.json"
        self._statement(folder, recording, tombstone, report)
        back = [files[kind].name for kind in files.keys() - {tombstone, f"{tombstone}.sig"}]
        account = folder.partition("/")[0]
        with contextlib.suppress(ValueError):
            level = self._store.level(facts.folder_of(account, recording.recording_id))
            back += [entry.name for entry in level.files]
        if back and self._is_fresh(files[tombstone]):
            report.counts["unfinished"] += 1  # it is being erased
            return
        for name in sorted(back):
            report.add("came_back", name, "it was erased: `endtape erase` removes it again")

    def _statement(self, folder: str, recording: _Recording, kind: str, report: Report) -> None:
        """Check a signed file: a receipt, or what stands in its place."""
        path = f"{folder}/{recording.recording_id}{kind}"
        content = self._store.read(recording.files[kind].name)
        said = _object(content)
        counted = "derived" if is_derived(kind) else _COUNTS.get(kind, "receipts")
        report.counts[counted] += 1
        if said is None:
            report.add("unreadable", path, "no JSON object")
            return
        told = (said.get("account"), said.get("recording_id"))
        if told != (folder.split("/", maxsplit=1)[0], recording.recording_id):
            report.add("misplaced", path, "it is about another recording")
        self._signature(path, recording, kind, content, said, report)
        if kind == ".json":
            self._audio(folder, recording, said, report)
        elif is_derived(kind):
            self._made(recording.files.get(kind.removesuffix(".json")), path, said, report)

    def _signature(
        self,
        path: str,
        recording: _Recording,
        kind: str,
        content: bytes,
        said: dict[str, Any],
        report: Report,
    ) -> None:
        entry, at = recording.files.get(f"{kind}.sig"), _signed_at(said)
        if entry is not None:
            wrong = self._trust.judge(content, self._store.read(entry.name), at)
            report.counts["signed"] += wrong is None
            if wrong:
                report.add(wrong[0], path, wrong[1])
        elif not said.get("signature") and at and self._trust.began and at < self._trust.began:
            report.counts["before_signing"] += 1
        elif self._is_fresh(recording.files[kind]):
            report.counts["unfinished"] += 1
        else:
            report.add("unsigned", path, "its signature is missing")

    def _audio(
        self, folder: str, recording: _Recording, said: dict[str, Any], report: Report
    ) -> None:
        """Check the audio that a receipt is about."""
        path = f"{folder}/{recording.recording_id}"
        given = said.get("media")
        media = given if isinstance(given, dict) else {}
        digest, size = media.get("sha256"), media.get("bytes")
        names = sorted(recording.audio, key=lambda name: f".{digest}"[:17] not in name)
        if not names:
            report.add("audio_missing", f"{path}.json", "the audio of this receipt is missing")
            return
        for name in names[1:]:
            report.add("unreferenced", path + name, "the receipt is about another file")
        report.counts["audio"] += 1
        self._content(recording.files[names[0]], size, digest, report)

    def _content(self, entry: Entry, size: Any, digest: Any, report: Report) -> None:
        """Check a file whose receipt says this of it."""
        if entry.bytes != size:
            report.add("altered", entry.name, f"the receipt says {size} bytes")
        elif not self._quick:
            report.counts["bytes"] += int(size)
            if self._digest(entry) != digest:
                report.add("altered", entry.name, "its SHA-256 is not the receipt's")

    def _derived(self, folder: str, recording: _Recording, ending: str, report: Report) -> None:
        """Check a file that was made from the recording, or what speaks about it."""
        files, path = recording.files, f"{folder}/{recording.recording_id}{ending}"
        if f"{ending}.json" in files:
            self._statement(folder, recording, f"{ending}.json", report)
        elif f"{ending}.json.sig" in files:
            report.add("unreferenced", f"{path}.json.sig", "what it signs is missing")
        elif self._is_fresh(files[ending]):
            report.counts["unfinished"] += 1
        else:
            report.add("receipt_missing", path, "a file made from a recording, without a receipt")

    def _made(self, entry: Entry | None, path: str, said: dict[str, Any], report: Report) -> None:
        """Check the file that a receipt says was made from a recording."""
        if entry is None:
            report.add("derived_missing", path, "the file of this receipt is missing")
            return
        self._content(entry, said.get("bytes"), said.get("sha256"), report)

    def _without_receipt(self, path: str, recording: _Recording, report: Report) -> None:
        for name in recording.audio:
            if self._is_fresh(recording.files[name]):
                report.counts["unfinished"] += 1
            else:
                report.add("receipt_missing", path + name, "audio without a receipt")
        if ".peaks" in recording.files:
            report.add("unreferenced", f"{path}.peaks", "there is no receipt beside it")

    def _digest(self, entry: Entry) -> str:
        with self._store.open(entry.name) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]

    def _is_fresh(self, entry: Entry) -> bool:
        # A bucket's clock may be ahead of ours.
        return -_FRESH_S < self._now - entry.modified < _FRESH_S

    # Folders
    # --------------------------------------------------------------------------------------------

    def _level(self, folder: str, report: Report) -> Level:
        try:
            return self._store.level(folder)
        except OSError as error:
            report.add("unreadable", folder or ".", str(error.strerror))
            return Level()

    def _folders(
        self, folder: str, known: Any, report: Report, beside: Collection[str] = ()
    ) -> list[str]:
        """The folders directly below one, in order, without those `beside` them. What is none of
        either is added to the report.
        """
        level, before = self._level(folder, report), f"{folder}/" if folder else ""
        steps = [step for step in level.folders if step not in beside]
        for name in [step for step in steps if not known(step)]:
            report.add("unreferenced", before + name, _STRANGE)
        for entry in level.files:
            if entry.last not in beside:
                report.add("unreferenced", entry.name, _STRANGE)
        return [before + step for step in steps if known(step)]


def _digits(count: int) -> Any:
    return re.compile(f"[0-9]{{{count}}}").fullmatch


def _object(content: bytes) -> dict[str, Any] | None:
    try:
        said = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None


def _signed_at(said: dict[str, Any]) -> datetime | None:
    """When a file was signed, by its own words; None where it does not say."""
    fetch = said.get("fetch")
    text = fetch.get("fetched_at") if isinstance(fetch, dict) else said.get("at")
    return wire.parse_rfc3339(text) if isinstance(text, str) else None
