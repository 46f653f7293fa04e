"""A Redis that three Sentinels watch: a primary and two replicas, in one folder, on loopback."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from pathlib import Path
from urllib.parse import quote

import redis

from worker.errors import EndtapeError
from worker.ledger import sentinel
from worker.processes.embedded_redis import find_server
from worker.processes.supervisor import free_port

DOWN_AFTER_S = 2.0
_NAME, _EACH = "endtape", 3
_GIVES_UP_S = 8.0  # by then Sentinels have replaced the primary, or given up (failover-timeout)
_USUAL_MS = {"info-period": 10_000, "publish-period": 2000}  # how often Sentinels ask and tell
_SOON_MS = {"info-period": 300, "publish-period": 300}
_SERVER = """\
bind 127.0.0.1
appendonly yes
appendfsync always
maxmemory-policy noeviction
save ""
repl-diskless-sync-delay 0
min-replicas-to-write 1
"""
_SENTINEL = f"""\
bind 127.0.0.1
sentinel monitor {_NAME} 127.0.0.1 PRIMARY 2
sentinel down-after-milliseconds {_NAME} {DOWN_AFTER_S * 1000:.0f}
sentinel failover-timeout {_NAME} 3000
"""


class WatchedRedis:
    """Three servers and three Sentinels. `start` returns when the Sentinels know each other and
    both replicas follow.
    """

    def __init__(self, folder: Path, *, password: str = "", hurried: bool = False) -> None:
        """`hurried`: the Sentinels poll more often than usual while we only wait for them
        to agree.
        """
        self.folder, self.password, self._hurried = folder.resolve(), password, hurried
        self.socket = self.folder / "none"  # no Unix socket: replicas are reached by port
        self.ports, self.sentinels = ([free_port() for _ in range(_EACH)] for _ in range(2))
        login = f":{quote(password, safe='')}@" if password else ""
        self.url = (
            f"sentinel://{login}{','.join(f'127.0.0.1:{port}' for port in self.sentinels)}/{_NAME}"
        )
        self.processes: dict[int, subprocess.Popen[bytes]] = {}  # by port

    def start(self, *, within_s: float = 30) -> None:
        """Starts all six. Raises TimeoutError."""
        secret = (
            f"requirepass {self.password}\nmasterauth {self.password}\n" if self.password else ""
        )
        for i, port in enumerate(self.ports):
            follows = f"replicaof 127.0.0.1 {self.ports[0]}\n" if i else ""
            self._configure(port, _SERVER + secret + follows)
            self.start_server(port)
        secret = f"sentinel auth-pass {_NAME} {self.password}\n" if self.password else ""
        for port in self.sentinels:
            self._configure(port, _SENTINEL.replace("PRIMARY", str(self.ports[0])) + secret)
            self.start_server(port, "--sentinel")
        self.whole(within_s=within_s)

    def _configure(self, port: int, text: str) -> None:
        place = self.folder / str(port)
        place.mkdir(parents=True)
        (place / "redis.conf").write_text(
            f"port {port}\ndir {place}\nlogfile {place / 'log'}\n{text}"
        )

    def start_server(self, port: int, *more: str) -> None:
        """Starts a server or a Sentinel. The Sentinels decide what a server is that was killed
        before.
        """
        self.processes[port] = subprocess.Popen(
            [str(find_server()), str(self.folder / str(port) / "redis.conf"), *more],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def client(self, port: int) -> redis.Redis:
        return redis.Redis(
            port=port,
            password=None if port in self.sentinels else self.password or None,
            socket_timeout=1,
            decode_responses=True,
        )

    def primary(self) -> int | None:
        """The port of the primary as most Sentinels know it; None while there is none."""
        try:
            return int(sentinel.primary(self.url).rpartition(":")[2])
        except EndtapeError:
            return None

    def whole(self, *, within_s: float = 40) -> int:
        """Waits until all three Sentinels know two replicas that follow the primary; returns its
        port. Raises TimeoutError.
        """
        limit = time.monotonic() + within_s
        self._hurry(_SOON_MS)
        try:
            while time.monotonic() < limit:
                port = self.primary()
                try:
                    if port and self._follow(port):
                        return port
                except redis.RedisError:
                    pass
                time.sleep(0.1)
        finally:
            self._hurry(_USUAL_MS)
        raise TimeoutError(f"the Sentinels did not agree within {within_s:g} s; see {self.folder}")

    def _hurry(self, often: dict[str, int]) -> None:
        # Never during a fail-over: that takes the time that it takes.
        for place in self.sentinels if self._hurried else ():
            with (
                contextlib.suppress(redis.RedisError),
                self.client(place) as client,
            ):  # one that is older, or down
                client.execute_command(
                    "SENTINEL", "DEBUG", *(word for pair in often.items() for word in pair)
                )

    def _follow(self, port: int) -> bool:
        with self.client(port) as client:
            told = client.info("replication")
        healthy = (
            told["role"] == "master"
            and sum(told.get(f"slave{i}", {}).get("state") == "online" for i in range(_EACH))
            == _EACH - 1
        )
        for place in self.sentinels:
            with self.client(place) as client:
                seen = client.sentinel_masters()[_NAME]
            healthy = (
                healthy
                and seen["port"] == port
                and seen["num-other-sentinels"] == _EACH - 1
                and seen["num-slaves"] == _EACH - 1
            )
        return bool(healthy)

    def end(self, port: int, number: int = signal.SIGKILL) -> None:
        """Signals a server or a Sentinel. SIGTERM lets it wait for its replicas first; SIGSTOP
        freezes it.
        """
        self.processes[port].send_signal(number)
        if number != signal.SIGSTOP:
            self.processes[port].wait(15)

    def wake(self, port: int) -> None:
        self.processes[port].send_signal(signal.SIGCONT)

    def demote(self, port: int, *, within_s: float = 45) -> None:
        """Makes the Sentinels choose another primary although this one is healthy.

        On a busy machine they may begin and give up, because a replica answers them too late. So
        they are asked again until another one is the primary. Raises TimeoutError.
        """
        limit = time.monotonic() + within_s
        while time.monotonic() < limit:
            # The old primary accepts writes until both replicas follow the new one; they would be
            # lost.
            with contextlib.suppress(redis.RedisError), self.client(port) as client:
                client.execute_command("CLIENT", "PAUSE", 3000, "WRITE")
            with contextlib.suppress(redis.ResponseError), self.client(self.sentinels[0]) as client:
                client.execute_command("SENTINEL", "FAILOVER", _NAME)
            asked = time.monotonic()
            while time.monotonic() < asked + _GIVES_UP_S:
                if self.primary() not in {None, port}:
                    return
                time.sleep(0.05)
        raise TimeoutError(f"the Sentinels kept {port}; see {self.folder}")

    def stop(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()

    kill = stop
