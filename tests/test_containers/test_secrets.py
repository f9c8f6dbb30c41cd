"""docker/make-secrets.sh makes what the Compose file wants, and the settings read it where it is mounted."""

from __future__ import annotations

import os
import ssl
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydantic_settings import SettingsError

from app.core.config import Settings, get_settings
from tests.generated_docs import environment_names
from tests.house_support import ROOT
from tests.test_containers.compose_support import load
from tests.test_containers.nginx_support import make_secrets

SCRIPT = ROOT / "docker/make-secrets.sh"


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """No setting of the developer's; settings are read anew before and after."""
    for name in (*environment_names(), "SMS_SECRETS_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SMS_ENV_FILE", os.devnull)
    get_settings.cache_clear()
    yield monkeypatch
    get_settings.cache_clear()


def again(directory: Path) -> str:
    made = subprocess.run(
        [SCRIPT], check=True, capture_output=True, text=True, env={**os.environ, "SECRETS": str(directory)}
    )
    return made.stdout


def test_every_secret_of_the_compose_file_is_made_and_no_other(secrets: Path) -> None:
    assert {path.name for path in secrets.iterdir()} == set(load()["secrets"])


def test_nobody_else_reaches_them_and_every_container_can_read_its_own(secrets: Path) -> None:
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets.iterdir()} == {0o444}


def test_what_is_there_is_left_alone(secrets: Path) -> None:
    before = {path.name: path.read_bytes() for path in secrets.iterdir()}
    assert again(secrets) == ""
    assert {path.name: path.read_bytes() for path in secrets.iterdir()} == before


def test_a_removed_password_is_made_anew_with_its_url(tmp_path: Path) -> None:
    directory = make_secrets(tmp_path / "secrets")
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    (directory / "sms_api_password").unlink()
    (directory / "database_url").unlink()
    again(directory)
    after = {path.name: path.read_bytes() for path in directory.iterdir()}
    assert {name for name in after if after[name] != before[name]} == {"sms_api_password", "database_url"}
    assert urlsplit(after["database_url"].decode()).password == after["sms_api_password"].decode()


def test_urls_name_the_services_and_the_roles_of_the_compose_file(secrets: Path) -> None:
    def url(name: str) -> tuple[str | None, str | None, str | None]:
        parts = urlsplit((secrets / name).read_text(encoding="utf-8"))
        return parts.username, parts.password, parts.hostname

    def password(name: str) -> str:
        return (secrets / name).read_text(encoding="utf-8")

    assert url("database_url") == ("sms_api", password("sms_api_password"), "postgres")
    assert url("database_admin_url") == ("sms_owner", password("sms_owner_password"), "postgres")
    assert url("redis_url") == ("", password("valkey_auth").removeprefix("requirepass ").strip(), "valkey")
    assert {"postgres", "valkey"} <= set(load()["services"])


def test_secrets_are_long_and_none_is_used_twice(secrets: Path) -> None:
    names = [name for name in load()["secrets"] if name.endswith(("password", "token", "key")) and name != "tls_key"]
    values = {(secrets / name).read_text(encoding="utf-8") for name in names}
    assert len(values) == len(names)
    assert min(len(value) for value in values) >= 64


def test_certificate_is_for_the_domain_and_for_this_machine(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    environment = {**os.environ, "SECRETS": str(tmp_path / "secrets")}
    subprocess.run([SCRIPT, "sms.example.com"], check=True, capture_output=True, env=environment)
    shown = subprocess.run(
        ["openssl", "x509", "-noout", "-text", "-in", tmp_path / "secrets/tls_certificate"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert "DNS:sms.example.com, DNS:localhost, IP Address:127.0.0.1" in shown
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "secrets/tls_certificate", tmp_path / "secrets/tls_key")


def test_settings_are_read_from_the_mounted_files(secrets: Path, clean_environment: pytest.MonkeyPatch) -> None:
    clean_environment.setenv("SMS_SECRETS_DIR", str(secrets))
    settings = get_settings()
    read = {
        "database_url": settings.database_url,
        "database_admin_url": settings.database_admin_url,
        "redis_url": settings.redis_url,
        "sms_secret_key": settings.secret_key,
        "sms_api__metrics_token": settings.api.metrics_token,
    }
    assert {name: value.get_secret_value() if value else None for name, value in read.items()} == {
        name: (secrets / name).read_text(encoding="utf-8") for name in read
    }
    assert settings.api.port == 8000, "the rest of a group keeps its defaults"


def test_environment_wins_over_a_file(secrets: Path, clean_environment: pytest.MonkeyPatch) -> None:
    clean_environment.setenv("SMS_SECRETS_DIR", str(secrets))
    clean_environment.setenv("REDIS_URL", "redis://elsewhere:6379/0")
    value = get_settings().redis_url
    assert value is not None
    assert value.get_secret_value() == "redis://elsewhere:6379/0"


def test_a_directory_that_is_not_there_is_not_passed_over(
    tmp_path: Path, clean_environment: pytest.MonkeyPatch
) -> None:
    clean_environment.setenv("SMS_SECRETS_DIR", str(tmp_path / "nothing"))
    with pytest.raises(SettingsError, match="does not exist"):
        get_settings()


def test_no_directory_is_read_where_none_is_named(clean_environment: pytest.MonkeyPatch) -> None:
    """/run/secrets of a machine may hold files of others, which its users cannot read."""
    assert get_settings().redis_url is None
    assert Settings.model_config.get("secrets_dir") is None
