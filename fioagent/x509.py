"""Certificates and signing requests, with the bytes of names kept as they were issued.

RFC 7030 section 4.2.2 wants subject and SubjectAltName of a re-enrolment
*identical* to the certificate being renewed, and servers in the field compare
DER. So both are copied as bytes, and the request around them is built here.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from fioagent import der
from fioagent.model import Facts, sha256_hex

if TYPE_CHECKING:
    from datetime import datetime

_SUBJECT_ALT_NAME = bytes.fromhex("551d11")
_EXTENSION_REQUEST = bytes.fromhex("2a864886f70d01090e")  # 1.2.840.113549.1.9.14
_CHALLENGE_PASSWORD = bytes.fromhex("2a864886f70d010907")  # 1.2.840.113549.1.9.7
_PRINTABLE_STRING = 0x13
_ECDSA = {  # 1.2.840.10045.4.3.2 to .4
    "sha256": bytes.fromhex("2a8648ce3d040302"),
    "sha384": bytes.fromhex("2a8648ce3d040303"),
    "sha512": bytes.fromhex("2a8648ce3d040304"),
}
_HASHES: Mapping[bytes, hashes.HashAlgorithm] = {
    _ECDSA["sha256"]: hashes.SHA256(),
    _ECDSA["sha384"]: hashes.SHA384(),
    _ECDSA["sha512"]: hashes.SHA512(),
}

# estserver wants these two to the byte where they are present, and leaves both
# out of the certificate where they are absent. Critical, as fioconfig sends them.
_DIGITAL_SIGNATURE = der.encode(
    der.SEQUENCE,
    der.encode(der.OID, bytes.fromhex("551d0f")),
    der.encode(der.BOOLEAN, b"\xff"),
    der.encode(der.OCTET_STRING, bytes.fromhex("03020780")),
)
_CLIENT_AUTH = der.encode(
    der.SEQUENCE,
    der.encode(der.OID, bytes.fromhex("551d25")),
    der.encode(der.BOOLEAN, b"\xff"),
    der.encode(der.OCTET_STRING, bytes.fromhex("300a06082b06010505070302")),
)
_PEM_CERTIFICATE = re.compile(
    rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL
)


# Registration by openssl leaves "EC PARAMETERS" before the key; not every
# version of the library steps over it.
_PEM_KEY = re.compile(
    rb"-----BEGIN (?:EC )?PRIVATE KEY-----.+?-----END (?:EC )?PRIVATE KEY-----", re.DOTALL
)


class CertificateError(ValueError):
    """Not a certificate that we can read."""


class NotEllipticError(ValueError):
    """A key of another kind; the device's configuration is encrypted to EC keys."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """An X.509 certificate and the parts of it that must not be re-encoded.

    Attributes:
        der: the whole certificate.
        parsed: the same as ``cryptography`` sees it.
        serial_der: DER INTEGER.
        issuer_der: DER Name.
        subject_der: DER Name.
        spki_der: DER SubjectPublicKeyInfo, RFC 5280 section 4.1.2.7.
        san_der: DER Extension of SubjectAltName, criticality included; None where absent.
    """

    der: bytes
    parsed: x509.Certificate
    serial_der: bytes
    issuer_der: bytes
    subject_der: bytes
    spki_der: bytes
    san_der: bytes | None

    @classmethod
    def from_der(cls, data: bytes) -> Certificate:
        """Raises CertificateError."""
        try:
            parsed = x509.load_der_x509_certificate(data)
            # Version, serial, algorithm, issuer, validity, subject, key: RFC 5280 section 4.1.
            fields = der.read_one(parsed.tbs_certificate_bytes).children()
            first = 1 if fields[0].tag == der.context(0) else 0
            serial = fields[first]
            issuer, subject = fields[first + 2], fields[first + 4]
            spki = fields[first + 5]
            san = _extension(fields[first + 6 :], _SUBJECT_ALT_NAME)
        except (ValueError, IndexError, x509.InvalidVersion) as error:
            raise CertificateError(f"not a certificate: {error}") from error
        return cls(data, parsed, serial.encoded, issuer.encoded, subject.encoded, spki.encoded, san)

    @classmethod
    def from_pem(cls, data: bytes) -> Certificate:
        """The first certificate in ``data``: the leaf of a file that holds a chain.

        Raises:
            CertificateError: no certificate in it, or not one we can read.
        """
        chain = pem_certificates(data)
        if not chain:
            raise CertificateError("no PEM certificate in it")
        return chain[0]

    @property
    def pem(self) -> bytes:
        return self.parsed.public_bytes(Encoding.PEM)

    @property
    def serial(self) -> str:
        """Serial number in upper-case hex, as ``openssl x509 -serial`` prints it."""
        number = self.parsed.serial_number
        text = f"{abs(number):X}"
        return ("-" if number < 0 else "") + text.zfill(len(text) + len(text) % 2)

    @property
    def subject(self) -> str:
        return _name(self.parsed, "subject")

    @property
    def issuer(self) -> str:
        return _name(self.parsed, "issuer")

    @property
    def not_before(self) -> datetime:
        return self.parsed.not_valid_before_utc

    @property
    def not_after(self) -> datetime:
        return self.parsed.not_valid_after_utc

    def described(self) -> Facts:
        """What of it may stand in a journal or an event."""
        return {
            "serial": self.serial,
            "issuer": self.issuer,
            "not_before": self.not_before.isoformat(),
            "not_after": self.not_after.isoformat(),
            "sha256": sha256_hex(self.der),
        }


def private_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """The private key in ``pem``, PKCS#8 or SEC 1, whatever stands around it.

    Raises:
        ValueError: none in it, or encrypted; NotEllipticError. Quotes no input.
    """
    block = _PEM_KEY.search(pem)
    if block is None:
        raise ValueError("not an unencrypted PEM key")
    try:
        key = load_pem_private_key(block.group(0), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The library's text may quote the input; no line must.
        raise ValueError("not an unencrypted PEM key") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise NotEllipticError("not an elliptic-curve key")
    return key


def pem_certificates(data: bytes) -> list[Certificate]:
    """Raises CertificateError."""
    try:
        blocks = [x509.load_pem_x509_certificate(pem) for pem in _PEM_CERTIFICATE.findall(data)]
    except (ValueError, x509.InvalidVersion) as error:
        raise CertificateError(f"not a certificate: {error}") from error
    return [Certificate.from_der(block.public_bytes(Encoding.DER)) for block in blocks]


def _name(certificate: x509.Certificate, which: str) -> str:
    try:
        name: x509.Name = getattr(certificate, which)
        return name.rfc4514_string()
    except (ValueError, KeyError):  # in the field, but not in the library's tables
        return f"({which} in an unusual encoding)"


def _extension(fields: list[der.Element], oid: bytes) -> bytes | None:
    for field in fields:
        if field.tag == der.context(3):
            for extension in field.children()[0].children():
                if extension.children()[0].content == oid:
                    return extension.encoded
    return None


def spki_der(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def spki_pem(key: ec.EllipticCurvePublicKey) -> str:
    """SPKI as the gateway compares it: PEM, 64 columns, newline at the end."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")


def spki_sha256(key: ec.EllipticCurvePublicKey) -> str:
    return sha256_hex(spki_der(key))


def signing_request(
    key: ec.EllipticCurvePrivateKey,
    renewed: Certificate,
    *,
    digest: str = "sha256",
    extensions: Sequence[bytes] = (),
) -> bytes:
    """DER PKCS#10 (RFC 2986) that asks for ``renewed`` again under ``key``.

    Subject and SubjectAltName are the bytes of ``renewed``; key usage and
    extended key usage are those of a device; ``extensions`` (DER) come behind them.
    By default ecdsa-with-SHA256, whatever the curve: estserver wants the algorithm
    that its CA certificate is signed with.
    """
    wanted = [_DIGITAL_SIGNATURE, _CLIENT_AUTH]
    if renewed.san_der is not None:
        wanted.append(renewed.san_der)
    attribute = der.encode(
        der.SEQUENCE,
        der.encode(der.OID, _EXTENSION_REQUEST),
        der.encode(der.SET, der.encode(der.SEQUENCE, *wanted, *extensions)),
    )
    info = der.encode(
        der.SEQUENCE,
        der.encode(der.INTEGER, b"\x00"),
        renewed.subject_der,
        spki_der(key.public_key()),
        der.encode(der.context(0), attribute),
    )
    return _signed(info, key, _ECDSA[digest])


def linked_request(request: bytes, key: ec.EllipticCurvePrivateKey, binding: bytes) -> bytes:
    """``request``, a result of ``signing_request``, bound to one TLS connection.

    RFC 7030 section 3.5: base64 of the connection's tls-unique as challengePassword.
    """
    info, algorithm, _ = der.read_one(request).children()
    *fields, attributes = info.children()
    password = der.encode(
        der.SEQUENCE,
        der.encode(der.OID, _CHALLENGE_PASSWORD),
        der.encode(der.SET, der.encode(_PRINTABLE_STRING, base64.b64encode(binding))),
    )
    # A SET OF is in the order of its encodings, X.690 section 11.6.
    ordered = sorted([password, *(each.encoded for each in attributes.children())])
    linked = der.encode(
        der.SEQUENCE,
        *(field.encoded for field in fields),
        der.encode(der.context(0), *ordered),
    )
    return _signed(linked, key, algorithm.children()[0].content)


def _signed(info: bytes, key: ec.EllipticCurvePrivateKey, algorithm: bytes) -> bytes:
    return der.encode(
        der.SEQUENCE,
        info,
        der.encode(der.SEQUENCE, der.encode(der.OID, algorithm)),
        der.encode(der.BIT_STRING, b"\x00", key.sign(info, ec.ECDSA(_HASHES[algorithm]))),
    )
