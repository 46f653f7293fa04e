"""Proves what a bucket does: that we may write, read and delete, that it refuses to overwrite, that
its clock is ours; and what its owner set up. It leaves two small objects at most.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from worker.archive import object_lock
from worker.archive.bucket import BucketStore
from worker.errors import Conflict, EndtapeError, Unstored

_FOLDER = ".endtape-trial"
_SKEW_S = 300.0  # S3 refuses requests at 15 minutes
_EXTRA = "not checked: `pip install endtape[s3]` brings what asks for it"


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """`state` is fine, warning or failed."""

    name: str
    state: str
    detail: str


def store_and_refuse(store: BucketStore, name: str = "") -> float:
    """Write a small object, read it back, and see that another is refused under its name. Returns
    the bucket's clock less ours, in seconds; 0 where nothing was written now.

    Raises Unstored, which says what did not work.
    """
    name, skew_s = name or f"{_FOLDER}/{socket.gethostname()}", 0.0
    for _ in range(2):  # the first time ever nothing stands there yet
        content = secrets.token_hex(8).encode()
        began = time.time()
        try:
            store.create(name, content)
        except Conflict:
            if store.read(name) == content:
                break
            return skew_s
        try:
            stands = store.read(name)
        except FileNotFoundError:
            stands = b""
        if stands != content:
            raise Unstored(f"{store.place}: it forgot what it took; use another bucket")
        skew_s = store.head(name).modified - (began + time.time()) / 2
    raise Unstored(
        f"{store.place}: it overwrites what stands, though asked not to (If-None-Match: *); use a "
        "store that refuses, else another writer can replace recordings"
    )


def prove(store: BucketStore) -> Iterator[Trial]:
    """Every trial, for `endtape doctor` and the start, with an object of its own."""
    own = f"{_FOLDER}/{socket.gethostname()}-proof"
    try:
        with contextlib.suppress(Unstored):  # what is written anew shows the bucket's clock
            store.delete(own)
        skew_s = store_and_refuse(store, own)
    except EndtapeError as error:
        yield Trial(name="archive", state="failed", detail=str(error))
        return
    yield Trial(
        name="archive",
        state="fine",
        detail=f"{store.place} can be written and read, and refuses to overwrite",
    )
    yield _deleted(store, own)
    if abs(skew_s) > _SKEW_S:
        yield Trial(
            name="archive clock",
            state="warning",
            detail=f"the bucket's clock differs from ours by {skew_s:.0f} s; keep ours with NTP",
        )
    if store.place.cloud == "s3":
        yield from _set_up(store)


def _deleted(store: BucketStore, name: str) -> Trial:
    try:
        store.delete(name)
        with contextlib.suppress(FileNotFoundError):
            store.head(name)
            raise Unstored("it is still there")
    except Unstored as error:
        return Trial(
            name="archive delete",
            state="warning",
            detail=f"an object cannot be deleted, so nothing can be erased: {error}",
        )
    return Trial(name="archive delete", state="fine", detail="an object can be deleted")


def _set_up(store: BucketStore) -> Iterator[Trial]:
    """What the bucket's owner set up, by S3's own API."""
    for name, look in (("archive aborted parts", _aborted_parts), ("archive lock", _lock)):
        try:
            state, detail = look(object_lock.client_of(store), store.place.name)
        except ImportError:
            state, detail = "fine", _EXTRA
        except Exception as error:  # noqa: BLE001 - boto3 makes its errors at run time
            state, detail = "warning", f"not checked: {error}"[:300]
        yield Trial(name=name, state=state, detail=detail)


def _aborted_parts(client: Any, bucket: str) -> tuple[str, str]:
    rules = _asked(
        lambda: client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"],
        "NoSuchLifecycleConfiguration",
        [],
    )
    if any(r["Status"] == "Enabled" and "AbortIncompleteMultipartUpload" in r for r in rules):
        return "fine", "a lifecycle rule removes the parts of uploads that broke off"
    return (
        "warning",
        "no lifecycle rule removes the parts of uploads that broke off, and they cost money: add "
        "AbortIncompleteMultipartUpload, 7 days",
    )


def _lock(client: Any, bucket: str) -> tuple[str, str]:
    found = object_lock.configuration(client, bucket)
    if not found:
        return "fine", "object lock is off"
    kept = found.get("Rule", {}).get("DefaultRetention")
    if not kept:
        return "fine", "object lock is on, without a default retention"
    span = f"{kept['Days']} days" if "Days" in kept else f"{kept.get('Years')} years"
    return "fine", f"object lock keeps each object {span} ({kept['Mode']}); until then no erasing"


def _asked(ask: Callable[[], Any], absent: str, otherwise: Any) -> Any:
    """The answer, or `otherwise` where the server says that there is none."""
    try:
        return ask()
    except Exception as error:
        if absent in str(error):
            return otherwise
        raise
