"""Places: spellings of states to codes, LADA to city, municipality to time zone. Pure: tables are handed in."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from app.utils.geo_tables import MUNICIPALITY_ALIASES, STATES, STATES_OF_MANY_ZONES

STATE_NAMES: Final[Mapping[str, str]] = {code: name for code, (name, _, _) in STATES.items()}
STATE_TIME_ZONES: Final[Mapping[str, str]] = {code: zone for code, (_, zone, _) in STATES.items()}
# ISO 3166-2 codes and the names in use count as spellings too.
STATE_SPELLINGS: Final[Mapping[str, tuple[str, ...]]] = {
    code: (code, name, *spellings) for code, (name, _, spellings) in STATES.items()
}
SHORTEST_TRUNCATION: Final = 4
LONGEST_STATE: Final = 120

_NOT_LETTERS: Final = re.compile(r"[^A-Z]+")
_LEADS: Final = ("ESTADOLIBREYSOBERANODE", "ESTADODE", "ESTADO", "EDODE", "EDO", "ESTDE", "MX")
_TAILS: Final = ("MEXICO", "MX")
_TOWN_LEADS: Final = ("HEROICACIUDADDE", "CIUDADDE", "CIUDAD", "HEROICA", "CDDE", "CD", "HCD", "H", "VILLADE", "VILLA")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the numbers of a LADA are at home: its principal city."""

    city: str
    state_code: str
    time_zone: str


def _mend(text: str) -> str:
    """`text` with UTF-8 that was once read as Windows-1252 ('MÃ‰XICO') put right, where it is that."""
    if text.isascii() or not any(char in text for char in "ÃÂï"):
        return text
    try:
        raw = b"".join(_as_1252(char) for char in text)
        return raw.decode("utf-8")
    except UnicodeError:
        return text


def _as_1252(char: str) -> bytes:
    try:
        return char.encode("cp1252")
    except UnicodeEncodeError:
        return char.encode("latin-1")


def place_key(text: str) -> str:
    """`text` reduced to its letters A to Z: case, accents, punctuation, spaces and broken characters do not count."""
    plain = unicodedata.normalize("NFKD", _mend(text)).upper()
    return _NOT_LETTERS.sub("", plain)


def holed_key(text: str) -> str:
    """The key of `text` after each accented letter was lost, as in 'YUCAT?N'."""
    return _NOT_LETTERS.sub("", "".join(char for char in text.upper() if char.isascii()))


def _state_keys() -> dict[str, str]:
    keys: dict[str, str] = {}
    for code, spellings in STATE_SPELLINGS.items():
        for spelling in spellings:
            for key in (place_key(spelling), holed_key(spelling)):
                if keys.setdefault(key, code) != code:
                    raise ValueError(f"{spelling!r} stands for {keys[key]} and {code}")
    return keys


_STATE_KEYS: Final = _state_keys()
# Lost accents in names that are otherwise in the table without one.
_HOLED_NAMES: Final = {
    holed_key(name): code
    for name, code in (
        ("CIUDAD DE MÉXICO", "CMX"),
        ("MÉXICO", "MEX"),
        ("ESTADO DE MÉXICO", "MEX"),
        ("EDO DE MÉXICO", "MEX"),
        ("EDO MÉX", "MEX"),
        ("MICHOACÁN DE OCAMPO", "MIC"),
        ("QUERÉTARO DE ARTEAGA", "QUE"),
        ("NVO LEÓN", "NLE"),
    )
}
# What a name cut short is compared with. Left out: words before names, and 'MEXICO DF', lest 'MEXIC' be two.
_NAME_KEYS: Final = {
    key: code
    for code, words in STATE_SPELLINGS.items()
    for key in map(place_key, words[1:])
    if not key.startswith(("EDO", "EST")) and not (code == "CMX" and key.startswith("MEX"))
}
_SAYS_NOTHING: Final = frozenset({"CIUDAD", "CIUDADDE", "CDDE"})


def state_code(spelling: str) -> str | None:
    """The ISO 3166-2:MX suffix of a state, however it is written; None when it is not one, or could be two.

    'MEXICO' alone is the state, as in the regulator's and the electoral files. A name cut short ('AGUASCALIENT')
    counts from four letters on where only one state begins so.
    """
    return _state_code(spelling) if 0 < len(spelling) <= LONGEST_STATE else None


@lru_cache(maxsize=8192)
def _state_code(spelling: str) -> str | None:
    key = place_key(spelling)
    found = _exact_state(key)
    if found is not None:
        return found
    for lead in _LEADS:
        rest = key.removeprefix(lead)
        if rest != key and (found := _exact_state(rest) or _truncated_state(rest)):
            return found
    for tail in _TAILS:
        if key.endswith(tail) and (found := _exact_state(key.removesuffix(tail))):
            return found
    return _truncated_state(key)


def _exact_state(key: str) -> str | None:
    return _STATE_KEYS.get(key) or _HOLED_NAMES.get(key)


def _truncated_state(key: str) -> str | None:
    if len(key) < SHORTEST_TRUNCATION or key in _SAYS_NOTHING:
        return None
    codes = {code for name, code in _NAME_KEYS.items() if name.startswith(key)}
    return codes.pop() if len(codes) == 1 else None


def place_of_lada(table: Mapping[str, Place], lada: str) -> Place | None:
    """The place of an area code, or None where `table` has none (800, 900 and other services have no place)."""
    return table.get(lada)


def municipality_zones(rows: Mapping[tuple[str, str], str]) -> dict[tuple[str, str], str]:
    """`rows` ((state code, municipality) → IANA zone) by keys that `time_zone` looks up, lost accents included."""
    zones: dict[tuple[str, str], str] = {}
    for (state, name), zone in rows.items():
        zones[state, place_key(name)] = zone
    for (state, name), zone in rows.items():
        zones.setdefault((state, holed_key(name)), zone)
    return zones


def time_zone(zones: Mapping[tuple[str, str], str], state: str, municipality: str | None) -> tuple[str, bool]:
    """(IANA zone, whether it is certain) of a municipality; `zones` from `municipality_zones`.

    States of one zone need no municipality. Where the municipality is missing or unknown, the zone that most of the
    state's municipalities keep, not certain.
    Raises: KeyError when `state` is not a state's code.
    Source: law of time zones of 2022-10-28: no summer time but in Baja California and the border municipalities.
    """
    usual = STATE_TIME_ZONES[state]
    if state not in STATES_OF_MANY_ZONES:
        return usual, True
    key = place_key(municipality or "")
    for candidate in _municipality_candidates(state, key):
        zone = zones.get((state, candidate))
        if zone is not None:
            return zone, True
    return usual, False


STATE_INFERRED: Final = 1
CITY_INFERRED: Final = 2
ZONE_INFERRED: Final = 4
"""Bits of `Located.inferred`, and of contacts.inferred."""


@dataclass(frozen=True, slots=True)
class Located:
    """Where a number is at home. `inferred`: which of it was filled from its LADA, or is only what is usual in its state."""

    state_code: str | None
    city: str | None
    time_zone: str | None
    inferred: int


def locate(
    place: Place | None, zones: Mapping[tuple[str, str], str], *, state: str | None, municipality: str | None,
    city: str | None,
) -> Located:  # fmt: skip
    """What is given of a place, filled up from `place`, the place of the number's LADA. Spaces alone are nothing given.

    Raises: KeyError when `state` is not a state's code.
    """
    inferred = 0
    zone: str | None
    if state is not None:
        zone, is_certain = time_zone(zones, state, (municipality or "").strip(" ") or None)
        inferred |= 0 if is_certain else ZONE_INFERRED
    else:
        state, zone = (place.state_code, place.time_zone) if place else (None, None)
        inferred |= STATE_INFERRED | ZONE_INFERRED if place else 0
    if place and not (city or "").strip(" "):
        city, inferred = place.city, inferred | CITY_INFERRED
    return Located(state, city, zone, inferred)


def _municipality_candidates(state: str, key: str) -> list[str]:
    bare = [key.removeprefix(lead) for lead in _TOWN_LEADS if key.startswith(lead)]
    names = [key, *bare]
    return names + [MUNICIPALITY_ALIASES[state, name] for name in names if (state, name) in MUNICIPALITY_ALIASES]
