"""Requests to the provider's REST API with an account's credentials, and the answer to each.

An account may have two tokens while one replaces the other. Nothing else is tried again here.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from worker.vobiz import deprecations, loop, measured
from worker.vobiz.account import Account
from worker.vobiz.answers import Answer
from worker.vobiz.loop import RestRequest, Then, TimeLimits

_HEADERS = {"User-Agent": "endtape", "Accept": "application/json", "Accept-Encoding": "identity"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Ask:
    """One request in the name of an account. `path` begins behind the API's base address."""

    account: Account
    method: str
    path: str
    limits: TimeLimits
    params: Mapping[str, str | int] | None = None
    body: dict[str, Any] | None = None


class Rest:
    """Sends requests with the token that was accepted last. Safe to share between threads."""

    def __init__(self, api_url: str) -> None:
        self._api_url = api_url.rstrip("/")
        self._accepted: dict[str, str] = {}  # by account

    def ask(self, asks: Sequence[Ask], then: Sequence[Then] = ()) -> list[Future[Answer]]:
        """Send all of them at once, and return a future for each without waiting. `then`: a
        callback for each of these futures, as for `loop.send`.

        The answer is that to the first token that is not refused, or to the last one if all are.
        A future raises TryAgain for whatever is no whole HTTP answer.
        """
        tries = [_Tries(self, ask) for ask in asks]
        for one, callback in zip(tries, then, strict=False):
            one.answered.add_done_callback(callback)
        loop.send([one.next_request() for one in tries], [one.on_answer for one in tries])
        return [one.answered for one in tries]

    def credentials(self, auth_id: str, tokens: Sequence[str]) -> dict[str, str]:
        """The headers with the most promising of these tokens."""
        return _credentials(auth_id, self.in_order(auth_id, tokens)[0])

    def in_order(self, auth_id: str, tokens: Sequence[str]) -> list[str]:
        """The tokens, with the one that was accepted last in front."""
        accepted = self._accepted.get(auth_id)
        return sorted(tokens, key=lambda token: token != accepted)

    def accept(self, auth_id: str, token: str) -> None:
        self._accepted[auth_id] = token

    def request(self, ask: Ask, token: str) -> RestRequest:
        query = f"?{urlencode(ask.params)}" if ask.params else ""
        has_body = {"Content-Type": "application/json"} if ask.body is not None else {}
        return RestRequest(
            method=ask.method,
            url=f"{self._api_url}{ask.path}{query}",
            headers=_HEADERS | _credentials(ask.account.auth_id, token) | has_body,
            body=json.dumps(ask.body).encode() if ask.body is not None else None,
            limits=ask.limits,
        )


class _Tries:
    """One ask with one token after the other. After the first all happens in the loop's thread."""

    def __init__(self, rest: Rest, ask: Ask) -> None:
        self.answered: Future[Answer] = Future()
        self._rest, self._ask = rest, ask
        self._tokens = rest.in_order(ask.account.auth_id, ask.account.tokens)

    def next_request(self) -> RestRequest:
        self._token, self._asked_at = self._tokens.pop(0), time.monotonic()
        return self._rest.request(self._ask, self._token)

    def on_answer(self, sent: Future[Answer]) -> None:
        what = measured.what(self._ask.method, self._ask.path)
        measured.answered(what, _status(sent), time.monotonic() - self._asked_at)
        try:
            answer = hide_tokens(self._ask.account, sent.result())
            deprecations.note(self._ask.method, self._ask.path, answer.headers.get)
            is_refused = answer.status in (401, 403)
            if is_refused and self._tokens:
                loop.send([self.next_request()], [self.on_answer])
                return
        except Exception as error:  # noqa: BLE001 - the caller gets it
            self.answered.set_exception(error)
            return
        # 5xx and 429 say nothing about a token.
        if not is_refused and answer.status < 500 and answer.status != 429:
            self._rest.accept(self._ask.account.auth_id, self._token)
        self.answered.set_result(answer)


def _status(sent: Future[Answer]) -> int | None:
    """The status that came; None where no whole answer did."""
    return None if sent.exception() else sent.result().status


def hide_tokens(account: Account, answer: Answer) -> Answer:
    """The answer without the account's tokens: a refusal may repeat them, and ends in logs."""
    body = answer.body
    for token in (*account.tokens, *account.parent_tokens):
        body = body.replace(token.encode(), b"(hidden)")
    return answer if body == answer.body else replace(answer, body=body)


def _credentials(auth_id: str, token: str) -> dict[str, str]:
    return {"X-Auth-ID": auth_id, "X-Auth-Token": token}
