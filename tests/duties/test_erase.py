"""The duty ERASE, over real Redis, a real archive, SQLite and the emulator: a crash at any step, a
hold that races any step, and what may bring a copy back.
"""

import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from emulator.provider import Provider
from emulator.state import Recording, new_id
from tests import redis_view
from tests.archive.builders import receipt_of
from tests.builders import obligation, with_leases
from tests.constants import ACCOUNT, ENV, TOKEN
from tests.waiting import until
from worker.archive import erasing, fact_files, keys
from worker.archive.directory import Directory
from worker.archive.facts import Fact, FactKind, is_held
from worker.calls.events import Event, Kind
from worker.calls.obligations import Duty
from worker.calls.replay import replay
from worker.calls.views import recording_view
from worker.catalogue.database import Catalogue
from worker.catalogue.rebuild import row_of
from worker.duties import erase, index, plan_calls, trials
from worker.errors import EndtapeError, Gone, Held, TryAgain
from worker.governing import erasures, facts, holds, subject
from worker.governing.subject import By
from worker.ledger.client import Ledger
from worker.processes.composition import make_worker
from worker.settings import Settings
from worker.vobiz.client import Vobiz

FROM, TO = "919820055512", "918065550101"
BY = By(who="anna", reason="asked for by the caller")
STEPS = (
    (Directory, "create"),
    (Directory, "delete"),
    (Vobiz, "delete_recording"),
    (Vobiz, "get_recording"),
    (Catalogue, "enter"),
    (Ledger, "enter"),
    (Ledger, "owe"),
    (Ledger, "record"),
    (Ledger, "note_filed"),
    (Ledger, "commit"),
    (Ledger, "forget_numbers"),
)


class House:
    """A worker whose duties the tests start themselves, and the emulator."""

    def __init__(self, ledger, folder, provider, **given):
        env = {
            **ENV,
            "REDIS_URL": "redis://127.0.0.1:1",
            "ENDTAPE_ARCHIVE": str(folder / "archive"),
            "ENDTAPE_SPOOL": str(folder / "spool"),
            "ENDTAPE_SIGNING_KEY": str(folder / "key"),
            "ENDTAPE_API_RATE": "200",
            "VOBIZ_API_URL": provider.api_url,
            "VOBIZ_MEDIA_HOSTS": provider.media_host,
            **given,
        }
        self.ledger, self.provider = with_leases(ledger, seconds=60), provider
        self.settings = Settings.from_env(env, folder=folder)
        self.worker = make_worker(
            self.settings, self.ledger, ThreadPoolExecutor(2), first_start=ledger.prepare()
        )

    def archived(self, *, retain_until=None, began=None, archived=True):
        """The id of a recording that is over, which the provider has, and the archive too."""
        recording_id, now = new_id(), time.time()
        call = self.provider.call(from_number=FROM, to_number=TO).call_uuid
        self.provider.book.add_recording(
            Recording(
                recording_id=recording_id,
                call_uuid=call,
                account=ACCOUNT,
                container="mp3",
                channels=1,
                source="rest",
                url=f"http://{self.provider.media_host}/{recording_id}.mp3",
                callback_url="",
                started_at=now - 9,
                max_length_s=60,
                ended_at=now - 5,
                end_reason="maxLength",
                listed_at=now - 5,
            )
        )
        began = began or datetime.fromtimestamp(now - 9, UTC)
        about = {"call_uuid": call, "recording_id": recording_id}
        self.ledger.record(
            ACCOUNT,
            Event(
                id="listed",
                kind=Kind.RECORDING_LISTED,
                started_at=began,
                ended_at=began + timedelta(seconds=4),
                from_number=FROM,
                to_number=TO,
                **about,
            ),
        )
        over = Event(id="over", kind=Kind.CALL_ENDED, signed=True, call_uuid=call)
        self.ledger.record(ACCOUNT, over)
        if archived:
            self.file(about, began, retain_until)
        return call, recording_id

    def file(self, about, began, retain_until):
        archive, content = self.worker.archive, b"audio of " + about["recording_id"].encode()
        key = f"{ACCOUNT}/{began:%Y/%m/%d}/{about['recording_id']}.mp3"
        part = archive.spool.create("part", abs(hash(key)))
        with archive.spool.writing(part) as file:
            file.write(content)
        sha256 = hashlib.sha256(content).hexdigest()
        archive.publish(part, key, sha256)
        at = began.isoformat().replace("+00:00", "Z")
        more = {"from": FROM, "to": TO, "call_uuid": about["call_uuid"], "started_at": at}
        if retain_until:
            more["retain"] = {"rule": "a year", "until": retain_until.isoformat()}
        archive.publish_receipt(key, receipt_of(key, content, **more))
        archive.publish_peaks(key, b"{}")
        self.ledger.record(
            ACCOUNT,
            Event(
                id="archived",
                kind=Kind.MEDIA_ARCHIVED,
                archive_key=key,
                sha256=sha256,
                bytes=len(content),
                format="mp3",
                retain_until=retain_until,
                **about,
            ),
        )

    def known(self, recording_id):
        return subject.find(self.worker, [ACCOUNT], recording_id)

    def erases(self, *ids):
        """One step of the duty, and the plan that follows. Gives when it is due next."""
        owed = obligation(Duty.ERASE, *ids)
        redis_view.end_leases(self.ledger, owed)
        claimed = self.ledger.claim(lead=timedelta(0), batch=9, free={Duty.ERASE: 9})
        erase.erases(self.worker, claimed.claims)
        return self.ledger.next_at(owed)

    def plans(self):
        soon = timedelta(seconds=1)
        claimed = self.ledger.claim(lead=soon, batch=9, free={Duty.PLAN: 9})
        plan_calls.plan_calls(self.worker, claimed.claims)

    def erased(self, *ids):
        """Steps until nothing is due now."""
        for _ in range(9):
            self.erases(*ids)
            self.plans()
            at = self.ledger.next_at(obligation(Duty.ERASE, *ids))
            if not at or at > self.ledger.now() + timedelta(seconds=1):
                return
        raise AssertionError("it does not come to an end")

    def recording(self, call, recording_id):
        return replay(ACCOUNT, call, self.ledger.events(ACCOUNT, call)).recordings[recording_id]

    def here(self, recording_id):
        """The files of the recording in the archive, without its tombstone and its facts."""
        key = self.known(recording_id).key
        names = erasing.files_of(self.worker.archive.store, key)
        return [name for name in names if "/facts/" not in name]

    def there(self, recording_id):
        """Whether the provider has it."""
        return recording_id in self.provider.book.recordings

    def tombstone(self, recording_id):
        return self.worker.archive.tombstone(self.known(recording_id).key)

    def numbers(self, call):
        log = self.ledger.command("GET", self.ledger.call_key(ACCOUNT, call))
        return FROM in log or TO in log


@pytest.fixture
def house(ledger, tmp_path):
    with Provider(accounts={ACCOUNT: TOKEN}) as provider:
        yield House(ledger, tmp_path, provider)


class AtStep:
    """Does something just before the nth of all steps. `names`: those that were reached."""

    def __init__(self, monkeypatch):
        self.at, self.do, self.names = -1, None, []
        for kind, name in STEPS:
            self._watch(monkeypatch, kind, name)

    def _watch(self, monkeypatch, kind, name):
        real = getattr(kind, name)

        def watched(its, *args, **how):
            self.names.append(name)
            if len(self.names) - 1 == self.at:
                do, self.at = self.do, -1
                do()
            return real(its, *args, **how)

        monkeypatch.setattr(kind, name, watched)

    def arm(self, at, do):
        self.at, self.do, self.names = at, do, []


def crash():
    raise KeyboardInterrupt


@pytest.mark.parametrize("by_rule", [False, True])
def test_a_crash_at_any_step_leaves_a_tombstone_before_anything_is_gone_and_is_repaired(
    house, monkeypatch, by_rule
):
    steps, n, seen = AtStep(monkeypatch), 0, set()
    while True:
        past = datetime.now(UTC) - timedelta(seconds=1) if by_rule else None
        call, recording_id = house.archived(retain_until=past)
        whole = house.here(recording_id)
        steps.arm(n, crash)
        try:
            if not by_rule:
                erasures.order(house.worker, house.known(recording_id), BY)
            house.erased(call, recording_id)
        except KeyboardInterrupt:
            seen.add(steps.names[-1])
        crashed, steps.at = steps.at == -1 and len(steps.names) > n, -1
        if house.here(recording_id) != whole or not house.there(recording_id):
            assert house.tombstone(recording_id), n
        if not by_rule and not erasures.is_begun(house.worker, house.known(recording_id)):
            erasures.order(house.worker, house.known(recording_id), BY)  # who got no answer asks
        house.erased(call, recording_id)
        assert (house.here(recording_id), house.there(recording_id)) == ([], False), n
        assert house.recording(call, recording_id).erased, n
        assert not house.numbers(call), n
        who = "rule:a year" if by_rule else "anna"
        assert house.tombstone(recording_id)["who"] == who
        if not crashed:
            break
        n += 1
    assert n > 20
    assert seen >= {"create", "delete", "delete_recording", "get_recording", "enter", "commit"}


def test_a_hold_that_races_any_step_is_refused_or_keeps_both_copies(house, monkeypatch):
    steps, n, outcomes = AtStep(monkeypatch), 0, []
    while True:
        call, recording_id = house.archived()
        whole, answers = house.here(recording_id), []

        def hold(recording_id=recording_id, answers=answers):
            try:
                holds.hold(house.worker, house.known(recording_id), BY)
                answers.append("held")
            except Gone:
                answers.append("gone")

        known = house.known(recording_id)
        steps.arm(n, hold)
        try:
            erasures.order(house.worker, known, BY)
        except Held:
            assert answers == ["held"], n
        house.erased(call, recording_id)
        steps.at = -1
        if answers == ["held"]:
            assert (house.here(recording_id), house.there(recording_id)) == (whole, True), n
            assert house.tombstone(recording_id) is None
            assert house.recording(call, recording_id).held
        else:
            assert (house.here(recording_id), house.there(recording_id)) == ([], False), n
            assert house.recording(call, recording_id).erased
        if not answers:
            break
        outcomes += answers
        n += 1
    assert outcomes == sorted(outcomes, reverse=True)  # first it is held; from the fact on, gone
    assert {"held", "gone"} == set(outcomes)


def test_an_erasure_that_races_any_step_of_a_hold_is_refused_or_leaves_no_fact(house, monkeypatch):
    steps, n, outcomes = AtStep(monkeypatch), 0, []
    while True:
        call, recording_id = house.archived()
        known, answers = house.known(recording_id), []

        def erase_all(ids=(call, recording_id), known=known, answers=answers):
            try:
                answers.append(erasures.order(house.worker, known, BY))
            except Held:
                answers.append("held")
            house.erased(*ids)

        steps.arm(n, erase_all)
        try:
            holds.hold(house.worker, known, BY)
            held = True
        except Gone:
            held = False
        steps.at = -1
        if not answers:
            break
        assert held is (answers == ["held"]), n
        assert bool(house.here(recording_id)) is held
        assert house.there(recording_id) is held
        left = erasing.files_of(house.worker.archive.store, known.key)
        assert bool(left) is held
        outcomes += answers
        n += 1
    assert {True, "held"} == set(outcomes)


def test_what_lies_in_the_fallback_goes_too(ledger, tmp_path):
    with Provider(accounts={ACCOUNT: TOKEN}) as provider:
        house = House(
            ledger, tmp_path, provider, ENDTAPE_ARCHIVE_FALLBACK=str(tmp_path / "fallback")
        )
        call, recording_id = house.archived()
        archive = house.worker.archive
        key = house.known(recording_id).key
        for name in house.here(recording_id):
            archive.fallback.store.create(name, archive.store.read(name))
            archive.store.delete(name)
        erasures.order(house.worker, house.known(recording_id), BY)
        house.erased(call, recording_id)
        assert erasing.files_of(archive.fallback.store, key) == []
        assert house.recording(call, recording_id).erased


def test_retain_waits_for_its_time_and_a_hold_puts_it_off_until_its_end(house):
    later = datetime.now(UTC) + timedelta(hours=1)
    call, recording_id = house.archived(retain_until=later)
    due_at = house.erases(call, recording_id)
    assert abs(due_at - later) < timedelta(milliseconds=2)
    assert house.tombstone(recording_id) is None
    call, recording_id = house.archived(retain_until=datetime.now(UTC))
    holds.hold(house.worker, house.known(recording_id), BY)
    assert house.erases(call, recording_id) > datetime.now(UTC) + timedelta(minutes=50)
    assert house.here(recording_id)
    holds.release(house.worker, house.known(recording_id), BY)
    assert redis_view.due_in_s(house.ledger, obligation(Duty.ERASE, call, recording_id)) < 1
    house.erased(call, recording_id)
    tombstone = house.tombstone(recording_id)
    assert (tombstone["rule"], tombstone["who"]) == ("a year", "rule:a year")
    assert (house.here(recording_id), house.there(recording_id)) == ([], False)


def test_retain_is_what_the_receipt_says_and_nothing_else(house):
    call, recording_id = house.archived(retain_until=datetime.now(UTC))
    key = keys.parse(house.known(recording_id).key)
    store = house.worker.archive.store
    receipt = json.loads(store.read(key.receipt))
    del receipt["retain"]
    store.delete(key.receipt)
    store.create(key.receipt, json.dumps(receipt).encode())
    assert house.erases(call, recording_id) is None
    assert house.here(recording_id)


def test_what_the_provider_lists_only_after_it_was_erased_goes_too(house):
    call, recording_id = house.archived(archived=False)
    row = house.provider.book.recordings[recording_id]
    house.provider.book.delete_recording(row)
    erasures.order(house.worker, house.known(recording_id), BY)
    house.erased(call, recording_id)
    assert house.recording(call, recording_id).erased
    house.provider.book.add_recording(row)
    house.ledger.record(
        ACCOUNT,
        Event(
            id="late",
            kind=Kind.RECORDING_FINALIZED,
            signed=True,
            call_uuid=call,
            recording_id=recording_id,
            from_number=FROM,
        ),
    )
    house.plans()
    house.erased(call, recording_id)
    assert not house.there(recording_id)
    assert not house.numbers(call)


def test_an_erasure_waits_for_a_fetch_under_way_and_nothing_is_fetched_afterwards(house):
    call, recording_id = house.archived(archived=False)
    fetch = obligation(Duty.FETCH, call, recording_id)
    redis_view.make_due(house.ledger, fetch)
    house.ledger.claim(lead=timedelta(0), batch=9, free={Duty.FETCH: 9})
    erasures.order(house.worker, house.known(recording_id), BY)
    house.erases(call, recording_id)
    assert not house.recording(call, recording_id).erased
    redis_view.end_leases(house.ledger, fetch)
    house.erased(call, recording_id)
    assert house.recording(call, recording_id).erased
    house.plans()
    assert redis_view.due_at(house.ledger, fetch) is None


@pytest.mark.parametrize("duty", [Duty.OFFLOAD, Duty.INDEX, Duty.FACTS])
def test_an_erasure_waits_for_whoever_read_the_recording_before_and_writes_about_it(house, duty):
    call, recording_id = house.archived()
    other = obligation(duty, call, recording_id if duty is Duty.OFFLOAD else None)
    redis_view.make_due(house.ledger, other)
    house.ledger.claim(lead=timedelta(0), batch=9, free={duty: 9})
    erasures.order(house.worker, house.known(recording_id), BY)
    for _ in range(3):
        again = house.erases(call, recording_id)
    assert (len(house.here(recording_id)), house.there(recording_id)) == (4, True)
    assert again < datetime.now(UTC) + timedelta(seconds=5)
    redis_view.end_leases(house.ledger, other)
    house.erased(call, recording_id)
    assert house.recording(call, recording_id).erased


def test_a_fact_written_by_who_stood_still_while_the_recording_was_erased_is_taken_back(house):
    call, recording_id = house.archived()
    key = house.known(recording_id).key
    erasures.order(house.worker, house.known(recording_id), BY)
    house.erased(call, recording_id)
    kind, now = FactKind.DELETED_AT_PROVIDER, house.ledger.now()
    late = Fact(account=ACCOUNT, recording_id=recording_id, kind=kind, at=now, who="rule:x")
    with pytest.raises(Gone):
        facts.write(house.worker, late, key=key)
    assert erasing.files_of(house.worker.archive.store, key) == []


def test_a_hold_is_answered_once_no_offload_is_under_way_that_has_not_seen_it(house, monkeypatch):
    call, recording_id = house.archived()
    offload = obligation(Duty.OFFLOAD, call, recording_id)
    redis_view.make_due(house.ledger, offload)
    house.ledger.claim(lead=timedelta(0), batch=9, free={Duty.OFFLOAD: 9})
    kind, now, store = FactKind.DELETED_AT_PROVIDER, house.ledger.now(), house.worker.archive.store
    announced = Fact(
        account=ACCOUNT,
        recording_id=recording_id,
        kind=kind,
        at=now,
        who="rule:x",
        particulars={"gone": False},
    )
    facts.write(house.worker, announced)
    with ThreadPoolExecutor(1) as crew:
        answer = crew.submit(holds.hold, house.worker, house.known(recording_id), BY)
        until(lambda: is_held(fact_files.read_all(store, ACCOUNT, recording_id)))
        with pytest.raises(TimeoutError):
            answer.result(0.2)  # the deletion that was announced may still leave
        redis_view.end_leases(house.ledger, offload)
        answer.result(5)
    redis_view.make_due(house.ledger, offload)
    house.ledger.claim(lead=timedelta(0), batch=9, free={Duty.OFFLOAD: 9})
    monkeypatch.setattr(holds, "_WAIT_S", 0.1)
    with pytest.raises(TryAgain):
        holds.hold(house.worker, house.known(recording_id), BY)


def test_who_repeats_a_release_that_died_half_way_makes_due_what_the_hold_put_off(
    house, monkeypatch
):
    call, recording_id = house.archived(retain_until=datetime.now(UTC))
    holds.hold(house.worker, house.known(recording_id), BY)
    house.erases(call, recording_id)
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "make_due_now", lambda *_: crash())
        with pytest.raises(KeyboardInterrupt):
            holds.release(house.worker, house.known(recording_id), BY)
    owed = obligation(Duty.ERASE, call, recording_id)
    assert redis_view.due_in_s(house.ledger, owed) > 3000
    assert holds.release(house.worker, house.known(recording_id), BY) is None
    assert redis_view.due_in_s(house.ledger, owed) < 1


def test_numbers_of_a_call_stay_as_long_as_it_has_another_recording(house):
    call, recording_id = house.archived()
    house.ledger.record(
        ACCOUNT,
        Event(id="o", kind=Kind.RECORDING_LISTED, call_uuid=call, recording_id="other"),
    )
    erasures.order(house.worker, house.known(recording_id), BY)
    house.erased(call, recording_id)
    assert (house.recording(call, recording_id).erased is not None, house.numbers(call)) == (
        True,
        True,
    )


@pytest.mark.parametrize("archived", [True, False])
def test_every_view_of_an_erased_recording_tells_the_same_of_its_stop(archived, house):
    began = house.ledger.now() - timedelta(seconds=9)
    call, recording_id = house.archived(began=began, archived=archived)
    accepted = Event(
        id="stopped",
        kind=Kind.STOP_ACCEPTED,
        call_uuid=call,
        recording_id=recording_id,
        requested_at=began + timedelta(seconds=3),
        due_at=began + timedelta(seconds=3),
        trigger="max_duration",
        rule="short",
    )
    house.ledger.record(ACCOUNT, accepted)
    erasures.order(house.worker, house.known(recording_id), BY)
    house.erased(call, recording_id)
    log = replay(ACCOUNT, call, house.ledger.events(ACCOUNT, call))
    now, rules = house.ledger.now(), house.worker.rules
    shown = recording_view(log, log.recordings[recording_id], rules, now)["stop"]
    row = house.worker.catalogue.find(recording_id)
    rebuilt = row_of(house.worker.archive, row.key)
    assert (shown["state"], shown["trigger"], shown["tail_ms"]) == (
        "confirmed",
        "max_duration",
        1000,
    )
    assert shown == row.view["stop"] == rebuilt.view["stop"]


def test_while_the_provider_refuses_the_rest_is_gone_and_it_is_asked_again(house):
    call, recording_id = house.archived()
    account = house.worker.settings.accounts.pop(ACCOUNT)
    erasures.order(house.worker, house.known(recording_id), BY)
    for _ in range(3):
        again = house.erases(call, recording_id)
    assert (house.here(recording_id), house.there(recording_id)) == ([], True)
    assert (house.recording(call, recording_id).erased, again is not None) == (None, True)
    house.worker.settings.accounts[ACCOUNT] = account
    house.erased(call, recording_id)
    assert (house.recording(call, recording_id).erased is not None, house.there(recording_id)) == (
        True,
        False,
    )


def test_an_error_of_the_provider_counts_neither_as_a_deletion_nor_as_a_look(house):
    faults = house.provider.faults
    call, recording_id = house.archived()
    erasures.order(house.worker, house.known(recording_id), BY)
    for route in ("delete-recording", "get-recording"):
        faults.switch_on("api-5xx", route=route)
        redis_view.make_due(house.ledger, obligation(Duty.ERASE, call, recording_id))
        for _ in range(3):
            again = house.erases(call, recording_id)
        assert again > house.ledger.now() + timedelta(seconds=20)
        assert house.recording(call, recording_id).erased is None
        faults.clear()
    redis_view.make_due(house.ledger, obligation(Duty.ERASE, call, recording_id))
    house.erased(call, recording_id)
    assert house.recording(call, recording_id).erased
    assert not house.there(recording_id)


def test_while_the_rate_is_used_up_nothing_is_asked_and_it_comes_back(house):
    call, recording_id = house.archived()
    erasures.order(house.worker, house.known(recording_id), BY)
    usual = house.worker.settings
    house.worker.settings = replace(usual, api_rate=1.0)
    while house.ledger.take("api", ACCOUNT, 100, 1.0)[0]:
        pass
    again = house.erases(call, recording_id)
    assert (len(house.here(recording_id)), house.there(recording_id)) == (4, True)
    assert again < datetime.now(UTC) + timedelta(seconds=5)
    house.worker.settings = usual
    until(lambda: house.erases(call, recording_id) and not house.here(recording_id))
    house.erased(call, recording_id)
    assert house.recording(call, recording_id).erased


def test_an_archive_that_is_away_is_not_asked_and_what_waits_is_released(house):
    call, recording_id = house.archived()
    erasures.order(house.worker, house.known(recording_id), BY)
    what = trials.on_this_machine("archive")
    trials.failed(house.ledger, what, "it does not answer")
    assert house.erases(call, recording_id) > house.ledger.now() + timedelta(seconds=20)
    assert house.here(recording_id)
    trials.worked(house.ledger, what)
    house.ledger.release_waiting()
    assert redis_view.due_in_s(house.ledger, obligation(Duty.ERASE, call, recording_id)) < 1
    house.erased(call, recording_id)
    assert house.here(recording_id) == []


def test_a_restored_backup_is_erased_again_by_the_command(house):
    call, recording_id = house.archived()
    store = house.worker.archive.store
    backup = {name: store.read(name) for name in house.here(recording_id)}
    erasures.order(house.worker, house.known(recording_id), BY)
    house.erased(call, recording_id)
    assert erasures.order(house.worker, house.known(recording_id), BY) is False
    for name, content in backup.items():
        store.create(name, content)
    assert erasures.order(house.worker, house.known(recording_id), BY) is True
    house.erased(call, recording_id)
    assert house.here(recording_id) == []


def test_an_archive_that_cannot_be_asked_about_holds_deletes_nothing(house):
    call, recording_id = house.archived(retain_until=datetime.now(UTC))
    store = house.worker.archive.store
    store.create(f"{ACCOUNT}/facts/{recording_id}/1.json", b"{}")
    with pytest.raises(EndtapeError):
        erasures.order(house.worker, house.known(recording_id), BY)
    assert house.erases(call, recording_id) > datetime.now(UTC)
    assert (len(house.here(recording_id)), house.there(recording_id)) == (4, True)


def test_a_time_to_keep_that_an_emptied_redis_forgot_is_put_down_again_from_the_catalogue(house):
    ids = [house.archived(retain_until=datetime.now(UTC) + timedelta(hours=n)) for n in (1, 9)]
    for _, recording_id in ids:
        row = row_of(house.worker.archive, house.known(recording_id).key)
        house.worker.catalogue.enter([row])
    erase.owe_missed(house.worker)
    due = [house.ledger.next_at(obligation(Duty.ERASE, *one)) for one in ids]
    assert (due[0] is not None, due[1]) == (True, None)


def test_an_erasure_that_was_begun_goes_on_after_redis_was_emptied(house):
    call, recording_id = house.archived()
    house.provider.book.delete_recording(house.provider.book.recordings[recording_id])  # offloaded
    house.worker.catalogue.enter([row_of(house.worker.archive, house.known(recording_id).key)])
    erasures.order(house.worker, house.known(recording_id), BY)
    redis_view.erase(house.ledger)
    house.ledger.prepare()
    erase.owe_missed(house.worker)
    assert house.ledger.next_at(obligation(Duty.ERASE, call, recording_id)) is not None
    house.erased(call, recording_id)
    assert house.here(recording_id) == []
    erase.owe_missed(house.worker)
    assert house.ledger.next_at(obligation(Duty.ERASE, call, recording_id)) is None


def test_the_catalogue_shows_what_stands_while_it_is_erased_and_afterwards(house):
    call, recording_id = house.archived()
    owed = obligation(Duty.INDEX, call)
    redis_view.make_due(house.ledger, owed)
    claimed = house.ledger.claim(lead=timedelta(0), batch=9, free={Duty.INDEX: 9})
    index.indexes(house.worker, claimed.claims)
    redis_view.drop_log(house.ledger, ACCOUNT, call)
    house.ledger.forget(ACCOUNT)
    assert house.known(recording_id).is_live is False
    erasures.order(house.worker, house.known(recording_id), BY)
    row = house.worker.catalogue.find(recording_id)
    assert (row.view["phase"], row.view["problem"]) == ("archived", "it is being erased")
    assert TO not in json.dumps([row.view, row.columns])
    looked = Event(id="look", kind=Kind.LOOKED, call_uuid=call)  # says nothing of the recording
    house.ledger.record(ACCOUNT, looked)
    assert house.erases(call, recording_id) is None  # done at once, and once
    row = house.worker.catalogue.find(recording_id)
    assert (row.view["phase"], row.view["problem"]) == ("erased", None)
    assert (house.here(recording_id), house.there(recording_id)) == ([], False)
