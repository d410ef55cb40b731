"""Device groups: a device may be in one, and gets its configuration.

Functions run inside the caller's transaction.
"""

from __future__ import annotations

import re
import sqlite3
from typing import Any, Final

from fioagent.factory.errors import RefusedError
from fioagent.factory.fleet import configs
from fioagent.factory.fleet.events import rfc3339

NAME: Final = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9_.-]{1,64}")


def create(db: sqlite3.Connection, name: str, description: str, now: float) -> None:
    """RefusedError: there is one of that name, or it is none."""
    _check_free(db, name)
    db.execute(
        "INSERT INTO device_groups (name, description, created_at, updated_at) VALUES (?, ?, ?, ?)",
        (name, description, int(now), int(now)),
    )


def ensure(db: sqlite3.Connection, name: str, now: float) -> None:
    """There is such a group. RefusedError: it could not be called so."""
    if _row(db, name) is None:
        create(db, name, "", now)


def _check_free(db: sqlite3.Connection, name: str) -> None:
    if not NAME.fullmatch(name):
        raise RefusedError(
            400,
            f"cannot call a device group {name!r}: a name has letters, digits and . _ -,"
            " at most 64, and is not . or ..",
        )
    if _row(db, name) is not None:
        raise RefusedError(409, f"cannot call a device group {name}: there is one of that name")


def _row(db: sqlite3.Connection, name: str) -> sqlite3.Row | None:
    row: sqlite3.Row | None = db.execute(
        "SELECT * FROM device_groups WHERE name = ?", (name,)
    ).fetchone()
    return row


def find(db: sqlite3.Connection, name: str) -> sqlite3.Row:
    """RefusedError: there is none of that name."""
    row = _row(db, name)
    if row is None:
        raise RefusedError(404, f"cannot find the device group {name}: there is none of that name")
    return row


def all_groups(db: sqlite3.Connection) -> list[sqlite3.Row]:
    return db.execute("SELECT * FROM device_groups ORDER BY name").fetchall()


def describe(row: sqlite3.Row) -> dict[str, Any]:
    """As fioctl reads it."""
    meta = {"created-at": rfc3339(row["created_at"]), "updated-at": rfc3339(row["updated_at"])}
    return {
        "id": row["id"],
        "name": row["name"],
        "description": row["description"],
        "change-meta": meta,
    }


def change(
    db: sqlite3.Connection, group: str, name: str | None, description: str | None, now: float
) -> None:
    """A new name takes devices and configuration along; what is None stays.

    Raises:
        RefusedError: no such group, or the name is taken or none.
    """
    row = find(db, group)
    if name is not None and name != group:
        _check_free(db, name)
        configs.hand_over(db, "group", group, name)
        db.execute("UPDATE devices SET group_name = ? WHERE group_name = ?", (name, group))
    db.execute(
        "UPDATE device_groups SET name = ?, description = ?, updated_at = ? WHERE id = ?",
        (
            group if name is None else name,
            row["description"] if description is None else description,
            int(now),
            row["id"],
        ),
    )


def delete(db: sqlite3.Connection, group: str) -> None:
    """With its configuration. RefusedError: no such group, or it has devices."""
    row = find(db, group)
    if db.execute("SELECT 1 FROM devices WHERE group_name = ?", (group,)).fetchone():
        raise RefusedError(409, f"cannot delete the device group {group}: it has devices")
    configs.forget(db, "group", group)
    db.execute("DELETE FROM device_groups WHERE id = ?", (row["id"],))
