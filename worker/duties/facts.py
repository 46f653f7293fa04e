"""Writes facts about recordings, and notes them for the day's list."""

from __future__ import annotations

import hashlib

from worker.archive import days, fact_files, facts
from worker.archive.facts import Fact
from worker.duties import signing
from worker.duties.worker import Worker
from worker.errors import Unsigned


def write(worker: Worker, fact: Fact) -> Fact:
    """Write a fact under the next number, signed, and note it as filed. Returns it as numbered.

    A fact whose writer dies before it is noted counts all the same; no day's list names it then.
    Raises as `fact_files.add` does, and LedgerUnavailable.
    """
    signer = worker.archive.signer
    if signer is None:
        raise Unsigned("without a signing key no fact is written")
    signing.ready(worker.ledger, worker.archive)
    numbered, content = fact_files.add(worker.archive.store, signer, fact)
    name = facts.name_of(numbered.account, numbered.recording_id, numbered.n)
    line = days.line_of(name, hashlib.sha256(content).hexdigest())
    worker.ledger.note_filed(numbered.account, [line])
    return numbered
