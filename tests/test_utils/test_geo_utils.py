"""States however they are written, area codes, and the clocks of the border."""

from __future__ import annotations

import zoneinfo
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.plan_store import packaged_plan, place_tables
from app.utils.geo_utils import (
    STATE_NAMES,
    STATE_SPELLINGS,
    STATE_TIME_ZONES,
    place_key,
    place_of_lada,
    state_code,
    time_zone,
)
from app.utils.phone_utils import lada_of

ISO = [
    *("AGU", "BCN", "BCS", "CAM", "CHP", "CHH", "CMX", "COA", "COL", "DUR", "GUA", "GRO", "HID", "JAL", "MEX", "MIC"),
    *("MOR", "NAY", "NLE", "OAX", "PUE", "QUE", "ROO", "SLP", "SIN", "SON", "TAB", "TAM", "TLA", "VER", "YUC", "ZAC"),
]
SPELLINGS = {
    "AGU": "AGS, Ags., AGUASCALIENTES, AGUASCALIENT",
    "BCN": "BC, B.C., BCN, BAJA CALIFORNIA, BAJA CALIFORNIA NORTE",
    "BCS": "BCS, B.C.S., BAJA CALIFORNIA SUR, BAJA CALIFORNIA S, baja calif. sur",
    "CAM": "CAMP, CAMPECHE, Campech",
    "CHP": "CHIS, CHIAPAS, Chis., CHIAP",
    "CHH": "CHIH, CHIHUAHUA, Chih., CHIHUAH",
    "CMX": "DF, D.F., DISTR, DISTRITO FEDERAL, CDMX, CIUDAD DE MEXICO, Ciudad de México, MEXICO D.F., DISTRITO F",
    "COA": "COAH, COAHUILA, COAHUILA DE ZARAGOZA, Coah.",
    "COL": "COL, COLIMA, Col.",
    "DUR": "DGO, DURANGO, Dgo.",
    "GUA": "GTO, GUANAJUATO, Gto., GUANAJ",
    "GRO": "GRO, GUERRERO, Gro., GUERR",
    "HID": "HGO, HIDALGO, Hgo.",
    "JAL": "JAL, JALISCO, Jal., MX-JAL, Estado de Jalisco",
    "MEX": "MEX, MEXICO, EDO MEX, EDO. DE MEX., EDOMEX, ESTADO DE MÉXICO, Edo. Méx., ESTADO DE MEXI, MEXIC",
    "MIC": "MICH, MICHOACAN, MICHOACÁN, MICHOACAN DE OCAMPO, Mich.",
    "MOR": "MOR, MORELOS, Mor.",
    "NAY": "NAY, NAYARIT, Nay.",
    "NLE": "NL, N.L., NUEVO LEON, NUEVO LEÓN, NVO LEON, Nuevo Le",
    "OAX": "OAX, OAXACA, Oax., OAXACA DE JUAREZ",
    "PUE": "PUE, PUEBLA, Pue.",
    "QUE": "QRO, QUERETARO, QUERÉTARO, QUERETARO DE ARTEAGA, Qro.",
    "ROO": "Q ROO, QROO, Q. ROO, QUINTANA ROO, QUINTANA R",
    "SLP": "SLP, S.L.P., SAN LUIS POTOSI, SAN LUIS POTOSÍ, SAN LUIS POTOS",
    "SIN": "SIN, SINALOA, Sin.",
    "SON": "SON, SONORA, Son.",
    "TAB": "TAB, TABASCO, Tab.",
    "TAM": "TAMPS, TAM, TAMAULIPAS, Tamps., TAMAUL",
    "TLA": "TLAX, TLAXCALA, Tlax.",
    "VER": "VER, VERACRUZ, VERACRUZ DE IGNACIO DE LA LLAVE, VERACRUZ-LLAVE, Ver., VERACRUZ DE IGNACIO DE",
    "YUC": "YUC, YUCATAN, YUCATÁN, Yuc.",
    "ZAC": "ZAC, ZACATECAS, Zac.",
}


@pytest.mark.parametrize(
    ("code", "word"), [(code, word) for code, words in SPELLINGS.items() for word in words.split(", ")]
)
def test_spelling_of_a_state(code: str, word: str) -> None:
    assert state_code(word) == code
    assert state_code(f"  {word.lower()} ") == code


def test_there_are_32_states_with_three_spellings_and_more() -> None:
    assert sorted(STATE_NAMES) == sorted(ISO)
    assert all(len({place_key(word) for word in words}) >= 3 for words in STATE_SPELLINGS.values())
    assert sum(len({place_key(word) for word in words}) for words in STATE_SPELLINGS.values()) >= 96


@pytest.mark.parametrize("code", ISO)
def test_name_survives_accents_lost_broken_or_encoded_twice(code: str) -> None:
    name = STATE_NAMES[code]
    for text in (name, name.upper()):
        holes = "".join(char if char.isascii() else "\ufffd" for char in text)
        doubled = text.encode().decode("latin-1")
        windows = "".join(bytes([byte]).decode("cp1252", errors="ignore") or chr(byte) for byte in text.encode())
        for spoilt in (holes, holes.replace("\ufffd", "?"), holes.replace("\ufffd", "ï¿½"), doubled, windows):
            assert state_code(spoilt) == code


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "ESTADO", "CIUDAD", "BAJA", "BAJA CALIFORNI", "TEXAS", "NUEVO MEXICO", "X", "NULL", "M", "0", "-"),
        *("ESTADO DE", "SIN DATO", "N/A", "A" * 200, "\ud800", "MXJALI" * 30),
    ],
)
def test_what_is_no_state_or_could_be_two_is_none(text: str) -> None:
    assert state_code(text) is None


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(exclude_categories=[]), max_size=200))
def test_any_text_is_a_state_or_none(text: str) -> None:
    assert state_code(text) in {None, *ISO}


def test_every_lada_of_the_plan_has_a_place_and_services_have_none() -> None:
    ladas = place_tables().ladas
    held = {lada_of(int(number)) for number in packaged_plan().first}
    assert held == set(ladas)
    for place in ladas.values():
        assert place.city
        assert place.city == place.city.strip()
        assert place.state_code in STATE_NAMES
        assert place.time_zone in zoneinfo.available_timezones()
    assert all(place_of_lada(ladas, lada) is None for lada in ("800", "888", "900", "300", "500", "000", ""))


@pytest.mark.parametrize(
    ("lada", "city", "state"),
    [
        *[("33", "Guadalajara", "JAL"), ("55", "Ciudad de México", "CMX"), ("56", "Ciudad de México", "CMX")],
        *[("81", "Monterrey", "NLE"), ("477", "León", "GUA"), ("998", "Cancún", "ROO"), ("664", "Tijuana", "BCN")],
        *[("656", "Ciudad Juárez", "CHH"), ("657", "Ciudad Juárez", "CHH"), ("999", "Mérida", "YUC")],
        *[("222", "Puebla", "PUE"), ("442", "Querétaro", "QUE"), ("446", "Querétaro", "QUE"), ("720", "Toluca", "MEX")],
    ],
)
def test_place_of_lada(lada: str, city: str, state: str) -> None:
    place = place_of_lada(place_tables().ladas, lada)
    assert place is not None
    assert (place.city, place.state_code) == (city, state)


def test_ladas_keep_a_time_that_their_state_keeps() -> None:
    tables = place_tables()
    for place in tables.ladas.values():
        in_state = {zone for (state, _), zone in tables.zones.items() if state == place.state_code}
        assert place.time_zone in in_state | {STATE_TIME_ZONES[place.state_code]}


@pytest.mark.parametrize(
    ("state", "municipality", "zone", "is_certain"),
    [
        *[("JAL", None, "America/Mexico_City", True), ("SON", "whatever", "America/Hermosillo", True)],
        *[("ROO", None, "America/Cancun", True), ("BCN", "TIJUANA", "America/Tijuana", True)],
        *[("CHH", "JUAREZ", "America/Ciudad_Juarez", True), ("CHH", "Cd. Juárez", "America/Ciudad_Juarez", True)],
        *[("CHH", "OJINAGA", "America/Ojinaga", True), ("CHH", "CHIHUAHUA", "America/Chihuahua", True)],
        *[("CHH", None, "America/Chihuahua", False), ("CHH", "", "America/Chihuahua", False)],
        *[("COA", "ACUÑA", "America/Matamoros", True), ("COA", "ACU?A", "America/Matamoros", True)],
        *[("COA", "Ciudad Acuña", "America/Matamoros", True), ("COA", "SALTILLO", "America/Mexico_City", True)],
        *[("TAM", "H. MATAMOROS", "America/Matamoros", True), ("COA", "MATAMOROS", "America/Mexico_City", True)],
        *[("TAM", "R\ufffdO BRAVO", "America/Matamoros", True), ("TAM", "TAMPICO", "America/Mexico_City", True)],
        *[("TAM", "NUEVO LAREDO", "America/Matamoros", True), ("TAM", "ATLANTIS", "America/Mexico_City", False)],
        *[("NAY", "BAHIA DE BANDERAS", "America/Bahia_Banderas", True), ("NAY", "TEPIC", "America/Mazatlan", True)],
        *[("NLE", "Anáhuac", "America/Matamoros", True), ("NLE", "MONTERREY", "America/Mexico_City", True)],
    ],
)
def test_time_zone_of_a_municipality(state: str, municipality: str | None, zone: str, is_certain: bool) -> None:
    assert time_zone(place_tables().zones, state, municipality) == (zone, is_certain)


def test_the_border_keeps_summer_time_and_the_capital_does_not() -> None:
    zones = place_tables().zones
    offsets = {
        (state, town): [
            datetime(2026, month, 15, tzinfo=zoneinfo.ZoneInfo(time_zone(zones, state, town)[0])).utcoffset()
            for month in (1, 7)
        ]
        for state, town in (
            ("CHH", "JUAREZ"),
            ("TAM", "REYNOSA"),
            ("BCN", "TIJUANA"),
            ("CMX", None),
            ("CHH", "DELICIAS"),
        )
    }
    moved = {state for (state, _), (winter, summer) in offsets.items() if winter != summer}
    assert moved == {"CHH", "TAM", "BCN"}
    assert len(set(offsets["CHH", "DELICIAS"])) == 1
