"""The national numbering plan, as imported from the regulator's files."""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum

from sqlalchemy import CHAR, Boolean, CheckConstraint, ForeignKey, Identity, Index, Integer, String, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, EnumText, enum_check
from app.models.contact import LineType


class PlanLayout(StrEnum):
    """Which header the regulator's file had."""

    SINCE_2025 = "2025"
    SINCE_2019 = "2019"


class RangeLineType(StrEnum):
    """What the plan assigns: CPP and MPP are mobile, FIJO is fixed."""

    MOBILE = LineType.MOBILE.value
    FIXED = LineType.FIXED.value


class NumberingPlan(Base):
    """One imported file of the regulator."""

    __tablename__ = "numbering_plans"
    __table_args__ = (
        enum_check("layout", PlanLayout),
        Index("uq_numbering_plans_in_force", "in_force", unique=True, postgresql_where=text("in_force")),
        {"comment": "Imported versions of Mexico's national numbering plan; one is in force."},
    )

    id: Mapped[int] = mapped_column(Integer, Identity(), primary_key=True, comment="Number of the plan.")
    version: Mapped[str] = mapped_column(comment="Newest assignment date in it, as 2026-09-04.")
    layout: Mapped[PlanLayout] = mapped_column(EnumText(PlanLayout), comment="Layout of the file: 2025 or 2019.")
    source_file: Mapped[str] = mapped_column(comment="Name of the file it was read from.")
    sha256: Mapped[str] = mapped_column(
        CHAR(64), unique=True, comment="SHA-256 of that file: the same is not read twice."
    )
    range_count: Mapped[int] = mapped_column(Integer, comment="Ranges in it.")
    number_count: Mapped[int] = mapped_column(comment="Numbers that its ranges hold.")
    imported_at: Mapped[datetime] = mapped_column(server_default=func.now(), comment="When it was imported.")
    in_force: Mapped[bool] = mapped_column(
        Boolean, server_default=text("false"), comment="Whether new contacts are classified by it."
    )


class NumberingRange(Base):
    """A block of consecutive national numbers assigned to one operator."""

    __tablename__ = "numbering_ranges"
    __table_args__ = (
        enum_check("line_type", RangeLineType),
        CheckConstraint("first_number <= last_number", name="range"),
        {"comment": "Blocks of numbers of a plan; blocks of one plan do not overlap."},
    )

    plan_id: Mapped[int] = mapped_column(
        Integer, ForeignKey("numbering_plans.id", ondelete="CASCADE"), primary_key=True, comment="Plan it belongs to."
    )
    first_number: Mapped[int] = mapped_column(primary_key=True, comment="First national number, ten digits.")
    last_number: Mapped[int] = mapped_column(comment="Last national number, inclusive.")
    line_type: Mapped[RangeLineType] = mapped_column(EnumText(RangeLineType, 16), comment="mobile or fixed.")
    operator: Mapped[str] = mapped_column(String(120), comment="Operator it was first assigned to.")
    assigned_on: Mapped[date | None] = mapped_column(comment="Day of assignment, where the file has it.")
    city: Mapped[str | None] = mapped_column(comment="Town (POBLACION).")
    municipality: Mapped[str | None] = mapped_column(comment="Municipality.")
    state_code: Mapped[str | None] = mapped_column(String(3), comment="ISO 3166-2:MX without 'MX-'.")


class NumberingReclassification(Base):
    """One pass of `numbering reclassify` over contacts; its watermark lets a stopped pass go on."""

    __tablename__ = "numbering_reclassifications"
    __table_args__ = ({"comment": "Passes that brought contacts up to date with a plan, and how far each came."},)

    id: Mapped[int] = mapped_column(Identity(), primary_key=True, comment="Number of the pass.")
    plan_id: Mapped[int] = mapped_column(
        Integer, ForeignKey("numbering_plans.id", ondelete="CASCADE"), comment="Plan that it applies."
    )
    last_contact_id: Mapped[int] = mapped_column(comment="Contacts up to this id are done.")
    examined: Mapped[int] = mapped_column(comment="Contacts looked at so far.")
    changed: Mapped[int] = mapped_column(comment="Contacts of which something was changed.")
    started_at: Mapped[datetime] = mapped_column(server_default=func.now(), comment="When the pass began.")
    finished_at: Mapped[datetime | None] = mapped_column(comment="When it reached the end; null while it has not.")
