"""Surveys over real HTTP and real Redis: what nobody told us of, what we missed, and what it costs
to look."""

import hashlib
import json
import random
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from emulator import rows
from emulator.state import Recording, new_id
from tests import redis_view
from tests.archive.builders import receipt_of
from tests.builders import obligation
from tests.constants import ACCOUNT, HOUR
from tests.waiting import until
from worker.archive import fact_files
from worker.archive.facts import Fact, FactKind
from worker.calls.events import Event, Kind
from worker.calls.obligations import Duty
from worker.command import reconcile
from worker.duties import survey_rows, trials
from worker.ledger import survey_state
from worker.ledger.survey_state import Scope, Stage, SurveyState

OTHER = "SA_TEST0002"
WATCH = '[defaults]\nmax_duration = "1h"\n[[rules]]\nname = "watched"\nmatch = { to = "91805*" }\nwatch = true\n'


def house_of(local, rules=HOUR, *, every="1", survey=True, **how):
    """A service that is a minute old and never surveyed."""
    house = local(rules=rules, ENDTAPE_RECONCILE_S=every, **how)
    house.worker.first_start -= timedelta(minutes=1)
    house.ledger.set_first_start(house.worker.first_start)
    house.survey = survey
    return house


def unannounced(house, *, ago_s=0.0, seconds=1.0, account=ACCOUNT, call_uuid=None):
    """A finished recording that no callback told of, as if it had ended so long ago."""
    now = time.time() - ago_s
    call = house.provider.calls.get(call_uuid) or house.provider.call(
        call_uuid=call_uuid, account=account
    )
    rid = new_id()
    made = Recording(
        recording_id=rid,
        call_uuid=call.call_uuid,
        account=account,
        container="mp3",
        channels=1,
        source="rest",
        url=f"http://{house.provider.media_host}/v1/Account/{account}/Recording/{rid}.mp3",
        callback_url="",
        started_at=now - seconds,
        max_length_s=60,
        ended_at=now,
        end_reason="maxLength",
        listed_at=now,
    )
    house.provider.book.add_recording(made)
    call.ended_at = call.ended_at or now
    house.provider.book.end_call(call)
    return made


def state(house, scope=Scope.NEW, account=ACCOUNT):
    return survey_state.load(house.ledger, account, scope) or SurveyState()


def surveyed(house, scope=Scope.NEW, account=ACCOUNT, within_s=15):
    """Waits for the end of a survey that begins from now on."""
    asked_at = house.ledger.now()
    return until(
        lambda: (
            (s := state(house, scope, account)).done_began_at and s.done_began_at >= asked_at and s
        ),
        within_s,
    )


def healed(house):
    return {
        k.partition("|")[2]: int(v)
        for k, v in house.ledger.counters().items()
        if k.startswith("healed_total|")
    }


def listings(house):
    return [
        e
        for e in house.requests("GET", "/Recording/")
        if e["path"].split("?")[0].endswith("/Recording/")
    ]


def live_lists(house):
    return [
        e for e in house.requests("GET", "/Call/") if e["path"].split("?")[0].endswith("/Call/")
    ]


def phases(house, recordings):
    return {house.recording(r.recording_id)["phase"] for r in recordings}


# What nobody told us of ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.end_to_end
def test_with_every_callback_lost_all_that_the_list_shows_is_archived(local):
    house = house_of(local)
    house.provider.faults.switch_on("lost-callbacks")
    made = []
    for _ in range(20):
        call = house.provider.call()
        made.append(house.provider.record(call.call_uuid))
        house.provider.hangup(call.call_uuid)
    until(lambda: phases(house, made) == {"archived"})
    assert healed(house) == {"listed": 20}
    assert len(list((house.folder / "archive").rglob("*.json"))) == 20


@pytest.mark.end_to_end
def test_lost_callbacks_30_percent_dropped_30_percent_doubled_all_shuffled_100_percent_archived_within_3_reconcile_intervals(
    local,
):
    interval = 3
    house = house_of(local, every=str(interval))
    faults = house.provider.faults
    faults.switch_on("lost-callbacks", probability=0.3)
    faults.switch_on("doubled-callbacks", probability=0.3)
    faults.switch_on("shuffled-callbacks", seconds=1)
    chance, made = random.Random(7), []
    for _ in range(100):
        call = house.provider.call(announce=True)
        made.append(house.provider.record(call.call_uuid, container=chance.choice(["mp3", "wav"])))
    for recording in made:
        if chance.random() < 0.5:
            house.provider.end(recording.recording_id, "FinishedOnKey")
        house.provider.hangup(recording.call_uuid)
    ended = time.monotonic()
    until(lambda: phases(house, made) == {"archived"}, 3 * interval)
    print(
        f"all archived {time.monotonic() - ended:.1f} s after the last end; healed {healed(house)}"
    )
    archived = list((house.folder / "archive").rglob("*.json"))
    assert {p.stem for p in archived} == {r.recording_id for r in made}
    assert (
        sum(
            not p.name.startswith(".")
            for p in (house.folder / "archive").rglob("*.*")
            if p.is_file()
        )
        == 400  # audio, receipt, signature, outline
    )


def test_a_recording_whose_start_was_told_and_nothing_else_is_closed_within_two_intervals(local):
    house = house_of(local, every="2")
    call = house.provider.call()
    recording = house.provider.record(call.call_uuid)
    house.reach(recording.recording_id, "recording")
    house.provider.faults.switch_on("lost-callbacks")
    house.provider.faults.switch_on(
        "list-lag", seconds=3600
    )  # so that only the list of live calls can tell
    house.provider.hangup(call.call_uuid)
    until(lambda: house.call(call.call_uuid).over_at, 5)
    assert house.recording(recording.recording_id)["stop"]["evidence"] == ["call_over"]
    assert healed(house)["closed"] >= 1


def test_that_a_call_is_missing_in_the_live_list_proves_nothing(local):
    house = house_of(local)
    call = house.provider.call()
    recording = house.provider.record(call.call_uuid)
    house.reach(recording.recording_id, "recording")
    house.provider.book.end_call(call)  # the list forgets it, the call itself is live
    until(lambda: Kind.LOOKED in house.kinds(call.call_uuid))
    surveyed(house)
    assert house.recording(recording.recording_id)["phase"] == "recording"
    assert house.recording(recording.recording_id)["stop"]["evidence"] == []


def test_a_call_that_began_less_than_an_interval_ago_may_not_be_in_the_live_list_yet(local):
    house = house_of(local, every="60", survey=False)
    call = house.provider.call()
    recording = house.provider.record(call.call_uuid)
    house.reach(recording.recording_id, "recording")
    house.provider.book.end_call(call)
    house.survey = True
    until(lambda: state(house).done_began_at)
    assert (healed(house), house.requests("GET", call.call_uuid)) == ({}, [])


def test_a_trunks_call_is_not_missed_in_the_live_list(local):
    house = house_of(local, signatures="optional")
    call = house.provider.call(trunk=True)
    house.provider.record(call.call_uuid, source="trunk")
    house.ledger.record(
        ACCOUNT,
        Event(
            id="row",
            kind=Kind.RECORDING_LISTED,
            call_uuid=call.call_uuid,
            recording_id=call.call_uuid,
            trunk=True,
        ),
    )
    house.provider.book.end_call(call)
    for _ in range(3):  # by the third it has been known for an interval
        surveyed(house)
    assert "closed" not in healed(house)


def test_rows_that_appear_late_are_found_by_a_later_survey(local):
    house = house_of(local)
    house.provider.faults.switch_on("lost-callbacks")
    house.provider.faults.switch_on("list-lag", seconds=2)
    call = house.provider.call()
    recording = house.provider.record(call.call_uuid)
    house.provider.hangup(call.call_uuid)
    surveyed(house)
    house.reach(recording.recording_id, "archived", 6)


def test_a_row_without_a_call_is_filed_under_its_own_id(local, monkeypatch):
    house = house_of(local, survey=False)
    recording = unannounced(house)
    # The stand-in always knows the call; what is sent without it is what counts here.
    plain = rows.listed
    monkeypatch.setattr(rows, "listed", lambda *a, **k: {**plain(*a, **k), "call_uuid": None})
    house.survey = True
    view = house.reach(recording.recording_id, "archived")
    assert view["call_uuid"] == recording.recording_id
    receipt = json.loads(
        (house.folder / "archive" / view["archive_key"]).with_suffix(".json").read_text()
    )
    assert receipt["call_uuid"] == recording.recording_id


# Pages and moving rows ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.end_to_end
def test_more_than_three_pages_are_read_to_the_last_row_and_each_recording_is_recorded_once(local):
    house = house_of(local, every="60", survey=False)
    call = new_id()
    made = [
        unannounced(house, ago_s=-i / 1000, call_uuid=call if i < 5 else None) for i in range(330)
    ]
    house.provider.faults.switch_on("list-rows-move", rows=2)
    house.survey = True
    until(
        lambda: sum(house.ledger.call_of(ACCOUNT, r.recording_id) is not None for r in made) == 330,
        20,
    )
    done = until(lambda: (s := state(house)).done_began_at and s)
    assert done.done_found["rows"] >= 330
    for recording in made[:10]:
        listed = [
            e
            for e in house.ledger.events(ACCOUNT, recording.call_uuid)
            if e.recording_id == recording.recording_id and e.kind is Kind.RECORDING_LISTED
        ]
        assert len(listed) == 1
    offsets = [e["path"].partition("offset=")[2] for e in listings(house)]
    assert "95" in offsets  # with overlap


def test_what_is_known_costs_no_write_and_only_the_first_page_is_read_again(local):
    house = house_of(local, survey=False, every="1")
    made = [unannounced(house, ago_s=-i / 1000) for i in range(30)]
    house.survey = True
    until(lambda: phases(house, made) == {"archived"}, 20)
    old = [unannounced(house, ago_s=3600 + i) for i in range(300)]  # from before our first start
    surveyed(house)
    before, events = (
        len(listings(house)),
        {r.call_uuid: house.ledger.size(ACCOUNT, r.call_uuid) for r in made},
    )
    for _ in range(3):
        assert surveyed(house).done_found["rows"] <= 100 + 95
    assert {call: house.ledger.size(ACCOUNT, call) for call in events} == events
    assert healed(house) == {"listed": 30}
    assert len(listings(house)) - before <= 10
    assert phases(house, old) == {None}


def test_a_list_that_is_sorted_the_other_way_is_read_to_its_end(local, monkeypatch):
    house = house_of(local, survey=False, every="60")
    [unannounced(house, ago_s=7200 - i) for i in range(250)]
    fresh = unannounced(house)
    plain = house.provider.book.recordings_of
    offset = datetime.now(UTC).timestamp()

    def oldest_first(account, call_uuid):
        return [_Mirrored(r, offset) for r in plain(account, call_uuid)]

    monkeypatch.setattr(house.provider.book, "recordings_of", oldest_first)
    house.survey = True
    house.reach(fresh.recording_id, "archived")


class _Mirrored:
    """Sorted by the stand-in as if time ran backwards, told as it is."""

    def __init__(self, recording, offset):
        self._recording, self._offset, self._asked = recording, offset, 0

    @property
    def started_at(self):
        self._asked += 1
        return (
            self._offset - self._recording.started_at
            if self._asked == 1
            else self._recording.started_at
        )

    def __getattr__(self, name):
        return getattr(self._recording, name)


# Bad days of the API ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("fault", "params"), [("api-429", {"retry_after": 1, "times": 3}), ("api-5xx", {"times": 3})]
)
def test_errors_of_the_list_are_tried_again_where_the_survey_stood(local, fault, params):
    house = house_of(local, survey=False)
    recording = unannounced(house)
    house.provider.faults.switch_on(fault, route=["list-recordings", "live-calls"], **params)
    house.survey = True
    assert until(lambda: state(house).problem)
    house.reach(recording.recording_id, "archived", 25)
    assert until(lambda: state(house).done_began_at)


def test_a_halted_account_is_not_surveyed_and_another_is(local):
    rules = HOUR + f'[[accounts]]\nauth_id = "{OTHER}"\ntoken_env = "OTHER_TOKEN"\n'
    house = house_of(
        local,
        rules,
        OTHER_TOKEN="other-auth-token",
        survey=False,
        provider_accounts={ACCOUNT: "not what we think", OTHER: "other-auth-token"},
    )
    recording = unannounced(house, account=OTHER)
    house.survey = True
    house.reach(recording.recording_id, "archived")
    until(lambda: house.ledger.halted([ACCOUNT]))
    before = len([e for e in listings(house) if ACCOUNT in e["path"]])
    surveyed(house, account=OTHER)
    surveyed(house, account=OTHER)
    assert len([e for e in listings(house) if ACCOUNT in e["path"]]) - before <= 1
    until(lambda: house.alerts().get("account_halted", 0) == 1)


@pytest.mark.end_to_end
def test_a_survey_gets_its_share_of_the_requests_and_no_more_whatever_fetches_want(local):
    house = house_of(local, ENDTAPE_API_RATE="12", every="60", survey=False)
    [unannounced(house, ago_s=i / 100) for i in range(700)]
    house.provider.faults.switch_on(
        "api-5xx", route="get-recording"
    )  # so that fetches never have enough
    house.survey = True
    until(lambda: state(house).done_began_at and state(house, Scope.SWEEP).done_began_at, 20)
    surveys = sorted(e["at"] for e in [*listings(house), *live_lists(house)])
    lasted, everything = (
        surveys[-1] - surveys[0],
        [e for e in house.requests("GET") if surveys[0] <= e["at"] <= surveys[-1]],
    )
    all_rest = len([e for e in everything if "/api/v1/" in e["path"]])
    print(
        f"in {lasted:.1f} s: {len(surveys) / lasted:.2f} of {all_rest / lasted:.2f} requests a second; the share is 4 of 12"
    )
    assert len(surveys) == 17
    assert 2.5 * lasted <= len(surveys) <= 4 * lasted + 2
    assert all_rest <= 12 * lasted + 4


# More than one, and whatever dies ───────────────────────────────────────────────────────────────────────────────────


def test_two_clocks_make_one_survey(local):
    house = house_of(local, every="60")
    for _ in range(5):
        survey_state.keep_due(house.ledger, [ACCOUNT])
    surveyed_once = until(
        lambda: state(house).done_began_at and state(house, Scope.SWEEP).done_began_at
    )
    time.sleep(0.3)
    assert state(house, Scope.SWEEP).done_began_at == surveyed_once
    assert len(live_lists(house)) == 1
    assert len(listings(house)) == 2  # one for each scope


def test_a_survey_whose_worker_died_is_gone_on_with(local, ledger):
    survey_state.keep_due(ledger, [ACCOUNT])
    dead = ledger.claim(
        lead=timedelta(milliseconds=5), batch=10, free={Duty.SURVEY: 10}
    )  # a due is a whole millisecond
    assert len(dead.claims) == 2  # and nothing more is heard of them
    house = house_of(local)
    recording = unannounced(house)
    house.reach(recording.recording_id, "archived", 12)


def test_an_account_that_left_the_settings_is_surveyed_no_more(local):
    house = house_of(local)
    survey_state.keep_due(house.ledger, ["MA_GONE"])
    surveyed(house)
    gone = survey_state.obligation("MA_GONE", Scope.NEW)
    assert redis_view.due_at(house.ledger, gone) is None


def test_a_call_that_cannot_be_read_holds_up_no_survey(local):
    house = house_of(local)
    recording = unannounced(house)
    redis_view.spoil_log(house.ledger, ACCOUNT, recording.call_uuid)
    redis_view.spoil_log(house.ledger, ACCOUNT, "broken")
    redis_view.make_due(house.ledger, obligation(Duty.LOOK, "broken"), at=9e12)
    other = unannounced(house)
    house.reach(other.recording_id, "archived")
    assert until(lambda: state(house).done_began_at)


def test_a_reload_plans_no_call_for_a_survey(local):
    house = house_of(local)
    surveyed(house)
    house.ledger.reload()
    assert not redis_view.owed(house.ledger, Duty.PLAN)


# From before our time ───────────────────────────────────────────────────────────────────────────────────────────────


def test_unannounced_recordings_from_before_our_first_start_are_left_alone(local):
    house = house_of(local, survey=False)
    old, fresh = unannounced(house, ago_s=3600), unannounced(house)
    house.survey = True
    house.reach(fresh.recording_id, "archived")
    surveyed(house)
    assert phases(house, [old]) == {None}


def test_adopt_fetches_what_is_not_older_than_it_says_also_when_it_is_set_later(local):
    house = house_of(local)
    old, older = unannounced(house, ago_s=86400), unannounced(house, ago_s=5 * 86400)
    until(lambda: state(house, Scope.SWEEP).done_began_at)
    assert phases(house, [old, older]) == {None}
    house.worker.settings = replace(
        house.worker.settings, rules=replace(house.worker.settings.rules, adopt=timedelta(days=2))
    )
    house.ledger.make_due_now(survey_state.obligation(ACCOUNT, Scope.SWEEP))  # else within the hour
    house.reach(old.recording_id, "archived")
    surveyed(house)
    assert phases(house, [older]) == {None}


# An erased ledger ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_receipt_without_its_signature_is_not_taken_for_archived_when_the_ledger_was_erased(
    local,
):
    house = house_of(local)
    known = unannounced(house)
    view = house.reach(known.recording_id, "archived")
    receipt = (house.folder / "archive" / view["archive_key"]).with_suffix(".json")
    signature = receipt.with_name(f"{receipt.name}.sig")
    before = receipt.read_bytes(), signature.read_bytes()
    until(lambda: house.worker.catalogue.find(known.recording_id))
    house.worker.catalogue.remove([(ACCOUNT, known.recording_id)])
    signature.unlink()  # as a crash leaves it
    redis_view.erase(house.ledger)
    house.reach(known.recording_id, "archived")
    assert (receipt.read_bytes(), signature.read_bytes()) == before


def test_a_ledger_erased_under_us_is_rebuilt_from_the_list_and_the_archive(local):
    house = house_of(local)
    known, first = unannounced(house), house.ledger.first_start()
    house.reach(known.recording_id, "archived")
    running = house.provider.call()
    house.provider.record(running.call_uuid)
    until(lambda: Kind.RECORDING_STARTED in house.kinds(running.call_uuid))
    missed = unannounced(house)
    media = len(house.requests("GET", f"{known.recording_id}.mp3"))
    redis_view.erase(house.ledger)
    view = house.reach(known.recording_id, "archived")
    assert (house.folder / "archive" / view["archive_key"]).stat().st_size == view["bytes"]
    house.reach(missed.recording_id, "archived")
    assert len(house.requests("GET", f"{known.recording_id}.mp3")) == media  # not fetched again
    assert abs(house.ledger.first_start() - first) < timedelta(seconds=1)
    until(lambda: house.call(running.call_uuid).found_live_at)  # though no rule watches
    until(lambda: house.alerts().get("ledger_erased", 0) == 1)
    later = house.provider.call().call_uuid
    surveyed(house)
    surveyed(house)
    assert house.kinds(later) == []  # once only


def test_a_step_that_saves_after_the_ledger_was_erased_does_not_hide_that(local):
    house = house_of(local)
    known = unannounced(house)
    house.reach(known.recording_id, "archived")
    redis_view.erase(house.ledger)
    at = house.ledger.now()
    for scope in Scope:
        late = SurveyState(done_began_at=at, began_at=at, stage=Stage.ROWS)
        survey_state.save(house.ledger, ACCOUNT, scope, late)
    until(lambda: house.alerts().get("ledger_erased", 0) == 1)
    assert house.ledger.first_start()


def test_what_the_catalogue_has_is_finished_and_not_taken_up_by_a_survey(local):
    house = house_of(local)
    known = unannounced(house)
    house.reach(known.recording_id, "archived")
    until(lambda: house.worker.catalogue.find(known.recording_id))
    redis_view.erase(house.ledger)
    surveyed(house)
    surveyed(house)
    assert house.kinds(known.call_uuid) == []
    assert house.recording(known.recording_id)["phase"] == "archived"


def test_what_the_archive_says_was_given_up_is_finished_although_the_provider_lists_it(local):
    house = house_of(local, survey=False)
    known, at = unannounced(house), datetime.now(UTC).strftime("%Y/%m/%d")
    call = {"account": ACCOUNT, "call_uuid": known.call_uuid}
    absence = {"recording_id": known.recording_id, "fault": "media", "reason": "worn out"}
    first = "2026-01-02T03:04:05.006Z"
    house.worker.archive.publish_absence(
        f"{ACCOUNT}/{at}/{known.recording_id}.absent",
        {"schema": "endtape/absent/1", **call, **absence, "first_seen_at": first},
    )
    house.survey = True
    view = house.reach(known.recording_id, "abandoned")
    assert [view[name] for name in ("fault", "problem", "first_seen_at")] == [
        "media",
        "worn out",
        first,
    ]
    until(lambda: house.worker.catalogue.find(known.recording_id))
    assert house.requests("GET", f"{known.recording_id}.mp3") == []


def test_what_the_archive_says_was_erased_is_not_fetched_and_is_erased_again(local):
    house = house_of(local, survey=False)
    known, at = unannounced(house), datetime.now(UTC).strftime("%Y/%m/%d")
    about = {
        "account": ACCOUNT,
        "call_uuid": known.call_uuid,
        "recording_id": known.recording_id,
        "at": "2026-09-14T06:30:00.000Z",
        "reason": "asked for",
        "who": "anna",
    }
    key = f"{ACCOUNT}/{at}/{known.recording_id}.erased"
    house.worker.archive.publish_tombstone(key, {"schema": "endtape/erased/1", **about})
    house.survey = True
    until(lambda: known.recording_id not in house.provider.book.recordings)
    view = house.reach(known.recording_id, "erased")
    assert (view["erased"]["who"], view["erased"]["reason"]) == ("anna", "asked for")
    assert house.requests("GET", f"{known.recording_id}.mp3") == []


def test_a_hold_and_the_time_to_keep_it_are_known_again_after_redis_was_emptied(local):
    house = house_of(local, survey=False)
    known = unannounced(house)
    began = datetime.fromtimestamp(known.started_at, UTC)
    key = f"{ACCOUNT}/{began:%Y/%m/%d}/{known.recording_id}.mp3"
    archive, until_ = house.worker.archive, datetime.now(UTC) + timedelta(days=300)
    part = archive.spool.create("part", 7)
    part.write_bytes(b"audio")
    archive.publish(part, key, hashlib.sha256(b"audio").hexdigest())
    retain = {"rule": "a year", "until": until_.isoformat()}
    media = {"container": "mp3", "codec": "mp3", "sha256": hashlib.sha256(b"audio").hexdigest()}
    receipt = receipt_of(key, b"audio", retain=retain)
    archive.publish_receipt(key, receipt | {"media": receipt["media"] | media})
    hold = Fact(
        account=ACCOUNT, recording_id=known.recording_id, kind=FactKind.HOLD, at=began, who="anna"
    )
    fact_files.add(archive.store, archive.signer, hold)
    house.survey = True
    assert house.reach(known.recording_id, "archived")["held"] is True
    owed = obligation(Duty.ERASE, known.call_uuid, known.recording_id)
    until(lambda: redis_view.due_at(house.ledger, owed))
    assert abs(redis_view.due_in_s(house.ledger, owed) - 300 * 86400) < 60


@pytest.mark.xdist_group("s3")
def test_a_bucket_that_is_away_is_not_asked_row_by_row_and_what_is_new_is_taken_up(
    local, s3, monkeypatch
):
    house = house_of(local, ENDTAPE_ARCHIVE=s3.place().url, **s3.variables())
    asked = []
    monkeypatch.setattr(survey_rows, "archived_before", lambda *what: asked.append(what))
    trials.failed(house.ledger, trials.on_this_machine("archive"), "it does not answer")
    recording = unannounced(house)
    surveyed(house)
    house.reach(recording.recording_id, "archived")
    assert asked == []


def test_a_restart_beside_an_empty_ledger_takes_the_oldest_archived_day_for_the_first_start(local):
    house = house_of(local, survey=False)
    day = datetime.now(UTC) - timedelta(days=3)
    place = house.folder / "archive" / ACCOUNT / day.strftime("%Y/%m/%d")
    place.mkdir(parents=True)
    (place / "r1.wav").write_bytes(b"x")
    missed, older = unannounced(house, ago_s=86400), unannounced(house, ago_s=5 * 86400)
    house.survey = True
    house.reach(missed.recording_id, "archived")
    assert house.ledger.first_start() == day.replace(hour=0, minute=0, second=0, microsecond=0)
    assert phases(house, [older]) == {None}


def test_what_was_archived_longer_ago_than_the_history_stays_forgotten(local):
    house = house_of(local, ENDTAPE_HISTORY="1s", every="1")
    recording = unannounced(house)
    house.reach(recording.recording_id, "archived")
    until(lambda: not house.ledger.events(ACCOUNT, recording.call_uuid), 6)
    surveyed(house)
    surveyed(house)
    assert house.ledger.events(ACCOUNT, recording.call_uuid) == []
    assert "restored" not in healed(house)


# Calls seen live ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_live_call_that_nobody_announced_is_taken_up_where_a_rule_watches_and_only_there(local):
    house = house_of(local, WATCH, every="1")
    watched = house.provider.call(to_number="918050000001").call_uuid
    other = house.provider.call(to_number="918060000001").call_uuid
    until(lambda: house.call(watched).found_live_at)
    surveyed(house)
    surveyed(house)
    call = house.call(watched)
    assert house.kinds(watched) == [Kind.CALL_FOUND_LIVE]
    assert (call.to_number, call.from_number, call.direction) == (
        "918050000001",
        "919820055512",
        "inbound",
    )
    assert house.kinds(other) == []
    assert len(house.requests("GET", other)) == 1  # asked once, remembered while it lives
    assert healed(house) == {"watched": 1}


def test_a_watched_call_is_stopped_so_long_after_first_sight_and_its_recording_is_archived(local):
    house = house_of(
        local,
        WATCH.replace("[[rules]]", 'confirm_within = "1s"\n[[rules]]') + 'max_duration = "2s"\n',
    )
    house.provider.faults.switch_on("lost-callbacks")
    call = house.provider.call(to_number="918050000001").call_uuid
    recording = house.provider.record(call)
    seen_at = until(lambda: house.call(call).found_live_at)
    until(lambda: recording.ended_at)
    assert 2 <= recording.ended_at - seen_at.timestamp() < 3
    assert recording.end_reason == "StoppedByAPI"
    house.reach(recording.recording_id, "archived")
    assert [e["body"] for e in house.requests("DELETE", call)] == [""]
    assert "StopUnknown" not in house.alerts()


def test_a_watched_call_that_ends_before_its_deadline_is_forgotten_without_an_alert(local):
    house = house_of(
        local,
        WATCH.replace("[[rules]]", 'confirm_within = "1s"\n[[rules]]') + 'max_duration = "4s"\n',
    )
    house.provider.faults.switch_on("lost-callbacks")
    call = house.provider.call(to_number="918050000001").call_uuid
    until(lambda: house.call(call).found_live_at)
    house.provider.hangup(call)
    until(lambda: house.call(call).claimed_over_at, 6)
    until(lambda: house.ledger.outstanding() == 0)
    assert (house.requests("DELETE", call), house.alerts()) == ([], {})


def test_a_call_that_was_announced_is_no_stranger(local):
    house = house_of(local, WATCH, survey=False)
    call = house.provider.call(to_number="918050000001", announce=True).call_uuid
    leg = house.provider.dial(call, "918065550199")
    house.provider.calls[leg] = house.provider.calls[call]
    until(lambda: house.ledger.a_leg(ACCOUNT, leg) == call)
    house.survey = True
    surveyed(house)
    surveyed(house)
    assert Kind.CALL_FOUND_LIVE not in house.kinds(call)
    assert house.kinds(leg) == []


def test_without_a_rule_that_watches_no_live_call_is_asked_about(local):
    house = house_of(local)
    call = house.provider.call().call_uuid
    surveyed(house)
    surveyed(house)
    assert house.requests("GET", call) == []


# `endtape reconcile` ────────────────────────────────────────────────────────────────────────────────────────────────


def test_reconcile_surveys_at_once_without_a_running_service_and_tells_what_it_found(local):
    house = house_of(local, survey=False)
    made = [unannounced(house) for _ in range(3)]
    heard = []
    (report,) = reconcile.run(
        house.settings, house.ledger, wait_s=10, progress=lambda *progress: heard.append(progress)
    )
    assert (report.account, report.problem, report.found["listed"]) == (ACCOUNT, None, 3)
    assert heard[-1][:2] == (2, 2)
    until(lambda: phases(house, made) == {"archived"})
    (again,) = reconcile.run(house.settings, house.ledger, wait_s=10, progress=lambda *_: None)
    assert (again.problem, again.found["listed"], again.found["rows"]) == (None, 0, 3)


def test_reconcile_says_why_it_could_not(local):
    house = house_of(local, survey=False, provider_accounts={ACCOUNT: "not what we think"})
    (report,) = reconcile.run(house.settings, house.ledger, wait_s=10, progress=lambda *_: None)
    assert "halted" in report.problem
