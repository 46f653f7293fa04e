"""Every callback has at least the fields of its sample, is encoded as ordered, and is repeated as
documented.
"""

import json

import pytest

from emulator.signing import trunk_signature
from tests.waiting import until


def ended(provider, **how):
    call = provider.call(**how.pop("call", {}))
    recording = provider.record(call.call_uuid, announce=False, **how)
    provider.end(recording.recording_id, "HungUp")


def dialled(provider, cause="", **how):
    call = provider.call(direction="outbound")
    provider.dial(call.call_uuid, "918065550199", cause=cause, **how)
    if not cause:
        provider.dial_end(call.call_uuid, **how)


def met(provider, *, leave=False):
    first, second = provider.call(), provider.call()
    provider.join_room(first.call_uuid, "room-4471")
    provider.join_room(second.call_uuid, "room-4471")
    if leave:
        provider.leave_room(
            first.call_uuid,
            recording_id=provider.record(first.call_uuid, announce=False).recording_id,
        )


def hung_up(provider, **how):
    call = provider.call(direction="outbound", ring_s=7, **how)
    call.answered_at -= 312
    call.started_at -= 312
    provider.hangup(call.call_uuid)


def transcribed(provider):
    ended(provider, source="rest", transcription_url=provider.callback_url)


# sample → what makes the stand-in send such a callback, and which of those that arrive it is
SENT = {
    "recordstop_session_hungup.form": (ended, {}, {"Event": "RecordStop"}),
    "recordstop_recordfile_only.form": (ended, {"spelling": "file-only"}, {"Event": "RecordStop"}),
    "recordstop_float_strings_maxlength.form": (
        ended,
        {"spelling": "floats"},
        {"Event": "RecordStop"},
    ),
    "record_action_started.form": (lambda p: p.record(p.call().call_uuid), {}, {"Event": "Record"}),
    "record_api_callback_snake.form": (ended, {"source": "rest"}, {}),
    "record_api_callback_get_query.txt": (ended, {"source": "rest", "callback_method": "GET"}, {}),
    "record_api_callback_nested_response.form": (
        ended,
        {"source": "rest", "encoding": "wrapped"},
        {},
    ),
    "record_api_callback.json": (ended, {"source": "rest", "encoding": "json"}, {}),
    "trunk_recording_completed.json": (
        ended,
        {"call": {"trunk": True}},
        {"Event": "recording.completed"},
    ),
    "conference_action_with_recording.form": (
        met,
        {"leave": True},
        {"ConferenceName": "room-4471", "Event": None},
    ),
    "transcription_callback.form": (transcribed, {}, {"transcription_charge": "0.30"}),
    "ring.form": (
        lambda p: p.call(direction="outbound", announce=True),
        {},
        {"Event": "Ring", "CallStatus": "ringing"},
    ),
    "startapp_outbound.form": (
        lambda p: p.call(direction="outbound", announce=True),
        {},
        {"Event": "StartApp", "CallStatus": "in-progress"},
    ),
    "startapp_inbound.form": (
        lambda p: p.call(announce=True),
        {},
        {"Event": "StartApp", "CallStatus": "ringing"},
    ),
    "hangup.form": (hung_up, {}, {"Event": "Hangup", "Duration": "312", "BillDuration": "360"}),
    "transfer_target_url.form": (
        lambda p: p.transfer(p.call().call_uuid, p.callback_url),
        {},
        {"Event": "Transfer"},
    ),
    "redirect_xml.form": (
        lambda p: p.event(p.call().call_uuid, "Redirect"),
        {},
        {"Event": "Redirect", "DialStatus": None},
    ),
    "dial_answer.form": (dialled, {}, {"Event": "DialAnswer", "DialAction": "answer"}),
    "dial_connected.form": (dialled, {}, {"Event": "DialConnected", "DialAction": "connected"}),
    "dial_hangup_no_answer.form": (
        dialled,
        {"cause": "NO_ANSWER"},
        {"Event": "DialHangup", "DialBLegHangupCauseCode": "6010"},
    ),
    "dial_hangup_completed.form": (
        dialled,
        {},
        {"Event": "DialHangup", "DialBLegHangupCauseCode": "4000"},
    ),
    "dial_action_dialaction.form": (
        dialled,
        {"cause": "USER_BUSY", "redirect": False},
        {"Event": "DialAction", "DialStatus": "busy", "DialBLegUUID": ""},
    ),
    "dial_action_redirect.form": (dialled, {}, {"Event": "Redirect", "DialStatus": "completed"}),
    "conference_enter.form": (
        met,
        {},
        {"Event": "ConferenceEnter", "ConferenceFirstMember": "true"},
    ),
    "conference_enter_second_member.form": (
        met,
        {},
        {"Event": "ConferenceEnter", "ConferenceFirstMember": "false"},
    ),
    "conference_exit.form": (
        met,
        {"leave": True},
        {"Event": "ConferenceExit", "ConferenceLastMember": "false", "From": None},
    ),
    "machine_detection.form": (
        lambda p: p.event(p.call(direction="outbound").call_uuid, "MachineDetection"),
        {},
        {"Event": "MachineDetection"},
    ),
    "trunk_call_initiated.json": (lambda p: p.call(trunk=True), {}, {"Event": "CallInitiated"}),
    "trunk_hangup.json": (
        hung_up,
        {"trunk": True},
        {"Event": "Hangup", "Duration": 319, "Billsec": 312},
    ),
}


@pytest.mark.parametrize("name", SENT)
def test_each_callback_has_at_least_the_fields_of_its_sample(provider, inbox, sample, name):
    act, how, facts = SENT[name]
    act(provider, **how)
    found = until(
        lambda: next(
            (a for a in list(inbox.arrived) if all(a.fields.get(k) == v for k, v in facts.items())),
            None,
        )
    )
    wanted = sample(name)
    assert wanted.keys() - found.fields.keys() == set()
    assert (found.headers["Content-Type"] if found.method == "POST" else None) == {
        "form": "application/x-www-form-urlencoded",
        "json": "application/json",
    }.get(name.rpartition(".")[2])
    for field in {
        "DialBLegHangupCause",
        "DialHangupCause",
        "HangupCauseName",
        "ConferenceAction",
        "DialBLegStatus",
    } & wanted.keys():
        assert found.fields[field] == wanted[field]


def test_every_callback_of_the_samples_can_be_sent(sample):
    assert {
        entry["file"] for entry in sample("manifest.json") if entry["kind"] == "callback"
    } == set(SENT)


def test_the_conference_exit_and_the_small_record_stop_carry_no_numbers(provider, inbox):
    met(provider, leave=True)
    ended(provider, spelling="file-only")
    inbox.wait(5)
    bare = [a.fields for a in inbox.arrived if a.event in {"ConferenceExit", "RecordStop"}]
    assert len(bare) == 2
    assert all(
        not {"From", "To", "Direction", "CallStatus", "RecordUrl"} & fields.keys()
        for fields in bare
    )


def test_a_wrapped_callback_holds_json_with_numbers_and_a_get_leaves_the_body_empty(
    provider, inbox
):
    ended(provider, source="rest", encoding="wrapped")
    wrapped = json.loads(inbox.wait(1)[0].fields["response"])
    assert isinstance(wrapped["recording_duration_ms"], int)
    ended(
        provider,
        source="rest",
        callback_method="GET",
        encoding="wrapped",
        callback_url=f"{inbox.url}?tenant=1",
    )
    found = inbox.wait(2)[1]
    assert (found.method, found.body, found.target[:13]) == ("GET", b"", "/cb?tenant=1&")
    assert json.loads(found.fields["response"])["call_uuid"]


def test_a_multipart_callback_has_a_part_for_each_field(provider, inbox):
    ended(provider, source="rest", encoding="multipart")
    found = inbox.wait(1)[0]
    assert found.headers["Content-Type"].startswith("multipart/form-data; boundary=")
    assert b'form-data; name="recording_duration_ms"\r\n\r\n' in found.body


def test_single_events_can_go_elsewhere_and_a_whole_call_by_get(provider, inbox):
    call = provider.call(
        urls={"Hangup": f"{inbox.root}/over", "Record": f"{inbox.root}/start"},
        callback_method="GET",
    )
    provider.record(call.call_uuid, callback_url=f"{inbox.root}/end")
    provider.wait_idle(5)
    provider.hangup(call.call_uuid)
    inbox.wait(3)
    assert [(a.method, a.target.partition("?")[0]) for a in inbox.arrived] == [
        ("GET", "/start"),
        ("GET", "/over"),
        ("GET", "/end"),
    ]


def test_a_room_ends_with_its_last_member_and_begins_anew(provider, inbox):
    one, two = provider.call(), provider.call()
    for act in (
        lambda: provider.join_room(one.call_uuid, "r"),
        lambda: provider.join_room(two.call_uuid, "r"),
        lambda: provider.leave_room(one.call_uuid),
        lambda: provider.hangup(two.call_uuid),
        lambda: provider.join_room(provider.call().call_uuid, "r"),
    ):
        act()
        assert provider.wait_idle(5)
    rooms = [a.fields for a in inbox.arrived if a.event != "Hangup"]
    assert [r.get("ConferenceFirstMember", r.get("ConferenceLastMember")) for r in rooms] == [
        "true",
        "false",
        "false",
        "true",
        "true",
    ]
    assert len({r["ConferenceUUID"] for r in rooms[:4]}) == 1
    assert rooms[4]["ConferenceUUID"] != rooms[0]["ConferenceUUID"]
    assert (
        rooms[0]["ConferenceMemberID"]
        == rooms[2]["ConferenceMemberID"]
        != rooms[1]["ConferenceMemberID"]
    )


def test_a_callback_is_tried_again_three_times_with_growing_waits_and_the_same_nonces(
    provider, inbox
):
    inbox.statuses.extend([500, 503, 204, 500, 500])
    provider.event(provider.call().call_uuid, "Ring")
    assert provider.wait_idle(5)
    assert len(inbox.arrived) == 4
    waits = [b.at - a.at for a, b in zip(inbox.arrived, inbox.arrived[1:], strict=False)]
    assert waits[0] >= 0.02
    assert waits[1] >= 0.04
    assert waits[2] >= 0.08
    assert len({a.headers["X-Vobiz-Signature-V3-Nonce"] for a in inbox.arrived}) == 1
    tries = [e for e in provider.journal.since() if e["kind"] == "callback"]
    assert [(e["try"], e["status"]) for e in tries] == [(1, 500), (2, 503), (3, 204), (4, 500)]


def test_a_success_ends_the_trying(provider, inbox):
    inbox.statuses.extend([500])
    provider.event(provider.call().call_uuid, "Ring")
    assert provider.wait_idle(5)
    assert len(inbox.arrived) == 2


def test_a_receiver_that_is_not_there_is_tried_and_noted(provider):
    provider.event(provider.call(callback_url="http://127.0.0.1:1/").call_uuid, "Ring")
    assert provider.wait_idle(5)
    kinds = [entry["kind"] for entry in provider.journal.since()]
    assert (kinds.count("trouble"), kinds.count("callback")) == (4, 4)


def test_trunk_webhooks_are_signed_json_and_are_sent_once(provider, inbox):
    inbox.statuses.extend([500, 500, 500])
    call = provider.call(trunk=True)
    recording = provider.record(call.call_uuid)
    provider.hangup(call.call_uuid)
    inbox.wait(3)
    assert provider.wait_idle(5)
    assert inbox.events() == ["CallInitiated", "Hangup", "recording.completed"]
    assert (recording.recording_id, recording.container) == (call.call_uuid, "wav")
    for found in inbox.arrived:
        assert found.headers["User-Agent"] == "Vobiz-Vapor/1.0"
        assert found.headers["X-Vobiz-Event"] == found.fields["Event"]
        assert found.headers["X-Vobiz-Request-ID"] == found.fields.get(
            "RequestID", found.headers["X-Vobiz-Request-ID"]
        )
        assert found.headers["X-Vobiz-Signature"] == trunk_signature("trunk-secret", found.body)
    assert inbox.arrived[2].fields["from_number"].startswith("00")


def test_a_trunk_records_a_call_once_and_no_stop_reaches_it(provider, rest):
    call = provider.call(trunk=True)
    recording = provider.record(call.call_uuid)
    with pytest.raises(ValueError, match="exists"):
        provider.record(call.call_uuid)
    assert rest.delete(f"Call/{call.call_uuid}/Record/").status_code == 204
    assert recording.ended_at is None


def test_a_trunk_without_a_secret_sends_no_signature(provider, inbox):
    provider.call(account="SA_E", trunk=True)
    assert "X-Vobiz-Signature" not in inbox.wait(1)[0].headers


def test_callbacks_of_one_call_arrive_in_their_order_and_none_waits_for_a_repetition(
    provider, inbox
):
    inbox.statuses.append(500)
    call = provider.call()
    for i in range(20):
        provider.event(call.call_uuid, "Ring", Nth=str(i))
    assert provider.wait_idle(5)
    order = [a.fields["Nth"] for a in inbox.arrived]
    assert len(order) == 21
    assert list(dict.fromkeys(order)) == [str(i) for i in range(20)]
    assert order[1] == "1"
