"""Odd requests get an answer, and the next request on the connection is read from its beginning."""

import re
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from emulator.rest import ROUTES

DOCS = (Path(__file__).resolve().parent.parent.parent / "docs" / "emulator.md").read_text()
AUTH = "X-AUTH-id: MA_E\r\nx-auth-TOKEN:tok\r\n"


def talk(provider, text):
    """Sends bytes. Returns all that comes back."""
    parts = urlsplit(provider.api_url)
    with socket.create_connection((parts.hostname, parts.port), timeout=5) as client:
        client.sendall(text.encode())
        client.shutdown(socket.SHUT_WR)
        found = b""
        while block := client.recv(65_536):
            found += block
    return found.decode()


def statuses(answers):
    return [int(status) for status in re.findall(r"HTTP/1\.\d (\d+) ", answers)]


def test_two_requests_on_one_connection_are_two_and_names_of_headers_have_no_case(provider):
    one = f"GET /api/v1/auth/me HTTP/1.1\r\nHost: x\r\n{AUTH}\r\n"
    two = f"POST /api/v1/Account/MA_E/Call/x/Record/ HTTP/1.1\r\nHost: x\r\n{AUTH}Content-Length: 2\r\n\r\n{{}}"
    assert statuses(talk(provider, two + one + two)) == [404, 200, 404]


def test_an_old_or_closing_client_is_answered_and_let_go(provider):
    assert statuses(talk(provider, f"GET /api/v1/auth/me HTTP/1.0\r\n{AUTH}\r\n")) == [200]
    assert statuses(
        talk(provider, f"GET /api/v1/auth/me HTTP/1.1\r\nConnection: close\r\n{AUTH}\r\n")
    ) == [200]


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("POST /api/v1/auth/me HTTP/1.1\r\nContent-Length: many\r\n\r\n", 400),
        ("POST /api/v1/auth/me HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", 400),
        ("POST /api/v1/auth/me HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (
            "GET /api/v1/auth/me HTTP/1.1\r\n"
            + "".join(f"a{i}: b\r\n" for i in range(200))
            + "\r\n",
            431,
        ),
        ("PATCH /api/v1/auth/me HTTP/1.1\r\n\r\n", 501),
    ],
)
def test_what_cannot_be_read_is_refused(provider, text, status):
    assert statuses(talk(provider, text))[:1] == [status]


def test_every_route_is_documented():
    assert [route.name for route in ROUTES if f"`{route.name}`" not in DOCS] == []
