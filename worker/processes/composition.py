"""Puts a worker together from settings: the one place for production, commands and tests."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from worker.catalogue.database import Catalogue
from worker.duties.worker import Worker
from worker.ledger.client import Ledger
from worker.processes.archive_in_use import make_archive
from worker.settings import Settings
from worker.vobiz.client import Vobiz


def make_vobiz(settings: Settings) -> Vobiz:
    """The client of the provider's API and media hosts."""
    return Vobiz(
        api_url=settings.api_url,
        media_hosts=settings.media_hosts,
        redirect_hosts=settings.redirect_hosts,
        max_media_bytes=settings.max_media_bytes,
    )


def make_worker(
    settings: Settings,
    ledger: Ledger,
    threads: ThreadPoolExecutor,
    *,
    first_start: datetime,
    catalogue: Catalogue | None = None,
    generation: int | None = None,
    ending: Callable[[], bool] = lambda: False,
) -> Worker:
    """A worker with these settings.

    `first_start`: from `ledger.prepare()`. `catalogue`: the one that this process has already.
    `generation`: how many reloads the settings have seen; None for a command, which follows none.
    `ending`: whether long work should be given back now.
    """
    return Worker(
        ledger=ledger,
        vobiz=make_vobiz(settings),
        archive=make_archive(settings),
        catalogue=catalogue or Catalogue(settings.catalog),
        settings=settings,
        threads=threads,
        first_start=first_start,
        generation=generation,
        ending=ending,
    )
