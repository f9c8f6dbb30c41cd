"""Who may do what: permissions, the roles that have them, and the caller of a request as every layer knows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from uuid import UUID

from app.models.user import Role


class Permission(StrEnum):
    """One thing that a caller may do. Every route names one, or is on the short public list."""

    CONTACTS_READ = "contacts:read"
    CONTACTS_REVEAL = "contacts:reveal"
    USERS_READ = "users:read"
    USERS_MANAGE = "users:manage"
    API_KEYS_MANAGE = "api_keys:manage"
    AUDIT_READ = "audit:read"
    MIGRATIONS_READ = "migrations:read"
    METRICS_READ = "metrics:read"
    SELF = "self"


WHAT_IT_ALLOWS: Mapping[Permission, str] = MappingProxyType(
    {
        Permission.CONTACTS_READ: "look at contacts; numbers and names are masked",
        Permission.CONTACTS_REVEAL: "see numbers and names whole",
        Permission.USERS_READ: "list accounts",
        Permission.USERS_MANAGE: "create, invite, change and disable accounts",
        Permission.API_KEYS_MANAGE: "make and revoke API keys of others",
        Permission.AUDIT_READ: "read the audit log",
        Permission.MIGRATIONS_READ: "see runs of the migration and their reports",
        Permission.METRICS_READ: "read /metrics",
        Permission.SELF: "one's own account: sessions, password, second factor, own API keys",
    }
)

_EVERYBODY = frozenset({Permission.SELF, Permission.CONTACTS_READ})

ROLE_PERMISSIONS: Mapping[Role, frozenset[Permission]] = MappingProxyType(
    {
        Role.ADMIN: frozenset(Permission) - {Permission.METRICS_READ},
        Role.MANAGER: _EVERYBODY | {Permission.CONTACTS_REVEAL, Permission.USERS_READ, Permission.MIGRATIONS_READ},
        Role.MARKETER: _EVERYBODY | {Permission.CONTACTS_REVEAL},
        Role.ANALYST: _EVERYBODY | {Permission.MIGRATIONS_READ},
        Role.COMPLIANCE: _EVERYBODY
        | {Permission.CONTACTS_REVEAL, Permission.USERS_READ, Permission.AUDIT_READ, Permission.MIGRATIONS_READ},
        Role.SERVICE: _EVERYBODY | {Permission.CONTACTS_REVEAL, Permission.METRICS_READ},
    }
)
"""What each role may. An API key may at most what its owner's role may, and of that only its scopes."""


class CallerKind(StrEnum):
    """What stands behind a request."""

    USER = "user"
    API_KEY = "api_key"
    SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who acts: a signed-in person, an API key of an account, or the platform itself (CLI, jobs)."""

    kind: CallerKind
    user_id: int | None
    public_id: UUID | None
    email: str
    role: Role
    permissions: frozenset[Permission]
    session_id: UUID | None = None
    api_key_id: int | None = None

    def may(self, permission: Permission) -> bool:
        """Whether the caller has `permission`."""
        return permission in self.permissions


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request came from, for the audit log: client address, user agent, request id."""

    address: str | None = None
    user_agent: str | None = None
    request_id: str | None = None


SYSTEM = Caller(
    kind=CallerKind.SYSTEM, user_id=None, public_id=None, email="system", role=Role.ADMIN,
    permissions=frozenset(Permission),
)  # fmt: skip
"""The command line and jobs: whoever reaches them has the machine."""
