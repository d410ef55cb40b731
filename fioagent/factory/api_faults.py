"""Operator API: the factory's faults. No cloud has this.

GET    /control/faults/       all, each with "id", "hits" and "description"
POST   /control/faults/       {"action": ..., ...}: 201 {"id": ...}
DELETE /control/faults/       all of them
DELETE /control/faults/ID/    one
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any, Final

from flask import Flask, Response, request

from fioagent.factory import faults
from fioagent.factory.answers import as_json, message
from fioagent.factory.faults import FaultError
from fioagent.factory.office import Office, not_found

FAULTS: Final = "/control/faults/"


def add_routes(app: Flask, office: Office) -> None:
    office.of_factory(app, "GET", FAULTS, _list)
    office.of_factory(app, "POST", FAULTS, _add)
    office.of_factory(app, "DELETE", FAULTS, _clear)
    office.of_factory(app, "DELETE", f"{FAULTS}<identifier>/", _remove)


def _list(db: sqlite3.Connection, _now: float) -> Response:
    return as_json(200, {"faults": [faults.describe(kept) for kept in faults.all_faults(db)]})


def _add(db: sqlite3.Connection, _now: float) -> Response:
    try:
        asked: Any = json.loads(request.get_data())
        if not isinstance(asked, dict):
            raise TypeError("not an object")
        return as_json(201, {"id": faults.add(db, faults.parse(asked))})
    except FaultError as refused:
        return message(400, str(refused))
    except (ValueError, TypeError, RecursionError):
        return message(400, "Failed to parse request JSON body")


def _clear(db: sqlite3.Connection, _now: float) -> Response:
    return as_json(200, {"removed": faults.clear(db)})


def _remove(db: sqlite3.Connection, _now: float, identifier: str) -> Response:
    known = identifier.isascii() and identifier.isdigit() and len(identifier) < 19
    return as_json(200, {}) if known and faults.remove(db, int(identifier)) else not_found()
