"""Where what is known of recordings lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from worker.archive.filing import Archive
from worker.calls.rules import Rules
from worker.catalogue.database import Catalogue
from worker.ledger.client import Ledger


class Places(Protocol):
    """Ledger, archive, catalogue and rules of one process. A worker has them."""

    @property
    def ledger(self) -> Ledger: ...

    @property
    def archive(self) -> Archive: ...

    @property
    def catalogue(self) -> Catalogue: ...

    @property
    def rules(self) -> Rules: ...


@dataclass(frozen=True, slots=True)
class Here:
    """The same for who is no worker."""

    ledger: Ledger
    archive: Archive
    catalogue: Catalogue
    rules: Rules
