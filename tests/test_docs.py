"""What the documents promise and what is there are the same."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from emulator.faults import FAULTS
from webhooks.app import create_app
from worker import settings
from worker.cli import main
from worker.errors import REMEDIES
from worker.policy import Terms
from worker.recording import TRIGGERS, Kind, Phase, StopState

ROOT = Path(__file__).resolve().parent.parent
README, RULES, GLOSSARY, EMULATOR = ((ROOT / p).read_text() for p in ("README.md", "docs/rules.md", "docs/glossary.md", "docs/emulator.md"))


def test_every_setting_stands_in_the_readme_and_no_other():
    table = README[README.index("## Settings"):README.index("## How it flows")]
    named = {name for line in table.splitlines() if line.startswith("| `") for name in re.findall(r"`([A-Z_]{4,})`", line.split("|")[1])}
    assert named == settings.KNOWN


def test_every_command_stands_in_the_readme_and_no_other():
    line = re.search(r"Commands: `endtape ([^`]+)`", README)[1]
    assert set(line.split(" | ")) == set(main.commands)


def test_every_route_stands_in_the_readme(tmp_path):
    environ = {"VOBIZ_AUTH_ID": "MA_1", "VOBIZ_AUTH_TOKEN": "t", "REDIS_URL": "redis://127.0.0.1:1", "ENDTAPE_CALLBACK_TOKEN": "a" * 16, "ENDTAPE_API_KEY": "b" * 16}
    app = create_app(settings.Settings.from_env(environ, folder=tmp_path))
    routes = {re.sub(r"<(?:path:)?(\w+)>", r"{\1}", str(rule)) for rule in app.url_map.iter_rules()}
    shown = {r.replace("{call_uuid}", "{uuid}").replace("{recording_id}", "{id}") for r in routes if not r.startswith("/vobiz")}
    assert not [r for r in shown if f"`{r}`" not in README and f"GET {r}`" not in README]
    assert "`/vobiz/…`" in README


def test_no_route_but_the_probes_answers_without_a_key(tmp_path):
    environ = {"VOBIZ_AUTH_ID": "MA_1", "VOBIZ_AUTH_TOKEN": "t", "REDIS_URL": "redis://127.0.0.1:1", "ENDTAPE_CALLBACK_TOKEN": "a" * 16, "ENDTAPE_API_KEY": "b" * 16}
    app = create_app(settings.Settings.from_env(environ, folder=tmp_path))
    with app.test_client() as client:
        for rule in app.url_map.iter_rules():
            path = re.sub(r"<[^>]+>", "x", str(rule))
            if path not in {"/healthz", "/readyz", "/metrics"}:
                assert client.get(path).status_code in {401, 404}, path
                assert client.get(path, headers={"Authorization": "Bearer " + "c" * 16}).status_code in {401, 404}, path


def test_every_key_of_the_rules_stands_in_their_document():
    for field in fields(Terms):
        assert f"`{field.name}`" in RULES
    for trigger in set(TRIGGERS.values()) - {"api"}:
        assert f"`{trigger}`" in RULES


@pytest.mark.parametrize("word", [*Kind, *Phase, *StopState, *REMEDIES])
def test_every_word_that_is_shown_to_a_person_stands_in_the_glossary(word):
    assert f"`{word}`" in GLOSSARY


def test_every_bad_day_stands_in_the_emulators_document():
    assert not [name for name in FAULTS if f"`{name}`" not in EMULATOR]


def test_links_between_documents_lead_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for name in re.findall(r"\b(docs/[\w/.-]+\.md)\b", page.read_text()):
            assert (ROOT / name).exists(), f"{page.name}: {name}"


def test_each_unit_of_systemd_runs_its_line_of_the_procfile():
    for line in (ROOT / "Procfile").read_text().splitlines():
        name, _, command = line.partition(": ")
        unit = (ROOT / "deploy" / "systemd" / f"endtape-{name}@.service").read_text()
        assert f"ExecStart=/opt/endtape/{command}\n" in unit


def test_every_alert_is_explained():
    raised = {name for path in (ROOT / "worker").glob("*.py") for name in re.findall(r'alert\(\s*"(\w+)"', path.read_text())}
    page = (ROOT / "docs" / "operations.md").read_text()
    table = page[page.index("## Alerts"):page.index("## What to watch")]
    assert {name for name in raised if f"`{name}`" not in table} == set()


def test_every_metric_to_watch_is_served():
    page = (ROOT / "docs" / "operations.md").read_text()
    served = (ROOT / "webhooks" / "metrics.py").read_text()
    for name in set(re.findall(r"`endtape_(\w+)`", page)):
        assert name in served, name
