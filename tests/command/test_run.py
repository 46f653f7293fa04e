"""What `endtape run` does to `.env`: it adds the secrets of ours that are set nowhere, and touches
nothing else."""

import os
import re

import pytest

from worker.command.run import add_secrets
from worker.command.run_env import overlay
from worker.errors import SettingsError
from worker.settings import Settings
from worker.variables.dotenv_file import environment

OURS = ("ENDTAPE_CALLBACK_TOKEN", "ENDTAPE_API_KEY")
ACCOUNT = "VOBIZ_AUTH_ID=MA_1\nVOBIZ_AUTH_TOKEN=t"


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in [*OURS, "VOBIZ_AUTH_ID", "VOBIZ_AUTH_TOKEN"]:
        monkeypatch.delenv(name, raising=False)
    return tmp_path / ".env"


@pytest.mark.parametrize(
    "before",
    [
        None,
        b"",
        ACCOUNT.encode(),
        ACCOUNT.encode() + b"\n",
        ACCOUNT.replace("\n", "\r\n").encode() + b"\r\n",
        b"# ENDTAPE_API_KEY=commented-out-0000\n" + ACCOUNT.encode(),
        ACCOUNT.encode() + b"\nENDTAPE_API_KEY=\nENDTAPE_CALLBACK_TOKEN=''\n",
        b"\xef\xbb\xbf" + ACCOUNT.encode(),
        b"export VOBIZ_AUTH_ID=MA_1\nVOBIZ_AUTH_TOKEN='a b'  # new",
        b'NOTE="two\nlines"',
        b'OPEN="no end',
        "NAME=\u091c\u092f".encode(),
    ],
)
def test_missing_secrets_are_added_behind_what_stands_there_readable_by_the_owner_only(
    place, capsys, before
):
    if before is not None:
        place.write_bytes(before)
        place.chmod(0o644)
    told_before = environment(place.parent, {})
    add_secrets(place)
    after = place.read_bytes()
    told = environment(place.parent, {})
    assert after.startswith(before or b"")
    assert {name: value for name, value in told.items() if name not in OURS} == told_before
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{32}", told[name]) for name in OURS)
    assert told["ENDTAPE_API_KEY"] != told["ENDTAPE_CALLBACK_TOKEN"]
    assert place.stat().st_mode & 0o777 == 0o600
    assert (b"\r\n" in (before or b"")) == (after.count(b"\r\n") == after.count(b"\n"))
    said = capsys.readouterr().out
    assert all(name in said for name in OURS)
    assert not [told[name] for name in OURS if told[name] in said]
    add_secrets(place)  # nothing is missing any more
    assert (place.read_bytes(), capsys.readouterr().out) == (after, "")


def test_what_is_set_anywhere_is_left_alone(place, monkeypatch, capsys):
    place.write_text("ENDTAPE_API_KEY=short\n")
    place.chmod(0o640)
    monkeypatch.setenv("ENDTAPE_CALLBACK_TOKEN", "c" * 16)
    add_secrets(place)  # a wrong one is named by the settings
    assert (place.read_text(), place.stat().st_mode & 0o777, capsys.readouterr().out) == (
        "ENDTAPE_API_KEY=short\n",
        0o640,
        "",
    )
    monkeypatch.setenv("ENDTAPE_CALLBACK_TOKEN", "")  # empty means not set
    add_secrets(place)
    assert re.fullmatch(
        r"ENDTAPE_API_KEY=short\nENDTAPE_CALLBACK_TOKEN=\S{32}\n", place.read_text()
    )
    assert (
        len(
            Settings.from_env(
                {
                    "VOBIZ_AUTH_ID": "MA_1",
                    "VOBIZ_AUTH_TOKEN": "t",
                    "REDIS_URL": "redis://h",
                    "ENDTAPE_API_KEY": "k" * 16,
                }
            ).callback_token
        )
        == 32
    )


def test_a_link_stays_one_and_what_it_names_gets_the_secrets(place):
    secret = place.parent / "secrets"
    secret.mkdir()
    place.symlink_to("secrets/endtape")  # leads nowhere yet
    add_secrets(place)
    assert (place.is_symlink(), (secret / "endtape").stat().st_mode & 0o777) == (True, 0o600)
    assert set(OURS) <= environment(place.parent, {}).keys()


@pytest.mark.parametrize(
    "made",
    [
        lambda p: p.mkdir(),
        lambda p: p.symlink_to("no/such/folder/env"),
        lambda p: p.write_bytes(b"A=\xff"),
        lambda p: p.symlink_to("/dev/null"),
    ],
)
def test_where_nothing_can_be_added_it_is_said_what_is_to_be_written_by_hand(place, made):
    made(place)
    with pytest.raises(
        SettingsError, match=r"\.env cannot be (written .*ENDTAPE_API_KEY|read .*UTF-8)"
    ):
        add_secrets(place)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anything")
def test_a_file_that_may_not_be_written_is_left_as_it_is(place):
    place.write_text(ACCOUNT)
    place.chmod(0o400)
    with pytest.raises(
        SettingsError, match=r"Permission denied.*ENDTAPE_CALLBACK_TOKEN, ENDTAPE_API_KEY"
    ):
        add_secrets(place)
    assert place.read_text() == ACCOUNT


def test_what_a_run_told_fills_up_what_is_set_nowhere_else_also_where_it_is_empty(
    place, monkeypatch
):
    (place.parent / "data").mkdir()
    (place.parent / "data" / "run.env").write_text("REDIS_URL=unix:///run\nPORT=9000\nHOST=h\n")
    place.write_text("HOST=own\n")
    monkeypatch.setenv("REDIS_URL", "")
    monkeypatch.setenv("PORT", "7000")
    found = overlay()
    assert (found["REDIS_URL"], found["PORT"], "HOST" in found) == ("unix:///run", "7000", False)
