"""A storm of notifications beside the load: ten thousand at once, to an application that is down,
then slow, then well. Each arrives, signed, and no stop waits for that.
"""

from __future__ import annotations

import base64
import http.server
import secrets
import threading
import time
from dataclasses import replace

from standardwebhooks import Webhook, WebhookVerificationError

from faults.performance import Run
from faults.stage import ACCOUNT, Stage
from worker.calls.obligations import Duty
from worker.duties.notify import halted
from worker.ledger.client import Ledger
from worker.ledger.codec import from_ms, to_ms
from worker.ledger.store import connect

NOTICES = 10_000
_VARIABLE = "FAULTS_NOTIFY_SECRET"
_SLOW_S, _HOME_S = 0.2, 240.0


class Application:
    """An application that takes notifications, once it is well. `took`: the ids."""

    def __init__(self) -> None:
        self.secret = f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
        self.status, self.slow_s, self.took, self.forged = 503, 0.0, set[str](), 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                time.sleep(outer.slow_s)
                self.send_response(outer.take(body, dict(self.headers.items())))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def take(self, body: str, headers: dict[str, str]) -> int:
        """The status that answers a notification."""
        if self.status >= 300:
            return self.status
        try:
            Webhook(self.secret).verify(body, headers)
        except WebhookVerificationError:
            self.forged += 1
            return 401
        self.took.add({name.lower(): text for name, text in headers.items()}["webhook-id"])
        return self.status


def prepare(run: Run) -> None:
    """An application stands in the rules of this run."""
    run.application = Application()
    told = (
        f'[[notify]]\nurl = "{run.application.url}"\nsecret_env = "{_VARIABLE}"\nprivate = true\n'
    )
    env = {**run.plan.env, _VARIABLE: run.application.secret}
    run.plan = replace(run.plan, rules=run.plan.rules + told, env=env)


def of_notices(run: Run, stage: Stage) -> None:
    """Owes ten thousand notifications at once. The application is down for a third of the load,
    slow for another, then well.
    """
    application = run.application
    assert isinstance(application, Application)
    ledger = Ledger(connect(stage.redis.url, timeout_s=5))
    began = to_ms(ledger.now())
    owed = [halted(ACCOUNT, from_ms(began + number)) for number in range(NOTICES)]
    for some in range(0, NOTICES, 500):
        ledger.ensure_due(owed[some : some + 500])
    ledger.wake()
    assert owed[0].duty is Duty.NOTIFY
    third_s = run.size.recordings / run.size.rate / 3
    run.ended.wait(third_s)
    application.status, application.slow_s = 204, _SLOW_S
    run.ended.wait(third_s)
    application.slow_s = 0.0
    until = time.monotonic() + third_s + _HOME_S
    while len(application.took) < NOTICES and time.monotonic() < until:
        time.sleep(0.5)
    run.did.append(f"{NOTICES} notices; down, slow, well")
    if len(application.took) < NOTICES or application.forged:
        run.broken.append(
            f"{len(application.took)} of {NOTICES} notices arrived, {application.forged} forged"
        )
