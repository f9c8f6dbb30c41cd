"""pgloader's plain copy: the 16 columns of numeros as they are, nothing normalised, classified or de-duplicated.

Its reader ends at the first TEXT that is not UTF-8, with exit code 0 and the rows behind it missing: it is given a source
of the same size without such rows.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path

from app.core.database import connect
from app.core.errors import Unavailable
from benchmarks.machine import Stopwatch, Usage
from benchmarks.server import BenchServer
from benchmarks.source_file import BenchSource

PROGRAM = "pgloader"
PACKAGE_HINT = "pgloader is not installed: `make setup-system` brings it (Debian, as root)"
SETTINGS = (
    "create tables, create no indexes, reset no sequences, no foreign keys, workers 4, concurrency 1, "
    "batch 25,000 rows / 64 MB, prefetch 50,000 rows; synchronous_commit off"
)
LOAD_FILE = """LOAD DATABASE
     FROM sqlite://{source}
     INTO {target}
 WITH include no drop, create tables, create no indexes, reset no sequences, no foreign keys,
      workers = 4, concurrency = 1, batch rows = 25000, batch size = 64MB, prefetch rows = 50000
  SET synchronous_commit to 'off', client_encoding to 'utf8'
 CAST column numeros.es_valido to text drop default drop typemod,
      column numeros.fecha_migracion to text drop default drop typemod
INCLUDING ONLY TABLE NAMES LIKE 'numeros';
"""


def version() -> str | None:
    """pgloader's version, or None where it is not installed."""
    program = shutil.which(PROGRAM)
    if program is None:
        return None
    said = subprocess.run([program, "--version"], check=False, capture_output=True, text=True)
    return said.stdout.split('"')[1] if '"' in said.stdout else said.stdout.strip()


def measure(server: BenchServer, source: BenchSource) -> Usage:
    """What the whole command takes.

    Raises: Unavailable when it fails (its last line), or does not bring every row.
    """
    with server.fresh_database() as url, tempfile.TemporaryDirectory(prefix="sms-pgloader-") as folder:
        link = Path(folder) / "numeros.db"  # its load file cannot quote a path
        link.symlink_to(source.path)
        load_file = Path(folder) / "numeros.load"
        load_file.touch(mode=0o600)
        load_file.write_text(LOAD_FILE.format(source=link, target=url), encoding="utf-8")
        server.settle()
        watch = Stopwatch(server.postmaster)
        ended = subprocess.run(
            [PROGRAM, "--root-dir", folder, "--logfile", str(Path(folder) / "log"), str(load_file)],
            check=False, capture_output=True, text=True,
        )  # fmt: skip
        usage = watch.stop()
        if ended.returncode:
            said = (ended.stdout + ended.stderr).strip().splitlines()
            raise Unavailable(f"pgloader failed: {said[-1] if said else ended.returncode}", code="pgloader")
        with closing(connect(url)) as session:
            row = session.execute("SELECT count(*) FROM numeros").fetchone()
    brought = row[0] if row else 0
    if brought != source.facts.rows:
        raise Unavailable(f"pgloader brought {brought:,} of {source.facts.rows:,} rows", code="pgloader")
    return usage
