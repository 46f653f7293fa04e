"""Sends the two requests that must never be repeated: the start of a recording, and the provider's
transfer after a hand-off's go.

A process records each request before it sends it, and sends no request that is recorded already. If
the process dies in between, nobody knows whether the request left. The provider's list or callback
will show it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import ceil

from worker.calls import timing
from worker.calls.call import Call, Handoff, Start
from worker.calls.events import Event, Kind
from worker.calls.handoffs import decided, send_by, verdict
from worker.calls.rules import Mode, Rules, deadline
from worker.duties.access import HALTED_RETRY, handle_refusal
from worker.duties.worker import Worker
from worker.errors import CallOver, EndtapeError, Refused, Rejected, TryAgain, Unclear, WrongPath
from worker.vobiz.account import Account

_LONGEST_CEILING_S = 28800  # of `time_limit` (one vendor source)
_LONGEST_WAIT_ASKED_S = 15


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """Sends one start or transfer for a call, as planned from its log.

    `seen`: the size of that log. `now`: when the request is sent.
    """

    worker: Worker
    account: Account
    call: Call
    now: datetime
    seen: int

    def _may_send(self, *events: Event) -> bool:
        """Record the events that precede a request. True: this process recorded them, so it alone
        may send the request.

        False where another process was first, and where the call's log has grown since the plan.
        """
        return self.worker.ledger.record_together(self.account.auth_id, events, seen=self.seen)

    def _recorded(self, outcome: Event) -> Event:
        # The outcome is recorded before the batch commits: a caller waits for it, and a lost lease
        # must not lose it.
        self.worker.ledger.record(self.account.auth_id, outcome)
        return replace(outcome, at=self.now)

    # Starting a recording
    # -----------------------------------------------------------------------------------------

    def start(self, start: Start) -> Iterator[Event]:
        """Send the start, once. Yields the recorded events; none where this process may not send.

        Raises LedgerUnavailable.
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
        # The order itself is recorded too: a hand-off that is asked meanwhile must find it.
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
        door = f"{settings.public_url}/vobiz/{self.account.auth_id}/{settings.callback_token}"
        try:
            got = self.worker.vobiz.start_recording(
                self.account,
                self.call.call_uuid,
                time_limit_s=limit_s,
                callback_url=f"{door}/call/{self.call.call_uuid}/start/{o.order}",
                format=o.format,
                channels=o.channels,
            )
        except (CallOver, Rejected, Refused, TryAgain, Unclear, WrongPath) as error:
            return self._not_started(start, outcome, error)
        if got.recording_id is None:
            return replace(
                outcome,
                kind=Kind.START_UNCLEAR,
                reason="the provider accepted it and did not name the recording",
            )
        return replace(outcome, recording_id=got.recording_id, url=got.url, format=o.format)

    def _not_started(self, start: Start, outcome: Event, error: EndtapeError) -> Event:
        """START_UNCLEAR, START_ERRED where it is worth another try, else START_FAILED."""
        reason, status = str(error), getattr(error, "status", None)
        if isinstance(error, Unclear):
            self.worker.alert(
                "start_unclear",
                account=self.account.auth_id,
                call_uuid=self.call.call_uuid,
                error=reason,
            )
            return replace(outcome, kind=Kind.START_UNCLEAR, reason=reason)
        if isinstance(error, TryAgain):
            asked_s = min(error.after_s or 0, _LONGEST_WAIT_ASKED_S)
            return self._later(start, reason, timedelta(seconds=asked_s), status)
        if isinstance(error, Refused) and handle_refusal(
            self.worker, self.account, error, call_uuid=self.call.call_uuid
        ):
            return self._later(start, reason, HALTED_RETRY, status)
        status = 404 if isinstance(error, CallOver) else status
        return replace(outcome, kind=Kind.START_FAILED, reason=reason, status=status)

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
        """Decide go and send the transfer, once. Yields the recorded events; none where this
        process may not send.

        `now`: the instant just before sending. Raises LedgerUnavailable.
        """
        answer = verdict(self.call, self.worker.settings.rules, handoff)
        go = decided(self.call, handoff, answer, go=True, by="us")
        if now > send_by(handoff, answer) or not self._may_send(go):
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
            handle_refusal(self.worker, self.account, error, call_uuid=self.call.call_uuid)
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


def ceiling_s(call: Call, start: Start, rules: Rules, now: datetime) -> int:
    """The provider's own time limit for a recording that begins now, in whole seconds: just above
    our deadline.
    """
    _, terms = rules.choose(call)
    ends = []
    if start.ordered.max_duration_s:
        ends.append(now + timedelta(seconds=start.ordered.max_duration_s))
    if terms.mode is Mode.ENFORCE and (end := deadline(terms, now)):
        ends.append(end[0])
    if not ends:
        return round(timing.NO_CEILING.total_seconds())
    return min(ceil((min(ends) - now + timing.CEILING).total_seconds()), _LONGEST_CEILING_S)
