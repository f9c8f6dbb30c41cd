"""The floor of the service: a FastAPI route that reads one row and returns it; no sign-in, no middleware, no limits."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from sqlalchemy import text

from app.core.async_database import Database
from app.core.config import ApiSettings

ONE_ROW = text(
    "SELECT id, phone_e164, full_name, state_code, municipality, lada, city, line_type, operator, is_mobile, is_valid, status"
    " FROM contacts WHERE id = :id"
)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.db = Database(os.environ["DATABASE_URL"], ApiSettings())
    yield
    await app.state.db.close()


def create_app() -> FastAPI:
    """The application, for `uvicorn --factory`."""
    app = FastAPI(lifespan=_lifespan)

    @app.get("/contacts/{contact_id}")
    async def read(contact_id: int, request: Request) -> dict[str, Any]:
        async with request.app.state.db.transaction() as session:
            row = (await session.execute(ONE_ROW, {"id": contact_id})).one()
        return dict(row._mapping)

    return app
