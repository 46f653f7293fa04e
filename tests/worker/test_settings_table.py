"""The table of settings: what is read, shown and documented comes from it."""

import re
from dataclasses import fields
from pathlib import Path

from worker.in_force import shown
from worker.settings import Settings
from worker.variables.table import SETTINGS

ROOT = Path(__file__).resolve().parents[2]
GOOD = {
    "VOBIZ_AUTH_ID": "MA_1",
    "VOBIZ_AUTH_TOKEN": "hunter2-token",
    "REDIS_URL": "redis://me:hunter2@127.0.0.1:1",
    "ENDTAPE_CALLBACK_TOKEN": "hunter2-callback-token",
    "ENDTAPE_API_KEY": "hunter2-api-key-1,hunter2-api-key-2",
    "CELERY_BROKER_URL": "amqp://me:hunter2@a;amqp://me:hunter2@b?heartbeat=20",
}


def test_every_field_of_the_settings_but_what_reading_them_finds_is_in_the_table():
    read = {"rules", "notify", "hand_ons", "warnings", "restart"}
    found = {field.name for field in fields(Settings)} - read
    assert found == {setting.field for setting in SETTINGS}


def test_every_default_is_a_value_that_its_setting_takes():
    with_default = [setting for setting in SETTINGS if setting.default is not None]
    assert len(with_default) >= 15
    for setting in with_default:
        setting.kind.read(setting.default)


def test_the_documented_table_gives_each_setting_its_default_and_its_meaning():
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    rows = re.findall(
        r"^\| (`[A-Z_]+`(?:, `[A-Z_]+`)*) \| (.+?) \| (.+) \|$",
        "\n".join(page.read_text() for page in pages),
        re.MULTILINE,
    )
    documented = {
        name: (default.replace("`", "").split(", "), meaning)
        for names, default, meaning in rows
        for name in re.findall(r"[A-Z_]{4,}", names)
    }
    for setting in SETTINGS:
        defaults, meaning = documented[setting.name]
        plain = setting.default if setting.documented is None else setting.documented
        assert (plain or "required") in defaults, setting.name
        assert meaning == setting.meaning, setting.name


def test_settings_are_shown_without_secrets(tmp_path):
    texts = shown(Settings.from_env(GOOD, folder=tmp_path))
    assert set(texts) == {setting.field for setting in SETTINGS} | {"rules"}
    assert "hunter2" not in str(texts)
    assert (texts["redis_url"], texts["broker_url"]) == ("redis://127.0.0.1:1", "amqp://a;amqp://b")
    assert (texts["api_keys"], texts["app_key"]) == ("(set)", "(not set)")
    assert (texts["config"], texts["media_hosts"]) == ("(none)", "vobiz.ai, *.vobiz.ai")
    as_they_are_set = {
        "history": "30d",
        "redirect_hosts": "(none)",
        "stop_rate": "50",
        "signatures_required": "required",
        "allow_no_aof": "required",
        "shows_numbers": "masked",
    }
    assert {name: texts[name] for name in as_they_are_set} == as_they_are_set
