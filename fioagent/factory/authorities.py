"""The factory's own certificates, as they are shown: the CAs, and those of its two TLS servers."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from cryptography import x509

from fioagent.factory import certs
from fioagent.factory.certificates import common_name

SERVERS: Final = {"root": "root-crt", "gateway-tls": "tls-crt", "est-tls": "est-tls-crt"}


@dataclass(frozen=True, slots=True)
class Shown:
    """A certificate of the factory, and what it is to it."""

    role: str  # root, gateway-tls, est-tls, online-ca or local-ca
    certificate: x509.Certificate
    state: str = "active"  # disabled: its devices work on, no new ones; revoked: trusted no more

    @property
    def issues_devices(self) -> bool:
        return self.role in ("online-ca", "local-ca")


def of_factory(db: sqlite3.Connection) -> Iterator[Shown]:
    """The root first, then what it has signed; of device CAs the revoked ones, too."""
    for role, name in SERVERS.items():
        found = certs.certificate(db, name)
        if found is not None:
            yield Shown(role, found)
    for ca in certs.device_cas(db):
        role = "online-ca" if common_name(ca.certificate) == certs.ONLINE_CA else "local-ca"
        yield Shown(role, ca.certificate, ca.state)
