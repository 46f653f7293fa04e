"""One run: it sets the stage, lets calls come while harm is done, waits until all is home, and
judges.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from faults.checker import Allowed, Callbacks, Findings, judge, over
from faults.load import Load, Played, play
from faults.stage import ACCOUNT, Plan, Stage
from worker.processes.supervisor import ROOT

LEASE_S, GRACE_S = 5.0, 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """How large a run is. `hold_s`: how long its one long harm lasts."""

    recordings: int
    rate: float
    kills: int = 0
    redis_kills: int = 0
    hold_s: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Bars:
    """The limits of a run, beside the promises: nothing unstopped, stopped wrongly or early,
    nothing lost, nothing wrong under a final name.
    """

    late_s: float | None = LEASE_S + GRACE_S
    p99_s: float | None = None
    repeats: float = 0.01
    answer_s: float = 3.0
    home_s: float | None = None  # from the last call to the last file in the archive
    # bytes that the media host may have sent, as a multiple of the bytes kept
    sent: float | None = None


@dataclass(slots=True)
class Outcome:
    """What a run showed, and which limits it broke."""

    findings: Findings
    broken: list[str]
    did: str  # the harm that was done, counted
    kills: int = 0
    notes: list[str] = field(default_factory=list)
    kept: Path | None = None  # the folder of a failed run


@dataclass(slots=True)
class Run:
    """One run while it is played."""

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
    broken: list[str] = field(default_factory=list)  # what the harm itself saw go wrong
    ended: threading.Event = field(default_factory=threading.Event)
    home_s: float = 0.0
    application: object | None = None  # of the operator, where the run has one


Harm = Callable[[Run, Stage], None]


def perform(run: Run, harm: Harm) -> Outcome:
    """Plays load and harm side by side, waits, and judges. Ends all that it started."""
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
        time.sleep(1.5)  # so that late requests are seen too
        outcome = _verdict(run, stage, played[0])
        if outcome.broken:
            outcome.kept = _keep(stage, run)
        return outcome


def _settle(run: Run, stage: Stage) -> None:
    """Waits until every recording is home, at most `settle_s`."""
    if run.allowed.unheard:
        _hang_up_unheard(stage)
    limit = time.monotonic() + run.settle_s
    while time.monotonic() < limit:
        book = stage.control.recordings()
        stage.gather()
        if over(book, stage.archive):
            return
        time.sleep(0.5)


def _hang_up_unheard(stage: Stage) -> None:
    # No callback about these was ever answered, so only the end of their calls ends them.
    stage.control.ask("GET", "idle?timeout=20")  # a callback may still be sent again
    callbacks = Callbacks(stage.control.log())
    for recording in stage.control.recordings():
        if not recording["ended_at"] and not callbacks.heard(recording):
            stage.control.hangup(recording["call_uuid"])


def _verdict(run: Run, stage: Stage, played: Played) -> Outcome:
    stage.gather()
    findings = judge(
        stage.control.log(),
        stage.control.recordings(),
        played.owed,
        stage.archive,
        account=ACCOUNT,
        down=stage.down,
        allowed=run.allowed,
    )
    broken = [*run.broken, *_promises_broken(findings), *_bars_broken(run, findings)]
    if played.failed:
        broken.append(f"the run itself failed {len(played.failed)} times: {played.failed[0]}")
    if findings.unannounced:
        run.notes.append(
            f"{len(findings.unannounced)} recordings of which no callback was answered 200"
        )
    run.notes.append(f"all home {run.home_s:.0f} s after the last call")
    killed = [f"{n} x {what}" for what, n in sorted(stage.killed.items())]
    passed = [f"{n} x {what}" for what, n in sorted(stage.wire.done.items())]
    return Outcome(
        findings=findings,
        broken=broken,
        did=", ".join([*killed, *passed, *run.did]),
        kills=stage.killed.total(),
        notes=run.notes,
    )


def _promises_broken(findings: Findings) -> list[str]:
    """The promises that no run may break, however harsh it is."""
    kinds = {
        "unstopped": findings.unstopped,
        "stopped wrongly": findings.stopped_wrongly,
        "early": findings.early,
        "lost": findings.lost,
        "wrong": findings.wrong,
    }
    return [f"{len(some)} {kind}: {'; '.join(some[:3])}" for kind, some in kinds.items() if some]


def _bars_broken(run: Run, findings: Findings) -> list[str]:
    """Which of this run's limits were exceeded."""
    bars, broken = run.bars, list[str]()
    if bars.late_s is not None and findings.late(100) > bars.late_s:
        broken.append(f"a stop {findings.late(100):.2f} s late, allowed are {bars.late_s:g}")
    if bars.p99_s is not None and findings.late(99) > bars.p99_s:
        broken.append(f"p99 of lateness {findings.late(99):.2f} s, allowed are {bars.p99_s:g}")
    if findings.repeats > bars.repeats * max(findings.owed_stops, 1):
        broken.append(f"{findings.repeats} repeats for {findings.owed_stops} stops")
    if findings.slowest_answer_s > bars.answer_s:
        broken.append(
            f"an answer after {findings.slowest_answer_s:.2f} s, allowed are {bars.answer_s:g}"
        )
    if bars.home_s is not None and run.home_s > bars.home_s:
        broken.append(
            f"all home {run.home_s:.0f} s after the last call, allowed are {bars.home_s:g}"
        )
    if bars.sent is not None and findings.sent_bytes > bars.sent * findings.kept_bytes:
        ratio = findings.sent_bytes / max(findings.kept_bytes, 1)
        broken.append(f"{ratio:.2f} times the bytes kept were sent, allowed are {bars.sent:g}")
    return broken


def _keep(stage: Stage, run: Run) -> Path:
    """Keeps what explains a failed run: our logs, the provider's journal and recordings, and when
    Redis was away. Returns the folder.
    """
    place = Path("data") / "faults" / f"{run.seed}-{int(time.time())}"
    kept = ROOT / place
    kept.mkdir(parents=True)
    for log in stage.folder.glob("*.log"):
        (kept / log.name).write_bytes(log.read_bytes())
    for name, content in (
        ("journal", stage.control.log()),
        ("book", stage.control.recordings()),
        ("down", stage.down),
    ):
        (kept / f"{name}.json").write_text(json.dumps(content, indent=1))
    return place
