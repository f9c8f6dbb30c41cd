"""Users, consents, suppressions, segments.

Consents and versions of segments are written once: a trigger refuses UPDATE, whoever asks.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

REFUSE_UPDATE = """
CREATE FUNCTION refuse_update() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of % are never changed: add a new one', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$
"""
COMMENT_FUNCTION = "COMMENT ON FUNCTION refuse_update() IS 'Trigger function: makes a table append-only.'"


def upgrade() -> None:
    op.execute(REFUSE_UPDATE)
    op.execute(COMMENT_FUNCTION)
    _users()
    _consents()
    _segments()
    # Statement level: an UPDATE that matches no row is refused as well, and COPY and INSERT pay nothing.
    op.execute("CREATE TRIGGER append_only BEFORE UPDATE ON consents EXECUTE FUNCTION refuse_update()")
    op.execute("CREATE TRIGGER append_only BEFORE UPDATE ON segment_versions EXECUTE FUNCTION refuse_update()")


def downgrade() -> None:
    op.drop_table("segment_versions")
    op.drop_table("segments")
    op.drop_table("suppressions")
    op.drop_table("consents")
    op.drop_table("users")
    op.execute("DROP FUNCTION refuse_update()")


def _users() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False, comment="Number of the account, inside only."),
        sa.Column("public_id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False, comment="Its id outside; UUIDv7 when the application gives it."),
        sa.Column("email", sa.Text(), nullable=False, comment="Address to sign in with, lower case."),
        sa.Column("full_name", sa.Text(), nullable=True, comment="Name of the person."),
        sa.Column("role", sa.Text(), nullable=False, comment="admin, manager, marketer, analyst, compliance or service."),
        sa.Column("password_hash", sa.Text(), nullable=True, comment="argon2id in PHC notation; null until an invitation is accepted."),
        sa.Column("password_changed_at", sa.DateTime(timezone=True), nullable=True, comment="When the password was last set."),
        sa.Column("token_version", sa.Integer(), server_default=sa.text("1"), nullable=False, comment="Carried in every token; raising it ends all sessions at once."),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True, comment="Since when the account may not sign in."),
        sa.Column("last_login_at", sa.DateTime(timezone=True), nullable=True, comment="Last successful sign-in."),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False, comment="Grows with every edit: optimistic locking."),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False, comment="When it was made."),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False, comment="When it was last edited."),
        sa.CheckConstraint("role IN ('admin', 'manager', 'marketer', 'analyst', 'compliance', 'service')", name=op.f("ck_users_role")),
        sa.CheckConstraint("email = lower(email)", name=op.f("ck_users_email_lower")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("email", name=op.f("uq_users_email")),
        sa.UniqueConstraint("public_id", name=op.f("uq_users_public_id")),
        comment="Accounts of people and machines.",
    )


def _consents() -> None:
    op.create_table(
        "consents",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False, comment="Number of the act."),
        sa.Column("contact_id", sa.BigInteger(), nullable=False, comment="Person who consented or withdrew."),
        sa.Column("purpose", sa.Text(), nullable=False, comment="marketing or transactional."),
        sa.Column("action", sa.Text(), nullable=False, comment="granted or withdrawn."),
        sa.Column("channel", sa.Text(), nullable=False, comment="The way it reached us."),
        sa.Column("happened_at", sa.DateTime(timezone=True), nullable=False, comment="When the person did it; the newest one holds."),
        sa.Column("source", sa.Text(), nullable=False, comment="Form, shop, list or inbound message that it came from."),
        sa.Column("evidence", sa.Text(), nullable=True, comment="Reference to the proof: document, recording, message id."),
        sa.Column("recorded_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False, comment="When it was written here."),
        sa.Column("recorded_by", sa.BigInteger(), nullable=True, comment="Account that recorded it; null when the platform did."),
        sa.Column("approved_by", sa.BigInteger(), nullable=True, comment="Second account that approved a bulk recording."),
        sa.CheckConstraint("action IN ('granted', 'withdrawn')", name=op.f("ck_consents_action")),
        sa.CheckConstraint("channel IN ('sms', 'web_form', 'call', 'paper', 'import', 'api', 'manual')", name=op.f("ck_consents_channel")),
        sa.CheckConstraint("purpose IN ('marketing', 'transactional')", name=op.f("ck_consents_purpose")),
        sa.ForeignKeyConstraint(["approved_by"], ["users.id"], name=op.f("fk_consents_approved_by")),
        sa.ForeignKeyConstraint(["contact_id"], ["contacts.id"], name=op.f("fk_consents_contact_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["recorded_by"], ["users.id"], name=op.f("fk_consents_recorded_by")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_consents")),
        comment="Append-only acts of consent and withdrawal, with their evidence.",
    )
    op.create_index("ix_consents_current", "consents", ["contact_id", "purpose", sa.literal_column("happened_at DESC"), sa.literal_column("id DESC")], unique=False, postgresql_include=["action"])
    op.create_table(
        "suppressions",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False, comment="Number of the suppression."),
        sa.Column("phone_hash", sa.LargeBinary(), nullable=False, comment="HMAC-SHA-256 of the E.164 number; survives erasure."),
        sa.Column("key_id", sa.SmallInteger(), server_default=sa.text("1"), nullable=False, comment="Which key made the hash, so that keys can be changed."),
        sa.Column("contact_id", sa.BigInteger(), nullable=True, comment="Contact with the number, while there is one."),
        sa.Column("purpose", sa.Text(), nullable=False, comment="all, marketing or transactional."),
        sa.Column("reason", sa.Text(), nullable=False, comment="opt_out, do_not_call, complaint, wrong_number, manual or erasure."),
        sa.Column("source", sa.Text(), nullable=False, comment="Where it came from: inbound message, REPEP file, person."),
        sa.Column("evidence", sa.Text(), nullable=True, comment="Reference to the proof, without personal data."),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False, comment="Since when it holds."),
        sa.Column("created_by", sa.BigInteger(), nullable=True, comment="Account that made it, if one did."),
        sa.Column("lifted_at", sa.DateTime(timezone=True), nullable=True, comment="Since when it no longer holds."),
        sa.Column("lifted_by", sa.BigInteger(), nullable=True, comment="Account that lifted it, if one did."),
        sa.Column("lifted_reason", sa.Text(), nullable=True, comment="Why it was lifted."),
        sa.CheckConstraint("purpose IN ('all', 'marketing', 'transactional')", name=op.f("ck_suppressions_purpose")),
        sa.CheckConstraint("reason IN ('opt_out', 'do_not_call', 'complaint', 'wrong_number', 'manual', 'erasure')", name=op.f("ck_suppressions_reason")),
        sa.CheckConstraint("octet_length(phone_hash) = 32", name=op.f("ck_suppressions_phone_hash_length")),
        sa.ForeignKeyConstraint(["contact_id"], ["contacts.id"], name=op.f("fk_suppressions_contact_id"), ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["created_by"], ["users.id"], name=op.f("fk_suppressions_created_by")),
        sa.ForeignKeyConstraint(["lifted_by"], ["users.id"], name=op.f("fk_suppressions_lifted_by")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_suppressions")),
        comment="Numbers that must not be texted, by keyed hash; rows are lifted, never deleted.",
    )
    op.create_index("ix_suppressions_contact_id", "suppressions", ["contact_id"], unique=False, postgresql_where=sa.text("contact_id IS NOT NULL"))
    op.create_index("uq_suppressions_in_force", "suppressions", ["phone_hash", "purpose", "reason"], unique=True, postgresql_where=sa.text("lifted_at IS NULL"))


def _segments() -> None:
    op.create_table(
        "segments",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False, comment="Number of the segment, inside only."),
        sa.Column("public_id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False, comment="Its id outside; UUIDv7 when the application gives it."),
        sa.Column("name", sa.Text(), nullable=False, comment="What people call it; unique among those in use."),
        sa.Column("description", sa.Text(), nullable=True, comment="What it is for."),
        sa.Column("latest_version", sa.Integer(), server_default=sa.text("1"), nullable=False, comment="Version that an edit builds on: optimistic locking."),
        sa.Column("owner_id", sa.BigInteger(), nullable=True, comment="Account that it belongs to."),
        sa.Column("archived_at", sa.DateTime(timezone=True), nullable=True, comment="Since when it is out of use."),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False, comment="When it was made."),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False, comment="When it was last edited."),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_segments_owner_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_segments")),
        sa.UniqueConstraint("public_id", name=op.f("uq_segments_public_id")),
        comment="Named audiences; the predicate is in segment_versions.",
    )
    op.create_index("uq_segments_name", "segments", [sa.literal_column("lower(name)")], unique=True, postgresql_where=sa.text("archived_at IS NULL"))
    op.create_table(
        "segment_versions",
        sa.Column("segment_id", sa.BigInteger(), nullable=False, comment="Segment."),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False, comment="Number of the version, from 1."),
        sa.Column("document", postgresql.JSONB(), nullable=False, comment="The predicate: and / or / not over conditions on contacts."),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False, comment="When it was written."),
        sa.Column("created_by", sa.BigInteger(), nullable=True, comment="Account that wrote it."),
        sa.CheckConstraint("jsonb_typeof(document) = 'object'", name=op.f("ck_segment_versions_document_object")),
        sa.ForeignKeyConstraint(["created_by"], ["users.id"], name=op.f("fk_segment_versions_created_by")),
        sa.ForeignKeyConstraint(["segment_id"], ["segments.id"], name=op.f("fk_segment_versions_segment_id")),
        sa.PrimaryKeyConstraint("segment_id", "version", name=op.f("pk_segment_versions")),
        comment="Versions of segments; immutable, so that a launched campaign keeps its audience.",
    )
