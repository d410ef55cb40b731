"""The certificate of an answer: what it is for, who signed it, and how it is made."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from fioagent.certcheck import Policy, check
from fioagent.errors import PeerError
from fioagent.x509 import Certificate

from . import made
from .enrolment import (
    CA,
    DAY,
    NEW,
    RENEWED,
    ROOT,
    assert_refused,
    checked,
    issued_for_us,
    patched,
    reencoded,
)
from .made import CLIENT_AUTH, NOW, Extension, key_usage

# ---- V8, V9, V10, V16: what it is for ----


@pytest.mark.parametrize(
    ("extended", "warning"),
    [
        (None, "it has no extended key usage"),
        ([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE], "it is for any extended key usage"),
    ],
)
def test_a_vague_usage_is_worth_a_word(
    extended: list[x509.ObjectIdentifier] | None, warning: str
) -> None:
    """V8: estserver leaves it out where the request did."""
    extensions: list[Extension] = [(key_usage(), True)]
    if extended is not None:
        extensions.append((x509.ExtendedKeyUsage(extended), False))

    assert (warning,) == checked(issued_for_us(extensions=extensions)).warnings


_CRITICAL_UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")


@pytest.mark.parametrize(
    ("extensions", "complaint"),
    [
        (
            [(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)],
            "it is not for client authentication",
        ),
        ([(key_usage(sign=False), True)], "its key usage does not allow digital signatures"),
        ([(key_usage(ca=True), True)], "its key usage is that of a CA"),
        ([(x509.BasicConstraints(ca=True, path_length=0), True)], "it is a CA certificate"),
        ([(_CRITICAL_UNKNOWN, True)], r"unknown critical extension 1\.2\.3\.4"),
        (
            [(x509.NameConstraints([x509.DNSName("x")], None), True)],
            r"unknown critical extension 2\.5\.29\.30",
        ),
    ],
    ids=["server only", "no signatures", "signs certificates", "CA", "unknown", "constraints"],
)
def test_a_certificate_for_something_else_is_refused(
    extensions: list[Extension], complaint: str
) -> None:
    assert_refused(complaint, issued_for_us(extensions=extensions))


def test_an_unknown_extension_that_is_not_critical_is_fine() -> None:
    extensions = [*made.DEVICE_EXTENSIONS, (_CRITICAL_UNKNOWN, False)]

    assert () == checked(issued_for_us(extensions=extensions)).warnings


def test_an_extension_twice_is_refused() -> None:
    """V16: which of the two counts is anybody's guess."""
    usage = bytes.fromhex("300e0603551d0f0101ff040403020780")
    subject = made.device_name().public_bytes()

    assert_refused("it is malformed", made.by_hand(subject, NEW, extensions=[usage, usage]))


def test_an_extension_that_does_not_decode_is_refused() -> None:
    broken = made.tlv(0x30, made.oid("551d0f"), made.tlv(0x04, b"\xff\xff"))
    subject = made.device_name().public_bytes()

    assert_refused("it is malformed", made.by_hand(subject, NEW, extensions=[broken]))


# ---- V11, V13, V15: who signed it, and how ----


def test_a_signature_by_another_than_the_named_issuer_is_refused() -> None:
    """V11: the issuer is at hand, and it has not signed."""
    impostor = made.authority("est-ca")

    assert_refused("its signature is not that of the issuer it names", issued_for_us(ca=impostor))


def test_one_of_two_issuers_of_the_same_name_is_enough() -> None:
    """A CA that was given a new key keeps its name."""
    renewed_ca = made.authority("est-ca")

    issued = checked(issued_for_us(ca=renewed_ca), roots=[CA.certificate, renewed_ca.certificate])

    assert () == issued.warnings


def test_an_issuer_that_came_with_the_answer_counts() -> None:
    impostor = made.authority("est-ca")

    with pytest.raises(PeerError, match="its signature is not that"):
        checked(issued_for_us(ca=impostor), CA.certificate, roots=[])


def test_an_issuer_can_be_required() -> None:
    """V11 with est.require_chain: estserver's own roots do not do."""
    policy = Policy(require_chain=True)

    with pytest.raises(PeerError, match=r"issuer 'CN=est-ca' is nowhere at hand \(est.require"):
        checked(issued_for_us(), roots=[ROOT.certificate], policy=policy)
    with pytest.raises(PeerError, match=r"root 'CN=est-ca' is not in the trust file \(est.require"):
        checked(issued_for_us(), CA.certificate, roots=[ROOT.certificate], policy=policy)
    assert () == checked(issued_for_us(), policy=policy).warnings


@pytest.mark.parametrize(("last", "name"), [(0x05, "sha1"), (0x04, "md5")])
def test_a_broken_hash_is_refused(last: int, name: str) -> None:
    """V13: sha1WithRSAEncryption and md5WithRSAEncryption."""
    key = rsa.generate_private_key(65537, 2048)
    signed = (
        x509.CertificateBuilder()
        .subject_name(made.device_name())
        .issuer_name(CA.certificate.subject)
        .public_key(NEW.public_key())
        .serial_number(99)
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + 9 * DAY)
        .sign(key, hashes.SHA256())
    )
    sha256_with_rsa = bytes.fromhex("2a864886f70d01010b")

    assert_refused(
        f"it is signed with {name}",
        patched(signed, (sha256_with_rsa, sha256_with_rsa[:-1] + bytes([last]))),
    )


def test_an_issuer_with_a_short_key_is_refused() -> None:
    """V13: RSA below 2048 bits, as level 2 of OpenSSL has it."""
    key = rsa.generate_private_key(65537, 1024)  # noqa: S505  # the weakness under test
    builder = (
        x509.CertificateBuilder()
        .issuer_name(made.common_name("weak"))
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + 9 * DAY)
    )
    weak = (
        builder.subject_name(made.common_name("weak"))
        .public_key(key.public_key())
        .serial_number(1)
        .sign(key, hashes.SHA256())
    )
    new = (
        builder.subject_name(made.device_name())
        .public_key(NEW.public_key())
        .serial_number(2)
        .sign(key, hashes.SHA256())
    )

    assert_refused("the key of its issuer is too short", new, weak)


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@pytest.mark.parametrize("serial", [b"\x00", b"\xff", b"\x01" * 21], ids=["0", "-1", "21 octets"])
def test_a_serial_number_beyond_the_rules_is_worth_a_word(serial: bytes) -> None:
    """V15: other programs may refuse it."""
    subject = made.device_name().public_bytes()

    issued = checked(made.by_hand(subject, NEW, serial=serial, issuer=subject), roots=[])

    assert "its serial number is not one that RFC 5280 allows" in issued.warnings


def test_a_serial_number_of_twenty_octets_is_fine() -> None:
    issued = checked(issued_for_us(serial=(1 << 159) - 1))

    assert () == issued.warnings


def test_every_check_counts_on_other_curves_too() -> None:
    """Keys of the other two curves are as good."""
    for curve in (ec.SECP384R1(), ec.SECP521R1()):
        key = made.new_key(curve)
        answer = [made.der(CA.issue(key.public_key()))]

        issued = check(
            answer,
            spki=made.spki(key),
            renewed=Certificate.from_der(made.der(RENEWED)),
            roots=[],
            now=NOW,
            policy=dataclasses.replace(Policy()),
        )

        assert answer == [issued.certificate.der]


def test_warnings_add_up() -> None:
    """Nothing that is worth a word hides something else that is."""
    text = reencoded("dev-1", x509.name._ASN1Type.PrintableString)
    extensions: list[Extension] = [(key_usage(), True)]

    issued = checked(
        issued_for_us(text, ca=ROOT, extensions=extensions, begins=NOW + timedelta(minutes=30)),
    )

    assert 5 == len(issued.warnings)
    assert CLIENT_AUTH not in [extension for extension, _ in extensions]
