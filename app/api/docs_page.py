"""/docs: Swagger UI with its files served from here, under a policy that lets in nothing else.

Of the package `fastapi-offline` only the files are used: FastAPI's own page has them loaded from a public server, which a
closed network does not reach, and which would be told of every visit.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Awaitable, Callable
from importlib.resources import files

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

OPENAPI_PATH = "/openapi.json"
DOCS_PATHS = frozenset({"/docs"})
TITLE = "SMS platform: API"
NO_ICON = "data:,"
FILES = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
KEPT = "public, max-age=86400"


def install(app: FastAPI) -> None:
    """Give `app` the page and the files that it loads."""
    app.add_route("/docs", _page_route, include_in_schema=False)
    for name, media_type in FILES.items():
        app.add_route(f"/docs/{name}", _file_route(name, media_type), include_in_schema=False)


async def _page_route(_: Request) -> Response:
    return HTMLResponse(DOCS_HTML)


def _file_route(name: str, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    content = files("fastapi_offline").joinpath("static", name).read_bytes()

    async def serve(_: Request) -> Response:
        return Response(content, media_type=media_type, headers={"cache-control": KEPT})

    return serve


def _page() -> str:
    made = get_swagger_ui_html(
        openapi_url=OPENAPI_PATH,
        title=TITLE,
        swagger_js_url="/docs/swagger-ui-bundle.js",
        swagger_css_url="/docs/swagger-ui.css",
        swagger_favicon_url=NO_ICON,
        swagger_ui_parameters={"persistAuthorization": False, "tryItOutEnabled": True, "docExpansion": "none"},
    )
    return bytes(made.body).decode()


def _policy(page: str) -> str:
    """Scripts: ours, and the one that stands in the page, by its hash. Swagger UI sets styles on its elements."""
    inline = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(it.encode()).digest()).decode()}'" for it in inline)
    return (
        f"default-src 'none'; script-src 'self' {hashes}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )


DOCS_HTML = _page()
DOCS_CSP = _policy(DOCS_HTML)
