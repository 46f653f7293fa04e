"""What is owed, by the instant when it is due; and the leases of those who work on it.

{endtape}:due:DUTY     zset    every obligation, by the instant when it is due next (ms)
{endtape}:leases:DUTY  zset    obligations that are being worked on, by the end of the lease (ms)
{endtape}:fences       hash    obligation → the token of its lease; {endtape}:fence: the last token
{endtape}:unfinished   hash    obligation → how often it was begun again and not finished
{endtape}:waiting      set     fetches that wait for the archive to take files again
{endtape}:wake         list    the clock blocks on it
{endtape}:looking      string  a clock looks by itself at what is due then (ms); `any`: it waits for
                               a commit
{endtape}:hints        list    those who plan calls block on it. `now`: calls are due; `soon`: these
                               may wait a moment for company
{endtape}:hinted       string  there is a hint that nobody has followed yet; expires soon

An obligation stays in its `due` until it is done: claiming it moves its score to the end of the
lease. If the worker dies, the obligation is due again when the lease ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Literal

import redis

from worker.calls.events import Event
from worker.calls.history import Entry
from worker.calls.obligations import Duty, Obligation
from worker.errors import LedgerUnavailable, StaleLease
from worker.ledger.codec import decode, encode, from_ms, to_ms
from worker.ledger.daybook import written
from worker.ledger.dues import Dues
from worker.ledger.store import PREFIX, as_dict, instant_of, span_ms

# A shorter lease sends a stop sooner again after its worker died. A longer one takes fewer slow
# workers for dead.
LEASES: Mapping[Duty, timedelta] = {
    Duty.PLAN: timedelta(seconds=3),
    Duty.LOOK: timedelta(seconds=5),
    Duty.FETCH: timedelta(seconds=5),
    Duty.SURVEY: timedelta(seconds=5),
    Duty.INDEX: timedelta(seconds=30),
    Duty.FACTS: timedelta(seconds=15),
    Duty.OFFLOAD: timedelta(seconds=30),
    Duty.CDRS: timedelta(seconds=15),
    Duty.NOTIFY: timedelta(seconds=15),
    Duty.HAND_ON: timedelta(seconds=15),
    Duty.ERASE: timedelta(seconds=15),
    Duty.DAY: timedelta(seconds=30),
}
# After so many unfinished tries (the worker died, or has a fault of ours) an obligation travels
# alone, and after so many it is set aside: tried every few hours only.
ALONE_AFTER, ASIDE_AFTER = 3, 6
LONGEST_WAIT, ASIDE = timedelta(seconds=60), timedelta(hours=6)
At = Literal["now", "soon"]
_AT_ONCE = 500
_MOST_HINTS, _FOR_A_HINT = 16, 50  # of a clock, and how many calls that are due one of them is for
_COMMITS_AT_ONCE = 50  # in one script; Redis serves nobody else meanwhile


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A call's log as it was read."""

    obligation: Obligation
    log: str

    @property
    def size(self) -> int:
        """A log only grows, so a different size means newer events."""
        return len(self.log)

    @cached_property
    def events(self) -> list[Event]:
        return decode(self.log, self.obligation.account, self.obligation.call_uuid)


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """An obligation that is ours until its lease ends."""

    obligation: Obligation
    fence: str  # the token of the lease
    unfinished_tries: int = 0  # how often it was begun before and not finished
    loaded: Loaded | None = None  # the call's log, where the work began with the claim


@dataclass(frozen=True, kw_only=True, slots=True)
class Claimed:
    """What one `claim` took."""

    now: datetime
    claims: tuple[Claim, ...]
    next_at: datetime | None  # when the earliest obligation is due that was not claimed
    generation: int  # how many reloads were ordered so far


@dataclass(frozen=True, kw_only=True, slots=True)
class Commit:
    """The outcome of a piece of work.

    `dues`: obligations and when each is due next; None: it is owed no longer; `now` and `soon`,
    within a fifth of a second: then at the latest. `filed` is noted if
    any event is new, an entry of `history` if its event is.
    """

    claim: Claim
    events: Sequence[Event] = ()
    seen: int = 0  # the size of the log that the work was based on
    dues: tuple[tuple[Obligation, datetime | At | None], ...] = ()
    keep: timedelta | None = None  # the call is finished: its log expires after this time
    generation: int | None = None  # of the settings used for planning; None: nothing was planned
    filed: Sequence[str] = ()  # `SHA256  NAME` of each file that the events tell of
    history: Sequence[tuple[str, Entry]] = ()  # entries, each with the id of its event


class Obligations(Dues):
    """Claims, leases and due times. `leases`: how long the lease of each duty is."""

    def __init__(
        self,
        client: redis.Redis,
        prefix: str = PREFIX,
        *,
        leases: Mapping[Duty, timedelta] = LEASES,
    ) -> None:
        super().__init__(client, prefix)
        self.leases = leases

    # Claiming, working, committing
    # --------------------------------------------------------------------------

    def claim(self, *, lead: timedelta, batch: int, free: Mapping[Duty, int]) -> Claimed:
        """Claims obligations that are due within `lead`: at most `batch` of each duty in one call,
        and at most `free` of each duty outstanding. Looks at no duty that `free` does not name.

        Without PLAN it gives hints to those who claim plans. With PLAN alone the work begins at
        once: the logs come back too, except of calls with unfinished tries. With another duty it is
        a clock's look: it forgets all wakes so far.
        """
        names = (
            "fence",
            "fences",
            "unfinished",
            "generation",
            "wake",
            "hints",
            "hinted",
            "looking",
        )
        now, claims, next_at, generation = self.run(
            "claim_due",
            [*map(self.key, names), self.key("due", Duty.PLAN), *self._sets(free)],
            [
                span_ms(lead),
                batch,
                ALONE_AFTER,
                ASIDE_AFTER,
                span_ms(LONGEST_WAIT),
                span_ms(ASIDE),
                int(free.keys() != {Duty.PLAN}),
                int(Duty.PLAN in free),
                _MOST_HINTS,
                _FOR_A_HINT,
                self.key("call", ""),
                *(n for duty in free for n in (free[duty], span_ms(self.leases[duty]))),
            ],
        )
        return Claimed(
            now=from_ms(float(now)),
            next_at=from_ms(float(next_at)) if next_at else None,
            generation=int(generation),
            claims=tuple(_claim(*words) for words in claims),
        )

    def take_next(self, duty: Duty, most: int) -> tuple[datetime, Claim, Loaded] | None:
        """Claims the next obligation of a duty that is due, and begins work on it: the instant by
        Redis's clock, the claim and its call's log. None where none is due that nobody began
        before, or where `most` are outstanding.

        For a worker that has just finished one of them: it needs no message for the next.
        """
        keys = [
            self.key("due", duty),
            self.key("leases", duty),
            *map(self.key, ("fence", "fences")),
        ]
        answer = self.run(
            "take_next", keys, [span_ms(self.leases[duty]), most, self.key("call", "")]
        )
        if not answer:
            return None
        owed = Obligation.parse(answer[2])
        claim = Claim(obligation=owed, fence=str(answer[3]))
        return instant_of(answer[:2]), claim, Loaded(obligation=owed, log=answer[4])

    def load(self, claims: Sequence[Claim]) -> tuple[datetime, list[Loaded | None]]:
        """Begins work on claims; their leases start anew. Returns the instant by Redis's clock, and
        the log of each call: None if the claim is no longer ours.
        """
        keys, args = [self.key("fences"), self.key("unfinished")], list[str | int]()
        for claim in claims:
            owed = claim.obligation
            keys += [
                self.key("due", owed.duty),
                self.key("leases", owed.duty),
                self.call_key(owed.account, owed.call_uuid),
            ]
            args += [str(owed), claim.fence, span_ms(self.leases[owed.duty])]
        answer = self.run("begin", keys, args)
        loaded = [
            Loaded(obligation=claim.obligation, log=log) if log is not None else None
            for claim, log in zip(claims, answer[2:], strict=True)
        ]
        return instant_of(answer[:2]), loaded

    def renew(self, claim: Claim) -> None:
        """Extends a lease. Raises StaleLease if the claim is no longer ours."""
        owed = claim.obligation
        keys = [self.key("due", owed.duty), self.key("fences"), self.key("leases", owed.duty)]
        if not self.run("renew", keys, [str(owed), claim.fence, span_ms(self.leases[owed.duty])]):
            raise StaleLease(str(owed))

    def commit(self, commits: Sequence[Commit]) -> list[frozenset[str] | None]:
        """Ends leases. Returns for each the ids of the events that are new, or None if the claim
        was no longer ours.
        """
        return [_or_raise(answer) for answer in self.commit_each(commits)]

    def commit_each(
        self, commits: Sequence[Commit]
    ) -> list[frozenset[str] | LedgerUnavailable | None]:
        """Ends leases, as `commit` does, in one round trip. Where Redis fails with one of them, its
        place has the error, its lease runs out, and the others are committed.
        """
        answers = self.run_together(
            "commit",
            [
                self._commit_words(commits[i : i + _COMMITS_AT_ONCE])
                for i in range(0, len(commits), _COMMITS_AT_ONCE)
            ],
        )
        return [_outcome(answer) for some in answers for answer in some]

    def _commit_words(self, commits: Sequence[Commit]) -> tuple[list[str], list[Any]]:
        """Keys and arguments of `commit.lua`."""
        sets = self._sets(Duty)
        names = ("fences", "unfinished", "generation", "wake", "hints", "hinted", "looking", "news")
        keys = [*map(self.key, names), *sets]
        args: list[Any] = [len(sets)]
        for commit in commits:
            owed = commit.claim.obligation
            keys += [
                self.call_key(owed.account, owed.call_uuid),
                self.key("recordings", owed.account),
                self.key("recent", owed.account),
                self.key("live", owed.account),
                self.key("listeners", owed.account, owed.call_uuid),
                self.key("filed", owed.account),
                self.key("history", owed.account),
            ]
            words = _commit_args(commit)
            args += [len(words), *words]
        return keys, args

    def _sets(self, duties: Iterable[Duty]) -> list[str]:
        return [self.key(name, duty) for duty in duties for name in ("due", "leases")]

    # Work that is begun and never finished
    # ------------------------------------------------------------------

    def unfinished(self) -> dict[Obligation, int]:
        """Obligations that were begun `ALONE_AFTER` times or more without being finished, and how
        often.
        """
        counts = as_dict(self.command("HGETALL", self.key("unfinished")))
        return {
            Obligation.parse(owed): int(count) + 1
            for owed, count in counts.items()
            if int(count) + 1 >= ALONE_AFTER
        }

    def set_aside(self) -> dict[Obligation, int]:
        """Those of the unfinished obligations that are tried every few hours only."""
        return {
            owed: tries
            for owed, tries in self.unfinished().items()
            if owed.duty in {Duty.LOOK, Duty.FETCH} and tries >= ASIDE_AFTER
        }

    def reset_tries(self, account: str, call_uuid: str, recording_id: str | None = None) -> None:
        """Tries the unfinished work of a call again at once, as if it were new."""
        look = Obligation(duty=Duty.LOOK, account=account, call_uuid=call_uuid)
        work = (
            look,
            replace(look, duty=Duty.PLAN),
            replace(look, duty=Duty.FETCH, recording_id=recording_id),
        )
        if self.command("HDEL", self.key("unfinished"), *map(str, work)):
            # The planner cannot do this: its commit changes no due time of an obligation that has a
            # lease, even when the worker that holds the lease is dead.
            for owed in work:
                self.make_due_now(owed)
            self.wake()

    def retry_all(self) -> None:
        """Forgets every unfinished try, and makes due now what is set aside and every call."""
        aside = self.set_aside()
        self.command("DEL", self.key("unfinished"))
        for owed in aside:
            self.make_due_now(owed)
        self.make_all_due()

    def tidy(self) -> None:
        """Deletes fences, leases and counts of obligations that are owed no longer."""
        with self.answering():
            counted = {
                owed
                for name in ("fences", "unfinished")
                for owed, _ in self.redis.hscan_iter(self.key(name), count=_AT_ONCE)
            }
        for duty in Duty:
            of_duty = [owed for owed in counted if owed.startswith(f"{duty}|")]
            keys = [
                self.key("due", duty),
                self.key("leases", duty),
                self.key("fences"),
                self.key("unfinished"),
            ]
            for i in range(0, len(of_duty), _AT_ONCE):
                self.run("tidy", keys, of_duty[i : i + _AT_ONCE])


def _claim(obligation: str, fence: Any, tries: Any, log: str | None) -> Claim:
    owed = Obligation.parse(obligation)
    return Claim(
        obligation=owed,
        fence=str(fence),
        unfinished_tries=int(tries),
        loaded=Loaded(obligation=owed, log=log) if log is not None else None,
    )


def _outcome(answer: Any) -> frozenset[str] | LedgerUnavailable | None:
    """What `commit.lua` answers to one commit."""
    match answer:
        case ["ok", ids]:
            return frozenset(ids)
        case ["failed", why]:
            return LedgerUnavailable(why)
    return None


def _or_raise(answer: frozenset[str] | LedgerUnavailable | None) -> frozenset[str] | None:
    if isinstance(answer, LedgerUnavailable):
        raise answer
    return answer


def _commit_args(commit: Commit) -> list[Any]:
    owed = commit.claim.obligation
    args: list[Any] = [
        str(owed),
        commit.claim.fence,
        owed.call_uuid,
        commit.seen,
        round(commit.keep.total_seconds()) if commit.keep else 0,
        "" if commit.generation is None else commit.generation,
        len(commit.events),
        len(commit.dues),
        len(commit.filed),
        len(commit.history),
    ]
    for event in commit.events:
        args += [event.id, encode(event, owed.account), event.recording_id or ""]
    for other, instant in commit.dues:
        args += [str(other), _instant(instant)]
    args += commit.filed
    for event_id, entry in commit.history:
        args += [event_id, written(entry)]
    return args


def _instant(instant: datetime | At | None) -> str | int:
    if isinstance(instant, datetime):
        return to_ms(instant)
    return instant or ""
