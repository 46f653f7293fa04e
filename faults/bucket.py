"""A bucket for fault runs and for `make demo-bucket`: moto's S3 server in a process of its own,
which forgets everything when it ends.

It is laxer than S3: it lets any key in, gives up the objects of a locked bucket, and of a
precondition it knows `If-None-Match: *` alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import requests

from worker.archive import filing, places
from worker.archive.places import Bucket
from worker.processes.supervisor import free_port

URL = "s3://recordings/demo"
_STARTS_WITHIN_S = 30.0
_SIGNED = {"Authorization": "AWS4-HMAC-SHA256 Credential=demo/1/us-east-1/s3/aws4_request"}


class S3Server:
    """Runs from `with` to its end. `env`: what a process needs to use its bucket."""

    def __init__(self) -> None:
        port = free_port()
        self._base = f"http://127.0.0.1:{port}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.env = {
            "ENDTAPE_ARCHIVE": URL,
            "AWS_ACCESS_KEY_ID": "demo",
            "AWS_SECRET_ACCESS_KEY": "demo-secret",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self._base,
        }
        self._seen: dict[str, float] = {}

    def __enter__(self) -> Self:
        until = time.monotonic() + _STARTS_WITHIN_S
        while True:
            try:
                bucket = f"{self._base}/recordings"
                requests.put(bucket, headers=_SIGNED, timeout=5).raise_for_status()
                return self
            except requests.RequestException:
                if time.monotonic() > until:
                    self._process.kill()
                    raise
                time.sleep(0.1)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    def mirror(self, folder: Path) -> None:
        """Bring what is new in the bucket into the folder, under the same names. A file that is
        gone, or was written anew, is gone or new there too.
        """
        place = places.parse(URL)
        assert isinstance(place, Bucket)
        store = filing.reading(places.with_client(place, self.env, ()))
        now = {entry.name: entry.modified for entry in store.list("")}
        for name in self._seen.keys() - now.keys():
            (folder / name).unlink(missing_ok=True)
        for name in [name for name, at in now.items() if self._seen.get(name) != at]:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with store.open(name) as file:
                (folder / name).write_bytes(file.read())
        self._seen = now


def main(command: list[str]) -> int:
    """Run a command beside such a server, with its bucket as the archive."""
    with S3Server() as server:
        return subprocess.run(command, env={**os.environ, **server.env}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
