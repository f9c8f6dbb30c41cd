"""`python -m tests.schema_drift`: the shipped migrations against the models, on a server of its own. Exit 1 on differences.

With DATABASE_ADMIN_URL or DATABASE_URL that server is used, in a scratch database that is dropped again.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from app.core.config import EmbeddedSettings, Settings
from app.core.database import libpq_url
from app.core.errors import AppError
from app.core.logs import configure_logs
from app.embedded.postgres import ensure_postgres
from app.embedded.servers import stop_all
from app.services import schema_service


def differences() -> list[str]:
    """One line per difference; the embedded server that this needs is started, stopped and removed again."""
    home = Path(tempfile.mkdtemp(prefix="sms-drift-"))
    home.chmod(0o755)  # the account that runs PostgreSQL must be able to pass
    settings = Settings(
        _env_file=None, data_dir=home, environment="test", embedded=EmbeddedSettings(shared_buffers="128MB")
    )
    try:
        given = settings.database_admin_url or settings.database_url
        return schema_service.check_shipped(libpq_url(given.get_secret_value()) if given else ensure_postgres(settings))
    finally:
        stop_all(settings, purge=True)
        shutil.rmtree(home, ignore_errors=True)


def main() -> int:
    """Print the differences; the exit code."""
    configure_logs("WARNING")
    try:
        found = differences()
    except AppError as error:
        sys.stderr.write(f"error ({error.code}): {error}\n")
        return error.exit_code
    for line in found:
        sys.stdout.write(line + "\n")
    sys.stdout.write("" if found else "Migrations and models agree.\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
