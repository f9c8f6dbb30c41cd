"""Small numeros.db files for tests, in the exact schema, row by row as a test wants them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path

SCHEMA = """
CREATE TABLE numeros (id INTEGER PRIMARY KEY AUTOINCREMENT, numero TEXT NOT NULL UNIQUE, campo1_original TEXT, nombre TEXT,
  campo3 TEXT, direccion TEXT, colonia TEXT, municipio_csv TEXT, estado_sep TEXT, municipio_sep TEXT, estado_cof TEXT,
  municipio_cof TEXT, lada TEXT, ciudad_por_lada TEXT, es_valido BOOLEAN DEFAULT 1, fecha_migracion TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE estadisticas_migracion (id INTEGER PRIMARY KEY AUTOINCREMENT, total_procesados INTEGER, total_validos INTEGER,
  total_duplicados INTEGER, total_con_ciudad INTEGER, ladas_encontradas INTEGER, ladas_faltantes INTEGER,
  tiempo_procesamiento_segundos REAL, archivo_origen TEXT, fecha_migracion TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE ladas_faltantes (lada TEXT PRIMARY KEY, cantidad_registros INTEGER, ejemplos_numeros TEXT, fecha_detectado TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
CREATE INDEX idx_numeros_numero ON numeros(numero);
CREATE INDEX idx_numeros_lada ON numeros(lada);
CREATE INDEX idx_numeros_ciudad ON numeros(ciudad_por_lada);
CREATE INDEX idx_numeros_municipio ON numeros(municipio_cof);
CREATE INDEX idx_numeros_fecha ON numeros(fecha_migracion);
"""

Row = Mapping[str, object]
PLAIN_ROW: Row = {
    "campo1_original": "5512345678",
    "nombre": "MARIA GUADALUPE PRUEBA MUÑOZ",
    "campo3": "XAXX010101000",
    "direccion": "AV DE LA PRUEBA 100 INT 5",
    "colonia": "CENTRO",
    "municipio_csv": "CUAUHTEMOC",
    "estado_sep": "DF",
    "municipio_sep": "CUAUHTEMOC",
    "estado_cof": "DISTRITO FEDERAL",
    "municipio_cof": "CUAUHTEMOC",
    "lada": "551",
    "ciudad_por_lada": "MEXICO",
    "es_valido": 1,
    "fecha_migracion": "2025-01-27 10:30:00",
}


def make_source(path: Path, rows: Iterable[Row], *, page_size: int = 4096, encoding: str = "UTF-8") -> Path:
    """Write a numeros.db. Each row gives at least `numero`; other columns default to PLAIN_ROW. Returns `path`.

    A bytes value is stored as a BLOB; wrap it as `RawText` to store TEXT with exactly those bytes.
    """
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA page_size = {page_size}")
        connection.execute(f"PRAGMA encoding = '{encoding}'")
        connection.executescript(SCHEMA)
        for row in rows:
            full = {**PLAIN_ROW, **row}
            names = ", ".join(full)
            marks = ", ".join("CAST(? AS TEXT)" if isinstance(value, RawText) else "?" for value in full.values())
            connection.execute(f"INSERT INTO numeros ({names}) VALUES ({marks})", tuple(full.values()))
        connection.execute(
            "INSERT INTO estadisticas_migracion (total_procesados, total_validos, total_duplicados, total_con_ciudad, "
            "ladas_encontradas, ladas_faltantes, tiempo_procesamiento_segundos, archivo_origen, fecha_migracion) "
            "VALUES (36653021, 36645692, 7329, ?, 171, 186, 5400.5, 'TELCEL2022.csv', '2025-01-26 01:02:03')",
            ((12_345_678).to_bytes(8, "little"),),
        )
        connection.execute(
            "INSERT INTO ladas_faltantes VALUES ('999', 12, '9991234567,9991234568', '2025-01-26 01:02:03')"
        )
        connection.commit()
    return path


class RawText(bytes):
    """Bytes to be stored as TEXT, valid UTF-8 or not."""


def numbers(count: int, *, first: int = 5_510_000_000) -> list[str]:
    """`count` different ten-digit numbers that phonenumbers calls valid."""
    return [str(first + k) for k in range(count)]
