"""Pages amid audio, found while a file comes and afterwards."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.archive import pages
from worker.archive.pages import FoundPages

PAGE = b"<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head><body>"
CHUNKS = st.lists(
    st.sampled_from([PAGE, PAGE[:20], b"<html", b"<body>" + bytes(20), bytes(50), b"<" * 70])
)


def come(body, sizes):
    """What is found in a body that comes in blocks of these sizes."""
    found, at, turn = FoundPages(), 0, 0
    while at < len(body):
        size = sizes[turn % len(sizes)]
        found.add(memoryview(body)[at : at + size])
        at, turn = at + size, turn + 1
    return found


@given(CHUNKS, st.lists(st.integers(1, 90), min_size=1, max_size=5), st.integers(0, 300))
def test_the_same_is_found_while_a_file_comes_as_afterwards(chunks, sizes, start):
    body = b"".join(chunks)
    found = come(body, sizes)
    for end in (len(body), len(body) // 2):
        afterwards = pages.amid(io.BytesIO(body), start, end)
        assert pages.amid(io.BytesIO(body), start, end, found) == afterwards
        if not afterwards:  # and nobody has to read the file to know it
            assert found.within(start, end) is False


def test_what_came_before_a_new_beginning_does_not_count():
    found = come(PAGE, [16])
    found.begin()
    found.add(memoryview(bytes(100)))
    assert found.within(0, 100) is False


@pytest.mark.parametrize(
    ("body", "seen"), [(bytes(600) + PAGE, 300), (bytes(600) + PAGE * 100, 1 << 20)]
)
def test_the_file_is_read_where_not_all_is_known(body, seen):
    found = come(body[:seen], [1 << 20])
    assert found.within(0, len(body)) is not False
    assert found.within(0, 590) is (False if len(body) < 1000 and seen >= 590 else None)
    assert pages.amid(io.BytesIO(body), 0, len(body), found)
    assert not pages.amid(io.BytesIO(body), 0, 590, found)
