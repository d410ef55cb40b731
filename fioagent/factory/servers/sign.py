"""A registration server of the operator's own: POST /sign, as factory-registration-ref has it.

It signs with the local device CA and asks nobody who he is: whoever reaches it has a device.
So it listens only where it was told to.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from flask import Flask, Response, request

from fioagent.factory.api.office import Office
from fioagent.factory.errors import RefusedError
from fioagent.factory.fleet import registration, registry
from fioagent.factory.pki import certs
from fioagent.factory.servers.answers import as_json, json_object, message, new_app
from fioagent.factory.servers.traffic import Traffic
from fioagent.factory.store import factory_name, read_knobs

PATH: Final = "/sign"


def create_app(office: Office, traffic: Traffic) -> Flask:
    app = new_app("sign", traffic)

    @app.post(PATH)
    def sign() -> Response:
        if not request.is_json:
            return message(415, "Unsupported Media Type")
        with office.store.write() as db:
            return _sign(office, db, office.clock())

    return app


def _sign(office: Office, db: sqlite3.Connection, now: float) -> Response:
    body = json_object()
    if body.get("group"):
        # Nobody has shown who he is: a group could bring another group's secrets.
        raise RefusedError(400, "Registration-reference does not support 'group' field")
    asked = registration.read(body, factory_name(db))
    authority = certs.authority(db, office.paths, "local-ca")
    certs.check_may_issue(db, authority.certificate)
    files = registration.files(asked, authority, certs.root(db), office.gateway(), now)
    if read_knobs(db)["sign_registers"] == "on":
        registry.add(db, asked.identity, asked.name, "", now, files["client.pem"])
    return as_json(201, files)
