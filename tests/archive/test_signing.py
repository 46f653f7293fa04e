"""Signatures and `ssh-keygen` understand one another, and a signature is good for one content and one
namespace."""

import os
import shutil
import stat
import subprocess
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from worker.archive import signers, signing
from worker.archive.signers import AllowedSigner
from worker.archive.signing import RECEIPTS, BadSignature, PublicKey
from worker.archive.signing_key import Signer, load, load_or_make
from worker.errors import Unsigned

NAME = "endtape@example.org"
MESSAGE = b'{"schema": "endtape/receipt/1"}\n'
needs_ssh_keygen = pytest.mark.skipif(
    shutil.which("ssh-keygen") is None, reason="ssh-keygen is missing"
)


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.fixture
def key(tmp_path):
    return load_or_make(tmp_path / "signing_key")


def ssh_keygen(*arguments, stdin=b"", **how):
    return subprocess.run(
        ["ssh-keygen", *map(str, arguments)], input=stdin, capture_output=True, check=False, **how
    )


def checked(folder, line, signature, message=MESSAGE, namespace=RECEIPTS, *more):
    """Whether ssh-keygen takes the signature, with this file of allowed signers."""
    (folder / "allowed_signers").write_text(f"{line}\n")
    (folder / "message.sig").write_bytes(signature)
    answer = ssh_keygen(
        *("-Y", "verify", "-f", folder / "allowed_signers", "-I", NAME, "-n", namespace),
        *("-s", folder / "message.sig", *more),
        stdin=message,
    )
    return answer.returncode == 0


# With ssh-keygen
# ------------------------------------------------------------------------------------------------


@needs_ssh_keygen
def test_ssh_keygen_reads_the_key_that_was_made(tmp_path, key):
    answer = ssh_keygen("-lf", tmp_path / "signing_key")
    assert answer.returncode == 0
    assert answer.stdout.split()[1].decode() == key.public.fingerprint
    public = ssh_keygen("-y", "-f", tmp_path / "signing_key").stdout.decode()
    assert PublicKey.parse(public) == key.public


@needs_ssh_keygen
def test_ssh_keygen_takes_our_signature_for_this_content_namespace_and_time_and_no_other(
    tmp_path, key
):
    line = AllowedSigner.used(
        NAME, key.public, since=at("2026-03-05T12:00"), until=at("2026-06-05T12:00")
    ).line
    signature = key.sign(MESSAGE, RECEIPTS)

    def good(*how, when="20260401"):
        return checked(tmp_path, line, signature, *how, f"-Overify-time={when}")

    assert good(MESSAGE, RECEIPTS)
    assert not good(MESSAGE + b" ", RECEIPTS)
    assert not good(MESSAGE, signing.DAYS)
    assert [good(MESSAGE, RECEIPTS, when=day) for day in ("20260303", "20260305")] == [False, True]
    assert [good(MESSAGE, RECEIPTS, when=day) for day in ("20260606", "20260608")] == [True, False]
    strange = signing.sign(MESSAGE, "file", key.public, key.raw)
    assert not checked(tmp_path, line, strange, MESSAGE, "file", "-Overify-time=20260401")


@needs_ssh_keygen
@pytest.mark.parametrize("digest", ["sha512", "sha256"])
def test_we_take_a_signature_that_ssh_keygen_made(tmp_path, key, digest):
    (tmp_path / "message").write_bytes(MESSAGE)
    made = ssh_keygen(
        *("-Y", "sign", "-f", tmp_path / "signing_key", "-n", RECEIPTS, "-O", f"hashalg={digest}"),
        tmp_path / "message",
    )
    assert made.returncode == 0, made.stderr
    signature = (tmp_path / "message.sig").read_bytes()
    assert signing.verify(MESSAGE, signature, RECEIPTS) == key.public
    if digest == "sha512":
        assert signature == key.sign(MESSAGE, RECEIPTS)  # byte for byte


@pytest.mark.skipif(
    not (shutil.which("ssh-agent") and shutil.which("ssh-add")), reason="ssh-agent is missing"
)
def test_a_public_key_file_means_that_the_agent_signs(tmp_path, key, monkeypatch):
    public = tmp_path / "key.pub"
    public.write_text(f"{key.public.text} somebody@somewhere\n")
    signer = Signer(public, NAME)
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with pytest.raises(Unsigned, match="SSH_AUTH_SOCK"):
        signer.key().sign(MESSAGE, RECEIPTS)
    place = f"/tmp/endtape-agent-{os.getpid()}"  # a socket's path must be short
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", place], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", place)
        while not Path(place).exists():
            assert agent.poll() is None
        with pytest.raises(Unsigned, match="has no key"):
            signer.key().sign(MESSAGE, RECEIPTS)
        subprocess.run(["ssh-add", "-q", tmp_path / "signing_key"], check=True)
        assert signer.key().sign(MESSAGE, RECEIPTS) == key.sign(MESSAGE, RECEIPTS)
    finally:
        agent.terminate()
        agent.wait()
        Path(place).unlink(missing_ok=True)


# Without it
# ------------------------------------------------------------------------------------------------


def test_a_signature_is_good_for_one_content_in_one_namespace(key):
    signature = key.sign(MESSAGE, RECEIPTS)
    assert signing.verify(MESSAGE, signature, RECEIPTS) == key.public
    assert signing.verify(MESSAGE, signature.replace(b"\n", b"\r\n"), RECEIPTS) == key.public
    with pytest.raises(BadSignature, match="namespace 'endtape-receipt'"):
        signing.verify(MESSAGE, signature, signing.DAYS)
    for changed in (MESSAGE + b"\n", MESSAGE[:-1], MESSAGE.replace(b"1", b"2"), b""):
        with pytest.raises(BadSignature, match="not the signature of this content"):
            signing.verify(changed, signature, RECEIPTS)


def test_no_other_bytes_are_a_signature_and_none_of_them_is_a_fault(key):
    signature = key.sign(MESSAGE, RECEIPTS)
    lines = signature.splitlines(keepends=True)
    for number in range(len(signature)):
        flipped = bytearray(signature)
        flipped[number] ^= 1
        with pytest.raises(BadSignature):
            signing.verify(MESSAGE, bytes(flipped), RECEIPTS)
    for odd in (
        b"",
        b"\xff",
        signature[:-40],
        b"".join(lines[:-1]),
        b"".join(lines[1:]),
        b"x" * 99,
    ):
        with pytest.raises(BadSignature, match="not a signature that can be read"):
            signing.verify(MESSAGE, odd, RECEIPTS)


def test_a_key_is_made_once_whoever_needs_it_and_is_the_owners_only(tmp_path):
    place = tmp_path / "deep" / "data" / "signing_key"
    found, together = [], threading.Barrier(8)

    def need():
        together.wait()
        found.append(load_or_make(place).public)

    threads = [threading.Thread(target=need) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert [path.name for path in place.parent.iterdir()] == ["signing_key"]
    assert load(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda p: p.chmod(0o640), "can be read by others"),
        (lambda p: p.write_text("no key"), "holds no Ed25519 key"),
        (lambda p: p.write_text("ssh-rsa AAAA\n"), "not an Ed25519 key"),
        (lambda p: (p.unlink(), p.mkdir()), "cannot be read"),
    ],
)
def test_a_key_that_cannot_be_trusted_or_used_is_refused_with_the_settings_name(
    tmp_path, key, spoil, why
):
    spoil(tmp_path / "signing_key")
    with pytest.raises(Unsigned, match=why) as refusal:
        load_or_make(tmp_path / "signing_key")
    assert "ENDTAPE_SIGNING_KEY" in str(refusal.value)


# Allowed signers
# ------------------------------------------------------------------------------------------------


def test_a_line_says_what_the_key_is_trusted_for_and_is_read_back(key):
    signer = AllowedSigner.used(NAME, key.public, since=at("2026-03-05T23:59"), until=None)
    assert signer.line == (
        f'{NAME} namespaces="endtape-receipt,endtape-day,endtape-history",'
        f'valid-after="20260304" {key.public.text}'
    )
    (found,) = signers.read(f"# a comment\n\n{signer.line} and a comment\n")
    assert (found.signer, found.key, found.namespaces) == (NAME, key.public, signer.namespaces)
    assert found.valid_after == at("2026-03-04")
    assert signers.written([signer, signer]) == f"{signer.line}\n" * 2
    # Whoever takes the line back into the ledger writes the same line again.
    since = signers.since(signer.line, key.public)
    assert AllowedSigner.used(NAME, key.public, since=since, until=None).line == signer.line
    assert since >= at("2026-03-05T23:59")


def test_a_key_may_sign_in_its_time_and_its_namespaces_only(key):
    signer = AllowedSigner.used(
        NAME, key.public, since=at("2026-03-05T12:00"), until=at("2026-06-05T12:00")
    )
    assert signer.why_not(RECEIPTS, at("2026-04-01")) is None
    assert "does not say when" in signer.why_not(RECEIPTS, None)
    in_use = AllowedSigner.used(NAME, key.public, since=at("2026-03-05T12:00"), until=None)
    assert in_use.why_not(RECEIPTS, None) is None
    assert "2026-03-04" in signer.why_not(RECEIPTS, at("2026-03-03"))
    assert "2026-06-07" in signer.why_not(RECEIPTS, at("2026-06-08"))
    assert "namespace" in signer.why_not("git", at("2026-04-01"))
    (any_use,) = signers.read(f"* {key.public.text}")
    assert any_use.why_not("git", at("1999-01-01")) is None


@pytest.mark.parametrize(
    "line",
    [
        "nobody",
        "name ssh-rsa AAAA",
        "name ssh-ed25519 AAAA",
        "name cert-authority ssh-ed25519 AAAA",
        'name valid-after="soon" ssh-ed25519 AAAA',
    ],
)
def test_a_line_that_is_not_understood_is_named_and_never_left_out(line, key):
    with pytest.raises(ValueError, match="line 2"):
        signers.read(f"{NAME} {key.public.text}\n{line.replace('AAAA', key.public.text[12:-1])}\n")
