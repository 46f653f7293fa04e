"""`endtape index`: makes the catalogue anew from the archive alone."""

from __future__ import annotations

import json
import sys

import click

from worker.catalogue.database import Catalogue
from worker.catalogue.rebuild import rebuild
from worker.command.terminal import (
    as_json_option,
    counted,
    current_settings,
    exit_statuses,
    print_text,
    progress_bar,
)
from worker.errors import EndtapeError
from worker.processes.archive_in_use import make_archive


@click.command(epilog="Example: endtape index")
@as_json_option
@click.option(
    "--replace",
    is_flag=True,
    help="First drop its tables, for a catalogue whose tables are not those of this version.",
)
@exit_statuses
def index(as_json: bool, replace: bool) -> None:
    """Make the catalogue anew from the archive.

    The service may run meanwhile. Exit status 1 where a receipt cannot be read or entered.
    """
    settings = current_settings(without_rules=True)
    catalogue = Catalogue(settings.catalog)
    if replace:
        catalogue.replace()
    known = catalogue.count()  # about as many as there will be
    with progress_bar("recordings ...") as advance:
        try:
            counts = rebuild(
                catalogue,
                make_archive(settings),
                lambda done, days: advance(
                    done, max(done, known), f"recordings, {counted(days, 'day')}"
                ),
            )
        except OSError as error:
            raise EndtapeError(f"the archive cannot be read: {error}") from None
    if as_json:
        click.echo(json.dumps(counts, indent=2))
    else:
        print_text(
            f"{counts['archived']} archived, {counts['abandoned']} given up and "
            f"{counts['erased']} erased are in the catalogue. Rows removed, because the archive "
            f"does not know them: {counts['removed']}. Receipts that cannot be read or entered: "
            f"{counts['unreadable']}."
        )
    sys.exit(1 if counts["unreadable"] else 0)
