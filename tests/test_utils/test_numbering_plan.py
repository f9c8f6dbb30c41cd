"""Look-up in the plan against a plain bisection, at every edge and anywhere."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from phonenumbers import PhoneNumber, PhoneNumberType

from app.core import plan_store
from app.utils.numbering_plan import (
    FIXED,
    GEOGRAPHIC,
    LINE_TYPES,
    MOBILE,
    NO_DATE,
    NON_GEOGRAPHIC,
    NumberingPlan,
    find_range,
    line_type_code,
)


def plan_of(ranges: list[tuple[int, int]]) -> NumberingPlan:
    """A plan of these ranges, all mobile and of one operator."""
    count = len(ranges)
    return NumberingPlan.from_columns(
        version="2026-01-01",
        first=np.array([first for first, _ in ranges], np.int64),
        last=np.array([last for _, last in ranges], np.int64),
        line_type=np.full(count, MOBILE, np.uint8),
        operator=np.zeros(count, np.int32),
        operators=("Operadora Uno",),
        assigned_on=np.full(count, NO_DATE, np.int32),
    )


def by_bisection(plan: NumberingPlan, numbers: NDArray[np.int64]) -> list[int]:
    """The range index of each number, found the plain way."""
    first, last = plan.first.tolist(), plan.last.tolist()
    found = []
    for number in numbers.tolist():
        index = bisect_right(first, number) - 1
        found.append(index if index >= 0 and number <= last[index] else -1)
    return found


def test_classify_finds_every_edge_of_the_packaged_plan() -> None:
    plan = plan_store.packaged_plan()
    numbers = np.concatenate([plan.first - 1, plan.first, plan.first + 1, plan.last - 1, plan.last, plan.last + 1])
    assert plan.classify(numbers).tolist() == by_bisection(plan, numbers)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=200), st.integers(0, 2**32 - 1))
def test_classify_takes_any_integer(numbers: list[int], seed: int) -> None:
    plan = plan_store.packaged_plan()
    drawn = np.random.default_rng(seed).integers(2 * 10**9, 10**10, 500)
    values = np.concatenate([np.array(numbers, np.int64), drawn, np.array([-1, 0, 10**10 - 1, 10**10], np.int64)])
    assert plan.classify(values).tolist() == by_bisection(plan, values)


@st.composite
def range_lists(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Ranges close together, so that many share a block of a thousand, some many blocks long."""
    at = draw(st.sampled_from([0, 2_200_000_000, 9_999_900_000]))
    ranges = []
    steps = st.tuples(
        st.sampled_from([0, 0, 1, 7, 500, 1000, 9_999]), st.sampled_from([1, 1, 3, 128, 1000, 10_000, 25_000])
    )
    for gap, size in draw(st.lists(steps, max_size=40)):
        if at + gap + size > 10**10:
            break
        ranges.append((at + gap, at + gap + size - 1))
        at += gap + size
    return ranges


@settings(max_examples=60, deadline=None)
@given(range_lists(), st.integers(0, 2**32 - 1))
def test_classify_equals_bisection_for_any_plan(ranges: list[tuple[int, int]], seed: int) -> None:
    plan = plan_of(ranges)
    edges = [number for pair in ranges for edge in pair for number in (edge - 1, edge, edge + 1)]
    near = np.random.default_rng(seed).integers(2_199_999_000, 2_200_300_000, 300)
    numbers = np.concatenate([np.array(edges, np.int64), near])
    assert plan.classify(numbers).tolist() == by_bisection(plan, numbers)
    assert [plan.find(number) for number in numbers.tolist()] == by_bisection(plan, numbers)


@pytest.mark.parametrize(
    "ranges",
    [
        *([(10, 5)], [(0, 10), (10, 20)], [(20, 30), (0, 10)], [(-5, 3)], [(0, 10**10)]),
        [(3300000000, 3300009999), (3300000000, 3300009999)],
    ],
)
def test_overlapping_or_crooked_ranges_are_refused(ranges: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="without overlap"):
        plan_of(ranges)


def test_an_empty_plan_assigns_nothing() -> None:
    plan = plan_of([])
    assert plan.classify(np.array([3312345678], np.int64)).tolist() == [-1]
    assert plan.line_type_of(3312345678) == "unassigned"
    assert (len(plan), plan.number_count) == (0, 0)


def test_packaged_plan_is_what_its_notice_says() -> None:
    plan = plan_store.packaged_plan()
    assert plan.version == plan_store.PLAN_VERSION == "2026-09-04"
    assert (len(plan), plan.number_count) == (178_172, 1_021_707_014)
    assert set(np.unique(plan.line_type).tolist()) == {MOBILE, FIXED}
    assert plan.operator.max() == len(plan.operators) - 1
    assert {"Telcel", "Telmex", "AT&T", "Movistar"} <= set(plan.operators)


def test_service_prefixes_are_phonenumbers_own() -> None:
    names = {
        PhoneNumberType.TOLL_FREE: "toll_free",
        PhoneNumberType.PREMIUM_RATE: "premium",
        PhoneNumberType.SHARED_COST: "shared_cost",
        PhoneNumberType.PERSONAL_NUMBER: "personal",
    }
    for prefix in range(200, 1000):
        kind = phonenumbers.number_type(PhoneNumber(country_code=52, national_number=prefix * 10**7 + 1234567))
        code = int(NON_GEOGRAPHIC[prefix])
        assert (LINE_TYPES[code] if code != GEOGRAPHIC else None) == names.get(kind)
    assert [prefix for prefix in range(1000) if NON_GEOGRAPHIC[prefix] != GEOGRAPHIC] == [300, 500, 800, 888, 900]


@pytest.mark.parametrize(
    ("number", "line_type"),
    [
        *[(8001234567, "toll_free"), (8881234567, "toll_free"), (9001234567, "premium"), (3001234567, "shared_cost")],
        *[(5001234567, "personal"), (2010000000, "unassigned"), (-5, "unassigned"), (10**10, "unassigned")],
    ],
)
def test_line_type_by_prefix(number: int, line_type: str) -> None:
    assert plan_store.packaged_plan().line_type_of(number) == line_type


def test_line_type_codes_agree_with_the_scalar_form() -> None:
    plan = plan_store.packaged_plan()
    numbers = np.random.default_rng(5).integers(2 * 10**9, 10**10, 3000)
    numbers = np.concatenate([numbers, plan.first[::997], plan.last[::991]])
    codes = plan.line_type_codes(numbers, plan.classify(numbers))
    assert [LINE_TYPES[code] for code in codes] == [plan.line_type_of(number) for number in numbers.tolist()]


def test_operator_is_the_one_first_assigned() -> None:
    plan = plan_store.packaged_plan()
    assert plan.operator_of(int(plan.first[0])) == plan.operators[plan.operator[0]]
    assert plan.operator_of(2010000000) is None


def test_compiled_and_interpreted_forms_agree() -> None:
    plan = plan_of([(2_200_000_000, 2_200_000_127), (2_200_000_200, 2_200_012_345), (2_200_030_000, 2_200_039_999)])
    for number in (0, -1, 2_200_000_127, 2_200_000_128, 2_200_010_000, 2_200_012_346, 2_200_035_000, 10**10):
        index = find_range.py_func(plan.blocks, plan.first, plan.last, number)
        assert index == find_range(plan.blocks, plan.first, plan.last, number)
        code = line_type_code.py_func(number, index, plan.line_type, NON_GEOGRAPHIC)
        assert code == line_type_code(number, index, plan.line_type, NON_GEOGRAPHIC)
