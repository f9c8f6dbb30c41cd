"""The compiled loops, held against slow and obvious Python: whatever a kernel decides, the scalar rule decides too."""

from __future__ import annotations

import re
import struct
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from app.core.database import connect
from app.ingest.columns import CARRIED_SLOTS, fingerprint_of
from app.ingest.kernels import values
from app.ingest.kernels.cells import NO_DATE, is_clean_utf8, parse_moment
from app.ingest.kernels.fingerprint import fingerprint_rows, hash_text, padded
from app.ingest.kernels.pages import IN_PAGE, INTEGER, NULL, TEXT
from app.ingest.kernels.phones import ASK, LONGEST, PLAIN, parse_numbers
from app.ingest.kernels.seen import NUMBERS_A_PAGE, PAGES, SeenNumbers
from app.ingest.kernels.values import UNKNOWN, LearnedValues, find_value
from app.ingest.rows import CARRIED, moment_of
from app.ingest.source import BLOCK_ROWS, SLOT, RowBlock
from app.utils import phone_utils

MANY = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
INT64 = st.integers(-(2**63), 2**63 - 1)

# What PostgreSQL 18.6 answers to `select hashtextextended(text, seed)`.
VECTORS = [
    ("", 0, -6939563903564495251),
    ("a", 0, 3591986179850072241),
    ("\x01", 1, 7888631287682927144),
    ("5512345678", 1, 8123134346315441109),
    ("MARIA GUADALUPE MUÑOZ", 42, 3621531006907507063),
    ("x" * 11, -1, 3876735843943209887),
    ("x" * 12, 7, -63652156063969188),
    ("x" * 13, 7, 5955708238307282035),
    ("x" * 24, 9, 5611004716628223454),
    ("áéíóú" * 20, -(2**63), -452573412174921996),
    ("12345678", 2**63 - 1, -4663679249471240672),
    ("123456789", 5, -4149818165028852535),
]


def hashed(data: bytes, seed: int, before: bytes = b"") -> int:
    """hash_text of `data` as PostgreSQL would print it, `data` standing behind `before` and in front of rubbish."""
    buffer = np.frombuffer(before + data + b"\xff" * 64, dtype=np.uint8)
    found = int(hash_text(buffer, len(before), len(data), np.uint64(seed % 2**64)))
    return found - 2**64 if found >= 2**63 else found


@pytest.mark.parametrize(("text", "seed", "expected"), VECTORS)
def test_hash_is_the_one_that_postgresql_computed(text: str, seed: int, expected: int) -> None:
    assert hashed(text.encode(), seed) == expected
    assert hashed(text.encode(), seed, before=b"abc") == expected


def test_hash_equals_postgresqls_over_random_texts(database_url: str) -> None:
    rng = np.random.default_rng(20261124)
    alphabet = [*"abcXYZ 0189ñÁ€", "\U0001f389", "\x01"]
    texts = ["".join(rng.choice(alphabet, size)) for size in [*range(60), *rng.integers(0, 500, 240).tolist()]]
    seeds = [0, *rng.integers(-(2**63), 2**63 - 1, len(texts) - 1, dtype=np.int64).tolist()]
    with closing(connect(database_url)) as session:
        rows = session.execute(
            "SELECT hashtextextended(t, s) FROM unnest(%s::text[], %s::bigint[]) WITH ORDINALITY AS x(t, s, n) ORDER BY n",
            (texts, seeds),
        ).fetchall()
    assert [hashed(text.encode(), seed) for text, seed in zip(texts, seeds, strict=True)] == [row[0] for row in rows]


PIECES = st.lists(
    st.one_of(
        st.binary(max_size=6), st.text(max_size=4).map(lambda it: it.encode("utf-8", "surrogatepass")),
        st.sampled_from([b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"\xc3",
                         b"\xe2\x82", b"\xf0\x9f\x8e", b"\0", b"plain ascii text of some length", "Ñ".encode(), b"\xfe"]),
    ), max_size=5,
).map(b"".join)  # fmt: skip


@MANY
@given(PIECES, st.binary(max_size=3))
@example(b"1234567\xc3", b"")
@example(b"\xc3", b"")
@example(b"12345678", b"\0")
@example(b"1234567\0", b"")
def test_clean_utf8_is_what_python_decodes_without_nul(data: bytes, before: bytes) -> None:
    try:
        expected = "\0" not in data.decode()
    except UnicodeDecodeError:
        expected = False
    # What stands behind the cell must not complete it: here the continuation bytes that it may lack.
    buffer = np.frombuffer(before + data + b"\xa0" * 64, dtype=np.uint8)
    assert bool(is_clean_utf8(buffer, len(before), len(data))) is expected


STRICT = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2}) ([0-9]{2}):([0-9]{2}):([0-9]{2})", re.ASCII)
MOMENTS = st.one_of(
    st.datetimes().map(lambda it: f"{it:%m-%d %H:%M:%S}").flatmap(
        lambda rest: st.integers(0, 9999).map(lambda year: f"{year:04d}-{rest}")
    ),
    st.tuples(*(st.integers(0, top) for top in (9999, 13, 32, 25, 61, 61))).map(
        lambda it: "{:04d}-{:02d}-{:02d} {:02d}:{:02d}:{:02d}".format(*it)
    ),
    st.text(alphabet="0123456789-: T/", min_size=19, max_size=19),
)  # fmt: skip


@MANY
@given(MOMENTS)
@example("2000-02-29 00:00:00")
@example("1900-02-29 00:00:00")
@example("0001-01-01 00:00:00")
@example("0000-01-01 00:00:00")
@example("9999-12-31 23:59:59")
@example("2025-01-27 24:00:00")
def test_a_moment_is_what_datetime_says(text: str) -> None:
    expected = int(NO_DATE)
    match = STRICT.fullmatch(text)
    if match:
        with suppress(ValueError):
            moment = datetime(*map(int, match.groups()), tzinfo=UTC)  # type: ignore[arg-type, misc]
            expected = (moment - EPOCH) // timedelta(microseconds=1)
    found = int(parse_moment(padded(text.encode()), 0))
    assert found == expected
    if found != NO_DATE:
        assert moment_of(text) == (found, True)


def block_of(cells: list[dict[str, str | None]]) -> RowBlock:
    """Rows as the page reader would leave them: each cell TEXT or NULL, one behind the other."""
    block, data = RowBlock(), bytearray(b"\x37")
    block.rows = len(cells)
    for row, names in enumerate(cells):
        block.ids[row] = row + 1
        block.placed[row] = IN_PAGE
        for name, text in names.items():
            encoded = b"" if text is None else text.encode("utf-8", "surrogatepass")
            block.kind[row, SLOT[name]] = NULL if text is None else TEXT
            block.start[row, SLOT[name]], block.size[row, SLOT[name]] = len(data), len(encoded)
            data += encoded
    # Digits behind the last cell: a kernel that reads on would find a number there.
    block.buffer = np.frombuffer(bytes(data) + b"5" * 64, dtype=np.uint8)
    return block


def parsed(texts: list[str]) -> list[tuple[int, int]]:
    """(number, state) of each text by the kernel."""
    block = block_of([{"numero": text} for text in texts])
    number, state = np.zeros(BLOCK_ROWS, dtype=np.int64), np.zeros(BLOCK_ROWS, dtype=np.uint8)
    parse_numbers(
        block.buffer, block.rows, SLOT["numero"], block.start, block.size, block.kind, block.placed,
        np.frombuffer(phone_utils.VALID_PREFIX, dtype=np.bool_), number, state,
    )  # fmt: skip
    return list(zip(number[: block.rows].tolist(), state[: block.rows].tolist(), strict=True))


HOSTILE = "0123456789 +-.()/,;x#*ñ"
HOSTILE += "\u200b\u00a0\u2007\u202a\ufeff\t\r\n\v\f\0\x1c\x85\u0661\u0967\uff15\uff0b\u2010\u2212~\U0001d7d8"
NATIONAL = st.one_of(st.integers(2_000_000_000, 9_999_999_999), st.integers(0, 10**11)).map(str)
PREFIXES = st.sampled_from(
    ["", "+52", "52", "0052", "+521", "521", "00521", "01", "044", "045", "+52044", "5201", "+", "++52", "1", "0", "00",
     "011", "+1", "+52 1", "+5 2", " +52", "+0052", "+044", "-+52", "(+52)", "０１", "+52+", "52+"]
)  # fmt: skip


def spaced(text: str) -> st.SearchStrategy[str]:
    """`text` with punctuation, white space or worse between its characters."""
    gaps = st.lists(
        st.one_of(st.just(""), st.text(alphabet=HOSTILE, max_size=2)), min_size=len(text), max_size=len(text)
    )
    return gaps.map(lambda found: "".join(gap + char for gap, char in zip(found, text, strict=True)))


WRITTEN = st.one_of(
    st.tuples(PREFIXES, NATIONAL).map("".join),
    st.tuples(PREFIXES, NATIONAL).map("".join).flatmap(spaced),
    st.text(alphabet=HOSTILE, max_size=LONGEST + 3),
    st.text(max_size=20),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(WRITTEN, min_size=1, max_size=25))
@example(["55 1234 5678", "5512345678", "+525512345678", "(55)12345678", "045-55-1234-5678", "55123456789"])
@example(["5" * 41, " " * 30 + "5512345678", " " * 31 + "5512345678", "", " ", "+", "\t5512345678\n"])
def test_a_number_that_the_kernel_reads_is_the_scalar_rules_number(texts: list[str]) -> None:
    for text, (number, state) in zip(texts, parsed(texts), strict=True):
        verdict = phone_utils.normalize(text)
        if state == ASK:
            assert number == 0
            continue
        assert number == verdict.national, text
        assert (state == PLAIN) == (text == str(number)), text


def test_plain_and_usual_spellings_never_ask_the_scalar_rule() -> None:
    texts = ["5512345678", "+525512345678", "525512345678", "0445512345678", "01 55 1234 5678", "(55) 1234-5678"]
    assert [number for number, state in parsed(texts) if state != ASK] == [5512345678] * len(texts)


TEXTS = st.one_of(
    st.none(), st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9_999_999_999), INT64, st.lists(TEXTS, min_size=9, max_size=9)), max_size=6),
    st.data(),
)
def test_rows_are_fingerprinted_as_one_by_one(
    rows: list[tuple[int, int, list[str | None]]], data: st.DataObject
) -> None:
    block = block_of([dict(zip(CARRIED, texts, strict=True)) for _, _, texts in rows])
    ids = np.array([row[1] for row in rows], dtype=np.int64)
    number = np.array([row[0] for row in rows], dtype=np.int64)
    wanted = np.array([data.draw(st.booleans()) for _ in rows], dtype=np.bool_)
    total = fingerprint_rows(block.buffer, wanted, ids, number, CARRIED_SLOTS, block.start, block.size, block.kind)
    one_by_one = (fingerprint_of(row[1], row[0], tuple(row[2])) for row, its in zip(rows, wanted, strict=True) if its)
    assert int(total) == sum(one_by_one) % 2**64


@pytest.mark.parametrize("seed", range(4))
def test_seen_numbers_are_a_set_that_keeps_the_first(seed: int) -> None:
    rng = np.random.default_rng(seed)
    seen, known = SeenNumbers(), set[int]()
    for size in (1, 50, 9000, 20_000, 3000):  # far more than the 4,096 pages that it starts with
        spread = rng.integers(0, 10**10, size)
        close = rng.integers(5_500_000_000, 5_500_000_000 + size // 2 + 1, size)
        edge = rng.choice([0, 1, 63, 64, NUMBERS_A_PAGE - 1, NUMBERS_A_PAGE, 9_999_999_999], size)
        numbers = np.where(rng.random(size) < 0.5, spread, np.where(rng.random(size) < 0.7, close, edge))
        expected = []
        for number in numbers.tolist():
            expected.append(number > 0 and number not in known)
            known.add(number)
        assert seen.add(numbers.astype(np.int64)).tolist() == expected
    assert (9_999_999_999 // NUMBERS_A_PAGE) < PAGES


def find(learned: LearnedValues, key: bytes, seed: int) -> int:
    return int(find_value(padded(key), 0, len(key), seed, learned.entries, learned.pool))


@pytest.mark.parametrize(
    ("most_keys", "most_bytes"), [(values.MOST_KEYS, values.MOST_BYTES), (40, 10**6), (10**6, 300)]
)
def test_learned_values_are_exact_and_stop_learning_when_full(
    monkeypatch: pytest.MonkeyPatch, most_keys: int, most_bytes: int
) -> None:
    monkeypatch.setattr(values, "MOST_KEYS", most_keys)
    monkeypatch.setattr(values, "MOST_BYTES", most_bytes)
    rng = np.random.default_rng(7)
    learned, taught = LearnedValues(), dict[tuple[bytes, int], int]()
    spent = 0
    for value in range(200):
        key, seed = rng.bytes(int(rng.integers(0, 12))), int(rng.integers(0, 3))
        if (key, seed) in taught:
            continue
        learned.teach(key, value, seed)
        if len(taught) < most_keys and spent + len(key) <= most_bytes:
            taught[key, seed] = value
            spent += len(key)
        for (known, its_seed), its_value in taught.items():
            assert find(learned, known, its_seed) == its_value
        unknown = rng.bytes(5)
        if (unknown, 0) not in taught:
            assert find(learned, unknown, 0) == UNKNOWN


def test_integers_of_every_size_are_read_back() -> None:
    """The constants 0 and 1 take no byte in a record; all others do."""
    numbers = [0, 1, -1, 127, -128, 2**15, -(2**23), 2**31, 2**47 - 1, 2**63 - 1, -(2**63)]
    block = RowBlock()
    data = b""
    for row, number in enumerate(numbers):
        block.kind[row, 3] = INTEGER
        packed = b"" if number in (0, 1) else struct.pack(">q", number)
        block.start[row, 3], block.size[row, 3] = len(data), len(packed) or -number
        data += packed
    block.buffer = padded(data)
    assert [block.cell(row, 3) for row in range(len(numbers))] == numbers
