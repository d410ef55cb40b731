"""The EST server: /cacerts, /simpleenroll and /simplereenroll.

Its rules are those of foundriesio/estserver; the form of its answers is by default what
RFC 7030 asks for, and estserver's own with the knob est_success=201. It knows no deny list:
a replaced key may enrol, as with estserver.
"""

from __future__ import annotations

import base64
import sqlite3
import textwrap
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.x509.oid import ExtensionOID, NameOID
from flask import Flask, Response, request

from fioagent.factory.fleet import devices
from fioagent.factory.pki import certs
from fioagent.factory.pki.certificates import (
    SERVER_AUTH,
    Authority,
    Extension,
    Validity,
    as_datetime,
    new_key,
    validity,
)
from fioagent.factory.pki.certs import CertsError
from fioagent.factory.pki.csr import CsrError, check_same_device, check_signature, decode
from fioagent.factory.pki.forms import Paths
from fioagent.factory.servers.answers import drop, new_app, peer, text
from fioagent.factory.servers.gateway import Clock
from fioagent.factory.servers.tls import Peer
from fioagent.factory.servers.traffic import Traffic
from fioagent.factory.store import Store, read_knobs

BASE: Final = "/.well-known/est"
BASE64_LINE: Final = 64  # columns

# A certs-only PKCS #7 without a certificate; no library will build one.
EMPTY_PKCS7: Final = bytes.fromhex(
    "3025" "06092a864886f70d010702" "a018"  # ContentInfo, signedData
    "3016" "020101" "3100" "300b06092a864886f70d010701" "a000" "3100"
)  # fmt: skip


def create_app(store: Store, traffic: Traffic, paths: Paths, clock: Clock) -> Flask:
    app = new_app("est", traffic)
    app.register_error_handler(CertsError, _no_authority)

    @app.get(f"{BASE}/cacerts")
    def cacerts() -> Response:
        with store.read() as db:
            return _cacerts(db, paths, read_knobs(db))

    @app.post(f"{BASE}/simpleenroll")
    def simpleenroll() -> Response:
        # As estserver: any trusted certificate may enrol any name.
        with store.read() as db:
            return _enrol(db, paths, clock(), same_device=False)

    @app.post(f"{BASE}/simplereenroll")
    def simplereenroll() -> Response:
        with store.read() as db:
            return _enrol(db, paths, clock(), same_device=True)

    return app


def _no_authority(error: CertsError) -> Response:
    """Nobody to sign with: the operator has opted out of an online CA, or disabled it."""
    return text(503, str(error))


def _cacerts(db: sqlite3.Connection, paths: Paths, knobs: Mapping[str, str]) -> Response:
    """The root and the CA that issues, as RFC 7030 section 4.1.3 asks; estserver: the root only."""
    certificates = [certs.root(db)]
    if knobs["est_success"] == "200":
        certificates.append(certs.authority(db, paths, knobs["est_ca"]).certificate)
    return _pkcs7(certificates, knobs, status=200)


def _enrol(db: sqlite3.Connection, paths: Paths, now: float, *, same_device: bool) -> Response:
    knobs = read_knobs(db)
    client = peer()
    if client is None or client.sent != 1:
        # A chain of two is refused like none at all.
        return text(401, "Client must provide certificate")
    if refusal := _refuse_by_ca(db, client):
        return refusal
    content_type = request.headers.get("Content-Type", "")
    if content_type != "application/pkcs10":
        reason = f"Invalid content-type: {content_type}. Must be application/pkcs10"
        return text(400, reason)
    authority = certs.authority(db, paths, knobs["est_ca"])
    if knobs["est_ca"] != "foreign-ca":
        certs.check_may_issue(db, authority.certificate)
    try:
        csr = decode(request.get_data())
        if same_device:
            check_same_device(csr, client.certificate)
        check_signature(csr, authority.certificate)
    except CsrError as refused:
        return text(400, str(refused))
    if knobs["est_answer"] != "normal":
        return _instead(knobs["est_answer"], int(knobs["est_retry_after_s"]))
    issued = _issue(csr, client.certificate, authority, knobs, now)
    return _pkcs7(issued, knobs, status=int(knobs["est_success"]))


def _refuse_by_ca(db: sqlite3.Connection, client: Peer) -> Response | None:
    ca = certs.issuer(db, client.certificate_pem)
    if ca is None or ca.state == certs.REVOKED:
        return drop()  # the connection is older than the revocation
    if ca.state == certs.DISABLED and not devices.is_known(db, client.name):
        # Or it would get a certificate of an active CA, and register with that.
        return text(403, f"The device CA of Device({client.name}) is disabled")
    return None


def _instead(answer: str, retry_after_s: int) -> Response:
    if answer == "garbage":
        return Response(b"\x00not base64", 200, content_type="application/pkcs7-mime")
    if answer == "html":
        # A captive portal or a proxy: success, but not from the server we meant.
        return Response("<html>Please log in</html>", 200, content_type="text/html")
    result = text(int(answer), "The lab made the EST server answer this")
    if answer in ("202", "503") and retry_after_s:
        result.headers["Retry-After"] = str(retry_after_s)
    return result


def _issue(
    csr: x509.CertificateSigningRequest,
    current: x509.Certificate,
    authority: Authority,
    knobs: Mapping[str, str],
    now: float,
) -> list[x509.Certificate]:
    fault = knobs["est_issue"]
    if fault == "empty":
        return []
    if fault == "same-cert":
        return [current]
    public_key = new_key().public_key() if fault == "other-key" else csr.public_key()
    return [
        authority.sign(
            _other(csr.subject) if fault == "other-subject" else csr.subject,
            public_key,
            _extensions(csr, fault, drop_san=knobs["est_drop_san"] == "on"),
            _validity(fault, int(knobs["est_validity_days"]), authority.certificate, now),
        )
    ]


def _extensions(
    csr: x509.CertificateSigningRequest, fault: str, *, drop_san: bool
) -> list[Extension]:
    """KeyUsage and extended key usage only if the request has them, like estserver.

    The second is not critical, although lmp-device-register's own is: clients must not
    compare that.
    """
    result: list[Extension] = []
    for extension in csr.extensions:
        if extension.oid == ExtensionOID.KEY_USAGE:
            result.append((extension.value, True))
        elif extension.oid == ExtensionOID.EXTENDED_KEY_USAGE:
            result.append((SERVER_AUTH if fault == "no-client-auth" else extension.value, False))
        elif extension.oid == ExtensionOID.SUBJECT_ALTERNATIVE_NAME and not drop_san:
            result.append((extension.value, extension.critical))
    return [*result, (x509.BasicConstraints(ca=False, path_length=None), True)]


def _other(subject: x509.Name) -> x509.Name:
    kept = [part for part in subject if part.oid != NameOID.COMMON_NAME]
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody-else"), *kept])


def _validity(fault: str, days: int, ca: x509.Certificate, now: float) -> Validity:
    """From now exactly, as estserver: a device whose clock is behind sees the future."""
    start = as_datetime(now)
    if fault == "expired":
        return start - timedelta(days=2), start - timedelta(days=1)
    if fault == "not-yet-valid":
        start += timedelta(days=2)
    start, end = validity(start, days)
    return start, min(end, ca.not_valid_after_utc)


def _pkcs7(
    certificates: list[x509.Certificate], knobs: Mapping[str, str], *, status: int
) -> Response:
    """Certs-only PKCS #7 in base64; one line and bare headers where the knob wants estserver."""
    der = pkcs7.serialize_certificates(certificates, Encoding.DER) if certificates else EMPTY_PKCS7
    encoded = base64.b64encode(der).decode("ascii")
    if knobs["est_success"] == "201":
        return Response(encoded, status, content_type="application/pkcs7-mime")
    if knobs["est_body"] == "folded":
        # With a final newline for libest; the header below is for BouncyCastle.
        encoded = "\n".join(textwrap.wrap(encoded, BASE64_LINE)) + "\n"
    answer = Response(encoded, status, content_type="application/pkcs7-mime; smime-type=certs-only")
    answer.headers["Content-Transfer-Encoding"] = "base64"
    return answer
