"""What is archived at the first try and what is refused: bytes and the provider's figure, through
all the checks.

Players were asked (ffmpeg, sox, mpg123) what each kind of file lasts; their answers stand here as
figures.
"""

import io
import random
import struct
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.archive.test_media import (
    ID3V1,
    MPEG1,
    MPEG2,
    STEREO,
    TELEPHONE,
    ape,
    form,
    frame,
    header,
    id3v2,
    riff,
)
from worker.archive import media
from worker.archive.checks import check_media, first_failed
from worker.vobiz.piece import Download

NOISE = random.Random(11).randbytes(160_000)  # 10 s of 8 kHz, 16 bits, mono
WAV = riff(form(), (b"data", NOISE, None))
MP3 = frame(bit_rate=8) * 139  # 10.008 s; 64 kbit/s at 8 kHz
LAME = frame(MPEG1, 3, 9, 0, mode=STEREO)  # 26 ms
INFO = LAME[:36] + b"Info" + LAME[40:]
NOTE = b"INFOISFT\x05\0\0\0Lavf\0"  # 17 bytes: an odd length
APE = (
    b"APETAGEX"
    + struct.pack("<IIII", 2000, 72, 1, 0xA0000000)
    + bytes(48)
    + b"APETAGEX"
    + struct.pack("<IIII", 2000, 72, 1, 0x80000000)
    + bytes(8)
)
PAGE = b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head></html>"


def refused(content, provider_s, *, announced=None):
    """The check that refuses these bytes at the first try, or None."""
    found = media.examine(io.BytesIO(content))
    arrived = Download(
        bytes=len(content),
        sha256="0",
        declared_bytes=announced or len(content),
        content_type=None,
        hops=0,
    )
    return first_failed(check_media(found, arrived, provider_s, 1 << 30))


def accepted(content, provider_s=10.0):
    """What is found in bytes that pass every check at the first try."""
    assert refused(content, provider_s) is None
    found = media.examine(io.BytesIO(content))
    assert found.duration_s == pytest.approx(provider_s, abs=0.2)
    return found


def patched(content, *fields):
    content = bytearray(content)
    for offset, layout, value in fields:
        struct.pack_into(layout, content, offset, value)
    return bytes(content)


# ── MPEG: tags, padding and beginnings ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "before",
    [
        bytes(1024),
        bytes(1),
        bytes(5_000_000),
        b"\xff" * 8,
        b"\xff" * 8 + MP3[400:576],
        b"\xff" * 4096,
        MP3[400:576],
        MP3[4:576],
        b"\xef\xbb\xbf",
        b"\r\n",
        id3v2() + bytes(2048),
        id3v2() + bytes(100) + id3v2(50),
        id3v2(5, footer=True) + MP3[500:576],
        bytes(64) + id3v2(),
        ape(),
        id3v2() + ape(),
        b"ID3\3\0\0\0\0\1\xff" + bytes(511),
        b"ID3\2\0\0\0\0\0\x05" + bytes(700),
        b"RIFF\0\0\0\0RMP3data\0\0\0\0",
        b"HTTP/1.1 200 OK\r\n\r\n",
    ],
    ids=range(20),
)
@pytest.mark.parametrize(
    "audio", [MP3, LAME * 383, INFO + LAME * 383], ids=["telephone", "lame", "noted"]
)
def test_an_mp3_is_found_behind_whatever_players_step_over(before, audio):
    found = accepted(before + audio)
    assert (found.container, found.extension, found.problem) == ("mp3", "mp3", None)


@pytest.mark.parametrize(
    "after",
    [
        bytes(1),
        bytes(144),
        bytes(100_000),
        b"\xff" * 500,
        b"\xff\0",
        MP3[:300],
        MP3[:300] + bytes(1000),
        ID3V1,
        ID3V1 + bytes(300),
        ape() + bytes(64) + ID3V1,
        b"TAG+" + bytes(223) + ID3V1,
        b"LYRICSBEGIN" + b"some words" + b"LYRICSEND" + ID3V1,
        b"LYRICSBEGININD0000200000021LYRICS200" + ID3V1,
        b"ID3\4\0\x10\0\0\0\x14" + bytes(20) + b"3DI\4\0\x10\0\0\0\x14",
        id3v2(),
        MP3[:200] + ID3V1,
        MP3[:200] + ape(),
        MP3[:200] + id3v2(20),
        b"\r\n",
        b"made by x",
    ],
    ids=range(20),
)
def test_what_stands_behind_an_mp3_and_is_no_page_does_no_harm(after):
    assert accepted(MP3 + after).problem is None


@pytest.mark.parametrize(
    "join",
    [
        id3v2(),
        ID3V1,
        ID3V1 + id3v2(),
        APE,
        MP3[:200] + id3v2(),
        MP3[:200] + ID3V1 + id3v2(),
        ID3V1 + bytes(100) + id3v2() + bytes(700),
        MP3[:100] + INFO,
    ],
    ids=range(8),
)
def test_files_that_were_put_together_are_one(join):
    other = LAME * 200
    found = accepted(MP3 + join + other, 10.008 + 200 * 1152 / 44100)
    assert found.problem is None


def test_free_bit_rate_is_walked():
    one = header(MPEG2, 3, 0, 2) + b"\x55" * 296
    assert accepted(one * 278).problem is None  # MPEG 2, 16 kHz: 36 ms each
    padded = header(MPEG2, 3, 0, 2, padding=1) + b"\x55" * 297
    assert accepted((one + padded) * 139).problem is None


def test_bytes_amid_an_mp3_are_no_loss_where_nothing_is_missing():
    half = MP3[: 576 * 70], MP3[576 * 70 :]
    for junk in (bytes(2000), bytes(100_000), random.Random(2).randbytes(2000)):
        assert refused(junk.join(half), 10.008) is None
        assert media.examine(io.BytesIO(junk.join(half))).problem
    assert refused(half[0][:-100] + half[1], 10.0) is None  # a click of 72 ms
    assert refused(random.Random(2).randbytes(20_000) + MP3, 10.008) is None


def test_bytes_amid_an_mp3_that_stand_where_audio_was_are_a_loss():
    for hole in (
        bytes(2000),
        random.Random(2).randbytes(7000),
    ):  # 0.25 s and 0.9 s: less than the duration's tolerance
        assert refused(MP3[:20_000] + hole + MP3[20_000 + len(hole) :], 10.008) == "frames"


@pytest.mark.parametrize("whole", [WAV, MP3], ids=["wav", "mp3"])
@pytest.mark.parametrize("at", [1700, 40_300, 200_000])
def test_a_page_amid_the_audio_is_refused_whatever_it_lasts(whole, at):
    for content in (whole[:at] + PAGE + whole[at:], whole[:at] + PAGE + whole[at + len(PAGE) :]):
        assert refused(content, 10.0) == "frames"


# ── WAV: sizes and forms that are wrong by habit ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("block", [0, 1, 4, 16, 32])
@pytest.mark.parametrize("byte_rate", [0, 1, 16_000, 999_999])
def test_uncompressed_audio_lasts_what_channels_bits_and_rate_say(block, byte_rate):
    found = accepted(patched(WAV, (28, "<I", byte_rate), (32, "<H", block)))
    assert (found.duration_s, found.problem) == (10.0, None)


@pytest.mark.parametrize("riff_size", [0, 5, 0xFFFFFFFF, len(WAV), len(WAV) - 8])
@pytest.mark.parametrize(
    "data_size",
    [
        0,
        0xFFFFFFFF,
        0x7FFFFFFF,
        0x7FFFF000,
        0x7FFFFFFF - 36,
        0x80000000,
        len(WAV),
        len(WAV) - 8,
        320_000,
        160_044,
        1 << 30,
    ],
)
def test_sizes_that_a_header_has_wrong_do_no_harm(riff_size, data_size):
    accepted(patched(WAV, (4, "<I", riff_size), (40, "<I", data_size)))


@pytest.mark.parametrize(
    "form_chunk",
    [
        (b"fmt ", form()[1][:14], None),
        (b"fmt ", form()[1] + b"\0\0", None),
        (b"fmt ", form()[1] + bytes(24), None),
        form(0xFFFE, extra=struct.pack("<HHIH", 22, 16, 4, 1) + bytes(14)),
        form(0xFFFE, extra=struct.pack("<HHIH", 22, 0, 0, 0) + bytes(14)),
        form(bits=12),
        form(6, channels=2, bits=8),
        form(7, channels=2, bits=8),
        patched(form(7, channels=2)[1], (14, "<H", 0)),
        form(3, bits=32, rate=4000),
        form(channels=2, rate=4000),
        form(bits=24, rate=16000 // 3),
    ],
    ids=range(12),
)
def test_every_kind_of_format_chunk(form_chunk):
    chunk = form_chunk if isinstance(form_chunk, tuple) else (b"fmt ", form_chunk, None)
    accepted(riff(chunk, (b"data", NOISE, None)))


@pytest.mark.parametrize(
    ("tag", "block", "bits", "byte_rate", "length"),
    [
        (0x11, 256, 4, 0, 40_634),
        (0x11, 256, 4, 4055, 40_634),
        (2, 256, 4, 1, 41_000),
        (0x31, 65, 0, 0, 16_250),
        (0x45, 1, 4, 4000, 40_000),
        (0x45, 1, 4, 0, 40_000),
    ],
    ids=["ima", "ima, right rate", "ms", "gsm", "g726", "g726 without a rate"],
)
def test_compressed_audio_lasts_what_its_blocks_say(tag, block, bits, byte_rate, length):
    chunk = (b"fmt ", struct.pack("<HHIIHHHH", tag, 1, 8000, byte_rate, block, bits, 2, 0), None)
    accepted(riff(chunk, (b"data", NOISE[:length], None)))


def test_mpeg_in_a_wav_is_walked():
    chunk = (b"fmt ", struct.pack("<HHIIHHH", 0x55, 1, 8000, 1, 1, 0, 0), None)
    found = accepted(riff(chunk, (b"data", MP3, None)))
    assert (found.container, found.codec, found.extension) == ("wav", "mp3", "wav")
    assert refused(riff(chunk, (b"data", NOISE, None)), 10.0) == "frames"


def big_endian():
    form_chunk = struct.pack(">HHIIHH", 1, 1, 8000, 16000, 2, 16)
    return (
        b"RIFX\0\0\0\0WAVEfmt "
        + struct.pack(">I", 16)
        + form_chunk
        + b"data"
        + struct.pack(">I", len(NOISE))
        + NOISE
    )


def rf64(data_size, name=b"RF64"):
    ds64 = struct.pack("<QQQI", 0, data_size, 0, 0)
    return name + riff((b"ds64", ds64, None), form(), (b"data", NOISE, 0xFFFFFFFF))[4:]


def wave64(data_size):
    def guid(name):
        return name + bytes.fromhex("f3acd3118cd100c04f8edb8a")

    return (
        bytes.fromhex("726966662e91cf11a5d628db04c10000")
        + struct.pack("<Q", 0)
        + guid(b"wave")
        + guid(b"fmt ")
        + struct.pack("<Q", 40)
        + form()[1]
        + guid(b"junk")
        + struct.pack("<Q", 25)
        + bytes(8)
        + guid(b"data")
        + struct.pack("<Q", data_size)
        + NOISE
    )


@pytest.mark.parametrize(
    ("content", "extension"),
    [
        (big_endian(), "wav"),
        (rf64(160_000), "wav"),
        (rf64(160_000, b"BW64"), "wav"),
        (rf64(0), "wav"),
        (rf64((1 << 64) - 1), "wav"),
        (wave64(160_024), "w64"),
        (wave64((1 << 63) - 1), "w64"),
        (id3v2() + WAV, "wav"),
    ],
    ids=range(8),
)
def test_the_relatives_of_riff(content, extension):
    found = accepted(content)
    assert (found.container, found.extension, found.problem) == ("wav", extension, None)


@pytest.mark.parametrize(
    "content",
    [
        WAV[:36] + b"LIST\x11\0\0\0" + NOTE + WAV[36:],
        WAV[:36] + b"LIST\x11\0\0\0" + NOTE + b"\0" + WAV[36:],
        WAV[:36] + b"LIST\x11\0\0\0" + NOTE + b"Q" + WAV[36:],
        WAV[:36] + bytes(16) + WAV[36:],
        riff(
            (b"JUNK", bytes(28), None),
            (b"bext", bytes(602), None),
            form(),
            (b"fact", bytes(4), None),
            (b"data", NOISE, None),
        ),
        riff((b"data", NOISE, None), form()),
        riff(form(), (b"data", b"", 0), (b"data", NOISE, None)),
        WAV + b"LIST\x11\0\0\0" + NOTE,
        WAV + b"LIST\x11\0\0\0" + NOTE[:9],
        WAV + b"LIST\xff\xff\xff\xff" + NOTE,
        WAV + ID3V1,
        WAV + id3v2(),
        WAV + bytes(5000),
        WAV + b"made by MFAudio 1.1, which signs its files with so many bytes",
        WAV + NOISE[:5000],
        WAV[:-1],
    ],
    ids=range(16),
)
def test_what_stands_around_the_audio_of_a_wav_does_no_harm(content):
    accepted(content)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
@pytest.mark.parametrize(
    "after", [[(b"LIST", NOTE, None)], [(b"LIST", NOTE + b"x", None), (b"id3 ", id3v2(), None)]]
)
def test_chunks_behind_an_open_size_are_no_sound(size, after):
    content = riff(form(), (b"data", b"", size), *after)
    assert refused(content, 1.0) == "frames"
    assert media.examine(io.BytesIO(content)).duration_s == 0.0


# ── what stays refused ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("content", "provider_s", "check"),
    [
        (WAV[:-16_000], 10.0, "frames"),
        (WAV[:-1700], 10.0, "frames"),
        (WAV[:80_000], 10.0, "frames"),
        (WAV, 13.0, "duration"),
        (WAV, None, "duration"),
        (riff(form(), (b"data", NOISE[:64_000], None)), 10.0, "duration"),
        (riff(form(rate=0), (b"data", NOISE, None)), 10.0, "frames"),
        (MP3[:40_000], 10.0, "duration"),
        (bytes(1024) + MP3[:40_000], 10.0, "duration"),
        (bytes(100_000), 10.0, "container"),
        (b"\xff" * 100_000, 10.0, "container"),
        (bytes(1024) + PAGE, 10.0, "container"),
        (PAGE + MP3, 10.0, "container"),
        (id3v2() + bytes(5000), 10.0, "container"),
    ],
    ids=range(14),
)
def test_what_is_not_whole_or_no_sound_is_refused(content, provider_s, check):
    assert refused(content, provider_s) == check


def test_what_did_not_all_arrive_is_refused():
    for whole in (WAV, MP3):
        assert refused(whole[:-100], 10.0, announced=len(whole)) == "length"


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes_are_never_an_mp3(seed):
    assert (
        media.examine(io.BytesIO(random.Random(seed).randbytes(1_000_000))).container == "unknown"
    )


HARMLESS_MP3 = st.tuples(
    st.sampled_from(
        [
            b"",
            bytes(1),
            bytes(1024),
            b"\xff" * 8,
            id3v2(),
            id3v2() + bytes(333),
            ape(),
            MP3[500:576],
        ]
    ),
    st.sampled_from([MP3, LAME * 383, INFO + LAME * 383, frame(MPEG2, 2, 8, 1) * 208]),
    st.sampled_from([b"", bytes(1), bytes(999), MP3[:3], ape(), id3v2(9), b"\xff\xff"]),
    st.sampled_from([b"", ID3V1, ape(), ape() + ID3V1, ID3V1 + bytes(77)]),
).map(b"".join)
HARMLESS_WAV = st.tuples(
    st.sampled_from(
        [
            b"",
            b"LIST\x11\0\0\0" + NOTE + b"\0",
            b"LIST\x11\0\0\0" + NOTE,
            b"JUNK\x1c\0\0\0" + bytes(28),
        ]
    ),
    st.sampled_from([0, 1, 0xFFFFFFFF, len(WAV)]),
    st.sampled_from([0, 160_000, 160_044, 0xFFFFFFFF, 0x7FFFF000]),
    st.sampled_from([0, 1, 2, 16]),
    st.sampled_from([b"", bytes(7), ID3V1]),
).map(
    lambda m: (
        patched(WAV, (4, "<I", m[1]), (40, "<I", m[2]), (32, "<H", m[3]))[:36]
        + m[0]
        + patched(WAV, (40, "<I", m[2]))[36:]
        + m[4]
    )
)


@settings(max_examples=60, deadline=None)
@given(st.one_of(HARMLESS_MP3, HARMLESS_WAV), st.floats(0.1, 0.7), st.integers(0, 100))
def test_harmless_changes_are_accepted_and_harmful_ones_refused(content, kept, where):
    assert refused(content, 10.0) is None
    assert refused(content[: int(len(content) * kept)], 10.0) is not None
    assert refused(PAGE + content, 10.0) == "container"
    assert refused(content, 10.0, announced=len(content) + 1 + where) == "length"


# ── files that are made to be slow ─────────────────────────────────────────────────────────────────────────────────

SIZE = 10_000_000


@pytest.mark.parametrize(
    "unit",
    [
        b"\xff\xfb\x90\x00",
        b"\xff\xfb\x00\x00",
        b"ID3\3\0\0\0\0\0\0",
        b"TAG",
        b"\xff",
        TELEPHONE + b"\0",
        TELEPHONE * 5 + b"xyz",
        TELEPHONE * 5 + id3v2(1),
        TELEPHONE * 4 + frame(rate=1) * 4,
        b"<html ",
        b"RIFF",
        b"\xff\xf3\x14\xc4" + bytes(20),
        TELEPHONE * 5 + bytes(50_000),
    ],
    ids=range(13),
)
@pytest.mark.parametrize(
    "before",
    [b"", TELEPHONE * 100 + b"\1", b"RIFF\0\0\0\0WAVE" + b"data\0\0\0\0"],
    ids=["alone", "mp3", "wav"],
)
def test_no_file_takes_much_longer_than_a_sound_one(unit, before):
    def seconds(content):
        begun = time.process_time()
        media.examine(io.BytesIO(content))
        return time.process_time() - begun

    sound = seconds(TELEPHONE * (SIZE // len(TELEPHONE)))
    assert seconds(before + unit * (SIZE // len(unit))) < 1 + 30 * sound


class Watched(io.FileIO):
    """Remembers the most that was read at once."""

    most = 0

    def read(self, size=-1):
        content = super().read(size)
        self.most = max(self.most, len(content))
        return content


@pytest.mark.parametrize(
    "head", [patched(WAV, (40, "<I", 50_000_000))[:44], MP3, b""], ids=["wav", "mp3", "nothing"]
)
def test_a_large_file_is_read_in_blocks(tmp_path, head):
    path = tmp_path / "large"
    path.write_bytes(head)
    with Watched(path, "r+b") as file:
        file.truncate(50_000_044)
        media.examine(file)
        assert file.most <= 2 << 20
