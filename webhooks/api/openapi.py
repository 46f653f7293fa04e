"""What a route of `/v1` is, and the OpenAPI 3.1 document that is made from all of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import msgspec
from flask import Response

from webhooks.api import examples, field_words, response_shapes
from worker.calls.call import Phase, StopState
from worker.calls.events import Fault

Schemas = dict[type, dict[str, Any]]  # by shape: the reference to its component
_ALWAYS = (400, 401, 404, 405, 503)
_ID = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,128}$"}
_IN_PATH = {"name": {"type": "string", "pattern": r"^[a-z0-9_-]{1,32}\.[0-9a-f]{16}$"}}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    "description": "asking twice with one key is asking once",
}


def _or_empty(schema: dict[str, Any]) -> dict[str, Any]:
    """Of a parameter of a query that counts as left out where it is empty."""
    return {"anyOf": [schema, {"const": ""}]}


_PARAMETERS: dict[str, dict[str, Any]] = {
    "account": {
        "schema": {"type": "string"},
        "description": "may be left out where there is one account",
    },
    "day": {
        "schema": _or_empty({"type": "string", "format": "date"}),
        "description": "UTC; today's if left out",
    },
    "phase": {"schema": _or_empty({"type": "string", "enum": [p.value for p in Phase]})},
    "stop": {"schema": _or_empty({"type": "string", "enum": [s.value for s in StopState]})},
    "rule": {"schema": {"type": "string"}, "description": "the name of the rule of its stop"},
    "number": {
        "schema": {"type": "string"},
        "description": "`from` or `to`, by its digits; `*` stands for any digits at either end",
    },
    "label": {"schema": {"type": "string"}, "description": "NAME=VALUE"},
    "held": {"schema": _or_empty({"type": "string", "enum": ["true", "false"]})},
    "q": {"schema": {"type": "string"}, "description": "a part of any id, number or label"},
    "fault": {"schema": _or_empty({"type": "string", "enum": [f.value for f in Fault]})},
    "call_uuid": {"schema": {"type": "string"}},
    "since": {"schema": {"type": "string"}, "description": "first seen at or after, RFC 3339"},
    "until": {"schema": {"type": "string"}, "description": "first seen at or before, RFC 3339"},
    "kind": {
        "required": True,
        "schema": {"type": "string", "pattern": "^[a-z0-9_-]{1,32}$"},
        "description": "what the file is, like `transcript` or `redacted`",
    },
    "limit": {
        "schema": _or_empty({"type": "integer", "minimum": 1, "maximum": 200}),
        "description": "50 if left out",
    },
    "reason": {"schema": {"type": "string"}, "description": "why"},
    "cursor": {"schema": {"type": "string"}, "description": "as the page before gave it"},
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """One route. `view` picks its view function from the object that has them all; `answers` is the
    shape of each good status, None where the answer is no JSON.
    """

    method: str
    path: str  # as Flask spells it
    name: str
    view: Callable[[Any], Callable[..., Response]]
    says: str
    answers: Mapping[int, type | None]
    body: type | None = None
    app_key: bool = False  # the application key is enough
    public: bool = False  # needs no key
    query: Sequence[str] = ()
    refusals: Sequence[int] = field(default_factory=tuple)
    once: bool = False  # honours an Idempotency-Key
    any_form: bool = False  # the body may be a form as well
    raw: bool = False  # the body is a file, whatever its type
    audio: bool = False  # what was said: a view key is not enough
    csv: bool = False  # the answer is CSV where `Accept` asks for it

    @property
    def view_key(self) -> bool:
        """Whether a view key is enough."""
        return self.method == "GET" and not self.audio


def document(routes: Sequence[Route], *, server: str) -> dict[str, Any]:
    """The document as JSON data. Every shape that occurs is a component. `server` is the address
    under which callers reach the service.
    """
    shapes = [t for route in routes for t in (route.body, *route.answers.values()) if t]
    types = list(dict.fromkeys([response_shapes.Problem, *shapes]))
    refs, components = msgspec.json.schema_components(
        types, ref_template="#/components/schemas/{name}"
    )
    schema = dict(zip(types, refs, strict=True))
    field_words.describe(components)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(re.sub(r"<(\w+)>", r"{\1}", route.path), {})[route.method.lower()] = (
            _operation(route, schema)
        )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Endtape",
            "version": version("endtape"),
            "description": "Starts, stops and hands off call recordings,"
            " and proves that they ended.",
        },
        "servers": [{"url": server}],
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"key": []}],
        "paths": paths,
    }


def _operation(route: Route, schema: Schemas) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.says,
        "parameters": _parameters(route),
        "description": _key(route),
        "responses": _responses(route, schema),
    }
    if route.public:
        operation["security"] = []
    if route.body:
        operation["requestBody"] = {
            "required": route.any_form,
            "content": _content(schema[route.body], any_form=route.any_form),
        }
    if route.raw:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/octet-stream": {}},
            "description": "the file itself, with its own Content-Type",
        }
    return operation


def _key(route: Route) -> str:
    if route.public:
        return "No key."
    enough = {"ENDTAPE_APP_KEY": route.app_key, "ENDTAPE_VIEW_KEY": route.view_key}
    return f"With {' or '.join(['ENDTAPE_API_KEY', *(k for k, yes in enough.items() if yes)])}."


def _parameters(route: Route) -> list[dict[str, Any]]:
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": _IN_PATH.get(name, _ID)}
        for name in re.findall(r"<(\w+)>", route.path)
    ]
    in_query = [
        {"name": name, "in": "query", "required": False, **_PARAMETERS[name]}
        for name in route.query
    ]
    return in_path + in_query + ([_IDEMPOTENCY_KEY] if route.once else [])


def _responses(route: Route, schema: Schemas) -> dict[str, Any]:
    refusals = {*_ALWAYS, *route.refusals}
    if route.public:
        refusals.remove(401)
    elif not (route.app_key and route.view_key):
        refusals.add(403)
    if route.body or route.raw:
        refusals.add(413)
    if route.once:
        refusals.add(422)
    answers = {
        str(status): _answer(status, t, schema) if t else _bytes(route.name, status)
        for status, t in route.answers.items()
    }
    if route.csv:
        csv = {"schema": {"type": "string"}, "example": examples.LEDGER_CSV}
        answers["200"]["content"]["text/csv"] = csv
    return answers | {
        str(status): _refusal(status, schema) for status in sorted(refusals - set(route.answers))
    }


def _content(body: dict[str, Any], *, any_form: bool) -> dict[str, Any]:
    if not any_form:
        return {"application/json": {"schema": body}}
    as_it_came = {
        "type": "object",
        "description": "a request of the provider's, with its own fields",
    }
    return {
        "application/json": {"schema": {"anyOf": [body, as_it_came]}},
        "application/x-www-form-urlencoded": {"schema": as_it_came},
    }


def _answer(status: int, shape: type, schema: Schemas) -> dict[str, Any]:
    kind = "application/problem+json" if status == 409 else "application/json"
    example = examples.answer(shape, status)
    return {
        "description": " ".join((shape.__doc__ or "").split()),
        "content": {kind: {"schema": schema[shape], "example": example}},
    }


def _bytes(name: str, status: int) -> dict[str, Any]:
    """An answer that is no JSON. Sound has no example."""
    says, example = examples.BYTES[name, status]
    return {
        "description": says,
        "content": {"*/*": {"example": example} if example else {}},
    }


def _refusal(status: int, schema: Schemas) -> dict[str, Any]:
    content = {"schema": schema[response_shapes.Problem], "example": examples.problem(status)}
    return {
        "description": examples.REFUSALS[status][0],
        "content": {"application/problem+json": content},
    }
