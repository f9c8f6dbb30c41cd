"""Structured logs on standard error; personal data is masked before a line is written."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

PHONE = re.compile(r"(?<![\w.:-])(\+?\d{6,11})(\d{2})(?![\w.:-])")
PHONE_KEYS = frozenset(
    {"phone", "phone_e164", "phone_national", "phone_original", "numero", "full_name", "address", "nombre", "campo3"}
)

SENTENCE_KEYS = frozenset({"reason", "error"})
"""Sentences of other programs, which may quote a number."""


def mask_phone(text: str) -> str:
    """`text` with all but the last two digits of anything like a phone number hidden."""
    return PHONE.sub(lambda match: "*" * len(match[1]) + match[2], text)


def _mask(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key in PHONE_KEYS & event.keys():
        value = str(event[key])
        event[key] = "*" * max(len(value) - 2, 0) + value[-2:]
    for key in SENTENCE_KEYS & event.keys():
        event[key] = mask_phone(str(event[key]))
    return event


def configure_logs(level: str = "INFO", style: str = "console") -> None:
    """Set up structlog for this process. `style` is 'console' or 'json'."""
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _mask,
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level)),
        # Asked at each line: standard error may have been replaced since (a live display, a test).
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger whose lines carry `component=name`."""
    return structlog.get_logger(component=name)  # type: ignore[no-any-return]
