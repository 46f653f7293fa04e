"""The archive's files in a bucket of S3, GCS or Azure, through `obstore`.

Up to 32 MiB one conditional create (`If-None-Match: *`) puts a file. A larger one goes in parts,
which no precondition guards, so its name must carry its digest. The runtime of `obstore` does not
outlive a fork: a process that forks must not use a bucket before
(docs/decisions/0014-buckets.md).
"""

from __future__ import annotations

import contextlib
import hashlib
import mimetypes
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnknownConfigurationKeyError,
)
from obstore.store import AzureStore, GCSStore, ObjectStore, S3Store

from worker.archive.bucket_file import opened
from worker.archive.places import Bucket
from worker.archive.store import Entry, Level, Opened
from worker.errors import Conflict, Unstored

ONE_STEP_BYTES = 32 * 1024 * 1024  # up to so many, one request creates a file
_PART_BYTES, _PARTS_AT_ONCE = 8 * 1024 * 1024, 2  # and one that is being read
_MOST_PARTS = 9_000  # S3 takes 10,000
_STORES: dict[str, Any] = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}
# A request may take so long, and as much longer as its bytes take at so many a second. So a store
# that does not answer holds nobody for long, and a large part on a slow link ends in time.
_ANSWER_S, _SLOWEST = 5, 100_000
_FEW_BYTES = 256 * 1024  # need no longer
_SIZES = (1 << 20, 4 << 20, 16 << 20, 32 << 20)  # a client for each
_CONNECT_S = 3
_TRIES_S, _TRIES_OF_PARTS_S = 3, 180  # nothing is repeated later than so long after its beginning
_UNKNOWN_KEY = re.compile(r"key: '(\w+)'")
_STATUS = re.compile(r"status code: ([0-9]{3})")
_STORAGE_CLASS = "storage_class"
_TYPES = {
    ".json": "application/json",
    ".peaks": "application/json",
    ".sig": "text/plain",
    ".mp3": "audio/mpeg",
    ".wav": "audio/wav",
}
_AWAY = "check the endpoint and the network"


class BucketStore:
    """A store in a bucket. Making one sends nothing and starts nothing."""

    def __init__(self, place: Bucket) -> None:
        """Raises ValueError for options and variables that the client does not take."""
        self.place = place
        storage_class = dict(place.options).get(_STORAGE_CLASS)
        self._attributes = {"Storage-Class": storage_class} if storage_class else {}
        self.client = _client(place)
        self._patient = dict[tuple[int, int], ObjectStore]()

    def within(self, name: str) -> AbstractContextManager[None]:  # noqa: ARG002 - a bucket has no folders
        return contextlib.nullcontext()

    def create(self, name: str, data: bytes) -> None:
        self._create(name, data, hashlib.sha256(data).hexdigest())

    def put_file(self, name: str, part: Path, sha256: str) -> None:
        size = part.stat().st_size
        if not self.put_is_named_by_digest(size):
            self._create(name, part.read_bytes(), sha256)
            return
        with contextlib.suppress(FileNotFoundError):
            self._same_or_conflict(name, size, sha256)
            return
        at_once = max(_PART_BYTES, -(-size // _MOST_PARTS))
        with self._asking("put", name, is_write=True):
            obstore.put(
                self._client_for(at_once * _PARTS_AT_ONCE, _TRIES_OF_PARTS_S),
                name,
                part,
                attributes=self._attributes_of(name, sha256),
                use_multipart=True,
                chunk_size=at_once,
                max_concurrency=_PARTS_AT_ONCE,
            )

    def read(self, name: str) -> bytes:
        with self._asking("get", name):
            got = obstore.get(self.client, name)
            if got.meta["size"] <= _FEW_BYTES:
                return bytes(got.bytes())
        with self.open(name) as file:  # in ranges, each of which has its time
            return file.read()

    def open(self, name: str) -> Opened:
        return opened(self._client_for, self.head(name), lambda: self._asking("get", name))

    def head(self, name: str) -> Entry:
        with self._asking("head", name):
            return _entry(obstore.head(self.client, name))

    def level(self, folder: str) -> Level:
        with self._asking("list", folder):
            found = obstore.list_with_delimiter(self.client, folder or None)
        folders = [str(prefix).rpartition("/")[2] for prefix in found["common_prefixes"]]
        return Level(
            folders=sorted(step for step in folders if not step.startswith(".")),
            files=sorted(_shown(found["objects"]), key=lambda entry: entry.name),
        )

    def list(self, folder: str) -> Iterator[Entry]:
        with self._asking("list", folder):
            for chunk in obstore.list(self.client, folder or None, chunk_size=1000):
                yield from _shown(chunk)

    def starting(self, stem: str) -> Sequence[Entry]:
        found = list[Entry]()
        with self._asking("list", stem):
            folder = stem.rpartition("/")[0]
            # From the first name on that is not before the stem, and no further than needed.
            for chunk in obstore.list(self.client, folder, offset=stem, chunk_size=20):
                for entry in _shown(chunk):
                    if not entry.name.startswith(stem):
                        return found
                    found.append(entry)
        return found

    def delete(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError), self._asking("delete", name):
            obstore.delete(self.client, name)

    def put_is_named_by_digest(self, size: int) -> bool:
        return size > ONE_STEP_BYTES

    def free_bytes(self) -> int | None:
        return None

    def _create(self, name: str, data: bytes, sha256: str) -> None:
        try:
            with self._asking("put", name, is_write=True):
                obstore.put(
                    self._client_for(len(data)),
                    name,
                    data,
                    attributes=self._attributes_of(name, sha256),
                    mode="create",
                    use_multipart=False,
                )
        except AlreadyExistsError:
            # Perhaps an earlier request of ours, whose answer never came.
            try:
                self._same_or_conflict(name, len(data), sha256)
            except FileNotFoundError:
                raise Unstored(f"{self.place}: another writer is at {name}") from None

    def _client_for(self, size: int, tries_s: int = _TRIES_S) -> ObjectStore:
        """The client for requests that carry so many bytes."""
        if size <= _FEW_BYTES:
            return self.client
        step = next((step for step in _SIZES if size <= step), size)
        if (step, tries_s) not in self._patient:
            self._patient[step, tries_s] = _client(self.place, step, tries_s)
        return self._patient[step, tries_s]

    def _same_or_conflict(self, name: str, size: int, sha256: str) -> None:
        """Returns where this content stands under the name. Raises Conflict, FileNotFoundError."""
        stands = self.open(name)
        with stands as file:
            same = stands.entry.bytes == size
            if not same or hashlib.file_digest(file, "sha256").hexdigest() != sha256:  # type: ignore[arg-type]  # it wants readinto, which a raw file has
                raise Conflict(f"other content stands under {name}")

    def _attributes_of(self, name: str, sha256: str) -> dict[str, str]:
        ending = Path(name).suffix
        kind = _TYPES.get(ending) or mimetypes.types_map.get(ending, "application/octet-stream")
        return {"Content-Type": kind, "sha256": sha256, **self._attributes}

    @contextlib.contextmanager
    def _asking(self, what: str, name: str, *, is_write: bool = False) -> Iterator[None]:
        """Turns the client's errors into ours, which name the bucket, what was refused and the way
        out. Lets FileNotFoundError and AlreadyExistsError through.
        """
        _guard_against_forks()
        try:
            yield
        except AlreadyExistsError:
            raise
        except (FileNotFoundError, BaseError) as error:
            if isinstance(error, FileNotFoundError) and not (is_write or _no_bucket(error)):
                raise FileNotFoundError(f"{self.place} has no {name}") from None
            raise Unstored(
                f"{self.place}: {what} {name} was refused: {_short(error)}; {self._way_out(error)}"
            ) from None

    def _way_out(self, error: Exception) -> str:
        status = (_STATUS.findall(str(error)) or [""])[0]
        if isinstance(error, FileNotFoundError) or _no_bucket(error):
            return "make the bucket, or correct ENDTAPE_ARCHIVE"
        if isinstance(error, (PermissionDeniedError, UnauthenticatedError)) or status == "403":
            names = {"s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", "gs": "GOOGLE_…"}
            credentials = names.get(self.place.cloud, "AZURE_…")
            return (
                f"check {credentials}, and that they may put, get, list and delete below the prefix"
            )
        if status == "301":
            return "set AWS_REGION to the bucket's region"
        return _AWAY


# The client
# ------------------------------------------------------------------------------------------------


def _client(place: Bucket, size: int = 0, tries_s: int = _TRIES_S) -> ObjectStore:
    """The client for a bucket, for requests of so many bytes. A cloud's variable that it does not
    know is left out; an unknown option raises ValueError.
    """
    config = {name.lower(): value for name, value in place.variables}
    if place.cloud == "s3":
        config.setdefault("aws_checksum_algorithm", "sha256")
        config.setdefault("aws_disable_bulk_delete", "true")  # not every store has it
        if "aws_region" not in config and "aws_default_region" not in config:
            config["aws_region"] = "us-east-1"
    options = {name: value for name, value in place.options if name != _STORAGE_CLASS}
    if options.get("checksum_algorithm") == "none":
        del options["checksum_algorithm"], config["aws_checksum_algorithm"]
    plain = any(
        value.startswith("http://") for name, value in place.variables if "ENDPOINT" in name
    )
    times = {
        "connect_timeout": f"{_CONNECT_S}s",
        "timeout": f"{_ANSWER_S * 1000 + size * 1000 // _SLOWEST}ms",
    }
    client_options = {**times, **({"allow_http": True} if plain else {})}
    retries: Any = {"max_retries": 2, "retry_timeout": timedelta(seconds=tries_s)}
    while True:
        try:
            return _STORES[place.cloud](  # type: ignore[no-any-return]
                place.name,
                prefix=place.prefix or None,
                config={**config, **options},
                client_options=client_options,
                retry_config=retries,
            )
        except UnknownConfigurationKeyError as error:
            unknown = (_UNKNOWN_KEY.findall(str(error)) or [""])[0]
            if unknown in options or unknown not in config:
                raise ValueError(f"{unknown} is no option of {place.cloud}://") from None
            del config[unknown]
        except BaseError as error:
            raise ValueError(_short(error)) from None


@lru_cache(maxsize=8)
def store_at(place: Bucket) -> BucketStore:
    """The store of a bucket: one of each process, which keeps its connections."""
    return BucketStore(place)


_used_by: int | None = None  # the process that used a bucket first


def _guard_against_forks() -> None:
    """Raises RuntimeError in a process whose parent used a bucket before the fork: there every
    request would wait for ever.
    """
    global _used_by  # noqa: PLW0603 - one per process
    if _used_by is None:
        _used_by = os.getpid()
    if _used_by != os.getpid():
        raise RuntimeError("a bucket was used before this process was forked")


# What the client gives
# ------------------------------------------------------------------------------------------------


def _entry(meta: Any) -> Entry:
    return Entry(
        name=str(meta["path"]),
        bytes=int(meta["size"]),
        modified=meta["last_modified"].timestamp(),
        etag=meta["e_tag"],
    )


def _shown(metas: Any) -> Iterator[Entry]:
    """The entries without those that are unfinished."""
    for meta in metas:
        if not any(step.startswith(".") for step in str(meta["path"]).split("/")):
            yield _entry(meta)


def _no_bucket(error: Exception) -> bool:
    return any(word in str(error) for word in ("NoSuchBucket", "ContainerNotFound"))


def _short(error: Exception) -> str:
    """The part of the client's text that a person can use."""
    text = str(error).partition("\n\nDebug source")[0]
    code, message = (re.search(f"<{tag}>([^<]*)</{tag}>", text) for tag in ("Code", "Message"))
    if code:
        return f"{code[1]}{f': {message[1]}' if message else ''}"[:300]
    return re.sub(r"Error performing \w+ \S+ in \S+?,? (- )?", "", " ".join(text.split()))[:300]
