"""An S3 server of moto for tests, and buckets in it.

It is laxer than S3: any key is let in, a bucket that is locked gives up its objects, and what
differs from the checksum that was sent with it is stored.
"""

import itertools
import logging
import os
import threading
import time
import urllib.request
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from moto.server import ThreadedMotoServer

from worker.archive.places import Bucket

_numbers = itertools.count()
_HOP = {"connection", "date", "server", "transfer-encoding"}


class S3:
    """A server in a thread of this process."""

    def __init__(self):
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        self.port = self._server.get_host_and_port()[1]

    def stop(self):
        self._server.stop()

    def request(self, method, path, data=None):
        """The headers and the body of an answer."""
        url = f"http://127.0.0.1:{self.port}/{path}"
        signed = {"Authorization": "AWS4-HMAC-SHA256 Credential=test/1/us-east-1/s3/aws4_request"}
        asked = urllib.request.Request(url, data=data, method=method, headers=signed)
        with urllib.request.urlopen(asked, timeout=20) as answer:
            return answer.headers, answer.read()

    def headers(self, path):
        """What the server says of an object."""
        return self.request("HEAD", path)[0]

    def variables(self, port=None):
        """What the environment of a process says of this server, or of a proxy before it."""
        return {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test-secret",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port or self.port}",
        }

    def make_bucket(self):
        """The name of a new, empty bucket."""
        name = f"bucket-{os.getpid()}-{next(_numbers)}"
        self.request("PUT", name)
        return name

    def place(self, *, name=None, port=None, options=()):
        """The address of a new bucket, or of the one with this name, with a prefix in it."""
        name = name or self.make_bucket()
        variables = tuple(sorted(self.variables(port).items()))
        return Bucket(url=f"s3://{name}/some/prefix", variables=variables, options=options)


class Whims:
    """A proxy before the server that has whims. `whim` is asked about each request (method, path)
    and says `slow` (a second late), `refuse` (503), `forbid` (403), `forget` (200, and nothing is stored), `late` (it is
    done, and no answer comes), `deaf` (without its precondition), or None. `seen`: the requests.
    """

    def __init__(self, s3, whim=lambda _method, _path: None):
        self.whim, self.seen = whim, []
        own = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                own.seen.append((self.command, self.path))
                whim = own.whim(self.command, self.path)
                if whim in {"refuse", "forbid", "forget"}:
                    self.answer({"refuse": 503, "forbid": 403, "forget": 200}[whim], [], b"")
                    return
                headers = dict(self.headers.items())
                if whim == "slow":
                    time.sleep(1)
                if whim == "deaf":
                    headers.pop("if-none-match", None)
                link = HTTPConnection("127.0.0.1", s3.port, timeout=30)
                link.request(self.command, self.path, body, headers)
                got = link.getresponse()
                said = got.read()
                link.close()
                if whim == "late":
                    self.close_connection = True
                    return
                kept = [(n, v) for n, v in got.getheaders() if n.lower() not in _HOP]
                self.answer(got.status, kept, said)

            def answer(self, status, headers, body):
                self.send_response(status)
                length = {n.lower(): v for n, v in headers}.get("content-length")
                for name, value in headers:
                    self.send_header(name, value)
                if length is None:
                    self.send_header("Content-Length", str(len(body)))
                if not headers:
                    self.send_header("ETag", '"none"')
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        for method in ("GET", "PUT", "POST", "HEAD", "DELETE"):
            setattr(Handler, f"do_{method}", Handler.handle_any)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
