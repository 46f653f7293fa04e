"""`endtape verify`: re-reads an archive and names what is wrong with it.

A run that was interrupted goes on where it was, by a small file in the user's folder for state.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import click

from worker.archive import bucket, filing, places, signers
from worker.archive.places import Bucket, Place
from worker.archive.signers import AllowedSigner
from worker.archive.verify import READERS, Finding, Report, Trust
from worker.archive.verify_all import WholeArchive, place_of
from worker.archive.verify_days import Head
from worker.command.keys import of_service
from worker.command.terminal import (
    Advance,
    as_json_option,
    counted,
    current_settings,
    exit_statuses,
    open_ledger,
    print_lines,
    progress_bar,
)
from worker.errors import SettingsError
from worker.variables.dotenv_file import environment
from worker.variables.kinds import Options as OptionPairs
from worker.variables.kinds import Unaccepted

_SAVE_EVERY_S = 1.0
_KEPT_S = 7 * 86_400.0  # an older run begins anew


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What to verify. `place`: the archive; `signers`: the trusted keys; `heads`: by account, a
    closed day that is known from elsewhere.
    """

    place: Place
    signers: list[AllowedSigner]
    heads: Mapping[str, Head]
    quick: bool

    @property
    def name(self) -> str:
        """A name for runs over the same archive, with the same keys, in the same way."""
        place = self.place
        root = place.resolve() if isinstance(place, Path) else place
        words = [str(root), str(self.quick), signers.written(self.signers), str(self.heads)]
        return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]


@click.command(epilog="Example: endtape verify --quick")
@click.argument("archive", required=False)
@click.option("--quick", is_flag=True, help="Compare sizes instead of reading the audio.")
@click.option(
    "--signers",
    "signers_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The trusted keys, an `allowed_signers` file; else those of the service.",
)
@click.option(
    "--head",
    "heads",
    multiple=True,
    metavar="ACCOUNT/DAY=SHA256",
    help="The digest of a closed day as you know it from elsewhere; else the service's last one.",
)
@click.option("--anew", is_flag=True, help="Begin anew instead of going on where a run ended.")
@as_json_option
@exit_statuses
def verify(
    archive: str | None,
    quick: bool,
    signers_file: Path | None,
    heads: tuple[str, ...],
    anew: bool,
    as_json: bool,
) -> None:
    """Read an archive again, and name what is wrong in it.

    ARCHIVE is a directory or a bucket; without it, that of the settings. Exit status 1 where
    anything is wrong.
    """
    place = _place(archive) if archive else current_settings(without_rules=True).archive
    if isinstance(place, Path) and not place.is_dir():
        raise SettingsError([f"{place}: there is no such directory"])
    if isinstance(place, Path) and _is_within(place):
        raise SettingsError(
            [f"{place}: is a part of an archive, which is {place.resolve().parent}; verify that"]
        )
    known = dict(map(_head, heads))
    if signers_file:
        trusted = _read_signers(signers_file)
    else:
        trusted, last = _of_service()
        known = known or ({} if archive else last)
    options = Options(place=place, signers=trusted, heads=known, quick=quick)
    with progress_bar("folders ...") as advance:
        report = _run(options, _Saved.load(options, anew=anew), advance)
    _print(options, report, as_json=as_json)
    sys.exit(1 if report.findings else 0)


def _is_within(place: Path) -> bool:
    """Whether a directory is that of one account: the keys that signed lie beside it."""
    beside = place.resolve().parent / filing.SIGNERS
    return beside.is_dir() and not (place / filing.SIGNERS).is_dir()


def _place(text: str) -> Place:
    """The place that the argument names. A bucket's client is set up as the settings say."""
    variables = environment(Path.cwd())
    try:
        place = places.parse(text)
        if isinstance(place, Bucket):
            options = OptionPairs().read(variables.get("ENDTAPE_ARCHIVE_OPTIONS", ""))
            place = places.with_client(place, variables, options)
            bucket.store_at(place)
    except (ValueError, Unaccepted) as error:
        raise SettingsError([f"{text[:120]}: {error}"]) from None
    return place


def _read_signers(file: Path) -> list[AllowedSigner]:
    try:
        found = signers.read(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError([f"--signers {file}: {error}"]) from None
    if not found:
        raise SettingsError([f"--signers {file}: it names no key"])
    return found


def _head(text: str) -> tuple[str, Head]:
    """The account and the closed day that an option names."""
    account, _, rest = text.partition("/")
    day, _, sha256 = rest.partition("=")
    try:
        return account, Head(day=date.fromisoformat(day), sha256=bytes.fromhex(sha256).hex())
    except ValueError:
        raise click.BadParameter(
            f"{text[:120]!r} is no ACCOUNT/YYYY-MM-DD=SHA256", param_hint="--head"
        ) from None


def _of_service() -> tuple[list[AllowedSigner], dict[str, Head]]:
    """The keys that the service knows, and the last day that it closed of each account. The
    archive's own copy is not trusted alone.
    """
    settings, ledger = open_ledger(rules_needed=False)
    found = of_service(ledger)
    if not found:
        raise SettingsError(
            ["No key has signed in this service yet; --signers FILE names those to trust"]
        )
    closed = {account: ledger.closed_day(account) for account in settings.accounts}
    heads = {a: Head(day=c.day, sha256=c.sha256) for a, c in closed.items() if c}
    return found, heads


# The run, and where it is
# ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Saved:
    """A run so far: the unit that was checked last, and the report up to there."""

    place: Path | None  # None where nothing can be saved
    last: str = ""
    report: Report = field(default_factory=Report)
    _saved_at: float = 0.0

    @classmethod
    def load(cls, options: Options, *, anew: bool) -> _Saved:
        """The run that was interrupted, else a new one."""
        base = os.environ.get("XDG_STATE_HOME") or Path("~/.local/state").expanduser()
        place = Path(base) / "endtape" / f"verify-{options.name}.json"
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            age_s = time.time() - place.stat().st_mtime
            if not anew and age_s < _KEPT_S:
                found = json.loads(place.read_text())
                report = Report(findings=[Finding(**one) for one in found["findings"]])
                report.counts.update(found["counts"])
                click.echo(
                    f"Goes on after {found['last']}, where a run ended "
                    f"{counted(round(age_s / 60), 'minute')} ago (--anew begins anew).",
                    err=True,
                )
                return cls(place, str(found["last"]), report)
        return cls(place)

    def went_on(self, unit: str, part: Report) -> None:
        self.report.take(part)
        self.last = unit
        if time.monotonic() - self._saved_at > _SAVE_EVERY_S:
            self.save()

    def save(self) -> None:
        """Where nothing can be saved, the next run begins anew."""
        self._saved_at = time.monotonic()
        if self.place is None or not self.last:
            return
        with contextlib.suppress(OSError):
            self.place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            beside = self.place.with_name(f".{self.place.name}.{secrets.token_hex(4)}")
            beside.write_text(json.dumps({"last": self.last, **_view(self.report)}))
            beside.replace(self.place)

    def forget(self) -> None:
        if self.place:
            with contextlib.suppress(OSError):
                self.place.unlink()


def _run(options: Options, saved: _Saved, advance: Advance) -> Report:
    """The report of the whole archive."""
    whole = WholeArchive(
        filing.reading(options.place),
        Trust(options.signers),
        quick=options.quick,
        heads=options.heads,
    )
    outside = Report()  # of what lies in no unit
    units = whole.units(outside)
    with (
        _interruptible(saved),
        ThreadPoolExecutor(READERS[isinstance(options.place, Bucket)]) as readers,
    ):
        for number, unit in enumerate(units, 1):
            if place_of(unit) > place_of(saved.last):
                saved.went_on(unit, whole.check(unit, readers))
            counts = saved.report.counts
            found = counted(len(saved.report.findings), "finding")
            read = f"{counted(counts['receipts'], 'receipt')}, {found}; folders"
            advance(number, len(units), read)
    saved.forget()
    outside.take(saved.report)
    return outside


@contextlib.contextmanager
def _interruptible(saved: _Saved) -> Iterator[None]:
    try:
        yield
    except BaseException:
        saved.save()
        raise


# Output
# ------------------------------------------------------------------------------------------------


def _view(report: Report) -> dict[str, Any]:
    return {
        "counts": dict(sorted(report.counts.items())),
        "findings": [asdict(finding) for finding in report.findings],
    }


def _print(options: Options, report: Report, *, as_json: bool) -> None:
    if as_json:
        view = {"archive": str(options.place), "quick": options.quick, **_view(report)}
        click.echo(json.dumps(view, indent=2))
        return
    for finding in report.findings:  # a line each, so that a path can be copied
        print_lines(f"{finding.what:15}  {finding.path!r:.400}  {finding.detail}")
    counts = report.counts
    read = "sizes compared" if options.quick else f"{counts['bytes'] / 1e6:.1f} MB read"
    click.echo(
        f"{counted(counts['receipts'], 'receipt')}, {counted(counts['signed'], 'good signature')}, "
        f"{counted(counts['audio'], 'audio file')} ({read}); "
        f"{counted(len(report.findings), 'finding')}."
    )
    for name, text in _ASIDE.items():
        if counts[name]:
            click.echo(f"{text}: {counts[name]}")


_ASIDE = {
    "before_signing": "receipts without a signature, from before signing began",
    "unfinished": "files of the last ten minutes that wait for their receipt or signature",
    "days": "days that are closed",
    "entries": "deeds in the history",
    "facts": "facts filed after a receipt",
    "gone_erased": "files of closed days that were erased",
    "absent": "recordings that were given up",
    "erased": "recordings that were erased",
}
