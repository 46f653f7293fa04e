"""The last act of the demo: a hold that keeps, an offload, an erasing, a signed notification, and
the day's completeness.
"""

from __future__ import annotations

import base64
import http.server
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import requests
from rich.table import Table
from standardwebhooks import Webhook, WebhookVerificationError

SIGNED_BY = "DEMO_NOTIFY_SECRET"  # the variable that holds the secret
_RULES = """
[[notify]]
url = "{url}"
secret_env = "{variable}"
private = true
"""
_WITHIN_S = 15.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """One thing that the demo shows. `good`: whether it went as it should."""

    what: str
    outcome: str
    good: bool


class Application:
    """An application of the operator that takes notifications and checks them: `told` has the type
    of each whose signature is good.
    """

    def __init__(self) -> None:
        self.secret = f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
        self.told: list[str] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                self.send_response(outer.take(body, dict(self.headers.items())))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def rules(self) -> str:
        """What names it in the rules file."""
        url = f"http://127.0.0.1:{self._server.server_port}/endtape"
        return _RULES.format(url=url, variable=SIGNED_BY)

    def take(self, body: str, headers: dict[str, str]) -> int:
        """The status that answers a notification."""
        try:
            self.told.append(Webhook(self.secret).verify(body, headers)["type"])
        except WebhookVerificationError:
            return 401
        return 204

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def play(
    base: str,
    key: str,
    application: Application,
    recordings: Mapping[str, str],
) -> list[Shown]:
    """Hold, offload and erase some of these recordings, by their titles, all archived. Returns what
    came of it.
    """
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {key}"
        house = _House(session, base)
        return [
            _hold(house, recordings["max duration"]),
            _offload(house, recordings["transfer, keeps"]),
            _erase(house, recordings["normal hang-up"]),
            _notified(application),
            _ledger(house),
        ]


def table_of(shown: list[Shown]) -> Table:
    """What is printed of it."""
    table = Table(title="Governed", width=80, box=None, padding=(0, 1, 0, 0))
    for column in ("what", "what came of it", "ok"):
        table.add_column(column)
    for one in shown:
        table.add_row(one.what, one.outcome, "yes" if one.good else "NO")
    return table


# Each act
# --------------------------------------------------------------------------------------------------


class _House:
    """The service's `/v1`."""

    def __init__(self, session: requests.Session, base: str) -> None:
        self._session, self._base = session, base

    def ask(self, method: str, path: str) -> requests.Response:
        return self._session.request(method, f"{self._base}/v1{path}", timeout=10)

    def recording(self, recording_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("GET", f"/recordings/{recording_id}").json()
        return found


def _hold(house: _House, recording_id: str) -> Shown:
    place = f"/recordings/{recording_id}"
    house.ask("PUT", f"{place}/hold?reason=case+12")
    refused = house.ask("POST", f"{place}/erase?reason=a+request")
    view = house.recording(recording_id)
    good = refused.status_code == 409 and view.get("held") is True
    outcome = f"erasing it is refused ({refused.status_code}): {refused.json().get('detail')}"
    return Shown(what="legal hold", outcome=outcome, good=good)


def _offload(house: _House, recording_id: str) -> Shown:
    view = _until(
        lambda: house.recording(recording_id), lambda v: bool(v.get("deleted_at_provider"))
    )
    outcome = f"the provider's copy is deleted; saves US${view.get('saved_per_month')} a month"
    return Shown(what="offload", outcome=outcome, good=bool(view.get("deleted_at_provider")))


def _erase(house: _House, recording_id: str) -> Shown:
    house.ask("POST", f"/recordings/{recording_id}/erase?reason=the+caller+asked")
    view = _until(lambda: house.recording(recording_id), lambda v: v.get("phase") == "erased")
    why = (view.get("erased") or {}).get("reason")
    outcome = f"{recording_id}.erased.json: {why}"
    return Shown(what="erased, tombstone", outcome=outcome, good=view.get("phase") == "erased")


def _notified(application: Application) -> Shown:
    told = _until(lambda: list(application.told), lambda types: "recording.erased" in types)
    kinds = ", ".join(dict.fromkeys(told))
    outcome = f"{len(told)} with a good signature: {kinds}"
    return Shown(what="notifications", outcome=outcome, good="recording.erased" in told)


def _ledger(house: _House) -> Shown:
    view = house.ask("GET", "/ledger").json()
    totals = view.get("totals", {})
    unexplained = totals.get("unexplained")
    outcome = (
        f"expected {totals.get('expected')}, verified {totals.get('verified')}, "
        f"erased {totals.get('erased')}, unexplained {unexplained}"
    )
    # A slow machine may stop something late, which the ledger then tells: that is no fault here.
    return Shown(what="the day's ledger", outcome=outcome, good=unexplained is not None)


def _until(look: Callable[[], Any], is_there: Callable[[Any], bool]) -> Any:
    """What is seen at last: as soon as it is there, or when the time is up."""
    ends_at = time.monotonic() + _WITHIN_S
    while not is_there(seen := look()) and time.monotonic() < ends_at:
        time.sleep(0.1)
    return seen
