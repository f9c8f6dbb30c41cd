"""contacts: one row per phone number, tens of millions of them."""

from __future__ import annotations

from datetime import datetime
from enum import IntFlag, StrEnum

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    Integer,
    SmallInteger,
    String,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, EnumText, State, is_one_of, moves


@moves(
    {
        "ACTIVE": ("INVALID", "INACTIVE", "BLOCKED", "ERASED"),
        "INVALID": ("ACTIVE", "INACTIVE", "BLOCKED", "ERASED"),
        "INACTIVE": ("ACTIVE", "INVALID", "BLOCKED", "ERASED"),
        "BLOCKED": ("ACTIVE", "ERASED"),
        "ERASED": (),
    }
)
class ContactStatus(State):
    """What may be done with a contact. In capitals, as the plan's queries and indexes have them."""

    ACTIVE = "ACTIVE"
    INVALID = "INVALID"
    INACTIVE = "INACTIVE"
    BLOCKED = "BLOCKED"
    ERASED = "ERASED"


class LineType(StrEnum):
    """What kind of line the national numbering plan says a number is."""

    MOBILE = "mobile"
    FIXED = "fixed"
    TOLL_FREE = "toll_free"
    PREMIUM = "premium"
    SHARED_COST = "shared_cost"
    PERSONAL = "personal"
    UNASSIGNED = "unassigned"


class InvalidReason(StrEnum):
    """Why a loaded number is not valid."""

    UNASSIGNED = "unassigned"
    SOURCE_FLAG = "source_flag"
    BOTH = "unassigned+source_flag"


class Inferred(IntFlag):
    """Bits of contacts.inferred: which fields were filled from the LADA and not given by the source."""

    STATE = 1
    CITY = 2
    TIME_ZONE = 4


class Contact(Base):
    """A phone number and the person or business it reaches.

    The order of the columns is part of the contract with the loader (COPY BINARY) and keeps padding out of the row:
    eight-byte columns first, then four, two and one, then text. The two CHECKs run for every copied row, so they are
    combined and cheap (both: 5 to 10 % of a bare COPY; a regular expression on the number alone would cost 25 %, so its
    shape is proven by `migrate validate`). The foreign key to migration_runs would make a COPY 2.5 times as slow: the
    loader detaches it with the keys and puts it back.
    """

    __tablename__ = "contacts"
    __table_args__ = (
        UniqueConstraint("phone_e164", name="uq_contacts_phone_e164"),
        CheckConstraint("phone_e164 = '+52' || phone_national", name="phone"),
        CheckConstraint(
            f"{is_one_of('line_type', LineType)} AND {is_one_of('status', ContactStatus)}"
            " AND is_mobile = (line_type = 'mobile') AND is_valid = (invalid_reason IS NULL)"
            " AND inferred BETWEEN 0 AND 7 AND send_count >= 0",
            name="values",
        ),
        Index("idx_contacts_state_active", "state_code", "status", postgresql_where=text("opt_out_at IS NULL")),
        Index("idx_contacts_lada_active", "lada", "status", postgresql_where=text("opt_out_at IS NULL")),
        Index("idx_contacts_city_active", "city", "status", postgresql_where=text("opt_out_at IS NULL")),
        Index("idx_contacts_last_sent", "last_sent_at", postgresql_where=text("last_sent_at IS NOT NULL")),
        Index("idx_contacts_send_count", "send_count"),
        Index(
            "idx_contacts_name_gin",
            text("to_tsvector('spanish'::regconfig, full_name::text)"),
            postgresql_using="gin",
        ),
        Index(
            "idx_contacts_address_gin",
            text("to_tsvector('spanish'::regconfig, address::text)"),
            postgresql_using="gin",
        ),
        {
            "comment": "One row per phone number: the person or business it reaches, and what may be done with it.",
            "postgresql_with": {
                "fillfactor": "90",
                # A fifth of 36 million rows is too long to wait: one in fifty, and one in a hundred, are not.
                "autovacuum_vacuum_scale_factor": "0.02",
                "autovacuum_analyze_scale_factor": "0.01",
            },
        },
    )

    id: Mapped[int] = mapped_column(
        Identity(),
        primary_key=True,
        comment="Our number of the contact; for a migrated row, source_id plus the run's offset.",
    )
    source_id: Mapped[int | None] = mapped_column(comment="numeros.id of the row it came from; null when not migrated.")
    migration_run_id: Mapped[int | None] = mapped_column(
        Integer, ForeignKey("migration_runs.id"), comment="Run that loaded it; null when it came another way."
    )
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), comment="When the row was written here.")
    migrated_at: Mapped[datetime | None] = mapped_column(
        comment="numeros.fecha_migracion: when the source itself was filled; null when unreadable or not migrated."
    )
    opt_out_at: Mapped[datetime | None] = mapped_column(comment="When the person said BAJA or the like; null: has not.")
    last_sent_at: Mapped[datetime | None] = mapped_column(comment="Last message handed to a carrier.")
    send_count: Mapped[int] = mapped_column(
        Integer, server_default=text("0"), comment="Messages handed to a carrier since ever."
    )
    version: Mapped[int] = mapped_column(
        Integer, server_default=text("1"), comment="Grows with every edit by a person: optimistic locking."
    )
    inferred: Mapped[int] = mapped_column(
        SmallInteger, server_default=text("0"), comment="Bits: 1 state, 2 city, 4 time zone was filled from the LADA."
    )
    is_mobile: Mapped[bool] = mapped_column(Boolean, comment="line_type is mobile.")
    is_valid: Mapped[bool] = mapped_column(
        Boolean, comment="Assigned by the numbering plan and not marked invalid by the source."
    )
    phone_e164: Mapped[str] = mapped_column(String(16), comment="+52 and ten digits; unique.")
    phone_national: Mapped[str] = mapped_column(String(10), comment="The ten digits of the number.")
    phone_original: Mapped[str | None] = mapped_column(
        String(200), comment="numeros.campo1_original: the number as it was first written down."
    )
    full_name: Mapped[str | None] = mapped_column(
        String(500), comment="Name of the person or business (numeros.nombre)."
    )
    address: Mapped[str | None] = mapped_column(String(1000), comment="Street and number (numeros.direccion).")
    neighborhood: Mapped[str | None] = mapped_column(String(300), comment="Colonia (numeros.colonia).")
    municipality: Mapped[str | None] = mapped_column(String(300), comment="Municipality (numeros.municipio_cof).")
    state_code: Mapped[str | None] = mapped_column(String(3), comment="ISO 3166-2:MX without 'MX-': CMX, JAL, NLE …")
    state_name: Mapped[str | None] = mapped_column(String(40), comment="Name of the state in Spanish.")
    lada: Mapped[str | None] = mapped_column(
        String(3), comment="Area code by the number itself: two digits for 33, 55, 56, 81, three for every other."
    )
    city: Mapped[str | None] = mapped_column(String(300), comment="City by the LADA or the source (ciudad_por_lada).")
    line_type: Mapped[LineType] = mapped_column(
        EnumText(LineType, 16), comment="Kind of line by the numbering plan: mobile, fixed, toll_free … unassigned."
    )
    operator: Mapped[str | None] = mapped_column(
        String(120), comment="Operator that the number was first assigned to; it may have been ported since."
    )
    invalid_reason: Mapped[InvalidReason | None] = mapped_column(
        EnumText(InvalidReason, 40), comment="Why is_valid is false: unassigned, source_flag or both; null when valid."
    )
    status: Mapped[ContactStatus] = mapped_column(
        EnumText(ContactStatus, 16),
        server_default=text("'ACTIVE'"),
        comment="ACTIVE, INVALID, INACTIVE, BLOCKED or ERASED.",
    )
    time_zone: Mapped[str | None] = mapped_column(String(40), comment="IANA zone whose clock sending hours go by.")
    source: Mapped[str] = mapped_column(String(60), comment="Where it came from: numeros.db, or the name of an import.")
    campo3: Mapped[str | None] = mapped_column(
        String(300), comment="numeros.campo3, kept as it was; often holds a tax id, so it is personal data."
    )
    municipio_csv: Mapped[str | None] = mapped_column(String(300), comment="numeros.municipio_csv, kept as it was.")
    estado_sep: Mapped[str | None] = mapped_column(String(300), comment="numeros.estado_sep, kept as it was.")
    municipio_sep: Mapped[str | None] = mapped_column(String(300), comment="numeros.municipio_sep, kept as it was.")
