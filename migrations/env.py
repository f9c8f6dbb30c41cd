"""How Alembic runs here: against a live database only, one transaction per revision, never waiting long for a lock.

The URL is, in this order: `config.attributes["url"]` (app/services/schema_service.py), `-x url=…`, DATABASE_ADMIN_URL,
DATABASE_URL.
"""

from __future__ import annotations

from alembic import context
from sqlalchemy import create_engine, pool, text

from app.core.config import get_settings
from app.core.database import sqlalchemy_url
from app.core.errors import InvalidInput
from app.models import Base
from app.services.schema_drift import include_object_without
from app.services.schema_service import LOCK_TIMEOUT


def database_url() -> str:
    """The URL to migrate, as SQLAlchemy takes it."""
    given = context.config.attributes.get("url") or context.get_x_argument(as_dictionary=True).get("url")
    if given:
        return sqlalchemy_url(given)
    settings = get_settings()
    configured = settings.database_admin_url or settings.database_url
    if configured is None:
        raise InvalidInput("Say which database: -x url=postgresql://… or DATABASE_URL.", code="database_url")
    return sqlalchemy_url(configured.get_secret_value())


def run() -> None:
    """Migrate, or compare, over one connection of our own."""
    lock_timeout = context.config.attributes.get("lock_timeout", LOCK_TIMEOUT)
    engine = create_engine(database_url(), poolclass=pool.NullPool)
    with engine.connect() as connection:
        connection.execute(text("SELECT set_config('lock_timeout', :timeout, false)"), {"timeout": lock_timeout})
        include_object = include_object_without(connection)
        connection.commit()  # Alembic commits only transactions that it began itself
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            include_object=include_object,
            transaction_per_migration=True,
            compare_type=True,
            compare_server_default=True,
        )
        with context.begin_transaction():
            context.run_migrations()


if context.is_offline_mode():
    raise InvalidInput("Migrations run against a database, not as a script of SQL.", code="offline_migration")
run()
