"""Sign-in (sessions, refresh tokens, second factors, invitations, API keys, signing keys) and the audit chain.

audit_events is only ever added to: a trigger gives each row its number, its time and the hash that ties it to the row
before; two others refuse every other change, whoever asks. They fire even where session_replication_role is replica.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# Runs as the owner of the schema, so that who adds an event needs no right to move the head. Attached to a table of
# somebody's own it would move the head without an event: hence the first test, and nobody may attach it.
# The head stays locked until the transaction ends: writers of events go one after another, and a rollback leaves no gap.
# A value is written as its length in bytes, a colon and its text; NULL is a minus sign. Times are microseconds since
# 1970, addresses have their mask: neither depends on a setting of the session. app/services/audit_chain.py does the same.
CHAIN = """
CREATE FUNCTION chain_audit_event() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    head public.audit_head%ROWTYPE;
    field text;
    canonical text := '';
BEGIN
    IF TG_RELID <> 'public.audit_events'::regclass THEN
        RAISE EXCEPTION 'this is the trigger of audit_events alone' USING ERRCODE = 'insufficient_privilege';
    END IF;
    SELECT * INTO head FROM public.audit_head FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'audit_head has no row: the audit chain has no end to add to' USING ERRCODE = 'data_corrupted';
    END IF;
    NEW.id := head.last_id + 1;
    NEW.occurred_at := clock_timestamp();
    NEW.prev_hash := head.last_hash;
    FOREACH field IN ARRAY ARRAY[
        NEW.id::text, (extract(epoch FROM NEW.occurred_at) * 1000000)::bigint::text, NEW.actor_kind, NEW.actor_id::text,
        NEW.actor, NEW.api_key_id::text, NEW.action, NEW.object_type, NEW.object_id, NEW.result, NEW.address::text,
        NEW.user_agent, NEW.request_id, NEW.detail::text
    ] LOOP
        canonical := canonical || coalesce(octet_length(field) || ':' || field, '-');
    END LOOP;
    NEW.hash := sha256(NEW.prev_hash || convert_to(canonical, 'UTF8'));
    UPDATE public.audit_head SET last_id = NEW.id, last_hash = NEW.hash;
    RETURN NEW;
END $$
"""
REFUSE_CHANGE = """
CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is only added to: % on % is refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END $$
"""
COMMENT_CHAIN = "COMMENT ON FUNCTION chain_audit_event() IS 'Trigger function: ties an audit event to the one before.'"
COMMENT_REFUSE = (
    "COMMENT ON FUNCTION refuse_audit_change() IS 'Trigger function: refuses every change of the audit log.'"
)
REFUSE_EVENTS = """
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_events EXECUTE FUNCTION refuse_audit_change()
"""
REFUSE_HEAD = """
CREATE TRIGGER one_row BEFORE INSERT OR DELETE OR TRUNCATE ON audit_head EXECUTE FUNCTION refuse_audit_change()
"""
# pg_trigger_depth() is 1 where the statement comes from the trigger of audit_events, 0 where somebody gave it.
REFUSE_HEAD_UPDATE = """
CREATE TRIGGER moved_by_trigger BEFORE UPDATE ON audit_head
WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION refuse_audit_change()
"""


def upgrade() -> None:
    _sessions()
    _second_factors()
    _keys()
    _audit()


def downgrade() -> None:
    """Takes the audit log away as well: who may drop its tables owns the schema."""
    op.drop_table("audit_head")
    op.drop_table("audit_events")
    op.execute("DROP FUNCTION chain_audit_event()")
    op.execute("DROP FUNCTION refuse_audit_change()")
    op.drop_table("signing_keys")
    op.drop_table("api_keys")
    op.drop_table("invitations")
    op.drop_table("recovery_codes")
    op.drop_table("second_factors")
    op.drop_table("refresh_tokens")
    op.drop_table("auth_sessions")


def _sessions() -> None:
    op.create_table(
        "auth_sessions",
        sa.Column("id", sa.Uuid(), nullable=False, comment="UUIDv7; `sid` of access tokens."),
        sa.Column("user_id", sa.BigInteger(), nullable=False, comment="Whose sign-in it is."),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False, comment="When the person signed in."),
        sa.Column("refreshed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False, comment="Last refresh."),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False, comment="End of the session, however often it is refreshed."),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True, comment="When it was ended early."),
        sa.Column("revoke_reason", sa.Text(), nullable=True, comment="Why it was ended early."),
        sa.Column("address", postgresql.INET(), nullable=True, comment="Where the sign-in came from."),
        sa.Column("user_agent", sa.Text(), nullable=True, comment="Program that signed in, at most 300 characters."),
        sa.CheckConstraint("(revoked_at IS NULL) = (revoke_reason IS NULL)", name=op.f("ck_auth_sessions_revoked")),
        sa.CheckConstraint("revoke_reason IN ('logout', 'logout_everywhere', 'password_changed', 'reuse_detected', 'user_disabled', 'second_factor_changed')", name=op.f("ck_auth_sessions_revoke_reason")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_auth_sessions_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_auth_sessions")),
        comment="Sign-ins; the family that a refresh token belongs to.",
    )
    op.create_index("ix_auth_sessions_user_id", "auth_sessions", ["user_id"], unique=False)
    op.create_table(
        "refresh_tokens",
        sa.Column("token_hash", sa.LargeBinary(), nullable=False, comment="SHA-256 of the token (256 random bits)."),
        sa.Column("session_id", sa.Uuid(), nullable=False, comment="Family of the token."),
        sa.Column("issued_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False, comment="When it was handed out."),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True, comment="When it was exchanged; null: not yet."),
        sa.ForeignKeyConstraint(["session_id"], ["auth_sessions.id"], name=op.f("fk_refresh_tokens_session_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_refresh_tokens")),
        comment="Refresh tokens, as SHA-256: the token itself is nowhere.",
    )
    op.create_index("ix_refresh_tokens_session_id", "refresh_tokens", ["session_id"], unique=False)


def _second_factors() -> None:
    op.create_table(
        "second_factors",
        sa.Column("user_id", sa.BigInteger(), autoincrement=False, nullable=False, comment="Whose it is."),
        sa.Column("secret", sa.LargeBinary(), nullable=False, comment="AES-256-GCM: nonce, ciphertext, tag."),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False, comment="When it was set up."),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True, comment="When the person first gave a right code; before that it is not asked for."),
        sa.Column("last_step", sa.BigInteger(), nullable=True, comment="Newest 30-second step whose code was used: none is used twice."),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_second_factors_user_id")),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_second_factors")),
        comment="TOTP secrets, encrypted; one an account.",
    )
    op.create_table(
        "recovery_codes",
        sa.Column("user_id", sa.BigInteger(), autoincrement=False, nullable=False, comment="Whose it is."),
        sa.Column("code_hash", sa.LargeBinary(), nullable=False, comment="SHA-256 of the code (80 random bits)."),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True, comment="When it was used; null: not yet."),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_recovery_codes_user_id")),
        sa.PrimaryKeyConstraint("user_id", "code_hash", name=op.f("pk_recovery_codes")),
        comment="Recovery codes, as SHA-256.",
    )
    op.create_table(
        "invitations",
        sa.Column("token_hash", sa.LargeBinary(), nullable=False, comment="SHA-256 of the token (256 random bits)."),
        sa.Column("user_id", sa.BigInteger(), nullable=False, comment="Account that it opens."),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False, comment="When it was made."),
        sa.Column("created_by", sa.BigInteger(), nullable=True, comment="Who invited; null: the command line."),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False, comment="Until when it can be used."),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True, comment="When it was used; null: not yet."),
        sa.ForeignKeyConstraint(["created_by"], ["users.id"], name=op.f("fk_invitations_created_by")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_invitations_user_id")),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_invitations")),
        comment="Single-use links to set a password, as SHA-256.",
    )
    op.create_index("ix_invitations_user_id", "invitations", ["user_id"], unique=False)


def _keys() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False, comment="Number of the key, inside only."),
        sa.Column("public_id", sa.Uuid(), nullable=False, comment="UUIDv7: its id outside."),
        sa.Column("owner_id", sa.BigInteger(), nullable=False, comment="Account in whose name it acts."),
        sa.Column("name", sa.Text(), nullable=False, comment="What it is for, in the owner's words."),
        sa.Column("prefix", sa.Text(), nullable=False, comment="First characters of the key, by which it is found and told."),
        sa.Column("key_hash", sa.LargeBinary(), nullable=False, comment="SHA-256 of the whole key (256 random bits)."),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False, comment="Permissions it has, if its owner has them too."),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False, comment="When it was made."),
        sa.Column("created_by", sa.BigInteger(), nullable=True, comment="Who made it; null: the command line."),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False, comment="Until when it works."),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True, comment="Since when it no longer works."),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True, comment="Last use, exact to a minute."),
        sa.Column("last_used_from", postgresql.INET(), nullable=True, comment="Address of the last use."),
        sa.CheckConstraint("cardinality(scopes) > 0", name=op.f("ck_api_keys_scopes")),
        sa.ForeignKeyConstraint(["created_by"], ["users.id"], name=op.f("fk_api_keys_created_by")),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_api_keys_owner_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("prefix", name=op.f("uq_api_keys_prefix")),
        sa.UniqueConstraint("public_id", name=op.f("uq_api_keys_public_id")),
        comment="API keys of accounts, as SHA-256; the key is shown once.",
    )
    op.create_index("ix_api_keys_owner_id", "api_keys", ["owner_id"], unique=False)
    op.create_table(
        "signing_keys",
        sa.Column("kid", sa.Text(), nullable=False, comment="RFC 7638 thumbprint of the public key."),
        sa.Column("public_key", sa.LargeBinary(), nullable=False, comment="Raw Ed25519 public key, 32 bytes."),
        sa.Column("private_key", sa.LargeBinary(), nullable=False, comment="AES-256-GCM of the raw private key: nonce, ciphertext, tag."),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False, comment="When it was made."),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True, comment="Since when it verifies nothing any more."),
        sa.PrimaryKeyConstraint("kid", name=op.f("pk_signing_keys")),
        comment="Keys that sign access tokens; private halves are encrypted.",
    )
    op.create_index("ix_signing_keys_created_at", "signing_keys", [sa.literal_column("created_at DESC")], unique=False)


def _audit() -> None:
    op.create_table(
        "audit_events",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False, comment="1, 2, 3 … without a gap."),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False, comment="When, by the server's clock."),
        sa.Column("actor_kind", sa.Text(), nullable=False, comment="user, api_key or system."),
        sa.Column("actor_id", sa.BigInteger(), nullable=True, comment="Account that acted; null: system, unknown."),
        sa.Column("actor", sa.Text(), nullable=False, comment="Its email then, or the one that was tried; `system` for the platform."),
        sa.Column("api_key_id", sa.BigInteger(), nullable=True, comment="Key that acted."),
        sa.Column("action", sa.Text(), nullable=False, comment="noun.verb, as `user.disable`."),
        sa.Column("object_type", sa.Text(), nullable=True, comment="Kind of the object."),
        sa.Column("object_id", sa.Text(), nullable=True, comment="Its id as the outside knows it."),
        sa.Column("result", sa.Text(), nullable=False, comment="ok, refused or failed."),
        sa.Column("address", postgresql.INET(), nullable=True, comment="Client address."),
        sa.Column("user_agent", sa.Text(), nullable=True, comment="Client program, at most 300 characters."),
        sa.Column("request_id", sa.Text(), nullable=True, comment="Request that did it."),
        sa.Column("detail", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False, comment="What changed, counts, filters; never a secret."),
        sa.Column("prev_hash", sa.LargeBinary(), nullable=False, comment="Hash of the row before; 32 zero bytes for the first."),
        sa.Column("hash", sa.LargeBinary(), nullable=False, comment="SHA-256 of prev_hash and all columns above, length-prefixed."),
        sa.CheckConstraint("actor_kind IN ('user', 'api_key', 'system')", name=op.f("ck_audit_events_actor_kind")),
        sa.CheckConstraint("octet_length(hash) = 32 AND octet_length(prev_hash) = 32", name=op.f("ck_audit_events_hashes")),
        sa.CheckConstraint("result IN ('ok', 'refused', 'failed')", name=op.f("ck_audit_events_result")),
        sa.ForeignKeyConstraint(["actor_id"], ["users.id"], name=op.f("fk_audit_events_actor_id")),
        sa.ForeignKeyConstraint(["api_key_id"], ["api_keys.id"], name=op.f("fk_audit_events_api_key_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_events")),
        comment="Append-only, hash-chained log of what was done by whom.",
    )
    op.create_index("ix_audit_events_occurred_at", "audit_events", ["occurred_at"], unique=False)
    op.create_index("ix_audit_events_actor_id", "audit_events", ["actor_id", "id"], unique=False)
    op.create_index("ix_audit_events_object", "audit_events", ["object_type", "object_id", "id"], unique=False)
    op.create_table(
        "audit_head",
        sa.Column("one", sa.SmallInteger(), autoincrement=False, nullable=False, comment="Always 1."),
        sa.Column("last_id", sa.BigInteger(), nullable=False, comment="Id of the newest audit event; 0: none."),
        sa.Column("last_hash", sa.LargeBinary(), nullable=False, comment="Its hash."),
        sa.CheckConstraint("one = 1", name=op.f("ck_audit_head_one")),
        sa.PrimaryKeyConstraint("one", name=op.f("pk_audit_head")),
        comment="End of the audit chain; one row.",
    )
    op.execute("INSERT INTO audit_head (one, last_id, last_hash) VALUES (1, 0, decode(repeat('00', 32), 'hex'))")
    for statement in (CHAIN, COMMENT_CHAIN, REFUSE_CHANGE, COMMENT_REFUSE, REFUSE_EVENTS, REFUSE_HEAD, REFUSE_HEAD_UPDATE):
        op.execute(statement)
    op.execute("REVOKE EXECUTE ON FUNCTION chain_audit_event() FROM PUBLIC")
    op.execute("CREATE TRIGGER chain BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION chain_audit_event()")
    op.execute("ALTER TABLE audit_events ENABLE ALWAYS TRIGGER append_only")
    op.execute("ALTER TABLE audit_head ENABLE ALWAYS TRIGGER one_row")
    op.execute("ALTER TABLE audit_head ENABLE ALWAYS TRIGGER moved_by_trigger")
