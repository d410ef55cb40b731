"""Operator API: devices, the deny list, and what devices have reported."""

from __future__ import annotations

import sqlite3
from typing import Final

from flask import Flask, Response, request

from fioagent.factory.api.office import Office, not_found
from fioagent.factory.api.paging import page
from fioagent.factory.errors import RefusedError
from fioagent.factory.fleet import devices, events, registry
from fioagent.factory.fleet.devices import Device
from fioagent.factory.fleet.fioctl import describe, describe_whole
from fioagent.factory.servers.answers import as_json, json_object
from fioagent.factory.store import factory_name

DEVICE: Final = "/ota/devices/<device>/"


def add_routes(app: Flask, office: Office) -> None:
    office.of_factory(app, "GET", "/ota/devices/", _list_devices)
    office.of_device(app, "GET", DEVICE, _get_device)
    office.of_device(app, "PATCH", DEVICE, _patch_device)
    office.of_device(app, "DELETE", DEVICE, _delete_device)
    office.of_device(app, "GET", f"{DEVICE}updates/", _get_updates)
    office.of_device(app, "GET", f"{DEVICE}updates/<correlation_id>/", _get_update)
    office.below_factory(app, "GET", "/denied-devices/", _list_denied)
    office.below_factory(app, "DELETE", "/denied-devices/<uuid>/", _allow)


def _list_devices(db: sqlite3.Connection, now: float) -> Response:
    factory = factory_name(db)
    if request.args.get("factory", factory) != factory:
        return not_found()

    def show(uuid: str) -> dict[str, object] | None:
        device = devices.find(db, uuid, now)
        return describe(device, factory) if device else None

    return page("devices", registry.matching(db, request.args), show)


def _get_device(db: sqlite3.Connection, device: Device, _now: float) -> Response:
    return as_json(200, describe_whole(db, device, factory_name(db)))


def _patch_device(db: sqlite3.Connection, device: Device, now: float) -> Response:
    """Name, group, or both; an empty group is none."""
    asked = json_object()
    for field in asked:
        if field not in ("name", "group") or not isinstance(asked[field], str):
            raise RefusedError(400, f"cannot change {field!r}: only name and group, to a text")
    if "name" in asked:
        registry.rename(db, device.uuid, asked["name"])
    if "group" in asked:
        registry.put_into_group(db, device.uuid, asked["group"], now)
    return as_json(200, {})


def _delete_device(db: sqlite3.Connection, device: Device, now: float) -> Response:
    registry.delete(db, device, now)
    return as_json(200, {})


def _get_updates(db: sqlite3.Connection, device: Device, _now: float) -> Response:
    return page("updates", events.updates(db, device.uuid), dict)


def _get_update(
    db: sqlite3.Connection, device: Device, _now: float, correlation_id: str
) -> Response:
    return as_json(200, events.of_device(db, device.uuid, correlation_id))


def _list_denied(db: sqlite3.Connection, _now: float) -> Response:
    return page("devices", registry.denied(db), lambda row: {"uuid": row[0], "name": row[1]})


def _allow(db: sqlite3.Connection, _now: float, uuid: str) -> Response:
    registry.allow(db, uuid)
    return as_json(200, {})
