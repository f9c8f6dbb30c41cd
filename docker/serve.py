"""The API in the container: uvicorn with what the settings say, in one process or several that share their metrics.

Ends with an error's exit code, and one line, when the settings cannot be used: no process is tried again and again.
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile

import uvicorn

from app.core.config import Settings, get_settings
from app.core.errors import AppError
from app.core.logs import configure_logs, get_logger

SHARED_METRICS = "PROMETHEUS_MULTIPROC_DIR"


def main() -> int:
    """Serve until a signal says to stop."""
    settings = get_settings()
    configure_logs(settings.log.level, settings.log.format)
    if settings.api.workers > 1 and SHARED_METRICS not in os.environ:
        os.environ[SHARED_METRICS] = tempfile.mkdtemp(prefix="sms-metrics-")
    try:
        importlib.import_module("app.main").require_settings(settings)  # not before the metrics have their directory
    except AppError as error:
        get_logger("api").error("not_started", code=error.code, reason=str(error))
        return error.exit_code
    run(settings)
    return 0


def run(settings: Settings) -> None:
    """Hand over to uvicorn."""
    uvicorn.run(
        "app.main:create_app",
        factory=True,
        host=settings.api.host,
        port=settings.api.port,
        workers=settings.api.workers,
        http="app.api.http_protocol:BoundedHttp",
        ws="none",
        timeout_graceful_shutdown=settings.api.shutdown_s,
        timeout_keep_alive=75,  # longer than nginx keeps it: the side that asks also ends it
        proxy_headers=False,  # the application's own middleware believes whom SMS_API__TRUSTED_PROXIES names
        server_header=False,
        access_log=False,  # the application writes its own
        log_level="warning",
    )


if __name__ == "__main__":
    sys.exit(main())
