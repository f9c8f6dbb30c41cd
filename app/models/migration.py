"""The ledger of migrations: runs, batches, and every row that was not loaded, or not as it was."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from sqlalchemy import (
    CHAR,
    CheckConstraint,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Numeric,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, EnumText, Json, State, enum_check, moves

MIGRATION_LOCK = 7_302_019
"""Key of the advisory lock that a running migration holds for the whole of its session."""


@moves(
    {
        "running": ("interrupted", "limited", "completed", "failed"),
        "interrupted": ("running", "rolled_back"),
        "limited": ("running", "rolled_back"),
        "completed": ("rolled_back",),
        "failed": ("running", "rolled_back"),
        "rolled_back": (),
    }
)
class RunStatus(State):
    """Where a migration run stands. A run found 'running' without its lock is taken for interrupted."""

    RUNNING = "running"
    INTERRUPTED = "interrupted"
    LIMITED = "limited"
    COMPLETED = "completed"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"


UNFINISHED = (RunStatus.RUNNING, RunStatus.INTERRUPTED, RunStatus.LIMITED, RunStatus.FAILED)


class RejectReason(StrEnum):
    """Why a row of the source has no contact of its own."""

    DUPLICATE = "duplicate"
    EMPTY = "empty"
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    INVALID = "invalid"
    FOREIGN = "foreign"
    NOT_A_NUMBER = "not_a_number"


class DetachedKind(StrEnum):
    """What was taken off contacts for a load."""

    CONSTRAINT = "constraint"
    INDEX = "index"


class MigrationRun(Base):
    """One migration of one source file, however many times it was stopped and gone on with."""

    __tablename__ = "migration_runs"
    __table_args__ = (
        enum_check("status", RunStatus),
        # One unfinished run at most: all of them have the same key.
        Index(
            "uq_migration_runs_unfinished",
            text("(true)"),
            unique=True,
            postgresql_where=text("status IN ('running', 'interrupted', 'limited', 'failed')"),
        ),
        {"comment": "One row per migration of a numeros.db, from start to completion or roll-back."},
    )

    id: Mapped[int] = mapped_column(Integer, Identity(), primary_key=True, comment="Number of the run.")
    source_path: Mapped[str] = mapped_column(comment="Path of the source file as it was given, made absolute.")
    source_sha256: Mapped[str] = mapped_column(
        CHAR(64), comment="SHA-256 of the source file before the first row was read."
    )
    source_bytes: Mapped[int] = mapped_column(comment="Size of the source file.")
    source_rows: Mapped[int] = mapped_column(comment="Rows of numeros in the file.")
    first_source_id: Mapped[int | None] = mapped_column(comment="Smallest numeros.id; null when the table is empty.")
    last_source_id: Mapped[int | None] = mapped_column(comment="Largest numeros.id; null when the table is empty.")
    contact_id_offset: Mapped[int] = mapped_column(comment="Contact id = source id + this.")
    numbering_plan_id: Mapped[int | None] = mapped_column(
        Integer, ForeignKey("numbering_plans.id"), comment="Numbering plan that classified its rows."
    )
    status: Mapped[RunStatus] = mapped_column(
        EnumText(RunStatus), comment="running, interrupted, limited, completed, failed or rolled_back."
    )
    stage: Mapped[str] = mapped_column(comment="Stage it is in, or was in when it stopped.")
    batch_size: Mapped[int] = mapped_column(Integer, comment="Source ids per committed batch.")
    load_seconds: Mapped[float | None] = mapped_column(Double, comment="Time of reading to loaded, over all its parts.")
    index_seconds: Mapped[float | None] = mapped_column(Double, comment="Time of building keys and indexes.")
    fingerprint: Mapped[str | None] = mapped_column(comment="Order-independent hash of everything that was loaded.")
    peak_rss_mb: Mapped[float | None] = mapped_column(Double, comment="Largest memory of the client so far.")
    result: Mapped[Json | None] = mapped_column(comment="The object that `migrate run --json` printed for it.")
    error: Mapped[str | None] = mapped_column(comment="Why it failed or was stopped, in one line.")
    started_at: Mapped[datetime] = mapped_column(server_default=func.now(), comment="When it was first started.")
    finished_at: Mapped[datetime | None] = mapped_column(comment="When it was completed, failed or was rolled back.")


class MigrationBatch(Base):
    """A range of source ids whose rows were committed together with this row: there is no other record of progress."""

    __tablename__ = "migration_batches"
    __table_args__ = (
        CheckConstraint("rows_read = loaded + duplicates + rejected", name="balance"),
        CheckConstraint("first_id <= last_id", name="range"),
        {"comment": "One row per committed batch of a run, written in the batch's own transaction."},
    )

    run_id: Mapped[int] = mapped_column(
        Integer, ForeignKey("migration_runs.id"), primary_key=True, comment="Run it belongs to."
    )
    first_id: Mapped[int] = mapped_column(primary_key=True, comment="First source id of its range.")
    last_id: Mapped[int] = mapped_column(comment="Last source id of its range, inclusive.")
    rows_read: Mapped[int] = mapped_column(Integer, comment="Rows that the source had in the range.")
    loaded: Mapped[int] = mapped_column(Integer, comment="Rows that became contacts.")
    duplicates: Mapped[int] = mapped_column(Integer, comment="Rows whose number another row or contact already has.")
    rejected: Mapped[int] = mapped_column(Integer, comment="Rows without a usable Mexican number.")
    repaired: Mapped[int] = mapped_column(Integer, comment="Loaded rows of which a field was changed to fit.")
    rejected_by_reason: Mapped[Json] = mapped_column(comment="Reason → rows, duplicates left out.")
    fingerprint: Mapped[Decimal] = mapped_column(
        Numeric(20, 0), comment="Order-independent 64-bit hash of the loaded rows' carried columns."
    )
    seconds: Mapped[float] = mapped_column(Double, comment="Time from read to committed.")
    committed_at: Mapped[datetime] = mapped_column(
        server_default=func.now(), comment="Start of the batch's transaction."
    )


class MigrationReject(Base):
    """A row of the source that has no contact of its own, kept whole.

    The contact it duplicates is named without a foreign key: erasing a person must not wait for the ledger.
    """

    __tablename__ = "migration_rejects"
    __table_args__ = (
        enum_check("reason", RejectReason),
        {"comment": "Every source row that was not loaded: why, what it duplicates, and the row as it was."},
    )

    run_id: Mapped[int] = mapped_column(
        Integer, ForeignKey("migration_runs.id"), primary_key=True, comment="Run that read it."
    )
    source_id: Mapped[int] = mapped_column(primary_key=True, comment="numeros.id of the row.")
    reason: Mapped[RejectReason] = mapped_column(
        EnumText(RejectReason), comment="duplicate, empty, too_short, too_long, invalid, foreign or not_a_number."
    )
    phone_e164: Mapped[str | None] = mapped_column(comment="The number it normalises to, where it does.")
    duplicate_of_contact_id: Mapped[int | None] = mapped_column(comment="Contact that has the number; for duplicates.")
    duplicate_of_source_id: Mapped[int | None] = mapped_column(
        comment="Source row that was loaded instead; null when the contact is not from this run."
    )
    detail: Mapped[str | None] = mapped_column(comment="What a person needs beyond the reason.")
    raw: Mapped[Json] = mapped_column(comment="The row as it was: column → cell, bytes as hexadecimal where not text.")


class MigrationRepair(Base):
    """A cell that could not be stored as it was, with the rule that changed it and the row before."""

    __tablename__ = "migration_repairs"
    __table_args__ = (
        {"comment": "Every cell of a loaded row that was changed to fit, by which rule, and what it was."},
    )

    run_id: Mapped[int] = mapped_column(
        Integer, ForeignKey("migration_runs.id"), primary_key=True, comment="Run that read it."
    )
    source_id: Mapped[int] = mapped_column(primary_key=True, comment="numeros.id of the row.")
    field: Mapped[str] = mapped_column(primary_key=True, comment="Column of numeros.")
    rule: Mapped[str] = mapped_column(
        primary_key=True,
        comment="nul_removed, windows_1252, replaced, shortened, storage_class, unreadable_date, … (docs/mapping.md).",
    )
    raw: Mapped[Json] = mapped_column(comment="The cell as it was, in the notation of migration_rejects.raw.")


class SourceStatistics(Base):
    """A row of estadisticas_migracion."""

    __tablename__ = "source_statistics"
    __table_args__ = (
        UniqueConstraint("run_id", "source_id"),
        {"comment": "estadisticas_migracion of the source: what its makers counted when they filled it."},
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True, comment="Our number of the row.")
    run_id: Mapped[int] = mapped_column(Integer, ForeignKey("migration_runs.id"), comment="Run that carried it over.")
    source_id: Mapped[int] = mapped_column(comment="estadisticas_migracion.id.")
    processed_total: Mapped[int | None] = mapped_column(comment="total_procesados.")
    valid_total: Mapped[int | None] = mapped_column(comment="total_validos.")
    duplicate_total: Mapped[int | None] = mapped_column(comment="total_duplicados.")
    with_city_total: Mapped[int | None] = mapped_column(
        comment="total_con_ciudad; a little-endian BLOB in the known file, decoded here."
    )
    ladas_found: Mapped[int | None] = mapped_column(comment="ladas_encontradas.")
    ladas_missing: Mapped[int | None] = mapped_column(comment="ladas_faltantes.")
    processing_seconds: Mapped[float | None] = mapped_column(Double, comment="tiempo_procesamiento_segundos.")
    source_file: Mapped[str | None] = mapped_column(comment="archivo_origen.")
    recorded_at: Mapped[datetime | None] = mapped_column(comment="fecha_migracion; null when unreadable.")
    raw: Mapped[Json] = mapped_column(comment="The row as it was.")


class MissingLada(Base):
    """A row of ladas_faltantes."""

    __tablename__ = "missing_ladas"
    __table_args__ = (
        UniqueConstraint("run_id", "source_rowid"),
        {"comment": "ladas_faltantes of the source: area codes that its makers could not place."},
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True, comment="Our number of the row.")
    run_id: Mapped[int] = mapped_column(Integer, ForeignKey("migration_runs.id"), comment="Run that carried it over.")
    source_rowid: Mapped[int] = mapped_column(comment="rowid of the row in the source.")
    lada: Mapped[str | None] = mapped_column(comment="lada; as text whatever it was.")
    contact_count: Mapped[int | None] = mapped_column(comment="cantidad_registros.")
    example_numbers: Mapped[str | None] = mapped_column(comment="ejemplos_numeros.")
    detected_at: Mapped[datetime | None] = mapped_column(comment="fecha_detectado; null when unreadable.")
    raw: Mapped[Json] = mapped_column(comment="The row as it was.")


class MigrationDetached(Base):
    """A constraint or index that is off while a load runs, with the statement that brings it back."""

    __tablename__ = "migration_detached"
    __table_args__ = (
        enum_check("kind", DetachedKind),
        {"comment": "Constraints and indexes taken off for a load, with the DDL that restores them; empty otherwise."},
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True, comment="Order in which they were taken off.")
    run_id: Mapped[int] = mapped_column(Integer, ForeignKey("migration_runs.id"), comment="Run that took it off.")
    kind: Mapped[DetachedKind] = mapped_column(EnumText(DetachedKind), comment="constraint or index.")
    table_name: Mapped[str] = mapped_column(comment="Table it belongs to.")
    name: Mapped[str] = mapped_column(comment="Its name.")
    definition: Mapped[str] = mapped_column(comment="Statement that restores it.")
