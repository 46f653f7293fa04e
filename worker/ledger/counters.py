"""What was counted: for `/metrics`, and the refused requests for `endtape doctor`.

{endtape}:metrics       hash  counters, by `name|labels`
{endtape}:refused:SLOT  hash  callbacks that were refused within ten minutes, by reason
{endtape}:refused_last  hash  by reason, the last one that was refused: when (ms) and where, as JSON
{endtape}:gauges        string  figures as of an instant, as JSON (duties/census.py)
"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from worker import tally
from worker.errors import LedgerUnavailable
from worker.ledger.codec import from_ms, to_ms
from worker.ledger.store import Store, as_dict

SLOT_S, HOUR_S = 600, 3600

# Why a callback was refused, and what to do about it: for the log and for `endtape doctor`.
REMEDIES = {
    "missing": "the provider sent no signature: ask it to sign, or set ENDTAPE_SIGNATURES=optional",
    "no_nonce": "a signature without nonce is never valid",
    "wrong": "check the account's token and that ENDTAPE_PUBLIC_URL is the address that "
    "the provider calls",
    "nonce": "somebody reuses a signature for another body",
    "other_call": "this URL belongs to another call",
    "unreadable": "see the error",
    "cut": "the body broke off, or did not come within 5 s: the network, or a proxy that "
    "does not buffer",
    "too_large": "callbacks are below 64 KiB",
    "key": "somebody offers a wrong bearer key: check ENDTAPE_API_KEY at the caller",
    "unknown": "check the account id and ENDTAPE_CALLBACK_TOKEN in the URL at the provider",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class LastRefusal:
    """When a callback was refused, and where: method and path; None where that is not known."""

    at: datetime
    where: str | None


class Counters(Store):
    """Counters of all processes together."""

    def count(self, counts: dict[str, float]) -> None:
        """Adds to counters. Their names are `name`, or `name|label`."""
        if counts:
            with self.pipeline() as pipe:
                for name, amount in counts.items():
                    pipe.hincrbyfloat(self.key("metrics"), name, amount)

    def counters(self) -> dict[str, float]:
        counted = as_dict(self.command("HGETALL", self.key("metrics")))
        return {name: float(value) for name, value in counted.items()}

    def count_tally(self) -> None:
        """Adds what this process has counted since the last time. Raises LedgerUnavailable; then it
        is counted the next time.
        """
        counts = tally.taken()
        try:
            self.count(counts)
        except LedgerUnavailable:
            tally.put_back(counts)
            raise

    def publish_gauges(self, gauges: dict[str, float]) -> None:
        """Stores figures as of now, by `name|label|label`, in place of those before."""
        told = json.dumps({"at": self.now().timestamp(), "gauges": gauges})
        self.command("SET", self.key("gauges"), told, "EX", HOUR_S)

    def gauges(self) -> tuple[dict[str, float], float | None]:
        """The figures that were published last, and how many seconds ago; none, and None, where
        there are none.
        """
        told = self.command("GET", self.key("gauges"))
        if not told:
            return {}, None
        view = json.loads(told)
        return view["gauges"], max(0.0, self.now().timestamp() - view["at"])

    def count_refusal(self, reason: str, times: int = 1, *, where: str | None = None) -> None:
        """Counts callbacks that were refused. `reason`: a key of REMEDIES. `where`: method and path
        of the last one, without anything secret.
        """
        slot, last = self.key("refused", str(_slot())), self.key("refused_last")
        told = json.dumps({"at": to_ms(self.now()), "where": where})
        with self.pipeline() as pipe:
            pipe.hincrby(slot, reason, times)
            pipe.expire(slot, HOUR_S + 2 * SLOT_S)
            pipe.hset(last, reason, told)
            pipe.expire(last, HOUR_S + 2 * SLOT_S)
            pipe.hincrbyfloat(self.key("metrics"), f"refused_total|{reason}", times)

    def refusals(self) -> Counter[str]:
        """How many callbacks were refused in the last hour (up to ten minutes more), by reason; 0
        for a reason that nothing was refused for.
        """
        last, total = _slot(), Counter[str]()
        for slot in range(last - HOUR_S // SLOT_S, last + 1):
            counted = as_dict(self.command("HGETALL", self.key("refused", str(slot))))
            for reason, count in counted.items():
                total[reason] += int(count)
        return total

    def last_refusals(self) -> dict[str, LastRefusal]:
        """The last callback that was refused for each reason, of about the last hour."""
        found = dict[str, LastRefusal]()
        for reason, text in as_dict(self.command("HGETALL", self.key("refused_last"))).items():
            told = json.loads(text)
            found[reason] = LastRefusal(at=from_ms(told["at"]), where=told["where"])
        return found


def _slot() -> int:
    return int(time.time() // SLOT_S)
