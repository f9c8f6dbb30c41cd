"""A parser of Dockerfiles: instructions with their stages, as far as the tests ask."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

KNOWN = frozenset({
    "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "RUN", "STOPSIGNAL", "USER",
    "WORKDIR",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction: its name, its options (--from=builder → from: builder), what follows, its first line."""

    name: str
    options: dict[str, str]
    text: str
    line: int

    @property
    def words(self) -> list[str]:
        """What follows as words: of the exec form, or split at blanks."""
        return list(json.loads(self.text)) if self.is_exec else self.text.split()

    @property
    def is_exec(self) -> bool:
        """Whether it is written as a JSON list: no shell in between, and signals arrive."""
        return self.text.startswith("[")


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage: what it is made from, its name, its instructions."""

    base: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, name: str) -> list[Instruction]:
        """Its instructions of one kind."""
        return [it for it in self.instructions if it.name == name]

    def last(self, name: str) -> Instruction | None:
        """The one of a kind that counts."""
        found = self.all(name)
        return found[-1] if found else None

    def environment(self) -> dict[str, str]:
        """What ENV sets."""
        pairs = (re.findall(r"([A-Z][A-Z0-9_]*)=(\S+)", it.text) for it in self.all("ENV"))
        return {name: value for found in pairs for name, value in found}


def parse(path: Path) -> list[Stage]:
    """The stages of a Dockerfile. Raises: ValueError for what is no instruction."""
    stages: list[Stage] = []
    for number, text in _logical_lines(path.read_text(encoding="utf-8")):
        name, _, rest = text.partition(" ")
        if name not in KNOWN:
            raise ValueError(f"{path.name}:{number}: {name} is no instruction that is known here")
        options, rest = _options(rest.strip())
        instruction = Instruction(name, options, rest, number)
        if name == "FROM":
            base, _, alias = rest.partition(" AS ")
            stages.append(Stage(base.strip(), alias.strip()))
        elif not stages:
            raise ValueError(f"{path.name}:{number}: {name} before FROM")
        stages[-1].instructions.append(instruction)
    return stages


def _logical_lines(text: str) -> list[tuple[int, str]]:
    """(number of the first line, text) with continuations joined and comments left out."""
    found: list[tuple[int, str]] = []
    begun, parts = 0, list[str]()
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#") or (not parts and not line.strip()):
            continue
        begun = begun if parts else number
        parts.append(line.rstrip().removesuffix("\\").strip())
        if not line.rstrip().endswith("\\"):
            found.append((begun, " ".join(parts)))
            parts = []
    if parts:
        raise ValueError("the last line is continued")
    return found


def _options(text: str) -> tuple[dict[str, str], str]:
    options = {}
    while found := re.match(r"--([a-z-]+)=(\S+)\s+", text):
        options[found[1]] = found[2]
        text = text[found.end() :]
    return options, text
