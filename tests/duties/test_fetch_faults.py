"""Whose fault it is that a recording does not come home, how often each kind is tried, and that a
person's retry always runs."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests import redis_view
from tests.bad_days import ended, failures, made_older
from tests.builders import obligation
from tests.constants import ACCOUNT, HOUR
from tests.waiting import until
from worker.archive import media
from worker.calls import planner, timing
from worker.calls.events import Event, Fault, Kind
from worker.calls.obligations import Duty, Obligation
from worker.command import retry
from worker.ledger import backlog
from worker.ledger.codec import decode, encode, to_ms
from worker.ledger.obligations import Commit


def test_an_event_of_the_release_before_has_no_fault_and_one_of_the_next_may_have_another():
    failed = Event(
        id="fetch.1", kind=Kind.FETCH_FAILED, call_uuid="c", recording_id="r", fault=Fault.MEDIA
    )
    (read,) = decode(f"fetch.1 1000 {encode(failed, 'MA_1')}", "MA_1", "c")
    assert read.fault is Fault.MEDIA
    (read,) = decode('fetch.1 1000 {"k":"FetchFailed","r":"r","fa":"weather"}', "MA_1", "c")
    assert read.fault is None


# Against the provider's stand-in and a real Redis
# --------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch):
    """The usual pace, only faster."""
    monkeypatch.setattr(timing, "fetch_backoff", lambda *_: timedelta(milliseconds=100))


def broken(*_):
    raise ZeroDivisionError("a fault of ours")


FAILURES = [
    *[
        (Fault.PROVIDER, name, how)
        for name, how in (
            ("media-5xx", {}),
            ("media-5xx", {"status": 404}),
            ("media-5xx", {"status": 429}),
            ("media-timeout", {"seconds": 0.3}),
            ("early-404", {"seconds": 60}),
            ("api-5xx", {}),
            ("api-429", {}),
        )
    ],
    *[
        (Fault.MEDIA, name, {})
        for name in (
            "html-media",
            "json-media",
            "empty-media",
            "truncated-media",
            "gzip-media",
            "short-media",
        )
    ],
    *[
        (Fault.SETTINGS, name, how)
        for name, how in (
            ("media-5xx", {"status": 401}),
            ("media-5xx", {"status": 403}),
            ("redirect-media", {"location": "https://files.example.net/x.mp3"}),
        )
    ],
]


@pytest.mark.parametrize(
    ("fault", "name", "how"),
    FAILURES,
    ids=[f"{f}-{n}-{'.'.join(map(str, h.values()))[:3]}" for f, n, h in FAILURES],
)
def test_whose_fault_it_is_by_what_the_provider_does(local, fault, name, how):
    house = local(rules=HOUR)
    call, recording = ended(house, seconds=30)
    house.provider.faults.switch_on(
        name, **({} if name.startswith("api") else {"call_uuid": call}), **how
    )
    (failure, *_) = until(lambda: failures(house, call))
    assert failure.fault is fault, failure.reason
    assert house.recording(recording.recording_id)["fault"] == fault
    house.provider.faults.clear()


@pytest.mark.parametrize(
    "name", ["archive is a file", "spool is a file", "other content", "no room"]
)
def test_what_our_own_disks_do_is_the_fault_of_storage(local, name, monkeypatch):
    house = local(rules=HOUR)
    if name == "no room":
        monkeypatch.setattr(type(house.worker.archive), "free_bytes", lambda _: 0)
    elif name == "other content":
        place = house.folder / "archive" / ACCOUNT
        place.parent.mkdir()
        place.write_text("no directory")
    else:
        (house.folder / name.split(" ", maxsplit=1)[0]).write_text("no directory")
    call, recording = ended(house)
    (failure, *_) = until(lambda: failures(house, call))
    assert failure.fault is Fault.STORAGE, failure.reason
    assert house.recording(recording.recording_id)["fault"] == "storage"


@pytest.mark.parametrize(
    "settings",
    [
        {"media_hosts": ("media.example.net",)},
        {"api_url": "/nowhere"},
        {"max_media_bytes": 1000},
        {"accounts": {}},
        {"max_media_bytes": 1000, "announced": False},
    ],
    ids=".".join,
)
def test_what_somebody_can_set_right_is_the_fault_of_settings_and_a_reload_tries_it_at_once(
    local, settings, quick
):
    wrong = {k: v for k, v in settings.items() if k != "announced"}
    house = local(rules=HOUR)
    good = {name: getattr(house.worker.settings, name) for name in wrong}
    if "api_url" in wrong:
        wrong["api_url"] = good["api_url"] + wrong["api_url"]
    right = house.worker
    house.worker = replace(
        house.worker, settings=replace(house.worker.settings, **wrong), vobiz=vobiz_of(house, wrong)
    )
    call, recording = ended(
        house, seconds=3, fault=None if settings.get("announced", True) else "no-length-media"
    )
    until(lambda: len(failures(house, call)) >= 3)
    assert {f.fault for f in failures(house, call)} == {Fault.SETTINGS}, failures(house, call)[
        0
    ].reason
    made_older(house.ledger, call, Kind.FETCH_FAILED, timedelta(hours=2))
    until(lambda: Kind.ABANDONED in house.kinds(call))
    until(lambda: waits(house, call, recording))
    house.worker = replace(house.worker, vobiz=right.vobiz)
    house.reload(**good)
    house.reach(recording.recording_id, "archived")


def vobiz_of(house, wrong):
    settings = replace(house.worker.settings, **wrong)
    return type(house.worker.vobiz)(
        api_url=settings.api_url,
        media_hosts=settings.media_hosts,
        redirect_hosts=settings.redirect_hosts,
        max_media_bytes=settings.max_media_bytes,
    )


def due_in_s(house, call, recording):
    o = Obligation(
        duty=Duty.FETCH, account=ACCOUNT, call_uuid=call, recording_id=recording.recording_id
    )
    found = house.ledger.next_at(o)
    return None if found is None else (found - house.ledger.now()).total_seconds()


def waits(house, call, recording):
    """Whether it is put off for long: past the net that stands until the planner has spoken."""
    return (due_in_s(house, call, recording) or 0) > 120


def abandon(house, **how):
    """A recording that is abandoned, and its next try far off."""
    call, recording = ended(house, **how)
    until(lambda: len(failures(house, call)) >= 2)
    made_older(house.ledger, call, Kind.FETCH_FAILED, timedelta(hours=25))
    house.reach(recording.recording_id, "abandoned")
    until(lambda: waits(house, call, recording))
    return call, recording


def test_an_exception_nobody_expected_is_ours_told_tried_six_times_then_abandoned_and_a_reload_wakes_it(
    local, quick, monkeypatch
):
    house, examine = local(rules=HOUR), media.examine
    monkeypatch.setattr(media, "examine", broken)
    call, recording = ended(house)
    view = house.reach(recording.recording_id, "abandoned")
    assert (
        view["fault"],
        "ZeroDivisionError: a fault of ours" in view["problem"],
        len(failures(house, call)),
    ) == ("ours", True, 6)
    until(
        lambda: (
            (
                house.alerts().get("poison"),
                house.alerts().get("Abandoned"),
                house.ledger.unfinished(),
            )
            == (6, 1, {})
        )
    )
    assert b'endtape_abandoned_total{fault="ours"} 1.0' in house.get("/metrics").content
    until(lambda: waits(house, call, recording))
    monkeypatch.setattr(media, "examine", examine)
    house.reload()
    assert house.reach(recording.recording_id, "archived")["fault"] is None


def test_a_reload_does_not_wake_what_is_the_fault_of_the_provider(local, quick):
    house = local(rules=HOUR)
    call, recording = abandon(house, fault="media-5xx")
    tries = len(failures(house, call))
    other = house.provider.call().call_uuid
    house.reload()
    recording_2 = house.provider.record(other)
    house.reach(recording_2.recording_id, "recording")
    plan = obligation(Duty.PLAN, call)
    until(lambda: redis_view.due_at(house.ledger, plan) is None)  # it was planned
    assert waits(house, call, recording)
    assert len(failures(house, call)) == tries


def test_a_reload_while_a_call_is_planned_is_not_missed(ledger):
    o = Obligation(duty=Duty.PLAN, account=ACCOUNT, call_uuid="c")
    for planned_with, soon in ((0, True), (2, False)):
        ledger.record(ACCOUNT, Event(id=f"seen.{planned_with}", kind=Kind.CALL_SEEN, call_uuid="c"))
        (claim,) = ledger.claim(lead=timedelta(0), batch=10, free=dict.fromkeys(Duty, 10)).claims
        ledger.reload()
        later = ledger.now() + timedelta(hours=1)
        assert ledger.commit(
            [
                Commit(
                    claim=claim,
                    seen=ledger.size(ACCOUNT, "c"),
                    dues=((o, later),),
                    generation=planned_with,
                )
            ]
        ) != [None]
        assert (redis_view.due_at(ledger, o) <= to_ms(ledger.now())) is soon


def test_rules_that_are_reloaded_while_a_call_is_planned_hold_for_it(local, monkeypatch):
    house, plan = local(rules=HOUR), planner.plan
    rules = replace(
        house.worker.settings.rules,
        defaults=replace(house.worker.settings.rules.defaults, max_duration=timedelta(seconds=1)),
    )
    reloaded = []

    def slow(call, *args, **how):
        found = plan(call, *args, **how)
        if call.recordings and not reloaded:
            reloaded.append(house.reload(rules=rules))
        return found

    monkeypatch.setattr(planner, "plan", slow)
    monkeypatch.setattr(
        house.ledger, "make_all_due", lambda: None
    )  # as if no clock were quick enough to see what it does
    recording = house.provider.record(house.provider.call().call_uuid)
    house.reach(recording.recording_id, "archived")


def test_a_retry_runs_at_once_while_the_next_try_is_hours_off(local, quick):
    house = local(rules=HOUR)
    call, recording = abandon(house, fault="html-media")
    until(lambda: house.alerts().get("Abandoned", 0) == 1)
    assert [e.owed.recording_id for e in backlog.find(house.ledger, Fault.MEDIA)] == [
        recording.recording_id
    ]
    assert list(backlog.find(house.ledger, Fault.PROVIDER)) == []
    house.provider.faults.clear()
    for entry in backlog.find(house.ledger):
        backlog.retry(house.ledger, entry.owed, reason="mended", by="cli")
    house.reach(recording.recording_id, "archived")
    assert list(backlog.find(house.ledger)) == []
    assert Kind.ABANDONED in house.kinds(call)


def test_a_retry_runs_after_it_was_given_up(local):
    house = local(rules=HOUR)
    _, recording = ended(house, fault="media-5xx", days_ago=31)
    house.reach(recording.recording_id, "abandoned")
    (entry,) = backlog.find(house.ledger)
    assert (entry.next_at, entry.fault) == (None, Fault.PROVIDER)
    house.provider.faults.clear()
    backlog.retry(house.ledger, entry.owed, reason="the provider found it", by="cli")
    house.reach(recording.recording_id, "archived")


def test_a_retry_of_a_halted_account_begins_when_its_credentials_are_accepted(local):
    house = local(rules=HOUR)
    house.provider.faults.switch_on("refuse-auth", me=True)
    house.provider.faults.switch_on("api-5xx", status=401)
    call, recording = ended(house)
    assert until(lambda: failures(house, call))[0].fault is Fault.SETTINGS
    until(lambda: house.ledger.halted([ACCOUNT]))
    assert "halted" in retry._waits(house.settings, house.ledger, ACCOUNT)
    backlog.retry(
        house.ledger,
        Obligation(
            duty=Duty.FETCH, account=ACCOUNT, call_uuid=call, recording_id=recording.recording_id
        ),
        reason="x",
        by="cli",
    )
    house.provider.faults.clear()
    house.reach(recording.recording_id, "archived")
    assert retry._waits(house.settings, house.ledger, ACCOUNT) is None
    assert "left the settings" in retry._waits(house.settings, house.ledger, "MA_OTHER")


def test_recordings_are_listed_by_phase_and_by_fault_through_the_api(local, quick):
    house = local(rules=HOUR)
    _, bad = abandon(house, fault="media-5xx")
    _, good = ended(house)
    house.reach(good.recording_id, "archived")
    for query, found in (
        ("phase=abandoned", [bad]),
        ("fault=provider", [bad]),
        ("phase=abandoned&fault=media", []),
        ("fault=ours", []),
    ):
        assert [
            r["recording_id"] for r in house.get(f"/v1/recordings?{query}").json()["recordings"]
        ] == [r.recording_id for r in found], query
    assert house.get("/v1/recordings?fault=weather").status_code == 400
