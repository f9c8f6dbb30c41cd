"""Clean rows of `numeros`, encoded as SQLite records, one loop in numba. Every cell is a pure function of (seed, row).

Why by hand: Python objects and sqlite3's executemany cost 8 to 10 µs a row, this loop about 0.5 µs.
Source: https://www.sqlite.org/fileformat2.html, "Record Format".
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from app.ingest.synthetic.numbers import NumberSpaces, mix, row_number
from app.ingest.synthetic.vocabulary import (
    GIVEN,
    MUNICIPALITY_0,
    NEIGHBORHOOD,
    SPELLING_0,
    STATE_NAME_0,
    STREET,
    STREET_KIND,
    SURNAME,
    Vocabulary,
)

Bytes = NDArray[np.uint8]


class Recipe(NamedTuple):
    """All that rows are made of: rows in the file, the seed's key, numbers, words, and the days (11 bytes each)."""

    total: int
    key: int
    spaces: NumberSpaces
    words: Vocabulary
    days: Bytes


class Row(NamedTuple):
    """One row: its number from 0, its phone number, the seed's key."""

    row: int
    number: int
    key: int


MAX_RECORD = 640
CELLS = 15  # columns after id
SECONDS_A_DAY = 86_400
START_SECOND = 8 * 3_600 + 17 * 60 + 5
DAYS = 6
# Serial types of SQLite's record format.
NULL, ZERO, ONE, TEXT_0 = 0, 8, 9, 13

SPACE, ZERO_DIGIT, COLON, LETTER_X = 32, 48, 58, 88
INNER = np.frombuffer(b" INT ", np.uint8)
BETWEEN = np.frombuffer(b" ESQ CON ", np.uint8)
POSTCODE = np.frombuffer(b" CP ", np.uint8)


@njit(cache=True, nogil=True)
def _bits(hashed: np.uint64, shift: int, width: int) -> int:
    return int(np.int64((hashed >> np.uint64(shift)) & ((np.uint64(1) << np.uint64(width)) - np.uint64(1))))


@njit(cache=True, nogil=True)
def _put_digits(buffer: Bytes, at: int, value: int, width: int) -> int:
    for place in range(at + width - 1, at - 1, -1):
        buffer[place] = ZERO_DIGIT + value % 10
        value //= 10
    return at + width


@njit(cache=True, nogil=True)
def _put_integer(buffer: Bytes, at: int, value: int) -> int:
    width = 1
    while value >= 10**width:
        width += 1
    return int(_put_digits(buffer, at, value, width))


@njit(cache=True, nogil=True)
def _put_word(buffer: Bytes, at: int, words: Vocabulary, word: int) -> int:
    for place in range(words.offsets[word], words.offsets[word + 1]):
        buffer[at] = words.blob[place]
        at += 1
    return at


@njit(cache=True, nogil=True)
def _put_ascii(buffer: Bytes, at: int, text: Bytes) -> int:
    for place in range(text.shape[0]):
        buffer[at] = text[place]
        at += 1
    return at


@njit(cache=True, nogil=True)
def _put_space(buffer: Bytes, at: int) -> int:
    buffer[at] = SPACE
    return at + 1


@njit(cache=True, nogil=True)
def _letter(words: Vocabulary, place: int) -> int:
    """An ASCII letter of a word; X for the others, as tax ids have it for Ñ."""
    return int(words.blob[place] if words.blob[place] < 128 else LETTER_X)


@njit(cache=True, nogil=True)
def _first_vowel(words: Vocabulary, word: int) -> int:
    for place in range(words.offsets[word] + 1, words.offsets[word + 1]):
        letter = words.blob[place]
        if letter in (65, 69, 73, 79, 85):
            return int(letter)
    return LETTER_X


# Each _put_… below appends one cell's text to `buffer` and returns the new end; an unchanged end means NULL.


@njit(cache=True, nogil=True)
def _put_original(buffer: Bytes, at: int, number: int, bits: np.uint64) -> int:
    """campo1_original: mostly the number, else as people used to dial it."""
    kind = _bits(bits, 0, 7)
    if kind < 8:
        return at
    if kind < 24:
        at = _put_digits(buffer, at, 44, 3)
    elif kind < 34:
        at = _put_digits(buffer, at, 52, 2)
    elif kind < 40:
        at = _put_digits(buffer, at, 1, 2)
    elif kind < 44:
        at = _put_digits(buffer, at, 45, 3)
    return int(_put_digits(buffer, at, number, 10))


@njit(cache=True, nogil=True)
def _put_name(buffer: Bytes, at: int, words: Vocabulary, bits: np.uint64) -> int:
    if _bits(bits, 50, 7) < 3:
        return at
    at = _put_word(buffer, at, words, words.slots[GIVEN, _bits(bits, 0, 10)])
    if _bits(bits, 40, 10) < 780:
        at = _put_space(buffer, at)
        at = _put_word(buffer, at, words, words.slots[GIVEN, _bits(bits, 10, 10)])
    at = _put_space(buffer, at)
    at = _put_word(buffer, at, words, words.slots[SURNAME, _bits(bits, 20, 10)])
    at = _put_space(buffer, at)
    return int(_put_word(buffer, at, words, words.slots[SURNAME, _bits(bits, 30, 10)]))


@njit(cache=True, nogil=True)
def _put_tax_id(buffer: Bytes, at: int, words: Vocabulary, name_bits: np.uint64, bits: np.uint64) -> int:
    """campo3: the RFC that the invented name would have; its date and check characters are drawn."""
    if _bits(bits, 0, 7) < 70:
        return at
    surname = words.slots[SURNAME, _bits(name_bits, 20, 10)]
    buffer[at] = _letter(words, words.offsets[surname])
    buffer[at + 1] = _first_vowel(words, surname)
    buffer[at + 2] = _letter(words, words.offsets[words.slots[SURNAME, _bits(name_bits, 30, 10)]])
    buffer[at + 3] = _letter(words, words.offsets[words.slots[GIVEN, _bits(name_bits, 0, 10)]])
    at = _put_digits(buffer, at + 4, (40 + _bits(bits, 7, 6)) % 100, 2)
    at = _put_digits(buffer, at, 1 + _bits(bits, 13, 10) % 12, 2)
    at = _put_digits(buffer, at, 1 + _bits(bits, 23, 10) % 28, 2)
    for place in range(3):
        symbol = _bits(bits, 33 + 10 * place, 10) % 35
        buffer[at + place] = 49 + symbol if symbol < 9 else 65 + symbol - 9
    return at + 3


@njit(cache=True, nogil=True)
def _put_address(buffer: Bytes, at: int, words: Vocabulary, bits: np.uint64) -> int:
    if _bits(bits, 56, 7) < 9:
        return at
    at = _put_word(buffer, at, words, words.slots[STREET_KIND, _bits(bits, 0, 10)])
    at = _put_space(buffer, at)
    at = _put_word(buffer, at, words, words.slots[STREET, _bits(bits, 10, 10)])
    at = _put_space(buffer, at)
    at = _put_integer(buffer, at, 1 + _bits(bits, 20, 11))
    extra = _bits(bits, 31, 4)
    if extra < 6:
        at = _put_ascii(buffer, at, INNER)
        at = _put_integer(buffer, at, 1 + _bits(bits, 35, 5))
    elif extra < 12:
        at = _put_ascii(buffer, at, BETWEEN)
        at = _put_word(buffer, at, words, words.slots[STREET, _bits(bits, 40, 10)])
    if _bits(bits, 50, 2) == 0:
        at = _put_ascii(buffer, at, POSTCODE)
        at = _put_digits(buffer, at, 20_000 + _bits(bits, 35, 16), 5)
    return at


@njit(cache=True, nogil=True)
def _put_date(buffer: Bytes, at: int, row: int, total: int, days: Bytes) -> int:
    """fecha_migracion: rises with the row over DAYS days, as a long import writes it. `days`: 11 bytes each."""
    second = START_SECOND + row * ((DAYS - 1) * SECONDS_A_DAY) // total
    day, second = second // SECONDS_A_DAY, second % SECONDS_A_DAY
    at = _put_ascii(buffer, at, days[11 * day : 11 * day + 11])
    at = _put_digits(buffer, at, second // 3600, 2)
    buffer[at] = COLON
    at = _put_digits(buffer, at + 1, second // 60 % 60, 2)
    buffer[at] = COLON
    return int(_put_digits(buffer, at + 1, second % 60, 2))


@njit(cache=True, nogil=True)
def _text(serial: NDArray[np.int64], cell: int, start: int, end: int) -> int:
    serial[cell] = TEXT_0 + 2 * (end - start) if end > start else NULL
    return end


@njit(cache=True, nogil=True)
def _put_person(buffer: Bytes, serial: NDArray[np.int64], words: Vocabulary, row: Row) -> int:
    """Cells 0 to 5: numero, campo1_original, nombre, campo3, direccion, colonia."""
    name_bits, other_bits = mix(row.key, row.row, 1), mix(row.key, row.row, 2)
    at = _text(serial, 0, 0, _put_digits(buffer, 0, row.number, 10))
    at = _text(serial, 1, at, _put_original(buffer, at, row.number, other_bits))
    at = _text(serial, 2, at, _put_name(buffer, at, words, name_bits))
    at = _text(serial, 3, at, _put_tax_id(buffer, at, words, name_bits, mix(row.key, row.row, 3)))
    at = _text(serial, 4, at, _put_address(buffer, at, words, mix(row.key, row.row, 4)))
    end = at
    if _bits(other_bits, 10, 7) >= 14:
        end = _put_word(buffer, at, words, words.slots[NEIGHBORHOOD, _bits(other_bits, 20, 10)])
    return int(_text(serial, 5, at, end))


@njit(cache=True, nogil=True)
def _put_place(buffer: Bytes, serial: NDArray[np.int64], at: int, words: Vocabulary, row: Row) -> int:
    """Cells 6 to 10: municipio_csv, estado_sep, municipio_sep, estado_cof, municipio_cof."""
    bits = mix(row.key, row.row, 5)
    state = words.state[row.number // 10_000_000]
    if _bits(bits, 0, 7) < 9:
        state = _bits(bits, 7, 5)
    municipality = words.slots[MUNICIPALITY_0 + state, _bits(bits, 12, 10)]
    has_csv, has_sep, has_cof = _bits(bits, 22, 7) >= 58, _bits(bits, 29, 7) >= 58, _bits(bits, 36, 7) >= 47
    end = _put_word(buffer, at, words, municipality) if has_csv else at
    at = _text(serial, 6, at, end)
    end = _put_word(buffer, at, words, words.slots[STATE_NAME_0 + state, 0]) if has_sep else at
    at = _text(serial, 7, at, end)
    end = _put_word(buffer, at, words, municipality) if has_sep else at
    at = _text(serial, 8, at, end)
    end = _put_word(buffer, at, words, words.slots[SPELLING_0 + state, _bits(bits, 43, 10)]) if has_cof else at
    at = _text(serial, 9, at, end)
    end = _put_word(buffer, at, words, municipality) if has_cof and _bits(bits, 53, 5) > 0 else at
    return int(_text(serial, 10, at, end))


@njit(cache=True, nogil=True)
def _put_lada(buffer: Bytes, serial: NDArray[np.int64], at: int, words: Vocabulary, row: Row) -> int:
    """Cells 11 and 12: lada, ciudad_por_lada. Two-digit LADAs are mostly cut to three digits and not found."""
    bits = mix(row.key, row.row, 6)
    prefix = row.number // 10_000_000
    city = words.city[prefix]
    if words.big_city[prefix] >= 0 and _bits(bits, 0, 7) >= 90:
        city = words.big_city[prefix]
        at = _text(serial, 11, at, _put_digits(buffer, at, prefix // 10, 2))
    elif city < 0 and _bits(bits, 7, 6) < 2:
        at = _text(serial, 11, at, at)
    else:
        at = _text(serial, 11, at, _put_digits(buffer, at, prefix, 3))
    end = _put_word(buffer, at, words, words.slots[city, 0]) if city >= 0 else at
    return int(_text(serial, 12, at, end))


@njit(cache=True, nogil=True)
def _put_varint(buffer: Bytes, at: int, value: int) -> int:
    """`value` below 16,384 (the cells here are short)."""
    if value < 128:
        buffer[at] = value
        return at + 1
    buffer[at] = 128 | (value >> 7)
    buffer[at + 1] = value & 127
    return at + 2


@njit(cache=True, nogil=True)
def _put_record(out: Bytes, at: int, serial: NDArray[np.int64], body: Bytes, body_bytes: int) -> int:
    """Header and body; the header starts with its size and a NULL for id, which the row number stands for."""
    start = at
    at += 1
    out[at] = NULL
    at += 1
    for cell in range(CELLS):
        at = _put_varint(out, at, serial[cell])
    out[start] = at - start
    for place in range(body_bytes):
        out[at + place] = body[place]
    return at + body_bytes


@njit(cache=True, nogil=True)
def encode_rows(
    first_row: int,
    starts: NDArray[np.int64],
    out: Bytes,
    recipe: Recipe,
    prefix_counts: NDArray[np.int64],
) -> None:
    """Encode rows first_row … first_row + n - 1, all clean, into `out`; record r is out[starts[r]:starts[r + 1]].

    `starts` int64[n + 1] is filled; `out` holds MAX_RECORD a row; `prefix_counts` int64[1000] is added to: rows by
    the first three digits of their number.
    """
    body = np.empty(MAX_RECORD, np.uint8)
    serial = np.zeros(CELLS, np.int64)
    words, key = recipe.words, recipe.key
    at = 0
    for offset in range(starts.shape[0] - 1):
        row = Row(first_row + offset, row_number(recipe.spaces, first_row + offset, key), key)
        prefix_counts[row.number // 10_000_000] += 1
        end = _put_person(body, serial, words, row)
        end = _put_place(body, serial, end, words, row)
        end = _put_lada(body, serial, end, words, row)
        flag = _bits(mix(key, row.row, 7), 0, 10)
        serial[13] = NULL if flag == 0 else (ZERO if flag < 13 else ONE)
        end = _text(serial, 14, end, _put_date(body, end, row.row, recipe.total, recipe.days))
        starts[offset] = at
        at = _put_record(out, at, serial, body, end)
    starts[starts.shape[0] - 1] = at
