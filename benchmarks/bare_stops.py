"""The limit of a burst: one libcurl loop sends every stop, and each answer is committed to Redis in
a pipeline.

`python -m benchmarks.bare_stops SINK SOCKET COUNT` prints stops a second.
"""

from __future__ import annotations

import json
import sys
import time

import pycurl
import redis

from benchmarks.stage import ACCOUNT, TOKEN

CONNECTIONS = 64
ACCEPTED = json.dumps({"id": "stop.1.", "kind": "stop.accepted", "at": 1700000000000})


class Loop:
    """Sends DELETEs over kept-alive connections, and tells whose answers came."""

    def __init__(self, root: str) -> None:
        self._root, self._multi = root, pycurl.CurlMulti()
        self._free = [self._handle() for _ in range(CONNECTIONS)]
        self._call: dict[pycurl.Curl, str] = {}

    def _handle(self) -> pycurl.Curl:
        handle = pycurl.Curl()
        handle.setopt(pycurl.CUSTOMREQUEST, "DELETE")
        handle.setopt(pycurl.HTTPHEADER, [f"X-Auth-ID: {ACCOUNT}", f"X-Auth-Token: {TOKEN}"])
        handle.setopt(pycurl.WRITEFUNCTION, len)
        handle.setopt(pycurl.NOPROXY, "*")
        return handle

    def send(self, waiting: list[str]) -> None:
        """Takes from `waiting` as many as there are free connections."""
        while waiting and self._free:
            handle, call_uuid = self._free.pop(), waiting.pop()
            handle.setopt(
                pycurl.URL, f"{self._root}/api/v1/Account/{ACCOUNT}/Call/{call_uuid}/Record/"
            )
            self._call[handle] = call_uuid
            self._multi.add_handle(handle)

    def answered(self) -> list[str]:
        """The calls whose answers have come meanwhile. Raises RuntimeError for a failed request."""
        self._multi.perform()
        _, good, bad = self._multi.info_read()
        if bad:
            raise RuntimeError(f"a stop failed: {bad[0][1:]}")
        for handle in good:
            self._multi.remove_handle(handle)
        self._free += good
        if not good:
            self._multi.select(0.01)
        return [self._call.pop(handle) for handle in good]


def main(root: str, socket: str, count: int) -> float:
    """Stops a second, from the first request to the last commit."""
    with redis.Redis(unix_socket_path=socket) as client:
        calls = [f"bare-{number:06d}-0000-0000-000000000000" for number in range(count)]
        client.zadd("due", dict.fromkeys(calls, 1.0))
        loop, waiting, left = Loop(root), list(calls), count
        begin = time.perf_counter()
        while left:
            loop.send(waiting)
            if done := loop.answered():
                pipe = client.pipeline(transaction=False)
                for call_uuid in done:
                    pipe.append(f"call:{call_uuid}", ACCEPTED)
                    pipe.zrem("due", call_uuid)
                pipe.execute()
                left -= len(done)
        return count / (time.perf_counter() - begin)


if __name__ == "__main__":
    print(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
