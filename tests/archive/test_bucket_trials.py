"""What `endtape doctor` proves of a bucket."""

import sys
import time

import pytest

from tests.s3 import Whims
from worker.archive import bucket_trials, object_lock
from worker.archive.bucket import BucketStore

pytestmark = pytest.mark.xdist_group("s3")


def test_a_bucket_is_proven_and_how_it_is_set_up_is_told(s3, monkeypatch):
    place = s3.place()
    found = {trial.name: trial for trial in bucket_trials.prove(BucketStore(place))}
    assert {name: trial.state for name, trial in found.items()} == {
        "archive": "fine",
        "archive delete": "fine",
        "archive aborted parts": "warning",
        "archive lock": "fine",
    }
    assert "AbortIncompleteMultipartUpload" in found["archive aborted parts"].detail
    assert found["archive lock"].detail == "object lock is off"
    assert [entry.name for entry in BucketStore(place).list("")] == []
    rule = {
        "ID": "a",
        "Filter": {"Prefix": ""},
        "Status": "Enabled",
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
    }
    object_lock.client_of(BucketStore(place)).put_bucket_lifecycle_configuration(
        Bucket=place.name, LifecycleConfiguration={"Rules": [rule]}
    )
    monkeypatch.setattr(time, "time", lambda now=time.time: now() + 600)
    found = {trial.name: trial for trial in bucket_trials.prove(BucketStore(place))}
    assert found["archive aborted parts"].state == "fine"
    assert found["archive clock"].state == "warning"
    assert "differs from ours by -60" in found["archive clock"].detail
    monkeypatch.setitem(sys.modules, "boto3", None)
    found = {trial.name: trial for trial in bucket_trials.prove(BucketStore(place))}
    assert found["archive lock"].detail.startswith("not checked: ")


def test_a_bucket_from_which_nothing_can_be_deleted_is_a_warning(s3):
    with Whims(s3, lambda method, _: "forbid" if method == "DELETE" else None) as proxy:
        found = {t.name: t for t in bucket_trials.prove(BucketStore(s3.place(port=proxy.port)))}
    assert found["archive"].state == "fine"
    assert found["archive delete"].state == "warning"
    assert "nothing can be erased" in found["archive delete"].detail


def test_a_bucket_that_is_missing_fails_with_the_way_out(s3):
    (trial,) = bucket_trials.prove(BucketStore(s3.place(name="nowhere")))
    assert (trial.name, trial.state) == ("archive", "failed")
    assert "make the bucket" in trial.detail
