"""Operator API: the factory's certificates, and who asks."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from typing import Final

from flask import Flask, Response, request

from fioagent.factory import certs, certs_change
from fioagent.factory.answers import as_json, message
from fioagent.factory.certs import CertsError
from fioagent.factory.office import Office, not_found
from fioagent.factory.store import factory_name

CERTS: Final = "/ota/factories/<factory>/certs/"
USER: Final = "/ota/factories/<factory>/users/self/"
NOT_CONFIGURED: Final = "The factory's PKI is not configured"


def add_routes(app: Flask, office: Office) -> None:
    def post(db: sqlite3.Connection, _now: float) -> Response:
        return as_json(201, certs_change.new_requests(db, office.paths, _body()))

    def patch(db: sqlite3.Connection, now: float) -> Response:
        certs_change.change(db, office.paths, _body(), now)
        return as_json(200, {})

    for method, path, handler in (
        ("GET", CERTS, _get),
        ("POST", CERTS, post),
        ("PATCH", CERTS, patch),
        ("GET", USER, _get_user),
    ):
        office.of_factory(app, method, path, _of_this_factory(handler))
    app.register_error_handler(CertsError, _refused)


def _of_this_factory(
    handler: Callable[[sqlite3.Connection, float], Response],
) -> Callable[..., Response]:
    def checked(db: sqlite3.Connection, now: float, factory: str) -> Response:
        return handler(db, now) if factory == factory_name(db) else not_found()

    return checked


def _refused(error: CertsError) -> Response:
    """Outside the transaction, which is undone by then."""
    return message(error.status, str(error))


def _get(db: sqlite3.Connection, _now: float) -> Response:
    """By 206 fioctl knows that nobody has taken ownership yet."""
    shown = certs_change.show(db)
    return message(206, NOT_CONFIGURED) if shown is None else as_json(200, shown)


def _get_user(db: sqlite3.Connection, _now: float) -> Response:
    """The lab has one user; fioctl names the local CA after the id."""
    return as_json(200, {"polis-id": certs.user_id(db), "name": "operator", "role": "owner"})


def _body() -> object:
    try:
        body: object = json.loads(request.get_data())
    except (ValueError, RecursionError) as error:
        raise CertsError("cannot read the request: the body is not JSON") from error
    return body
