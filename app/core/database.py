"""Connections to PostgreSQL: URLs in the forms that psycopg, SQLAlchemy and psql take, and clear errors."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import Connection

from app.core.errors import AppError, Conflict, Forbidden, InvalidInput, Unavailable

APPLICATION_NAME = "smsctl"
CONNECT_TIMEOUT_S = 10
MINIMUM_SERVER = 160000


def libpq_url(url: str) -> str:
    """`url` as psql and psycopg take it: postgresql://, without a SQLAlchemy driver suffix.

    Raises: InvalidInput when it is not a PostgreSQL URL.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.partition("+")[0] not in ("postgresql", "postgres"):
        raise InvalidInput(
            "The database URL must look like postgresql://user:password@host:5432/name.", code="database_url"
        )
    plain = f"postgresql://{rest}"
    try:
        psycopg.conninfo.conninfo_to_dict(plain)
        urlsplit(plain)
    except (psycopg.ProgrammingError, ValueError):
        # What is wrong is not quoted: it may be the password.
        raise InvalidInput(
            "The database URL cannot be read: write %25 for % and so on in user and password (percent-encoding), and an"
            " IPv6 address in brackets.",
            code="database_url",
        ) from None
    return plain


def sqlalchemy_url(url: str) -> str:
    """`url` for SQLAlchemy with psycopg 3 (sync and async share the name)."""
    return "postgresql+psycopg://" + libpq_url(url).partition("://")[2]


def hide_password(url: str) -> str:
    """`url` fit for a log or a screen: the password replaced by ***."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    address = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username}:***@{address}"))


def connect(url: str, *, autocommit: bool = False, application_name: str = APPLICATION_NAME) -> Connection:
    """An open connection; statements that wait for a lock are bounded by the caller, not here.

    Raises: Unavailable when the server cannot be reached, refuses us, or is older than PostgreSQL 16.
    """
    try:
        connection = psycopg.connect(
            libpq_url(url),
            autocommit=autocommit,
            application_name=application_name,
            connect_timeout=CONNECT_TIMEOUT_S,
        )
    except psycopg.OperationalError as error:
        reason = " ".join(str(error).split())
        raise Unavailable(
            f"PostgreSQL at {hide_password(url)} cannot be used: {reason} Check DATABASE_URL and that the server runs.",
            code="database_unreachable",
        ) from error
    if connection.info.server_version < MINIMUM_SERVER:
        connection.close()
        raise Unavailable("PostgreSQL 16 or newer is needed.", code="database_too_old")
    return connection


def translate_error(error: psycopg.Error) -> AppError:
    """What an error of the server means to whoever gave the command: one line and what to do."""
    message = (error.diag.message_primary or str(error)).strip().partition("\n")[0]
    if isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedColumn):
        return Conflict(
            f"The database has not the schema of this version ({message}): run `smsctl db upgrade`.",
            code="schema_behind",
        )
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return Forbidden(
            f"The database's role may not do this: {message}. Set DATABASE_ADMIN_URL.", code="database_forbidden"
        )
    return Unavailable(
        f"PostgreSQL ended the work: {message}. Mend it and run the command again.", code="database_error"
    )
