"""The page of the system: processes, versions, Redis, settings in force, refused requests."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

from webhooks.api.reading import Reader
from webhooks.console.now import Now
from webhooks.console.page import rendered
from worker import in_force
from worker.archive import signers
from worker.errors import CatalogueAway, SettingsError
from worker.ledger import fitness
from worker.ledger.codec import SCHEMA
from worker.ledger.counters import REMEDIES
from worker.ledger.presence import ROLES, SEEN_WITHIN
from worker.variables.table import NAMES

_LIBRARIES = ("flask", "celery", "granian", "redis", "pycurl", "sqlalchemy")


class System:
    def __init__(self, reader: Reader, now: Now) -> None:
        self._reader, self._now = reader, now
        self._ledger, self._settings = reader.ledger, reader.settings

    def shown(self) -> str:
        ledger, settings, board = self._ledger, self._settings(), self._now.board()
        now = ledger.now()
        processes = in_force.processes(ledger)
        shown = in_force.shown_by_the_service(ledger) or in_force.shown(settings)
        return rendered(
            "system.html",
            board=board,
            roles=ROLES,
            processes=[
                (name.partition(" ")[0], name.partition(" ")[2], (now - at).total_seconds())
                for name, at in sorted(processes.items())
                if now - at <= SEEN_WITHIN
            ],
            versions=self._versions(),
            redis=self._redis(),
            catalogue=self._catalogue(),
            first_start=ledger.first_start(),
            refused=list(self._refused()),
            settings=sorted((NAMES.get(name, name), text) for name, text in shown.items()),
            warnings=settings.warnings,
            restart=settings.restart,
            refusals=sorted(ledger.refusals().items()),
            last_refusals=ledger.last_refusals(),
            remedies=REMEDIES,
            unfinished=ledger.unfinished(),
            keys=[s.line for s in signers.of_service(ledger.signing_keys())],
        )

    def _versions(self) -> dict[str, str]:
        return {
            "endtape": version("endtape"),
            "schema of the data": str(SCHEMA),
            "Python": platform.python_version(),
            **{name: version(name) for name in _LIBRARIES},
            "system": platform.platform(),
        }

    def _redis(self) -> list[fitness.Finding]:
        try:
            allow_no_aof = self._settings().allow_no_aof
            return fitness.findings(self._ledger.redis, allow_no_aof=allow_no_aof)
        except SettingsError as error:
            detail = "; ".join(error.problems)
            return [fitness.Finding(name="server", state=fitness.State.FAILED, detail=detail)]

    def _catalogue(self) -> str:
        try:
            return f"{self._reader.catalogue.count():,} finished recordings"
        except CatalogueAway as error:
            return f"does not answer: {error}"

    def _refused(self) -> Iterator[tuple[str, list[str]]]:
        """The processes that kept the old settings at the last reload, and why."""
        for name, text in self._ledger.answers(self._ledger.generation()).items():
            answer: dict[str, Any] = json.loads(text)
            if answer["problems"]:
                yield name, answer["problems"]
