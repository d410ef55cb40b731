"""What is looked at: the device, and the machine around it."""

from __future__ import annotations

from dataclasses import dataclass

from fioagent.doctor.ports import Surroundings
from fioagent.site import Device


@dataclass(frozen=True, slots=True)
class Patient:
    """For one check.

    Attributes:
        check: its name.
        device: places, settings and ports that a rotation has too.
        around: the machine.
    """

    check: str
    device: Device
    around: Surroundings
