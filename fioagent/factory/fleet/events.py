"""Update events: what a device may post, and how ``fioctl devices updates`` shows it."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any, Final

CORRELATION_ID: Final = re.compile(r"[a-zA-Z0-9_\-]+")
RFC3339: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)")
UPDATES_KEPT: Final = 20  # correlation ids per device, as update-server
# What a rotation tells: the names that fioctl's users know, and an end that fioconfig itself
# never reports.
ROTATION: Final = (
    "CertRotationStarted",
    "Generate new certificate",
    "Lock device configuration on server",
    "Update local configuration with new key",
    "Update device specific configuration on server with new key",
    "Finalize aktualizr configuration",
    "CertRotationCompleted",
)


class EventsError(ValueError):
    """The body as a whole is not a list of events."""


def parse(body: bytes, now: float) -> list[dict[str, Any]]:
    """The events in ``body`` that the public gateways would keep.

    An item without an id or with an unfit correlation id is dropped in silence, so 200 does
    not mean stored; a bad time becomes the present one.

    Raises:
        EventsError: not a JSON array, or of something that no Go program would read.
    """
    try:
        items: Any = json.loads(body)
        if not isinstance(items, list):
            raise TypeError("not an array")
        parsed = [_event(item, now) for item in items]
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise EventsError("Failed to parse request JSON body") from error
    return [event for event in parsed if _is_kept(event)]


def _event(item: dict[str, Any], now: float) -> dict[str, Any]:
    event = item.get("event", {})
    texts = (item.get("id", ""), event.get("correlationId", ""), item.get("deviceTime", ""))
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("not text")
    "".join(texts).encode()  # half of a surrogate pair is a ValueError
    time = item.get("deviceTime", "")
    return {
        "id": item.get("id", ""),
        "deviceTime": time if _is_time(time) else rfc3339(now),
        "event": dict(event),
        "eventType": dict(item.get("eventType", {})),
    }


def _is_kept(event: Mapping[str, Any]) -> bool:
    correlation_id = event["event"].get("correlationId", "")
    return bool(event["id"]) and CORRELATION_ID.fullmatch(correlation_id) is not None


def _is_time(text: str) -> bool:
    match = RFC3339.fullmatch(text)
    if match is None:
        return False
    try:
        datetime.fromisoformat(match[1])
    except ValueError:
        return False
    return True


def rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def add(db: sqlite3.Connection, uuid: str, events: Iterable[Mapping[str, Any]]) -> None:
    """Stored once each: a client that lost our answer posts the same id again."""
    for event in events:
        db.execute(
            "INSERT OR IGNORE INTO events (uuid, id, correlation_id, event) VALUES (?, ?, ?, ?)",
            (uuid, event["id"], event["event"]["correlationId"], json.dumps(event)),
        )
    db.execute(
        "DELETE FROM events WHERE uuid = ? AND correlation_id NOT IN (SELECT correlation_id"
        " FROM events WHERE uuid = ? GROUP BY correlation_id ORDER BY max(seq) DESC LIMIT ?)",
        (uuid, uuid, UPDATES_KEPT),
    )


def of_device(
    db: sqlite3.Connection, uuid: str, correlation_id: str | None = None
) -> list[dict[str, Any]]:
    """In order of arrival; of one update if named."""
    rows = db.execute(
        "SELECT event FROM events WHERE uuid = ? AND (? IS NULL OR correlation_id = ?)"
        " ORDER BY seq",
        (uuid, correlation_id, correlation_id),
    )
    return [json.loads(row["event"]) for row in rows]


def updates(db: sqlite3.Connection, uuid: str) -> list[dict[str, str]]:
    """The updates of a device, newest first, each as its first event has it."""
    rows = db.execute(
        "SELECT event FROM events WHERE seq IN (SELECT min(seq) FROM events WHERE uuid = ?"
        " GROUP BY correlation_id) ORDER BY seq DESC",
        (uuid,),
    )
    return [_update(json.loads(row["event"])) for row in rows]


def _update(event: Mapping[str, Any]) -> dict[str, str]:
    inner = event["event"]
    return {
        "correlation-id": inner["correlationId"],
        "target": str(inner.get("targetName", "")),
        "version": str(inner.get("version", "")),
        "time": event["deviceTime"],
    }


def format_events(events: Iterable[Mapping[str, Any]]) -> str:
    """The lines of ``fioctl devices updates <device> <id>``."""
    lines: list[str] = []
    for event in events:
        inner = event["event"]
        result = "Succeed" if inner.get("success") else "Failed!"
        name = event["eventType"].get("id", "")
        lines.append(f"{event['deviceTime']} : {name}({inner.get('targetName', '')}) -> {result}")
        if inner.get("details"):
            lines.append(" Details:")
            lines += [f" | {line}" for line in str(inner["details"]).splitlines()]
    return "\n".join(lines)
