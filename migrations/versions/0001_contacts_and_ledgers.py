"""Contacts, the numbering plan, and the ledgers of migration and backup.

Contacts come without their seven search indexes (0004): keys first, so that the order of the day is visible here.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Search needs them (later revisions use public.unaccent and trigrams); the schema itself stands without, so a server
# where we may not create extensions is not refused: its administrator adds them.
EXTENSIONS = """
DO $$
DECLARE extension text;
BEGIN
    FOREACH extension IN ARRAY ARRAY['pg_trgm', 'unaccent', 'btree_gin'] LOOP
        BEGIN
            EXECUTE format('CREATE EXTENSION IF NOT EXISTS %I WITH SCHEMA public', extension);
        EXCEPTION WHEN insufficient_privilege OR undefined_file OR feature_not_supported THEN
            RAISE WARNING 'extension % is not there and could not be created: %', extension, SQLERRM;
        END;
    END LOOP;
END $$
"""


def upgrade() -> None:
    op.execute(EXTENSIONS)
    _numbering()
    _runs()
    _contacts()
    _ledger()
    _server()


def downgrade() -> None:
    """The extensions stay: they may have been there before us."""
    op.drop_table("backups")
    op.drop_table("server_settings_saved")
    op.drop_table("migration_detached")
    op.drop_table("missing_ladas")
    op.drop_table("source_statistics")
    op.drop_table("migration_repairs")
    op.drop_table("migration_rejects")
    op.drop_table("migration_batches")
    op.drop_table("contacts")
    op.drop_table("migration_runs")
    op.drop_table("numbering_reclassifications")
    op.drop_table("numbering_ranges")
    op.drop_table("numbering_plans")


def _numbering() -> None:
    op.create_table(
        "numbering_plans",
        sa.Column("id", sa.Integer(), sa.Identity(always=False), nullable=False, comment="Number of the plan."),
        sa.Column("version", sa.Text(), nullable=False, comment="Newest assignment date in it, as 2026-09-04."),
        sa.Column("layout", sa.Text(), nullable=False, comment="Layout of the file: 2025 or 2019."),
        sa.Column("source_file", sa.Text(), nullable=False, comment="Name of the file it was read from."),
        sa.Column("sha256", sa.CHAR(length=64), nullable=False, comment="SHA-256 of that file: the same is not read twice."),
        sa.Column("range_count", sa.Integer(), nullable=False, comment="Ranges in it."),
        sa.Column("number_count", sa.BigInteger(), nullable=False, comment="Numbers that its ranges hold."),
        sa.Column("imported_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False, comment="When it was imported."),
        sa.Column("in_force", sa.Boolean(), server_default=sa.text("false"), nullable=False, comment="Whether new contacts are classified by it."),
        sa.CheckConstraint("layout IN ('2025', '2019')", name=op.f("ck_numbering_plans_layout")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_numbering_plans")),
        sa.UniqueConstraint("sha256", name=op.f("uq_numbering_plans_sha256")),
        comment="Imported versions of Mexico's national numbering plan; one is in force.",
    )
    op.create_index("uq_numbering_plans_in_force", "numbering_plans", ["in_force"], unique=True, postgresql_where=sa.text("in_force"))
    op.create_table(
        "numbering_ranges",
        sa.Column("plan_id", sa.Integer(), nullable=False, comment="Plan it belongs to."),
        sa.Column("first_number", sa.BigInteger(), nullable=False, comment="First national number, ten digits."),
        sa.Column("last_number", sa.BigInteger(), nullable=False, comment="Last national number, inclusive."),
        sa.Column("line_type", sa.String(16), nullable=False, comment="mobile or fixed."),
        sa.Column("operator", sa.String(length=120), nullable=False, comment="Operator it was first assigned to."),
        sa.Column("assigned_on", sa.Date(), nullable=True, comment="Day of assignment, where the file has it."),
        sa.Column("city", sa.Text(), nullable=True, comment="Town (POBLACION)."),
        sa.Column("municipality", sa.Text(), nullable=True, comment="Municipality."),
        sa.Column("state_code", sa.String(length=3), nullable=True, comment="ISO 3166-2:MX without 'MX-'."),
        sa.CheckConstraint("line_type IN ('mobile', 'fixed')", name=op.f("ck_numbering_ranges_line_type")),
        sa.CheckConstraint("first_number <= last_number", name=op.f("ck_numbering_ranges_range")),
        sa.ForeignKeyConstraint(["plan_id"], ["numbering_plans.id"], name=op.f("fk_numbering_ranges_plan_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("plan_id", "first_number", name=op.f("pk_numbering_ranges")),
        comment="Blocks of numbers of a plan; blocks of one plan do not overlap.",
    )
    op.create_table(
        "numbering_reclassifications",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False, comment="Number of the pass."),
        sa.Column("plan_id", sa.Integer(), nullable=False, comment="Plan that it applies."),
        sa.Column("last_contact_id", sa.BigInteger(), nullable=False, comment="Contacts up to this id are done."),
        sa.Column("examined", sa.BigInteger(), nullable=False, comment="Contacts looked at so far."),
        sa.Column("changed", sa.BigInteger(), nullable=False, comment="Contacts of which something was changed."),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False, comment="When the pass began."),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True, comment="When it reached the end; null while it has not."),
        sa.ForeignKeyConstraint(["plan_id"], ["numbering_plans.id"], name=op.f("fk_numbering_reclassifications_plan_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_numbering_reclassifications")),
        comment="Passes that brought contacts up to date with a plan, and how far each came.",
    )


def _runs() -> None:
    op.create_table(
        "migration_runs",
        sa.Column("id", sa.Integer(), sa.Identity(always=False), nullable=False, comment="Number of the run."),
        sa.Column("source_path", sa.Text(), nullable=False, comment="Path of the source file as it was given, made absolute."),
        sa.Column("source_sha256", sa.CHAR(length=64), nullable=False, comment="SHA-256 of the source file before the first row was read."),
        sa.Column("source_bytes", sa.BigInteger(), nullable=False, comment="Size of the source file."),
        sa.Column("source_rows", sa.BigInteger(), nullable=False, comment="Rows of numeros in the file."),
        sa.Column("first_source_id", sa.BigInteger(), nullable=True, comment="Smallest numeros.id; null when the table is empty."),
        sa.Column("last_source_id", sa.BigInteger(), nullable=True, comment="Largest numeros.id; null when the table is empty."),
        sa.Column("contact_id_offset", sa.BigInteger(), nullable=False, comment="Contact id = source id + this."),
        sa.Column("numbering_plan_id", sa.Integer(), nullable=True, comment="Numbering plan that classified its rows."),
        sa.Column("status", sa.Text(), nullable=False, comment="running, interrupted, limited, completed, failed or rolled_back."),
        sa.Column("stage", sa.Text(), nullable=False, comment="Stage it is in, or was in when it stopped."),
        sa.Column("batch_size", sa.Integer(), nullable=False, comment="Source ids per committed batch."),
        sa.Column("load_seconds", sa.Double(), nullable=True, comment="Time of reading to loaded, over all its parts."),
        sa.Column("index_seconds", sa.Double(), nullable=True, comment="Time of building keys and indexes."),
        sa.Column("fingerprint", sa.Text(), nullable=True, comment="Order-independent hash of everything that was loaded."),
        sa.Column("peak_rss_mb", sa.Double(), nullable=True, comment="Largest memory of the client so far."),
        sa.Column("result", postgresql.JSONB(), nullable=True, comment="The object that `migrate run --json` printed for it."),
        sa.Column("error", sa.Text(), nullable=True, comment="Why it failed or was stopped, in one line."),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False, comment="When it was first started."),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True, comment="When it was completed, failed or was rolled back."),
        sa.CheckConstraint("status IN ('running', 'interrupted', 'limited', 'completed', 'failed', 'rolled_back')", name=op.f("ck_migration_runs_status")),
        sa.ForeignKeyConstraint(["numbering_plan_id"], ["numbering_plans.id"], name=op.f("fk_migration_runs_numbering_plan_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_migration_runs")),
        comment="One row per migration of a numeros.db, from start to completion or roll-back.",
    )
    op.create_index("uq_migration_runs_unfinished", "migration_runs", [sa.literal_column("(true)")], unique=True, postgresql_where=sa.text("status IN ('running', 'interrupted', 'limited', 'failed')"))


def _contacts() -> None:
    op.create_table(
        "contacts",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False, comment="Our number of the contact; for a migrated row, source_id plus the run's offset."),
        sa.Column("source_id", sa.BigInteger(), nullable=True, comment="numeros.id of the row it came from; null when not migrated."),
        sa.Column("migration_run_id", sa.Integer(), nullable=True, comment="Run that loaded it; null when it came another way."),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False, comment="When the row was written here."),
        sa.Column("migrated_at", sa.DateTime(timezone=True), nullable=True, comment="numeros.fecha_migracion: when the source itself was filled; null when unreadable or not migrated."),
        sa.Column("opt_out_at", sa.DateTime(timezone=True), nullable=True, comment="When the person said BAJA or the like; null: has not."),
        sa.Column("last_sent_at", sa.DateTime(timezone=True), nullable=True, comment="Last message handed to a carrier."),
        sa.Column("send_count", sa.Integer(), server_default=sa.text("0"), nullable=False, comment="Messages handed to a carrier since ever."),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False, comment="Grows with every edit by a person: optimistic locking."),
        sa.Column("inferred", sa.SmallInteger(), server_default=sa.text("0"), nullable=False, comment="Bits: 1 state, 2 city, 4 time zone was filled from the LADA."),
        sa.Column("is_mobile", sa.Boolean(), nullable=False, comment="line_type is mobile."),
        sa.Column("is_valid", sa.Boolean(), nullable=False, comment="Assigned by the numbering plan and not marked invalid by the source."),
        sa.Column("phone_e164", sa.String(length=16), nullable=False, comment="+52 and ten digits; unique."),
        sa.Column("phone_national", sa.String(length=10), nullable=False, comment="The ten digits of the number."),
        sa.Column("phone_original", sa.String(length=200), nullable=True, comment="numeros.campo1_original: the number as it was first written down."),
        sa.Column("full_name", sa.String(length=500), nullable=True, comment="Name of the person or business (numeros.nombre)."),
        sa.Column("address", sa.String(length=1000), nullable=True, comment="Street and number (numeros.direccion)."),
        sa.Column("neighborhood", sa.String(length=300), nullable=True, comment="Colonia (numeros.colonia)."),
        sa.Column("municipality", sa.String(length=300), nullable=True, comment="Municipality (numeros.municipio_cof)."),
        sa.Column("state_code", sa.String(length=3), nullable=True, comment="ISO 3166-2:MX without 'MX-': CMX, JAL, NLE …"),
        sa.Column("state_name", sa.String(length=40), nullable=True, comment="Name of the state in Spanish."),
        sa.Column("lada", sa.String(length=3), nullable=True, comment="Area code by the number itself: two digits for 33, 55, 56, 81, three for every other."),
        sa.Column("city", sa.String(length=300), nullable=True, comment="City by the LADA or the source (ciudad_por_lada)."),
        sa.Column("line_type", sa.String(16), nullable=False, comment="Kind of line by the numbering plan: mobile, fixed, toll_free … unassigned."),
        sa.Column("operator", sa.String(length=120), nullable=True, comment="Operator that the number was first assigned to; it may have been ported since."),
        sa.Column("invalid_reason", sa.String(40), nullable=True, comment="Why is_valid is false: unassigned, source_flag or both; null when valid."),
        sa.Column("status", sa.String(16), server_default=sa.text("'ACTIVE'"), nullable=False, comment="ACTIVE, INVALID, INACTIVE, BLOCKED or ERASED."),
        sa.Column("time_zone", sa.String(length=40), nullable=True, comment="IANA zone whose clock sending hours go by."),
        sa.Column("source", sa.String(length=60), nullable=False, comment="Where it came from: numeros.db, or the name of an import."),
        sa.Column("campo3", sa.String(length=300), nullable=True, comment="numeros.campo3, kept as it was; often holds a tax id, so it is personal data."),
        sa.Column("municipio_csv", sa.String(length=300), nullable=True, comment="numeros.municipio_csv, kept as it was."),
        sa.Column("estado_sep", sa.String(length=300), nullable=True, comment="numeros.estado_sep, kept as it was."),
        sa.Column("municipio_sep", sa.String(length=300), nullable=True, comment="numeros.municipio_sep, kept as it was."),
        sa.CheckConstraint(
            "line_type IN ('mobile', 'fixed', 'toll_free', 'premium', 'shared_cost', 'personal', 'unassigned') AND status IN ('ACTIVE', 'INVALID', 'INACTIVE', 'BLOCKED', 'ERASED') AND is_mobile = (line_type = 'mobile') AND is_valid = (invalid_reason IS NULL) AND inferred BETWEEN 0 AND 7 AND send_count >= 0",
            name=op.f("ck_contacts_values"),
        ),
        sa.CheckConstraint("phone_e164 = '+52' || phone_national", name=op.f("ck_contacts_phone")),
        sa.ForeignKeyConstraint(["migration_run_id"], ["migration_runs.id"], name=op.f("fk_contacts_migration_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_contacts")),
        sa.UniqueConstraint("phone_e164", name="uq_contacts_phone_e164"),
        comment="One row per phone number: the person or business it reaches, and what may be done with it.",
        postgresql_with={"fillfactor": "90", "autovacuum_vacuum_scale_factor": "0.02", "autovacuum_analyze_scale_factor": "0.01"},
    )


def _ledger() -> None:
    op.create_table(
        "migration_batches",
        sa.Column("run_id", sa.Integer(), nullable=False, comment="Run it belongs to."),
        sa.Column("first_id", sa.BigInteger(), nullable=False, comment="First source id of its range."),
        sa.Column("last_id", sa.BigInteger(), nullable=False, comment="Last source id of its range, inclusive."),
        sa.Column("rows_read", sa.Integer(), nullable=False, comment="Rows that the source had in the range."),
        sa.Column("loaded", sa.Integer(), nullable=False, comment="Rows that became contacts."),
        sa.Column("duplicates", sa.Integer(), nullable=False, comment="Rows whose number another row or contact already has."),
        sa.Column("rejected", sa.Integer(), nullable=False, comment="Rows without a usable Mexican number."),
        sa.Column("repaired", sa.Integer(), nullable=False, comment="Loaded rows of which a field was changed to fit."),
        sa.Column("rejected_by_reason", postgresql.JSONB(), nullable=False, comment="Reason → rows, duplicates left out."),
        sa.Column("fingerprint", sa.Numeric(precision=20, scale=0), nullable=False, comment="Order-independent 64-bit hash of the loaded rows' carried columns."),
        sa.Column("seconds", sa.Double(), nullable=False, comment="Time from read to committed."),
        sa.Column("committed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False, comment="Start of the batch's transaction."),
        sa.CheckConstraint("first_id <= last_id", name=op.f("ck_migration_batches_range")),
        sa.CheckConstraint("rows_read = loaded + duplicates + rejected", name=op.f("ck_migration_batches_balance")),
        sa.ForeignKeyConstraint(["run_id"], ["migration_runs.id"], name=op.f("fk_migration_batches_run_id")),
        sa.PrimaryKeyConstraint("run_id", "first_id", name=op.f("pk_migration_batches")),
        comment="One row per committed batch of a run, written in the batch's own transaction.",
    )
    op.create_table(
        "migration_rejects",
        sa.Column("run_id", sa.Integer(), nullable=False, comment="Run that read it."),
        sa.Column("source_id", sa.BigInteger(), nullable=False, comment="numeros.id of the row."),
        sa.Column("reason", sa.Text(), nullable=False, comment="duplicate, empty, too_short, too_long, invalid, foreign or not_a_number."),
        sa.Column("phone_e164", sa.Text(), nullable=True, comment="The number it normalises to, where it does."),
        sa.Column("duplicate_of_contact_id", sa.BigInteger(), nullable=True, comment="Contact that has the number; for duplicates."),
        sa.Column("duplicate_of_source_id", sa.BigInteger(), nullable=True, comment="Source row that was loaded instead; null when the contact is not from this run."),
        sa.Column("detail", sa.Text(), nullable=True, comment="What a person needs beyond the reason."),
        sa.Column("raw", postgresql.JSONB(), nullable=False, comment="The row as it was: column → cell, bytes as hexadecimal where not text."),
        sa.CheckConstraint("reason IN ('duplicate', 'empty', 'too_short', 'too_long', 'invalid', 'foreign', 'not_a_number')", name=op.f("ck_migration_rejects_reason")),
        sa.ForeignKeyConstraint(["run_id"], ["migration_runs.id"], name=op.f("fk_migration_rejects_run_id")),
        sa.PrimaryKeyConstraint("run_id", "source_id", name=op.f("pk_migration_rejects")),
        comment="Every source row that was not loaded: why, what it duplicates, and the row as it was.",
    )
    op.create_table(
        "migration_repairs",
        sa.Column("run_id", sa.Integer(), nullable=False, comment="Run that read it."),
        sa.Column("source_id", sa.BigInteger(), nullable=False, comment="numeros.id of the row."),
        sa.Column("field", sa.Text(), nullable=False, comment="Column of numeros."),
        sa.Column("rule", sa.Text(), nullable=False, comment="nul_removed, windows_1252, replaced, shortened, storage_class, unreadable_date, … (docs/mapping.md)."),
        sa.Column("raw", postgresql.JSONB(), nullable=False, comment="The cell as it was, in the notation of migration_rejects.raw."),
        sa.ForeignKeyConstraint(["run_id"], ["migration_runs.id"], name=op.f("fk_migration_repairs_run_id")),
        sa.PrimaryKeyConstraint("run_id", "source_id", "field", "rule", name=op.f("pk_migration_repairs")),
        comment="Every cell of a loaded row that was changed to fit, by which rule, and what it was.",
    )
    op.create_table(
        "source_statistics",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False, comment="Our number of the row."),
        sa.Column("run_id", sa.Integer(), nullable=False, comment="Run that carried it over."),
        sa.Column("source_id", sa.BigInteger(), nullable=False, comment="estadisticas_migracion.id."),
        sa.Column("processed_total", sa.BigInteger(), nullable=True, comment="total_procesados."),
        sa.Column("valid_total", sa.BigInteger(), nullable=True, comment="total_validos."),
        sa.Column("duplicate_total", sa.BigInteger(), nullable=True, comment="total_duplicados."),
        sa.Column("with_city_total", sa.BigInteger(), nullable=True, comment="total_con_ciudad; a little-endian BLOB in the known file, decoded here."),
        sa.Column("ladas_found", sa.BigInteger(), nullable=True, comment="ladas_encontradas."),
        sa.Column("ladas_missing", sa.BigInteger(), nullable=True, comment="ladas_faltantes."),
        sa.Column("processing_seconds", sa.Double(), nullable=True, comment="tiempo_procesamiento_segundos."),
        sa.Column("source_file", sa.Text(), nullable=True, comment="archivo_origen."),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=True, comment="fecha_migracion; null when unreadable."),
        sa.Column("raw", postgresql.JSONB(), nullable=False, comment="The row as it was."),
        sa.ForeignKeyConstraint(["run_id"], ["migration_runs.id"], name=op.f("fk_source_statistics_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_source_statistics")),
        sa.UniqueConstraint("run_id", "source_id", name=op.f("uq_source_statistics_run_id_source_id")),
        comment="estadisticas_migracion of the source: what its makers counted when they filled it.",
    )
    op.create_table(
        "missing_ladas",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False, comment="Our number of the row."),
        sa.Column("run_id", sa.Integer(), nullable=False, comment="Run that carried it over."),
        sa.Column("source_rowid", sa.BigInteger(), nullable=False, comment="rowid of the row in the source."),
        sa.Column("lada", sa.Text(), nullable=True, comment="lada; as text whatever it was."),
        sa.Column("contact_count", sa.BigInteger(), nullable=True, comment="cantidad_registros."),
        sa.Column("example_numbers", sa.Text(), nullable=True, comment="ejemplos_numeros."),
        sa.Column("detected_at", sa.DateTime(timezone=True), nullable=True, comment="fecha_detectado; null when unreadable."),
        sa.Column("raw", postgresql.JSONB(), nullable=False, comment="The row as it was."),
        sa.ForeignKeyConstraint(["run_id"], ["migration_runs.id"], name=op.f("fk_missing_ladas_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_missing_ladas")),
        sa.UniqueConstraint("run_id", "source_rowid", name=op.f("uq_missing_ladas_run_id_source_rowid")),
        comment="ladas_faltantes of the source: area codes that its makers could not place.",
    )
    op.create_table(
        "migration_detached",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False, comment="Order in which they were taken off."),
        sa.Column("run_id", sa.Integer(), nullable=False, comment="Run that took it off."),
        sa.Column("kind", sa.Text(), nullable=False, comment="constraint or index."),
        sa.Column("table_name", sa.Text(), nullable=False, comment="Table it belongs to."),
        sa.Column("name", sa.Text(), nullable=False, comment="Its name."),
        sa.Column("definition", sa.Text(), nullable=False, comment="Statement that restores it."),
        sa.CheckConstraint("kind IN ('constraint', 'index')", name=op.f("ck_migration_detached_kind")),
        sa.ForeignKeyConstraint(["run_id"], ["migration_runs.id"], name=op.f("fk_migration_detached_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_migration_detached")),
        comment="Constraints and indexes taken off for a load, with the DDL that restores them; empty otherwise.",
    )


def _server() -> None:
    op.create_table(
        "server_settings_saved",
        sa.Column("name", sa.Text(), nullable=False, comment="Name of the setting."),
        sa.Column("previous", sa.Text(), nullable=True, comment="Its value in postgresql.auto.conf before; null: it was not there, and RESET restores it."),
        sa.Column("saved_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False, comment="When it was saved."),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_server_settings_saved")),
        comment="Server settings changed for a bulk load, as they were before; empty otherwise.",
    )
    op.create_table(
        "backups",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False, comment="Number of the backup."),
        sa.Column("kind", sa.Text(), nullable=False, comment="full, incremental or source."),
        sa.Column("label", sa.Text(), nullable=False, comment="What a person calls it."),
        sa.Column("path", sa.Text(), nullable=False, comment="Where it is."),
        sa.Column("parent_id", sa.BigInteger(), nullable=True, comment="Backup that an incremental one builds on."),
        sa.Column("run_id", sa.Integer(), nullable=True, comment="Migration run that asked for it."),
        sa.Column("bytes", sa.BigInteger(), nullable=True, comment="Size on disk."),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False, comment="When it was begun."),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True, comment="When the copy was complete."),
        sa.Column("verified_at", sa.DateTime(timezone=True), nullable=True, comment="When it was last proven whole."),
        sa.Column("state", sa.Text(), nullable=False, comment="running, verified or failed."),
        sa.Column("error", sa.Text(), nullable=True, comment="Why it failed."),
        sa.CheckConstraint("kind IN ('full', 'incremental', 'source')", name=op.f("ck_backups_kind")),
        sa.CheckConstraint("state IN ('running', 'verified', 'failed')", name=op.f("ck_backups_state")),
        sa.ForeignKeyConstraint(["parent_id"], ["backups.id"], name=op.f("fk_backups_parent_id")),
        sa.ForeignKeyConstraint(["run_id"], ["migration_runs.id"], name=op.f("fk_backups_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_backups")),
        comment="Backups of the database and of source files, with the outcome of their verification.",
    )
    op.create_index(op.f("ix_backups_parent_id"), "backups", ["parent_id"], unique=False)
    op.create_index(op.f("ix_backups_run_id"), "backups", ["run_id"], unique=False)
