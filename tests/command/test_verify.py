"""`endtape verify` and `endtape keys`: what they trust, what they print, and how a run goes on."""

import json
import shlex
import shutil
from datetime import timedelta

import pytest
from click.testing import CliRunner

from tests.bad_days import ended
from tests.constants import ACCOUNT
from worker.archive.verify import Verifier
from worker.command import keys as keys_command
from worker.command import verify as command
from worker.duties import days
from worker.governing.signing import make_known

RULES = '[defaults]\nmax_duration = "1h"\n'


@pytest.fixture
def house(local, monkeypatch, tmp_path):
    found = local(rules=RULES)
    for module in (command, keys_command):
        monkeypatch.setattr(module, "open_ledger", lambda **_: (found.settings, found.ledger))
    monkeypatch.setattr(command, "current_settings", lambda **_: found.settings)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return found


def run(what, options=""):
    return CliRunner().invoke(what, shlex.split(options))


def archived(house):
    _, recording = ended(house)
    view = house.reach(recording.recording_id, "archived")
    return house.settings.archive / view["archive_key"]


def test_the_folder_of_one_account_is_refused_with_that_of_the_archive(house):
    archived(house)
    make_known(house.ledger, house.worker.archive)
    found = run(command.verify, str(house.settings.archive / ACCOUNT))
    assert found.exit_code == 2, found.output
    assert f"is a part of an archive, which is {house.settings.archive}" in found.output


def test_a_good_archive_is_exit_0_and_a_changed_byte_is_named_with_exit_1(house):
    audio = archived(house)
    found = run(command.verify)
    assert found.exit_code == 0, found.output
    assert "1 receipt, 1 good signature, 1 audio file (" in found.stdout
    content = audio.read_bytes()
    audio.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    found = run(command.verify, "--json")
    view = json.loads(found.stdout)
    assert (found.exit_code, view["quick"]) == (1, False)
    assert [(f["what"], f["path"].rpartition("/")[2]) for f in view["findings"]] == [
        ("altered", audio.name)
    ]
    line = next(x for x in run(command.verify).stdout.splitlines() if x.startswith("altered "))
    assert f"{audio.name}'" in line
    assert run(command.verify, "--quick").exit_code == 0


def test_it_trusts_the_service_or_the_file_that_is_named_never_the_archive_and_makes_no_key(
    house, tmp_path
):
    audio = archived(house)
    lines = tmp_path / "allowed_signers"
    lines.write_text(run(keys_command.keys).stdout)
    other = lines.read_text().rpartition(" ")[0] + " " + "AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43
    house.ledger.redis.delete(house.ledger.key("signing_keys"))
    (house.folder / "signing_key").unlink()
    nobody = run(command.verify)
    assert (nobody.exit_code, "--signers FILE" in nobody.stderr) == (2, True)
    assert not (house.folder / "signing_key").exists()
    named = f"{house.settings.archive} --signers {lines}"
    assert run(command.verify, named).exit_code == 0
    lines.write_text(other)
    found = run(command.verify, f"{named} --json")
    assert [f["what"] for f in json.loads(found.stdout)["findings"]] == ["unknown_key"]
    for text, why in (("", "names no key"), ("x y z", "line 1"), ("\0", "line 1")):
        lines.write_text(text)
        found = run(command.verify, named)
        assert (found.exit_code, why in found.stderr) == (2, True), found.stderr
    assert run(command.verify, str(audio)).exit_code == 2
    for wrong in ("ftp://bucket/prefix", "s3://"):
        assert run(command.verify, wrong).exit_code == 2


def test_a_run_that_was_interrupted_goes_on_where_it_was_and_keeps_what_it_found(
    house, monkeypatch
):
    make_known(house.ledger, house.worker.archive)
    days = [f"{account}/2026/09/{day}" for account in ("A", "A-1") for day in ("13", "14")]
    for day in days:
        (house.settings.archive / day).mkdir(parents=True)
        (house.settings.archive / day / "strange").write_text("x")
    checked, check = [], Verifier.check

    def dying(self, folder, readers):
        if len(checked) == 3:
            raise KeyboardInterrupt
        checked.append(folder)
        return check(self, folder, readers)

    monkeypatch.setattr(Verifier, "check", dying)
    assert run(command.verify).exit_code == 1
    assert checked == days[:3]
    checked.clear()
    found = run(command.verify, "--json")
    assert (checked, f"Goes on after {days[2]}" in found.stderr) == (days[3:], True)
    paths = [f["path"] for f in json.loads(found.stdout)["findings"]]
    assert paths == [f"{day}/strange" for day in days]
    checked.clear()
    run(command.verify)  # the one before came to its end, so this begins anew and is interrupted
    assert checked == days[:3]
    checked.clear()
    run(command.verify, "--anew")
    assert checked == days[:3]


def test_keys_makes_the_first_key_and_prints_the_lines_of_all(house):
    first = run(keys_command.keys)
    assert (first.exit_code, (house.folder / "signing_key").exists()) == (0, True)
    assert first.stdout == run(keys_command.keys).stdout
    assert first.stdout.startswith('endtape@127.0.0.1 namespaces="endtape-receipt,')
    (view,) = json.loads(run(keys_command.keys, "--json").stdout)
    assert (view["line"], view["in_use"]) == (first.stdout.strip(), True)
    assert view["key"].startswith("SHA256:")


def test_what_a_terminal_would_obey_is_shown_and_not_done(house):
    receipt = archived(house).with_suffix(".json")
    said = json.loads(receipt.read_text())
    receipt.write_text(json.dumps(said | {"media": {"bytes": "\x1b[1A\x1b[2K"}}))
    found = run(command.verify)
    assert (found.exit_code, "\x1b" in found.stdout) == (1, False)
    assert "the receipt says ?[1A?[2K bytes" in found.stdout


def test_the_end_of_the_days_is_held_by_the_service_or_by_a_head_that_is_named(house):
    make_known(house.ledger, house.worker.archive)
    yesterday = house.ledger.now().date() - timedelta(days=1)
    house.ledger.command("HSET", house.ledger.key("days", ACCOUNT), "first", yesterday.isoformat())
    days._close_one(house.worker, ACCOUNT, house.ledger.now(), lambda: None)
    assert "days that are closed: 1" in run(command.verify).stdout
    sha256 = house.ledger.closed_day(ACCOUNT).sha256
    copy = shutil.copytree(house.settings.archive, house.folder / "copy")
    for place in (house.settings.archive, copy):
        shutil.rmtree(place / ACCOUNT)
    cut = run(command.verify, "--json")
    (finding,) = json.loads(cut.stdout)["findings"]
    assert (cut.exit_code, finding["what"]) == (1, "day_missing")
    assert "day_missing" in run(command.verify, f"--head {ACCOUNT}/{yesterday}={sha256}").stdout
    assert "day_missing" in run(command.verify, str(house.settings.archive)).stdout
    assert run(command.verify, str(copy)).exit_code == 0  # a copy may be older
    assert run(command.verify, "--head nonsense").exit_code == 2
