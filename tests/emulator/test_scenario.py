"""Scenario files: the documented example plays as described, and a wrong file is refused with the
key of each mistake.
"""

import re
from pathlib import Path

import pytest

from emulator import scenario
from emulator.bad_days import BAD_DAYS
from tests.waiting import until

DOCS = (Path(__file__).resolve().parent.parent.parent / "docs" / "emulator.md").read_text()
ACCOUNTS = {"MA_E"}


def test_the_documented_example_plays_as_it_says(provider, inbox):
    plot = scenario.read(re.search(r"```toml\n(.*?)```", DOCS, re.DOTALL)[1], ACCOUNTS)
    scenario.play(plot, provider)
    call = plot.calls["sales"]
    until(lambda: inbox.events().count("Hangup") == 3 and provider.wait_idle(5))
    mine = [a.event for a in inbox.arrived if a.fields.get("CallUUID") == call]
    assert mine[:5] == ["StartApp", "Record", "DialAnswer", "DialConnected", "MachineDetection"]
    assert sorted(mine[5:]) == ["DialHangup", "Hangup", "Hangup", "RecordStop", "Redirect"]
    assert mine.index("RecordStop") < mine.index("Hangup")
    assert (
        next(a for a in inbox.arrived if a.event == "MachineDetection").fields["Machine"] == "false"
    )
    recording = next(r for r in provider.recordings.values() if r.call_uuid == call)
    assert (recording.container, recording.channels, recording.end_reason) == (
        "wav",
        2,
        "FinishedOnKey",
    )
    assert {"CallInitiated"} < set(inbox.events())


def test_bad_days_come_and_go_at_their_times(provider):
    plot = scenario.read(
        '[[faults]]\nname = "deaf-stop"\nat = 0.02\nuntil = 0.06\n[[faults]]\nname = "api-5xx"\nstatus = 502',
        ACCOUNTS,
    )
    assert plot.lasts_s == 0.06
    scenario.play(plot, provider)
    assert provider.faults.listing()["on"]["api-5xx"]["status"] == 502
    until(lambda: "deaf-stop" in provider.faults.listing()["on"])
    until(lambda: "deaf-stop" not in provider.faults.listing()["on"])


def test_every_verb_can_be_played(provider, inbox):
    does = [
        'do = "announce"',
        'do = "dial"\nto_number = "1"',
        'do = "dial_end"\ncause = "USER_BUSY"\nredirect = false',
        'do = "join_room"\nroom = "r"',
        'do = "leave_room"',
        f'do = "transfer"\nurl = "{inbox.url}"',
    ]
    text = "[[calls]]\n" + "".join(
        f"[[calls.events]]\nat = {0.02 * n}\n{do}\n" for n, do in enumerate(does)
    )
    scenario.play(scenario.read(text, ACCOUNTS), provider)
    until(
        lambda: (
            {
                "StartApp",
                "DialConnected",
                "DialAction",
                "ConferenceEnter",
                "ConferenceExit",
                "Transfer",
            }
            <= set(inbox.events())
        )
    )


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("[[calls]\n", "not TOML"),
        ("[[call]]\n", "call: is not known here"),
        ("calls = 3\n", "calls: is not a list of tables"),
        ("[[calls]]\nat = 'soon'\n", "calls[0].at: 'soon' is not int or float"),
        ("[[calls]]\nat = -1\n", "calls[0].at: -1 is below 0"),
        ("[[calls]]\nat = true\n", "calls[0].at: True is not"),
        ("[[calls]]\n[[calls]]\ncolour = 'red'\n", "calls[1].colour: is not known here"),
        ("[[calls]]\nfrom = 91\n", "calls[0].from: 91 is not str"),
        ("[[calls]]\naccount = 'MA_X'\n", "calls[0].account: 'MA_X' is none of MA_E"),
        ("[[calls]]\ndirection = 'up'\n", "calls[0].direction: 'up' is none of inbound, outbound"),
        ("[[calls]]\nsignature = 'v9'\n", "calls[0].signature: 'v9' is none of"),
        ("[[calls]]\nname = 'a'\n[[calls]]\nname = 'a'\n", "calls[1].name: 'a' is taken"),
        (
            "[[calls]]\nhangup_at = 2\n[[calls.recordings]]\nat = 3\n",
            "calls[0].recordings[0].at: 3 is not before the call's hangup_at, 2",
        ),
        (
            "[[calls]]\n[[calls.recordings]]\nat = 3\nstop_at = 1\n",
            "calls[0].recordings[0].stop_at: 1 is before",
        ),
        (
            "[[calls]]\n[[calls.recordings]]\ncontainer = 'ogg'\n",
            "calls[0].recordings[0].container: 'ogg' is none of mp3, wav",
        ),
        ("[[calls]]\n[[calls.events]]\nat = 1\n", "calls[0].events[0]: needs `event`, or `do`"),
        (
            "[[calls]]\n[[calls.events]]\ndo = 'dance'\n",
            "calls[0].events[0]: needs `event`, or `do`",
        ),
        ("[[calls]]\n[[calls.events]]\ndo = 'dial'\n", "calls[0].events[0].to_number: is missing"),
        (
            "[[calls]]\n[[calls.events]]\ndo = 'leave_room'\nroom = 'r'\n",
            "calls[0].events[0].room: is not known here",
        ),
        ("[[faults]]\nname = 'no-such-day'\n", "faults[0].name: 'no-such-day' is no bad day"),
        ("[[faults]]\nname = 'deaf-stop'\ncall = 'x'\n", "faults[0].call: no call is named 'x'"),
        (
            "[[faults]]\nname = 'deaf-stop'\nloud = 1\n",
            "faults[0]: deaf-stop has no parameter loud",
        ),
    ],
)
def test_a_mistake_is_named_by_its_key(text, mistake):
    with pytest.raises(scenario.ScenarioError) as found:
        scenario.read(text, ACCOUNTS)
    assert mistake in str(found.value)


def test_all_mistakes_are_told_at_once():
    with pytest.raises(scenario.ScenarioError) as found:
        scenario.read("[[calls]]\nat = -1\n[[calls]]\ncolour = 1\n[[faults]]\n", ACCOUNTS)
    assert len(str(found.value).splitlines()) == 3


def test_the_table_of_bad_days_in_the_docs_is_the_list_of_bad_days():
    rows = dict(re.findall(r"^\| `([a-z0-9-]+)` \| (.*) \|$", DOCS, re.MULTILINE))
    assert {name: rows[name].split(" | ")[1] for name in BAD_DAYS} == {
        name: fault.says for name, fault in BAD_DAYS.items()
    }
    for name, fault in BAD_DAYS.items():
        assert re.findall(r"`(\w+)`", rows[name].split(" | ")[0]) == list(fault.params)
