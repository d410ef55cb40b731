"""What an operator does with fioctl: write configuration, ask for a rotation, see a device.

Functions run inside the caller's transaction. In the cloud the same happens in two requests,
reading the device's key and writing what was encrypted to it; the lock keeps a switch-over
from falling between them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any, Final

from fioagent.factory.errors import FactoryError, LockedError
from fioagent.factory.fleet import config_log, configs, devices, groups
from fioagent.factory.fleet.configs import Change, Entries, Entry
from fioagent.factory.fleet.ecies import encrypt
from fioagent.factory.fleet.events import rfc3339
from fioagent.factory.pki.certificates import load_public_key
from fioagent.factory.store import read_knobs

ROTATE_FILE: Final = "fio-rotate-certs"
# What fioctl leaves to the device, of its token's ids.
PKEY_IDS: Final = "01,07"
CERT_IDS: Final = "03,09"
ROTATE_HANDLER: Final = "/usr/share/fioconfig/handlers/renew-client-cert"


def entries(files: Mapping[str, bytes], on_changed: str | None, public_key: str | None) -> Entries:
    """The files as configuration: encrypted to ``public_key`` (SPKI PEM), or plain without one.

    Raises:
        FactoryError: a plain value is not text.
    """
    key = load_public_key(public_key) if public_key else None
    result: Entries = {}
    for name, content in files.items():
        if key is not None:
            entry: Entry = {"Value": encrypt(content, key)}
        else:
            entry = {"Value": _text(name, content), "Unencrypted": True}
        if on_changed:
            entry["OnChanged"] = [on_changed]
        result[name] = entry
    return result


def _text(name: str, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FactoryError(
            f"cannot set {name}: a plain value must be UTF-8 text", "hint: leave out --plain"
        ) from error


def rotate_entries(
    est: str, rotation_id: str, pkey_ids: str = PKEY_IDS, cert_ids: str = CERT_IDS
) -> Entries:
    """The file of ``fioctl devices config rotate-certs``, to the byte."""
    value = f"ESTSERVER={est}\nPKEYIDS={pkey_ids}\nCERTIDS={cert_ids}\nROTATIONID={rotation_id}\n"
    entry: Entry = {"Value": value, "Unencrypted": True, "OnChanged": [ROTATE_HANDLER]}
    return {ROTATE_FILE: entry}


def write_config(
    db: sqlite3.Connection,
    device: devices.Device,
    change: Change,
    now: float,
    *,
    replace: bool = False,
) -> None:
    """Merged into the device layer, or in its place.

    Raises:
        LockedError: the device is between two keys, and the knob does not let it pass.
        RefusedError: as of ``configs.put``.
    """
    check_unlocked(db, device)
    configs.put(db, "device", device.uuid, change, now, replace=replace)


def remove_config(db: sqlite3.Connection, device: devices.Device, name: str, now: float) -> bool:
    """Whether there was such a file. LockedError: as for writing."""
    check_unlocked(db, device)
    return configs.remove(db, "device", device.uuid, name, now)


def check_unlocked(db: sqlite3.Connection, device: devices.Device) -> None:
    """Only the device layer is refused: no source speaks of group or factory."""
    if device.next_public_key is not None and read_knobs(db)["operator_write_locked"] == "409":
        raise LockedError(
            f"cannot change the configuration of {device.uuid}: it is locked, the device has"
            " announced a new key",
            "hint: wait for the rotation to end, or turn the knob operator_write_locked",
        )


def describe(device: devices.Device, factory: str) -> dict[str, Any]:
    """The device as GET /ota/devices/ shows it, cut to what the lab knows."""
    return {
        "uuid": device.uuid,
        "name": device.name,
        "factory": factory,
        "device-group": device.group_name,
        "last-seen": rfc3339(device.last_seen) if device.last_seen else "",
        "ostree-hash": device.ostree_hash,
        "docker-apps": [app for app in device.docker_apps.split(",") if app],
        "tag": device.tag,
        "target-name": device.target_name,
        "is-prod": bool(device.is_prod),
        "change-meta": {"created-at": rfc3339(device.created_at)},
        "public-key": device.public_key,
    }


def describe_whole(db: sqlite3.Connection, device: devices.Device, factory: str) -> dict[str, Any]:
    """As GET /ota/devices/<name>/ shows it: with its group, and the newest configuration."""
    newest = config_log.versions(db, "device", device.uuid)[:1]
    group = groups.describe(groups.find(db, device.group_name)) if device.group_name else None
    shown = {**describe(device, factory), "group": group}
    return {**shown, "active-config": newest[0]} if newest else shown
