"""The catalogue on SQLite and on PostgreSQL: what is entered is found by every filter, in order."""

import contextlib
import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy

from tests.catalogue.builders import at, ids, receipt, row
from worker.catalogue import rows, tables
from worker.catalogue.database import Catalogue
from worker.catalogue.wanted import Wanted
from worker.errors import CatalogueAway
from worker.ledger.calls import SeenAt
from worker.ledger.codec import to_ms


def search(catalogue, *, before=None, down_to=None, limit=50, **wanted):
    return catalogue.search(Wanted(**wanted), before=before, down_to=down_to, limit=limit)


ROWS = [
    row(0, stop={"state": "unknown"}),
    row(1, labels={"team": "billing", "agent": "a_7"}, to="sip:00918065550101@pbx"),
    row(2, account="SA_2", labels={"team": "sales"}),
    row(3, stop={"rule": "payments line"}, restriction={"restricted_by": ["no_consent"]}),
    row(4, call_uuid="Call-X", **{"from": None, "to": None}),
]


CASES = [
    ({}, [4, 3, 2, 1, 0]),
    ({"phase": "archived"}, [4, 3, 2, 1, 0]),
    ({"phase": "abandoned"}, []),
    ({"stop": "unknown"}, [0]),
    ({"fault": "media"}, []),
    ({"rule": "payments line"}, [3]),
    ({"number": "918065550101"}, [1]),
    ({"number": "919820055512"}, [3, 2, 1, 0]),
    ({"number": "91806555010*"}, [3, 2, 1, 0]),
    ({"number": "*0103"}, [3]),
    ({"number": "*5550102*"}, [2]),
    ({"label": ("team", "billing")}, [1]),
    ({"label": ("team", "billing"), "stop": "unknown"}, []),
    ({"label": ("team", "bill")}, []),
    ({"call_uuid": "Call-X"}, [4]),
    ({"account": "SA_2"}, [2]),
    ({"held": True}, []),
    ({"held": False, "account": "SA_2"}, [2]),
    ({"since": at(3)}, [4, 3]),
    ({"until": at(1)}, [1, 0]),
    ({"label": ("team", "sales"), "since": at(3)}, []),
    ({"q": "ec-003"}, [3]),
    ({"q": "CALL-x"}, [4]),
    ({"q": "+91 80 6555 0102"}, [2]),
    ({"q": "billing"}, [1]),
    ({"q": "agent=a_7"}, [1]),
    ({"q": "agent=ab7"}, []),
    ({"q": "50%"}, []),
]


def test_every_filter_finds_the_same_in_sql_and_among_live_recordings(catalogue):
    catalogue.enter(ROWS)
    for wanted, found in CASES:
        assert ids(search(catalogue, **wanted)) == [f"rec-{n:03d}" for n in found], wanted
        asked = Wanted(**wanted)
        if not {"since", "until", "account"} & set(wanted):
            live = [ids([r])[0] for r in ROWS[::-1] if asked.fits(r.view)]
            assert live == [f"rec-{n:03d}" for n in found], wanted


def test_pages_follow_each_other_without_a_double_or_a_gap_and_equal_instants_go_by_id(catalogue):
    same = to_ms(at(0))
    catalogue.enter(
        [
            row(n, recording_id=i, first_seen_at=ROWS[0].view["first_seen_at"], account=account)
            for n, (account, i) in enumerate(
                [("MA_1", "b"), ("SA_2", "b"), ("MA_1", "a"), ("MA_1", "C"), ("MA_1", "_")]
            )
        ]
    )
    seen, before = [], None
    while page := search(catalogue, before=before, limit=2):
        seen += [(one.view["recording_id"], one.id[0]) for one in page]
        before = SeenAt(page[-1].first_seen_ms, *seen[-1])
    assert seen == [("b", "SA_2"), ("b", "MA_1"), ("a", "MA_1"), ("_", "MA_1"), ("C", "MA_1")]
    down = search(catalogue, down_to=SeenAt(same, "a", "MA_1"))
    assert [one.view["recording_id"] for one in down] == ["b", "b", "a"]


def test_what_is_entered_again_takes_the_place_of_its_row_with_its_labels(catalogue):
    catalogue.enter([row(1, labels={"team": "old", "more": "x"}), row(2)])
    catalogue.enter([row(1, labels={"team": "new"}, stop={"state": "unknown"})])
    assert (catalogue.count(), ids(search(catalogue, stop="unknown"))) == (2, ["rec-001"])
    assert [ids(search(catalogue, label=("team", name))) for name in ("old", "new")] == [
        [],
        ["rec-001"],
    ]
    catalogue.remove([("MA_1", "rec-001")])
    assert (list(catalogue.ids()), search(catalogue, label=("team", "new"))) == (
        [("MA_1", "rec-002")],
        [],
    )


def test_rows_are_found_by_recording_call_and_account(catalogue):
    catalogue.enter([row(1), row(1, account="SA_2"), row(2, call_uuid="call-001")])
    assert catalogue.find("rec-001", "SA_2").id == ("SA_2", "rec-001")
    assert catalogue.find("rec-001").id == ("MA_1", "rec-001")
    assert catalogue.find("rec-009") is None
    assert ids(catalogue.of_call("call-001")) == ["rec-001", "rec-002"]  # of one account
    assert catalogue.of_call("call-009") == []
    assert catalogue.known("MA_1", ["rec-002", "rec-009"]) == {"rec-002"}
    assert catalogue.find("rec-001", "SA_2").view == row(1, account="SA_2").view
    named = catalogue.named([("SA_2", "rec-001"), ("MA_1", "rec-002"), ("MA_1", "rec-009")])
    assert {one.id for one in named} == {("SA_2", "rec-001"), ("MA_1", "rec-002")}
    assert catalogue.named([]) == []


def test_it_counts_what_each_rule_decided_about_since_an_instant(catalogue):
    catalogue.enter([*ROWS, row(5, stop={"rule": None})])
    assert catalogue.by_rule(since=at(0)) == {"defaults": 4, "payments line": 1}
    assert catalogue.by_rule(since=at(3)) == {"defaults": 1, "payments line": 1}


def test_what_postgresql_takes_into_no_text_keeps_no_recording_out_and_takes_no_catalogue_away(
    catalogue,
):
    odd = "bill\0ing"
    catalogue.enter([row(1, labels={"te\0am": odd}), row(2, direction=odd)])
    assert catalogue.find("rec-001").view["labels"] == {"te\0am": odd}
    assert ids(search(catalogue, label=("te\0am", odd))) == ["rec-001"]
    assert ids(search(catalogue, q=odd)) == ["rec-001"]
    assert search(catalogue, rule="\0", call_uuid="\0") == []
    assert catalogue.find("\0", "\0") is None
    assert catalogue.of_call("\0") == []
    assert catalogue.known("\0", ["\0"]) == set()


def test_two_workers_enter_the_same_recordings_at_once(url):
    both = [Catalogue(url), Catalogue(url)]
    there = [row(n, labels={"n": str(n)}) for n in range(60)]

    def enter(n):
        some = there[n % 20 :]
        both[n % 2].enter(some if n % 2 else some[::-1])

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(enter, range(24)))
    assert (both[0].count(), ids(search(both[1], label=("n", "7")))) == (60, ["rec-007"])
    for one in both:
        one.close()


def test_two_processes_that_make_the_same_new_file_wait_for_each_other(tmp_path):
    path = tmp_path / "catalogue.sqlite"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        ours = Catalogue(f"sqlite:///{path}")
        with ThreadPoolExecutor(1) as threads:
            count = threads.submit(ours.count)
            with pytest.raises(TimeoutError):
                count.result(timeout=0.3)
            other.execute("ROLLBACK")
            assert count.result() == 0
        ours.close()


def test_an_entering_that_fails_half_way_leaves_nothing(catalogue):
    broken = row(2)
    broken.view["labels"] = {"name": None}  # no database takes that
    with pytest.raises(ValueError, match=r"NOT NULL|null value"):
        catalogue.enter([row(1), broken])
    catalogue.try_it()
    assert catalogue.count() == 0


def test_a_step_that_a_newer_release_adds_is_taken_once_and_its_neighbour_goes_on(url, monkeypatch):
    old = Catalogue(url)
    old.enter([row(1)])
    taken = []

    def second(connection):
        taken.append(1)
        connection.execute(sqlalchemy.text("ALTER TABLE recordings ADD COLUMN colour VARCHAR"))

    monkeypatch.setattr(tables.bring_up_to_date, "__defaults__", ((*tables.STEPS, second),))
    new = Catalogue(url)
    new.enter([row(2)])
    assert Catalogue(url).count() == 2
    old.enter([row(3)])
    assert (ids(search(new)), taken) == (["rec-003", "rec-002", "rec-001"], [1])
    monkeypatch.setattr(tables.bring_up_to_date, "__defaults__", (tables.STEPS,))
    assert Catalogue(url).count() == 3  # the older release starts anew beside it
    monkeypatch.setattr(
        tables.bring_up_to_date, "__defaults__", ((*tables.STEPS, second, lambda _: None),)
    )
    assert Catalogue(url).count() == 3
    monkeypatch.setattr(tables.bring_up_to_date, "__defaults__", (tables.STEPS,))
    with pytest.raises(CatalogueAway, match="a newer release wrote it"):
        Catalogue(url).count()


def test_a_catalogue_that_is_away_says_why_without_its_password_and_comes_back(tmp_path):
    place = tmp_path / "in" / "the" / "way"
    place.parent.parent.mkdir()
    place.parent.write_text("")
    catalogue = Catalogue(f"sqlite:///{place}")
    with pytest.raises(CatalogueAway):
        catalogue.enter([row(1)])
    place.parent.unlink()
    catalogue.try_it()
    catalogue.enter([row(1)])
    assert (catalogue.count(), stat.S_IMODE(place.stat().st_mode)) == (1, 0o600)
    nobody = Catalogue("postgresql+psycopg://me:secret-word@127.0.0.1:1/x")
    with pytest.raises(CatalogueAway) as away:
        nobody.count()
    assert "secret-word" not in str(away.value)
    with pytest.raises(CatalogueAway):
        nobody.enter([row(1)])


def test_an_older_file_without_first_seen_at_has_its_place_by_its_start():
    old = row(1, first_seen_at=None)
    assert old.first_seen_ms == to_ms(at(1))


@pytest.mark.parametrize(
    "odd",
    [
        {"labels": ["x"]},
        {"labels": {"n": 5}},
        {"segment_of": 5},
        {"from": ["x"]},
        {"direction": {}},
        {"started_at": "soon"},
        {"ended_at": 5},
        {"first_seen_at": "2026-09-14T10:00:00"},
        {"stop": "x"},
        {"stop": {"evidence": None}},
        {"stop": {"attempts": -1}},
        {"stop": {"due_at": "then"}},
        {"provider": {"duration_ms": 10**30}},
        {"media": {"bytes": 2**70, "sha256": "x"}},
        {"media": []},
        {"retain": {"until": "x"}},
        {"consent": {"kind": 5}},
    ],
)
def test_a_receipt_whose_parts_no_list_could_show_is_no_receipt(odd):
    said = receipt(1)
    rows.of_receipt(said, "MA_1/2026/09/14/rec-001.mp3")
    (name, part) = next(iter(odd.items()))
    if isinstance(part, dict) and isinstance(said.get(name), dict):
        odd = {name: said[name] | part}
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        rows.of_receipt(said | odd, "MA_1/2026/09/14/rec-001.mp3")


OLDER = {
    "ALTER TABLE recordings DROP COLUMN restricted": "recordings lacks restricted",
    "ALTER TABLE views ADD COLUMN hue VARCHAR NOT NULL DEFAULT 'x'": None,
    "DROP TABLE labels": "there is no table labels",
}


@pytest.mark.parametrize("change", OLDER)
def test_a_catalogue_of_another_shape_says_what_to_do_and_is_replaced_by_order(url, change):
    old = Catalogue(url)
    old.enter([row(1)])
    old.close()
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(change)
    engine.dispose()
    catalogue = Catalogue(url)
    if OLDER[change] is None:  # what a newer release may add does no harm
        assert catalogue.count() == 1
        catalogue.enter([row(2)])
    else:
        with pytest.raises(CatalogueAway, match=f"{OLDER[change]}.*endtape index --replace"):
            catalogue.enter([row(1)])
        catalogue.replace()
        assert catalogue.count() == 0
        catalogue.enter([row(1, labels={"team": "billing"})])
        assert ids(search(catalogue, label=("team", "billing"))) == ["rec-001"]
    catalogue.close()


def test_what_no_database_can_hold_is_a_value_error_whatever_is_wrong_with_it(catalogue):
    for name, value in (
        ("labels", {"n": 5}),
        ("labels", {"n": None}),
        ("call_uuid", ["x"]),
        ("labels", {"n": "\ud800"}),
    ):
        bad = row(2)
        bad.view[name] = value
        with pytest.raises(ValueError, match=r"."):
            catalogue.enter([row(1), bad])
        catalogue.try_it()
    assert catalogue.known("MA_1", ["rec-001"]) == set()


def test_a_sqlite_file_that_is_deleted_or_replaced_while_it_is_used_is_used_anew(tmp_path):
    place = tmp_path / "catalog.db"
    first, second = (Catalogue(f"sqlite:///{place}") for _ in range(2))
    first.enter([row(1)])
    assert second.count() == 1
    for file in tmp_path.glob("catalog.db*"):
        file.unlink()
    assert (first.count(), second.count()) == (0, 0)
    second.enter([row(2)])
    assert ids(search(first)) == ["rec-002"]
    for one in (first, second):
        one.close()
