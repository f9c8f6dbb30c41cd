"""Formats of the numbers of a source, and what the phone rules will say to those that are not ten plain digits."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from app.ingest.inspection_scan import Tally, statement
from app.utils.phone_utils import VALID_PREFIX, normalize

PLAIN_SHAPE: Final = "dddddddddd"
TOP_SHAPES: Final = 20
# phonenumbers costs about 60 µs a number: so many of the odd ones are put to it, evenly over the file.
MOST_VERDICTS: Final = 20_000
LONGEST_SHAPE: Final = 28
KNOWN_PREFIXES: Final = frozenset({"01", "044", "045", "52", "521", "5201", "52044", "52045", "0052", "00521", "1"})
_VISIBLE: Final = re.compile(r"[\x00-\x1f\x7f-\xa0\u2000-\u200f\u2028-\u202f\u2060-\u206f\u3000\ufeff]")


@dataclass(frozen=True, slots=True)
class NumberReport:
    """Numbers by form, over all rows; shapes and verdicts over as many of the others as `examined` and `judged` say.

    plain: ten plain digits, of which `plain_valid` begin as a valid Mexican number does. Shapes: d digit, A letter.
    Of the judged: accepted, of which `collide` have the plain number of another row; rejected by reason.
    """

    plain: int
    plain_valid: int
    odd: int
    examined: int
    shapes: tuple[tuple[str, int], ...]
    judged: int
    accepted: int
    collide: int
    rejected_by_reason: dict[str, int]


def report_numbers(connection: sqlite3.Connection, tally: Tally) -> NumberReport:
    """The report on what `tally` counted; invalid prefixes and colliding numbers are looked up in its index."""
    texts = [_as_text(number) for number, _ in tally.odd]
    shapes = Counter(
        shape_of(text) if kind == "text" else f"({kind})" for text, (_, kind) in zip(texts, tally.odd, strict=True)
    )
    accepted = collide = 0
    rejected: Counter[str] = Counter()
    judged = texts[:: max(1, -(-len(texts) // MOST_VERDICTS))]
    for text in judged:
        verdict = normalize(text)
        if verdict.national is None:
            rejected[verdict.reason or "invalid"] += 1
            continue
        accepted += 1
        national = f"{verdict.national:010d}"
        found = connection.execute("SELECT EXISTS (SELECT 1 FROM numeros WHERE numero = ?)", (national,))
        collide += found.fetchone()[0]
    plain = tally.rows - tally.odd_rows
    return NumberReport(
        plain=plain,
        plain_valid=plain - _plain_not_valid(connection),
        odd=tally.odd_rows,
        examined=len(texts),
        shapes=tuple(shapes.most_common(TOP_SHAPES)),
        judged=len(judged),
        accepted=accepted,
        collide=collide,
        rejected_by_reason=dict(rejected.most_common()),
    )


def _plain_not_valid(connection: sqlite3.Connection) -> int:
    """Rows of ten plain digits whose first three begin no valid number, one search of the index per run of prefixes."""
    query = statement("inspect_prefix")
    invalid = [prefix for prefix in range(1000) if not VALID_PREFIX[prefix]]
    rows = 0
    for _, run in groupby(enumerate(invalid), key=lambda pair: pair[1] - pair[0]):
        prefixes = [prefix for _, prefix in run]
        bounds = {"low": f"{prefixes[0]:03d}", "high": f"{prefixes[-1]:03d}:"}  # ':' follows '9'
        rows += connection.execute(query, bounds).fetchone()[0]
    return rows


def shape_of(text: str) -> str:
    """The form of a number without the number: d a digit, A a letter, known prefixes and punctuation as they are.

    Characters that cannot be seen are named: '<200B>'. Long shapes are cut.
    """
    digits = sum(char.isdigit() for char in text)
    leading = "".join(char for char in text if char.isdigit())[: max(digits - 10, 0)]
    shown = len(leading) if leading in KNOWN_PREFIXES else 0
    parts: list[str] = []
    for char in text[: 4 * LONGEST_SHAPE]:
        if char.isdigit():
            parts.append(char if shown > 0 else "d")
            shown -= 1
        elif char.isalpha():
            parts.append("A")
        elif _VISIBLE.match(char):
            parts.append(f"<{ord(char):02X}>")
        else:
            parts.append(char)
    shape = re.sub(r"A{2,}", "A…", "".join(parts))
    return shape if len(shape) <= LONGEST_SHAPE else shape[: LONGEST_SHAPE - 1] + "…"


def _as_text(number: bytes | int | float) -> str:
    if isinstance(number, bytes):
        try:
            return number.decode()
        except UnicodeDecodeError:
            return number.decode("cp1252", "replace")
    return str(number)
