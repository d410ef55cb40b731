"""Keys, names, certificates, full disks; by hand where ``cryptography`` would not make them.

Nothing here uses the agent's own codec: a bug must not pass on both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=timezone.utc)
CURVES: tuple[ec.EllipticCurve, ...] = (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())

UTF8, PRINTABLE, T61, IA5, BMP = 0x0C, 0x13, 0x14, 0x16, 0x1E
CN, OU = "550403", "55040b"
_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")

Extension = tuple[x509.ExtensionType, bool]


def tlv(tag: int, *contents: bytes) -> bytes:
    content = b"".join(contents)
    if len(content) < 0x80:
        return bytes([tag, len(content)]) + content
    size = len(content).to_bytes(4, "big").lstrip(b"\x00")
    return bytes([tag, 0x80 | len(size)]) + size + content


def oid(hexadecimal: str) -> bytes:
    return tlv(0x06, bytes.fromhex(hexadecimal))


def split(data: bytes) -> list[tuple[int, bytes, bytes]]:
    """Tag, content and whole of each element in a row; input is known to be good DER."""
    found = []
    while data:
        start, length = 2, data[1]
        if length & 0x80:
            start += length & 0x7F
            length = int.from_bytes(data[2:start], "big")
        end = start + length
        found.append((data[0], data[start:end], data[:end]))
        data = data[end:]
    return found


def attribute(kind: str, tag: int, value: bytes) -> bytes:
    return tlv(0x30, oid(kind), tlv(tag, value))


def name(*rdns: bytes) -> bytes:
    """DER Name of RDNs, each one given as its attributes in the order to be kept."""
    return tlv(0x30, *(tlv(0x31, rdn) for rdn in rdns))


def spki(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def by_hand(
    subject: bytes,
    key: ec.EllipticCurvePrivateKey,
    *,
    serial: bytes = b"\x01",
    issuer: bytes = b"\x30\x00",
    extensions: Sequence[bytes] = (),
    version: bytes = tlv(0xA0, tlv(0x02, b"\x02")),
    signer: ec.EllipticCurvePrivateKey | None = None,
) -> bytes:
    """DER certificate with ``subject`` to the byte; self-signed unless ``signer`` is given."""
    validity = tlv(0x30, tlv(0x17, b"260101000000Z"), tlv(0x17, b"300101000000Z"))
    fields = [version, tlv(0x02, serial), _ECDSA_SHA256, issuer, validity, subject, spki(key)]
    if extensions:
        fields.append(tlv(0xA3, tlv(0x30, *extensions)))
    tbs = tlv(0x30, *fields)
    signature = (signer or key).sign(tbs, ec.ECDSA(hashes.SHA256()))
    return tlv(0x30, tbs, _ECDSA_SHA256, tlv(0x03, b"\x00", signature))


def new_key(curve: ec.EllipticCurve | None = None) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve or ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey, *, traditional: bool = False) -> bytes:
    form = (
        serialization.PrivateFormat.TraditionalOpenSSL
        if traditional
        else serialization.PrivateFormat.PKCS8
    )
    return key.private_bytes(Encoding.PEM, form, serialization.NoEncryption())


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def device_name(uuid: str = "dev-1", factory: str = "acme") -> x509.Name:
    """As lmp-device-register: OU is the factory, CN the UUID."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, factory),
            x509.NameAttribute(NameOID.COMMON_NAME, uuid),
        ]
    )


def common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def key_usage(*, sign: bool = True, ca: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=not sign,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


CLIENT_AUTH = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
DEVICE_EXTENSIONS: tuple[Extension, ...] = ((key_usage(), True), (CLIENT_AUTH, True))


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA and its key."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def issue(
        self,
        public: ec.EllipticCurvePublicKey,
        subject: x509.Name | None = None,
        *,
        extensions: Sequence[Extension] = DEVICE_EXTENSIONS,
        serial: int | None = None,
        begins: datetime = NOW - timedelta(days=1),
        ends: datetime = NOW + timedelta(days=365),
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(device_name() if subject is None else subject)
            .issuer_name(self.certificate.subject)
            .public_key(public)
            .serial_number(serial or x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
        )
        for value, critical in extensions:
            builder = builder.add_extension(value, critical)
        return builder.sign(self.key, hashes.SHA256())


def authority(title: str = "est-ca", begins: datetime = NOW - timedelta(days=10)) -> Authority:
    key = new_key()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(common_name(title))
        .issuer_name(common_name(title))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(key_usage(ca=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Authority(key, certificate)


def fill(directory: Path) -> Path:
    """A file that takes what is left of its file system, to the byte."""
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(b"\x00" * 512):
                pass
        except OSError:
            return filler
    raise AssertionError("no end of it")
