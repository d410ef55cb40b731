"""Errors a person at the command line can act on."""

from __future__ import annotations


class FactoryError(Exception):
    """The text is ``cannot ...: why``; ``hint`` says what to do, on a line of its own."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class LockedError(FactoryError):
    """The device has announced a key: its configuration may not be written until it uses it."""
