"""The routes of `/v1` in one table, and the OpenAPI 3.1 document that is made from it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import msgspec

from webhooks.api import response_shapes
from webhooks.api.problems import TITLES
from worker.calls.call import Phase
from worker.calls.events import Fault

_ALWAYS = (400, 401, 404, 405, 503)
_PARAMETERS: dict[str, dict[str, Any]] = {
    "account": {
        "schema": {"type": "string"},
        "description": "may be left out where there is one account",
    },
    "phase": {"schema": {"type": "string", "enum": [p.value for p in Phase]}},
    "fault": {"schema": {"type": "string", "enum": [f.value for f in Fault]}},
    "call_uuid": {"schema": {"type": "string"}},
    "since": {"schema": {"type": "string"}, "description": "first seen at or after, RFC 3339"},
    "until": {"schema": {"type": "string"}, "description": "first seen at or before, RFC 3339"},
    "limit": {"schema": {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}},
    "cursor": {"schema": {"type": "string"}, "description": "as the page before gave it"},
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """One route. `answers`: the shape of each good status; None where it is no JSON."""

    method: str
    path: str  # as Flask spells it
    name: str
    says: str
    answers: Mapping[int, type | None]
    body: type | None = None
    app_key: bool = False  # the application key is enough
    query: Sequence[str] = ()
    refusals: Sequence[int] = field(default_factory=tuple)
    once: bool = False  # honours an Idempotency-Key
    any_form: bool = False  # the body may be a form as well


def document(routes: Sequence[Route], *, server: str) -> dict[str, Any]:
    """OpenAPI 3.1. Every shape that occurs is a component."""
    types = list(
        dict.fromkeys(
            [
                response_shapes.Problem,
                *(t for r in routes for t in (r.body, *r.answers.values()) if t),
            ]
        )
    )
    refs, components = msgspec.json.schema_components(
        types, ref_template="#/components/schemas/{name}"
    )
    schema = dict(zip(types, refs, strict=True))
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
            "description": "Starts, stops and hands off call recordings, and proves that they ended.",
        },
        "servers": [{"url": server}],
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"key": []}],
        "paths": paths,
    }


def _operation(route: Route, schema: dict[type, dict[str, Any]]) -> dict[str, Any]:
    parameters = [
        {
            "name": n,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,128}$"},
        }
        for n in re.findall(r"<(\w+)>", route.path)
    ]
    parameters += [
        {"name": n, "in": "query", "required": False, **_PARAMETERS[n]} for n in route.query
    ]
    if route.once:
        parameters.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "schema": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 255,
                    "pattern": "^[!-~]+$",
                },
                "description": "asking twice with one key is asking once",
            }
        )
    refusals = sorted(
        {
            *_ALWAYS,
            *route.refusals,
            *(() if route.app_key else (403,)),
            *((413,) if route.body else ()),
            *((422,) if route.once else ()),
        }
    )
    found: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.says,
        "parameters": parameters,
        "description": "With ENDTAPE_API_KEY" + (" or ENDTAPE_APP_KEY." if route.app_key else "."),
        "responses": {
            **{str(s): _answer(s, t, schema) for s, t in route.answers.items()},
            **{str(s): _refusal(s, schema) for s in refusals if s not in route.answers},
        },
    }
    if route.body:
        content: dict[str, Any] = {"application/json": {"schema": schema[route.body]}}
        if route.any_form:
            as_it_came = {
                "type": "object",
                "description": "a request of the provider's, with its own fields",
            }
            content = {
                "application/json": {"schema": {"anyOf": [schema[route.body], as_it_came]}},
                "application/x-www-form-urlencoded": {"schema": as_it_came},
            }
        found["requestBody"] = {"required": route.any_form, "content": content}
    return found


def _answer(status: int, shape: type | None, schema: dict[type, dict[str, Any]]) -> dict[str, Any]:
    if shape is None:
        return {"description": "the bytes", "content": {"*/*": {}}}
    kind = "application/problem+json" if status == 409 else "application/json"
    return {
        "description": (shape.__doc__ or shape.__name__).strip(),
        "content": {kind: {"schema": schema[shape]}},
    }


def _refusal(status: int, schema: dict[type, dict[str, Any]]) -> dict[str, Any]:
    return {
        "description": TITLES[status],
        "content": {"application/problem+json": {"schema": schema[response_shapes.Problem]}},
    }
