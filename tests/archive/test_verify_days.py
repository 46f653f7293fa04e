"""Whatever is removed from closed days, or changed in them, is found and named, and nothing else is."""

import errno
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from tests.constants import ACCOUNT
from tests.days import House
from worker.archive import (
    days,
    derived,
    durable,
    erasing,
    fact_files,
    history_file,
    seals,
    signing,
)
from worker.archive.derived import Derived
from worker.archive.facts import Fact, FactKind
from worker.archive.signers import of_service
from worker.archive.verify import Report, Trust
from worker.archive.verify_all import WholeArchive, place_of
from worker.archive.verify_days import DaysVerifier, Head
from worker.calls.history import Deed
from worker.ledger.codec import to_ms
from worker.ledger.daybook import end_of


@pytest.fixture
def house(ledger, tmp_path):
    """Four closed days, with a recording and deeds on the second and the last."""
    house = House(ledger, tmp_path)
    house.first, *house.days = house.yesterdays(4)
    for day, name in ((house.days[0], "rec-1"), (house.days[2], "rec-2")):
        house.files(day, name)
        house.does(day)
        house.does(day, Deed.PLAY, who="anna")
    house.close()
    return house


@pytest.mark.xdist_group("s3")
def test_days_in_a_bucket_are_closed_and_verified_alike(ledger, tmp_path, s3):
    house = House(
        ledger, tmp_path, ENDTAPE_ARCHIVE=f"s3://{s3.make_bucket()}/deep", **s3.variables()
    )
    first, _ = house.yesterdays(2)
    house.files(first, "rec-1")
    house.does(first)
    house.close()
    assert verified(house).counts["days"] == 2
    assert found(house) == []
    store = house.worker.archive.store
    for name in [entry.name for entry in store.list(f"{ACCOUNT}/days") if str(first) in entry.name]:
        store.delete(name)
    assert ("day_missing", days.day_name(first)) in found(house)


def verified(house, *, trusted=None, heads=None):
    trusted = of_service(house.ledger.signing_keys()) if trusted is None else trusted
    verifier = DaysVerifier(house.worker.archive.store, Trust(trusted), heads or {})
    report = Report()
    with ThreadPoolExecutor(2) as readers:
        for unit in verifier.units():
            report.take(verifier.check(unit, readers))
    return report


def found(house, **how):
    return sorted(
        (f.what, f.path.removeprefix(f"{ACCOUNT}/")) for f in verified(house, **how).findings
    )


def resign(house, name, content, namespace):
    """Write a file anew with a good signature, as whoever holds the key could."""
    (house.root / name).write_bytes(content)
    key = house.worker.archive.signer.key()
    (house.root / f"{name}.sig").write_bytes(key.sign(content, namespace))


def test_files_made_from_recordings_are_filed_and_checked_like_them(ledger, tmp_path):
    house = House(ledger, tmp_path)
    day, _ = house.yesterdays(2)
    house.files(day, "rec-1")
    store, at = house.worker.archive.store, end_of(day) - timedelta(hours=6)
    key, text = f"{ACCOUNT}/{day:%Y/%m/%d}/rec-1.mp3", b"Good morning"
    made = Derived(
        account=ACCOUNT,
        call_uuid="c",
        recording_id="rec-1",
        original="ab" * 32,
        kind="transcript",
        content_type="text/plain",
        bytes=len(text),
        sha256=hashlib.sha256(text).hexdigest(),
        at=at,
        who="api",
    )
    part = tmp_path / "text"
    part.write_bytes(text)
    derived.publish(store, house.worker.archive.signer, key, part, made)
    place = derived.file_of(key, made.name)
    for name in (place, f"{place}.json"):
        line = days.line_of(name, hashlib.sha256(store.read(name)).hexdigest())
        ledger.command("ZADD", ledger.key("filed", ACCOUNT), to_ms(at), line)
    house.close()
    assert found(house) == []
    counts = json.loads(store.read(f"{ACCOUNT}/{days.day_name(day)}"))["counts"]
    assert {**counts, "facts": 0} == {
        "archived": 1, "absent": 0, "erased": 0, "facts": 0, "audio": 1, "derived": 1,
    }  # fmt: skip
    store.delete(place)
    assert found(house) == [("file_missing", place.removeprefix(f"{ACCOUNT}/"))]


def test_days_as_we_closed_them_have_no_findings(house):
    report = verified(house)
    assert report.findings == []
    assert (report.counts["days"], report.counts["entries"], report.counts["signed"]) == (4, 4, 10)


def test_a_line_that_is_removed_from_a_list_is_found(house):
    name = days.list_name(house.days[0])
    lines = (house.root / name).read_bytes().splitlines(keepends=True)
    (house.root / name).write_bytes(b"".join(lines[1:]))
    assert {("altered", name), ("bad_signature", name)} <= set(found(house))
    resign(house, name, b"".join(lines[1:]), signing.DAYS)
    receipt = f"{house.days[0]:%Y/%m/%d}/rec-1.json"
    assert lines[0].endswith(b"rec-1.json\n")
    assert set(found(house)) == {("altered", name), ("unlisted", receipt)}


def test_a_file_of_a_closed_day_that_is_gone_or_changed_is_found_unless_it_was_erased(house):
    folder = house.root / f"{house.days[0]:%Y/%m/%d}"
    (folder / "rec-1.mp3").rename(folder / "kept")
    name = f"{house.days[0]:%Y/%m/%d}/rec-1"
    assert found(house) == [("file_missing", f"{name}.mp3")]
    (folder / "rec-1.erased.json").write_text("{}")
    assert found(house) == []
    (folder / "rec-1.erased.json").unlink()
    (folder / "kept").rename(folder / "rec-1.mp3")
    said = json.loads((folder / "rec-1.json").read_text())
    said["media"]["sha256"] = hashlib.sha256(b"other").hexdigest()
    resign(house, f"{name}.json", seals.written(said), signing.RECEIPTS)
    assert found(house) == [("altered", f"{name}.json"), ("altered", f"{name}.mp3")]


def test_what_was_erased_after_its_day_was_closed_is_not_missing_its_facts_included(house):
    day, archive = house.days[0], house.worker.archive
    key = f"{ACCOUNT}/{day:%Y/%m/%d}/rec-3.mp3"
    archive.store.create(f"{key[:-4]}.json", b"{}")
    for name in (key, f"{ACCOUNT}/facts/rec-3/1.json", f"{ACCOUNT}/facts/rec-4/1.json"):
        archive.store.create(name, b"x")
    name = f"days/{day}.sha256"
    told = (house.root / name).read_bytes().decode()
    files = (f"{day:%Y/%m/%d}/rec-3.mp3", "facts/rec-3/1.json", "facts/rec-4/1.json")
    digest = hashlib.sha256(b"x").hexdigest()
    listed = days.write_list([*told.splitlines(), *(f"{digest}  {one}" for one in files)])
    resign(house, name, listed, signing.DAYS)
    erasing.remove(archive.store, key, lambda: None)
    (house.root / files[2]).unlink()
    about = {"account": ACCOUNT, "call_uuid": "c", "recording_id": "rec-3"}
    archive.publish_tombstone(key, {"schema": "endtape/erased/1", **about})
    missing = [one for one in found(house) if one[0] == "file_missing"]
    assert missing == [("file_missing", "facts/rec-4/1.json")]
    assert verified(house).counts["gone_erased"] == 2


def test_a_whole_day_that_is_removed_is_found(house):
    for path in [*(house.root / "days").glob(f"{house.days[1]}*")]:
        path.unlink()
    wrong = set(found(house))
    assert ("day_missing", days.day_name(house.days[1])) in wrong
    assert ("file_missing", days.list_name(house.days[1])) in wrong


def test_a_history_whose_lines_are_cut_off_removed_or_changed_is_found(house):
    name = days.history_name(house.days[0])
    first, second = (house.root / name).read_bytes().splitlines(keepends=True)
    resign(house, name, first, signing.HISTORY)
    assert ("history_cut", name) in found(house)
    resign(house, name, second, signing.HISTORY)
    assert {("history_cut", name), ("chain_broken", name)} <= set(found(house))
    changed = first.replace(b'"who":"api"', b'"who":"eve"')
    resign(house, name, changed + second, signing.HISTORY)
    assert {("altered", name), ("chain_broken", name)} <= set(found(house))
    anew = changed + second.replace(
        history_file.digest_of(first).encode(), history_file.digest_of(changed).encode()
    )
    resign(house, name, anew, signing.HISTORY)  # every digest of the file computed anew
    assert ("altered", name) in found(house)
    (house.root / name).unlink()
    assert ("history_missing", name) in found(house)


def test_the_end_that_is_cut_off_is_found_by_a_head_that_others_hold(house):
    last = house.days[2]
    head = Head(day=last, sha256=house.ledger.closed_day(ACCOUNT).sha256)
    assert found(house, heads={ACCOUNT: head}) == []
    for path in [*(house.root).glob(f"*/{last}*")]:
        path.unlink()
    assert found(house) == []  # nothing in the archive shows it
    assert found(house, heads={ACCOUNT: head}) == [("day_missing", days.day_name(last))]
    other = Head(day=house.days[1], sha256="0" * 64)
    assert found(house, heads={ACCOUNT: other}) == [("altered", days.day_name(house.days[1]))]


def test_a_day_that_is_forged_with_every_hash_computed_anew_breaks_the_chain_of_the_next(house):
    name = days.day_name(house.days[1])
    said = json.loads((house.root / name).read_text()) | {"missing": [{"recording_id": "x"}]}
    resign(house, name, seals.written(said), signing.DAYS)
    wrong = set(found(house))
    assert {("chain_broken", days.day_name(house.days[2])), ("altered", name)} <= wrong


def test_a_signature_of_another_day_namespace_or_key_is_found(house):
    one, other = (house.root / f"{days.day_name(d)}.sig" for d in house.days[:2])
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    assert found(house) == [("bad_signature", days.day_name(house.days[0]))]
    key = house.worker.archive.signer.key()
    content = (house.root / days.day_name(house.days[0])).read_bytes()
    one.write_bytes(key.sign(content, signing.RECEIPTS))
    assert found(house) == [("bad_signature", days.day_name(house.days[0]))]
    one.write_bytes(kept)
    assert {what for what, _ in found(house, trusted=[])} == {"unknown_key"}
    one.unlink()
    assert found(house) == [("unsigned", days.day_name(house.days[0]))]


def test_an_object_that_nobody_knows_and_a_receipt_that_no_day_lists_are_found(house):
    for place in ("days/note.txt", "days/deep/x", "history/2026-1-1.jsonl", "history/x.sig"):
        (house.root / place).parent.mkdir(exist_ok=True)
        (house.root / place).write_text("x")
    house.files(house.days[0], "rec-9")  # signed with the key, and with an earlier date
    house.files(house.first, "rec-8")  # perhaps by an older release, before the first list
    assert found(house) == [
        ("unlisted", f"{house.days[0]:%Y/%m/%d}/rec-9.json"),
        ("unreferenced", "days/deep"),
        ("unreferenced", "days/note.txt"),
        ("unreferenced", "history/2026-1-1.jsonl"),
        ("unreferenced", "history/x.sig"),
    ]


def test_a_day_that_is_just_being_closed_is_no_finding(house):
    (house.root / days.list_name(house.today)).write_text("")
    (house.root / days.history_name(house.today - timedelta(days=40))).write_text("")
    report = verified(house)
    assert (report.findings, report.counts["unfinished"]) == ([], 2)


def test_units_come_in_an_order_in_which_an_interrupted_run_can_go_on(house):
    (house.root / "facts/rec-1").mkdir(parents=True)
    whole = WholeArchive(house.worker.archive.store, Trust([]), quick=True)
    units = whole.units(Report())
    months = sorted({f"{ACCOUNT}/days/{d:%Y-%m}" for d in [house.first, *house.days]})
    folders = [f"{ACCOUNT}/{d:%Y/%m/%d}" for d in (house.days[0], house.days[2])]
    assert units == [*folders, f"{ACCOUNT}/days", *months, f"{ACCOUNT}/facts"]
    assert units == sorted(units, key=place_of)
    assert place_of("") < place_of(units[0])


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"[]",
        b"[" * 100_000,
        b'{"schema": "endtape/day/2"}',
        b'{"schema": "endtape/day/1", "day": "2026-11-25"}',
        b'{"schema": "endtape/day/1", "day": 5, "account": "a"}',
        b'{"schema": "endtape/day/1", "day": "2026-11-25", "account": "a",'
        b' "files": {"sha256": "x"}, "history": {"head": "y", "entries": "many"}}',
        b'{"schema": "endtape/day/1", "day": "2026-11-25", "account": "a",'
        b' "files": [], "history": null}',
    ],
)
def test_whatever_stands_in_the_place_of_a_day_is_a_finding_and_never_a_fault(house, wrong):
    for day in house.days:
        (house.root / days.day_name(day)).write_bytes(wrong)
        (house.root / days.list_name(day)).write_bytes(wrong or b"x")
        (house.root / f"{days.list_name(day)}.sig").write_bytes(wrong)
        if (house.root / days.history_name(day)).exists():
            (house.root / days.history_name(day)).write_bytes(wrong)
    assert ("unreadable", days.day_name(house.days[0])) in found(house)


@pytest.fixture
def denied(monkeypatch):
    """The files and folders, by the last steps of their names, that the system refuses to open, as
    it does where only somebody else may read them.
    """
    names = set[str]()

    def refusing(opens, place):
        def tries(*given, **more):
            if given[place] in names:
                raise PermissionError(errno.EACCES, "Permission denied")
            return opens(*given, **more)

        return tries

    monkeypatch.setattr(durable, "enter", refusing(durable.enter, 1))
    monkeypatch.setattr(durable, "open_regular", refusing(durable.open_regular, 0))
    return names


def test_whatever_cannot_be_read_is_a_finding_and_the_rest_is_checked_all_the_same(house, denied):
    archive, day = house.worker.archive, house.days[0]
    fact_files.add(
        archive.store,
        archive.signer,
        Fact(
            account=ACCOUNT,
            recording_id="rec-3",
            kind=FactKind.HOLD,
            at=end_of(house.today),
            who="anna",
            reason="why",
        ),
    )
    (house.root / days.list_name(house.days[2])).write_text("")  # the rest
    names = [
        days.day_name(day),
        days.list_name(day),
        days.history_name(day),
        "1.json",
        "rec-1.json",
    ]
    for name in [*names, *(f"{name}.sig" for name in names), "days", "history", "facts", "rec-3"]:
        last = name.rpartition("/")[2]
        denied.add(last)
        told = wholly(house)
        denied.clear()
        assert any(what == "unreadable" and last[:5] in path for what, path in told), (name, told)
        if last != "days":
            assert ("altered", days.list_name(house.days[2])) in told, name
    denied.add(ACCOUNT)
    assert ("unreadable", ACCOUNT) in wholly(house)


def wholly(house):
    """What is found in all of the archive."""
    trusted = of_service(house.ledger.signing_keys())
    whole = WholeArchive(house.worker.archive.store, Trust(trusted), quick=False)
    report = Report()
    with ThreadPoolExecutor(2) as readers:
        for unit in whole.units(report):
            report.take(whole.check(unit, readers))
    return [(f.what, f.path.removeprefix(f"{ACCOUNT}/")) for f in report.findings]


def test_a_folder_in_the_place_of_a_file_of_a_day_is_a_finding_and_never_a_fault(house):
    for name in (days.day_name(house.first), f"{days.list_name(house.days[0])}.sig"):
        (house.root / name).unlink()
        (house.root / name).mkdir()
        assert ("unreferenced", name) in found(house)


def test_days_that_lie_ages_apart_are_told_in_a_few_lines(house):
    for name in ("days/2999-12-31.json", "days/0001-01-01.json"):
        (house.root / name).write_text("{}")
    told = verified(house).findings
    assert len(told) < 420
    assert ("unreferenced", f"{ACCOUNT}/days/0001-01-01.json") in {(f.what, f.path) for f in told}
    assert any("and 3" in f.detail for f in told if f.what == "day_missing")


def test_an_account_that_is_removed_altogether_is_found_by_a_head_that_others_hold(house):
    head = Head(day=house.days[2], sha256=house.ledger.closed_day(ACCOUNT).sha256)
    house.root.rename(house.folder / "elsewhere")
    assert found(house) == []
    assert found(house, heads={ACCOUNT: head}) == [("day_missing", days.day_name(head.day))]


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../x", "a/../b", "a//b", ".hidden", "a/.b", "a b", "", "a/"]
)
def test_a_name_that_leads_elsewhere_is_none_of_a_list(name):
    with pytest.raises(ValueError, match="line 1"):
        days.read_list(f"{'0' * 64}  {name}\n".encode())
