"""Keys and certificates in PEM files of the storage directory, named as programs here name them."""

from __future__ import annotations

import contextlib
import os

from fioagent import x509
from fioagent.errors import ConfigError
from fioagent.ports import Disk
from fioagent.x509 import Certificate, CertificateError


def keys(disk: Disk, storage: str) -> dict[bytes, list[str]]:
    """Files with a private key, by the SPKI of the key."""
    found: dict[bytes, list[str]] = {}
    for path in _files(disk, storage, "pkey"):
        with contextlib.suppress(ValueError, ConfigError):
            key = x509.private_key(disk.read(path))
            found.setdefault(x509.spki_der(key.public_key()), []).append(path)
    return found


def certificates(disk: Disk, storage: str) -> list[tuple[str, Certificate]]:
    """Files with a certificate, and the leaf in each."""
    found = []
    for path in _files(disk, storage, "client"):
        with contextlib.suppress(CertificateError, ConfigError):
            found.append((path, Certificate.from_pem(disk.read(path))))
    return found


def _files(disk: Disk, storage: str, prefix: str) -> list[str]:
    return [
        os.path.join(storage, name)
        for name in disk.names(storage)
        if name.startswith(prefix) and name.endswith(".pem")
    ]
