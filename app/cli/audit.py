"""smsctl audit: prove the audit log, and look at its newest events."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from app.cli.context import console, database_url, print_json
from app.core.errors import Broken, InvalidInput
from app.services import audit_chain, audit_service
from app.services.audit_chain import Anchor, Verdict
from app.services.audit_service import LARGEST_PAGE, AuditEventView

group = typer.Typer(no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


@group.command()
def verify(
    as_json: AsJson = False,
    anchor: Annotated[
        str | None,
        typer.Option(
            help="ID:HASH as an earlier run told it; the chain must still hold that event.", metavar="ID:HASH"
        ),
    ] = None,
) -> None:
    """Work out every hash of the log again; exit 7 when an event was changed, removed, moved, added or cut off."""
    kept = _anchor(anchor)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("audit events", total=None)
        verdict = audit_chain.verify(
            database_url(), lambda done, of: bar.update(task, completed=done, total=of), anchor=kept
        )
    if as_json:
        print_json(asdict(verdict))
    if not verdict.ok:
        raise Broken(_reason(verdict), code="audit_chain")
    if not as_json:
        end = verdict.end
        console.print(f"The audit log holds: {verdict.events} events.")
        console.print(f"Its end, to be kept elsewhere: {end.event_id}:{end.hash}" if end else "It is empty.")


@group.command("list")
def list_events(
    limit: Annotated[int, typer.Option(min=1, max=LARGEST_PAGE, help="How many.")] = 50, as_json: AsJson = False
) -> None:
    """Show the newest events, the newest first."""
    events = audit_service.list_events_sync(database_url(), limit=limit)
    if as_json:
        print_json({"events": [asdict(event) for event in events]})
        return
    table = Table("id", "when (UTC)", "who", "what", "object", "result", "from")
    for event in events:
        table.add_row(*(_printable(cell) for cell in _cells(event)))
    console.print(table)


def _anchor(text: str | None) -> Anchor | None:
    if text is None:
        return None
    number, separator, digest = text.partition(":")
    if not (separator and number.isascii() and number.isdigit() and len(digest) == 2 * len(audit_chain.NO_HASH)):
        raise InvalidInput("An anchor is ID:HASH, as `smsctl audit verify` prints it.", code="audit_anchor")
    return Anchor(int(number), digest.lower())


def _reason(verdict: Verdict) -> str:
    guards = f"the triggers {', '.join(verdict.unguarded)} are off" if verdict.unguarded else ""
    found = "; ".join(part for part in (verdict.what, guards) if part)
    return f"The audit log is not what was written: {found}. Keep this database as it is and compare it with a backup."


def _cells(event: AuditEventView) -> tuple[str, ...]:
    target = " ".join(part for part in (event.object_type, event.object_id) if part)
    when = f"{event.occurred_at:%Y-%m-%d %H:%M:%S}"
    return (str(event.id), when, event.actor, event.action, target, event.result.value, event.address or "")


def _printable(text: str) -> str:
    """What a client may have sent cannot move the cursor, change colours or look like markup."""
    return escape("".join(char if char.isprintable() else "\ufffd" for char in text))
