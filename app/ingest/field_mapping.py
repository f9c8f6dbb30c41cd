"""Which column of numeros.db goes where, and what happens to it on the way: one table for inspect, docs and tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class FieldMapping:
    """A source column, the target columns it fills, and the transformation as a sentence.

    `max_length`: characters kept in the target; the whole cell of a longer one is kept in migration_repairs.
    `in_plan`: whether the first phase's plan names a target; the others are kept under their own name.
    """

    source_table: str
    source_column: str
    target_table: str
    target_columns: tuple[str, ...]
    transformation: str
    max_length: int | None = None
    in_plan: bool = True


# What "carried unchanged" means for cells that PostgreSQL cannot hold as they are.
TEXT_REPAIRS: Final = (
    "NUL characters are removed, bytes that are not UTF-8 are read as Windows-1252 or replaced, numbers and BLOBs "
    "become text, what is too long is shortened; the ledger (migration_repairs) keeps every such cell as it was."
)
_TEXT: Final = "Carried unchanged."
_KEPT: Final = "Carried unchanged under its own name; the plan leaves it out."


def _contact(
    column: str, targets: str, transformation: str, max_length: int | None = None, *, in_plan: bool = True
) -> FieldMapping:
    return FieldMapping("numeros", column, "contacts", tuple(targets.split()), transformation, max_length, in_plan)


CONTACT_FIELDS: Final = (
    _contact(
        "id",
        "source_id id",
        "source_id is the id; the contact's own id is it plus the run's offset (0 at first).",
    ),
    _contact(
        "numero",
        "phone_national phone_e164 lada line_type is_mobile operator time_zone",
        "White space, NUL and zero-width characters removed; 01, 044, 045, 0052 and the 1 after 52 stripped; then "
        "phonenumbers' verdict. Not Mexican or not valid: rejected with its reason. Line type and operator by the "
        "numbering plan; equal numbers: the lowest id is loaded, the others are its duplicates.",
    ),
    _contact("campo1_original", "phone_original", _TEXT, 200),
    _contact("nombre", "full_name", _TEXT, 500),
    _contact("direccion", "address", _TEXT, 1000),
    _contact("colonia", "neighborhood", _TEXT, 300),
    _contact(
        "municipio_cof", "municipality time_zone", "Carried unchanged. With the state it decides the time zone.", 300
    ),
    _contact(
        "estado_cof",
        "state_code state_name",
        "Every known spelling becomes one of 32 ISO 3166-2:MX codes with its name; unrecognised ones are recorded. "
        "Without a state the LADA's is taken and marked as inferred.",
    ),
    _contact(
        "lada",
        "lada",
        "Taken from the number itself, two digits for 33, 55, 56 and 81: the source's is wrong for the big cities.",
    ),
    _contact(
        "ciudad_por_lada",
        "city",
        "Carried unchanged; where it is missing the LADA's city is taken, marked as inferred.",
        300,
    ),
    _contact(
        "es_valido",
        "is_valid invalid_reason status",
        "Valid is: accepted, assigned by the numbering plan, and not marked 0 here. NULL marks nothing.",
    ),
    _contact("fecha_migracion", "migrated_at", "Read as UTC; what cannot be read becomes NULL and is recorded."),
    _contact("campo3", "campo3", _KEPT + " Often a tax id: personal data.", 300, in_plan=False),
    _contact("municipio_csv", "municipio_csv", _KEPT, 300, in_plan=False),
    _contact("estado_sep", "estado_sep", _KEPT, 300, in_plan=False),
    _contact("municipio_sep", "municipio_sep", _KEPT, 300, in_plan=False),
)

_INTEGER: Final = "Integer; an 8-byte BLOB is read as a little-endian integer. The whole row is kept in raw."
_WHOLE: Final = "The whole row is kept in raw as well."


def _small(source: str, target: str, names: str, transformation: str) -> tuple[FieldMapping, ...]:
    pairs = (pair.split(":") for pair in names.split())
    return tuple(FieldMapping(source, name, target, (to,), transformation) for name, to in pairs)


STATISTICS_FIELDS: Final = (
    *_small(
        "estadisticas_migracion",
        "source_statistics",
        "id:source_id total_procesados:processed_total total_validos:valid_total total_duplicados:duplicate_total "
        "total_con_ciudad:with_city_total ladas_encontradas:ladas_found ladas_faltantes:ladas_missing",
        _INTEGER,
    ),
    *_small(
        "estadisticas_migracion",
        "source_statistics",
        "tiempo_procesamiento_segundos:processing_seconds archivo_origen:source_file fecha_migracion:recorded_at",
        _WHOLE,
    ),
)
MISSING_LADA_FIELDS: Final = _small(
    "ladas_faltantes",
    "missing_ladas",
    "lada:lada cantidad_registros:contact_count ejemplos_numeros:example_numbers fecha_detectado:detected_at",
    _WHOLE,
)
FIELD_MAPPINGS: Final = (*CONTACT_FIELDS, *STATISTICS_FIELDS, *MISSING_LADA_FIELDS)


def unplanned_fields() -> tuple[FieldMapping, ...]:
    """The columns for which the plan names no target; each says where it is kept."""
    return tuple(field for field in FIELD_MAPPINGS if not field.in_plan)
