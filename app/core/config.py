"""Settings: one tree, read from the environment (and an optional .env) once."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, SecretStr
from pydantic_settings import (
    BaseSettings,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

PROJECT_ROOT = Path(__file__).resolve().parents[2]


class MigrationSettings(BaseModel):
    """How numeros.db is moved."""

    batch_size: int = Field(100_000, ge=1, le=5_000_000, description="Rows per committed batch of `migrate run`.")
    streams: int = Field(2, ge=1, le=8, description="COPY connections that load batches at the same time.")
    retry_seconds: float = Field(
        60, ge=0, description="How long a lost connection or a lock is retried before a run stops."
    )


class EmbeddedSettings(BaseModel):
    """The PostgreSQL and Valkey that come out of wheels."""

    user: str = Field("nobody", description="Unprivileged account that runs PostgreSQL when smsctl is run by root.")
    shared_buffers: str = Field(
        "", description="shared_buffers of the embedded PostgreSQL; empty: a quarter of memory, 4GB at most."
    )
    start_timeout_s: float = Field(120, gt=0, description="Longest wait for an embedded server to answer.")


class LogSettings(BaseModel):
    """What is logged and how."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Least severe level that is written."
    )
    format: Literal["console", "json"] = Field("console", description="Lines for a person, or one JSON object a line.")


class ApiSettings(BaseModel):
    """How the service listens and whom it trusts."""

    host: str = Field("127.0.0.1", description="Address the API listens on.")
    port: int = Field(8000, ge=0, le=65535, description="Port the API listens on; 0 takes a free one.")
    workers: int = Field(1, ge=1, le=64, description="Processes of the API.")
    public_url: str = Field(
        "", description="Where people reach the service, for links it writes; empty: http://host:port."
    )
    cors_origins: list[str] = Field([], description="Origins whose pages may call the API from a browser (JSON list).")
    trusted_proxies: list[str] = Field(
        ["127.0.0.1"], description="Addresses or networks whose X-Forwarded-For and -Proto are believed (JSON list)."
    )
    max_body_bytes: int = Field(1_048_576, ge=1024, description="Largest request body.")
    body_timeout_s: float = Field(20, gt=0, description="Longest wait for a request body to arrive whole.")
    pool_size: int = Field(10, ge=1, le=200, description="Database connections kept open by each process of the API.")
    pool_timeout_s: float = Field(5, gt=0, description="Longest wait for a free connection; then the answer is 503.")
    shutdown_s: int = Field(20, ge=0, description="How long requests under way may take once a stop was asked.")
    metrics_token: SecretStr | None = Field(
        None, description="Bearer token that reads /metrics; without it an API key with `metrics:read` is needed."
    )


class AuthSettings(BaseModel):
    """Sign-in. Times are upper bounds of what a stolen secret is worth."""

    issuer: str = Field("sms-platform", description="`iss` of access tokens.")
    audience: str = Field("sms-api", description="`aud` of access tokens.")
    access_minutes: int = Field(10, ge=1, le=60, description="Life of an access token.")
    refresh_days: int = Field(14, ge=1, le=90, description="Life of a session, however often it is refreshed.")
    retry_window_s: int = Field(
        10,
        ge=0,
        le=60,
        description="How long a used refresh token may be sent again by an honest client that lost the answer.",
    )
    invitation_hours: int = Field(72, ge=1, description="Life of an invitation.")
    password_min_length: int = Field(12, ge=8, le=128, description="Shortest password.")
    logins_per_account: str = Field("10/15minutes", description="Failed sign-ins for one account before it must wait.")
    logins_per_address: str = Field("50/15minutes", description="Failed sign-ins from one address before it must wait.")
    argon2_memory_kib: int = Field(19_456, ge=19_456, description="Memory of argon2id (OWASP: 19 MiB with 2 passes).")
    argon2_passes: int = Field(2, ge=2, description="Passes of argon2id.")


class LimitSettings(BaseModel):
    """Requests a caller may make, as `count/period`."""

    per_user: str = Field("1200/minute", description="Requests of one signed-in person.")
    per_key: str = Field("6000/minute", description="Requests of one API key.")
    per_address: str = Field("300/minute", description="Requests without a sign-in from one address.")


class Settings(BaseSettings):
    """All settings of the platform. In the environment: SMS_FIELD, and SMS_GROUP__FIELD for a group."""

    model_config = SettingsConfigDict(
        env_prefix="SMS_",
        env_nested_delimiter="__",
        env_file=".env",
        extra="ignore",
        populate_by_name=True,
        env_ignore_empty=True,
    )

    environment: Literal["development", "test", "production"] = Field("development", description="Where this runs.")
    data_dir: Path = Field(
        PROJECT_ROOT / "var",
        description="Home of the embedded servers, logs and backups. Default: `var` in the project.",
    )
    database_url: SecretStr | None = Field(
        None, validation_alias="DATABASE_URL", description="PostgreSQL 16+ to use in place of the embedded one."
    )
    database_admin_url: SecretStr | None = Field(
        None,
        validation_alias="DATABASE_ADMIN_URL",
        description="The same database as a role that may change the schema and load; default: DATABASE_URL.",
    )
    redis_url: SecretStr | None = Field(
        None, validation_alias="REDIS_URL", description="Valkey or Redis to use in place of the embedded one."
    )
    secret_key: SecretStr | None = Field(
        None,
        description="At least 32 characters that encrypt signing keys and second factors. Needed in production;"
        " elsewhere one is made in SMS_DATA_DIR.",
    )
    api: ApiSettings = ApiSettings()
    auth: AuthSettings = AuthSettings()
    limits: LimitSettings = LimitSettings()
    migration: MigrationSettings = MigrationSettings()
    embedded: EmbeddedSettings = EmbeddedSettings()
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is pydantic's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """First wins: what is handed over, the environment, the .env file, a directory of secrets."""
        secrets = NestedSecretsSettingsSource(file_secret_settings, secrets_dir_missing="error")
        return init_settings, env_settings, dotenv_settings, secrets


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process; the environment is read on the first call only.

    A file in SMS_SECRETS_DIR that is named as a variable, in small letters, holds that variable's value.
    """
    return Settings(
        _env_file=os.environ.get("SMS_ENV_FILE", ".env"), _secrets_dir=os.environ.get("SMS_SECRETS_DIR") or None
    )
