"""Pairs on the device that no journal of ours names: fioconfig removes none, and notes none."""

from __future__ import annotations

from fioagent.model import CredentialRef
from fioagent.site import Device
from fioagent.x509 import Certificate


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
    pairs = device.keys.pairs()
    return next((pair for each, pair in pairs if each.der == certificate.der), None)


def _pairs(live: Certificate, device: Device) -> list[tuple[Certificate, CredentialRef]]:
    """Whole ones for the same subject, with another key."""
    return [
        (each, pair)
        for each, pair in device.keys.pairs()
        if each.subject_der == live.subject_der and each.spki_der != live.spki_der
    ]
