"""The provider's copy goes only after ours was read back, whatever dies in between, and never
while the recording is held.
"""

from datetime import timedelta

import pytest

from tests import redis_view
from tests.constants import ACCOUNT
from tests.waiting import until
from worker.archive import fact_files
from worker.archive.facts import Fact, FactKind
from worker.calls.obligations import Duty, Obligation
from worker.calls.replay import replay
from worker.calls.rules_file import read
from worker.catalogue.rebuild import row_of
from worker.duties import offload
from worker.errors import Conflict
from worker.governing import facts, holds, subject
from worker.governing.subject import By
from worker.ledger.obligations import Claim
from worker.vobiz.client import Vobiz

RULES = '[defaults]\nmax_duration = "1h"\nkeep_at_provider = "{}"\n'


class Died(BaseException):
    """The process was killed."""


@pytest.fixture
def house(local):
    return local(rules=RULES.format("30d"))


def archived(house):
    """A recording that is home, by its id, and what is owed for it."""
    call = house.provider.call().call_uuid
    recording = house.provider.record(call).recording_id
    house.reach(recording, "recording")
    house.provider.hangup(call)
    house.reach(recording, "archived")
    return recording, Obligation(
        duty=Duty.OFFLOAD, account=ACCOUNT, call_uuid=call, recording_id=recording
    )


def step(house, owed):
    """One step of a worker that the time of `keep_at_provider` does not keep waiting."""
    call = replay(ACCOUNT, owed.call_uuid, house.ledger.events(ACCOUNT, owed.call_uuid))
    task = offload._Task(
        worker=house.worker,
        claim=Claim(obligation=owed, fence=0),
        call=call,
        recording=call.recordings[owed.recording_id],
        now=house.ledger.now(),
        check_lease=lambda: None,
    )
    return offload._offload(task)


def is_at_provider(house, recording):
    return house.provider.ready(ACCOUNT, recording) is not None


def told(house, recording):
    """Of each fact about the provider's copy, whether it says that the copy is gone."""
    known = fact_files.read_all(house.worker.archive.store, ACCOUNT, recording)
    return [f.particulars["gone"] for f in known if f.kind is FactKind.DELETED_AT_PROVIDER]


def says(house, recording, kind):
    fact = Fact(
        account=ACCOUNT, recording_id=recording, kind=kind, at=house.ledger.now(), who="anna"
    )
    return facts.write(house.worker, fact)


def altered(house, recording):
    audio = house.folder / "archive" / house.recording(recording)["archive_key"]
    audio.chmod(0o600)
    audio.write_bytes(audio.read_bytes()[:-1] + b"x")


def test_the_providers_copy_goes_after_ours_was_read_back_and_the_money_saved_is_told(local):
    house = local(rules=RULES.format("0s"))
    recording, owed = archived(house)
    view = until(lambda: (v := house.recording(recording))["deleted_at_provider"] and v)
    assert not is_at_provider(house, recording)
    assert told(house, recording) == [False, True]
    assert (view["saved_per_month"], view["provider_keeps_until"]) == (0.005, None)
    row = until(
        lambda: (
            (r := house.worker.catalogue.find(recording)) and r.view["deleted_at_provider"] and r
        ),
        15,
    )
    assert row.view == house.recording(recording)
    assert row_of(house.worker.archive, row.key) == row
    (figures,) = house.get("/v1/ledger").json()["rows"]
    assert figures["deleted_at_provider"]["recordings"] == [recording]
    assert figures["saved_per_month"] == 0.005
    assert house.ledger.next_at(owed) is None


def test_it_is_owed_when_the_time_at_the_provider_is_over_and_not_without_the_rule(house, local):
    recording, owed = archived(house)
    at = until(lambda: house.ledger.next_at(owed))
    assert timedelta(days=29) < at - house.ledger.now() <= timedelta(days=30)
    house.ledger.make_due_now(owed)  # as after a reload with a longer time
    until(lambda: house.ledger.next_at(owed) > house.ledger.now() + timedelta(days=29))
    assert is_at_provider(house, recording)


def test_rules_that_are_new_also_concern_what_was_archived_before_them(local):
    house = local(rules='[defaults]\nmax_duration = "1h"\n')
    recording, owed = archived(house)
    assert house.ledger.next_at(owed) is None
    offload.owe_by_rules(house.worker)
    assert house.ledger.next_at(owed) is None
    for keep in ("30d", "7d"):  # the earlier one counts
        house.reload(rules=read(RULES.format(keep), "endtape.toml").rules)
        offload.owe_by_rules(house.worker)
    at = house.ledger.next_at(owed)
    assert timedelta(days=6) < at - house.ledger.now() <= timedelta(days=7)
    redis_view.forget_due(house.ledger, owed)
    offload.owe_by_rules(house.worker)  # the rules are not new
    assert house.ledger.next_at(owed) is None
    house.reload(rules=read(RULES.format("0s"), "endtape.toml").rules)
    offload.owe_by_rules(house.worker)
    until(lambda: not is_at_provider(house, recording))


def test_a_copy_of_ours_that_is_not_what_the_receipt_says_keeps_the_providers(house):
    recording, owed = archived(house)
    altered(house, recording)
    with pytest.raises(Conflict):
        step(house, owed)
    assert is_at_provider(house, recording)
    assert told(house, recording) == []


def test_while_it_is_held_nothing_is_deleted_and_after_the_release_it_goes(house):
    recording, owed = archived(house)
    says(house, recording, FactKind.HOLD)
    assert step(house, owed)[0] is None
    assert is_at_provider(house, recording)
    says(house, recording, FactKind.RELEASE)
    assert step(house, owed)[0].particulars["gone"]
    assert not is_at_provider(house, recording)


def test_a_release_makes_due_at_once_what_the_hold_put_off(local):
    house = local(rules=RULES.format("1s"))
    recording, owed = archived(house)
    by, known = (
        By(who="anna", reason="a case"),
        lambda: subject.find(house.worker, [ACCOUNT], recording),
    )
    holds.hold(house.worker, known(), by)
    until(lambda: redis_view.due_in_s(house.ledger, owed) > 3000)
    assert is_at_provider(house, recording)
    holds.release(house.worker, known(), by)
    until(lambda: not is_at_provider(house, recording))


HOLDS = [
    (offload, "read_back"),
    (offload, "not_yet"),
    (facts, "write"),
]


@pytest.mark.parametrize(("place", "name"), HOLDS, ids=[name for _, name in HOLDS])
def test_a_hold_at_any_step_before_the_deletion_is_decided_keeps_the_providers_copy(
    house, monkeypatch, place, name
):
    recording, owed = archived(house)
    do = getattr(place, name)

    def beaten(*given, **more):
        monkeypatch.setattr(place, name, do)
        says(house, recording, FactKind.HOLD)
        return do(*given, **more)

    monkeypatch.setattr(place, name, beaten)
    assert step(house, owed)[0] is None
    assert is_at_provider(house, recording)


CRASHES = [
    (offload, "read_back", False),
    (offload, "read_back", True),
    (facts, "write", False),
    (facts, "write", True),
    (Vobiz, "delete_recording", False),
    (Vobiz, "delete_recording", True),
    (Vobiz, "get_recording", True),
    (fact_files, "add", True),
]


def test_a_worker_may_die_at_any_step_and_what_is_deleted_was_read_back(house, monkeypatch):
    good, read_back, delete = set[str](), offload.read_back, Vobiz.delete_recording

    def reading(worker, key, sha256):
        read_back(worker, key, sha256)
        good.add(key.rpartition("/")[2].partition(".")[0])

    def deleting(self, account, recording_id):
        assert recording_id in good
        delete(self, account, recording_id)

    monkeypatch.setattr(offload, "read_back", reading)
    monkeypatch.setattr(Vobiz, "delete_recording", deleting)
    for place, name, after in CRASHES:
        recording, owed = archived(house)
        with monkeypatch.context() as patch:
            do = getattr(place, name)

            def dying(*given, do=do, after=after, **more):
                if after:
                    do(*given, **more)
                raise Died

            patch.setattr(place, name, dying)
            with pytest.raises(Died):
                step(house, owed)
        assert is_at_provider(house, recording) or recording in good, (name, after)
        gone, again_at = step(house, owed)
        assert (gone.particulars["saved_per_month"], again_at) == (0.005, None), (name, after)
        assert not is_at_provider(house, recording)
        assert told(house, recording)[-1] is True
        stands = told(house, recording)
        assert step(house, owed)[0] == gone
        assert told(house, recording) == stands


def test_where_an_erasing_has_begun_the_offload_leaves_the_rest_to_it(house):
    recording, owed = archived(house)
    says(house, recording, FactKind.ERASE)
    assert step(house, owed) == (None, None)
    assert (is_at_provider(house, recording), told(house, recording)) == (True, [])


def test_a_copy_that_the_provider_deleted_by_itself_is_no_saving_of_ours(house):
    recording, owed = archived(house)
    house.provider.book.delete_recording(house.provider.ready(ACCOUNT, recording))
    assert step(house, owed) == (None, None)
    assert told(house, recording) == []
