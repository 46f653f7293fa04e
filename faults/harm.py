"""What is done to the service while calls come in. Each harm is limited in time and notes in
`run.did` what it did.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from faults.bad_days import ALL, REFUSED
from faults.performance import Run
from faults.proxy import Act, Strike
from faults.stage import Stage
from faults.watched import WatchedRedis
from worker.calls.obligations import Duty


def nothing(run: Run, stage: Stage) -> None:
    """Does nothing."""


def kills(run: Run, stage: Stage) -> None:
    """Kills processes by SIGKILL at random moments, whatever else is down: a process with its
    children, one child, or the parent alone.
    """
    _kill(run, stage, spare_last=False)


def kills_of_twins(run: Run, stage: Stage) -> None:
    """Kills as `kills` does, but only a process whose twin is working."""
    _kill(run, stage, spare_last=True)


def _kill(run: Run, stage: Stage, *, spare_last: bool) -> None:
    lasts, total = run.size.recordings / run.size.rate, run.size.kills + run.size.redis_kills
    moments = sorted(stage.chance.uniform(0.02, 0.98) * lasts for _ in range(total))
    at_redis = set(stage.chance.sample(range(total), run.size.redis_kills))
    began = time.monotonic()
    for i, moment in enumerate(moments):
        run.ended.wait(max(0.0, began + moment - time.monotonic()))
        if i in at_redis:
            stage.kill_redis(stage.chance.uniform(0, 1.5))
        else:
            stage.kill(spare_last=spare_last)


def kills_and_sweeps(run: Run, stage: Stage) -> None:
    """Kills as `kills` does, and cuts all connections to Redis at once, ten times. The media host
    can continue a download.
    """
    stage.control.bad_day("ranged-media")
    pause_s = run.size.recordings / run.size.rate / 11

    def sweep() -> None:
        for _ in range(10):
            if not run.ended.wait(pause_s):
                stage.wire.sweep()

    sweeping = threading.Thread(target=sweep)
    sweeping.start()
    _kill(run, stage, spare_last=True)
    sweeping.join()


def faulty(run: Run, stage: Stage) -> None:
    """Fails a fifth of all requests to the provider, in one way or another, while processes are
    killed.
    """
    for name, params in (("stop-fails-first", {"status": 503}), ("api-5xx", {}), ("media-5xx", {})):
        stage.control.bad_day(name, probability=0.2, **params)
    kills_of_twins(run, stage)


def bad_days(run: Run, stage: Stage) -> None:
    """Switches on every bad day of the emulator at once, each of them rare. In the middle our
    credentials are refused for 3 s.
    """
    for name, params in ALL.items():
        stage.control.bad_day(name, **params)
    half = run.size.recordings / run.size.rate / 2
    run.ended.wait(half)
    stage.control.bad_day("refuse-auth", **REFUSED)
    run.ended.wait(3)
    stage.control.ask("DELETE", "faults/refuse-auth")
    run.ended.wait(half)
    run.did.append(f"{len(ALL) + 1} bad days")


def pops_cut(run: Run, stage: Stage) -> None:
    """Cuts off a tenth of the broker's deliveries, and of the hints to those who plan calls and to
    the clocks, after Redis has handed them out.
    """
    stage.wire.strikes = tuple(
        Strike(command=pop, act=Act.CUT_REPLY, probability=0.1) for pop in ("BRPOP", "BLPOP")
    )


def publishes_cut(run: Run, stage: Stage) -> None:
    """Publishes half of the clocks' messages without ever answering the clock."""
    stage.wire.strikes = (Strike(command="LPUSH", act=Act.CUT_REPLY, probability=0.5),)


def wire(run: Run, stage: Stage) -> None:
    """Disturbs the connections to Redis: cuts scripts before and after they run, drops answers,
    freezes, trickles, sweeps ten times, and keeps connections short.
    """
    part = run.size.recordings / run.size.rate / 6
    for strikes in (
        (Strike(command="EVALSHA", act=Act.CUT_REPLY, probability=0.05),),
        (Strike(command="EVALSHA", act=Act.CUT_BEFORE, probability=0.05),),
        (Strike(command="EVALSHA", act=Act.DROP_REPLY, probability=0.02),),
    ):
        stage.wire.strikes = strikes
        time.sleep(part)
    stage.wire.strikes = ()
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
    """Stops Redis with SIGSTOP in the middle of the load."""
    time.sleep(4)
    with stage.still_redis():
        time.sleep(run.size.hold_s)
    run.did.append(f"Redis still for {run.size.hold_s:g} s")


def tripled(run: Run, stage: Stage) -> None:
    """Sends each callback three times, shuffled."""
    stage.control.bad_day("doubled-callbacks", copies=3)
    stage.control.bad_day("shuffled-callbacks", seconds=1)
    run.did.append("each callback 3 times")
    _play_out(run)


def third_lost(run: Run, stage: Stage) -> None:
    """Loses 30 % of the callbacks, doubles 30 %, shuffles all."""
    stage.control.bad_day("lost-callbacks", probability=0.3)
    stage.control.bad_day("doubled-callbacks", probability=0.3)
    stage.control.bad_day("shuffled-callbacks", seconds=1)
    run.did.append("30 % of callbacks lost, 30 % doubled")
    _play_out(run)


def all_lost(run: Run, stage: Stage) -> None:
    """Loses every callback."""
    stage.control.bad_day("lost-callbacks")
    run.did.append("all callbacks lost")
    _play_out(run, more_s=30)


def erased(run: Run, stage: Stage) -> None:
    """Erases Redis's data once."""
    time.sleep(run.size.recordings / run.size.rate / 2)
    stage.kill_redis(erase=True)


def still(run: Run, stage: Stage) -> None:
    """Freezes one of each process that holds leases, for three leases, in the middle of
    its work.
    """
    # So that downloads and stops are under way, and each of them holds some.
    stage.control.bad_day("trickled-media", bytes=8000, pause_s=0.2)
    time.sleep(5)
    stage.control.bad_day("stop-timeout", seconds=2)
    time.sleep(1)
    stage.control.ask("DELETE", "faults/stop-timeout")
    with stage.still("stops.1", "fetches.1", "clock.1"):
        time.sleep(run.size.hold_s)
    run.did.append(f"stops, fetches and clock still for {run.size.hold_s:g} s")
    stage.control.good_days()


def rolling(run: Run, stage: Stage) -> None:
    """Sends SIGTERM to one process after the other, as a careful operator does: to the next when
    its twin is working.
    """
    names = sorted(stage.fleet.processes, key=lambda name: name.partition(".")[::-1])
    end, done = time.monotonic() + run.size.recordings / run.size.rate, 0
    while done < run.size.kills and time.monotonic() < end:
        name = names[done % len(names)]
        if name in stage.with_a_twin():
            stage.end(name)
            done += 1
        run.ended.wait(0.5)
    run.did.append(f"{done} restarts by SIGTERM")


def full_disks(run: Run, stage: Stage) -> None:
    """Fills the spool's disk to the last byte while files arrive, then the archive's."""
    stage.control.bad_day("trickled-media", bytes=4000, pause_s=0.1)
    for place in (stage.spool, stage.archive):
        time.sleep(3)
        with _filled(place / ".ballast"):
            time.sleep(run.size.hold_s)
        run.did.append(f"{place.name} full for {run.size.hold_s:g} s")
    stage.control.good_days()
    run.notes.append(
        f"{stage.log.read_text(errors='replace').count('the disk is full')} tries met a full disk"
    )


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
    """Lets time pass. Notes how the memory of our processes grows, and how late the oldest
    obligation was that nobody had leased.
    """
    samples, end, oldest_s = [], time.monotonic() + run.size.recordings / run.size.rate, 0.0
    while time.monotonic() < end:
        samples.append((time.monotonic(), *_own_mib(stage)))
        oldest_s = max([oldest_s, *(_overdue_s(stage, duty) for duty in Duty)])
        time.sleep(5)
    run.notes.append(f"the oldest that was due, and not leased, {oldest_s:.1f} s")
    late = samples[len(samples) // 2 :]
    if len(late) > 1:
        slope = (late[-1][1] - late[0][1]) / (late[-1][0] - late[0][0]) * 3600
        run.notes.append(
            f"memory of their own {late[0][1]:.1f} to {late[-1][1]:.1f} MiB in the second half, "
            f"{slope:+.1f} MiB/h over {late[-1][2]} processes"
        )


def _overdue_s(stage: Stage, duty: Duty) -> float:
    first = stage.ledger.redis.zrange(stage.ledger.key("due", duty), 0, 0, withscores=True)
    return (
        float(max(0.0, stage.ledger.now().timestamp() - float(first[0][1]) / 1000))
        if first
        else 0.0
    )


def _own_mib(stage: Stage) -> tuple[float, int]:
    """The memory that each of our processes has for itself, and how many they are.

    Only what was written: pages of a file also become private when somebody else's process ends.
    """
    kib = count = 0
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            if os.getpgid(int(place.name)) in stage.fleet.groups:
                lines = (place / "smaps_rollup").read_text().splitlines()
                kib += sum(
                    int(line.split()[1]) for line in lines if line.startswith("Private_Dirty")
                )
                count += 1
    return kib / 1024, count


MANNERS = {"killed": signal.SIGKILL, "ended": signal.SIGTERM, "frozen": signal.SIGSTOP}


def fail_overs(run: Run, stage: Stage) -> None:
    """Takes the primary away, whichever server that is: kills, demotes, ends and freezes it. It
    comes back as a replica.
    """
    assert isinstance(stage.redis, WatchedRedis)
    took = []
    for what in ("killed", "demoted", "frozen", "ended", "killed"):
        run.ended.wait(2)
        with stage.fail_over(f"primary {what}") as port:
            if what == "demoted":
                stage.redis.demote(port)
            else:
                stage.redis.end(port, MANNERS[what])
        if what == "frozen":
            run.ended.wait(
                3
            )  # its connections stay open, and then it wakes up as the primary that it is no longer
            stage.redis.wake(port)
        elif what != "demoted":
            stage.redis.start_server(port)
        took.append(stage.down[-1][1] - stage.down[-1][0])
    run.notes.append(f"without a primary for {', '.join(f'{s:.1f}' for s in took)} s")


def rabbit_lost(run: Run, stage: Stage) -> None:
    """Kills RabbitMQ, stops it for a while, and kills it again."""
    for i in range(3):
        run.ended.wait(6)
        began = time.time()
        if i == 1:
            with stage.rabbit.still():
                time.sleep(run.size.hold_s)
        else:
            stage.rabbit.kill()
            time.sleep(2)
            stage.rabbit.start()
            stage.killed["rabbit"] += 1
        stage.down.append((began, time.time()))
    run.did.append(f"RabbitMQ still for {run.size.hold_s:g} s")
    run.notes.append(f"without RabbitMQ for {', '.join(f'{b - a:.1f}' for a, b in stage.down)} s")


def _play_out(run: Run, more_s: float = 0.0) -> None:
    """Waits: the bad days last as long as the load."""
    run.ended.wait(run.size.recordings / run.size.rate + 3 + more_s)
