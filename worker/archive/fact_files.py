"""A recording's facts in the archive: read all, and add one.

Writers race for the next number by a conditional create; the one that loses takes the number after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from worker.archive import facts, keys, seals, signing
from worker.archive.facts import Fact
from worker.archive.signing_key import Signer
from worker.archive.store import Store
from worker.errors import Conflict, Gone

_MOST_RACES = 100


def read_all(store: Store, account: str, recording_id: str) -> list[Fact]:
    """Every fact of a recording, in the order of their numbers.

    Raises Conflict where one cannot be understood, so that nobody acts on the others, and what the
    store raises.
    """
    folder = facts.folder_of(account, recording_id)
    names = {entry.last for entry in store.level(folder).files}
    found = []
    for last in names:
        if facts.number_of(last) is None:
            continue
        name = f"{folder}/{last}"
        try:
            content, signed = store.read(name), keys.signature_of(last) in names
            found.append(facts.parse(content, name, signed=signed))
        except ValueError as error:
            raise Conflict(str(error)) from None
    return sorted(found, key=lambda fact: fact.n)


def add(
    store: Store, signer: Signer, fact: Fact, may: Callable[[list[Fact]], None] = lambda _: None
) -> tuple[Fact, bytes]:
    """Write a fact under the next number, and sign it. Returns it as it is numbered, and its bytes.

    `may` is shown the facts before that number, all of them, and raises where the new one may not
    follow. Signs what a writer left unsigned when it died. Raises Gone after the fact that it is
    being erased, Conflict where a fact cannot be understood, Unsigned, and what the store raises.
    """
    for _ in range(_MOST_RACES):
        known = read_all(store, fact.account, fact.recording_id)
        if facts.erasing(known):
            raise Gone("it is being erased")
        may(known)
        sign_all(store, signer, known)
        numbered = replace(fact, n=known[-1].n + 1 if known else 1, signed=True)
        name = facts.name_of(fact.account, fact.recording_id, numbered.n)
        said = numbered.written() | {"signature": signer.key().field(signing.RECEIPTS)}
        content = seals.written(said)
        try:
            store.create(name, content)
        except Conflict:
            continue  # another writer was quicker: what it wrote may change what we may
        seals.seal(store, name, content, signing.RECEIPTS, signer)
        return numbered, content
    raise Conflict(f"{name}: {_MOST_RACES} other facts came first")


def sign_all(store: Store, signer: Signer, known: Iterable[Fact]) -> None:
    """Sign those of the facts that a writer left unsigned. Raises Conflict where a signature of
    another hand stands, Unsigned, and what the store raises.
    """
    for fact in known:
        if not fact.signed:
            name = facts.name_of(fact.account, fact.recording_id, fact.n)
            seals.seal(store, name, store.read(name), signing.RECEIPTS, signer)
