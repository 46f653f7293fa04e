"""`python -m emulator`: prints the emulator's addresses as one line of JSON, then serves until
SIGTERM or SIGINT.
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

# An address with a real token in it belongs here, not on the command line: everybody on the machine
# can read command lines.
CALLBACK_URL = "EMULATOR_CALLBACK_URL"
_LONGEST_S = 10**8  # three years


def main() -> None:
    parser = _parser()
    given = parser.parse_args()
    try:
        stand_in = Provider(
            callback_url=given.callback_url,
            accounts=read_accounts(given.account, given.trunk_secret, given.signature),
            port=given.port,
            seed=given.seed,
            retry_base_s=given.retry_base_s,
            keeps_s=given.keeps_s,
        )
        plot = None
        if given.scenario:
            plot = scenario.read(given.scenario.read_text(), set(stand_in.accounts))
        for name in given.fault:
            stand_in.faults.switch_on(name)
    except KeyError as error:
        parser.error(f"no bad day is called {error.args[0]}; see docs/emulator.md")
    except (OSError, ValueError) as error:
        parser.error(str(error))
    _serve(stand_in, plot)


def _serve(stand_in: Provider, plot: scenario.Plot | None) -> None:
    """Serves until SIGTERM or SIGINT."""
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    with stand_in as provider:
        addresses = {
            "api_url": provider.api_url,
            "media_host": provider.media_host,
            "control_url": provider.control_url,
        }
        sys.stdout.write(json.dumps(addresses) + "\n")
        sys.stdout.flush()
        if plot is not None:
            scenario.play(plot, provider)
        done.wait()


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text[:9]) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 to 65535")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _LONGEST_S:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to {_LONGEST_S}")
    return seconds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="endtape emulator",
        description="A stand-in for the provider, on the loopback interface.",
    )
    _add_options_of_accounts(parser)
    _add_options_of_bad_days(parser)
    parser.add_argument(
        "--port",
        type=_port,
        default=0,
        help="port of the REST and control API (default: a free one)",
    )
    parser.add_argument(
        "--callback-url",
        default=os.environ.get(CALLBACK_URL, ""),
        help="where callbacks of a call go unless it says otherwise",
    )
    parser.add_argument(
        "--keeps-s",
        type=_seconds,
        metavar="SECONDS",
        help="how long finished recordings are kept (default: for ever)",
    )
    parser.add_argument(
        "--retry-base-s",
        type=_seconds,
        default=1.0,
        metavar="SECONDS",
        help="the first wait before a callback is tried again",
    )
    return parser


def _add_options_of_accounts(parser: argparse.ArgumentParser) -> None:
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


def _add_options_of_bad_days(parser: argparse.ArgumentParser) -> None:
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
        "--seed", type=int, default=0, help="seed of the bad days (ids and nonces are never seeded)"
    )


def read_accounts(texts: list[str], secrets: list[str], mode: str) -> list[Account]:
    """The accounts that the options name, or the default one. Raises ValueError."""
    named = {account.auth_id: account for account in map(accounts.read, texts)} or {
        "MA_EMULATOR": accounts.read("MA_EMULATOR:emulator-token-0001")
    }
    for text in secrets:
        auth_id, _, secret = text.partition(":")
        if auth_id not in named or not secret:
            raise ValueError(f"--trunk-secret names no account of these: {', '.join(named)}")
        named[auth_id] = replace(named[auth_id], trunk_secret=secret)
    return [replace(account, signature=mode) for account in named.values()]


if __name__ == "__main__":
    main()
