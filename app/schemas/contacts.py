"""Contacts as the API shows them."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from app.models.contact import ContactStatus, InvalidReason, LineType
from app.schemas.base import Outgoing


class ContactOut(Outgoing):
    """A phone number and whom it reaches. For callers without `contacts:reveal` number and name are masked."""

    id: int = Field(examples=[1041])
    phone_e164: str = Field(
        description="E.164; masked: all but the last four digits are *.", examples=["+525512345678", "+52******5678"]
    )
    full_name: str | None = Field(
        description="Name of the person or business; masked: initials.", examples=["María Pérez López", "M. P. L."]
    )
    address: str | None = Field(description="Street and number; masked: null.", examples=["Av. Juárez 10"])
    neighborhood: str | None = Field(description="Colonia; masked: null.", examples=["Centro"])
    municipality: str | None = Field(examples=["Cuauhtémoc"])
    state_code: str | None = Field(description="ISO 3166-2:MX without MX-.", examples=["CMX"])
    state_name: str | None = Field(examples=["Ciudad de México"])
    lada: str | None = Field(description="Area code of the number.", examples=["55"])
    city: str | None = Field(examples=["Ciudad de México"])
    line_type: LineType = Field(examples=["mobile"])
    operator: str | None = Field(
        description="Operator that the number was first assigned to.", examples=["RADIOMOVIL DIPSA SA DE CV"]
    )
    is_valid: bool = Field(examples=[True])
    invalid_reason: InvalidReason | None = Field(examples=[None])
    status: ContactStatus = Field(examples=["ACTIVE"])
    time_zone: str | None = Field(examples=["America/Mexico_City"])
    source: str = Field(description="Where it came from.", examples=["numeros.db"])
    opt_out_at: datetime | None = Field(description="When the person said BAJA; null: has not.", examples=[None])
    last_sent_at: datetime | None = Field(examples=[None])
    send_count: int = Field(examples=[0])
    created_at: datetime = Field(examples=["2026-01-15T18:30:00Z"])
    version: int = Field(description="Grows with every edit.", examples=[1])
    is_masked: bool = Field(description="Whether number, name and address are hidden here.", examples=[False])
