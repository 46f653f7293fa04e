"""The provider's door on the server's own interface: a callback costs a coroutine and no thread.

It takes the requests that senders of callbacks send. All others below `/vobiz/` (another method, a
path that is none of ours) it leaves to the application, where the same door stands (wsgi.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

import structlog

from webhooks.body import Body
from webhooks.brake import Brake
from webhooks.door.callback import BodyFault, Request
from webhooks.door.receiver import Answer, Receiver, unrecorded
from worker.errors import LedgerUnavailable
from worker.ledger.recorder import Recorder
from worker.ledger.recording import Report

log = structlog.get_logger()
_METHODS = {"GET", "POST", "HEAD"}


class AsgiDoor:
    """Answers callbacks on the event loop. Nothing here waits for Redis but for its own record.

    `brake` holds wrong guesses back.
    """

    def __init__(self, receiver: Receiver, recorder: Recorder, brake: Brake) -> None:
        self._receiver, self._recorder, self._brake = receiver, recorder, brake

    async def answer(
        self, method: str, raw_path: bytes, query: str, headers: Mapping[str, str], body: Body
    ) -> Answer | None:
        """The answer to a request; None for one that the application has to answer.

        `raw_path`: as it was sent. `query`: ASCII. `headers`: by name in lower case.
        """
        path = unquote_to_bytes(raw_path).decode("utf-8", "replace")
        steps = path.split("/", 4)
        if method not in _METHODS or len(steps) < 4 or not (steps[2] and steps[3]) or "\n" in path:
            return None
        request = Request(
            method=method,
            auth_id=steps[2],
            token=steps[3],
            rest=steps[4] if len(steps) > 4 else "",
            raw_path=raw_path.decode("utf-8", "replace"),
            query=query,
            headers=headers,
            body=body.content,
            body_fault=_fault(body),
        )
        try:
            found = self._receiver.judge(request)
            if isinstance(found, Report):
                found = await self._record(found)
        except Exception:
            # The application fails with it too, or answers it all the same.
            log.exception("a callback failed by a fault of ours")
            return None
        if found.status == 404:
            await self._brake.hold()
        return found

    async def _record(self, report: Report) -> Answer:
        try:
            status = await self._recorder.record(report)
        except LedgerUnavailable as error:
            return unrecorded(error)
        return self._receiver.recorded(report, status)


def _fault(body: Body) -> BodyFault | None:
    return "too_large" if body.too_large else "cut" if body.cut else None
