"""`endtape keys`: the public keys that a stranger checks signatures with."""

from __future__ import annotations

import json

import click

from worker.archive import signers
from worker.archive.signers import AllowedSigner
from worker.command.terminal import as_json_option, exit_statuses, open_ledger
from worker.governing.signing import make_known
from worker.ledger.client import Ledger
from worker.processes.archive_in_use import make_archive


@click.command(epilog="Example: endtape keys > allowed_signers")
@as_json_option
@exit_statuses
def keys(as_json: bool) -> None:
    """Print the public keys in the form of an `allowed_signers` file.

    The key in use comes first; each other one has a `valid-before`.
    """
    settings, ledger = open_ledger(rules_needed=False)
    if not ledger.signing_keys():
        make_known(ledger, make_archive(settings))  # nothing was signed yet
    known = of_service(ledger)
    if as_json:
        view = [
            {
                "key": signer.key.fingerprint,
                "signer": signer.signer,
                "line": signer.line,
                "in_use": number == 0,
            }
            for number, signer in enumerate(known)
        ]
        click.echo(json.dumps(view, indent=2))
    else:
        click.echo(signers.written(known), nl=False)


def of_service(ledger: Ledger) -> list[AllowedSigner]:
    """The keys that signed in this service, the one in use first. Raises LedgerUnavailable."""
    return signers.of_service(ledger.signing_keys())
