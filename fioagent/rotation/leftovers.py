"""Pairs in storage.path that no journal of ours names: fioconfig removes none, and notes none."""

from __future__ import annotations

import contextlib
import os

from fioagent import x509
from fioagent.errors import ConfigError
from fioagent.model import CredentialRef, Store
from fioagent.site import Device
from fioagent.x509 import Certificate, CertificateError


def pair_before(live: Certificate, device: Device) -> CredentialRef | None:
    """The latest pair of this device beside ``live``: most likely the one that it replaced."""
    found = _pairs(live, device)
    return max(found, key=lambda pair: pair[0].not_before)[1] if found else None


def pair_after(live: Certificate, device: Device) -> CredentialRef | None:
    """The latest pair that is younger than ``live``: one of a rotation that nobody remembers."""
    found = [pair for pair in _pairs(live, device) if pair[0].not_before >= live.not_before]
    return max(found, key=lambda pair: pair[0].not_before)[1] if found else None


def pair_of(certificate: Certificate, device: Device) -> CredentialRef | None:
    """A whole pair with this very certificate; None where its key is not on the device."""
    keys = key_files(device).get(certificate.spki_der)
    for path, each in certificate_files(device):
        if keys and each.der == certificate.der:
            return CredentialRef(Store.FILE, keys[0], path)
    return None


def _pairs(live: Certificate, device: Device) -> list[tuple[Certificate, CredentialRef]]:
    """Whole ones for the same subject, with another key."""
    keys = key_files(device)
    return [
        (each, CredentialRef(Store.FILE, keys[each.spki_der][0], path))
        for path, each in certificate_files(device)
        if each.subject_der == live.subject_der
        and each.spki_der != live.spki_der
        and each.spki_der in keys
    ]


def key_files(device: Device) -> dict[bytes, list[str]]:
    """Files with a private key, by the SPKI of the key."""
    found: dict[bytes, list[str]] = {}
    for path in _pem_files("pkey", device):
        with contextlib.suppress(ValueError, ConfigError):
            key = x509.private_key(device.disk.read(path))
            found.setdefault(x509.spki_der(key.public_key()), []).append(path)
    return found


def certificate_files(device: Device) -> list[tuple[str, Certificate]]:
    """Files with a certificate, and the leaf in each."""
    found = []
    for path in _pem_files("client", device):
        with contextlib.suppress(CertificateError, ConfigError):
            found.append((path, Certificate.from_pem(device.disk.read(path))))
    return found


def _pem_files(prefix: str, device: Device) -> list[str]:
    storage = device.site.storage
    return [
        os.path.join(storage, name)
        for name in device.disk.names(storage)
        if name.startswith(prefix) and name.endswith(".pem")
    ]
