"""Requests that repeat a certificate's names to the byte, and certificates as they were issued."""

from __future__ import annotations

import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from fioagent.x509 import (
    Certificate,
    CertificateError,
    pem_certificates,
    signing_request,
    spki_der,
    spki_pem,
    spki_sha256,
)

from . import made
from .made import BMP, CN, IA5, OU, PRINTABLE, T61, UTF8, attribute, name

_KEY = made.new_key()
_SUBJECTS = {
    "UTF8String": name(attribute(OU, UTF8, b"acme"), attribute(CN, UTF8, "Grüße".encode())),
    "PrintableString": name(attribute(OU, PRINTABLE, b"acme"), attribute(CN, PRINTABLE, b"dev 1")),
    "IA5String": name(attribute(CN, IA5, b"dev_1@acme")),
    "BMPString": name(attribute(CN, BMP, "dév".encode("utf-16-be"))),
    "T61String": name(attribute(CN, T61, b"caf\xe9")),
    "mixed types": name(attribute(OU, PRINTABLE, b"acme"), attribute(CN, IA5, b"dev-1")),
    "multi-valued": name(attribute(CN, UTF8, b"a") + attribute(OU, UTF8, b"acme")),
    "same attribute twice": name(attribute(OU, UTF8, b"b"), attribute(OU, UTF8, b"a")),
    "empty": name(),
}
_DNS_AND_OTHER = made.tlv(
    0x30,
    made.tlv(0x82, b"dev-1.example"),
    made.tlv(0xA0, made.oid("2b0601040182371402"), made.tlv(0xA0, made.tlv(UTF8, b"dev@acme"))),
)
_SANS = {
    "as registered": made.tlv(0x30, made.oid("551d11"), made.tlv(0x04, _DNS_AND_OTHER)),
    "critical": made.tlv(
        0x30, made.oid("551d11"), made.tlv(0x01, b"\xff"), made.tlv(0x04, _DNS_AND_OTHER)
    ),
}
# Extensions of RFC 5280, critical, as fioconfig sends them and estserver compares them.
_KEY_USAGE = bytes.fromhex("300e0603551d0f0101ff040403020780")
_CLIENT_AUTH = bytes.fromhex("30160603551d250101ff040c300a06082b06010505070302")


def _requested(request: bytes) -> tuple[bytes, list[bytes]]:
    """Subject and extensions of a PKCS#10, as bytes."""
    ((_, outer, _),) = made.split(request)
    info = made.split(made.split(outer)[0][1])
    (version, subject, _, attributes) = info
    assert (0x02, b"\x00") == version[:2]
    assert 0xA0 == attributes[0]
    ((_, attribute_content, _),) = made.split(attributes[1])
    (kind, values) = made.split(attribute_content)
    assert made.oid("2a864886f70d01090e") == kind[2]
    ((_, extensions, _),) = made.split(values[1])
    return subject[2], [whole for _, _, whole in made.split(extensions)]


@pytest.mark.parametrize("subject", _SUBJECTS.values(), ids=_SUBJECTS.keys())
def test_a_request_repeats_the_subject_to_the_byte(subject: bytes) -> None:
    """RFC 7030 section 4.2.2, and servers that compare DER: whatever was issued is asked for."""
    renewed = Certificate.from_der(made.by_hand(subject, _KEY))

    request = signing_request(made.new_key(), renewed)

    assert subject == renewed.subject_der
    assert subject == _requested(request)[0]


@pytest.mark.parametrize("san", _SANS.values(), ids=_SANS.keys())
def test_a_request_repeats_the_alternative_names_to_the_byte(san: bytes) -> None:
    """Criticality included, whatever kind of name it is."""
    other = made.tlv(0x30, made.oid("551d13"), made.tlv(0x04, b"\x30\x00"))
    certificate = made.by_hand(_SUBJECTS["UTF8String"], _KEY, extensions=[other, san])

    request = signing_request(made.new_key(), Certificate.from_der(certificate))

    assert [_KEY_USAGE, _CLIENT_AUTH, san] == _requested(request)[1]


def test_a_request_asks_for_no_alternative_names_where_there_are_none() -> None:
    """Key usage and extended key usage alone, in the bytes that estserver wants."""
    renewed = Certificate.from_der(made.by_hand(_SUBJECTS["UTF8String"], _KEY))

    assert [_KEY_USAGE, _CLIENT_AUTH] == _requested(signing_request(_KEY, renewed))[1]


@pytest.mark.parametrize("curve", made.CURVES, ids=lambda curve: str(curve.name))
def test_a_request_proves_possession_of_its_key(curve: ec.EllipticCurve) -> None:
    """Two independent readers verify it; the algorithm is that of the CA, not of the curve."""
    key = made.new_key(curve)
    renewed = Certificate.from_der(made.by_hand(_SUBJECTS["UTF8String"], _KEY))

    request = signing_request(key, renewed)

    parsed = x509.load_der_x509_csr(request)
    assert parsed.is_signature_valid
    assert key.public_key() == parsed.public_key()
    assert isinstance(parsed.signature_hash_algorithm, hashes.SHA256)
    command = ["openssl", "req", "-inform", "DER", "-verify", "-noout"]
    shown = subprocess.run(command, input=request, check=True, capture_output=True)
    assert b"verify OK" in shown.stdout + shown.stderr


def test_a_request_names_another_key_than_the_certificate() -> None:
    """The key to be certified is the new one; the old one is nowhere in it."""
    old, new = made.new_key(), made.new_key()
    renewed = Certificate.from_der(made.by_hand(_SUBJECTS["empty"], old))

    request = signing_request(new, renewed)

    assert made.spki(new) in request
    assert made.spki(old) not in request


def test_a_certificate_keeps_its_parts_as_bytes() -> None:
    encoded = made.by_hand(_SUBJECTS["T61String"], _KEY, extensions=[_SANS["critical"]])

    certificate = Certificate.from_der(encoded)

    assert encoded == certificate.der
    assert made.spki(_KEY) == certificate.spki_der
    assert _SANS["critical"] == certificate.san_der
    assert encoded == Certificate.from_pem(certificate.pem).der


def test_a_certificate_of_version_1_has_its_subject_elsewhere() -> None:
    """Without the optional first field everything moves up by one."""
    encoded = made.by_hand(_SUBJECTS["UTF8String"], _KEY, version=b"")

    certificate = Certificate.from_der(encoded)

    assert _SUBJECTS["UTF8String"] == certificate.subject_der
    assert made.spki(_KEY) == certificate.spki_der


def test_names_can_always_be_shown() -> None:
    """A name that the library will not decode is told as such; nothing crashes over it."""
    plain = made.by_hand(_SUBJECTS["UTF8String"], _KEY)
    odd = made.by_hand(_SUBJECTS["T61String"], _KEY, issuer=_SUBJECTS["T61String"])

    assert "CN=Grüße,OU=acme" == Certificate.from_der(plain).subject
    assert "(subject in an unusual encoding)" == Certificate.from_der(odd).subject
    assert "(issuer in an unusual encoding)" == Certificate.from_der(odd).issuer


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@pytest.mark.parametrize(
    "serial",
    ["01", "0f", "10", "0080", "7f" * 16, "00ff" + "00" * 15, "01" + "02" * 19, "00", "ff"],
)
def test_a_serial_number_reads_as_openssl_prints_it(serial: str) -> None:
    """Operators compare it with the output of ``openssl x509 -serial``."""
    encoded = made.by_hand(_SUBJECTS["UTF8String"], _KEY, serial=bytes.fromhex(serial))
    command = ["openssl", "x509", "-inform", "DER", "-serial", "-noout"]
    printed = subprocess.run(command, input=encoded, check=True, capture_output=True).stdout

    assert printed.decode().strip() == f"serial={Certificate.from_der(encoded).serial}"


def test_the_leaf_comes_first_in_a_file() -> None:
    """A registration server may put issuers behind the certificate."""
    issuer = made.authority()
    leaf = issuer.issue(_KEY.public_key())
    text = b"subject=dev-1\r\n" + made.pem(leaf).replace(b"\n", b"\r\n") + b"\n# the CA\n"

    found = pem_certificates(text + made.pem(issuer.certificate))

    assert [made.der(leaf), made.der(issuer.certificate)] == [each.der for each in found]
    assert made.der(leaf) == Certificate.from_pem(text + made.pem(issuer.certificate)).der


@pytest.mark.parametrize(
    "content",
    [b"", b"no PEM here", made.key_pem(_KEY), b"-----BEGIN CERTIFICATE-----\nMII"],
    ids=["empty", "text", "a key", "cut off"],
)
def test_a_file_without_a_certificate_is_refused(content: bytes) -> None:
    assert [] == pem_certificates(content)
    with pytest.raises(CertificateError, match="no PEM certificate in it"):
        Certificate.from_pem(content)


@pytest.mark.parametrize("inside", [b"not base64!", b"MAA="], ids=["text", "empty sequence"])
def test_a_broken_certificate_is_refused(inside: bytes) -> None:
    broken = b"-----BEGIN CERTIFICATE-----\n" + inside + b"\n-----END CERTIFICATE-----\n"

    with pytest.raises(CertificateError, match="not a certificate"):
        Certificate.from_pem(broken)


@given(st.binary(max_size=100))
def test_arbitrary_bytes_raise_nothing_else(data: bytes) -> None:
    with pytest.raises(CertificateError):
        Certificate.from_der(data)


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_a_damaged_certificate_raises_nothing_else() -> None:
    """Each single bit of a certificate turned: read with all its parts, or CertificateError."""
    encoded = made.by_hand(_SUBJECTS["UTF8String"], _KEY, extensions=[_SANS["critical"]])

    for bit in range(8 * len(encoded)):
        damaged = bytearray(encoded)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            found = Certificate.from_der(bytes(damaged))
        except CertificateError:
            continue
        assert bytes(damaged) == found.der
        assert all(isinstance(text, str) for text in (found.subject, found.issuer))
        assert found.serial


def test_a_public_key_is_told_as_openssl_tells_it() -> None:
    """The gateway compares the PEM text: 64 columns, newline at the end."""
    command = ["openssl", "pkey", "-pubout"]
    printed = subprocess.run(command, input=made.key_pem(_KEY), check=True, capture_output=True)
    digest = subprocess.run(
        ["openssl", "dgst", "-sha256", "-r"], input=made.spki(_KEY), check=True, capture_output=True
    )

    assert printed.stdout.decode() == spki_pem(_KEY.public_key())
    assert made.spki(_KEY) == spki_der(_KEY.public_key())
    assert digest.stdout.decode()[:64] == spki_sha256(_KEY.public_key())
