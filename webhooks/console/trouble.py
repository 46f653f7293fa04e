"""What is wrong now, in words that say what to do: the red line of the first page. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from webhooks.console import words
from webhooks.console.services import Overdue, late
from worker.catalogue.board import Board
from worker.catalogue.last_hour import Hour


@dataclass(frozen=True, slots=True)
class Trouble:
    """One sentence, and the page that says more."""

    says: str
    page: str | None = None


def troubles(board: Board, overdue: Overdue, hour: Hour) -> list[Trouble]:
    """What is wrong, the worst first; empty when nothing is. `overdue`: as `services` takes it."""
    return [
        *_about_stops(board),
        *_about_processes(board),
        *_about_queues(overdue),
        *_about_the_last_hour(hour),
        *_about_the_rest(board),
    ]


def _about_stops(board: Board) -> Iterator[Trouble]:
    if count := len(board.unproven):
        has = "1 recording has" if count == 1 else f"{count} recordings have"
        yield Trouble(
            f"{has} no proof of the end, so it may still run. Open its call: the timeline says "
            "what the provider answered. Hang up where it must not go on.",
        )


def _about_processes(board: Board) -> Iterator[Trouble]:
    if board.missing:
        yield Trouble(
            f"Not seen for 15 s: {', '.join(board.missing)}. Start these processes (the Procfile's "
            "lines): until then stops are late, or recordings wait.",
            "/system",
        )
    for account in board.halted:
        yield Trouble(
            f"The provider refuses the credentials of {account}, so its listings and downloads "
            "wait. Correct VOBIZ_AUTH_TOKEN and run `endtape reload`.",
            "/system",
        )
    for what, why in board.degraded.items():
        yield Trouble(f"Degraded: {what}: {why}", "/system")


def _about_queues(overdue: Overdue) -> Iterator[Trouble]:
    for what, count, oldest in late(overdue):
        yield Trouble(
            f"{count} {what}: due and not begun, the oldest for "
            f"{words.span(oldest / timedelta(milliseconds=1))}. If all processes run, start more "
            "of them; their log says what holds them up.",
            "/system",
        )


def _about_the_last_hour(hour: Hour) -> Iterator[Trouble]:
    if count := len(hour.to_explain):
        are = "1 recording is" if count == 1 else f"{count} recordings are"
        day = (hour.to_explain[0]["started_at"] or hour.to_explain[0]["first_seen_at"])[:10]
        yield Trouble(
            f"Of the last hour, {are} to be explained: too long a tail, or no proof of the end. "
            "The ledger of the day names each, and why.",
            f"/days/{day}/unexplained",
        )


def _about_the_rest(board: Board) -> Iterator[Trouble]:
    if count := len(board.abandoned):
        are = "1 recording is" if count == 1 else f"{count} recordings are"
        yield Trouble(
            f"{are} abandoned: tried rarely, or not at all. Mend what each says, and try again.",
            "/not-home",
        )
    if board.undelivered:
        are = "1 notification does" if board.undelivered == 1 else f"{board.undelivered} do"
        yield Trouble(f"Of what your applications are told, {are} not arrive.", "/notifications")
    if board.is_cut:
        yield Trouble("More than is counted here is not home; `endtape ls` lists all of it.")
