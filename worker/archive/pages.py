"""Pages and messages that come in place of audio, or amid it: HTML, XML, JSON. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import BinaryIO

_BLOCK = 1 << 20
_LONGEST = 64  # bytes that _HTML matches at most
_ENOUGH = 64  # pages in one file; where there are more, nobody needs to know each
# Audio can hold a tag by chance, but not a tag with so much text behind it.
_HTML = re.compile(rb"<(?:!doctype html|html|head|body)[\s>][\t\r\n -~]{16}", re.IGNORECASE)


def kind(head: bytes) -> str | None:
    """The kind of page that begins with these bytes: "html", "xml" or "json". None where it is no
    page.
    """
    for mark, encoding in ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"), (b"", "utf-8")):
        if head.startswith(mark):
            text = (
                head.removeprefix(mark)
                .decode(encoding, "replace")
                .lstrip("\ufeff \t\r\n\f\0")
                .lower()
            )
            break
    if text.startswith("<?xml"):
        return "html" if "<html" in text else "xml"
    if text.startswith(("<!doctype html", "<html", "<head", "<body", "<!--", "<script")):
        return "html"
    if text.startswith("<") and (text[1:2].isalpha() or text[1:2] == "!") and _is_text(text):
        return "xml"
    return "json" if text.startswith(("{", "[")) and _is_text(text) else None


def _is_text(text: str) -> bool:
    return "\ufffd" not in text[:-4] and all(c.isprintable() or c in "\t\r\n" for c in text)


class FoundPages:
    """Where HTML pages begin in a file, found while the file came. So nobody has to read the whole
    file again to know that there is none.
    """

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """The file begins, or begins anew."""
        self._seen, self._tail = 0, b""
        self._found: list[tuple[int, int]] = []  # first byte, and the byte behind the last

    def add(self, block: memoryview) -> None:
        """The next bytes of the file."""
        if len(self._found) >= _ENOUGH:
            return
        # Across the border to what came before, and then within the block itself
        joined = self._tail + bytes(block[:_LONGEST])
        border = len(self._tail)
        self._search(joined, self._seen - border, lambda first, end: first < border < end)
        self._search(block, self._seen, lambda _first, _end: True)
        self._seen += len(block)
        self._tail = (self._tail + bytes(block[-_LONGEST:]))[-_LONGEST:]

    def _search(
        self, block: bytes | memoryview, at: int, counts: Callable[[int, int], bool]
    ) -> None:
        pos = 0
        while len(self._found) < _ENOUGH and (page := _HTML.search(block, pos)):
            pos = page.start() + 1
            if counts(page.start(), page.end()):
                self._found.append((at + page.start(), at + page.end()))

    def within(self, start: int, end: int) -> bool | None:
        """Whether a page stands between the two offsets; None where only the file can tell."""
        if any(start <= first and behind <= end for first, behind in self._found):
            return True
        return False if end <= self._seen and len(self._found) < _ENOUGH else None


def amid(file: BinaryIO, start: int, end: int, found: FoundPages | None = None) -> bool:
    """Whether an HTML page begins between the two offsets, or a page of any kind at the first.
    `found`: what was found in this file while it came.
    """
    file.seek(start)
    if kind(file.read(max(0, min(512, end - start)))):
        return True
    known = found.within(start, end) if found else None
    if known is not None:
        return known
    at = start
    while at < end:
        file.seek(at)
        block = file.read(min(_BLOCK + _LONGEST, end - at))
        if not block:
            break
        if _HTML.search(block):
            return True
        at += _BLOCK
    return False
