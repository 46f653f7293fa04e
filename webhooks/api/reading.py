"""Reading back what the ledger and the archive hold: calls, recordings, audio, receipts,
signatures, outlines, and the keys that signed.
"""

from __future__ import annotations

import contextlib
import mimetypes
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from flask import Response, jsonify, request
from werkzeug.exceptions import RequestedRangeNotSatisfiable
from werkzeug.http import is_resource_modified
from werkzeug.wsgi import wrap_file

from webhooks.api import list_query
from webhooks.api.history import enter_play
from webhooks.api.problems import Problem
from worker.archive import derived, peaks, signers
from worker.archive.filing import Archive
from worker.archive.store import Opened
from worker.calls.call import Call
from worker.calls.replay import replay
from worker.calls.views import call_view, recording_view
from worker.catalogue import past
from worker.catalogue.database import Catalogue
from worker.catalogue.listing import Listing, Page
from worker.catalogue.live import Live
from worker.catalogue.rows import Row
from worker.errors import CatalogueAway, Conflict, EndtapeError, LedgerUnavailable, Unstored
from worker.ledger.client import Ledger
from worker.ledger.whose import find_call, find_recording
from worker.settings import Settings

_MOST_DRAWN = 32 * 1024 * 1024  # bytes of audio: 40 ms of work
T = TypeVar("T")


class Reader:
    """`settings` is called for each request, so that a reload takes effect. Finished recordings are
    read from the catalogue and the archive, where Redis does not know them any more.
    """

    def __init__(
        self,
        ledger: Ledger,
        settings: Callable[[], Settings],
        *,
        at_once: int = 200,
        for_s: float = 3.0,
    ) -> None:
        """`at_once` and `for_s`: as for a `Listing`."""
        self.ledger, self.settings = ledger, settings
        self.catalogue = Catalogue(settings().catalog)
        self.live = Live(ledger, lambda: settings().rules)
        self.listing = Listing(ledger, self.live, self.catalogue, at_once=at_once, for_s=for_s)

    def page(self) -> Page:
        """The page of the list that the query asks for. Raises Problem 400."""
        query = request.args
        return self.listing.page(
            list_query.wanted(query),
            self.accounts(),
            limit=list_query.limit(query.get("limit")),
            before=list_query.cursor(query.get("cursor")),
        )

    def recordings(self) -> Response:
        """A page of recordings, newest first."""
        page = self.page()
        return jsonify(
            {
                "recordings": page.views,
                "cursor": list_query.spelled(page.end) if page.end else None,
                **({"degraded": f"catalog: {page.degraded}"} if page.degraded else {}),
            }
        )

    def recording(self, recording_id: str) -> Response:
        return jsonify(self.view(recording_id))

    def call(self, call_uuid: str) -> Response:
        return jsonify(self.whole_call(call_uuid))

    def whole_call(self, call_uuid: str) -> dict[str, Any]:
        """The call as `/v1` shows it. Raises Problem 404, and 503."""
        known = find_call(self.ledger, self.accounts(), call_uuid, a_leg_first=False)
        if known is None:
            return self._past_call(call_uuid)
        return self.with_past(replay(*known, self.ledger.events(*known)))

    def with_past(self, call: Call) -> dict[str, Any]:
        """The call as `/v1` shows it, with those of its recordings that only the catalogue knows;
        without them where that is away.
        """
        view = call_view(call, self.settings().rules, self.ledger.now())
        with contextlib.suppress(CatalogueAway):
            rows = self.catalogue.of_call(call.call_uuid, call.account)
            if older := [row for row in rows if row.id[1] not in call.recordings]:
                view = past.joined(past.call_view(older, self._receipts(older)), view)
        return view

    def audio(self, recording_id: str) -> Response:
        """The bytes; ranges work. Of a restricted recording only with a reason."""
        view = self.view(recording_id)
        reason = _reason_to_hear(view)
        opened = _got(self._archive().open_file, _key_of(view))
        kind = mimetypes.types_map.get(Path(opened.entry.last).suffix, "application/octet-stream")
        return self._heard(opened, kind, view, reason)

    def derived(self, recording_id: str, name: str) -> Response:
        """A file that was made from the recording; as for the audio."""
        view = self.view(recording_id)
        reason = _reason_to_hear(view)
        place = self._derived_place(view, name)
        made = next((one for one in view["derived"] if one["name"] == name), None)
        opened = _got(self._archive().store.open, place)
        kind = made["content_type"] if made else "application/octet-stream"
        return self._heard(opened, kind, view, reason)

    def derived_receipt(self, recording_id: str, name: str) -> Response:
        """The receipt of a file that was made from the recording, as it is archived."""
        place = self._derived_place(self.view(recording_id), name)
        receipt = _got(self._archive().store.read, f"{place}.json")
        return Response(receipt, mimetype="application/json")

    def derived_signature(self, recording_id: str, name: str) -> Response:
        """The detached signature of that receipt, as it is archived."""
        place = self._derived_place(self.view(recording_id), name)
        signature = _got(self._archive().store.read, f"{place}.json.sig")
        return Response(signature, mimetype="text/plain")

    def _derived_place(self, view: Mapping[str, Any], name: str) -> str:
        """Where such a file lies. Raises Problem 404, and 410 for a recording that is erased."""
        key = _key_of(view)
        try:
            return derived.file_of(key, name)
        except ValueError:
            raise Problem(404, "no such file; `derived` of the recording has their names") from None

    def _heard(
        self, opened: Opened, kind: str, view: Mapping[str, Any], reason: str | None
    ) -> Response:
        """The answer with a file that tells what was said; the history knows who got it."""
        try:
            enter_play(self.ledger, view, reason=reason)
        except LedgerUnavailable:
            opened.file.close()
            raise
        answer = _answer_with(opened, kind)
        answer.headers["Content-Disposition"] = f'attachment; filename="{opened.entry.last}"'
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
        key, archive = _key_of(self.view(recording_id)), self._archive()
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

    def view(self, recording_id: str) -> dict[str, Any]:
        """The recording as `/v1` shows it. Raises Problem 404, and 503."""
        known = find_recording(self.ledger, self.accounts(), recording_id)
        if known is None:
            return self._past(recording_id)
        return recording_view(*known, self.settings().rules, self.ledger.now())

    def _past(self, recording_id: str) -> dict[str, Any]:
        """What the catalogue knows of a recording. Raises Problem 404, and 503 where it is away."""
        row = self._in_catalogue(
            lambda: self.catalogue.find(recording_id, request.args.get("account") or None)
        )
        if row is None:
            raise Problem(404, "no such recording")
        return row.view

    def _past_call(self, call_uuid: str) -> dict[str, Any]:
        """A call that only catalogue and archive know. Raises Problem 404, and 503."""
        rows = self._in_catalogue(
            lambda: self.catalogue.of_call(call_uuid, request.args.get("account") or None)
        )
        if not rows:
            raise Problem(404, "no such call")
        return past.call_view(rows, self._receipts(rows))

    def _receipts(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """The receipts of these recordings that can be read: without one, its events are missing
        from the timeline.
        """
        archive, receipts = self._archive(), []
        for row in rows:
            with contextlib.suppress(OSError, EndtapeError, ValueError):
                receipts.append(archive.read_receipt(row.key))
        return receipts

    def _in_catalogue(self, find: Callable[[], T]) -> T:
        try:
            return find()
        except CatalogueAway as error:
            raise Problem(
                503, f"Redis does not know it, and the catalogue does not answer: {error}"
            ) from None

    def _beside_audio(self, read: Callable[[Archive, str], bytes], recording_id: str) -> bytes:
        """A file that speaks about audio. Raises Problem 404, also where the audio is missing."""
        key, archive = _key_of(self.view(recording_id)), self._archive()
        _got(archive.head, key)
        return _got(partial(read, archive), key)

    def _archive(self) -> Archive:
        settings = self.settings()
        return Archive(settings.archive, settings.spool, fallback=settings.fallback)

    def accounts(self) -> list[str]:
        """The account that the query names, else all. Raises Problem 400 for an unknown one."""
        accounts = list(self.settings().accounts)
        named = request.args.get("account")
        if not named:
            return accounts
        if named not in accounts:
            raise Problem(400, "account: no such account here", field="account")
        return [named]


def _reason_to_hear(view: Mapping[str, Any]) -> str | None:
    """The caller's reason to hear a recording. Raises Problem 403 without one, where it is
    restricted.
    """
    reason = request.args.get("reason", "").strip() or None
    if view["restricted"] and reason is None:
        raise Problem(
            403,
            f"it is restricted ({', '.join(view['restricted_by'])}): say why you play it, in "
            "`?reason=`, which stands in the history",
            field="reason",
        )
    return reason


def _key_of(view: Mapping[str, Any]) -> str:
    """The recording's key in the archive. Raises Problem 404, and 410 for one that is erased."""
    if erased := view.get("erased"):
        raise Problem(410, f"erased by {erased['who']}: {erased['reason']}")
    key: str | None = view["archive_key"]
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
    environ, marks = _asked(entry.bytes), (answer.headers["ETag"], None, answer.last_modified)
    # Werkzeug looks at ranges first, and takes a weak mark for their file (RFC 9110, 13).
    is_weak = environ.get("HTTP_IF_RANGE", "").startswith("W/")
    if is_weak or not is_resource_modified(environ, *marks):
        environ.pop("HTTP_RANGE", None)
    try:
        answer.make_conditional(environ, accept_ranges=True, complete_length=entry.bytes)
        if answer.status_code == 412:
            raise Problem(412, "the file is not the one that `If-Match` names")
    except (RequestedRangeNotSatisfiable, Problem):
        opened.file.close()
        raise
    return answer


def _asked(length: int) -> dict[str, Any]:
    """The environment of the request, with the one range that is answered, if any. RFC 9110, 14:
    another unit is not looked at, several ranges need not be, and "the last N bytes" of a shorter
    file are all of it. Werkzeug takes none of these.
    """
    environ = dict(request.environ)
    header = environ.pop("HTTP_RANGE", "")
    unit, _, wanted = header.partition("=")
    if unit.strip().lower() == "bytes" and "," not in wanted:
        last = re.fullmatch(r"-0*([1-9][0-9]{0,17})[0-9]*", wanted.strip())
        environ["HTTP_RANGE"] = "bytes=0-" if last and int(last[1]) > length else header
    return environ
