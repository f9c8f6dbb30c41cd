"""/docs: Swagger UI, loaded by the browser from where FastAPI's own page has it, under a policy that lets in nothing else."""

from __future__ import annotations

import base64
import hashlib
import inspect
import re
from urllib.parse import urlsplit

from fastapi.openapi.docs import get_swagger_ui_html

OPENAPI_PATH = "/openapi.json"
DOCS_PATHS = frozenset({"/docs"})
TITLE = "SMS platform: API"
NO_ICON = "data:,"
WITHOUT_SCRIPT = (
    '<p>Swagger UI is loaded from a public server by your browser. If this stays empty, that cannot be reached: '
    f'<a href="{OPENAPI_PATH}">{OPENAPI_PATH}</a> has everything that would be shown here.</p>'
)  # fmt: skip


def _page() -> str:
    made = get_swagger_ui_html(
        openapi_url=OPENAPI_PATH,
        title=TITLE,
        swagger_favicon_url=NO_ICON,
        swagger_ui_parameters={"persistAuthorization": False, "tryItOutEnabled": True, "docExpansion": "none"},
    )
    return bytes(made.body).decode().replace('<div id="swagger-ui">', f'<div id="swagger-ui">{WITHOUT_SCRIPT}')


def _policy(page: str) -> str:
    """Scripts: the one from FastAPI's default address, and the one that stands in the page, by its hash."""
    address = urlsplit(str(inspect.signature(get_swagger_ui_html).parameters["swagger_js_url"].default))
    host = f"{address.scheme}://{address.netloc}"
    inline = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(it.encode()).digest()).decode()}'" for it in inline)
    return (
        f"default-src 'none'; script-src {host} {hashes}; style-src {host} 'unsafe-inline'; img-src data: {host}; "
        "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )


DOCS_HTML = _page()
DOCS_CSP = _policy(DOCS_HTML)
