"""`python -m emulator`: runs the stand-in provider until it is told to end; prints its addresses as one line of JSON."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading

from emulator.provider import Provider


def main() -> None:
    parser = argparse.ArgumentParser(prog="endtape emulator", description="A stand-in for the provider, on the loopback interface.")
    parser.add_argument("--port", type=int, default=0, help="port of the REST and control API (default: a free one)")
    parser.add_argument("--callback-url", default="", help="where callbacks of a call go unless it says otherwise")
    parser.add_argument("--account", action="append", default=[], metavar="ID:TOKEN", help="an account; may be repeated")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random")
    given = parser.parse_args()
    accounts = dict(a.split(":", 1) for a in given.account) or None
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    with Provider(callback_url=given.callback_url, accounts=accounts, port=given.port, seed=given.seed) as provider:
        sys.stdout.write(json.dumps({"api_url": provider.api_url, "media_host": provider.media_host, "control_url": provider.control_url}) + "\n")
        sys.stdout.flush()
        done.wait()


if __name__ == "__main__":
    main()
