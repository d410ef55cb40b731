"""Registration: what a device may ask for, the certificate it gets, and the files it writes.

The form is that of lmp-device-register, which speaks it to the operator API and to
factory-registration-ref; the texts of refusals are the latter's where it has one. What that
one leaves out is done here: the request has to be signed by its own key, and each certificate
has a serial number of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import NameOID

from fioagent.factory.errors import RefusedError
from fioagent.factory.fleet import devices, sota_toml
from fioagent.factory.pki.certificates import (
    CLIENT_AUTH,
    Authority,
    Extension,
    as_datetime,
    certificate_pem,
    key_usage,
    public_pem,
    validity,
)
from fioagent.factory.pki.csr import UNREADABLE, is_signed

CERTIFICATE_DAYS: Final = 7300  # factory-registration-ref
CLOCK_TOLERANCE: Final = timedelta(minutes=5)  # between whoever signs and the factory
DEFAULT_DIRECTORY: Final = "/var/sota"
DEVICE: Final[tuple[Extension, ...]] = (key_usage(digital_signature=True), (CLIENT_AUTH, True))


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a request or a certificate is for."""

    uuid: str
    public_key: str  # SPKI PEM
    is_prod: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """What lmp-device-register sends. Every value in it is text."""

    csr: x509.CertificateSigningRequest
    identity: Identity
    hardware_id: str
    directory: str  # where the device will keep the files
    overrides: sota_toml.Overrides
    name: str
    group: str


def read(body: dict[str, Any], factory: str) -> Asked:
    """The request, sound in itself. RefusedError: it is not."""
    csr = _request(_text(body, "csr"))
    identity = identify(csr.subject, csr.public_key(), factory)
    if not is_signed(csr):
        raise RefusedError(400, "cannot register: the CSR is not signed by its own key")
    return Asked(
        csr=csr,
        identity=identity,
        hardware_id=_fit(_text(body, "hardware-id"), "hardware-id"),
        directory=_fit(_text(body, "sota-config-dir", DEFAULT_DIRECTORY), "sota-config-dir"),
        overrides=sota_toml.check_overrides(body.get("overrides") or {}),
        name=_text(body, "name", identity.uuid),
        group=_text(body, "group", ""),
    )


def _text(body: dict[str, Any], field: str, default: str | None = None) -> str:
    value = body.get(field) or default
    if value is None:
        raise RefusedError(400, f"Missing required field '{field}'")
    if not isinstance(value, str):
        raise RefusedError(400, f"Invalid data type for '{field}'")
    return value


def _fit(value: str, field: str) -> str:
    if sota_toml.UNFIT_FOR_PATH.intersection(value) or not value.isprintable():
        raise RefusedError(400, f"Invalid value for '{field}': sota.toml cannot hold it")
    return value


def _request(pem: str) -> x509.CertificateSigningRequest:
    try:
        csr = x509.load_pem_x509_csr(pem.encode())
        _ = csr.subject, csr.public_key(), csr.extensions
    except UNREADABLE as error:
        raise RefusedError(400, f"Unable to load PEM file: not a CSR: {error}") from error
    return csr


def identify(subject: x509.Name, key: CertificatePublicKeyTypes, factory: str) -> Identity:
    """RefusedError: not the name and key of a device of ``factory``."""
    uuids = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    units = subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    if len(uuids) != 1 or len(units) != 1:
        raise RefusedError(400, "Invalid subject: it must have one CN, the uuid, and one OU")
    if (unit := str(units[0].value)) != factory:
        raise RefusedError(400, f"Invalid factory({unit}) must be {factory}")
    try:
        public_key = devices.normal_key(public_pem(key))
    except ValueError as error:
        raise RefusedError(400, f"Invalid key: {error}") from error
    uuid = str(uuids[0].value)
    if not devices.UUID.fullmatch(uuid):
        raise RefusedError(400, f"Invalid CN {uuid!r}: letters, digits and hyphens, at most 64")
    return Identity(uuid, public_key, is_prod(subject))


def is_prod(subject: x509.Name) -> bool:
    """As dg-satellite reads it; lmp-device-register --production asks for it."""
    categories = subject.get_attributes_for_oid(NameOID.BUSINESS_CATEGORY)
    return [category.value for category in categories] == ["production"]


def issue(
    csr: x509.CertificateSigningRequest, authority: Authority, now: float
) -> x509.Certificate:
    """As factory-registration-ref, but with a random serial: its own repeats for each uuid."""
    life = validity(as_datetime(now), CERTIFICATE_DAYS)
    # The CA lives ten years, the certificate twenty; the registration server does not clamp.
    return authority.sign(csr.subject, csr.public_key(), DEVICE, life)


def files(
    asked: Asked, authority: Authority, root: x509.Certificate, gateway: str, now: float
) -> dict[str, str]:
    """What the device writes into its directory, by name; its certificate is issued for it."""
    client = certificate_pem(issue(asked.csr, authority, now)).decode()
    toml = sota_toml.render(gateway, asked.hardware_id, asked.directory, asked.overrides)
    return {
        "root.crt": certificate_pem(root).decode(),
        "sota.toml": toml,
        "client.pem": client,
        "client.chained": f"{client}\n{certificate_pem(authority.certificate).decode()}",
    }


def read_certificate(pem: str, factory: str, now: datetime) -> Identity:
    """Who a certificate that was issued elsewhere is for. Whose it is, ``certs`` knows.

    Raises:
        RefusedError: no gateway would take it.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        identity = identify(certificate.subject, certificate.public_key(), factory)
        can = _can_authenticate(certificate.extensions)
    except UNREADABLE as error:
        raise RefusedError(400, f"Unable to load PEM file: not a certificate: {error}") from error
    if certificate.not_valid_before_utc > now + CLOCK_TOLERANCE:
        raise RefusedError(400, "cannot register client.pem: it is not valid yet")
    if certificate.not_valid_after_utc <= now:
        raise RefusedError(400, "cannot register client.pem: it has expired")
    if not can:
        raise RefusedError(
            400,
            "cannot register client.pem: it is not for TLS clients; it needs keyUsage"
            " digitalSignature and extendedKeyUsage clientAuth",
        )
    return identity


def _can_authenticate(extensions: x509.Extensions) -> bool:
    """A key usage or purpose that is not there forbids nothing."""
    for extension in extensions:
        value = extension.value
        if isinstance(value, x509.KeyUsage) and not value.digital_signature:
            return False
        if isinstance(value, x509.ExtendedKeyUsage) and not set(CLIENT_AUTH) <= set(value):
            return False
    return True
