"""Remote actions: runs that a device reports, as tests, with the files that they leave.

Answers are update-server's (handlers_fiotest.go, storage_fiotest.go). Artifacts
go to the gateway itself; the cloud may name a store elsewhere.
"""

from __future__ import annotations

import mimetypes
import re
import sqlite3
import uuid as uuids
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from flask import Response, request

from fioagent.factory.fleet.devices import Device
from fioagent.factory.servers.answers import as_json, message, text
from fioagent.factory.servers.incoming import read_json

ID: Final = re.compile(r"[A-Za-z0-9_-]{15,48}")
STATUSES: Final = ("PASSED", "FAILED")


@dataclass(frozen=True, slots=True)
class Run:
    """A run as an operator sees it; an artifact is None until it has arrived."""

    id: str
    name: str
    target: str
    status: str
    details: str
    artifacts: Mapping[str, bytes | None]


def begin(db: sqlite3.Connection, device: Device, knobs: Mapping[str, str], now: float) -> Response:
    """201 and the id as text; ours where the device has named none."""
    del knobs, now
    try:
        body: Any = read_json(request.get_data())
        name, target = str(body["name"]), str(body.get("target", ""))
        identifier = str(body.get("test-id") or uuids.uuid4())
    except (ValueError, TypeError, KeyError, AttributeError):
        return message(400, "Failed to parse request JSON body")
    if not ID.fullmatch(identifier):
        return text(400, f"Invalid test id: {identifier}")
    db.execute(
        "INSERT OR REPLACE INTO tests (uuid, id, name, target) VALUES (?, ?, ?, ?)",
        (device.uuid, identifier, name, target),
    )
    return text(201, identifier)


def end(db: sqlite3.Connection, device: Device, knobs: Mapping[str, str], now: float) -> Response:
    """200 and where each artifact shall go; a status that is none is 500, as update-server."""
    del knobs, now
    test = (request.view_args or {})["test"]
    try:
        body: Any = read_json(request.get_data())
        status, details = str(body["status"]), str(body.get("details", ""))
        names = [str(name) for name in body.get("artifacts") or []]
    except (ValueError, TypeError, KeyError, AttributeError):
        return message(400, "Failed to parse request JSON body")
    if status not in STATUSES:
        return text(500, f"Invalid status: {status}")
    known = db.execute(
        "UPDATE tests SET status = ?, details = ? WHERE uuid = ? AND id = ?",
        (status, details, device.uuid, test),
    ).rowcount
    if not known:
        return text(404, "No such test")
    db.executemany(
        "INSERT OR REPLACE INTO artifacts (uuid, test, name) VALUES (?, ?, ?)",
        [(device.uuid, test, name) for name in names],
    )
    where = f"https://{request.host}/tests/{test}"
    return as_json(
        200,
        {
            name: {
                "url": f"{where}/{quote(name)}",
                "content-type": mimetypes.guess_type(name)[0] or "application/octet-stream",
            }
            for name in names
        },
    )


def receive(
    db: sqlite3.Connection, device: Device, knobs: Mapping[str, str], now: float
) -> Response:
    """Only what was named before."""
    del knobs, now
    parts = request.view_args or {}
    known = db.execute(
        "UPDATE artifacts SET content = ? WHERE uuid = ? AND test = ? AND name = ?",
        (request.get_data(), device.uuid, parts["test"], parts["artifact"]),
    ).rowcount
    return text(200, "OK") if known else text(404, "No such artifact")


def of_device(db: sqlite3.Connection, uuid: str) -> list[Run]:
    """In the order in which they began."""
    return [
        Run(
            row["id"],
            row["name"],
            row["target"],
            row["status"],
            row["details"],
            {
                found["name"]: found["content"]
                for found in db.execute(
                    "SELECT name, content FROM artifacts WHERE uuid = ? AND test = ? ORDER BY name",
                    (uuid, row["id"]),
                )
            },
        )
        for row in db.execute("SELECT * FROM tests WHERE uuid = ? ORDER BY seq", (uuid,))
    ]
