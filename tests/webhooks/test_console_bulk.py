"""What an operator does to many recordings at once, without script."""

import re

import pytest

from tests.constants import ACCOUNT, KEY, VIEW_KEY
from tests.webhooks.test_console import NASTY, Console, entries, fails, runs, strict
from worker.calls.events import Kind
from worker.ledger import bulk


@pytest.fixture
def console(ledger, tmp_path):
    console = Console(ledger, tmp_path)
    for i in range(3):
        fails(ledger, f"call-f{i}", f"rec-f{i}")
    runs(ledger)
    console.log_in(KEY, name="Asha")
    return console


def planned(console, **form):
    """The address of the order, and its page."""
    answer = console.browser.post("/bulk", data=form)
    assert answer.status_code == 303, answer.text
    address = answer.headers["Location"]
    page = console.page(address)
    strict(page)
    return address, page


def orders(console, recording):
    call = recording.replace("rec", "call")
    return [e for e in console.ledger.events(ACCOUNT, call) if e.kind is Kind.RETRY_ORDERED]


def test_all_that_match_are_planned_counted_confirmed_and_each_stands_in_the_history(console):
    page = console.page("/not-home?fault=storage")
    assert page.count('type="checkbox"') == 3
    (query,) = re.findall(r'name="query" value="([^"]*)"', page)
    address, page = planned(console, what="retry", scope="all", page="not-home", query=query)
    assert "Try 3 recordings again?" in page
    assert "not home, fault storage" in page
    assert entries(console.ledger) == []
    ids = console.browser.get(f"{address}/ids").text.split()
    assert sorted(ids) == ["rec-f0", "rec-f1", "rec-f2"]
    assert "xargs endtape retry &lt; ids.txt" in page

    answer = console.browser.post(f"{address}/confirm", data={"reason": NASTY})
    page = console.page(answer.headers["Location"])
    strict(page)
    assert "3 ordered, 0 refused, 0 left. Confirmed by anna, name given: Asha" in page
    assert "All of it is done" in page
    assert [len(orders(console, one)) for one in ids] == [1, 1, 1]
    assert entries(console.ledger) == [("retry", "anna", "Asha")] * 3
    assert console.browser.post(f"{address}/confirm").status_code == 409
    listed = console.page("/bulk")
    strict(listed)
    assert (f'href="{address}"' in listed, '<td data-name="State">done</td>' in listed) == (
        True,
        True,
    )


def test_those_that_are_ticked_are_meant_and_what_cannot_be_is_left_out_with_its_reason(console):
    ticked = ["rec-f0", "rec-1", "rec-f0"]
    _, page = planned(console, what="erase", scope="chosen", one=ticked)
    assert "Erase 1 recording for good?" in page
    assert "Left out, still recording: 1." in page
    _, page = planned(console, what="hold", scope="chosen", one=ticked)
    assert "<h1>Put 2 recordings on legal hold?</h1>" in page
    _, page = planned(console, what="release", scope="chosen", one=ticked)
    assert ("<h1>Nothing to release</h1>" in page, "<form class" in page) == (True, False)
    assert console.browser.post("/bulk", data={"what": "stop"}).status_code == 400
    gone = {"what": "hold", "scope": "chosen", "one": "nobody"}
    assert console.browser.post("/bulk", data=gone).status_code == 404


def test_where_nothing_is_ticked_nothing_is_planned_and_all_that_match_are_offered(console):
    form = {"what": "erase", "page": "recordings", "query": "phase=abandoned"}
    answer = console.browser.post("/bulk", data={**form, "scope": "chosen"})
    strict(answer.text)
    assert (answer.status_code, "<h1>Nothing was ticked</h1>" in answer.text) == (400, True)
    assert 'href="/recordings?phase=abandoned"' in answer.text
    assert bulk.recent(console.ledger) == []
    offered = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', answer.text))
    _, page = planned(console, scope="all", **{n: v for n, v in offered.items() if n != "next"})
    assert "<h1>Erase 3 recordings for good?</h1>" in page


def test_holds_of_all_that_match_a_filter_need_a_reason_and_are_released_in_bulk(console):
    form = {"scope": "all", "page": "recordings", "query": "phase=abandoned&cursor=x&limit=1"}
    address, page = planned(console, what="hold", **form)
    assert ("phase abandoned" in page, "Put 3 recordings on legal hold?" in page) == (True, True)
    assert console.browser.post(f"{address}/confirm", data={"reason": " "}).status_code == 400
    console.browser.post(f"{address}/confirm", data={"reason": "case 12"})
    assert "3 on hold, 0 refused, 0 left" in console.page(address)
    assert "on hold" in console.page("/recordings/rec-f1")
    _, page = planned(console, what="hold", **form)
    assert "Left out, on hold already: 3." in page
    address, _ = planned(console, what="release", **form)
    console.browser.post(f"{address}/confirm", data={"reason": "over"})
    assert "3 released, 0 refused, 0 left" in console.page(address)
    bad = console.browser.post("/bulk", data={**form, "what": "hold", "query": "phase=odd"})
    assert bad.status_code == 400


def test_it_outlives_the_request_goes_on_at_a_button_and_is_cancelled(console, monkeypatch):
    monkeypatch.setattr("webhooks.console.bulk._TURN_S", 0)  # a turn that does nothing
    address, _ = planned(console, what="retry", scope="all", page="not-home", query="")
    console.browser.post(f"{address}/confirm")
    page = console.page(address)
    assert "0 ordered, 0 refused, 3 left" in page
    assert f'id="go" method="post" action="{address}/go"' in page
    assert "Keep this page open." in page
    for listed in ("/recordings", "/not-home"):
        assert f'waits while nobody has the page open: <a href="{address}">' in console.page(listed)
    monkeypatch.undo()
    other = Console(console.ledger, console.folder)  # another process, another browser
    other.log_in(KEY, name="Ravi")
    bulk_id = address.rpartition("/")[2]
    assert bulk.take_turn(console.ledger, bulk_id)
    other.browser.post(f"{address}/go")  # while somebody else has the turn
    assert "3 left" in other.page(address)
    bulk.end_turn(console.ledger, bulk_id)

    fails(console.ledger, "call-2", "rec-2")
    second, _ = planned(console, what="retry", scope="chosen", one=["rec-2"])
    monkeypatch.setattr("webhooks.console.bulk._TURN_S", 0)
    console.browser.post(f"{second}/confirm")
    monkeypatch.undo()
    other.browser.post(f"{address}/go")
    assert "3 ordered" in other.page(address)
    assert {entry[2] for entry in entries(console.ledger)} == {"Ravi"}
    assert f'<a href="{second}">go on with it' in console.page("/recordings")  # the first is done
    console.browser.post(f"{second}/cancel")
    page = console.page(second)
    assert ("Cancelled" in page, "1 left" in page) == (True, True)
    assert other.browser.post(f"{second}/go").status_code == 409
    assert orders(console, "rec-2") == []
    assert "under way" not in console.page("/recordings")
    assert console.browser.get("/bulk/nobody").status_code == 404


def test_what_became_impossible_since_the_plan_is_refused_and_told(console):
    address, _ = planned(console, what="erase", scope="chosen", one=["rec-f0", "rec-f1"])
    console.browser.post("/recordings/rec-f0/hold", data={"reason": "case 12"})
    console.browser.post(f"{address}/confirm", data={"reason": "asked for"})
    page = console.page(address)
    assert "1 erased, 1 refused, 0 left" in page
    assert 'href="/recordings/rec-f0"' in page


def test_a_view_key_ticks_nothing_and_is_refused(console):
    address, _ = planned(console, what="retry", scope="all", page="not-home", query="")
    console.log_in(VIEW_KEY)
    for path in ("/recordings", "/not-home"):
        page = console.page(path)
        assert ('type="checkbox"' in page, "/bulk" in page) == (False, False)
    for method, path in (
        *(("GET", p) for p in ("/bulk", address, f"{address}/ids")),
        *(("POST", p) for p in ("/bulk", *(f"{address}/{s}" for s in ("confirm", "go", "cancel")))),
    ):
        assert console.browser.open(path, method=method).status_code == 403
    assert entries(console.ledger) == []


def test_of_two_who_confirm_one_is_told_and_a_cancellation_holds_against_both(ledger):
    item = bulk.Item(account=ACCOUNT, recording_id="rec-1")
    how = {"meant": "one", "who": "asha", "claimed": None, "left_out": {}}
    one, other = (bulk.plan(ledger, "erase", [item], **how) for _ in range(2))
    assert bulk.find(ledger, one).state is bulk.State.PLANNED
    assert bulk.confirm(ledger, one, who="ben", claimed="Ben", reason="his")
    assert not bulk.confirm(ledger, one, who="cem", claimed=None, reason="hers")
    found = bulk.find(ledger, one)
    assert (found.state, found.who, found.claimed) == (bulk.State.GOING, "ben", "Ben")
    assert found.reason == "his"
    bulk.cancel(ledger, other)  # while somebody who saw it planned confirms it
    bulk.confirm(ledger, other, who="ben", claimed="Ben", reason="his")
    assert bulk.find(ledger, other).state is bulk.State.CANCELLED
