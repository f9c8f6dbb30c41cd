"""Whether the service can do its work, and what it lacks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum

from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from app.core.async_database import Database
from app.core.cache import Cache
from app.core.config import PROJECT_ROOT
from app.core.errors import Broken, Unavailable

PATIENCE_S = 2.0
REVISION = text("SELECT version_num FROM alembic_version")


class Health(StrEnum):
    """How one thing, or the whole, is."""

    OK = "ok"
    DEGRADED = "degraded"
    FAILED = "failed"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that the service stands on; `detail` says what is wrong."""

    name: str
    status: Health
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Readiness:
    """All of it. `status` is ok, degraded (it works without what failed) or unavailable."""

    status: Health
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class Revisions:
    """The schema revisions that this program knows, and the one it was written for."""

    head: str
    known: frozenset[str]


def revisions() -> Revisions:
    """What this program ships in migrations/.

    Raises: Broken when there is no single newest one.
    """
    scripts = ScriptDirectory(str(PROJECT_ROOT / "migrations"))
    head = scripts.get_current_head()
    if head is None:
        raise Broken("No migrations were found: the installation is incomplete.", code="schema_no_revisions")
    return Revisions(head, frozenset(it.revision for it in scripts.walk_revisions()))


async def readiness(db: Database, cache: Cache, revisions: Revisions) -> Readiness:
    """Ask database, schema, cache and broker. Without the first two there is no work; without the others it degrades."""
    (database, schema), valkey = await asyncio.gather(_database(db, revisions), cache.ping())
    gone = "Valkey does not answer"
    cached = (
        Check("cache", Health.OK) if valkey else Check("cache", Health.FAILED, f"{gone}: limits count in each process.")
    )
    broker = Check("broker", Health.OK) if valkey else Check("broker", Health.FAILED, f"{gone}: jobs wait.")
    checks = (database, schema, cached, broker)
    if Health.FAILED in (database.status, schema.status):
        return Readiness(Health.UNAVAILABLE, checks)
    is_whole = all(check.status is Health.OK for check in checks)
    return Readiness(Health.OK if is_whole else Health.DEGRADED, checks)


async def _database(db: Database, revisions: Revisions) -> tuple[Check, Check]:
    unknown = Check("schema", Health.FAILED, "It cannot be asked for without the database.")
    try:
        async with asyncio.timeout(PATIENCE_S), db.transaction() as session:
            revision: str | None = await session.scalar(REVISION)
    except ProgrammingError:  # there is no table alembic_version, or we may not read it
        return Check("database", Health.OK), _schema(None, revisions)
    except (Unavailable, TimeoutError) as error:
        reason = (
            "All connections are in use." if getattr(error, "code", "") == "database_busy" else "It does not answer."
        )
        return Check("database", Health.FAILED, reason), unknown
    return Check("database", Health.OK), _schema(revision, revisions)


def _schema(revision: str | None, revisions: Revisions) -> Check:
    """A newer schema is one that we can work with: it is changed before the programs are."""
    if revision == revisions.head:
        return Check("schema", Health.OK)
    if revision is None:
        return Check("schema", Health.FAILED, "There is none: run `smsctl db upgrade`.")
    if revision in revisions.known:
        return Check("schema", Health.FAILED, f"At revision {revision}, not {revisions.head}: run `smsctl db upgrade`.")
    return Check("schema", Health.DEGRADED, f"At revision {revision}, which is newer than this program.")
