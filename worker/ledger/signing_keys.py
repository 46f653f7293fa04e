"""The public keys with which this service signs, and when it did.

{endtape}:signing_keys  hash  FINGERPRINT|key        `ssh-ed25519 AAAA…`
                              FINGERPRINT|signer     the name under which the key signs
                              FINGERPRINT|since      when it was made (ms)
                              FINGERPRINT|announced  when a process last began to sign with it (ms)
                              FINGERPRINT|used       when a process last had it in use (ms)
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from worker.ledger.codec import from_ms, to_ms
from worker.ledger.store import Store, as_dict


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyUse:
    """A public key (`ssh-ed25519 AAAA…`), the name under which it signs, and when it did."""

    fingerprint: str
    key: str
    signer: str
    since: datetime
    announced: datetime
    used: datetime


class SigningKeys(Store):
    """Which keys signed here. A key that is known stays known."""

    def announce_key(self, fingerprint: str, key: str, signer: str, since: datetime) -> None:
        """A process begins to sign with this key. The first `since` of a key stays."""
        name, now = self.key("signing_keys"), to_ms(self.now())
        with self.pipeline() as pipe:
            pipe.hsetnx(name, f"{fingerprint}|since", to_ms(since))
            for field, value in (
                ("key", key),
                ("signer", signer),
                ("announced", now),
                ("used", now),
            ):
                pipe.hset(name, f"{fingerprint}|{field}", value)

    def key_used(self, fingerprint: str) -> None:
        """A process still has this key in use."""
        self.command("HSET", self.key("signing_keys"), f"{fingerprint}|used", to_ms(self.now()))

    def signing_keys(self) -> list[KeyUse]:
        """Every key that signed here; the one that was announced last comes first."""
        found: dict[str, dict[str, str]] = {}
        for name, value in as_dict(self.command("HGETALL", self.key("signing_keys"))).items():
            fingerprint, _, field = name.partition("|")
            found.setdefault(fingerprint, {})[field] = value
        uses = [
            KeyUse(
                fingerprint=fingerprint,
                key=fields["key"],
                signer=fields["signer"],
                **{name: from_ms(int(fields[name])) for name in ("since", "announced", "used")},
            )
            for fingerprint, fields in found.items()
            if "key" in fields and "since" in fields  # else another process is about to write them
        ]
        return sorted(uses, key=lambda use: (use.announced, use.fingerprint), reverse=True)
