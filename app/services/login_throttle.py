"""Failed sign-ins: how many an account and an address may have before they must wait.

An attempt is counted before the password is looked at, so that a thousand at once are a thousand; the right password
gives it back. An address that must wait no longer counts against accounts, so that it cannot go on locking them.
"""

from __future__ import annotations

from app.core.config import AuthSettings
from app.core.errors import TooMany
from app.core.logs import get_logger
from app.core.rate_limits import Decision, RateLimiter
from app.core.security import digest
from app.models.permission import Origin
from app.services.session_service import client_network

ACCOUNT, ADDRESS = "login-account", "login-address"

log = get_logger("sign-in")


class LoginThrottle:
    """Counters in the rate limiter; emails and addresses are in their keys as digests only."""

    def __init__(self, limiter: RateLimiter, settings: AuthSettings) -> None:
        self._limiter = limiter
        self._settings = settings

    async def begin(self, account: str, origin: Origin) -> None:
        """Count an attempt.

        Raises: TooMany when the account or the address must wait.
        """
        for what, decide in (("address", self._address), ("account", self._account)):
            decision = await decide(account, origin, 1)
            if not decision.allowed:
                log.warning("sign_ins_throttled", by=what, retry_after_s=decision.reset_s)
                raise TooMany(
                    f"Too many failed sign-ins: try again in {decision.reset_s} s.", code="login_throttled",
                    retry_after_s=decision.reset_s,
                )  # fmt: skip

    async def succeeded(self, account: str, origin: Origin) -> None:
        """Forget the failures of the account; give the attempt back to the address, which may be a whole company's."""
        await self._limiter.clear(self._settings.logins_per_account, ACCOUNT, _name(account))
        await self._address(account, origin, -1)

    async def undecided(self, account: str, origin: Origin) -> None:
        """The password was right and a code is asked for: this attempt is given back, and none before it."""
        await self._account(account, origin, -1)
        await self._address(account, origin, -1)

    async def _account(self, account: str, _: Origin, cost: int) -> Decision:
        return await self._limiter.hit(self._settings.logins_per_account, ACCOUNT, _name(account), cost=cost)

    async def _address(self, _: str, origin: Origin, cost: int) -> Decision:
        return await self._limiter.hit(
            self._settings.logins_per_address, ADDRESS, _name(client_network(origin)), cost=cost
        )


def _name(text: str) -> str:
    return digest(text).hex()[:32]
