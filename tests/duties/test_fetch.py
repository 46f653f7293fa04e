"""Bringing a recording home over real HTTP: what is tried again, what is refused, what is archived
after all."""

import json
import time
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from tests import redis_view
from tests.bad_days import ended, failures, made_older
from tests.builders import obligation
from tests.constants import ACCOUNT, HOUR
from tests.waiting import until
from worker.calls import timing
from worker.calls.events import Event, Fault, Kind
from worker.calls.obligations import Duty, Obligation
from worker.calls.timing import KEPT_BY_PROVIDER
from worker.calls.views import recording_view, rfc3339
from worker.duties import deprecations, fetch
from worker.settings import Settings

pytestmark = pytest.mark.usefixtures("fetched_again_soon")
AGAIN_IN_TRUTH = timing.fetch_backoff


def test_a_failed_fetch_is_tried_again_after_a_second_then_half_as_often_each_time_and_hourly_in_the_end():
    for times, seconds in ((1, 1), (2, 2), (5, 16), (12, 2048), (13, 3000), (1000, 3000)):
        waits = [AGAIN_IN_TRUTH(times, f"r{n}").total_seconds() for n in range(50)]
        assert 0.8 * seconds <= min(waits) < max(waits) <= 1.2 * seconds, times


def test_facts_are_read_again_by_id_before_anything_is_downloaded_and_no_url_of_a_callback_is_requested(
    local,
):
    house = local(rules=HOUR)
    call, recording = ended(house)
    house.post(
        {
            "Event": "RecordStop",
            "CallUUID": call,
            "RecordingID": recording.recording_id,
            "RecordingDurationMs": "9000",
            "RecordUrl": f"http://{house.provider.media_host}/v1/Account/{ACCOUNT}/Recording/other.mp3",
        }
    )
    house.reach(recording.recording_id, "archived")
    assert house.requests("GET", f"Recording/{recording.recording_id}/")
    assert not [e for e in house.provider.journal.since() if "other.mp3" in str(e.get("path"))]


def test_the_archive_holds_audio_and_receipt_readable_by_the_owner_only(local):
    house = local(rules=HOUR)
    _, recording = ended(house, container="wav")
    view = house.reach(recording.recording_id, "archived")
    audio = house.folder / "archive" / view["archive_key"]
    receipt = json.loads(audio.with_suffix(".json").read_text())
    assert (
        view["archive_key"]
        == f"{ACCOUNT}/{view['started_at'][:10].replace('-', '/')}/{recording.recording_id}.wav"
    )
    assert (audio.stat().st_mode & 0o777, len(audio.read_bytes())) == (0o600, view["bytes"])
    assert set(receipt) == {
        "schema",
        "recording_id",
        "account",
        "call_uuid",
        "from",
        "to",
        "direction",
        "labels",
        "first_seen_at",
        "started_at",
        "ended_at",
        "provider",
        "media",
        "checks",
        "stop",
        "fetch",
        "gaps",
        "events",
        "signature",
    }
    assert set(receipt["media"]) == {
        "container",
        "codec",
        "channels",
        "sample_rate",
        "duration_ms",
        "bytes",
        "sha256",
    }
    assert receipt["fetch"]["attempts"] == 1
    assert list((house.folder / "spool").iterdir()) == []


@pytest.mark.parametrize(("slots", "home"), [(3, 2), (2, 1)])
def test_a_slot_that_brought_one_home_goes_on_with_what_is_due_while_one_stays_free_of_fetches(
    local, slots, home
):
    house = local(rules=HOUR, turns=False)
    account, owed = house.settings.accounts[ACCOUNT], []
    for _ in range(3):
        call, recording = ended(house)
        owed.append(obligation(Duty.FETCH, call, recording.recording_id))
        until(lambda c=call: house.worker.vobiz.find_recordings(account, call_uuid=c))
        until(lambda c=call: Kind.RECORDING_FINALIZED in house.kinds(c))
    house.ledger.seen("slots.fetches", "here:1", slots)
    redis_view.make_due(house.ledger, *owed)
    free = {Duty.FETCH: 2}
    _held, ours = house.ledger.claim(lead=timedelta(0), batch=2, free=free).claims
    fetch.fetches(house.worker, [ours])
    kinds = [house.kinds(o.call_uuid) for o in owed]
    assert sum(Kind.MEDIA_ARCHIVED in some for some in kinds) == home
    assert house.ledger.counters()["events_total|MediaArchived"] == home


def test_too_early_is_tried_again(local):
    house = local(rules=HOUR)
    call, recording = ended(house)
    house.provider.faults.switch_on("early-404", call_uuid=call, seconds=2)
    view = house.reach(recording.recording_id, "archived")
    assert view["problem"] is None


@pytest.mark.parametrize("fault", ["truncated-media", "html-media", "empty-media", "media-5xx"])
def test_what_fails_a_check_is_downloaded_again(local, fault):
    house = local(rules=HOUR)
    call, recording = ended(house, fault=fault, times=1, seconds=3)
    view = house.reach(recording.recording_id, "archived")
    assert (view["problem"], view["bytes"]) == (None, recording.audio().size)
    assert len(failures(house, call)) == 1


def test_a_file_without_length_that_is_cut_at_a_frames_end_is_not_taken_for_whole(local):
    house = local(rules=HOUR)
    house.provider.faults.switch_on("no-length-media")
    call, recording = ended(house, fault="truncated-media", times=1, seconds=3, fraction=0.5)
    assert recording.audio().size % 2 == 0  # half of it ends with a frame
    view = house.reach(recording.recording_id, "archived")
    assert (view["problem"], view["bytes"]) == (None, recording.audio().size)
    (failure,) = failures(house, call)
    assert (failure.check, failure.fault) == ("length", Fault.MEDIA)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_by_the_media_host_concerns_that_recording_alone(local, status):
    house = local(rules=HOUR)
    house.provider.faults.switch_on(
        "refuse-auth", me=True
    )  # even while the API cannot vouch for us
    _, recording = ended(house, fault="media-5xx", status=status, times=1)
    until(lambda: house.alerts().get("media_refused"))
    assert not house.ledger.halted([ACCOUNT])
    house.reach(recording.recording_id, "archived")


def test_a_redirect_to_another_host_is_a_failed_try_with_an_alert_that_names_the_host(local):
    house = local(rules=HOUR)
    call, recording = ended(
        house, fault="redirect-media", times=1, location="https://files.example.net/x.mp3"
    )
    house.reach(recording.recording_id, "archived")
    until(lambda: house.alerts().get("redirect_refused", 0) == 1)
    assert "files.example.net" in failures(house, call)[0].reason


def test_a_file_above_the_limit_is_refused_before_it_is_downloaded(local):
    house = local(rules=HOUR, ENDTAPE_MAX_MEDIA_BYTES="1000")
    call, recording = ended(house, container="wav", seconds=2)
    (failure, *_) = until(lambda: failures(house, call))
    assert (failure.check, "ENDTAPE_MAX_MEDIA_BYTES allows 1000" in failure.reason) == (
        "size",
        True,
    )
    assert house.recording(recording.recording_id)["phase"] == "fetching"


@pytest.mark.parametrize("size", [0, 3 * 1024**3])
def test_media_of_no_bytes_and_of_three_gigabytes_are_refused_tried_again_and_hold_up_nobody(
    local, size
):
    house = local(rules=HOUR)
    fault = {"fault": "huge-media", "bytes": size} if size else {"fault": "empty-media"}
    odd, bad = ended(house, seconds=3, **fault)
    _, good = ended(house, seconds=3)
    house.reach(good.recording_id, "archived")
    (failure, *_) = until(lambda: failures(house, odd))
    assert failure.check in {"size", "container"}
    house.provider.faults.switch_off(fault["fault"])
    house.reach(bad.recording_id, "archived")


@pytest.mark.parametrize("fault", ["gzip-media", "json-media", "short-media", "media-timeout"])
def test_other_bad_media_are_tried_again(local, fault):
    house = local(rules=HOUR)
    params = {"seconds": 0.3} if fault == "media-timeout" else {}
    call, recording = ended(
        house,
        days_ago=0,
        fault=fault,
        times=1,
        **({"seconds": 30} if fault == "short-media" else {}),
    )
    if params:
        house.provider.faults.switch_on(fault, call_uuid=call, times=1, **params)
    view = house.reach(recording.recording_id, "archived")
    assert (view["problem"], len(failures(house, call))) == (None, 1)


@pytest.mark.parametrize(
    "fault", ["no-length-media", "trickled-media", "list-rows-move", "list-running"]
)
def test_what_is_only_odd_is_archived_at_once(local, fault):
    house = local(rules=HOUR)
    call, recording = ended(house, seconds=1, fault=fault)
    view = house.reach(recording.recording_id, "archived")
    assert (view["problem"], failures(house, call)) == (None, [])


def test_an_mp3_behind_zeros_comes_home_at_the_first_try_as_what_it_is(local):
    house = local(rules=HOUR)
    call, recording = ended(house, seconds=9, fault="padded-media", bytes=1024)
    view = house.reach(recording.recording_id, "archived")
    receipt = json.loads(
        (house.folder / "archive" / view["archive_key"]).with_suffix(".json").read_text()
    )
    assert (view["archive_key"][-4:], view["problem"], failures(house, call)) == (".mp3", None, [])
    assert (
        receipt["media"]["container"],
        receipt["media"]["codec"],
        receipt["media"]["sample_rate"],
    ) == ("mp3", "mp3", 8000)
    assert receipt["media"]["duration_ms"] == pytest.approx(9000, abs=200)
    assert receipt["media"]["bytes"] == recording.audio().size + 1024
    assert (
        set(receipt["checks"].values()),
        receipt["fetch"]["attempts"],
        house.alerts().get("MediaArchived"),
    ) == ({"passed"}, 1, None)


def sent(house, recording):
    """Bytes of this recording that the media host has sent, and in how many answers."""
    entries = [
        e for e in house.provider.journal.since() if recording.recording_id in str(e.get("path"))
    ]
    return sum(e["bytes"] for e in entries if e["kind"] == "media.sent"), len(
        [e for e in entries if e["kind"] == "media"]
    )


def test_a_file_that_takes_longer_than_a_lease_comes_home_at_the_first_try(local):
    house = local(rules=HOUR, leases_s=1.5)
    call, recording = ended(
        house, seconds=1, container="wav", fault="trickled-media", bytes=1600, pause_s=0.2
    )
    assert recording.audio().size / 1600 * 0.2 > 1.2 * 1.5
    house.reach(recording.recording_id, "archived")
    assert until(lambda: sent(house, recording)[0]) == recording.audio().size
    assert (failures(house, call), sent(house, recording)[1]) == ([], 1)


def test_a_file_that_is_cut_goes_on_within_the_same_try_where_the_host_can_do_that(local):
    house = local(rules=HOUR)
    call, recording = ended(house, seconds=20, fault="ranged-media")
    house.provider.faults.switch_on("truncated-media", call_uuid=call, times=2)
    view = house.reach(recording.recording_id, "archived")
    until(lambda: sent(house, recording) == (recording.audio().size, 3))
    assert failures(house, call) == []
    assert (house.folder / "archive" / view["archive_key"]).read_bytes() == b"".join(
        recording.audio().stream()
    )


@pytest.mark.parametrize(
    ("odd", "answers"),
    [
        ({"changing": True}, 2),
        ({"changing": True, "blind": True}, 3),
        ({"shifted": 7}, 3),
        ({"ignored": True}, 2),
    ],
)
def test_a_file_that_is_cut_and_cannot_go_on_is_begun_anew_and_archived_whole(local, odd, answers):
    house = local(rules=HOUR)
    call, recording = ended(house, seconds=20, fault="ranged-media", **odd)
    house.provider.faults.switch_on("truncated-media", call_uuid=call, times=1)
    view = house.reach(recording.recording_id, "archived")
    assert (failures(house, call), sent(house, recording)[1]) == ([], answers)
    assert (house.folder / "archive" / view["archive_key"]).read_bytes() == b"".join(
        recording.audio().stream()
    )
    assert list((house.folder / "spool").iterdir()) == []


def test_identical_bytes_three_times_over_ten_minutes_are_archived_with_the_failed_check_and_an_alert(
    local,
):
    house = local(rules=HOUR)
    call, recording = ended(house, seconds=10, container="wav", fault="wrong-duration")
    house.provider.faults.switch_on("wrong-duration", call_uuid=call, seconds=100)
    until(lambda: len(failures(house, call)) == 2)
    made_older(house.ledger, call, Kind.FETCH_FAILED, timedelta(minutes=11))
    view = house.reach(recording.recording_id, "archived")
    assert "duration" in view["problem"]
    receipt = json.loads(
        (house.folder / "archive" / view["archive_key"]).with_suffix(".json").read_text()
    )
    assert "s of audio are there" in receipt["checks"]["duration"]
    until(lambda: house.alerts().get("MediaArchived", 0) == 1)


def test_identical_bytes_within_ten_minutes_are_not_enough(local):
    house = local(rules=HOUR)
    call, recording = ended(house, seconds=10, container="wav", fault="wrong-duration")
    house.provider.faults.switch_on("wrong-duration", call_uuid=call, seconds=100)
    until(lambda: len(failures(house, call)) == 3, 20)
    assert house.recording(recording.recording_id)["phase"] == "fetching"


def test_html_is_never_archived_however_often_it_comes(local):
    house = local(rules=HOUR)
    call, recording = ended(house, seconds=10, fault="html-media")
    until(lambda: len(failures(house, call)) == 2)
    made_older(house.ledger, call, Kind.FETCH_FAILED, timedelta(minutes=11))
    until(lambda: len(failures(house, call)) == 3)
    assert house.recording(recording.recording_id)["phase"] == "fetching"
    assert not list((house.folder / "archive").rglob("*.mp3"))


def test_what_cannot_be_fetched_for_a_day_is_an_alert(local):
    house = local(rules=HOUR)
    ended(house, fault="media-5xx", days_ago=2)
    until(lambda: house.alerts().get("fetch_overdue"))
    call, _ = ended(house, fault="media-5xx")
    before = until(lambda: failures(house, call) and house.alerts())
    assert before["fetch_overdue"] == 1


@pytest.mark.parametrize(("days_ago", "warned"), [(22, None), (24, 1), (28.5, 1)])
def test_what_is_not_home_is_an_alert_when_seven_and_two_days_are_left(local, days_ago, warned):
    house = local(rules=HOUR)
    call, recording = ended(house, fault="media-5xx", days_ago=days_ago)
    until(lambda: len(failures(house, call)) > 1)
    assert house.alerts().get("provider_deletes_soon") == warned
    view = house.recording(recording.recording_id)
    kept = datetime.fromisoformat(view["provider_keeps_until"])
    assert kept == datetime.fromisoformat(view["ended_at"]) + KEPT_BY_PROVIDER


def test_what_the_provider_deprecates_is_an_alert_once_a_day_for_each_path(local):
    house = local(rules=HOUR)
    house.provider.faults.switch_on("deprecated", route="media")
    for _ in range(2):
        _, recording = ended(house)
        house.reach(recording.recording_id, "archived")
        deprecations.tell(house.ledger)
    assert house.alerts() == {"provider_deprecates": 1}
    house.provider.faults.switch_on("deprecated", route="get-recording")
    _, recording = ended(house)
    house.reach(recording.recording_id, "archived")
    deprecations.tell(house.ledger)
    assert house.alerts() == {"provider_deprecates": 2}


def test_what_cannot_be_fetched_for_thirty_days_is_given_up_with_an_alert(local):
    house = local(rules=HOUR)
    _, recording = ended(house, fault="media-5xx", days_ago=31)
    view = house.reach(recording.recording_id, "abandoned")
    assert "30 days" in view["problem"]
    until(lambda: house.alerts().get("GaveUp", 0) == 1)


def test_a_recording_from_before_our_first_start_is_left_alone_unless_adopt_says_otherwise(local):
    house = local(rules=HOUR)
    call = house.provider.call()
    house.provider.faults.switch_on("lost-callbacks", call_uuid=call.call_uuid)
    old = house.provider.record(call.call_uuid, announce=False)
    old.started_at -= 3600
    house.provider.end(old.recording_id, "FinishedOnKey")
    until(lambda: old.listed_at)
    house.ledger.record(
        ACCOUNT, Event(id="seen", kind=Kind.CALL_SEEN, call_uuid=call.call_uuid, signed=True)
    )
    until(
        lambda: house.ledger.outstanding() == 0
    )  # the planner would take back what it does not know of
    look = Obligation(duty=Duty.LOOK, account=ACCOUNT, call_uuid=call.call_uuid)
    redis_view.make_due(house.ledger, look)
    until(lambda: Kind.LOOKED in house.kinds(call.call_uuid))
    assert house.recording(old.recording_id)["phase"] is None
    until(lambda: house.ledger.outstanding() == 0)
    settings = house.worker.settings
    house.worker.settings = replace(
        settings, rules=replace(settings.rules, adopt=timedelta(days=30))
    )
    redis_view.make_due(house.ledger, look)
    assert (
        house.reach(old.recording_id, "archived")["started_at"]
        < house.worker.first_start.isoformat()
    )


def test_a_recording_that_a_callback_named_under_another_call_is_filed_under_its_own(local):
    house = local(rules=HOUR)
    call = house.provider.call()
    recording = house.provider.record(call.call_uuid)
    house.reach(recording.recording_id, "recording")
    other = house.provider.call().call_uuid
    house.post(
        {
            "Event": "RecordStop",
            "CallUUID": other,
            "RecordingID": recording.recording_id,
            "RecordingDurationMs": "1000",
        }
    )
    house.provider.hangup(call.call_uuid)
    view = house.reach(recording.recording_id, "archived")
    receipt = json.loads(
        (house.folder / "archive" / view["archive_key"]).with_suffix(".json").read_text()
    )
    assert (view["call_uuid"], receipt["call_uuid"]) == (call.call_uuid, call.call_uuid)
    until(lambda: house.alerts().get("wrong_owner"))
    until(lambda: any(f.fault is Fault.MEDIA for f in failures(house, other)))


def test_other_content_under_the_final_name_is_left_alone_and_the_digest_name_is_used(local):
    house = local(rules=HOUR)
    call = house.provider.call()
    recording = house.provider.record(call.call_uuid)
    began = time.gmtime(recording.started_at)
    place = house.folder / "archive" / ACCOUNT / time.strftime("%Y/%m/%d", began)
    place.mkdir(parents=True)
    (place / f"{recording.recording_id}.mp3").write_bytes(b"something else")
    house.provider.end(recording.recording_id, "FinishedOnKey")
    view = house.reach(recording.recording_id, "archived")
    assert (place / f"{recording.recording_id}.mp3").read_bytes() == b"something else"
    assert view["archive_key"].endswith(f"/{recording.recording_id}.{view['sha256'][:16]}.mp3")


def test_a_receipt_for_other_content_is_left_alone_with_an_alert(local):
    house = local(rules=HOUR)
    call = house.provider.call()
    recording = house.provider.record(call.call_uuid)
    began = time.gmtime(recording.started_at)
    place = house.folder / "archive" / ACCOUNT / time.strftime("%Y/%m/%d", began)
    place.mkdir(parents=True)
    (place / f"{recording.recording_id}.json").write_text('{"media": {"sha256": "other"}}')
    house.provider.end(recording.recording_id, "FinishedOnKey")
    until(lambda: house.alerts().get("conflict"))
    assert house.recording(recording.recording_id)["phase"] == "fetching"


def test_a_reload_does_not_rewrite_what_became_of_an_archived_recording(local):
    house = local(rules='[defaults]\nmode = "observe"\nmax_duration = "1s"\n')
    call = house.provider.call().call_uuid
    recording = house.provider.record(call)
    due_at = house.reach(recording.recording_id, "recording")["stop"]["due_at"]
    until(lambda: rfc3339(house.ledger.now()) > due_at)  # which is only observed
    house.provider.hangup(call)
    before = house.reach(recording.recording_id, "archived")["stop"]
    assert (before["state"], before["trigger"]) == ("none", "max_duration")
    for text in (
        '[defaults]\nmax_duration = "1s"\n',
        '[defaults]\nmode = "observe"\nmax_duration = "none"\n',
    ):
        house.rules.write_text(text)
        rules, known = Settings.from_env(house.env, folder=house.folder).rules, house.call(call)
        assert (
            recording_view(
                known, known.recordings[recording.recording_id], rules, house.ledger.now()
            )["stop"]
            == before
        )
    (receipt,) = (house.folder / "archive").rglob(f"{recording.recording_id}.json")
    kept = json.loads(receipt.read_text())["stop"]
    exact = {"due_at": None, "tail_ms": None}  # Redis keeps whole milliseconds
    assert {**kept, **exact} == {**before, **exact}
    assert abs(kept["tail_ms"] - before["tail_ms"]) <= 1


def test_a_fetch_tells_of_a_trunks_recording_that_it_is_one_as_a_look_does(local):
    house = local(rules=HOUR)
    house.provider.faults.switch_on("lost-callbacks")
    call = house.provider.call(trunk=True)
    recording = house.provider.record(call.call_uuid, source="trunk")
    house.provider.hangup(call.call_uuid)
    assert house.provider.wait_idle(5)
    house.post(  # as of any other recording
        {
            "Event": "RecordStop",
            "CallUUID": call.call_uuid,
            "RecordingID": recording.recording_id,
            "RecordingDurationMs": "9000",
        }
    )
    house.reach(recording.recording_id, "archived")
    assert house.call(call.call_uuid).recordings[recording.recording_id].trunk
