"""What /metrics tells. With several processes they share files in PROMETHEUS_MULTIPROC_DIR, set before this is imported."""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

MULTIPROCESS_DIR = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
DURATIONS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

TRIES = 5
"""Reads of the other processes' files until they are whole."""

REGISTRY = CollectorRegistry()

REQUESTS = Counter(
    "sms_http_requests", "Requests answered, by method, route template and status.", ("method", "route", "status"),
    registry=REGISTRY,
)  # fmt: skip
SECONDS = Histogram(
    "sms_http_request_duration_seconds", "Time from the request's head to the end of its answer.", ("method", "route"),
    buckets=DURATIONS_S, registry=REGISTRY,
)  # fmt: skip
IN_FLIGHT = Gauge("sms_http_requests_in_flight", "Requests under way.", registry=REGISTRY, multiprocess_mode="livesum")
POOL_IN_USE = Gauge(
    "sms_db_pool_in_use", "Database connections in use by requests.", registry=REGISTRY, multiprocess_mode="livesum"
)
POOL_SIZE = Gauge(
    "sms_db_pool_size", "Database connections that may be in use.", registry=REGISTRY, multiprocess_mode="livesum"
)
LIMITER_DEGRADED = Gauge(
    "sms_limiter_degraded", "1 while limits are counted in each process, for want of Valkey.", registry=REGISTRY,
    multiprocess_mode="livemax",
)  # fmt: skip
LIMITED = Counter(
    "sms_http_requests_limited", "Requests refused by a limit, by its name.", ("limit",), registry=REGISTRY
)
FAULTS = Counter("sms_http_faults", "Requests that ended in an unexpected error.", ("route",), registry=REGISTRY)


def exposition() -> bytes:
    """All metrics of all processes of the service, in the text format of Prometheus."""
    directory = os.environ.get(MULTIPROCESS_DIR)
    if not directory:
        return generate_latest(REGISTRY)
    shared = CollectorRegistry()
    MultiProcessCollector(shared, path=directory)  # type: ignore[no-untyped-call]
    for _ in range(TRIES - 1):
        # A process that starts makes its files before it fills them, and one that ended has its own removed.
        with suppress(struct.error, FileNotFoundError):
            return generate_latest(shared)
    return generate_latest(shared)


def forget_dead_processes() -> None:
    """Leave gauges of processes that are gone out of the sums; does nothing outside of multi-process mode."""
    directory = os.environ.get(MULTIPROCESS_DIR)
    if not directory:
        return
    pids = {path.stem.rpartition("_")[2] for path in Path(directory).glob("gauge_live*_*.db")}
    for pid in pids:
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            mark_process_dead(int(pid), path=directory)  # type: ignore[no-untyped-call]
