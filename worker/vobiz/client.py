"""The provider's REST API and media, as far as this project needs them.

One law: HTTP becomes values and errors here and nowhere else. No request is repeated here, except
with the account's other token. The ledger knows when to try again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from worker import wire
from worker.errors import CallOver, EndtapeError, NotReady, Refused, Rejected, TryAgain, Unclear
from worker.vobiz import answers
from worker.vobiz.account import Account
from worker.vobiz.addresses import HostList, Resolve, system_resolver
from worker.vobiz.answers import Answer, CallRecords, LiveCall, Page, Row
from worker.vobiz.download import MediaHosts, download
from worker.vobiz.loop import TimeLimits
from worker.vobiz.partial import Notes
from worker.vobiz.piece import Download, Hooks, Limits
from worker.vobiz.rest import Ask, Rest
from worker.vobiz.transport import Patience

PAGE = 100  # the provider's maximum (documented)
MAX_PAGES = 20
OVERLAP = 5  # a row that is added while we page shifts the offsets of all older ones
PATIENCE = Patience()
STOP_LIMITS = TimeLimits(connect_s=2, silence_s=3, total_s=6)
ORDER_LIMITS = TimeLimits(connect_s=2, silence_s=4, total_s=5)
API_LIMITS = TimeLimits(connect_s=2, silence_s=5, total_s=10)


@dataclass(frozen=True, kw_only=True, slots=True)
class Started:
    """What the provider says about a recording that it started; None for what it leaves out."""

    recording_id: str | None
    url: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Stop:
    """A stop of every recording on a call, or of the one behind `url`."""

    account: Account
    call_uuid: str
    url: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class StopOutcome:
    """What came of a stop. `error`: None when the provider accepted it."""

    at: float  # `time.time()` when the answer was there, or the request had failed
    error: Exception | None


class Vobiz:
    """Safe to share between threads; after a fork each process makes its own connections."""

    def __init__(
        self,
        *,
        api_url: str,
        media_hosts: Sequence[str],
        redirect_hosts: Sequence[str],
        max_media_bytes: int,
        resolve: Resolve = system_resolver,
        ca_file: str | None = None,
    ) -> None:
        """`resolve` and `ca_file` concern media only; without `ca_file` the certificates shipped
        with requests decide.

        Raises addresses.Unfit for a host entry that cannot be read.
        """
        self._rest = Rest(api_url)
        self._media_hosts = MediaHosts(
            media=HostList(media_hosts),
            redirect=HostList(redirect_hosts),
            resolve=resolve,
            ca_file=ca_file,
        )
        self._max_media_bytes = max_media_bytes

    def stop_recordings(self, account: Account, call_uuid: str, *, url: str | None = None) -> None:
        """Ask for the end of every recording on the call, or of the one behind `url`. Returns once
        that is accepted.

        Doing so twice is harmless: stopping what is not active is a success (vendor's own note).
        Accepted is not stopped. Raises CallOver for the application's 404, WrongPath, Refused,
        TryAgain.
        """
        stop = Stop(account=account, call_uuid=call_uuid, url=url)
        error = self.send_stops([stop])[0].result().error
        if error is not None:
            raise error

    def send_stops(self, stops: Sequence[Stop]) -> list[Future[StopOutcome]]:
        """Send all these at once, and return without waiting for an answer.

        The futures never raise: an outcome holds what `stop_recordings` would raise.
        """
        outcomes: list[Future[StopOutcome]] = [Future() for _ in stops]
        asks, asked = [], []
        for stop, outcome in zip(stops, outcomes, strict=True):
            try:
                asks.append(_ask_to_stop(stop))
            except ValueError as error:
                outcome.set_result(StopOutcome(at=time.time(), error=error))
            else:
                asked.append(partial(_settle, stop, outcome))
        self._rest.ask(asks, asked)
        return outcomes

    def start_recording(
        self,
        account: Account,
        call_uuid: str,
        *,
        time_limit_s: int,
        callback_url: str,
        format: str | None = None,  # noqa: A002 - the field's name
        channels: int | None = None,
    ) -> Started:
        """Ask for one more recording of a live call. Each request that arrives starts another
        (documented), so we send it once.

        Raises CallOver for the application's 404, Refused, Rejected, TryAgain (429: certainly not
        started), and Unclear where nobody can tell.
        """
        body: dict[str, Any] = {
            "time_limit": time_limit_s,
            "callback_url": callback_url,
            "callback_method": "POST",
        }
        body |= {"file_format": format} if format else {}
        body |= {"record_channel_type": "stereo" if channels == 2 else "mono"} if channels else {}
        fields = self._once(account, f"Call/{_part(call_uuid)}/Record/", body)
        return Started(
            recording_id=wire.identifier(fields.get("recording_id")),
            url=_address(fields.get("url")),
        )

    def transfer(self, account: Account, call_uuid: str, body: dict[str, Any]) -> None:
        """Ask for the transfer of a live call, once; `body` goes out as it is. Raises as
        `start_recording` does.
        """
        self._once(account, f"Call/{_part(call_uuid)}/", body)

    def _once(self, account: Account, path: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = self._ask(account, ORDER_LIMITS, "POST", path, body=body)
        except TryAgain as error:
            raise Unclear(str(error)) from error
        if answers.is_gone(answer):
            raise CallOver("the provider knows no such live call")
        if 400 <= answer.status < 500 and answer.status not in (401, 403, 404, 408, 429):
            raise Rejected(answers.describe(answer), status=answer.status)
        try:
            return answers.expect_success(answer, now=_now())
        except TryAgain as error:
            if error.status == 429:
                raise
            raise Unclear(str(error)) from error

    def find_recordings(
        self, account: Account, *, call_uuid: str, before_page: Callable[[], None] = lambda: None
    ) -> list[Row]:
        """The provider's rows for this call, each recording once; rows of other calls and of none
        are dropped.

        At most MAX_PAGES pages are read; `before_page` is called before each but the first. Raises
        WrongPath, Refused, TryAgain.
        """
        found: dict[str, Row] = {}
        offset = 0
        for number in range(MAX_PAGES):
            if number:
                before_page()
            page = self.recordings_page(account, call_uuid=call_uuid, offset=offset)
            fresh = {row.recording_id: row for row in page.rows}
            following = next_offset(page, offset)
            if fresh.keys() <= found.keys() or following is None:
                found |= fresh  # the end, or a server that pays no heed to the offset
                break
            found, offset = found | fresh, following
        # We do not trust the provider's filter, so we filter too.
        return [row for row in found.values() if row.call_uuid == call_uuid]

    def recordings_page(
        self, account: Account, *, offset: int, call_uuid: str | None = None
    ) -> Page:
        """One page of the list of recordings, of all calls or one. Raises WrongPath, Refused,
        TryAgain.
        """
        only = {"call_uuid": call_uuid} if call_uuid else {}
        page = answers.page(
            self._read(account, "Recording/", {**only, "limit": PAGE, "offset": offset})
        )
        if page is None:
            raise TryAgain("the provider's list holds no list")
        return page

    def get_recording(self, account: Account, recording_id: str) -> Row:
        """The provider's row for this recording. Raises NotReady for its 404, WrongPath, Refused,
        TryAgain.
        """
        answer = self._ask(account, API_LIMITS, "GET", f"Recording/{_part(recording_id)}/")
        if answers.is_gone(answer):
            raise NotReady(f"the provider does not list recording {recording_id}", status=404)
        fields = answers.expect_success(answer, now=_now())
        row = answers.read_row({"recording_id": recording_id, **fields})
        if row is None or row.recording_id != recording_id:
            raise TryAgain("the provider answered with another recording")
        return row

    def delete_recording(self, account: Account, recording_id: str) -> None:
        """Delete the provider's copy for good. One that is not there is a success (repeated
        deletion is undocumented). Raises WrongPath, Refused, TryAgain.
        """
        answer = self._ask(account, API_LIMITS, "DELETE", f"Recording/{_part(recording_id)}/")
        if not answers.is_gone(answer):
            answers.expect_success(answer, now=_now())

    def live_call(self, account: Account, call_uuid: str) -> LiveCall | None:
        """What the provider says of a live call; None only on the application's own 404. Raises
        WrongPath, Refused, TryAgain.
        """
        answer = self._ask(
            account, API_LIMITS, "GET", f"Call/{_part(call_uuid)}/", params={"status": "live"}
        )
        if answers.is_gone(answer):
            return None
        return answers.read_live_call(answers.expect_success(answer, now=_now()))

    def live_calls(self, account: Account) -> list[str]:
        """The ids of all calls that are live now. Raises WrongPath, Refused, TryAgain."""
        found = answers.live_calls(self._read(account, "Call/", {"status": "live"}))
        if found is None:
            raise TryAgain("the provider's list of live calls holds no list")
        return found

    def call_records(
        self, account: Account, *, first: date, last: date, number: int
    ) -> CallRecords:
        """One page, counted from 1, of the records of calls that began on these days or between, as
        the provider counts days. Raises WrongPath, Refused, TryAgain.
        """
        asked = {"start_date": first.isoformat(), "end_date": last.isoformat()}
        found = answers.call_records(
            self._read(account, "cdr", {**asked, "page": number, "per_page": PAGE}),
            account.auth_id,
        )
        if found is None:
            raise TryAgain("the provider's call records hold no list")
        return found

    def credentials_work(self, account: Account) -> bool | None:
        """Whether the provider accepts this account's credentials at all; None if that cannot be
        told now.
        """
        try:
            ask = Ask(account=account, method="GET", path="/auth/me", limits=API_LIMITS)
            answers.expect_success(self._rest.ask([ask])[0].result(), now=_now())
        except Refused:
            return False
        except EndtapeError:
            return None
        return True

    def download(
        self,
        account: Account,
        url: str,
        sink: BinaryIO,
        hooks: Hooks,
        *,
        notes: Path | None = None,
        patience: Patience = PATIENCE,
    ) -> Download:
        """Write the file behind `url` to `sink`, however long that takes, as long as bytes come
        (`patience`).

        A download that was cut off continues where it was cut, if the host can do that; else it
        begins anew. With the file `notes` it also continues what an earlier try left in `sink`. The
        digest is always that of the whole file.

        What a hook or the sink raises passes through. Credentials go to listed media hosts only. At
        most `max_media_bytes` + 1 bytes are written.

        Raises WrongPath (the host is not listed or not fit), RedirectRefused, NotReady (404, 409,
        425), Refused, CorruptMedia (`encoding`, `size`), CorruptDownload (`length`, `size`: with
        what arrived) and TryAgain.
        """
        return download(
            self._media_hosts,
            url,
            self._credentials_for(account, url),
            sink,
            Limits(max_bytes=self._max_media_bytes, patience=patience),
            hooks,
            Notes(notes) if notes else None,
        )

    def _credentials_for(self, account: Account, url: str) -> dict[str, str]:
        # The account in the path owns the file, and only its own token opens it (seen by a public
        # integration).
        owner = re.search(r"/Account/([A-Za-z0-9_-]+)/", url)
        if owner and account.parent_tokens and owner[1] == account.parent != account.auth_id:
            return self._rest.credentials(owner[1], account.parent_tokens)
        return self._rest.credentials(account.auth_id, account.tokens)

    def _read(self, account: Account, path: str, params: Mapping[str, str | int]) -> dict[str, Any]:
        return answers.expect_success(
            self._ask(account, API_LIMITS, "GET", path, params=params), now=_now()
        )

    def _ask(
        self,
        account: Account,
        limits: TimeLimits,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        body: dict[str, Any] | None = None,
    ) -> Answer:
        ask = Ask(
            account=account,
            method=method,
            path=f"/Account/{_part(account.auth_id)}/{path}",
            limits=limits,
            params=params,
            body=body,
        )
        return self._rest.ask([ask])[0].result()


def next_offset(page: Page, offset: int) -> int | None:
    """Where the page after this one begins, with some overlap; None after the last."""
    if page.last or not page.length or (page.last is None and page.length < PAGE):
        return None
    following = page.next_offset if page.next_offset is not None else offset + page.length
    if following <= offset:
        return None
    return following - OVERLAP if following - OVERLAP > offset else following


def _ask_to_stop(stop: Stop) -> Ask:
    return Ask(
        account=stop.account,
        method="DELETE",
        path=f"/Account/{_part(stop.account.auth_id)}/Call/{_part(stop.call_uuid)}/Record/",
        limits=STOP_LIMITS,
        body={"URL": stop.url} if stop.url else None,
    )


def _settle(stop: Stop, outcome: Future[StopOutcome], answered: Future[Answer]) -> None:
    """Turns an answer into the outcome of a stop."""
    error: Exception | None = None
    try:
        answer = answered.result()
        if answers.is_gone(answer):
            raise CallOver(f"the provider knows no live call {stop.call_uuid}")
        answers.expect_success(answer, now=_now())
    except Exception as found:  # noqa: BLE001 - a future that is left unset would wait for ever
        error = found
    outcome.set_result(StopOutcome(at=time.time(), error=error))


def _address(value: object) -> str | None:
    fine = (
        isinstance(value, str)
        and value.startswith(("https://", "http://"))
        and len(value) <= 2000
        and value.isprintable()
    )
    return str(value) if fine else None


def _part(identifier: str) -> str:
    # Only what is safe in a path: `..` would make a request about something else.
    if wire.identifier(identifier) != identifier:
        raise ValueError(f"not an identifier: {identifier[:140]!r}")
    return identifier


def _now() -> datetime:
    return datetime.now(UTC)
