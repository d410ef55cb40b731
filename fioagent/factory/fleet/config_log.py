"""The last versions of each configuration layer: who changed it, when, why, and to what.

A version has all files of its layer, as ``fioctl config log`` and ``fioctl config updates``
read them. Functions run inside the caller's transaction.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any, Final

from fioagent.factory.fleet.events import rfc3339

VERSIONS_KEPT: Final = 10  # of each layer; the cloud's documents


def add(  # noqa: PLR0913, PLR0917  # a layer, and all that is known of its change
    db: sqlite3.Connection,
    layer: str,
    owner: str,
    files: list[dict[str, Any]],
    by: str,
    reason: str,
    now: int,
) -> None:
    db.execute(
        "INSERT INTO config_log (layer, owner, created_at, created_by, reason, files)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (layer, owner, now, by, reason, json.dumps(files)),
    )
    db.execute(
        "DELETE FROM config_log WHERE layer = ? AND owner = ? AND seq NOT IN (SELECT seq FROM"
        " config_log WHERE layer = ? AND owner = ? ORDER BY seq DESC LIMIT ?)",
        (layer, owner, layer, owner, VERSIONS_KEPT),
    )


def applied(db: sqlite3.Connection, uuid: str, now: float) -> None:
    """The device has fetched its newest version; when it did so first is what counts."""
    db.execute(
        "UPDATE config_log SET applied_at = ? WHERE applied_at = 0 AND seq ="
        " (SELECT max(seq) FROM config_log WHERE layer = 'device' AND owner = ?)",
        (int(now), uuid),
    )


def versions(db: sqlite3.Connection, layer: str, owner: str) -> list[dict[str, Any]]:
    """Newest first, each as fioctl reads it."""
    rows = db.execute(
        "SELECT * FROM config_log WHERE layer = ? AND owner = ? ORDER BY seq DESC", (layer, owner)
    )
    return [
        {
            "created-at": rfc3339(row["created_at"]),
            "created-by": row["created_by"],
            "applied-at": rfc3339(row["applied_at"]) if row["applied_at"] else "",
            "reason": row["reason"],
            "files": json.loads(row["files"]),
        }
        for row in rows
    ]
