"""Every fixture parses to what its note says; every signature vector verifies or fails as listed;
bad input is refused."""

import json
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker import wire
from worker.calls.events import Event, Kind
from worker.vobiz import callback_fields, callbacks, signature

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
CALL, FIRST, SECOND = (
    "5b0c7c9e-2f5d-4a7f-9d5c-6f1e2b3a4c01",
    "0f4c1d9a-6b7e-4c31-8f2d-9a5b3c7e1d02",
    "d2a97c44-1e5f-4b80-a3c6-74f0b8e9d503",
)
OTHER = "c7e41f20-83ab-4d19-b6f4-0a9d5e2c7b12"
EXPECTED = {
    "recordstop_session_hungup.form": (Kind.RECORDING_FINALIZED, CALL, FIRST, 311.48, "HungUp"),
    "recordstop_recordfile_only.form": (
        Kind.RECORDING_FINALIZED,
        CALL,
        SECOND,
        42.12,
        "FinishedOnKey",
    ),
    "recordstop_float_strings_maxlength.form": (
        Kind.RECORDING_FINALIZED,
        CALL,
        SECOND,
        60.04,
        "maxLength",
    ),
    "record_action_started.form": (Kind.RECORDING_STARTED, CALL, FIRST, None, None),
    "record_api_callback_snake.form": (Kind.RECORDING_FINALIZED, CALL, FIRST, 311.48, None),
    "record_api_callback_get_query.txt": (Kind.RECORDING_FINALIZED, CALL, FIRST, 311.48, None),
    "record_api_callback_nested_response.form": (
        Kind.RECORDING_FINALIZED,
        CALL,
        FIRST,
        311.48,
        None,
    ),
    "record_api_callback.json": (Kind.RECORDING_FINALIZED, CALL, FIRST, 311.48, None),
    "trunk_recording_completed.json": (Kind.RECORDING_FINALIZED, CALL, CALL, 155.0, None),
    "conference_action_with_recording.form": (Kind.RECORDING_STARTED, CALL, SECOND, None, None),
    "transcription_callback.form": None,
    "ring.form": (Kind.CALL_SEEN, CALL, None, None, None),
    "startapp_outbound.form": (Kind.CALL_SEEN, CALL, None, None, None),
    "startapp_inbound.form": (Kind.CALL_SEEN, CALL, None, None, None),
    "hangup.form": (Kind.CALL_ENDED, CALL, None, None, "NORMAL_CLEARING"),
    "transfer_target_url.form": (Kind.CALL_TRANSFERRED, CALL, None, None, None),
    "redirect_xml.form": (Kind.CALL_REDIRECTED, CALL, None, None, None),
    "dial_answer.form": (Kind.DIAL_ANSWERED, CALL, None, None, None),
    "dial_connected.form": (Kind.DIAL_CONNECTED, CALL, None, None, None),
    "dial_hangup_no_answer.form": (Kind.DIAL_ENDED, CALL, None, None, "NO_ANSWER"),
    "dial_hangup_completed.form": (Kind.DIAL_ENDED, CALL, None, None, "NORMAL_CLEARING"),
    "dial_action_dialaction.form": (Kind.DIAL_ENDED, CALL, None, None, "busy"),
    "dial_action_redirect.form": (Kind.DIAL_ENDED, CALL, None, None, "completed"),
    "conference_enter.form": (Kind.CONFERENCE_ENTERED, CALL, None, None, None),
    "conference_enter_second_member.form": (Kind.CONFERENCE_ENTERED, OTHER, None, None, None),
    "conference_exit.form": (Kind.CONFERENCE_LEFT, CALL, None, None, None),
    "machine_detection.form": (Kind.MACHINE_DETECTED, CALL, None, None, None),
    "trunk_call_initiated.json": (Kind.CALL_SEEN, CALL, None, None, None),
    "trunk_hangup.json": (Kind.CALL_ENDED, CALL, None, None, "NORMAL_CLEARING"),
}


def read(name):
    body, query = (FIXTURES / name).read_bytes(), ""
    if name.endswith(".txt"):
        body, query = b"", body.decode().strip().partition("?")[2]
    kind = "application/json" if name.endswith(".json") else "application/x-www-form-urlencoded"
    return callbacks.parse(
        callback_fields.read_fields(body=body, content_type=kind, query=query).fields
    )


def form(text):
    return callbacks.parse(
        callback_fields.read_fields(
            body=text.encode(), content_type="application/x-www-form-urlencoded", query=""
        ).fields
    )


@pytest.mark.parametrize("name", EXPECTED)
def test_each_fixture_parses_to_what_its_note_says(name):
    event = read(name)
    found = event and (
        event.kind,
        event.call_uuid,
        event.recording_id,
        event.duration_s,
        event.reason,
    )
    assert found == EXPECTED[name]


def test_every_callback_of_the_manifest_stands_in_the_table():
    manifest = json.loads((FIXTURES / "manifest.json").read_text())
    assert {m["file"] for m in manifest if m["kind"] == "callback"} <= set(EXPECTED)


def test_the_start_never_carries_an_end():
    event = form(
        f"Event=Record&CallUUID=c&RecordingID=r&RecordingDurationMs=5000&RecordingEndMs=1789367412900&RecordUrl=https://m.vobiz.ai/{FIRST}.mp3"
    )
    assert (event.kind, event.duration_s, event.ended_at) == (Kind.RECORDING_STARTED, None, None)


@pytest.mark.parametrize("recording", ["../../etc/passwd", "a/b", "r" * 300, "%2e%2e", "a b"])
def test_an_id_that_is_unfit_is_refused_by_name(recording):
    with pytest.raises(callback_fields.Unreadable, match="recordingid"):
        callbacks.parse({"event": "RecordStop", "calluuid": "c", "recordingid": recording})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("60040.00000", 60.04), ("-1", None), ("", None), ("nan", None), ("inf", None)],
)
def test_numbers_are_read_as_the_provider_spells_them(text, seconds):
    assert (
        form(f"Event=RecordStop&CallUUID=c&RecordingID=r&RecordingDurationMs={text}").duration_s
        == seconds
    )


@pytest.mark.parametrize(
    "text",
    [
        "2026-09-14 12:05:27.79276+05:30",
        "2026-09-14 06:35:27.792760+00:00",
        "2026-09-14T06:35:27.79276Z",
        "1789367727792.76",
        "2026-09-14 06:35:27.79276",
    ],
)
def test_times_are_read_in_all_four_spellings(text):
    assert (
        abs((wire.instant(text) - datetime(2026, 9, 14, 6, 35, 27, 792760, UTC)).total_seconds())
        < 0.001
    )


@pytest.mark.parametrize(
    "body", [b"\xff\xfe", b"a=\0", b"[1]", b"{", b"", b"&".join(b"k%d=1" % i for i in range(200))]
)
def test_an_unreadable_body_is_refused(body):
    with pytest.raises(callback_fields.Unreadable):
        callback_fields.read_fields(body=body, content_type="", query="")


@given(
    st.binary(max_size=300),
    st.sampled_from(["", "application/json", "application/x-www-form-urlencoded"]),
    st.text(max_size=50),
)
def test_whatever_arrives_is_an_event_or_nothing_or_unreadable(body, kind, query):
    try:
        found = callbacks.parse(
            callback_fields.read_fields(body=body, content_type=kind, query=query).fields
        )
    except callback_fields.Unreadable:
        return
    assert found is None or isinstance(found, Event)


VECTORS = json.loads((FIXTURES / "signatures.json").read_text())
TOKEN, PARENT = VECTORS["auth_token"], VECTORS["parent_auth_token"]


def headers(kind, value):
    version = kind[-2:]
    return {
        f"X-Vobiz-Signature-{kind.upper().replace('_', '-')}": value,
        f"X-Vobiz-Signature-{version.upper()}-Nonce": VECTORS[f"{version}_nonce"],
    }


@pytest.mark.parametrize("vector", VECTORS["documented"], ids=lambda v: v["name"])
@pytest.mark.parametrize("kind", ["v2", "v3", "ma_v2", "ma_v3"])
def test_each_documented_vector_verifies(vector, kind):
    found = signature.verify(
        base_url=vector["base_url"],
        headers=headers(kind, vector[kind]),
        tokens=["older", TOKEN],
        parent_tokens=[PARENT],
    )
    assert (found.signed, found.scheme) == (True, kind.replace("_", "-"))


OTHERS = [
    (v, sample)
    for v in VECTORS["documented"]
    for sample in v.get("other_sample_bases", {})
    if v["name"] != "userinfo"
]  # refused as a setting


@pytest.mark.parametrize(
    ("vector", "sample"), OTHERS, ids=lambda x: x["name"] if isinstance(x, dict) else x
)
@pytest.mark.parametrize("kind", ["v2", "v3"])
def test_what_another_of_the_vendors_samples_would_sign_verifies_too(vector, sample, kind):
    address = urlsplit(vector["callback_url"])
    base = signature.base_url(f"{address.scheme}://{address.netloc}", address.path)
    value = vector["other_sample_bases"][sample][kind]
    assert signature.verify(base_url=base, headers=headers(kind, value), tokens=[TOKEN]).signed


@pytest.mark.parametrize("case", VECTORS["plivo_lineage_v3"]["cases"], ids=lambda c: c["name"])
def test_the_older_sdks_v3_with_parameters_verifies_too(case):
    base, _, query = case["callback_url"].partition("?")
    for value in (case["v3"], f"AAAA{case['v3'][4:]},{case['v3']}"):  # its header may be a list
        found = signature.verify(
            base_url=base,
            headers=headers("v3", value),
            tokens=[TOKEN],
            query=query,
            form=list(case["form_params"].items()),
        )
        assert found.signed


@pytest.mark.parametrize("given", VECTORS["example_header_sets"], ids=lambda s: s["name"])
def test_each_example_of_headers_is_judged_as_its_name_says(given):
    judge = {
        "base_url": VECTORS["documented"][0]["base_url"],
        "headers": given["headers"],
        "tokens": [TOKEN],
        "parent_tokens": [PARENT],
    }
    if given["name"] == "unsigned":
        with pytest.raises(signature.SignatureRejected, match="missing"):
            signature.verify(**judge)
    else:
        assert signature.verify(**judge).signed


@pytest.mark.parametrize("body", VECTORS["body_not_covered"]["bodies"])
def test_the_body_is_not_covered_which_is_why_nonces_are_remembered(body):
    assert signature.verify(
        base_url=VECTORS["documented"][0]["base_url"],
        headers=headers("v3", VECTORS["body_not_covered"]["v3"]),
        tokens=[TOKEN],
    ).signed


@pytest.mark.parametrize("candidate", ["sha1_base_plus_nonce", "sha256_base_plus_nonce"])
def test_v1_alone_counts_as_no_signature(candidate):
    given = {
        "X-Vobiz-Signature": VECTORS["v1_candidates"][candidate],
        "X-Vobiz-Signature-V2-Nonce": VECTORS["v2_nonce"],
    }
    with pytest.raises(signature.SignatureRejected, match="missing"):
        signature.verify(
            base_url=VECTORS["documented"][0]["base_url"], headers=given, tokens=[TOKEN]
        )


@pytest.mark.parametrize("vector", VECTORS["must_fail"], ids=lambda v: v["name"])
@pytest.mark.parametrize("required", [True, False])
def test_each_vector_that_must_fail_fails(vector, required):
    with pytest.raises(signature.SignatureRejected):
        signature.verify(
            base_url=VECTORS["documented"][0]["base_url"],
            headers=headers("v3", vector["v3"]),
            tokens=[TOKEN],
            required=required,
        )


def test_without_a_nonce_nothing_verifies():
    good = VECTORS["documented"][0]
    with pytest.raises(signature.SignatureRejected, match="no_nonce"):
        signature.verify(
            base_url=good["base_url"],
            headers={"X-Vobiz-Signature-V3": good["v3"], "X-Vobiz-Signature-V3-Nonce": ""},
            tokens=[TOKEN],
        )
    with pytest.raises(signature.SignatureRejected, match="no_nonce"):
        signature.verify(
            base_url=good["base_url"],
            headers={"X-Vobiz-Signature-V2": VECTORS["empty_nonce_trap"]["v2_with_empty_nonce"]},
            tokens=[TOKEN],
        )


def test_an_unsigned_callback_passes_only_where_signatures_are_optional():
    assert not signature.verify(
        base_url="https://h/p", headers={}, tokens=[TOKEN], required=False
    ).signed
    with pytest.raises(signature.SignatureRejected, match="missing"):
        signature.verify(
            base_url="https://h/p", headers={"X-Vobiz-Signature": "v1"}, tokens=[TOKEN]
        )


@given(st.text(), st.text())
def test_garbage_in_headers_is_only_ever_rejected(value, nonce):
    with pytest.raises(signature.SignatureRejected):
        signature.verify(
            base_url="https://h/p",
            headers={"X-Vobiz-Signature-V3": value, "X-Vobiz-Signature-V3-Nonce": nonce},
            tokens=[TOKEN],
        )
