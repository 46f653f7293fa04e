"""The control API under `/_control`: everything a test can do to the stand-in, as JSON (docs/emulator.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emulator.http import Exchange
    from emulator.provider import Provider

    Given = dict[str, Any]


def serve(provider: Provider, exchange: Exchange) -> None:
    """200 and what came of it; 404 for what is not known, 400 for what cannot be, 502 for a raw callback without an answer."""
    given = exchange.given()
    parts = exchange.url_path.removeprefix("/_control/").strip("/").split("/")
    try:
        match (exchange.command, *parts):
            case ("GET", *_):
                found = _look(provider, parts, exchange.query)
            case ("POST", "calls", call_uuid, *verb) if verb:
                found = _on_call(provider, call_uuid, "/".join(verb), given)
            case ("POST" | "PUT" | "DELETE" as method, *_):
                found = _do(provider, method, parts, given)
            case _:
                found = None
    except KeyError as error:
        exchange.error(404, f"not known, or no longer live: {error.args[0] if error.args else ''}")
    except OSError as error:
        exchange.error(502, f"no answer: {error}")
    except (TypeError, ValueError) as error:
        exchange.error(400, str(error))
    else:
        exchange.error(404, "no such control") if found is None else exchange.answer(200, found)


def _look(provider: Provider, parts: list[str], query: dict[str, str]) -> Given | None:
    match parts:
        case ["faults"]:
            return provider.faults.listing()
        case ["log"]:
            return {"log": provider.journal.since(int(query.get("since", 0)))}
        case ["state"]:
            return provider.state()
        case ["idle"]:
            return {"idle": provider.wait_idle(float(query.get("timeout", 5)))}
        case _:
            return None


def _on_call(provider: Provider, call_uuid: str, verb: str, given: Given) -> Given | None:
    match verb:
        case "record":
            made = provider.record(call_uuid, **given)
            return {"recording_id": made.recording_id, "url": made.url}
        case "event":
            if "event" not in given:
                raise ValueError("event is missing")
            provider.event(call_uuid, str(given.pop("event")), **given)
        case "dial":
            return {"b_leg": provider.dial(call_uuid, **given)}
        case "dial/end":
            provider.dial_end(call_uuid, **given)
        case "join":
            return {"member": provider.join_room(call_uuid, **given)}
        case "leave":
            provider.leave_room(call_uuid, **given)
        case "announce":
            provider.announce(call_uuid)
        case "answer":
            provider.answer(call_uuid)
        case "transfer":
            provider.transfer(call_uuid, **given)
        case "hangup":
            provider.hangup(call_uuid, **given)
        case _:
            return None
    return {}


def _do(provider: Provider, method: str, parts: list[str], given: Given) -> Given | None:
    match (method, *parts):
        case ("POST", "calls"):
            return {"call_uuid": provider.call(**given).call_uuid}
        case ("POST", "recordings", recording_id, "stop"):
            _ = provider.recordings[recording_id]
            provider.end(recording_id, **{"reason": "FinishedOnKey", **given})
        case ("POST", "recordings", recording_id, "transcribe"):
            provider.transcribed(recording_id, **given)
        case ("POST", "callbacks"):
            status, answer = provider.raw(**given)
            return {"status": status, "body": answer}
        case ("POST", "reset"):
            provider.reset()
        case ("PUT", "faults", name):
            provider.faults.switch_on(name, **given)
        case ("DELETE", "faults", name):
            provider.faults.switch_off(name)
        case ("DELETE", "faults"):
            provider.faults.clear()
        case _:
            return None
    return {}
