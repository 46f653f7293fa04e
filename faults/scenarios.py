"""The runs, by name. Each sets a stage, lets calls come, does its harm meanwhile, waits until all is quiet, and judges."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from faults.bad_days import ALL, REFUSED
from faults.checker import Allowed, Findings, Told, judge, over
from faults.load import Load, Played, play
from faults.proxy import Act, Rule
from faults.stage import ACCOUNT, Plan, Stage

LEASE_S, GRACE_S = 5.0, 2.0
SURVEY = (Path(__file__).parent.parent / "worker" / "survey.py").exists()
NEEDS_SURVEY = "needs the survey of the provider's lists, which is not built"


class NotHere(Exception):
    """This machine, or this state of the project, cannot play the run; the text says what is missing."""


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
    """What must hold besides: nothing unstopped, stopped wrongly or early, nothing lost, nothing wrong under a final name."""

    late_s: float | None = LEASE_S + GRACE_S
    p99_s: float | None = None
    repeats: float = 0.01
    answer_s: float = 3.0


@dataclass(slots=True)
class Outcome:
    """What a run found, and which bars it broke."""

    findings: Findings
    broken: list[str]
    did: str                            # what was done to it, counted
    kills: int = 0
    notes: list[str] = field(default_factory=list)
    kept: Path | None = None            # our log of a run that failed


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
    notes: list[str] = field(default_factory=list)
    did: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)


Harm = Callable[[Run, Stage], None]


def perform(run: Run, harm: Harm) -> Outcome:
    """The load and the harm side by side, then quiet, then the verdict. All that was started is ended, whatever happens."""
    load = run.load or Load(recordings=run.size.recordings, rate=run.size.rate)
    with Stage(run.plan) as stage:
        played: list[Played] = []
        playing = threading.Thread(target=lambda: played.append(play(load, stage.control, run.seed, run.ended)))
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
        outcome = _verdict(run, stage, played[0])
        if outcome.broken:
            outcome.kept = _keep(stage, run)
        return outcome


def _settle(run: Run, stage: Stage) -> None:
    """Waits until every recording is home, with a limit; then a moment more, so that what comes too late is seen."""
    if run.allowed.unheard:
        _hang_up_unheard(stage)
    limit = time.monotonic() + run.settle_s
    while time.monotonic() < limit:
        book = stage.control.book()
        left_out = frozenset[str]()
        if run.allowed.unannounced:
            left_out = frozenset(judge(stage.control.log(), book, {}, stage.archive, account=ACCOUNT).unannounced)
        if over(book, stage.archive, left_out):
            break
        time.sleep(0.5)
    time.sleep(1.5)


def _hang_up_unheard(stage: Stage) -> None:
    # Nobody was ever told that these run, so nothing but their call ends them.
    told = Told(stage.control.log())
    for recording in stage.control.book():
        if not recording["ended_at"] and not told.heard(recording):
            stage.control.ask("POST", f"calls/{recording['call_uuid']}/hangup")


def _verdict(run: Run, stage: Stage, played: Played) -> Outcome:
    found = judge(stage.control.log(), stage.control.book(), played.owed, stage.archive, account=ACCOUNT, down=stage.down, allowed=run.allowed)
    bars, broken = run.bars, []
    for name in ("unstopped", "stopped_wrongly", "early", "lost", "wrong"):
        if some := getattr(found, name):
            broken.append(f"{len(some)} {name.replace('_', ' ')}: {'; '.join(some[:3])}")
    if bars.late_s is not None and found.late(100) > bars.late_s:
        broken.append(f"a stop {found.late(100):.2f} s late, allowed are {bars.late_s:g}")
    if bars.p99_s is not None and found.late(99) > bars.p99_s:
        broken.append(f"p99 of lateness {found.late(99):.2f} s, allowed are {bars.p99_s:g}")
    if found.repeats > bars.repeats * max(found.owed_stops, 1):
        broken.append(f"{found.repeats} repeats for {found.owed_stops} stops")
    if found.slowest_answer_s > bars.answer_s:
        broken.append(f"an answer after {found.slowest_answer_s:.2f} s, allowed are {bars.answer_s:g}")
    if played.failed:
        broken.append(f"the run itself failed {len(played.failed)} times: {played.failed[0]}")
    if found.unannounced:
        run.notes.append(f"{len(found.unannounced)} recordings of which no callback was answered 200")
    killed = [f"{n} x {what}" for what, n in sorted(stage.killed.items())]
    passed = [f"{n} x {what}" for what, n in sorted(stage.wire.done.items())]
    return Outcome(findings=found, broken=broken, did=", ".join([*killed, *passed, *run.did]), kills=stage.killed.total(), notes=run.notes)


def _keep(stage: Stage, run: Run) -> Path:
    kept = Path(__file__).parent.parent / "data" / "faults" / f"{run.seed}-{int(time.time())}.log"
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(stage.log.read_bytes() if stage.log.exists() else b"")
    return kept


# Harm ---------------------------------------------------------------------------------------------------------------

def nothing(run: Run, stage: Stage) -> None:
    """Nothing at all."""


def kills(run: Run, stage: Stage) -> None:
    """SIGKILL at random moments of the load: processes, single children, parents alone, and Redis so often as asked."""
    lasts, total = run.size.recordings / run.size.rate, run.size.kills + run.size.redis_kills
    moments = sorted(stage.chance.uniform(0.02, 0.98) * lasts for _ in range(total))
    at_redis = set(stage.chance.sample(range(total), run.size.redis_kills))
    began = time.monotonic()
    for i, moment in enumerate(moments):
        time.sleep(max(0.0, began + moment - time.monotonic()))
        stage.kill(redis=i in at_redis)


def faulty(run: Run, stage: Stage) -> None:
    """A fifth of all requests to the provider fails, one way or another, while processes are killed."""
    for name, params in (("stop-fails-first", {"status": 503}), ("api-5xx", {}), ("media-5xx", {})):
        stage.control.fault(name, probability=0.2, **params)
    kills(run, stage)


def bad_days(run: Run, stage: Stage) -> None:
    """Every bad day of the emulator at once, each of them rarely; in the middle our credentials are refused for 3 s."""
    for name, params in ALL.items():
        stage.control.fault(name, **params)
    half = run.size.recordings / run.size.rate / 2
    run.ended.wait(half)
    stage.control.fault("refuse-auth", **REFUSED)
    run.ended.wait(3)
    stage.control.ask("DELETE", "faults/refuse-auth")
    run.ended.wait(half)
    run.did.append(f"{len(ALL) + 1} bad days")


def pops_cut(run: Run, stage: Stage) -> None:
    """A tenth of the broker's deliveries is cut off after Redis gave them away."""
    stage.wire.rules = (Rule(command="BRPOP", act=Act.CUT_REPLY, probability=0.1),)


def publishes_cut(run: Run, stage: Stage) -> None:
    """Half of what the clocks publish lands, but the answer never comes."""
    stage.wire.rules = (Rule(command="LPUSH", act=Act.CUT_REPLY, probability=0.5),)


def wire(run: Run, stage: Stage) -> None:
    """The way to Redis: scripts cut before and after, answers dropped, a freeze, a trickle, ten sweeps, short-lived connections."""
    part = run.size.recordings / run.size.rate / 6
    for rules in ((Rule(command="EVALSHA", act=Act.CUT_REPLY, probability=0.05),), (Rule(command="EVALSHA", act=Act.CUT_BEFORE, probability=0.05),),
                  (Rule(command="EVALSHA", act=Act.DROP_REPLY, probability=0.02),)):
        stage.wire.rules = rules
        time.sleep(part)
    stage.wire.rules = ()
    frozen = time.time()
    stage.wire.freeze()
    time.sleep(min(3.0, part))
    stage.wire.thaw()
    stage.down.append((frozen, time.time()))
    stage.wire.trickle(64, 0.005)
    time.sleep(part)
    stage.wire.trickle(0, 0)
    for _ in range(10):
        stage.wire.sweep()
        time.sleep(part / 10)
    stage.wire.cut_after = 20_000
    time.sleep(part)


def redis_stands_still(run: Run, stage: Stage) -> None:
    """Redis is stopped with SIGSTOP in the middle of the load."""
    time.sleep(4)
    with stage.still_redis():
        time.sleep(run.size.hold_s)
    run.did.append(f"Redis still for {run.size.hold_s:g} s")


def tripled(run: Run, stage: Stage) -> None:
    """Each callback three times, shuffled."""
    stage.control.fault("doubled-callbacks", copies=3)
    stage.control.fault("shuffled-callbacks", seconds=1)
    _play_out(run)


def third_lost(run: Run, stage: Stage) -> None:
    """30 % of the callbacks lost, 30 % doubled, all shuffled."""
    stage.control.fault("lost-callbacks", probability=0.3)
    stage.control.fault("doubled-callbacks", probability=0.3)
    stage.control.fault("shuffled-callbacks", seconds=1)
    _play_out(run)


def all_lost(run: Run, stage: Stage) -> None:
    """Not one callback arrives."""
    stage.control.fault("lost-callbacks")
    _play_out(run, more_s=30)


def erased(run: Run, stage: Stage) -> None:
    """Redis loses all it had, once."""
    time.sleep(run.size.recordings / run.size.rate / 2)
    stage.kill_redis(erase=True)


def still(run: Run, stage: Stage) -> None:
    """One of each process that holds leases stands still for three of them, in the middle of its work, and wakes up."""
    stage.control.fault("trickled-media", bytes=8000, pause_s=0.2)      # so that downloads are under way
    time.sleep(5)
    with stage.still("stops.1", "fetches.1", "clock.1"):
        time.sleep(run.size.hold_s)
    run.did.append(f"stops, fetches and clock still for {run.size.hold_s:g} s")
    stage.control.good_days()


def rolling(run: Run, stage: Stage) -> None:
    """SIGTERM for one process after the other, the next when the load has gone on for a moment."""
    pause = run.size.recordings / run.size.rate / (run.size.kills + 1)
    names = sorted(stage.fleet.processes)
    for i in range(run.size.kills):
        time.sleep(pause)
        with contextlib.suppress(ProcessLookupError):
            os.kill(stage.fleet.processes[names[i % len(names)]].pid, signal.SIGTERM)
    run.did.append(f"{run.size.kills} restarts by SIGTERM")


def full_disks(run: Run, stage: Stage) -> None:
    """The spool's disk is full to the last byte while files arrive, then the archive's."""
    stage.control.fault("trickled-media", bytes=4000, pause_s=0.1)
    for place in (stage.spool, stage.archive):
        time.sleep(3)
        with _filled(place / ".ballast"):
            time.sleep(run.size.hold_s)
        run.did.append(f"{place.name} full for {run.size.hold_s:g} s")
    stage.control.good_days()


@contextlib.contextmanager
def _filled(ballast: Path) -> Iterator[None]:
    block = b"\0" * 65536
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        for _ in range(100_000):
            file.write(block)
    try:
        yield
    finally:
        ballast.unlink()


def soak(run: Run, stage: Stage) -> None:
    """Nothing but time: how the memory of our processes grows."""
    samples, end = [], time.monotonic() + run.size.recordings / run.size.rate
    while time.monotonic() < end:
        samples.append((time.monotonic(), _resident_mib(stage)))
        time.sleep(5)
    late = samples[len(samples) // 2:]
    if len(late) > 1:
        slope = (late[-1][1] - late[0][1]) / (late[-1][0] - late[0][0]) * 3600
        run.notes.append(f"resident memory {late[0][1]:.0f} to {late[-1][1]:.0f} MiB in the second half, {slope:+.0f} MiB/h over all processes")


def _resident_mib(stage: Stage) -> float:
    pages = 0
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            if os.getpgid(int(place.name)) in stage.fleet.groups:
                pages += int((place / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _play_out(run: Run, more_s: float = 0.0) -> None:
    """The bad days last as long as the load."""
    run.ended.wait(run.size.recordings / run.size.rate + 3 + more_s)


# The runs -----------------------------------------------------------------------------------------------------------

@dataclass(frozen=True, kw_only=True, slots=True)
class Scenario:
    """A run by name: what it says, how big it is, and how it is set up."""

    says: str
    harm: Harm
    full: Size
    short: Size | None = None           # None: not part of the short set
    bars: Bars = Bars()
    allowed: Allowed = Allowed()
    needs: tuple[str, ...] = ()         # of PREPARED
    settle_s: float = 60.0
    always: bool = True                 # part of the full set

    def run(self, size: Size, seed: int) -> Outcome:
        """Raises NotHere."""
        run = Run(size=size, seed=seed, plan=Plan(seed=seed), bars=self.bars, allowed=self.allowed, settle_s=self.settle_s)
        for name in self.needs:
            PREPARED[name](run)
        return perform(run, self.harm)


def _proxied(run: Run) -> None:
    run.plan = replace(run.plan, proxied=True)


def _survey(run: Run) -> None:
    if not SURVEY:
        raise NotHere(NEEDS_SURVEY)


def _watched(run: Run) -> None:
    run.plan = replace(run.plan, rules=run.plan.rules.replace("[defaults]\n", "[defaults]\nwatch = true\n"))


def _announced(run: Run) -> None:
    if not SURVEY:
        run.allowed = replace(run.allowed, unannounced=True)


def _volumes(run: Run) -> None:
    if os.geteuid() != 0 or not Path("/proc/mounts").exists():
        raise NotHere("mounting a small disk needs root on Linux")
    run.plan = replace(run.plan, volumes={"archive": 128, "spool": 96})


def _skewed(run: Run) -> None:
    library = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)
    if library is None:
        raise NotHere("needs libfaketime (Debian: faketime)")
    fake = {"LD_PRELOAD": str(library), "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}
    run.plan = replace(run.plan, odd={
        name: {**fake, "FAKETIME": offset} for name, offset in
        {"stops.1": "+10m", "clock.1": "-10m", "fetches.1": "-10m", "web.1": "+10m"}.items()})
    run.did.append("4 clocks 10 min off")


def _long_files(run: Run) -> None:
    run.load = Load(recordings=run.size.recordings, rate=run.size.rate, mix=(("hangup", 1.0),), age_s=(60.0, 1800.0))


PREPARED: Mapping[str, Callable[[Run], None]] = {
    "proxy": _proxied, "survey": _survey, "watch": _watched, "announced": _announced, "volumes": _volumes, "skew": _skewed, "long files": _long_files}

_LOST = Allowed(unannounced=not SURVEY, unheard=True)
SCENARIOS = {
    "t1": Scenario(says="no faults", harm=nothing, full=Size(recordings=300, rate=20), bars=Bars(late_s=1, p99_s=0.25)),
    "t2": Scenario(says="kill -9", harm=kills, full=Size(recordings=1000, rate=10, kills=50)),
    "t3": Scenario(says="kill -9, Redis too", harm=kills, full=Size(recordings=1000, rate=10, kills=44, redis_kills=6),
                   short=Size(recordings=150, rate=8, kills=8, redis_kills=2)),
    "t4": Scenario(says="20 % errors, kill -9", harm=faulty, full=Size(recordings=300, rate=8, kills=15), bars=Bars(late_s=10, p99_s=None)),
    "bad": Scenario(says="every bad day", harm=bad_days, full=Size(recordings=300, rate=8), short=Size(recordings=60, rate=6),
                    bars=Bars(late_s=None, repeats=0.05, answer_s=3), allowed=replace(_LOST, deaf=True, other_container=True), settle_s=120),
    "t5": Scenario(says="10 % of pops cut", harm=pops_cut, full=Size(recordings=200, rate=10), short=Size(recordings=60, rate=10), needs=("proxy",)),
    "t6": Scenario(says="50 % of pushes cut", harm=publishes_cut, full=Size(recordings=200, rate=10), needs=("proxy",)),
    "wire": Scenario(says="cut, freeze, trickle", harm=wire, full=Size(recordings=300, rate=8), needs=("proxy",), bars=Bars(repeats=0.05)),
    "t7": Scenario(says="Redis stands still", harm=redis_stands_still, full=Size(recordings=2000, rate=50, hold_s=30),
                   short=Size(recordings=500, rate=50, hold_s=8), bars=Bars(answer_s=1.5), allowed=_LOST, settle_s=120),
    "t8": Scenario(says="callbacks x 3, mixed", harm=tripled, full=Size(recordings=200, rate=10)),
    "third": Scenario(says="30 % lost, 30 % x 2", harm=third_lost, full=Size(recordings=200, rate=10), allowed=_LOST, settle_s=120),
    "t9": Scenario(says="all callbacks lost", harm=all_lost, full=Size(recordings=100, rate=5), bars=Bars(late_s=None), needs=("survey", "watch"), settle_s=120),
    "t10": Scenario(says="Redis erased", harm=erased, full=Size(recordings=100, rate=5), bars=Bars(late_s=None), needs=("survey", "watch"), settle_s=150),
    "t11": Scenario(says="long files, kill -9", harm=kills, full=Size(recordings=120, rate=4, kills=15), needs=("long files",), settle_s=120),
    "t15": Scenario(says="holders stand still", harm=still, full=Size(recordings=200, rate=8, hold_s=15), short=Size(recordings=150, rate=8, hold_s=15)),
    "t16": Scenario(says="clocks 10 min off", harm=nothing, full=Size(recordings=200, rate=10), needs=("skew",)),
    "t17": Scenario(says="rolling restarts", harm=rolling, full=Size(recordings=320, rate=8, kills=20)),
    "disk": Scenario(says="full disks", harm=full_disks, full=Size(recordings=160, rate=8, hold_s=6), short=Size(recordings=90, rate=8, hold_s=4),
                     needs=("volumes",), settle_s=120),
    "t18": Scenario(says="soak, shortened", harm=soak, full=Size(recordings=6000, rate=10), always=False),
}
