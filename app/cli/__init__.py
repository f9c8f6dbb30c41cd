"""smsctl: parse, call one function, print. One file per group of commands."""

from __future__ import annotations

import errno
import os
import sys
from typing import NoReturn

import psycopg
import typer
from pydantic import ValidationError

from app.cli import api_keys, audit, backup, db, demo, keys, migrate, numbering, server, source, users
from app.cli.context import console
from app.core.config import get_settings
from app.core.database import translate_error
from app.core.errors import AppError, InvalidInput, Unavailable
from app.core.logs import configure_logs

app = typer.Typer(
    name="smsctl",
    help="SMS marketing platform: move contacts into PostgreSQL, classify them, keep them safe.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(source.group, name="source", help="The SQLite file to move: write a synthetic one, analyse a real one.")
app.add_typer(migrate.group, name="migrate", help="Move numeros.db into PostgreSQL, prove it, report it, undo it.")
app.add_typer(numbering.group, name="numbering", help="Mexico's national numbering plan: look up, import, reclassify.")
app.add_typer(db.group, name="db", help="Schema, connection URL and server settings.")
app.add_typer(audit.group, name="audit", help="The audit log: prove that it is what was written, look at it.")
app.add_typer(users.group, name="users", help="Accounts: make, invite, change, disable, list.")
app.add_typer(api_keys.group, name="api-keys", help="Keys for machines: make, list, revoke.")
app.add_typer(keys.group, name="keys", help="The keys that sign access tokens: list, rotate, retire.")
app.add_typer(backup.group, name="backup", help="Full, verified backups of the database.")
app.command("up")(server.up)
app.command("down")(server.down)
app.command("demo")(demo.demo)


def _fail(error: AppError) -> NoReturn:
    """Print the error as one line, whatever names of files are in it, and exit with its code."""
    text = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in str(error))
    console.print(f"[bold red]error[/] ({error.code}): ", end="")
    console.print(text, markup=False, soft_wrap=True)
    sys.exit(error.exit_code)


def _wrong_settings(error: ValidationError) -> AppError:
    """Which settings cannot be used, without their values: one may be a secret."""
    wrong = [f"{'__'.join(map(str, it['loc'])).upper()}: {it['msg']}" for it in error.errors(include_input=False)]
    return InvalidInput(
        f"Settings that cannot be used: {'; '.join(wrong)}. docs/settings.md has them all.", code="settings"
    )


def main() -> None:
    """Entry point: any AppError becomes one line that says what to do, and its exit code."""
    try:
        settings = get_settings()
        configure_logs(settings.log.level, settings.log.format)
        app()
    except AppError as error:
        _fail(error)
    except ValidationError as error:
        _fail(_wrong_settings(error))
    except UnicodeDecodeError:
        _fail(InvalidInput("The file of settings (.env, or SMS_ENV_FILE) is not text in UTF-8.", code="settings"))
    except psycopg.Error as error:
        _fail(translate_error(error))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EPIPE):
            raise
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - or Python tries again at its end
        _fail(Unavailable(f"The output cannot be written: {error.strerror}.", code="output"))
    except KeyboardInterrupt:
        console.print("Interrupted.")
        sys.exit(130)
