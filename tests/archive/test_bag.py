"""A closed day as a bag: by the rules of RFC 8493, and whole or not at all."""

import json
import re
import shlex
import subprocess
from datetime import timedelta

import pytest
from click.testing import CliRunner

from tests.constants import ACCOUNT
from tests.days import House
from worker.archive import days
from worker.command import export as command


@pytest.fixture
def house(ledger, tmp_path, monkeypatch):
    """Two closed days; two recordings and a deed on the second."""
    house = House(ledger, tmp_path)
    house.day_before, house.bagged = house.yesterdays(2)
    for name in ("rec-1", "rec-2"):
        house.files(house.bagged, name)
    house.does(house.bagged)
    house.close()
    monkeypatch.setattr(command, "open_ledger", lambda **_: (house.settings, house.ledger))
    return house


def export(house, day=None, options=""):
    to = house.folder / "bag"
    return to, CliRunner().invoke(
        command.export, shlex.split(f"--bag {day or house.bagged} --to {to} {options}")
    )


def lines(path):
    return dict(reversed(line.split("  ", 1)) for line in path.read_text().splitlines())


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_bag_has_the_structure_of_rfc_8493_and_sha256sum_checks_it(house):
    bag, done = export(house)
    assert done.exit_code == 0, done.output
    assert (bag / "bagit.txt").read_bytes() == (
        b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
    )
    payload = {name for name in files(bag) if name.startswith("data/")}
    assert set(lines(bag / "manifest-sha256.txt")) == payload
    tags = files(bag) - payload - {"tagmanifest-sha256.txt"}
    assert set(lines(bag / "tagmanifest-sha256.txt")) == tags
    assert tags == {"bagit.txt", "bag-info.txt", "manifest-sha256.txt"}
    about = dict(line.split(": ", 1) for line in (bag / "bag-info.txt").read_text().splitlines())
    octets = sum((bag / name).stat().st_size for name in payload)
    assert about["Payload-Oxum"] == f"{octets}.{len(payload)}"
    assert about["External-Identifier"] == f"{ACCOUNT} {house.bagged}"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", about["Bagging-Date"])
    for manifest in ("manifest-sha256.txt", "tagmanifest-sha256.txt"):
        check = ["sha256sum", "--check", "--strict", "--quiet", manifest]
        assert subprocess.run(check, cwd=bag, capture_output=True, check=False).returncode == 0


def test_what_is_in_a_bag_is_the_whole_day_and_a_stranger_can_check_it_alone(house):
    bag, _ = export(house)
    day, before = house.bagged, house.day_before
    names = {
        *(f"{day:%Y/%m/%d}/{r}.{end}" for r in ("rec-1", "rec-2") for end in ("mp3", "json", "json.sig")),
        *(f"{name(d)}{sig}" for d in (day, before) for name in (days.day_name, days.list_name) for sig in ("", ".sig")),
        *(f"{days.history_name(day)}{sig}" for sig in ("", ".sig")),
        "allowed_signers",
    }  # fmt: skip
    assert files(bag / "data") == names
    for file, namespace in (
        (days.list_name(day), "endtape-day"),
        (f"{day:%Y/%m/%d}/rec-1.json", "endtape-receipt"),
    ):
        verify = (
            f"ssh-keygen -Y verify -f allowed_signers -I {house.settings.signer} "
            f"-n {namespace} -s {file}.sig < {file}"
        )
        done = subprocess.run(
            verify, shell=True, cwd=bag / "data", capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
    check = ["sha256sum", "--check", "--strict", days.list_name(day)]
    assert subprocess.run(check, cwd=bag / "data", capture_output=True, check=False).returncode == 0


def test_what_was_erased_is_left_out_and_told(house):
    for path in (house.root / f"{house.bagged:%Y/%m/%d}").glob("rec-2*"):
        path.unlink()
    _, done = export(house, options="--json")
    view = json.loads(done.stdout)
    assert [name.rpartition("/")[2] for name in view["gone"]] == ["rec-2.json", "rec-2.mp3"]
    assert (done.exit_code, view["files"]) == (0, 3 + 8 + 2 + 1)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("altered", "is not the file that was filed"),
        ("taken", "it is there already"),
        ("open", "has no closed day"),
        ("account", "name one of"),
        ("no folder", "/bag: cannot be made: "),
        ("unreadable", "rec-1.json cannot be read: "),
        ("list", "cannot be read: "),
        ("within", "lies in the archive"),
    ],
)
def test_where_there_is_no_bag_the_reason_is_told_and_nothing_is_left_behind(house, wrong, told):
    day, options, left = None, "", set()
    if wrong == "altered":
        (house.root / f"{house.bagged:%Y/%m/%d}" / "rec-1.mp3").write_text("other")
    elif wrong == "taken":
        (house.folder / "bag").mkdir()
        left = {"bag"}
    elif wrong == "open":
        day = house.today + timedelta(days=1)
    elif wrong == "account":
        options = "--account MA_OTHER"
    elif wrong == "no folder":
        (house.folder / "file").write_text("")
        options = f"--to {house.folder / 'file' / 'bag'}"
    elif wrong == "within":
        options = f"--to {house.root / 'bag'}"
    else:
        name = (
            days.list_name(house.bagged)
            if wrong == "list"
            else f"{house.bagged:%Y/%m/%d}/rec-1.json"
        )
        (house.root / name).unlink()
        (house.root / name).mkdir()
    _, done = export(house, day, options)
    status = 2 if wrong in {"account", "within"} else 1
    assert (done.exit_code, told in done.output) == (status, True), done.output
    assert {path.name for path in house.folder.iterdir() if "bag" in path.name} == left
