"""The metadata that the documents fetch to see whether a device is let in.

The lab has no updates: there is a root of roles, with no keys and no signatures.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Final

from flask import Response

from fioagent.factory.fleet.devices import Device
from fioagent.factory.servers.answers import as_json

PATH: Final = "/repo/1.root.json"
ROLES: Final = ("root", "snapshot", "targets", "timestamp")


def get(db: sqlite3.Connection, device: Device, knobs: Mapping[str, str], now: float) -> Response:
    del db, device, knobs, now
    signed = {
        "_type": "Root",
        "consistent_snapshot": False,
        "expires": "2038-01-19T00:00:00Z",
        "keys": {},
        "roles": {role: {"keyids": [], "threshold": 1} for role in ROLES},
        "version": 1,
    }
    return as_json(200, {"signatures": [], "signed": signed})
