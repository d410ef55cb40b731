"""Operator API: the factory's certificates, and who asks."""

from __future__ import annotations

import sqlite3
from typing import Final

from flask import Flask, Response

from fioagent.factory.api.office import Office
from fioagent.factory.pki import certs, certs_change
from fioagent.factory.servers.answers import as_json, json_object, message

NOT_CONFIGURED: Final = "The factory's PKI is not configured"


def add_routes(app: Flask, office: Office) -> None:
    def post(db: sqlite3.Connection, _now: float) -> Response:
        return as_json(201, certs_change.new_requests(db, office.paths, json_object()))

    def patch(db: sqlite3.Connection, _now: float) -> Response:
        certs_change.change(db, office.paths, json_object())
        return as_json(200, {})

    office.below_factory(app, "GET", "/certs/", _get)
    office.below_factory(app, "POST", "/certs/", post)
    office.below_factory(app, "PATCH", "/certs/", patch)
    office.below_factory(app, "GET", "/users/self/", _get_user)


def _get(db: sqlite3.Connection, _now: float) -> Response:
    """By 206 fioctl knows that nobody has taken ownership yet."""
    shown = certs_change.show(db)
    return message(206, NOT_CONFIGURED) if shown is None else as_json(200, shown)


def _get_user(db: sqlite3.Connection, _now: float) -> Response:
    """The lab has one user; fioctl names the local CA after the id."""
    return as_json(200, {"polis-id": certs.user_id(db), "name": "operator", "role": "owner"})
