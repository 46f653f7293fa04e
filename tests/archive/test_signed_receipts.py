"""A receipt and its signature: both or a step that is repeated, whatever dies between them."""

import json
import shutil
import subprocess
from datetime import UTC, datetime

import pytest

from tests.archive.builders import KEY, SHA, receipt_of, spooled
from worker.archive import durable, signing
from worker.archive.filing import Archive
from worker.archive.signers import AllowedSigner
from worker.archive.signing_key import Signer, load_or_make
from worker.errors import Conflict, Unsigned

NAME = "endtape@example.org"


@pytest.fixture
def archive(tmp_path):
    return made(tmp_path)


def made(place, key="signing_key"):
    return Archive(place / "archive", place / "spool", Signer(place / key, NAME))


def filed(archive, receipt=None):
    archive.publish(spooled(archive, 1), KEY, SHA)
    archive.publish_receipt(KEY, receipt or receipt_of(KEY))


def both(place):
    receipt = (place / "archive" / KEY).with_suffix(".json")
    return receipt, receipt.with_name(f"{receipt.name}.sig")


def is_good(place):
    receipt, signature = both(place)
    by = signing.verify(receipt.read_bytes(), signature.read_bytes(), signing.RECEIPTS)
    return by.fingerprint


def test_the_signature_covers_the_stored_receipt_which_names_format_namespace_and_key(
    archive, tmp_path
):
    filed(archive)
    fingerprint = load_or_make(tmp_path / "signing_key").public.fingerprint
    assert is_good(tmp_path) == fingerprint
    assert archive.read_receipt(KEY)["signature"] == {
        "format": "sshsig",
        "namespace": "endtape-receipt",
        "key": fingerprint,
    }
    assert archive.signature(KEY) == both(tmp_path)[1].read_bytes()
    assert [both(tmp_path)[n].stat().st_mode & 0o777 for n in (0, 1)] == [0o600, 0o600]
    assert [path.name for path in (tmp_path / "spool").iterdir()] == [".rec-1.1.part"]


@pytest.mark.parametrize("dies_at", [1, 2, 3])  # audio, receipt, signature
def test_a_repeat_completes_what_a_crash_left_out(archive, tmp_path, monkeypatch, dies_at):
    puts = []

    def dying(put):
        def dies(*how):
            puts.append(how)
            if len(puts) == dies_at:
                raise KeyboardInterrupt
            put(*how)

        return dies

    with monkeypatch.context() as patch:
        for name in ("put", "create"):
            patch.setattr(durable, name, dying(getattr(durable, name)))
        with pytest.raises(KeyboardInterrupt):
            filed(archive)
    assert [path.exists() for path in both(tmp_path)] == [dies_at > 2, False]
    before = both(tmp_path)[0].read_bytes() if dies_at > 2 else None
    again = made(tmp_path)
    again.publish(spooled(again, 2), KEY, SHA)
    again.publish_receipt(KEY, receipt_of(KEY) | {"fetch": {"attempts": 2}})
    is_good(tmp_path)
    assert before in {None, both(tmp_path)[0].read_bytes()}
    stands = [path.read_bytes() for path in both(tmp_path)]
    again.publish_receipt(KEY, receipt_of(KEY) | {"fetch": {"attempts": 3}})
    assert [path.read_bytes() for path in both(tmp_path)] == stands


def test_a_receipt_from_before_signing_began_stays_as_it_is_and_may_be_signed_by_a_repeat(
    archive, tmp_path
):
    unsigned = Archive(tmp_path / "archive", tmp_path / "spool")
    filed(unsigned, receipt_of(KEY) | {"signature": None})
    old = both(tmp_path)[0].read_bytes()
    assert archive.read_receipt(KEY)["signature"] is None
    with pytest.raises(FileNotFoundError):
        archive.signature(KEY)
    archive.publish_receipt(KEY, receipt_of(KEY))
    assert both(tmp_path)[0].read_bytes() == old
    is_good(tmp_path)


def test_what_an_older_key_signed_stays_after_a_rotation(archive, tmp_path):
    filed(archive)
    first = is_good(tmp_path)
    later = made(tmp_path, "another_key")
    later.signer.known = frozenset([first])  # as the ledger has it
    later.publish_receipt(KEY, receipt_of(KEY))
    assert is_good(tmp_path) == first


def test_what_others_put_beside_the_audio_is_not_signed_and_a_wrong_signature_is_a_conflict(
    archive, tmp_path
):
    archive.publish(spooled(archive, 1), KEY, SHA)
    receipt, signature = both(tmp_path)
    receipt.write_text(json.dumps(receipt_of(KEY) | {"recording_id": "another"}))
    with pytest.raises(Conflict, match="another recording"):
        archive.publish_receipt(KEY, receipt_of(KEY))
    strange = load_or_make(tmp_path / "strange")
    receipt.write_text(json.dumps(receipt_of(KEY) | {"signature": strange.field(signing.RECEIPTS)}))
    signature.write_bytes(strange.sign(receipt.read_bytes(), signing.RECEIPTS))
    with pytest.raises(Conflict, match="another key"):
        archive.publish_receipt(KEY, receipt_of(KEY))
    for path in (receipt, signature):
        path.unlink()
    archive.publish_receipt(KEY, receipt_of(KEY))
    for wrong, why in (
        (strange.sign(receipt.read_bytes(), signing.RECEIPTS), "another key"),
        (strange.sign(receipt.read_bytes(), signing.DAYS), "namespace"),
        (b"", "wrong"),
    ):
        signature.write_bytes(wrong)
        with pytest.raises(Conflict, match=why):
            archive.publish_receipt(KEY, receipt_of(KEY))


def test_without_a_usable_key_no_receipt_is_written(archive, tmp_path):
    (tmp_path / "signing_key").write_text("no key")
    (tmp_path / "signing_key").chmod(0o600)
    with pytest.raises(Unsigned, match="ENDTAPE_SIGNING_KEY"):
        filed(archive)
    assert [path.exists() for path in both(tmp_path)] == [False, False]


def test_the_line_of_a_key_is_put_into_the_archive_once(archive, tmp_path):
    assert archive.publish_signer("SHA256:a/b+c", "first") == "first"
    assert archive.publish_signer("SHA256:a/b+c", "second") == "first"
    (only,) = (tmp_path / "archive" / "allowed_signers").iterdir()
    assert (only.name, only.read_text()) == ("SHA256:a_b-c", "first\n")


@pytest.mark.skipif(
    not (shutil.which("ssh-keygen") and shutil.which("sha256sum")),
    reason="ssh-keygen or sha256sum is missing",
)
def test_a_stranger_checks_receipt_and_audio_with_ssh_keygen_and_sha256sum_alone(archive, tmp_path):
    filed(archive)
    receipt, _ = both(tmp_path)
    account, key = tmp_path / "archive" / "MA_1", load_or_make(tmp_path / "signing_key")
    rec = f"2026/09/14/{receipt.stem}"
    line = AllowedSigner.used(NAME, key.public, since=datetime.now(UTC), until=None).line
    (account / "allowed_signers").write_text(f"{line}\n")
    (account / "days").mkdir()
    sums = account / "days" / "DAY.sha256"
    digest = json.loads(receipt.read_text())["media"]["sha256"]
    sums.write_text(f"{digest}  {rec}.mp3\n{'0' * 64}  2026/09/14/erased.mp3\n")
    sums.with_name("DAY.sha256.sig").write_bytes(key.sign(sums.read_bytes(), signing.DAYS))
    verify = "ssh-keygen -Y verify -f allowed_signers -I " + NAME
    commands = {
        "receipt": f"{verify} -n endtape-receipt -s {rec}.json.sig < {rec}.json",
        "day": f"{verify} -n endtape-day -s days/DAY.sha256.sig < days/DAY.sha256",
        "audio": "sha256sum --check --strict --ignore-missing days/DAY.sha256",
    }

    def good():
        return {
            name
            for name, command in commands.items()
            if subprocess.run(
                command, shell=True, cwd=account, capture_output=True, check=False
            ).returncode
            == 0
        }

    assert good() == set(commands)
    for path, refused in (
        (receipt, "receipt"),
        (sums, "day"),
        (account / f"{rec}.mp3", "audio"),
    ):
        content = path.read_bytes()
        path.write_bytes(content.replace(b"call-1", b"call-2").replace(b"erased", b"exased"))
        if path.suffix == ".mp3":
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert good() == set(commands) - {refused}
        path.write_bytes(content)
    assert good() == set(commands)
