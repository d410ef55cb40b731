"""Keys and certificates: how the factory names, reads and signs them.

One place for the X.509 that the PKI, the EST server and provisioning share. Which
certificates a factory has, and with which extensions, is the business of those three.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Extension: TypeAlias = tuple[x509.ExtensionType, bool]  # with "critical"
Validity: TypeAlias = tuple[datetime, datetime]

CLIENT_AUTH: Final = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
SERVER_AUTH: Final = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
BOTH_AUTH: Final = x509.ExtendedKeyUsage(
    [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
)


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate with its private key: something that can sign."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def sign(
        self,
        subject: x509.Name,
        public_key: CertificatePublicKeyTypes,
        extensions: Sequence[Extension],
        validity: Validity,
    ) -> x509.Certificate:
        """A certificate below this one, with an authority key identifier."""
        extensions = [*extensions, (self.key_identifier(), False)]
        return build(subject, public_key, self.certificate.subject, self.key, extensions, validity)

    def key_identifier(self) -> x509.AuthorityKeyIdentifier:
        """As our own certificate has it; made of the key if it has none."""
        try:
            own = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        except x509.ExtensionNotFound:
            return x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own.value)


def build(  # noqa: PLR0913  # the parts of a certificate; a class for them would be used here only
    subject: x509.Name,
    public_key: CertificatePublicKeyTypes,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    extensions: Sequence[Extension],
    validity: Validity,
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(public_key)
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(validity[0])
        .not_valid_after(validity[1])
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(issuer_key, hashes.SHA256())


def issuer_of(
    certificate: x509.Certificate, authorities: Iterable[x509.Certificate]
) -> x509.Certificate | None:
    """The one of ``authorities`` that has issued it: by its name and by its key."""
    for authority in authorities:
        try:
            certificate.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            continue
        return authority
    return None


def load_authority(certificate: Path, key: Path) -> Authority:
    return Authority(
        x509.load_pem_x509_certificate(certificate.read_bytes()), load_key(key.read_bytes())
    )


def load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """The EC private key in ``pem``. ValueError: it is not one."""
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("not an EC private key")  # noqa: TRY004  # the text is wrong, not its type
    return key


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def subject_name(common_name: str, organizational_unit: str) -> x509.Name:
    """CN then OU, UTF8String: the order fioctl and lmp-device-register write."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, organizational_unit),
        ]
    )


def common_name(certificate: x509.Certificate) -> str:
    """The subject's CN, which is the device's uuid; empty without one."""
    return _of_subject(certificate, NameOID.COMMON_NAME)


def organizational_unit(certificate: x509.Certificate) -> str:
    """The subject's OU, which is the factory's name; empty without one."""
    return _of_subject(certificate, NameOID.ORGANIZATIONAL_UNIT_NAME)


def _of_subject(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> str:
    names = certificate.subject.get_attributes_for_oid(oid)
    return str(names[0].value) if names else ""


def validity(start: datetime, days: int) -> Validity:
    return start, start + timedelta(days=days)


def as_datetime(seconds: float) -> datetime:
    """Whole seconds: a certificate has no finer time."""
    return datetime.fromtimestamp(int(seconds), timezone.utc)


def key_usage(*, digital_signature: bool = False, ca: bool = False, crl: bool = False) -> Extension:
    """KeyUsage, critical, as everywhere in the factory's PKI."""
    usage = x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=crl,
        encipher_only=False,
        decipher_only=False,
    )
    return usage, True


def public_pem(key: CertificatePublicKeyTypes) -> str:
    """SPKI PEM: 64 columns and a final newline, the form the gateways compare as a string."""
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode("ascii")


def load_public_key(pem: str) -> ec.EllipticCurvePublicKey:
    """The EC public key in ``pem``. ValueError: it is not one."""
    key = serialization.load_pem_public_key(pem.encode("ascii"))
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ValueError("not an EC public key")  # noqa: TRY004  # the text is wrong, not its type
    return key


def key_digest(pem: str) -> str:
    """SHA-256 over the DER SPKI, hex: how logs and lists name a key."""
    der = serialization.load_pem_public_key(pem.encode("ascii")).public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(der).hexdigest()


def certificate_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def private_pem(key: ec.EllipticCurvePrivateKey, *, traditional: bool = False) -> bytes:
    """PKCS#8 as OpenSSL 3 writes it, or ``EC PRIVATE KEY`` as Go does."""
    form = (
        serialization.PrivateFormat.TraditionalOpenSSL
        if traditional
        else serialization.PrivateFormat.PKCS8
    )
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
