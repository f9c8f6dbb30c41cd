"""smsctl numbering: look numbers up, take in a newer plan, bring contacts up to date with it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from app.cli.context import console, database_url, print_json
from app.core.config import get_settings
from app.core.database import connect
from app.core.plan_store import packaged_plan
from app.embedded.postgres import is_initialised
from app.ingest.numbering_files import import_plan
from app.services import numbering_service, reclassify_service
from app.services.numbering_service import LookupResult, PlanInfo
from app.utils.numbering_plan import NumberingPlan

group = typer.Typer(help="The national numbering plan: look numbers up, import a newer one.", no_args_is_help=True)

LONGEST_LINE = 1 << 20
_SHOWN = ("e164", "national", "valid", "line_type", "operator", "lada", "city", "state_name", "time_zone", "why")


@group.command(context_settings={"ignore_unknown_options": True})
def lookup(
    number: Annotated[str, typer.Argument(help="A number however it is written, or - to read one per line.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what a number is: line type, operator, place, and why."""
    if number == "-":
        _look_up_lines(_plan())
        return
    result = numbering_service.lookup(_plan(), number)
    if as_json:
        sys.stdout.buffer.write(_json(result).encode("utf-8"))
        sys.stdout.flush()
        return
    for name, value in asdict(result).items():
        if name in _SHOWN:
            shown = {None: "-", True: "yes", False: "no"}.get(value, value)
            sys.stdout.write(f"{name:<10} {shown}\n")


@group.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help="The regulator's CSV or zip, in today's layout or the one before.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Put the plan of FILE in force. Contacts change with `numbering reclassify` only."""
    info = import_plan(database_url(admin=True), file)
    if as_json:
        print_json(asdict(info))
        return
    verb = {"imported": "imported, in force", "reinstated": "known, in force again", "unchanged": "in force already"}
    sys.stdout.write(f"plan of {info.version}, {info.range_count:,} ranges: {verb[info.outcome]}\n")
    if info.outcome != "unchanged":
        console.print("Run `smsctl numbering reclassify` to bring the contacts up to date with it.")


@group.command()
def show(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Show the plans in the database, the one in force first."""
    with connect(database_url()) as session:
        plans = numbering_service.describe(session)
    if as_json:
        print_json({"plans": [asdict(plan) for plan in plans]})
        return
    for line in _table_lines(plans):
        sys.stdout.write(line + "\n")


@group.command()
def reclassify(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Bring every contact up to date with the plan in force. Run again after an interruption, it goes on."""
    columns = (TextColumn("contacts"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task("contacts", total=None, note="")

        def advance(at: reclassify_service.ReclassifyProgress) -> None:
            note = f"{at.examined:,} examined, {at.changed:,} changed"
            bar.update(task, total=max(at.highest_contact_id, 1), completed=at.last_contact_id, note=note)

        result = reclassify_service.reclassify(database_url(admin=True), advance)
    if as_json:
        print_json(asdict(result))
    else:
        sys.stdout.write(
            f"{result.examined:,} contacts examined, {result.changed:,} changed, by the plan of {result.plan_version}\n"
        )


def _plan() -> NumberingPlan:
    """The plan in force; the packaged one where there is no database yet, so that a look-up starts no server."""
    settings = get_settings()
    if settings.database_url is None and not is_initialised(settings):
        return packaged_plan()
    with connect(database_url()) as session:
        return numbering_service.plan_in_force(session)


def _json(result: LookupResult) -> str:
    """One line of JSON. Texts beyond ASCII come back escaped: lone surrogates and Unicode's line ends stay in line."""
    fields = {name: getattr(result, name) for name in LookupResult.__slots__}
    return json.dumps(fields, ensure_ascii=not result.number.isascii()) + "\n"


def _look_up_lines(plan: NumberingPlan) -> None:
    out = sys.stdout.buffer
    try:
        for lines in _line_blocks():
            for raw in lines:
                text = raw.rstrip(b"\r").decode("utf-8", errors="surrogateescape")
                out.write(_json(numbering_service.lookup(plan, text)).encode("utf-8"))
            out.flush()
    except BrokenPipeError:
        # The reader went away (`| head`): nothing is left to do, and Python must not complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _line_blocks() -> Iterator[list[bytes]]:
    """Standard input's lines, as many at a time as there are to be read: whoever waits for an answer gets it.

    Of a line longer than LONGEST_LINE only the beginning is kept: it decides.
    """
    pending = b""
    while chunk := os.read(sys.stdin.fileno(), 1 << 16):
        *lines, rest = chunk.split(b"\n")
        if lines:
            lines[0], pending = pending + lines[0], b""
            yield lines
        if len(pending) < LONGEST_LINE:
            pending += rest
    if pending:
        yield [pending]


def _table_lines(plans: list[PlanInfo]) -> Iterator[str]:
    yield f"{'plan':<12}{'ranges':>10}{'numbers':>16}  {'imported':<18}{'file'}"
    for plan in plans:
        mark = "  in force" if plan.in_force else ""
        yield (
            f"{plan.version:<12}{plan.range_count:>10,}{plan.number_count:>16,}"
            f"  {plan.imported_at:%Y-%m-%d %H:%M}  {plan.source_file}{mark}"
        )
