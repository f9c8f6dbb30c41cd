"""Headers that tell a browser what it may not do with an answer."""

from __future__ import annotations

from starlette.types import Message, Scope

from app.api.docs_page import DOCS_CSP, DOCS_PATHS

ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
)
CSP = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
CSP_OF_DOCS = (b"content-security-policy", DOCS_CSP.encode("ascii"))
HSTS = (b"strict-transport-security", b"max-age=31536000; includeSubDomains")
NO_STORE = (b"cache-control", b"no-store")


def headers_for(scope: Scope, answer: Message) -> list[tuple[bytes, bytes]]:
    """The headers to add to an answer (its http.response.start); its own Cache-Control stays."""
    added = [*ALWAYS, CSP_OF_DOCS if scope["path"] in DOCS_PATHS else CSP]
    if scope.get("scheme") == "https":
        added.append(HSTS)
    if all(name != b"cache-control" for name, _ in answer.get("headers", ())):
        added.append(NO_STORE)
    return added
