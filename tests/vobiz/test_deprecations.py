"""What answers say about the end of the provider's API, kept until somebody takes it."""

import pytest

from worker.vobiz import deprecations
from worker.vobiz.deprecations import Deprecation


@pytest.fixture(autouse=True)
def _nothing_kept():
    deprecations.taken()


def note(method="GET", path="/auth/me", **headers):
    deprecations.note(method, path, headers.get)


def test_an_answer_without_either_header_says_nothing():
    note(date="Thu, 26 Nov 2026 00:00:00 GMT")
    assert deprecations.taken() == []


def test_what_is_said_is_kept_once_and_taken_once():
    said = {"deprecation": "@1767225600", "sunset": "Fri, 01 Jan 2027 00:00:00 GMT"}
    for call in ("c-1", "c-2"):
        note("DELETE", f"/Account/MA_ABCDEFGH/Call/{call}/Record/?x=secret", **said)
    assert deprecations.taken() == [
        Deprecation(
            method="DELETE",
            path="/Account/{id}/Call/{id}/Record/",
            deprecated_at="2026-01-01T00:00:00Z",
            sunset_at="2027-01-01T00:00:00Z",
        )
    ]
    assert deprecations.taken() == []


@pytest.mark.parametrize(
    ("header", "shown"),
    [
        ("@1688169599", "2023-06-30T23:59:59Z"),
        ("Sun, 11 Nov 2018 23:59:59 GMT", "2018-11-11T23:59:59Z"),  # the older draft's form
        ("true", "true"),
        ("@" + "9" * 40, "@" + "9" * 40),
        ("x" * 500 + "\x1b", "x" * 100),
    ],
)
def test_a_date_in_either_form_is_read_and_anything_else_told_as_it_stands(header, shown):
    note(deprecation=header)
    (said,) = deprecations.taken()
    assert (said.deprecated_at, said.sunset_at) == (shown, None)


def test_no_id_is_in_a_path_and_no_more_is_kept_than_has_room():
    for number in range(500):
        note("M" * number, "media.vobiz.ai/v1/Account/MA_1/Recording/6b1f.mp3", sunset="soon")
    kept = deprecations.taken()
    assert len(kept) <= 200
    assert {said.path for said in kept} == {"{id}/v1/Account/{id}/Recording/{id}"}
