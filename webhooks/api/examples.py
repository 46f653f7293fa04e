"""An example of each answer of `/v1`, for the OpenAPI document. A test holds each to its shape."""

from __future__ import annotations

from typing import Any

from webhooks.api import response_shapes
from webhooks.api.problems import TITLES

_CALL, _RECORDING = "ca11aaa1-0000-4000-8000-aaaaaaaaaaaa", "4ec04d1f-0000-4000-8000-bbbbbbbbbbbb"
_ACCOUNT, _ENDED_AT = "MA_7QK2XWPD", "2026-09-14T06:35:00.042Z"
_KEY = "2026/09/14/4ec04d1f-0000-4000-8000-bbbbbbbbbbbb.mp3"
_STOP = {
    "state": "confirmed",
    "trigger": "max_duration",
    "rule": "payments",
    "due_at": "2026-09-14T06:35:00.000Z",
    "requested_at": "2026-09-14T06:35:00.003Z",
    "accepted_at": "2026-09-14T06:35:00.041Z",
    "confirmed_at": "2026-09-14T06:35:00.310Z",
    "evidence": ["callback"],
    "attempts": 1,
    "tail_ms": 42,
}
_NUMBERS = {"from": "919820055512", "to": "918040000001", "direction": "inbound"}
_CONSENT = {
    "kind": "announced",
    "at": "2026-09-14T06:29:58.000Z",
    "by": "ivr",
    "evidence": "prompt 12",
    "withdrawn": False,
}
_ONE: dict[str, Any] = {
    "recording_id": _RECORDING,
    "account": _ACCOUNT,
    "call_uuid": _CALL,
    "phase": "archived",
    "labels": {"team": "billing"},
    "started_at": "2026-09-14T06:30:00.000Z",
    "ended_at": _ENDED_AT,
    "duration_ms": 300042,
    "format": "mp3",
    "bytes": 1200168,
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "archive_key": f"{_ACCOUNT}/{_KEY}",
    "segment_of": None,
    "first_seen_at": "2026-09-14T06:30:00.120Z",
    **_NUMBERS,
    "held": False,
    "stop": _STOP,
    "consent": _CONSENT,
    "restricted": False,
    "restricted_by": [],
    "problem": None,
    "fault": None,
    "deleted_at_provider": None,
    "saved_per_month": None,
    "provider_keeps_until": "2026-10-14T06:35:00.042Z",
    "retain_until": "2027-09-14T06:30:00.000Z",
    "erased": None,
}
_OF_CALL = {"call_uuid": _CALL, "account": _ACCOUNT}
_ONE_STOP = {"recording_id": _RECORDING, "stop": _STOP}
_HANDOFF = {
    "verdict": "go",
    "proven": True,
    "kind": "blind",
    "action": "stop",
    "rule": "payments",
    "evidence": ["callback"],
    "reason": "every recording is proven over",
    "handoff_id": "h-4f1c",
    **_OF_CALL,
    "stop": _STOP,
    "recordings": [_ONE_STOP],
    "transfer": "not_sent",
}
_NONE = {"count": 0, "recordings": list[str](), "calls": list[str]()}
_FIGURE = {"count": 1, "recordings": [_RECORDING], "calls": list[str]()}
_COUNTED = {"expected", "archived", "verified"}
_UNCOUNTED = (
    *("under_way", "missing", "unexpected", "over_long", "too_short", "unproven"),
    *("without_consent", "restricted", "erased", "deleted_at_provider"),
    *("cut_at_default_limit", "with_gaps"),
)
_ROW = {
    "account": _ACCOUNT,
    "rule": "payments",
    **dict.fromkeys(sorted(_COUNTED), _FIGURE),
    **dict.fromkeys(_UNCOUNTED, _NONE),
    "unexplained": {**_NONE, "why": dict[str, list[str]]()},
    "consent_capture_rate": 1.0,
    "saved_per_month": 0.0,
}
EXAMPLES: dict[type, dict[str, Any]] = {
    response_shapes.Recording: _ONE,
    response_shapes.HeldRecording: {
        **_ONE,
        "held": True,
        "hold": {
            "at": "2026-09-20T09:00:00.000Z",
            "who": "anna",
            "claimed": None,
            "reason": "case 12",
            "ours_alone": True,
            "why_alone": "the archive is a directory",
        },
    },
    response_shapes.RecordingsPage: {"recordings": [_ONE], "cursor": None},
    response_shapes.Stops: {**_OF_CALL, "stop": _STOP, "recordings": [_ONE_STOP]},
    response_shapes.Resumed: {**_OF_CALL, "recordings": [_ONE]},
    response_shapes.Handoff: _HANDOFF,
    response_shapes.HandoffFailed: {
        **_OF_CALL,
        "action": "resume",
        "rule": "payments",
        "resumed": True,
        "recordings": [_ONE],
    },
    response_shapes.Call: {
        **_OF_CALL,
        **_NUMBERS,
        "labels": {"team": "billing"},
        "started_at": "2026-09-14T06:29:50.000Z",
        "over_at": None,
        "consent": _CONSENT,
        "recordings": [_ONE],
        "gaps": [],
        "starts": [],
        "handoffs": [],
        "timeline": [
            {
                "at": "2026-09-14T06:35:00.310Z",
                "event": "StopConfirmed",
                "recording_id": _RECORDING,
                "by": None,
                "claimed": None,
                "signed": False,
                "trigger": "max_duration",
                "verdict": None,
                "live": None,
                "reason": "proven by callback",
                "what": "max_duration; proven by callback",
            }
        ],
    },
    response_shapes.LinkedFile: {
        "name": "transcript.2c26b46b68ffc68f",
        "kind": "transcript",
        "content_type": "text/plain; charset=utf-8",
        "bytes": 2380,
        "sha256": "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
        "at": "2026-09-14T07:00:00.000Z",
        "who": "anna",
        "recording_id": _RECORDING,
        "derived_from": {"recording_id": _RECORDING, "sha256": _ONE["sha256"]},
    },
    response_shapes.EventRecorded: {"event": "custom.card", "recorded": "new", **_OF_CALL},
    response_shapes.Peaks: {
        "schema": "endtape/peaks/1",
        "bucket_ms": 72,
        "channels": [[0, 3, 117, 96, 2]],
    },
    response_shapes.Receipt: {"schema": "endtape/receipt/1", "recording_id": _RECORDING},
    response_shapes.DayLedger: {
        "day": "2026-09-14",
        "computed_at": "2026-09-15T00:02:00.000Z",
        "rows": [_ROW],
        "totals": {name: int(name in _COUNTED) for name in (*sorted(_COUNTED), *_UNCOUNTED)},
        "call_records": {_ACCOUNT: {"needed": False, "read_to": None, "problem": None}},
    },
}
LEDGER_CSV = (
    "day,account,rule,figure,count,recordings,calls\r\n"
    f"2026-09-14,{_ACCOUNT},payments,archived,1,{_RECORDING},\r\n"
)
_SIGNATURE = (
    "The signature, for `ssh-keygen -Y verify -n endtape-receipt`.",
    "-----BEGIN SSH SIGNATURE-----\nU1NIU0lHAAAAAQAAADMAAAALc3NoLWVk…\n"
    "-----END SSH SIGNATURE-----\n",
)
_WHOLE = "The file, as it lies in the archive."
_PART = "The part of the file that `Range` asks for."
# By route and status, for answers that are no JSON: what it is, and an example where it is text.
BYTES = {
    ("audio", 200): (_WHOLE, None),
    ("audio", 206): (_PART, None),
    ("derived", 200): (_WHOLE, None),
    ("derived", 206): (_PART, None),
    ("signature", 200): _SIGNATURE,
    ("derived_signature", 200): _SIGNATURE,
    ("keys", 200): (
        "A line for each key, the one in use first.",
        'endtape@calls.example.com namespaces="endtape-*",valid-after="20260901" '
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI…\n",
    ),
}
# By status: what it means, and the `detail` of an example.
REFUSALS = {
    400: (
        "The request cannot be read: `detail` says what is wrong, `field` where.",
        'max_duration: must be a duration of at least 1s like "45s", "15m" or "2h"',
    ),
    401: ("No good key.", "a good bearer key is needed"),
    403: ("The key does not open this, or a restricted recording needs a reason.", "not this key"),
    404: ("Not known, or not there yet.", f"{_RECORDING}: no such recording"),
    405: ("The route has no such method.", "this route has no such method"),
    409: ("What is asked for does not go with what is there.", "the recording is archived already"),
    410: ("It was erased, and only its tombstone is left.", "erased: retention was over"),
    413: ("The body is above 64 KiB.", "the body is larger than 65536 bytes"),
    412: (
        "The file is another than `If-Match` names.",
        "the file is not the one that `If-Match` names",
    ),
    416: ("The range lies outside the file.", "no such range"),
    422: (
        "The `Idempotency-Key` came with another body before.",
        "this Idempotency-Key came with another request",
    ),
    502: ("The provider refused: `provider_status` says how.", "the provider answered 402"),
    503: (
        "The state store does not answer, or too many long answers are being read; ask again "
        "after `Retry-After` seconds.",
        "the state store does not answer",
    ),
    504: (
        "The provider gave no clear answer: it may be recording.",
        "the provider did not answer; repeat the request with the same Idempotency-Key",
    ),
}


def problem(status: int) -> dict[str, Any]:
    """The example of a refusal."""
    return {
        "type": "about:blank",
        "title": TITLES[status],
        "status": status,
        "detail": REFUSALS[status][1],
    }


def answer(shape: type, status: int) -> dict[str, Any]:
    """The example of an answer. A hand-off that is held is a problem too."""
    example = EXAMPLES[shape]
    if status != 409:
        return example
    stop = {**_STOP, "state": "accepted", "confirmed_at": None, "evidence": list[str]()}
    return {
        **problem(409),
        **example,
        "detail": "hold: no proof yet",
        "verdict": "hold",
        "proven": False,
        "evidence": list[str](),
        "reason": "no proof yet",
        "stop": stop,
        "recordings": [{"recording_id": _RECORDING, "stop": stop}],
    }
