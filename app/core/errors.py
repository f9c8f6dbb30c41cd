"""Every error a caller may meet, drawn as one tree.

AppError
├── InvalidInput      the caller gave something that cannot be used     exit 2   HTTP 422
├── NotFound          what was named does not exist                     exit 3   HTTP 404
├── Conflict          the state of things does not allow it now         exit 4   HTTP 409
├── Unauthenticated   nobody knows who the caller is                    exit 5   HTTP 401
├── Forbidden         the caller may not                                exit 5   HTTP 403
├── TooMany           the caller asked too often: wait                  exit 6   HTTP 429
├── Unavailable       something outside must be mended or waited for    exit 6   HTTP 503
└── Broken            a promise of our own did not hold: stop, keep the evidence   exit 7   HTTP 500

Each has a stable `code` that scripts may rely on and a sentence that says what to do.
"""

from __future__ import annotations


class AppError(Exception):
    """Base of all errors with a stable code; `str(error)` is one line for a person."""

    exit_code = 1

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class InvalidInput(AppError):
    """What was given cannot be used as it is."""

    exit_code = 2


class NotFound(AppError):
    """What was named does not exist."""

    exit_code = 3


class Conflict(AppError):
    """The present state does not allow it."""

    exit_code = 4


class Unauthenticated(AppError):
    """Who the caller is, is not proven: no credentials, wrong ones, or ones that hold no longer."""

    exit_code = 5


class Forbidden(AppError):
    """The caller has no right to it."""

    exit_code = 5


class TooMany(AppError):
    """A limit was reached; after `retry_after_s` seconds it is worth trying again."""

    exit_code = 6

    def __init__(self, message: str, *, code: str, retry_after_s: int) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s


class Unavailable(AppError):
    """Something outside the program is not there or not usable now."""

    exit_code = 6


class Broken(AppError):
    """A promise of the product did not hold; the work stopped and the evidence was kept."""

    exit_code = 7
