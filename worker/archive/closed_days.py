"""The closed days of an account in the archive: which there are, and writing one.

Each file of a day is created once, and signed as it stands: the history, the list, and last the
`.json`, which has the digests of both. A day counts as closed when the signature of its `.json`
stands. So a crash at any point is repaired by closing the day again, with whatever is known then.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from worker import wire
from worker.archive import days, history_file, keys, seals, signing
from worker.archive.days import Before, Day
from worker.archive.signing_key import Signer
from worker.archive.store import Store
from worker.errors import Conflict

_STATEMENTS = (".json", ".absent.json", ".erased.json")
_Missing = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Closing:
    """What the ledger knows of a day that is to be closed. `filed`: lines of files. `missing`: what
    was expected and is not there, beside what the list says was given up. `ledger`: the day's
    completeness. `before`: None for the first day.
    """

    day: date
    closed_at: datetime
    filed: Sequence[str]
    deeds: Sequence[history_file.Deed]
    missing: _Missing
    ledger: Mapping[str, Any]
    before: Before | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """A day as it is closed, and what the ledger may forget: lines, and ids of deeds."""

    closed: Before
    lines: list[str]
    deeds: list[str]


class ClosedDays:
    """Each method raises what the store raises. `fallback`: where statements may lie that are not
    moved back yet.
    """

    def __init__(self, store: Store, account: str, fallback: Store | None = None) -> None:
        self._store, self._account, self._fallback = store, account, fallback

    def last(self) -> Before | None:
        """The last day that is closed; None where there is none."""
        names = {entry.last for entry in self._store.level(f"{self._account}/days").files}
        closed = [d for name in names if (d := days.day_of(name)) and f"{name}.sig" in names]
        return self.read(max(closed)) if closed else None

    def read(self, day: date) -> Before:
        """A closed day. Raises FileNotFoundError, ValueError where it cannot be understood."""
        content = self._store.read(self._name(days.day_name(day)))
        head = days.read(content)["history"]["head"]
        return Before(day=day, sha256=hashlib.sha256(content).hexdigest(), head=head)

    def close(self, given: Closing, signer: Signer, keep_going: Callable[[], None]) -> Written:
        """Write and sign the files of a day. `keep_going` raises to abort.

        Raises Conflict where a file of another hand stands, Unsigned.
        """
        history = self._history(given)
        head = given.before.head if given.before else history_file.NO_LINE
        deeds: list[dict[str, Any]] = []
        if history is not None:
            deeds, head = history_file.read(history, head)
            self._seal(days.history_name(given.day), history, signing.HISTORY, signer)
        keep_going()
        list_name = days.list_name(given.day)
        listed = self._create(list_name, days.write_list([*given.filed, *self._of(given.before)]))
        self._seal(list_name, listed, signing.DAYS, signer)
        keep_going()
        lines = days.read_list(listed)
        day = Day(
            account=self._account,
            day=given.day,
            closed_at=given.closed_at,
            listed=listed,
            history=history,
            head=head,
            missing=[*self._given_up(lines), *given.missing],
            ledger=given.ledger,
            before=given.before,
        )
        said = day.written() | {"signature": signer.key().field(signing.DAYS)}
        content = self._create(days.day_name(given.day), seals.written(said))
        self._seal(days.day_name(given.day), content, signing.DAYS, signer)
        return Written(
            closed=self.read(given.day),
            lines=[f"{sha256}  {name}" for name, sha256 in lines.items()],
            deeds=[str(deed["id"]) for deed in deeds],
        )

    def unlisted(self, trusted: set[str]) -> Iterator[str]:
        """The lines of what was archived or given up since the first closed day and stands in no
        day's list: the ledger was erased before it could say so. Only what one of these keys
        signed.
        """
        closed = [
            d for e in self._store.level(self._name("days")).files if (d := days.day_of(e.last))
        ]
        listed = set[str]()
        for day in closed:
            listed |= days.read_list(self._store.read(self._name(days.list_name(day)))).keys()
        for entry in self._store.list(self._account):
            name = entry.name.partition("/")[2]
            is_statement = days.is_of_recording(name) and name.endswith(_STATEMENTS)
            if is_statement and name not in listed:
                with contextlib.suppress(Conflict, ValueError, KeyError, TypeError):
                    yield from self._lines(entry.name, min(closed), trusted)

    def _lines(self, name: str, since: date, trusted: set[str]) -> Iterator[str]:
        """The lines of a statement, and of the audio that it is about."""
        content = self._store.read(name)
        said = json.loads(content)
        at = wire.parse_rfc3339(said["fetch"]["fetched_at"] if "fetch" in said else said["at"])
        signed = seals.is_sealed(self._store, name, content, signing.RECEIPTS, trusted)
        if not signed or at is None or at.date() < since:
            return
        yield days.line_of(name, hashlib.sha256(content).hexdigest())
        if "media" in said:
            yield from self._audio(name, str(said["media"]["sha256"]))
        elif "derived_from" in said:
            yield days.line_of(name.removesuffix(".json"), str(said["sha256"]))

    def _audio(self, receipt: str, sha256: str) -> Iterator[str]:
        stem = receipt.removesuffix(".json")
        folder = receipt.rpartition("/")[0]
        for entry in self._store.level(folder).files:
            rest = entry.name.removeprefix(stem)
            is_audio = rest.startswith(".") and not rest.endswith((".json", ".sig", ".peaks"))
            is_audio = is_audio and not keys.is_derived(entry.name)
            if entry.name.startswith(stem) and is_audio and rest.count(".") <= 2:
                yield days.line_of(entry.name, sha256)
                return

    # One day
    # ---------------------------------------------------------------------------------------------

    def _history(self, given: Closing) -> bytes | None:
        """The history file of the day; None where nothing was done."""
        name = days.history_name(given.day)
        if given.deeds:
            head = given.before.head if given.before else history_file.NO_LINE
            return self._create(name, history_file.written(given.deeds, head))
        try:
            return self._store.read(self._name(name))
        except FileNotFoundError:
            return None

    def _of(self, before: Before | None) -> Iterator[str]:
        """The lines of the files of the day before, which are filed on this one."""
        if before is None:
            return
        day = before.day
        for name in (days.day_name(day), days.list_name(day), days.history_name(day)):
            with contextlib.suppress(FileNotFoundError):
                content = self._store.read(self._name(name))
                yield days.line_of(self._name(name), hashlib.sha256(content).hexdigest())

    def _given_up(self, lines: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """What the list says was given up, and by whose fault."""
        for name in lines:
            if name.endswith(".absent.json"):
                said: dict[str, Any] = {}
                with contextlib.suppress(FileNotFoundError, ValueError, TypeError):
                    said = dict(json.loads(self._statement(name)))
                recording_id = name.rpartition("/")[2].removesuffix(".absent.json")
                fault = said.get("fault")
                yield {"recording_id": recording_id, "why": "given_up", "fault": fault}

    def _statement(self, name: str) -> bytes:
        try:
            return self._store.read(self._name(name))
        except FileNotFoundError:
            if self._fallback is None:
                raise
            return self._fallback.read(self._name(name))

    def _create(self, name: str, content: bytes) -> bytes:
        return seals.create_once(self._store, self._name(name), content)

    def _seal(self, name: str, content: bytes, namespace: str, signer: Signer) -> None:
        seals.seal(self._store, self._name(name), content, namespace, signer)

    def _name(self, name: str) -> str:
        """The name from the archive's root."""
        return f"{self._account}/{name}"
