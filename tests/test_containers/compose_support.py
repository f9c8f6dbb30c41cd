"""What the tests know of the Compose specification: a strict schema of the part that is used, and who refers to whom.

The schema knows fewer keys than the specification: a key that is misspelt, or that nobody has thought about here, fails.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from tests.house_support import ROOT

COMPOSE = ROOT / "docker-compose.yml"
Node = dict[str, Any]

NAME = "^[a-z0-9][a-z0-9_.-]*$"
DURATION = "^([0-9]+(us|ms|s|m|h))+$"
SIZE = "^[0-9]+(b|k|m|g|kb|mb|gb)$"
UNIT = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
INTERPOLATED = re.compile(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::?-([^}]*))?\}")

TEXT: Node = {"type": "string", "minLength": 1}
BOOLEAN: Node = {"type": "boolean"}
NAMES: Node = {"type": "array", "items": {"type": "string", "pattern": NAME}, "uniqueItems": True, "minItems": 1}
TEXTS: Node = {"type": "array", "items": TEXT, "minItems": 1}


def _object(required: tuple[str, ...] = (), **known: Node) -> Node:
    return {
        "type": "object",
        "properties": known,
        "required": list(required),
        "additionalProperties": False,
        "minProperties": 1,
    }


def _named(value: Node) -> Node:
    return {"type": "object", "propertyNames": {"pattern": NAME}, "additionalProperties": value, "minProperties": 1}


def _text(pattern: str) -> Node:
    return {"type": "string", "pattern": pattern}


EMPTY: Node = {"type": "object", "maxProperties": 0}
ENVIRONMENT: Node = {
    "type": "object",
    "propertyNames": {"pattern": "^[A-Z][A-Z0-9_]*$"},
    "additionalProperties": {"type": ["string", "number"]},  # a bare true would reach the program as "True" or "true"
}
HEALTHCHECK: Node = {
    "oneOf": [
        _object(("disable",), disable={"const": True}),
        _object(
            ("test", "interval", "timeout", "retries"),
            test={"type": "array", "prefixItems": [{"enum": ["CMD", "CMD-SHELL"]}], "items": TEXT, "minItems": 2},
            interval=_text(DURATION),
            timeout=_text(DURATION),
            start_period=_text(DURATION),
            retries={"type": "integer", "minimum": 1},
        ),
    ]
}
LIMITS = _object(
    ("cpus", "memory", "pids"), cpus=_text(r"^[0-9]+(\.[0-9]+)?$"), memory=_text(SIZE), pids={"type": "integer"}
)
DEPLOY = _object(
    ("resources",),
    replicas={"anyOf": [{"type": "integer"}, _text(r"^\$\{[A-Z_]+:-[0-9]+\}$")]},
    resources=_object(("limits",), limits=LIMITS),
)
CONDITION: Node = {"enum": ["service_started", "service_healthy", "service_completed_successfully"]}
BIND = _object(
    ("type", "source", "target", "read_only"), type={"const": "bind"}, source=TEXT, target=TEXT, read_only=BOOLEAN
)
SERVICE = _object(
    ("image", "restart", "logging", "deploy"),
    image=TEXT,
    build=_object(("context", "dockerfile"), context=TEXT, dockerfile=TEXT, target=TEXT),
    user=_text("^[0-9]+:[0-9]+$"),
    entrypoint=TEXTS,
    command=TEXTS,
    environment=ENVIRONMENT,
    secrets=NAMES,
    configs={"type": "array", "items": _object(("source", "target"), source=TEXT, target=_text("^/"))},
    volumes={"type": "array", "items": {"anyOf": [_text(r"^[a-z0-9_]+:/[^:]+(:ro)?$"), BIND]}},
    tmpfs={"type": "array", "items": _text(r"^/[^:]+(:[a-z]+=[a-z0-9]+(,[a-z]+=[a-z0-9]+)*)?$")},
    shm_size=_text(SIZE),
    networks={"anyOf": [NAMES, _named({"anyOf": [EMPTY, _object(ipv4_address=_text(r"^[0-9.]+$"))]})]},
    ports={"type": "array", "items": _text(r"^([0-9.]+:)?[0-9]+:[0-9]+$"), "minItems": 1},
    depends_on=_named(_object(("condition",), condition=CONDITION)),
    healthcheck=HEALTHCHECK,
    profiles=NAMES,
    restart={"enum": ["no", "always", "on-failure", "unless-stopped"]},
    init=BOOLEAN,
    read_only=BOOLEAN,
    cap_drop=TEXTS,
    cap_add=TEXTS,
    security_opt=TEXTS,
    stop_signal=_text("^SIG[A-Z]+$"),
    stop_grace_period=_text(DURATION),
    logging=_object(("driver",), driver=TEXT, options={"type": "object", "additionalProperties": TEXT}),
    deploy=DEPLOY,
)
POOL = _object(("subnet",), subnet=TEXT, ip_range=TEXT)
NETWORK: Node = {
    "anyOf": [EMPTY, _object(internal=BOOLEAN, ipam=_object(("config",), config={"type": "array", "items": POOL}))]
}
FILE = _object(("file",), file=_text(r"^\./"))
SCHEMA: Node = {
    **_object(
        ("name", "services"),
        name=_text(NAME),
        services=_named(SERVICE),
        networks=_named(NETWORK),
        volumes=_named(EMPTY),
        configs=_named(FILE),
        secrets=_named(FILE),
    ),
    "patternProperties": {"^x-": {}},
}


class _Strict(yaml.SafeLoader):  # type: ignore[misc]
    """A loader that takes no key twice: the second would win, silently."""


def _mapping(loader: Any, node: Any) -> Node:
    own = [key.value for key, _ in node.value if key.value != "<<"]
    twice = {key for key in own if own.count(key) > 1}
    if twice:
        raise ValueError(f"line {node.start_mark.line + 1}: {', '.join(sorted(twice))} twice")
    loader.flatten_mapping(node)
    made: Node = loader.construct_mapping(node, deep=True)
    return made


_Strict.add_constructor("tag:yaml.org,2002:map", _mapping)


def load(text: str | None = None) -> Node:
    """docker-compose.yml, or `text`, with its merges resolved. Raises: ValueError for a key that stands twice."""
    loaded: Node = yaml.load(text or COMPOSE.read_text(encoding="utf-8"), Loader=_Strict)  # noqa: S506 - a SafeLoader
    return loaded


def structure(compose: Node) -> list[str]:
    """What the schema has against `compose`."""
    errors = Draft202012Validator(SCHEMA).iter_errors(compose)
    return [f"{'.'.join(str(step) for step in error.absolute_path)}: {error.message}" for error in errors]


def networks_of(service: Node) -> list[str]:
    """The networks a service stands in."""
    return list(service.get("networks", ()))


def volumes_of(service: Node) -> Iterator[str]:
    """The named volumes a service mounts."""
    return (it.partition(":")[0] for it in service.get("volumes", ()) if isinstance(it, str))


def binds_of(service: Node) -> Iterator[str]:
    """The places of the project that a service mounts."""
    return (it["source"] for it in service.get("volumes", ()) if isinstance(it, dict))


REFERENCES: dict[str, Callable[[Node], list[str]]] = {
    "networks": networks_of,
    "volumes": lambda service: list(volumes_of(service)),
    "secrets": lambda service: service.get("secrets", []),
    "configs": lambda service: [it["source"] for it in service.get("configs", ())],
}


def references(compose: Node) -> list[str]:
    """What is referred to and not there, or there and never referred to."""
    found = []
    for kind, of in REFERENCES.items():
        declared = set(compose.get(kind, {}))
        used = {name: service for service, body in compose["services"].items() for name in of(body)}
        found += [f"{used[name]}: there is none of {kind} named {name}" for name in sorted(set(used) - declared)]
        found += [f"{kind}.{name}: nobody uses it" for name in sorted(declared - set(used))]
    return found + list(_dependencies(compose["services"]))


def _dependencies(services: Node) -> Iterator[str]:
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            if other not in services:
                yield f"{name}: waits for {other}, which is no service"
                continue
            profiles = services[other].get("profiles")
            if profiles and not set(service.get("profiles", ())) & set(profiles):
                yield f"{name}: waits for {other}, which only starts with a profile"
            if how["condition"] == "service_completed_successfully" and services[other]["restart"] != "no":
                yield f"{name}: waits for the end of {other}, which is started again"
            if how["condition"] == "service_healthy" and not has_healthcheck(services[other]):
                yield f"{name}: waits for the health of {other}, which is not checked"


def has_healthcheck(service: Node) -> bool:
    """Whether the health of a service is checked: here, or by the image that is built here."""
    check = service.get("healthcheck")
    if check is None and "build" in service:
        return "\nHEALTHCHECK --" in (ROOT / service["build"]["dockerfile"]).read_text(encoding="utf-8")
    return check is not None and "disable" not in check


def bytes_of(size: str) -> int:
    """512m → 536870912."""
    number, unit = re.fullmatch(r"([0-9]+)([a-z]*)", size.lower()).groups()  # type: ignore[union-attr]
    return int(number) * UNIT[unit.rstrip("b")]


def seconds_of(duration: str) -> int:
    """1m30s → 90."""
    return sum(
        int(number) * {"s": 1, "m": 60, "h": 3600}[unit] for number, unit in re.findall(r"(\d+)([smh])", duration)
    )


def interpolated(value: Any, given: dict[str, str] | None = None) -> str:
    """`value` as a container gets it: ${NAME:-default} replaced, $$ become $."""

    def replaced(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        return (given or {}).get(found[1]) or found[2] or ""

    return INTERPOLATED.sub(replaced, str(value))


def variables_of(text: str) -> set[str]:
    """The names that Compose itself puts in, from the environment or from .env."""
    return {found[1] for found in INTERPOLATED.finditer(text) if found[1]}


def project_file(path: str) -> Path:
    """A path of the Compose file, on this disk."""
    return ROOT / path
