"""`endtape run`: runs every process until Ctrl-C, with a Redis of its own if none is named, and
with the emulator if there is no account.

While it runs, `data/run.env` tells the other commands of this folder where its Redis and its
emulator are.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import secrets
import signal
import socket
import stat
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from emulator.client import started
from worker.command import event_lines
from worker.command.run_env import DATA, shared_with_commands
from worker.command.terminal import exit_statuses
from worker.errors import LedgerUnavailable, SettingsError
from worker.ledger import fitness
from worker.ledger.client import Ledger
from worker.ledger.event_stream import EventStream
from worker.ledger.store import connect
from worker.processes.embedded_redis import EmbeddedRedis
from worker.processes.supervisor import Supervisor
from worker.settings import Settings
from worker.variables.dotenv_file import environment

ACCOUNT, TOKEN = "MA_EMULATOR", "emulator-auth-token"
_OURS = ("ENDTAPE_CALLBACK_TOKEN", "ENDTAPE_API_KEY")  # the secrets that are ours to make


@click.command("run", epilog="Example: endtape run")
@exit_statuses
def run_command() -> None:
    """Run the service until Ctrl-C.

    With VOBIZ_AUTH_ID and VOBIZ_AUTH_TOKEN the real account, else the emulator. Prints a line for
    each event.
    """
    run()


def run() -> None:
    """Runs until SIGINT or SIGTERM. Raises SettingsError or EndtapeError when it cannot start."""
    done, at_once = threading.Event(), threading.Event()

    def end(*_: object) -> None:
        (at_once if done.is_set() else done).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    add_secrets(Path(".env"))
    given = environment(Path.cwd())
    # One of them alone is a mistake, which the settings name.
    real = bool(given.get("VOBIZ_AUTH_ID") or given.get("VOBIZ_AUTH_TOKEN"))
    _check(given, real=real)
    with contextlib.ExitStack() as open_things:
        open_things.enter_context(_alone())
        env: dict[str, str] = {}
        server: EmbeddedRedis | None = None
        if not given.get("REDIS_URL"):
            server = open_things.enter_context(EmbeddedRedis(DATA / "redis"))
            env["REDIS_URL"] = server.url
        if not real:
            env |= open_things.enter_context(_emulator(given))
        settings = Settings.from_env({**os.environ, **env})
        for warning in settings.warnings:
            click.echo(f"Warning: {warning}", err=True)
        _check_redis(settings)
        open_things.enter_context(shared_with_commands(env, settings))
        supervisor = Supervisor(
            env,
            DATA / "endtape.log",
            folder=Path.cwd(),
            each_turn=server.start_again if server else None,
            in_a_hurry=at_once.is_set,
        )
        _serve(open_things.enter_context(supervisor), settings, done, real=real)


def _serve(processes: Supervisor, settings: Settings, done: threading.Event, *, real: bool) -> None:
    """Waits until the processes are ready, prints where they are and then each event, until
    `done`.
    """
    base = settings.local_url
    processes.wait_ready(base, given_up=done.is_set)
    if not done.is_set():
        _greet(settings, base, real=real)
        _tell_events(settings, done)
    done.wait()
    click.echo("Ending: what is under way is finished, or goes on at the next start (Ctrl-C: now)")


def _tell_events(settings: Settings, done: threading.Event) -> None:
    """Prints a line for each event until `done`."""
    ledger = Ledger(connect(settings.redis_url, connections=4))
    stream = EventStream(ledger, list(settings.accounts), ended=done)
    while not done.is_set():
        try:
            for account, event in stream.events():
                event_lines.say(account, event)
        except LedgerUnavailable:
            done.wait(1)
        except OSError:  # nobody reads our output any more; the service goes on
            return


def _check_redis(settings: Settings) -> None:
    """Raises SettingsError for a server that is unfit; one that does not answer is waited for."""
    try:
        fitness.check(
            settings.redis_url,
            settings.broker_url,
            allow_no_aof=settings.allow_no_aof,
            rules_file=settings.config.name if settings.config else None,
        )
    except LedgerUnavailable as error:
        click.echo(f"Redis does not answer; the processes wait for it. See REDIS_URL ({error})")


def _check(given: Mapping[str, str], *, real: bool) -> None:
    """Raises SettingsError for what is wrong before anything is started."""
    stand_in = {} if real else {"VOBIZ_AUTH_ID": ACCOUNT, "VOBIZ_AUTH_TOKEN": TOKEN}
    redis_url = {} if given.get("REDIS_URL") else {"REDIS_URL": "unix:///unknown-yet"}
    settings = Settings.from_env({**os.environ, **stand_in, **redis_url})
    with socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                raise SettingsError(
                    [
                        f"HOST = {settings.host!r}: is no address of this machine "
                        f"({error.strerror}); use 127.0.0.1, 0.0.0.0 or one of its own"
                    ]
                ) from None
            with _alone():  # raises where another `endtape run` of this folder has the port
                pass
            raise SettingsError(
                [
                    f"PORT = {settings.port}: cannot be served on {settings.host} "
                    f"({error.strerror}); end what uses it or choose another"
                ]
            ) from None


def _greet(settings: Settings, base: str, *, real: bool) -> None:
    if real:
        click.echo(f"Running with the account {next(iter(settings.accounts))}.")
    else:
        click.echo(
            "No VOBIZ_AUTH_ID and VOBIZ_AUTH_TOKEN: "
            "this runs against the EMULATOR, not the provider."
        )
    if not settings.rules.from_file:
        click.echo(
            "No rules file: mode `observe`, nothing is stopped. Write endtape.toml to change that."
        )
    if real and is_loopback(settings.public_url):
        click.echo(
            f"ENDTAPE_PUBLIC_URL is {settings.public_url}: nothing can arrive from the provider.\n"
            "  Set it to the https address under which this machine is reached."
        )
    for account in settings.accounts:
        click.echo(f"Callback URL: {settings.public_url}/vobiz/{account}/{settings.callback_token}")
    click.echo(f"Console: {base}/   (log in with ENDTAPE_API_KEY)")
    click.echo(
        f"API: {base}/v1 with `Authorization: Bearer` and ENDTAPE_API_KEY\n"
        f"Log: {DATA / 'endtape.log'}   (Ctrl-C ends)"
    )


def is_loopback(url: str) -> bool:
    return any(f"//{host}" in url for host in ("127.", "localhost", "[::1]"))


@contextlib.contextmanager
def _emulator(given: Mapping[str, str]) -> Iterator[dict[str, str]]:
    token = given.get("ENDTAPE_CALLBACK_TOKEN")
    callback = f"http://127.0.0.1:{given.get('PORT') or '8000'}/vobiz/{ACCOUNT}/{token}"
    with started(ACCOUNT, TOKEN, callback) as where:
        click.echo(f"Emulator's control API: {where.control_url}  (docs/emulator.md)")
        yield {
            "VOBIZ_AUTH_ID": ACCOUNT,
            "VOBIZ_AUTH_TOKEN": TOKEN,
            "VOBIZ_API_URL": where.api_url,
            "VOBIZ_MEDIA_HOSTS": where.media_host,
        }


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Raises SettingsError while another `endtape run` runs in this folder: both would keep their
    data in one place.
    """
    DATA.mkdir(exist_ok=True)
    with (DATA / "run.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError(
                [
                    f"another `endtape run` is at work in this folder ({Path.cwd()}); "
                    "end it, or run in another"
                ]
            ) from None
        yield


def add_secrets(place: Path) -> None:
    """Adds every secret of ours that is set nowhere to the `.env` at `place`, and prints their
    names. Raises SettingsError where the file cannot be written.
    """
    if not _missing(place.parent):
        return
    try:
        # Not beside and renamed: the file may be a link, or mounted into a container.
        with os.fdopen(
            os.open(place, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK, 0o600),
            "r+b",
            buffering=0,
        ) as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # another `endtape run` may be at it
            added = _added(file, place)
    except OSError as error:
        raise SettingsError(
            [
                f"{place} cannot be written ({error.strerror}), so these must be added to it by "
                f"hand, or to the environment: {', '.join(_missing(place.parent))}, "
                "each with 16 or more random characters of A-Z a-z 0-9"
            ]
        ) from None
    if added:
        click.echo(
            f"Added generated secrets to {place}, which only you can read: {', '.join(added)}"
        )


def _added(file: io.FileIO, place: Path) -> list[str]:
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        raise OSError(0, "it is no plain file")
    names, before = _missing(place.parent), file.read()
    end = b"\r\n" if b"\r\n" in before else b"\n"
    more = b"" if before.endswith(b"\n") or not before else end
    more += b"".join(f"{name}={secrets.token_urlsafe(24)}".encode() + end for name in names)
    if names:
        os.fchmod(file.fileno(), 0o600)  # before there is anything new to read
        file.write(more)
        os.fsync(file.fileno())
    return names


def _missing(folder: Path) -> list[str]:
    given = environment(folder)
    return [name for name in _OURS if name not in given]
