"""The tables of the catalogue, and the steps that bring an older one up to date.

recordings  a row for each finished recording, with what searches ask for. It is narrow and, in
            SQLite, in the order of lists: reading 100,000 rows to the last takes about 12 ms there
views       what `/v1` shows of each recording, as JSON
labels      a row for each label of a recording
steps       the steps that were taken; their number is the version

A release may read what its neighbours write: a step only adds tables, indexes, and columns that may
be null or have a default.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Dialect,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    func,
    inspect,
    select,
    text,
)

from worker.errors import CatalogueAway


class _Text(TypeDecorator[str]):
    """Text as both databases take it: PostgreSQL takes no NUL, which a label or a search may
    hold.
    """

    impl, cache_ok = String, True

    def __init__(self, kind: String, **by_database: String) -> None:
        super().__init__()
        self._kind, self._by_database = kind, by_database

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        return dialect.type_descriptor(self._by_database.get(dialect.name, self._kind))

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002 - its interface
        if value is None:
            return None
        if not isinstance(value, str):  # SQLite would store it as it is
            raise TypeError(f"{value!r}: not a text")
        return value.replace("\0", "\ufffd")


# Redis orders ids by their bytes, so the catalogue does, too.
_Name = _Text(String(), postgresql=String(collation="C"))

_metadata = MetaData()
recordings = Table(
    "recordings",
    _metadata,
    Column("first_seen_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("recording_id", _Name, primary_key=True),
    Column("account", _Name, primary_key=True),
    Column("call_uuid", _Name, nullable=False),
    Column("phase", _Name, nullable=False),
    Column("stop_state", _Name, nullable=False),
    Column("fault", _Name),
    Column("rule", _Name),
    Column("from_digits", _Name),
    Column("to_digits", _Name),
    Column("held", Boolean, nullable=False),
    Column("restricted", Boolean, nullable=False),
    Column("archive_key", _Name, nullable=False),  # where its receipt is filed
    Column("retain_until_ms", BigInteger),  # when the rules want it erased
    # every id, number and label, in lower case, with line breaks around each
    Column("words", _Text(Text()), nullable=False),
    UniqueConstraint("account", "recording_id"),
    sqlite_with_rowid=False,
)
views = Table(
    "views",
    _metadata,
    Column("account", _Name, primary_key=True),
    Column("recording_id", _Name, primary_key=True),
    Column("view", Text, nullable=False),
)
labels = Table(
    "labels",
    _metadata,
    Column("account", _Name, primary_key=True),
    Column("recording_id", _Name, primary_key=True),
    Column("name", _Name, primary_key=True),
    Column("value", _Name, nullable=False),
    Column("first_seen_ms", BigInteger, nullable=False),
)
_steps = Table(
    "steps",
    _metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("taken_at", _Name, nullable=False, server_default=text("CURRENT_TIMESTAMP")),
)


def _newest_first(table: Table, *columns: str) -> None:
    """An index that finds rows with these values, newest first."""
    names = [*columns, "first_seen_ms", "recording_id", "account"]
    Index(f"{table.name}_{columns[0]}", *(table.c[name] for name in names))


for _column in (
    "account",
    "call_uuid",
    "phase",
    "stop_state",
    "fault",
    "rule",
    "held",
):
    _newest_first(recordings, _column)
Index("recordings_id", recordings.c.recording_id)
Index("recordings_key", recordings.c.archive_key)  # finds those of a day
Index("recordings_retain", recordings.c.retain_until_ms)
_newest_first(labels, "name", "value")


def _first(connection: Connection) -> None:
    _metadata.create_all(connection, tables=[recordings, views, labels])


STEPS = (_first,)


def bring_up_to_date(connection: Connection, steps: Sequence[object] = STEPS) -> None:
    """Take the steps that this catalogue lacks. Nobody else may write meanwhile.

    Raises CatalogueAway where a release that is newer by more than one step wrote it, and where its
    tables are not ours.
    """
    if not inspect(connection).has_table(_steps.name):
        _steps.create(connection)
    taken = int(connection.execute(select(func.count()).select_from(_steps)).scalar_one())
    if taken > len(steps) + 1:
        raise CatalogueAway(
            f"a newer release wrote it ({taken} steps, this one knows {len(steps)}): "
            "upgrade Endtape, or name another catalogue in ENDTAPE_CATALOG"
        )
    for number, step in enumerate(steps[taken:], taken + 1):
        step(connection)  # type: ignore[operator]
        connection.execute(_steps.insert().values(number=number))
    if why := _misfit(connection):
        raise CatalogueAway(
            f"{why}: a version from before the first release made it, or somebody else; `endtape "
            f"index --replace` drops its tables {', '.join(_metadata.tables)}, and makes them anew "
            "from the archive"
        )


def _misfit(connection: Connection) -> str | None:
    """What our tables lack here; None where all is there. What there is more of does no harm."""
    found = inspect(connection)
    for table in (recordings, views, labels):
        if not found.has_table(table.name):
            return f"there is no table {table.name}"
        there = {column["name"] for column in found.get_columns(table.name)}
        if lacking := [name for name in table.columns.keys() if name not in there]:  # noqa: SIM118
            return f"its table {table.name} lacks {', '.join(lacking)}"
    return None


def drop(connection: Connection) -> None:
    """Drop all tables, with all that is in them."""
    _metadata.drop_all(connection)
