"""Reading back what the ledger and the archive hold: calls, recordings, audio, receipts,
signatures, outlines, and the keys that signed.
"""

from __future__ import annotations

import base64
import contextlib
import mimetypes
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from flask import Response, jsonify, request
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import RequestedRangeNotSatisfiable
from werkzeug.wsgi import wrap_file

from webhooks.api import request_bodies
from webhooks.api.history import enter_play
from webhooks.api.problems import Problem
from worker.archive import peaks, signers
from worker.archive.filing import Archive
from worker.archive.store import Opened
from worker.calls.call import Call, Phase, Recording
from worker.calls.events import Fault
from worker.calls.replay import replay
from worker.calls.views import call_view, recording_view
from worker.errors import Conflict, LedgerUnavailable, Unstored
from worker.ledger.calls import SeenAt
from worker.ledger.client import Ledger
from worker.ledger.whose import find_call, find_recording
from worker.settings import Settings

_MOST = 200  # recordings on a page
_MOST_DRAWN = 32 * 1024 * 1024  # bytes of audio: 40 ms of work
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Wanted:
    """What a page of recordings is asked for; None where the query does not say."""

    phase: str | None
    fault: str | None
    limit: int

    def fits(self, view: dict[str, Any]) -> bool:
        return self.phase in {None, view["phase"]} and self.fault in {None, view["fault"]}


class Reader:
    """`settings` is called for each request, so that a reload takes effect.

    One answer reads at most `most_read` recordings, for at most `read_for_s` seconds; its cursor
    says where to go on.
    """

    def __init__(
        self,
        ledger: Ledger,
        settings: Callable[[], Settings],
        *,
        most_read: int = 20_000,
        read_for_s: float = 3.0,
    ) -> None:
        self.ledger, self.settings = ledger, settings
        self._most_read, self._read_for_s = most_read, read_for_s

    def recordings(self) -> Response:
        """A page of recordings, newest first."""
        query = request.args
        wanted = _Wanted(
            phase=_one_of(query, "phase", Phase),
            fault=_one_of(query, "fault", Fault),
            limit=_limit(query.get("limit")),
        )
        views, end = self._page(wanted, query, _cursor(query.get("cursor")))
        return jsonify({"recordings": views, "cursor": _spelled(end) if end else None})

    def recording(self, recording_id: str) -> Response:
        call, recording = self._recording(recording_id)
        return jsonify(recording_view(call, recording, self.settings().rules, self.ledger.now()))

    def call(self, call_uuid: str) -> Response:
        known = find_call(self.ledger, self._accounts(), call_uuid, a_leg_first=False)
        if known is None:
            raise Problem(404, "no such call")
        call = replay(*known, self.ledger.events(*known))
        return jsonify(call_view(call, self.settings().rules, self.ledger.now()))

    def audio(self, recording_id: str) -> Response:
        """The bytes; ranges work. Of a restricted recording only with a reason."""
        call, recording = self._recording(recording_id)
        view = recording_view(call, recording, self.settings().rules, self.ledger.now())
        reason = request.args.get("reason", "").strip() or None
        if view["restricted"] and reason is None:
            raise Problem(
                403,
                f"it is restricted ({', '.join(view['restricted_by'])}): say why you play it, in "
                "`?reason=`, which stands in the history",
                field="reason",
            )
        opened = _got(self._archive().open_file, _key_of(recording))
        try:
            enter_play(
                self.ledger, call, recording_id, restricted=view["restricted"], reason=reason
            )
        except LedgerUnavailable:
            opened.file.close()
            raise
        name = opened.entry.last
        kind = mimetypes.types_map.get(Path(name).suffix, "application/octet-stream")
        answer = _answer_with(opened, kind)
        answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'
        return answer

    def receipt(self, recording_id: str) -> Response:
        """The receipt, byte for byte as it is archived."""
        receipt = self._beside_audio(Archive.receipt, recording_id)
        return Response(receipt, mimetype="application/json")

    def signature(self, recording_id: str) -> Response:
        """The detached signature of the receipt, byte for byte as it is archived."""
        signature = self._beside_audio(Archive.signature, recording_id)
        return Response(signature, mimetype="text/plain")

    def peaks(self, recording_id: str) -> Response:
        """The outline of the audio, as it is archived, or drawn now where it is missing there."""
        key, archive = self._key(recording_id), self._archive()
        _got(archive.head, key)
        with contextlib.suppress(FileNotFoundError, Conflict):
            return Response(archive.peaks(key), mimetype="application/json")
        with _got(archive.open_file, key) as file:
            if file.seek(0, 2) > _MOST_DRAWN:
                raise Problem(404, "archived without an outline, and too long to draw it now")
            drawn = peaks.outline(file)
        if drawn is None:
            raise Problem(404, "no outline can be drawn of this kind of audio")
        return Response(peaks.written(drawn), mimetype="application/json")

    def keys(self) -> Response:
        """The public keys that signed here, the one in use first."""
        known = signers.of_service(self.ledger.signing_keys())
        return Response(signers.written(known), mimetype="text/plain")

    def _page(
        self, wanted: _Wanted, query: MultiDict[str, str], before: SeenAt | None
    ) -> tuple[list[dict[str, Any]], SeenAt | None]:
        """The recordings of a page, and the sight after which the next page begins; None at the
        end of the list.
        """
        page: list[tuple[SeenAt, dict[str, Any]]] = []
        until, rules = time.monotonic() + self._read_for_s, self.settings().rules
        for read, (sight, call, recording) in enumerate(self._sights(query, before), 1):
            if recording:
                view = recording_view(call, recording, rules, self.ledger.now())
                if wanted.fits(view):
                    page.append((sight, view))
            if len(page) > wanted.limit:
                # One more than the page holds shows that there is a next page.
                page.pop()
                return [view for _, view in page], page[-1][0]
            if read == self._most_read or time.monotonic() > until:
                return [view for _, view in page], sight
        return [view for _, view in page], None

    def _sights(
        self, query: MultiDict[str, str], before: SeenAt | None
    ) -> Iterator[tuple[SeenAt, Call, Recording | None]]:
        """Every recording that was ever seen, newest first; None in place of one that is not asked
        for.
        """
        only = query.get("call_uuid")
        since, until = (
            request_bodies.instant(query.get(name), name) for name in ("since", "until")
        )
        call = Call(account="", call_uuid="")  # the one replayed last: it may have hundreds
        for sight in self.ledger.recent(self._accounts(), before=before, since=since, until=until):
            _, account, recording_id = sight
            call_uuid = self.ledger.call_of(account, recording_id)
            if call_uuid is None or only not in {None, call_uuid}:
                yield sight, call, None
                continue
            if (call.account, call.call_uuid) != (account, call_uuid):
                call = replay(account, call_uuid, self.ledger.events(account, call_uuid))
            yield sight, call, call.recordings.get(recording_id)

    def _recording(self, recording_id: str) -> tuple[Call, Recording]:
        """A recording and its call. Raises Problem 404."""
        known = find_recording(self.ledger, self._accounts(), recording_id)
        if known is None:
            raise Problem(404, "no such recording")
        return known

    def _key(self, recording_id: str) -> str:
        """A recording's key in the archive. Raises Problem 404."""
        return _key_of(self._recording(recording_id)[1])

    def _beside_audio(self, read: Callable[[Archive, str], bytes], recording_id: str) -> bytes:
        """A file that speaks about audio. Raises Problem 404, also where the audio is missing."""
        key, archive = self._key(recording_id), self._archive()
        _got(archive.head, key)
        return _got(partial(read, archive), key)

    def _archive(self) -> Archive:
        settings = self.settings()
        return Archive(settings.archive, settings.spool, fallback=settings.fallback)

    def _accounts(self) -> list[str]:
        """The account that the query names, else all. Raises Problem 400 for an unknown one."""
        accounts = list(self.settings().accounts)
        named = request.args.get("account")
        if named is None:
            return accounts
        if named not in accounts:
            raise Problem(400, "account: no such account here", field="account")
        return [named]


def _key_of(recording: Recording) -> str:
    """The recording's key in the archive. Raises Problem 404."""
    key = recording.archived.archive_key if recording.archived else None
    if not key:
        raise Problem(404, "not archived yet; the recording's `phase` says how far it is")
    return key


def _got(from_archive: Callable[[str], T], key: str) -> T:
    """What the archive has. Raises Problem 404 where there is none, or a link in its place, and 503
    where the archive does not answer.
    """
    try:
        return from_archive(key)
    except (FileNotFoundError, Conflict, ValueError):
        raise Problem(404, f"the archive lacks {key}") from None
    except (Unstored, OSError):
        raise Problem(503, "the archive does not answer; `/readyz` says why") from None


def _answer_with(opened: Opened, kind: str) -> Response:
    """An answer with the file's bytes, or with the range of them that the request asks for, or 304
    where the caller has them already. The answer closes the file.
    """
    entry, body = opened.entry, wrap_file(request.environ, opened.file)
    answer = Response(body, mimetype=kind, direct_passthrough=True)
    answer.content_length = entry.bytes
    answer.last_modified = entry.modified  # type: ignore[assignment]  # a setter takes seconds, too
    answer.cache_control.no_cache = True
    answer.set_etag(f"{entry.modified}-{entry.bytes}")
    try:
        answer.make_conditional(request.environ, accept_ranges=True, complete_length=entry.bytes)
    except RequestedRangeNotSatisfiable:
        opened.file.close()
        raise
    return answer


def _one_of(query: MultiDict[str, str], name: str, words: type[StrEnum]) -> str | None:
    word = query.get(name)
    if word is not None and word not in set(words):
        raise Problem(400, f"{name}: must be one of {', '.join(words)}", field=name)
    return word


def _limit(text: str | None) -> int:
    if text is None:
        return 50
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= _MOST:
        raise Problem(400, f"limit: must be a whole number from 1 to {_MOST}", field="limit")
    return int(text)


def _cursor(text: str | None) -> SeenAt | None:
    if text is None:
        return None
    try:
        at, account, recording_id = base64.urlsafe_b64decode(text.encode()).decode().split("|")
        return int(at), account, recording_id
    except ValueError:
        raise Problem(400, "cursor: not one that we gave", field="cursor") from None


def _spelled(sight: SeenAt) -> str:
    """A place in the list as a cursor."""
    return base64.urlsafe_b64encode("|".join(map(str, sight)).encode()).decode()
