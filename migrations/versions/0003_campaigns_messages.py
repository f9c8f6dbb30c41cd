"""Templates, campaigns, messages, and the tables of the sending engine.

messages is partitioned by month. This revision makes the default partition only; the months are made, now and every
month, by schema_service.ensure_message_partitions, which `smsctl db upgrade` calls.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

DEFAULT_PARTITION = "CREATE TABLE messages_default PARTITION OF messages DEFAULT WITH (fillfactor = 45)"
COMMENT_PARTITION = "COMMENT ON TABLE messages_default IS 'Messages of months that have no partition; empty as long as beat runs.'"
INSERT_ONLY = (
    "CREATE TRIGGER append_only BEFORE UPDATE ON template_versions EXECUTE FUNCTION refuse_update()",
    "CREATE TRIGGER append_only BEFORE UPDATE ON campaign_moves EXECUTE FUNCTION refuse_update()",
    "CREATE TRIGGER append_only BEFORE UPDATE ON chunk_attempts EXECUTE FUNCTION refuse_update()",
    "CREATE TRIGGER append_only BEFORE UPDATE ON submissions EXECUTE FUNCTION refuse_update()",
)


def upgrade() -> None:
    _templates()
    _campaigns()
    op.execute("CREATE SEQUENCE messages_id_seq")
    _messages()
    op.execute(DEFAULT_PARTITION)
    op.execute(COMMENT_PARTITION)
    _engine()
    for trigger in INSERT_ONLY:
        op.execute(trigger)


def downgrade() -> None:
    op.drop_table("receipts_inbox")
    op.drop_table("submissions")
    op.drop_table("chunk_attempts")
    op.drop_table("message_chunks")
    op.drop_table("messages")
    op.drop_table("campaign_progress")
    op.drop_table("campaign_expansions")
    op.drop_table("campaign_moves")
    op.drop_table("campaigns")
    op.drop_table("template_versions")
    op.drop_table("templates")
    op.execute("DROP SEQUENCE messages_id_seq")


def _templates() -> None:
    op.create_table(
        "templates",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False, comment="Number of the template, inside only."),
        sa.Column("public_id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False, comment="Its id outside; UUIDv7 when the application gives it."),
        sa.Column("name", sa.Text(), nullable=False, comment="What people call it; unique among those in use."),
        sa.Column("latest_version", sa.Integer(), server_default=sa.text("1"), nullable=False, comment="Version that an edit builds on: optimistic locking."),
        sa.Column("owner_id", sa.BigInteger(), nullable=True, comment="Account that it belongs to."),
        sa.Column("archived_at", sa.DateTime(timezone=True), nullable=True, comment="Since when it is out of use."),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False, comment="When it was made."),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False, comment="When it was last edited."),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_templates_owner_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_templates")),
        sa.UniqueConstraint("public_id", name=op.f("uq_templates_public_id")),
        comment="Named message texts; the text is in template_versions.",
    )
    op.create_index("uq_templates_name", "templates", [sa.literal_column("lower(name)")], unique=True, postgresql_where=sa.text("archived_at IS NULL"))
    op.create_table(
        "template_versions",
        sa.Column("template_id", sa.BigInteger(), nullable=False, comment="Template."),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False, comment="Number of the version, from 1."),
        sa.Column("body", sa.Text(), nullable=False, comment="The text, with placeholders in braces."),
        sa.Column("defaults", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False, comment="Placeholder → what stands there when a contact has nothing."),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False, comment="When it was written."),
        sa.Column("created_by", sa.BigInteger(), nullable=True, comment="Account that wrote it."),
        sa.ForeignKeyConstraint(["created_by"], ["users.id"], name=op.f("fk_template_versions_created_by")),
        sa.ForeignKeyConstraint(["template_id"], ["templates.id"], name=op.f("fk_template_versions_template_id")),
        sa.PrimaryKeyConstraint("template_id", "version", name=op.f("pk_template_versions")),
        comment="Versions of templates; immutable, so that a launched campaign keeps its text.",
    )


def _campaigns() -> None:
    op.create_table(
        "campaigns",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False, comment="Number of the campaign; on every message."),
        sa.Column("public_id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False, comment="Its id outside; UUIDv7 when the application gives it."),
        sa.Column("name", sa.Text(), nullable=False, comment="What people call it."),
        sa.Column("purpose", sa.Text(), nullable=False, comment="marketing or transactional: which consent it needs."),
        sa.Column("state", sa.Text(), server_default=sa.text("'draft'"), nullable=False, comment="Where it stands in its life."),
        sa.Column("segment_id", sa.BigInteger(), nullable=True, comment="Audience; null while a draft has none."),
        sa.Column("segment_version", sa.Integer(), nullable=True, comment="Version of the audience, frozen at launch."),
        sa.Column("template_id", sa.BigInteger(), nullable=True, comment="Text; null while a draft has none."),
        sa.Column("template_version", sa.Integer(), nullable=True, comment="Version of the text, frozen at launch."),
        sa.Column("sender", sa.String(length=16), nullable=True, comment="Number or name that it is sent from."),
        sa.Column("provider", sa.String(length=32), nullable=True, comment="Carrier to use; null: by weight and health."),
        sa.Column("priority", sa.SmallInteger(), server_default=sa.text("1"), nullable=False, comment="0 high, 1 normal, 2 low; served in strict order."),
        sa.Column("throttle_per_s", sa.Integer(), nullable=True, comment="Segments a second at most; null: the carrier's."),
        sa.Column("canary_share", sa.Numeric(precision=5, scale=4), nullable=True, comment="Share that is sent first and watched before the rest."),
        sa.Column("scheduled_at", sa.DateTime(timezone=True), nullable=True, comment="When it is to start; null: when launched."),
        sa.Column("deadline_at", sa.DateTime(timezone=True), nullable=True, comment="What is not submitted by then expires."),
        sa.Column("window_opens_at", sa.Time(), server_default=sa.text("'09:00'"), nullable=False, comment="Earliest hour on the recipient's own clock."),
        sa.Column("window_closes_at", sa.Time(), server_default=sa.text("'20:00'"), nullable=False, comment="Hour on the recipient's own clock from which nothing is sent."),
        sa.Column("frequency_cap", sa.SmallInteger(), nullable=True, comment="Messages that a person may get in frequency_days, this one included."),
        sa.Column("frequency_days", sa.SmallInteger(), nullable=True, comment="Days over which frequency_cap counts."),
        sa.Column("budget_micros", sa.BigInteger(), nullable=True, comment="Most that it may cost, in millionths of currency."),
        sa.Column("currency", sa.CHAR(length=3), server_default=sa.text("'MXN'"), nullable=False, comment="ISO 4217."),
        sa.Column("max_error_share", sa.Numeric(precision=5, scale=4), nullable=True, comment="Share of errors that halts it."),
        sa.Column("max_opt_out_share", sa.Numeric(precision=5, scale=4), nullable=True, comment="Share of opt-outs that halts it."),
        sa.Column("pause_reason", sa.Text(), nullable=True, comment="Why it is paused: a person's words or the halt's code."),
        sa.Column("created_by", sa.BigInteger(), nullable=True, comment="Account that drafted it."),
        sa.Column("approved_by", sa.BigInteger(), nullable=True, comment="Account that approved it."),
        sa.Column("approved_at", sa.DateTime(timezone=True), nullable=True, comment="When it was approved; null after an edit."),
        sa.Column("launched_at", sa.DateTime(timezone=True), nullable=True, comment="When segment and template were frozen."),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True, comment="When it was completed or cancelled."),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False, comment="Grows with every edit and move: optimistic locking."),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False, comment="When it was made."),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False, comment="When it was last edited."),
        sa.CheckConstraint("purpose IN ('marketing', 'transactional')", name=op.f("ck_campaigns_purpose")),
        sa.CheckConstraint("state IN ('draft', 'cancelled') OR (segment_id IS NOT NULL AND template_id IS NOT NULL)", name=op.f("ck_campaigns_complete")),
        sa.CheckConstraint("state IN ('draft', 'in_review', 'approved', 'scheduled', 'expanding', 'running', 'paused', 'completed', 'cancelled')", name=op.f("ck_campaigns_state")),
        sa.CheckConstraint("(frequency_cap IS NULL) = (frequency_days IS NULL)", name=op.f("ck_campaigns_frequency")),
        sa.CheckConstraint("(segment_id IS NULL) = (segment_version IS NULL)", name=op.f("ck_campaigns_segment_frozen")),
        sa.CheckConstraint("(template_id IS NULL) = (template_version IS NULL)", name=op.f("ck_campaigns_template_frozen")),
        sa.CheckConstraint("deadline_at > scheduled_at", name=op.f("ck_campaigns_deadline")),
        sa.CheckConstraint("priority IN (0, 1, 2)", name=op.f("ck_campaigns_priority")),
        sa.CheckConstraint(
            "throttle_per_s > 0 AND canary_share BETWEEN 0 AND 1 AND frequency_cap > 0 AND frequency_days > 0 AND budget_micros >= 0 AND max_error_share BETWEEN 0 AND 1 AND max_opt_out_share BETWEEN 0 AND 1",
            name=op.f("ck_campaigns_limits"),
        ),
        sa.ForeignKeyConstraint(["approved_by"], ["users.id"], name=op.f("fk_campaigns_approved_by")),
        sa.ForeignKeyConstraint(["created_by"], ["users.id"], name=op.f("fk_campaigns_created_by")),
        sa.ForeignKeyConstraint(["segment_id", "segment_version"], ["segment_versions.segment_id", "segment_versions.version"], name=op.f("fk_campaigns_segment_id_segment_version")),
        sa.ForeignKeyConstraint(["template_id", "template_version"], ["template_versions.template_id", "template_versions.version"], name=op.f("fk_campaigns_template_id_template_version")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_campaigns")),
        sa.UniqueConstraint("public_id", name=op.f("uq_campaigns_public_id")),
        comment="Campaigns: one text to one audience, with its limits and who allowed it.",
    )
    op.create_index(op.f("ix_campaigns_created_by"), "campaigns", ["created_by"], unique=False)
    op.create_index("ix_campaigns_open", "campaigns", ["state", "scheduled_at"], unique=False, postgresql_where=sa.text("state IN ('scheduled', 'expanding', 'running', 'paused')"))
    op.create_table(
        "campaign_moves",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False, comment="Number of the move."),
        sa.Column("campaign_id", sa.BigInteger(), nullable=False, comment="Campaign."),
        sa.Column("from_state", sa.Text(), nullable=False, comment="State before."),
        sa.Column("to_state", sa.Text(), nullable=False, comment="State after."),
        sa.Column("reason", sa.Text(), nullable=True, comment="Why, where it was not plainly asked for."),
        sa.Column("moved_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False, comment="When."),
        sa.Column("moved_by", sa.BigInteger(), nullable=True, comment="Account; null when the platform did."),
        sa.CheckConstraint("from_state IN ('draft', 'in_review', 'approved', 'scheduled', 'expanding', 'running', 'paused', 'completed', 'cancelled')", name=op.f("ck_campaign_moves_from_state")),
        sa.CheckConstraint("to_state IN ('draft', 'in_review', 'approved', 'scheduled', 'expanding', 'running', 'paused', 'completed', 'cancelled')", name=op.f("ck_campaign_moves_to_state")),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_campaign_moves_campaign_id")),
        sa.ForeignKeyConstraint(["moved_by"], ["users.id"], name=op.f("fk_campaign_moves_moved_by")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_campaign_moves")),
        comment="History of campaigns' states; insert-only.",
    )
    op.create_index(op.f("ix_campaign_moves_campaign_id_id"), "campaign_moves", ["campaign_id", "id"], unique=False)
    op.create_table(
        "campaign_expansions",
        sa.Column("campaign_id", sa.BigInteger(), nullable=False, comment="Campaign."),
        sa.Column("messages_created_at", sa.DateTime(timezone=True), nullable=False, comment="created_at of all its messages: with an id it names a message's partition."),
        sa.Column("next_contact_id", sa.BigInteger(), nullable=False, comment="Contacts below this one are done."),
        sa.Column("end_contact_id", sa.BigInteger(), nullable=False, comment="One more than the last contact id at launch."),
        sa.Column("first_message_id", sa.BigInteger(), nullable=True, comment="First of its messages' ids."),
        sa.Column("last_message_id", sa.BigInteger(), nullable=True, comment="Last of its messages' ids so far."),
        sa.Column("expanded", sa.BigInteger(), server_default=sa.text("0"), nullable=False, comment="Messages made so far."),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False, comment="When a window was last done."),
        sa.CheckConstraint("next_contact_id <= end_contact_id", name=op.f("ck_campaign_expansions_watermark")),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_campaign_expansions_campaign_id")),
        sa.PrimaryKeyConstraint("campaign_id", name=op.f("pk_campaign_expansions")),
        comment="Watermark of a campaign's expansion into messages.",
        postgresql_with={"fillfactor": "50"},
    )
    op.create_table(
        "campaign_progress",
        sa.Column("campaign_id", sa.BigInteger(), nullable=False, comment="Campaign."),
        sa.Column("slice", sa.SmallInteger(), autoincrement=False, nullable=False, comment="Worker's slice, so that workers do not meet."),
        sa.Column("queued", sa.BigInteger(), server_default=sa.text("0"), nullable=False, comment="Messages waiting; slices may go below zero."),
        sa.Column("claimed", sa.BigInteger(), server_default=sa.text("0"), nullable=False, comment="Messages claimed by a worker."),
        sa.Column("submitting", sa.BigInteger(), server_default=sa.text("0"), nullable=False, comment="Messages being handed over."),
        sa.Column("submitted", sa.BigInteger(), server_default=sa.text("0"), nullable=False, comment="Messages that the carrier took."),
        sa.Column("delivered", sa.BigInteger(), server_default=sa.text("0"), nullable=False, comment="Messages delivered."),
        sa.Column("undelivered", sa.BigInteger(), server_default=sa.text("0"), nullable=False, comment="Messages that did not arrive."),
        sa.Column("failed", sa.BigInteger(), server_default=sa.text("0"), nullable=False, comment="Messages that the carrier refused."),
        sa.Column("expired", sa.BigInteger(), server_default=sa.text("0"), nullable=False, comment="Messages past their deadline."),
        sa.Column("suppressed", sa.BigInteger(), server_default=sa.text("0"), nullable=False, comment="Messages that may not be sent."),
        sa.Column("deferred", sa.BigInteger(), server_default=sa.text("0"), nullable=False, comment="Messages put off to another hour."),
        sa.Column("cancelled", sa.BigInteger(), server_default=sa.text("0"), nullable=False, comment="Messages of a cancelled campaign."),
        sa.Column("unknown", sa.BigInteger(), server_default=sa.text("0"), nullable=False, comment="Messages whose outcome is not known."),
        sa.Column("segments", sa.BigInteger(), server_default=sa.text("0"), nullable=False, comment="SMS segments submitted."),
        sa.Column("cost_micros", sa.BigInteger(), server_default=sa.text("0"), nullable=False, comment="Cost so far, millionths of currency."),
        sa.Column("opt_outs", sa.BigInteger(), server_default=sa.text("0"), nullable=False, comment="Replies that opted out."),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False, comment="When it was last written."),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_campaign_progress_campaign_id")),
        sa.PrimaryKeyConstraint("campaign_id", "slice", name=op.f("pk_campaign_progress")),
        comment="Counts by state per campaign and slice, written once per batch of outcomes.",
        postgresql_with={"fillfactor": "20"},
    )


def _messages() -> None:
    op.create_table(
        "messages",
        sa.Column(
            "id",
            sa.BigInteger(),
            server_default=sa.text("nextval('messages_id_seq')"),
            autoincrement=False,
            nullable=False,
            comment="Number of the message; contiguous within a window of a campaign's expansion.",
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False, comment="When it was made; names its partition, never changes."),
        sa.Column("campaign_id", sa.BigInteger(), nullable=True, comment="Campaign; null for a single message. No foreign key: see the model."),
        sa.Column("contact_id", sa.BigInteger(), nullable=False, comment="Recipient. No foreign key: see the model."),
        sa.Column("state_changed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False, comment="When state was last set."),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True, comment="Deferred until then."),
        sa.Column("submitted_at", sa.DateTime(timezone=True), nullable=True, comment="When the carrier took it."),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True, comment="When its final state was reached, by the carrier's clock."),
        sa.Column("cost_micros", sa.Integer(), server_default=sa.text("0"), nullable=False, comment="Cost in millionths of the campaign's currency."),
        sa.Column("segments", sa.SmallInteger(), server_default=sa.text("0"), nullable=False, comment="SMS segments that are billed; 0 until rendered."),
        sa.Column("attempt", sa.SmallInteger(), server_default=sa.text("0"), nullable=False, comment="How often it has been claimed for sending."),
        sa.Column("purpose", sa.String(16), nullable=False, comment="marketing or transactional."),
        sa.Column("state", sa.String(16), server_default=sa.text("'queued'"), nullable=False, comment="Where it stands; see MessageState."),
        sa.Column("encoding", sa.String(4), nullable=True, comment="gsm7 or ucs2; null until rendered."),
        sa.Column("sender", sa.String(length=16), nullable=True, comment="Number or name it is sent from; null: the campaign's."),
        sa.Column("provider", sa.String(length=32), nullable=True, comment="Carrier it was last given to."),
        sa.Column("reason", sa.String(length=64), nullable=True, comment="Why it was suppressed, deferred, failed or undelivered, as a code."),
        sa.Column("body", sa.Text(), nullable=True, comment="Rendered text; null: the template's version as it stands. Emptied by erasure."),
        sa.CheckConstraint("encoding IN ('gsm7', 'ucs2')", name=op.f("ck_messages_encoding")),
        sa.CheckConstraint("purpose IN ('marketing', 'transactional')", name=op.f("ck_messages_purpose")),
        sa.CheckConstraint(
            "state IN ('queued', 'deferred', 'claimed', 'submitting', 'unknown', 'submitted', 'delivered', 'undelivered', 'failed', 'expired', 'suppressed', 'cancelled')",
            name=op.f("ck_messages_state"),
        ),
        sa.CheckConstraint("segments BETWEEN 0 AND 255 AND attempt >= 0 AND cost_micros >= 0", name=op.f("ck_messages_counts")),
        sa.PrimaryKeyConstraint("id", "created_at", name=op.f("pk_messages")),
        comment="Messages, one per recipient; partitioned by month of created_at, fillfactor 45 on partitions.",
        postgresql_partition_by="RANGE (created_at)",
    )
    op.create_index("ix_messages_contact_id", "messages", ["contact_id"], unique=False)


def _engine() -> None:
    op.create_table(
        "message_chunks",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False, comment="Number of the chunk."),
        sa.Column("campaign_id", sa.BigInteger(), nullable=True, comment="Campaign; null for a single message."),
        sa.Column("lo", sa.BigInteger(), nullable=False, comment="First message id."),
        sa.Column("hi", sa.BigInteger(), nullable=False, comment="Last message id, inclusive."),
        sa.Column("message_created_at", sa.DateTime(timezone=True), nullable=False, comment="created_at of its messages: which partition."),
        sa.Column("not_before", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False, comment="Not to be claimed before then."),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True, comment="The worker's until then, unless renewed; it stops by its own clock before."),
        sa.Column("priority", sa.SmallInteger(), server_default=sa.text("1"), nullable=False, comment="0 high, 1 normal, 2 low."),
        sa.Column("attempt", sa.SmallInteger(), server_default=sa.text("0"), nullable=False, comment="How often it was claimed."),
        sa.Column("state", sa.String(16), server_default=sa.text("'queued'"), nullable=False, comment="queued, claimed, lost or closed."),
        sa.Column("worker", sa.Text(), nullable=True, comment="Who holds it, or held it last."),
        postgresql.ExcludeConstraint((sa.literal_column("int8range(lo, hi, '[]'::text)"), "&&"), where=sa.text("state <> 'closed'"), using="gist", name="ex_message_chunks_open"),
        sa.CheckConstraint("(state = 'claimed') = (lease_until IS NOT NULL) AND (state = 'claimed') <= (worker IS NOT NULL)", name=op.f("ck_message_chunks_lease")),
        sa.CheckConstraint("state IN ('queued', 'claimed', 'lost', 'closed')", name=op.f("ck_message_chunks_state")),
        sa.CheckConstraint("lo <= hi", name=op.f("ck_message_chunks_range")),
        sa.CheckConstraint("priority IN (0, 1, 2)", name=op.f("ck_message_chunks_priority")),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name=op.f("fk_message_chunks_campaign_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_message_chunks")),
        comment="Ranges of messages waiting for, or held by, a worker: the queue of record.",
        postgresql_with={"fillfactor": "50", "autovacuum_vacuum_scale_factor": "0", "autovacuum_vacuum_threshold": "500", "autovacuum_vacuum_cost_delay": "0"},
    )
    op.create_index("ix_message_chunks_campaign_id", "message_chunks", ["campaign_id"], unique=False, postgresql_where=sa.text("state <> 'closed'"))
    op.create_index("ix_message_chunks_claim", "message_chunks", ["priority", "not_before", "id"], unique=False, postgresql_where=sa.text("state = 'queued'"))
    op.create_index("ix_message_chunks_lease", "message_chunks", ["lease_until"], unique=False, postgresql_where=sa.text("state = 'claimed'"))
    op.create_table(
        "chunk_attempts",
        sa.Column("chunk_id", sa.BigInteger(), nullable=False, comment="Chunk."),
        sa.Column("attempt", sa.SmallInteger(), autoincrement=False, nullable=False, comment="message_chunks.attempt of the claim."),
        sa.Column("worker", sa.Text(), nullable=False, comment="Who claimed it."),
        sa.Column("provider", sa.String(length=32), nullable=True, comment="Carrier that it was meant for."),
        sa.Column("claimed_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False, comment="When."),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=False, comment="The first lease."),
        sa.ForeignKeyConstraint(["chunk_id"], ["message_chunks.id"], name=op.f("fk_chunk_attempts_chunk_id")),
        sa.PrimaryKeyConstraint("chunk_id", "attempt", name=op.f("pk_chunk_attempts")),
        comment="Claims of chunks, recorded before the first message is sent; insert-only.",
    )
    op.create_table(
        "submissions",
        sa.Column("provider", sa.String(length=32), nullable=False, comment="Carrier."),
        sa.Column("provider_message_id", sa.String(length=100), nullable=False, comment="Its id of the message."),
        sa.Column("message_id", sa.BigInteger(), nullable=False, comment="messages.id."),
        sa.Column("message_created_at", sa.DateTime(timezone=True), nullable=False, comment="messages.created_at: which partition."),
        sa.Column("submitted_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False, comment="When the carrier's answer came."),
        sa.Column("chunk_id", sa.BigInteger(), nullable=True, comment="Chunk that it was sent with."),
        sa.Column("attempt", sa.SmallInteger(), nullable=False, comment="messages.attempt that it belongs to."),
        sa.Column("segments", sa.SmallInteger(), nullable=False, comment="Segments that the carrier counted, or we did."),
        sa.Column("cost_micros", sa.Integer(), server_default=sa.text("0"), nullable=False, comment="Cost, millionths of currency."),
        sa.PrimaryKeyConstraint("provider", "provider_message_id", name=op.f("pk_submissions")),
        comment="Messages that a carrier took: the carrier's id → ours; insert-only.",
    )
    op.create_index("ix_submissions_message_id", "submissions", ["message_id"], unique=False)
    op.create_table(
        "receipts_inbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False, comment="Order of arrival."),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False, comment="When it came."),
        sa.Column("not_before", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False, comment="When to look at it next: later for one that is held."),
        sa.Column("processed_at", sa.DateTime(timezone=True), nullable=True, comment="When it reached its final state."),
        sa.Column("attempts", sa.SmallInteger(), server_default=sa.text("0"), nullable=False, comment="How often it was looked at."),
        sa.Column("kind", sa.String(16), nullable=False, comment="receipt or inbound."),
        sa.Column("state", sa.String(16), server_default=sa.text("'pending'"), nullable=False, comment="What became of it; see InboxState."),
        sa.Column("provider", sa.String(length=32), nullable=False, comment="Carrier that sent it, by its verified signature."),
        sa.Column("provider_message_id", sa.String(length=100), nullable=True, comment="Carrier's id of the message, where it could be read at once."),
        sa.Column("content_type", sa.String(length=100), nullable=True, comment="Content-Type of the request."),
        sa.Column("headers", postgresql.JSONB(), nullable=True, comment="Headers that the signature covers."),
        sa.Column("body", sa.LargeBinary(), nullable=False, comment="The request's body, byte for byte."),
        sa.CheckConstraint("kind IN ('receipt', 'inbound')", name=op.f("ck_receipts_inbox_kind")),
        sa.CheckConstraint("state IN ('pending', 'held', 'applied', 'duplicate', 'late', 'unmatched', 'unreadable')", name=op.f("ck_receipts_inbox_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_receipts_inbox")),
        comment="Webhooks of carriers as they came: delivery receipts and inbound messages.",
        postgresql_with={"fillfactor": "80", "autovacuum_vacuum_scale_factor": "0.02"},
    )
    op.create_index("ix_receipts_inbox_open", "receipts_inbox", ["not_before", "id"], unique=False, postgresql_where=sa.text("state IN ('pending', 'held')"))
