"""Outlines for waveforms: exact for WAV, and speech told from pauses for MP3."""

import io
import json
import random
import struct
from array import array
from pathlib import Path

import pytest

from emulator.audio import Audio
from worker.archive import loudness, media, peaks, wav
from worker.archive.mpeg_frame import read_header
from worker.archive.mpeg_levels import levels_of

# Two sentences of espeak-ng with noise of -70 dB, at 8 kHz by LAME with 16 kbit/s; and the seconds
# in which somebody speaks.
SPEECH = Path(__file__).with_name("speech.mp3").read_bytes()
SPOKEN = [(1.0, 2.81), (4.81, 6.78)]
TAGS = {"pcm": 1, "float": 3, "alaw": 6, "mulaw": 7}


def file(content):
    return io.BytesIO(content)


def wave(data, *, coding="pcm", channels=1, rate=8000, bits=16, name=b"RIFF"):
    order = ">" if name == b"RIFX" else "<"
    width = (bits + 7) // 8 * channels
    form = struct.pack(f"{order}HHIIHH", TAGS[coding], channels, rate, rate * width, width, bits)
    chunks = b"fmt " + struct.pack(f"{order}I", 16) + form
    chunks += b"data" + struct.pack(f"{order}I", len(data)) + data
    return name + struct.pack(f"{order}I", 4 + len(chunks)) + b"WAVE" + chunks


def samples(count, seed=1):
    """Quiet and loud stretches of 16-bit samples."""
    chance = random.Random(seed)
    return [int(chance.uniform(-1, 1) * (32767 >> (at // 500 % 12))) for at in range(count)]


def expected(values, rate, bucket_ms, most=32768):
    buckets, at = [], 0
    while at < len(values):
        behind = min(len(values), (len(buckets) + 1) * bucket_ms * rate // 1000)
        buckets.append(max(abs(value) for value in values[at:behind]) * 255 / most)
        at = behind
    return buckets


def is_near(got, wanted):
    return len(got) == len(wanted) and all(
        abs(a - b) <= 2 for a, b in zip(got, wanted, strict=True)
    )


@pytest.mark.parametrize(
    ("bits", "name", "spell"),
    [
        (8, b"RIFF", lambda v: bytes([(v >> 8) + 128])),
        (16, b"RIFF", lambda v: struct.pack("<h", v)),
        (16, b"RIFX", lambda v: struct.pack(">h", v)),
        (24, b"RIFF", lambda v: struct.pack("<i", v << 16)[1:]),
        (32, b"RIFF", lambda v: struct.pack("<i", v << 16)),
        (32, b"RIFX", lambda v: struct.pack(">i", v << 16)),
    ],
)
def test_the_outline_of_a_wav_is_the_loudest_sample_of_each_bucket(bits, name, spell):
    values = samples(8000 * 3 + 17)
    drawn = peaks.outline(file(wave(b"".join(map(spell, values)), bits=bits, name=name)))
    assert drawn.bucket_ms == peaks.LEAST_MS
    assert is_near(drawn.channels[0], expected(values, 8000, 20))


def test_each_channel_has_an_outline_of_its_own():
    left, right = samples(9000, 1), [0] * 9000
    both = array("h", [value for pair in zip(left, right, strict=True) for value in pair])
    drawn = peaks.outline(file(wave(both.tobytes(), channels=2)))
    assert is_near(drawn.channels[0], expected(left, 8000, 20))
    assert set(drawn.channels[1]) == {0}


@pytest.mark.parametrize(
    ("coding", "stand_for"),
    [  # from the tables of G.711, in 16 bits
        ("alaw", {0xD5: 8, 0xF5: 528, 0xAA: 32256}),
        ("mulaw", {0xFF: 0, 0xBF: 1980, 0x80: 32124}),
    ],
)
def test_a_law_and_mu_law_are_measured_as_the_samples_they_stand_for(coding, stand_for):
    data = b"".join(bytes([value]) * 160 for value in stand_for)
    drawn = peaks.outline(file(wave(data, coding=coding, bits=8)))
    assert drawn.channels[0] == [sample * 255 // 32768 for sample in stand_for.values()]
    same = loudness.table(coding)
    assert [same[value] for value in range(128)] == [same[value | 0x80] for value in range(128)]


def test_silence_is_0_and_full_scale_255():
    data = struct.pack("<h", 0) * 160 + struct.pack("<h", -32768) * 160
    data += struct.pack("<h", -1) * 160 + struct.pack("<h", 32767) * 160
    assert list(peaks.outline(file(wave(data))).channels[0]) == [0, 255, 0, 255]


def test_the_loudest_of_many_values_is_that_of_a_look_at_each():
    chance = random.Random(7)
    for length in (0, 1, 500, 5000):
        for top in (0, 1, 2, 128, 255):
            values = bytes(chance.randint(0, top) for _ in range(length))
            assert loudness.loudest(values) == max(values, default=0)


@pytest.mark.parametrize("container", ["wav", "mp3"])
@pytest.mark.parametrize("seconds", [0.1, 1, 60, 300])
def test_there_are_at_most_2000_buckets_and_they_cover_the_audio(container, seconds):
    audio = Audio(container, 2, seconds * 1000, "rec-1")
    drawn = peaks.outline(file(b"".join(audio.stream())))
    buckets = len(drawn.channels[0])
    assert [len(channel) for channel in drawn.channels] == [buckets, buckets]
    assert buckets <= peaks.MOST_BUCKETS
    assert 0 <= buckets * drawn.bucket_ms - seconds * 1000 <= drawn.bucket_ms + 72


def test_an_mp3s_outline_tells_speech_from_pauses():
    drawn = peaks.outline(file(SPEECH))
    at_s = [number * drawn.bucket_ms / 1000 for number in range(len(drawn.channels[0]))]
    spoken, pauses = [], []
    for second, level in zip(at_s, drawn.channels[0], strict=True):
        if any(begin + 0.3 < second < end for begin, end in SPOKEN):
            spoken.append(level)
        elif not any(begin - 0.1 < second < end + 0.3 for begin, end in SPOKEN):
            pauses.append(level)
    assert max(pauses) <= 3
    assert sum(level > 5 for level in spoken) > 0.8 * len(spoken)
    assert sorted(spoken)[len(spoken) // 2] > 20


def test_an_mp3_behind_tags_and_rubbish_is_heard_too():
    tag = b"ID3\x04\x00\x00\x00\x00\x01\x00" + bytes(128)
    rubbish = b"\xff\xfb" + random.Random(3).randbytes(500)
    plain = peaks.outline(file(SPEECH)).channels[0]
    assert peaks.outline(file(tag + SPEECH)).channels[0] == plain
    assert sum(peaks.outline(file(rubbish + SPEECH)).channels[0]) > 0.9 * sum(plain)


def test_of_a_long_mp3_only_some_frames_are_looked_at_and_nothing_is_left_out():
    long = SPEECH * 200  # 28 minutes in 23,600 frames
    drawn = peaks.outline(file(long))
    once = max(peaks.outline(file(SPEECH)).channels[0])
    assert max(drawn.channels[0]) == once
    assert sum(level > 5 for level in drawn.channels[0]) > 0.4 * len(drawn.channels[0])


def test_the_side_information_is_found_in_every_layout():
    for version in (3, 2, 0):
        for mode in (0, 3):
            for checksum in (0, 1):
                word = 0xFFE00000 | version << 19 | 1 << 17 | checksum << 16 | 5 << 12 | mode << 6
                frame = read_header(word)
                side, at = _side(version, frame, parts=700, gain=190)
                head = word.to_bytes(4, "big") + bytes(0 if checksum else 2) + side
                granules = levels_of(head, word, frame)
                assert [len(levels) for levels in granules] == [frame.channels] * at
                assert {level for levels in granules for level in levels} == {218}


def _side(version, frame, *, parts, gain):
    """Side information that says the same for each granule; and how many granules there are."""
    first = version == 3
    bits = "0" * ((18 if frame.channels == 1 else 20) if first else 8 + frame.channels)
    granule = f"{parts:012b}{0:09b}{gain:08b}".ljust(59 if first else 63, "0")
    granules = 2 if first else 1
    bits = (bits + granule * granules * frame.channels).ljust(8 * frame.side_info, "0")
    return int(bits, 2).to_bytes(frame.side_info, "big"), granules


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>not found</html>",
        bytes(5000),
        b"\xff" * 5000,
        wave(b"", bits=16),
        wave(bytes(800), coding="float", bits=32),
        wave(bytes(80), channels=200),
        wave(bytes(80), rate=0),
        wave(bytes(80), bits=0, channels=0),
        SPEECH[:30],
    ],
)
def test_of_what_cannot_be_measured_there_is_no_outline(content):
    assert peaks.outline(file(content)) is None


def test_no_bytes_make_it_raise():
    chance = random.Random(11)
    whole = wave(struct.pack("<h", 500) * 400)
    for content in (whole, SPEECH[:3000]):
        for _ in range(300):
            broken = bytearray(content[: chance.randint(1, len(content))])
            for _ in range(chance.randint(1, 8)):
                broken[chance.randrange(len(broken))] = chance.randrange(256)
            peaks.outline(file(bytes(broken)))


def test_what_is_written_is_the_contracts_form():
    drawn = peaks.outline(file(wave(struct.pack("<h", 16384) * 320)))
    assert json.loads(peaks.written(drawn)) == {
        "schema": "endtape/peaks/1",
        "bucket_ms": 20,
        "channels": [[129, 129]],
    }


def test_the_place_of_the_samples_is_that_which_the_checks_measured():
    content = wave(struct.pack("<h", 500) * 401)
    place = wav.pcm(file(content), 0, len(content))
    assert place.length / place.frame / place.rate == media.examine(file(content)).duration_s
