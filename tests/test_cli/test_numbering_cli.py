"""smsctl numbering, through real processes: what it prints is what others script against."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from app.core import plan_store

KEYS = {"e164", "national", "valid", "line_type", "operator", "lada", "city", "state_code", "time_zone", "why"}


def smsctl(
    *arguments: str | bytes, data_dir: Path, stdin: bytes = b"", url: str | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run `smsctl numbering …`; without `url` there is neither DATABASE_URL nor a database in `data_dir`."""
    kept = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "DATABASE_ADMIN_URL")}
    environment = kept | {"SMS_DATA_DIR": str(data_dir)} | ({"DATABASE_URL": url} if url else {})
    command = [sys.executable, "-c", "from app.cli import main; main()", "numbering", *arguments]
    return subprocess.run(command, env=environment, input=stdin, capture_output=True, check=False, timeout=120)


def test_lookup_without_a_database_uses_the_packaged_plan_and_starts_nothing(tmp_path: Path) -> None:
    done = smsctl("lookup", "+52 1 55 1234 5678", "--json", data_dir=tmp_path / "var")
    assert (done.returncode, done.stderr) == (0, b"")
    found = json.loads(done.stdout)
    assert found.keys() >= KEYS
    assert (found["e164"], found["lada"], found["state_code"]) == ("+525512345678", "55", "CMX")
    assert found["plan_version"] == plan_store.PLAN_VERSION
    assert not (tmp_path / "var").exists()


def test_lookup_of_what_is_no_number_still_answers(tmp_path: Path) -> None:
    for text in ("hola", "", "-5", "+1 212 555 0123", "123", b"\xff\xfe33"):
        done = smsctl("lookup", "--json", "--", text, data_dir=tmp_path)
        assert done.returncode == 0
        found = json.loads(done.stdout)
        assert (found["valid"], found["e164"]) == (False, None)
        assert found["why"]


def test_lookup_for_a_person(tmp_path: Path) -> None:
    done = smsctl("lookup", "3310123456", data_dir=tmp_path)
    assert done.returncode == 0
    lines = dict(line.split(maxsplit=1) for line in done.stdout.decode().splitlines())
    assert (lines["e164"], lines["city"], lines["state_name"]) == ("+523310123456", "Guadalajara", "Jalisco")


def test_lookup_of_a_stream_answers_line_by_line_whatever_the_bytes(tmp_path: Path) -> None:
    lines = [
        b"5512345678", b"", b"\xff\xfe\x00", b"044 33 1234 5678\r", "números\u2028\x85".encode(), b"\xed\xa0\x80",
        b"9" * 3_000_000, b"+52 (81) 1234-5678",
    ]  # fmt: skip
    done = smsctl("lookup", "-", data_dir=tmp_path, stdin=b"\n".join(lines))
    assert (done.returncode, done.stderr) == (0, b"")
    answers = [json.loads(line) for line in done.stdout.decode("utf-8").splitlines()]
    assert [answer["e164"] for answer in answers] == [
        "+525512345678", None, None, "+523312345678", None, None, None, "+528112345678",
    ]  # fmt: skip
    assert answers[6]["reason"] == "too_long"


def test_lookup_of_a_stream_answers_before_the_stream_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from app.cli import main; main()", "numbering", "lookup", "-"]
    kept = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "DATABASE_ADMIN_URL")}
    environment = kept | {"SMS_DATA_DIR": str(tmp_path)}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in (b"5512345678", b"hola"):
            process.stdin.write(number + b"\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["number"] == number.decode()
        process.stdin.close()
        assert process.wait(timeout=60) == 0


def test_lookup_of_an_empty_stream_prints_nothing(tmp_path: Path) -> None:
    done = smsctl("lookup", "-", data_dir=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_import_show_lookup_and_reclassify_use_the_database(database_url: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.csv"
    path.write_text(
        "ZONA,NUMERACION_INICIAL,NUMERACION_FINAL,MODALIDAD,RAZON_SOCIAL,FECHA_ASIGNACION\n"
        "2,2012340000,2012349999,CPP,Operadora de Prueba,15/11/2031\n",
        encoding="utf-8",
    )
    imported = smsctl("import", str(path), "--json", data_dir=tmp_path, url=database_url)
    assert (imported.returncode, json.loads(imported.stdout)["outcome"]) == (0, "imported")
    shown = smsctl("show", data_dir=tmp_path, url=database_url)
    assert "2031-11-15" in shown.stdout.decode()
    found = json.loads(smsctl("lookup", "2012345678", "--json", data_dir=tmp_path, url=database_url).stdout)
    assert (found["operator"], found["valid"]) == ("Operadora de Prueba", True)
    done = smsctl("reclassify", "--json", data_dir=tmp_path, url=database_url)
    assert (done.returncode, json.loads(done.stdout)["plan_version"]) == (0, "2031-11-15")


def test_a_refused_file_is_one_line_and_exit_2(database_url: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.csv"
    path.write_text("a,b\n1,2\n", encoding="utf-8")
    done = smsctl("import", str(path), data_dir=tmp_path, url=database_url)
    assert done.returncode == 2
    assert b"not the regulator" in done.stderr
    assert b"Traceback" not in done.stderr
