"""The peer: what a good afternoon with Flask and Celery gives. No ledger, no proof, no fences; the
eta is the deadline.

`python -m benchmarks.peers PORT` serves its routes on granian, configured as ours.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests
from celery import Celery
from celery.signals import worker_ready
from flask import Flask, request
from granian import Granian
from granian.constants import Interfaces
from granian.http import HTTP1Settings

ENV = os.environ
app = Celery("peer", broker=ENV.get("PEER_BROKER", "memory://"))
app.conf.update(
    task_ignore_result=True,
    worker_send_task_events=False,
    broker_pool_limit=64,
    worker_disable_rate_limits=True,
    worker_prefetch_multiplier=int(ENV.get("PEER_PREFETCH", "4")),
    broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": 3600},
)
_own = threading.local()


def http() -> requests.Session:
    if not hasattr(_own, "session"):
        _own.session = requests.Session()
        _own.session.trust_env = False
    session: requests.Session = _own.session
    return session


@app.task(name="stop")  # type: ignore[untyped-decorator]
def stop(call_uuid: str, due: float) -> None:
    delete = requests.delete if "PEER_PLAIN" in ENV else http().delete
    delete(
        f"{ENV['PEER_API_URL']}/Account/{ENV['PEER_ACCOUNT']}/Call/{call_uuid}/Record/",
        json={"due": due},
        timeout=5,
        headers={"X-Auth-ID": ENV["PEER_ACCOUNT"], "X-Auth-Token": ENV["PEER_TOKEN"]},
    ).raise_for_status()


@app.task(name="note")  # type: ignore[untyped-decorator]
def note(fields: dict[str, str]) -> None:
    """The task that row 5's callbacks queue. No worker runs in that row."""


@worker_ready.connect  # type: ignore[untyped-decorator]
def _ready(**_: Any) -> None:
    (Path(ENV["PEER_FOLDER"]) / f"ready.{os.getpid()}").touch()


def _verified() -> bool:
    nonce = request.headers.get("X-Vobiz-Signature-V3-Nonce", "")
    message = f"{ENV['PEER_PUBLIC_URL']}{request.path}.{nonce}"
    expected = base64.b64encode(
        hmac.new(ENV["PEER_TOKEN"].encode(), message.encode(), hashlib.sha256).digest()
    ).decode()
    return hmac.compare_digest(expected, request.headers.get("X-Vobiz-Signature-V3", ""))


def create_app() -> Flask:
    web = Flask("peer")

    @web.post("/vobiz/<account>/<token>")
    def callback(account: str, token: str) -> tuple[str, int]:
        if account != ENV["PEER_ACCOUNT"] or token != ENV["PEER_CALLBACK_TOKEN"]:
            return "not found", 404
        if not _verified():
            return "wrong", 403
        fields = request.form.to_dict()
        if "PEER_DEADLINE_S" not in ENV:
            note.delay(fields)
        elif fields["Event"] == "Record":
            due = time.time() + float(ENV["PEER_DEADLINE_S"])
            stop.apply_async((fields["CallUUID"], due), eta=datetime.fromtimestamp(due, UTC))
        return "<Response></Response>", 200

    return web


if __name__ == "__main__":
    Granian(
        "benchmarks.peers:create_app",
        factory=True,
        address="127.0.0.1",
        port=int(sys.argv[1]),
        interface=Interfaces.WSGI,
        workers=2,
        blocking_threads=640,
        backlog=2048,
        log_access=False,
        http1_settings=HTTP1Settings(header_read_timeout=5000),
    ).serve()
