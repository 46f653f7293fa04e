"""`python -m emulator`: runs the stand-in provider until it is told to end; prints its addresses as
one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path

from emulator import accounts, scenario
from emulator.accounts import Account
from emulator.provider import Provider
from emulator.signing import MODES

# Who starts it for a real token puts the address here: everybody on the machine can read a command
# line.
CALLBACK_URL = "EMULATOR_CALLBACK_URL"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="endtape emulator",
        description="A stand-in for the provider, on the loopback interface.",
    )
    parser.add_argument(
        "--port", type=int, default=0, help="port of the REST and control API (default: a free one)"
    )
    parser.add_argument(
        "--callback-url",
        default=os.environ.get(CALLBACK_URL, ""),
        help="where callbacks of a call go unless it says otherwise",
    )
    parser.add_argument(
        "--account",
        action="append",
        default=[],
        metavar="ID:TOKEN[:PARENT]",
        help="an account; may be repeated",
    )
    parser.add_argument(
        "--trunk-secret",
        action="append",
        default=[],
        metavar="ID:SECRET",
        help="signs an account's trunk webhooks",
    )
    parser.add_argument(
        "--signature",
        default="",
        choices=MODES,
        help="how callbacks are signed (default: v3+v2, ma with a parent)",
    )
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="NAME",
        help="a bad day to begin with; may be repeated",
    )
    parser.add_argument(
        "--scenario",
        type=Path,
        metavar="FILE",
        help="calls to make and bad days to have, and when (TOML)",
    )
    parser.add_argument(
        "--keeps-s",
        type=float,
        metavar="SECONDS",
        help="how long finished recordings are kept (default: for ever)",
    )
    parser.add_argument(
        "--retry-base-s",
        type=float,
        default=1.0,
        metavar="SECONDS",
        help="the first wait before a callback is tried again",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the bad days (ids and nonces are never seeded)"
    )
    given = parser.parse_args()
    try:
        known = read_accounts(given.account, given.trunk_secret, given.signature)
        stand_in = Provider(
            callback_url=given.callback_url,
            accounts=known,
            port=given.port,
            seed=given.seed,
            retry_base_s=given.retry_base_s,
            keeps_s=given.keeps_s,
        )
        plot = (
            scenario.read(given.scenario.read_text(), set(stand_in.accounts))
            if given.scenario
            else None
        )
        for name in given.fault:
            stand_in.faults.switch_on(name)
    except KeyError as error:
        parser.error(f"no bad day is called {error.args[0]}; see docs/emulator.md")
    except (OSError, ValueError) as error:
        parser.error(str(error))
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    with stand_in as provider:
        where = {
            "api_url": provider.api_url,
            "media_host": provider.media_host,
            "control_url": provider.control_url,
        }
        sys.stdout.write(json.dumps(where) + "\n")
        sys.stdout.flush()
        if plot is not None:
            scenario.play(plot, provider)
        done.wait()


def read_accounts(texts: list[str], secrets: list[str], mode: str) -> list[Account] | None:
    """The accounts that the options name, or None for the default one. Raises ValueError."""
    found = {account.auth_id: account for account in map(accounts.read, texts)} or {
        "MA_EMULATOR": accounts.read("MA_EMULATOR:emulator-token-0001")
    }
    for text in secrets:
        auth_id, _, secret = text.partition(":")
        if auth_id not in found or not secret:
            raise ValueError(f"--trunk-secret names no account of these: {', '.join(found)}")
        found[auth_id] = replace(found[auth_id], trunk_secret=secret)
    return [replace(account, signature=mode) for account in found.values()]


if __name__ == "__main__":
    main()
