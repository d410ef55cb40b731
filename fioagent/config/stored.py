"""What is remembered from one check-in to the next, beside config.encrypted.

The gateway's own word for the time of the stored configuration, with a digest of
the copy that it belongs to: a copy that is damaged, or was encrypted anew by a
rotation, is fetched as a whole. And the handlers that are still to be started,
so that each is started once, whenever the process that found them due dies.
One file of ours, 0600; no value of the configuration is in it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from fioagent.config.extraction import Call
from fioagent.errors import ConfigError
from fioagent.model import sha256_hex
from fioagent.ports import Disk

NAME: Final = "check-in.json"
MAX_DATE: Final = 64  # characters; RFC 1123 needs 29


@dataclass(frozen=True, slots=True)
class Memory:
    """What the file says.

    Attributes:
        date: of the stored copy, as the gateway spelled it; None where it is not known.
        sha256: of the copy that ``date`` belongs to.
        due: handlers that have not been started yet.
    """

    date: str | None = None
    sha256: str = ""
    due: tuple[Call, ...] = ()

    def since(self, copy: bytes | None) -> str | None:
        """What to send as If-Modified-Since while ``copy`` is stored."""
        return self.date if copy is not None and sha256_hex(copy) == self.sha256 else None


def load(disk: Disk, directory: str) -> Memory:
    """What cannot be read was never remembered: the configuration is fetched as a whole then."""
    try:
        content = disk.read_if_there(os.path.join(directory, NAME))
        return Memory() if content is None else _parsed(json.loads(content))
    except (ConfigError, ValueError, TypeError, KeyError, RecursionError):
        return Memory()


def _parsed(value: dict[str, Any]) -> Memory:
    date, digest = value["date"], value["sha256"]
    if not isinstance(digest, str) or not (date is None or isinstance(date, str)):
        raise TypeError("not what we write")
    due = tuple(Call(str(name), tuple(map(str, command))) for name, command in value["due"])
    if not all(call.command for call in due):
        raise ValueError("a handler without a program")
    return Memory(date, digest, due)


def save(disk: Disk, directory: str, memory: Memory) -> None:
    """Durable before this returns."""
    value = {
        "date": memory.date,
        "sha256": memory.sha256,
        "due": [[call.name, list(call.command)] for call in memory.due],
    }
    content = json.dumps(value, separators=(",", ":")).encode("ascii")
    disk.replace(os.path.join(directory, NAME), content, mode=0o600)


def usable_date(date: str | None) -> str | None:
    """``date`` if it can be sent back: one short line of printable ASCII."""
    if date and len(date) <= MAX_DATE and date.isascii() and date.isprintable():
        return date
    return None


def together(due: Sequence[Call], calls: Sequence[Call]) -> tuple[Call, ...]:
    """Both, in the order of names; of two for one file the later counts."""
    found = {call.name: call for call in (*due, *calls)}
    return tuple(found[name] for name in sorted(found))
