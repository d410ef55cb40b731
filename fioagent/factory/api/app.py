"""The operator API: what fioctl, a registration tool and a person with curl may ask.

Each part of it is a module of its own in this directory that adds its routes.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable
from typing import Final

from flask import Flask, Response, request

from fioagent.factory.api import (
    certs,
    configs,
    devices,
    faults,
    groups,
    oauth,
    queues,
    registration,
    view,
)
from fioagent.factory.api.office import Office
from fioagent.factory.fleet.configs import MAX_LAYER
from fioagent.factory.fleet.oauth import allows, is_token
from fioagent.factory.page import static
from fioagent.factory.servers.answers import message, new_app
from fioagent.factory.servers.traffic import Traffic

PARTS: Final[tuple[Callable[[Flask, Office], None], ...]] = (
    certs.add_routes,
    devices.add_routes,
    configs.add_routes,
    groups.add_routes,
    registration.add_routes,
    oauth.add_routes,
    faults.add_routes,
    queues.add_routes,
    view.add_routes,
)
# Paths that have a way of their own to know who asks, or tell no more than everybody may know.
OPEN: Final[tuple[str, ...]] = (oauth.OPEN, *queues.OPEN)
MAX_BODY: Final = 2 * MAX_LAYER  # bytes; a configuration, with what escaping adds


def create_app(office: Office, traffic: Traffic) -> Flask:
    app = new_app("api", traffic)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    static.add_routes(app)
    token = office.paths.api_token.read_text().strip()

    @app.before_request
    def authenticate() -> Response | None:
        sent = _sent()
        if request.path in static.PATHS or request.path.startswith(OPEN):
            return None
        if hmac.compare_digest(sent, token.encode()):
            return None
        with office.store.read() as db:
            if not is_token(db, sent, office.clock()):
                return message(401, "OSF-TOKEN is missing or wrong")
        if not allows(request.method, request.path):
            return message(403, "The scope of this token is to create a device")
        return None

    for add_routes in PARTS:
        add_routes(app, office)
    return app


def _sent() -> bytes:
    """``OSF-TOKEN``, or as with OAuth ``Authorization: Bearer`` and the token in base64."""
    scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        try:
            return base64.b64decode(encoded, validate=True)
        except ValueError:
            return b""
    return request.headers.get("OSF-TOKEN", "").encode()
