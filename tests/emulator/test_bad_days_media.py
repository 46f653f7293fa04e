"""Each bad day of the media host does what its name says."""

import gzip
import time
from io import BytesIO

import pytest
import requests
from tinytag import TinyTag

from emulator.bad_days import BAD_DAYS

TRIED = {}


def bad_day(name):
    def keep(test):
        TRIED[name] = test
        return test

    return keep


@pytest.mark.parametrize(
    "name", [name for name in BAD_DAYS if "media" in name or name == "lying-container"]
)
def test_each_bad_day_does_what_its_name_says(bad_day, name):
    TRIED[name](bad_day)


@bad_day("media-5xx")
def _(bad_day):
    recording = bad_day.finished()
    bad_day.on("media-5xx", status=500, times=1)
    assert [bad_day.rest.media(recording).status_code for _ in range(2)] == [500, 200]


@bad_day("media-timeout")
def _(bad_day):
    recording = bad_day.finished()
    bad_day.on("media-timeout", seconds=0.05)
    with pytest.raises(requests.ConnectionError):
        bad_day.rest.media(recording)


@bad_day("redirect-media")
def _(bad_day):
    recording = bad_day.finished()
    bad_day.on("redirect-media", location="https://storage.example/x.mp3", status=307)
    answer = bad_day.rest.media(recording)
    assert (answer.status_code, answer.headers["Location"]) == (
        307,
        "https://storage.example/x.mp3",
    )


@bad_day("empty-media")
def _(bad_day):
    recording = bad_day.finished()
    bad_day.on("empty-media")
    answer = bad_day.rest.media(recording)
    assert (answer.status_code, answer.headers["Content-Length"], answer.content) == (200, "0", b"")


@bad_day("html-media")
def _(bad_day):
    recording = bad_day.finished()
    bad_day.on("html-media")
    answer = bad_day.rest.media(recording)
    assert (answer.headers["Content-Type"], answer.content[:15]) == (
        "audio/mpeg",
        b"<!doctype html>",
    )


@bad_day("json-media")
def _(bad_day):
    recording = bad_day.finished()
    bad_day.on("json-media")
    answer = bad_day.rest.media(recording)
    assert (answer.status_code, answer.headers["Content-Type"], "error" in answer.json()) == (
        200,
        "audio/mpeg",
        True,
    )


@bad_day("lying-container")
def _(bad_day):
    mp3, wav = bad_day.finished(), bad_day.finished(container="wav")
    bad_day.on("lying-container")
    assert bad_day.rest.media(mp3).content[:4] == b"RIFF"
    assert bad_day.rest.media(wav).content[:2] == b"\xff\xe3"


@bad_day("short-media")
def _(bad_day):
    recording = bad_day.finished(seconds=20, container="wav")
    bad_day.on("short-media", fraction=0.25)
    answer = bad_day.rest.media(recording)
    assert len(answer.content) == int(answer.headers["Content-Length"])
    assert TinyTag.get(
        filename="x.wav", file_obj=BytesIO(answer.content)
    ).duration == pytest.approx(5, abs=0.1)


@bad_day("padded-media")
def _(bad_day):
    recording = bad_day.finished(seconds=1)
    bad_day.on("padded-media", bytes=300)
    answer = bad_day.rest.media(recording)
    assert (int(answer.headers["Content-Length"]), answer.content[:302]) == (
        recording.audio().size + 300,
        bytes(300) + b"\xff\xe3",
    )


@bad_day("truncated-media")
def _(bad_day):
    recording = bad_day.finished(seconds=20)
    bad_day.on("truncated-media", fraction=0.3)
    with pytest.raises(
        requests.exceptions.ChunkedEncodingError, match=str(int(recording.audio().size * 0.3))
    ):
        bad_day.rest.media(recording)


@bad_day("trickled-media")
def _(bad_day):
    recording = bad_day.finished(seconds=0.3)
    bad_day.on("trickled-media", bytes=1000, pause_s=0.02)
    began = time.monotonic()
    assert len(bad_day.rest.media(recording).content) == recording.audio().size
    assert time.monotonic() - began >= 0.02 * (recording.audio().size // 1000)


@bad_day("no-length-media")
def _(bad_day):
    recording = bad_day.finished()
    bad_day.on("no-length-media")
    answer = bad_day.rest.media(recording)
    assert (answer.headers["Transfer-Encoding"], "Content-Length" in answer.headers) == (
        "chunked",
        False,
    )
    assert answer.content == b"".join(recording.audio().stream())


@bad_day("ranged-media")
def _(bad_day):
    recording = bad_day.finished(seconds=3)
    whole = bad_day.rest.media(recording).content

    def ask(begin, validator='"v1"'):
        headers = {**bad_day.rest.headers, "Range": f"bytes={begin}-", "If-Range": validator}
        return requests.get(recording.url, headers=headers, timeout=5)

    assert ask(10).status_code == 200  # a host that knows nothing of ranges
    bad_day.on("ranged-media")
    first, rest = bad_day.rest.media(recording), ask(10)
    assert (
        first.status_code,
        first.headers["ETag"],
        first.headers["Accept-Ranges"],
        first.content,
    ) == (200, '"v1"', "bytes", whole)
    assert (rest.status_code, rest.headers["Content-Range"], rest.content) == (
        206,
        f"bytes 10-{len(whole) - 1}/{len(whole)}",
        whole[10:],
    )
    assert (ask(10, '"v0"').status_code, ask(len(whole)).status_code) == (200, 416)
    bad_day.on("truncated-media", fraction=0.5)
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match=str((len(whole) - 10) // 2)):
        ask(10)
    bad_day.provider.faults.switch_off("truncated-media")
    bad_day.on("ranged-media", blind=True, etag='"v2"')
    assert (ask(10).status_code, ask(10).headers["ETag"]) == (206, '"v2"')
    bad_day.on("ranged-media", shifted=5)
    assert ask(10).headers["Content-Range"].startswith("bytes 15-")
    bad_day.on("ranged-media", ignored=True)
    assert (ask(10).status_code, ask(10).content) == (200, whole)
    modified = "Mon, 14 Sep 2026 02:30:00 GMT"
    bad_day.on("ranged-media", modified=modified)
    assert bad_day.rest.media(recording).headers["Last-Modified"] == modified
    assert (ask(10, modified).status_code, "ETag" in ask(10, modified).headers) == (206, False)
    bad_day.on("no-length-media")
    assert (ask(10, modified).status_code, ask(10, modified).content) == (206, whole[10:])


@bad_day("gzip-media")
def _(bad_day):
    recording = bad_day.finished()
    bad_day.on("gzip-media")
    with requests.get(
        recording.url, headers=bad_day.rest.headers, stream=True, timeout=5
    ) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(b"".join(answer.raw.stream(decode_content=False))) == b"".join(
            recording.audio().stream()
        )


@bad_day("huge-media")
def _(bad_day):
    recording = bad_day.finished()
    bad_day.on("huge-media", bytes=30_000_001)
    assert len(bad_day.rest.media(recording).content) == 30_000_001
    bad_day.on("huge-media", bytes=10**12)
    with bad_day.rest.media(recording, stream=True) as answer:
        assert answer.headers["Content-Length"] == str(10**12)
        assert len(answer.raw.read(1 << 20)) == 1 << 20
