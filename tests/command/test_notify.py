"""What `endtape notify` prints."""

import json
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from worker.calls.notices import ALL_TYPES, Endpoint
from worker.command import notify as command
from worker.ledger.notices import Failing, Tries
from worker.processes.supervisor import free_port

pytestmark = pytest.mark.redis
SECRET = "whsec_" + "c2VjcmV0LW9mLXRoaXJ0eS10d28tYnl0ZXMtMTIzNA=="


@pytest.fixture
def notify(ledger, monkeypatch):
    endpoint = Endpoint(
        url=f"http://127.0.0.1:{free_port()}/hook",
        secrets=(SECRET,),
        events=frozenset(ALL_TYPES),
        private=True,
    )
    settings = SimpleNamespace(notify=(endpoint,), hand_ons={})
    monkeypatch.setattr(command, "open_ledger", lambda **_: (settings, ledger))
    return lambda *options: CliRunner().invoke(command.notify, options)


def failing(**facts):
    known = {
        "account": "MA_1",
        "call_uuid": "c",
        "endpoint": "e",
        "notice": "msg_0123456789abcdef01234567",
        "type": "recording.archived",
        "url": "https://app.example.com/endtape",
        "tries": 4,
        "why": "answered 500",
        "given_up": False,
    }
    return Failing(**{**known, **facts})


def test_what_does_not_arrive_is_listed_within_80_columns_and_tried_again_by_its_id(notify, ledger):
    assert "Every notification arrived" in notify().stdout
    one = failing()
    ledger.note("MA_1", "c", {f"e {one.notice}": Tries(count=4, first_at=ledger.now(), why="x")})
    ledger.note_failing(one)
    text = notify().stdout
    assert max(map(len, text.splitlines())) <= 80, text
    assert [w for w in (one.notice, one.url, "answered 500") if w not in text] == []
    assert json.loads(notify("--json").stdout)[0]["notice"] == one.notice
    assert notify("--retry", "msg_unknown").exit_code == 1
    assert "1 will be tried again now" in notify("--retry", one.notice).stdout
    assert (ledger.failing(), ledger.notices("MA_1", "c")) == ([], {})
    assert "Nothing fails" in notify("--retry", "all").stdout


def test_a_test_of_an_endpoint_that_does_not_answer_says_so_and_exits_1(notify):
    found = notify("--test")
    assert (found.exit_code, "no answer from 127.0.0.1" in " ".join(found.stdout.split())) == (
        1,
        True,
    )
    (told,) = json.loads(notify("--test", "--json").stdout)
    assert told["arrived"] is False
    assert notify("--test", "--retry", "all").exit_code == 2
