"""The schema of numeros.db, word for word as it is known: what `inspect` expects and what `generate` writes."""

from __future__ import annotations

from typing import Final

NUMEROS: Final = (
    "CREATE TABLE numeros (id INTEGER PRIMARY KEY AUTOINCREMENT, numero TEXT NOT NULL UNIQUE, campo1_original TEXT, "
    "nombre TEXT,\n  campo3 TEXT, direccion TEXT, colonia TEXT, municipio_csv TEXT, estado_sep TEXT, "
    "municipio_sep TEXT, estado_cof TEXT,\n  municipio_cof TEXT, lada TEXT, ciudad_por_lada TEXT, "
    "es_valido BOOLEAN DEFAULT 1, "
    "fecha_migracion TIMESTAMP DEFAULT CURRENT_TIMESTAMP)"
)
STATISTICS: Final = (
    "CREATE TABLE estadisticas_migracion (id INTEGER PRIMARY KEY AUTOINCREMENT, total_procesados INTEGER, "
    "total_validos INTEGER,\n  total_duplicados INTEGER, total_con_ciudad INTEGER, ladas_encontradas INTEGER, "
    "ladas_faltantes INTEGER,\n  tiempo_procesamiento_segundos REAL, archivo_origen TEXT, "
    "fecha_migracion TIMESTAMP DEFAULT CURRENT_TIMESTAMP)"
)
MISSING_LADAS: Final = (
    "CREATE TABLE ladas_faltantes (lada TEXT PRIMARY KEY, cantidad_registros INTEGER, ejemplos_numeros TEXT, "
    "fecha_detectado TIMESTAMP DEFAULT CURRENT_TIMESTAMP)"
)
TABLES: Final = (NUMEROS, STATISTICS, MISSING_LADAS)
INDEXES: Final = (
    "CREATE INDEX idx_numeros_numero ON numeros(numero)",
    "CREATE INDEX idx_numeros_lada ON numeros(lada)",
    "CREATE INDEX idx_numeros_ciudad ON numeros(ciudad_por_lada)",
    "CREATE INDEX idx_numeros_municipio ON numeros(municipio_cof)",
    "CREATE INDEX idx_numeros_fecha ON numeros(fecha_migracion)",
)
