"""The OpenAPI document reads well, for people and for programs that write clients out of it."""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import SecretStr

from app.api.problems import MEDIA_TYPE
from app.core.config import Settings
from app.main import create_app
from app.models.permission import Permission
from tests.house_support import hold

OPERATIONS = [
    "auth_login", "auth_refresh", "auth_logout", "auth_logout_everywhere", "auth_password_change", "auth_me",
    "auth_sessions_list", "auth_invitation_accept", "auth_keys", "second_factor_setup", "second_factor_confirm",
    "second_factor_disable", "users_list", "user_create", "user_get", "user_invite_again", "user_role_change",
    "user_disable", "user_enable", "user_second_factor_reset", "user_invite", "api_keys_list", "api_key_create",
    "api_key_revoke", "contacts_list", "contact_get", "migrations_list", "migration_get", "migration_report",
    "audit_events_list", "health_get", "health_ready", "metrics_get",
]  # fmt: skip
"""Names that clients have in their code. A new one is added; one that goes or changes breaks them."""
IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
SNAKE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
TYPESCRIPT = frozenset({
    "break", "case", "catch", "class", "const", "continue", "debugger", "default", "delete", "do", "else", "enum",
    "export", "extends", "false", "finally", "for", "function", "if", "import", "in", "instanceof", "new", "null",
    "return", "super", "switch", "this", "throw", "true", "try", "typeof", "var", "void", "while", "with", "yield",
    "let", "static", "implements", "interface", "package", "private", "protected", "public",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation of the document: `POST /path`, and what is said of it."""

    label: str
    method: str
    path: str
    said: Mapping[str, Any]

    @property
    def answers(self) -> dict[int, Any]:
        """Documented answers by status."""
        return {int(status): answer for status, answer in self.said["responses"].items()}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The document; nothing is connected to make it."""
    settings = Settings(_env_file=None, database_url=SecretStr("postgresql://nobody@127.0.0.1/none"))
    made: dict[str, Any] = json.loads(json.dumps(create_app(settings).openapi()))
    return made


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> list[Operation]:
    """All operations."""
    return [
        Operation(f"{method.upper()} {path}", method, path, said)
        for path, methods in document["paths"].items()
        for method, said in methods.items()
    ]


def resolved(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema that a reference means."""
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def without_example(document: Mapping[str, Any], schema: Mapping[str, Any], at: str) -> Iterator[str]:
    """Where a value of the schema has nothing to show: an example anywhere above or below is one."""
    schema = resolved(document, schema)
    if any(key in schema for key in ("examples", "example", "const", "enum", "default")):
        return
    if "properties" in schema:
        for name in schema.get("required", schema["properties"]):
            yield from without_example(document, schema["properties"][name], f"{at}.{name}")
    elif "items" in schema:
        yield from without_example(document, schema["items"], f"{at}[]")
    elif "anyOf" in schema:
        inner = [it for it in schema["anyOf"] if it.get("type") != "null"]
        yield from (line for it in inner for line in without_example(document, it, at))
    else:
        yield at


def contents(operation: Operation) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """(where, media type, content) of the request body and of every answer of success."""
    for kind, content in operation.said.get("requestBody", {}).get("content", {}).items():
        yield f"{operation.label} body", kind, content
    for status, answer in operation.answers.items():
        if status < 300:
            yield from (
                (f"{operation.label} {status}", kind, content) for kind, content in answer.get("content", {}).items()
            )


def test_names_of_operations_are_those_that_clients_know(operations: list[Operation]) -> None:
    assert [operation.said["operationId"] for operation in operations] == OPERATIONS
    assert len(set(OPERATIONS)) == len(OPERATIONS)


def test_operation_names_its_thing_and_what_is_done_with_it(operations: list[Operation]) -> None:
    names = {operation.said["operationId"]: operation for operation in operations}
    assert [name for name in names if not re.fullmatch(r"[a-z]+(_[a-z]+)+", name)] == []
    lists = {name for name, it in names.items() if it.method == "get" and "cursor" in str(it.said.get("parameters"))}
    assert lists == {name for name in names if name.endswith("_list")} - {"auth_sessions_list"}


def test_operation_is_said_in_words(document: dict[str, Any], operations: list[Operation]) -> None:
    tags = {tag["name"] for tag in document["tags"] if tag["description"]}
    found = []
    for operation in operations:
        said = operation.said
        if len(said["tags"]) != 1 or not set(said["tags"]) <= tags:
            found.append(f"{operation.label}: one tag of the list, not {said['tags']}")
        if not 2 <= len(said["summary"]) <= 40 or said["summary"].endswith("."):
            found.append(f"{operation.label}: summary {said['summary']!r}")
        if len(said["description"]) < 10 or not said["description"].endswith("."):
            found.append(f"{operation.label}: description {said['description']!r}")
    hold(found)
    assert {tag for operation in operations for tag in operation.said["tags"]} == tags


def test_parameter_is_said_in_words(operations: list[Operation]) -> None:
    hold(
        f"{operation.label}: {parameter['name']} has no description"
        for operation in operations
        for parameter in operation.said.get("parameters", ())
        if not parameter.get("description")
    )


def test_body_and_answer_have_an_example(document: dict[str, Any], operations: list[Operation]) -> None:
    hold(
        f"{where} ({kind}): no example of {at}"
        for operation in operations
        for where, kind, content in contents(operation)
        if not {"example", "examples"} & set(content)
        for at in list(without_example(document, content["schema"], "it"))[:3]
    )


def test_answer_of_success_says_what_it_is(operations: list[Operation]) -> None:
    found = []
    for operation in operations:
        good = [status for status in operation.answers if status < 300]
        if len(good) != 1:
            found.append(f"{operation.label}: {good} are answers of success")
        elif (good[0] == 204) != (not operation.answers[good[0]].get("content")):
            found.append(f"{operation.label}: {good[0]} with {list(operation.answers[good[0]].get('content', ()))}")
    hold(found)


def test_refusals_are_problems(operations: list[Operation]) -> None:
    problem = {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}
    found = []
    for operation in operations:
        wanted = {422, 429, 503} | ({401, 403} if operation.said["security"] else set())
        wanted |= {400, 408, 413, 415} if "requestBody" in operation.said else set()
        wanted |= {404} if "{" in operation.path else set()
        found += [f"{operation.label}: {status} is not documented" for status in wanted - set(operation.answers)]
        found += [
            f"{operation.label}: {status} is no problem document"
            for status, answer in operation.answers.items()
            if status >= 400 and answer["content"] != {MEDIA_TYPE: problem} and operation.path != "/health/ready"
        ]
    hold(found)


def test_operation_that_refuses_strangers_says_how_to_come(
    document: dict[str, Any], operations: list[Operation]
) -> None:
    schemes = set(document["components"]["securitySchemes"])
    found = []
    for operation in operations:
        permission, security = operation.said.get("x-permission"), operation.said["security"]
        if (403 in operation.answers) != bool(security):
            found.append(f"{operation.label}: answers 403 and has the security {security}")
        if permission is not None and not security:
            found.append(f"{operation.label}: permission {permission} and security {security}")
        if permission is not None and permission not in set(Permission):
            found.append(f"{operation.label}: there is no permission {permission}")
        found += [f"{operation.label}: no scheme {name}" for it in security for name in it if name not in schemes]
    hold(found)


def test_api_key_is_not_offered_where_none_is_taken(operations: list[Operation]) -> None:
    """`self` is a person's business: a key has it never."""
    hold(
        f"{operation.label}: says that an API key will do"
        for operation in operations
        if operation.said.get("x-permission") == Permission.SELF and {"api_key": []} in operation.said["security"]
    )


def test_every_schema_has_a_title(document: dict[str, Any], operations: list[Operation]) -> None:
    found = [f"{name}: no title" for name, it in document["components"]["schemas"].items() if not it.get("title")]
    for operation in operations:
        for where, kind, content in contents(operation):
            if not resolved(document, content["schema"]).get("title") and content["schema"].get("type") != "string":
                found.append(f"{where} ({kind}): no title")
        found += [
            f"{operation.label} {parameter['name']}: no title"
            for parameter in operation.said.get("parameters", ())
            if not parameter["schema"].get("title")
        ]
    hold(found)


def test_names_can_be_names_in_python_and_typescript(document: dict[str, Any], operations: list[Operation]) -> None:
    schemas = document["components"]["schemas"]
    names = [(f"schema {name}", name) for name in schemas]
    names += [(f"{name}.{it}", it) for name, schema in schemas.items() for it in schema.get("properties", {})]
    names += [(operation.label, operation.said["operationId"]) for operation in operations]
    names += [(it.label, parameter["name"]) for it in operations for parameter in it.said.get("parameters", ())]
    found = [f"{where}: {name} is no identifier" for where, name in names if not IDENTIFIER.fullmatch(name)]
    found += [f"{where}: {name} is a word of Python" for where, name in names if keyword.iskeyword(name)]
    found += [f"{where}: {name} is a word of TypeScript" for where, name in names if name in TYPESCRIPT]
    fields = [(where, name) for where, name in names if not where.startswith("schema ")]
    found += [f"{where}: {name} is not snake_case" for where, name in fields if not SNAKE.fullmatch(name)]
    hold(found)


def test_names_stay_different_when_a_client_writes_them_its_way(document: dict[str, Any]) -> None:
    """Operations in camelCase, schemas in PascalCase, values of an enum in UPPER_CASE."""
    for group in (OPERATIONS, list(document["components"]["schemas"])):
        plain = [re.sub(r"[^A-Za-z0-9]", "", name).lower() for name in group]
        assert len(set(plain)) == len(plain)
    for name, schema in document["components"]["schemas"].items():
        members = [re.sub(r"\W", "_", str(value)).upper() for value in schema.get("enum", ())]
        assert len(set(members)) == len(members), name
        assert [member for member in members if not member.isidentifier()] == [], name


def test_every_schema_is_used_and_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    used = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert used == set(document["components"]["schemas"])
