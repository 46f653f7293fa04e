"""Makes the key that signs, and makes it known: in Redis for whoever asks the service, and in the
archive beside what it signed.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta

import structlog

from worker.archive import signers
from worker.archive.filing import Archive
from worker.archive.signers import AllowedSigner
from worker.archive.signing_key import SigningKey
from worker.ledger.client import Ledger

log = structlog.get_logger()
_TOLD_EVERY_S = 30.0
_TOGETHER = timedelta(minutes=2)  # two keys that are both in use within this time sign side by side
_SAY_EVERY = timedelta(minutes=1)


def ready(ledger: Ledger, archive: Archive) -> None:
    """The key can be used and is known. Raises Unsigned, LedgerUnavailable, and what the archive
    raises.
    """
    signer = archive.signer
    if signer is None:
        return
    if signer.told_at is None or time.monotonic() - signer.told_at > _TOLD_EVERY_S:
        make_known(ledger, archive)


def make_known(ledger: Ledger, archive: Archive, *, announced: str | None = None) -> str | None:
    """Makes the key of the archive's signer known, and its use. Returns its fingerprint.

    `announced`: the fingerprint that this process announced before, where the signer is a new one.
    Alerts where another key is in use too. Raises as `ready` does.
    """
    signer = archive.signer
    if signer is None:
        return None
    key, now = signer.key(), ledger.now()
    fingerprint = key.public.fingerprint
    known = {use.fingerprint: use for use in ledger.signing_keys()}
    is_announced = signer.told_at is not None or fingerprint == announced
    if is_announced and fingerprint in known:
        ledger.key_used(fingerprint)
    else:
        since = _since(archive, key, signer.name, now)
        ledger.announce_key(fingerprint, key.public.text, signer.name, since)
    signer.told_at, signer.known = time.monotonic(), frozenset(known)
    others = [
        use.fingerprint
        for use in known.values()
        if use.fingerprint != fingerprint and now - use.used < _TOGETHER
    ]
    if others:
        _alert(ledger, fingerprint, others)
    return fingerprint


def _since(archive: Archive, key: SigningKey, name: str, now: datetime) -> datetime:
    """Since when the key signs: what the archive says where Redis has forgotten it, else now."""
    line = AllowedSigner.used(name, key.public, since=now, until=None).line
    stands = archive.publish_signer(key.public.fingerprint, line)
    return min(now, signers.since(stands, key.public) or now)


def _alert(ledger: Ledger, fingerprint: str, others: list[str]) -> None:
    """All machines of a service share one key. After a rotation this ends by itself."""
    what = "second_signing_key"
    if ledger.once_per(what, fingerprint, every=_SAY_EVERY):
        log.error("alert", what=what, key=fingerprint, others=others)
        ledger.count({f"alerts_total|{what}": 1})
