"""The runs by name, with their sizes and limits."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from faults import governed, harm, machines, rabbit, storm
from faults.checker import Allowed
from faults.load import Load
from faults.performance import GRACE_S, LEASE_S, Bars, Harm, Outcome, Run, Size, perform
from faults.stage import RECONCILE_S, SHORT_S, Plan
from worker.calls.obligations import Duty
from worker.ledger.obligations import LEASES
from worker.processes.supervisor import ROOT


class NotHere(Exception):
    """Raised when this machine lacks something that the run needs; the text names it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scenario:
    """One run: its title, its harm, its sizes, and how its stage differs."""

    says: str
    harm: Harm
    full: Size
    short: Size | None = None  # None: not part of the short set
    bars: Bars = Bars()
    allowed: Allowed = Allowed()
    needs: tuple[str, ...] = ()  # of PREPARED
    settle_s: float = 60.0
    always: bool = True  # part of the full set

    def run(self, size: Size, seed: int) -> Outcome:
        """Raises NotHere."""
        run = Run(
            size=size,
            seed=seed,
            plan=Plan(seed=seed),
            bars=self.bars,
            allowed=self.allowed,
            settle_s=self.settle_s,
        )
        for name in self.needs:
            PREPARED[name](run)
        return perform(run, self.harm)


def _proxied(run: Run) -> None:
    run.plan = replace(run.plan, proxied=True)


def _watched(run: Run) -> None:
    run.plan = replace(
        run.plan, rules=run.plan.rules.replace("[defaults]\n", "[defaults]\nwatch = true\n")
    )


def _offloading(run: Run) -> None:
    keep = '[defaults]\nkeep_at_provider = "0s"\n'
    run.plan = replace(run.plan, rules=run.plan.rules.replace("[defaults]\n", keep))
    run.did.append("the provider's copies go")


def _governed(run: Run) -> None:
    run.plan = replace(run.plan, rules=governed.rules(run.plan.rules))


def _volumes(run: Run) -> None:
    if os.geteuid() != 0 or not Path("/proc/mounts").exists():
        raise NotHere("mounting a small disk needs root on Linux")
    run.plan = replace(run.plan, volumes={"archive": 128, "spool": 96})


def _skewed(run: Run) -> None:
    path = f"{Path(__file__).parent / 'skewed'}{os.pathsep}{ROOT}"
    run.plan = replace(
        run.plan,
        odd={
            name: {"PYTHONPATH": path, "FAULTS_SKEW_S": str(off_s)}
            for name, off_s in {
                "stops.1": 600,
                "clock.1": -600,
                "fetches.1": -600,
                "web.1": 600,
            }.items()
        },
    )
    run.did.append("4 clocks 10 min off")


def _machines(run: Run) -> None:
    if lacks := machines.missing():
        raise NotHere(lacks)
    run.stage = machines.Machines


def _long_files(run: Run) -> None:
    run.load = Load(
        recordings=run.size.recordings,
        rate=run.size.rate,
        mix=(("hangup", 1.0),),
        age_s=(125.0, 12_000.0),
        longest_s=130_000.0,
    )


def _short_calls(run: Run) -> None:
    # A lost trigger leaves a recording to its deadline; that would hide how soon the rest is home.
    run.load = Load(
        recordings=run.size.recordings, rate=run.size.rate, mix=(("deadline", 0.7), ("hangup", 0.3))
    )


def _watched_redis(run: Run) -> None:
    run.plan = replace(run.plan, watched=True)


def _rabbit(run: Run) -> None:
    if why := rabbit.missing():
        raise NotHere(why)
    run.plan = replace(run.plan, rabbit=True)


def _bucket(run: Run) -> None:
    if importlib.util.find_spec("moto") is None:
        raise NotHere("moto, of the extra `dev`, is missing")
    run.plan = replace(run.plan, bucket=True)


PREPARED: Mapping[str, Callable[[Run], None]] = {
    "proxy": _proxied,
    "watch": _watched,
    "offload": _offloading,
    "governed": _governed,
    "application": storm.prepare,
    "volumes": _volumes,
    "skew": _skewed,
    "machines": _machines,
    "long files": _long_files,
    "short calls": _short_calls,
    "sentinel": _watched_redis,
    "rabbit": _rabbit,
    "bucket": _bucket,
}

_LOST = Allowed(unheard=True)
SCENARIOS = {
    "t1": Scenario(
        says="no faults",
        harm=harm.nothing,
        full=Size(recordings=1000, rate=20),
        bars=Bars(late_s=1, p99_s=0.25),
    ),
    "t2": Scenario(
        says="kill -9 of anything",
        harm=harm.kills,
        full=Size(recordings=1000, rate=10, kills=44, redis_kills=6),
        bars=Bars(late_s=None),
    ),
    "t3": Scenario(
        says="kill -9, twin works",
        harm=harm.kills_of_twins,
        full=Size(recordings=1000, rate=10, kills=44, redis_kills=6),
        short=Size(recordings=120, rate=8, kills=8, redis_kills=2),
    ),
    "t4": Scenario(
        says="20 % errors, kill -9",
        harm=harm.faulty,
        full=Size(recordings=240, rate=8, kills=12),
        bars=Bars(late_s=10),
    ),
    "bad": Scenario(
        says="every bad day",
        harm=harm.bad_days,
        full=Size(recordings=300, rate=8),
        short=Size(recordings=60, rate=6),
        bars=Bars(late_s=None, repeats=0.05, answer_s=3),
        allowed=replace(_LOST, deaf=True, other_container=True, start_listed=True),
        settle_s=120,
    ),
    "t5": Scenario(
        says="10 % of pops cut",
        harm=harm.pops_cut,
        full=Size(recordings=120, rate=10),
        needs=("proxy",),
        # One message in a thousand is lost three times in a row; a stop waits one lease each time.
        bars=Bars(late_s=3 * LEASES[Duty.PLAN].total_seconds() + GRACE_S),
    ),
    "t6": Scenario(
        says="50 % of pushes cut",
        harm=harm.publishes_cut,
        full=Size(recordings=120, rate=10),
        needs=("proxy",),
    ),
    "wire": Scenario(
        says="cut, freeze, trickle",
        harm=harm.wire,
        full=Size(recordings=300, rate=8),
        needs=("proxy",),
        bars=Bars(repeats=0.05),
    ),
    "t7": Scenario(
        says="Redis stands still",
        harm=harm.redis_stands_still,
        full=Size(recordings=1400, rate=20, hold_s=60),
        short=Size(recordings=240, rate=20, hold_s=6),
        bars=Bars(answer_s=1.5),
        allowed=_LOST,
        settle_s=120,
    ),
    "t8": Scenario(
        says="callbacks x 3, mixed", harm=harm.tripled, full=Size(recordings=120, rate=10)
    ),
    "third": Scenario(
        says="30 % lost, 30 % x 2",
        harm=harm.third_lost,
        full=Size(recordings=150, rate=10),
        allowed=_LOST,
        needs=("short calls",),
        bars=Bars(home_s=SHORT_S + 3 * RECONCILE_S + 1),
        settle_s=120,
    ),
    "t9": Scenario(
        says="all callbacks lost",
        harm=harm.all_lost,
        full=Size(recordings=100, rate=5),
        bars=Bars(late_s=None),
        needs=("watch",),
        settle_s=120,
    ),
    "t10": Scenario(
        says="Redis erased",
        harm=harm.erased,
        full=Size(recordings=100, rate=5),
        needs=("watch",),
        settle_s=150,
        # A call that lived when the ledger was lost is stopped as if it were being recorded: the
        # ledger no longer knows that its recordings had ended.
        bars=Bars(late_s=None, repeats=1.0),
    ),
    "t11": Scenario(
        says="long files, kill -9",
        harm=harm.kills_and_sweeps,
        full=Size(recordings=200, rate=2, kills=50),
        needs=("proxy", "long files"),
        settle_s=240,
        bars=Bars(sent=1.2),
    ),  # what was cut off goes on; what was not noted yet when its process died is sent again
    "t15": Scenario(
        says="holders stand still",
        harm=harm.still,
        full=Size(recordings=200, rate=8, hold_s=15),
        short=Size(recordings=100, rate=5, hold_s=15),
        # The provider itself is silent for 2 s. Who is frozen with a request on its way sends it on
        # waking, and nobody can call it back.
        bars=Bars(late_s=LEASE_S + GRACE_S + 2, repeats=0.05),
    ),
    "offload": Scenario(
        says="kill -9, offload",
        harm=harm.kills,
        full=Size(recordings=300, rate=6, kills=22, redis_kills=3),
        needs=("offload",),
        bars=Bars(late_s=None),
        allowed=_LOST,
        settle_s=120,
    ),  # whatever is deleted at the provider was in the archive before, and is right
    "governed": Scenario(
        says="kill -9, hold, erase",
        harm=governed.of_kills,
        full=Size(recordings=300, rate=6, kills=22, redis_kills=3),
        needs=("governed",),
        bars=Bars(late_s=None),
        allowed=replace(_LOST, erased=True),
        settle_s=120,
    ),  # nothing held is deleted, and what was ordered is carried out
    "storm": Scenario(
        says="10,000 notices",
        harm=storm.of_notices,
        full=Size(recordings=600, rate=10),
        needs=("application",),
        bars=Bars(late_s=1),
    ),  # of which some 500 a minute are stopped
    "t16": Scenario(
        says="clocks 10 min off",
        harm=harm.nothing,
        full=Size(recordings=120, rate=10),
        needs=("skew",),
    ),
    "t17": Scenario(
        says="rolling restarts", harm=harm.rolling, full=Size(recordings=400, rate=8, kills=20)
    ),
    "disk": Scenario(
        says="full disks",
        harm=harm.full_disks,
        full=Size(recordings=160, rate=8, hold_s=6),
        needs=("volumes",),
        settle_s=120,
    ),
    "machines": Scenario(
        says="two machines",
        harm=machines.apart,
        full=Size(recordings=540, rate=6),
        needs=("machines",),
        allowed=_LOST,
        settle_s=120,
        # A callback that nobody answers is given up by the provider after 3 s.
        bars=Bars(answer_s=3.5),
    ),
    "sentinel": Scenario(
        says="fail-overs",
        harm=harm.fail_overs,
        full=Size(recordings=350, rate=5),
        needs=("sentinel",),
        bars=Bars(answer_s=1.5),
    ),
    "rabbit": Scenario(
        says="RabbitMQ as broker",
        harm=harm.rabbit_lost,
        full=Size(recordings=400, rate=8, hold_s=10),
        needs=("rabbit",),
    ),
    "t2-s3": Scenario(
        says="kill -9, a bucket",
        harm=harm.kills,
        full=Size(recordings=300, rate=5, kills=22, redis_kills=3),
        needs=("bucket",),
        bars=Bars(late_s=None),
        settle_s=120,
    ),
    "third-s3": Scenario(
        says="30 % lost, a bucket",
        harm=harm.third_lost,
        full=Size(recordings=150, rate=10),
        allowed=_LOST,
        needs=("short calls", "bucket"),
        bars=Bars(home_s=SHORT_S + 3 * RECONCILE_S + 1),
        settle_s=120,
    ),
    "t18": Scenario(
        says="soak, shortened", harm=harm.soak, full=Size(recordings=6000, rate=10), always=False
    ),
}
