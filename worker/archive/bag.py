"""A closed day as a bag: a folder in the form BagIt 1.0 (RFC 8493), which archivists know.

`data/` holds what the day's list names, the signatures beside it, the files of the day itself and
the public keys. `sha256sum --check manifest-sha256.txt` checks it, and the signatures in it are
good as they are in the archive.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from worker.archive import days, durable, keys
from worker.archive.store import Store
from worker.errors import Conflict, EndtapeError

_BAGIT = "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
_MANIFEST = "manifest-sha256.txt"
_PIECE = 1024 * 1024
_SIGNED = (".json", ".sha256", ".jsonl")


class Unfit(EndtapeError):
    """The day cannot be bagged. The text names the file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What to bag. `signers`: the public keys, a file `allowed_signers`; `on`: today."""

    account: str
    day: date
    signers: bytes
    agent: str
    on: date


@dataclass(frozen=True, kw_only=True, slots=True)
class Bagged:
    """`gone`: the names that the list has and the archive no longer."""

    files: int
    bytes: int
    gone: list[str]


def write(store: Store, wanted: Wanted, place: Path, told: Callable[[int, int], None]) -> Bagged:
    """Write the bag of a closed day to `place`, which must not exist; it appears whole or not at
    all. `told` gets how many of how many files are done.

    Raises Unfit where the day is not closed, a file cannot be read or is not the one that was
    filed, or `place` is taken or cannot be made.
    """
    listed = _list(store, wanted)
    part = place.with_name(f".{place.name}.part")
    try:
        if place.exists():
            raise Unfit(f"{place}: it is there already; name a folder that is not")
        shutil.rmtree(part, ignore_errors=True)
        durable.make(part)
        bagged = _fill(store, wanted, part, listed, told)
        durable.sync_directory(part)
        part.rename(place)
        durable.sync_directory(place.parent)
    except OSError as error:
        raise Unfit(f"{place}: cannot be made: {error}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return bagged


def _list(store: Store, wanted: Wanted) -> dict[str, str]:
    try:
        store.read(f"{wanted.account}/{days.day_name(wanted.day)}")
        return days.read_list(store.read(f"{wanted.account}/{days.list_name(wanted.day)}"))
    except FileNotFoundError:
        raise Unfit(f"{wanted.account} has no closed day {wanted.day}") from None
    except ValueError as error:
        raise Unfit(f"the list of {wanted.day} cannot be understood: {error}") from None
    except (OSError, Conflict) as error:
        raise Unfit(f"the list of {wanted.day} cannot be read: {error}") from None


def _fill(
    store: Store,
    wanted: Wanted,
    part: Path,
    listed: dict[str, str],
    told: Callable[[int, int], None],
) -> Bagged:
    own = [name(wanted.day) for name in (days.day_name, days.list_name, days.history_name)]
    names, lines, size, gone = list(dict.fromkeys([*listed, *own])), list[str](), 0, list[str]()
    for number, name in enumerate(names, 1):
        try:
            digest, length = _copy(store, f"{wanted.account}/{name}", part / "data" / name)
        except FileNotFoundError:
            if name in listed:
                gone.append(name)
            continue
        except Conflict as error:
            raise Unfit(str(error)) from None
        if listed.get(name, digest) != digest:
            raise Unfit(f"{name} is not the file that was filed; see `endtape verify`")
        lines.append(f"{digest}  data/{name}")
        size += length
        for line, length in _signature(store, wanted.account, name, part):
            lines.append(line)
            size += length
        told(number, len(names))
    lines.append(f"{_put(part / 'data' / 'allowed_signers', wanted.signers)}  data/allowed_signers")
    size += len(wanted.signers)
    _tags(part, wanted, lines, size)
    return Bagged(files=len(lines), bytes=size, gone=gone)


def _signature(store: Store, account: str, name: str, part: Path) -> Iterator[tuple[str, int]]:
    if name.endswith(_SIGNED):
        sig = keys.signature_of(name)
        with contextlib.suppress(FileNotFoundError):
            digest, length = _copy(store, f"{account}/{sig}", part / "data" / sig)
            yield f"{digest}  data/{sig}", length


def _copy(store: Store, name: str, to: Path) -> tuple[str, int]:
    """Copy a file. Returns its SHA-256 and its length."""
    digest, length = hashlib.sha256(), 0
    try:
        opened = store.open(name)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unfit(f"{name} cannot be read: {error}") from None
    with opened as source:
        to.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with to.open("xb") as file:
            while piece := source.read(_PIECE):
                digest.update(piece)
                file.write(piece)
                length += len(piece)
    return digest.hexdigest(), length


def _put(to: Path, content: bytes) -> str:
    to.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    to.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def _tags(part: Path, wanted: Wanted, lines: list[str], size: int) -> None:
    """The files that make a folder a bag."""
    about = {
        "Bagging-Date": wanted.on.isoformat(),
        "Bag-Software-Agent": wanted.agent,
        "External-Identifier": f"{wanted.account} {wanted.day.isoformat()}",
        "External-Description": "Call recordings that were archived on this day (UTC)",
        "Payload-Oxum": f"{size}.{len(lines)}",
    }
    tags = {
        "bagit.txt": _BAGIT,
        "bag-info.txt": "".join(f"{name}: {value}\n" for name, value in about.items()),
        _MANIFEST: "".join(f"{line}\n" for line in sorted(lines, key=lambda one: one[66:])),
    }
    sums = [f"{_put(part / name, text.encode())}  {name}\n" for name, text in sorted(tags.items())]
    _put(part / "tagmanifest-sha256.txt", "".join(sums).encode())
