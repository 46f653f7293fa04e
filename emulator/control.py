"""The control API under `/_control`: everything that a test can do to the emulator, as JSON
(docs/emulator.md).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

from emulator.http import Exchange
from emulator.options import CallOptions, RecordingOptions
from emulator.switchboard import Switchboard

Given = dict[str, Any]


def serve(provider: Switchboard, exchange: Exchange) -> None:
    """Answers 200 with the result; 404 for an unknown call, recording or route, 400 for wrong
    fields, 502 for a raw callback that got no answer.
    """
    given = exchange.given()
    parts = exchange.url_path.removeprefix("/_control/").strip("/").split("/")
    try:
        match (exchange.command, *parts):
            case ("GET", *_):
                result = _look(provider, parts, exchange.query)
            case ("POST", "calls", call_uuid, *verb) if verb:
                result = _on_call(provider, call_uuid, "/".join(verb), given)
            case ("POST" | "PUT" | "DELETE" as method, *_):
                result = _do(provider, method, parts, given)
            case _:
                result = None
    except KeyError as error:
        exchange.error(
            404,
            f"not known, or no longer live: {error.args[0] if error.args else ''}"
            + ("; `GET faults` tells which bad days there are" if parts[0] == "faults" else ""),
        )
    except OSError as error:
        exchange.error(502, f"no answer: {error}")
    except (TypeError, ValueError) as error:
        exchange.error(400, str(error))
    else:
        exchange.error(404, "no such control") if result is None else exchange.answer(200, result)


# Other spellings of a field: those of scenario files and of the provider's own requests.
_SHORT = {"from": "from_number", "to": "to_number"}
_KINDS: dict[str, tuple[str, tuple[type, ...]]] = {
    "str": ("text", (str,)),
    "float": ("a number of 0 or more", (int, float)),
    "int": ("a whole number of 0 or more", (int,)),
    "bool": ("true or false", (bool,)),
    "None": ("null", (type(None),)),
    "Mapping": ("an object of texts", (dict,)),
    "dict": ("an object of texts", (dict,)),
}


def _fields(deed: Callable[..., Any], given: Given, *ours: str) -> Given:
    """The fields as keyword arguments of `deed`, without the arguments `ours`, which the address
    gives. Raises ValueError that names every wrong field as it was sent.
    """
    known = {
        name: p
        for name, p in inspect.signature(deed).parameters.items()
        if name not in ours and p.kind is not p.VAR_KEYWORD
    }
    taken, wrong = dict[str, Any](), list[str]()
    for sent, value in given.items():
        name = _SHORT.get(sent, sent) if sent not in known and _SHORT.get(sent) in known else sent
        if name not in known:
            wrong.append(f"{sent}: is not known here; known: {', '.join(known) or 'nothing'}")
        elif name in taken:
            wrong.append(f"{sent}: stands there twice, as {name} too")
        elif not _fits(value, kinds := _kinds(known[name])):
            wanted = " or ".join(_KINDS[kind][0] for kind in kinds)
            wrong.append(f"{sent}: must be {wanted}, not {value!r:.80}")
        taken[name] = value
    wrong += [
        f"{name}: is missing"
        for name, p in known.items()
        if p.default is p.empty and name not in taken
    ]
    if wrong:
        raise ValueError("; ".join(wrong))
    return taken


def _kinds(parameter: inspect.Parameter) -> list[str]:
    """The kinds that the parameter's annotation names: `float | None` is float and None."""
    return [kind.partition("[")[0] for kind in str(parameter.annotation).split(" | ")]


def _fits(value: Any, kinds: list[str]) -> bool:
    if isinstance(value, bool):
        return "bool" in kinds
    if isinstance(value, dict) and not all(isinstance(text, str) for text in value.values()):
        return False
    if isinstance(value, int | float) and not (math.isfinite(value) and value >= 0):
        return False
    return any(isinstance(value, _KINDS[kind][1]) for kind in kinds)


def _number(query: dict[str, str], name: str, default: float) -> float:
    text = query.get(name) or str(default)
    if not text.replace(".", "", 1).isdecimal():
        raise ValueError(f"{name}: must be a number of 0 or more, not {text[:80]!r}")
    return float(text)


def _sent(name: str, value: Any) -> Any:
    """A field of a callback, which may hold any text or number. Raises ValueError for others."""
    if name in {"call_uuid", "name"} or isinstance(value, dict | list):
        raise ValueError(
            f"{name}: is not known here; the event's own fields have the provider's names, "
            "and texts or numbers"
        )
    return value


def _text(given: Given, name: str) -> str:
    if not isinstance(given.get(name), str) or not given[name]:
        raise ValueError(
            f"{name}: must be text, not {given[name]!r:.80}"
            if name in given
            else f"{name}: is missing"
        )
    return str(given[name])


def _look(provider: Switchboard, parts: list[str], query: dict[str, str]) -> Given | None:
    match parts:
        case ["faults"]:
            return provider.faults.listing()
        case ["log"]:
            return {"log": provider.journal.since(int(_number(query, "since", 0)))}
        case ["state"]:
            return provider.state()
        case ["idle"]:
            return {"idle": provider.wait_idle(_number(query, "timeout", 5))}
        case _:
            return None


def _on_call(provider: Switchboard, call_uuid: str, verb: str, given: Given) -> Given | None:
    match verb:
        case "record":
            made = provider.record(call_uuid, **_fields(RecordingOptions, given))
            return {"recording_id": made.recording_id, "url": made.url}
        case "event":
            fields = {name: _sent(name, value) for name, value in given.items() if name != "event"}
            provider.event(call_uuid, _text(given, "event"), **fields)
            return {}
        case "dial":
            return {"b_leg": provider.dial(call_uuid, **_fields(provider.dial, given, "call_uuid"))}
        case "join":
            taken = _fields(provider.join_room, given, "call_uuid")
            return {"member": provider.join_room(call_uuid, **taken)}
    deed = _deeds_without_answer(provider).get(verb)
    if deed is None:
        return None
    deed(call_uuid, **_fields(deed, given, "call_uuid"))
    return {}


def _deeds_without_answer(provider: Switchboard) -> dict[str, Callable[..., None]]:
    """The verbs that answer with an empty object, by the end of their path."""
    return {
        "announce": provider.announce,
        "answer": provider.answer,
        "dial/end": provider.dial_end,
        "hangup": provider.hangup,
        "leave": provider.leave_room,
        "transfer": provider.transfer,
    }


def _do(provider: Switchboard, method: str, parts: list[str], given: Given) -> Given | None:
    match (method, *parts):
        case ("POST", "calls"):
            return {"call_uuid": provider.call(**_fields(CallOptions, given)).call_uuid}
        case ("POST", "recordings", recording_id, "stop"):
            _ = provider.recordings[recording_id]
            provider.end(
                recording_id,
                **_fields(provider.end, {"reason": "FinishedOnKey", **given}, "recording_id"),
            )
        case ("POST", "recordings", recording_id, "transcribe"):
            provider.transcribed(
                recording_id, **_fields(provider.transcribed, given, "recording_id")
            )
        case ("POST", "callbacks"):
            status, answer = provider.raw(**_fields(provider.raw, given))
            return {"status": status, "body": answer}
        case ("POST", "reset"):
            provider.reset(**_fields(provider.reset, given))
        case ("PUT", "faults", name):
            if "name" in given:
                raise ValueError("name: stands in the address already")
            provider.faults.switch_on(name, **given)
        case ("DELETE", "faults", name):
            provider.faults.switch_off(name, **_fields(provider.faults.switch_off, given, "name"))
        case ("DELETE", "faults"):
            provider.faults.clear(**_fields(provider.faults.clear, given))
        case _:
            return None
    return {}
