"""Whether a database is what the models say: Alembic's comparison, and what Alembic does not compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import CheckConstraint, Connection, Table, create_engine, pool, text
from sqlalchemy.schema import SchemaItem

from app.core.database import sqlalchemy_url
from app.models import Base

ObjectKind = Literal[
    "schema", "table", "column", "index", "unique_constraint", "foreign_key_constraint", "check_constraint"
]
IncludeObject = Callable[[SchemaItem, str | None, ObjectKind, bool, SchemaItem | None], bool]

PARTITIONS = "SELECT inhrelid::regclass::text FROM pg_inherits"
CHECKS = """
SELECT conrelid::regclass::text, conname FROM pg_constraint
WHERE contype = 'c' AND connamespace = 'public'::regnamespace AND coninhcount = 0
"""
STORAGE = """
SELECT relname, coalesce(reloptions, '{}') FROM pg_class
WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND NOT relispartition
"""


def include_object_without(connection: Connection) -> IncludeObject:
    """Alembic's include_object for `connection`'s database: all but partitions, which are made monthly."""
    partitions = set(connection.scalars(text(PARTITIONS)))

    def include(item: SchemaItem, name: str | None, kind: ObjectKind, reflected: bool, _: SchemaItem | None) -> bool:
        if not reflected:
            return True
        table = name if kind == "table" else getattr(getattr(item, "table", None), "name", None)
        return table not in partitions

    return include


def check_drift(db_url: str) -> list[str]:
    """One line per difference between the database and the models; empty when there is none.

    Compared: tables, columns, types, defaults, NULLs, comments, keys, indexes (Alembic), names of CHECKs and storage
    parameters (here). What a CHECK says is held to its enum by a test.
    """
    engine = create_engine(sqlalchemy_url(db_url), poolclass=pool.NullPool)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "include_object": include_object_without(connection),
                "compare_type": True,
                "compare_server_default": True,
            },
        )
        found = [_describe(difference) for difference in compare_metadata(context, Base.metadata)]
        return found + _check_names(connection) + _storage(connection)


def _describe(difference: Any) -> str:
    """A difference as Alembic gives it, in one line: a tuple (kind, what …), or a list of them for one column."""
    if isinstance(difference, list):
        return "; ".join(_describe(part) for part in difference)
    kind, *parts = difference
    if kind.startswith("modify_"):
        _, table, column, _, there, model = parts
        return f"{kind} {table}.{column}: the database has {_plain(there)}, the models {_plain(model)}"
    return f"{kind} {' '.join(_plain(part) for part in parts if part is not None)}"


def _plain(value: Any) -> str:
    """A schema object by its names, a default by its expression, anything else as it prints."""
    table = getattr(value, "table", None)
    names = [str(name) for name in (getattr(table, "name", None), getattr(value, "name", None)) if name]
    return ".".join(names) or str(getattr(value, "arg", value))


def _check_names(connection: Connection) -> list[str]:
    expected = {
        (table.name, str(constraint.name))
        for table in Base.metadata.tables.values()
        for constraint in table.constraints
        if isinstance(constraint, CheckConstraint)
    }
    there = {(row[0], row[1]) for row in connection.execute(text(CHECKS))}
    missing = [f"missing check {name} on {table}" for table, name in sorted(expected - there)]
    return missing + [f"unknown check {name} on {table}" for table, name in sorted(there - expected)]


def _storage(connection: Connection) -> list[str]:
    there = {row[0]: dict(option.split("=", 1) for option in row[1]) for row in connection.execute(text(STORAGE))}
    return [
        f"storage of {table.name}: the database has {there[table.name]}, the models {_declared(table)}"
        for table in Base.metadata.tables.values()
        if table.name in there and there[table.name] != _declared(table)
    ]


def _declared(table: Table) -> dict[str, str]:
    options: Mapping[str, str] = table.dialect_options["postgresql"].get("with") or {}
    return dict(options)
