"""The configuration of the embedded PostgreSQL, fitted to this machine; ALTER SYSTEM wins over all of it."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

from app.core.config import Settings
from app.embedded.processes import clean_environment

CONF_NAME = "50-embedded.conf"
MEGABYTE = 1 << 20
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - PostgreSQL's own place for dynamic shared memory
# Docker gives 64 MB, which parallel index builds and joins outgrow
SHARED_MEMORY_NEEDED = 1 << 30

FIXED = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "max_connections": "200",
    "maintenance_work_mem": "256MB",
    "work_mem": "32MB",
    "random_page_cost": "1.1",
    "jit": "off",
    "shared_preload_libraries": "pg_stat_statements",
    "wal_level": "replica",
    "max_wal_senders": "8",
    "max_replication_slots": "8",
    "summarize_wal": "off",
    "max_wal_size": "8GB",
    "min_wal_size": "1GB",
    "checkpoint_timeout": "15min",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_line_prefix": "%m [%p] %q%u@%d %a ",
    # rows and statements hold personal data: the log names the error, not the row
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
}


def memory_bytes() -> int:
    """The memory this machine or its container may use."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")):
        with contextlib.suppress(OSError, ValueError):  # no such control group, or "max"
            return min(total, int(limit.read_text(encoding="ascii")))
    return total


def _shared_memory_is_small() -> bool:
    try:
        size = os.statvfs(SHARED_MEMORY)
    except OSError:
        return True
    return size.f_blocks * size.f_frsize < SHARED_MEMORY_NEEDED


def _has_lz4(programs: Path) -> bool:
    built = subprocess.run(
        [programs / "pg_config", "--configure"],
        check=False,
        cwd="/",
        env=clean_environment(),
        capture_output=True,
        text=True,
    )
    return "--with-lz4" in built.stdout


def render(settings: Settings, programs: Path) -> str:
    """The text of conf.d/50-embedded.conf for this machine."""
    memory = memory_bytes() // MEGABYTE
    values = FIXED | {
        "shared_buffers": settings.embedded.shared_buffers or f"{max(min(memory // 4, 4096), 32)}MB",
        "effective_cache_size": f"{max(memory // 2, 64)}MB",
        "dynamic_shared_memory_type": "mmap" if _shared_memory_is_small() else "posix",
        "wal_compression": "lz4" if _has_lz4(programs) else "off",
    }
    lines = [f"{name} = '{value.replace(chr(39), chr(39) * 2)}'\n" for name, value in values.items()]
    return "# Written by smsctl whenever it starts the server; use ALTER SYSTEM for changes that stay.\n" + "".join(
        lines
    )
