"""How commands reach the service's database: one transaction each, with errors that say what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import psycopg
from rich.markup import escape
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from app.cli.context import application_url
from app.core.async_database import Database
from app.core.config import ApiSettings
from app.core.database import translate_error
from app.models.permission import Origin

HERE = Origin(user_agent="smsctl")
"""Where a command comes from, for the audit log."""

T = TypeVar("T")


def in_transaction(work: Callable[[AsyncSession], Awaitable[T]]) -> T:
    """What `work` gives, committed.

    Raises: what it raises; Conflict where the schema is behind, Forbidden without the right to it, Unavailable.
    """
    try:
        return asyncio.run(_run(application_url(), work))
    except DBAPIError as error:
        if isinstance(error.orig, psycopg.Error):
            raise translate_error(error.orig) from error
        raise


def printable(text: object) -> str:
    """`text` for a table: it cannot move the cursor, change colours or look like markup."""
    return escape("".join(char if char.isprintable() else "\ufffd" for char in str(text)))


async def _run(url: str, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
    db = Database(url, ApiSettings(pool_size=1), application_name="smsctl")
    try:
        async with db.transaction() as session:
            return await work(session)
    finally:
        await db.close()
