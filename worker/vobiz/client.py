"""The provider's REST API and media, as far as this project needs them: stop, list, look, download.

One law: HTTP becomes values and errors here and nowhere else. Nothing is retried here, except with
an account's other token; when to try again, the ledger knows. Written on urllib3, which `requests`
stands on: a stop costs a third of what it costs through a session
(docs/decisions/0002-dependencies.md), and of a session's features we want none.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, BinaryIO
from urllib.parse import urlencode, urlsplit

import urllib3

from worker import wire
from worker.errors import CallOver, EndtapeError, NotReady, Refused, Rejected, TryAgain, Unclear
from worker.vobiz import answers
from worker.vobiz.account import Account
from worker.vobiz.addresses import HostList, Resolve, system_resolver
from worker.vobiz.answers import Answer, LiveCall, Page, Row
from worker.vobiz.deadline import Deadline, pool
from worker.vobiz.download import CorruptDownload, Download, Limits, RedirectRefused, Ways, download
from worker.vobiz.partial import Notes
from worker.vobiz.transport import Patience

__all__ = ["Account", "CorruptDownload", "Download", "RedirectRefused", "Row", "Vobiz"]

PAGE = 100  # the provider's maximum (documented)
MAX_PAGES = 20
OVERLAP = 5  # a row that is added while we page shifts the offsets of all older ones
MAX_ANSWER_BYTES = 8 * 1024 * 1024
PATIENCE = Patience()


@dataclass(frozen=True, kw_only=True, slots=True)
class Started:
    """What the provider says about a recording that it started; None for what it leaves out."""

    recording_id: str | None
    url: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Lane:
    """A pool of its own with its own patience, so that one kind of request never waits for
    another.
    """

    timeout: tuple[float, float]  # seconds to connect, seconds of silence
    total_s: float  # seconds for the whole exchange
    connections: int


class Vobiz:
    """Safe to share between threads; after a fork each process makes its own connections."""

    def __init__(
        self,
        *,
        api_url: str,
        media_hosts: Sequence[str],
        redirect_hosts: Sequence[str],
        max_media_bytes: int,
        stop_connections: int = 32,
        resolve: Resolve = system_resolver,
        ca_file: str | None = None,
    ) -> None:
        """`resolve` and `ca_file` concern media only; without `ca_file` the certificates shipped
        with requests decide.

        Raises addresses.Unfit for a host entry that cannot be read.
        """
        self._api_url = api_url.rstrip("/")
        self._ways = Ways(
            media=HostList(media_hosts),
            redirect=HostList(redirect_hosts),
            resolve=resolve,
            ca_file=ca_file,
        )
        self._max_media_bytes = max_media_bytes
        self._stops = _Lane(timeout=(2, 3), total_s=6, connections=stop_connections)
        self._orders = _Lane(timeout=(2, 4), total_s=5, connections=8)
        self._api = _Lane(timeout=(2, 5), total_s=10, connections=8)
        self._pools: dict[tuple[int, _Lane], urllib3.HTTPConnectionPool] = {}
        self._accepted: dict[str, str] = {}
        self._lock = threading.Lock()

    def stop_recordings(self, account: Account, call_uuid: str, *, url: str | None = None) -> None:
        """Ask for the end of every recording on the call, or of the one behind `url`. Returns once
        that is accepted.

        Doing so twice is harmless: stopping what is not active is a success (vendor's own note).
        Accepted is not stopped. Raises CallOver for the application's 404, WrongPath, Refused,
        TryAgain.
        """
        answer = self._ask(
            account,
            self._stops,
            "DELETE",
            f"Call/{_part(call_uuid)}/Record/",
            body={"URL": url} if url else None,
        )
        if answers.is_gone(answer):
            raise CallOver(f"the provider knows no live call {call_uuid}")
        answers.expect_success(answer, now=_now())

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
        """Ask for one more recording of a live call. Each request that arrives starts one
        (documented), so it goes out once.

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
            answer = self._ask(account, self._orders, "POST", path, body=body)
        except TryAgain as error:
            raise Unclear(str(error)) from error
        if answers.is_gone(answer):
            raise CallOver("the provider knows no such live call")
        if 400 <= answer.status < 500 and answer.status not in (401, 403, 404, 408, 429):
            raise Rejected(answers.told(answer), status=answer.status)
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
        # Whether the provider's filter works is a matter of faith, so we filter too.
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
        answer = self._ask(account, self._api, "GET", f"Recording/{_part(recording_id)}/")
        if answers.is_gone(answer):
            raise NotReady(f"the provider does not list recording {recording_id}", status=404)
        fields = answers.expect_success(answer, now=_now())
        row = answers.read_row({"recording_id": recording_id, **fields})
        if row is None or row.recording_id != recording_id:
            raise TryAgain("the provider answered with another recording")
        return row

    def live_call(self, account: Account, call_uuid: str) -> LiveCall | None:
        """What the provider says of a live call; None only on the application's own 404. Raises
        WrongPath, Refused, TryAgain.
        """
        answer = self._ask(
            account, self._api, "GET", f"Call/{_part(call_uuid)}/", params={"status": "live"}
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

    def credentials_work(self, account: Account) -> bool | None:
        """Whether the provider accepts this account's credentials at all; None if that cannot be
        told now.
        """
        try:
            answer = self._with_tokens(account, self._api, "GET", f"{self._api_url}/auth/me")
            answers.expect_success(answer, now=_now())
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
        *,
        alive: Callable[[], None],
        announced: Callable[[int | None], None] = lambda _: None,
        notes: Notes | None = None,
        patience: Patience = PATIENCE,
    ) -> Download:
        """Write the file behind `url` to `sink`, however long that takes, as long as bytes come
        (`patience`).

        A file that was cut off goes on where the host can do that, in this try and, with `notes`,
        after what an earlier one left in `sink`; else it begins anew. The digest is always that of
        all of it.

        `alive` is called about once a second and may raise to abort; `announced` with the bytes to
        come, before any is written. What either or the sink raises passes through. Credentials go
        to listed media hosts only; no more than `max_media_bytes` + 1 bytes are written.

        Raises WrongPath (the host is not listed or not fit), RedirectRefused, NotReady (404, 409,
        425), Refused, CorruptMedia (`encoding`, `size`), CorruptDownload (`length`, `size`: with
        what arrived) and TryAgain.
        """
        limits = Limits(
            max_bytes=self._max_media_bytes, patience=patience, alive=alive, announced=announced
        )
        return download(self._ways, url, self._credentials_for(account, url), sink, limits, notes)

    def _credentials_for(self, account: Account, url: str) -> dict[str, str]:
        # The account in the path owns the file, and only its own token opens it (seen by a public
        # integration).
        owner = re.search(r"/Account/([A-Za-z0-9_-]+)/", url)
        if owner and account.parent_tokens and owner[1] == account.parent != account.auth_id:
            return _headers(owner[1], self._ordered(owner[1], account.parent_tokens)[0])
        return _headers(account.auth_id, self._ordered(account.auth_id, account.tokens)[0])

    def _read(self, account: Account, path: str, params: Mapping[str, str | int]) -> dict[str, Any]:
        return answers.expect_success(
            self._ask(account, self._api, "GET", path, params=params), now=_now()
        )

    def _ask(
        self,
        account: Account,
        lane: _Lane,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        body: dict[str, Any] | None = None,
    ) -> Answer:
        url = f"{self._api_url}/Account/{_part(account.auth_id)}/{path}"
        return self._with_tokens(account, lane, method, url, params=params, body=body)

    def _with_tokens(
        self,
        account: Account,
        lane: _Lane,
        method: str,
        url: str,
        *,
        params: Mapping[str, str | int] | None = None,
        body: dict[str, Any] | None = None,
    ) -> Answer:
        """The answer to the first token that is not refused; to the last one if all are. 5xx and
        429 prove no token.
        """
        for token in self._ordered(account.auth_id, account.tokens):
            answer = _without(
                account,
                self._send(
                    lane, method, url, _headers(account.auth_id, token), params=params, body=body
                ),
            )
            if answer.status not in (401, 403):
                if answer.status < 500 and answer.status != 429:
                    self._accepted[account.auth_id] = token
                break
        return answer

    def _ordered(self, auth_id: str, tokens: tuple[str, ...]) -> list[str]:
        accepted = self._accepted.get(auth_id)
        return sorted(tokens, key=lambda token: token != accepted)

    def _send(
        self,
        lane: _Lane,
        method: str,
        url: str,
        headers: dict[str, str],
        *,
        params: Mapping[str, str | int] | None,
        body: dict[str, Any] | None,
    ) -> Answer:
        content = json.dumps(body).encode() if body is not None else None
        target = urlsplit(url).path + (f"?{urlencode(params)}" if params else "")
        own = {"Content-Type": "application/json"} if content else {}
        connect_s, silence_s = lane.timeout
        try:
            with (
                Deadline(lane.total_s) as deadline,
                self._pool(lane).urlopen(
                    method,
                    target,
                    body=content,
                    headers=_PLAIN | headers | own,
                    redirect=False,
                    retries=False,
                    timeout=urllib3.Timeout(connect=connect_s, read=silence_s),
                    preload_content=False,
                    decode_content=False,
                ) as response,
            ):
                answer = Answer(
                    status=response.status,
                    headers={name.lower(): value for name, value in response.headers.items()},
                    body=_whole(response),
                )
                # Headers that are cut off pass for complete (http.client), so a deadline in their
                # midst shows only here.
                if deadline.passed:
                    raise TryAgain(f"{method} took longer than {lane.total_s:g} s")
                response.release_conn()
                return answer
        except (OSError, urllib3.exceptions.HTTPError, http.client.HTTPException) as error:
            # Its text can hold the URL, whose ids are ours to log, but never a header.
            raise TryAgain(
                f"{method} failed: {type(error).__name__}: {str(error)[:300]}"
            ) from error

    def _pool(self, lane: _Lane) -> urllib3.HTTPConnectionPool:
        mine = (os.getpid(), lane)
        with self._lock:
            if mine not in self._pools:
                self._pools[mine] = pool(self._api_url, lane.connections)
            return self._pools[mine]


def next_offset(page: Page, offset: int) -> int | None:
    """Where the page after this one begins, with some overlap; None after the last."""
    if page.last or not page.length or (page.last is None and page.length < PAGE):
        return None
    following = page.next_offset if page.next_offset is not None else offset + page.length
    if following <= offset:
        return None
    return following - OVERLAP if following - OVERLAP > offset else following


def _without(account: Account, answer: Answer) -> Answer:
    # What a provider says about a refusal ends in logs, and may repeat what it refused.
    body = answer.body
    for token in (*account.tokens, *account.parent_tokens):
        body = body.replace(token.encode(), b"(hidden)")
    return answer if body == answer.body else replace(answer, body=body)


def _whole(response: urllib3.BaseHTTPResponse) -> bytes:
    body = bytearray()
    for block in response.stream(64 * 1024):
        body += block
        if len(body) > MAX_ANSWER_BYTES:
            raise TryAgain(
                f"the provider's answer is larger than {MAX_ANSWER_BYTES} bytes",
                status=response.status,
            )
    return bytes(body)


_PLAIN = {"User-Agent": "endtape", "Accept": "application/json", "Accept-Encoding": "identity"}


def _headers(auth_id: str, token: str) -> dict[str, str]:
    return {"X-Auth-ID": auth_id, "X-Auth-Token": token}


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
