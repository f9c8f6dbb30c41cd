"""The parts of the documentation that are written from the code: `python -m tests.generated_docs` writes them anew.

Between `<!-- generated: NAME -->` and `<!-- end -->` a page is the generator's; the rest is a person's. A test holds
what is there equal to what this module would write.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from app.api.routes import PUBLIC, key_of
from app.api.v1.api import ROUTES
from app.core.config import PROJECT_ROOT, Settings
from app.core.deps import permission_of
from app.ingest.field_mapping import CONTACT_FIELDS, MISSING_LADA_FIELDS, STATISTICS_FIELDS, FieldMapping
from app.models.permission import ROLE_PERMISSIONS, WHAT_IT_ALLOWS, Permission
from app.models.user import Role
from tests.house_support import ROOT

SECTION = re.compile(r"(<!-- generated: ([\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)
PAGES = ("docs/settings.md", "docs/mapping.md", "docs/permissions.md")
ENV_EXAMPLE = ".env.example"
ENV_HEAD = """\
# Every setting, with its default. Copy to .env and take the # off what you change. docs/settings.md explains them.
# What is set in the environment wins over this file; SMS_ENV_FILE names another one.
"""


def environment_names() -> tuple[str, ...]:
    """The environment variable of every setting."""
    return tuple(name for _, group in _groups() for name, _ in group)


def _groups() -> Iterator[tuple[str, list[tuple[str, FieldInfo]]]]:
    """(what the group is about, its variables with their fields), the settings of no group first."""
    prefix, delimiter = Settings.model_config["env_prefix"], Settings.model_config["env_nested_delimiter"]
    own: list[tuple[str, FieldInfo]] = []
    below: list[tuple[str, list[tuple[str, FieldInfo]]]] = []
    for name, field in Settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            inner = [(f"{prefix}{name}{delimiter}{key}".upper(), it) for key, it in kind.model_fields.items()]
            below.append(((kind.__doc__ or name).strip(), inner))
        else:
            own.append((str(field.validation_alias or f"{prefix}{name}".upper()), field))
    yield "The platform.", own
    yield from below


def default_of(field: FieldInfo) -> str:
    """The default as it would be written in the environment; empty when there is none."""
    value = field.default
    if isinstance(value, Path):
        return str(value.relative_to(PROJECT_ROOT)) if value.is_relative_to(PROJECT_ROOT) else str(value)
    if isinstance(value, list):
        return json.dumps(value)
    return "" if value is None or value is PydanticUndefined else str(value)


def _allowed(field: FieldInfo) -> str:
    """The values that are taken, in words."""
    kind: Any = field.annotation
    if get_origin(kind) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(kind))
    names = {
        "int": "whole number",
        "float": "number",
        "str": "text",
        "Path": "path",
        "SecretStr": "text, kept out of logs",
        "list": "JSON list",
    }
    kinds = (getattr(it, "__name__", "") for it in (get_origin(kind) or kind, *get_args(kind)))
    words = next((names[it] for it in kinds if it in names), "text")
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    limits = [f"{sign} {getattr(it, key)}" for it in field.metadata for key, sign in signs.items() if hasattr(it, key)]
    return ", ".join([words, *limits])


def settings_tables() -> str:
    """The tables of docs/settings.md."""
    lines: list[str] = []
    for title, group in _groups():
        lines += [f"### {title.rstrip('.')}", "", "| variable | default | values | meaning |", "|---|---|---|---|"]
        for name, field in group:
            shown = f"`{default_of(field)}`" if default_of(field) else "none"
            lines.append(f"| `{name}` | {shown} | {_allowed(field)} | {field.description} |")
        lines.append("")
    return "\n".join(lines)


def env_example() -> str:
    """The text of .env.example."""
    lines = [ENV_HEAD]
    for title, group in _groups():
        lines.append(f"# {title}")
        lines += [f"# {field.description}\n#{name}={default_of(field)}" for name, field in group]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _mapping_table(fields: tuple[FieldMapping, ...]) -> str:
    lines = ["| source column | target | kept | what happens |", "|---|---|---|---|"]
    for field in fields:
        targets = ", ".join(f"`{name}`" for name in field.target_columns)
        kept = f"{field.max_length} characters" if field.max_length else ""
        lines.append(f"| `{field.source_column}` | {targets} | {kept} | {field.transformation} |")
    return "\n".join(lines) + "\n"


def permissions_table() -> str:
    """Permissions, what they allow, and who has them."""
    lines = [f"| permission | allows to | {' | '.join(Role)} |", f"|---|---|{'---|' * len(Role)}"]
    for permission in Permission:
        marks = ("yes" if permission in ROLE_PERMISSIONS[role] else "" for role in Role)
        lines.append(f"| `{permission}` | {WHAT_IT_ALLOWS[permission]} | {' | '.join(marks)} |")
    return "\n".join(lines) + "\n"


def routes_table() -> str:
    """Routes, what they are for, and what they need."""
    lines = ["| route | what it does | needs |", "|---|---|---|"]
    for route in ROUTES:
        permission = permission_of(route)
        if permission is not None:
            lines.append(f"| `{key_of(route)}` | {route.summary} | `{permission}` |")
    return "\n".join(lines) + "\n"


def public_table() -> str:
    """Routes that ask for nothing, and why."""
    lines = ["| route | why |", "|---|---|"]
    return "\n".join([*lines, *(f"| `{route}` | {reason} |" for route, reason in PUBLIC.items())]) + "\n"


WRITERS: dict[str, Callable[[], str]] = {
    "settings": settings_tables,
    "permissions": permissions_table,
    "routes": routes_table,
    "public routes": public_table,
    "contacts": lambda: _mapping_table(CONTACT_FIELDS),
    "source_statistics": lambda: _mapping_table(STATISTICS_FIELDS),
    "missing_ladas": lambda: _mapping_table(MISSING_LADA_FIELDS),
}


def generated(text: str) -> str:
    """`text` of a page with its generated sections written anew."""
    return SECTION.sub(lambda found: f"{found[1]}{WRITERS[found[2]]()}{found[3]}", text)


def main() -> None:
    """Write the generated parts into the tree."""
    for page in PAGES:
        path = ROOT / page
        path.write_text(generated(path.read_text(encoding="utf-8")), encoding="utf-8")
    (ROOT / ENV_EXAMPLE).write_text(env_example(), encoding="utf-8")


if __name__ == "__main__":
    main()
