"""The whole job as one plain service of Flask, Celery and requests, as a good developer writes it.

A callback comes in and its signature is checked; a task with an eta stops the recording at its
deadline; another one fetches the file and writes it. Nothing is proven, and nothing is compared.

`python -m benchmarks.plain_service PORT` serves the callbacks; `celery -A benchmarks.plain_service
worker` does the tasks.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import requests
from celery import Celery
from celery.signals import worker_ready
from flask import Flask, abort, request
from granian import Granian
from granian.constants import Interfaces

log = logging.getLogger("plain")

# Settings
# --------------------------------------------------------------------------------------------------

ACCOUNT = os.environ.get("PEER_ACCOUNT", "")
TOKEN = os.environ.get("PEER_TOKEN", "")
CALLBACK_TOKEN = os.environ.get("PEER_CALLBACK_TOKEN", "")
API_URL = os.environ.get("PEER_API_URL", "")
PUBLIC_URL = os.environ.get("PEER_PUBLIC_URL", "")
MEDIA_HOST = os.environ.get("PEER_MEDIA_HOST", "")
ARCHIVE = Path(os.environ.get("PEER_ARCHIVE", "archive"))
FOLDER = Path(os.environ.get("PEER_FOLDER", "."))
DEADLINE = timedelta(seconds=float(os.environ.get("PEER_DEADLINE_S", "3600")))
HEADERS = {"X-Auth-ID": ACCOUNT, "X-Auth-Token": TOKEN}
TRIES = 8

# Tasks
# --------------------------------------------------------------------------------------------------

celery = Celery("plain", broker=os.environ.get("PEER_BROKER", "memory://"))
celery.conf.update(
    task_ignore_result=True,
    task_acks_late=True,
    worker_prefetch_multiplier=4,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": 12 * 3600},  # longer than any eta
)
_sessions: dict[int, requests.Session] = {}


def http() -> requests.Session:
    """The kept-alive connections of this process."""
    if os.getpid() not in _sessions:
        session = _sessions[os.getpid()] = requests.Session()
        session.headers.update(HEADERS)
        session.trust_env = False
    return _sessions[os.getpid()]


@celery.task(
    name="plain.stop",
    autoretry_for=(requests.RequestException,),
    retry_backoff=1,
    max_retries=TRIES,
)
def stop_recording(call_uuid: str) -> None:
    """Ends what records on the call."""
    answer = http().delete(f"{API_URL}/Account/{ACCOUNT}/Call/{call_uuid}/Record/", timeout=10)
    if answer.status_code == 404:
        log.info("call %s is over", call_uuid)
        return
    answer.raise_for_status()
    log.info("stopped call %s", call_uuid)


@celery.task(
    name="plain.fetch",
    autoretry_for=(requests.RequestException, OSError),
    retry_backoff=1,
    max_retries=TRIES,
)
def fetch_recording(recording_id: str, url: str) -> None:
    """Writes the recording's file into the archive: whole, or not at all."""
    suffix = Path(url).suffix or ".mp3"
    path = ARCHIVE / ACCOUNT / f"{datetime.now(UTC):%Y/%m/%d}" / f"{recording_id}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with http().get(url, stream=True, timeout=30) as answer, part.open("wb") as file:
        answer.raise_for_status()
        for piece in answer.iter_content(65536):
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)
    log.info("archived %s", path)


@worker_ready.connect
def _tell_ready(**_: Any) -> None:
    (FOLDER / f"ready.{os.getpid()}").touch()


# Callbacks
# --------------------------------------------------------------------------------------------------


def is_signed() -> bool:
    """Whether the provider's signature (V3) covers this address."""
    nonce = request.headers.get("X-Vobiz-Signature-V3-Nonce", "")
    message = f"{PUBLIC_URL}{request.path}.{nonce}".encode()
    expected = base64.b64encode(hmac.new(TOKEN.encode(), message, hashlib.sha256).digest())
    given = request.headers.get("X-Vobiz-Signature-V3", "").encode()
    return bool(nonce) and hmac.compare_digest(expected, given)


def create_app() -> Flask:
    web = Flask("plain")

    @web.post("/vobiz/<account>/<token>")
    def callback(account: str, token: str) -> tuple[str, int, dict[str, str]]:
        if account != ACCOUNT or not hmac.compare_digest(token, CALLBACK_TOKEN):
            abort(404)
        if not is_signed():
            abort(403)
        fields = request.form
        match fields.get("Event"):
            case "Record":
                due = datetime.now(UTC) + DEADLINE
                stop_recording.apply_async((fields["CallUUID"],), eta=due)
            case "RecordStop":
                if f"//{MEDIA_HOST}/" not in fields["RecordUrl"]:
                    abort(400)
                fetch_recording.delay(fields["RecordingID"], fields["RecordUrl"])
        log.info("%s of call %s at %s", fields.get("Event"), fields.get("CallUUID"), time.time())
        return "<Response></Response>", 200, {"Content-Type": "application/xml"}

    return web


if __name__ == "__main__":
    Granian(
        "benchmarks.plain_service:create_app",
        factory=True,
        address="127.0.0.1",
        port=int(sys.argv[1]),
        interface=Interfaces.WSGI,
        workers=2,
        blocking_threads=32,
        log_access=False,
    ).serve()
