"""The plan's seven indexes on contacts.

Plain CREATE INDEX: in the first migrations the table is empty. `migrate run` takes them off for the load and builds
them again at its end; on a filled table they are built CONCURRENTLY.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

NOT_OPTED_OUT = sa.text("opt_out_at IS NULL")
NAMES = (
    "idx_contacts_state_active",
    "idx_contacts_lada_active",
    "idx_contacts_city_active",
    "idx_contacts_last_sent",
    "idx_contacts_send_count",
    "idx_contacts_name_gin",
    "idx_contacts_address_gin",
)


def upgrade() -> None:
    op.create_index("idx_contacts_state_active", "contacts", ["state_code", "status"], postgresql_where=NOT_OPTED_OUT)
    op.create_index("idx_contacts_lada_active", "contacts", ["lada", "status"], postgresql_where=NOT_OPTED_OUT)
    op.create_index("idx_contacts_city_active", "contacts", ["city", "status"], postgresql_where=NOT_OPTED_OUT)
    op.create_index("idx_contacts_last_sent", "contacts", ["last_sent_at"], postgresql_where=sa.text("last_sent_at IS NOT NULL"))
    op.create_index("idx_contacts_send_count", "contacts", ["send_count"])
    op.create_index("idx_contacts_name_gin", "contacts", [sa.text("to_tsvector('spanish', full_name)")], postgresql_using="gin")
    op.create_index("idx_contacts_address_gin", "contacts", [sa.text("to_tsvector('spanish', address)")], postgresql_using="gin")


def downgrade() -> None:
    for name in reversed(NAMES):
        op.drop_index(name, "contacts")
