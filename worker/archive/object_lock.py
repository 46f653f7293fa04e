"""What only S3's own API can do: a bucket's legal hold on an object, and old versions of objects.

It asks through boto3, the extra `s3`. Without it, in another cloud and in a directory nothing is
locked, and nobody can say so. Facts about S3: a DELETE without a version hides an object and keeps
its bytes as an old version; a locked version cannot be deleted (AWS, "Locking objects with Object
Lock").
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeVar

import structlog

from worker import logs
from worker.archive.bucket import BucketStore
from worker.archive.store import Store
from worker.errors import Unstored

log = structlog.get_logger()
T = TypeVar("T")
_NOT_CONFIGURED = ("ObjectLockConfigurationNotFoundError", "NoSuchObjectLockConfiguration")
_ABSENT = (*_NOT_CONFIGURED, "InvalidRequest", "NoSuchKey", "NoSuchVersion", "Not Found")


@dataclass(frozen=True, kw_only=True, slots=True)
class Locked:
    """What came of locking files. `names`: those that we locked now. `why_not`: why no lock of the
    bucket stands behind a hold; None where one does.
    """

    names: tuple[str, ...] = ()
    why_not: str | None = None


@lru_cache(maxsize=8)
def client_of(store: BucketStore) -> Any:
    """The client of the extra `s3` for a bucket. It is slow to import. Raises ImportError."""
    boto3 = importlib.import_module("boto3")
    given = dict(store.place.variables)
    return boto3.client(
        "s3",
        aws_access_key_id=given.get("AWS_ACCESS_KEY_ID"),
        aws_secret_access_key=given.get("AWS_SECRET_ACCESS_KEY"),
        aws_session_token=given.get("AWS_SESSION_TOKEN"),
        region_name=given.get("AWS_REGION") or given.get("AWS_DEFAULT_REGION") or "us-east-1",
        endpoint_url=given.get("AWS_ENDPOINT_URL_S3") or given.get("AWS_ENDPOINT_URL"),
    )


def configuration(client: Any, bucket: str) -> dict[str, Any] | None:
    """The bucket's object lock; None where it has none. Raises what boto3 raises."""
    try:
        found = client.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"]
    except Exception as error:
        if any(word in str(error) for word in _NOT_CONFIGURED):
            return None
        raise
    return dict(found) if found and found.get("ObjectLockEnabled") == "Enabled" else None


def lock(store: Store, names: Sequence[str]) -> Locked:
    """Set the bucket's legal hold on these files, where the bucket has object lock. Never raises:
    `why_not` says what was in the way. One that was held by somebody else is left to that one.
    """
    try:
        bucket = _Bucket.of(store)
    except _NoLock as error:
        return Locked(why_not=str(error))
    if not names:
        return Locked(why_not="nothing is archived yet that the bucket could lock")
    ours = list[str]()
    try:
        for name in names:
            if not bucket.is_held(name):
                bucket.hold(name, on=True)
                ours.append(name)
    except Unstored as error:
        unlock(store, ours)
        return Locked(why_not=str(error))
    return Locked(names=tuple(ours))


def unlock(store: Store, names: Sequence[str]) -> None:
    """Take the bucket's legal hold off these files. Harmless to repeat. Raises Unstored where that
    cannot be done.
    """
    if not names:
        return
    try:
        bucket = _Bucket.of(store)
    except _NoLock as error:
        raise Unstored(f"the bucket's legal hold cannot be taken off: {error}") from None
    for name in names:
        bucket.hold(name, on=False)


def why_locked(store: Store, names: Sequence[str]) -> str | None:
    """Why the bucket would not delete one of these files now; None where it would, or nobody can
    say. Raises Unstored.
    """
    try:
        bucket = _Bucket.of(store)
    except _NoLock:
        return None
    now = datetime.now(UTC)
    for name in names:
        try:
            if bucket.is_held(name):
                return f"the bucket has a legal hold on {name}: whoever set it must take it off"
            until = bucket.retained_until(name)
        except _Denied:
            return None  # the bucket itself will say so
        if until and until > now:
            return f"the bucket's object lock keeps {name} until {until:%Y-%m-%d %H:%M} UTC"
    return None


def remove_versions(store: Store, stems: Sequence[str], keep: str) -> None:
    """Remove every old version of the files whose names begin with one of these, in a bucket that
    keeps versions. `keep`: the names that begin so stay.

    Raises Unstored where the bucket refuses, as it does for a locked one. Where we may not list
    versions, a line of the log says so: then a lifecycle rule of the bucket has to end them.
    """
    if not isinstance(store, BucketStore) or store.place.cloud != "s3":
        return
    try:
        client = client_of(store)
    except ImportError:
        return  # docs/operations.md: a lifecycle rule has to end them
    bucket = _Bucket(client, store)
    try:
        if not bucket.keeps_versions():
            return
        old = [one for stem in stems for one in bucket.versions(stem)]
    except _Denied as error:
        if logs.seldom("versions", store.place.url):
            log.warning("old versions stay in the bucket until its owner ends them", why=str(error))
        return
    for name, version in old:
        if not name.startswith(keep):
            bucket.remove(name, version)


class _Denied(Unstored):
    """We may not ask or do this, or the object is locked."""


class _NoLock(Exception):
    """The store has no object lock, or nobody can ask it."""


class _Bucket:
    """A bucket through S3's own API. Names are those of the archive."""

    def __init__(self, client: Any, store: BucketStore) -> None:
        self._client, self._bucket = client, store.place.name
        self._before = f"{store.place.prefix}/" if store.place.prefix else ""

    @classmethod
    def of(cls, store: Store) -> _Bucket:
        """The bucket, where it has object lock. Raises _NoLock."""
        if not isinstance(store, BucketStore) or store.place.cloud != "s3":
            raise _NoLock("the archive is no S3 bucket, and only those have object lock")
        try:
            client = client_of(store)
            found = configuration(client, store.place.name)
        except ImportError:
            raise _NoLock("`pip install endtape[s3]` brings what sets a bucket's lock") from None
        except Exception as error:  # noqa: BLE001 - boto3 makes its errors at run time
            raise _NoLock(f"the bucket does not say whether it has object lock: {error}") from None
        if found is None:
            raise _NoLock("object lock is off in the bucket")
        return cls(client, store)

    def is_held(self, name: str) -> bool:
        found: Any = self._ask(name, lambda key: self._client.get_object_legal_hold(**key))
        return bool(found and found["LegalHold"].get("Status") == "ON")

    def hold(self, name: str, *, on: bool) -> None:
        status = {"Status": "ON" if on else "OFF"}
        self._ask(name, lambda key: self._client.put_object_legal_hold(**key, LegalHold=status))

    def retained_until(self, name: str) -> datetime | None:
        found: Any = self._ask(name, lambda key: self._client.head_object(**key))
        until = found.get("ObjectLockRetainUntilDate") if found else None
        return until if isinstance(until, datetime) else None

    def keeps_versions(self) -> bool:
        """Whether the bucket ever kept versions."""
        bucket = self._bucket
        said: Any = self._ask("", lambda _: self._client.get_bucket_versioning(Bucket=bucket))
        return bool(said and said.get("Status"))

    def versions(self, stem: str) -> Iterator[tuple[str, str]]:
        """The name and id of each version, and of each mark of a deletion."""
        pages = self._client.get_paginator("list_object_versions").paginate(
            Bucket=self._bucket, Prefix=f"{self._before}{stem}"
        )
        for page in self._ask(stem, lambda _: list(pages)) or ():
            for one in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                yield one["Key"].removeprefix(self._before), one["VersionId"]

    def remove(self, name: str, version: str) -> None:
        self._ask(name, lambda key: self._client.delete_object(**key, VersionId=version))

    def _ask(self, name: str, ask: Callable[[dict[str, str]], T]) -> T | None:
        """The answer; None where there is no such object, or nothing of the kind is set on it.
        Raises Unstored.
        """
        try:
            return ask({"Bucket": self._bucket, "Key": f"{self._before}{name}"})
        except Exception as error:  # noqa: BLE001 - boto3 makes its errors at run time
            if any(word in str(error) for word in _ABSENT):
                return None
            if "AccessDenied" in str(error) or "(403)" in str(error):
                way_out = "it is locked, or the key may not do this"
                raise _Denied(f"{name}: the bucket refused: {error}; {way_out}"[:400]) from None
            raise Unstored(f"{name}: no answer: {error}; check the network"[:400]) from None
