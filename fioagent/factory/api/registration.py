"""Operator API: devices register, as lmp-device-register does it or with a certificate."""

from __future__ import annotations

import sqlite3
from functools import partial

from flask import Flask, Response

from fioagent.factory.api.office import Office
from fioagent.factory.errors import RefusedError
from fioagent.factory.fleet import devices, registration, registry
from fioagent.factory.fleet.fioctl import describe
from fioagent.factory.pki import certs
from fioagent.factory.pki.certificates import as_datetime
from fioagent.factory.servers.answers import as_json, json_object
from fioagent.factory.store import factory_name


def add_routes(app: Flask, office: Office) -> None:
    office.of_factory(app, "POST", "/ota/devices/", partial(_register, office))
    office.of_factory(app, "PUT", "/ota/devices/", _adopt)


def _register(office: Office, db: sqlite3.Connection, now: float) -> Response:
    """201 with the files that the device writes."""
    body = json_object()
    asked = registration.read(body, factory_name(db))
    if body.get("uuid") != asked.identity.uuid:
        raise RefusedError(400, "Invalid 'uuid': it must be the CN of the CSR")
    authority = certs.authority(db, office.paths, "online-ca")
    files = registration.files(asked, authority, certs.root(db), office.gateway(), now)
    registry.add(db, asked.identity, asked.name, asked.group, now, files["client.pem"])
    return as_json(201, files)


def _adopt(db: sqlite3.Connection, now: float) -> Response:
    """201: a device whose certificate somebody else has signed, with one of the device CAs."""
    body = json_object()
    pem, name, group = (body.get(field) or "" for field in ("client.pem", "name", "group"))
    if not pem:
        raise RefusedError(400, "Missing required field 'client.pem'")
    if not all(isinstance(text, str) for text in (pem, name, group)):
        raise RefusedError(400, "Invalid data type: client.pem, name and group are texts")
    factory = factory_name(db)
    identity = registration.read_certificate(pem, factory, as_datetime(now))
    if refusal := certs.registration_refusal(db, pem):
        raise RefusedError(400, f"cannot register client.pem: {refusal}")
    registry.add(db, identity, name or identity.uuid, group, now, pem)
    device = devices.find(db, identity.uuid, now)
    return as_json(201, describe(device, factory) if device else {})
