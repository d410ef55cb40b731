"""Operator API: the factory's faults. No cloud has this.

GET    /control/faults/       all, each with "id", "hits" and "description"
POST   /control/faults/       {"action": ..., ...}: 201 {"id": ...}
DELETE /control/faults/       all of them
DELETE /control/faults/ID/    one
"""

from __future__ import annotations

import sqlite3
from typing import Final

from flask import Flask, Response

from fioagent.factory.api.office import Office
from fioagent.factory.servers import faults
from fioagent.factory.servers.answers import as_json, json_object

FAULTS: Final = "/control/faults/"


def add_routes(app: Flask, office: Office) -> None:
    office.of_factory(app, "GET", FAULTS, _list)
    office.of_factory(app, "POST", FAULTS, _add)
    office.of_factory(app, "DELETE", FAULTS, _clear)
    office.of_factory(app, "DELETE", f"{FAULTS}<int:identifier>/", _remove)


def _list(db: sqlite3.Connection, _now: float) -> Response:
    return as_json(200, {"faults": [faults.describe(kept) for kept in faults.all_faults(db)]})


def _add(db: sqlite3.Connection, _now: float) -> Response:
    return as_json(201, {"id": faults.add(db, faults.parse(json_object()))})


def _clear(db: sqlite3.Connection, _now: float) -> Response:
    return as_json(200, {"removed": faults.clear(db)})


def _remove(db: sqlite3.Connection, _now: float, identifier: int) -> Response:
    faults.remove(db, identifier)
    return as_json(200, {})
