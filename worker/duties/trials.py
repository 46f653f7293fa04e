"""Tries whether archive, spool, signing key and credentials work: when `fetches` starts, and every
half minute.

Storing a recording counts as a trial too, whether it succeeds or fails. A failed trial raises an
alert and adds a line to `/readyz`; the first success removes the line.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path

import structlog

from worker.archive import bucket, durable, moving
from worker.archive.bucket_trials import prove, store_and_refuse
from worker.archive.filing import FLOOR_BYTES, Archive
from worker.archive.places import Bucket, Place
from worker.archive.signing_key import Signer
from worker.archive.spool import Spool
from worker.duties import deprecations, leftovers, notify
from worker.errors import LedgerUnavailable, Unstored
from worker.governing import signing
from worker.ledger.client import Ledger
from worker.settings import Settings
from worker.vobiz.client import Vobiz

log = structlog.get_logger()
_EVERY_S, _SOON_S = 30.0, 5.0  # between trials: while all works, while something does not
_ANSWER_S = 20.0  # how long we wait for a mount that hangs
_SAY_EVERY = timedelta(minutes=1)
_PROVEN_FOR = timedelta(hours=1)


def failed(ledger: Ledger, what: str, why: str) -> None:
    """Report that a trial failed: to all processes, and as an alert at most once a minute.

    `what`: the line's name in `/readyz`. `why`: the reason, without paths.
    """
    ledger.degrade(what, why[:300])
    if ledger.once_per("degraded", what, every=_SAY_EVERY):
        log.error("alert", what="degraded", about=what, error=why)
        ledger.count({"alerts_total|degraded": 1})


def worked(ledger: Ledger, *what: str) -> None:
    """Report that trials succeeded. The log has a line if one of them had failed before."""
    if ledger.restore(*what):
        log.warning("works again", about=what)
        ledger.release_waiting()


def no_room(ledger: Ledger, settings: Settings, error: Exception) -> None:
    """Report that a file could not be stored. The file name in the error shows whether the spool or
    the archive failed.
    """
    in_spool = _place(error).is_relative_to(settings.spool)
    failed(ledger, on_this_machine("spool" if in_spool else "archive"), reason(error))


def _place(error: Exception) -> Path:
    """The file that an error, or what it came from, is about: of a link the one that was to be."""
    for one in (error, error.__cause__):
        name = getattr(one, "filename2", None) or getattr(one, "filename", None)
        if name:
            return Path(str(name))
    return Path()


def stored(ledger: Ledger) -> None:
    """Report that a file was stored, so archive and spool work, and release what waits for them."""
    worked(ledger, on_this_machine("archive"), on_this_machine("spool"))


def on_this_machine(what: str) -> str:
    """The name with this machine's: each machine has its own spool and its own mount of the
    archive.
    """
    return f"{what}@{socket.gethostname()}"


def reason(error: Exception) -> str:
    """The error without its path, which `/readyz` must not show."""
    return str(error.strerror or error) if isinstance(error, OSError) else str(error)


class _Trial:
    """One trial in a thread of its own, because nothing ends a system call that hangs.

    `error`: why the trial failed; None while it runs and after it succeeded.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="trial", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        error: Exception | None = None
        try:
            self._work()
        except Exception as raised:  # noqa: BLE001 - whatever it is, nothing is stored
            error = raised
        self.error = error

    def ended(self, within_s: float) -> bool:
        self._thread.join(within_s)
        return not self._thread.is_alive()


def repeat(turn: Callable[[], bool], ending: Callable[[], bool]) -> None:
    """Call `turn` every half minute until `ending`; soon again while it returns False."""
    wait_s = 0.0
    while not ending():
        began = time.monotonic()
        try:
            wait_s = _EVERY_S if turn() else _SOON_S
        except LedgerUnavailable as error:
            log.warning("redis does not answer", error=str(error))
            wait_s = _SOON_S
        while time.monotonic() - began < wait_s and not ending():
            time.sleep(1)


def takes_turn(ledger: Ledger, what: str, *, works: bool) -> bool:
    """Whether this one of the children of a worker tries `what` now. `works`: how the last trial
    went.
    """
    every = timedelta(seconds=(_EVERY_S if works else _SOON_S) - 1)
    return ledger.once_per("trials", f"{what}|{works}", every=every)


class Trials:
    """Repeats the trials until `ending`. Calls `settings` for each turn, so that it follows a
    reload.
    """

    def __init__(
        self,
        ledger: Ledger,
        settings: Callable[[], Settings],
        ending: Callable[[], bool],
        *,
        shared: bool = False,
    ) -> None:
        """`shared`: the children of one worker run them, and take turns. They do where an archive
        is in a bucket; elsewhere the parent does.
        """
        self._ledger, self._settings, self._ending = ledger, settings, ending
        self._shared = shared
        self._hanging: dict[str, _Trial] = {}
        self._proven = False
        self._announced: str | None = None  # the fingerprint of the key that signs

    def run(self) -> None:
        repeat(self._turn_if_ours, self._ending)

    def _turn_if_ours(self) -> bool:
        return self.turn() if self._is_ours() else False

    def _is_ours(self) -> bool:
        """Whether this process has the turn. A parent must not use a bucket: children that it forks
        later could not (docs/decisions/0014-buckets.md).
        """
        if self._settings().has_bucket != self._shared:
            return False
        if not self._shared:
            return True
        here = on_this_machine("")
        works = not any(what.endswith(here) for what in self._ledger.degraded())
        return takes_turn(self._ledger, here, works=works)

    def turn(self) -> bool:
        """Try archive, spool, signing key and the credentials of each account once. True if all
        work. Raises LedgerUnavailable.
        """
        settings = self._settings()
        if not self._proven and isinstance(settings.archive, Bucket):
            self._proven = True
            self._stores("archive", lambda: self._prove(settings.archive))
        works = [
            self._stores("archive", lambda: store(settings.archive, settings.accounts)),
            self._stores("spool", lambda: store(settings.spool)),
        ]
        if all(works):  # the public half is stored there
            works.append(self._stores("signing key", lambda: self._sign(settings)))
        if all(works):
            accounts = {*settings.accounts, *self._ledger.accounts()}
            leftovers.remove(self._ledger, accounts, Spool(settings.spool))
        if all(works) and settings.fallback is not None:
            works.append(self._stores("fallback", lambda: self._move_back(settings)))
        vobiz = Vobiz(
            api_url=settings.api_url,
            media_hosts=settings.media_hosts,
            redirect_hosts=settings.redirect_hosts,
            max_media_bytes=settings.max_media_bytes,
        )
        deprecations.tell(self._ledger)
        works += [self._accepted(vobiz, settings, name) for name in settings.accounts]
        return all(works)

    def _stores(self, what: str, work: Callable[[], None]) -> bool:
        trial = self._hanging.pop(what, None) or _Trial(work)
        if not trial.ended(_ANSWER_S):
            # The next turn waits for this trial instead of beginning another.
            self._hanging[what] = trial
            trial.error = TimeoutError(f"does not answer within {_ANSWER_S:.0f} s")
        if trial.error:
            failed(self._ledger, on_this_machine(what), reason(trial.error))
        else:
            worked(self._ledger, on_this_machine(what))
        return trial.error is None

    def _prove(self, place: Place) -> None:
        """Once at the start: log what a bucket's owner should mend. What fails is told by the trial
        that follows.
        """
        if isinstance(place, Bucket) and self._ledger.once_per(
            "proven", on_this_machine(place.url), every=_PROVEN_FOR
        ):
            for found in prove(bucket.store_at(place)):
                if found.state == "warning":
                    log.warning("the archive's bucket", about=found.name, detail=found.detail)

    def _move_back(self, settings: Settings) -> None:
        """Move what the fallback took while the archive refused."""
        until = time.monotonic() + _ANSWER_S / 2
        archive = Archive(
            settings.archive, settings.spool, self._signer(settings), fallback=settings.fallback
        )
        moved = moving.move_back(archive, lambda: time.monotonic() < until and not self._ending())
        if moved.files:
            log.warning("files moved from the fallback into the archive", files=moved.files)
        if moved.stay:
            raise Unstored(
                f"{len(moved.stay)} files stay there, because other content has their names in the "
                f"archive: {', '.join(moved.stay[:3])}"
            )

    def _sign(self, settings: Settings) -> None:
        """Make the key on the first run, and make it known. Reads the file anew each time."""
        archive = Archive(settings.archive, settings.spool, self._signer(settings))
        self._announced = signing.make_known(self._ledger, archive, announced=self._announced)

    def _signer(self, settings: Settings) -> Signer:
        signer = Signer(settings.signing_key, settings.signer)
        signer.known = frozenset(use.fingerprint for use in self._ledger.signing_keys())
        return signer

    def _accepted(self, vobiz: Vobiz, settings: Settings, name: str) -> bool:
        # One of all processes tries. (For a halted account, processes that have work for it ask
        # every 5 s anyway.)
        if not self._ledger.once_per("trial", name, every=timedelta(seconds=_SOON_S - 1)):
            return True
        self._ledger.charge("api", name, settings.api_rate)
        answer = vobiz.credentials_work(settings.accounts[name])
        if answer is None:
            failed(self._ledger, f"provider@{name}", "its API does not answer")
            return False
        worked(self._ledger, f"provider@{name}")
        if answer:
            if self._ledger.release(name):
                log.warning("account released", account=name)
        elif notify.halt(self._ledger, settings, name):
            log.error(
                "alert",
                what="account_halted",
                account=name,
                error="id and token were refused when they were tried",
            )
            self._ledger.count({"alerts_total|account_halted": 1})
        return answer


def store(place: Place, accounts: Iterable[str] = ()) -> None:
    """In a bucket: write a small object and see that it is not overwritten. In a directory: write a
    small file, force it to disk and remove it, in the root and in each account's folder of today.

    Raises OSError, and Unstored where a bucket refuses or the disk has less space than a fetch must
    leave.
    """
    if isinstance(place, Bucket):
        store_and_refuse(bucket.store_at(place))
    else:
        _store_in_directory(place, accounts)


def _store_in_directory(root: Path, accounts: Iterable[str]) -> None:
    durable.make(root)
    if shutil.disk_usage(root).free < FLOOR_BYTES:
        raise Unstored(f"the disk is full: less than {FLOOR_BYTES} bytes are left")
    today = time.strftime("%Y/%m/%d", time.gmtime())
    for place in dict.fromkeys(
        [root, *(_deepest(root, f"{account}/{today}") for account in accounts)]
    ):
        probe = place / f".endtape-trial.{secrets.token_hex(4)}.part"
        try:
            with os.fdopen(os.open(probe, durable.CREATE, 0o600), "wb", buffering=0) as file:
                file.write(b"\0" * 4096)
                os.fsync(file.fileno())
        finally:
            probe.unlink(missing_ok=True)


def _deepest(root: Path, below: str) -> Path:
    """The deepest directory on the way to `below` that exists."""
    place = root
    for step in below.split("/"):
        if not (place / step).is_dir():
            break
        place /= step
    return place
