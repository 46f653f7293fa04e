"""The checks of `endtape doctor`: each connection, each process, the settings in force, unfinished
work and refused requests.
"""

from __future__ import annotations

import json
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import click
import redis
import requests

from worker import in_force
from worker.archive import bucket, bucket_trials, signing_key
from worker.archive.places import Bucket, Place
from worker.calls.rules_file import gone
from worker.catalogue import board, live
from worker.catalogue.database import Catalogue
from worker.command.keys import of_service
from worker.command.run import is_loopback
from worker.command.terminal import (
    RULES_BROKEN,
    as_json_option,
    counted,
    exit_statuses,
    print_table,
    settings_and_problems,
    table_of,
    waiting,
)
from worker.duties import catalogue_trials
from worker.errors import CatalogueAway, EndtapeError
from worker.ledger import fitness, sentinel, sentinel_url
from worker.ledger.client import Ledger
from worker.ledger.counters import REMEDIES
from worker.ledger.presence import ROLES, SEEN_WITHIN
from worker.ledger.store import connect
from worker.processes.broker import RABBIT, try_rabbit
from worker.processes.composition import make_vobiz
from worker.settings import Settings
from worker.variables.table import NAMES
from worker.vobiz.account import Account
from worker.vobiz.client import Vobiz
from worker.vobiz.signature import sign

_BY_FILE = {"accounts", "config", "notify", "rules"}  # settings that the rules file makes


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """`state` is fine, warning or failed. `shown`: what a table shows in place of the detail, where
    that is nothing to be broken into lines.
    """

    name: str
    state: str
    detail: str
    shown: str | None = None

    @property
    def text(self) -> str:
        """What a table shows."""
        if self.state == "fine":
            return self.shown or self.detail
        return f"{self.state.upper()}: {self.detail}"


class Trouble(EndtapeError):
    """The result of a check that is not fine; `state` is warning or failed."""

    def __init__(self, detail: str, state: str = "failed") -> None:
        super().__init__(detail)
        self.state = state


@click.command(epilog="Example: endtape doctor --json")
@as_json_option
@exit_statuses
def doctor(as_json: bool) -> None:
    """Try each connection, and show the settings in force.

    They are those of the running service, where there is one.
    """
    settings, broken = settings_and_problems()
    ledger = Ledger(connect(settings.redis_url))
    with waiting("trying each connection ..."):
        found = list(checks(settings, ledger, broken))
    running = in_force.shown_by_the_service(ledger)
    shown = running or in_force.shown(settings)
    if as_json:
        view = {
            "checks": [{"name": c.name, "state": c.state, "detail": c.detail} for c in found],
            "settings": shown,
            "settings_of": "service" if running else "command",
        }
        click.echo(json.dumps(view, indent=2))
    else:
        of = "the running service" if running else "this command; no service runs"
        _print_pairs("check", [(check.name, check.text) for check in found])
        click.echo(f"The settings of {of}:\n")
        _print_pairs(
            "setting", sorted((NAMES.get(name, name), text) for name, text in shown.items())
        )
    sys.exit(1 if any(c.state == "failed" for c in found) else 0)


def _print_pairs(heading: str, pairs: list[tuple[str, str]]) -> None:
    table = table_of(heading, "")
    for pair in pairs:
        table.add_row(*pair)
    print_table(table)
    click.echo()


def checks(settings: Settings, ledger: Ledger, broken: Sequence[str] = ()) -> Iterator[Check]:
    """Runs every check, one after the other. No check changes anything. `broken`: what is wrong
    with the rules file; then the settings have no rules.
    """
    if broken:
        detail = "\n".join([RULES_BROKEN, *broken, "mend it, then `endtape reload`"])
        yield Check(name="rules file", state="failed", detail=detail)
    if settings.redis_url.startswith(sentinel_url.SCHEME):
        yield _tried("sentinels", lambda: f"the primary is {sentinel.primary(settings.redis_url)}")
    yield _tried("redis", lambda: _redis(ledger))
    try:
        for finding in fitness.findings(ledger.redis, allow_no_aof=settings.allow_no_aof):
            yield Check(name=f"redis {finding.name}", state=finding.state, detail=finding.detail)
    except EndtapeError:
        pass  # the check before reports that Redis does not answer
    if settings.broker_url != settings.redis_url:
        yield _tried("broker", lambda: _broker(settings.broker_url))
    yield _tried("processes", lambda: _processes(ledger))
    vobiz = make_vobiz(settings)
    yield _tried("provider's address", lambda: _address(settings.api_url))
    for account in settings.accounts.values():
        yield _tried(f"account {account.auth_id}", partial(_account, vobiz, account))
        yield _tried(f"callback {account.auth_id}", partial(_callback, settings, account))
    yield from _archive("ENDTAPE_ARCHIVE", settings.archive)
    if settings.fallback:
        yield from _archive("ENDTAPE_ARCHIVE_FALLBACK", settings.fallback)
    yield _tried("spool", lambda: _directory("ENDTAPE_SPOOL", settings.spool))
    yield _tried("catalogue", lambda: _catalogue(settings, ledger))
    key = _tried("signing key", lambda: _signing_key(settings, ledger))
    yield replace(key, shown=_fingerprint(ledger)) if key.state == "fine" else key
    yield _tried("settings", lambda: _settings(settings, ledger, is_broken=bool(broken)))
    yield _tried("unfinished work", lambda: _unfinished(settings, ledger))
    yield _tried("refused requests", lambda: _refusals(ledger))


def _tried(name: str, check: Callable[[], str]) -> Check:
    """The result of a check that returns its detail, or raises Trouble or an error of its
    connection.
    """
    try:
        return Check(name=name, state="fine", detail=check())
    except Trouble as trouble:
        return Check(name=name, state=trouble.state, detail=str(trouble))
    except (EndtapeError, redis.RedisError, requests.RequestException, OSError) as error:
        return Check(name=name, state="failed", detail=f"{type(error).__name__}: {error}"[:300])


def _settings(settings: Settings, ledger: Ledger, *, is_broken: bool) -> str:
    running, here = in_force.shown_by_the_service(ledger), in_force.shown(settings)
    differ = [
        f"{NAMES.get(name, name)} is {value} in the running service and {here.get(name)} here"
        for name, value in (running or {}).items()
        if here.get(name) != value and not (is_broken and name in _BY_FILE)
    ]
    before = None if settings.config or is_broken else ledger.had_rules(None)
    if before:
        raise Trouble("\n".join([gone(before), *settings.warnings]))
    advice = ["`endtape reload` tells which of them need a restart"] if differ else []
    if lines := [*settings.warnings, *differ, *advice]:
        raise Trouble("\n".join(lines), "warning")
    return "what is set is known" + (", and in force in the running service" if running else "")


def _redis(ledger: Ledger) -> str:
    first = ledger.prepare()
    owed = counted(ledger.outstanding(), "obligation")
    return f"answers; first used {first:%Y-%m-%d %H:%M} UTC; {owed}"


def _broker(url: str) -> str:
    if url.startswith(RABBIT):
        refusal = try_rabbit(url)
        if refusal:
            raise Trouble(refusal)
        return "RabbitMQ accepts name, password and virtual host"
    with connect(url, connections=2) as client:
        for finding in fitness.broker_findings(client):
            if finding.state is fitness.State.FAILED:
                raise Trouble(finding.detail)
    return "answers"


def _processes(ledger: Ledger) -> str:
    alive = ledger.alive(SEEN_WITHIN)
    missing = [role for role in ROLES if role not in alive]
    if missing:
        raise Trouble(
            f"not seen in the last 15 s: {', '.join(missing)}; start the Procfile's lines"
        )
    kinds = ", ".join(f"{role} {len(alive[role])}" for role in ROLES)
    return f"at least one of each kind was seen in the last 15 s: {kinds}"


def _address(api_url: str) -> str:
    if api_url.startswith("http://") and not is_loopback(api_url):
        raise Trouble(
            f"VOBIZ_API_URL {api_url}: id and token travel unencrypted; use https", "warning"
        )
    return api_url


def _account(vobiz: Vobiz, account: Account) -> str:
    works = vobiz.credentials_work(account)
    if works is None:
        raise Trouble("the provider's API does not answer; check VOBIZ_API_URL and the network")
    if not works:
        raise Trouble("the provider refuses id and token; check them in its console")
    return "the provider accepts id and token"


def _callback(settings: Settings, account: Account) -> str:
    """Sends the web process a signed callback of an event that it accepts and ignores."""
    path = f"/vobiz/{account.auth_id}/{settings.callback_token}/doctor"
    url, nonce = settings.public_url + path, str(secrets.randbelow(10**20)).zfill(20)
    shown = f"{settings.public_url}/vobiz/{account.auth_id}/…"
    with requests.Session() as http:
        http.trust_env = False
        try:
            answer = http.post(
                url,
                data={"Event": "EndtapeDoctor", "CallUUID": "endtape-doctor"},
                timeout=5,
                allow_redirects=False,
                headers=sign(url, account.tokens[0], nonce),
            )
        except requests.RequestException as error:  # its text holds the URL, and with it the token
            raise Trouble(
                f"{shown} cannot be reached ({type(error).__name__}); "
                "is `web` running, and the address right?"
            ) from None
    if answer.status_code != 200:
        raise Trouble(
            f"{shown} answered {answer.status_code}; "
            "is ENDTAPE_PUBLIC_URL what the proxy passes on, path unchanged?"
        )
    if is_loopback(settings.public_url) and not is_loopback(settings.api_url):
        raise Trouble(
            f"{shown} works here, but nothing can arrive from outside at a loopback address",
            "warning",
        )
    return f"a signed callback through {shown} was accepted"


def _archive(variable: str, place: Place) -> Iterator[Check]:
    if isinstance(place, Bucket):
        for trial in bucket_trials.prove(bucket.store_at(place)):
            yield Check(name=trial.name, state=trial.state, detail=trial.detail)
    else:
        yield _tried("archive", lambda: _directory(variable, place))


def _directory(variable: str, place: Path) -> str:
    probe = place / f".endtape-doctor.{secrets.token_hex(4)}"
    try:
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise Trouble(
            f"{variable} = {str(place)!r}: cannot be written ({error.strerror}); mount it, "
            "give this user the right to write there, or name another directory"
        ) from None
    return f"{place} can be written; {shutil.disk_usage(place).free / 1e9:.1f} GB free"


def _catalogue(settings: Settings, ledger: Ledger) -> str:
    catalogue = Catalogue(settings.catalog)
    try:
        catalogue.try_it()
    except CatalogueAway as error:
        raise Trouble(
            f"ENDTAPE_CATALOG: {error}; stops and downloads go on, and what is finished "
            "meanwhile is entered when it answers again"
        ) from None
    if why := catalogue_trials.unfit(catalogue, ledger):
        raise Trouble(why, "warning")
    return f"can be written; {counted(catalogue.count(), 'finished recording')}"


def _signing_key(settings: Settings, ledger: Ledger) -> str:
    own, known = signing_key.load(settings.signing_key), of_service(ledger)
    if not known:
        raise Trouble("none yet: the first worker of `fetches` makes one", "warning")
    lines = "\n".join(signer.line for signer in known)
    if own and own.public != known[0].key:
        raise Trouble(
            f"this machine has {own.public.fingerprint}, and the key announced last is "
            f"{known[0].key.fingerprint}: all machines share one key\n{lines}",
            "warning",
        )
    return lines


def _fingerprint(ledger: Ledger) -> str:
    now, *before = of_service(ledger)
    more = f" and {len(before)} from before" if before else ""
    return f"{now.key.fingerprint}\nsigns as {now.signer}; `endtape keys` prints it{more}"


def _unfinished(settings: Settings, ledger: Ledger) -> str:
    unfinished, aside = ledger.unfinished(), ledger.set_aside()
    lines = list[str]()
    if unfinished:
        lines.append(
            "begun and never finished; the workers' log says why, "
            "and `endtape reload` gives another try:"
        )
    lines += [
        f"{obligation}: {counted(tries, 'try', 'tries')}"
        + (", set aside" if obligation in aside else "")
        for obligation, tries in unfinished.items()
    ]
    now = board.compute(ledger, live.Live(ledger, lambda: settings.rules), list(settings.accounts))
    if now.failing:
        many = counted(len(now.failing), "recording ended and does", "recordings ended and do")
        lines.append(f"{many} not come home: `endtape ls --failing` says why")
    if lines:
        raise Trouble("\n".join(lines), "warning")
    return "none"


def _refusals(ledger: Ledger) -> str:
    refusals, last = ledger.refusals(), ledger.last_refusals()
    if not refusals:
        return "none in the last hour"
    lines = ["in the last hour:"]
    for reason, count in sorted(refusals.items()):
        lines.append(f"{count} × {reason}: {REMEDIES.get(reason, '')}")
        if told := last.get(reason):
            where = f", {told.where}" if told.where else ""
            lines.append(f"  the last at {told.at:%H:%M:%S} UTC{where}")
    raise Trouble("\n".join(lines), "warning")
