"""The three requests of the certificates' API: what is there, new requests, and a change.

A change is taken whole or refused whole. Functions run inside the caller's transaction; the
API and the operator's commands come through here alike.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from typing import Any, Final

from cryptography import x509

from fioagent.factory.fleet.events import rfc3339
from fioagent.factory.pki import certs
from fioagent.factory.pki import certs_checks as checks
from fioagent.factory.pki.certificates import certificate_pem
from fioagent.factory.pki.certs import ACTIVE, DISABLED, REVOKED, SERVERS, CertsError
from fioagent.factory.pki.forms import Paths
from fioagent.factory.store import factory_name, read_meta, set_meta

# Member of the request for requests, and what the key is for.
WANTED: Final = {"tls-csr": "tls", "ca-csr": "online-ca", "est-tls-csr": "est-tls"}
CHANGEABLE: Final = ("root-crt", "ca-crt", *SERVERS, "ca-revoke-crl")
# fioctl sends them as well; the cloud alone has a say in them.
IGNORED: Final = ("change-meta", "disabled-ca-serials")


def show(db: sqlite3.Connection) -> dict[str, Any] | None:
    """All there is, for GET; None while the factory has the shared PKI."""
    if not certs.is_owned(db):
        return None
    trusted = certs.trusted_cas(db)
    shown: dict[str, Any] = {"ca-crt": "".join(ca.pem for ca in trusted)}
    for name in ("root-crt", *SERVERS):
        found = certs.certificate(db, name)
        shown[name] = certificate_pem(found).decode("ascii") if found else ""
    shown["disabled-ca-serials"] = [ca.serial for ca in trusted if ca.state == DISABLED]
    meta = {f"{what}-at": read_meta(db, f"certs-{what}-at") for what in ("created", "updated")}
    meta |= {f"{what}-by": certs.user_id(db) for what in ("created", "updated")}
    shown["change-meta"] = meta
    return shown


def new_requests(
    db: sqlite3.Connection, paths: Paths, wanted: Mapping[str, object]
) -> dict[str, str]:
    """A certificate request (PEM) for each that is wanted, and a key of the cloud behind it.

    Raises:
        CertsError: not the known members; or it is the first time, or is not, against the facts.
    """
    known = ("first-time-init", *WANTED)
    if set(wanted) - set(known):
        raise CertsError(f"cannot make requests: give an object of {', '.join(known)}")
    if not all(isinstance(value, bool) for value in wanted.values()):
        raise CertsError("cannot make requests: each member has to be true or false")
    first, owned = wanted.get("first-time-init", False), certs.is_owned(db)
    if first and owned:
        raise CertsError("cannot initialize the factory's PKI: it is initialized", status=409)
    if not first and not owned:
        raise CertsError(
            "cannot make requests: the factory's PKI is not initialized",
            "hint: the first time, first-time-init is true",
            status=409,
        )
    return {
        member: certs.request(db, paths, purpose)
        for member, purpose in WANTED.items()
        if wanted.get(member)
    }


def change(db: sqlite3.Connection, paths: Paths, given: Mapping[str, object]) -> None:
    """Take what is given of CHANGEABLE. By the machine's clock, with which TLS verifies as well.

    Raises:
        CertsError: why not; the caller undoes the transaction.
    """
    pems, now = _members(given), time.time()
    if "root-crt" in pems:
        _take_root(db, checks.certificate("root-crt", pems["root-crt"]), now)
    elif not certs.is_owned(db):
        raise CertsError(
            "cannot change the factory's PKI: it has no root of its own, root-crt comes first",
            status=409,
        )
    for name in SERVERS:
        if name in pems:
            _take_server(db, paths, name, checks.certificate(name, pems[name]), now)
    _change_cas(db, paths, pems, now)
    set_meta(db, "certs-updated-at", rfc3339(int(now)))
    certs.changed(db)


def _members(given: Mapping[str, object]) -> Mapping[str, str]:
    """Those that have a value. CertsError: others, or values that are not text."""
    if unknown := set(given) - {*CHANGEABLE, *IGNORED}:
        raise CertsError(
            f"cannot change the factory's PKI: there is no {min(unknown)!r};"
            f" there are {', '.join(CHANGEABLE)}"
        )
    pems: dict[str, str] = {}
    for name in CHANGEABLE:
        value = given.get(name)
        if value is not None and not isinstance(value, str):
            raise CertsError(f"cannot take {name}: it is not text")
        if value:
            pems[name] = value
    if not pems:
        raise CertsError("cannot change the factory's PKI: nothing is given")
    return pems


def _take_root(db: sqlite3.Connection, root: x509.Certificate, now: float) -> None:
    """Once. Nothing of the shared PKI is used from then on."""
    if certs.is_owned(db):
        raise CertsError("cannot take root-crt: the factory's root can be set once", status=409)
    checks.check_root(root, factory_name(db), now)
    db.execute("DELETE FROM certs")
    db.execute("DELETE FROM device_cas")
    certs.put(db, "root-crt", root)
    set_meta(db, "certs-created-at", rfc3339(int(now)))


def _take_server(
    db: sqlite3.Connection, paths: Paths, name: str, server: x509.Certificate, now: float
) -> None:
    checks.check_server(name, server, certs.root(db), now)
    if certs.key_file(paths, name.removesuffix("-crt"), server) is None:
        raise CertsError(f"cannot take {name}: it is not for a key that was requested here")
    certs.put(db, name, server)


def _change_cas(db: sqlite3.Connection, paths: Paths, pems: Mapping[str, str], now: float) -> None:
    """A device CA is lost by a revocation list only, never by leaving it out."""
    listed = {}
    if "ca-revoke-crl" in pems:
        listed = checks.revocations(pems["ca-revoke-crl"], certs.root(db), now)
    there = {ca.serial: ca for ca in certs.device_cas(db)}
    trusted = {serial for serial, ca in there.items() if ca.state != REVOKED}
    if "ca-crt" in pems:
        given = {str(ca.serial_number): ca for ca in checks.certificates("ca-crt", pems["ca-crt"])}
        for serial in trusted - set(given):
            if listed.get(serial) != REVOKED:
                raise CertsError(
                    f"cannot take ca-crt: it leaves out the device CA {serial}, which is not"
                    " revoked"
                )
        for serial, ca in given.items():
            _check_same(there.get(serial), ca)
            if serial not in trusted:  # new, or revoked and wanted back
                _check_given(db, paths, ca, now)
                certs.put_device_ca(db, ca, ACTIVE)
                trusted.add(serial)
    for serial, state in listed.items():
        if serial not in trusted:
            raise CertsError(f"cannot take ca-revoke-crl: there is no device CA {serial}")
        db.execute("UPDATE device_cas SET state = ? WHERE serial = ?", (state, serial))


def _check_given(db: sqlite3.Connection, paths: Paths, ca: x509.Certificate, now: float) -> None:
    ours = certs.key_file(paths, "online-ca", ca) is not None
    owner = "" if ours else f"fio-{certs.user_id(db)}"
    checks.check_device_ca(ca, certs.root(db), factory_name(db), owner, now)


def _check_same(known: certs.DeviceCa | None, ca: x509.Certificate) -> None:
    if known is not None and known.certificate != ca:
        raise CertsError(
            f"cannot take ca-crt: another device CA has the serial number {ca.serial_number}"
        )
