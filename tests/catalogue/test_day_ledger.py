"""The ledger of a day has what Redis and the catalogue know of it, each recording once."""

import csv
import io
from datetime import UTC, date, datetime

import pytest

from tests.builders import started
from tests.catalogue.builders import row
from tests.constants import ACCOUNT
from worker.calls.completeness import FIGURES, AnsweredCall
from worker.calls.rules import Expect, Rules, Terms
from worker.catalogue import day_ledger
from worker.catalogue.database import Catalogue
from worker.catalogue.day_ledger import DayLedger
from worker.ledger import call_records

DAY = date(2026, 9, 14)
EVERY = Rules(defaults=Terms(expect=Expect.EVERY))


@pytest.fixture
def reader(ledger, tmp_path):
    catalogue = Catalogue(f"sqlite:///{tmp_path / 'catalog.db'}")
    yield lambda rules=EVERY: DayLedger(ledger=ledger, catalogue=catalogue, rules=rules)
    catalogue.close()


def answered(call_uuid):
    return AnsweredCall(
        account="MA_1", call_uuid=call_uuid, ended_at=datetime(2026, 9, 14, 9, tzinfo=UTC)
    )


def test_live_and_finished_recordings_of_the_day_are_counted_once_and_those_of_others_not(
    ledger, reader
):
    ledger.record(ACCOUNT, started(call="call-today", recording="now"))
    reader().catalogue.enter([row(0), row(1)])
    today = ledger.now().date()
    view = reader().view(today, [ACCOUNT])
    assert [one["expected"]["recordings"] for one in view["rows"]] == [["now"]]
    (one,) = reader().view(DAY, ["MA_1"])["rows"]
    assert one["archived"] == {"count": 2, "recordings": ["rec-000", "rec-001"], "calls": []}
    assert reader().view(date(2026, 9, 15), ["MA_1"])["rows"] == []


def test_calls_of_the_providers_records_are_missing_unless_a_recording_of_any_day_is_known(
    ledger, reader
):
    reader().catalogue.enter([row(0, recording_id="other-day", call_uuid="call-late")])
    ledger.record("MA_1", started(call="call-live", recording="live"))
    calls = [answered(i) for i in ("call-lost", "call-live", "call-late", "call-000")]
    tomorrow = date(2026, 9, 15)
    call_records.note(ledger, tomorrow, calls, "MA_1", keep=ledger.leases["day"] * 100)
    view = reader().view(tomorrow, ["MA_1"])
    assert view["totals"]["missing"] == 2
    assert view["rows"][0]["missing"]["calls"] == ["call-000", "call-lost"]
    assert not day_ledger.is_clean(view)


def test_it_says_where_the_providers_call_records_were_not_read(ledger, reader):
    assert reader().view(DAY, ["MA_1"])["call_records"]["MA_1"]["problem"]
    told = reader(Rules(defaults=Terms())).view(DAY, ["MA_1"])["call_records"]["MA_1"]
    assert told == {"needed": False, "read_to": None, "problem": None}


def test_without_the_catalogue_it_says_so_and_nothing_is_said_to_be_missing(ledger, tmp_path):
    (tmp_path / "in-the-way").write_text("")
    away = Catalogue(f"sqlite:///{tmp_path / 'in-the-way' / 'catalog.db'}")
    call_records.note(ledger, DAY, [answered("c")], "MA_1", keep=ledger.leases["day"] * 100)
    view = DayLedger(ledger=ledger, catalogue=away, rules=EVERY).view(DAY, ["MA_1"])
    assert view["degraded"].startswith("catalog: ")
    assert view["totals"]["missing"] == 0
    assert not day_ledger.is_clean(view)


def test_as_csv_each_figure_of_each_row_is_a_line_with_its_recordings(reader):
    reader().catalogue.enter([row(0, stop={"rule": "=1+1"}), row(1, stop={"rule": "=1+1"})])
    view = reader().view(DAY, ["MA_1"])
    lines = list(csv.DictReader(io.StringIO(day_ledger.as_csv(view))))
    assert [line["figure"] for line in lines] == [
        *FIGURES,
        "consent_capture_rate",
        "saved_per_month",
    ]
    by_name = {line["figure"]: line for line in lines}
    assert by_name["archived"]["recordings"] == "rec-000 rec-001"
    assert (by_name["archived"]["count"], by_name["missing"]["count"]) == ("2", "0")
    assert {line["rule"] for line in lines} == {"'=1+1"}
    assert day_ledger.is_clean(view)


def test_a_closed_day_has_all_counts_and_names_what_somebody_may_have_to_look_into(reader):
    reader().catalogue.enter([row(0), row(1, restriction={"restricted_by": ["long_tail"]})])
    (one,) = day_ledger.brief(reader().view(DAY, ["MA_1"]))["rows"]
    assert one["archived"] == {"count": 2}
    assert one["restricted"] == {"count": 1, "recordings": ["rec-001"], "calls": []}
