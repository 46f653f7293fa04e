"""Tries whether the catalogue works and suits the machines: when `keep` starts, and every half
minute. The children of `keep` take turns: a database that is open at a fork is broken in the child,
so the parent opens none.
"""

from __future__ import annotations

from worker.catalogue.database import Catalogue
from worker.duties import trials
from worker.errors import CatalogueAway
from worker.ledger.client import Ledger
from worker.ledger.presence import SEEN_WITHIN

CATALOG = "catalog"  # the name of its line in `/readyz`


def unfit(catalogue: Catalogue, ledger: Ledger) -> str | None:
    """Why the catalogue does not suit the machines on which processes run; None where it does."""
    machines = len(ledger.machines(SEEN_WITHIN)) if catalogue.is_for_one_machine else 1
    if machines < 2:
        return None
    return (
        f"processes run on {machines} machines, and SQLite serves one: "
        "set ENDTAPE_CATALOG to a PostgreSQL that all reach"
    )


def turn_if_ours(catalogue: Catalogue, ledger: Ledger) -> bool:
    """Try the catalogue if no other child did so lately. True if it was tried and works. Raises
    LedgerUnavailable.
    """
    here = trials.on_this_machine(CATALOG)
    works = here not in ledger.degraded()
    return trials.takes_turn(ledger, here, works=works) and turn(catalogue, ledger)


def turn(catalogue: Catalogue, ledger: Ledger) -> bool:
    """Try the catalogue once. True if it works. Raises LedgerUnavailable."""
    try:
        catalogue.try_it()
        why = unfit(catalogue, ledger)
    except CatalogueAway as error:
        why = str(error)
    if why:
        trials.failed(ledger, trials.on_this_machine(CATALOG), why)
    else:
        trials.worked(ledger, trials.on_this_machine(CATALOG))
    return why is None
