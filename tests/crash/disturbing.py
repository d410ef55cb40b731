"""Ports that do their work until a fault is due."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from tests.crash.disturbances import Call, Fault

FOR_EVER: Final = 1 << 60


class Disturbed:
    """Whose ``at``-th call, and all ``lasting`` from it on, are struck by what fits them.

    Attributes:
        calls: made so far, as port and method.
        struck: what each was about that a fault has befallen.
    """

    def __init__(self, faults: Iterable[Fault] = (), at: int = 0, lasting: int = 1) -> None:
        self._faults = {(fault.port, fault.method): fault for fault in faults}
        self._due = range(at, at + lasting)
        self.calls: list[tuple[str, str]] = []
        self.struck: list[str] = []

    def wrap(self, port: Any, name: str) -> Any:
        return _Disturbed(port, name, self)

    def answer(self, port: str, call: Call) -> Any:
        fault = self._faults.get((port, call.method))
        due = len(self.calls) in self._due
        self.calls.append((port, call.method))
        if fault is None or not due:
            return call.make()
        self.struck.append(f"{port} {call}")
        return fault.strike(call)


class _Disturbed:
    """One of the ports."""

    def __init__(self, port: Any, name: str, disturbed: Disturbed) -> None:
        self._port = port
        self._name = name
        self._disturbed = disturbed

    def __getattr__(self, method: str) -> Any:
        member = getattr(self._port, method)
        if not callable(member):
            return member
        return lambda *arguments, **named: self._disturbed.answer(
            self._name, Call(self._port, method, arguments, named)
        )
