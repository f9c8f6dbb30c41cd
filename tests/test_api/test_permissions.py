"""Every route with every role, from the code's own table; and the short list of routes that ask for nothing."""

from __future__ import annotations

import inspect
import re
from uuid import uuid4

import httpx2
import pytest
from fastapi.routing import APIRoute
from pydantic import SecretStr

from app.api.routes import PUBLIC, key_of
from app.api.v1.api import ROUTES
from app.core.deps import permission_of
from app.core.errors import InvalidInput
from app.main import create_app
from app.models.permission import ROLE_PERMISSIONS, Permission
from app.models.user import Role
from tests.test_api.support import Service, address, settings_for

GUARDED = [route for route in ROUTES if permission_of(route) is not None]


def ask(api: Service, route: APIRoute, headers: dict[str, str]) -> httpx2.Response:
    """A request to a route about an object that does not exist, with no body."""
    path = re.sub(
        r"\{(\w+)\}", lambda found: "999999" if found[1] in ("contact_id", "run_id") else str(uuid4()), route.path
    )
    return api.client.request(next(iter(route.methods or ())), path, headers={"X-Forwarded-For": address()} | headers)


def test_every_route_asks_for_a_permission_or_is_on_the_list(api: Service) -> None:
    app = create_app(api.settings)
    public = {key_of(it) for it in app.routes if not isinstance(it, APIRoute) or permission_of(it) is None}
    assert public == set(PUBLIC)


def test_operations_have_stable_names() -> None:
    names = [route.operation_id for route in ROUTES if route.include_in_schema]
    assert len(names) == len(set(names))
    assert [name for name in names if not re.fullmatch(r"[a-z]+(_[a-z]+)+", str(name))] == []


def test_endpoints_only_parse_call_and_answer() -> None:
    lengths = {
        route.name: len(inspect.getsource(route.endpoint).split("async def", 1)[1].splitlines()) for route in ROUTES
    }
    assert {name: lines for name, lines in lengths.items() if lines > 15} == {}


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("route", GUARDED, ids=key_of)
def test_role_may_exactly_what_the_table_says(api: Service, route: APIRoute, role: Role) -> None:
    permission = permission_of(route)
    assert permission is not None
    account = api.accounts[role]
    answer = ask(api, route, {"Authorization": f"Bearer {api.token(role)}"})
    if "logout" in route.path:
        api.tokens.pop(role)
    if permission in ROLE_PERMISSIONS[role]:
        assert answer.status_code not in (401, 403, 405), (account.email, answer.text)
        assert answer.status_code < 500
    else:
        assert answer.status_code == 403
        assert answer.json()["code"] == "forbidden"


@pytest.mark.parametrize("route", GUARDED, ids=key_of)
@pytest.mark.parametrize(
    "header",
    [None, "Bearer", "Bearer ", "Basic YTpi", "Bearer nonsense", f"Bearer {'x' * 5000}", "bearer sms_nonsense"],
)
def test_route_is_closed_to_whoever_is_not_known(api: Service, route: APIRoute, header: str | None) -> None:
    answer = ask(api, route, {"Authorization": header} if header else {})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer realm=")


def test_refused_permission_goes_on_record(api: Service) -> None:
    api.ask("GET", "/api/v1/audit", Role.ANALYST, headers={"X-Request-ID": "refused-and-noted"})
    events = api.ask("GET", "/api/v1/audit?action=access.refuse&limit=200", Role.COMPLIANCE).json()["items"]
    mine = next(event for event in events if event["request_id"] == "refused-and-noted")
    assert (mine["result"], mine["object_id"]) == ("refused", "audit:read")
    assert mine["actor"] == api.accounts[Role.ANALYST].email
    assert mine["detail"]["route"] == "GET /api/v1/audit"


def test_document_names_the_permission_and_how_to_sign_in(api: Service) -> None:
    document = api.ask("GET", "/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert "contact" not in document["info"]
    assert document["servers"]
    schemes = document["components"]["securitySchemes"]
    assert schemes["password"]["flows"]["password"]["tokenUrl"] == "/api/v1/auth/login"
    assert schemes["api_key"]["scheme"] == "bearer"
    for route in ROUTES:
        if not route.include_in_schema:
            continue
        operation = document["paths"][route.path][next(iter(route.methods or ())).lower()]
        permission = permission_of(route)
        ways: list[dict[str, list[str]]] = [{"password": []}, {"api_key": []}]
        if route.path == "/metrics":  # its token or this permission
            permission, ways = Permission.METRICS_READ, ways[1:]
        elif permission is Permission.SELF:  # no key has it
            ways = ways[:1]
        assert operation.get("x-permission") == permission
        assert operation["security"] == ([] if permission is None else ways)
        assert operation["operationId"] == route.operation_id
        assert operation["summary"]
        assert operation["description"]
        assert len(operation["tags"]) == 1


def test_document_describes_problems_and_has_an_example_of_every_field(api: Service) -> None:
    document = api.ask("GET", "/openapi.json").json()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for status, answer in operation["responses"].items():
                if int(status) >= 400 and path != "/health/ready":
                    assert list(answer["content"]) == ["application/problem+json"], (path, method, status)
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', api.ask("GET", "/openapi.json").text))
    assert names <= set(document["components"]["schemas"])
    bare = [
        f"{name}.{field}"
        for name, schema in document["components"]["schemas"].items()
        if name.endswith(("In", "Out"))
        for field, shape in schema.get("properties", {}).items()
        if "examples" not in shape and "$ref" not in shape and "items" not in shape
    ]
    assert bare == []


def test_api_key_may_what_its_scopes_and_its_owner_may(api: Service) -> None:
    body = {"name": "reads", "scopes": [Permission.CONTACTS_READ], "days": 1}
    made = api.ask("POST", "/api/v1/api-keys", Role.ADMIN, json=body)
    assert made.status_code == 201, made.text
    key = {"Authorization": f"Bearer {made.json()['key']}"}
    contact = api.ask("GET", "/api/v1/contacts/1", headers=key)
    assert contact.status_code == 200
    assert contact.json()["is_masked"] is True
    assert api.ask("GET", "/api/v1/users", headers=key).status_code == 403
    assert api.ask("GET", "/api/v1/auth/me", headers=key).status_code == 403


def test_settings_of_production_refuse_secrets_that_anybody_knows(api: Service, valkey_url: str) -> None:
    base = settings_for(api.settings, api.database_url, valkey_url).model_copy(update={"environment": "production"})
    good = SecretStr("9f3c7a1e5b8d2046" * 3)
    strong = SecretStr("postgresql://sms:4f9a1c7be02d@127.0.0.1/sms")
    create_app(base.model_copy(update={"secret_key": good, "database_url": strong}))
    for change in (
        {"secret_key": None},
        {"secret_key": SecretStr("short")},
        {"secret_key": SecretStr("a" * 64)},
        {"secret_key": SecretStr("change-me-change-me-change-me-0123456789")},
        {"database_url": SecretStr("postgresql://sms:postgres@127.0.0.1/sms")},
        {"database_url": SecretStr("postgresql://sms@127.0.0.1/sms")},
        {"database_url": None},
        {"api": base.api.model_copy(update={"metrics_token": SecretStr("secret")})},
    ):
        with pytest.raises(InvalidInput):
            create_app(base.model_copy(update={"secret_key": good, "database_url": strong, **change}))
