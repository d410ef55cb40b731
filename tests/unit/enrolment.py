"""A device with a live certificate, its CA, and answers of an EST server to be checked."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from fioagent.certcheck import Issued, Policy, check
from fioagent.errors import PeerError
from fioagent.x509 import Certificate

from . import made
from .made import NOW, Authority, Extension

CA = made.authority("est-ca")
ROOT = made.authority("root")
OLD, NEW = made.new_key(), made.new_key()
SAN = x509.SubjectAlternativeName([x509.DNSName("dev-1.example"), x509.DNSName("dev-1")])
RENEWED = CA.issue(OLD.public_key(), serial=7)
DAY = timedelta(days=1)


def checked(
    *answer: x509.Certificate | bytes,
    renewed: x509.Certificate | bytes = RENEWED,
    roots: Sequence[x509.Certificate | bytes] = (CA.certificate,),
    policy: Policy | None = None,
    now: datetime = NOW,
) -> Issued:
    return check(
        [_der(each) for each in answer],
        spki=made.spki(NEW),
        renewed=Certificate.from_der(_der(renewed)),
        roots=[Certificate.from_der(_der(each)) for each in roots],
        now=now,
        policy=policy or Policy(),
    )


def _der(certificate: x509.Certificate | bytes) -> bytes:
    return certificate if isinstance(certificate, bytes) else made.der(certificate)


def issued_for_us(
    subject: x509.Name | None = None,
    *,
    ca: Authority = CA,
    extensions: Sequence[Extension] = made.DEVICE_EXTENSIONS,
    serial: int | None = None,
    begins: datetime = NOW - DAY,
    ends: datetime = NOW + 365 * DAY,
) -> x509.Certificate:
    return ca.issue(
        NEW.public_key(), subject, extensions=extensions, serial=serial, begins=begins, ends=ends
    )


def patched(certificate: x509.Certificate, *changes: tuple[bytes, bytes]) -> bytes:
    """Bytes exchanged for others of the same length; the signature fits no longer."""
    encoded = made.der(certificate)
    for old, new in changes:
        assert len(old) == len(new)
        assert old in encoded
        encoded = encoded.replace(old, new)
    return encoded


def assert_refused(complaint: str, *answer: x509.Certificate | bytes) -> None:
    with pytest.raises(
        PeerError, match=f"cannot use the certificate that the EST server issued: {complaint}"
    ):
        checked(*answer)


def reencoded(text: str, kind: x509.name._ASN1Type, factory: str = "acme") -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, factory, kind),
            x509.NameAttribute(NameOID.COMMON_NAME, text, kind),
        ]
    )
