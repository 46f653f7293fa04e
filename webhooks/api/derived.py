"""Linking a file that was made from a recording: its bytes are the body of the request."""

from __future__ import annotations

import hashlib
import re
import secrets
from pathlib import Path

from flask import Response, jsonify, request

from webhooks.api.governing import Governing, refusing
from webhooks.api.keys import caller
from webhooks.api.problems import Problem
from worker.archive.derived import KIND, Derived
from worker.archive.spool import Spool
from worker.governing import derivations
from worker.governing.subject import By
from worker.ledger.codec import from_ms, to_ms

_BLOCK = 256 * 1024
_CONTENT_TYPE = re.compile(r"[!-~]{1,100}/[ -~]{1,100}")
_PLAIN = "application/octet-stream"


class Derivations:
    """Takes files that were made from recordings."""

    def __init__(self, governing: Governing) -> None:
        self._governing = governing

    def link(self, recording_id: str) -> Response:
        """201 with the file once it and its signed receipt stand in the archive; 200 where they
        stood there before.
        """
        kind, content_type, account = _kind(), _content_type(), request.args.get("account") or None
        places, known = self._governing.places(), self._governing.known(recording_id, account)
        most = self._governing.settings().max_media_bytes
        if (request.content_length or 0) > most:
            raise _too_large(most)
        with refusing():
            original = derivations.check_open(places, known)
            places.archive.reserve(request.content_length)
            spool = places.archive.spool
            part = spool.create("derived", secrets.randbelow(10**18))
        try:
            with refusing():
                size, sha256 = _received(spool, part, most)
                by = _by()
                made = Derived(
                    account=known.account,
                    call_uuid=known.call_uuid,
                    recording_id=known.recording_id,
                    original=original,
                    kind=kind,
                    content_type=content_type,
                    bytes=size,
                    sha256=sha256,
                    at=from_ms(to_ms(places.ledger.now())),
                    who=by.who,
                    claimed=by.claimed,
                )
                shown, is_new = derivations.take(places, known, by, part, made)
        finally:
            part.unlink(missing_ok=True)
        source = {"recording_id": known.recording_id, "sha256": original}
        answer = jsonify({**shown, "recording_id": known.recording_id, "derived_from": source})
        answer.status_code = 201 if is_new else 200
        return answer


def _received(spool: Spool, part: Path, most: int) -> tuple[int, str]:
    """Write the body into the spool as it comes. Returns its size and digest. Raises Problem 400,
    413, ClientDisconnected, Unstored.
    """
    digest, size = hashlib.sha256(), 0
    with spool.writing(part) as file:
        while block := request.stream.read(_BLOCK):
            size += len(block)
            if size > most:
                raise _too_large(most)
            digest.update(block)
            file.write(block)
    if not size:
        raise Problem(400, "the body is empty; send the file itself as the body")
    return size, digest.hexdigest()


def _kind() -> str:
    kind = request.args.get("kind", "")
    if not KIND.fullmatch(kind):
        raise Problem(
            400,
            "kind: is needed in the query: what the file is, like `transcript` or `redacted`, at"
            " most 32 small letters, digits, `_` and `-`",
            field="kind",
        )
    return kind


def _content_type() -> str:
    content_type = request.headers.get("Content-Type", "").strip() or _PLAIN
    if content_type.startswith("multipart/"):
        raise Problem(400, "send the file itself as the body, with its own Content-Type, no form")
    if not _CONTENT_TYPE.fullmatch(content_type):
        raise Problem(400, "Content-Type: must be a media type like text/plain")
    return content_type


def _by() -> By:
    who = caller()
    reason = request.args.get("reason", "").encode("utf-8", "replace").decode().strip()
    return By(who=who.who, claimed=who.claimed, reason=reason[:200])


def _too_large(most: int) -> Problem:
    return Problem(413, f"a file has at most {most} bytes (ENDTAPE_MAX_MEDIA_BYTES)")
