"""The files of a recording as downloads: receipt, tombstone, what was made from it, signatures."""

from __future__ import annotations

from flask import Response

from webhooks.api.governing import Governing
from webhooks.api.problems import Problem
from webhooks.api.reading import Reader
from worker.archive import keys
from worker.errors import Conflict, EndtapeError


class Files:
    def __init__(self, reader: Reader, governing: Governing) -> None:
        self._reader, self._governing = reader, governing

    def receipt(self, recording_id: str) -> Response:
        return _named(self._reader.receipt(recording_id), f"{recording_id}.json")

    def signature(self, recording_id: str) -> Response:
        return _named(self._reader.signature(recording_id), f"{recording_id}.json.sig")

    def tombstone(self, recording_id: str) -> Response:
        """What is left of an erased recording. Raises Problem 404 where it has none, and 503."""
        return self._of_tombstone(recording_id, "")

    def tombstone_signature(self, recording_id: str) -> Response:
        return self._of_tombstone(recording_id, ".sig")

    def derived(self, recording_id: str, name: str) -> Response:
        """A file that was made from the recording, which tells what was said, too. Whatever it
        claims to be, no browser shows it as a page of ours.
        """
        answer = self._reader.derived(recording_id, name)
        answer.mimetype = "application/octet-stream"
        return answer

    def derived_receipt(self, recording_id: str, name: str) -> Response:
        answer = self._reader.derived_receipt(recording_id, name)
        return _named(answer, f"{recording_id}.derived.{name}.json")

    def derived_signature(self, recording_id: str, name: str) -> Response:
        answer = self._reader.derived_signature(recording_id, name)
        return _named(answer, f"{recording_id}.derived.{name}.json.sig")

    def _of_tombstone(self, recording_id: str, ending: str) -> Response:
        key = self._governing.known(recording_id).key
        try:
            name = f"{keys.parse(key).tombstone}{ending}"
            content = self._governing.places().archive.store.read(name)
        except (FileNotFoundError, Conflict, ValueError):
            raise Problem(404, "no tombstone of it is in the archive") from None
        except (EndtapeError, OSError):
            raise Problem(503, "the archive does not answer; `/readyz` says why") from None
        kind = "text/plain" if ending else "application/json"
        return _named(Response(content, mimetype=kind), name.rpartition("/")[2])


def _named(answer: Response, name: str) -> Response:
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer
