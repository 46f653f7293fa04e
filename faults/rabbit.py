"""A RabbitMQ node in one folder: with its own ports, cookie, data and name server, on loopback
only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from worker.processes.broker import try_rabbit
from worker.processes.supervisor import free_port

SERVER = Path(
    "/usr/lib/rabbitmq/bin/rabbitmq-server"
)  # the one on the PATH wants to be root and changes the user
EPMD = Path("/usr/bin/epmd")


def missing() -> str:
    """What this machine lacks for it; empty when nothing."""
    return (
        ""
        if SERVER.exists() and EPMD.exists()
        else "needs rabbitmq-server (of Debian or Ubuntu: apt-get install rabbitmq-server)"
    )


class Rabbit:
    """Use `stop` to end it and all that it started. `kill` loses messages, not queues."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.port, self._names_port = free_port(), free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"
        config = folder / "rabbitmq.conf"
        config.write_text(f"listeners.tcp.1 = 127.0.0.1:{self.port}\n")
        (folder / "plugins").write_text("[].")
        self._log = folder / "out.log"
        self._env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("RABBITMQ_", "ERL_"))
        } | {
            "HOME": str(folder),
            "RABBITMQ_NODENAME": f"endtape-{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(config),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "ERL_EPMD_PORT": str(self._names_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RUNNING_UNDER_SYSTEMD": "1",
        }  # the script becomes the server: what is struck is the server itself
        self.process: subprocess.Popen[bytes] | None = None
        self._names: subprocess.Popen[bytes] | None = None

    def start(self, *, within_s: float = 60) -> None:
        """Starts it. Returns when it accepts connections; raises TimeoutError."""
        if self._names is None:
            self._names = self._run(
                [str(EPMD), "-port", str(self._names_port), "-address", "127.0.0.1"]
            )
        self.process = self._run([str(SERVER)])
        limit = time.monotonic() + within_s
        while time.monotonic() < limit and self.process.poll() is None:
            try:
                if try_rabbit(self.url) is None:
                    return
            except OSError:
                pass
            time.sleep(0.1)
        raise TimeoutError(
            f"RabbitMQ did not start: {self._log.read_text(errors='replace')[-500:]}"
        )

    def _run(self, command: list[str]) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                command,
                env=self._env,
                cwd=self._env["HOME"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> None:
        """Kills it as a crash would, with all that it started."""
        if self.process:
            _kill(self.process)

    @contextlib.contextmanager
    def still(self) -> Iterator[None]:
        """Stops it with SIGSTOP for a while: connections stay open, nothing is answered."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.process.pid, signal.SIGCONT)

    def stop(self) -> None:
        for process in (self.process, self._names):
            if process:
                _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
