"""Two machines against one Redis, and what happens between them: links that are cut, half cut, or
bad, and a machine without power.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import requests

from faults.cable import TUN, Cable
from faults.machine import WEB_PORT, Machine
from faults.performance import Run
from faults.proxy import Proxy
from faults.stage import Stage
from worker.processes.supervisor import free_port, process_commands

CUT_S, WEAK_S, DARK_S, BACK_S = 15.0, 6.0, 10.0, 30.0
DELAY_S, LOSS = 0.2, 0.2
_NAMES = ("alder", "birch")
_USER, _PASSWORD = "machines", "faults-redis-password"


def missing() -> str:
    """What this machine lacks for the run; empty when nothing."""
    if os.geteuid() != 0 or not Path("/proc/self/ns/net").exists():
        return "network namespaces need root on Linux"
    programs = [name for name in ("ip", "unshare", "nsenter") if shutil.which(name) is None]
    if programs:
        return f"needs {', '.join(programs)} (packages iproute2 and util-linux)"
    return "" if Path(TUN).exists() else f"needs {TUN}, which carries the cables"


class Machines(Stage):
    """A stage of two machines. Each has its own network, host name and process numbers, and one of
    each process. Redis, provider and door are outside.
    """

    def _webs(self) -> list[tuple[str, int]]:
        # Devices and networks are named after our pid, so runs at the same time do not collide.
        pid, self.machines = os.getpid(), dict[str, Machine]()
        for i, name in enumerate(_NAMES):
            net = f"10.{100 + pid // 256 % 128}.{pid % 256}"
            cable = self._stack.enter_context(
                Cable(
                    f"ef{pid}{name[0]}",
                    f"{net}.{4 * i + 1}",
                    f"{net}.{4 * i + 2}",
                    seed=self.plan.seed + i,
                )
            )
            self.machines[name] = Machine(name, cable, self.folder / name)
            self._stack.callback(self.machines[name].power_off)
        self.redis_port = free_port()
        for words in (
            ("ACL", "SETUSER", _USER, "on", f">{_PASSWORD}", "~*", "&*", "+@all"),
            ("CONFIG", "SET", "protected-mode", "no"),
            ("CONFIG", "SET", "bind", " ".join(m.cable.ours for m in self.machines.values())),
            ("CONFIG", "SET", "port", self.redis_port),
        ):
            self.ledger.command(*words)
        return [(machine.cable.theirs, WEB_PORT) for machine in self.machines.values()]

    def _start(self, env: dict[str, str]) -> None:
        self.env = env
        api = urlsplit(self.emulator.api_url)
        media = int(self.emulator.media_host.partition(":")[2])
        # Media over plain http must come from a loopback address, so each machine has a relay on
        # its own.
        self.relays = {
            machine: {
                port: self._stack.enter_context(
                    Proxy([("127.0.0.1", port)], at=(machine.cable.ours, 0))
                ).port
                for port in (api.port, media)
                if port
            }
            for machine in self.machines.values()
        }
        self.apis = {
            machine: f"http://{machine.cable.ours}:{ports[api.port or 0]}{api.path}"
            for machine, ports in self.relays.items()
        }
        for machine in self.machines.values():
            self.boot(machine)
        limit = time.monotonic() + 60
        while not self._ready():
            if time.monotonic() > limit:
                raise RuntimeError(f"the machines are not ready after 60 s: {self._seen()}")
            time.sleep(0.2)

    def boot(self, machine: Machine) -> None:
        machine.boot(
            self.env
            | {
                "REDIS_URL": f"redis://{_USER}:{_PASSWORD}@{machine.cable.ours}:{self.redis_port}/0",
                "HOST": machine.cable.theirs,
                "PORT": str(WEB_PORT),
                "VOBIZ_API_URL": self.apis[machine],
                "ENDTAPE_SPOOL": str(machine.spool),
            },
            self.relays[machine],
        )
        machine.cable.mend()

    def _ready(self) -> bool:
        alive = self.ledger.alive(timedelta(seconds=15))
        return all(
            len(alive.get(role, [])) >= len(_NAMES)
            for role in ("clock", "slots.stops", "slots.fetches", "slots.keep")
        ) and all(map(_answers, self.machines.values()))

    def worked(self, machine: Machine, since: float) -> bool:
        """Whether a worker of each queue on this machine has taken a message since then."""
        roles = {
            role
            for (role, host), at in self._seen().items()
            if host == machine.name and at >= since
        }
        return {"stops", "fetches", "keep"} <= roles

    def _seen(self) -> dict[tuple[str, str], float]:
        """By role and host: when a process was last at work."""
        newest = dict[tuple[str, str], float]()
        words = self.ledger.command("HGETALL", self.ledger.key("seen"))
        for name, value in (
            words.items() if isinstance(words, dict) else zip(words[::2], words[1::2], strict=True)
        ):
            role, _, process = name.partition("|")
            key = (role, process.rpartition(":")[0])
            newest[key] = max(newest.get(key, 0.0), int(value.partition("|")[0]) / 1000)
        return newest


def apart(run: Run, stage: Stage) -> None:
    """Cuts a link, cuts it in one direction, makes it bad; then takes a machine's power. The other
    machine carries on each time.
    """
    assert isinstance(stage, Machines)
    machines = list(stage.machines.values())
    run.notes.append(f"{len(process_commands())} processes on each of {len(machines)} machines")
    for did, harm, lasts_s in (
        ("link down", lambda m: m.cable.cut(), CUT_S),
        ("link down from the machine only", lambda m: m.cable.cut(there=False), CUT_S),
        (
            f"{DELAY_S * 1000:.0f} ms and {LOSS * 100:.0f} % loss each way",
            lambda m: m.cable.weak(delay_s=DELAY_S, loss=LOSS),
            WEAK_S,
        ),
        ("without power", Machine.power_off, DARK_S),
    ):
        run.ended.wait(stage.chance.uniform(1, 2))
        _strike(run, stage, stage.chance.choice(machines), did, harm, lasts_s)


def _strike(
    run: Run,
    stage: Machines,
    machine: Machine,
    did: str,
    harm: Callable[[Machine], None],
    lasts_s: float,
) -> None:
    began = time.time()
    harm(machine)
    run.ended.wait(lasts_s)
    if machine.process is None:
        stage.killed["machine"] += 1
        stage.boot(machine)
    machine.cable.mend()
    mended = time.time()
    while not stage.worked(machine, mended):
        if time.time() > mended + BACK_S:
            run.broken.append(f"{machine.name}: no message taken within {BACK_S:g} s after {did}")
            return
        time.sleep(0.1)
    run.did.append(
        f"{machine.name} {did} for {mended - began:.0f} s, at work again "
        f"{time.time() - mended:.1f} s after"
    )


def _answers(machine: Machine) -> bool:
    try:
        with requests.Session() as session:
            session.trust_env = False
            return session.get(f"http://{machine.cable.theirs}:{WEB_PORT}/healthz", timeout=2).ok
    except requests.RequestException:
        return False
