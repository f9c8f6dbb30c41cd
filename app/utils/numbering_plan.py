"""The national numbering plan in memory: which range a number lies in, hence its line type and first operator.

Look-up goes over one int32 array, `blocks`: blocks of ten thousand numbers first (4 MB, it stays in cache), then
blocks of a thousand where a block is not of one piece, then a walk over the ranges that share such a thousand.
numba compiles the functions here; kernels elsewhere call `find_range` and `line_type_code` inline. Tables are passed
as arguments and never as globals: numba's cache on disk would keep yesterday's values of a global.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import phonenumbers
from numba import njit
from numpy.typing import NDArray
from phonenumbers import PhoneNumberType

from app.utils.phone_utils import COUNTRY_CODE

LINE_TYPES: Final = ("mobile", "fixed", "toll_free", "premium", "shared_cost", "personal", "unassigned")
MOBILE, FIXED, TOLL_FREE, PREMIUM, SHARED_COST, PERSONAL, UNASSIGNED = range(len(LINE_TYPES))
GEOGRAPHIC: Final = 255
NUMBERS: Final = 10**10
NO_DATE: Final = np.iinfo(np.int32).min
_TOP_BLOCKS: Final = NUMBERS // 10_000

_TYPE_CODES: Final = {
    PhoneNumberType.TOLL_FREE: TOLL_FREE,
    PhoneNumberType.PREMIUM_RATE: PREMIUM,
    PhoneNumberType.SHARED_COST: SHARED_COST,
    PhoneNumberType.PERSONAL_NUMBER: PERSONAL,
}


def _non_geographic() -> NDArray[np.uint8]:
    types = (
        phonenumbers.number_type(phonenumbers.PhoneNumber(country_code=COUNTRY_CODE, national_number=prefix * 10**7))
        for prefix in range(1000)
    )
    return np.array([_TYPE_CODES.get(kind, GEOGRAPHIC) for kind in types], np.uint8)


# By the three leading digits: the line type's code of a non-geographic service (800, 888, 900, 300, 500), else 255.
NON_GEOGRAPHIC: Final = _non_geographic()


@njit(cache=True, nogil=True)
def find_range(blocks: NDArray[np.int32], first: NDArray[np.int64], last: NDArray[np.int64], number: int) -> int:
    """Index of the range that holds `number` (any int64), or -1. `blocks` as `NumberingPlan.blocks`."""
    if number < 0 or number >= 10_000_000_000:
        return -1
    found = int(blocks[number // 10_000])
    if found >= -1:
        return found
    found = int(blocks[1_000_000 + (-2 - found) * 10 + (number // 1_000) % 10])
    if found >= -1:
        return found
    index = -2 - found
    while index < first.shape[0] and first[index] <= number:
        if number <= last[index]:
            return index
        index += 1
    return -1


@njit(cache=True, nogil=True)
def line_type_code(
    number: int, range_index: int, line_type: NDArray[np.uint8], non_geographic: NDArray[np.uint8]
) -> int:
    """Code of the line type (index into LINE_TYPES) of `number`, whose range is `range_index` (-1: none).

    `line_type` is the plan's column, `non_geographic` is NON_GEOGRAPHIC, which wins over the plan.
    """
    if 0 <= number < 10_000_000_000:
        code = non_geographic[number // 10_000_000]
        if code != 255:
            return int(code)
    if range_index < 0:
        return 6
    return int(line_type[range_index])


@njit(cache=True, nogil=True)
def _classify(
    blocks: NDArray[np.int32], first: NDArray[np.int64], last: NDArray[np.int64], numbers: NDArray[np.int64]
) -> NDArray[np.int32]:
    found = np.empty(numbers.shape[0], np.int32)
    for row in range(numbers.shape[0]):
        found[row] = find_range(blocks, first, last, numbers[row])
    return found


@njit(cache=True, nogil=True)
def _line_type_codes(
    numbers: NDArray[np.int64],
    ranges: NDArray[np.int32],
    line_type: NDArray[np.uint8],
    non_geographic: NDArray[np.uint8],
) -> NDArray[np.uint8]:
    codes = np.empty(numbers.shape[0], np.uint8)
    for row in range(numbers.shape[0]):
        codes[row] = line_type_code(numbers[row], ranges[row], line_type, non_geographic)
    return codes


@njit(cache=True, nogil=True)
def _fill_top(top: NDArray[np.int32], first: NDArray[np.int64], last: NDArray[np.int64]) -> int:
    """Fill the blocks of ten thousand; number the mixed ones -2, -3, … and return how many there are."""
    mixed = 0
    for index in range(first.shape[0]):
        for block in range(first[index] // 10_000, last[index] // 10_000 + 1):
            if first[index] <= block * 10_000 and last[index] >= block * 10_000 + 9_999:
                top[block] = index
            elif top[block] == -1:
                top[block] = -2 - mixed
                mixed += 1
    return mixed


@njit(cache=True, nogil=True)
def _fill_thousands(blocks: NDArray[np.int32], first: NDArray[np.int64], last: NDArray[np.int64]) -> None:
    """Fill the blocks of a thousand: a range that covers one wholly, or -2 - (the first range that touches it)."""
    for index in range(first.shape[0]):
        for thousand in range(first[index] // 1_000, last[index] // 1_000 + 1):
            above = blocks[thousand // 10]
            if above >= -1:
                continue
            cell = 1_000_000 + (-2 - above) * 10 + thousand % 10
            if first[index] <= thousand * 1_000 and last[index] >= thousand * 1_000 + 999:
                blocks[cell] = index
            elif blocks[cell] == -1:
                blocks[cell] = -2 - index


def direct_table(first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.int32]:
    """The array that `find_range` reads: int32[1,000,000 + 10 × mixed blocks], for sorted ranges without overlap.

    Cell n // 10,000: a range, -1 for none, or -2 - k for the k-th mixed block, whose ten thousands stand at
    1,000,000 + 10 k and hold a range, -1, or -2 - (the first range to try).
    """
    top = np.full(_TOP_BLOCKS, -1, np.int32)
    mixed = _fill_top(top, first, last)
    blocks = np.concatenate([top, np.full(10 * mixed, -1, np.int32)])
    _fill_thousands(blocks, first, last)
    return blocks


@dataclass(frozen=True, slots=True, eq=False)
class NumberingPlan:
    """One version of the plan, R ranges sorted by number.

    Columns: first, last int64[R] (both inclusive, ten digits); line_type uint8[R] (MOBILE or FIXED);
    operator int32[R] (index into operators); assigned_on int32[R] (days since 1970-01-01, NO_DATE for none).
    `version` is the newest day of assignment, ISO; `blocks` is `direct_table` of the ranges.
    """

    version: str
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    line_type: NDArray[np.uint8]
    operator: NDArray[np.int32]
    operators: tuple[str, ...]
    assigned_on: NDArray[np.int32]
    blocks: NDArray[np.int32]
    id: int | None = None

    @classmethod
    def from_columns(
        cls,
        *,
        version: str,
        first: NDArray[np.int64],
        last: NDArray[np.int64],
        line_type: NDArray[np.uint8],
        operator: NDArray[np.int32],
        operators: tuple[str, ...],
        assigned_on: NDArray[np.int32],
        plan_id: int | None = None,
    ) -> Self:
        """The plan of these columns, in the order of `first`.

        Raises: ValueError when ranges overlap, are upside down, not sorted, or outside ten digits.
        """
        whole = (first >= 0) & (first <= last) & (last < NUMBERS)
        if not bool(whole.all()) or bool((first[1:] <= last[:-1]).any()):
            raise ValueError("ranges must be sorted, without overlap, and of at most ten digits")
        first, last = np.ascontiguousarray(first, np.int64), np.ascontiguousarray(last, np.int64)
        return cls(
            version=version,
            first=first,
            last=last,
            line_type=np.ascontiguousarray(line_type, np.uint8),
            operator=np.ascontiguousarray(operator, np.int32),
            operators=operators,
            assigned_on=np.ascontiguousarray(assigned_on, np.int32),
            blocks=direct_table(first, last),
            id=plan_id,
        )

    def __len__(self) -> int:
        """How many ranges the plan has."""
        return int(self.first.shape[0])

    @property
    def number_count(self) -> int:
        """How many numbers the plan assigns."""
        return int((self.last - self.first + 1).sum())

    def direct_table(self) -> NDArray[np.int32]:
        """The array for `find_range(blocks, first, last, number)`."""
        return self.blocks

    def classify(self, numbers: NDArray[np.int64]) -> NDArray[np.int32]:
        """Range index of each number, int32[n]; -1 where the plan assigns it to nobody. Any int64 will do."""
        found: NDArray[np.int32] = _classify(self.blocks, self.first, self.last, numbers)
        return found

    def line_type_codes(self, numbers: NDArray[np.int64], ranges: NDArray[np.int32]) -> NDArray[np.uint8]:
        """Code of the line type (index into LINE_TYPES) of each number, uint8[n]; `ranges` from `classify`."""
        codes: NDArray[np.uint8] = _line_type_codes(numbers, ranges, self.line_type, NON_GEOGRAPHIC)
        return codes

    def find(self, number: int) -> int:
        """Range index of one number, or -1."""
        if not 0 <= number < NUMBERS:
            return -1
        return int(find_range(self.blocks, self.first, self.last, number))

    def line_type_of(self, number: int) -> str:
        """Line type of one number, a word of LINE_TYPES."""
        return LINE_TYPES[line_type_code(number, self.find(number), self.line_type, NON_GEOGRAPHIC)]

    def operator_of(self, number: int) -> str | None:
        """The operator that `number` was first assigned to (it can have been ported since), or None."""
        index = self.find(number)
        return None if index < 0 else self.operators[self.operator[index]]
