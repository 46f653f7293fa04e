"""What the documents promise and what is there are the same."""

import re
import shlex
from pathlib import Path

import click
import msgspec
import pytest

from emulator.bad_days import BAD_DAYS
from webhooks.api import response_shapes
from webhooks.api.request_bodies import AnnouncedRecording
from webhooks.api.routes import ROUTES
from webhooks.app import create_app
from worker import settings
from worker.calls import rules_file, triggers
from worker.calls.call import Phase, StopState
from worker.calls.events import TRIGGERS, Kind
from worker.calls.terms_file import TERMS
from worker.command import main
from worker.ledger.counters import REMEDIES
from worker.variables.table import KNOWN
from worker.vobiz import callbacks

ROOT = Path(__file__).resolve().parent.parent
README, CONTRIBUTING = ((ROOT / p).read_text() for p in ("README.md", "CONTRIBUTING.md"))
RULES, GLOSSARY, EMULATOR, API, SETTINGS, COMMANDS, TRANSFERS, CONSOLE = (
    (ROOT / "docs" / f"{p}.md").read_text()
    for p in (
        "rules",
        "glossary",
        "emulator",
        "api",
        "settings",
        "commands",
        "transfers",
        "console",
    )
)


def test_the_readme_is_an_introduction_and_the_guide_for_contributors_is_a_page():
    assert len(README.splitlines()) <= 120
    assert len(CONTRIBUTING.splitlines()) <= 100
    for path in (ROOT / "docs").glob("*.md"):
        assert f"docs/{path.name}" in README, path.name


def test_every_setting_stands_in_the_table_of_settings_and_no_other():
    named = {
        name
        for line in SETTINGS.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`([A-Z_]{4,})`", line.split("|")[1])
    }
    assert named == KNOWN


def test_no_document_teaches_a_name_that_looks_like_a_setting_and_is_none():
    pages = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "deploy").rglob("*.service"),
    ]
    found = {
        (page.name, name)
        for page in pages
        for name in re.findall(r"\bENDTAPE_[A-Z_]+[A-Z]\b", page.read_text())
    }
    assert len(found) > 20
    in_rules_file = {"ENDTAPE_NOTIFY_SECRET"}  # the operator's own name, which the rules file names
    strange = [pair for pair in sorted(found) if pair[1] not in KNOWN | in_rules_file]
    assert not strange


def test_every_command_stands_in_the_table_of_commands_and_no_other():
    named = re.findall(r"^\| `endtape (\w+)` \|", COMMANDS, re.MULTILINE)
    assert sorted(named) == sorted(main.COMMANDS)


def test_every_target_of_make_stands_in_the_table_of_targets_and_no_other():
    named = re.findall(r"^\| `make ([\w-]+)` \|", COMMANDS, re.MULTILINE)
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    assert sorted(named) == sorted(phony.split())


def test_every_document_names_only_commands_and_targets_that_there_are():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    shown = {
        (page.name, word)
        for page in pages
        for word in re.findall(r"`(?:\.venv/bin/)?endtape ([a-z]\w*)", page.read_text())
    }
    assert len(shown) > 20
    assert not [(page, word) for page, word in sorted(shown) if word not in main.COMMANDS]


def commands_shown():
    """Each use of `endtape` with options or ids that a document shows: its page and words."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        text = page.read_text()
        inline = re.findall(r"`(?:\.venv/bin/)?endtape ([a-z]\w* [^`]+)`", text)
        of_blocks = re.findall(
            r"^(?: {4}|\$ )?(?:\.venv/bin/)?endtape ([a-z]\w* .+?)(?: +#.*| \|\|.*)?$",
            text,
            re.MULTILINE,
        )
        for shown in {*inline, *of_blocks}:
            # Square brackets stand around what may be left out, dots behind what may be repeated.
            words = re.sub(r"[\[\]…]|\.\.\.", "", shown.replace('"…"', "why"))
            words = words.replace("KIND", "media")
            found = shlex.split(words.replace("--bag DAY", "--bag 2026-09-14"))
            if len(found) > 1:
                yield page.name, found


def test_every_command_that_a_document_shows_is_one_that_the_command_line_takes():
    shown, wrong = sorted(commands_shown()), []
    assert len({tuple(words) for _, words in shown}) > 35
    for page, (name, *words) in shown:
        try:
            main.main.get_command(None, name).make_context(name, [*words])
        except click.ClickException as error:
            # Running text may name an option alone.
            if "requires an argument" not in error.message:
                wrong.append((page, name, *words, error.message))
    assert not wrong, "\n".join(map(str, wrong))


def test_every_trigger_of_a_transfer_stands_in_the_document_of_transfers():
    transfers = {name for name in TRIGGERS.values() if triggers.is_transfer(name)}
    assert len(transfers) >= 5
    for name in [*transfers, "transfer.KIND", "transfer.failed"]:
        assert f"`{name}`" in TRANSFERS


def test_every_route_stands_in_its_document(tmp_path):
    environ = {
        "VOBIZ_AUTH_ID": "MA_1",
        "VOBIZ_AUTH_TOKEN": "t",
        "REDIS_URL": "redis://127.0.0.1:1",
        "ENDTAPE_CALLBACK_TOKEN": "a" * 16,
        "ENDTAPE_API_KEY": "b" * 16,
    }
    app = create_app(settings.Settings.from_env(environ, folder=tmp_path))
    ours = [(r.method, re.sub(r"<(\w+)>", r"{\1}", r.path)) for r in ROUTES]
    assert not [
        (method, path)
        for method, path in ours
        if f"`{path}`" not in API and f"`{method} {path}`" not in API
    ]
    of_console = {
        str(rule) for rule in app.url_map.iter_rules() if rule.endpoint.startswith("console.")
    }
    others = {str(rule) for rule in app.url_map.iter_rules()} - {r.path for r in ROUTES}
    assert not [
        path
        for path in others
        if path != "/v1/openapi.json"
        and not path.startswith("/vobiz/")
        and path not in of_console
        and f"`{path}`" not in API
    ]
    assert len(of_console) > 15
    assert not [path for path in of_console if f"`{re.sub(r'<[^>]+>', '…', path)}`" not in CONSOLE]
    assert "`/vobiz/…`" in API
    assert "/v1/openapi.json" in API


def test_every_field_that_callers_may_send_stands_in_the_document_of_the_api():
    bodies_of = {r.body for r in ROUTES if r.body} | {AnnouncedRecording}
    sent = {field.encode_name for body in bodies_of for field in msgspec.structs.fields(body)}
    answered = {
        field.encode_name
        for shape in (response_shapes.Handoff, response_shapes.EventRecorded)
        for field in msgspec.structs.fields(shape)
    }
    assert not [name for name in sent | answered if not re.search(rf"[`, ]{name}[`,]", API)]
    assert not [
        name
        for route in ROUTES
        for name in route.query
        if f"`{name}`" not in API and f"?{name}=" not in API
    ]


def test_no_route_but_the_probes_and_the_public_keys_answers_without_a_key(tmp_path):
    environ = {
        "VOBIZ_AUTH_ID": "MA_1",
        "VOBIZ_AUTH_TOKEN": "t",
        "REDIS_URL": "redis://127.0.0.1:1",
        "ENDTAPE_CALLBACK_TOKEN": "a" * 16,
        "ENDTAPE_API_KEY": "b" * 16,
    }
    app = create_app(settings.Settings.from_env(environ, folder=tmp_path))
    with app.test_client() as client:
        for rule in app.url_map.iter_rules():
            path = re.sub(r"<[^>]+>", "x", str(rule))
            if path not in {"/healthz", "/readyz", "/metrics", "/v1/openapi.json", "/v1/keys"}:
                # At `/` there is the form to log in with, and nothing else.
                statuses = {200} if path == "/" else {401, 404, 405}
                assert client.get(path).status_code in statuses, path
                assert (
                    client.get(path, headers={"Authorization": "Bearer " + "c" * 16}).status_code
                    in statuses
                ), path


def test_every_key_of_the_rules_stands_in_their_document():
    for name in TERMS:
        assert f"`{name}`" in RULES
    for trigger in set(TRIGGERS.values()) - {"api"}:
        assert f"`{trigger}`" in RULES


@pytest.mark.parametrize("reported", ["Transfer", "Redirect", "DialAnswer", "DialConnected"])
def test_an_event_that_shows_a_transfer_raises_the_trigger_of_its_row(reported):
    event = callbacks.parse({"event": reported, "calluuid": "c1"})
    rows = [line for line in TRANSFERS.splitlines() if f"`{reported}`" in line]
    assert [row for row in rows if f"`{triggers.trigger_of(event)}`" in row.split("|")[4]]


def test_the_rules_that_the_documents_show_can_be_read():
    shown = [
        block
        for page in (ROOT / "docs").rglob("*.md")
        if page.name != "emulator.md"
        for block in re.findall(r"^```toml\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    ]
    assert len(shown) >= 2
    for block in shown:
        rules_file.read(block, "endtape.toml")


@pytest.mark.parametrize("word", [*Kind, *Phase, *StopState, *REMEDIES])
def test_every_word_that_is_shown_to_a_person_stands_in_the_glossary(word):
    assert f"`{word}`" in GLOSSARY


def test_every_bad_day_stands_in_the_emulators_document():
    assert not [name for name in BAD_DAYS if f"`{name}`" not in EMULATOR]


def test_every_test_that_the_threat_model_names_is_there():
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "security.md").read_text()))
    there = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    assert len(named) > 50
    assert named <= there, named - there


def test_links_between_documents_lead_somewhere():
    pages = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "CHANGELOG.md",
        *(ROOT / "docs").rglob("*.md"),
    ]
    assert len(pages) >= 30
    for page in pages:
        for name in re.findall(r"\b(docs/[\w/.-]+\.md)\b", page.read_text()):
            assert (ROOT / name).exists(), f"{page.name}: {name}"


def test_files_that_documents_name_are_there():
    # Decisions tell of the day on which they were made.
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    named = {
        (page.name, path)
        for page in pages
        for path in re.findall(
            r"\b((?:worker|webhooks|emulator|faults|benchmarks|tests)/[\w/]+\.(?:py|md|lua))\b",
            page.read_text(),
        )
    }
    assert len(named) > 100
    assert not [(page, path) for page, path in sorted(named) if not (ROOT / path).exists()]


def test_each_unit_of_systemd_runs_its_line_of_the_procfile():
    lines = (ROOT / "Procfile").read_text().splitlines()
    assert len(lines) >= 4
    for line in lines:
        name, _, command = line.partition(": ")
        unit = (ROOT / "deploy" / "systemd" / f"endtape-{name}@.service").read_text()
        assert f"ExecStart=/opt/endtape/{command}\n" in unit


def test_every_alert_is_explained():
    raised = {
        name
        for path in (ROOT / "worker").rglob("*.py")
        for name in re.findall(r'alert\(\s*"(\w+)"', path.read_text())
    }
    assert len(raised) >= 12
    page = (ROOT / "docs" / "operations.md").read_text()
    table = page[page.index("## Alerts") : page.index("## What to watch")]
    assert {name for name in raised if f"`{name}`" not in table} == set()


def test_every_metric_to_watch_is_served():
    page = (ROOT / "docs" / "operations.md").read_text()
    served = (ROOT / "webhooks" / "api" / "metrics.py").read_text()
    names = set(re.findall(r"`endtape_(\w+)`", page))
    assert len(names) >= 6
    for name in names:
        assert re.search(rf"\b(endtape_)?{name}\b", served), name
