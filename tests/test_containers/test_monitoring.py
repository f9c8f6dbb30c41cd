"""Prometheus and Grafana get files that they can read, and every metric in them is one that the code makes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from app.core.config import ApiSettings
from tests.house_support import ROOT, hold
from tests.test_containers.compose_support import Node, load
from tests.test_containers.promql_support import OF_PROMETHEUS, metrics_in, metrics_of_the_code

PROMETHEUS = ROOT / "docker/prometheus"
GRAFANA = ROOT / "docker/grafana"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))
DURATION = re.compile(r"[0-9]+(ms|s|m|h|d)")
RULE_KEYS = {"alert", "expr", "for", "labels", "annotations"}
SEVERITIES = {"page", "ticket"}


def read(name: str) -> Any:
    return yaml.safe_load((PROMETHEUS / name).read_text(encoding="utf-8"))


def rules() -> list[Node]:
    return [rule for group in read("alerts.yml")["groups"] for rule in group["rules"]]


def dashboard() -> Node:
    (path,) = DASHBOARDS
    found: Node = json.loads(path.read_text(encoding="utf-8"))
    return found


def expressions() -> Iterator[tuple[str, str]]:
    """(where, expression) of every alert and every panel."""
    yield from ((f"alerts.yml: {rule['alert']}", rule["expr"]) for rule in rules())
    for panel in dashboard()["panels"]:
        yield from ((f"dashboard: {panel['title']}", target["expr"]) for target in panel["targets"])


def test_the_api_is_asked_inside_with_the_token() -> None:
    job = next(it for it in read("prometheus.yml")["scrape_configs"] if it["job_name"] == "api")
    services = load()["services"]
    secret = job["authorization"]["credentials_file"].removeprefix("/run/secrets/")
    assert secret in services["prometheus"]["secrets"]
    assert secret in services["api"]["secrets"]
    (found,) = job["dns_sd_configs"]
    assert found["port"] == ApiSettings().port
    assert set(found["names"]) <= set(services)
    assert set(services["api"]["networks"]) & set(services["prometheus"]["networks"])


def test_files_that_prometheus_reads_are_mounted_where_it_looks() -> None:
    service = load()["services"]["prometheus"]
    mounted = {it["target"] for it in service["configs"]}
    named = {*read("prometheus.yml")["rule_files"], *re.findall(r"--config\.file=(\S+)", " ".join(service["command"]))}
    assert mounted == named


def test_alerts_are_complete_and_say_what_to_do() -> None:
    assert rules()
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names))
    found = []
    for rule in rules():
        wrong = set(rule) ^ RULE_KEYS
        wrong |= set() if DURATION.fullmatch(rule["for"]) else {"for"}
        wrong |= set() if rule["labels"].get("severity") in SEVERITIES else {"severity"}
        wrong |= {"summary", "action"} - set(rule["annotations"])
        found += [f"docker/prometheus/alerts.yml:1: {rule['alert']}: {it}" for it in wrong]
    hold(found)


def test_every_metric_is_made_by_the_code() -> None:
    known = metrics_of_the_code() | OF_PROMETHEUS
    hold(f"{where}: {name} is no metric" for where, text in expressions() for name in metrics_in(text) - known)


def test_brackets_of_every_expression_match() -> None:
    pairs = {")": "(", "]": "[", "}": "{"}
    for where, text in expressions():
        open_ones: list[str] = []
        for char in re.sub(r'"[^"]*"', "", text):
            if char in pairs.values():
                open_ones.append(char)
            elif char in pairs:
                assert open_ones, where
                assert open_ones.pop() == pairs[char], where
        assert open_ones == [], where


def test_the_dashboard_shows_what_the_service_lives_by() -> None:
    shown = " ".join(f"{panel['title']} {panel['description']}".lower() for panel in dashboard()["panels"])
    for word in ("requests", "5xx", "latency", "in flight", "pool", "degraded"):
        assert word in shown, word
    quantiles = " ".join(text for _, text in expressions())
    assert all(f"histogram_quantile({q}" in quantiles for q in ("0.5", "0.95", "0.99"))


def test_panels_are_told_apart_and_do_not_cover_each_other() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_dashboard_is_provisioned_with_the_source_it_asks() -> None:
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text(encoding="utf-8"))[
        "datasources"
    ]
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/sms.yml").read_text(encoding="utf-8"))["providers"]
    used = {target["datasource"]["uid"] for panel in dashboard()["panels"] for target in panel["targets"]}
    assert used == {source["uid"]}
    binds = {it["target"]: it["source"] for it in load()["services"]["grafana"]["volumes"] if isinstance(it, dict)}
    assert binds[provider["options"]["path"]] == "./docker/grafana/dashboards"
    assert binds["/etc/grafana/provisioning"] == "./docker/grafana/provisioning"
    assert source["url"] == "http://prometheus:9090"


@pytest.mark.parametrize(
    ("expression", "named"),
    [
        ('histogram_quantile(0.9, sum by (le, route) (rate(a_bucket{x=~"$r"}[5m])))', {"a_bucket"}),
        ("sum(rate(a_total[$__rate_interval])) / on (job) b > 0.5 unless up == 0", {"a_total", "b", "up"}),
        ("sum(c offset 5m) without (x) or vector(0)", {"c"}),
    ],
)
def test_metrics_are_found_in_expressions(expression: str, named: set[str]) -> None:
    assert metrics_in(expression) == named
