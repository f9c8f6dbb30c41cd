"""Mexican phone numbers: from whatever a cell holds to ten digits, or the reason why not.

The columnar form (the kernel of the migration) reads the constants of this module; a property test holds both
forms equal, and both equal to phonenumbers after the strip step.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumber, ValidationResult

COUNTRY_CODE: Final = 52
REGION: Final = "MX"
NATIONAL_DIGITS: Final = 10
# phonenumbers refuses to read more (phonenumberutil._MAX_INPUT_STRING_LENGTH).
MAX_READ: Final = 250

# LADAs of two digits; every other has three (national numbering plan in force since 2019-08-03).
TWO_DIGIT_LADAS: Final = ("33", "55", "56", "81")

# Dialling prefixes abolished on 2019-08-03 and 0052, as they stand before ten digits, with nothing or with a plus
# in front. `52` alone, `+52` and `0052` before ten digits need no strip, but 0052 is cut all the same.
_TRUNK: Final = ("1", "01", "044", "045")
STRIP_PREFIXES: Final = frozenset(
    ("01", "044", "045", "0052", *("52" + trunk for trunk in _TRUNK), *("0052" + trunk for trunk in _TRUNK))
)
STRIP_PREFIXES_PLUS: Final = frozenset("52" + trunk for trunk in _TRUNK)
LONGEST_STRIP_PREFIX: Final = max(map(len, STRIP_PREFIXES))
# The same for code that compares integers: the prefix with a 1 in front, so that leading zeros count.
STRIP_CODES: Final = tuple(sorted(int("1" + prefix) for prefix in STRIP_PREFIXES))
STRIP_CODES_PLUS: Final = tuple(sorted(int("1" + prefix) for prefix in STRIP_PREFIXES_PLUS))

# What is removed before anything is read: white space (str.isspace, which \s is together with 1C-1F), NUL, soft
# hyphen, joiners, fillers and the blank Braille cell, Mongolian and variation selectors, zero-width and bidi controls.
_INVISIBLE: Final = (
    r"\s\x00\x1c-\x1f\x85\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    r"\u2028-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0"
)
_IGNORED: Final = re.compile(f"[{_INVISIBLE}]+")

# The punctuation phonenumbers reads between digits (its _VALID_PUNCTUATION without the x of carrier codes).
PUNCTUATION: Final = "-‐‑‒–—―−ー－/／.．()（）[]［］~⁓∼～"
_PUNCTUATION_CLASS: Final = re.escape(PUNCTUATION)
_PLAIN: Final = re.compile(rf"[{_PUNCTUATION_CLASS}]*([+＋]?)[{_PUNCTUATION_CLASS}\d]*")
_MEXICAN: Final = re.compile(r"(?:\+?52)?([2-9][0-9]{9})")

_PARSE_REASONS: Final = {
    NumberParseException.INVALID_COUNTRY_CODE: "invalid",
    NumberParseException.NOT_A_NUMBER: "not_a_number",
    NumberParseException.TOO_SHORT_AFTER_IDD: "too_short",
    NumberParseException.TOO_SHORT_NSN: "too_short",
    NumberParseException.TOO_LONG: "too_long",
}
_LENGTH_REASONS: Final = {
    ValidationResult.TOO_SHORT: "too_short",
    ValidationResult.IS_POSSIBLE_LOCAL_ONLY: "too_short",
    ValidationResult.TOO_LONG: "too_long",
}

REASONS: Final = ("empty", "not_a_number", "too_short", "too_long", "invalid", "foreign")


@dataclass(frozen=True, slots=True)
class PhoneVerdict:
    """What a text is as a phone number. Accepted: `reason` is None and `national`, `e164` are set."""

    national: int | None
    e164: str | None
    reason: str | None
    country_code: int | None = None


def _valid_prefixes() -> bytes:
    numbers = (PhoneNumber(country_code=COUNTRY_CODE, national_number=prefix * 10**7) for prefix in range(1000))
    return bytes(index >= 200 and phonenumbers.is_valid_number(number) for index, number in enumerate(numbers))


# VALID_PREFIX[n // 10**7] == 1: phonenumbers calls the ten-digit number n valid. Its Mexican metadata look at three
# digits only (a property test proves it over random numbers), so this table is its whole verdict.
VALID_PREFIX: Final[bytes] = _valid_prefixes()


def clean(text: str) -> str:
    """`text` without white space of any kind, NUL and characters that have no width."""
    return _IGNORED.sub("", text)


def strip_prefix(cleaned: str) -> str:
    """The ten digits behind an old dialling prefix, else `cleaned` as it is.

    Rule: when `cleaned` (at most 250 characters) is digits of any script, punctuation that phonenumbers reads, and at
    most one leading plus; and when its digits are ten digits with one of these in front, the ten digits are returned:
    01, 044, 045, 0052, 52 or 0052 followed by 1, 01, 044 or 045; behind a plus: 52 followed by 1, 01, 044 or 045.
    Ten digits alone are never cut, whatever they begin with, nor is a text with letters in it.
    Source: Plan Técnico Fundamental de Numeración, dialling in force since 2019-08-03.
    """
    if len(cleaned) > MAX_READ:
        return cleaned
    match = _PLAIN.fullmatch(cleaned)
    if match is None:
        return cleaned
    digits = "".join(str(int(char)) for char in cleaned if char.isdecimal())
    prefixes = STRIP_PREFIXES_PLUS if match[1] else STRIP_PREFIXES
    return digits[-NATIONAL_DIGITS:] if digits[:-NATIONAL_DIGITS] in prefixes else cleaned


def normalize(text: str) -> PhoneVerdict:
    """The verdict on `text`: clean, strip_prefix, then exactly what phonenumbers says with Mexico as the region.

    Accepted is a number that phonenumbers calls valid and Mexican; one valid in another country is 'foreign'.
    Never raises, whatever the text holds.
    """
    cleaned = clean(text)
    if not cleaned:
        return PhoneVerdict(None, None, "empty")
    stripped = cleaned
    match = _MEXICAN.fullmatch(cleaned)
    if match is None:
        stripped = strip_prefix(cleaned)
        match = _MEXICAN.fullmatch(stripped)
    if match is not None and VALID_PREFIX[int(match[1][:3])]:
        return _accepted(int(match[1]))
    return _ask_phonenumbers(stripped)


def _accepted(national: int) -> PhoneVerdict:
    return PhoneVerdict(national, f"+{COUNTRY_CODE}{national:010d}", None, COUNTRY_CODE)


def _ask_phonenumbers(stripped: str) -> PhoneVerdict:
    try:
        number = phonenumbers.parse(stripped, REGION)
    except NumberParseException as error:
        return PhoneVerdict(None, None, _PARSE_REASONS[error.error_type])
    country = number.country_code
    if phonenumbers.is_valid_number(number):
        if country == COUNTRY_CODE and number.national_number is not None:
            return _accepted(number.national_number)
        return PhoneVerdict(None, None, "foreign", country)
    length = phonenumbers.is_possible_number_with_reason(number)
    return PhoneVerdict(None, None, _LENGTH_REASONS.get(length, "invalid"), country)


def lada_of(national: int) -> str:
    """The area code of a ten-digit national number: 33, 55, 56, 81, else its first three digits."""
    two = str(national // 10**8)
    return two if two in TWO_DIGIT_LADAS else str(national // 10**7)
