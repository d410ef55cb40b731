"""Whether a rotation is wanted now: the service starts one after a check-in. Reads only."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from fioagent.config import trigger
from fioagent.config.household import Household, open_rotation
from fioagent.errors import ConfigError
from fioagent.rotation import policy, preflight
from fioagent.site import Device

_ID: Final = "ROTATIONID"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the service goes by.

    Attributes:
        wanted: start one now.
        next_at: else look again then; None where nobody knows.
    """

    wanted: bool
    next_at: datetime | None


def rotation(household: Household) -> Wanted:
    """By the open rotation, the operator's trigger, the certificate's age, in this order."""
    device = household.device
    now = device.clock.now()
    under_way = open_rotation(device)
    if under_way is not None:
        until = policy.wait_until(under_way, now)
        return Wanted(until is None, until)
    asked = _trigger(household)
    if asked is not None and asked != _done(device):
        return Wanted(True, None)
    try:
        certificate = preflight.require_pair(device, device.live_credential())
    except ConfigError:
        return Wanted(False, None)
    due = policy.due_at(
        certificate.not_before, certificate.not_after, device.settings.rotation_due_at
    )
    return Wanted(now >= due, None if now >= due else due)


def _trigger(household: Household) -> str | None:
    try:
        content = household.secrets.read(trigger.FILE_NAME)
    except ConfigError:
        return None
    return None if content is None else trigger.parse(content.decode("utf-8", "replace")).get(_ID)


def _done(device: Device) -> str | None:
    """The rotation that was completed last, by the marker that the stock handler asks too."""
    marker = device.disk.read_if_there(device.site.completed_marker)
    try:
        return str(json.loads(marker or b"{}").get("RotationId"))
    except (ValueError, AttributeError, RecursionError):
        return None
