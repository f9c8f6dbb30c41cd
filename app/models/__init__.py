"""The tables. Importing this package fills Base.metadata with all of them."""

from __future__ import annotations

from app.models import (
    access,
    audit,
    backup,
    campaign,
    consent,
    contact,
    message,
    migration,
    numbering,
    permission,
    receipt,
    segment,
    server_setting,
    suppression,
    user,
)
from app.models.base import Base

__all__ = [
    "Base",
    "access",
    "audit",
    "backup",
    "campaign",
    "consent",
    "contact",
    "message",
    "migration",
    "numbering",
    "permission",
    "receipt",
    "segment",
    "server_setting",
    "suppression",
    "user",
]
