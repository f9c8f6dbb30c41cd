"""Which metrics an expression of PromQL names, and which ones app/core/metrics.py makes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.house_support import ROOT

METRICS = ROOT / "app/core/metrics.py"
OF_PROMETHEUS = frozenset({"up"})
"""Metrics that Prometheus itself writes."""
WORDS = frozenset({
    "and", "bool", "by", "group_left", "group_right", "ignoring", "inf", "nan", "offset", "on", "or", "unless", "without",
})  # fmt: skip
SUFFIXES = {
    "Counter": ("_total", "_created"),
    "Histogram": ("_bucket", "_sum", "_count", "_created"),
    "Summary": ("_sum", "_count", "_created"),
    "Gauge": ("",),
    "Info": ("_info",),
    "CounterMetricFamily": ("_total",),
    "GaugeMetricFamily": ("",),
    "HistogramMetricFamily": ("_bucket", "_sum", "_count"),
    "InfoMetricFamily": ("_info",),
}


def metrics_in(expression: str) -> set[str]:
    """The metrics that an expression reads. Strings, selectors, ranges and lists of labels are left out."""
    text = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]', " ", expression)
    text = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", text)
    names = re.findall(r"(?<![\w.$])[a-zA-Z_:][\w:]*(?!\w*\s*\()(?![\w:])", text)
    return {name for name in names if name.lower() not in WORDS}


def metrics_of_the_code() -> set[str]:
    """Every time series that app/core/metrics.py makes, under the names that Prometheus stores."""
    return {f"{name}{suffix}" for kind, name in _made() for suffix in SUFFIXES[kind]}


def _made() -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(METRICS.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and node.args:
            kind = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            first = node.args[0]
            if kind in SUFFIXES and isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield kind, first.value.removesuffix("_total") if kind.startswith("Counter") else first.value
