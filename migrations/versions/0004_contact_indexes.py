"""The plan's seven indexes on contacts.

Plain CREATE INDEX: in the first migrations the table is empty. `migrate run` takes them off for the load and builds
them again at its end; on a filled table they are built CONCURRENTLY.
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

INDEXES = {
    "idx_contacts_state_active": "contacts (state_code, status) WHERE opt_out_at IS NULL",
    "idx_contacts_lada_active": "contacts (lada, status) WHERE opt_out_at IS NULL",
    "idx_contacts_city_active": "contacts (city, status) WHERE opt_out_at IS NULL",
    "idx_contacts_last_sent": "contacts (last_sent_at) WHERE last_sent_at IS NOT NULL",
    "idx_contacts_send_count": "contacts (send_count)",
    "idx_contacts_name_gin": "contacts USING gin (to_tsvector('spanish', full_name))",
    "idx_contacts_address_gin": "contacts USING gin (to_tsvector('spanish', address))",
}


def upgrade() -> None:
    for name, definition in INDEXES.items():
        op.execute(f"CREATE INDEX {name} ON {definition}")


def downgrade() -> None:
    for name in reversed(INDEXES):
        op.execute(f"DROP INDEX {name}")
