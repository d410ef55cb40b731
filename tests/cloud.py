"""What the lab's cloud keeps, for tests that play one of its servers or change its mind."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fioagent.factory import Factory
from fioagent.factory.pki import certs


def pair(factory: Factory, name: str) -> tuple[Path, Path]:
    """Certificate and key of tls-crt or est-tls-crt, as files."""
    with factory.store.read() as db:
        found = certs.server_pair(db, factory.paths, name)
    assert found is not None
    file = factory.paths.directory / f"{name}.pem"
    file.write_bytes(found[0].public_bytes(Encoding.PEM))
    return file, found[1]


def put(factory: Factory, name: str, certificate: x509.Certificate) -> None:
    """One that an operator could not have set, like one below another root."""
    with factory.store.write() as db:
        certs.put(db, name, certificate)
        certs.changed(db)


def trust(factory: Factory, certificate: x509.Certificate) -> None:
    """A device CA that an operator could not have added."""
    with factory.store.write() as db:
        certs.put_device_ca(db, certificate, certs.ACTIVE)
        certs.changed(db)


def trusted(factory: Factory) -> str:
    """PEM of the device CAs."""
    with factory.store.read() as db:
        return "".join(ca.pem for ca in certs.trusted_cas(db))
