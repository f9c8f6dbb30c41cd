"""The word lists laid out for the kernel: one blob of UTF-8, and per list a table of 1,024 slots to draw from."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.ingest.synthetic import names, places

SLOTS = 1024
GIVEN, SURNAME, STREET_KIND, STREET, NEIGHBORHOOD = range(5)
SPELLING_0 = 5  # + index of the state
STATES = tuple(places.SPELLINGS)
MUNICIPALITY_0 = SPELLING_0 + len(STATES)
STATE_NAME_0 = MUNICIPALITY_0 + len(STATES)
CITY_0 = STATE_NAME_0 + len(STATES)  # one list a city: a draw always gives that city
NO_CITY = -1


class Vocabulary(NamedTuple):
    """`blob` uint8, `offsets` int32[words + 1], `slots` uint16[lists, 1024] of word numbers; and by the first three
    digits of a number: `state` int8[1000], `city` int16[1000] (a list, or -1), `big_city` int16[1000] (likewise)."""

    blob: NDArray[np.uint8]
    offsets: NDArray[np.int32]
    slots: NDArray[np.uint16]
    state: NDArray[np.int8]
    city: NDArray[np.int16]
    big_city: NDArray[np.int16]


class _Builder:
    def __init__(self) -> None:
        self.words: list[bytes] = []
        self.slots: list[NDArray[np.uint16]] = []

    def add(self, words: list[str], flatness: float) -> int:
        """A list whose k-th word has weight 1 / (k + flatness); returns its number."""
        start = len(self.words)
        self.words += [word.encode() for word in words]
        weights = 1 / (np.arange(len(words)) + flatness)
        edges = np.round(np.cumsum(weights) / weights.sum() * SLOTS).astype(int)
        counts = np.diff(edges, prepend=0)
        self.slots.append(np.repeat(np.arange(start, start + len(words), dtype=np.uint16), counts))
        return len(self.slots) - 1


def _written(word: str) -> list[str]:
    plain = names.ACCENTED.get(word, word)
    return [plain] * 9 + [names.SOMETIMES_ACCENTED.get(word, plain)]


def _people(words: str) -> list[str]:
    return [spelled for word in words.split() for spelled in _written(word)]


@lru_cache(maxsize=1)
def vocabulary() -> Vocabulary:
    """All lists of this package, ready for the kernel."""
    builder = _Builder()
    builder.add(_people(names.GIVEN), 150)
    builder.add(_people(names.SURNAMES), 120)
    builder.add(names.STREET_KINDS.split("|"), 1000)
    builder.add(_items(names.STREETS), 20)
    builder.add(_items(names.NEIGHBORHOODS), 15)
    for state in STATES:
        builder.add(places.SPELLINGS[state].split("|"), 0.6)
    for state in STATES:
        builder.add(places.MUNICIPALITIES[state].split("|"), 2)
    for state in STATES:
        builder.add([places.SPELLINGS[state].split("|")[0]], 1)
    state_of, city_of, big_of = _by_prefix(builder)
    return Vocabulary(
        np.frombuffer(b"".join(builder.words), np.uint8).copy(),
        np.cumsum([0, *map(len, builder.words)]).astype(np.int32),
        np.stack(builder.slots),
        state_of,
        city_of,
        big_of,
    )


def _items(text: str) -> list[str]:
    return text.replace("\n", "").split("|")


def _by_prefix(builder: _Builder) -> tuple[NDArray[np.int8], NDArray[np.int16], NDArray[np.int16]]:
    lists: dict[str, int] = {}
    state_of = np.full(1000, STATES.index("MEX"), np.int8)
    city_of, big_of = np.full(1000, NO_CITY, np.int16), np.full(1000, NO_CITY, np.int16)
    for prefix, (state, city) in places.ladas_of_states().items():
        state_of[prefix] = STATES.index(state)
        big = places.BIG_CITIES.get(str(prefix)[:2], "")
        for name, table in ((city, city_of), (big, big_of)):
            if name:
                if name not in lists:
                    lists[name] = builder.add([name], 1)
                table[prefix] = lists[name]
    return state_of, city_of, big_of
