"""Where the embedded servers keep their files: in SMS_DATA_DIR, or in a private directory their account can reach."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from app.core.config import Settings
from app.core.errors import InvalidInput, Unavailable
from app.core.logs import get_logger
from app.embedded.processes import RunAs

PRIVATE_PREFIX = "sms-marketing-"
# initdb hands paths to a shell between double quotes; these characters do not survive that
SHELL_UNSAFE = frozenset('"$`\\\n\r')


@dataclass(frozen=True, slots=True)
class ServerRecord:
    """What is noted of a server that was started; the server's own files and its answer are the truth."""

    pid: int
    port: int
    started_at: str
    prepared: str = ""


@dataclass(frozen=True, slots=True)
class Places:
    """Directories outside SMS_DATA_DIR that hold files of this SMS_DATA_DIR."""

    postgres_home: str | None = None
    runtime: str | None = None


@dataclass(frozen=True, slots=True)
class Home:
    """The directory of PostgreSQL's files and the account that runs it (empty: the one that asks)."""

    path: Path
    run_as: RunAs

    @property
    def data(self) -> Path:
        """The cluster's data directory (PGDATA)."""
        return self.path / "data"


@contextlib.contextmanager
def usable(settings: Settings) -> Iterator[None]:
    """Turn any trouble with files below into one line that says what to do (Unavailable)."""
    try:
        yield
    except OSError as error:
        where = error.filename or settings.data_dir
        raise Unavailable(
            f"The data directory {settings.data_dir} cannot be used: {error.strerror or error} ({where}). "
            "Free space or mend its permissions, or point SMS_DATA_DIR to another directory.",
            code="data_dir",
        ) from error


def base(settings: Settings) -> Path:
    """SMS_DATA_DIR, absolute and without symbolic links."""
    return settings.data_dir.expanduser().resolve()


def run_file(settings: Settings, name: str) -> Path:
    """A file of the state of running servers: SMS_DATA_DIR/run/`name`."""
    return base(settings) / "run" / name


def remove_log(settings: Settings, server: str) -> None:
    """Delete a server's logs."""
    path = log_file(settings, server)
    for log in (path, path.with_suffix(".log.1")):
        log.unlink(missing_ok=True)


def log_file(settings: Settings, server: str) -> Path:
    """The path of a server's log."""
    return base(settings) / "logs" / f"{server}.log"


def fresh_log(settings: Settings, server: str) -> Path:
    """The log of a server about to start: there, and set aside first if it had passed 64 MB."""
    path = log_file(settings, server)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > 64 << 20:
        path.replace(path.with_suffix(".log.1"))
    path.touch(mode=0o600)
    return path


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=path.name, dir=path.parent)  # mode 0600
    with ExitStack() as undo:
        undo.callback(Path(name).unlink, missing_ok=True)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
        Path(name).replace(path)
        undo.pop_all()


def _read_json(path: Path) -> dict[str, object]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # absent, or cut short by a full disk: the truth is elsewhere
        return {}
    return value if isinstance(value, dict) else {}


def read_record(settings: Settings, server: str) -> ServerRecord | None:
    """The note of the server's last start, or None."""
    found = _read_json(run_file(settings, f"{server}.json"))
    try:
        return ServerRecord(**found)  # type: ignore[arg-type]
    except TypeError:
        return None


def write_record(settings: Settings, server: str, record: ServerRecord) -> None:
    """Note a server's pid and port in SMS_DATA_DIR/run."""
    write_private(run_file(settings, f"{server}.json"), json.dumps(asdict(record)))


def secret(settings: Settings, name: str) -> str:
    """The password SMS_DATA_DIR/secrets/`name` (hexadecimal), made on first use; only its owner may read it."""
    path = base(settings) / "secrets" / name
    with contextlib.suppress(FileNotFoundError):
        if found := path.read_text(encoding="ascii").strip():
            return found
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_private(path, secrets.token_hex(24))
    return path.read_text(encoding="ascii").strip()


def read_places(settings: Settings) -> Places:
    """The directories outside SMS_DATA_DIR that belong to it."""
    found = _read_json(run_file(settings, "places.json"))
    try:
        return Places(**found)  # type: ignore[arg-type]
    except TypeError:
        return Places()


def write_places(settings: Settings, places: Places) -> None:
    """Note the directories outside SMS_DATA_DIR."""
    write_private(run_file(settings, "places.json"), json.dumps(asdict(places)))


def is_shell_safe(path: Path) -> bool:
    """True when PostgreSQL's own tools can quote this path for a shell."""
    return not SHELL_UNSAFE & set(str(path))


def server_account(settings: Settings, data: Path) -> RunAs:
    """Who runs PostgreSQL: us, or, as root, the owner of existing files, else SMS_EMBEDDED__USER.

    Raises: InvalidInput when that account does not exist or is root's.
    """
    if os.geteuid() != 0:
        return {}
    with contextlib.suppress(OSError):
        owner = data.stat()
        if owner.st_uid != 0:
            return {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
    try:
        account = pwd.getpwnam(settings.embedded.user)
    except KeyError:
        account = None
    if account is None or account.pw_uid == 0:
        raise InvalidInput(
            f"PostgreSQL does not run as root and '{settings.embedded.user}' is not an unprivileged account here; "
            "set SMS_EMBEDDED__USER to one.",
            code="embedded_user",
        )
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def can_use(path: Path, run_as: RunAs) -> bool:
    """True when the account can enter `path` and write there; asked of the kernel, as modes do not tell all."""
    script = 'cd "$1" && test -w . && test -x .'
    asked = subprocess.run(
        ["/bin/sh", "-c", script, "sh", str(path)],
        check=False,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **run_as,
    )
    return asked.returncode == 0


def write_as(path: Path, text: str, run_as: RunAs) -> None:
    """Write a file in a server's directory as the server's account: root follows no link that it may have laid there.

    Raises: OSError with the reason.
    """
    written = subprocess.run(
        ["/bin/sh", "-c", 'umask 077; mkdir -p "${1%/*}"; cat > "$1"', "sh", str(path)],
        input=text.encode(),
        check=False,
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        **run_as,
    )
    if written.returncode != 0:
        reason = written.stderr.decode(errors="replace").strip().rpartition(": ")[2]
        raise OSError(errno.EIO, reason or "cannot be written", str(path))


def private_directory(settings: Settings, field: str, run_as: RunAs) -> Path:
    """A new directory outside SMS_DATA_DIR for `field` of Places, owned by the account, mode 0700, noted before made.

    Raises: Unavailable when neither /var/lib nor /var/tmp will do.
    """
    digest = hashlib.sha256(os.fsencode(base(settings))).hexdigest()[:12]
    for parent in (Path("/var/lib"), Path("/var/tmp"), Path(tempfile.gettempdir())):  # noqa: S108 - made 0700, exclusively
        for left in parent.glob(f"{PRIVATE_PREFIX}{digest}-*"):
            if str(left) not in asdict(read_places(settings)).values():
                get_logger("embedded").warning(
                    "left_behind", path=str(left), hint="of a deleted SMS_DATA_DIR; remove it if so"
                )
        path = parent / f"{PRIVATE_PREFIX}{digest}-{secrets.token_hex(4)}"
        if not os.access(parent, os.W_OK):
            continue
        write_places(settings, replace(read_places(settings), **{field: str(path)}))
        with contextlib.suppress(OSError):
            make_owned(path, run_as)
            if can_use(path, run_as):
                return path
            path.rmdir()
    write_places(settings, replace(read_places(settings), **{field: None}))
    raise Unavailable(
        f"The account that runs PostgreSQL can reach neither {settings.data_dir} nor /var/lib nor /var/tmp; "
        "point SMS_DATA_DIR to a directory that it can reach.",
        code="data_dir",
    )


def make_owned(path: Path, run_as: RunAs) -> None:
    """Make the directory `path`, if it is absent, for the account alone."""
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    if run_as and path.stat().st_uid != run_as["user"]:
        with contextlib.suppress(PermissionError):  # a file system without owners: found unusable by whoever asks
            os.chown(path, run_as["user"], run_as["group"])


def home_path(settings: Settings) -> Path:
    """Where PostgreSQL's files are or would be."""
    noted = read_places(settings).postgres_home
    return Path(noted) if noted else base(settings) / "postgres"


def postgres_home(settings: Settings) -> Home:
    """Where PostgreSQL's files are or would be, and who runs it; makes nothing."""
    path = home_path(settings)
    return Home(path, server_account(settings, path / "data"))


def prepare_home(settings: Settings) -> Home:
    """PostgreSQL's directory, made, and moved out of SMS_DATA_DIR when its account cannot reach it there.

    To be called under the server's lock, while it does not run.
    """
    home = postgres_home(settings)
    base(settings).mkdir(parents=True, exist_ok=True)
    make_owned(home.path, home.run_as)
    if not home.run_as or can_use(home.path, home.run_as):
        return home
    target = private_directory(settings, "postgres_home", home.run_as)
    if home.data.exists():  # reachable once, no longer: take the cluster along
        shutil.move(home.data, target / "data")
        _give(target / "data", home.run_as)
    shutil.rmtree(home.path, ignore_errors=True)
    get_logger("embedded").warning(
        "database_files_elsewhere",
        path=str(target),
        reason=f"the account that runs PostgreSQL cannot reach {settings.data_dir}",
        hint="`smsctl down --purge` removes them",
    )
    return Home(target, home.run_as)


def _give(tree: Path, run_as: RunAs) -> None:
    for folder, _, files in os.walk(tree):
        for path in (Path(folder), *(Path(folder) / name for name in files)):
            os.chown(path, run_as["user"], run_as["group"], follow_symlinks=False)


def remove_private(path: str | None) -> bool:
    """Delete a noted directory outside SMS_DATA_DIR; refuses (False) whatever we would not have made."""
    if not path or not Path(path).name.startswith(PRIVATE_PREFIX) or Path(path).is_symlink():
        return False
    shutil.rmtree(path, ignore_errors=True)
    return not Path(path).exists()
