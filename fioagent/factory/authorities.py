"""The factory's own certificates, as they are shown: the CAs, and those of its two TLS servers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from cryptography import x509

from fioagent.factory.pki import Paths


@dataclass(frozen=True, slots=True)
class Shown:
    """A certificate of the factory, and what it is to it."""

    role: str  # root, gateway-tls, est-tls, online-ca or local-ca
    certificate: x509.Certificate
    state: str = "active"  # disabled: its devices work on, no new ones; revoked: trusted no more

    @property
    def issues_devices(self) -> bool:
        return self.role in ("online-ca", "local-ca")


def of_factory(paths: Paths) -> list[Shown]:
    """The root first, then what it has signed."""
    files = {
        "root": paths.root,
        "gateway-tls": paths.pki / "tls-crt",
        "est-tls": paths.cloud / "est-tls.pem",
        "online-ca": paths.pki / "online-crt",
        "local-ca": paths.pki / "local-ca.pem",
    }
    return [Shown(role, _load(file.read_bytes())) for role, file in files.items()]


@lru_cache(maxsize=64)
def _load(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem)
