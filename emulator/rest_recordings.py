"""REST requests about recordings: start and stop on a live call; list, get and delete finished
ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from emulator import rows
from emulator.http import BadRequest, Exchange
from emulator.state import Delivery, Recording, new_id
from emulator.switchboard import Switchboard


def stop(provider: Switchboard, exchange: Exchange, account: str, call_uuid: str) -> None:
    if _stop_fails(provider, exchange, account, call_uuid):
        return
    facts = {"call_uuid": call_uuid, "account": account}
    url = None if provider.faults.hit("stop-loses-body", **facts) else exchange.given().get("URL")
    call = provider.live_of(account, call_uuid)
    if call is None:
        exchange.error(404, "call not found")
        return
    if not provider.faults.hit("deaf-stop", **facts):
        provider.stop(call_uuid, url)
    exchange.answer(204)


def _stop_fails(provider: Switchboard, exchange: Exchange, account: str, call_uuid: str) -> bool:
    faults, facts = (
        provider.faults,
        {"call_uuid": call_uuid, "account": account, "route": "stop-recording"},
    )
    if held := faults.hit("stop-timeout", **facts):
        provider.hold(float(held["seconds"]))
        exchange.drop()
    elif failing := faults.hit("stop-fails-first", **facts):
        exchange.upstream(int(failing["status"]))
    elif limited := faults.hit("stop-429", **facts):
        exchange.limited(limited["retry_after"])
    elif faults.hit("gateway-404", **facts):
        exchange.gateway_404()
    elif faults.hit("stop-404", **facts):
        exchange.error(404, "call not found")
    elif exchange.given().get("URL") and faults.hit("stop-unknown-url", **facts):
        exchange.error(404, "recording not found")
    elif refused := faults.hit("refuse-auth", **facts):
        exchange.refuse(int(refused["status"]))
    else:
        return False
    return True


def start(provider: Switchboard, exchange: Exchange, account: str, call_uuid: str) -> None:
    """Starts one more recording with each request."""
    given = exchange.given()
    call = provider.live_of(account, call_uuid)
    if call is None:
        exchange.error(404, "call not found")
        return
    limit = given.get("time_limit", 60)
    if isinstance(limit, bool) or not isinstance(limit, int) or limit <= 0:
        raise BadRequest("time_limit is not a number of seconds")
    container = _choice(given, "file_format", ("mp3", "wav"))
    channels = 2 if _choice(given, "record_channel_type", ("mono", "stereo")) == "stereo" else 1
    delivery = Delivery(_choice(given, "callback_method", ("POST", "GET")))
    made = provider.record(
        call_uuid,
        container=container,
        channels=channels,
        source="rest",
        max_length_s=float(limit),
        callback_url=str(given.get("callback_url") or "") or None,
        callback_method=delivery.method,
        transcription_url=str(given.get("transcription_url") or ""),
    )
    named = {"recording_id": made.recording_id, "url": made.url}
    if provider.faults.hit(
        "start-nameless", call_uuid=call_uuid, account=account, route="start-recording"
    ):
        named = {}
    exchange.answer(200, {"api_id": new_id(), "message": "recording started", **named})


def _choice(given: dict[str, Any], name: str, allowed: tuple[str, ...]) -> str:
    value = given.get(name, allowed[0])
    if value not in allowed:
        raise BadRequest(f"{name} is none of {', '.join(allowed)}")
    return str(value)


def listing(provider: Switchboard, exchange: Exchange, account: str, _subject: str) -> None:
    """Lists recordings, newest first. The path of the next page lacks `/api`."""
    limit, offset = min(exchange.number("limit", 20), 100), exchange.number("offset", 0)
    if not limit:
        raise BadRequest("limit is not a number above 0")
    call_uuid = exchange.query.get("call_uuid")
    recordings = sorted(
        (r for r in provider.book.recordings_of(account, call_uuid) if _is_listed(provider, r)),
        key=lambda r: -r.started_at,
    )
    kind = exchange.query.get("recording_type")
    if kind:
        recordings = [r for r in recordings if kind == ("trunk" if r.source == "trunk" else "call")]
    base, more = (
        f"/v1/Account/{account}/Recording/?limit={limit}&offset=",
        offset + limit < len(recordings),
    )
    meta = {
        "limit": limit,
        "next": f"{base}{offset + limit}" if more else None,
        "offset": offset,
        "previous": f"{base}{max(offset - limit, 0)}" if offset else None,
        "total_count": len(recordings),
    }
    objects = [_row(provider, r, rows.listed) for r in recordings[offset : offset + limit]]
    if more and (
        moved := provider.faults.hit("list-rows-move", account=account, call_uuid=call_uuid)
    ):
        for _ in range(int(moved["rows"])):
            provider.insert_row(recordings[0])
    exchange.answer(200, {"api_id": new_id(), "meta": meta, "objects": objects})


def _is_listed(provider: Switchboard, recording: Recording) -> bool:
    facts = {
        "call_uuid": recording.call_uuid,
        "recording_id": recording.recording_id,
        "account": recording.account,
    }
    if recording.ended_at is None:
        return provider.faults.hit("list-running", **facts) is not None
    lag = provider.faults.hit("list-lag", **facts)
    return provider.is_ready(recording) and (
        lag is None or time.time() >= recording.ended_at + float(lag["seconds"])
    )


def _row(
    provider: Switchboard, recording: Recording, spell: Callable[..., dict[str, Any]]
) -> dict[str, Any]:
    facts = {
        "call_uuid": recording.call_uuid,
        "recording_id": recording.recording_id,
        "account": recording.account,
    }
    how: dict[str, Any] = {
        "off_s": float((provider.faults.hit("wrong-duration", **facts) or {}).get("seconds", 0))
    }
    if recording.ended_at is None:
        how["so_far"] = bool((provider.faults.hit("list-running", **facts) or {}).get("so_far"))
    return spell(provider.book.calls[recording.call_uuid], recording, **how)


def one(provider: Switchboard, exchange: Exchange, account: str, recording_id: str) -> None:
    recording = provider.ready(account, recording_id)
    if recording is None:
        exchange.error(404, "Recording not found")
    else:
        exchange.answer(200, _row(provider, recording, rows.got))


def delete(provider: Switchboard, exchange: Exchange, account: str, recording_id: str) -> None:
    recording = provider.ready(account, recording_id)
    if recording is None:
        exchange.error(404, "Recording not found")
    else:
        provider.book.delete_recording(recording)
        exchange.answer(204)
