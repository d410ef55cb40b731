"""Rows: TCP and TLS. Whoever is at the other end, and whatever he speaks."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID

from fioagent.factory.pki.certificates import build, load_authority, private_pem
from fioagent.factory.servers.tls import server_context
from tests import cloud
from tests.est.certificates import (
    CLIENT_AUTH,
    DAY,
    SERVER_AUTH,
    Change,
    Parts,
    alternative_names,
    below,
    common_name,
    extension,
    now,
    purposes,
    spki_of,
    usage,
)
from tests.est.replies import drips, http, issues, silent
from tests.est.scenario import Scenario, put_off, refused, taken
from tests.est.server import Context, Exchange, Lab, Line, ordinary
from tests.unit.made import tlv
from tests.world import World

# --- credentials of servers ---


def shows(change: Change, ca: str = "factory") -> Context:
    """A server whose certificate is not quite the right one."""

    def context(lab: Lab) -> ssl.SSLContext:
        directory = lab.factory.paths.pki if ca == "factory" else lab.factory.paths.cloud
        stem = "factory_ca" if ca == "factory" else "foreign-root"
        authority = load_authority(directory / f"{stem}.pem", directory / f"{stem}.key")
        key = ec.generate_private_key(ec.SECP256R1())
        parts = below(
            authority,
            common_name("localhost"),
            spki_of(key),
            usage("0780"),
            purposes(SERVER_AUTH),
            alternative_names("localhost"),
        )
        issued = x509.load_der_x509_certificate(change(parts).signed())
        pair = lab.directory / "server.pem"
        pair.write_bytes(issued.public_bytes(Encoding.PEM) + private_pem(key))
        return server_context((pair, pair), cloud.trusted(lab.factory))

    return context


def _without(kind: str) -> Change:
    def change(parts: Parts) -> Parts:
        kept = [e for e in parts.extensions if bytes.fromhex("0603" + kind) not in e[:10]]
        return replace(parts, extensions=tuple(kept))

    return change


def _instead(kind: str, new: bytes) -> Change:
    def change(parts: Parts) -> Parts:
        parts = _without(kind)(parts)
        return replace(parts, extensions=(*parts.extensions, new))

    return change


def _valid(start: timedelta, end: timedelta) -> Change:
    return lambda parts: replace(parts, not_before=now() + start, not_after=now() + end)


NAMES, PURPOSES = "551d11", "551d25"
_OTHER_NAME: Final = alternative_names("elsewhere.test")
_ADDRESS: Final = extension(NAMES, tlv(0x30, tlv(0x87, bytes([127, 0, 0, 1]))))


def _distrusted(title: str, why: str, change: Change, ca: str = "factory") -> Scenario:
    return put_off(title, f"cannot trust localhost:{{port}}: {why}", tls=shows(change, ca), asked=0)


SERVERS: Final = [
    taken("a server with a certificate of its own", issues(), tls=shows(lambda parts: parts)),
    _distrusted("a server below another root", "", lambda parts: parts, "foreign"),
    _distrusted("a server that signed for itself", "", lambda p: replace(p, issuer=p.subject)),
    _distrusted("a server that has expired", "certificate has expired", _valid(-9 * DAY, -DAY)),
    _distrusted("a server from tomorrow", "certificate is not yet valid", _valid(DAY, 9 * DAY)),
    _distrusted("a server of another name", "hostname mismatch", _instead(NAMES, _OTHER_NAME)),
    _distrusted("a server with a CN alone", "hostname mismatch", _without(NAMES)),
    _distrusted(
        "a server with an address for its name",
        "hostname mismatch",
        _instead(NAMES, _ADDRESS),
    ),
    _distrusted(
        "a server with a certificate for clients",
        "unsuitable certificate purpose",
        _instead(PURPOSES, purposes(CLIENT_AUTH)),
    ),
    _distrusted(
        "a signature that is not the root's",
        "certificate signature failure",
        lambda p: replace(p, signer=ec.generate_private_key(ec.SECP256R1())),
    ),
    taken("a server by its address", issues(), host="127.0.0.1"),
    taken("a server by its IPv6 address", issues(), host="[::1]"),
    taken("a server whose certificate has no purpose", issues(), tls=shows(_without(PURPOSES))),
]

# --- what TLS a server speaks ---


V1_2: Final = ssl.TLSVersion.TLSv1_2


def _limited(**settings: object) -> Context:
    def context(lab: Lab) -> ssl.SSLContext:
        made = ordinary(lab)
        for name, value in settings.items():
            setattr(made, name, value)
        return made

    return context


def _ciphers(names: str) -> Context:
    def context(lab: Lab) -> ssl.SSLContext:
        made = ordinary(lab)
        made.maximum_version = V1_2
        made.set_ciphers(names)
        return made

    return context


VERSIONS: Final = [
    taken("TLS 1.2 alone", issues(), tls=_limited(maximum_version=V1_2)),
    taken("TLS 1.3 alone", issues(), tls=_limited(minimum_version=ssl.TLSVersion.TLSv1_3)),
    taken("TLS without session tickets", issues(), tls=_limited(num_tickets=0)),
    put_off(
        "no cipher in common",
        "cannot speak TLS with localhost",
        tls=_ciphers("NULL:@SECLEVEL=0"),
        asked=0,
    ),
]

# --- what a server makes of our certificate ---


def _judges(version: ssl.TLSVersion, cas: Callable[[Lab], Path], flags: ssl.VerifyFlags) -> Context:
    """A server that wants a certificate of others, or of another time."""

    def context(lab: Lab) -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(*cloud.pair(lab.factory, "est-tls-crt"))
        made.load_verify_locations(cas(lab))
        made.minimum_version = made.maximum_version = version
        made.verify_mode = ssl.CERT_REQUIRED
        made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | flags
        return made

    return context


def _foreign(lab: Lab) -> Path:
    return lab.factory.paths.cloud / "foreign-ca.pem"


def _our_ca(lab: Lab, begins: float, ends: float) -> bytes:
    """PEM of the device's CA with its name and key, good for these days from now and for lists."""
    ca = lab.authority("local-ca")
    kept = [each for each in ca.certificate.extensions if each.oid != ExtensionOID.KEY_USAGE]
    extensions = [(each.value, each.critical) for each in kept]
    name, key, days = ca.certificate.subject, ca.key, (now() + begins * DAY, now() + ends * DAY)
    return build(name, key.public_key(), name, key, extensions, days).public_bytes(Encoding.PEM)


def _ours(begins: float, ends: float) -> Callable[[Lab], Path]:
    def cas(lab: Lab) -> Path:
        path = lab.directory / "ours.pem"
        path.write_bytes(_our_ca(lab, begins, ends))
        return path

    return cas


def _list_of_revoked(lab: Lab) -> Path:
    return lab.directory / "revoked.pem"


def _is_revoked(world: World, lab: Lab) -> None:
    """The device's certificate, by a list of its CA."""
    ca = lab.authority("local-ca")
    live = x509.load_pem_x509_certificate(world.old_certificate)
    entry = x509.RevokedCertificateBuilder(live.serial_number, now() - DAY)
    builder = x509.CertificateRevocationListBuilder(
        ca.certificate.subject, now() - DAY, now() + DAY, revoked_certificates=[entry.build()]
    )
    signed = builder.sign(ca.key, hashes.SHA256()).public_bytes(Encoding.PEM)
    _list_of_revoked(lab).write_bytes(_our_ca(lab, -1, 1) + signed)


_PLAIN: Final = ssl.VERIFY_DEFAULT
JUDGES: Final = [
    refused(
        f"{title}, TLS 1.{minor}",
        f"refuses the device's certificate: {alert}",
        issues(),
        tls=_judges(version, cas, flags),
        device=device,
        asked=0,
    )
    for minor, version in ((2, V1_2), (3, ssl.TLSVersion.TLSv1_3))
    for title, alert, cas, flags, device in (
        ("a server that does not know our CA", "unknown ca", _foreign, _PLAIN, None),
        ("our CA has expired", "certificate expired", _ours(-2, -1), _PLAIN, None),
        ("our CA is not valid yet", "bad certificate", _ours(1, 2), _PLAIN, None),
        (
            *("our certificate is revoked", "certificate revoked"),
            *(_list_of_revoked, ssl.VERIFY_CRL_CHECK_LEAF, _is_revoked),
        ),
    )
]

# --- no TLS at all ---

_ALERT: Final = bytes.fromhex("15030300020230")  # fatal, unknown_ca: anybody can say so
_TOO_NEW: Final = bytes.fromhex("15030200020246")  # fatal, protocol_version


def _speaks(answer: bytes) -> Line:
    def line(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass

    return line


def _endless(block: bytes) -> Line:
    def line(connection: socket.socket) -> None:
        while True:
            connection.sendall(block)

    return line


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _silent(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def _no_tls(title: str, line: str, speaks: Line, *, slow: bool = False) -> Scenario:
    return put_off(title, line, speaks=speaks, asked=0, slow=slow)


_PAGE: Final = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\nUse https\r\n"
LINES: Final = [
    _no_tls("plain HTTP on the port", "cannot speak TLS with localhost", _speaks(_PAGE)),
    _no_tls(
        "another protocol on the port",
        "cannot speak TLS with localhost",
        _speaks(b"220 mail ESMTP\r\n"),
    ),
    _no_tls("nothing but zeros", "cannot speak TLS with localhost", _endless(b"\x00" * 65536)),
    _no_tls("the end after the first word", "cannot", _speaks(b"")),
    _no_tls("a reset", "cannot reach localhost", _reset),
    _no_tls("the end at once", "cannot", lambda connection: connection.shutdown(socket.SHUT_WR)),
    _no_tls(
        "an alert of anybody about our certificate",
        "cannot speak TLS with localhost",
        _speaks(_ALERT),
    ),
    _no_tls("TLS 1.1 alone", "cannot speak TLS with localhost", _speaks(_TOO_NEW)),
    _no_tls("half a record", "cannot", _speaks(b"\x16\x03\x03\x40\x00\x02\x00")),
    _no_tls(
        "a record of 65535 bytes",
        "cannot speak TLS with localhost",
        _speaks(b"\x16\x03\x03\xff\xff" + b"\x02" * 65535),
    ),
]

# --- what only a deadline ends ---


def _dripping(exchange: Exchange) -> None:
    exchange.send(http(200, b"", length=False))
    drips(b"M" * 5000)(exchange)


SLOW: Final = [
    put_off("headers that drip", "cannot", drips(http(200, b"M" * 5000)), slow=True),
    put_off("a body that drips", "cannot", _dripping, slow=True),
    _no_tls(
        "silence instead of TLS", "cannot reach localhost:{port}: timed out", _silent, slow=True
    ),
    put_off(
        "silence instead of an answer",
        "cannot reach localhost:{port}: timed out",
        silent,
        slow=True,
    ),
]

ALL: Final = [*SERVERS, *VERSIONS, *JUDGES, *LINES, *SLOW]
