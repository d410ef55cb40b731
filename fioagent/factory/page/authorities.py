"""The factory's own certificates, as they are shown: the CAs, and those of its two TLS servers."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from cryptography import x509

from fioagent.factory.pki import certs
from fioagent.factory.pki.certificates import common_name


@dataclass(frozen=True, slots=True)
class Shown:
    """A certificate of the factory, and what it is to it."""

    role: str  # root, gateway-tls, est-tls, online-ca or local-ca
    certificate: x509.Certificate
    state: str = certs.ACTIVE
    devices: int | None = None  # that came with a certificate by it last; None: it issues none


def of_factory(db: sqlite3.Connection) -> list[Shown]:
    """The root first, then what it has signed."""
    depend = certs.dependants(db)
    servers = {
        "gateway-tls": certs.certificate(db, "tls-crt"),
        "est-tls": certs.certificate(db, "est-tls-crt"),
    }
    return [
        Shown("root", certs.root(db)),
        *(Shown(role, found) for role, found in servers.items() if found),
        *(
            Shown(_role(ca.certificate), ca.certificate, ca.state, depend[ca.serial])
            for ca in certs.device_cas(db)
        ),
    ]


def _role(device_ca: x509.Certificate) -> str:
    return "online-ca" if common_name(device_ca) == certs.ONLINE_CA else "local-ca"
