"""The catalogue: entering rows, and finding them again."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Table,
    and_,
    event,
    func,
    select,
    tuple_,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    SQLAlchemyError,
    StatementError,
)

from worker.catalogue import tables
from worker.catalogue.rows import Row
from worker.catalogue.tables import labels, recordings, views
from worker.catalogue.wanted import Wanted
from worker.errors import CatalogueAway
from worker.ledger.calls import SeenAt
from worker.ledger.codec import to_ms

SQLITE = "sqlite"
_CONNECT_S, _STATEMENT_S = 3, 10
_BUSY_S = 5  # so long a writer of SQLite waits for another
_BUSY_PAUSE_S = 0.01
_REST_S = 2.0  # after a failure nobody asks for so long, so that requests do not pile up
_AT_ONCE = 500
_LOCK = 7313451  # any number of ours: PostgreSQL's advisory locks go by numbers
_ID = ("account", "recording_id")


class Catalogue:
    """One catalogue, which is opened at its first use, and made where there is none. Safe to share
    between threads, never across a fork.

    Every method raises CatalogueAway where the database does not answer or cannot be used.
    """

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        self._engine: Engine | None = None
        self._file: tuple[int, int] | None = None
        self._opening = threading.Lock()
        self._failed_at, self._why = 0.0, ""

    @property
    def is_for_one_machine(self) -> bool:
        return self._url.get_backend_name() == SQLITE

    # Entering
    # --------------------------------------------------------------------------------------------

    def enter(self, rows: Iterable[Row]) -> None:
        """Enter rows, in place of those of the same recordings; all or none.

        Raises ValueError where the database cannot hold one of them.
        """
        # In one order, so that two workers do not wait for each other.
        by_id = {row.id: (row, _columns(row)) for row in rows}
        found = [by_id[i] for i in sorted(by_id)]
        with self._writing() as connection:
            for at in range(0, len(found), _AT_ONCE):
                self._enter(connection, found[at : at + _AT_ONCE])

    def _enter(self, connection: Connection, found: Sequence[tuple[Row, dict[str, Any]]]) -> None:
        rows = [row for row, _ in found]
        ids = [row.id for row in rows]
        named = [dict(zip(_ID, row.id, strict=True)) for row in rows]
        texts = [json.dumps(row.view, separators=(",", ":")) for row in rows]
        # This goes first: it lets nobody else enter the same recordings meanwhile. The table
        # has one unique index; of two, PostgreSQL lets a row of another worker hit the second.
        self._upsert(
            connection, views, [n | {"view": t} for n, t in zip(named, texts, strict=True)]
        )
        self._upsert(connection, recordings, [columns for _, columns in found])
        connection.execute(labels.delete().where(_are(labels, ids)))
        labelled = [
            n | {"name": name, "value": value, "first_seen_ms": row.first_seen_ms}
            for n, row in zip(named, rows, strict=True)
            for name, value in row.view["labels"].items()
        ]
        if labelled:
            connection.execute(labels.insert(), labelled)

    def _upsert(
        self, connection: Connection, table: Table, values: Sequence[dict[str, Any]]
    ) -> None:
        insert = (sqlite if self.is_for_one_machine else postgresql).insert(table)
        new = {name: insert.excluded[name] for name in values[0] if name not in _ID}
        connection.execute(insert.on_conflict_do_update(index_elements=_ID, set_=new), values)

    def remove(self, ids: Sequence[tuple[str, str]]) -> None:
        """Remove the rows of these recordings, each named by account and id."""
        with self._writing() as connection:
            for table in (views, recordings, labels):  # in the order in which rows enter
                connection.execute(table.delete().where(_are(table, ids)))

    # Finding
    # --------------------------------------------------------------------------------------------

    def search(
        self, wanted: Wanted, *, before: SeenAt | None, down_to: SeenAt | None, limit: int
    ) -> list[Row]:
        """The rows that are wanted, newest first, at most `limit`: after `before` in that order,
        down to `down_to`, included.
        """
        table = wanted.ordered_by.c
        newest = (table.first_seen_ms, table.recording_id, table.account)
        query = self._all().where(*wanted.conditions())
        if wanted.label:
            query = query.where(_same(labels, recordings))
        if before:
            query = query.where(table.first_seen_ms <= before.ms, tuple_(*newest) < before)
        if down_to:
            query = query.where(table.first_seen_ms >= down_to.ms, tuple_(*newest) >= down_to)
        return self._rows(query.order_by(*(column.desc() for column in newest)).limit(limit))

    def find(self, recording_id: str, account: str | None = None) -> Row | None:
        """The row of a recording; None where there is none."""
        query = self._all().where(recordings.c.recording_id == recording_id)
        if account:
            query = query.where(recordings.c.account == account)
        return next(iter(self._rows(query.order_by(recordings.c.account).limit(1))), None)

    def named(self, ids: Sequence[tuple[str, str]]) -> list[Row]:
        """The rows of these recordings, each named by account and id, in any order."""
        # By the id alone: SQLite would look for pairs in every row.
        query = self._all().where(recordings.c.recording_id.in_({i for _, i in ids}))
        return [row for row in self._rows(query) if row.id in set(ids)] if ids else []

    def of_call(self, call_uuid: str, account: str | None = None) -> list[Row]:
        """The rows of a call, in the order in which its recordings were first seen. (One of the
        accounts that have such a call, where none is named.)
        """
        query = self._all().where(recordings.c.call_uuid == call_uuid)
        if account:
            query = query.where(recordings.c.account == account)
        rows = self._rows(query.order_by(recordings.c.account, recordings.c.first_seen_ms))
        return [row for row in rows if row.id[0] == rows[0].id[0]]

    def of_day(self, account: str, day: date) -> list[Row]:
        """The rows of the recordings that are filed under a day: those that began on it."""
        folder = f"{account}/{day:%Y/%m/%d}"
        key = recordings.c.archive_key
        # As a range, for names in either database are in the order of their bytes. The account is
        # not asked for beside it: SQLite would take its index, and read all of the account.
        return self._rows(self._all().where(key > f"{folder}/", key < f"{folder}0"))

    def recorded(self, account: str, call_uuids: Sequence[str]) -> set[str]:
        """Those of these calls that have a recording here."""
        found = set[str]()
        with self._connected() as connection:
            for at in range(0, len(call_uuids), _AT_ONCE):
                query = select(recordings.c.call_uuid).where(
                    recordings.c.account == account,
                    recordings.c.call_uuid.in_(call_uuids[at : at + _AT_ONCE]),
                )
                found |= set(connection.execute(query).scalars())
        return found

    def known(self, account: str, recording_ids: Sequence[str]) -> set[str]:
        """Those of these recordings that have a row."""
        query = select(recordings.c.recording_id).where(
            recordings.c.account == account, recordings.c.recording_id.in_(recording_ids)
        )
        with self._connected() as connection:
            return set(connection.execute(query).scalars())

    def retained_until(self, instant: datetime, limit: int) -> list[Row]:
        """The recordings whose time to be erased comes by this instant, the earliest first."""
        until = recordings.c.retain_until_ms
        query = self._all().where(until <= to_ms(instant)).order_by(until).limit(limit)
        return self._rows(query)

    def ids(self) -> Iterator[tuple[str, str]]:
        """Every recording that has a row, by account and id, in the order of both."""
        last = ("", "")
        columns = (recordings.c.account, recordings.c.recording_id)
        while True:
            query = select(*columns).where(tuple_(*columns) > last).order_by(*columns)
            with self._connected() as connection:
                page = [(str(a), str(i)) for a, i in connection.execute(query.limit(_AT_ONCE * 4))]
            yield from page
            if not page:
                return
            last = page[-1]

    def count(self) -> int:
        """How many rows there are."""
        with self._connected() as connection:
            return int(
                connection.execute(select(func.count()).select_from(recordings)).scalar_one()
            )

    def by_rule(self, *, since: datetime) -> dict[str, int]:
        """How many recordings first seen since then each rule decided about."""
        rule = recordings.c.rule
        query = select(rule, func.count()).where(recordings.c.first_seen_ms >= to_ms(since))
        with self._connected() as connection:
            found = connection.execute(query.where(rule.is_not(None)).group_by(rule))
            return {str(name): int(count) for name, count in found}

    def _all(self) -> sqlalchemy.Select[Any]:
        return select(recordings.c.first_seen_ms, recordings.c.archive_key, views.c.view).where(
            _same(views, recordings)
        )

    def _rows(self, query: sqlalchemy.Select[Any]) -> list[Row]:
        with self._connected() as connection:
            return [
                Row(first_seen_ms=int(ms), key=key, view=json.loads(view))
                for ms, key, view in connection.execute(query)
            ]

    # The whole catalogue
    # --------------------------------------------------------------------------------------------

    def replace(self) -> None:
        """Drop all tables, of whatever shape, and make them anew, empty."""
        self._failed_at = 0.0
        self.close()
        with self._answering():
            engine = self._made()
            with self._alone(engine) as connection:
                tables.drop(connection)
                tables.bring_up_to_date(connection)
            engine.dispose()

    def try_it(self) -> None:
        """Write, and take it back; raises CatalogueAway where that fails."""
        self._failed_at = 0.0
        with self._connected() as connection, connection.begin() as transaction:
            nobody = {"account": "", "recording_id": ".trial", "name": "", "value": ""}
            connection.execute(labels.insert().values(**nobody, first_seen_ms=0))
            transaction.rollback()

    # The connection
    # --------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._connected() as connection, connection.begin():
            yield connection

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Connection]:
        if time.monotonic() - self._failed_at < _REST_S and self._why:
            raise CatalogueAway(self._why)
        with self._answering(), self._opened().connect() as connection:
            yield connection

    @contextlib.contextmanager
    def _answering(self) -> Iterator[None]:
        """Turns every error of the database into CatalogueAway, or into ValueError where what it
        was given is at fault.
        """
        try:
            yield
            self._why = ""
        except CatalogueAway as error:
            self._failed(str(error))
            raise
        except (SQLAlchemyError, OSError) as error:
            if _is_about_values(error):
                raise ValueError(_said(error)) from None
            self._failed(_said(error))
            raise CatalogueAway(self._why) from None  # the error's text may show the address

    def _failed(self, why: str) -> None:
        self._why, self._failed_at = why, time.monotonic()

    def _opened(self) -> Engine:
        with self._opening:
            if self._engine is not None and self._file != self._file_now():
                self._engine.dispose()  # whoever still reads the old file does so to the end
                self._engine = None
            if self._engine is None:
                engine = self._made()
                with self._alone(engine) as connection:
                    tables.bring_up_to_date(connection)
                self._engine, self._file = engine, self._file_now()
            return self._engine

    def _file_now(self) -> tuple[int, int] | None:
        """Which file SQLite's is: it may be deleted at any time, and an open one lives on unseen.
        None where there is none, and for PostgreSQL.
        """
        if not self.is_for_one_machine:
            return None
        with contextlib.suppress(FileNotFoundError):
            found = Path(self._url.database or "").stat()
            return found.st_dev, found.st_ino
        return None

    def _made(self) -> Engine:
        if self.is_for_one_machine:
            place = Path(self._url.database or "")
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            place.touch(mode=0o600)  # it holds telephone numbers, so it is for its owner only
            engine = sqlalchemy.create_engine(self._url, connect_args={"timeout": _BUSY_S})
            event.listen(engine, "connect", _for_sqlite)
            return engine
        limits = f"-c statement_timeout={_STATEMENT_S}s -c lock_timeout={_BUSY_S}s"
        return sqlalchemy.create_engine(
            self._url,
            pool_pre_ping=True,
            pool_size=5,
            max_overflow=10,
            pool_timeout=_CONNECT_S,
            connect_args={"connect_timeout": _CONNECT_S, "options": limits},
        )

    @contextlib.contextmanager
    def _alone(self, engine: Engine) -> Iterator[Connection]:
        """A transaction beside which nobody else changes the tables."""
        with engine.connect() as connection:
            if self.is_for_one_machine:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
            yield connection
            connection.commit()

    def close(self) -> None:
        """Close every connection."""
        if self._engine is not None:
            self._engine.dispose()


def _columns(row: Row) -> dict[str, Any]:
    try:
        return row.columns
    except (AttributeError, TypeError, KeyError) as error:  # something else in place of a text
        raise ValueError(f"{type(error).__name__}: {error}") from None


def _same(table: Table, other: Table) -> ColumnElement[bool]:
    """Two rows are about one recording."""
    return and_(*(table.c[name] == other.c[name] for name in _ID))


def _are(table: Table, ids: Sequence[tuple[str, str]]) -> ColumnElement[bool]:
    return tuple_(*(table.c[name] for name in _ID)).in_(ids)


def _for_sqlite(connection: Any, _record: object) -> None:
    # Readers go on beside the one writer. What a power cut takes, obligations and `endtape index`
    # bring back, so a commit need not wait for the disk.
    _set_wal(connection, time.monotonic() + _BUSY_S)
    connection.execute("PRAGMA synchronous=NORMAL")


def _set_wal(connection: Any, deadline: float) -> None:
    """Sets the journal's mode, by this instant of `time.monotonic`. Unlike with all else, SQLite
    does not wait by itself for another process that just makes the same new file.
    """
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except Exception as error:  # its class is in a module that the parent of forks never loads
            is_busy = getattr(error, "sqlite_errorname", None) == "SQLITE_BUSY"
            if not is_busy or time.monotonic() >= deadline:
                raise
        time.sleep(_BUSY_PAUSE_S)


def _is_about_values(error: Exception) -> bool:
    """Whether what the database was given is at fault; it is there, then."""
    never_came = isinstance(error, StatementError) and not isinstance(error, DBAPIError)
    return never_came or isinstance(error, DataError | IntegrityError)


def _said(error: Exception) -> str:
    """What a database said, in one line and without our statement."""
    said = getattr(error, "orig", None) or error
    return f"{type(said).__name__}: {str(said).splitlines()[0] if str(said) else ''}"[:200]
