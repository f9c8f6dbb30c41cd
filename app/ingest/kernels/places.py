"""State and time zone of each row: from its own cells where they say it, else from the number's LADA."""

from __future__ import annotations

import numba as nb

from app.ingest.kernels.pages import IN_PAGE, NULL, UNUSUAL
from app.ingest.kernels.values import UNKNOWN, find_value
from app.utils.geo_utils import CITY_INFERRED, STATE_INFERRED, ZONE_INFERRED

NO_STATE = 32
"""`state` of a row whose state neither its cell nor its LADA tells."""

NO_ZONE = -1
UNRECOGNISED = 33
"""Taught for a spelling that is no state: the scalar rule records it."""


@nb.njit(inline="always")
def is_blank(buf, at, length):  # type: ignore[no-untyped-def]
    """True for no bytes, or ASCII spaces only."""
    for k in range(length):  # noqa: SIM110 - a loop is what compiles
        if buf[at + k] != 32:
            return False
    return True


@nb.njit(cache=True, nogil=True, boundscheck=False)
def attach_places(  # type: ignore[no-untyped-def]
    buf,
    rows,
    start,
    size,
    kind,
    placed,
    number,
    slots,
    spellings,
    spelling_pool,
    towns,
    town_pool,
    lead_state,
    lead_zone,
    lead_city,
    zone_of_state,
    common_zone,
    state,
    zone,
    inferred,
    ask,
):
    """Fill state int16[n], zone int16[n], inferred int16[n]; returns how many rows met bytes that were never taught.

    Shapes: slots int64[3] (state, city, municipality); lead_state, lead_zone int16[1000] and lead_city bool[1000] (its
    city is known) by the number's first three digits; zone_of_state int16[34], -1 where the municipality decides;
    common_zone int16[34]; ask uint8[n]: 1 where the spelling of the state, 2 where the municipality must be taught.
    """
    asked = 0
    for i in range(rows):
        ask[i] = 0
        if placed[i] != IN_PAGE or number[i] == 0:
            continue
        lead = number[i] // 10_000_000
        marks = 0
        its_state = NO_STATE
        if kind[i, slots[0]] != NULL and not is_blank(buf, start[i, slots[0]], size[i, slots[0]]):
            found = find_value(buf, start[i, slots[0]], size[i, slots[0]], 0, spellings, spelling_pool)
            if found == UNKNOWN:
                ask[i] = 1
                asked += 1
                continue
            if found == UNRECOGNISED:
                placed[i] = UNUSUAL
                continue
            its_state = found
        if its_state == NO_STATE:
            its_state = lead_state[lead]
            its_zone = lead_zone[lead]
            if its_state != NO_STATE:
                marks |= STATE_INFERRED
            if its_zone != NO_ZONE:
                marks |= ZONE_INFERRED
        else:
            its_zone = zone_of_state[its_state]
            if its_zone == NO_ZONE:
                town = slots[2]
                if kind[i, town] == NULL or is_blank(buf, start[i, town], size[i, town]):
                    its_zone = common_zone[its_state]
                    marks |= ZONE_INFERRED
                else:
                    found = find_value(buf, start[i, town], size[i, town], its_state, towns, town_pool)
                    if found == UNKNOWN:
                        ask[i] = 2
                        asked += 1
                        continue
                    # A town that the table does not know was taught as its state's zone, plus 1000.
                    its_zone = found % 1000
                    if found >= 1000:
                        marks |= ZONE_INFERRED
        if lead_city[lead] and (kind[i, slots[1]] == NULL or is_blank(buf, start[i, slots[1]], size[i, slots[1]])):
            marks |= CITY_INFERRED
        state[i] = its_state
        zone[i] = its_zone
        inferred[i] = marks
    return asked
