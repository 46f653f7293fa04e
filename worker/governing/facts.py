"""Writes facts about recordings, and notes them for the day's list."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from worker.archive import days, fact_files, facts, keys
from worker.archive.facts import Fact
from worker.errors import Gone, Unsigned
from worker.governing import signing
from worker.governing.places import Places


def write(
    places: Places,
    fact: Fact,
    may: Callable[[list[Fact]], None] = lambda _: None,
    *,
    key: str | None = None,
) -> Fact:
    """Write a fact under the next number, signed, and note it as filed. Returns it as numbered.
    `may`: as for `fact_files.add`. `key`: of the recording in the archive, for every fact but that
    of its erasing.

    A fact whose writer dies before it is noted counts all the same; no day's list names it then.
    Raises as `fact_files.add` does, Gone where the recording's tombstone stands, LedgerUnavailable.
    """
    signer = places.archive.signer
    if signer is None:
        raise Unsigned("without a signing key no fact is written")
    signing.ready(places.ledger, places.archive)
    numbered, content = fact_files.add(places.archive.store, signer, fact, may)
    name = facts.name_of(numbered.account, numbered.recording_id, numbered.n)
    if key and places.archive.tombstone(key):
        # All its facts were erased just before ours took the first number again.
        for one in (name, keys.signature_of(name)):
            places.archive.store.delete(one)
        raise Gone("it is erased")
    line = days.line_of(name, hashlib.sha256(content).hexdigest())
    places.ledger.note_filed(numbered.account, [line])
    return numbered
