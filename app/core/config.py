"""Settings: one tree, read from the environment (and an optional .env) once."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

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


class Settings(BaseSettings):
    """All settings of the platform. In the environment: SMS_FIELD, and SMS_GROUP__FIELD for a group."""

    model_config = SettingsConfigDict(
        env_prefix="SMS_", env_nested_delimiter="__", env_file=".env", extra="ignore", populate_by_name=True
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
    migration: MigrationSettings = MigrationSettings()
    embedded: EmbeddedSettings = EmbeddedSettings()
    log: LogSettings = LogSettings()


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process; the environment is read on the first call only."""
    return Settings(_env_file=os.environ.get("SMS_ENV_FILE", ".env"))
