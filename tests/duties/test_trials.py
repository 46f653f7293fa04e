"""What does not work is told at once, from the last outcome, and goes by itself when it works
again."""

import os
import stat
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests import redis_view
from tests.bad_days import ended
from tests.constants import ACCOUNT
from tests.s3 import Whims
from tests.waiting import until
from worker.duties import trials
from worker.duties.trials import Trials

ROLES = ("stops", "fetches", "keep", "clock")


def ready(house):
    for role in ROLES:  # a busy machine takes longer than a heartbeat is good for
        house.ledger.seen(role, "test")
    answer = house.get("/readyz")
    return answer.status_code, [
        line for line in answer.text.splitlines() if line.startswith("degraded: ")
    ]


@pytest.fixture
def house(local):
    return local()


def trial(house, **how):
    found = Trials(house.ledger, lambda: replace(house.settings, **how), lambda: False)
    redis_view.forget_turn(house.ledger, "trial", ACCOUNT)
    return found.turn()


def in_the_way(place):
    """A file where a directory is to be: also root cannot write into it."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.exists():
        place.rename(f"{place}.aside")
    place.write_text("")


def out_of_the_way(place):
    place.unlink()
    aside = Path(f"{place}.aside")
    if aside.exists():
        aside.rename(place)


def test_where_all_works_nothing_is_left_behind_and_what_was_made_is_the_owners_only(house):
    assert trial(house)
    assert (ready(house), house.alerts()) == ((200, []), {})
    for place, kept in ((house.settings.archive, ["allowed_signers"]), (house.settings.spool, [])):
        assert [found.name for found in place.iterdir()] == kept
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert [e["path"].rpartition("/")[2] for e in house.requests("GET", "auth/me")] == ["me"]


@pytest.mark.parametrize("what", ["archive", "spool"])
def test_a_place_that_cannot_be_written_is_an_alert_and_a_line_that_goes_when_it_can(house, what):
    place = getattr(house.settings, what)
    in_the_way(place)
    assert not trial(house)
    assert ready(house) == (200, [f"degraded: {what}: Not a directory"])
    assert house.alerts() == {"degraded": 1}
    assert not trial(house)
    assert house.alerts() == {"degraded": 1}  # once a minute, by all processes together
    out_of_the_way(place)
    assert trial(house)
    assert ready(house) == (200, [])


def test_the_folder_that_todays_recordings_go_to_is_tried_as_well(house):
    today = house.settings.archive / ACCOUNT / time.strftime("%Y/%m/%d", time.gmtime())
    today.mkdir(parents=True)
    os.utime(today, (0, 0))
    assert trial(house)
    assert (today.stat().st_mtime > 0, list(today.iterdir())) == (True, [])


def test_a_full_disk_is_told_as_such(house, monkeypatch):
    monkeypatch.setattr(trials, "FLOOR_BYTES", 2**60)
    assert not trial(house)
    assert ready(house)[1] == [
        f"degraded: archive: the disk is full: less than {2**60} bytes are left",
        f"degraded: spool: the disk is full: less than {2**60} bytes are left",
    ]


@pytest.mark.parametrize("what", ["archive", "spool"])
def test_a_recording_that_cannot_be_stored_tells_and_one_that_is_stored_takes_it_back(house, what):
    place = getattr(house.settings, what)
    in_the_way(place)
    _, recording = ended(house)
    until(lambda: ready(house) == (200, [f"degraded: {what}: Not a directory"]))
    until(lambda: house.alerts().get("degraded", 0) == 1)
    out_of_the_way(place)
    house.reach(recording.recording_id, "archived")
    assert ready(house) == (200, [])


def test_a_link_from_the_spool_that_the_archive_refuses_is_told_of_the_archive(house):
    with pytest.raises(OSError, match="too long") as refused:
        house.worker.archive.store.create(f"{ACCOUNT}/{'x' * 300}", b"x")
    assert refused.value.filename.startswith(str(house.settings.spool))
    trials.no_room(house.ledger, house.settings, refused.value)
    assert ready(house) == (200, ["degraded: archive: File name too long"])


def test_credentials_that_are_refused_and_a_provider_that_is_silent_are_told_until_that_is_over(
    house,
):
    house.provider.faults.switch_on("refuse-auth", me=True)
    assert not trial(house)
    assert ready(house) == (
        200,
        ["degraded: credentials: the provider refuses those of 1 of 1 accounts"],
    )
    assert house.alerts() == {"account_halted": 1}
    house.provider.faults.clear()
    assert trial(house)
    assert ready(house) == (200, [])
    assert not trial(house, api_url="http://127.0.0.1:1/api/v1")
    assert ready(house) == (200, ["degraded: provider: its API does not answer"])
    assert trial(house)
    assert ready(house) == (200, [])


def test_a_place_that_does_not_answer_is_told_and_not_tried_by_one_thread_after_the_other(
    house, monkeypatch
):
    pipe = house.folder / "hangs"
    os.mkfifo(pipe)
    monkeypatch.setattr(trials, "_ANSWER_S", 0.1)
    monkeypatch.setattr(
        trials, "store", lambda *_: pipe.open("rb").close()
    )  # until somebody writes
    found = Trials(house.ledger, lambda: house.settings, lambda: False)
    assert not found.turn()
    assert not found.turn()
    assert ready(house)[1] == [
        "degraded: archive: does not answer within 0 s",
        "degraded: spool: does not answer within 0 s",
    ]
    assert len(found._hanging) == 2
    monkeypatch.setattr(trials, "store", lambda *_: None)
    monkeypatch.setattr(trials, "_ANSWER_S", 20.0)  # what does not hang may take its time
    while not all(hanging.ended(0.01) for hanging in found._hanging.values()):
        os.close(os.open(pipe, os.O_RDWR))
    assert found.turn()
    assert ready(house) == (200, [])


def test_a_line_that_nobody_repeats_is_forgotten(house):
    redis_view.degrade_earlier(house.ledger, "archive@gone", "its machine is off", seconds=121)
    assert ready(house) == (200, [])


def test_what_is_missing_comes_first_and_is_503_whatever_is_degraded_besides(house):
    for role in ("stops", "fetches"):
        house.ledger.seen(role, "test")
    trials.failed(house.ledger, "archive@here", "it is off")
    answer = house.get("/readyz")
    assert (answer.status_code, answer.text) == (
        503,
        "missing: keep, clock\ndegraded: archive: it is off\n",
    )


# ── an archive in a bucket ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_bucket_that_refuses_is_an_alert_and_a_line_that_goes_when_it_takes_files_again(
    house, s3
):
    place = s3.place(name="not-there")
    told = "make the bucket, or correct ENDTAPE_ARCHIVE"

    def refused():  # a busy server may be too slow to say so
        assert not trial(house, archive=place)
        status, (line,) = ready(house)
        assert status == 200
        return line.startswith("degraded: archive: s3://not-there/some/prefix: ") and line.endswith(
            told
        )

    for _ in range(2):
        until(refused)
    assert house.alerts() == {"degraded": 1}
    s3.request("PUT", "not-there")
    until(lambda: trial(house, archive=place))
    assert ready(house) == (200, [])


def test_a_bucket_that_overwrites_though_asked_not_to_or_forgets_is_told(house, s3):
    with Whims(s3, lambda method, _: "deaf" if method == "PUT" else None) as proxy:
        assert not trial(house, archive=s3.place(port=proxy.port))
        assert "overwrites what stands" in ready(house)[1][0]
        proxy.whim = lambda method, _: "forget" if method == "PUT" else None
        assert not trial(house, archive=s3.place(port=proxy.port))
        assert "forgot what it took" in ready(house)[1][0]


def test_the_children_of_one_worker_take_turns_and_their_parent_uses_no_bucket(house, s3):
    settings = replace(house.settings, archive=s3.place())
    turns = [
        Trials(house.ledger, lambda: settings, lambda: False, shared=shared)._is_ours()
        for shared in (False, True, True)
    ]
    assert turns == [False, True, False]
    assert not Trials(house.ledger, lambda: house.settings, lambda: False, shared=True)._is_ours()


def test_who_has_no_turn_waits_for_the_next_one_without_spinning(house):
    asked, until_at = [], time.monotonic() + 0.3

    def settings():
        asked.append(1)
        return house.settings

    Trials(house.ledger, settings, lambda: time.monotonic() > until_at, shared=True).run()
    assert len(asked) == 1
