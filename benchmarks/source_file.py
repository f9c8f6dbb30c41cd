"""The source of a benchmark: a synthetic numeros.db, made once for its size and kept."""

from __future__ import annotations

import hashlib
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import app.ingest.synthetic
from app.core.plan_store import packaged_plan
from app.ingest.source import Source, SourceFacts
from app.ingest.synthetic import SyntheticOptions, generate
from benchmarks.server import bench_directory

SEED = 2026
DIRTY = SyntheticOptions(rows=1).dirty


@dataclass(frozen=True, slots=True)
class BenchSource:
    """The file and what it holds; `made_of` says where it comes from."""

    path: Path
    facts: SourceFacts
    made_of: str


def given_source(path: Path) -> BenchSource:
    """A numeros.db of the user's own. Raises: AppError when it cannot be read."""
    return BenchSource(path.absolute(), _facts(path), f"given: {path.name}")


def synthetic_source(rows: int, dirty: float = DIRTY) -> BenchSource:
    """`rows` synthetic rows, a share of them `dirty`; written now or by an earlier run of the same generator."""
    path = bench_directory() / f"numeros-{rows}-{SEED}-{dirty}-{_generator()}.db"
    options = SyntheticOptions(rows=rows, seed=SEED, dirty=dirty)
    if not path.exists():
        generate(path, options, packaged_plan())
    return BenchSource(path, _facts(path), f"synthetic: seed {options.seed}, dirty {options.dirty}")


def _facts(path: Path) -> SourceFacts:
    with closing(Source(path)) as source:
        return source.facts()


def _generator() -> str:
    """Changes with the generator's code: what another generator wrote is another source."""
    digest = hashlib.sha256()
    for file in sorted(Path(app.ingest.synthetic.__path__[0]).glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:8]
