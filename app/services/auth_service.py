"""Signing in and out, refreshing, one's own password and second factor, and knowing for each request who asks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.core import clock
from app.core.async_database import Database
from app.core.config import Settings
from app.core.errors import Forbidden, InvalidInput, NotFound, Unauthenticated
from app.core.rate_limits import RateLimiter
from app.core.security import PasswordHasher, Vault
from app.models.access import RevokeReason
from app.models.audit import AuditResult
from app.models.permission import Caller, CallerKind, Origin
from app.models.user import Role, User
from app.services import audit_service, identity_service, second_factor_service, session_service, user_service
from app.services.api_key_service import PREFIX
from app.services.login_throttle import LoginThrottle
from app.services.password_service import require_acceptable
from app.services.second_factor_service import SecondFactorSetup
from app.services.session_service import Account, OpenSession, Refusal
from app.services.token_service import TokenSigner

NO_ADDRESS = "not an address"
"""Kept in place of what was typed where the email belongs: it may have been the password."""
WHY = {
    "credentials_invalid": "The address or the password is wrong.",
    "otp_required": "The code of the second factor is needed.",
    "otp_invalid": "The code of the second factor is wrong.",
}


@dataclass(frozen=True, slots=True)
class SignIn:
    """What a client gets. `expires_in`: seconds that the access token lives."""

    access_token: str
    refresh_token: str
    expires_in: int
    token_type: str = "bearer"  # noqa: S105 - a kind of token


class AuthService:
    """Everything that proves who somebody is. Its methods own their transactions: what was refused is on record too."""

    def __init__(
        self, db: Database, signer: TokenSigner, hasher: PasswordHasher, limiter: RateLimiter, vault: Vault,
        settings: Settings,
    ) -> None:  # fmt: skip
        self._db = db
        self._signer = signer
        self._hasher = hasher
        self._vault = vault
        self._settings = settings.auth
        self._throttle = LoginThrottle(limiter, settings.auth)

    async def login(self, email: str, password: str, otp: str | None, origin: Origin) -> SignIn:
        """Sign a person in.

        An unknown or disabled account, or one without a password, takes as long as a wrong password and is told alike.
        Raises: Unauthenticated (`credentials_invalid`, `otp_required`, `otp_invalid`), TooMany, Unavailable.
        """
        try:
            address: str | None = user_service.normal_email(email)
        except InvalidInput:
            address = None
        counted = address or NO_ADDRESS
        await self._throttle.begin(counted, origin)
        found = await self._find(address)
        hashed: str | None = found.password_hash if found is not None and found.disabled_at is None else None
        matches, is_old = await self._hasher.verify_in_thread(password, hashed)
        if found is None or not matches:
            await self._refuse(counted, found.public_id if found else None, "session.login", "credentials", origin)
            raise _unauthenticated("credentials_invalid")
        account = Account(found.id, found.public_id, found.email, found.role, found.token_version)
        rehashed = await self._hasher.hash_in_thread(password) if is_old else None
        opened = await self._open_session(account, found.password_hash, rehashed, otp, origin)
        if opened == "otp_required":
            await self._throttle.undecided(counted, origin)
            raise _unauthenticated(opened)
        if isinstance(opened, str):
            await self._refuse(counted, account.public_id, "session.login", opened, origin)
            raise _unauthenticated(opened)
        await self._throttle.succeeded(counted, origin)
        return await self._signed(opened)

    async def refresh(self, refresh_token: str, origin: Origin) -> SignIn:
        """A new pair for a refresh token; session_service says what a second use means.

        Raises: Unauthenticated (`refresh_invalid`, `refresh_reused`, `session_ended`).
        """
        async with self._db.transaction() as session:
            exchanged = await session_service.exchange(session, refresh_token, self._settings.retry_window_s, origin)
        if isinstance(exchanged, Refusal):  # what was found out is committed before it is told
            raise Unauthenticated("The refresh token holds no more: sign in again.", code=exchanged.value)
        return await self._signed(exchanged)

    async def logout(self, caller: Caller, origin: Origin) -> None:
        """End the session that asks.

        Raises: Forbidden for an API key, which has none.
        """
        _, session_id = _person(caller)
        async with self._db.transaction() as session:
            await session_service.end_session(session, session_id, RevokeReason.LOGOUT)
            await self._record(session, caller, "session.logout", origin)

    async def logout_everywhere(self, caller: Caller, origin: Origin) -> None:
        """End all sessions of the account; API keys stay.

        Raises: Forbidden for an API key.
        """
        user_id, _ = _person(caller)
        async with self._db.transaction() as session:
            await self._change(session, user_id, {})
            await session_service.end_sessions(session, user_id, RevokeReason.LOGOUT_EVERYWHERE)
            await self._record(session, caller, "session.logout_everywhere", origin)

    async def change_password(self, caller: Caller, old: str, new: str, origin: Origin) -> SignIn:
        """Change one's own password: all other sessions end, as do open links, and this one gets new tokens.

        Raises: Unauthenticated `credentials_invalid`, TooMany, InvalidInput for a weak new one, Forbidden for an API key.
        """
        user_id, session_id = _person(caller)
        was = await self._require_password(caller, old, "password.change", origin)
        await self._throttle.undecided(caller.email, origin)
        hashed = await self.new_hash(new, caller.email)
        async with self._db.transaction() as session:
            now = clock.utc_now()
            changes = {"password_hash": hashed, "password_changed_at": now}
            # The old one was looked at in another transaction: meanwhile it may have been changed, or the account shut.
            account = await self._change(session, user_id, changes, User.password_hash == was)
            if account is not None:
                await session_service.end_sessions(session, user_id, RevokeReason.PASSWORD_CHANGED, but=session_id)
                await user_service.close_invitations(session, user_id)
                opened = await session_service.reissue(session, account, session_id)
                await self._record(session, caller, "password.change", origin)
        if account is None:
            raise _unauthenticated("credentials_invalid")
        return await self._signed(opened)

    async def new_hash(self, password: str, email: str) -> str:
        """The hash of a new password for the account `email`, to be made before a transaction is begun.

        Raises: InvalidInput `password_weak`; Unavailable when too many wait.
        """
        require_acceptable(password, email, self._settings.password_min_length)
        return await self._hasher.hash_in_thread(password)

    async def set_up_second_factor(self, caller: Caller, origin: Origin) -> SecondFactorSetup:
        """Raises: as second_factor_service.set_up()."""
        _person(caller)
        async with self._db.transaction() as session:
            return await second_factor_service.set_up(session, self._vault, caller, origin)

    async def confirm_second_factor(self, caller: Caller, code: str, origin: Origin) -> tuple[str, ...]:
        """Switch it on; all other sessions, which have not shown it, end. The recovery codes, shown this once.

        Raises: TooMany, Forbidden, and as second_factor_service.confirm().
        """
        user_id, session_id = _person(caller)
        await self._throttle.begin(caller.email, origin)
        async with self._db.transaction() as session:
            changed = RevokeReason.SECOND_FACTOR_CHANGED
            await session_service.end_sessions(session, user_id, changed, but=session_id)
            codes = await second_factor_service.confirm(session, self._vault, caller, code, origin)
        await self._throttle.succeeded(caller.email, origin)
        return codes

    async def disable_second_factor(self, caller: Caller, password: str, code: str, origin: Origin) -> None:
        """Switch one's own second factor off; needs the password and a code. All other sessions end.

        Raises: Unauthenticated (`credentials_invalid`, `otp_invalid`), TooMany, Forbidden, NotFound when there is none.
        """
        user_id, session_id = _person(caller)
        await self._require_password(caller, password, "second_factor.off", origin)
        async with self._db.transaction() as session:
            if not await second_factor_service.is_on(session, user_id):
                raise NotFound("There is no second factor.", code="second_factor_missing")
            is_right = await second_factor_service.use(session, self._vault, user_id, code)
            if is_right:
                await second_factor_service.remove(session, user_id)
                changed = RevokeReason.SECOND_FACTOR_CHANGED
                await session_service.end_sessions(session, user_id, changed, but=session_id)
                await self._record(session, caller, "second_factor.off", origin)
        if not is_right:
            await self._refuse(caller.email, caller.public_id, "second_factor.off", "otp_invalid", origin)
            raise _unauthenticated("otp_invalid")
        await self._throttle.succeeded(caller.email, origin)

    async def accept_invitation(self, token: str, password: str, origin: Origin) -> user_service.UserView:
        """Set the password of an invited account. After a weak one the link is still good.

        Raises: Unauthenticated `invitation_invalid`, InvalidInput `password_weak`, Unavailable.
        """
        async with self._db.transaction() as session:
            email = await user_service.invited(session, token)
        hashed = await self.new_hash(password, email)
        async with self._db.transaction() as session:
            return await user_service.accept_invitation(session, token, hashed, origin)

    async def authenticate(self, bearer: str, origin: Origin) -> Caller:
        """Who has this access token or API key; one SELECT, whatever was taken away counts.

        Raises: Unauthenticated (`token_invalid`, `token_expired`, `session_ended`, `api_key_invalid`), Unavailable.
        """
        if bearer.startswith(PREFIX):
            return await identity_service.by_api_key(self._db, bearer, origin)
        return await identity_service.by_session(self._db, await self._signer.verify(bearer))

    async def _find(self, email: str | None) -> Any:
        """What sign-in needs of an account; None when there is none. Asked even for what cannot be an address."""
        shown = (
            User.id, User.public_id, User.email, User.role, User.token_version, User.password_hash, User.disabled_at,
        )  # fmt: skip
        async with self._db.reading() as connection:
            return (await connection.execute(select(*shown).where(User.email == (email or NO_ADDRESS)))).first()

    async def _open_session(
        self, account: Account, password_hash: str, rehashed: str | None, otp: str | None, origin: Origin
    ) -> OpenSession | str:
        """A session, or the code of what is missing. Commits either way: a recovery code is used up by being tried."""
        async with self._db.transaction() as session:
            # Disabled, or given another password, while the hash was computed: that counts.
            same = select(User.token_version, User.role).where(
                User.id == account.id, User.password_hash == password_hash, User.disabled_at.is_(None)
            )
            now = (await session.execute(same.with_for_update(key_share=True))).first()
            if now is None:
                return "credentials_invalid"
            has_factor = await second_factor_service.is_on(session, account.id)
            if has_factor and not otp:
                return "otp_required"
            if has_factor and not await second_factor_service.use(session, self._vault, account.id, otp or ""):
                return "otp_invalid"
            changes = {"last_login_at": clock.utc_now(), "password_hash": rehashed or password_hash}
            await session.execute(update(User).where(User.id == account.id).values(changes))
            account = Account(account.id, account.public_id, account.email, now.role, now.token_version)
            life = timedelta(days=self._settings.refresh_days)
            opened = await session_service.open_session(session, account, life, origin)
            await audit_service.record(
                session, account.as_caller(opened.session_id), "session.login", origin=origin, object_type="session",
                object_id=opened.session_id, detail={"second_factor": has_factor},
            )  # fmt: skip
            return opened

    async def _signed(self, opened: OpenSession) -> SignIn:
        await self._signer.keep_fresh()
        account = opened.account
        token, lasts_s = self._signer.sign(account.public_id, opened.session_id, account.token_version, account.role)
        return SignIn(token, opened.refresh_token, lasts_s)

    async def _require_password(self, caller: Caller, password: str, action: str, origin: Origin) -> str:
        """The hash that `password` is right for; the attempt stays counted until the caller says that it succeeded."""
        await self._throttle.begin(caller.email, origin)
        found = await self._find(caller.email)
        hashed: str | None = found.password_hash if found is not None else None
        matches, _ = await self._hasher.verify_in_thread(password, hashed)
        if hashed is None or not matches:
            await self._refuse(caller.email, caller.public_id, action, "credentials", origin)
            raise Unauthenticated("The password is wrong.", code="credentials_invalid")
        return hashed

    async def _change(
        self, session: AsyncSession, user_id: int, changes: dict[str, Any], *conditions: Any
    ) -> Account | None:
        """Change an account that is open, and end all its access tokens; None when it is not as `conditions` say."""
        values = {**changes, "token_version": User.token_version + 1, "updated_at": clock.utc_now()}
        open_one = update(User).where(User.id == user_id, User.disabled_at.is_(None), *conditions).values(values)
        shown = open_one.returning(User.id, User.public_id, User.email, User.role, User.token_version)
        row = (await session.execute(shown.execution_options(synchronize_session=False))).first()
        return None if row is None else Account(*row)

    async def _record(self, session: AsyncSession, caller: Caller, action: str, origin: Origin) -> None:
        await audit_service.record(
            session, caller, action, origin=origin, object_type="user", object_id=caller.public_id
        )

    async def _refuse(self, email: str, target: UUID | None, action: str, why: str, origin: Origin) -> None:
        """Put a failed proof on record, in a transaction of its own. Who tried is not known: only the address is."""
        who = Caller(CallerKind.USER, None, None, email, Role.SERVICE, frozenset())
        async with self._db.transaction() as session:
            await audit_service.record(
                session, who, action, origin=origin, object_type="user" if target else None, object_id=target,
                result=AuditResult.REFUSED, detail={"why": why},
            )  # fmt: skip


def _unauthenticated(code: str) -> Unauthenticated:
    return Unauthenticated(WHY[code], code=code)


def _person(caller: Caller) -> tuple[int, UUID]:
    """Account and session. Raises: Forbidden."""
    if caller.user_id is None or caller.session_id is None:
        raise Forbidden("This is for signed-in people, not for API keys.", code="session_missing")
    return caller.user_id, caller.session_id
