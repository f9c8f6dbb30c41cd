"""The schema of a source file against the schema that a numeros.db has."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from app.ingest.source_schema import INDEXES, TABLES


@dataclass(frozen=True, slots=True)
class ColumnCheck:
    """One column: its type as expected and as found (None: not there), and whether that is what it should be.

    verdict: 'ok', 'type' (another declared type), 'missing', 'extra', 'key' (should be the primary key and is not).
    """

    table: str
    column: str
    expected: str | None
    found: str | None
    verdict: str


@dataclass(frozen=True, slots=True)
class SchemaCheck:
    """What was found. `columns` covers the tables that exist; the other fields name what differs."""

    columns: tuple[ColumnCheck, ...]
    missing_tables: tuple[str, ...]
    extra_tables: tuple[str, ...]
    missing_indexes: tuple[str, ...]
    other_objects: tuple[str, ...]
    numero_is_unique: bool

    @property
    def problems(self) -> tuple[ColumnCheck, ...]:
        """The columns that are not as expected."""
        return tuple(check for check in self.columns if check.verdict != "ok")

    @property
    def is_readable(self) -> bool:
        """Whether `numeros` has every column, so that its rows can be read."""
        fatal = {"missing", "key"}
        return "numeros" not in self.missing_tables and not any(
            check.table == "numeros" and check.verdict in fatal for check in self.columns
        )


@dataclass(frozen=True, slots=True)
class _Table:
    columns: dict[str, str]
    key: tuple[str, ...]
    indexes: frozenset[tuple[str, ...]]
    unique: frozenset[tuple[str, ...]]


def check_schema(connection: sqlite3.Connection) -> SchemaCheck:
    """The schema of the opened source compared with the expected one.

    Raises: sqlite3.Error when the file cannot be read.
    """
    expected = _expected()
    found, others = _tables(connection)
    columns: list[ColumnCheck] = []
    missing_indexes: list[str] = []
    for name, table in expected.items():
        if name not in found:
            continue
        columns += _compare(name, table, found[name])
        missing = sorted(table.indexes - found[name].indexes)
        missing_indexes += [f"{name}({', '.join(index)})" for index in missing]
    numeros = found.get("numeros")
    return SchemaCheck(
        columns=tuple(columns),
        missing_tables=tuple(name for name in expected if name not in found),
        extra_tables=tuple(sorted(set(found) - set(expected))),
        missing_indexes=tuple(missing_indexes),
        other_objects=tuple(others),
        numero_is_unique=numeros is not None and ("numero",) in numeros.unique,
    )


def _expected() -> dict[str, _Table]:
    connection = sqlite3.connect(":memory:")
    try:
        for statement in (*TABLES, *INDEXES):
            connection.execute(statement)
        return _tables(connection)[0]
    finally:
        connection.close()


def _tables(connection: sqlite3.Connection) -> tuple[dict[str, _Table], list[str]]:
    """(tables by name, views and triggers). Names are compared as SQLite does: without regard to case."""
    tables: dict[str, _Table] = {}
    others: list[str] = []
    for kind, raw_name in connection.execute("SELECT type, name FROM sqlite_schema ORDER BY type, name").fetchall():
        name = _text(raw_name)
        if _text(kind) == "table" and not name.startswith("sqlite_"):
            tables[name.lower()] = _table(connection, name)
        elif _text(kind) in ("view", "trigger"):
            others.append(f"{_text(kind)} {name}")
    return tables, others


def _table(connection: sqlite3.Connection, name: str) -> _Table:
    rows = connection.execute("SELECT name, type, pk FROM pragma_table_xinfo(?) ORDER BY cid", (name,)).fetchall()
    indexes: set[tuple[str, ...]] = set()
    unique: set[tuple[str, ...]] = set()
    listed = connection.execute('SELECT name, "unique", partial FROM pragma_index_list(?)', (name,)).fetchall()
    for index, is_unique, is_partial in listed:
        parts = connection.execute("SELECT name FROM pragma_index_info(?) ORDER BY seqno", (_text(index),)).fetchall()
        columns = tuple(_text(part).lower() for (part,) in parts)
        if not is_partial:
            indexes.add(columns)
            if is_unique:
                unique.add(columns)
    return _Table(
        columns={_text(column).lower(): _text(kind).upper() for column, kind, _ in rows},
        key=tuple(_text(column).lower() for column, _, place in rows if place),
        indexes=frozenset(indexes),
        unique=frozenset(unique),
    )


def _compare(name: str, expected: _Table, found: _Table) -> list[ColumnCheck]:
    checks = []
    for column, kind in expected.columns.items():
        there = found.columns.get(column)
        if there is None:
            verdict = "missing"
        elif column in expected.key and found.key != expected.key:
            verdict = "key"
        else:
            verdict = "ok" if there == kind else "type"
        checks.append(ColumnCheck(name, column, kind, there, verdict))
    checks += [
        ColumnCheck(name, column, None, kind, "extra")
        for column, kind in found.columns.items()
        if column not in expected.columns
    ]
    return checks


def _text(value: object) -> str:
    """A name as text, whether the connection gives bytes or str; NULL (a part that is an expression) as '?'."""
    if value is None:
        return "?"
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
