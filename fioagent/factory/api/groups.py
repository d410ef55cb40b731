"""Operator API: device groups."""

from __future__ import annotations

import sqlite3
from typing import Any, Final

from flask import Flask, Response

from fioagent.factory.api.office import Office
from fioagent.factory.errors import RefusedError
from fioagent.factory.fleet import groups
from fioagent.factory.servers.answers import as_json, json_object

GROUPS: Final = "/device-groups/"


def add_routes(app: Flask, office: Office) -> None:
    office.below_factory(app, "GET", GROUPS, _list_groups)
    office.below_factory(app, "POST", GROUPS, _create)
    office.below_factory(app, "PATCH", f"{GROUPS}<group>/", _change)
    office.below_factory(app, "DELETE", f"{GROUPS}<group>/", _delete)


def _list_groups(db: sqlite3.Connection, _now: float) -> Response:
    """All of them: fioctl does not ask for pages here."""
    return as_json(200, {"groups": [groups.describe(row) for row in groups.all_groups(db)]})


def _create(db: sqlite3.Connection, now: float) -> Response:
    asked = _texts()
    if "name" not in asked:
        raise RefusedError(400, "cannot create a device group: it has no name")
    groups.create(db, asked["name"], asked.get("description", ""), now)
    return as_json(201, groups.describe(groups.find(db, asked["name"])))


def _change(db: sqlite3.Connection, now: float, group: str) -> Response:
    asked = _texts()
    groups.change(db, group, asked.get("name"), asked.get("description"), now)
    return as_json(200, {})


def _delete(db: sqlite3.Connection, _now: float, group: str) -> Response:
    groups.delete(db, group)
    return as_json(200, {})


def _texts() -> dict[str, Any]:
    asked = json_object()
    for field, value in asked.items():
        if field not in ("name", "description") or not isinstance(value, str):
            raise RefusedError(400, f"cannot set {field!r}: only name and description, to a text")
    return asked
