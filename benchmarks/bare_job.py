"""The limit of the whole job: one process, one event loop, nothing checked.

It adds each callback to a stream in Redis, stops at the deadline, fetches the file and writes it.
`python -m benchmarks.bare_job PORT`
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from benchmarks.bare_web import Stream

ENV = os.environ
CREDENTIALS = f"X-Auth-ID: {ENV.get('PEER_ACCOUNT')}\r\nX-Auth-Token: {ENV.get('PEER_TOKEN')}\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
Link = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Job:
    def __init__(self) -> None:
        self._stream, self._begun = Stream(), set[asyncio.Task[None]]()
        self._idle: dict[str, list[Link]] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Takes the callbacks of one connection."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(length_of(head))
                await self._stream.add(body)
                writer.write(OK)
                await writer.drain()
                self._follow(dict(parse_qsl(body.decode())))
        writer.close()

    def _follow(self, fields: dict[str, str]) -> None:
        event = fields.get("Event")
        deed = None
        if event == "Record":
            deed = self._stop(fields["CallUUID"])
        elif event == "RecordStop":
            deed = self._fetch(fields["RecordingID"], fields["RecordUrl"])
        if deed is not None:
            task = asyncio.create_task(deed)
            self._begun.add(task)
            task.add_done_callback(self._begun.discard)

    async def _stop(self, call_uuid: str) -> None:
        await asyncio.sleep(float(ENV["PEER_DEADLINE_S"]))
        path = f"/Account/{ENV['PEER_ACCOUNT']}/Call/{call_uuid}/Record/"
        await self._ask("DELETE", ENV["PEER_API_URL"] + path)

    async def _fetch(self, recording_id: str, url: str) -> None:
        file = Path(ENV["PEER_ARCHIVE"]) / f"{recording_id}.mp3"
        content = await self._ask("GET", url)
        with file.open("wb") as written:
            written.write(content)
            written.flush()
            os.fsync(written.fileno())

    async def _ask(self, method: str, url: str) -> bytes:
        """The body of the answer. Raises RuntimeError for a failed request."""
        parts = urlsplit(url)
        async with self._link(parts.netloc) as (reader, writer):
            line = f"{method} {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            writer.write(f"{line}{CREDENTIALS}\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            if head.split(b" ", 2)[1][:1] != b"2":
                raise RuntimeError(f"{method} {url}: {head[:80]!r}")
            return await reader.readexactly(length_of(head))

    @contextlib.asynccontextmanager
    async def _link(self, place: str) -> AsyncIterator[Link]:
        """A kept-alive connection, for as long as the context is open."""
        idle = self._idle.setdefault(place, [])
        host, _, port = place.partition(":")
        link = idle.pop() if idle else await asyncio.open_connection(host, int(port))
        yield link
        idle.append(link)


def length_of(head: bytes) -> int:
    """The announced length of the body behind this head."""
    begins = head.lower().find(b"content-length:")
    return int(head[begins + 15 :].split(b"\r\n", 1)[0]) if begins >= 0 else 0


async def main() -> None:
    server = await asyncio.start_server(Job().serve, "127.0.0.1", int(sys.argv[1]), backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    Path(ENV["PEER_ARCHIVE"]).mkdir(parents=True, exist_ok=True)
    asyncio.run(main())
