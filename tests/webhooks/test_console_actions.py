"""What an operator can do in the console to one recording: hold, release, erase."""

import re

import pytest
from markupsafe import escape

from tests.constants import ACCOUNT, KEY, VIEW_KEY
from tests.webhooks.test_console import NASTY, Console, entries, fails, runs, strict
from worker.archive import signing


@pytest.fixture
def console(ledger, tmp_path):
    return Console(ledger, tmp_path)


def asked(console, deed, recording="rec-2"):
    """The question's page, and the fields and address of its form."""
    page = console.page(f"/recordings/{recording}/{deed}")
    strict(page)
    (action,) = re.findall(r'<form class="ask" method="post" action="([^"]+)"', page)
    return page, action, dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]+)"', page))


def done(console, deed, reason="case 12"):
    """What is said after the deed was confirmed."""
    _, action, fields = asked(console, deed)
    answer = console.browser.post(action, data={**fields, "reason": reason})
    assert answer.status_code == 303, answer.text
    page = console.page(answer.headers["Location"])
    strict(page)
    return page


def test_hold_release_and_erase_ask_first_say_what_they_did_and_stand_in_the_history(console):
    fails(console.ledger)
    console.log_in(KEY, name="Asha")
    page, _, fields = asked(console, "hold")
    assert "endtape hold rec-2 --reason WHY" in page
    assert "the provider itself deletes its copy after 30 days" in page
    assert "done by <b>anna</b> (API key), name given: <b>Asha</b>" in page
    assert 'name="reason" maxlength="200" autocomplete="off" required' in page
    assert fields["account"] == ACCOUNT
    assert entries(console.ledger) == []

    said = done(console, "hold", NASTY)
    assert "It is on hold now: Endtape deletes no copy of it" in said
    assert "The provider itself still deletes its own after 30 days." in said
    page = console.page("/recordings/rec-2")
    assert ("/rec-2/release" in page, "/rec-2/hold" in page, "/rec-2/erase" in page) == (
        True,
        False,
        False,
    )
    page, _, _ = asked(console, "hold")
    assert re.search(r"on hold already, since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC by anna", page)
    assert f": {escape(NASTY)}. Holding it again adds a fact" in page
    assert "It was on hold already; both reasons stand" in done(console, "hold", "case 13")
    assert f": {escape(NASTY)}. Holding" in asked(console, "hold")[0]  # since the first
    assert "release it first" in console.page("/recordings/rec-2/erase", 409)
    assert console.browser.post("/recordings/rec-2/erase", data={"reason": "x"}).status_code == 409

    assert "endtape release rec-2 --reason WHY" in asked(console, "release")[0]
    assert "The hold is over" in done(console, "release")
    assert "on hold" not in console.page("/recordings/rec-2").split("<h2>Sound")[0]

    assert "endtape erase rec-2 --reason WHY" in asked(console, "erase")[0]
    assert "a signed tombstone stands" in done(console, "erase")
    assert console.browser.get("/recordings/rec-2/hold").status_code == 410
    page = console.page("/recordings/rec-2")
    assert 'href="/recordings/rec-2/tombstone"' in page
    said = console.browser.get("/recordings/rec-2/tombstone")
    assert (said.json["recording_id"], said.json["reason"]) == ("rec-2", "case 12")
    assert said.headers["Content-Disposition"] == 'attachment; filename="rec-2.erased.json"'
    signature = console.browser.get("/recordings/rec-2/tombstone/signature").data
    signing.verify(said.data, signature, signing.RECEIPTS)
    assert [e for e in entries(console.ledger) if e[1:] == ("anna", "Asha")] == [
        ("hold", "anna", "Asha"),
        ("hold", "anna", "Asha"),
        ("release", "anna", "Asha"),
        ("erase", "anna", "Asha"),
    ]


@pytest.mark.parametrize("deed", ["hold", "release", "erase"])
def test_what_needs_a_reason_is_not_done_without_one(console, deed):
    fails(console.ledger)
    console.log_in()
    answer = console.browser.post(f"/recordings/rec-2/{deed}", data={"reason": "  "})
    assert (answer.status_code, "Reason: is needed" in answer.text) == (400, True)
    assert entries(console.ledger) == []


def test_what_is_not_erased_has_no_tombstone(console):
    fails(console.ledger)
    console.log_in()
    assert "No tombstone" in console.page("/recordings/rec-2/tombstone", 404)
    assert "No such recording" in console.page("/recordings/nobody/tombstone", 404)


def test_the_name_that_was_given_stands_beside_the_key_wherever_an_actor_is_shown(console):
    fails(console.ledger)
    console.log_in(KEY, name="Anna <b>B.")
    done(console, "hold")
    console.browser.post("/recordings/rec-2/retry")
    page = console.page("/recordings/rec-2")
    assert "<th>Name given</th>" in page
    assert page.count('<td data-name="Name given">Anna &lt;b&gt;B.</td>') == 2
    assert '<td data-name="By">anna, name given: Anna &lt;b&gt;B.</td>' in page  # the retry
    assert "anna, name given: Anna &lt;b&gt;B." in page.split("</header>")[0]


def test_what_still_records_is_not_erased(console):
    runs(console.ledger)
    console.log_in()
    assert "/rec-1/erase" not in console.page("/recordings/rec-1")
    assert "stop it first" in console.page("/recordings/rec-1/erase", 409)
    answer = console.browser.post("/recordings/rec-1/erase", data={"reason": "x"})
    assert (answer.status_code, "stop it first" in answer.text) == (409, True)


def test_the_setting_decides_whether_numbers_are_masked_until_somebody_asks(ledger, tmp_path):
    runs(ledger)
    for setting, key in (("shown", KEY), ("masked", VIEW_KEY)):
        console = Console(ledger, tmp_path, ENDTAPE_CONSOLE_NUMBERS=setting)
        console.log_in(key)
        assert ("919840000001" in console.page("/recordings")) is (setting == "shown")
        asks = "hidden" if setting == "shown" else "shown"
        console.browser.post("/numbers", data={"numbers": asks})
        assert ("919840000001" in console.page("/recordings")) is (setting == "masked")
