"""One run: the stage is set, calls come, harm is done meanwhile, then quiet, then the verdict."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from faults.checker import Allowed, Findings, Told, judge, over
from faults.load import Load, Played, play
from faults.stage import ACCOUNT, Plan, Stage
from worker.processes.supervisor import ROOT

LEASE_S, GRACE_S = 5.0, 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """How big a run is. `hold_s`: how long the one long harm of a run lasts."""

    recordings: int
    rate: float
    kills: int = 0
    redis_kills: int = 0
    hold_s: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Bars:
    """What must hold besides: nothing unstopped, stopped wrongly or early, nothing lost, nothing
    wrong under a final name.
    """

    late_s: float | None = LEASE_S + GRACE_S
    p99_s: float | None = None
    repeats: float = 0.01
    answer_s: float = 3.0
    home_s: float | None = None  # the last file is home so long after the last call came
    sent: float | None = (
        None  # times the bytes kept that the media host may have been asked to send
    )


@dataclass(slots=True)
class Outcome:
    """What a run found, and which bars it broke."""

    findings: Findings
    broken: list[str]
    did: str  # what was done to it, counted
    kills: int = 0
    notes: list[str] = field(default_factory=list)
    kept: Path | None = None  # a folder about a run that failed


@dataclass(slots=True)
class Run:
    """One run on its way."""

    size: Size
    seed: int
    plan: Plan
    bars: Bars = Bars()
    allowed: Allowed = Allowed()
    settle_s: float = 60.0
    load: Load | None = None
    stage: type[Stage] = Stage
    notes: list[str] = field(default_factory=list)
    did: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)  # what the harm itself saw that must not be
    ended: threading.Event = field(default_factory=threading.Event)
    home_s: float = 0.0


Harm = Callable[[Run, Stage], None]


def perform(run: Run, harm: Harm) -> Outcome:
    """The load and the harm side by side, then quiet, then the verdict. All that was started is
    ended, whatever happens.
    """
    load = run.load or Load(recordings=run.size.recordings, rate=run.size.rate)
    with run.stage(run.plan) as stage:
        played: list[Played] = []
        last_call = time.monotonic() + load.lasts_s
        playing = threading.Thread(
            target=lambda: played.append(play(load, stage.control, run.seed, run.ended))
        )
        playing.start()
        try:
            harm(run, stage)
            playing.join(load.lasts_s + 60)
        finally:
            run.ended.set()
            playing.join()
            stage.wire.calm()
        stage.control.good_days()
        _settle(run, stage)
        run.home_s = time.monotonic() - last_call
        time.sleep(1.5)  # so that what comes too late is seen
        outcome = _verdict(run, stage, played[0])
        if outcome.broken:
            outcome.kept = _keep(stage, run)
        return outcome


def _settle(run: Run, stage: Stage) -> None:
    """Waits until every recording is home, with a limit."""
    if run.allowed.unheard:
        _hang_up_unheard(stage)
    limit = time.monotonic() + run.settle_s
    while time.monotonic() < limit:
        book = stage.control.recordings()
        if over(book, stage.archive):
            return
        time.sleep(0.5)


def _hang_up_unheard(stage: Stage) -> None:
    # Nobody was ever told that these run, so nothing but their call ends them.
    stage.control.ask("GET", "idle?timeout=20")  # a callback may still be sent again
    told = Told(stage.control.log())
    for recording in stage.control.recordings():
        if not recording["ended_at"] and not told.heard(recording):
            stage.control.hangup(recording["call_uuid"])


def _verdict(run: Run, stage: Stage, played: Played) -> Outcome:
    found = judge(
        stage.control.log(),
        stage.control.recordings(),
        played.owed,
        stage.archive,
        account=ACCOUNT,
        down=stage.down,
        allowed=run.allowed,
    )
    bars = run.bars
    faults = {
        "unstopped": found.unstopped,
        "stopped wrongly": found.stopped_wrongly,
        "early": found.early,
        "lost": found.lost,
        "wrong": found.wrong,
    }
    broken = [
        *run.broken,
        *(f"{len(some)} {name}: {'; '.join(some[:3])}" for name, some in faults.items() if some),
    ]
    if bars.late_s is not None and found.late(100) > bars.late_s:
        broken.append(f"a stop {found.late(100):.2f} s late, allowed are {bars.late_s:g}")
    if bars.p99_s is not None and found.late(99) > bars.p99_s:
        broken.append(f"p99 of lateness {found.late(99):.2f} s, allowed are {bars.p99_s:g}")
    if found.repeats > bars.repeats * max(found.owed_stops, 1):
        broken.append(f"{found.repeats} repeats for {found.owed_stops} stops")
    if found.slowest_answer_s > bars.answer_s:
        broken.append(
            f"an answer after {found.slowest_answer_s:.2f} s, allowed are {bars.answer_s:g}"
        )
    if bars.home_s is not None and run.home_s > bars.home_s:
        broken.append(
            f"all home {run.home_s:.0f} s after the last call, allowed are {bars.home_s:g}"
        )
    if bars.sent is not None and found.sent_bytes > bars.sent * found.kept_bytes:
        broken.append(
            f"{found.sent_bytes / max(found.kept_bytes, 1):.2f} times the bytes kept were sent, allowed are {bars.sent:g}"
        )
    if played.failed:
        broken.append(f"the run itself failed {len(played.failed)} times: {played.failed[0]}")
    if found.unannounced:
        run.notes.append(
            f"{len(found.unannounced)} recordings of which no callback was answered 200"
        )
    run.notes.append(f"all home {run.home_s:.0f} s after the last call")
    killed = [f"{n} x {what}" for what, n in sorted(stage.killed.items())]
    passed = [f"{n} x {what}" for what, n in sorted(stage.wire.done.items())]
    return Outcome(
        findings=found,
        broken=broken,
        did=", ".join([*killed, *passed, *run.did]),
        kills=stage.killed.total(),
        notes=run.notes,
    )


def _keep(stage: Stage, run: Run) -> Path:
    """What a person needs who asks why: our logs, the provider's journal, and when Redis was not
    there.
    """
    place = Path("data") / "faults" / f"{run.seed}-{int(time.time())}"
    kept = ROOT / place
    kept.mkdir(parents=True)
    for log in stage.folder.glob("*.log"):
        (kept / log.name).write_bytes(log.read_bytes())
    for name, found in (
        ("journal", stage.control.log()),
        ("book", stage.control.recordings()),
        ("down", stage.down),
    ):
        (kept / f"{name}.json").write_text(json.dumps(found, indent=1))
    return place
