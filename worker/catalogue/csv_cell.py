"""A cell of a CSV file that somebody opens in a spreadsheet. Pure."""

from __future__ import annotations

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def cell(value: object) -> object:
    """The value, or a text that no spreadsheet takes for a formula, whoever wrote it (OWASP, CSV
    injection).
    """
    is_formula = isinstance(value, str) and value.startswith(_FORMULA)
    return f"'{value}" if is_formula else value
