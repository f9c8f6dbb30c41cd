"""What a measurement was made on, and what it cost: the machine, its processor time, the client's and PostgreSQL's."""

from __future__ import annotations

import os
import platform
import resource
import time
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it ran. Units: memory in GiB; load average of the minute before the first measurement."""

    processor: str
    cores: int
    memory_gib: float
    kernel: str
    python: str
    load_before: float


@dataclass(frozen=True, slots=True)
class Usage:
    """What one timed region took. Units: seconds; processor seconds.

    `server_cpu_s` counts every process of PostgreSQL, also those that ended; None where the server is on another machine.
    `other_cpu_s`: what all other processes (and the hypervisor) took meanwhile: a run that had company says so.
    """

    seconds: float
    client_cpu_s: float
    server_cpu_s: float | None
    other_cpu_s: float | None
    peak_rss_mb: float | None = None


def this_machine() -> Machine:
    """The machine as it is now."""
    return Machine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        kernel=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        load_before=round(os.getloadavg()[0], 2),
    )


def _processor() -> str:
    for line in (PROC / "cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _times_of(pid: int) -> tuple[float, float]:
    """(its own processor seconds, those of its children that ended); zeros when it is gone."""
    try:
        fields = (PROC / str(pid) / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0, 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS, (int(fields[13]) + int(fields[14])) / TICKS


def _children(pid: int) -> list[int]:
    try:
        text = (PROC / str(pid) / "task" / str(pid) / "children").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [int(word) for word in text.split()]


def tree_cpu(postmaster: int) -> float:
    """Processor seconds of `postmaster` and all its children so far, with those that have ended."""
    while True:
        own, ended = _times_of(postmaster)
        living = sum(_times_of(child)[0] for child in _children(postmaster))
        if _times_of(postmaster)[1] == ended:  # nobody ended between: nothing is counted twice or not at all
            return own + ended + living


def _busy() -> float:
    """Processor seconds of the whole machine that were not idle."""
    words = (PROC / "stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(word) for word in words[:8])
    return (user + nice + system + irq + softirq + steal) / TICKS


def _client() -> float:
    """Processor seconds of this process and the children it waited for."""
    mine, ended = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return mine.ru_utime + mine.ru_stime + ended.ru_utime + ended.ru_stime


class Stopwatch:
    """Starts when made; `stop` tells what was used since."""

    def __init__(self, postmaster: int | None) -> None:
        self._postmaster = postmaster
        self._server = tree_cpu(postmaster) if postmaster else 0.0
        self._all, self._client = _busy(), _client()
        self._began = time.perf_counter()

    def stop(self, peak_rss_mb: float | None = None) -> Usage:
        """Wall and processor seconds since the start."""
        seconds = time.perf_counter() - self._began
        client, everything = _client() - self._client, _busy() - self._all
        if self._postmaster is None:
            return Usage(seconds, client, None, None, peak_rss_mb)
        server = tree_cpu(self._postmaster) - self._server
        return Usage(seconds, client, server, max(everything - client - server, 0.0), peak_rss_mb)
