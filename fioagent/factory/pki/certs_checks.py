"""What a certificate or revocation list must be to be taken; decides, and changes nothing.

The documents name the checks of the root's unit, of device CAs' names and of the root's
signature. The others keep out what no device or server could use.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final, TypeVar

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from fioagent.factory.pki.certificates import (
    as_datetime,
    common_name,
    issuer_of,
    organizational_unit,
)
from fioagent.factory.pki.certs import ACTIVE, DISABLED, REVOKED, CertsError
from fioagent.factory.pki.csr import UNREADABLE

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)

CLOCK_TOLERANCE: Final = timedelta(days=1)

# Of a revoked CA in the list; every other reason, and none, revokes.
REASONS: Final = {
    x509.ReasonFlags.certificate_hold: DISABLED,
    x509.ReasonFlags.remove_from_crl: ACTIVE,
}


def certificates(name: str, pem: str) -> list[x509.Certificate]:
    """One or more, readable to the last extension. Raises CertsError."""
    try:
        found = x509.load_pem_x509_certificates(pem.encode())
        for each in found:
            _ = each.subject, each.issuer, each.extensions, each.public_key(), each.serial_number
    except UNREADABLE as error:
        raise CertsError(f"cannot take {name}: it is not a certificate in PEM") from error
    return found


def certificate(name: str, pem: str) -> x509.Certificate:
    """Exactly one. Raises CertsError."""
    found = certificates(name, pem)
    if len(found) != 1:
        raise CertsError(f"cannot take {name}: it is {len(found)} certificates, and has to be one")
    return found[0]


def check_root(root: x509.Certificate, factory: str, now: float) -> None:
    """Its own issuer, or signed by somebody above, of whom we know nothing."""
    _check_ca("root-crt", root, factory)
    _check_life("root-crt", root, now)
    if root.issuer == root.subject and issuer_of(root, [root]) is None:
        raise CertsError("cannot take root-crt: its signature is not its own")


def check_server(name: str, server: x509.Certificate, root: x509.Certificate, now: float) -> None:
    _check_signed(name, server, root)
    _check_life(name, server, now)
    purposes = _extension(server, x509.ExtendedKeyUsage)
    if purposes is None or ExtendedKeyUsageOID.SERVER_AUTH not in purposes:
        raise CertsError(f"cannot take {name}: it is not for TLS servers (extended key usage)")
    names = _extension(server, x509.SubjectAlternativeName)
    if names is None or not names.get_values_for_type(x509.DNSName):
        raise CertsError(f"cannot take {name}: it has no DNS name as subjectAltName")


def check_device_ca(
    ca: x509.Certificate, root: x509.Certificate, factory: str, owner: str, now: float
) -> None:
    """``owner``: the common name that it must have; empty for a CA of the cloud."""
    name = f"ca-crt {ca.serial_number}"
    _check_signed(name, ca, root)
    _check_ca(name, ca, factory)
    _check_life(name, ca, now)
    if owner and common_name(ca) != owner:
        raise CertsError(
            f"cannot take {name}: its common name is {common_name(ca)!r}, and that of a local"
            f" device CA has to be fio- and the user's id: {owner}"
        )


def _check_signed(name: str, below: x509.Certificate, root: x509.Certificate) -> None:
    if issuer_of(below, [root]) is None:
        raise CertsError(f"cannot take {name}: it is not signed by the factory's root")


def _check_ca(name: str, ca: x509.Certificate, factory: str) -> None:
    constraints = _extension(ca, x509.BasicConstraints)
    usage = _extension(ca, x509.KeyUsage)
    if constraints is None or not constraints.ca or (usage and not usage.key_cert_sign):
        raise CertsError(f"cannot take {name}: it may not sign certificates (not a CA)")
    if organizational_unit(ca) != factory:
        raise CertsError(
            f"cannot take {name}: its organizational unit is {organizational_unit(ca)!r}, and"
            f" has to be the factory's name: {factory}"
        )


def _check_life(name: str, value: x509.Certificate, now: float) -> None:
    today = as_datetime(now)
    if today >= value.not_valid_after_utc:
        raise CertsError(f"cannot take {name}: it expired on {value.not_valid_after_utc:%F}")
    if today + CLOCK_TOLERANCE < value.not_valid_before_utc:
        raise CertsError(
            f"cannot take {name}: it is not valid before {value.not_valid_before_utc:%F}"
        )


def _extension(value: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    try:
        return value.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def revocations(pem: str, root: x509.Certificate, now: float) -> dict[str, str]:
    """Serial and new state of each device CA that the list names. Raises CertsError."""
    try:
        listed = x509.load_pem_x509_crl(pem.encode())
        signed = listed.issuer == root.subject and listed.is_signature_valid(
            root.public_key()  # type: ignore[arg-type]  # another kind is a TypeError
        )
        found = dict(_entries(listed))
        begins, ends = listed.last_update_utc, listed.next_update_utc
    except UNREADABLE as error:
        raise CertsError("cannot take ca-revoke-crl: it is not a CRL in PEM") from error
    if not signed:
        raise CertsError("cannot take ca-revoke-crl: it is not signed by the factory's root")
    today = as_datetime(now)
    if today + CLOCK_TOLERANCE < begins or (ends is not None and today > ends):
        # An old list must not bring back what came after it.
        raise CertsError("cannot take ca-revoke-crl: it has expired, or is of the future")
    if not found:
        raise CertsError("cannot take ca-revoke-crl: it names no device CA")
    return found


def _entries(listed: x509.CertificateRevocationList) -> Iterator[tuple[str, str]]:
    for entry in listed:
        reason = None
        for extension in entry.extensions:
            if isinstance(extension.value, x509.CRLReason):
                reason = extension.value.reason
        state = REVOKED if reason is None else REASONS.get(reason, REVOKED)
        yield str(entry.serial_number), state
