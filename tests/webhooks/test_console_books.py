"""The console's pages that only show: days, rules, calls, who did what, the system."""

import csv
import hashlib
import io
import json
import re
import shutil
import subprocess
from datetime import timedelta

import pytest

from tests.catalogue.builders import receipt
from tests.constants import ACCOUNT, KEY, VIEW_KEY
from tests.days import House
from tests.webhooks.test_console import NASTY, Console, runs, strict
from webhooks.app import create_app
from webhooks.console import month, rules
from worker.calls.events import Event, Kind
from worker.calls.history import Deed, Entry
from worker.catalogue import rows
from worker.catalogue.database import Catalogue
from worker.settings import Settings

LOOSER = '[defaults]\nmax_duration = "2h"\n[[rules]]\nname = "short"\nmatch = { to = "9180*" }\nmax_duration = "2s"\n'


@pytest.fixture
def console(ledger, tmp_path):
    opened = Console(ledger, tmp_path)
    opened.log_in(VIEW_KEY)  # all of it is for those who only read, too
    return opened


def tables(page):
    """The cells of each row of a page's tables, without markup."""
    lines = re.findall(r"<tr[^>]*>(.*?)</tr>", page, re.DOTALL)
    cells = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", line, re.DOTALL) for line in lines]
    return [[" ".join(re.sub("<[^>]+>", " ", cell).split()) for cell in line] for line in cells]


# Rules
# ------------------------------------------------------------------------------------------------


def test_a_call_that_might_be_is_tried_against_the_rules_in_force(console):
    page = console.page("/rules?to=918012345&label=team=%3Ci+onfocus%3Dx%3E,+a=b&trigger=transfer")
    strict(page)
    assert re.search(r"<b>line &lt;b onclick=alert\(3\)&gt;</b> decides; transfer: <b>keep", page)
    assert "asked as a hand-off: <b>stop</b>" in page
    other = console.page("/rules?direction=inbound&to=4912345678")
    assert ["defaults", "yes", "no rule fits"] in tables(other)
    assert "to is &#39;…&#39;, wanted" in other  # masked, as everywhere
    # As the form sends it: what was left empty is not in the address that one sends to others.
    sent = console.browser.get("/rules?call=&from=&to=9180&trigger=")
    assert (sent.status_code, sent.headers["Location"]) == (303, "/rules?to=9180")
    for query, wrong in (
        ("trigger=nonsense", "trigger: unknown"),
        ("label=team", "must be NAME=VALUE"),
        ("direction=up", "must be inbound or outbound"),
        ("call=nobody", "no such call is known any more"),
    ):
        assert wrong in console.page(f"/rules?{query}")


def test_a_known_call_is_tried_with_what_its_events_do_and_rules_say_what_each_matched(console):
    runs(console.ledger)
    handoff = {"order": "h", "trigger": "transfer.blind", "wait_s": 1.0, "by": "api"}
    asked = Event(id="h", kind=Kind.HANDOFF_ASKED, call_uuid="call-1", **handoff)
    console.ledger.record(ACCOUNT, asked)
    catalogue = Catalogue(Settings.from_env(console.environ, folder=console.folder).catalog)
    now = console.ledger.now()
    some = [receipt(n, account=ACCOUNT, stop={"rule": "gone <i>"}) for n in range(3)]
    catalogue.enter(
        rows.of_receipt(one | {"first_seen_at": now.isoformat()}, f"{ACCOUNT}/2026/09/14/{n}.mp3")
        for n, one in enumerate(some)
    )
    page = console.page("/rules?call=call-1")
    strict(page)
    assert ["HandoffAsked", "transfer.blind", "stop"] in [line[1:] for line in tables(page)]
    assert "0 finished</a>, 1 recording now" in page
    assert re.search(r"gone &lt;i&gt;</a> \(3\)", page)


def test_a_changed_file_is_played_against_the_newest_calls_and_changes_nothing(
    console, monkeypatch
):
    began = console.ledger.now() - timedelta(minutes=10)
    for n in range(3):
        runs(console.ledger, f"c{n}", f"r{n}", started_at=began)
        over = {"signed": True, "duration_s": 600.0, "ended_at": began + timedelta(seconds=600)}
        ended = Event(
            id="e", kind=Kind.RECORDING_FINALIZED, call_uuid=f"c{n}", recording_id=f"r{n}", **over
        )
        console.ledger.record(ACCOUNT, ended)
    logs = [console.ledger.events(ACCOUNT, f"c{n}") for n in range(3)]

    def simulate(**form):
        answer = console.browser.post("/rules/simulation", data={"since": "1d", **form})
        strict(answer.text)
        return answer

    answer = simulate(rules=LOOSER, rate="0.10")
    assert ["short", "3", "0 → 3", "30 → 3", "2.7", "0"] in tables(answer.text)
    assert len(re.findall(r"short: max_duration", answer.text)) == 3
    uploaded = simulate(file=(io.BytesIO(LOOSER.encode()), "new.toml"), rules="nonsense")
    assert ["short", "3", "0 → 3", "30 → 3", "0"] in tables(uploaded.text)
    assert [console.ledger.events(ACCOUNT, f"c{n}") for n in range(3)] == logs

    nothing = simulate(rules=" ")
    assert (nothing.status_code, "no file and no text was given" in nothing.text) == (400, True)
    broken = simulate(rules=f'[defaults]\nmax_duratoin = "5m"\n# {NASTY}')
    assert broken.status_code == 400
    assert "max_duratoin" in broken.text.split("<textarea")[0]
    assert "&lt;script&gt;alert(1)" in broken.text  # the text is there to be mended
    for form in ({"since": "99d"}, {"rate": "much"}, {"file": (io.BytesIO(b"\xff"), "x")}):
        assert simulate(rules=LOOSER, **form).status_code == 400

    monkeypatch.setattr(rules, "MOST_CALLS", 2)
    assert "There are more, which are not played here" in simulate(rules=LOOSER).text
    monkeypatch.setattr(rules, "FOR_S", -1.0)
    assert "No recording was first seen" not in (cut := simulate(rules=LOOSER).text)
    assert "The newest 0 calls" in cut


# Days
# ------------------------------------------------------------------------------------------------


@pytest.fixture
def days(ledger, tmp_path):
    """Three closed days, of which the first is clean and the second is not, and a browser."""
    house = House(ledger, tmp_path, ENDTAPE_VIEW_KEY=VIEW_KEY)
    first = house.today - timedelta(days=3)
    house.begins(first)
    house.first = first
    catalogue = Catalogue(house.settings.catalog)

    def enter(n, days_on, state):
        day = first + timedelta(days=days_on)
        began = f"{day}T10:00:00.000Z"
        times = {"started_at": began, "ended_at": began, "first_seen_at": began}
        said = receipt(n, account=ACCOUNT, stop={"state": state}) | times
        catalogue.enter([rows.of_receipt(said, f"{ACCOUNT}/{day:%Y/%m/%d}/rec-{n:03d}.mp3")])

    house.enter = enter
    enter(0, 0, "confirmed")
    enter(1, 1, "confirmed")
    enter(2, 1, "unknown")
    for n in range(2):
        house.does(
            first + timedelta(days=n),
            Deed.PLAY,
            recording_id="rec-000",
            who=f"anna{n}",
            claimed=NASTY,
        )
    house.close()
    house.browser = create_app(house.settings, ledger).test_client()
    house.browser.post("/login", data={"password": VIEW_KEY})
    house.page = lambda path: house.browser.get(path).text
    return house


def test_a_month_shows_each_day_by_the_worst_that_its_ledger_says_in_colour_and_sign(days):
    months = {f"{days.first + timedelta(days=n):%Y-%m}" for n in range(4)}
    pages = [days.page(f"/days?month={one}") for one in sorted(months)]
    for page in pages:
        strict(page)
    cells = dict(
        re.findall(r'<td class="(d-\w+(?: unclosed)?)"><a href="/days/([\d-]+)"', "".join(pages))[
            i
        ][::-1]
        for i in range(4)
    )
    assert [cells[str(days.first + timedelta(days=n))] for n in range(4)] == [
        "d-good",
        "d-bad",
        "d-empty",
        "d-empty unclosed",
    ]
    (bad,) = [line for page in pages for line in tables(page) if line[1:2] == ["✗ to be explained"]]
    assert bad == [
        str(days.first + timedelta(days=1)),
        "✗ to be explained",
        "2",
        "2",
        *"01001",
        "yes",
    ]
    assert "no such" not in days.page("/days?month=2001-01")
    for wrong in ("month=2026-13", "month=x", "account=MA_2"):
        assert days.browser.get(f"/days?{wrong}").status_code == 400


def test_a_days_figures_lead_to_their_recordings_and_a_closed_day_has_its_digest(days, tmp_path):
    day = days.first + timedelta(days=1)
    page = days.page(f"/days/{day}")
    strict(page)
    content = (days.root / "days" / f"{day}.json").read_bytes()
    assert hashlib.sha256(content).hexdigest() in page
    assert "Closed." in page
    (address,) = re.findall(
        rf'<b>Unproven</b></td><td data-name="At its close"><a href="(/days/{day}/unproven)"', page
    )
    figure = days.page(address)
    assert ("rec-002" in figure, "rec-001" in figure) == (True, False)
    assert "somebody has to look: nothing of ours or of the rules accounts for it: 1 unproven" in {
        line[2] for line in tables(page) if len(line) > 2
    }
    unexplained = tables(days.page(f"/days/{day}/unexplained"))
    assert [line[:2] for line in unexplained] == [["Recording", "Why"], ["rec-002", "unproven"]]
    assert "rec-002" not in days.page(f"{address}?rule=another")
    assert "rec-002" not in days.page(f"{address}?start=50")
    days.enter(3, 1, "confirmed")  # it is found late
    assert ["Expected", "2"] in [line[:2] for line in tables(days.page(f"/days/{day}"))]
    now = days.page(f"/days/{day}?now=1")
    assert ["Expected", "3", "2"] in [line[:3] for line in tables(now)]
    assert "rec-003" in days.page(f"/days/{day}/expected?now=1")
    told = days.browser.get(
        "/v1/ledger",
        query_string={"day": str(day)},
        headers={"Authorization": f"Bearer {VIEW_KEY}"},
    ).json
    as_json = json.loads(days.page(f"/days/{day}?as=json"))
    assert (as_json["rows"], as_json["totals"]) == (told["rows"], told["totals"])
    lines = list(csv.DictReader(io.StringIO(days.page(f"/days/{day}?as=csv"))))
    assert [one["recordings"] for one in lines if one["figure"] == "unproven"] == ["rec-002"]
    assert "It is not over." in days.page(f"/days/{days.today}")
    assert "It has not begun." in days.page(f"/days/{days.today + timedelta(days=1)}")
    for path in ("/days/2026-9-1", "/days/x", f"/days/{day}/nonsense"):
        assert days.browser.get(path).status_code == 404
    assert days.browser.get(f"/days/{day}/unproven?start=-1").status_code == 400
    if not shutil.which("ssh-keygen"):
        pytest.skip("no ssh-keygen: what the page tells a stranger to do is not tried")
    (days.root / "allowed_signers").write_text(days.page("/v1/keys"))
    commands = re.search(r"<code>(ssh-keygen.*?)</code>", page, re.DOTALL)[1].replace("&lt;", "<")
    for line in commands.splitlines():
        done = subprocess.run(
            ["sh", "-c", line], cwd=days.root, capture_output=True, check=False, timeout=20
        )
        assert done.returncode == 0, (line, done)


def test_of_a_day_before_the_first_start_it_is_said_that_nothing_was_watched(console):
    today = console.ledger.now().date()
    before = today - timedelta(days=1)
    assert "Endtape was not started yet" in console.page(f"/days/{before}")
    console.ledger.set_first_start(console.ledger.now())
    page = console.page(f"/days/{before}")
    strict(page)
    assert "Nothing was watched on this day" in page
    assert f'first started on <a href="/days/{today}">' in page
    assert "ot closed yet" not in page


def test_each_unexplained_recording_has_its_reasons_in_words():
    why = {"a": ["over_long", "too_short"], "b": ["not_verified"], "call-c": ["missing"]}
    row, of_an_old_day = {"unexplained": {"why": why}}, {"unexplained": {"count": 1}}
    assert month.reasons(row)["a"] == ["over-long", "too short"]
    assert month.counted_reasons([row, of_an_old_day]) == {
        "over-long": 1,
        "too short": 1,
        "not verified": 1,
        "missing": 1,
    }


def test_who_did_what_is_read_back_from_closed_days_too_a_month_at_a_time(days):
    held = {"what": Deed.HOLD, "who": "bert", "reason": "case 12"}
    days.ledger.enter(ACCOUNT, Entry(**held, call_uuid="call-000", recording_id="rec-000"))
    page = days.page("/recordings/rec-000/history")
    strict(page)
    assert [line[1:3] for line in tables(page)[1:]] == [
        ["hold", "bert"],
        ["play", "anna1"],
        ["play", "anna0"],
    ]
    assert "&lt;script&gt;" in page
    earlier = days.page(f"/recordings/rec-000/history?before={days.first + timedelta(days=1)}")
    assert [line[2] for line in tables(earlier)[1:]] == ["anna0"]
    assert days.browser.get("/recordings/rec-000/history?before=x").status_code == 400
    assert "bert" in days.page("/recordings/rec-000")


# A call, and the system
# ------------------------------------------------------------------------------------------------


def test_a_call_shows_its_legs_and_its_course(console):
    runs(console.ledger)
    for n, kind in enumerate((Kind.DIAL_ANSWERED, Kind.DIAL_CONNECTED)):
        leg = Event(
            id=f"d{n}", kind=kind, call_uuid="call-1", leg="leg-b", b_leg="leg-b", signed=True
        )
        console.ledger.record(ACCOUNT, leg)
    page = console.page("/calls/call-1")
    strict(page)
    (leg,) = [line for line in tables(page) if line[:2] == ["leg-b", "B"]]
    assert leg[3] != "–"
    assert leg[4] != "–"
    assert page.count('class="lanes"') == 1
    assert "DialConnected (signed)" in page
    assert "/rules?call=call-1#try" in page
    assert "No closed day is in question." in console.page("/recordings/rec-1/history")


def test_the_system_shows_processes_versions_redis_and_refusals_with_their_remedy(console):
    console.ledger.seen("settings", "stops box:17")
    console.ledger.count_refusal("wrong", 3, where="POST /vobiz/MA_1/…")
    text = json.dumps({"problems": ["rules[0]: <i>wrong</i>"], "restart": []})
    console.ledger.answer(console.ledger.generation(), "keep box:9", text)
    page = console.page("/system")
    strict(page)
    lines = tables(page)
    assert ["stops", "box:17"] in [line[:2] for line in lines]
    (refused,) = (line for line in lines if line[:2] == ["wrong", "3"])
    assert re.fullmatch(r"\d\d:\d\d:\d\d, POST /vobiz/MA_1/…", refused[2])
    settings = [line[0] for line in lines[-60:]]
    assert ("ENDTAPE_HISTORY" in settings, "allow_no_aof" in settings) == (True, False)
    assert "check the account&#39;s token" in page
    assert "keep box:9 kept the old settings" in page
    assert re.search(r"<b>version</b> (redis|valkey)", page)
    assert KEY not in page


def test_an_open_day_has_a_row_for_each_rule_and_its_figures_name_what_is_under_way(console):
    console.ledger.prepare()
    runs(console.ledger)  # by the rule whose name is markup
    other = {"to_number": "4912345678", "signed": True, "url": "https://media.vobiz.ai/o.mp3"}
    began = Event(
        id="o", kind=Kind.RECORDING_STARTED, call_uuid="call-o", recording_id="rec-o", **other
    )
    console.ledger.record(ACCOUNT, began)
    today = console.ledger.now().date()
    page = console.page(f"/days/{today}")
    strict(page)
    assert "line &lt;b onclick=alert(3)&gt;" in page
    assert ["Under way", "2"] in [line[:2] for line in tables(page)]
    assert f'<td class="d-busy unclosed"><a href="/days/{today}"' in console.page("/days")
    both = console.page(f"/days/{today}/under_way")
    strict(both)
    assert ("rec-1" in both, "rec-o" in both, "919840000001" in both) == (True, True, False)
    one = console.page(f"/days/{today}/under_way?rule=defaults")
    assert ("rec-1" in one, "rec-o" in one) == (False, True)
    for first_or_last in ("/days/0001-01-01", "/days/9999-12-31", "/days?month=0001-01"):
        strict(console.page(first_or_last))
    assert "/days/9999-12-31" not in console.page("/days?month=9999-12")  # nothing is known of it
