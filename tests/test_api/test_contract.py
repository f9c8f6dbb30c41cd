"""The OpenAPI document is kept to: requests made from it, valid and not, from everybody, against the application itself.

SMS_FUZZ_EXAMPLES (default 6) is how many requests are drawn for each operation and asker, besides those of the document's
examples and, for the administrator and for nobody, one for each limit of each value.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from schemathesis import CheckFunction, Config
from schemathesis.core.result import Err, Ok
from schemathesis.generation.hypothesis.builder import HypothesisTestConfig, HypothesisTestMode, create_test
from schemathesis.python import asgi
from schemathesis.schemas import APIOperation, BaseSchema
from schemathesis.specs.openapi.checks import positive_data_acceptance

from app.core.config import Settings
from app.core.logs import configure_logs
from app.main import create_app
from app.models.user import Role
from tests.test_api.contract_support import Asker, From, Request, add_run, code_of
from tests.test_api.support import Service, fill_contacts, service, settings_for

Operation = APIOperation[Any, Any, Any, Any]
EXAMPLES = int(os.environ.get("SMS_FUZZ_EXAMPLES", "6"))
SEED = 20_261
AT_EVERY_LIMIT = (Role.ADMIN, None)
BEYOND_A_SCHEMA = frozenset(
    {
        "api_key_name",
        "cursor_invalid",
        "instant_range",
        "name_invalid",
        "nul_character",
        "password_weak",
        "text_not_storable",
    }
)
"""Codes of values that a schema cannot tell from good ones: signed, not printable, well known, or of a calendar."""


@pytest.fixture(autouse=True)
def _logs() -> None:
    """Lines about what is wrong: thousands of requests are none."""
    configure_logs("ERROR", "json")


@pytest.fixture(scope="module")
def stage(settings: Settings, module_database_url: str, valkey_url: str) -> Iterator[tuple[Service, From, int]]:
    """A service that helps, the application that is asked (over the same database), and a run of the migration."""
    fill_contacts(module_database_url, 120)
    run_id = add_run(module_database_url)
    with service(settings_for(settings, module_database_url, valkey_url)) as made:
        yield made, From(create_app(made.settings)), run_id
        asgi.shutdown_lifespans()


@pytest.fixture(params=[*Role, None], ids=lambda role: role or "nobody")
def asker(request: pytest.FixtureRequest, stage: tuple[Service, From, int]) -> Asker:
    """Each of those who ask."""
    made = Asker(stage[0], request.param, stage[2])
    made.sign_in()
    return made


@pytest.fixture
def document(stage: tuple[Service, From, int], asker: Asker) -> BaseSchema:
    """The document as the application serves it, and how requests are made from it."""
    config = Config(seed=SEED)
    schema = schemathesis.openapi.from_asgi("/openapi.json", stage[1], config=config)
    schema.config.generation.update(max_examples=EXAMPLES, deterministic=True, no_shrink=True)
    if asker.role is not None:
        schema.auth.providers.append(asker)
    return schema


def operations(document: BaseSchema) -> list[Operation]:
    """All of them; none may be unreadable."""
    found = list(document.get_all_operations())
    assert [it.err() for it in found if isinstance(it, Err)] == []
    return [it.ok() for it in found if isinstance(it, Ok)]


def ask_all(document: BaseSchema, operation: Operation, asker: Asker) -> None:
    """Send every request that is made up for an operation, and look at what comes back."""

    def ask(case: Request) -> None:
        asker.come_as_of_now(case)
        asker.speak_of_what_exists(case)
        response = case.call()
        asker.note(case, response)
        assert response.status_code >= 300 or asker.may(operation.definition.raw), "done without the permission"
        left_out: list[CheckFunction] = [positive_data_acceptance] if code_of(response) in BEYOND_A_SCHEMA else []
        case.validate_response(response, excluded_checks=left_out)

    project = document.config
    modes = [HypothesisTestMode.EXAMPLES, HypothesisTestMode.FUZZING]
    modes += [HypothesisTestMode.COVERAGE] if asker.role in AT_EVERY_LIMIT else []
    given = HypothesisTestConfig(
        project=project, modes=modes, settings=project.get_hypothesis_settings(operation=operation, phase="fuzzing"), seed=SEED
    )  # fmt: skip
    create_test(operation=operation, test_func=ask, config=given)()


def test_document_is_kept_to(document: BaseSchema, asker: Asker, subtests: pytest.Subtests) -> None:
    for operation in operations(document):
        with subtests.test(operation.label):
            ask_all(document, operation, asker)
    done = {name for name, status in asker.answers if status < 300}
    mine = {it.definition.raw["operationId"] for it in operations(document) if asker.may(it.definition.raw)}
    assert mine - done == set(), sorted(asker.answers.items())
