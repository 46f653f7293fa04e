"""The first page: whole, as the part of it that lives, and by its parts for the streams."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from jinja2 import Environment, Template

from webhooks.console import words
from webhooks.console.feed import FirstPage, Parts
from webhooks.console.now import SHOWN, Breath, Now, patient
from webhooks.console.page import address, rendered, session, shows_numbers
from webhooks.console.services import services
from webhooks.console.trouble import troubles
from worker.ledger.presence import ROLES
from worker.settings import Settings

_PARTS = ("trouble", "tiles", "more", "handoffs", "services", "charts")


class FirstPages:
    """Renders it once for all who see the same. `settings` is called for each rendering, so that a
    reload takes effect.
    """

    def __init__(self, now: Now, settings: Callable[[], Settings]) -> None:
        self._now, self._settings = now, settings
        self._fragments: dict[FirstPage, tuple[datetime, str]] = {}
        self._drawn: dict[FirstPage, dict[str, tuple[Any, str]]] = {}

    def whole(self) -> str:
        return rendered("now.html", **self._values(_asked()))

    def board(self) -> str:
        """The part of it that lives, for tabs that get no stream."""
        at, page = self._now.board().at, _asked()
        rendered_at, text = self._fragments.get(page, (None, ""))
        if rendered_at != at:
            text = rendered("board.html", **self._values(page))
            self._fragments[page] = at, text
        return text

    def parts(self, templates: Environment, page: FirstPage) -> Parts:
        """The same by its parts, for the streams. It needs no request."""
        breathe = patient()
        values = {**self._values(page, breathe), "address": address}
        html = {
            name: templates.get_template(f"board_{name}.html").render(values) for name in _PARTS
        }
        rows = self._rows(page, templates.get_template("board_row.html"), values, breathe)
        at = values["board"].at.isoformat()
        return Parts(at=at, html={**html, **rows}, rows=tuple(rows))

    def _rows(
        self, page: FirstPage, row: Template, values: Mapping[str, Any], breathe: Breath
    ) -> dict[str, str]:
        """The table's rows by their names. A recording that the board did not look at anew has the
        row that it had.
        """
        before, now = self._drawn.get(page, {}), dict[str, tuple[Any, str]]()
        for view, shown in zip(values["board"].running, values["rows"], strict=False):
            name = f"{view['account']}|{view['recording_id']}"
            had = before.get(name)
            if had and had[0] is view:
                now[name] = had
            else:
                breathe()
                now[name] = view, row.render(values, view=shown)
        self._drawn[page] = now
        return {name: html for name, (_, html) in now.items()}

    def _values(self, page: FirstPage, breathe: Breath | None = None) -> dict[str, Any]:
        """What its templates show."""
        board, hour = self._now.board(breathe), self._now.hour()
        shown = board.running[:SHOWN]
        return {
            "board": board,
            "acts": page.acts,
            "rows": shown if page.shows_numbers else [words.without_numbers(v) for v in shown],
            "troubles": troubles(board, self._now.overdue(), hour),
            "charts": hour.charts,
            "services": services(board, self._now.overdue(), self._settings()),
            "roles": ROLES,
        }


def _asked() -> FirstPage:
    """The page that this request asks for."""
    return FirstPage(session().acts, shows_numbers())
