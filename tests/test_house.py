"""The conventions (CONTRIBUTING.md) as tests. A rule may have exemptions: each stands here with its reason."""

from __future__ import annotations

import ast
import importlib
import re
import socket
from collections.abc import Iterator
from enum import Enum, Flag
from typing import TypeGuard

import pytest
from sqlalchemy import CheckConstraint

from app.models import Base
from tests.house_support import (
    ROOT,
    Module,
    all_modules,
    at,
    dotted,
    functions,
    hold,
    modules,
    public_definitions,
    texts,
)

pytest_plugins = ("tests.loopback",)

MODULE_LINES, TEST_LINES, FUNCTION_LINES = 400, 600, 40
KERNELS = "app/ingest/kernels/"
DOCUMENTED = ("app/services", "app/ingest", "app/utils", "app/providers")
EXECUTES = frozenset({"execute", "executemany", "executescript", "copy", "SQL", "text", "stream", "scalar", "scalars"})
STATEMENT = re.compile(
    r"\s*(SELECT|INSERT INTO|UPDATE|DELETE FROM|ALTER|CREATE|DROP|COPY|TRUNCATE|PRAGMA|WITH|SET|GRANT|REVOKE|VACUUM)\s"
)

SQLITE = "reads SQLite, which has no parameters for names; what is put in are constants of the program"
SQL_EXEMPT: dict[str, str] = {
    "app/ingest/source.py": SQLITE,
    "app/ingest/validation_source.py": SQLITE,
    "app/ingest/inspection_scan.py": SQLITE,
}
CLOCK_EXEMPT: dict[str, str] = {
    "app/embedded/cluster.py::time.time": "the age of a file, which the file system's clock has stamped",
}
WIDE_CATCH_EXEMPT: dict[str, str] = {}
CHECK_EXEMPT: dict[str, str] = {
    "contacts.invalid_reason": "its CHECK is is_valid = (invalid_reason IS NULL): each more is run for every copied row",
}


def test_modules_stay_small() -> None:
    found = []
    for module in all_modules():
        most = TEST_LINES if module.path.startswith("tests/") else MODULE_LINES
        if module.lines > most:
            found.append(f"{module.path}:{module.lines}: {module.lines} lines, {most} at most: split it by noun")
    hold(found)


def test_functions_stay_short() -> None:
    """Kernels are one loop each: a call inside costs what they exist to save. A revision is a script, read once."""
    found = []
    for module in modules("app", "scripts", "benchmarks", "tests"):
        if module.path.startswith(KERNELS):
            continue
        for function in functions(module.tree):
            length = (function.end_lineno or 0) - function.lineno + 1
            if length > FUNCTION_LINES:
                found.append(at(module, function, f"{function.name} has {length} lines, {FUNCTION_LINES} at most"))
    hold(found)


def test_public_functions_say_what_they_return() -> None:
    found = [
        at(module, node, f"{name} has no docstring")
        for module in modules(*DOCUMENTED)
        for name, node in public_definitions(module.tree)
        if not ast.get_docstring(node)
    ]
    found += [
        f"{module.path}:1: no docstring" for module in modules("app") if module.text and not _has_docstring(module)
    ]
    hold(found)


def _has_docstring(module: Module) -> bool:
    return bool(ast.get_docstring(module.tree))


def test_nothing_is_swallowed() -> None:
    """A handler of everything raises again or hands the error on; no handler at all consists of `pass`."""
    found = []
    for module in modules("app", "scripts", "benchmarks", "migrations", "tests"):
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ExceptHandler):
                body = [it for it in node.body if not _is_constant_expression(it)]
                if all(isinstance(it, ast.Pass) for it in body):
                    found.append(at(module, node, "an error is swallowed: contextlib.suppress names what may be"))
                elif _catches_all(node.type) and not _hands_on(node):
                    found.append(at(module, node, "everything is caught and neither raised nor handed on"))
            elif isinstance(node, ast.Call) and dotted(node.func).endswith("suppress") and _catches_all(*node.args):
                found.append(at(module, node, "everything is suppressed"))
    hold(found, WIDE_CATCH_EXEMPT)


def _is_constant_expression(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _catches_all(*caught: ast.expr | None) -> bool:
    names = {dotted(it) for node in caught if node is not None for it in ast.walk(node)}
    return None in caught or bool(names & {"Exception", "BaseException"})


def _hands_on(handler: ast.ExceptHandler) -> bool:
    inner = [it for statement in handler.body for it in ast.walk(statement)]
    is_raised = any(isinstance(it, ast.Raise) for it in inner)
    return is_raised or any(isinstance(it, ast.Name) and it.id == handler.name for it in inner)


def test_nothing_is_printed_but_by_the_command_line() -> None:
    found = []
    for module in modules("app"):
        for node in ast.walk(module.tree):
            name = dotted(node.func) if isinstance(node, ast.Call) else ""
            is_output = name in ("print", "pprint") or name.startswith(("typer.echo", "click.echo", "sys.stdout"))
            if is_output and (name == "print" or not module.path.startswith("app/cli/")):
                found.append(at(module, node, f"{name}: services return, the command line prints, the rest logs"))
    hold(found)


def test_sql_is_never_put_together_from_text() -> None:
    """Values are parameters, names are sql.Identifier, statements are literals or .sql files."""
    found = []
    for module in modules("app", "migrations"):
        for node in ast.walk(module.tree):
            if _is_composed(node) and STATEMENT.match(_first_text(node)):
                found.append(
                    at(module, node, f"a statement put together from text: {_first_text(node).strip()[:40]!r}")
                )
            elif _is_execution(node) and _is_composed(node.args[0]):
                found.append(at(module, node, f"{dotted(node.func)} of text that was put together"))
    hold(found, SQL_EXEMPT)


def _is_execution(node: ast.AST) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and bool(node.args) and dotted(node.func).rpartition(".")[2] in EXECUTES


def _is_composed(node: ast.AST) -> bool:
    """True for text with something put in: an f-string, %, .format or + of anything but constants."""
    if isinstance(node, ast.JoinedStr):
        return any(isinstance(it, ast.FormattedValue) for it in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod):
        return _is_text(node) and not _is_constant(node)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format":
        return _is_text(node.func.value)
    return False


def _is_text(node: ast.AST) -> bool:
    if isinstance(node, ast.BinOp):
        return _is_text(node.left) or _is_text(node.right)
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes))


def _is_constant(node: ast.AST) -> bool:
    """A literal, a NAME of the module, or a sum of them."""
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.Add) and _is_constant(node.left) and _is_constant(node.right)
    return isinstance(node, ast.Constant) or (isinstance(node, ast.Name) and node.id.isupper())


def _first_text(node: ast.AST) -> str:
    """The text that `node` begins with."""
    if isinstance(node, ast.BinOp):
        return _first_text(node.left)
    if isinstance(node, ast.JoinedStr):
        return _first_text(node.values[0])
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return _first_text(node.func.value)
    return str(node.value) if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def test_every_sql_file_says_what_it_takes_and_costs() -> None:
    found = []
    for path, text in texts(".sql"):
        header = "\n".join(line for line in text.splitlines() if line.startswith("--"))
        is_fragment = "An expression" in header  # a part of a statement locks nothing by itself
        wanted = () if is_fragment else ("Parameters: ", "Locks: ", "(Rows|Time): ")
        found += [f"{path}:1: the header has no '{word}…'" for word in wanted if not re.search(rf"\b{word}", header)]
        if not text.startswith("--"):
            found.append(f"{path}:1: no header")
    hold(found)


def test_imports_stand_at_the_top() -> None:
    """An import inside a function hides a cycle; a name that only types need stands under TYPE_CHECKING."""
    found = []
    for module in modules("app", "scripts", "benchmarks"):
        for function in functions(module.tree):
            found += [
                at(module, node, f"import inside {function.name}")
                for node in ast.walk(function)
                if isinstance(node, ast.Import | ast.ImportFrom)
            ]
        for node in module.tree.body:
            if isinstance(node, ast.If | ast.Try) and "TYPE_CHECKING" not in ast.dump(node):
                found += [
                    at(module, it, "import under a condition")
                    for it in ast.walk(node)
                    if isinstance(it, ast.Import | ast.ImportFrom)
                ]
    hold(found)


def test_nothing_is_left_to_be_done_later() -> None:
    marks = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME")) + r")\b")
    found = [
        f"{path}:{number}: {line.strip()[:60]}"
        for path, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if marks.search(line)
    ]
    hold(found)


def test_the_clock_is_asked_in_one_place() -> None:
    asks = {"datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.time", "time.time_ns"}
    found = []
    for module in modules("app", "scripts", "migrations"):
        if module.path == "app/core/clock.py":
            continue
        found += [
            at(module, node, f"{dotted(node)}: clock.utc_now()")
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Attribute) and dotted(node).removeprefix("datetime.datetime")[:20] in asks
        ]
    hold(found, CLOCK_EXEMPT)


def _enum_columns() -> Iterator[tuple[str, str, type[Enum]]]:
    """(table, column, enum) of every mapped column annotated with an enum of app.models. Flags are bits, not values."""
    for mapper in Base.registry.mappers:
        names = vars(importlib.import_module(mapper.class_.__module__))
        for attribute, annotation in mapper.class_.__annotations__.items():
            for word in re.findall(r"\w+", str(annotation)):
                kind = names.get(word)
                if isinstance(kind, type) and issubclass(kind, Enum) and not issubclass(kind, Flag):
                    yield str(mapper.local_table), mapper.columns[attribute].name, kind


def test_every_enum_of_the_models_has_its_check() -> None:
    columns = list(_enum_columns())
    assert columns
    found = []
    for table, column, kind in columns:
        checks = [str(it.sqltext) for it in Base.metadata.tables[table].constraints if isinstance(it, CheckConstraint)]
        values = [str(member.value) if isinstance(member.value, int) else f"'{member.value}'" for member in kind]
        if not any(f"{column} IN ({', '.join(values)})" in check for check in checks):
            found.append(f"{table}.{column}: no CHECK over the values of {kind.__name__}")
    hold(found, CHECK_EXEMPT)


def test_dataclasses_have_slots() -> None:
    found = []
    for module in modules("app"):
        for node in ast.walk(module.tree):
            for decorator in node.decorator_list if isinstance(node, ast.ClassDef) else ():
                call = decorator if isinstance(decorator, ast.Call) else None
                if dotted(call.func if call else decorator).endswith("dataclass") and (
                    call is None or not any(it.arg == "slots" for it in call.keywords)
                ):
                    found.append(at(module, node, f"{getattr(node, 'name', '')}: @dataclass(frozen=True, slots=True)"))
    hold(found)


@pytest.mark.parametrize("lock", ["requirements.txt", "requirements-dev.txt"])
def test_locks_have_hashes_and_name_no_host(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    entries = [entry for entry in text.replace("\\\n", " ").splitlines() if entry.strip()]
    assert entries
    loose = [entry[:60] for entry in entries if not re.match(r"[\w.\[\]-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", entry)]
    hold(loose)
    assert "://" not in text
    assert "index-url" not in text


def test_no_registry_and_no_machine_is_named() -> None:
    """Where packages come from is the business of whoever builds; where a developer works is nobody's."""
    hosts = ("py" + "pi.org", "pythonhosted" + ".org", "npmjs" + ".org", "npmjs" + ".com", "yarnpkg" + ".com")
    places = re.compile(r"(?<![\w.])/(?:wo" + r"rk|home|Users)/\w")
    found = [
        f"{path}:{number}: {line.strip()[:80]}"
        for path, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if any(host in line for host in hosts) or places.search(line)
    ]
    hold(found)


def test_tests_wait_for_something_and_never_just_sleep() -> None:
    """A sleep is a poll: inside a loop, a tenth of a second at most. Nothing is marked to be skipped or to fail."""
    found = []
    for module in modules("tests"):
        polls = {
            id(it) for loop in ast.walk(module.tree) if isinstance(loop, ast.While | ast.For) for it in ast.walk(loop)
        }
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and dotted(node.func).endswith(("time.sleep", "asyncio.sleep")):
                seconds = node.args[0].value if isinstance(node.args[0], ast.Constant) else 0.0
                if id(node) not in polls or not isinstance(seconds, int | float) or seconds > 0.1:
                    found.append(at(module, node, "a sleep that waits for nothing"))
            elif isinstance(node, ast.Attribute) and dotted(node) in (
                "pytest.mark.skip",
                "pytest.mark.xfail",
                "pytest.xfail",
            ):
                found.append(at(module, node, f"{dotted(node)}: mend it or remove it"))
    hold(found)


def test_sockets_reach_this_machine_only() -> None:
    with socket.socket() as outgoing, pytest.raises(RuntimeError, match="loopback"):
        outgoing.connect(("192.0.2.1", 9))
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass


def test_commands_only_parse_call_and_print() -> None:
    """No statement of SQL in the command line: a rule lives in a service or in ingest."""
    hold(
        at(module, node, "SQL in the command line")
        for module in modules("app/cli")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and dotted(node.func).endswith((".execute", ".executemany"))
    )


def test_no_bare_dict_crosses_a_layer() -> None:
    """A frozen dataclass has names that mypy knows; a mapping of one kind of thing to another is a mapping."""
    hold(
        at(module, function, f"{function.name} returns {ast.unparse(function.returns)}")
        for module in modules("app/services", "app/ingest", "app/providers")
        if not module.path.startswith(KERNELS)
        for function in functions(module.tree)
        if function.returns is not None
        and re.search(r"\bdict\b(?!\[)|dict\[str, (Any|object)\]", ast.unparse(function.returns))
        and not function.name.startswith("_")
    )
