"""The pages say what the code does: commands, settings, rules and links in them exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from app.cli import app as smsctl
from app.ingest.field_mapping import FIELD_MAPPINGS
from app.ingest.rows import TEXT_LIMITS
from app.models.contact import Inferred, InvalidReason, LineType
from app.models.migration import RejectReason
from tests.generated_docs import ENV_EXAMPLE, PAGES, env_example, environment_names, generated
from tests.house_support import ROOT, all_modules, dotted, hold, modules, texts

CODE = re.compile(r"^```[a-z]*\n(.*?)^```|`([^`\n]+)`", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
VARIABLE = re.compile(r"\b(?:SMS_[A-Z0-9_]+|DATABASE_URL|DATABASE_ADMIN_URL|REDIS_URL)\b")
TREES = ("app", "docs", "tests", "scripts", "migrations", "docker", "benchmarks")
ADR_PARTS = ("## Context", "## Decision", "## Consequences", "## What was measured")
ADR_LINES = 60


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def pages() -> tuple[tuple[str, str], ...]:
    """(path, text) of every page that a person reads."""
    return tuple(texts(".md"))


def code_of(text: str) -> Iterator[str]:
    """Fenced blocks line by line, without their comments, and code spans."""
    for block, span in CODE.findall(text):
        yield from (re.split(r"\s#\s", line)[0].strip() for line in block.splitlines()) if block else (span,)


@dataclass(frozen=True, slots=True)
class Named:
    """The command that words name: its options, the words left over, and the word that should be a command and is none."""

    options: frozenset[str]
    rest: tuple[str, ...]
    wrong: str | None


def command_of(words: Sequence[str]) -> Named:
    """What `words`, behind smsctl, name."""
    command = get_command(smsctl)
    taken, wrong = 0, None
    while isinstance(command, TyperGroup) and taken < len(words) and not words[taken].startswith("-"):
        found = command.commands.get(words[taken])
        if found is None:
            wrong = words[taken]
            break
        command, taken = found, taken + 1
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return Named(frozenset(options | {"--help", "-h"}), tuple(words[taken:]), wrong)


def invocations(code: str) -> Iterator[list[str]]:
    """The words behind each `smsctl` in a line of code, as far as the shell would hand them over."""
    for tail in re.split(r"(?<![\w-])smsctl(?=\s)", code)[1:]:
        words = re.split(r"[|><;&#)]|\" ", tail.replace('\\"', ""))[0].split()
        yield [word.strip("\"'`,.:") for word in words]


def test_the_two_commands_of_the_readme_and_all_others_are_targets() -> None:
    targets = set(re.findall(r"^([a-z-]+):", page("Makefile"), re.MULTILINE))
    assert {"demo", "test"} <= set(re.findall(r"\bmake ([a-z-]+)", page("README.md")))
    hold(
        f"{path}:1: make {target} is no target"
        for path, text in pages()
        for code in code_of(text)
        for target in re.findall(r"(?<![\w-])make ([a-z-]+)", code)
        if target not in targets
    )


def test_every_command_and_option_exists() -> None:
    found = []
    for path, text in pages():
        for words in (words for code in code_of(text) for words in invocations(code)):
            named = command_of(words)
            what = f"{path}:1: smsctl {' '.join(words)}"
            if named.wrong is not None and re.fullmatch(r"[a-z-]+", named.wrong):
                found.append(f"{what}: there is no command {named.wrong}")
            given = {word.partition("=")[0] for word in named.rest if re.match(r"--?[a-z]", word)}
            found += [f"{what}: there is no option {option}" for option in given - named.options]
    hold(found)


def test_commands_that_are_named_without_smsctl_exist() -> None:
    """`migrate run`, `db tune serve`: a span of two words and more that begins with a group."""
    root = get_command(smsctl)
    assert isinstance(root, TyperGroup)
    names = {name for name, command in root.commands.items() if isinstance(command, TyperGroup)}
    hold(
        f"{path}:1: `{code}` is no command"
        for path, text in pages()
        for code in code_of(text)
        if re.fullmatch(r"[a-z]+( [a-z]+)+", code) and code.split()[0] in names and command_of(code.split()).wrong
    )


@pytest.mark.parametrize("name", PAGES)
def test_generated_tables_are_what_the_code_would_write(name: str) -> None:
    assert page(name) == generated(page(name)), "run: python -m tests.generated_docs"


def test_env_example_has_every_setting_with_its_default() -> None:
    assert page(ENV_EXAMPLE) == env_example(), "run: python -m tests.generated_docs"


def test_settings_in_the_pages_exist_and_all_are_explained() -> None:
    beside = set(VARIABLE.findall(page("app/core/config.py") + page("tests/conftest.py"))) | set(
        VARIABLE.findall(page("app/core/kernel_cache.py"))
    )
    known = set(environment_names())
    assert known <= set(VARIABLE.findall(page("docs/settings.md")))
    assert known == set(VARIABLE.findall(page(ENV_EXAMPLE))) - {"SMS_ENV_FILE"}
    hold(
        f"{path}:1: {name} is no setting"
        for path, text in pages()
        for name in VARIABLE.findall(text)
        if name not in known | beside
    )


def test_mapping_keeps_as_many_characters_as_the_loader() -> None:
    limits = {field.source_column: field.max_length for field in FIELD_MAPPINGS if field.max_length}
    assert limits == TEXT_LIMITS


def rules_in_the_code() -> set[str]:
    """The rules that repairs are recorded under: what rows.py and columns.py hand to a repair."""
    found: set[str] = set()
    for module in modules("app/ingest"):
        if module.path not in ("app/ingest/rows.py", "app/ingest/columns.py"):
            continue
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and dotted(node.func) in ("rules.append", "note", "cell_repair"):
                given = node.args if dotted(node.func) == "rules.append" else node.args[-2:]
                found |= {
                    str(it.value)
                    for argument in given
                    for it in ast.walk(argument)
                    if isinstance(it, ast.Constant) and isinstance(it.value, str) and it.value.isascii()
                }
            elif isinstance(node, ast.FunctionDef) and node.name == "flag_of":
                returned = (it.value for it in ast.walk(node) if isinstance(it, ast.Return))
                last = (it.elts[-1] for it in returned if isinstance(it, ast.Tuple))
                found |= {str(it.value) for it in last if isinstance(it, ast.Constant) and it.value}
    columns = {field.source_column for field in FIELD_MAPPINGS}
    return {name for name in found if re.fullmatch(r"[a-z]+(_[a-z0-9]+)*", name)} - columns


def first_column(text: str, heading: str) -> set[str]:
    """The code spans in the first column of the table under a heading."""
    section = text.split(f"\n{heading}", 1)[1].split("\n## ", 1)[0]
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def test_rules_and_reasons_of_the_mapping_are_those_of_the_code() -> None:
    text = page("docs/mapping.md")
    assert first_column(text, "## Rules that are recorded") == rules_in_the_code()
    assert first_column(text, "## Rows without a contact") == {str(reason) for reason in RejectReason}
    assert first_column(text, "## Loaded, and not valid") == {str(reason) for reason in InvalidReason}
    assert {int(bit) for bit in re.findall(r"\b([0-9]) the ", text.split("## Filled in")[1])} == {
        int(bit) for bit in Inferred
    }
    assert first_column(page("docs/numbering.md"), "## Line type") == {str(kind) for kind in LineType}


def test_error_codes_of_the_runbook_exist() -> None:
    codes = {
        str(keyword.value.value)
        for module in all_modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == "code" and isinstance(keyword.value, ast.Constant)
    }
    assert first_column(page("docs/runbook.md"), "## When it stops") <= codes


def test_budget_of_the_roll_back_is_half_an_hour() -> None:
    text = page("docs/runbook.md").split("## Roll back")[1]
    budget = {
        title: int(minutes) for title, minutes in re.findall(r"^\| (\d\. .+?) \| (\d+) min \|", text, re.MULTILINE)
    }
    steps = {
        title: int(minutes) for title, minutes in re.findall(r"^### (\d\. .+?): (\d+) minutes?$", text, re.MULTILINE)
    }
    assert budget == steps
    assert 0 < sum(budget.values()) <= 30


def anchors(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_links_lead_somewhere() -> None:
    found = []
    for path, text in pages():
        for link in LINK.findall(text):
            target, _, anchor = link.partition("#")
            if "://" in link:
                continue
            file = (ROOT / path).parent / target if target else ROOT / path
            if not file.exists():
                found.append(f"{path}:1: {link} leads nowhere")
            elif anchor and anchor not in anchors(file.read_text(encoding="utf-8")):
                found.append(f"{path}:1: {link} has no such heading")
    hold(found)


def test_files_that_are_named_exist() -> None:
    named = re.compile(rf"(?:{'|'.join(TREES)})/[\w./-]+\w")
    hold(
        f"{path}:1: `{code}` does not exist"
        for path, text in pages()
        for code in code_of(re.sub(r".*\bplanned\b.*", "", text))
        if named.fullmatch(code) and not (ROOT / code).exists()
    )


@pytest.mark.parametrize("name", [name for name, _ in texts(".md") if re.match(r"docs/adr/\d", name)])
def test_a_decision_is_one_page_with_its_parts(name: str) -> None:
    text = page(name)
    assert len(text.splitlines()) <= ADR_LINES
    assert [part for part in ADR_PARTS if part not in text] == []
    assert name.rpartition("/")[2] in page("docs/adr/README.md")


def test_hooks_call_what_is_installed_and_fetch_nothing() -> None:
    text = page(".pre-commit-config.yaml")
    assert set(re.findall(r"repo: (\S+)", text)) == {"local"}
    tools = re.findall(r"entry: \.venv/bin/(\S+)", text)
    assert tools
    assert [tool for tool in tools if f"$(BIN)/{tool}" not in page("Makefile")] == []
