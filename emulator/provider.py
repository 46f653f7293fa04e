"""The emulator as a context: its REST and control API on one port of the loopback interface, its
media host on another.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Self

from emulator import control, media, rest
from emulator.accounts import Account, by_id
from emulator.bad_days import BadDays
from emulator.delivery import Sender
from emulator.http import Exchange, Server, handler
from emulator.journal import Journal
from emulator.switchboard import Switchboard
from emulator.timers import Timers


class Provider(Switchboard):
    """One emulated provider; it serves while its context is open.

    `callback_url` is where a call's callbacks go unless the call names another address; `accounts`
    maps ids to tokens, or lists accounts. `keeps_s` is how long a finished recording is kept (None:
    for ever), `finalise_s` how long after its end its file is there. `seed` seeds the bad days;
    `callbacks=False` sends no callbacks at all.
    """

    def __init__(  # noqa: PLR0913 - the options of the whole emulator, each by its name
        self,
        *,
        callback_url: str = "",
        accounts: Mapping[str, str] | Iterable[Account] | None = None,
        port: int = 0,
        seed: int = 0,
        retry_base_s: float = 1.0,
        keeps_s: float | None = None,
        finalise_s: float = 0.05,
        callbacks: bool = True,
    ) -> None:
        sender = Sender(
            by_id(accounts or {"MA_EMULATOR": "emulator-token-0001"}),
            BadDays(seed),
            Journal(),
            Timers(self._trouble),
            retry_base_s=retry_base_s,
            silent=not callbacks,
        )
        super().__init__(sender, callback_url=callback_url, finalise_s=finalise_s, keeps_s=keeps_s)
        self._api = Server(
            ("127.0.0.1", port), handler(self._api_or_control, self.journal, self._trouble)
        )
        self._media = Server(
            ("127.0.0.1", 0),
            handler(lambda exchange: media.serve(self, exchange), self.journal, self._trouble),
        )
        root = f"http://127.0.0.1:{self._api.server_address[1]}"
        self.api_url, self.control_url = f"{root}/api/v1", f"{root}/_control"
        self.media_host = f"127.0.0.1:{self._media.server_address[1]}"

    def __enter__(self) -> Self:
        for server in (self._api, self._media):
            threading.Thread(
                target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
            ).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        for server in (self._api, self._media):
            server.shutdown()
            server.server_close()
        self._timers.close()
        self._sender.close()

    def _api_or_control(self, exchange: Exchange) -> None:
        (control if exchange.url_path.startswith("/_control/") else rest).serve(self, exchange)

    def _trouble(self, error: Exception) -> None:
        """Reports a fault of the emulator itself, on the terminal and in the journal."""
        text = f"{type(error).__name__}: {error}"
        self.journal.write("trouble", {"error": text, "at": time.time()})
        sys.stderr.write(f"emulator: a step failed: {text}\n")
