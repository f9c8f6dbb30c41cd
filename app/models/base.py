"""What every table shares: names of constraints, types, enums as text, states that know where they may go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any, ClassVar, Self, TypeVar
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Date, DateTime, LargeBinary, MetaData, Numeric, Text, Time
from sqlalchemy import Uuid as UuidType
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import String, TypeDecorator

NAMING_CONVENTION = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
}

Json = Any
"""A value of a jsonb column, as psycopg gives it; a service turns it into a dataclass before it goes further."""


class Base(DeclarativeBase):
    """Base of all tables. The schema itself is written in migrations/; `smsctl db check` holds the two equal."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        int: BigInteger,
        str: Text,
        bytes: LargeBinary,
        float: Numeric,
        date: Date,
        time: Time,
        datetime: DateTime(timezone=True),
        Decimal: Numeric,
        UUID: UuidType,
        Json: JSONB,
    }


class State(StrEnum):
    """A status with one table of allowed moves, given by the decorator `moves`. TERMINAL: those that lead nowhere."""

    MOVES: ClassVar[Mapping[str, frozenset[str]]]
    TERMINAL: ClassVar[frozenset[str]]

    def can_become(self, target: Self) -> bool:
        """Whether a row in this state may be put into `target`; staying where it is, is no move."""
        return str(target) in type(self).MOVES[str(self)]

    @classmethod
    def may_become(cls, target: Self) -> frozenset[str]:
        """The states from which `target` may be reached: the guard of a set-based UPDATE."""
        return frozenset(origin for origin, targets in cls.MOVES.items() if str(target) in targets)


S = TypeVar("S", bound=type[State])


def moves(table: Mapping[str, Iterable[str]]) -> Callable[[S], S]:
    """Class decorator: give a State its moves (origin → targets); every state must have its line."""

    def attach(states: S) -> S:
        names = {member.value for member in states}
        targets = {target for line in table.values() for target in line}
        if set(table) != names or not targets <= names:
            raise TypeError(f"{states.__name__}: its moves do not cover exactly its states")
        states.MOVES = {origin: frozenset(line) for origin, line in table.items()}
        states.TERMINAL = frozenset(origin for origin, line in states.MOVES.items() if not line)
        return states

    return attach


E = TypeVar("E", bound=StrEnum)


class EnumText(TypeDecorator[E]):
    """A StrEnum kept as text (or varchar of `length`), with a CHECK beside it: readable in psql, cheap to extend."""

    impl: Any = Text
    cache_ok = True

    def __init__(self, enum: type[E], length: int | None = None) -> None:
        super().__init__()
        self.enum = enum
        self.length = length
        self.impl = Text() if length is None else String(length)

    def process_bind_param(self, value: E | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """The text of `value`; a string that is not a member is refused here, before the database does."""
        return None if value is None else self.enum(value).value

    def process_result_value(self, value: str | None, dialect: Dialect) -> E | None:  # noqa: ARG002
        """The member that the stored text names."""
        return None if value is None else self.enum(value)


def is_one_of(column: str, enum: type[StrEnum] | type[IntEnum]) -> str:
    """The SQL condition that `column` holds a value of `enum`."""
    values = ", ".join(str(m.value) if isinstance(m.value, int) else f"'{m.value}'" for m in enum)
    return f"{column} IN ({values})"


def enum_check(column: str, enum: type[StrEnum] | type[IntEnum]) -> CheckConstraint:
    """The CHECK ck_<table>_<column> that keeps `column` to the values of `enum` (NULL passes)."""
    return CheckConstraint(is_one_of(column, enum), name=column)
