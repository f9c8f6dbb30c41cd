"""Health, and runs of the migration, as the API shows them."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from app.models.migration import RunStatus
from app.schemas.base import Outgoing


class AliveOut(Outgoing):
    """The process answers."""

    status: str = Field(examples=["ok"])
    version: str = Field(examples=["0.1.0"])


class CheckOut(Outgoing):
    """One thing that the service stands on."""

    name: str = Field(examples=["cache"])
    status: str = Field(description="ok, degraded or failed.", examples=["ok"])
    detail: str | None = Field(description="What is wrong; null: nothing.", examples=[None])


class ReadinessOut(Outgoing):
    """Whether the service can do its work."""

    status: str = Field(description="ok, degraded (works, with what is named missing) or unavailable.", examples=["ok"])
    checks: list[CheckOut]


class MigrationRunOut(Outgoing):
    """A migration of one source file."""

    id: int = Field(examples=[1])
    status: RunStatus = Field(examples=["completed"])
    stage: str = Field(description="Stage it is in, or was in when it stopped.", examples=["done"])
    source_name: str = Field(description="Name of the source file.", examples=["numeros.db"])
    source_sha256: str = Field(examples=["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"])
    source_bytes: int = Field(examples=[9_120_000_000])
    source_rows: int = Field(examples=[36_645_692])
    batch_size: int = Field(examples=[100_000])
    rows_read: int = Field(description="Rows in committed batches.", examples=[36_645_692])
    loaded: int = Field(description="Rows that became contacts.", examples=[36_001_002])
    duplicates: int = Field(examples=[600_000])
    rejected: int = Field(examples=[44_690])
    load_seconds: float | None = Field(examples=[402.5])
    index_seconds: float | None = Field(examples=[96.1])
    started_at: datetime = Field(examples=["2026-01-15T18:00:00Z"])
    finished_at: datetime | None = Field(examples=["2026-01-15T18:08:34Z"])
    error: str | None = Field(description="Why it failed or was stopped.", examples=[None])
