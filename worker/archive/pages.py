"""Pages and messages that come in place of audio, or amid it: HTML, XML, JSON. Pure."""

from __future__ import annotations

import re
from typing import BinaryIO

_BLOCK = 1 << 20
_LONGEST = 64  # bytes that _HTML matches at most
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


def amid(file: BinaryIO, start: int, end: int) -> bool:
    """Whether an HTML page begins between the two offsets, or a page of any kind at the first."""
    file.seek(start)
    if kind(file.read(max(0, min(512, end - start)))):
        return True
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
