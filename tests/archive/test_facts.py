"""Facts: a small signed file each, numbered by whoever was first, and never changed."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from worker.archive import fact_files, facts, signing
from worker.archive.directory import Directory
from worker.archive.facts import Fact, FactKind, is_held, is_restricted
from worker.archive.signers import AllowedSigner
from worker.archive.signing_key import Signer
from worker.archive.spool import Spool
from worker.archive.verify import Trust
from worker.archive.verify_facts import FactsVerifier
from worker.errors import Conflict

AT = datetime(2026, 9, 14, 10, tzinfo=UTC)
HOLD = Fact(
    account="MA_1",
    recording_id="rec-1",
    kind=FactKind.HOLD,
    at=AT,
    who="anna",
    reason="case 12, caller 918065550101",
)
FOLDER = "MA_1/facts/rec-1"


@pytest.fixture
def store(tmp_path):
    return Directory(tmp_path / "archive", Spool(tmp_path / "spool"))


@pytest.fixture
def signer(tmp_path):
    return Signer(tmp_path / "key", "endtape@example.org")


def verified(store, signer):
    trusted = AllowedSigner.used("endtape@example.org", signer.key().public, since=AT, until=None)
    verifier = FactsVerifier(store, Trust([trusted]))
    with ThreadPoolExecutor(2) as readers:
        return [
            (f.what, f.path)
            for unit in verifier.units()
            for f in verifier.check(unit, readers).findings
        ]


def test_a_fact_is_filed_signed_without_numbers_and_read_back(store, signer):
    fact, content = fact_files.add(store, signer, HOLD)
    assert store.read(f"{FOLDER}/1.json") == content
    by = signing.verify(content, store.read(f"{FOLDER}/1.json.sig"), signing.RECEIPTS)
    assert by == signer.key().public
    masked = replace(HOLD, reason="case 12, caller …", n=1, signed=True)
    assert fact_files.read_all(store, "MA_1", "rec-1") == [masked]
    assert (fact.n, fact_files.read_all(store, "MA_1", "rec-2")) == (1, [])
    assert verified(store, signer) == []


def test_writers_who_race_for_a_number_get_one_each_and_nothing_is_replaced(store, signer):
    hurry = [replace(HOLD, who=f"w{n}") for n in range(12)]
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda fact: fact_files.add(store, signer, fact), hurry))
    known = fact_files.read_all(store, "MA_1", "rec-1")
    assert [fact.n for fact in known] == list(range(1, 13))
    assert {fact.who for fact in known} == {fact.who for fact in hurry}
    assert verified(store, signer) == []


@pytest.mark.parametrize(
    ("kinds", "held"),
    [
        ("", False),
        ("h", True),
        ("hr", False),
        ("hrh", True),
        ("hR", True),  # a release that nobody has signed
        ("H", True),  # a hold counts at once
        ("rh", True),
        ("hcd", True),
    ],
)
def test_the_highest_number_of_hold_and_release_counts(kinds, held):
    known = {
        "h": FactKind.HOLD,
        "r": FactKind.RELEASE,
        "c": FactKind.CONSENT,
        "d": FactKind.DELETED_AT_PROVIDER,
    }
    found = [
        replace(HOLD, kind=known[letter.lower()], n=n, signed=letter.islower())
        for n, letter in enumerate(kinds, 1)
    ]
    assert is_held(found) is held


def test_a_restriction_counts_at_once_and_is_lifted_by_a_signed_fact():
    on = replace(HOLD, kind=FactKind.RESTRICTED, n=1)
    off = replace(on, particulars={"on": False}, n=2)
    assert is_restricted([on])
    assert is_restricted([on, off])
    assert not is_restricted([on, replace(off, signed=True)])
    assert facts.last_of([on, off], FactKind.RESTRICTED) is off


def test_what_a_writer_left_unsigned_when_it_died_is_signed_by_the_next(store, signer, monkeypatch):
    create = Directory.create

    def dying(self, name, data):
        if name.endswith(".sig"):
            raise KeyboardInterrupt
        create(self, name, data)

    with monkeypatch.context() as patch:
        patch.setattr(Directory, "create", dying)
        with pytest.raises(KeyboardInterrupt):
            fact_files.add(store, signer, HOLD)
    assert verified(store, signer) == [("unsigned", f"{FOLDER}/1.json")]
    assert is_held(fact_files.read_all(store, "MA_1", "rec-1"))
    fact_files.add(store, signer, replace(HOLD, kind=FactKind.RELEASE))
    known = fact_files.read_all(store, "MA_1", "rec-1")
    assert ([f.signed for f in known], is_held(known)) == ([True, True], False)
    assert verified(store, signer) == []


def test_a_fact_that_is_altered_moved_removed_or_strange_is_found_and_stops_whoever_reads(
    store, signer, tmp_path
):
    for _ in range(3):
        fact_files.add(store, signer, HOLD)
    root = tmp_path / "archive"
    first = root / FOLDER / "1.json"
    first.write_text(first.read_text().replace('"anna"', '"eve"'))
    (root / FOLDER / "2.json").unlink()
    (root / FOLDER / "note.txt").write_text("x")
    (root / "MA_1/facts/x.json").write_text("x")
    (root / "MA_1/facts/rec-2").mkdir()
    for end in ("json", "json.sig"):
        moved = (root / FOLDER / f"3.{end}").read_bytes()
        (root / f"MA_1/facts/rec-2/1.{end}").write_bytes(moved)
    assert sorted(verified(store, signer)) == [
        ("bad_signature", f"{FOLDER}/1.json"),
        ("fact_missing", f"{FOLDER}/2.json"),
        ("misplaced", "MA_1/facts/rec-2/1.json"),
        ("unreferenced", f"{FOLDER}/2.json.sig"),
        ("unreferenced", f"{FOLDER}/note.txt"),
        ("unreferenced", "MA_1/facts/x.json"),
    ]
    with pytest.raises(Conflict, match="another recording"):
        fact_files.read_all(store, "MA_1", "rec-2")
    first.write_text(json.dumps({"schema": facts.SCHEMA}))
    with pytest.raises(Conflict, match="no fact"):
        fact_files.add(store, signer, HOLD)


@pytest.mark.parametrize("name", ["../x", "", "a/b"])
def test_an_id_that_is_not_safe_as_a_name_is_refused(store, signer, name):
    with pytest.raises(ValueError, match="not fit"):
        fact_files.add(store, signer, replace(HOLD, recording_id=name))


def test_the_last_fact_of_a_kind_counts_and_a_lift_only_once_it_is_signed():
    receipt = {
        "consent": {"kind": "dtmf", "at": "2026-09-14T06:30:00.000Z", "withdrawn": False},
        "restriction": {"restricted_by": ["long_tail"]},
    }

    def restricted(n, on, *why, signed=True):
        particulars = {"on": on, "restricted_by": list(why)}
        kind = FactKind.RESTRICTED
        return replace(HOLD, kind=kind, n=n, signed=signed, particulars=particulars)

    lift, again = restricted(1, False), restricted(2, True, "no_consent", signed=False)
    unsigned = restricted(3, False, signed=False)
    said = {"kind": "verbal", "at": "2026-09-14T06:31:00.000Z", "withdrawn": True}
    particulars = {**said, "statements": [said]}
    consent = replace(HOLD, kind=FactKind.CONSENT, n=4, signed=True, particulars=particulars)
    assert facts.restricted_by(receipt, []) == ["long_tail"]
    assert facts.restricted_by(receipt, [unsigned]) == ["long_tail"]
    assert facts.restricted_by(receipt, [lift]) == []
    assert facts.restricted_by(receipt, [lift, again, unsigned]) == ["no_consent"]
    assert facts.consent(receipt, [lift]) == receipt["consent"]
    assert facts.consent(receipt, [consent, lift]) == said
    assert facts.statements(receipt, []) == [receipt["consent"]]
    assert facts.statements(receipt, [consent]) == [said]
