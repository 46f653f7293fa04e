"""What bytes are, and how much audio is in them: real WAV files, hand-built MPEG frames, and
everything broken."""

import io
import random
import struct
import time
import wave

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tinytag import TinyTag

from worker.archive import media
from worker.archive.mpeg_frame import read_header

MPEG1, MPEG2, MPEG25 = 3, 2, 0
MONO, STEREO = 3, 0


def header(version=MPEG25, layer=3, bit_rate=2, rate=2, *, padding=0, mode=MONO):
    return struct.pack(
        ">I",
        0x7FF << 21
        | version << 19
        | (4 - layer) << 17
        | 1 << 16
        | bit_rate << 12
        | rate << 10
        | padding << 9
        | mode << 6,
    )


def frame(*args, fill=b"\x55", **kwargs):
    head = header(*args, **kwargs)
    return head + fill * (read_header(struct.unpack(">I", head)[0]).length - 4)


def id3v2(size=300, footer=False):
    body = bytes([size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127]) + bytes(size)
    return (
        b"ID3\4\0"
        + (b"\x10" if footer else b"\0")
        + body
        + (b"3DI\4\0\x10" + bytes(4) if footer else b"")
    )


def ape(size=100, *, with_header=True):
    footer = (
        b"APETAGEX"
        + struct.pack("<IIII", 2000, size + 32, 1, 0x80000000 if with_header else 0)
        + bytes(8)
    )
    return (bytes(32) if with_header else b"") + bytes(size) + footer


ID3V1 = b"TAG" + b"title".ljust(125, b"\0")
TELEPHONE = frame()  # MPEG 2.5, 8 kHz, mono, 16 kbit/s: 144 bytes, 72 ms


def examine(content):
    return media.examine(io.BytesIO(content))


def riff(*chunks, size=None):
    body = b"WAVE" + b"".join(
        name
        + struct.pack("<I", len(data) if length is None else length)
        + data
        + b"\0" * (len(data) % 2)
        for name, data, length in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body) if size is None else size) + body


def form(tag=1, channels=1, rate=8000, bits=16, extra=b""):
    block = channels * bits // 8
    return (
        b"fmt ",
        struct.pack("<HHIIHH", tag, channels, rate, rate * block, block, bits) + extra,
        None,
    )


def real_wav(channels, rate, width, seconds):
    made = io.BytesIO()
    with wave.open(made, "wb") as out:
        out.setnchannels(channels)
        out.setframerate(rate)
        out.setsampwidth(width)
        out.writeframes(random.Random(1).randbytes(int(rate * seconds) * channels * width))
    return made.getvalue()


# ── WAV ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("channels", "rate", "width", "codec"),
    [
        (1, 8000, 2, "pcm_s16le"),
        (2, 8000, 2, "pcm_s16le"),
        (1, 8000, 1, "pcm_u8"),
        (2, 44100, 3, "pcm_s24le"),
        (1, 16000, 4, "pcm_s32le"),
    ],
)
def test_a_real_wav(channels, rate, width, codec):
    content = real_wav(channels, rate, width, 1.5)
    found = examine(content)
    assert (found.container, found.extension, found.codec, found.problem) == (
        "wav",
        "wav",
        codec,
        None,
    )
    assert (found.channels, found.sample_rate, found.bytes) == (channels, rate, len(content))
    assert found.duration_s == pytest.approx(1.5)
    assert found.duration_s == pytest.approx(
        TinyTag.get(filename="x.wav", file_obj=io.BytesIO(content)).duration, abs=0.01
    )


@pytest.mark.parametrize(
    ("tag", "bits", "codec"), [(6, 8, "pcm_alaw"), (7, 8, "pcm_mulaw"), (3, 32, "pcm_f32le")]
)
def test_telephone_codings(tag, bits, codec):
    found = examine(riff(form(tag, bits=bits), (b"data", bytes(bits * 1000), None)))
    assert (found.codec, found.duration_s, found.problem) == (codec, 1.0, None)


def test_an_extensible_format_names_its_coding_further_down():
    extra = struct.pack("<HHIH", 22, 16, 4, 7) + bytes(14)
    assert (
        examine(riff(form(0xFFFE, bits=8, extra=extra), (b"data", bytes(8000), None))).codec
        == "pcm_mulaw"
    )


def test_another_coding_in_a_wav_is_measured_by_its_byte_rate():
    gsm = (b"fmt ", struct.pack("<HHIIHHH", 0x31, 1, 8000, 1625, 65, 0, 320), None)
    found = examine(riff(gsm, (b"data", bytes(16250), None)))
    assert (found.codec, found.duration_s, found.problem) == ("wav_0x0031", 10.0, None)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF000])
def test_a_writer_that_could_not_seek_leaves_the_bytes_present_to_count(size):
    found = examine(riff(form(), (b"data", bytes(16000), size), size=size))
    assert (found.duration_s, found.problem) == (1.0, None)


@pytest.mark.parametrize("kept", [0, 1, 8000, 15999])
def test_a_cut_wav(kept):
    found = examine(riff(form(), (b"data", bytes(16000), None))[: 44 + kept])
    assert found.duration_s == pytest.approx(kept / 16000, abs=0.001)
    assert "cut" in found.problem


def test_chunks_around_the_audio_are_stepped_over():
    note = (b"LIST", b"note!", None)
    assert examine(riff(note, form(), note, (b"data", bytes(16000), None), note)).problem is None
    assert examine(riff(form(bits=8, tag=7), (b"data", bytes(8001), None))[:-1]).problem is None


@pytest.mark.parametrize(
    "content",
    [
        riff(),
        riff(form()),
        riff((b"data", bytes(100), None)),
        riff(form(), (b"data", b"", None)),
        riff(form(channels=0), (b"data", bytes(9), None)),
        riff(form(rate=0), (b"data", bytes(9), None)),
        riff((b"fmt ", b"\1\0", None)),
        riff(*[(b"junk", b"", None)] * 5000),
        b"RIFF\0\0\0\0WAVE",
    ],
)
def test_a_wav_without_audio_has_a_problem(content):
    found = examine(content)
    assert found.container == "wav"
    assert found.problem
    assert not found.duration_s


# ── MPEG ───────────────────────────────────────────────────────────────────────────────────────────────────────────

SETTINGS = [
    (version, layer, bit_rate, rate, mode)
    for version in (MPEG1, MPEG2, MPEG25)
    for layer in (1, 2, 3)
    for bit_rate in (1, 8, 14)
    for rate in (0, 1, 2)
    for mode in (MONO, STEREO)
]


@pytest.mark.parametrize(("version", "layer", "bit_rate", "rate", "mode"), SETTINGS)
def test_every_version_layer_and_rate_is_walked(version, layer, bit_rate, rate, mode):
    one = frame(version, layer, bit_rate, rate, mode=mode)
    found = examine(one * 50)
    samples = 384 if layer == 1 else 576 if layer == 3 and version != MPEG1 else 1152
    hertz = (44100, 48000, 32000)[rate] / {MPEG1: 1, MPEG2: 2, MPEG25: 4}[version]
    assert (found.container, found.codec, found.extension, found.problem) == (
        "mp3",
        f"mp{layer}",
        f"mp{layer}",
        None,
    )
    assert (found.channels, found.sample_rate) == (1 if mode == MONO else 2, int(hertz))
    assert found.duration_s == pytest.approx(50 * samples / hertz)


def test_known_frame_lengths():
    assert len(frame(MPEG1, 3, 9, 0, mode=STEREO)) == 417  # 128 kbit/s at 44.1 kHz
    assert len(frame(MPEG1, 3, 9, 0, mode=STEREO, padding=1)) == 418
    assert len(TELEPHONE) == 144
    assert len(frame(MPEG1, 1, 8, 0, padding=1)) == (12 * 256000 // 44100 + 1) * 4


@pytest.mark.parametrize("args", [(MPEG1, 3, 9, 0), (MPEG2, 3, 8, 0), (MPEG25, 3, 8, 2)])
def test_a_second_opinion_on_constant_bit_rate(args):
    content = id3v2() + frame(*args, mode=STEREO) * 400 + ID3V1
    second = TinyTag.get(filename="x.mp3", file_obj=io.BytesIO(content)).duration
    assert examine(content).duration_s == pytest.approx(second, rel=0.01)


def test_variable_bit_rate_is_measured_frame_by_frame():
    rates = random.Random(7).choices(range(1, 15), k=500)
    content = b"".join(frame(MPEG1, 3, rate, 0, mode=STEREO, padding=rate % 2) for rate in rates)
    found = examine(content)
    assert (found.duration_s, found.problem) == (pytest.approx(500 * 1152 / 44100), None)


@pytest.mark.parametrize(
    ("tag", "args", "mode", "offset"),
    [
        (b"Xing", (MPEG1, 3, 9, 0), STEREO, 36),
        (b"Info", (MPEG1, 3, 9, 0), MONO, 21),
        (b"Info", (MPEG25, 3, 8, 2), STEREO, 21),
        (b"Xing", (MPEG2, 3, 8, 0), MONO, 13),
        (b"VBRI", (MPEG1, 3, 9, 0), MONO, 36),
    ],
)
def test_an_encoder_s_notes_are_no_audio(tag, args, mode, offset):
    one = frame(*args, mode=mode)
    notes = one[:offset] + tag + one[offset + 4 :]
    assert examine(notes + one * 10).duration_s == examine(one * 10).duration_s


@pytest.mark.parametrize(
    "before", [b"", id3v2(), id3v2(0), id3v2(5, footer=True), id3v2() + id3v2(20)]
)
@pytest.mark.parametrize(
    "after",
    [
        b"",
        ID3V1,
        ape(),
        ape(with_header=False),
        ape() + ID3V1,
        TELEPHONE[:143],
        TELEPHONE[:5],
        TELEPHONE[:3],
        b"\xff",
    ],
)
def test_tags_and_one_partial_frame_are_no_problem(before, after):
    found = examine(before + TELEPHONE * 100 + after)
    assert (found.container, found.duration_s, found.problem) == ("mp3", pytest.approx(7.2), None)


@pytest.mark.parametrize(
    ("middle", "present"),
    [
        (bytes(1000), 200),
        (bytes(1), 200),
        (b"\xff" * 5000, 200),
        (random.Random(3).randbytes(3000), 200),
        (b"\xff\xe3" * 700, 200),
        (TELEPHONE[:70], 200),
        (frame(MPEG1, 3, 9, 0) * 3, 200),
        (bytes(3 << 20), 200),
        (b"", 200),
    ],
)
def test_a_gap_in_the_middle_is_found_and_walked_over(middle, present):
    found = examine(TELEPHONE * 100 + middle + TELEPHONE * 100)
    assert found.duration_s == pytest.approx(present * 0.072, abs=0.15)
    assert (found.problem is None) == (middle == b"")
    if middle:
        assert "no frame at byte 14" in found.problem


@pytest.mark.parametrize(
    "tail",
    [
        b"<html>error</html>",
        b'{"error": "gone"}',
        b"<Error><Code>x</Code></Error>",
        b"x" * 200,
        random.Random(5).randbytes(5000),
    ],
)
def test_what_follows_the_audio_and_is_none_is_a_problem(tail):
    found = examine(TELEPHONE * 100 + tail)
    assert found.duration_s == pytest.approx(7.2, abs=0.08)
    assert "no frame" in found.problem


def test_overwritten_bytes_inside_the_file_are_found():
    whole = bytearray(TELEPHONE * 1000)
    whole[50_000:60_000] = bytes(10_000)
    assert "no frame" in examine(bytes(whole)).problem


@pytest.mark.parametrize(
    "other", [frame(mode=STEREO), frame(rate=1), frame(MPEG1, 3, 9, 0), frame(MPEG2, 2, 8, 0)]
)
def test_a_stream_may_go_on_with_other_channels_or_another_rate(other):
    found = examine(TELEPHONE * 50 + other * 50)
    alone = examine(other * 50).duration_s
    assert (found.duration_s, found.channels, found.problem) == (
        pytest.approx(3.6 + alone),
        1,
        None,
    )


@pytest.mark.parametrize(
    "content",
    [
        id3v2(),
        id3v2() + bytes(5000),
        id3v2(4000)[:100],
        b"ID3",
        b"\xff\xfb",
        b"\xff\xe3\x28\xc0" + bytes(5000),
    ],
)
def test_an_mp3_in_name_only_is_unknown(content):
    found = examine(content)
    assert (found.container, found.extension) == ("unknown", "bin")
    assert found.problem


def test_half_a_frame_is_no_audio():
    found = examine(TELEPHONE[:100])
    assert (found.duration_s, found.problem) == (0.0, "there is not one whole frame")


def test_a_hundred_megabytes_are_walked_in_seconds():
    content = io.BytesIO(TELEPHONE * (100_000_000 // len(TELEPHONE)))
    begun = time.perf_counter()
    assert media.examine(content).problem is None
    assert time.perf_counter() - begun < 4


# ── what is no audio ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("content", "container", "extension"),
    [
        (b"", "empty", "bin"),
        (b"<!DOCTYPE html><html>", "html", "html"),
        (b"\xef\xbb\xbf \r\n<HTML><body>", "html", "html"),
        (b"<!-- hello --><p>", "html", "html"),
        ("<html>\u0416".encode("utf-16"), "html", "html"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "xml", "xml"),
        (b"<Error><Code>NoSuchKey</Code></Error>", "xml", "xml"),
        (b'{"error": "not found"}', "json", "json"),
        (b' [1, 2, "\xc3\xa9"]', "json", "json"),
        (b'{"a": "' + b"x" * 504 + "é".encode() * 50, "json", "json"),
        (b"Not Found", "unknown", "bin"),
        (bytes(2000) + b"\r\n<!DOCTYPE html><html>", "html", "html"),
        (b"OggS" + bytes(100), "ogg", "ogg"),
        (b"fLaC" + bytes(100), "flac", "flac"),
        (bytes(3) + b"\x20ftypM4A " + bytes(100), "m4a", "m4a"),
        (b"FORM\0\0\1\0AIFF" + bytes(100), "aiff", "aiff"),
        (b"#!AMR\n" + bytes(100), "amr", "amr"),
        (b"\x89PNG\r\n\x1a\n" + random.Random(1).randbytes(50_000), "unknown", "bin"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF" + random.Random(2).randbytes(50_000), "unknown", "bin"),
        (b"\x1f\x8b\x08" + random.Random(3).randbytes(50_000), "unknown", "bin"),
        (bytes(100_000), "unknown", "bin"),
        (b"{" + bytes(range(128, 200)), "unknown", "bin"),
        (b"\xff\xf1" * 1000, "unknown", "bin"),
    ],
)
def test_other_things_are_called_by_their_name(content, container, extension):
    found = examine(content)
    assert (found.container, found.extension, found.bytes, found.duration_s) == (
        container,
        extension,
        len(content),
        None,
    )
    assert found.problem


bits = st.sampled_from(
    [
        TELEPHONE,
        TELEPHONE[:50],
        id3v2(),
        ID3V1,
        ape(),
        bytes(50),
        b"\xff\xff\xff",
        b"RIFF\0\0\0\0WAVE",
        b"fmt \x10\0\0\0",
        b"data",
        real_wav(1, 8000, 2, 0.01),
        frame(MPEG1, 3, 9, 0),
        header(),
    ]
)


@settings(max_examples=300, deadline=2000)
@given(st.lists(st.one_of(bits, st.binary(max_size=80)), max_size=12).map(b"".join))
def test_nothing_raises_or_hangs(content):
    found = examine(content)
    assert found.bytes == len(content)
    assert found.problem or found.duration_s
    assert found.duration_s is None or found.duration_s >= 0
