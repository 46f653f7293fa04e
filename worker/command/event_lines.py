"""How one event looks on a line, for `endtape watch` and `endtape run`."""

from __future__ import annotations

import json
import sys
import textwrap

import click
from rich.console import Console

from worker.calls import event_words
from worker.calls.call import Call, known_from_orders_only
from worker.calls.events import Event
from worker.calls.views import timeline_view
from worker.command.terminal import plain

_NARROW = 40  # the least that a line is wrapped to
_WIDE = 120  # columns in which both ids have room


def text(account: str, event: Event, *, width: int | None) -> str:
    """`TIME EVENT ID what` on lines of `width` columns; None: on one line, as long as it is.

    In less than 120 columns the id is that of the recording, where there is one, else that of the
    call. What has no room goes on below, under the event; no word is broken or left out.
    """
    at = event.at.strftime("%H:%M:%S.%f")[:12] if event.at else "-"
    facts = (
        event_words.what(event),
        event.archive_key,
        f"by {event.by}" if event.by else None,
    )
    what = plain("; ".join(fact for fact in facts if fact))
    recording = event.recording_id or "-"
    if width is None or width >= _WIDE:
        ids = f"{event.call_uuid:36} {recording:36} {account}"
    else:
        ids = f"{event.recording_id or event.call_uuid:36}"
    line = f"{at} {event.kind.value:19} {ids} {what}".rstrip()
    if width is None or len(line) <= width:
        return line
    return textwrap.fill(
        line,
        max(width, _NARROW),
        subsequent_indent=" " * (len(at) + 1),
        break_long_words=False,
        break_on_hyphens=False,
    )


def nothing_known(call: Call) -> str | None:
    """What to say of a call of which nothing is known but an order of ours that had no effect."""
    if not known_from_orders_only(call):
        return None
    return (
        "nothing is known of it but our own stop, which failed: the provider knows no such live "
        "call (404). Is the id right?"
    )


def as_json(account: str, event: Event) -> str:
    """The event as `/v1` shows it in a timeline, with its call, on one line."""
    whose = {"account": account, "call_uuid": event.call_uuid}
    return json.dumps({**whose, **timeline_view(event)})


def say(account: str, event: Event) -> None:
    """Print the event: wrapped to the width of a terminal, else on one line."""
    screen = Console()
    click.echo(text(account, event, width=screen.width if screen.is_terminal else None))
    sys.stdout.flush()
