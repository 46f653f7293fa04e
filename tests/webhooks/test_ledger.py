"""`GET /v1/ledger` and `endtape ledger` say of a day what should have been recorded."""

import json

import pytest
from click.testing import CliRunner

from tests.bad_days import ended
from tests.constants import APP_KEY, KEY, VIEW_KEY
from worker.command import completeness as command


@pytest.fixture
def house(local):
    return local(ENDTAPE_VIEW_KEY=VIEW_KEY, ENDTAPE_APP_KEY=APP_KEY)


def ask(house, query="", key=KEY, **headers):
    with house.app.test_client() as client:
        sent = {"Authorization": f"Bearer {key}", **headers}
        return client.get(f"/v1/ledger{query}", headers=sent)


def test_the_ledger_of_a_day_as_json_as_csv_and_by_command(house, monkeypatch):
    _, recording = ended(house)
    recording_id = recording.recording_id
    house.reach(recording_id, "archived")
    day = house.ledger.now().date().isoformat()
    said = ask(house, f"?day={day}").json
    (row,) = said["rows"]
    assert row["verified"]["recordings"] == [recording_id]
    assert ask(house, key=VIEW_KEY).json["totals"] == said["totals"]
    for empty in ("2001-01-01", "0001-01-01", "9999-12-31"):
        assert ask(house, f"?day={empty}").json["rows"] == []
    table = ask(house, f"?day={day}", Accept="text/csv; charset=utf-8, */*;q=0.1")
    assert table.mimetype == "text/csv"
    assert f"verified,1,{recording_id}," in table.text
    assert ask(house, key=APP_KEY).status_code == 403
    for query, field in (("?day=20260914", "day"), ("?day=x", "day"), ("?account=MA_2", "account")):
        refused = ask(house, query)
        assert (refused.status_code, refused.json["field"]) == (400, field)

    monkeypatch.setattr(command, "open_ledger", lambda **_: (house.settings, house.ledger))
    run = CliRunner().invoke
    as_json = run(command.ledger, ["--day", day, "--json"])
    assert as_json.exit_code == bool(said["totals"]["unexplained"])
    assert json.loads(as_json.stdout)["rows"] == said["rows"]
    assert run(command.ledger, ["--day", day, "--csv"]).stdout == table.text.replace("\r\n", "\n")
    shown = run(command.ledger, ["--day", day])
    assert recording_id in shown.stdout
    assert run(command.ledger, ["--day", "2001-01-01"]).exit_code == 0
    assert run(command.ledger, ["--day", day, "--account", "MA_2"]).exit_code == 2
