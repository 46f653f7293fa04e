"""A worker that plans calls, and a provider that takes its stops."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from tests import redis_view
from tests.constants import ACCOUNT, CALLBACK_TOKEN, KEY, TOKEN
from worker.calls.events import Event, Kind
from worker.calls.obligations import Duty
from worker.duties.plan_calls import plan_calls
from worker.ledger.client import Ledger
from worker.ledger.store import connect
from worker.processes.composition import make_worker
from worker.settings import Settings

FREE = {Duty.PLAN: 1000}


class House:
    """A worker whose every message to Redis is seen, a provider, and calls with a recording."""

    def __init__(self, redis_server, ledger, provider, folder):
        (folder / "endtape.toml").write_text('[defaults]\nmax_duration = "60s"\n')
        settings = Settings.from_env(
            {
                "VOBIZ_AUTH_ID": ACCOUNT,
                "VOBIZ_AUTH_TOKEN": TOKEN,
                "VOBIZ_API_URL": provider.api_url,
                "REDIS_URL": "redis://127.0.0.1:1",
                "ENDTAPE_CALLBACK_TOKEN": CALLBACK_TOKEN,
                "ENDTAPE_API_KEY": KEY,
                "ENDTAPE_STOP_RATE": "1000",
                "ENDTAPE_SIGNING_KEY": str(folder / "signing_key"),
            },
            folder=folder,
        )
        self.ledger, self.provider = ledger, provider
        self.sent, self.on_send = [], lambda _: None
        client = connect(redis_server.url)
        redis_view.on_every_send(client, self.see)
        self.threads = ThreadPoolExecutor(8)
        self.worker = make_worker(
            settings,
            Ledger(client, ledger.prefix),
            self.threads,
            first_start=ledger.prepare(),
            generation=0,
        )

    def see(self, message):
        self.sent.append(message)
        self.on_send(message)

    def recording(self, call, recording, *, since_s):
        self.ledger.record(
            ACCOUNT,
            Event(
                id=f"started.{recording}",
                kind=Kind.RECORDING_STARTED,
                call_uuid=call,
                signed=True,
                recording_id=recording,
                url=f"https://media.vobiz.ai/{recording}.mp3",
                started_at=self.ledger.now() - timedelta(seconds=since_s),
            ),
        )

    def overdue(self, *calls):
        for call in calls:
            self.provider.call(call_uuid=call)
            self.recording(call, f"r-{call}", since_s=61)

    def plan(self):
        """Plans all that is due, as one batch."""
        claims = self.ledger.claim(lead=timedelta(0), batch=500, free=FREE).claims
        plan_calls(self.worker, claims)
        return len(claims)

    def stops(self, call):
        """The URLs that the call's stops named; None for the whole call."""
        return [
            json.loads(e["body"])["URL"] if e["body"] else None
            for e in self.provider.journal.since()
            if e["kind"] == "request" and e["method"] == "DELETE" and f"/{call}/" in e["path"]
        ]

    def kinds(self, call):
        return [e.kind for e in self.ledger.events(ACCOUNT, call)]
