"""Sends what must go out once: the start of a recording, and the provider's transfer after a
hand-off's go.

Neither may be repeated. So a process records each before it sends it, and sends nothing that is
recorded already. If it dies in between, nobody knows whether the request left; the provider's list
or callback will tell.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from worker.calls.call import Call, Handoff, Start
from worker.calls.events import Event, Kind
from worker.calls.handoffs import decided, send_by, verdict
from worker.calls.starts import ceiling_s
from worker.duties.worker import HALTED_RETRY, Worker, is_ours
from worker.errors import CallOver, EndtapeError, Refused, Rejected, TryAgain, Unclear, WrongPath
from worker.vobiz.account import Account


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """One thing to send for a call."""

    worker: Worker
    account: Account
    call: Call
    now: datetime
    seen: int  # the size of the log that the plan was made from

    def _may_send(self, *events: Event) -> bool:
        """Records the events that go before a request. True only for the one process that did,
        which may send.

        False where another process did, and where the call's log has grown since the plan was made.
        """
        return self.worker.ledger.record_together(self.account.auth_id, events, seen=self.seen)

    def _recorded(self, outcome: Event) -> Event:
        # Recorded at once: a caller waits for it, and it must not be lost if the lease is.
        self.worker.ledger.record(self.account.auth_id, outcome)
        return replace(outcome, at=self.now)

    # Starting a recording
    # -----------------------------------------------------------------------------------------

    def start(self, start: Start) -> Iterator[Event]:
        """Sends the start, once. Yields what was recorded: nothing where this process may not send
        it.
        """
        o = start.ordered
        limit_s = ceiling_s(self.call, start, self.worker.settings.rules, self.now)
        sent = Event(
            id=f"sent.{o.order}.{len(start.errors)}",
            kind=Kind.START_SENT,
            call_uuid=self.call.call_uuid,
            order=o.order,
            max_duration_s=float(limit_s),
        )
        # The order is recorded before we send: a hand-off that is asked meanwhile must find it.
        if not self._may_send(o, sent):
            return
        yield replace(sent, at=self.now)
        yield self._recorded(self._started(start, limit_s))

    def _started(self, start: Start, limit_s: int) -> Event:
        o, settings = start.ordered, self.worker.settings
        outcome = Event(
            id=f"started.{o.order}",
            kind=Kind.START_ACCEPTED,
            call_uuid=self.call.call_uuid,
            order=o.order,
        )
        address = f"{settings.public_url}/vobiz/{self.account.auth_id}/{settings.callback_token}/call/{self.call.call_uuid}/start/{o.order}"
        try:
            got = self.worker.vobiz.start_recording(
                self.account,
                self.call.call_uuid,
                time_limit_s=limit_s,
                callback_url=address,
                format=o.format,
                channels=o.channels,
            )
        except CallOver as error:
            return replace(outcome, kind=Kind.START_FAILED, reason=str(error), status=404)
        except (Rejected, WrongPath) as error:
            return replace(
                outcome,
                kind=Kind.START_FAILED,
                reason=str(error),
                status=getattr(error, "status", None),
            )
        except Refused as error:
            if is_ours(self.worker, self.account, error, call_uuid=self.call.call_uuid):
                return self._later(start, str(error), HALTED_RETRY, error.status)
            return replace(outcome, kind=Kind.START_FAILED, reason=str(error), status=error.status)
        except TryAgain as error:
            return self._later(
                start, str(error), timedelta(seconds=min(error.after_s or 0, 15)), error.status
            )
        except Unclear as error:
            self.worker.alert(
                "start_unclear",
                account=self.account.auth_id,
                call_uuid=self.call.call_uuid,
                error=str(error),
            )
            return replace(outcome, kind=Kind.START_UNCLEAR, reason=str(error))
        if got.recording_id is None:
            return replace(
                outcome,
                kind=Kind.START_UNCLEAR,
                reason="the provider accepted it and did not name the recording",
            )
        return replace(outcome, recording_id=got.recording_id, url=got.url, format=o.format)

    def _later(self, start: Start, reason: str, wait: timedelta, status: int | None) -> Event:
        o = start.ordered
        return Event(
            id=f"erred.{o.order}.{len(start.errors)}",
            kind=Kind.START_ERRED,
            call_uuid=self.call.call_uuid,
            order=o.order,
            reason=reason,
            status=status,
            retry_at=self.now + wait,
        )

    # Transferring a call
    # ------------------------------------------------------------------------------------------

    def transfer(self, handoff: Handoff, now: datetime) -> Iterator[Event]:
        """Decides go and sends the transfer, once. Yields what was recorded: nothing where this
        process may not send it.

        `now`: the instant just before sending.
        """
        found = verdict(self.call, self.worker.settings.rules, handoff)
        go = decided(self.call, handoff, found, go=True, by="us")
        if now > send_by(handoff, found) or not self._may_send(go):
            return
        yield replace(go, at=now)
        yield self._recorded(self._transferred(handoff))

    def _transferred(self, handoff: Handoff) -> Event:
        order = handoff.asked.order
        outcome = Event(
            id=f"transfer.{order}",
            kind=Kind.TRANSFER_SENT,
            call_uuid=self.call.call_uuid,
            order=order,
        )
        assert handoff.asked.body is not None
        try:
            self.worker.vobiz.transfer(self.account, self.call.call_uuid, handoff.asked.body)
        except Unclear as error:
            return replace(outcome, kind=Kind.TRANSFER_UNCLEAR, reason=str(error))
        except Refused as error:
            is_ours(self.worker, self.account, error, call_uuid=self.call.call_uuid)
            return replace(
                outcome, kind=Kind.TRANSFER_FAILED, reason=str(error), status=error.status
            )
        except EndtapeError as error:
            return replace(
                outcome,
                kind=Kind.TRANSFER_FAILED,
                reason=str(error),
                status=getattr(error, "status", None),
            )
        return outcome
