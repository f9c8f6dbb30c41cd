"""normalize() against an oracle written another way: character by character, one regular expression, phonenumbers."""

from __future__ import annotations

import re
import unicodedata

import phonenumbers
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from phonenumbers import PhoneNumber

from app.utils import phone_utils
from app.utils.phone_utils import PhoneVerdict, clean, lada_of, normalize, strip_prefix

INVISIBLE = {
    *map(chr, [0x00, 0xAD, 0x34F, 0x61C, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFEFF, 0xFFA0]),
    *map(chr, range(0x180B, 0x1810)),
    *map(chr, range(0x200B, 0x2010)),
    *map(chr, range(0x202A, 0x202F)),
    *map(chr, range(0x2060, 0x2070)),
    *map(chr, range(0xFE00, 0xFE10)),
}
OLD_PREFIX = re.compile(
    r"(?:01|044|045|0052|(?:0052|52)(?:1|01|044|045))(?P<bare>[0-9]{10})|\+52(?:1|01|044|045)(?P<plus>[0-9]{10})"
)
READABLE = "-‐‑‒–—―−ー－/／.．()（）[]［］~⁓∼～"

punctuation = st.sampled_from([*"-().  /~[]‐–—．（", "", "", "", "\t", "\u00a0", "\u200b", "\x00", "\u2003", "\ufeff"])
prefixes = st.sampled_from(
    [
        *("", "01", "044", "045", "0052", "00521", "52", "521", "5201", "52044", "52045", "+52", "+521", "+5201"),
        *("+52044", "+52045", "005201", "0052044", "1", "+1", "001", "+34", "0034", "09", "0", "+", "++52", "＋521"),
        *("(+52)1", "521521", "+044", "+01", "+0052", "0101", "tel:+52", "tel:01", "a044", "1521"),
    ]
)
national = st.one_of(
    st.integers(2_000_000_000, 9_999_999_999).map(str),
    st.integers(0, 10**12).map(str),
    st.sampled_from(["3312345678", "5512345678", "8001234567", "9001234567", "2015550123", "5215512345", "0112345678"]),
)


@st.composite
def decorated(draw: st.DrawFn) -> str:
    """A prefix and a number with punctuation, white space and rubbish anywhere."""
    text = draw(prefixes) + draw(national)
    if draw(st.booleans()):
        text = "".join(char + draw(punctuation) for char in text)
    digits = draw(st.sampled_from(["0123456789", "٠١٢٣٤٥٦٧٨٩", "０１２３４５６７８９"]))
    text = text.translate(str.maketrans("0123456789", digits))
    return (
        draw(st.sampled_from(["", "", "(", " ", "x", "\u202e"]))
        + text
        + draw(st.sampled_from(["", "", " ext 5", "a", ";"]))
    )


def oracle(text: str) -> tuple[int | None, str | None]:
    """(national number, None) or (None, 'foreign' or 'no'), by other means than the code under test."""
    kept = "".join(char for char in text if not char.isspace() and char not in INVISIBLE)
    if len(kept) <= 250:
        bare = "".join(char for char in kept if char not in READABLE)
        folded = "".join(str(unicodedata.decimal(char, char)) for char in bare).replace("＋", "+")
        match = OLD_PREFIX.fullmatch(folded)
        # A plus counts only in front, where punctuation alone may stand before it.
        if match is not None:
            kept = match["bare"] or match["plus"]
    try:
        number = phonenumbers.parse(kept, "MX")
    except phonenumbers.NumberParseException:
        return None, "no"
    if not phonenumbers.is_valid_number(number):
        return None, "no"
    if number.country_code != 52:
        return None, "foreign"
    return number.national_number, None


def agree(text: str) -> None:
    verdict = normalize(text)
    number, reason = oracle(text)
    assert verdict.national == number
    assert (verdict.reason == "foreign") == (reason == "foreign")
    assert (verdict.reason is None) == (number is not None)
    assert verdict.reason is None or verdict.reason in phone_utils.REASONS
    if number is not None:
        assert verdict.e164 == phonenumbers.format_number(
            PhoneNumber(country_code=52, national_number=number), phonenumbers.PhoneNumberFormat.E164
        )
    else:
        assert verdict.e164 is None


@settings(max_examples=1500, deadline=None)
@given(decorated())
def test_normalize_equals_the_oracle_on_decorated_numbers(text: str) -> None:
    agree(text)


@settings(max_examples=700, deadline=None)
@given(st.text(alphabet="0123456789+-(). \u200b\x00\tx#*;,:ABCext/٣５＋", max_size=30))
@example("0" * 251)
@example("044" + "-" * 300 + "3312345678")
def test_normalize_equals_the_oracle_on_text_that_looks_like_numbers(text: str) -> None:
    agree(text)


@settings(max_examples=400, deadline=None)
@given(st.text(st.characters(exclude_categories=[]), max_size=60))
def test_normalize_equals_the_oracle_on_any_text_with_lone_surrogates(text: str) -> None:
    agree(text)


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 9_999_999_999))
def test_three_digits_decide_validity(number: int) -> None:
    by_library = phonenumbers.is_valid_number(PhoneNumber(country_code=52, national_number=number))
    assert bool(phone_utils.VALID_PREFIX[number // 10**7]) == by_library


def test_every_prefix_agrees_with_phonenumbers_at_both_ends() -> None:
    for prefix in range(200, 1000):
        for number in (prefix * 10**7, prefix * 10**7 + 9_999_999):
            by_library = phonenumbers.is_valid_number(PhoneNumber(country_code=52, national_number=number))
            assert bool(phone_utils.VALID_PREFIX[prefix]) == by_library


@pytest.mark.parametrize(
    "text",
    [
        *("3312345678", "33 1234 5678", "(33) 1234-5678", "33.1234.5678", "+52 33 1234 5678", "523312345678"),
        *("01 33 1234 5678", "(01 33) 1234 5678", "0443312345678", "044-33-1234-5678", "045 33 1234 5678"),
        *("+52 1 33 1234 5678", "+5213312345678", "5213312345678", "52 1 33 1234 5678", "0052 33 1234 5678"),
        *("0052 1 33 1234 5678", "+52 01 33 1234 5678", "+52 044 33 1234 5678", "52 01 33 1234 5678"),
        *(
            "(+52) 1 33 1234 5678",
            "\u200b+52\u00a01\u2003331234\x005678\ufeff",
            "３３１２３４５６７８",
            "٠٤٤٣٣١٢٣٤٥٦٧٨",
        ),
        *("\u202a3312345678\u202c", "33\u00ad1234\u180e5678", "33\n1234\r\n5678\x85", "33\u28001234\u31645678"),
    ],
)
def test_accepted_ways_to_write_one_number(text: str) -> None:
    assert normalize(text) == PhoneVerdict(3312345678, "+523312345678", None, 52)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        *[("", "empty"), (" \t\u200b\x00", "empty"), ("S/N", "not_a_number"), ("-", "not_a_number")],
        *[("1", "not_a_number"), ("12345678", "too_short"), ("331234567", "too_short"), ("0", "not_a_number")],
        *[("33123456789", "too_long"), ("9" * 300, "too_long"), ("0112345678", "invalid"), ("0000000000", "invalid")],
        *[("5212345678", "invalid"), ("1234567890", "invalid"), ("+1 212 555 0123", "foreign")],
        *[("0034 912 345 678", "foreign"), ("+999 123", "invalid"), ("+1 123", "too_short")],
    ],
)
def test_reasons(text: str, reason: str) -> None:
    verdict = normalize(text)
    assert (verdict.national, verdict.e164) == (None, None)
    assert verdict.reason == reason


@pytest.mark.parametrize(
    "text", ["5211234567", "0112345678", "0441234567", "0052123456", "+1 3312345678", "044331234567"]
)
def test_strip_prefix_cuts_only_before_ten_digits(text: str) -> None:
    cleaned = clean(text)
    assert strip_prefix(cleaned) == cleaned


def test_strip_codes_are_the_prefixes() -> None:
    assert {str(code)[1:] for code in phone_utils.STRIP_CODES} == phone_utils.STRIP_PREFIXES
    assert {str(code)[1:] for code in phone_utils.STRIP_CODES_PLUS} == phone_utils.STRIP_PREFIXES_PLUS


def test_a_megabyte_is_read_as_too_long() -> None:
    assert normalize("3" * 1_000_000).reason == "too_long"
    assert normalize(" " * 1_000_000 + "3312345678").national == 3312345678


@pytest.mark.parametrize(
    ("number", "lada"),
    [
        (3312345678, "33"),
        (5512345678, "55"),
        (5612345678, "56"),
        (8112345678, "81"),
        (5881234567, "588"),
        (8331234567, "833"),
    ],
)
def test_lada_has_two_digits_in_the_three_big_cities(number: int, lada: str) -> None:
    assert lada_of(number) == lada
