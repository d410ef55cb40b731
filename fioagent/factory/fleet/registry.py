"""Which devices a factory has: found, named, put into a group, deleted and denied.

What their keys may do is in ``devices``. Functions run inside the caller's transaction.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Final

from fioagent.factory.errors import RefusedError
from fioagent.factory.fleet import configs, devices, groups
from fioagent.factory.fleet.devices import Device
from fioagent.factory.fleet.registration import Identity

# A part of an address without escapes, which no client takes for a way up.
NAME: Final = re.compile(r"(?!\.{1,2}$)[^/\\%?#]{1,64}")
# Query parameters that fioctl sends to have fewer devices, and what each is compared with.
EXACT: Final = {"uuid": "uuid", "group": "group_name"}
# What is kept of a device in other tables, and is gone with it. Replaced keys stay denied.
BELOW_A_DEVICE: Final = ("events", "tests", "artifacts", "hits", "config_offers")


def named(
    db: sqlite3.Connection, wanted: str, now: float, *, by_uuid: bool = False
) -> Device | None:
    """The device of that name, else of that uuid; fioctl says so where it means the uuid."""
    row = db.execute("SELECT uuid FROM devices WHERE name = ?", (wanted,)).fetchone()
    uuid = wanted if by_uuid or row is None else row["uuid"]
    return devices.find(db, uuid, now)


def matching(db: sqlite3.Connection, asked: Mapping[str, str]) -> list[str]:
    """Uuids of the devices that every filter lets pass, in the order of ``sortby``.

    ``name`` is a pattern as of a shell, with ``*`` and ``?``; ``target_name`` may be one too.
    """
    rows = db.execute("SELECT * FROM devices ORDER BY created_at, uuid").fetchall()
    for parameter, column in EXACT.items():
        if asked.get(parameter):
            rows = [row for row in rows if row[column] == asked[parameter]]
    if asked.get("match_tag"):
        rows = [row for row in rows if asked["match_tag"] in row["tag"].split(",")]
    for column in ("name", "target_name"):
        if asked.get(column):
            rows = [row for row in rows if fnmatchcase(row[column], asked[column])]
    if asked.get("prod"):
        rows = [row for row in rows if bool(row["is_prod"]) == (asked["prod"] == "1")]
    for order in reversed(asked.get("sortby", "").split(",")):
        column, descending = order.removeprefix("-"), order.startswith("-")
        if column in ("name", "last_seen"):
            rows.sort(key=lambda row: row[column], reverse=descending)  # noqa: B023  # used at once
    return [row["uuid"] for row in rows]


def add(  # noqa: PLR0913  # a device, and the moment
    db: sqlite3.Connection,
    identity: Identity,
    name: str,
    group: str,
    now: float,
    certificate: str,
) -> None:
    """With its certificate (PEM).

    Raises:
        RefusedError: uuid or name is taken, the uuid is denied, or there is no such group.
    """
    check_free(db, identity.uuid)
    uuid, key = identity.uuid, identity.public_key
    devices.register(db, uuid, key, now, certificate, is_prod=identity.is_prod)
    rename(db, identity.uuid, name)
    if group:
        put_into_group(db, identity.uuid, group, now)


def check_free(db: sqlite3.Connection, uuid: str) -> None:
    """RefusedError: no new device may have this uuid."""
    if devices.is_denied(db, uuid):
        raise RefusedError(
            409,
            f"cannot register: Device({uuid}) is on the denied list",
            "hint: fioagent-factory denied remove",
        )
    if devices.is_known(db, uuid):
        raise RefusedError(409, f"cannot register {uuid}: the factory has it already")


def _check_name(db: sqlite3.Connection, name: str, uuid: str) -> None:
    """``name`` may be that of the device ``uuid``."""
    if not (NAME.fullmatch(name) and name.isprintable()):
        raise RefusedError(
            400,
            f"cannot call a device {name!r}: a name has 1 to 64 characters, none of"
            " / \\ % ? #, and is not . or ..",
        )
    if db.execute(
        "SELECT 1 FROM devices WHERE (name = ? OR uuid = ?) AND uuid != ?", (name, name, uuid)
    ).fetchone():
        raise RefusedError(409, f"cannot call a device {name}: another one has this name")


def rename(db: sqlite3.Connection, uuid: str, name: str) -> None:
    """RefusedError: another device has the name, or it is none."""
    _check_name(db, name, uuid)
    db.execute("UPDATE devices SET name = ? WHERE uuid = ?", (name, uuid))


def put_into_group(db: sqlite3.Connection, uuid: str, group: str, now: float) -> None:
    """Empty for none. RefusedError: there is no such group."""
    if group:
        groups.find(db, group)
    devices.set_group(db, uuid, group, now)


def delete(db: sqlite3.Connection, device: Device, now: float) -> None:
    """The device and all that was kept of it are gone, and no key of it is served any more.

    Without the deny list it would come back by its next request: the gateway registers
    unknown names.
    """
    for table in BELOW_A_DEVICE:
        db.execute(f"DELETE FROM {table} WHERE uuid = ?", (device.uuid,))  # noqa: S608  # our own
    configs.forget(db, "device", device.uuid)
    db.execute("DELETE FROM devices WHERE uuid = ?", (device.uuid,))
    db.execute(
        "INSERT OR REPLACE INTO denied_devices VALUES (?, ?, ?)",
        (device.uuid, device.name, int(now)),
    )


def denied(db: sqlite3.Connection) -> list[tuple[str, str]]:
    """Uuid and last name of each deleted device, in the order of their deletion."""
    rows = db.execute("SELECT uuid, name FROM denied_devices ORDER BY denied_at, rowid")
    return [(row["uuid"], row["name"]) for row in rows]


def allow(db: sqlite3.Connection, uuid: str) -> None:
    """Off the deny list: it may register again. RefusedError: it is not on it."""
    if not db.execute("DELETE FROM denied_devices WHERE uuid = ?", (uuid,)).rowcount:
        raise RefusedError(404, f"cannot allow {uuid}: it is not on the denied list")
