"""Throws broken requests at the real server: `python -m tests.webhooks.fuzz_receiver --seconds 600
--seed 1`.

A request that is answered with a 5xx or a redirect is kept in `cases/`, which test_fuzz.py sends
again. In a request `{SIGNATURE}` stands for the headers of a good signature, and `{KEY}` for the
API key.
"""

import argparse
import hashlib
import random
import re
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from urllib.parse import quote_plus

from emulator import signing
from tests.constants import ACCOUNT, CALLBACK_TOKEN, KEY, TOKEN
from tests.wire_level import connect, statuses
from worker.processes.embedded_redis import EmbeddedRedis
from worker.processes.supervisor import Supervisor, free_port, lines

CASES = Path(__file__).parent / "cases"
FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
DOOR = f"/vobiz/{ACCOUNT}/{CALLBACK_TOKEN}"
FORM, JSON, PARTS = (
    "application/x-www-form-urlencoded",
    "application/json",
    "multipart/form-data; boundary=----x7",
)
MARK = b"\xef\xbb\xbf"
SEEDS = (
    [(FORM, p.read_bytes()) for p in sorted(FIXTURES.glob("*.form"))]
    + [(JSON, p.read_bytes()) for p in sorted(FIXTURES.glob("*_callback.json"))]
    + [(JSON, p.read_bytes()) for p in sorted(FIXTURES.glob("trunk_*.json"))]
)
QUERY_SEEDS = [body.decode() for kind, body in SEEDS if kind == FORM]
NAMES = sorted(
    {
        name
        for _, body in SEEDS
        for name in re.findall(r"[A-Za-z_]{3,30}(?==)|(?<=\")[A-Za-z_]{3,30}(?=\":)", body.decode())
    }
    | {
        "response",
        "Event",
        "event",
        "CallUUID",
        "call_uuid",
        "RecordingID",
        "ConferenceUUID",
        "DialALegUUID",
        "x" * 300,
        "",
        "é",
        "__proto__",
    }
)
KINDS = [
    "Record",
    "RecordStop",
    "Transfer",
    "Redirect",
    "DialAnswer",
    "DialConnected",
    "DialHangup",
    "DialAction",
    "ConferenceEnter",
    "ConferenceExit",
    "MachineDetection",
    "Ring",
    "StartApp",
    "Hangup",
    "recording.completed",
    "call.initiated",
    "Transcription",
    "",
    "Nothing",
]
WORDS = [
    "",
    "0",
    "-1",
    "1e400",
    "nan",
    "inf",
    "-inf",
    "9" * 400,
    "1" * 5000,
    "0x10",
    "1_000",
    "１２",
    "60040.00000",
    "1789367412900",
    "-62135596800001",
    "253402300800000",
    "2026-09-14 12:05:27.79276+05:30",
    "2026-09-14T06:30:00Z",
    "9999-12-31T23:59:59.999999+14:00",
    "0001-01-01",
    "24:00",
    "true",
    "null",
    "None",
    "[]",
    "{}",
    "../../etc/passwd",
    "a/b",
    "a|b",
    "{a}",
    "a:b",
    "a\nb",
    "a\0b",
    "\ud800",
    "é",
    "\u202e",
    "\ufeff",
    "🙂" * 50,
    "a" * 129,
    "a" * 4000,
    " c ",
    "c1",
    "c2",
    "r1",
    "https://media.vobiz.ai/x.mp3",
    "http://127.0.0.1:1/",
    "https://a@b/",
    "sip:+918041234567@203.0.113.7:5060",
    "<sip:1001@10.0.0.5;transport=udp>",
    "tel:+918041234567;phone-context=+91",
    '"a<b" <sip:%',
    "sip:@[::1]:x",
    "file:///etc/passwd",
    "%00",
    "%ff",
    "+",
    "%2B",
    "&",
    "=",
    ";",
    "'",
    '"',
    "\\",
    "$(x)",
    "{{7*7}}",
    "MA_TEST0001",
    "A" * 70_000,
]
PATHS = [
    DOOR,
    DOOR,
    DOOR,
    DOOR + "/",
    DOOR + "/call/c1",
    DOOR + "/call/",
    DOOR + "//x",
    DOOR + "/%00",
    DOOR + "/%ff",
    DOOR + "/call/%2e%2e",
    DOOR + "/agent%40example.com",
    DOOR + "/caf%c3%a9",
    DOOR + "/team%2F7/%2b",
    DOOR + "/../x",
    DOOR + ";a=b",
    f"/vobiz/{ACCOUNT}/x",
    "/vobiz/",
    "/v1/recordings",
    "/v1/recordings/r1",
    "/v1/calls/c1",
    "/v1/calls/c1/stop",
    "/v1/calls/c1/handoff",
    "/v1/calls/c1/recordings",
    "/v1/calls/c1/handoff/failed",
    "/v1/calls/c1/pause",
    "/v1/calls/c1/resume",
    "/v1/recordings/r1/hold",
    "/v1/recordings/r1/retry",
    "/v1/events",
    "/v1/openapi.json",
    "/",
    "/metrics",
    "/healthz",
]
QUERIES = ["limit", "cursor", "phase", "call_uuid", "account", "since", "until", "day"]
HEADERS = [
    "X-Vobiz-Signature-V3",
    "X-Vobiz-Signature-V3-Nonce",
    "X-Vobiz-Signature-V2",
    "X-Vobiz-Signature-V2-Nonce",
    "X-Vobiz-Signature-MA-V3",
    "X-Vobiz-Signature",
    "X-Vobiz-Event",
    "Content-Type",
    "Content-Length",
    "Transfer-Encoding",
    "Content-Encoding",
    "Authorization",
    "Host",
    "Expect",
    "Range",
    "Cookie",
    "X-Forwarded-For",
    "X-HTTP-Method-Override",
    "auth-token",
    "If-None-Match",
    "Idempotency-Key",
    "Accept",
]
BYTES = [
    b"\0",
    b"\r\n",
    b"\n",
    b"\r",
    b"\xff",
    b"\xc3",
    b"%",
    b"&",
    b"=",
    b"{",
    b"}",
    b"[",
    b'"',
    b"\\u",
    b"\\ud800",
    b"e999",
    b"-",
    b",",
    b"\x1f\x8b",
    b" ",
    b"\t",
]


class Fuzzer:
    """Requests from a seed, as bytes with placeholders."""

    def __init__(self, seed):
        self.chance = random.Random(seed)

    def request(self):
        chance = self.chance
        kind, body = self._body()
        if chance.random() < 0.1:
            body = MARK * chance.choice([1, 1, 2]) + body
        if chance.random() < 0.05:
            body = b""
        path = chance.choice(PATHS)
        if chance.random() < 0.3:
            path += (
                "?"
                + (chance.choice(QUERY_SEEDS) + "&" if chance.random() < 0.3 else "")
                + "&".join(
                    f"{chance.choice(QUERIES + NAMES)}={quote_plus(self._word(), errors='replace')}"
                    for _ in range(chance.randint(1, 4))
                )
            )
        method = chance.choice(
            ["POST"] * 6
            + ["GET", "PUT", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "get", "X" * 40]
        )
        more = [
            f"{chance.choice(HEADERS)}: {self._word()}"
            for _ in range(chance.choice([0, 0, 0, 1, 2]))
        ]
        more += ["{SIGNATURE}"] * (chance.random() < 0.8) + ["Authorization: Bearer {KEY}"] * (
            path.startswith(("/v1", "/?")) or path == "/"
        )
        chance.shuffle(more)
        if chance.random() < 0.1:
            cuts = sorted(chance.randint(0, len(body)) for _ in range(3))
            parts = [
                body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True) if a < b
            ]
            more.append("Transfer-Encoding: chunked")
            body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        else:
            more.append(f"Content-Length: {len(body)}")
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: endtape.test\r\nConnection: close\r\nContent-Type: {kind}\r\n"
            + "".join(f"{line}\r\n" for line in more)
            + "\r\n"
        )
        raw = head.encode("utf-8", "replace") + body
        return self._broken(raw) if chance.random() < 0.25 else raw

    def _word(self):
        chance = self.chance
        return (
            chance.choice(WORDS)
            if chance.random() < 0.8
            else "".join(
                chr(chance.choice([chance.randint(0, 127), chance.randint(128, 0x2FF)]))
                for _ in range(chance.randint(0, 40))
            )
        )

    def _body(self):
        chance = self.chance
        roll = chance.random()
        if roll < 0.35:
            kind, body = chance.choice(SEEDS)
            return kind, self._broken(body) if chance.random() < 0.8 else body
        fields = {
            "Event": chance.choice(KINDS),
            "CallUUID": chance.choice(["c1", "c2", "c3"]),
            "RecordingID": chance.choice(["r1", "r2"]),
        }
        fields |= {chance.choice(NAMES): self._word() for _ in range(chance.randint(0, 8))}
        if roll < 0.65:
            return FORM, "&".join(
                f"{k}={quote_plus(v, errors='replace')}" for k, v in fields.items()
            ).encode("utf-8", "replace")
        if roll < 0.72:
            return chance.choice(
                [
                    PARTS,
                    PARTS,
                    FORM,
                    "multipart/form-data",
                    'multipart/mixed; boundary="' + self._word() + '"',
                ]
            ), self._parts(fields)
        said = {k: self._value(v, 3) for k, v in fields.items()}
        text = self._json({"response": said} if chance.random() < 0.1 else said)
        if roll < 0.85:
            return JSON, text.encode("utf-8", "replace")
        return FORM, f"response={quote_plus(text, errors='replace')}".encode()

    def _parts(self, fields):
        chance, end = self.chance, self.chance.choice(["\r\n", "\r\n", "\n", "\r"])
        parts = [
            f'------x7{end}Content-Disposition: form-data; name="{k}"{chance.choice(["", "", "; filename=x"])}{end}{end}{v}{end}'
            for k, v in fields.items()
        ]
        return "".join([*parts, chance.choice([f"------x7--{end}"] * 4 + ["", "------x7"])]).encode(
            "utf-8", "replace"
        )

    def _value(self, word, depth):
        chance = self.chance
        return chance.choice(
            [
                word,
                word,
                word,
                chance.randint(-(10**30), 10**30),
                chance.uniform(-1e308, 1e308),
                True,
                None,
                [self._value(word, depth - 1)] * 2 if depth else [],
                {chance.choice(NAMES): self._value(word, depth - 1)} if depth else {},
            ]
        )

    def _json(self, value):
        if isinstance(value, dict):
            return (
                "{" + ",".join(f"{self._json(k)}:{self._json(v)}" for k, v in value.items()) + "}"
            )
        if isinstance(value, list):
            return "[" + ",".join(map(self._json, value)) + "]"
        if isinstance(value, str):
            return (
                '"'
                + "".join(
                    c if " " <= c <= "~" and c not in '"\\' else f"\\u{min(ord(c), 0xFFFF):04x}"
                    for c in value
                )
                + '"'
            )
        return (
            {True: "true", None: "null"}.get(value, str(value))
            if value is None or value is True
            else str(value)
        )

    def _broken(self, raw):
        chance, found = self.chance, bytearray(raw)
        for _ in range(chance.choice([1, 1, 2, 5, 20])):
            at = chance.randint(0, len(found))
            match chance.randint(0, 4):
                case 0:
                    found[at : at + 1] = bytes([chance.randint(0, 255)])
                case 1:
                    found[at:at] = chance.choice(BYTES)
                case 2:
                    del found[at : at + chance.choice([1, 2, 10, 200])]
                case 3:
                    end = min(len(found), at + chance.randint(1, 60))
                    found[at:at] = found[at:end] * chance.choice([1, 2, 30])
                case _:
                    found[at:at] = self._word().encode("utf-8", "replace")
        return bytes(found)


def filled(raw, base):
    """With a good signature for the path, and the key, in place of what stands for them."""
    path = [*raw.split(b" ", 2), b"", b""][1].partition(b"?")[0].decode("latin-1")
    try:
        found = signing.signature_headers("v3+v2", base + path, TOKEN, None, signing.Nonces())
    except ValueError:  # no address any more
        found = signing.signature_headers("v3+v2", base + DOOR, TOKEN, None, signing.Nonces())
    return raw.replace(
        b"{SIGNATURE}", "\r\n".join(f"{name}: {value}" for name, value in found.items()).encode()
    ).replace(b"{KEY}", KEY.encode())


def answer_to(base, raw, *, within_s=8.0):
    """What comes back. The sending side is closed after the request, so that one that announces
    more than it holds ends too."""
    answer = b""
    with connect(base, within_s) as connection:
        try:
            connection.sendall(filled(raw, base))
            if b"{SIGNATURE}" not in raw or not raw.endswith(b"0\r\n\r\n"):
                connection.settimeout(1.0)
            while block := connection.recv(65536):
                answer += block
        except TimeoutError:
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass
    return answer


def run(base, *, seconds, seed, threads=8):
    """Sends until the time is up. The answers by status, and the requests that were answered with a
    5xx or a redirect."""
    end, counts, failed = time.monotonic() + seconds, Counter(), []

    def send(number):
        fuzzer = Fuzzer(f"{seed}:{number}")
        while time.monotonic() < end:
            raw = fuzzer.request()
            try:
                found = statuses(answer_to(base, raw))
            except OSError as error:
                found = [f"no connection: {error.errno}"]
            counts.update(found or ["closed"])
            if any(
                isinstance(status, str) or status >= 500 or 300 <= status < 400 for status in found
            ):
                failed.append(raw)

    crew = [threading.Thread(target=send, args=(n,)) for n in range(threads)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    return counts, failed


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    folder, port = Path(tempfile.mkdtemp(prefix="et")), free_port()
    base = f"http://127.0.0.1:{port}"
    with EmbeddedRedis(folder / "redis", fsync="no") as redis:
        env = {
            "VOBIZ_AUTH_ID": ACCOUNT,
            "VOBIZ_AUTH_TOKEN": TOKEN,
            "VOBIZ_API_URL": "http://127.0.0.1:1",
            "REDIS_URL": redis.url,
            "PORT": str(port),
            "HOST": "127.0.0.1",
            "ENDTAPE_PUBLIC_URL": base,
            "ENDTAPE_CALLBACK_TOKEN": CALLBACK_TOKEN,
            "ENDTAPE_API_KEY": KEY,
        }
        with Supervisor(env, folder / "log", {"web": lines()["web"]}, folder=folder) as processes:
            while True:
                try:
                    connect(base).close()
                    break
                except OSError:
                    time.sleep(0.1)
            process = processes.processes["web"].pid
            counts, failed = run(base, seconds=given.seconds, seed=given.seed)
            same = processes.processes["web"].pid == process
        log = (folder / "log").read_text(errors="replace")
    for raw in failed:
        (CASES / f"{hashlib.sha256(raw).hexdigest()[:12]}.bin").write_bytes(raw)
    trouble = len(re.findall(r"Traceback|panicked|fault of ours|Unexpected exit", log))
    total = sum(counts.values())
    print(
        f"{total:,} answers in {given.seconds:g} s, seed {given.seed}: {dict(sorted(counts.items(), key=str))}; {len(failed)} kept; {trouble} faults in the log"
    )
    if trouble:
        print(log[-6000:])
    shutil.rmtree(folder, ignore_errors=True)
    sys.exit(bool(failed or trouble or not same))


if __name__ == "__main__":
    main()
