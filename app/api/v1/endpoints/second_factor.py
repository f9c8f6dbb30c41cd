"""One's own second factor."""

from __future__ import annotations

from app.api.routes import Routes
from app.core.deps import AuthDep, CallerDep, OriginDep
from app.models.permission import Permission
from app.schemas.auth import RecoveryCodesOut, SecondFactorConfirmIn, SecondFactorDisableIn, SecondFactorSetupOut
from app.services.second_factor_service import SecondFactorSetup

routes = Routes("/api/v1/auth/second-factor", "auth")


@routes.add("POST", "/setup", Permission.SELF, "Set up a second factor", SecondFactorSetupOut, problems=[409])
async def second_factor_setup(caller: CallerDep, auth: AuthDep, origin: OriginDep) -> SecondFactorSetup:
    """A secret for an authenticator app, shown once. Nothing is asked for until it was confirmed with a code."""
    return await auth.set_up_second_factor(caller, origin)


@routes.add("POST", "/confirm", Permission.SELF, "Confirm it", RecoveryCodesOut, problems=[404, 409])
async def second_factor_confirm(
    given: SecondFactorConfirmIn, caller: CallerDep, auth: AuthDep, origin: OriginDep
) -> RecoveryCodesOut:
    """From now on signing in asks for a code; all other sessions end. The recovery codes are shown this once."""
    codes = await auth.confirm_second_factor(caller, given.code, origin)
    return RecoveryCodesOut(recovery_codes=list(codes))


@routes.add("POST", "/disable", Permission.SELF, "Switch it off", None, status=204, problems=[404])
async def second_factor_disable(
    given: SecondFactorDisableIn, caller: CallerDep, auth: AuthDep, origin: OriginDep
) -> None:
    """With the password and a code, so that a screen that was left open is not enough."""
    await auth.disable_second_factor(caller, given.password.get_secret_value(), given.code, origin)
