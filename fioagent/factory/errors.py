"""Errors a person at the command line can act on."""

from __future__ import annotations


class FactoryError(Exception):
    """The text is ``cannot ...: why``; ``hint`` says what to do, on a line of its own."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class RefusedError(FactoryError):
    """A request that an operator or a device may not make. ``status`` is the answer over HTTP.

    Whoever serves the request undoes what it has begun.
    """

    def __init__(self, status: int, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.status = status


class LockedError(RefusedError):
    """The device has announced a key: its configuration may not be written until it uses it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(409, message, hint)
