"""A bucket's own legal hold behind ours, and old versions, over moto, which is laxer than S3."""

import sys
from datetime import UTC, datetime, timedelta

import pytest

from tests.s3 import Whims
from worker.archive import object_lock
from worker.archive.bucket import BucketStore
from worker.archive.directory import Directory
from worker.archive.places import Bucket
from worker.archive.spool import Spool
from worker.errors import Unstored

pytestmark = pytest.mark.xdist_group("s3")
NAMES = ["MA_1/2026/09/14/r.mp3", "MA_1/2026/09/14/r.json"]


def locking(s3, name, port=None):
    """The store of a new bucket with object lock, with two files in it."""
    place = s3.place(name=name, port=port)
    client = object_lock.client_of(BucketStore(s3.place(name=name)))
    client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    store = BucketStore(place)
    for one in NAMES:
        store.create(one, b"one")
    return store


def test_a_hold_locks_what_nobody_else_had_locked_and_takes_off_that_alone(s3):
    store = locking(s3, "locks-and-unlocks")
    client, key = object_lock.client_of(store), f"some/prefix/{NAMES[1]}"
    client.put_object_legal_hold(Bucket=store.place.name, Key=key, LegalHold={"Status": "ON"})
    locked = object_lock.lock(store, NAMES)
    assert (locked.names, locked.why_not) == ((NAMES[0],), None)
    assert "legal hold" in object_lock.why_locked(store, NAMES[:1])
    object_lock.unlock(store, locked.names)
    object_lock.unlock(store, locked.names)
    assert object_lock.why_locked(store, NAMES[:1]) is None
    assert object_lock.why_locked(store, NAMES[1:])  # somebody else's stays
    until = datetime.now(UTC) + timedelta(days=30)
    client.put_object_retention(
        Bucket=store.place.name,
        Key=f"some/prefix/{NAMES[0]}",
        Retention={"Mode": "COMPLIANCE", "RetainUntilDate": until},
    )
    assert f"until {until:%Y-%m-%d}" in object_lock.why_locked(store, NAMES[:1])


def test_erasing_takes_old_versions_too_and_says_which_one_the_bucket_keeps(s3):
    store = locking(s3, "keeps-versions")
    client, bucket = object_lock.client_of(store), store.place.name
    store.create("MA_1/2026/09/14/r.erased.json", b"tombstone")
    store.create("MA_1/2026/09/14/r2.mp3", b"another recording")
    for name in NAMES:
        store.delete(name)
    assert object_lock.why_locked(store, NAMES) is None
    object_lock.remove_versions(store, ["MA_1/2026/09/14/r."], "MA_1/2026/09/14/r.erased.json")
    left = client.list_object_versions(Bucket=bucket)
    assert [v["Key"].rpartition("/")[2] for v in left["Versions"]] == ["r.erased.json", "r2.mp3"]
    assert "DeleteMarkers" not in left
    object_lock.lock(store, ["MA_1/2026/09/14/r2.mp3"])
    with pytest.raises(Unstored, match="it is locked"):
        object_lock.remove_versions(store, ["MA_1/2026/09/14/r2."], "none")


def test_without_the_rights_to_ask_nothing_is_in_the_way_of_erasing(s3):
    def may_not(_, path):
        return "forbid" if any(word in path for word in ("versions", "legal-hold")) else None

    with Whims(s3, may_not) as proxy:
        locking(s3, "few-rights")
        store = BucketStore(s3.place(name="few-rights", port=proxy.port))
        assert object_lock.why_locked(store, NAMES) is None
        object_lock.remove_versions(store, ["MA_1/2026/09/14/r."], "none")
        assert "may not do this" in object_lock.lock(store, NAMES).why_not


def test_without_object_lock_the_hold_is_ours_alone_and_says_why(s3, tmp_path, monkeypatch):
    def why(store):
        return object_lock.lock(store, NAMES).why_not

    plain = BucketStore(s3.place())
    assert why(plain) == "object lock is off in the bucket"
    assert object_lock.why_locked(plain, NAMES) is None
    assert "no S3 bucket" in why(Directory(tmp_path, Spool(tmp_path)))
    google = BucketStore(Bucket(url="gs://b/p", variables=()))
    assert "no S3 bucket" in why(google)
    refusing = "PUT"
    with Whims(s3, lambda m, p: "forbid" if m == refusing and "legal-hold" in p else None) as proxy:
        store = locking(s3, "may-not-lock")
        assert "the bucket refused" in why(
            BucketStore(s3.place(name="may-not-lock", port=proxy.port))
        )
        assert object_lock.why_locked(store, NAMES) is None
    assert object_lock.lock(store, []).why_not.startswith("nothing is archived yet")
    monkeypatch.setitem(sys.modules, "boto3", None)
    object_lock.client_of.cache_clear()
    assert "pip install endtape[s3]" in why(store)
    with pytest.raises(Unstored, match="cannot be taken off"):
        object_lock.unlock(store, NAMES)
