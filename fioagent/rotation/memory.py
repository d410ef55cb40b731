"""What a device has to remember of what it was asked, beside the journals.

Two small files in storage.path, so that reboots and reinstallation change nothing:
when a trigger was seen first and whether its rotation is over (journals are pruned),
and attempts that could not begin, of which there is no journal. A file that cannot
be read says nothing; neither holds a rotation up.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from fioagent.errors import ConfigError
from fioagent.model import RotationId
from fioagent.rotation.machine import Phase
from fioagent.rotation.situation import Ended, Setback
from fioagent.site import Device

TRIGGER: Final = "trigger.json"
SETBACK: Final = "setback.json"
_MOST_FAILURES: Final = 1000  # more change nothing; nor does a count that is none


@dataclass(frozen=True, slots=True)
class Seen:
    """The trigger that was seen last.

    Attributes:
        id: of the rotation that it asks for.
        digest: of its content.
        at: when it was seen first, by a clock that could be believed.
        end: how its rotation ended; None where it did not yet.
    """

    id: RotationId
    digest: str
    at: datetime
    end: Phase | None = None

    def ended(self) -> list[Ended]:
        return [] if self.end is None else [Ended(self.id, self.end, self.at, self.digest)]


def seen(device: Device) -> Seen | None:
    found = _read(device, TRIGGER)
    try:
        end = found.get("end")
        return Seen(
            RotationId(str(found["id"])),
            str(found["sha256"]),
            _moment(found["seen_at"]),
            None if end is None else Phase(end),
        )
    except (KeyError, TypeError, ValueError):
        return None


def remember(device: Device, what: Seen) -> None:
    """Raises ConfigError: the disk."""
    value = {"id": what.id, "sha256": what.digest, "seen_at": what.at.isoformat()}
    if what.end is not None:
        value["end"] = what.end.value
    _write(device, TRIGGER, value)


def setback(device: Device) -> Setback | None:
    found = _read(device, SETBACK)
    try:
        wait, hint = found.get("retry_after_s"), found.get("hint")
        return Setback(
            str(found["cause"]),
            _moment(found["at"]),
            min(max(int(found["failures"]), 1), _MOST_FAILURES),
            None if wait is None else int(wait),
            str(found["reason"]),
            bool(found.get("person", False)),
            None if hint is None else str(hint),
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def note_setback(device: Device, what: Setback) -> None:
    """Raises ConfigError: the disk."""
    value = {
        "cause": what.cause,
        "at": what.at.isoformat(),
        "failures": what.failures,
        "retry_after_s": what.retry_after_s,
        "reason": what.reason,
        "person": what.person,
        "hint": what.hint,
    }
    _write(device, SETBACK, value)


def forget_setback(device: Device) -> None:
    path = _path(device, SETBACK)
    if device.disk.is_there(path):
        device.disk.remove(path)


def _moment(value: object) -> datetime:
    found = datetime.fromisoformat(str(value))
    if found.tzinfo is None:
        raise ValueError("a moment without a zone")
    return found


def _path(device: Device, name: str) -> str:
    return os.path.join(device.site.state_directory, name)


def _read(device: Device, name: str) -> Mapping[str, Any]:
    try:
        found = json.loads(device.disk.read_if_there(_path(device, name)) or b"{}")
    except (ConfigError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(device: Device, name: str, value: Mapping[str, object]) -> None:
    device.disk.make_directory(device.site.state_directory)
    text = json.dumps(value, separators=(",", ":"))
    device.disk.replace(_path(device, name), text.encode("ascii"))
