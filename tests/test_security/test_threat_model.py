"""docs/security.md: each threat names its tests, each test of the suite has its threat, and no chapter is left out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

import pytest

from tests.house_support import ROOT, functions, hold, modules

PAGE = "docs/security.md"
HERE = "tests/test_security/test_threat_model.py"
CHAPTERS = (
    "V1 Encoding and sanitization", "V2 Validation and business logic", "V3 Web frontend security", "V4 API and web service",
    "V5 File handling", "V6 Authentication", "V7 Session management", "V8 Authorization", "V9 Self-contained tokens",
    "V10 OAuth and OIDC", "V11 Cryptography", "V12 Secure communication", "V13 Configuration", "V14 Data protection",
    "V15 Secure coding and architecture", "V16 Security logging and error handling", "V17 WebRTC",
)  # fmt: skip
"""Of the OWASP Application Security Verification Standard 5.0."""
NAME = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@lru_cache(maxsize=1)
def page() -> str:
    return (ROOT / PAGE).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def all_tests() -> frozenset[tuple[str, str]]:
    """(file, name) of every test of the project."""
    return frozenset(
        (module.path, it.name)
        for module in modules("tests")
        for it in functions(module.tree)
        if it.name.startswith("test_")
    )


def rows(text: str) -> Iterator[list[str]]:
    """The cells of every line of a table but its head."""
    for line in text.splitlines():
        if line.startswith("| ") and not line.startswith(("| threat |", "| what |")):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def section(chapter: str) -> str:
    """What stands under a chapter."""
    return page().split(f"\n## {chapter}\n", 1)[1].split("\n## ", 1)[0]


def test_every_test_that_is_named_exists() -> None:
    named = NAME.findall(page())
    assert named
    hold(f"{PAGE}:1: {file}::{name} does not exist" for file, name in named if (file, name) not in all_tests())


def test_every_test_of_the_suite_is_named() -> None:
    named = set(NAME.findall(page()))
    hold(
        f"{file}:1: {name} covers no threat in {PAGE}"
        for file, name in all_tests()
        if file.startswith("tests/test_security/") and file != HERE and (file, name) not in named
    )


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_chapter_is_answered(chapter: str) -> None:
    """With threats, or with the reason why there are none."""
    assert len(section(chapter).strip()) > 30


def test_every_threat_says_what_stops_it_and_which_test_shows_it() -> None:
    found = list(rows("".join(section(chapter) for chapter in CHAPTERS)))
    assert len(found) > 60
    hold(
        f"{PAGE}:1: {cells[0][:60]}: threat, what stops it, its test"
        for cells in found
        if len(cells) != 3 or not all(cells) or not NAME.search(cells[2])
    )


def test_what_is_accepted_says_why() -> None:
    found = list(rows(section("What is accepted")))
    assert found
    hold(f"{PAGE}:1: {cells[0][:60]}: what, and why" for cells in found if len(cells) != 2 or not all(cells))
