"""Events and calls for the tables of this folder. Instants are seconds since T0."""

from datetime import UTC, datetime, timedelta

from worker.calls.call import Call
from worker.calls.events import Event, Kind
from worker.calls.replay import replay
from worker.calls.rules import Action, Rules, Terms

T0 = datetime(2026, 9, 14, 6, 30, tzinfo=UTC)
MINUTE = timedelta(seconds=60)
RULES = Rules(
    defaults=Terms(max_duration=MINUTE, on={"transfer": Action.STOP, "custom.card": Action.PAUSE})
)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def event(kind: Kind, seconds: float = 0, **facts) -> Event:
    facts = {"id": f"{kind.value}.{seconds}.{facts.get('recording_id')}", "signed": True, **facts}
    return Event(kind=kind, call_uuid="c", at=at(seconds), **facts)


def ours(kind: Kind, seconds: float = 0, **facts) -> Event:
    """An event that comes from us or from our callers."""
    return event(kind, seconds, signed=False, **facts)


def begins(seconds: float = 0, recording: str = "r", **facts) -> Event:
    return event(
        Kind.RECORDING_STARTED,
        seconds,
        recording_id=recording,
        url=f"https://m/{recording}",
        **facts,
    )


def ends(seconds: float, recording: str = "r", **facts) -> Event:
    facts = {"ended_at": at(seconds), "duration_s": 5.0, **facts}
    return event(Kind.RECORDING_FINALIZED, seconds, recording_id=recording, **facts)


def stopped(kind: Kind, seconds: float, recording: str | None = "r", **facts) -> Event:
    """The outcome of a stop request for the deadline at 60 s."""
    facts = {"requested_at": at(seconds), "due_at": at(60), "trigger": "max_duration", **facts}
    return ours(kind, seconds, recording_id=recording, **facts)


def start(order: str = "s1", seconds: float = 0, **facts) -> list[Event]:
    """A start that was ordered and sent, and got no answer."""
    return [
        ours(Kind.START_ORDERED, seconds, order=order, id=f"start.{order}", **facts),
        ours(Kind.START_SENT, seconds + 1, order=order, id=f"sent.{order}.0"),
        ours(Kind.START_UNCLEAR, seconds + 5, order=order, id=f"started.{order}"),
    ]


def asked(seconds: float, order: str = "h1", **facts) -> Event:
    facts = {"trigger": "transfer.blind", "wait_s": 3.0, **facts}
    return ours(Kind.HANDOFF_ASKED, seconds, order=order, id=f"asked.{order}", **facts)


def decided(seconds: float, verdict: str = "go", order: str = "h1", **facts) -> Event:
    facts = {"by": "api", **facts}
    return ours(
        Kind.HANDOFF_DECIDED, seconds, order=order, verdict=verdict, id=f"decided.{order}", **facts
    )


def call_of(*events: Event) -> Call:
    return replay("MA_1", "c", events)
