"""Certificates of every kind, right and wrong, put together from their DER parts.

``cryptography`` makes good ones only. Here each part is bytes, so a row of the table
changes one part and the rest stays as a CA would issue it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fioagent.factory.pki.certificates import Authority
from tests.unit.made import CN, UTF8, attribute, name, oid, split, tlv

V3: Final = tlv(0xA0, tlv(0x02, b"\x02"))
DAY: Final = timedelta(days=1)
HOUR: Final = timedelta(hours=1)

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_ALGORITHMS: Final = {
    (True, "sha1"): "2a8648ce3d0401",
    (True, "sha256"): "2a8648ce3d040302",
    (True, "sha384"): "2a8648ce3d040303",
    (False, "md5"): "2a864886f70d010104",
    (False, "sha1"): "2a864886f70d010105",
    (False, "sha256"): "2a864886f70d01010b",
}


def extension(kind: str, value: bytes, *, critical: bool = False) -> bytes:
    """DER Extension; ``kind`` is the OID's content in hex."""
    flag = tlv(0x01, b"\xff") if critical else b""
    return tlv(0x30, oid(kind), flag, tlv(0x04, value))


def usage(bits: str) -> bytes:
    """KeyUsage; ``bits`` is the BIT STRING's content in hex."""
    return extension("551d0f", tlv(0x03, bytes.fromhex(bits)), critical=True)


def purposes(*kinds: str) -> bytes:
    """Extended key usage, by the last OIDs' content in hex."""
    return extension("551d25", tlv(0x30, *map(oid, kinds)))


def alternative_names(*hosts: str, critical: bool = False) -> bytes:
    names = (tlv(0x82, host.encode()) for host in hosts)
    return extension("551d11", tlv(0x30, *names), critical=critical)


def key_id(issuer: x509.Certificate) -> bytes:
    """The subject key identifier of ``issuer``: its own, else the usual digest of its key."""
    try:
        found = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        return x509.SubjectKeyIdentifier.from_public_key(issuer.public_key()).digest
    return found.value.digest


def authority_key(identifier: bytes) -> bytes:
    return extension("551d23", tlv(0x30, tlv(0x80, identifier)))


CLIENT_AUTH: Final = "2b06010505070302"
SERVER_AUTH: Final = "2b06010505070301"
ANY_PURPOSE: Final = "551d2500"
CMC_RA: Final = "2b0601050507031c"
SIGNING: Final = usage("0780")
FOR_CLIENTS: Final = purposes(CLIENT_AUTH)
NO_CA: Final = extension("551d13", tlv(0x30), critical=True)
A_CA: Final = extension("551d13", tlv(0x30, tlv(0x01, b"\xff")), critical=True)


@dataclass(frozen=True, slots=True)
class Parts:
    """A certificate before it is signed, RFC 5280 section 4.1.

    Attributes:
        issuer: DER Name; so is ``subject``.
        signer: the issuer's key, or who pretends to be it.
        serial: content octets of the INTEGER.
        version: the whole field; empty for version 1.
    """

    subject: bytes
    spki: bytes
    issuer: bytes
    signer: Key
    extensions: tuple[bytes, ...]
    not_before: datetime
    not_after: datetime
    serial: bytes
    digest: hashes.HashAlgorithm
    version: bytes = V3

    def signed(self) -> bytes:
        """DER."""
        is_ec = isinstance(self.signer, ec.EllipticCurvePrivateKey)
        algorithm = tlv(0x30, oid(_ALGORITHMS[is_ec, self.digest.name]), b"" if is_ec else b"\5\0")
        validity = tlv(0x30, _time(self.not_before), _time(self.not_after))
        fields = [self.version, tlv(0x02, self.serial), algorithm, self.issuer, validity]
        fields += [self.subject, self.spki]
        if self.extensions:
            fields.append(tlv(0xA3, tlv(0x30, *self.extensions)))
        to_sign = tlv(0x30, *fields)
        if isinstance(self.signer, ec.EllipticCurvePrivateKey):
            signature = self.signer.sign(to_sign, ec.ECDSA(self.digest))
        else:
            signature = self.signer.sign(to_sign, padding.PKCS1v15(), self.digest)
        return tlv(0x30, to_sign, algorithm, tlv(0x03, b"\x00", signature))


Change = Callable[[Parts], Parts]


def unchanged(parts: Parts) -> Parts:
    return parts


def _time(moment: datetime) -> bytes:
    if moment.year < 2050:
        return tlv(0x17, moment.strftime("%y%m%d%H%M%SZ").encode())
    return tlv(0x18, moment.strftime("%Y%m%d%H%M%SZ").encode())


def now() -> datetime:
    return datetime.now(timezone.utc).replace(microsecond=0)


def below(authority: Authority, subject: bytes, spki: bytes, *extensions: bytes) -> Parts:
    """What ``authority`` would issue: valid from now for a year."""
    return Parts(
        subject=subject,
        spki=spki,
        issuer=authority.certificate.subject.public_bytes(),
        signer=authority.key,
        extensions=(*extensions, authority_key(key_id(authority.certificate))),
        not_before=now(),
        not_after=now() + 365 * DAY,
        serial=b"\x01" + secrets.token_bytes(15),
        digest=hashes.SHA256(),
    )


def for_request(request_der: bytes, authority: Authority) -> Parts:
    """A device certificate for a PKCS#10: its subject, its key, its SubjectAltName."""
    ((_, request, _),) = split(request_der)
    info = split(request)[0][1]
    _version, subject, spki, *rest = split(info)
    extensions = [SIGNING, FOR_CLIENTS, NO_CA, *_requested_names(rest)]
    return below(authority, subject[2], spki[2], *extensions)


def _requested_names(attributes: list[tuple[int, bytes, bytes]]) -> list[bytes]:
    """The SubjectAltName that the request asks for, as it stands there."""
    found = []
    for _, content, _ in attributes:
        for _, one, _ in split(content):
            kind, values = split(one)
            if kind[1] == bytes.fromhex("2a864886f70d01090e"):  # extensionRequest
                extensions = split(split(values[1])[0][1])
                found += [
                    whole for _, inner, whole in extensions if b"\x06\x03\x55\x1d\x11" in inner
                ]
    return found


def spki_of(key: Key) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def common_name(value: str) -> bytes:
    """DER Name with a CN alone."""
    return name(attribute(CN, UTF8, value.encode()))
