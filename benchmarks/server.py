"""The server of the benchmarks: one of its own, embedded, or that of DATABASE_URL; a fresh database for each measurement."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

from psycopg import sql

from app.core.config import Settings
from app.core.database import connect, libpq_url
from app.core.errors import Unavailable
from app.embedded.postgres import ensure_postgres
from app.embedded.servers import stop_all
from app.services import schema_service, tuning_service
from benchmarks.machine import PROC


def bench_directory() -> Path:
    """SMS_BENCH_DIR, or `sms-bench` where the system keeps temporary files: sources that are kept, servers that are not."""
    directory = Path(os.environ.get("SMS_BENCH_DIR") or Path(tempfile.gettempdir()) / "sms-bench")
    directory.mkdir(parents=True, exist_ok=True)
    return directory.absolute()


@dataclass(frozen=True, slots=True)
class BenchServer:
    """A server with a migrated database to copy. `postmaster` is None where its processes cannot be seen from here."""

    url: str
    template: str
    postmaster: int | None
    data: Path | None

    @contextmanager
    def fresh_database(self) -> Iterator[str]:
        """The URL of a new database with the newest schema; it is dropped afterwards."""
        name = f"sms_bench_{uuid4().hex[:12]}"
        with closing(connect(self.url, autocommit=True)) as session:
            names = sql.Identifier(name), sql.Identifier(self.template)
            session.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*names))
        try:
            yield _with_database(self.url, name)
        finally:
            _drop(self.url, name)

    def settle(self) -> None:
        """Write out what earlier measurements left dirty, so that none pays for another."""
        with closing(connect(self.url, autocommit=True)) as session:
            session.execute("CHECKPOINT")
        os.sync()

    @contextmanager
    def rows_directory(self) -> Iterator[Path]:
        """A directory that the server can write and we can empty; removed afterwards.

        Raises: Unavailable when there is none: the server is elsewhere, or its files belong to somebody else.
        """
        path = self.data / "bench_rows" if self.data else None
        if path is None or self.data is None or not os.access(self.data, os.W_OK):
            raise Unavailable(
                "needs a server on this machine whose data directory this account may write", code="floor"
            )
        owner = self.data.stat()
        try:
            path.mkdir(mode=0o700, exist_ok=True)
            os.chown(path, owner.st_uid, owner.st_gid)
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def settings(self) -> dict[str, str]:
        """The server's version and the settings that matter here, as SHOW prints them."""
        shown = {setting.name: setting.before for setting in tuning_service.show(self._template_url())}
        with closing(connect(self.url)) as session:
            row = session.execute("SHOW server_version").fetchone()
        return {"version": str(row[0]) if row else "", **shown}

    def _template_url(self) -> str:
        return _with_database(self.url, self.template)


@contextmanager
def bench_server(given_url: str | None) -> Iterator[BenchServer]:
    """A server under the product's bulk settings: `given_url`, or an embedded one of its own, removed afterwards."""
    if given_url:
        with _prepared(libpq_url(given_url)) as server:
            yield server
        return
    home = Path(tempfile.mkdtemp(prefix="server-", dir=bench_directory()))
    home.chmod(0o755)
    settings = Settings(_env_file=None, data_dir=home, environment="test")
    try:
        with _prepared(ensure_postgres(settings)) as server:
            yield server
    finally:
        stop_all(settings, purge=True)
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def _prepared(url: str) -> Iterator[BenchServer]:
    """The server with a template database; bulk settings are on meanwhile, and put back."""
    template = f"sms_bench_template_{uuid4().hex[:8]}"
    with closing(connect(url, autocommit=True)) as session:
        session.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(template)))
    template_url = _with_database(url, template)
    try:
        schema_service.upgrade(template_url)
        tuned = tuning_service.apply_bulk(template_url)
        if tuned.refused:
            raise Unavailable(f"The bulk settings of the product were refused: {tuned.refused}", code="bench_settings")
        try:
            postmaster, data = _seen_from_here(url)
            yield BenchServer(url, template, postmaster, data)
        finally:
            tuning_service.restore(template_url)
    finally:
        _drop(url, template)


def _seen_from_here(url: str) -> tuple[int | None, Path | None]:
    """The postmaster's process and the data directory, where the server runs on this machine."""
    with closing(connect(url, autocommit=True)) as session:
        row = session.execute("SELECT pg_backend_pid(), current_setting('data_directory')").fetchone()
        backend = PROC / str(row[0] if row else 0)
        try:
            parent = int((backend / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
            names = {(backend / "comm").read_text(), (PROC / str(parent) / "comm").read_text()}
        except OSError:
            return None, None
    if names != {"postgres\n"} or row is None or not Path(row[1]).is_dir():
        return None, None
    return parent, Path(row[1])


def _with_database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def _drop(url: str, name: str) -> None:
    with closing(connect(url, autocommit=True)) as session:
        session.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
