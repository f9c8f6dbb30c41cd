"""The plan's way: every row through phonenumbers' calls, one by one, written in batches of 10,000.

The calls are those of the plan's normalize_mexican_number; the columns those of its FIELD_MAPPING. Where the plan leaves a
choice the faster one is taken: COPY in place of INSERT, a table without any key or index, the numbers seen in a Python set.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import phonenumbers
from phonenumbers import carrier, geocoder
from psycopg import Connection

from app.core.database import connect
from app.core.errors import Broken
from benchmarks.machine import Stopwatch, Usage
from benchmarks.server import BenchServer
from benchmarks.source_file import BenchSource

BATCH = 10_000
SUBSET = 50_000
"""Rows taken: the cost of a row does not depend on how many there are, so the rest is extrapolated, and called that."""

COLUMNS = "numero, campo1_original, nombre, direccion, colonia, municipio_cof, estado_cof, lada, ciudad_por_lada"
TABLE = """CREATE TABLE plan_contacts (
    phone_e164 text NOT NULL, phone_national text NOT NULL, is_valid boolean NOT NULL, is_mobile boolean NOT NULL,
    operator text, location text, phone_original text, full_name text, address text, neighborhood text,
    municipality text, state_code text, lada text, city text, migrated_at text) WITH (autovacuum_enabled = false)"""
COPY = """COPY plan_contacts (phone_e164, phone_national, is_valid, is_mobile, operator, location, phone_original, full_name,
    address, neighborhood, municipality, state_code, lada, city, migrated_at) FROM STDIN"""
Values = tuple[Any, ...]


def normalize_mexican_number(text: str) -> tuple[str, str, bool, bool, str, str] | None:
    """The plan's six calls: E.164, national form, valid, mobile, carrier, location; None where parsing fails."""
    try:
        parsed = phonenumbers.parse(text, "MX")
    except phonenumbers.NumberParseException:
        return None
    return (
        phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164),
        phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.NATIONAL),
        phonenumbers.is_valid_number(parsed),
        phonenumbers.number_type(parsed) == phonenumbers.PhoneNumberType.MOBILE,
        carrier.name_for_number(parsed, "es"),
        geocoder.description_for_number(parsed, "es"),
    )


def measure(server: BenchServer, source: BenchSource) -> tuple[Usage, int]:
    """What the first SUBSET rows take, and how many they are. phonenumbers' tables are loaded before."""
    normalize_mexican_number("5512345678")
    with server.fresh_database() as url, closing(connect(url, autocommit=True)) as session:
        session.execute(TABLE)
        session.execute("SET synchronous_commit = off")
        server.settle()
        watch = Stopwatch(server.postmaster)
        read, written = _migrate(source, session)
        usage = watch.stop()
        row = session.execute("SELECT count(*) FROM plan_contacts").fetchone()
    if row != (written,) or read != min(SUBSET, source.facts.rows):
        raise Broken(f"Row by row: {read} read, {written} written, {row} found.", code="bench_rows")
    return usage, read


def _migrate(source: BenchSource, session: Connection) -> tuple[int, int]:
    seen: set[str] = set()
    read = written = 0
    with closing(sqlite3.connect(f"{source.path.as_uri()}?mode=ro", uri=True)) as connection:
        connection.text_factory = lambda data: data.decode("utf-8", "replace").replace("\0", "")
        cursor = connection.execute(
            f"SELECT {COLUMNS}, CAST(fecha_migracion AS TEXT) FROM numeros ORDER BY id LIMIT ?", (SUBSET,)
        )
        while rows := cursor.fetchmany(BATCH):
            read += len(rows)
            with session.transaction(), session.cursor().copy(COPY) as copy:
                for values in _normalised(rows, seen):
                    copy.write_row(values)
                    written += 1
    return read, written


def _normalised(rows: list[Values], seen: set[str]) -> Iterator[Values]:
    for numero, *others in rows:
        found = normalize_mexican_number(str(numero))
        if found is not None and found[0] not in seen:
            seen.add(found[0])
            yield (*found, *(_text(value) for value in others))


def _text(value: object) -> str | None:
    """Dirt as text: a BLOB or a number where text belongs."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").replace("\0", "")
    return None if value is None else str(value)
