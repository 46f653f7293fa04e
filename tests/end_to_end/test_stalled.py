"""Connections that send nothing, or a byte now and then, delay nobody."""

import socket
import statistics
import time
from urllib.parse import urlsplit

import pytest
import requests

from emulator import signing

pytestmark = [pytest.mark.end_to_end, pytest.mark.xdist_group("hostile")]


def test_five_hundred_stalled_connections_do_not_delay_a_good_callback(service):
    parts = urlsplit(service.callback)
    head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 200\r\n\r\nEvent="
    stalled = []
    try:
        for i in range(500):
            connection = socket.create_connection((parts.hostname, parts.port), timeout=5)
            if i % 2:
                connection.sendall(head.encode())
            stalled.append(connection)
        took = []
        for i in range(40):
            headers = signing.signature_headers(
                "v3", service.callback, "test-auth-token", None, signing.Nonces()
            )
            began = time.monotonic()
            answer = requests.post(
                service.callback,
                data={"Event": "Ring", "CallUUID": f"stalled-{i}"},
                headers=headers,
                timeout=10,
            )
            took.append(time.monotonic() - began)
            assert answer.status_code == 200
            stalled[2 * i + 1].sendall(b"x")
        # Other tests share the machine; a server whose threads wait for the stalled ones does not
        # answer at all.
        assert statistics.median(took) < 0.3
        assert max(took) < 2
    finally:
        for connection in stalled:
            connection.close()
