"""What is looked at beside what a rotation touches: modes, units, names, tries of a PIN.

As ``fioagent.ports``; nothing here changes anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from fioagent.proxy import Proxy


@dataclass(frozen=True, slots=True)
class Entry:
    """A name in a directory, as lstat(2) tells of it.

    Attributes:
        path: absolute.
        mode: type and permissions, st_mode.
        uid: owner.
        gid: group.
        size: bytes.
        modified_s: unix seconds.
    """

    path: str
    mode: int
    uid: int
    gid: int
    size: int
    modified_s: float


@dataclass(frozen=True, slots=True)
class Tries:
    """How near a token is to refusing every PIN.

    Attributes:
        locked: it refuses all of them now.
        last: one more wrong one locks it.
        said: the same in words, with numbers where the token tells them.
    """

    locked: bool
    last: bool
    said: str


class Surroundings(Protocol):
    """The machine around the agent."""

    def entry(self, path: str) -> Entry | None:
        """None where there is none, or where it cannot be looked at."""
        ...

    def user(self) -> int:
        """By which we act."""
        ...

    def units(self, names: Sequence[str]) -> Mapping[str, Mapping[str, str]] | None:
        """Properties of units by name; None where systemd does not run this machine.

        Raises TemporaryError: systemd does not answer.
        """
        ...

    def starts(self, unit: str, within_s: float) -> int | None:
        """How often it was started since; None where no journal tells."""
        ...

    def look_up(self, host: str, port: int) -> int:
        """How many addresses it has. Raises TemporaryError: it is not found."""
        ...

    def reach(self, host: str, port: int, proxy: Proxy) -> None:
        """A tunnel through ``proxy``, closed again. Raises TemporaryError."""
        ...

    def tries(self, module: str, label: str) -> Tries | None:
        """Of the PIN of a token; None where it does not tell. Raises ConfigError: no such token."""
        ...
