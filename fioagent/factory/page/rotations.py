"""Rotations, as the events of devices tell them.

A rotation is the events of one correlation id. Where events are silent, what the gateway knows
of the device's keys helps: fioconfig never reports an end. Functions run inside the caller's
transaction.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fioagent.factory.fleet import configs, events
from fioagent.factory.fleet.devices import Device
from fioagent.factory.fleet.fioctl import ROTATE_FILE

ENDED: Final = ("completed", "failed")
MAX_DETAILS: Final = 4000  # characters; an agent that is in its senses sends half of that
STEPS_SHOWN: Final = 100  # the last; an agent tells of some twenty at most
LOOKED_AT: Final = 4000  # newest events in which rotations are searched
ROTATION_ID: Final = re.compile(r"^ROTATIONID=([A-Za-z0-9_-]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Step:
    name: str
    at: str  # RFC 3339, by the device's clock
    success: bool
    details: str


@dataclass(frozen=True, slots=True)
class Rotation:
    """One of a device, and how far it has come.

    ``state`` is ``asked`` (no word from the device yet), ``running``, ``retrying`` (the last
    word is a failure), ``switched`` (the new key is in use, the end is not reported),
    ``completed`` or ``failed``.
    """

    device: str
    id: str
    state: str
    steps: tuple[Step, ...]

    @property
    def to_come(self) -> tuple[str, ...]:
        """Names of the steps that a rotation on its way has before it."""
        if self.state in ENDED:
            return ()
        done = {step.name for step in self.steps if step.success}
        last = max((i for i, name in enumerate(events.ROTATION) if name in done), default=-1)
        return events.ROTATION[last + 1 :]


def newest(db: sqlite3.Connection, devices: Mapping[str, Device], most: int) -> list[Rotation]:
    """Of these devices, by UUID; the one that had the last word first."""
    rows = db.execute(
        "SELECT uuid, correlation_id FROM (SELECT * FROM events ORDER BY seq DESC LIMIT ?)"
        " GROUP BY uuid, correlation_id ORDER BY max(seq) DESC",
        (LOOKED_AT,),
    )
    found: list[Rotation] = []
    for row in rows:
        device = devices.get(row["uuid"])
        rotation = _told(db, device, row["correlation_id"]) if device else None
        if rotation is not None:
            found.append(rotation)
        if len(found) == most:
            break
    return found


def latest(db: sqlite3.Connection, device: Device) -> Rotation | None:
    """The device's last rotation, or the one that it is asked for."""
    asked = _asked(db, device)
    told = next(_of_device(db, device), None)
    if asked and not events.of_device(db, device.uuid, asked):
        return Rotation(device.uuid, asked, "asked", ())
    return told


def of_id(db: sqlite3.Connection, device: Device, identifier: str) -> Rotation | None:
    """None: the device neither knows of it nor is asked for it."""
    if events.of_device(db, device.uuid, identifier):
        return _told(db, device, identifier)
    is_asked = _asked(db, device) == identifier
    return Rotation(device.uuid, identifier, "asked", ()) if is_asked else None


def _of_device(db: sqlite3.Connection, device: Device) -> Iterator[Rotation]:
    rows = db.execute(
        "SELECT correlation_id FROM events WHERE uuid = ?"
        " GROUP BY correlation_id ORDER BY max(seq) DESC",
        (device.uuid,),
    ).fetchall()
    for row in rows:
        rotation = _told(db, device, row["correlation_id"])
        if rotation is not None:
            yield rotation


def _asked(db: sqlite3.Connection, device: Device) -> str:
    """The rotation id of the operator's file, whichever layer has it; empty without one."""
    entry = configs.merged(db, device, before_patch=False).get(ROTATE_FILE, {})
    found = ROTATION_ID.search(entry.get("Value", ""))
    return found[1] if found else ""


def _told(db: sqlite3.Connection, device: Device, identifier: str) -> Rotation | None:
    """None: the events are of something else, such as an update of the target."""
    posted = events.of_device(db, device.uuid, identifier)
    steps = tuple(_step(event) for event in posted[-STEPS_SHOWN:])
    is_rotation = identifier.startswith("certs-") or any(
        step.name.startswith("CertRotation") for step in steps
    )
    if not is_rotation:
        return None
    return Rotation(device.uuid, identifier, _state(steps, device), steps)


def _step(event: Mapping[str, Any]) -> Step:
    inner = event["event"]
    return Step(
        name=str(event["eventType"].get("id", ""))[:MAX_DETAILS],
        at=event["deviceTime"],
        success=bool(inner.get("success")),
        details=str(inner.get("details") or "")[:MAX_DETAILS],
    )


def _state(steps: Sequence[Step], device: Device) -> str:
    *_, finalized, completed = events.ROTATION
    end = next((step for step in reversed(steps) if step.name == completed), None)
    if end is not None:
        return "completed" if end.success else "failed"
    last = steps[-1]
    if not last.success:
        return "retrying"
    if last.name == finalized and device.next_public_key is None:
        return "switched"
    return "running"
