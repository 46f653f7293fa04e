"""REST requests about calls and conferences, and the CDR of a call that is over."""

from __future__ import annotations

from emulator import moments, rows
from emulator.http import BadRequest, Exchange
from emulator.state import new_id
from emulator.switchboard import Switchboard


def make(provider: Switchboard, exchange: Exchange, account: str, _: str) -> None:
    given = exchange.given()
    if missing := [
        name for name in ("from", "to", "answer_url") if not isinstance(given.get(name), str)
    ]:
        raise BadRequest(f"{', '.join(missing)} missing")
    urls = {
        event: given[name]
        for event, name in (
            ("Ring", "ring_url"),
            ("Hangup", "hangup_url"),
            ("MachineDetection", "machine_detection_url"),
        )
        if given.get(name)
    }
    call = provider.call(
        account=account,
        from_number=given["from"].lstrip("+"),
        to_number=given["to"].lstrip("+"),
        direction="outbound",
        callback_url=given["answer_url"],
        urls=urls,
    )
    exchange.answer(
        201, {"api_id": new_id(), "message": "call fired", "request_uuid": call.call_uuid}
    )
    provider.announce(call.call_uuid)


def live_calls(provider: Switchboard, exchange: Exchange, account: str, _: str) -> None:
    status = exchange.query.get("status")
    if status in {"live", "queued"}:
        calls = (
            [call.call_uuid for call in provider.book.live_calls(account)]
            if status == "live"
            else []
        )
        exchange.answer(200, {"api_id": new_id(), "calls": calls})
    else:
        exchange.error(404, "status is required")


def live_call(provider: Switchboard, exchange: Exchange, account: str, call_uuid: str) -> None:
    """A live call; without the parameter `status`, the CDR of a call that is over."""
    call = provider.book.calls.get(call_uuid)
    status = exchange.query.get("status")
    if call is None or call.account != account:
        exchange.error(404, "call not found")
    elif status == "live" and provider.live_of(account, call_uuid) is not None:
        exchange.answer(200, rows.live_call(call))
    elif status is None and call.ended_at is not None:
        exchange.answer(200, rows.cdr(call))
    else:
        exchange.error(404, "call not found")


def transfer(provider: Switchboard, exchange: Exchange, account: str, call_uuid: str) -> None:
    given = exchange.given()
    call = provider.live_of(account, call_uuid)
    legs = {"aleg": ["aleg_url"], "bleg": ["bleg_url"], "both": ["aleg_url", "bleg_url"]}.get(
        given.get("legs", "aleg")
    )
    if call is None:
        exchange.error(404, "call not found")
    elif legs is None:
        raise BadRequest("legs is none of aleg, bleg, both")
    elif missing := [name for name in legs if not given.get(name)]:
        exchange.error(400, f"{', '.join(missing)} is required")
    else:
        exchange.answer(
            202, {"api_id": new_id(), "message": "call transferred", "call_uuid": call_uuid}
        )
        for name in legs:
            provider.transfer(
                call_uuid, str(given[name]), given.get(name.replace("url", "method"), "POST")
            )


def hang_up(provider: Switchboard, exchange: Exchange, account: str, call_uuid: str) -> None:
    if provider.live_of(account, call_uuid) is None:
        exchange.error(404, "call not found")
        return
    exchange.answer(204)
    provider.hangup(call_uuid, source="API Request")


def cdr(provider: Switchboard, exchange: Exchange, account: str, call_uuid: str) -> None:
    call = provider.book.calls.get(call_uuid)
    if call is None or call.account != account or call.ended_at is None:
        exchange.error(404, "CDR not found")
    else:
        exchange.answer(200, rows.cdr(call))


def cdrs(provider: Switchboard, exchange: Exchange, account: str, _: str) -> None:
    """One page of the CDRs of calls that began on the days asked for, newest first."""
    first, last = exchange.query.get("start_date"), exchange.query.get("end_date")
    if not first or not last:
        raise BadRequest("start_date and end_date are required")
    page, size = exchange.number("page", 1), min(exchange.number("per_page", 20), 100)
    if not (page and size):
        raise BadRequest("page and per_page are above 0")
    over = [
        call
        for call in provider.book.calls.values()
        if call.account == account
        and call.ended_at is not None
        and first <= moments.zulu(call.started_at)[:10] <= last
    ]
    over.sort(key=lambda call: -call.started_at)
    shown = [rows.cdr(call)["data"] for call in over[(page - 1) * size : page * size]]
    pages = {
        "page": page,
        "per_page": size,
        "total": len(over),
        "pages": -(-len(over) // size),
        "has_next": page * size < len(over),
        "has_prev": page > 1,
    }
    count = {"account_id": account, "count": len(shown), "data": shown}
    exchange.answer(200, {**count, "pagination": pages, "summary": {}, "success": True})


def conference_record(provider: Switchboard, exchange: Exchange, account: str, name: str) -> None:
    """Accepts the request; no file is ever written."""
    if (account, name) not in provider.book.rooms:
        exchange.error(404, "conference not found")
    elif exchange.command == "POST":
        exchange.answer(200, {"message": "async api spawned", "api_id": new_id()})
    else:
        exchange.answer(204)


def conferences(_provider: Switchboard, exchange: Exchange, _account: str, name: str) -> None:
    """Lists no room. A request for one room fails with status 200."""
    content = {"error": "failed"} if name else {"api_id": new_id(), "conferences": list[str]()}
    exchange.answer(200, content)
