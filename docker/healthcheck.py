"""Exit 0 when this container's API answers /health/ready with 200; else one line that says what it answered."""

from __future__ import annotations

import http.client
import os
import sys

TIMEOUT_S = 4


def main() -> int:
    """Ask once."""
    port = int(os.environ.get("SMS_API__PORT", "8000"))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/health/ready")
        answer = connection.getresponse()
        body = answer.read(500).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        sys.stdout.write(f"no answer: {error}\n")
        return 1
    finally:
        connection.close()
    sys.stdout.write(f"{answer.status} {body}\n")
    return 0 if answer.status == http.client.OK else 1


if __name__ == "__main__":
    sys.exit(main())
