"""The regulator's files: both layouts, in CSV, zip and gzip, and every way in which one can be broken."""

from __future__ import annotations

import gzip
import hashlib
import zipfile
from pathlib import Path

import pytest

from app.core.errors import InvalidInput
from app.ingest.numbering_files import read_plan_file
from app.services.numbering_service import PlanFile, RangePlace
from app.utils.numbering_plan import FIXED, LINE_TYPES, NO_DATE

TODAY = (
    "ZONA,NUMERACION_INICIAL,NUMERACION_FINAL,MODALIDAD,RAZON_SOCIAL,FECHA_ASIGNACION\r\n"
    '3,3310000000,3310009999,CPP,"Móviles del Bajío, S.A. de C.V.",15/11/2022\r\n'
    "2,2221230000,2221239999,FIJO,Telefonía Uno,01/02/1999\r\n"
    "5,5512340000,5512344999,MPP,Telefonía Uno,04/09/2026\r\n"
)
# The layout of before July 2025: spaces after the commas of the header, quoted texts, a comma too many in the rows.
OLD = (
    "CLAVE_CENSAL, POBLACION, MUNICIPIO, ESTADO, PRESUSCRIPCION, REGION, ASL, NIR, SERIE, NUMERACION_INICIAL,"
    " NUMERACION_FINAL, OCUPACION, TIPO_RED, MODALIDAD, RAZON_SOCIAL, FECHA_ASIGNACION, FECHA_CONSOLIDACION,"
    " FECHA_MIGRACION, NIR_ANTERIOR\r\n"
    '"140390001","GUADALAJARA","GUADALAJARA","JAL",P,3,120,33,1000,0000,4999,5000,MOVIL,CPP,'
    '"MOVILES DEL BAJIO, S.A. DE C.V.",12/02/2001,01/09/2001,01/06/1999,3,\r\n'
    '"210010001","GRULLO, EL","EL GRULLO","JAL",,3,120,321,123,5000,9999,5000,FIJO,FIJO,'
    '"TELEFONIA UNO",13/05/2019,,,,\r\n'
    '"190390001","CIUDAD MONTERREY","MONTERREY","NL",P,8,35,81,2345,0000,0999,1000,MOVIL,MPP,'
    '"TELEFONIA UNO",30/10/2018,,,,\r\n'
)


def read(tmp_path: Path, content: str | bytes, name: str = "pnn.csv") -> PlanFile:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_plan_file(path)


def zipped(tmp_path: Path, files: dict[str, str]) -> Path:
    path = tmp_path / "pnn.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def ranges(plan: PlanFile) -> list[tuple[int, int, str, str]]:
    return [
        (first, last, LINE_TYPES[kind], plan.operators[operator])
        for first, last, kind, operator in zip(
            *(column.tolist() for column in (plan.first, plan.last, plan.line_type, plan.operator)), strict=True
        )
    ]


def test_todays_layout(tmp_path: Path) -> None:
    plan = read(tmp_path, TODAY)
    assert (plan.layout, plan.version, plan.source_file) == ("2025", "2026-09-04", "pnn.csv")
    assert plan.sha256 == hashlib.sha256(TODAY.encode()).hexdigest()
    assert ranges(plan) == [
        (2221230000, 2221239999, "fixed", "Telefonía Uno"),
        (3310000000, 3310009999, "mobile", "Móviles del Bajío, S.A. de C.V."),
        (5512340000, 5512344999, "mobile", "Telefonía Uno"),
    ]
    assert plan.place.tolist() == [-1, -1, -1]


def test_layout_of_before_july_2025(tmp_path: Path) -> None:
    plan = read(tmp_path, OLD)
    assert (plan.layout, plan.version) == ("2019", "2019-05-13")
    assert ranges(plan) == [
        (3211235000, 3211239999, "fixed", "TELEFONIA UNO"),
        (3310000000, 3310004999, "mobile", "MOVILES DEL BAJIO, S.A. DE C.V."),
        (8123450000, 8123450999, "mobile", "TELEFONIA UNO"),
    ]
    assert [plan.places[index] for index in plan.place] == [
        RangePlace("GRULLO, EL", "EL GRULLO", "JAL"),
        RangePlace("GUADALAJARA", "GUADALAJARA", "JAL"),
        RangePlace("CIUDAD MONTERREY", "MONTERREY", "NLE"),
    ]


def test_zip_and_gzip_hold_the_same_plan(tmp_path: Path) -> None:
    plain = read(tmp_path, OLD)
    in_zip = read_plan_file(zipped(tmp_path, {"leeme.pdf": "x", "pnn_Publico.csv": OLD}))
    in_gzip = read(tmp_path, gzip.compress(OLD.encode()), "pnn.csv.gz")
    assert ranges(plain) == ranges(in_zip) == ranges(in_gzip)
    assert len({plain.sha256, in_zip.sha256, in_gzip.sha256}) == 3


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
def test_encodings_and_header_dress(tmp_path: Path, encoding: str) -> None:
    text = "\r\n" + TODAY.replace("NUMERACION_INICIAL", ' "Numeración Inicial" ').replace("\r\n", "\n")
    assert ranges(read(tmp_path, text.encode(encoding)))[0][3] == "Telefonía Uno"


def test_semicolons_and_columns_in_another_order(tmp_path: Path) -> None:
    header = "RAZON_SOCIAL;MODALIDAD;NUMERACION_FINAL;NUMERACION_INICIAL;FECHA_ASIGNACION\n"
    plan = read(tmp_path, header + "Uno;fijo;2221239999;2221230000;01/02/2020\n")
    assert ranges(plan) == [(2221230000, 2221239999, "fixed", "Uno")]
    assert plan.line_type.tolist() == [FIXED]


def test_a_missing_date_is_kept_as_none(tmp_path: Path) -> None:
    assert read(tmp_path, TODAY.replace("01/02/1999", "")).assigned_on[0] == NO_DATE


@pytest.mark.parametrize(
    ("wrong", "right", "message"),
    [
        ("3310000000", "331000000", "line 2: NUMERACION_INICIAL is '331000000', not ten digits"),
        ("3310000000", "٣٣١٠٠٠٠٠٠٠", "line 2: NUMERACION_INICIAL"),
        ("2221230000", "2221240000", "line 3: the range ends"),
        ("FIJO", "SATELITAL", "line 3: MODALIDAD is 'SATELITAL', none of CPP, MPP, FIJO"),
        ("01/02/1999", "1999-02-01", "line 3: FECHA_ASIGNACION is '1999-02-01', not a date"),
        ("01/02/1999", "31/02/1999", "line 3: FECHA_ASIGNACION"),
        ("Telefonía Uno,01/02/1999", " ,01/02/1999", "line 3: RAZON_SOCIAL is empty"),
        (",FIJO,Telefonía Uno,01/02/1999", "", "line 3: the line ends before MODALIDAD"),
        ("5512340000,5512344999", "3310009999,3310019999", "line 4: the range shares number 3310009999 with line 2"),
        ("MODALIDAD", "TIPO", "no column MODALIDAD"),
    ],
)
def test_a_broken_row_is_refused_with_its_line(tmp_path: Path, wrong: str, right: str, message: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        read(tmp_path, TODAY.replace(wrong, right, 1))
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_old_layout_wants_four_digits(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="line 2: NUMERACION_INICIAL is '000', not four digits"):
        read(tmp_path, OLD.replace(",1000,0000,", ",1000,000,", 1))
    with pytest.raises(InvalidInput, match=r"line 3: NIR, SERIE and NUMERACION_INICIAL is '32115000'"):
        read(tmp_path, OLD.replace(",321,123,", ",321,1,", 1))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\r\n \r\n", "is empty"),
        (TODAY.partition("\n")[0].encode(), "no ranges"),
        (b"\x00\x01\x02 binary rubbish", "no column"),
        (b"PK\x03\x04 cut off", "damaged or unusual archive"),
        (gzip.compress(TODAY.encode())[:-20], "damaged or unusual archive"),
        (b"\x1f\x8b not gzip at all", "cannot be read|damaged or unusual archive"),
        (("a" * 200_000 + "\n").encode(), "cannot be read|no column"),
    ],
)
def test_what_is_no_numbering_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        read(tmp_path, content)


def test_a_zip_of_several_csvs_a_directory_and_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="holds 2 CSV files"):
        read_plan_file(zipped(tmp_path, {"a.csv": OLD, "b.csv": OLD}))
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_plan_file(tmp_path)
    with pytest.raises(InvalidInput, match="Check the path"):
        read_plan_file(tmp_path / "none.csv")


def test_dates_are_needed_for_a_version(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="version is unknown"):
        read(tmp_path, TODAY.replace(",FECHA_ASIGNACION", ",OTHER"))
