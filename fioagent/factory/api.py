"""The operator API, as far as fioctl needs it for one device."""

from __future__ import annotations

import hmac
import sqlite3
from collections.abc import Callable
from typing import Final

from flask import Flask, Response, request

from fioagent.factory import configs, devices, events
from fioagent.factory.answers import as_json, message, new_app
from fioagent.factory.devices import Device
from fioagent.factory.errors import LockedError
from fioagent.factory.fioctl import describe, remove_config, write_config
from fioagent.factory.gateway import Clock
from fioagent.factory.pki import Paths
from fioagent.factory.store import Store, factory_name
from fioagent.factory.traffic import Traffic

DEVICE: Final = "/ota/devices/<uuid>/"


def create_app(store: Store, traffic: Traffic, paths: Paths, clock: Clock) -> Flask:
    app = new_app("api", traffic)
    token = paths.api_token.read_text().strip()

    @app.before_request
    def authenticate() -> Response | None:
        sent = request.headers.get("OSF-TOKEN", "")
        if not hmac.compare_digest(sent.encode(), token.encode()):
            return message(401, "OSF-TOKEN is missing or wrong")
        return None

    @app.get("/ota/devices/")
    def list_devices() -> Response:
        with store.write() as db:
            return _list_devices(db, clock())

    def route(method: str, path: str, handler: Callable[..., Response]) -> None:
        def view(uuid: str, **named: str) -> Response:
            now = clock()
            with store.write() as db:
                device = devices.find(db, uuid, now)
                return handler(db, device, now, **named) if device else _not_found()

        app.add_url_rule(path, f"{method} {path}", view, methods=[method])

    route("GET", DEVICE, _get_device)
    route("GET", f"{DEVICE}config/", _get_config)
    route("PATCH", f"{DEVICE}config/", _patch_config)
    route("DELETE", f"{DEVICE}config/<path:name>/", _delete_config)
    route("GET", f"{DEVICE}updates/", _get_updates)
    route("GET", f"{DEVICE}updates/<correlation_id>/", _get_update)
    return app


def _not_found() -> Response:
    return message(404, "Not Found")


def _list_devices(db: sqlite3.Connection, now: float) -> Response:
    name = factory_name(db)
    if request.args.get("factory", name) != name:
        return _not_found()
    found = [devices.find(db, uuid, now) for uuid in devices.all_uuids(db)]
    shown = [describe(device, name) for device in found if device]
    return as_json(200, {"devices": shown, "total": len(shown), "next": None})


def _get_device(db: sqlite3.Connection, device: Device, _now: float) -> Response:
    return as_json(200, describe(device, factory_name(db)))


def _get_config(db: sqlite3.Connection, device: Device, _now: float) -> Response:
    return as_json(200, configs.entries(db, "device", device.uuid))


def _patch_config(db: sqlite3.Connection, device: Device, now: float) -> Response:
    try:
        files, public_key = configs.parse_change(request.get_data())
        write_config(db, device, files, now, public_key)
    except configs.ConfigError as error:
        return message(400, str(error))
    except LockedError as locked:
        # What fioctl shows of a refusal is this member.
        return message(409, str(locked))
    return as_json(201, {})


def _delete_config(db: sqlite3.Connection, device: Device, now: float, name: str) -> Response:
    try:
        return as_json(200, {}) if remove_config(db, device, name, now) else _not_found()
    except LockedError as locked:
        return message(409, str(locked))


def _get_updates(db: sqlite3.Connection, device: Device, _now: float) -> Response:
    updates = events.updates(db, device.uuid)
    return as_json(200, {"updates": updates, "total": len(updates), "next": None})


def _get_update(
    db: sqlite3.Connection, device: Device, _now: float, correlation_id: str
) -> Response:
    return as_json(200, events.of_device(db, device.uuid, correlation_id))
