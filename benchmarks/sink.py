"""A stand-in for the provider, far cheaper than what it measures: 204 to every DELETE, and the
instant each arrived.

Whoever asks for a list is told that there is nothing: surveys do. `GET /taken` answers `[[path,
instant], …]` and forgets them. `python -m benchmarks.sink PORT`
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

_NOTHING = (
    b'{"objects": [], "calls": [], '
    b'"meta": {"limit": 20, "offset": 0, "next": null, "previous": null, "total_count": 0}}'
)
_taken: list[tuple[str, float]] = []


class Sink(asyncio.Protocol):
    def __init__(self) -> None:
        self.held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        at = time.time()
        self.held += data
        while (end := self.held.find(b"\r\n\r\n")) >= 0:
            head = self.held[:end].lower()
            begins = head.find(b"content-length:")
            size = int(head[begins + 15 :].split(b"\r\n", 1)[0]) if begins >= 0 else 0
            if len(self.held) < end + 4 + size:
                return
            method, path, _ = self.held.split(b" ", 2)
            self.held = self.held[end + 4 + size :]
            if method == b"DELETE":
                _taken.append((path.decode(), at))
                self.transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            else:
                body = _NOTHING
                if path == b"/taken":
                    body = json.dumps(_taken).encode()
                    _taken.clear()
                self.transport.write(
                    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
                )


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(
        Sink, "127.0.0.1", int(sys.argv[1]), backlog=1024
    )
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
