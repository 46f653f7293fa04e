"""A recording is archived once its receipt and the signature of it are both stored, and the key is
known to all."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from tests import redis_view
from tests.bad_days import ended, failures
from tests.constants import ACCOUNT, HOUR
from tests.waiting import until
from worker.archive import durable, filing, signers, signing
from worker.archive.filing import Archive
from worker.archive.signing_key import Signer
from worker.archive.verify import Trust, Verifier
from worker.calls.events import Event, Kind
from worker.duties import absence
from worker.governing.signing import make_known

pytestmark = pytest.mark.usefixtures("fetched_again_soon")


def archive_with(house, key):
    return Archive(
        house.folder / "archive",
        house.folder / "spool",
        Signer(house.folder / key, "us@example.org"),
    )


def line_in_archive(house, fingerprint):
    place = house.folder / "archive" / "allowed_signers" / signing.file_name(fingerprint)
    return place.read_text().strip()


def test_what_is_archived_has_a_receipt_whose_signature_is_by_a_key_that_the_service_names(local):
    house = local(rules=HOUR)
    _, recording = ended(house)
    view = house.reach(recording.recording_id, "archived")
    receipt = (house.folder / "archive" / view["archive_key"]).with_suffix(".json")
    signature = receipt.with_name(f"{receipt.name}.sig")
    by = signing.verify(receipt.read_bytes(), signature.read_bytes(), signing.RECEIPTS)
    (known,) = signers.of_service(house.ledger.signing_keys())
    assert (known.key, known.signer) == (by, "endtape@127.0.0.1")
    fetched_at = json.loads(receipt.read_text())["fetch"]["fetched_at"]
    assert known.why_not(signing.RECEIPTS, house.ledger.now()) is None
    assert f"{known.made_at:%Y-%m-%d}" == fetched_at[:10]
    assert line_in_archive(house, by.fingerprint) == known.line


def test_a_crash_between_receipt_and_signature_is_completed_by_the_next_try(local, monkeypatch):
    monkeypatch.setattr(filing, "_REST_S", 0)
    house = local(rules=HOUR)
    create, died = durable.create, []

    def dying(part, data, directory, name):
        if name.endswith(".sig") and not died:
            died.append(name)
            raise OSError(5, "Input/output error")
        create(part, data, directory, name)

    monkeypatch.setattr(durable, "create", dying)
    call, recording = ended(house)
    view = house.reach(recording.recording_id, "archived")
    assert died
    assert [failed.fault for failed in failures(house, call)] == ["storage"]
    receipt = (house.folder / "archive" / view["archive_key"]).with_suffix(".json")
    signature = receipt.with_name(f"{receipt.name}.sig")
    assert signing.verify(receipt.read_bytes(), signature.read_bytes(), signing.RECEIPTS)


def test_what_was_given_up_is_said_in_the_archive_signed_with_whose_fault_it_was(
    local, monkeypatch
):
    create, died = durable.create, []

    def dying(part, data, directory, name):
        if name.endswith(".absent.json.sig") and not died:
            died.append(name)
            raise OSError(5, "Input/output error")
        create(part, data, directory, name)

    monkeypatch.setattr(durable, "create", dying)
    monkeypatch.setattr(absence, "_AGAIN", timedelta(0))
    monkeypatch.setattr(filing, "_REST_S", 0)
    house = local(rules=HOUR)
    call, recording = ended(house, fault="media-5xx", days_ago=31)
    filed = until(
        lambda: next(
            (e for e in house.ledger.events(ACCOUNT, call) if e.kind is Kind.ABSENCE_FILED), None
        )
    )
    assert (died, house.alerts()["absence_unfiled"]) == (
        [f"{recording.recording_id}.absent.json.sig"],
        1,
    )
    day = (house.folder / "archive" / filed.archive_key).parent
    said = day / f"{recording.recording_id}.absent.json"
    signature = said.with_name(f"{said.name}.sig")
    assert signing.verify(said.read_bytes(), signature.read_bytes(), signing.RECEIPTS)
    content = json.loads(said.read_text())
    assert (content["schema"], content["fault"], content["call_uuid"]) == (
        "endtape/absent/1",
        "provider",
        call,
    )
    assert "30 days" in content["reason"]
    assert not {"from", "to"} & set(content)
    verifier = Verifier(
        house.worker.archive.store,
        Trust(signers.of_service(house.ledger.signing_keys())),
        quick=False,
    )
    with ThreadPoolExecutor(1) as readers:
        report = verifier.check(str(day.relative_to(house.folder / "archive")), readers)
    assert (report.findings, report.counts["absent"], report.counts["signed"]) == ([], 1, 1)
    until(lambda: house.ledger.outstanding() == 0)
    house.provider.faults.clear()
    recording.started_at -= 2 * 86400  # the provider thinks better of its start
    recording.ended_at -= 2 * 86400
    house.ledger.record(
        ACCOUNT,
        Event(
            id="again", kind=Kind.RETRY_ORDERED, call_uuid=call, recording_id=recording.recording_id
        ),
    )
    view = house.reach(recording.recording_id, "archived")  # a receipt that appears later counts
    assert json.loads(said.read_text()) == content
    # The folder was chosen at the first file.
    assert (house.folder / "archive" / view["archive_key"]).parent == day


def test_a_key_that_cannot_be_used_costs_no_download_and_is_an_alert(local):
    house = local(rules=HOUR)
    (house.folder / "signing_key").write_text("no key")
    (house.folder / "signing_key").chmod(0o600)
    call, recording = ended(house)
    until(lambda: failures(house, call))
    assert (failures(house, call)[0].fault, house.alerts()["unsigned"] >= 1) == ("settings", True)
    assert not house.requests("GET", "Recording/")
    (house.folder / "signing_key").unlink()
    house.reach(recording.recording_id, "archived")


def test_a_key_that_took_anothers_place_ends_it_and_a_second_one_beside_it_is_an_alert(local):
    house = local()
    old, new = archive_with(house, "old"), archive_with(house, "new")
    first = make_known(house.ledger, old)
    assert (house.alerts(), make_known(house.ledger, old)) == ({}, first)
    second = make_known(house.ledger, new)
    lines = [signer.line for signer in signers.of_service(house.ledger.signing_keys())]
    assert [new.signer.key().public.text in lines[0], "valid-before" in lines[0]] == [True, False]
    assert [old.signer.key().public.text in lines[1], "valid-before" in lines[1]] == [True, True]
    assert house.alerts()["second_signing_key"] == 1
    assert make_known(house.ledger, old, announced=first) == first  # in use beside the new one
    (current, _) = house.ledger.signing_keys()
    assert current.fingerprint == second


def test_an_erased_redis_learns_the_day_of_the_key_from_the_archive(local):
    house = local()
    fingerprint = make_known(house.ledger, archive_with(house, "key"))
    (before,) = signers.of_service(house.ledger.signing_keys())
    redis_view.erase(house.ledger)
    assert house.ledger.signing_keys() == []
    archive = archive_with(house, "key")
    assert make_known(house.ledger, archive) == fingerprint
    (after,) = signers.of_service(house.ledger.signing_keys())
    assert (after.line, after.made_at >= before.made_at) == (before.line, True)
    redis_view.erase(house.ledger)
    make_known(house.ledger, archive)  # a process that had announced it
    assert [use.fingerprint for use in house.ledger.signing_keys()] == [fingerprint]
