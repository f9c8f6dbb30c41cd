"""smsctl source: write a synthetic numeros.db, analyse a real one."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from app.cli.context import console, print_json
from app.cli.source_report import print_report
from app.core.config import get_settings
from app.core.errors import InvalidInput
from app.core.plan_store import packaged_plan
from app.ingest.inspection import inspect_source
from app.ingest.inspection_report import Inspection
from app.ingest.source_connection import shown
from app.ingest.synthetic import GeneratedFile, SyntheticOptions
from app.ingest.synthetic import generate as generate_file

group = typer.Typer(help="The SQLite file to move: write a synthetic one, analyse a real one.", no_args_is_help=True)


@group.command()
def generate(
    path: Annotated[Path, typer.Argument(help="File to write, as numeros.db.")],
    *,
    rows: Annotated[int, typer.Option(help="Rows of the table numeros.")] = 1_000_000,
    seed: Annotated[int, typer.Option(help="The same seed, rows and share of dirt give the same content.")] = 2026,
    dirty: Annotated[
        float, typer.Option(help="Share of rows with old prefixes, BLOBs, broken text and the like.")
    ] = 0.005,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write a synthetic numeros.db: the real schema and habits, invented people, assigned numbers, old dirt."""
    options = SyntheticOptions(rows=rows, seed=seed, dirty=dirty)
    with _progress() as bar:
        task = bar.add_task("rows", total=max(rows, 1))

        def advance(stage: str, done: int, total: int) -> None:
            bar.update(task, description=stage if stage == "rows" else f"index on {stage}", completed=done, total=total)

        written = generate_file(path, options, packaged_plan(), force=force, progress=advance)
    if as_json:
        print_json(asdict(written) | {"path": shown(written.path)})
    else:
        typer.echo(_sentence(written))


@group.command()
def inspect(
    path: Annotated[Path, typer.Argument(help="A numeros.db. It is opened read-only and never written.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Analyse a numeros.db before it is moved: schema, contents, mapping, batches, time and space."""
    settings = get_settings()
    with _progress() as bar:
        task = bar.add_task("reading rows", total=None)
        inspection = inspect_source(
            path,
            batch_size=settings.migration.batch_size,
            data_dir=settings.data_dir,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if as_json:
        print_json(_as_object(inspection))
    else:
        print_report(inspection)
    if reasons := [item.message for item in inspection.attention if item.level == "blocker"]:
        raise InvalidInput(" ".join(reasons), code="source_schema")


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    return Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal)


def _sentence(written: GeneratedFile) -> str:
    rate = written.rows / max(written.seconds, 1e-9)
    return (
        f"{shown(written.path)}: {written.rows:,} rows ({written.dirty_rows:,} dirty), {written.bytes / 1e6:,.0f} MB, "
        f"in {written.seconds:.1f} s ({rate:,.0f} rows/s; table {written.table_seconds:.1f} s, "
        f"indexes {written.index_seconds:.1f} s)"
    )


def _as_object(inspection: Inspection) -> dict[str, object]:
    """The inspection as one object of plain values; `path` as text that survives odd bytes."""
    value = asdict(inspection)
    value["path"] = shown(inspection.path)
    value["estimate"]["data_dir"] = shown(inspection.estimate.data_dir)
    value["schema"]["is_readable"] = inspection.schema.is_readable
    return value
