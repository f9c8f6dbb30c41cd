"""The packaged tables (app/data), each read once: numbering plan, LADAs, time zones of municipalities."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np

from app.utils.geo_utils import Place, municipality_zones
from app.utils.numbering_plan import NumberingPlan

PLAN_FILE = "numbering_plan.npz"
PLAN_SOURCE = f"packaged:{PLAN_FILE}"
# Newest assignment in the packaged plan: a test holds it equal to what the file says.
PLAN_VERSION = "2026-09-04"


@dataclass(frozen=True, slots=True)
class PlaceTables:
    """Where numbers and municipalities are: `ladas` LADA → Place, `zones` as `geo_utils.time_zone` takes it."""

    ladas: Mapping[str, Place]
    zones: Mapping[tuple[str, str], str]


def _read(name: str) -> bytes:
    return files("app.data").joinpath(name).read_bytes()


def _rows(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(_read(name).decode("utf-8"))))


@lru_cache(maxsize=1)
def packaged_plan() -> NumberingPlan:
    """The numbering plan that comes with this program, version PLAN_VERSION; about 30 ms the first time."""
    with np.load(io.BytesIO(_read(PLAN_FILE)), allow_pickle=False) as table:
        size = table["size"].astype(np.int64)
        last = np.cumsum(table["gap"] + size) - 1
        assigned_on = table["assigned_on"].astype(np.int32)
        return NumberingPlan.from_columns(
            version=str(np.datetime64(int(assigned_on.max()), "D")),
            first=last - size + 1,
            last=last,
            line_type=table["line_type"].astype(np.uint8),
            operator=table["operator"].astype(np.int32),
            operators=tuple(table["operators"].tobytes().decode("utf-8").split("\n")),
            assigned_on=assigned_on,
        )


@lru_cache(maxsize=1)
def packaged_plan_sha256() -> str:
    """SHA-256 of the packaged plan's file: its identity among the plans of a database."""
    return hashlib.sha256(_read(PLAN_FILE)).hexdigest()


@lru_cache(maxsize=1)
def place_tables() -> PlaceTables:
    """The packaged LADAs (413) and the time zones of the municipalities of states that keep several."""
    ladas = {row["lada"]: Place(row["city"], row["state_code"], row["time_zone"]) for row in _rows("ladas.csv")}
    names = {(row["state_code"], row["municipality"]): row["time_zone"] for row in _rows("municipalities.csv")}
    return PlaceTables(ladas, municipality_zones(names))
