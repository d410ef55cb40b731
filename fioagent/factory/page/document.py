"""The whole factory at a glance: one JSON document, which the page in the browser shows.

Members have the operator API's spelling. Times are unix seconds, but for those of a device's
events, which are as the device wrote them.
"""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

from cryptography import x509

from fioagent.factory.api.office import Office
from fioagent.factory.fleet import configs, devices
from fioagent.factory.fleet.devices import Device
from fioagent.factory.fleet.fioctl import describe
from fioagent.factory.knobs import KNOBS
from fioagent.factory.page import authorities, rotations, sightings
from fioagent.factory.page.authorities import Shown
from fioagent.factory.page.rotations import Rotation
from fioagent.factory.pki import certs
from fioagent.factory.pki.certificates import certificate_pem, key_digest
from fioagent.factory.servers import faults
from fioagent.factory.store import factory_name, read_knobs
from fioagent.factory.urls import last_urls

DEVICES_SHOWN: Final = 200
ROTATIONS_SHOWN: Final = 20
ASKED_SHOWN: Final = 10  # of these; a whole group that is asked would hide those under way

Json = dict[str, Any]


def document(db: sqlite3.Connection, office: Office, find: str, chosen: str) -> Json:
    """As ``docs/factory.md`` describes it; of devices those that have ``find`` in their name.

    The rotation ``chosen``, UUID/ID, is shown however old it is.
    """
    factory = factory_name(db)
    everybody = devices.everybody(db, office.clock())
    found = [each for each in everybody if _is_found(each, find.lower())]
    shown = found[-DEVICES_SHOWN:]  # the newest: those that somebody has just set up
    last = {each.uuid: rotations.latest(db, each) for each in shown}
    urls = last_urls(office.paths)
    return {
        "factory": factory,
        "servers": {name: url for name, url in dataclasses.asdict(urls).items() if url}
        if urls
        else {},
        "authorities": [_authority(each) for each in authorities.of_factory(db)],
        "devices": [
            {
                **_device(db, each, factory),
                "certificate": _certificate(db, each.uuid),
                "rotation": _summary(last[each.uuid]),
            }
            for each in shown
        ],
        "devices-found": len(found),
        "devices-total": len(everybody),
        "rotations": _rotations(db, office, everybody, last.values(), chosen),
        "knobs": [_knob(name, value) for name, value in read_knobs(db).items()],
        "faults": [faults.describe(kept) for kept in faults.all_faults(db)],
    }


def _is_found(device: Device, find: str) -> bool:
    return any(find in text.lower() for text in (device.uuid, device.name, device.group_name))


# --- devices ---


def _device(db: sqlite3.Connection, device: Device, factory: str) -> Json:
    told = describe(device, factory)
    return {
        "uuid": device.uuid,
        "name": told["name"],
        "group": told["device-group"],
        "last-seen": device.last_seen,
        "target": device.target_name,
        "key": _digest(device.public_key),
        "next-key": _digest(device.next_public_key) if device.next_public_key else None,
        "denied-keys": len(devices.denied_keys(db, device.uuid)),
    }


def _certificate(db: sqlite3.Connection, uuid: str) -> Json | None:
    certificate = devices.certificate(db, uuid)
    if certificate is None:
        return None
    issuer = certs.issuer(db, certificate_pem(certificate).decode("ascii"))
    return {**_facts(certificate), "issuer": _serial(issuer.certificate) if issuer else None}


def _summary(rotation: Rotation | None) -> Json | None:
    return {"id": rotation.id, "state": rotation.state} if rotation else None


@lru_cache(maxsize=4096)
def _digest(public_key: str) -> str:
    return key_digest(public_key)


# --- certificates ---


def _authority(shown: Shown) -> Json:
    return {
        "role": shown.role,
        "state": shown.state,
        **_facts(shown.certificate),
        "devices": shown.devices,
    }


def _facts(certificate: x509.Certificate) -> Json:
    return {
        "subject": ", ".join(part.rfc4514_string() for part in certificate.subject),
        "serial": _serial(certificate),
        "not-before": int(certificate.not_valid_before_utc.timestamp()),
        "not-after": int(certificate.not_valid_after_utc.timestamp()),
    }


def _serial(certificate: x509.Certificate) -> str:
    """As openssl shows it."""
    digits = f"{certificate.serial_number:X}"
    return digits.zfill(len(digits) + len(digits) % 2)


# --- rotations ---


def _rotations(
    db: sqlite3.Connection,
    office: Office,
    everybody: Iterable[Device],
    last: Iterable[Rotation | None],
    chosen: str,
) -> list[Json]:
    """Those that are asked for, then by the last word of the device; at the end the chosen one."""
    known = {device.uuid: device for device in everybody}
    asked = [rotation for rotation in last if rotation and rotation.state == "asked"]
    newest = rotations.newest(db, known, ROTATIONS_SHOWN)
    found = [*asked[:ASKED_SHOWN], *newest][:ROTATIONS_SHOWN]
    uuid, _, identifier = chosen.partition("/")
    wanted = rotations.of_id(db, known[uuid], identifier) if uuid in known else None
    if wanted and wanted not in found:
        found.append(wanted)
    seen = sightings.by_device(office.traffic, {rotation.device for rotation in found})
    shown = []
    for rotation in found:
        asked_at = configs.changed_at(db, known[rotation.device])
        requests = sightings.during(rotation, asked_at, seen[rotation.device])
        shown.append(
            {
                **dataclasses.asdict(rotation),
                "to-come": rotation.to_come,
                "requests": [_request(each) for each in requests],
            }
        )
    return shown


def _request(sighting: sightings.Sighting) -> Json:
    request = sighting.request
    return {
        "at": request.at,
        "server": sighting.server,
        "method": request.method,
        "path": request.path,
        "status": request.status,
        "key": request.key,
    }


# --- knobs ---


def _knob(name: str, value: str) -> Json:
    knob = KNOBS[name]
    return {
        "name": name,
        "value": value,
        "default": knob.default,
        "values": knob.values,
        "meaning": knob.meaning,
    }
