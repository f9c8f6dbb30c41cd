"""server_settings_saved: what `db tune serve` has to put back."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import func
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base


class ServerSettingSaved(Base):
    """A server setting that was changed for a bulk load; the row is written before the change is made."""

    __tablename__ = "server_settings_saved"
    __table_args__ = ({"comment": "Server settings changed for a bulk load, as they were before; empty otherwise."},)

    name: Mapped[str] = mapped_column(primary_key=True, comment="Name of the setting.")
    previous: Mapped[str | None] = mapped_column(
        comment="Its value in postgresql.auto.conf before; null: it was not there, and RESET restores it."
    )
    saved_at: Mapped[datetime] = mapped_column(server_default=func.now(), comment="When it was saved.")
