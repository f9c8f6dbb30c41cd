"""Contacts: whole for those who may see them, masked for all others, in every answer; read page by page."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.models.permission import ROLE_PERMISSIONS, Permission
from app.models.user import Role
from app.services import contact_service
from app.services.contact_service import initials, mask_number
from tests.test_api.conftest import CONTACTS
from tests.test_api.support import Service

PATH = "/api/v1/contacts"
BLIND = [role for role in Role if Permission.CONTACTS_REVEAL not in ROLE_PERMISSIONS[role]]
SEEING = [role for role in Role if Permission.CONTACTS_REVEAL in ROLE_PERMISSIONS[role]]


def walk(api: Service, role: Role, limit: int, **filters: Any) -> list[list[dict[str, Any]]]:
    """Every page of a listing."""
    pages, cursor = [], None
    while True:
        query = {"limit": limit, **filters, **({"cursor": cursor} if cursor else {})}
        answer = api.ask("GET", PATH, role, params=query)
        assert answer.status_code == 200, answer.text
        pages.append(answer.json()["items"])
        cursor = answer.json()["next"]
        if cursor is None:
            return pages


def test_there_are_roles_of_both_kinds() -> None:
    assert BLIND == [Role.ANALYST]
    assert SEEING


@pytest.mark.parametrize("role", BLIND)
def test_who_may_not_see_numbers_sees_none_in_any_answer(api: Service, role: Role) -> None:
    answers = [
        api.ask("GET", f"{PATH}/2", role),
        api.ask("GET", PATH, role),
        api.ask("GET", f"{PATH}/525500000002", role),
    ]
    text = "".join(answer.text for answer in answers)
    assert "María" not in text
    assert "Calle" not in text
    assert "Centro" not in text
    assert re.search(r"5255\d{8}|55\d{8}", text) is None
    one = answers[0].json()
    assert (one["phone_e164"], one["full_name"]) == ("+52******0002", "M. P.")
    assert (one["address"], one["neighborhood"], one["is_masked"]) == (None, None, True)
    assert all(item["is_masked"] for item in answers[1].json()["items"])


@pytest.mark.parametrize("role", SEEING)
def test_who_may_see_numbers_sees_them_whole(api: Service, role: Role) -> None:
    one = api.ask("GET", f"{PATH}/2", role).json()
    assert (one["phone_e164"], one["full_name"], one["address"]) == ("+525500000002", "María Pérez 2", "Calle 2")
    assert one["is_masked"] is False


@given(st.text())
def test_initials_never_tell_a_word(name: str) -> None:
    made = initials(name)
    assert made is not None
    assert re.sub(r"\. ?", "", made).__len__() <= 2 * len(name.split())
    assert all(len(part) <= 4 for part in made.split())


@given(st.from_regex(r"\+52[0-9]{10}", fullmatch=True))
def test_masked_number_keeps_country_and_four_digits(number: str) -> None:
    masked = mask_number(number)
    assert len(masked) == len(number)
    assert masked[:3] == "+52"
    assert masked[-4:] == number[-4:]
    assert set(masked[3:-4]) == {"*"}


@pytest.mark.parametrize("limit", [1, 7, 40, 120, 200])
def test_pages_hold_every_contact_once_and_in_order(api: Service, limit: int) -> None:
    pages = walk(api, Role.ADMIN, limit)
    ids = [item["id"] for page in pages for item in page]
    assert ids == sorted(ids)
    assert len(ids) == len(set(ids)) == CONTACTS
    assert all(len(page) == limit for page in pages[:-1])


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ({"state_code": "JAL"}, lambda n: n % 3 == 0),
        ({"line_type": "mobile"}, lambda n: n % 2 == 0),
        ({"is_valid": "false"}, lambda n: n % 10 == 0),
        (
            {"is_valid": "true", "state_code": "CMX", "line_type": "fixed", "lada": "55"},
            lambda n: n % 2 and n % 3 and n % 10,
        ),
        ({"lada": "33"}, lambda n: n < 0),
    ],
)
def test_filters_find_what_they_say(api: Service, filters: dict[str, str], wanted: Any) -> None:
    ids = [item["id"] for page in walk(api, Role.MANAGER, 9, **filters) for item in page]
    assert ids == [n for n in range(1, CONTACTS + 1) if wanted(n)]


def test_rare_filter_gives_short_pages_that_lead_on(api: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contact_service, "WINDOW", 4)
    monkeypatch.setattr(contact_service, "MOST_WINDOWS", 3)
    pages = walk(api, Role.ADMIN, 5, is_valid="false")
    assert [item["id"] for page in pages for item in page] == list(range(10, CONTACTS + 1, 10))
    assert len(pages) >= CONTACTS // 12
    assert [] in pages


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=201",
        "limit=x",
        "state_code=jal",
        "state_code=",
        "lada=5a",
        "lada=1234",
        "line_type=space",
        "is_valid=perhaps",
        "state_code=%27OR%201%3D1",
    ],
)
def test_filters_that_mean_nothing_are_refused(api: Service, query: str) -> None:
    assert api.ask("GET", f"{PATH}?{query}", Role.ADMIN).status_code == 422


def test_reading_in_bulk_goes_on_record(api: Service) -> None:
    api.ask("GET", f"{PATH}?limit=3&state_code=JAL", Role.ANALYST, headers={"X-Request-ID": "bulk-read-1"})
    events = api.ask("GET", "/api/v1/audit?action=contacts.list&limit=50", Role.COMPLIANCE).json()["items"]
    mine = next(event for event in events if event["request_id"] == "bulk-read-1")
    assert mine["actor"] == api.accounts[Role.ANALYST].email
    assert mine["detail"] == {"filters": {"state_code": "JAL"}, "rows": 3, "after": 0, "masked": True}
