"""The operator API: what fioctl, a registration tool and a person with curl may ask.

Each part of it is a module of its own, ``api_*.py``, that adds its routes.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable
from typing import Final

from flask import Flask, Response, request

from fioagent.factory import api_devices, api_faults, api_queues
from fioagent.factory.answers import message, new_app
from fioagent.factory.office import Office
from fioagent.factory.traffic import Traffic

PARTS: Final[tuple[Callable[[Flask, Office], None], ...]] = (
    api_devices.add_routes,
    api_faults.add_routes,
    api_queues.add_routes,
)
# Paths that have a way of their own to know who asks, or tell no more than everybody may know.
OPEN: Final[tuple[str, ...]] = (*api_queues.OPEN,)


def create_app(office: Office, traffic: Traffic) -> Flask:
    app = new_app("api", traffic)
    token = office.paths.api_token.read_text().strip()

    @app.before_request
    def authenticate() -> Response | None:
        if request.path.startswith(OPEN) or hmac.compare_digest(_sent(), token.encode()):
            return None
        return message(401, "OSF-TOKEN is missing or wrong")

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
