"""Legal holds, and erasing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from flask import Response, jsonify, request

from webhooks.api import request_bodies
from webhooks.api.keys import caller
from webhooks.api.problems import Problem
from webhooks.api.reading import Reader
from worker.archive.facts import Fact
from worker.archive.filing import Archive
from worker.archive.signing_key import Signer
from worker.calls.views import rfc3339
from worker.errors import (
    CatalogueAway,
    Conflict,
    Gone,
    Held,
    NotOver,
    TryAgain,
    Unsigned,
    Unstored,
)
from worker.governing import erasures, holds, subject
from worker.governing.places import Here
from worker.governing.subject import By, Subject
from worker.ledger.client import Ledger
from worker.settings import Settings


class Governing:
    """`settings` is called for each request, so that a reload takes effect."""

    def __init__(self, ledger: Ledger, settings: Callable[[], Settings], reader: Reader) -> None:
        self.ledger, self.settings, self.reader = ledger, settings, reader
        self._signer = self._signer_of(settings())

    def hold(self, recording_id: str) -> Response:
        """200 with the recording once the signed fact stands in the archive."""
        fact = self.put_hold(recording_id, _by(), _account())
        return jsonify({**self.reader.view(recording_id), "hold": _hold_view(fact)})

    def release(self, recording_id: str) -> Response:
        """200 with the recording, also where it was not held."""
        self.end_hold(recording_id, _by(), _account())
        return jsonify(self.reader.view(recording_id))

    def erase(self, recording_id: str) -> Response:
        """202 with the recording once its tombstone stands; 200 where it is erased already."""
        ordered = self.order_erasure(recording_id, _by(), _account())
        answer = jsonify(self.reader.view(recording_id))
        answer.status_code = 202 if ordered else 200
        return answer

    def put_hold(self, recording_id: str, by: By, account: str | None = None) -> Fact:
        """Holds a recording: a signed fact in the archive. Raises Problem 404, 410, 503."""
        known = self.known(recording_id, account)
        with refusing():
            return holds.hold(self.places(), known, by)

    def standing_hold(self, recording_id: str, account: str | None = None) -> Fact | None:
        """The hold with which it began to be held; None where none stands. Raises Problem 404,
        503.
        """
        known = self.known(recording_id, account)
        with refusing():
            return holds.standing(self.places(), known)

    def end_hold(self, recording_id: str, by: By, account: str | None = None) -> bool:
        """Ends the hold; False where there is none. Raises Problem 404, 410, 503."""
        known = self.known(recording_id, account)
        with refusing():
            return holds.release(self.places(), known, by) is not None

    def order_erasure(self, recording_id: str, by: By, account: str | None = None) -> bool:
        """Orders that it is erased; False where it is erased already. Raises Problem 404, 409 while
        it is held or still recording, 410, 503.
        """
        known = self.known(recording_id, account)
        with refusing():
            return erasures.order(self.places(), known, by)

    def known(self, recording_id: str, account: str | None = None) -> Subject:
        """The recording, whoever knows it. Raises Problem 404, 503."""
        with refusing():
            known = subject.find(self.places(), self.reader.accounts(), recording_id, account)
        if known is None:
            raise Problem(404, "no such recording")
        return known

    def places(self) -> Here:
        """Ledger, archive and catalogue, with the key that signs now."""
        now = self.settings()
        if now is not self._signer[0]:  # a reload may have brought another key
            self._signer = self._signer_of(now)
        archive = Archive(now.archive, now.spool, self._signer[1], fallback=now.fallback)
        return Here(self.ledger, archive, self.reader.catalogue, now.rules)

    def _signer_of(self, settings: Settings) -> tuple[Settings, Signer]:
        return settings, Signer(settings.signing_key, settings.signer)


def _account() -> str | None:
    return request.args.get("account") or None


def _by() -> By:
    """Who asks, and why, from the body or the query. Raises Problem 400 without a reason."""
    body = request_bodies.read(request_bodies.ReasonBody)
    return by_caller(body.reason or request.args.get("reason", ""))


def by_caller(reason: str) -> By:
    """Who sends the request at hand, and why. Raises Problem 400 without a reason."""
    if not reason.strip():
        raise Problem(400, "reason: is needed; it stands in the history", field="reason")
    who = caller()
    plain = reason.strip().encode("utf-8", "replace").decode()
    return By(who=who.who, claimed=who.claimed, reason=plain[:200])


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """Turns what stands in the way into a Problem."""
    try:
        yield
    except NotOver as error:
        raise Problem(409, str(error)) from None
    except Held as error:
        raise Problem(409, str(error)) from None
    except Gone as error:
        raise Problem(410, str(error)) from None
    except CatalogueAway as error:
        raise Problem(503, f"the catalogue does not answer: {error}") from None
    except (Unstored, Unsigned, Conflict, OSError) as error:
        raise Problem(503, f"the archive does not take it: {error}") from None
    except TryAgain as error:
        raise Problem(503, f"{error}; ask again") from None


def _hold_view(fact: Fact) -> dict[str, object]:
    return {
        "at": rfc3339(fact.at),
        "who": fact.who,
        "claimed": fact.claimed,
        "reason": fact.written()["reason"],
        "ours_alone": fact.particulars["ours_alone"],
        "why_alone": fact.particulars["why_alone"],
    }
