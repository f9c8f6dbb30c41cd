"""The dirt of old data: what is wrong with a row, drawn by weight from the seed and the row alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numba import njit
from numpy.typing import NDArray

from app.ingest.synthetic.numbers import mix, number_in, row_number
from app.ingest.synthetic.places import UNKNOWN_STATES
from app.ingest.synthetic.records import Cell, RawText
from app.ingest.synthetic.rows import Recipe

# Places of cells in a row without its id.
NUMBER, STATE, LADA, FLAG, DATE = 0, 9, 11, 13, 14
TEXT_CELLS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)
LONG_TEXT = (700, 1_200, 4_100, 9_000, 70_000)
MEGABYTE = 1 << 20

OLD_PREFIXES = ("044{}", "045{}", "01{}", "+52{}", "52{}", "521{}", "+521{}", "0052{}", "00521{}", "+52 1 {}")
# The last four of each number are set apart as people write them.
FORMATS = (
    "{0} {1}", "{0}-{1}", "({2}) {3} {1}", "{2}-{3}-{1}", " {0}{1}", "{0}{1} ", "{0}{1}\t", "\u200b{0}{1}",
    "{0}\u200d{1}",
    "\ufeff{0}{1}", "{0}\u00a0{1}", "{0}{1}\n", "{0}\x00{1}", "+52 ({2}) {3}-{1}", "{0}.{1}", "tel:{0}{1}",
    "{0}\u2011{1}",
)  # fmt: skip
INVALID = (
    "{row:09d}", "{short}", "{number}{short}", "{number}77", "TEL{number}", "{number}A", "SIN NUMERO {row}",
    "N/A-{row}",
    "+1{foreign}", "+34612{short:06d}", "+", "00{row:012d}", "1{number}9", "{number} EXT {short}", "5{row:08d}",
    "1{row:09d}", "SIN {letters}",
    "{blank}",
)  # fmt: skip
# A row's number in letters alone, or in what cannot be seen: texts without a digit that nevertheless are all different.
_HEX_LETTERS = str.maketrans("0123456789abcdef", "ABCDEFGHIJKLMNOP")
_BLANKS = str.maketrans("01", " \u200b")
# A collision's text has a form that no other kind of dirt makes, so that numero stays unique.
COLLISIONS = ("52-{}", "044-{}", "+52-1-{}", "01-{}", "-{}", "{}-")
CONTROL = (
    "\t",
    "\n",
    "\r\n",
    "\\",
    "\\N",
    "\\.",
    '"',
    "'",
    "|",
    ";",
    "\x01",
    "\x7f",
    "\u2028",
    "😀",
    "\u0301",
    "\u202e",
)
BROKEN_UTF8 = (
    b"\xc3",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\x81\x8d",
    b"\xf0\x9f\x98",
    b"\xe1\xe9\xed\xf3\xfa\xd1",
    b"\x80\xbf",
)
DATES: tuple[Cell, ...] = (
    "AYER", "2022-13-45 99:00:00", "0000-00-00 00:00:00", "07/11/2022", "2022-11-08T10:20:30Z", "2022-11-08", "",
    "2022-11-08 10:20:30.123456", "31-12-2022 23:59", 1_667_894_400, 1_667_894_400_123, 2_459_892.5, -1,
    "2022-02-30 10:00:00",
    "2022-11-08 10:20:30\x00", b"2022-11-08 10:20:30", None,
)  # fmt: skip
FLAGS: tuple[Cell, ...] = (
    "SI",
    "NO",
    "true",
    "false",
    "VERDADERO",
    "",
    2,
    -1,
    0.5,
    b"\x01",
    None,
    "x",
    9_007_199_254_740_993,
)
NUMBERS_IN_TEXT: tuple[Cell, ...] = (0, 1, -7, 55, 44_100, 5_512_345_678, 9_223_372_036_854_775_807, 3.5, -0.25, 19.99)


@njit(cache=True, nogil=True)
def dirty_rows(first_row: int, count: int, key: int, threshold: np.uint64) -> NDArray[np.int64]:
    """Which of `count` rows from `first_row` on are dirty: their offsets, int64."""
    found = np.empty(count, np.int64)
    size = 0
    for offset in range(count):
        if mix(key, first_row + offset, 8) < threshold:
            found[size] = offset
            size += 1
    return found[:size].copy()


class Dice:
    """Draws of one row, the same on every machine."""

    __slots__ = ("_key", "_row", "_salt")

    def __init__(self, key: int, row: int) -> None:
        self._key, self._row, self._salt = key, row, 1_000

    def below(self, limit: int) -> int:
        """An integer from 0 to limit - 1."""
        self._salt += 1
        return int(mix(self._key, self._row, self._salt)) % limit


@dataclass(frozen=True, slots=True)
class Dirt:
    """Spoils rows of a file made by `recipe`; `threshold` is the share of rows in parts of 2**64.

    `with_affinity`: cells are stored as SQLite's INSERT stores them (a number in a TEXT column becomes text).
    """

    recipe: Recipe
    threshold: int
    with_affinity: bool = True

    def is_dirty(self, row: int) -> bool:
        """Whether `row` is among the dirty ones."""
        return int(mix(self.recipe.key, row, 8)) < self.threshold

    def spoil(self, row: int, cells: list[Cell]) -> list[Cell]:
        """The cells after id of `row` with one kind of dirt, sometimes with two."""
        dice = Dice(self.recipe.key, row)
        cells = list(cells)
        for _ in range(1 if dice.below(8) else 2):
            drawn = dice.below(_EDGES[-1])
            kind = next(index for index, edge in enumerate(_EDGES) if drawn < edge)
            _KINDS[kind][1](self, row, cells, dice)
        return cells

    def own_number(self, row: int) -> str:
        """The ten digits that `row` has, or would have if it were clean."""
        return f"{row_number(self.recipe.spaces, row, self.recipe.key):010d}"

    def _collide(self, row: int, cells: list[Cell], dice: Dice) -> None:
        """numero becomes another spelling of a clean row's number: of one near or far, before or after.

        Row → other row is one to one for each form of text, hence two rows never get the same text.
        """
        form = dice.below(len(COLLISIONS))
        total = self.recipe.total
        distance = (1, 2, total // 2, total // 3, 1_000, 7)[form]
        other = (row + distance if form % 2 else row - distance) % total
        if other == row or self.is_dirty(other):
            self._old_prefix(row, cells, dice)
        else:
            cells[NUMBER] = COLLISIONS[form].format(self.own_number(other))

    def _old_prefix(self, row: int, cells: list[Cell], dice: Dice) -> None:
        cells[NUMBER] = OLD_PREFIXES[dice.below(len(OLD_PREFIXES))].format(self.own_number(row))

    def _formatted(self, row: int, cells: list[Cell], dice: Dice) -> None:
        number = self.own_number(row)
        form = FORMATS[dice.below(len(FORMATS))]
        cells[NUMBER] = form.format(number[:6], number[6:], number[:2], number[2:6])

    def _invalid(self, row: int, cells: list[Cell], dice: Dice) -> None:
        form = INVALID[dice.below(len(INVALID))]
        short = 100 + row % 900_000
        if "short" in form and "number" not in form and row >= 900_000:
            form = "{row:09d}"
        areas = (212, 213, 305, 312, 415, 512, 619, 713, 915, 956, 602, 210, 214, 323, 408, 469, 520, 559, 702, 832)
        foreign = f"{areas[row // 7_000_000 % len(areas)]}{2_000_000 + row % 7_000_000}"
        texts = {
            "row": row,
            "short": short,
            "number": self.own_number(row),
            "foreign": foreign,
            "letters": f"{row:08x}".translate(_HEX_LETTERS),
            "blank": f"{row:027b}".translate(_BLANKS),
        }
        cells[NUMBER] = f"+{row}" if form == "+" else form.format_map(texts)

    def _unassigned(self, row: int, cells: list[Cell], _dice: Dice) -> None:
        cells[NUMBER] = f"{number_in(self.recipe.spaces.unassigned, row, self.recipe.key):010d}"

    def _number_as_blob(self, row: int, cells: list[Cell], _dice: Dice) -> None:
        cells[NUMBER] = self.own_number(row).encode()

    def _state(self, _row: int, cells: list[Cell], dice: Dice) -> None:
        cells[STATE] = UNKNOWN_STATES[dice.below(len(UNKNOWN_STATES))]

    def _lada(self, _row: int, cells: list[Cell], dice: Dice) -> None:
        cells[LADA] = ("055", "52", "0", "5", "551 ", "LADA", "1234")[dice.below(7)]

    def _all_null(self, _row: int, cells: list[Cell], _dice: Dice) -> None:
        for index in range(1, len(cells)):
            cells[index] = None

    def _empty(self, _row: int, cells: list[Cell], dice: Dice) -> None:
        for index in TEXT_CELLS:
            cells[index] = ("", " ", "NULL", "-", "\u3000")[dice.below(5)]

    def _in_text(self, cells: list[Cell], dice: Dice) -> tuple[int, str]:
        """A drawn text column and what it says; a word of our own where it is NULL or no longer text."""
        index = TEXT_CELLS[dice.below(len(TEXT_CELLS))]
        cell = cells[index]
        return index, cell if isinstance(cell, str) and cell else "MUÑOZ PEÑA"

    def _blob(self, _row: int, cells: list[Cell], dice: Dice) -> None:
        index, text = self._in_text(cells, dice)
        cells[index] = (text.encode(), (1 + dice.below(5_000)).to_bytes(8, "little"), b"")[dice.below(3)]

    def _windows_1252(self, _row: int, cells: list[Cell], dice: Dice) -> None:
        index, text = self._in_text(cells, dice)
        cells[index] = RawText((text + " Ñ é “x”").encode("cp1252", "replace"))

    def _broken_utf8(self, _row: int, cells: list[Cell], dice: Dice) -> None:
        index, text = self._in_text(cells, dice)
        broken = BROKEN_UTF8[dice.below(len(BROKEN_UTF8))]
        cells[index] = RawText(text.encode() + broken + b" X")

    def _nul(self, _row: int, cells: list[Cell], dice: Dice) -> None:
        index, text = self._in_text(cells, dice)
        cells[index] = text[:3] + "\x00" + text[3:] + ("\x00" if dice.below(2) else "")

    def _control(self, _row: int, cells: list[Cell], dice: Dice) -> None:
        index, text = self._in_text(cells, dice)
        middle = len(text) // 2
        cells[index] = text[:middle] + CONTROL[dice.below(len(CONTROL))] + text[middle:]

    def _long(self, _row: int, cells: list[Cell], dice: Dice) -> None:
        index, text = self._in_text(cells, dice)
        size = MEGABYTE if dice.below(100) == 0 else LONG_TEXT[dice.below(len(LONG_TEXT))]
        cells[index] = (text + " ") * (size // (len(text) + 1) + 1)

    def _number_in_text(self, _row: int, cells: list[Cell], dice: Dice) -> None:
        index, _ = self._in_text(cells, dice)
        cells[index] = NUMBERS_IN_TEXT[dice.below(len(NUMBERS_IN_TEXT))]

    def _date(self, _row: int, cells: list[Cell], dice: Dice) -> None:
        cells[DATE] = DATES[dice.below(len(DATES))]

    def _flag(self, _row: int, cells: list[Cell], dice: Dice) -> None:
        cells[FLAG] = FLAGS[dice.below(len(FLAGS))]


_KINDS: tuple[tuple[int, Callable[[Dirt, int, list[Cell], Dice], None]], ...] = (
    (22, Dirt._old_prefix),
    (10, Dirt._formatted),
    (9, Dirt._invalid),
    (6, Dirt._unassigned),
    (16, Dirt._collide),
    (1, Dirt._number_as_blob),
    (5, Dirt._state),
    (2, Dirt._lada),
    (3, Dirt._all_null),
    (2, Dirt._empty),
    (3, Dirt._blob),
    (5, Dirt._windows_1252),
    (2, Dirt._broken_utf8),
    (2, Dirt._nul),
    (4, Dirt._control),
    (2, Dirt._long),
    (3, Dirt._number_in_text),
    (3, Dirt._date),
    (2, Dirt._flag),
)
_EDGES = tuple(accumulate(weight for weight, _ in _KINDS))
