"""Operator API: the configuration of a device, of a device group and of the whole factory."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import partial

from flask import Flask, Response, request

from fioagent.factory.api.devices import DEVICE
from fioagent.factory.api.office import Office, not_found
from fioagent.factory.api.paging import page
from fioagent.factory.errors import RefusedError
from fioagent.factory.fleet import config_log, configs, groups
from fioagent.factory.fleet.configs import Change, ConfigError
from fioagent.factory.fleet.devices import Device
from fioagent.factory.fleet.fioctl import remove_config, write_config
from fioagent.factory.servers.answers import as_json

# The layer and its owner that a path names. RefusedError: there is no such group.
Layer = Callable[..., tuple[str, str]]


def add_routes(app: Flask, office: Office) -> None:
    path = f"{DEVICE}config/"
    office.of_device(app, "GET", path, _log_of_device)
    office.of_device(app, "POST", path, partial(_change_device, replace=True))
    office.of_device(app, "PATCH", path, partial(_change_device, replace=False))
    office.of_device(app, "DELETE", f"{path}<path:name>/", _delete_of_device)
    shared: dict[str, Layer] = {"/config/": _factory, "/device-groups/<group>/config/": _group}
    for path, layer in shared.items():
        office.below_factory(app, "GET", path, partial(_log, layer))
        office.below_factory(app, "POST", path, partial(_change, layer, replace=True))
        office.below_factory(app, "PATCH", path, partial(_change, layer, replace=False))
        office.below_factory(app, "DELETE", f"{path}<path:name>/", partial(_delete, layer))


def _asked() -> Change:
    try:
        return configs.parse_change(request.get_data())
    except ConfigError as error:
        raise RefusedError(400, str(error)) from error


# --- of a device, which may be locked ---


def _log_of_device(db: sqlite3.Connection, device: Device, _now: float) -> Response:
    return page("config", config_log.versions(db, "device", device.uuid), dict)


def _change_device(
    db: sqlite3.Connection, device: Device, now: float, *, replace: bool
) -> Response:
    write_config(db, device, _asked(), now, replace=replace)
    return as_json(201, {})


def _delete_of_device(db: sqlite3.Connection, device: Device, now: float, name: str) -> Response:
    return as_json(200, {}) if remove_config(db, device, name, now) else not_found()


# --- of many devices ---


def _factory(_db: sqlite3.Connection) -> tuple[str, str]:
    return "factory", ""


def _group(db: sqlite3.Connection, group: str) -> tuple[str, str]:
    return "group", groups.find(db, group)["name"]


def _log(layer: Layer, db: sqlite3.Connection, _now: float, **named: str) -> Response:
    return page("config", config_log.versions(db, *layer(db, **named)), dict)


def _change(
    layer: Layer, db: sqlite3.Connection, now: float, *, replace: bool, **named: str
) -> Response:
    configs.put(db, *layer(db, **named), _asked(), now, replace=replace)
    return as_json(201, {})


def _delete(
    layer: Layer, db: sqlite3.Connection, now: float, *, name: str, **named: str
) -> Response:
    gone = configs.remove(db, *layer(db, **named), name, now)
    return as_json(200, {}) if gone else not_found()
