"""All routes of the API, in the order in which the document shows them."""

from __future__ import annotations

from app.api.v1.endpoints import api_keys, audit, auth, contacts, health, migrations, second_factor, users

GROUPS = (
    auth.routes, second_factor.routes, auth.elsewhere, users.routes, users.invitations, api_keys.routes, contacts.routes,
    migrations.routes, audit.routes, health.routes,
)  # fmt: skip
ROUTES = tuple(route for group in GROUPS for route in group.all)
