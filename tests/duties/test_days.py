"""Days are closed in order, whatever dies in between, and say what was filed and done."""

import hashlib
import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.builders import obligation
from tests.catalogue.builders import receipt
from tests.constants import ACCOUNT
from tests.days import House
from worker.archive import days, history_file
from worker.archive.directory import Directory
from worker.archive.facts import Fact, FactKind
from worker.calls.history import Deed
from worker.calls.notices import Endpoint
from worker.calls.obligations import Duty
from worker.catalogue import rows
from worker.catalogue.database import Catalogue
from worker.duties import clocks, notify
from worker.duties import days as duty
from worker.governing import facts
from worker.ledger.codec import to_ms
from worker.ledger.daybook import end_of


@pytest.fixture
def house(ledger, tmp_path):
    return House(ledger, tmp_path)


def test_every_day_is_closed_from_the_first_on_the_empty_ones_too_in_order_and_chained(house):
    first, second, third = house.yesterdays(3)
    house.files(first, "rec-1")
    house.files(third, "rec-2")
    house.does(first)
    house.does(third, Deed.RETRY, reason="call 918065550101 again", claimed="eve 4915112345678")
    due = house.close()
    assert due == end_of(house.today) + duty.AFTER
    said = [house.day(day) for day in (first, second, third)]
    assert [one["counts"]["archived"] for one in said] == [1, 0, 1]
    assert [one["history"]["entries"] for one in said] == [1, 0, 1]
    assert said[0]["before"] is None
    for before, after in zip((first, second), said[1:], strict=True):
        content = (house.root / days.day_name(before)).read_bytes()
        assert after["before"] == {
            "day": before.isoformat(),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
    assert said[0]["history"]["head"] == said[1]["history"]["head"] != said[2]["history"]["head"]
    assert not (house.root / days.history_name(second)).exists()
    assert (house.ledger.filed(ACCOUNT, until=house.ledger.now()), house.close()) == ([], due)
    line = json.loads((house.root / days.history_name(third)).read_text())
    assert (line["reason"], line["claimed"]) == ("call … again", "eve …")
    assert line["prev"] == said[1]["history"]["head"]


def test_a_stranger_checks_a_day_with_ssh_keygen_and_sha256sum(house):
    (day,) = house.yesterdays(1)
    house.files(day, "rec-1")
    house.does(day)
    house.close()
    keys, name = house.allowed_signers(), house.settings.signer
    for file, namespace in (
        (days.list_name(day), "endtape-day"),
        (days.day_name(day), "endtape-day"),
        (days.history_name(day), "endtape-history"),
        (f"{day:%Y/%m/%d}/rec-1.json", "endtape-receipt"),
    ):
        verify = f"ssh-keygen -Y verify -f {keys} -I {name} -n {namespace} -s {file}.sig < {file}"
        assert (
            subprocess.run(verify, shell=True, cwd=house.root, capture_output=True, check=False)
        ).returncode == 0, file
    check = ["sha256sum", "--check", "--strict", "--ignore-missing", days.list_name(day)]
    found = subprocess.run(check, cwd=house.root, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout.count(": OK")) == (0, 2), found.stderr
    (house.root / f"{day:%Y/%m/%d}/rec-1.mp3").write_text("other")
    assert subprocess.run(check, cwd=house.root, capture_output=True, check=False).returncode == 1


class Died(BaseException):
    """The process was killed."""


def dying_at(point, *, after):
    """`Directory.create` of a process that dies at this file of a day, or right after it."""
    create, seen = Directory.create, []

    def dying(self, name, data):
        seen.append(name)
        if len(seen) == point and not after:
            raise Died
        create(self, name, data)
        if len(seen) == point:
            raise Died

    return dying


CRASHES = [("create", point, after) for point in range(1, 7) for after in (False, True)]
CRASHES += [("forget_day", 0, False), ("set_closed_day", 0, False)]


def test_a_worker_may_die_before_and_after_each_file_and_nothing_is_lost_or_told_twice(
    house, monkeypatch
):
    lives = dict(zip(house.yesterdays(len(CRASHES)), CRASHES, strict=True))
    now = house.ledger.now()
    duty.signing.ready(house.ledger, house.worker.archive)
    for day, (where, point, after) in lives.items():
        house.files(day, f"rec-{day}")
        house.does(day, reason=f"{day}")
        with monkeypatch.context() as patch:
            if where == "create":
                patch.setattr(Directory, "create", dying_at(point, after=after))
            else:
                patch.setattr(house.ledger, where, lambda *_: (_ for _ in ()).throw(Died))
            with pytest.raises(Died):
                duty._close_one(house.worker, ACCOUNT, now, lambda: None)
        duty._close_one(house.worker, ACCOUNT, now, lambda: None)
    head = history_file.NO_LINE
    for day in lives:
        said = house.day(day)
        assert (said["counts"]["archived"], said["history"]["entries"]) == (1, 1), day
        content = (house.root / days.history_name(day)).read_bytes()
        (line,), head = history_file.read(content, head)
        assert (line["reason"], head) == (str(day), said["history"]["head"])
    assert len(house.files_of("days", "history")) == 6 * len(lives)
    assert not house.ledger.is_open(ACCOUNT)


def test_two_workers_at_the_same_day_write_one_day(house):
    first, second = house.yesterdays(2)
    house.files(first, "rec-1")
    house.files(second, "rec-2")
    house.does(first)
    now = house.ledger.now()
    with ThreadPoolExecutor(4) as threads:
        for _ in range(3):
            list(
                threads.map(
                    lambda _: duty._close_one(house.worker, ACCOUNT, now, lambda: None), range(4)
                )
            )
    assert [house.day(day)["counts"]["archived"] for day in (first, second)] == [1, 1]
    assert house.ledger.closed_day(ACCOUNT).day == second
    assert not house.ledger.is_open(ACCOUNT)


def test_a_closed_day_never_changes_and_what_comes_late_stands_in_the_next(house):
    first, second = house.yesterdays(2)
    house.files(first, "rec-1")
    duty._close_one(house.worker, ACCOUNT, house.ledger.now(), lambda: None)
    before = house.files_of("days")
    house.files(first, "rec-late")  # a primary whose clock lags
    house.does(first)
    house.close()
    assert before.items() <= house.files_of("days").items()
    assert (house.root / days.list_name(second)).read_text().count("rec-late") == 2
    assert house.day(second)["history"]["entries"] == 1


def test_after_redis_was_erased_the_archive_says_what_is_closed_and_what_no_list_names(house):
    days_ = first, second = house.yesterdays(2)
    house.files(first, "rec-1")
    duty._close_one(house.worker, ACCOUNT, house.ledger.now(), lambda: None)
    house.files(second, "rec-2")
    forged = house.root / f"{second:%Y/%m/%d}/forged.json"
    forged.write_text('{"at": "2026-09-15T10:00:00Z"}')
    client, prefix = house.ledger.redis, house.ledger.prefix
    client.delete(*client.scan_iter(f"{prefix.replace('{', '[{]')}*"))
    house.close()
    said = [house.day(day) for day in days_]
    assert said[1]["before"]["day"] == first.isoformat()
    listed = house.ledger.filed(ACCOUNT, until=house.ledger.now() + timedelta(seconds=1))
    assert sorted(line[66:].rpartition("/")[2] for line in listed) == ["rec-2.json", "rec-2.mp3"]


@pytest.mark.parametrize("place", ["archive", "fallback"])
def test_a_day_says_what_was_expected_and_is_not_there(ledger, tmp_path, place):
    house = House(ledger, tmp_path, ENDTAPE_ARCHIVE_FALLBACK=str(tmp_path / "fallback"))
    (day,) = house.yesterdays(1)
    key = f"{ACCOUNT}/{day:%Y/%m/%d}/rec-1.absent"
    said = {
        "schema": "endtape/absent/1",
        "account": ACCOUNT,
        "call_uuid": "c",
        "recording_id": "rec-1",
        "fault": "provider",
    }
    archive = house.worker.archive
    sha = (archive if place == "archive" else archive.fallback).publish_absence(key, said)
    at = to_ms(end_of(day)) - 1
    line = days.line_of(f"{ACCOUNT}/{day:%Y/%m/%d}/rec-1.absent.json", sha)
    house.ledger.command("ZADD", house.ledger.key("filed", ACCOUNT), at, line)
    for name, seen in (("rec-2", at), ("rec-3", at + 1)):
        house.ledger.ensure_due([obligation(Duty.FETCH, "c", name)])
        house.ledger.command("ZADD", house.ledger.key("recent", ACCOUNT), seen, name)
    house.close()
    assert house.day(day)["missing"] == [
        {"recording_id": "rec-1", "why": "given_up", "fault": "provider"},
        {"recording_id": "rec-2", "why": "waiting"},
    ]
    assert house.day(day)["counts"]["absent"] == 1


def test_an_archive_that_is_away_leaves_the_day_open_with_an_alert_and_it_is_closed_later(house):
    (day,) = house.yesterdays(1)
    house.files(day, "rec-1")
    (house.root / "days").write_text("in the way")
    house.close()
    assert house.ledger.counters()["alerts_total|day_open"] == 1
    (house.root / "days").unlink()
    house.close()
    assert house.day(day)["counts"]["archived"] == 1


def test_a_last_day_that_was_altered_raises_an_alert_and_the_chain_goes_on_from_the_true_one(house):
    first, second = house.yesterdays(2)
    duty._close_one(house.worker, ACCOUNT, house.ledger.now(), lambda: None)
    true = house.ledger.closed_day(ACCOUNT).sha256
    place = house.root / days.day_name(first)
    place.write_text(place.read_text().replace('"audio": 0', '"audio": 1'))
    house.close()
    assert house.ledger.counters()["alerts_total|day_altered"] >= 1
    assert house.day(second)["before"]["sha256"] == true


def test_an_account_that_left_the_settings_ends_when_nothing_of_it_is_left_to_tell(house):
    assert duty._close_one(house.worker, "MA_GONE", house.ledger.now(), lambda: None) is None


def test_a_fact_is_listed_by_the_day_on_which_it_was_written(house):
    (day,) = house.yesterdays(1)
    told = Fact(
        account=ACCOUNT,
        recording_id="rec-1",
        kind=FactKind.HOLD,
        at=house.ledger.now(),
        who="anna",
    )
    numbers = [facts.write(house.worker, told).n for _ in range(2)]
    until = house.ledger.now() + timedelta(seconds=1)
    listed = [line[66:] for line in house.ledger.filed(ACCOUNT, until=until)]
    assert (numbers, sorted(listed)) == ([1, 2], ["facts/rec-1/1.json", "facts/rec-1/2.json"])
    content = (house.root / "facts/rec-1/1.json").read_bytes()
    assert f"{hashlib.sha256(content).hexdigest()}  facts/rec-1/1.json" in house.ledger.filed(
        ACCOUNT, until=until
    )
    house.close()
    assert house.day(day)["counts"]["facts"] == 0


def test_a_closed_day_carries_the_ledger_of_its_date(house):
    (day,) = house.yesterdays(1)
    views = [
        row_at(day, "rec-1"),
        row_at(day, "rec-2", restriction={"restricted_by": ["long_tail"]}),
    ]
    house.worker.catalogue.enter([*views, row_at(day - timedelta(days=1), "rec-0")])
    house.close()
    said = house.day(day)["ledger"]
    assert (said["day"], said["totals"]["archived"]) == (day.isoformat(), 2)
    assert said["rows"][0]["restricted"]["recordings"] == ["rec-2"]
    assert said["rows"][0]["expected"] == {"count": 2}


def row_at(day, recording_id, **more):
    said = receipt(0, recording_id=recording_id, **more) | {"account": ACCOUNT}
    return rows.of_receipt(said, f"{ACCOUNT}/{day:%Y/%m/%d}/{recording_id}.mp3")


def test_the_notice_of_a_closed_day_is_owed_before_the_day_is_noted_as_closed(house, monkeypatch):
    (day,) = house.yesterdays(1)
    told = notify.day_closed(ACCOUNT, day)
    endpoint = Endpoint(url="https://app.example.com/x", secrets=(), events=frozenset())
    house.worker.settings = replace(house.settings, notify=(endpoint,))
    monkeypatch.setattr(house.ledger, "set_closed_day", lambda *_: (_ for _ in ()).throw(Died))
    with pytest.raises(Died):
        duty._close_one(house.worker, ACCOUNT, house.ledger.now(), lambda: None)
    assert house.ledger.next_at(told)


def test_a_redis_whose_clock_jumps_ahead_closes_no_day_of_the_future_and_it_is_told(
    house, monkeypatch
):
    first, second = house.yesterdays(2)
    house.files(second, "rec-1")
    behind = timedelta(days=1, hours=3)  # as far is Redis ahead
    monkeypatch.setattr(clocks, "here", lambda: datetime.now(UTC) - behind)
    due = house.close()
    assert house.ledger.closed_day(ACCOUNT).day == first
    assert (
        timedelta(0) < due - house.ledger.now() <= timedelta(minutes=5)
    )  # perhaps it is set right
    assert not clocks.compare(house.ledger)
    ((name, why),) = house.ledger.degraded().items()
    assert (name.partition("@")[0], "s ahead of this machine's" in why) == ("clock", True)
    monkeypatch.undo()
    assert house.close() == end_of(house.today) + duty.AFTER
    assert house.day(second)["counts"]["archived"] == 1
    assert clocks.compare(house.ledger)
    assert house.ledger.degraded() == {}


def test_the_first_day_is_todays_by_the_earlier_clock(house):
    yesterday = house.today - timedelta(days=1)
    assert house.ledger.first_day(ACCOUNT, yesterday) == yesterday
    assert house.ledger.first_day(ACCOUNT, house.today) == yesterday
    assert house.ledger.first_day("other", house.today + timedelta(days=1)) == house.today


def test_a_day_waits_for_the_catalogue_but_not_for_ever(house, tmp_path, monkeypatch):
    (day,) = house.yesterdays(1)
    house.worker.catalogue.enter([row_at(day, "rec-1")])
    (tmp_path / "none").mkdir()  # a database that cannot be opened
    away = replace(house.worker, catalogue=Catalogue(f"sqlite:///{tmp_path / 'none'}"))
    monkeypatch.setattr(duty, "WITHOUT_CATALOGUE", timedelta(days=2))
    assert house.close(away) < end_of(house.today)
    assert not (house.root / days.day_name(day)).exists()
    assert house.close() > end_of(house.today)
    assert "degraded" not in house.day(day)["ledger"]
    assert house.day(day)["ledger"]["totals"]["archived"] == 1


def test_a_day_is_closed_without_a_catalogue_that_stays_away(house, tmp_path, monkeypatch):
    (day,) = house.yesterdays(1)
    (tmp_path / "none").mkdir()
    away = replace(house.worker, catalogue=Catalogue(f"sqlite:///{tmp_path / 'none'}"))
    monkeypatch.setattr(duty, "WITHOUT_CATALOGUE", timedelta(0))
    house.close(away)
    assert house.day(day)["ledger"]["degraded"].startswith("catalog: ")
