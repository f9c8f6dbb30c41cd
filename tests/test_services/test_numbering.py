"""The plan in the database, look-ups by it, and contacts brought up to date."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core import plan_store
from app.core.database import connect
from app.core.errors import Conflict, InvalidInput, NotFound
from app.ingest.numbering_files import import_plan
from app.services import numbering_service, reclassify_service
from app.services.numbering_service import describe, ensure_packaged_plan, load_plan, lookup, plan_in_force

HEADER = "ZONA,NUMERACION_INICIAL,NUMERACION_FINAL,MODALIDAD,RAZON_SOCIAL,FECHA_ASIGNACION\n"
SMALL = (
    HEADER + "3,3310000000,3310009999,CPP,Móvil\\Uno\t,15/11/2025\n5,5512340000,5512344999,FIJO,Fija Dos,01/02/2027\n"
)


def plan_file(tmp_path: Path, text: str = SMALL) -> Path:
    path = tmp_path / "plan.csv"
    path.write_text(text, encoding="utf-8")
    return path


def add_contact(url: str, number: str, *, flagged: bool = False, status: str = "ACTIVE", lada: str = "999") -> int:
    """A contact as an older plan knew it: mobile of 'Old'; its id."""
    with connect(url) as session:
        row = session.execute(
            "INSERT INTO contacts (phone_e164, phone_national, is_mobile, line_type, operator, lada, is_valid,"
            " invalid_reason, status, source) VALUES ('+52' || %(n)s, %(n)s, true, 'mobile', 'Old', %(lada)s,"
            " NOT %(flagged)s, CASE WHEN %(flagged)s THEN 'source_flag' END, %(status)s, 'test') RETURNING id",
            {"n": number, "flagged": flagged, "status": status, "lada": lada},
        ).fetchone()
    assert row is not None
    return int(row[0])


def contact(url: str, contact_id: int) -> tuple[object, ...]:
    with connect(url) as session:
        row = session.execute(
            "SELECT line_type, is_mobile, operator, lada, is_valid, invalid_reason, status, version FROM contacts"
            " WHERE id = %s",
            (contact_id,),
        ).fetchone()
    assert row is not None
    return row


def test_packaged_plan_is_in_force_in_a_new_database_and_equal_to_the_file(database_url: str) -> None:
    packaged = plan_store.packaged_plan()
    with connect(database_url) as session:
        plan_id = ensure_packaged_plan(session)
        plan = plan_in_force(session)
    assert plan.id == plan_id
    assert plan.version == packaged.version
    for column in ("first", "last", "line_type", "assigned_on"):
        assert np.array_equal(getattr(plan, column), getattr(packaged, column))
    names = [plan.operators[index] for index in plan.operator.tolist()]
    assert names == [packaged.operators[index] for index in packaged.operator.tolist()]


def test_a_newer_packaged_plan_replaces_an_older_packaged_one_only(database_url: str, tmp_path: Path) -> None:
    with connect(database_url) as session:
        old = ensure_packaged_plan(session)
        session.execute("UPDATE numbering_plans SET version = '2020-01-01', sha256 = repeat('0', 64)")
        new = ensure_packaged_plan(session)
        assert new != old
        assert ensure_packaged_plan(session) == new
    imported = import_plan(database_url, plan_file(tmp_path, SMALL.replace("2027", "2015").replace("2025", "2014")))
    with connect(database_url) as session:
        assert imported.version < plan_store.PLAN_VERSION
        assert ensure_packaged_plan(session) == imported.id


def test_import_puts_a_plan_in_force_and_the_same_file_changes_nothing(database_url: str, tmp_path: Path) -> None:
    path = plan_file(tmp_path)
    first, second = import_plan(database_url, path), import_plan(database_url, path)
    assert (first.outcome, second.outcome, first.id) == ("imported", "unchanged", second.id)
    assert (first.version, first.range_count, first.number_count, first.in_force) == ("2027-02-01", 2, 15_000, True)
    with connect(database_url) as session:
        plans = describe(session)
        assert [plan.in_force for plan in plans] == [True, False]
        assert ensure_packaged_plan(session) == first.id, "an imported plan is never replaced"
        plan = plan_in_force(session)
        assert plan.operator_of(3310000000) == "Móvil\\Uno"
        assert plan.line_type_of(5512344999) == "fixed"
        assert load_plan(session, plans[1].id).version == plan_store.PLAN_VERSION


def test_an_older_file_comes_back_in_force_when_it_is_imported_again(database_url: str, tmp_path: Path) -> None:
    older = plan_file(tmp_path)
    first = import_plan(database_url, older)
    newer = tmp_path / "newer.csv"
    newer.write_text(SMALL.replace("2027", "2028"), encoding="utf-8")
    import_plan(database_url, newer)
    again = import_plan(database_url, older)
    assert (again.outcome, again.id, again.in_force) == ("reinstated", first.id, True)
    with connect(database_url) as session:
        assert sum(plan.in_force for plan in describe(session)) == 1


def test_places_of_the_old_layout_are_kept(database_url: str, tmp_path: Path) -> None:
    text = (
        "POBLACION, MUNICIPIO, ESTADO, NIR, SERIE, NUMERACION_INICIAL, NUMERACION_FINAL, MODALIDAD, RAZON_SOCIAL,"
        " FECHA_ASIGNACION\r\n"
        '"TEQUILA","TEQUILA","JAL",374,123,0000,9999,FIJO,"UNO",13/05/2019,\r\n'
    )
    info = import_plan(database_url, plan_file(tmp_path, text))
    with connect(database_url) as session:
        row = session.execute(
            "SELECT city, municipality, state_code, assigned_on::text FROM numbering_ranges WHERE plan_id = %s",
            (info.id,),
        ).fetchone()
    assert (info.layout, row) == ("2019", ("TEQUILA", "TEQUILA", "JAL", "2019-05-13"))


def test_a_refused_file_leaves_the_plan_in_force(database_url: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        import_plan(database_url, plan_file(tmp_path, SMALL + "x,1,2,CPP,Uno,01/01/2020\n"))
    with connect(database_url) as session:
        assert [plan.source_file for plan in describe(session)] == [plan_store.PLAN_SOURCE]


def test_an_unknown_plan_is_not_found(database_url: str) -> None:
    with connect(database_url) as session, pytest.raises(NotFound):
        load_plan(session, 2_000_000_000)


def test_a_range_missing_from_the_database_is_noticed(database_url: str, tmp_path: Path) -> None:
    import_plan(database_url, plan_file(tmp_path))
    with connect(database_url) as session:
        session.execute("DELETE FROM numbering_ranges WHERE first_number = 3310000000 AND last_number = 3310009999"
                        " AND plan_id = (SELECT id FROM numbering_plans WHERE in_force)")  # fmt: skip
        with pytest.raises(Exception, match="has 1 ranges in the database and 2"):
            plan_in_force(session)
        session.rollback()


def test_reclassify_brings_contacts_up_to_date_and_writes_only_what_changes(database_url: str, tmp_path: Path) -> None:
    import_plan(database_url, plan_file(tmp_path))
    mobile, fixed = add_contact(database_url, "3310000001"), add_contact(database_url, "5512340001")
    gone = add_contact(database_url, "2221234567")
    flagged, both = (
        add_contact(database_url, number, flagged=True, status="INVALID") for number in ("3310000002", "2221234568")
    )
    blocked = add_contact(database_url, "2221234569", status="BLOCKED")
    erased = add_contact(database_url, "2221234570", status="ERASED")
    service = add_contact(database_url, "8001234567")
    result = reclassify_service.reclassify(database_url)
    assert (result.examined, result.changed, result.plan_version) == (8, 7, "2027-02-01")
    uno = "Móvil\\Uno"
    assert contact(database_url, mobile) == ("mobile", True, uno, "33", True, None, "ACTIVE", 2)
    assert contact(database_url, fixed) == ("fixed", False, "Fija Dos", "55", True, None, "ACTIVE", 2)
    assert contact(database_url, gone) == ("unassigned", False, None, "222", False, "unassigned", "INVALID", 2)
    assert contact(database_url, flagged) == ("mobile", True, uno, "33", False, "source_flag", "INVALID", 2)
    both_reasons = ("unassigned", False, None, "222", False, "unassigned+source_flag", "INVALID", 2)
    assert contact(database_url, both) == both_reasons
    assert contact(database_url, blocked) == ("unassigned", False, None, "222", False, "unassigned", "BLOCKED", 2)
    assert contact(database_url, erased) == ("mobile", True, "Old", "999", True, None, "ERASED", 1)
    assert contact(database_url, service) == ("toll_free", False, None, "800", True, None, "ACTIVE", 2)
    again = reclassify_service.reclassify(database_url)
    assert (again.examined, again.changed) == (8, 0)


def test_a_number_assigned_again_becomes_valid_and_active(database_url: str, tmp_path: Path) -> None:
    import_plan(database_url, plan_file(tmp_path))
    contact_id = add_contact(database_url, "2221234567")
    reclassify_service.reclassify(database_url)
    import_plan(database_url, plan_file(tmp_path, SMALL + "2,2221234000,2221234999,MPP,Tres,01/03/2027\n"))
    reclassify_service.reclassify(database_url)
    assert contact(database_url, contact_id) == ("mobile", True, "Tres", "222", True, None, "ACTIVE", 3)


def test_reclassify_agrees_with_lookup(database_url: str) -> None:
    plan = plan_store.packaged_plan()
    numbers = {int(number) for number in plan.first[::9000]} | {int(number) + 1 for number in plan.last[::9000]}
    ids = {number: add_contact(database_url, str(number)) for number in numbers if lookup(plan, str(number)).national}
    reclassify_service.reclassify(database_url, window=7)
    for number, contact_id in ids.items():
        seen = lookup(plan, str(number))
        expected = (seen.line_type, seen.is_mobile, seen.operator, seen.lada, seen.valid, seen.reason)
        assert contact(database_url, contact_id)[:6] == expected


def test_an_interrupted_reclassify_goes_on_where_it_stopped(database_url: str, tmp_path: Path) -> None:
    import_plan(database_url, plan_file(tmp_path))
    ids = [add_contact(database_url, f"33100000{number:02d}") for number in range(10)]

    class StopError(Exception):
        pass

    def stop(progress: reclassify_service.ReclassifyProgress) -> None:
        if progress.examined >= 4:
            raise StopError

    with pytest.raises(StopError):
        reclassify_service.reclassify(database_url, stop, window=2)
    assert [contact(database_url, each)[2] == "Old" for each in ids] == [False] * 4 + [True] * 6
    seen: list[int] = []
    result = reclassify_service.reclassify(database_url, lambda at: seen.append(at.examined), window=2)
    assert seen == [6, 8, 10]
    assert (result.examined, result.changed, result.resumed) == (10, 10, True)
    assert all(contact(database_url, each)[7] == 2 for each in ids)


def test_a_newer_plan_starts_the_contacts_over(database_url: str, tmp_path: Path) -> None:
    import_plan(database_url, plan_file(tmp_path))
    add_contact(database_url, "3310000001")

    def stop(_: reclassify_service.ReclassifyProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reclassify_service.reclassify(database_url, stop)
    import_plan(database_url, plan_file(tmp_path, SMALL.replace("Uno", "Nueva")))
    result = reclassify_service.reclassify(database_url)
    assert (result.examined, result.changed, result.resumed) == (1, 1, False)


def test_two_reclassifications_at_once_are_refused(database_url: str) -> None:
    with psycopg.connect(database_url) as other:
        other.execute("SELECT pg_advisory_lock(%s)", (reclassify_service.RECLASSIFY_LOCK,))
        with pytest.raises(Conflict, match="under way"):
            reclassify_service.reclassify(database_url)


def test_locked_contacts_are_a_conflict_and_not_a_wait(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    contact_id = add_contact(database_url, "2010000000")
    monkeypatch.setattr(reclassify_service, "LOCK_PATIENCE", "50ms")
    with psycopg.connect(database_url) as other:
        other.execute("SELECT 1 FROM contacts WHERE id = %s FOR UPDATE", (contact_id,))
        with pytest.raises(Conflict, match="locked by another program"):
            reclassify_service.reclassify(database_url)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("2010000000", "not assigned in the plan of 2026-09-04"),
        ("+1 212 555 0123", "foreign number (+1)"),
        ("12345678", "too short: 8 digits, a Mexican number has ten"),
        ("331234567890123", "too long: 15 digits, a Mexican number has ten"),
        ("8001234567", "toll-free service number: it belongs to no place and no operator's range"),
        ("hola", "not a phone number"),
        ("", "nothing to look up: no characters but white space"),
        ("1234567890", "not a valid number: phonenumbers knows no Mexican area code like it"),
        ("+34 000 000 000", "not a valid number of +34"),
        ("+999 123 456 789", "not a valid number of any country"),
    ],
)
def test_why_is_a_sentence_for_a_person(text: str, why: str) -> None:
    assert lookup(plan_store.packaged_plan(), text).why == why


def test_lookup_of_an_assigned_mobile_number() -> None:
    plan = plan_store.packaged_plan()
    index = next(i for i in range(len(plan)) if plan.line_type[i] == 0 and str(plan.first[i]).startswith("55"))
    number = int(plan.first[index])
    operator = plan.operators[plan.operator[index]]
    found = lookup(plan, f"+52 1 {number}")
    day = np.datetime64(int(plan.assigned_on[index]), "D")
    assert (found.e164, found.national, found.valid, found.reason) == (f"+52{number}", str(number), True, None)
    assert (found.line_type, found.is_mobile, found.operator) == ("mobile", True, operator)
    assert (found.lada, found.city, found.state_code) == ("55", "Ciudad de México", "CMX")
    assert (found.state_name, found.time_zone) == ("Ciudad de México", "America/Mexico_City")
    assert found.why == f"assigned to {operator} as mobile on {day}"


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(exclude_categories=[]), max_size=50))
def test_lookup_answers_whatever_the_text(text: str) -> None:
    found = lookup(plan_store.packaged_plan(), text)
    assert found.why
    assert found.valid == (found.national is not None and found.reason is None)
    assert numbering_service.lookup(plan_store.packaged_plan(), text) == found
