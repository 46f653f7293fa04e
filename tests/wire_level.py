"""Requests as bytes, for what no well-behaved client can be made to send."""

import re
import socket
from urllib.parse import urlsplit

FORM = "Content-Type: application/x-www-form-urlencoded"


def connect(base, timeout_s=5.0):
    parts = urlsplit(base)
    return socket.create_connection((parts.hostname, parts.port), timeout=timeout_s)


def head(path, *lines, method="POST", version="HTTP/1.1"):
    return "".join(
        f"{line}\r\n" for line in (f"{method} {path} {version}", "Host: endtape.test", *lines, "")
    ).encode("latin-1")


def exchange(base, raw, *, half_close=False, timeout_s=5.0):
    """All that comes back until the other end closes, or says nothing for `timeout_s`."""
    answer = b""
    with connect(base, timeout_s) as connection:
        try:
            connection.sendall(raw)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
            while block := connection.recv(65536):
                answer += block
        except OSError:  # reset or silent
            pass
    return answer


def statuses(answer):
    """The status of each answer in the stream."""
    return [int(n) for n in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]
