"""What the two doors for the provider share: what is answered, counted and logged.

The answer says what the sender should do next: 200 nothing, 503 send it again, 4xx give up. 200
means that the event is written down.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from webhooks.door.callback import Refusal, Request, receive
from webhooks.door.refusals import Refusals
from worker import logs
from worker.errors import LedgerUnavailable
from worker.ledger.recording import Recorded, Report
from worker.settings import Settings

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to the provider."""

    status: int
    body: bytes
    content_type: str
    retry_after: str | None = None  # seconds

    def headers(self) -> list[tuple[str, str]]:
        found = [("Content-Type", self.content_type), ("Content-Length", str(len(self.body)))]
        return found if self.retry_after is None else [*found, ("Retry-After", self.retry_after)]


_TEXT = "text/plain; charset=utf-8"
_OK = Answer(200, b"<Response></Response>", "application/xml; charset=utf-8")
_AGAIN = Answer(503, b"try again\n", _TEXT, retry_after="2")


class Receiver:
    """Judges requests and answers them. It calls `settings` for each, so that a reload takes
    effect.
    """

    def __init__(self, settings: Callable[[], Settings], refusals: Refusals) -> None:
        self._settings, self._refusals = settings, refusals

    def judge(self, request: Request) -> Answer | Report:
        """The answer to a request; or a report that has to be recorded before it is answered."""
        found = receive(request, self._settings())
        if isinstance(found, Refusal):
            account = "" if found.status == 404 else request.auth_id
            return self._refuse(found, account, request.where)
        return found.report or _OK

    def recorded(self, report: Report, status: Recorded) -> Answer:
        """The answer once Redis has answered for a report."""
        if status is Recorded.NONCE_REUSED:
            return self._refuse(Refusal(403, "nonce"), report.account)
        event = report.event
        if event is not None and status is Recorded.NEW:
            log.info(
                event.kind.value,
                account=report.account,
                call_uuid=event.call_uuid,
                recording_id=event.recording_id,
                by=event.by,
                signed=event.signed,
            )
        return _OK

    def _refuse(self, refusal: Refusal, account: str, where: str | None = None) -> Answer:
        self._refusals.note(refusal, account, where)
        text = "not found" if refusal.status == 404 else refusal.reason
        return Answer(refusal.status, f"{text}\n".encode(), _TEXT)


def unrecorded(error: LedgerUnavailable) -> Answer:
    """The answer where Redis did not take a report."""
    if logs.seldom("redis", error):
        log.warning("redis does not answer; the provider is asked to send again", error=str(error))
    return _AGAIN
