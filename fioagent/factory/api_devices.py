"""Operator API: devices, their configuration and their updates."""

from __future__ import annotations

import sqlite3
from typing import Final

from flask import Flask, Response, request

from fioagent.factory import configs, devices, events
from fioagent.factory.answers import as_json, message
from fioagent.factory.devices import Device
from fioagent.factory.errors import LockedError
from fioagent.factory.fioctl import describe, remove_config, write_config
from fioagent.factory.office import Office, not_found
from fioagent.factory.store import factory_name

DEVICE: Final = "/ota/devices/<uuid>/"


def add_routes(app: Flask, office: Office) -> None:
    office.of_factory(app, "GET", "/ota/devices/", _list_devices)
    office.of_device(app, "GET", DEVICE, _get_device)
    office.of_device(app, "GET", f"{DEVICE}config/", _get_config)
    office.of_device(app, "PATCH", f"{DEVICE}config/", _patch_config)
    office.of_device(app, "DELETE", f"{DEVICE}config/<path:name>/", _delete_config)
    office.of_device(app, "GET", f"{DEVICE}updates/", _get_updates)
    office.of_device(app, "GET", f"{DEVICE}updates/<correlation_id>/", _get_update)


def _list_devices(db: sqlite3.Connection, now: float) -> Response:
    name = factory_name(db)
    if request.args.get("factory", name) != name:
        return not_found()
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
        return as_json(200, {}) if remove_config(db, device, name, now) else not_found()
    except LockedError as locked:
        return message(409, str(locked))


def _get_updates(db: sqlite3.Connection, device: Device, _now: float) -> Response:
    updates = events.updates(db, device.uuid)
    return as_json(200, {"updates": updates, "total": len(updates), "next": None})


def _get_update(
    db: sqlite3.Connection, device: Device, _now: float, correlation_id: str
) -> Response:
    return as_json(200, events.of_device(db, device.uuid, correlation_id))
