"""Accounts: made, invited, given another role, disabled. The last administrator stays one; nobody is ever deleted."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, exists, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as insert_or
from sqlalchemy.ext.asyncio import AsyncSession

from app.core import clock
from app.core.config import AuthSettings
from app.core.errors import Conflict, Forbidden, InvalidInput, NotFound, Unauthenticated
from app.core.security import digest, new_id, new_token
from app.models.access import Invitation, RevokeReason, SecondFactor
from app.models.permission import ROLE_PERMISSIONS, Caller, CallerKind, Origin, Permission
from app.models.user import Role, User
from app.services import api_key_service, audit_service, second_factor_service
from app.services.session_service import end_sessions

LONGEST_EMAIL, LONGEST_NAME = 254, 200
ADMIN_LOCK = 7_302_023
"""Advisory lock of whoever takes an administrator away: two at once must not take the last two."""
LARGEST_PAGE = 200
_ADMIN_WHO_CAN_COME = (User.role == Role.ADMIN, User.disabled_at.is_(None), User.password_hash.is_not(None))
_EMAIL = re.compile(r"[a-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{2,63}")
"""As browsers check it, and with a dot in the domain. A name in another script is written in its ASCII form."""


@dataclass(frozen=True, slots=True)
class UserView:
    """An account as people see it."""

    public_id: UUID
    email: str
    full_name: str | None
    role: Role
    disabled_at: datetime | None
    created_at: datetime
    last_login_at: datetime | None
    has_password: bool
    has_second_factor: bool
    version: int


@dataclass(frozen=True, slots=True)
class UserPage:
    """Accounts by id; `last_id` is where the next page begins, None at the end."""

    items: tuple[UserView, ...]
    last_id: UUID | None


@dataclass(frozen=True, slots=True)
class Invited:
    """An account and the token of its invitation, which is shown once."""

    user: UserView
    token: str
    expires_at: datetime


def normal_email(email: str) -> str:
    """`email` as accounts are found by: NFKC, lower case, without space around it.

    Raises: InvalidInput when it is none.
    """
    text = unicodedata.normalize("NFKC", email[: 2 * LONGEST_EMAIL]).strip().lower()
    if len(text) > LONGEST_EMAIL or not _EMAIL.fullmatch(text):
        raise InvalidInput("This is not an email address.", code="email_invalid")
    return text


async def create(
    session: AsyncSession, caller: Caller, *, email: str, role: Role, full_name: str | None = None,
    password_hash: str | None = None, origin: Origin,
) -> UserView:  # fmt: skip
    """Make an account. Without a hash nobody can sign in before an invitation is accepted.

    `password_hash` is AuthService.new_hash(), made before the transaction. Raises: InvalidInput; Conflict when the address
    has an account.
    """
    if full_name is not None and (len(full_name) > LONGEST_NAME or not full_name.isprintable()):
        raise InvalidInput(f"A name has at most {LONGEST_NAME} printable characters.", code="name_invalid")
    _require_within(caller, role)
    now = clock.utc_now()
    values = {
        "public_id": new_id(), "email": normal_email(email), "role": role, "full_name": full_name,
        "password_hash": password_hash, "password_changed_at": now if password_hash else None,
    }  # fmt: skip
    made = insert_or(User).values(values).on_conflict_do_nothing(index_elements=[User.email]).returning(User.public_id)
    public_id = await session.scalar(made)
    if public_id is None:
        raise Conflict("There is an account with this address.", code="user_exists")
    await _record(session, caller, "user.create", public_id, origin, {"role": role})
    return await get(session, public_id)


async def invite(
    session: AsyncSession, caller: Caller, settings: AuthSettings, *, email: str, role: Role,
    full_name: str | None = None, origin: Origin,
) -> Invited:  # fmt: skip
    """Make an account and the link by which its person sets a password.

    Raises: as create().
    """
    user = await create(session, caller, email=email, role=role, full_name=full_name, origin=origin)
    return await invite_again(session, caller, settings, user.public_id, origin)


async def invite_again(
    session: AsyncSession, caller: Caller, settings: AuthSettings, public_id: UUID, origin: Origin
) -> Invited:
    """A new link for an account, to set its first password or a new one; older links work no more.

    Raises: NotFound; Conflict when it is disabled.
    """
    row = await _locked(session, public_id)
    _require_within(caller, row.role)
    if row.disabled_at is not None:
        raise Conflict("The account is disabled.", code="user_disabled")
    now = clock.utc_now()
    expires = now + timedelta(hours=settings.invitation_hours)
    await close_invitations(session, row.id)
    token = new_token()
    values = {"token_hash": digest(token), "user_id": row.id, "created_by": caller.user_id, "expires_at": expires,
              "created_at": now}  # fmt: skip
    await session.execute(insert(Invitation).values(values))
    await _record(session, caller, "user.invite", public_id, origin, {})
    return Invited(await get(session, public_id), token, expires)


async def invited(session: AsyncSession, token: str) -> str:
    """The address of the account that an invitation opens.

    Raises: Unauthenticated when it is none, used, too old, or its account disabled.
    """
    email = await session.scalar(
        select(User.email).join(Invitation, Invitation.user_id == User.id).where(*_open(token))
    )
    if email is None:
        raise _invitation_invalid()
    return email


async def accept_invitation(session: AsyncSession, token: str, password_hash: str, origin: Origin) -> UserView:
    """Set the password of the account that the link is for; its sessions end. Of several at once one comes through.

    Raises: Unauthenticated as invited().
    """
    now = clock.utc_now()
    # The account first and the link then, as disable() takes them.
    owner = select(User.id).join(Invitation, Invitation.user_id == User.id).where(*_open(token))
    user_id = await session.scalar(owner.with_for_update(of=User, key_share=True))
    taken = update(Invitation).where(Invitation.token_hash == digest(token), Invitation.used_at.is_(None))
    if user_id is None or await session.scalar(taken.values(used_at=now).returning(Invitation.user_id)) is None:
        raise _invitation_invalid()
    changes = {"password_hash": password_hash, "password_changed_at": now, "token_version": User.token_version + 1}
    await _change(session, user_id, changes)
    await end_sessions(session, user_id, RevokeReason.PASSWORD_CHANGED)
    row = (await session.execute(select(User.public_id, User.email, User.role).where(User.id == user_id))).one()
    who = Caller(CallerKind.USER, user_id, row.public_id, row.email, row.role, ROLE_PERMISSIONS[row.role])
    await _record(session, who, "user.accept_invitation", row.public_id, origin, {})
    return await get(session, row.public_id)


async def close_invitations(session: AsyncSession, user_id: int) -> None:
    """Let every open link of an account lead nowhere."""
    open_ones = update(Invitation).where(Invitation.user_id == user_id, Invitation.used_at.is_(None))
    await session.execute(open_ones.values(used_at=clock.utc_now()))


async def change_role(
    session: AsyncSession, caller: Caller, public_id: UUID, role: Role, version: int | None, origin: Origin
) -> UserView:
    """Give an account another role; it counts from the next request on.

    Raises: NotFound; Conflict (changed meanwhile, one's own role, the last administrator).
    """
    row = await _locked(session, public_id)
    _require_version(row, version)
    _require_other(caller, row, "role")
    _require_within(caller, row.role)
    _require_within(caller, role)
    if row.role is Role.ADMIN and role is not Role.ADMIN:
        await _require_another_admin(session, row.id)
    await _change(session, row.id, {"role": role})
    await _record(session, caller, "user.change_role", public_id, origin, {"from": row.role, "to": role})
    return await get(session, public_id)


async def disable(
    session: AsyncSession, caller: Caller, public_id: UUID, version: int | None, origin: Origin
) -> UserView:
    """Shut an account: its sessions, API keys and invitations are over from the next request on, and stay so.

    Raises: NotFound; Conflict (changed meanwhile, oneself, the last administrator, disabled already).
    """
    row = await _locked(session, public_id)
    _require_version(row, version)
    _require_other(caller, row, "account")
    if row.disabled_at is not None:
        raise Conflict("The account is disabled already.", code="user_disabled")
    if row.role is Role.ADMIN:
        await _require_another_admin(session, row.id)
    await _change(session, row.id, {"disabled_at": clock.utc_now(), "token_version": User.token_version + 1})
    sessions = await end_sessions(session, row.id, RevokeReason.USER_DISABLED)
    keys = await api_key_service.revoke_all(session, row.id)
    await close_invitations(session, row.id)
    await _record(session, caller, "user.disable", public_id, origin, {"sessions": sessions, "api_keys": keys})
    return await get(session, public_id)


async def enable(
    session: AsyncSession, caller: Caller, public_id: UUID, version: int | None, origin: Origin
) -> UserView:
    """Open an account again; its person signs in anew.

    Raises: NotFound; Conflict (changed meanwhile, not disabled).
    """
    row = await _locked(session, public_id)
    _require_version(row, version)
    if row.disabled_at is None:
        raise Conflict("The account is not disabled.", code="user_enabled")
    await _change(session, row.id, {"disabled_at": None})
    await _record(session, caller, "user.enable", public_id, origin, {})
    return await get(session, public_id)


async def reset_second_factor(session: AsyncSession, caller: Caller, public_id: UUID, origin: Origin) -> UserView:
    """Take the second factor off an account whose person lost it; its sessions end.

    Raises: NotFound; Conflict when there is none.
    """
    row = await _locked(session, public_id)
    _require_within(caller, row.role)
    if not await second_factor_service.remove(session, row.id):
        raise Conflict("The account has no second factor.", code="second_factor_missing")
    await _change(session, row.id, {"token_version": User.token_version + 1})
    await end_sessions(session, row.id, RevokeReason.SECOND_FACTOR_CHANGED)
    await _record(session, caller, "user.reset_second_factor", public_id, origin, {})
    return await get(session, public_id)


async def get(session: AsyncSession, public_id: UUID) -> UserView:
    """One account.

    Raises: NotFound.
    """
    row = (await session.execute(_views(User.public_id == public_id))).one_or_none()
    if row is None:
        raise NotFound("There is no such account.", code="user_not_found")
    return _view(row)


async def find(session: AsyncSession, email: str) -> UserView:
    """The account of an address.

    Raises: InvalidInput, NotFound.
    """
    row = (await session.execute(_views(User.email == normal_email(email)))).one_or_none()
    if row is None:
        raise NotFound("There is no account with this address.", code="user_not_found")
    return _view(row)


async def list_users(
    session: AsyncSession, *, after: UUID | None = None, limit: int = 50, caller: Caller | None = None,
    origin: Origin | None = None,
) -> UserPage:  # fmt: skip
    """At most `limit` accounts behind `after`, in the order in which they were made; with `caller` it goes on record."""
    limit = max(1, min(limit, LARGEST_PAGE))
    statement = _views(*((User.public_id > after,) if after else ())).order_by(User.public_id).limit(limit + 1)
    rows = (await session.execute(statement)).all()
    items = tuple(map(_view, rows[:limit]))
    if caller is not None:
        await audit_service.record(
            session, caller, "users.list", origin=origin or Origin(), object_type="users", detail={"rows": len(items)}
        )
    return UserPage(items, items[-1].public_id if len(rows) > limit else None)


async def has_admin(session: AsyncSession) -> bool:
    """Whether an administrator could sign in."""
    return bool(await session.scalar(select(exists().where(*_ADMIN_WHO_CAN_COME))))


def _views(*conditions: ColumnElement[bool]) -> Any:
    factor = exists().where(SecondFactor.user_id == User.id, SecondFactor.confirmed_at.is_not(None))
    return select(
        User.public_id, User.email, User.full_name, User.role, User.disabled_at, User.created_at, User.last_login_at,
        User.password_hash.is_not(None).label("has_password"), factor.label("has_second_factor"), User.version,
    ).where(*conditions)  # fmt: skip


def _view(row: Any) -> UserView:
    return UserView(*row)


def _open(token: str) -> tuple[ColumnElement[bool], ...]:
    return (
        Invitation.token_hash == digest(token), Invitation.used_at.is_(None), Invitation.expires_at > clock.utc_now(),
        User.disabled_at.is_(None),
    )  # fmt: skip


def _invitation_invalid() -> Unauthenticated:
    return Unauthenticated("The invitation does not hold any more: ask for a new one.", code="invitation_invalid")


async def _locked(session: AsyncSession, public_id: UUID) -> User:
    statement = select(User).where(User.public_id == public_id).with_for_update(key_share=True)
    row = await session.scalar(statement.execution_options(populate_existing=True))
    if row is None:
        raise NotFound("There is no such account.", code="user_not_found")
    return row


def _require_version(row: User, version: int | None) -> None:
    """None: whoever asks has not looked (the command line), and takes what is there."""
    if version is not None and row.version != version:
        raise Conflict(f"The account was changed meanwhile: it is at version {row.version}.", code="version_conflict")


def _require_other(caller: Caller, row: User, what: str) -> None:
    if caller.user_id == row.id:
        raise Conflict(f"Nobody changes his own {what} in this way: ask another administrator.", code="own_account")


def _require_within(caller: Caller, role: Role) -> None:
    """An API key makes and changes no account that may more than itself: it could sign in as that.

    Raises: Forbidden.
    """
    if caller.kind is CallerKind.API_KEY and not ROLE_PERMISSIONS[role] - {Permission.SELF} <= caller.permissions:
        raise Forbidden(
            f"A key manages only accounts that may no more than itself, not {role}.", code="role_beyond_key"
        )


async def _require_another_admin(session: AsyncSession, user_id: int) -> None:
    await session.execute(select(func.pg_advisory_xact_lock(ADMIN_LOCK)))
    others = exists().where(*_ADMIN_WHO_CAN_COME, User.id != user_id)
    if not await session.scalar(select(others)):
        raise Conflict("This is the last administrator.", code="last_admin")


async def _change(session: AsyncSession, user_id: int, changes: dict[str, object]) -> None:
    values = {**changes, "version": User.version + 1, "updated_at": clock.utc_now()}
    statement = update(User).where(User.id == user_id).values(values)
    await session.execute(statement.execution_options(synchronize_session=False))


async def _record(
    session: AsyncSession, caller: Caller, action: str, public_id: UUID, origin: Origin, detail: dict[str, object]
) -> None:
    await audit_service.record(
        session, caller, action, origin=origin, object_type="user", object_id=str(public_id), detail=detail
    )
