"""Operator API: what the page in the browser asks, and what its buttons do.

``GET /control/view`` is asked each second, so an answer that would say nothing new is a 304
that looks at two counters only.
"""

from __future__ import annotations

import secrets
import sqlite3

from flask import Flask, Response, request

from fioagent.factory.api.office import Office, not_found
from fioagent.factory.errors import RefusedError
from fioagent.factory.fleet.configs import Change
from fioagent.factory.fleet.devices import Device
from fioagent.factory.fleet.fioctl import rotate_entries, write_config
from fioagent.factory.knobs import KNOBS, KnobError
from fioagent.factory.page.document import document
from fioagent.factory.page.sightings import SERVERS
from fioagent.factory.servers.answers import as_json, message, nothing, quietly
from fioagent.factory.servers.incoming import read_json
from fioagent.factory.store import read_knobs, reset_knobs, set_knob
from fioagent.factory.urls import last_urls


def add_routes(app: Flask, office: Office) -> None:
    this_run = secrets.token_hex(4)  # the counters begin anew

    def view() -> Response:
        tag = f"{this_run}-{_version(office)}"
        if tag in request.if_none_match.as_set(include_weak=True):
            return quietly(_tagged(nothing(304), tag))
        with office.store.read() as db:
            args = request.args
            shown = document(db, office, args.get("find", ""), args.get("rotation", ""))
        return quietly(_tagged(as_json(200, shown), tag))

    def rotate(db: sqlite3.Connection, device: Device, now: float) -> Response:
        return _rotate(db, device, now, office)

    app.add_url_rule("/control/view", "GET /control/view", view, methods=["GET"])
    office.of_factory(app, "PUT", "/control/knobs/<name>", _put_knob)
    office.of_factory(app, "DELETE", "/control/knobs", _delete_knobs)
    office.of_device(app, "POST", "/control/devices/<device>/rotate", rotate)


def _version(office: Office) -> str:
    """Before the look itself: what changes between the two is looked at again."""
    seen = sum(office.traffic[name].seen for name in SERVERS if name in office.traffic)
    version = office.store.version()
    with office.store.read() as db:
        lapses = read_knobs(db)["lock_lifetime_s"] != "0"
    # A lock that lapses by itself leaves no trace anywhere but in the time.
    return f"{version}-{seen}-{int(office.clock()) if lapses else 0}"


def _tagged(answer: Response, tag: str) -> Response:
    answer.set_etag(tag)
    return answer


def _put_knob(db: sqlite3.Connection, _now: float, name: str) -> Response:
    if name not in KNOBS:
        return not_found()
    try:
        body = read_json(request.get_data())
        value = body["value"]
        if not isinstance(value, str):
            raise TypeError("not text")
    except (ValueError, TypeError, KeyError):
        return message(400, f'cannot set {name}: the body has to be {{"value": "..."}}')
    try:
        set_knob(db, name, value)
    except KnobError as error:
        return message(400, str(error))
    return as_json(200, {"name": name, "value": value})


def _delete_knobs(db: sqlite3.Connection, _now: float) -> Response:
    reset_knobs(db)
    return as_json(200, {})


def _rotate(db: sqlite3.Connection, device: Device, now: float, office: Office) -> Response:
    """As ``fioctl devices config rotate-certs`` asks for it, with this factory's EST server."""
    urls = last_urls(office.paths)
    if urls is None:
        raise RefusedError(503, "cannot ask for a rotation: the servers are only starting")
    rotation_id = f"certs-{int(now)}"
    entries = rotate_entries(urls.est, rotation_id)
    write_config(db, device, Change(entries, "Asked for on the page"), now)
    return as_json(201, {"id": rotation_id})
