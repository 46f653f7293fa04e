"""Sends signed callbacks over raw kept-alive sockets and times the answers; cheap enough not to be
what is measured.

`python -m benchmarks.load URL --seconds 3 [--connections 32] [--rate 200]` prints one line of JSON.
Without a rate each connection sends its next callback as soon as it has its answer; with one,
callbacks leave on a fixed schedule and an answer's time counts from its scheduled instant.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import select
import socket
import time
import uuid
from collections import deque
from urllib.parse import urlsplit

from benchmarks.stage import TOKEN, announcement, p
from emulator import signing


def requests_for(url: str, count: int) -> list[bytes]:
    """Different callbacks, each signed with its own nonce."""
    parts, run = urlsplit(url), uuid.uuid4().hex[:12]
    made = []
    for number in range(count):
        body = announcement(f"{run}-{number:08d}-0000-000000000000")
        nonces = signing.Nonces()
        made.append(
            (
                f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nUser-Agent: "
                "Vobiz\r\nX-Vobiz-Signature-V3: "
                f"{signing.v3(TOKEN, url, nonces.v3)}\r\nX-Vobiz-Signature-V3-Nonce: "
                f"{nonces.v3}\r\nContent-Type: "
                f"application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n{body}"
            ).encode()
        )
    return made


def whole(answer: bytes) -> bool:
    end = answer.find(b"\r\n\r\n")
    if end < 0:
        return False
    head = answer[:end].lower()
    begins = head.find(b"content-length:")
    return begins >= 0 and len(answer) >= end + 4 + int(head[begins + 15 :].split(b"\r\n", 1)[0])


def send(
    url: str, *, seconds: float, connections: int, rate: float | None = None, patience_s: float = 15
) -> dict[str, float]:
    """Sends callbacks for `seconds`. Returns callbacks a second and the times of the answers in ms.
    Raises RuntimeError for an answer other than 200, TimeoutError when answers are missing.
    """
    parts = urlsplit(url)
    waiting = deque(requests_for(url, round(seconds * (rate or 5000))))
    with contextlib.ExitStack() as stack:
        socks = {}
        for _ in range(connections):
            sock = stack.enter_context(
                socket.create_connection((parts.hostname or "", parts.port or 80), timeout=10)
            )
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            socks[sock.fileno()] = sock
        began, took, last = _exchange(socks, waiting, seconds, rate, patience_s)
    return {
        "per_s": len(took) / (last - began),
        "p50": p(took, 50),
        "p99": p(took, 99),
        "max": max(took),
        "count": len(took),
    }


def _exchange(
    socks: dict[int, socket.socket],
    waiting: deque[bytes],
    seconds: float,
    rate: float | None,
    patience_s: float,
) -> tuple[float, list[float], float]:
    poll = select.epoll()
    for number in socks:
        poll.register(number, select.EPOLLIN)
    free, sent_at, held = deque(socks), dict.fromkeys(socks, 0.0), dict.fromkeys(socks, b"")
    took, sent = [], 0
    last = begin = time.perf_counter()
    while len(free) < len(socks) or (waiting and time.perf_counter() < begin + seconds):
        now = time.perf_counter()
        while (
            free
            and waiting
            and now < begin + seconds
            and (rate is None or begin + sent / rate <= now)
        ):
            number = free.popleft()
            sent_at[number] = begin + sent / rate if rate else now
            socks[number].sendall(waiting.popleft())
            sent += 1
        pause = (
            0.2 if rate is None or not free else max(0.0, begin + sent / rate - time.perf_counter())
        )
        for number, _ in poll.poll(min(pause, 0.2)):
            held[number] += socks[number].recv(65536)
            if whole(held[number]) or not held[number]:
                last = time.perf_counter()
                took.append((last - sent_at[number]) * 1000)
                if b" 200 " not in held[number][:16]:
                    raise RuntimeError(f"a callback was answered with {held[number][:80]!r}")
                held[number] = b""
                free.append(number)
        if time.perf_counter() > begin + seconds + patience_s:
            raise TimeoutError(
                f"{len(socks) - len(free)} callbacks not answered within {patience_s:g} s"
            )
    return begin, took, last


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--rate", type=float)
    given = parser.parse_args()
    print(
        json.dumps(
            send(given.url, seconds=given.seconds, connections=given.connections, rate=given.rate)
        )
    )


if __name__ == "__main__":
    main()
