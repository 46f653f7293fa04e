"""What monitoring asks for: whether the service is alive and ready, and its counters."""

from __future__ import annotations

from collections.abc import Callable

from flask import Response, request

from webhooks.api import metrics
from webhooks.api.keys import need_key
from worker.errors import LedgerUnavailable
from worker.ledger.client import Ledger
from worker.ledger.presence import ROLES, SEEN_WITHIN
from worker.settings import Settings


class Probes:
    """`settings` is called for each request, so that a reload takes effect."""

    def __init__(self, ledger: Ledger, settings: Callable[[], Settings]) -> None:
        self.ledger, self.settings = ledger, settings

    def healthz(self) -> Response:
        return Response("ok\n", mimetype="text/plain")

    def readyz(self) -> Response:
        """503 with the names of what is missing. Faults that keep no stop from being sent are one
        line each, and leave the answer 200.
        """
        missing, degraded = list[str](), dict[str, str]()
        try:
            self.ledger.command("SET", self.ledger.key("probe"), 1, "EX", 60)
            alive = self.ledger.alive(SEEN_WITHIN)
            missing = [role for role in ROLES if role not in alive]
            degraded = self._degraded()
        except LedgerUnavailable:
            missing = ["redis"]
        lines = [
            f"missing: {', '.join(missing)}" if missing else "ready",
            *(f"degraded: {what}: {why}" for what, why in degraded.items()),
        ]
        return Response(
            "".join(f"{line}\n" for line in lines), 503 if missing else 200, mimetype="text/plain"
        )

    def _degraded(self) -> dict[str, str]:
        """What does not work, and why. It names no machine and no account, because anybody may ask;
        the alert names them.
        """
        degraded = {what.partition("@")[0]: why for what, why in self.ledger.degraded().items()}
        accounts = self.settings().accounts
        halted = len(self.ledger.halted(accounts))
        if halted:
            degraded["credentials"] = (
                f"the provider refuses those of {halted} of {len(accounts)} accounts"
            )
        return degraded

    def metrics(self) -> Response:
        """With a key each account by its name. Without one all of them together, because anybody
        may ask.
        """
        with_key = "Authorization" in request.headers
        if with_key:
            need_key(self.settings, view_key_too=True)
        return Response(
            metrics.render(self.ledger, self.settings().accounts, named=with_key),
            mimetype="text/plain; version=0.0.4",
        )
