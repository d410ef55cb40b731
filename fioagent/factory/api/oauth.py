"""OAuth for devices, as lmp-device-register asks for a token; and the operator's word."""

from __future__ import annotations

import sqlite3
from typing import Final

from flask import Flask, Response, request

from fioagent.factory.api.office import Office
from fioagent.factory.errors import RefusedError
from fioagent.factory.fleet import oauth
from fioagent.factory.fleet.oauth import OAuthError
from fioagent.factory.servers.answers import as_json, json_object, text

OPEN: Final = "/oauth/"  # below it nobody has a token yet
PAGE: Final = f"{OPEN}device/"


def add_routes(app: Flask, office: Office) -> None:
    app.register_error_handler(OAuthError, _refused)
    app.add_url_rule(PAGE, PAGE, _page, methods=["GET"])
    office.of_factory(app, "POST", f"{OPEN}authorization/device/", _begin)
    office.of_factory(app, "POST", f"{OPEN}token/", _redeem)
    # The cloud has a page for people here. This part is ours.
    office.below_factory(app, "GET", "/oauth/", _list_waiting)
    office.below_factory(app, "PATCH", "/oauth/<user_code>/", _decide)


def _refused(error: OAuthError) -> Response:
    return as_json(400, {"error": error.code, "error_description": str(error)})


def _page() -> Response:
    """What a person finds who opens the address that the device has shown."""
    return text(200, "To let the device register: fioagent-factory oauth approve DIR USER_CODE\n")


def _begin(db: sqlite3.Connection, now: float) -> Response:
    form = request.form
    codes = oauth.begin(db, form.get("client_id", ""), form.get("scope", ""), now)
    return as_json(
        200,
        {
            "device_code": codes.device_code,
            "user_code": codes.user_code,
            "verification_uri": request.host_url.rstrip("/") + PAGE,
            "expires_in": oauth.REQUEST_LIFE_S,
            "interval": oauth.INTERVAL_S,
        },
    )


def _redeem(db: sqlite3.Connection, now: float) -> Response:
    form = request.form
    if form.get("grant_type") != oauth.GRANT:
        raise OAuthError("unsupported_grant_type", f"grant_type must be {oauth.GRANT}")
    token = oauth.redeem(db, form.get("device_code", ""), form.get("client_id", ""), now)
    return as_json(
        200,
        {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": oauth.TOKEN_LIFE_S,
            "scope": oauth.scope_of(db),
        },
    )


def _list_waiting(db: sqlite3.Connection, now: float) -> Response:
    return as_json(200, {"requests": [each._asdict() for each in oauth.waiting(db, now)]})


def _decide(db: sqlite3.Connection, now: float, user_code: str) -> Response:
    approved = json_object().get("approved")
    if not isinstance(approved, bool):
        raise RefusedError(400, "cannot decide: approved must be true or false")
    oauth.decide(db, user_code, now, approved=approved)
    return as_json(200, {})
