"""A device as the factory knows it, for those who look on: the command line and tests."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from fioagent.factory.fleet import configs, devices
from fioagent.factory.fleet.configs import Entries
from fioagent.factory.fleet.devices import Device
from fioagent.factory.pki.certificates import key_digest


@dataclass(frozen=True, slots=True)
class DeviceView:
    """Keys are SPKI in PEM."""

    uuid: str
    name: str
    public_key_pem: str
    next_public_key_pem: str | None  # the device is locked while there is one
    denied: tuple[str, ...]  # digests of keys it has had
    last_seen: int  # unix seconds; 0: never
    config: Entries  # the device layer only
    config_public_key_pem: str  # what the layer is said to be encrypted to


def view(db: sqlite3.Connection, device: Device) -> DeviceView:
    return DeviceView(
        uuid=device.uuid,
        name=device.name,
        public_key_pem=device.public_key,
        next_public_key_pem=device.next_public_key,
        denied=tuple(key_digest(key) for key in devices.denied_keys(db, device.uuid)),
        last_seen=device.last_seen,
        config=configs.entries(db, "device", device.uuid),
        config_public_key_pem=configs.encrypted_to(db, device.uuid),
    )
