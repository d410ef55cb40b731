"""What operators are told of devices: the payloads of event queues, and when each is due.

Each is written in the transaction of the request that it tells of, once into the outbox and
once for every queue there is: so none is lost, and none tells of what was undone. Names and
members are those of the cloud's documents; where they are silent, docs/factory.md says what
was chosen. Apps' states are not told of: this gateway has no route that brings them.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any, Final

FIRST_SEEN: Final = "DEVICE_FIRST_SEEN"
LAST_SEEN: Final = "DEVICE_LAST_SEEN"
CONFIG_APPLIED: Final = "DEVICE_CONFIG_APPLIED"
OTA_STARTED: Final = "DEVICE_OTA_STARTED"
OTA_COMPLETED: Final = "DEVICE_OTA_COMPLETED"
PUBKEY_CHANGE: Final = "DEVICE_PUBKEY_CHANGE"

# Update events by which aktualizr-lite begins an update, and the one that ends it.
OTA_BEGINS: Final = {"EcuDownloadStarted", "EcuInstallationStarted"}
OTA_ENDS: Final = "EcuInstallationCompleted"


def publish(db: sqlite3.Connection, uuid: str, kind: str, now: float, **more: object) -> None:
    """To the outbox, and from there to every queue that there is now."""
    group = db.execute(
        "SELECT device_groups.id FROM devices JOIN device_groups"
        " ON device_groups.name = devices.group_name WHERE uuid = ?",
        (uuid,),
    ).fetchone()
    group_id = group["id"] if group else None
    payload = {"Uuid": uuid, "DeviceGroupId": group_id, "Time": int(now), **more}
    seq = db.execute(
        "INSERT INTO outbox (at, type, uuid, payload) VALUES (?, ?, ?, ?)",
        (now, kind, uuid, json.dumps(payload)),
    ).lastrowid
    # A device whose messages have to wait at a push queue keeps its order: this one waits, too.
    db.execute(
        "INSERT INTO queue_messages (label, seq, uuid, due) SELECT label, ?, ?,"
        " CASE type WHEN 'push' THEN coalesce((SELECT max(due) FROM queue_messages AS earlier"
        " WHERE earlier.label = event_queues.label AND earlier.uuid = ?), 0) ELSE 0 END"
        " FROM event_queues",
        (seq, uuid, uuid),
    )


def outbox(db: sqlite3.Connection, kind: str | None = None) -> list[dict[str, Any]]:
    """All that was ever published, oldest first: ``type`` beside the payload; of one if named."""
    rows = db.execute(
        "SELECT type, payload FROM outbox WHERE ? IS NULL OR type = ? ORDER BY seq", (kind, kind)
    )
    return [{"type": row["type"], **json.loads(row["payload"])} for row in rows]


def seen(
    db: sqlite3.Connection, uuid: str, last_seen: int, changes: Mapping[str, str], now: float
) -> None:
    """A device has come, after ``last_seen`` (0: never), and tells something new of itself."""
    if not last_seen:
        publish(db, uuid, FIRST_SEEN, now)
    if changes:
        publish(db, uuid, LAST_SEEN, now, Changes=dict(changes))


def key_changed(db: sqlite3.Connection, uuid: str, old: str, new: str, now: float) -> None:
    publish(db, uuid, PUBKEY_CHANGE, now, NewPubKey=new, OldPubKey=old)


def config_offered(db: sqlite3.Connection, uuid: str, changed_at: int) -> None:
    """GET /config was answered with 200 and this time."""
    db.execute("INSERT OR REPLACE INTO config_offers VALUES (?, ?)", (uuid, changed_at))


def config_asked(db: sqlite3.Connection, uuid: str, since: int, now: float) -> None:
    """A device says which configuration it has: is it the one that it was given, tell of it."""
    applied = db.execute(
        "DELETE FROM config_offers WHERE uuid = ? AND changed_at <= ?", (uuid, since)
    ).rowcount
    if applied:
        publish(db, uuid, CONFIG_APPLIED, now)


def updates_reported(
    db: sqlite3.Connection, uuid: str, events: Iterable[Mapping[str, Any]], now: float
) -> None:
    """OTA updates that begin or end with these events; a repeated event tells nothing new.

    Before the events are stored. Rotations of certificates are updates of their own kind and
    begin with none of these names.
    """
    for event in events:
        name, inner = str(event["eventType"].get("id")), event["event"]
        kind = OTA_STARTED if name in OTA_BEGINS else OTA_COMPLETED if name == OTA_ENDS else None
        identifier = inner["correlationId"]
        if kind is None or _is_told(db, uuid, kind, identifier):
            continue
        more: dict[str, object] = {"Target": str(inner.get("targetName", "")), "Id": identifier}
        if kind == OTA_COMPLETED:
            more["Success"] = bool(inner.get("success"))
        publish(db, uuid, kind, now, **more)


def _is_told(db: sqlite3.Connection, uuid: str, kind: str, identifier: str) -> bool:
    """Since the device came; one that was deleted and is back begins anew."""
    row = db.execute(
        "SELECT 1 FROM outbox WHERE uuid = :uuid AND type = :kind"
        " AND json_extract(payload, '$.Id') = :id AND seq > coalesce((SELECT max(seq) FROM outbox"
        " WHERE uuid = :uuid AND type = :first), 0)",
        {"uuid": uuid, "kind": kind, "id": identifier, "first": FIRST_SEEN},
    ).fetchone()
    return row is not None
