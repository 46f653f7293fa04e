"""Files are real audio: as long as they claim, a tone in each channel, their recording's
id inside.
"""

import struct
from array import array
from itertools import pairwise

import pytest

from emulator.audio import FRAME_BYTES, WAV_HEADER_BYTES, Audio

MARK = "0f4c1d9a-6b7e-4c31-8f2d-9a5b3c7e1d02"


def content(*args, **how):
    audio = Audio(*args, **how)
    found = b"".join(audio.stream())
    assert len(found) == audio.size
    return found


@pytest.mark.parametrize("container", ["wav", "mp3"])
@pytest.mark.parametrize("duration_ms", [-5, 0, 0.4, 71.9, 72, 1000, 3600.25, 65_000])
def test_a_file_has_the_size_that_it_announces(container, duration_ms):
    content(container, 2, duration_ms, MARK)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_wav_file_says_how_much_follows_and_each_channel_has_its_own_tone(channels):
    found = content("wav", channels, 2000, MARK)
    assert (
        struct.unpack("<I", found[40:44])[0]
        == len(found) - WAV_HEADER_BYTES
        == 2 * 8000 * 2 * channels
    )
    sound = array("h", found[WAV_HEADER_BYTES + 16_000 * channels :])
    pitches = [
        sum(a < 0 <= b for a, b in pairwise(sound[channel::channels]))
        for channel in range(channels)
    ]
    assert len(set(pitches)) == channels
    assert all(290 < pitch < 630 for pitch in pitches)


def test_a_wav_file_begins_with_its_recordings_id_too_softly_to_be_heard():
    found = content("wav", 2, 1000, MARK)
    assert "".join(map(chr, array("h", found[WAV_HEADER_BYTES:])[: 2 * len(MARK) : 2])) == MARK


def test_every_mp3_frame_is_whole_and_carries_its_recordings_id():
    found = content("mp3", 1, 720, MARK)
    frames = [found[at : at + FRAME_BYTES] for at in range(0, len(found), FRAME_BYTES)]
    assert len(frames) == 10
    assert all(frame[:3] == b"\xff\xe3\x88" and MARK.encode() in frame for frame in frames)


def test_a_file_can_be_of_any_size_without_being_held():
    audio = Audio("wav", 1, 1000, MARK, bytes_wanted=10**13)
    assert (audio.size, len(next(audio.stream())) < 10**6) == (10**13, True)
