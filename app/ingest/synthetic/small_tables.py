"""estadisticas_migracion and ladas_faltantes, as the program that made the real file left them."""

from __future__ import annotations

import sqlite3
import struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.ingest.synthetic.rows import Recipe
from app.ingest.synthetic.vocabulary import NO_CITY

FINISHED_AT: Final = "2022-11-12 19:44:31"
MISSING_LADAS: Final = 186
FOUND_LADAS: Final = 171
# The real run dropped 7,329 duplicates for 36,645,692 rows kept, at about 8,900 rows a second.
DUPLICATE_SHARE: Final = 7_329 / 36_645_692
ROWS_A_SECOND: Final = 8_900


def fill_small_tables(connection: sqlite3.Connection, prefix_counts: NDArray[np.int64], recipe: Recipe) -> None:
    """Insert the one row of statistics and the missing LADAs, commonest first; `prefix_counts`: see encode_rows."""
    missing = _missing_ladas(prefix_counts, recipe)
    connection.execute("BEGIN")
    connection.executemany(
        "INSERT INTO ladas_faltantes (lada, cantidad_registros, ejemplos_numeros, fecha_detectado) VALUES (?, ?, ?, ?)",
        missing,
    )
    with_city = connection.execute("SELECT count(*) FROM numeros WHERE ciudad_por_lada IS NOT NULL").fetchone()[0]
    duplicates = round(recipe.total * DUPLICATE_SHARE)
    connection.execute(
        "INSERT INTO estadisticas_migracion (total_procesados, total_validos, total_duplicados, total_con_ciudad, "
        "ladas_encontradas, ladas_faltantes, tiempo_procesamiento_segundos, archivo_origen, fecha_migracion) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            recipe.total + duplicates,
            recipe.total,
            duplicates,
            struct.pack("<q", with_city),  # numpy's int64 went in as its bytes, by mistake
            FOUND_LADAS,
            len(missing),
            round(recipe.total / ROWS_A_SECOND + 3.217, 3),
            "TELCEL2022.csv",
            FINISHED_AT,
        ),
    )
    connection.execute("COMMIT")


def _missing_ladas(prefix_counts: NDArray[np.int64], recipe: Recipe) -> list[tuple[str, int, str, str]]:
    """(three digits, rows, example numbers, when) of the prefixes that have no city, with most rows first."""
    first = recipe.spaces.mobile.first
    example = {int(number) // 10_000_000: int(number) for number in first[::-1]}
    unknown = [prefix for prefix in example if recipe.words.city[prefix] == NO_CITY]
    unknown.sort(key=lambda prefix: (-int(prefix_counts[prefix]), prefix))
    return [
        (
            str(prefix),
            max(int(prefix_counts[prefix]), 1),
            ", ".join(f"{example[prefix] + step:010d}" for step in (14, 231, 907)),
            FINISHED_AT,
        )
        for prefix in unknown[:MISSING_LADAS]
    ]
