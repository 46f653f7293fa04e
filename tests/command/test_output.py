"""What the commands print at 80 columns, beside files that show it, and what holds for all of them.

After a change that is meant: `pytest tests/command/test_output.py --golden` writes the files anew.
"""

import json
import os
import re
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner
from rich.text import Text

from tests.command.builders import settings_in
from tests.conftest import empty_ledger
from tests.constants import ACCOUNT
from tests.waiting import until
from worker.calls.events import Event, Fault, Kind
from worker.calls.rules import Rules
from worker.command import event_lines, main
from worker.command.terminal import print_table, table_of
from worker.ledger.client import Ledger
from worker.ledger.notices import Failing
from worker.ledger.store import connect

GOLDEN = Path(__file__).parent / "golden"
RULES = """\
[defaults]
max_duration = "1h"

[[rules]]
name = "payments line of the second floor"
match = { to = "91804*" }
max_duration = "5m"
"""
CALLS = ["ca11aaa1-0000-4000-8000-aaaaaaaaaaaa", "ca11aaa2-0000-4000-8000-aaaaaaaaaaaa"]
LIVE, UNKNOWN, LOST = (f"4ec04d{n}f-0000-4000-8000-bbbbbbbbbbbb" for n in (1, 2, 3))
JANUARY = [f"4ec04d{n}f-0000-4000-8000-bbbbbbbbbbbb" for n in range(4, 9)]
TIMES = re.compile(
    r"20\d\d-\d\d-\d\d(T| )|\b\d\d-\d\d\s+\d\d:\d\d(:\d\d)?"
    r"|(?<![.\d])\d+:\d\d(:\d\d)?(\.\d+)?|\d+\.\d s\b"
)


def seen(kind, call, recording=None, **facts):
    return Event(
        id=f"{kind.value}-{recording}",
        kind=kind,
        call_uuid=call,
        recording_id=recording,
        signed=True,
        **facts,
    )


def tell(ledger):
    """A recording that runs, one whose end nothing proves, and one that does not come home."""
    now = ledger.now()
    numbers = {"from_number": "919820055512", "direction": "inbound"}
    events = [
        seen(Kind.CALL_SEEN, CALLS[0], to_number="918040000001", **numbers),
        seen(Kind.RECORDING_STARTED, CALLS[0], LIVE, started_at=now - timedelta(seconds=100)),
        seen(Kind.CALL_SEEN, CALLS[1], to_number="918065550101", **numbers),
        seen(Kind.LOOKED, CALLS[1], live=True),
        seen(Kind.RECORDING_STARTED, CALLS[1], UNKNOWN, started_at=now - timedelta(hours=2)),
        seen(
            Kind.STOP_UNKNOWN,
            CALLS[1],
            UNKNOWN,
            reason="no proof that the recording ended, 4 stops were sent",
        ),
        seen(Kind.RECORDING_STARTED, CALLS[1], LOST, started_at=now - timedelta(hours=2)),
        seen(Kind.RECORDING_FINALIZED, CALLS[1], LOST, ended_at=now - timedelta(hours=1)),
        seen(
            Kind.FETCH_FAILED,
            CALLS[1],
            LOST,
            reason="503 of the media host",
            fault=Fault.PROVIDER,
        ),
        seen(
            Kind.ABANDONED,
            CALLS[1],
            LOST,
            reason="tried 9 times: 503 of the media host",
            fault=Fault.PROVIDER,
        ),
    ]
    for event in events:
        _, at = ledger.record(ACCOUNT, event)
        until(lambda at=at: ledger.now() - at > timedelta(milliseconds=1))  # one after the other
    ledger.note_failing(
        Failing(
            account=ACCOUNT,
            call_uuid=CALLS[1],
            endpoint="e",
            notice="msg_2KWPBgLlAfxdpx2AI54pPJ85f4W",
            type="stop.unknown",
            url="https://app.example.com/endtape",
            tries=3,
            why="answered 410",
            given_up=True,
        )
    )
    ledger.degrade("archive", "No space left on device")


def tell_of_january(ledger):
    """Five recordings of one past day: one was given up, one is short, the others are on their way
    home.
    """
    began = datetime(2026, 1, 1, 10, tzinfo=UTC)
    for n, recording in enumerate(JANUARY):
        lasted = timedelta(seconds=0.2 if n == 1 else 90)
        call = recording.replace("bbbb", "aaaa")
        events = [
            seen(Kind.RECORDING_STARTED, call, recording, started_at=began),
            seen(Kind.RECORDING_FINALIZED, call, recording, ended_at=began + lasted),
            seen(Kind.CALL_ENDED, call),
        ]
        if n == 0:
            why = {"reason": "tried 9 times", "fault": Fault.PROVIDER}
            events += [seen(Kind.FETCH_FAILED, call, recording, **why)]
            events += [seen(Kind.ABANDONED, call, recording, **why)]
        for event in events:
            ledger.record(ACCOUNT, event)


@pytest.fixture(scope="module")
def house(redis_server, tmp_path_factory):
    """Two ledgers, one that is empty and one in which something happened, and their settings."""
    folder = tmp_path_factory.mktemp("house")
    (folder / "endtape.toml").write_text(RULES)
    settings = settings_in(folder)
    with ExitStack() as open_things:
        empty, full, january = (
            open_things.enter_context(empty_ledger(redis_server)) for _ in range(3)
        )
        tell(full)
        tell_of_january(january)
        yield SimpleNamespace(
            settings=settings, empty=empty, full=full, january=january, redis_url=redis_server.url
        )


@pytest.fixture
def endtape(house, monkeypatch):
    """Runs a command in this process, on one of the two ledgers."""

    def run(*words, ledger=house.full, columns="80", settings=house.settings):
        command = main.main.get_command(None, words[0])
        module = sys.modules[command.callback.__module__]
        for name, found in {
            "open_ledger": lambda **_: (settings, ledger),
            "current_settings": lambda **_: settings,
            "connect": lambda _url: ledger.redis,
            "Ledger": lambda _client: ledger,
        }.items():
            if hasattr(module, name):
                monkeypatch.setattr(module, name, found)
        monkeypatch.setenv("COLUMNS", columns)
        return CliRunner().invoke(main.main, words, prog_name="endtape")

    return run


SHOWN = {
    "ls": ("ls",),
    "ls-running": ("ls", "--running"),
    "ls-unproven": ("ls", "--unproven"),
    "ls-abandoned": ("ls", "--abandoned"),
    "show": ("show", CALLS[1]),
    "explain": ("explain", "--call", CALLS[0], "--trigger", "transfer.blind"),
    "simulate": ("simulate", "--rules", "new.toml"),
    "top": ("top", "--once"),
    "notify": ("notify",),
    "urls": ("urls",),
    "ledger": ("ledger", "--day", "2026-01-01"),
}


@pytest.mark.parametrize("name", SHOWN)
def test_a_command_prints_what_its_file_shows_within_80_columns(name, endtape, request, tmp_path):
    words = [str(tmp_path / w) if w == "new.toml" else w for w in SHOWN[name]]
    (tmp_path / "new.toml").write_text('[defaults]\nmax_duration = "5m"\n')
    found = endtape(*words)
    assert found.exit_code == 0, found.output
    text = "".join(f"{line.rstrip()}\n" for line in found.stdout.splitlines())
    text = TIMES.sub(lambda m: re.sub(r"\d", "0", m[0]), text)
    if request.config.getoption("golden"):
        (GOLDEN / f"{name}.txt").write_text(text)
    assert text == (GOLDEN / f"{name}.txt").read_text()
    if name != "urls":  # their lines are there to be pasted
        assert max(map(len, text.splitlines())) <= 80
    whole = {i for i in (*CALLS, LIVE, UNKNOWN, LOST) if i[:8] in text}
    assert not [i for i in whole if i not in text]


def test_the_ledger_names_whole_whatever_is_unexplained_and_why(endtape, house, request):
    words = ("ledger", "--day", "2026-01-01")
    found = endtape(*words, ledger=house.january)
    text = "".join(f"{line.rstrip()}\n" for line in found.stdout.splitlines())
    if request.config.getoption("golden"):
        (GOLDEN / "ledger-unexplained.txt").write_text(text)
    assert (found.exit_code, text) == (1, (GOLDEN / "ledger-unexplained.txt").read_text())
    (row,) = json.loads(endtape(*words, "--json", ledger=house.january).stdout)["rows"]
    assert row["unexplained"]["why"] == {JANUARY[0]: ["missing"], JANUARY[1]: ["too_short"]}


def test_show_says_nothing_of_rules_that_are_not_in_force(endtape, house):
    call = JANUARY[2].replace("bbbb", "aaaa")
    unread = replace(house.settings, config=None, rules=Rules())
    assert "only observes" in endtape("show", call, ledger=house.january, settings=unread).stdout
    house.january.had_rules("endtape.toml")  # so the processes have rules, and the file is broken
    assert (
        "only observes" not in endtape("show", call, ledger=house.january, settings=unread).stdout
    )


def test_a_day_is_taken_where_an_instant_is(endtape):
    assert LIVE in endtape("ls", "--since", "2026-01-01").stdout
    assert endtape("ls", "--until", "2026-01-01").stdout == "No recording matches.\n"
    refused = endtape("ls", "--since", "yesterday")
    assert (refused.exit_code, "neither a day (UTC) like 2026" in refused.stderr) == (2, True)


def test_tables_are_as_wide_as_the_terminal(endtape):
    def widest(columns):
        return max(len(x.rstrip()) for x in endtape("ls", columns=columns).stdout.splitlines())

    assert widest("80") <= 80 < widest("140") <= 140


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["ls"], "No recording is known yet."),
        (["ls", "--rule", "x"], "No recording matches."),
        (["ls", "--running"], "Nothing records: all that is known is proven over."),
        (["ls", "--unproven"], "Every stop that was due is proven."),
        (["ls", "--failing"], "Nothing fails, and nothing is abandoned."),
        (["ls", "--abandoned"], "Nothing is abandoned."),
        (["top", "--once"], "Nothing records."),
        (["notify"], "nobody is notified.\n"),
        (["simulate", "--rules", "endtape.toml"], "No recording was first seen within 7d."),
        (["ledger", "--day", "2026-01-01"], "no recording began on 2026-01-01"),
    ],
)
def test_an_empty_list_says_what_it_means(words, says, endtape, house, monkeypatch):
    monkeypatch.chdir(house.settings.config.parent)
    assert says in endtape(*words, ledger=house.empty).stdout


def test_top_tells_the_same_as_json(endtape):
    told = json.loads(endtape("top", "--json").stdout)
    assert (
        told["recording"],
        [v["recording_id"] for v in told["stops_unproven"]],
        told["abandoned"],
        told["processes"],
        told["degraded"],
        told["notifications_failing"],
        told["due"]["plan"]["count"],
        told["last_hour"]["lateness"]["stops"],
    ) == (
        2,
        [UNKNOWN],
        1,
        {"stops": 0, "fetches": 0, "keep": 0, "clock": 0},
        {"archive": "No space left on device"},
        1,
        2,
        0,
    )


@pytest.mark.parametrize("words", [["watch"], ["top"], ["top", "--json"], ["ls"]])
def test_where_redis_does_not_answer_a_command_says_so_and_ends_with_1(words, endtape):
    nobody = Ledger(connect("redis://127.0.0.1:1", timeout_s=0.1))
    found = endtape(*words, ledger=nobody)
    assert (found.exit_code, "Redis does not answer" in found.stderr) == (1, True)


@pytest.mark.parametrize("name", main.COMMANDS)
def test_each_command_has_an_example_that_it_takes_and_the_line_of_its_help(name):
    command = main.main.get_command(None, name)
    assert main.COMMANDS[name][1] == command.get_short_help_str(100)
    assert command.epilog.startswith("Example: ")
    words = command.epilog.removeprefix("Example: ")
    assert f"endtape {name}" in words
    if name != "emulator":  # it hands every option on
        assert not [p.name for p in command.params if isinstance(p, click.Option) and not p.help]
        shown = re.findall(r"--[a-z-]+", words)
        known = {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
        assert not [o for o in shown if o not in known]
    prints_nothing_to_count = {"run", "emulator", "completion"}
    options = {p.name for p in command.params}
    assert ("as_json" in options) == (name not in prints_nothing_to_count)


def test_a_mistyped_command_is_answered_with_the_nearest_one():
    found = CliRunner().invoke(main.main, ["shwo"], prog_name="endtape")
    assert (found.exit_code, "Did you mean 'show'?" in found.stderr) == (2, True)
    found = CliRunner().invoke(main.main, ["xyzzy"], prog_name="endtape")
    assert (found.exit_code, "Did you mean" in found.stderr) == (2, False)


@pytest.mark.parametrize(
    "words", [("show", "mistyped"), ("explain", "--call", "mistyped"), ("retry", "mistyped")]
)
def test_of_a_call_known_from_a_stop_alone_it_is_said_that_nothing_is(words, endtape, house):
    now = house.empty.now()
    stop = {"call_uuid": "mistyped", "recording_id": None}
    with empty_ledger(SimpleNamespace(url=house.redis_url)) as ledger:
        ledger.record(ACCOUNT, Event(id="s", kind=Kind.STOP_ORDERED, by="cli:ops", **stop))
        assert "nothing is known of it" not in endtape(*words, ledger=ledger).output
        ledger.record(
            ACCOUNT, Event(id="f", kind=Kind.CALL_FOUND_OVER, requested_at=now, status=404, **stop)
        )
        assert "nothing is known of it but our own stop" in endtape(*words, ledger=ledger).output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands_and_options(shell):
    script = CliRunner().invoke(main.main, ["completion", shell], prog_name="endtape").stdout
    assert f"_ENDTAPE_COMPLETE={shell}_complete" in script
    line = {"bash": "endtape ls --ab", "zsh": "endtape ls --ab", "fish": "endtape ls --ab"}[shell]
    found = CliRunner().invoke(
        main.main,
        [],
        prog_name="endtape",
        env={
            "_ENDTAPE_COMPLETE": f"{shell}_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": "--ab" if shell == "fish" else "2",
        },
    )
    assert "--abandoned" in found.stdout
    first = CliRunner().invoke(
        main.main,
        [],
        prog_name="endtape",
        env={
            "_ENDTAPE_COMPLETE": f"{shell}_complete",
            "COMP_WORDS": "endtape to",
            "COMP_CWORD": "to" if shell == "fish" else "1",
        },
    )
    assert ("top" in first.stdout, "watch" in first.stdout) == (True, False)


def test_a_command_that_only_reads_loads_neither_celery_nor_the_client_of_the_provider():
    reading = ["ls", "show", "top", "watch", "keys", "urls", "explain", "simulate", "completeness"]
    code = "import sys, worker.command.main\n" + "".join(
        f"import worker.command.{name}\n" for name in reading
    )
    heavy = ("celery", "kombu", "requests", "pycurl", "flask", "boto3", "emulator")
    code += f"print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("live", "reason", "says"),
    [
        (None, None, "the provider's list was read"),
        (True, None, "the provider has the call live"),
        (False, None, "the provider has no such live call"),
        (None, "503", "it failed; 503"),
    ],
)
def test_a_look_says_what_it_saw(live, reason, says):
    event = Event(id="e", kind=Kind.LOOKED, call_uuid="c", live=live, reason=reason)
    assert event_lines.text("MA_1", event, width=None).endswith(says)


def test_a_terminal_obeys_nothing_that_somebody_else_wrote(capsys):
    hostile = "\x1b[2J\x9bforged [/red] [bold]x"
    event = Event(
        id="e", kind=Kind.CUSTOM_REPORTED, call_uuid="c", reason=f"{hostile}\nlike a line"
    )
    line = event_lines.text("MA_1", event, width=None)
    assert ("?[2J?forged [/red] [bold]x?like a line" in line, line.isprintable()) == (True, True)
    table = table_of("recording, problem", "fault")
    table.add_row(Text(f"rec-1\n{hostile}"), hostile)
    print_table(table)
    printed = capsys.readouterr().out
    assert printed.replace("\n", "").isprintable()
    assert "[/red] [bold]x" in " ".join(printed.split())
