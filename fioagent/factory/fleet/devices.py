"""The gateway's rules about devices and their keys.

The public gateways know one key per device and answer 502 to any other. The rest, lock,
switch-over and deny list, exists in the cloud only; here it follows the cloud's documents,
and where they are silent a knob decides. Functions run inside the caller's transaction.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from fioagent.factory.pki.certificates import load_public_key, public_pem
from fioagent.factory.queues import notices

UUID: Final = re.compile(r"[A-Za-z0-9-]{1,64}")
RATE_WINDOW_S: Final = 60.0

# Request header to column: what every mutual-TLS call may tell about the device.
CHECK_IN_HEADERS: Final = {
    "x-ats-dockerapps": "docker_apps",
    "x-ats-ostreehash": "ostree_hash",
    "x-ats-tags": "tag",
    "x-ats-target": "target_name",
}


class Admission(Enum):
    SERVED = "served"
    REGISTERED = "registered"  # first seen: the key it came with is its key
    SWITCHED = "switched"  # first use of the announced key
    DENIED = "denied"  # the device was deleted, and with it every key
    OLD_KEY = "old key"
    UNANNOUNCED_KEY = "unannounced key"


@dataclass(frozen=True, slots=True)
class Device:
    uuid: str
    public_key: str  # SPKI PEM
    next_public_key: str | None  # locked while there is one
    group_name: str
    group_changed_at: int
    last_seen: int
    docker_apps: str
    ostree_hash: str
    tag: str
    target_name: str
    config_before_patch: str | None
    name: str
    is_prod: int
    created_at: int


def find(db: sqlite3.Connection, uuid: str, now: float) -> Device | None:
    """The device as it is ``now``: a lock past its life is gone."""
    _expire_lock(db, uuid, now)
    row = db.execute("SELECT * FROM devices WHERE uuid = ?", (uuid,)).fetchone()
    if row is None:
        return None
    return Device(**{name: row[name] for name in Device.__slots__})


def everybody(db: sqlite3.Connection, now: float) -> list[Device]:
    """All devices as they are ``now``, oldest first. It changes nothing, as :func:`find` may."""
    lifetime_s = _lock_lifetime_s(db)
    rows = db.execute(
        "SELECT *, (? AND locked_at < ?) AS lapsed FROM devices ORDER BY created_at, uuid",
        (lifetime_s, now - lifetime_s),
    ).fetchall()
    found = []
    for row in rows:
        device = Device(**{name: row[name] for name in Device.__slots__})
        found.append(replace(device, next_public_key=None) if row["lapsed"] else device)
    return found


def normal_key(pem: str) -> str:
    """``pem`` as we keep keys, so that they compare as text. ValueError: not an EC key in PEM."""
    try:
        return public_pem(load_public_key(pem))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("not an EC public key in PEM") from error


def register(
    db: sqlite3.Connection,
    uuid: str,
    public_key: str,
    now: float,
    certificate: str = "",
    *,
    is_prod: bool = False,
) -> None:
    """Named by its uuid, or like it where another device has been given that name.

    ``certificate``: PEM, if it is known.

    Raises:
        sqlite3.IntegrityError: the uuid is taken.
    """
    name, number = uuid, 1
    while db.execute("SELECT 1 FROM devices WHERE name = ?", (name,)).fetchone():
        number += 1
        name = f"{uuid[:60]}-{number}"
    db.execute(
        "INSERT INTO devices (uuid, public_key, created_at, name, certificate, is_prod)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (uuid, public_key, int(now), name, certificate, is_prod),
    )


def mark_prod(db: sqlite3.Connection, uuid: str) -> None:
    db.execute("UPDATE devices SET is_prod = 1 WHERE uuid = ?", (uuid,))


def is_denied(db: sqlite3.Connection, uuid: str) -> bool:
    """Whether the device was deleted, and nobody has taken it off the deny list."""
    row = db.execute("SELECT 1 FROM denied_devices WHERE uuid = ?", (uuid,)).fetchone()
    return row is not None


def is_known(db: sqlite3.Connection, uuid: str) -> bool:
    return db.execute("SELECT 1 FROM devices WHERE uuid = ?", (uuid,)).fetchone() is not None


def certificate(db: sqlite3.Connection, uuid: str) -> x509.Certificate | None:
    """What the device came with last, or was registered with; None: never seen, or no such."""
    row = db.execute("SELECT certificate FROM devices WHERE uuid = ?", (uuid,)).fetchone()
    return x509.load_pem_x509_certificate(row[0].encode()) if row and row[0] else None


def admit(
    db: sqlite3.Connection, uuid: str, public_key: str, knobs: Mapping[str, str], now: float
) -> Admission:
    """What the pair of CN and key is to this factory; a first use changes what it stands for.

    A trusted certificate of an unknown CN registers itself, as on every known gateway. The
    certificate does not matter beyond that: a new one for the same key goes unnoticed.
    """
    device = find(db, uuid, now)
    if device is None:
        return _admit_unknown(db, uuid, public_key, now)
    if public_key == device.public_key:
        return Admission.SERVED
    if public_key == device.next_public_key:
        _switch(db, device, now)
        return Admission.SWITCHED
    if public_key in denied_keys(db, uuid):
        return Admission.OLD_KEY
    if knobs["unannounced_key"] == "accept":
        # Trust on first use, as gateways had it before next_pubkey. Nothing is denied.
        db.execute("UPDATE devices SET public_key = ? WHERE uuid = ?", (public_key, uuid))
        notices.key_changed(db, uuid, device.public_key, public_key, now)
        return Admission.SERVED
    return Admission.UNANNOUNCED_KEY


def _admit_unknown(db: sqlite3.Connection, uuid: str, public_key: str, now: float) -> Admission:
    """A deleted device may come back once it is off the deny list, but with no replaced key."""
    if is_denied(db, uuid):
        return Admission.DENIED
    if public_key in denied_keys(db, uuid):
        return Admission.OLD_KEY
    register(db, uuid, public_key, now)
    return Admission.REGISTERED


def _switch(db: sqlite3.Connection, device: Device, now: float) -> None:
    """The announced key is the device's key; the one before is denied from now on."""
    db.execute("UPDATE devices SET public_key = next_public_key WHERE uuid = ?", (device.uuid,))
    _unlock(db, device.uuid)
    db.execute(
        "INSERT OR IGNORE INTO denied_keys VALUES (?, ?, ?)",
        (device.uuid, device.public_key, int(now)),
    )
    notices.key_changed(db, device.uuid, device.public_key, str(device.next_public_key), now)


class LockRefusedError(Exception):
    """The device may not announce this key. ``status`` is the answer."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def lock(
    db: sqlite3.Connection, device: Device, next_key: str, knobs: Mapping[str, str], now: float
) -> None:
    """The device will come back with ``next_key``; operators may not write until it does.

    The same key again is no change, and so is the present key of an unlocked device: a client
    that lost our answer, even the one to its switch-over, repeats the identical request.

    Raises:
        LockRefusedError: not an EC key in PEM, a denied key, or another key is announced.
    """
    try:
        key = normal_key(next_key)
    except ValueError as error:
        raise LockRefusedError(400, f"next_pubkey is {error}") from error
    if key in denied_keys(db, device.uuid):
        raise LockRefusedError(400, "next_pubkey is on the denied list")
    if key == device.next_public_key or (
        device.next_public_key is None and key == device.public_key
    ):
        return
    if device.next_public_key is not None and knobs["second_lock"] == "409":
        raise LockRefusedError(409, "The device has announced another key")
    if key == device.public_key:
        _unlock(db, device.uuid)
        return
    db.execute(
        "UPDATE devices SET next_public_key = ?, locked_at = ? WHERE uuid = ?",
        (key, now, device.uuid),
    )


def _unlock(db: sqlite3.Connection, uuid: str) -> None:
    db.execute(
        "UPDATE devices SET next_public_key = NULL, locked_at = NULL, config_before_patch = NULL"
        " WHERE uuid = ?",
        (uuid,),
    )


def _expire_lock(db: sqlite3.Connection, uuid: str, now: float) -> None:
    lifetime_s = _lock_lifetime_s(db)
    row = db.execute("SELECT locked_at FROM devices WHERE uuid = ?", (uuid,)).fetchone()
    if lifetime_s and row and row["locked_at"] and row["locked_at"] < now - lifetime_s:
        _unlock(db, uuid)


def _lock_lifetime_s(db: sqlite3.Connection) -> int:
    row = db.execute("SELECT value FROM knobs WHERE name = 'lock_lifetime_s'").fetchone()
    return int(row["value"]) if row else 0


def denied_keys(db: sqlite3.Connection, uuid: str) -> list[str]:
    """SPKI PEM of the keys this device has had, oldest first."""
    rows = db.execute("SELECT public_key FROM denied_keys WHERE uuid = ? ORDER BY rowid", (uuid,))
    return [row["public_key"] for row in rows]


def saw(
    db: sqlite3.Connection, uuid: str, certificate: str, headers: Mapping[str, str], now: float
) -> None:
    """A check-in with a ``certificate`` (PEM): a header that is missing keeps what was known."""
    before = db.execute("SELECT * FROM devices WHERE uuid = ?", (uuid,)).fetchone()
    told = {CHECK_IN_HEADERS[name]: headers[name] for name in CHECK_IN_HEADERS if name in headers}
    changes = {column: value for column, value in told.items() if value != before[column]}
    for column, value in {"last_seen": int(now), "certificate": certificate, **changes}.items():
        # What is no news is not written: a transaction without a change costs the disk nothing.
        if value != before[column]:
            db.execute(
                f"UPDATE devices SET {column} = ? WHERE uuid = ?",  # noqa: S608  # our own columns
                (value, uuid),
            )
    notices.seen(db, uuid, before["last_seen"], changes, now)


def set_group(db: sqlite3.Connection, uuid: str, group: str, now: float) -> None:
    """A change of group counts as a change of configuration."""
    db.execute(
        "UPDATE devices SET group_name = ?, group_changed_at = ? WHERE uuid = ?",
        (group, int(now), uuid),
    )


def over_limit(db: sqlite3.Connection, uuid: str, per_minute: int, now: float) -> int:
    """Seconds to wait, or 0 and the request is counted."""
    if not per_minute:
        return 0
    db.execute("DELETE FROM hits WHERE uuid = ? AND at <= ?", (uuid, now - RATE_WINDOW_S))
    row = db.execute("SELECT count(*) AS n, min(at) AS first FROM hits WHERE uuid = ?", (uuid,))
    seen = row.fetchone()
    if seen["n"] >= per_minute:
        return max(1, int(seen["first"] + RATE_WINDOW_S - now))
    db.execute("INSERT INTO hits VALUES (?, ?)", (uuid, now))
    return 0
