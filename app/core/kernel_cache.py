"""Where numba keeps its compiled functions: one directory per state of the sources.

numba compares the file of a function with its cache, not the files that the function calls into: after an edit of one
kernel, others would go on with the machine code of yesterday. So the directory's name is a hash over all of them.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

APP = Path(__file__).resolve().parents[1]
COMPILED = ("ingest/kernels/*.py", "ingest/synthetic/*.py", "utils/numbering_plan.py")


def use_kernel_cache() -> None:
    """Point numba at this state's directory, unless NUMBA_CACHE_DIR is set; before numba is imported."""
    if "NUMBA_CACHE_DIR" in os.environ:
        return
    digest = hashlib.sha256()
    for pattern in COMPILED:
        for path in sorted(APP.glob(pattern)):
            digest.update(path.read_bytes())
    name = f"kernels-{digest.hexdigest()[:16]}"
    os.environ["NUMBA_CACHE_DIR"] = str(next(place for place in _places(name) if _is_writable(place)))


def _places(name: str) -> Iterator[Path]:
    yield APP / "__pycache__" / name
    yield Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sms-marketing" / name
    yield Path(tempfile.mkdtemp(prefix="sms-kernels-"))


def _is_writable(place: Path) -> bool:
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(place, os.W_OK)
