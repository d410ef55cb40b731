"""The operator API: what fioctl, a registration tool and a person with curl may ask.

Each part of it is a module of its own, ``api_*.py``, that adds its routes.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable
from typing import Final

from flask import Flask, Response, request

from fioagent.factory import (
    api_certs,
    api_configs,
    api_devices,
    api_faults,
    api_groups,
    api_oauth,
    api_queues,
    api_registration,
    api_view,
    configs,
    oauth,
    static,
)
from fioagent.factory.answers import message, new_app
from fioagent.factory.office import Office
from fioagent.factory.traffic import Traffic

PARTS: Final[tuple[Callable[[Flask, Office], None], ...]] = (
    api_certs.add_routes,
    api_devices.add_routes,
    api_configs.add_routes,
    api_groups.add_routes,
    api_registration.add_routes,
    api_oauth.add_routes,
    api_faults.add_routes,
    api_queues.add_routes,
    api_view.add_routes,
)
# Paths that have a way of their own to know who asks, or tell no more than everybody may know.
OPEN: Final[tuple[str, ...]] = (api_oauth.OPEN, *api_queues.OPEN)
MAX_BODY: Final = 2 * configs.MAX_LAYER  # bytes; a configuration, with what escaping adds


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
            if not oauth.is_token(db, sent, office.clock()):
                return message(401, "OSF-TOKEN is missing or wrong")
        if not oauth.allows(request.method, request.path):
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
