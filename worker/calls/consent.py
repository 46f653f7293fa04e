"""Whether the parties of a call agreed to be recorded, where a rule requires it. Pure.

Consent is a fact of the call: it holds from its instant until it is withdrawn, for every recording
of the call. A recording needs it `consent_within` after its start at the latest. A withdrawal
while it runs, or later, counts against it for good, since the voice is in it. What counts is when
consent was given, not when we heard of it: consent that was given in time and is told late lifts a
restriction; a stop that was sent meanwhile stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from worker import wire
from worker.calls.call import Call, Consent, Recording
from worker.calls.rules import Terms

TRIGGER = "consent"


def lacking_from(call: Call, recording: Recording, terms: Terms) -> datetime | None:
    """From when on a recording lacks the consent that the rules require. None where none is
    required, or where there is one. The instant may lie in the future: consent may still come.
    """
    if not terms.consent_required:
        return None
    return lacks_from(call, recording.started_at, recording.started_at + terms.consent_within)


def lacks_from(call: Call, started_at: datetime, needed_by: datetime) -> datetime | None:
    """The same for a recording that began at `started_at` and needs consent by `needed_by`."""
    withdrawn = next((c.at for c in call.consents if not c.given and c.at >= started_at), None)
    latest = next((c for c in reversed(call.consents) if c.at <= needed_by), None)
    missing = None if latest and latest.given else needed_by
    return min((at for at in (withdrawn, missing) if at), default=None)


# Statements
# --------------------------------------------------------------------------------------------------


def statement(said: Consent) -> dict[str, Any]:
    """One statement about consent as `/v1`, receipts and facts show it: `kind`, `at` (RFC 3339),
    `by`, `evidence`, `withdrawn`.
    """
    at = said.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {
        "kind": said.kind,
        "at": at,
        "by": said.by,
        "evidence": said.evidence,
        "withdrawn": not said.given,
    }


def of_statement(said: Mapping[str, Any]) -> Consent:
    """What `statement` showed. Raises ValueError where no instant can be read."""
    at = wire.parse_rfc3339(said.get("at"))
    if at is None:
        raise ValueError("a statement about consent without an instant")
    return Consent(
        at=at,
        given=not said.get("withdrawn"),
        kind=said.get("kind"),
        by=said.get("by"),
        evidence=said.get("evidence"),
    )


def without_numbers(said: Mapping[str, Any]) -> dict[str, Any]:
    """A statement without the telephone numbers in what people wrote."""
    return {
        name: wire.without_numbers(value) if isinstance(value, str) and name != "at" else value
        for name, value in said.items()
    }
