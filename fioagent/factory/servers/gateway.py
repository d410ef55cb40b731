"""The device gateway: what a device with its certificate may ask.

Where update-server and dg-satellite have an operation, their answers are ours, to the text.
Lock, switch-over and device configuration are the cloud's; see ``devices`` for the rules.
"""

from __future__ import annotations

import calendar
import re
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import replace
from email.utils import formatdate, parsedate
from typing import Final

from flask import Flask, Response, request

from fioagent.factory.fleet import config_log, configs, devices, events, remote_actions
from fioagent.factory.fleet.devices import Admission, Device
from fioagent.factory.fleet.registration import is_prod
from fioagent.factory.pki import certs
from fioagent.factory.queues import notices
from fioagent.factory.servers import tuf_root
from fioagent.factory.servers.answers import as_json, drop, message, new_app, nothing, peer, text
from fioagent.factory.servers.incoming import read_json
from fioagent.factory.servers.tls import Peer
from fioagent.factory.servers.traffic import Traffic
from fioagent.factory.store import Store, read_knobs

Clock = Callable[[], float]
Handler = Callable[[sqlite3.Connection, Device, Mapping[str, str], float], Response]

# Go's RFC1123 with the zones every server knows; fioconfig writes UTC, HTTP has GMT.
HTTP_DATE: Final = re.compile(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d (GMT|UTC)")

# Knob, its value that takes the route away, and the route as the public gateways lack it.
MISSING_ROUTES: Final = {
    ("PATCH", "/device"): ("patch_device", "405"),
    ("GET", "/config-device"): ("config_device", "404"),
    ("GET", "/device"): ("get_device", "404"),
}


def create_app(store: Store, traffic: Traffic, clock: Clock) -> Flask:
    app = new_app("gateway", traffic)

    @app.before_request
    def faults() -> Response | None:
        """Before authentication, which is not run for a route that is not there."""
        with store.read() as db:
            knobs = read_knobs(db)
        knob, value = MISSING_ROUTES.get((request.method, request.path), ("", ""))
        if knob and knobs[knob] == value:
            return message(404, "Not Found") if value == "404" else _not_allowed()
        return _faulty(knobs["gateway_answer"])

    def route(method: str, path: str, handler: Handler) -> None:
        def view(**_parts: str) -> Response:
            return _serve(store, handler, clock)

        app.add_url_rule(
            path, f"{method} {path}", view, methods=[method], provide_automatic_options=False
        )

    route("GET", "/config", get_config)
    route("PATCH", "/config", patch_config)
    route("GET", "/config-device", get_config_device)
    route("GET", "/device", get_device)
    route("PATCH", "/device", patch_device)
    route("POST", "/events", post_events)
    route("POST", "/tests", remote_actions.begin)
    route("PUT", "/tests/<test>", remote_actions.end)
    route("PUT", "/tests/<test>/<path:artifact>", remote_actions.receive)
    route("GET", tuf_root.PATH, tuf_root.get)
    return app


def _faulty(answer: str) -> Response | None:
    if answer == "normal":
        return None
    if answer == "drop":
        return drop()
    if answer == "garbage":
        return Response(b"\x00\xff not what you asked for", 200, content_type="application/json")
    return text(int(answer), "The lab made the gateway answer this")


def _not_allowed() -> Response:
    return message(405, "Method Not Allowed")


def _serve(store: Store, handler: Handler, clock: Clock) -> Response:
    """One request, one transaction: nothing can come between who asks and what is done."""
    client = peer()
    if client is None:
        return text(403, "no client certificate provided")
    with store.write() as db:
        now = clock()  # of two requests the later one has the later time
        ca = certs.issuer(db, client.certificate_pem)
        if ca is None or ca.state == certs.REVOKED:
            return drop()  # the connection is older than the revocation
        knobs = read_knobs(db)
        refusal = _admit(db, client, knobs, now)
        if refusal is not None:
            return refusal
        device = devices.find(db, client.name, now)
        if device is None:
            raise AssertionError(f"{client.name} was admitted and is not there")
        return handler(db, device, knobs, now)


def _admit(
    db: sqlite3.Connection, client: Peer, knobs: Mapping[str, str], now: float
) -> Response | None:
    wait_s = devices.over_limit(db, client.name, int(knobs["rate_limit_per_minute"]), now)
    if wait_s:
        answer = text(429, "Too many requests")
        answer.headers["Retry-After"] = str(wait_s)
        return answer
    if not (devices.is_known(db, client.name) or devices.is_denied(db, client.name)):
        refusal = certs.registration_refusal(db, client.certificate_pem)
        if not devices.UUID.fullmatch(client.name):
            refusal = "its CN has other characters than letters, digits and hyphens"
        if refusal:
            return text(403, f"Device({client.name}) cannot be registered: {refusal}")
    admission = devices.admit(db, client.name, client.public_key, knobs, now)
    if refused := _refused_by(admission, client.name, knobs):
        return refused
    if admission is Admission.REGISTERED and is_prod(client.certificate.subject):
        devices.mark_prod(db, client.name)
    headers = {k.lower(): v for k, v in request.headers}
    devices.saw(db, client.name, client.certificate_pem, headers, now)
    if admission is Admission.SWITCHED and knobs["switch_lose_answer"] == "on":
        return drop()
    return None


def _refused_by(admission: Admission, uuid: str, knobs: Mapping[str, str]) -> Response | None:
    if admission is Admission.DENIED:
        return text(403, f"Device({uuid}) is on the denied list")
    if admission is Admission.OLD_KEY:
        return _refused(knobs["old_key"], f"The key of Device({uuid}) has been replaced")
    if admission is Admission.UNANNOUNCED_KEY:
        return _refused(knobs["unannounced_key"], f"The key of Device({uuid}) is not known")
    return None


def _refused(how: str, reason: str) -> Response:
    if how == "drop":
        return drop()
    if how == "502":
        # What both public gateways say to any key but the first.
        return text(502, "Key rotation is not supported")
    return text(int(how), reason)


def get_config(
    db: sqlite3.Connection, device: Device, knobs: Mapping[str, str], now: float
) -> Response:
    """204: nothing was ever set. 304: not newer. 200: with the change's time as Date."""
    notices.config_asked(db, device.uuid, _if_modified_since(), now)
    changed_at = configs.changed_at(db, device)
    if not changed_at:
        return nothing(204)
    if changed_at <= _if_modified_since():
        return nothing(304)
    notices.config_offered(db, device.uuid, changed_at)
    before_patch = knobs["config_while_locked"] == "old" and device.next_public_key is not None
    answer = as_json(200, configs.merged(db, device, before_patch=before_patch))
    config_log.applied(db, device.uuid, now)
    # update-server writes Go's RFC1123 in UTC, which ends in UTC where HTTP has GMT.
    answer.headers["Date"] = formatdate(changed_at, usegmt=True).replace("GMT", "UTC")
    return answer


def _if_modified_since() -> int:
    """Unix seconds; -1 if absent or not understood, which both public gateways ignore."""
    value = request.headers.get("If-Modified-Since", "")
    parsed = parsedate(value) if HTTP_DATE.fullmatch(value) else None
    return calendar.timegm(parsed) if parsed else -1


def get_config_device(
    db: sqlite3.Connection, device: Device, knobs: Mapping[str, str], now: float
) -> Response:
    """Only the device layer; 204 if there is none (cloud only)."""
    del knobs, now
    own = configs.entries(db, "device", device.uuid)
    return as_json(200, own) if own else nothing(204)


def patch_config(
    db: sqlite3.Connection, device: Device, knobs: Mapping[str, str], now: float
) -> Response:
    """The device's own change (cloud only): merged, 201 as the init call wants.

    While the device is locked only values for the announced key make sense.
    """
    if knobs["gateway_patch_config"] == "500":
        return text(500, "The lab made the gateway answer this")
    try:
        change = configs.parse_change(request.get_data(), by=device.uuid)
        public_key = change.public_key and devices.normal_key(change.public_key)
    except ValueError as error:
        return message(400, str(error))

    awaited = {device.next_public_key} if device.next_public_key else {device.public_key, ""}
    if public_key not in awaited and knobs["foreign_public_key"] == "409":
        return message(409, "public-key is not the key that the configuration must be for")
    if device.next_public_key is not None:
        configs.keep_before_patch(db, device)
    configs.put(db, "device", device.uuid, replace(change, public_key=public_key), now)
    if knobs["gateway_patch_config"] == "drop-after":
        return drop()
    return as_json(201, {})


def get_device(
    db: sqlite3.Connection, device: Device, knobs: Mapping[str, str], now: float
) -> Response:
    """As update-server. The announced key is not shown: no source says that it would be."""
    del db, knobs, now
    return as_json(
        200,
        {
            "uuid": device.uuid,
            "docker_apps": device.docker_apps,
            "group_name": device.group_name,
            "last_seen": device.last_seen,
            "ostree_hash": device.ostree_hash,
            "pubkey": device.public_key,
            "target_name": device.target_name,
            "tag": device.tag,
            "update_name": "",
        },
    )


def patch_device(
    db: sqlite3.Connection, device: Device, knobs: Mapping[str, str], now: float
) -> Response:
    """The lock (cloud only). Success is 200 exactly."""
    try:
        next_key = read_json(request.get_data())["next_pubkey"]
        if not isinstance(next_key, str):
            raise TypeError("not text")
    except (ValueError, TypeError, KeyError):
        return message(400, "Failed to parse request JSON body")
    try:
        devices.lock(db, device, next_key, knobs, now)
    except devices.LockRefusedError as refused:
        return message(refused.status, str(refused))
    return drop() if knobs["patch_device_lose_answer"] == "on" else as_json(200, {})


def post_events(
    db: sqlite3.Connection, device: Device, knobs: Mapping[str, str], now: float
) -> Response:
    """200 with an empty body for any list of events, even if all of them were dropped."""
    del knobs
    try:
        posted = events.parse(request.get_data(), now)
    except events.EventsError as error:
        return message(400, str(error))
    notices.updates_reported(db, device.uuid, posted, now)
    events.add(db, device.uuid, posted)
    return text(200, "")
