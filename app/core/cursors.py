"""Cursors of keyset pages: where the next page begins, opaque to the client and of no use when it was changed."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from app.core.errors import InvalidInput

MAC_BYTES = 16
LONGEST = 400
"""Characters of the longest cursor that is looked at."""


class Cursors:
    """Makes and reads cursors. `key`: at least 32 secret bytes, the same for all processes of the service."""

    def __init__(self, key: bytes) -> None:
        self._key = hmac.digest(key, b"keyset cursor", hashlib.sha256)

    def make(self, listing: str, position: object) -> str:
        """The cursor of the page of `listing` that begins behind `position`."""
        body = str(position).encode()
        return base64.urlsafe_b64encode(self._mac(listing, body) + body).decode().rstrip("=")

    def read(self, listing: str, cursor: str) -> str:
        """The position in a cursor of this listing.

        Raises: InvalidInput when it is not one that `make` gave for it.
        """
        raw = _decoded(cursor) if len(cursor) <= LONGEST else b""
        mac, body = raw[:MAC_BYTES], raw[MAC_BYTES:]
        if not body or not hmac.compare_digest(mac, self._mac(listing, body)):
            raise InvalidInput(
                "The cursor is not one of this listing: take `next` of its page as it is.", code="cursor_invalid"
            )
        return body.decode()

    def read_id(self, listing: str, cursor: str | None) -> int | None:
        """The same for a position that is a number; None without a cursor."""
        return None if cursor is None else int(self.read(listing, cursor))

    def _mac(self, listing: str, body: bytes) -> bytes:
        return hmac.digest(self._key, listing.encode() + b"\0" + body, hashlib.sha256)[:MAC_BYTES]


def _decoded(cursor: str) -> bytes:
    try:
        raw = cursor.encode("ascii")
        return base64.b64decode(raw + b"=" * (-len(raw) % 4), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        return b""
