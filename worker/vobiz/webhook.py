"""One signed webhook to an application of the operator, in the form of Standard Webhooks.

Source of the form: https://www.standardwebhooks.com (headers `webhook-id`, `webhook-timestamp`,
`webhook-signature`). Redirects are never followed. A host must have public addresses and https,
unless the operator declared it private.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from requests.utils import DEFAULT_CA_BUNDLE_PATH
from standardwebhooks import Webhook

from worker.calls.notices import Endpoint
from worker.vobiz.addresses import (
    Address,
    Resolve,
    Unfit,
    parse_url,
    resolve_any,
    resolve_vetted,
    system_resolver,
)
from worker.vobiz.transport import Head, Patience, Request, Trouble, perform

_PATIENCE = Patience(within_s=10.0, least_bytes=1)
_MOST_ANSWER = 64 * 1024  # bytes of an answer that are read before the rest is left


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What came of one webhook. `status`: of the answer; None where none came. `why`: what failed;
    None when it arrived.
    """

    status: int | None
    why: str | None

    @property
    def arrived(self) -> bool:
        return self.why is None

    @property
    def is_refused_for_good(self) -> bool:
        """Whether the endpoint says 410: it wants no further try of this one."""
        return self.status == 410

    @property
    def is_down(self) -> bool:
        """Whether the endpoint seems not to work at all, so that others may wait too."""
        return not self.arrived and (
            self.status is None or self.status >= 500 or self.status == 429
        )


class _Enough(Exception):
    """The answer is longer than anybody needs."""


class _Answer:
    """Takes the head of an answer, and throws its body away."""

    def __init__(self) -> None:
        self.head: Head | None = None
        self._bytes = 0

    def on_head(self, head: Head) -> None:
        self.head = head

    def on_body(self, block: bytes) -> None:
        self._bytes += len(block)
        if self._bytes > _MOST_ANSWER:
            raise _Enough

    def on_tick(self) -> None:
        pass


def send(
    endpoint: Endpoint,
    notice_id: str,
    body: str,
    now: datetime,
    resolve: Resolve = system_resolver,
    ca_file: str | None = None,
) -> Outcome:
    """Send one webhook. Never raises for what the endpoint or the network does.

    `now`: the instant that is signed with it. `ca_file`: None for the certificates that `requests`
    ships.
    """
    try:
        address = parse_url(endpoint.url)
        numbers = _numbers(endpoint, address, resolve)
    except Unfit as error:  # its text names the host alone: the path may hold a token
        return Outcome(status=None, why=str(error))
    except OSError as error:
        return Outcome(status=None, why=f"no answer from {address.host}: {error}")
    answer = _Answer()
    request = Request(
        address=address,
        numbers=numbers,
        headers=_headers(endpoint, notice_id, body, now),
        ca_file=ca_file or DEFAULT_CA_BUNDLE_PATH,
        patience=_PATIENCE,
        method="POST",
        body=body.encode(),
    )
    try:
        perform(request, answer)
    except _Enough:
        pass  # the status is all that counts
    except Trouble as trouble:
        if trouble.status is None or answer.head is None:
            return Outcome(status=None, why=f"no answer from {address.host}: {trouble}")
    if answer.head is None:
        return Outcome(status=None, why=f"no answer from {address.host}")
    return _judge(answer.head)


def _judge(head: Head) -> Outcome:
    if 200 <= head.status < 300:
        return Outcome(status=head.status, why=None)
    if 300 <= head.status < 400:
        return Outcome(
            status=head.status, why=f"answered {head.status}, and redirects are not followed"
        )
    return Outcome(status=head.status, why=f"answered {head.status}")


def _numbers(endpoint: Endpoint, address: Address, resolve: Resolve) -> list[str]:
    """Vetted before each connection, because a name can move. Raises Unfit, OSError."""
    if endpoint.private:
        return resolve_any(address, resolve)
    if address.scheme == "http":
        raise Unfit("plain http is for endpoints with `private = true` only", host=address.host)
    return resolve_vetted(address, "pattern", resolve)


def _headers(endpoint: Endpoint, notice_id: str, body: str, now: datetime) -> dict[str, str]:
    # While a secret is being rotated, both sign: the receiver checks with either.
    signatures = [Webhook(secret).sign(notice_id, now, body) for secret in endpoint.secrets]
    return {
        "User-Agent": "endtape",
        "Content-Type": "application/json",
        "Accept": "*/*",
        "Connection": "close",
        "webhook-id": notice_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
