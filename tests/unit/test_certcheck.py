"""The certificate of an answer: ours, for the same device, and valid at this time."""

from __future__ import annotations

import _ssl
import ctypes
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fioagent.certcheck import MAX_DER, Policy
from fioagent.errors import PeerError

from . import made
from .enrolment import (
    CA,
    DAY,
    NEW,
    OLD,
    RENEWED,
    ROOT,
    SAN,
    assert_refused,
    checked,
    issued_for_us,
    patched,
    reencoded,
)
from .made import NOW, Extension, key_usage

# ---- what is taken without a word ----


def test_a_certificate_as_estserver_issues_it_is_taken() -> None:
    """Both usages critical, no SAN, and the roots without the CA that issued it."""
    new = issued_for_us()

    issued = checked(new, roots=[ROOT.certificate])

    assert made.der(new) == issued.certificate.der
    assert ("not checked up to a root: issuer 'CN=est-ca' is nowhere at hand",) == issued.warnings


def test_a_certificate_as_globalsign_issues_it_is_taken() -> None:
    """With serverAuth too, key identifiers, the issuer behind it; fioconfig refuses."""
    both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    extensions: list[Extension] = [
        (key_usage(), True),
        (both, False),
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (x509.SubjectKeyIdentifier.from_public_key(NEW.public_key()), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(CA.key.public_key()), False),
        (SAN, False),
    ]
    renewed = CA.issue(OLD.public_key(), extensions=[*made.DEVICE_EXTENSIONS, (SAN, False)])

    issued = checked(issued_for_us(extensions=extensions), CA.certificate, renewed=renewed)

    assert () == issued.warnings


def test_an_error_that_a_token_has_left_behind_is_not_the_certificates() -> None:
    """A module may use the same OpenSSL, and not tidy up; OpenSSL's queue is a thread's own."""
    openssl = ctypes.CDLL(_ssl.__file__)
    openssl.ERR_peek_error.restype = ctypes.c_ulong
    openssl.d2i_X509(None, ctypes.byref(ctypes.c_char_p(b"0")), ctypes.c_long(1))
    assert openssl.ERR_peek_error() != 0

    new = issued_for_us()
    assert made.der(new) == checked(new, roots=[ROOT.certificate]).certificate.der


def test_the_certificate_for_our_key_is_found_in_any_order() -> None:
    new = issued_for_us()

    issued = checked(ROOT.certificate, CA.certificate, new, roots=[])

    assert made.der(new) == issued.certificate.der


def test_a_shorter_life_than_the_old_one_has_is_fine() -> None:
    """The first certificate of a device lives twenty years, the next ones one to three."""
    renewed = CA.issue(OLD.public_key(), ends=NOW + 7000 * DAY)

    assert () == checked(issued_for_us(ends=NOW + 30 * DAY), renewed=renewed).warnings


def test_the_same_names_in_another_order_are_the_same() -> None:
    """V3: a set of names, not a sequence of bytes."""
    turned = x509.SubjectAlternativeName(list(reversed(list(SAN))))
    renewed = CA.issue(OLD.public_key(), extensions=[*made.DEVICE_EXTENSIONS, (SAN, False)])

    issued = checked(
        issued_for_us(extensions=[*made.DEVICE_EXTENSIONS, (turned, True)]), renewed=renewed
    )

    assert () == issued.warnings


def test_a_subject_that_cannot_be_decoded_is_taken_where_its_bytes_are_the_same() -> None:
    """T61String with 8-bit characters: issued once, so to be renewed."""
    subject = made.name(made.attribute(made.CN, made.T61, b"caf\xe9"))
    renewed, new = (made.by_hand(subject, key, serial=s) for key, s in ((OLD, b"1"), (NEW, b"2")))

    issued = checked(new, renewed=renewed, roots=[])

    assert new == issued.certificate.der


def test_a_strange_name_in_the_trust_file_is_no_obstacle() -> None:
    """Another root there may have a name that the library will not decode."""
    odd = made.name(made.attribute(made.CN, made.T61, b"caf\xe9"))
    stranger = made.by_hand(odd, made.new_key(), issuer=odd)

    assert () == checked(issued_for_us(), roots=[stranger, CA.certificate]).warnings


def test_an_issuer_name_that_cannot_be_decoded_is_no_obstacle() -> None:
    """The CA of live and new certificate is the same one, to the byte."""
    odd = made.name(made.attribute(made.CN, made.T61, b"caf\xe9"))
    subject = made.device_name().public_bytes()
    renewed, new = (
        made.by_hand(subject, key, serial=serial, issuer=odd)
        for key, serial in ((OLD, b"1"), (NEW, b"2"))
    )

    assert new == checked(new, renewed=renewed, roots=[]).certificate.der


# ---- V1: ours ----


def test_an_empty_answer_is_refused() -> None:
    assert_refused("the answer holds none")


def test_a_certificate_for_another_key_is_refused() -> None:
    """V1: caches, and servers that make keys themselves."""
    assert_refused("it is for another key", CA.issue(made.new_key().public_key()))


def test_the_live_certificate_is_refused() -> None:
    """V14: fioconfig's own test server sends it back."""
    assert_refused("it is for another key", RENEWED)


def test_something_that_is_no_certificate_is_refused() -> None:
    assert_refused("it cannot be read", b"\x30\x00")


def test_a_certificate_too_long_for_a_token_is_refused() -> None:
    """V17: objects there are small; the issuers behind it are not stored, so they may be long."""
    padding = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x00" * MAX_DER)
    long = CA.issue(made.new_key().public_key(), extensions=[(padding, False)])

    assert_refused("it is longer than 8192 bytes", issued_for_us(extensions=[(padding, False)]))
    assert () == checked(long, issued_for_us()).warnings


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_company_that_cannot_be_read_is_skipped() -> None:
    """What a server adds may be of any kind and version; ours is found all the same."""
    version_9 = made.by_hand(b"\x30\x00", made.new_key(), version=made.tlv(0xA0, b"\x02\x01\x09"))
    negative = made.by_hand(b"\x30\x00", made.new_key(), serial=b"\xff")
    new = issued_for_us()

    issued = checked(b"\x30\x00", version_9, negative, new)

    assert made.der(new) == issued.certificate.der


# ---- V2, V3, V14: the same device ----


def test_a_subject_with_other_string_types_is_worth_a_word() -> None:
    """V2: some CAs re-encode by profile; the gateway reads the same name."""
    issued = checked(issued_for_us(reencoded("dev-1", x509.name._ASN1Type.PrintableString)))

    assert ("the server re-encoded the subject",) == issued.warnings


@pytest.mark.parametrize(
    "subject",
    [
        made.device_name("dev-2"),
        made.device_name("DEV-1"),
        made.device_name("dev-1", "other"),
        made.common_name("dev-1"),
        x509.Name(list(reversed(list(made.device_name())))),
        x509.Name([*made.device_name(), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "acme")]),
        x509.Name([]),
        x509.Name([x509.RelativeDistinguishedName(list(made.device_name()))]),
    ],
    ids=["name", "case", "factory", "less", "order", "more", "empty", "grouping"],
)
def test_another_subject_is_refused(subject: x509.Name) -> None:
    """V2: libest issues whatever was asked for; the gateway would see another device."""
    assert_refused("its subject is ", issued_for_us(subject))


def test_lost_alternative_names_are_refused() -> None:
    """V3: estserver asks for them and then leaves them out."""
    renewed = CA.issue(OLD.public_key(), extensions=[*made.DEVICE_EXTENSIONS, (SAN, False)])

    with pytest.raises(PeerError, match="its SubjectAltName is not that of the live one"):
        checked(issued_for_us(), renewed=renewed)


def test_lost_alternative_names_can_be_allowed() -> None:
    renewed = CA.issue(OLD.public_key(), extensions=[*made.DEVICE_EXTENSIONS, (SAN, False)])

    issued = checked(issued_for_us(), renewed=renewed, policy=Policy(allow_san_loss=True))

    assert ("the server dropped the SubjectAltName",) == issued.warnings


@pytest.mark.parametrize("allowed", [False, True])
@pytest.mark.parametrize("had", [False, True])
def test_other_alternative_names_are_refused(had: bool, allowed: bool) -> None:
    """To lose them may be allowed, to get others never."""
    other = x509.SubjectAlternativeName([x509.DNSName("dev-1.example")])
    before: list[Extension] = [(SAN, False)] if had else []
    renewed = CA.issue(OLD.public_key(), extensions=[*made.DEVICE_EXTENSIONS, *before])

    with pytest.raises(PeerError, match="SubjectAltName is not that of the live one"):
        checked(
            issued_for_us(extensions=[*made.DEVICE_EXTENSIONS, (other, False)]),
            renewed=renewed,
            policy=Policy(allow_san_loss=allowed),
        )


def test_a_serial_number_used_twice_is_refused() -> None:
    """V14: the gateway denies the old one by it, and would lock the device out."""
    assert_refused("it has the serial number of the live one, 07", issued_for_us(serial=7))


def test_the_same_serial_number_of_another_issuer_is_fine() -> None:
    """A rollover of the CA is legal, and told (V12)."""
    issued = checked(issued_for_us(ca=ROOT, serial=7), roots=[ROOT.certificate])

    assert ("issued by another CA than the one before",) == issued.warnings


# ---- V4, V5: time ----


@pytest.mark.parametrize(
    ("begins", "ends", "complaint"),
    [
        (-2 * DAY, -DAY, "it expired on 2026-10-31 12:00 UTC"),
        (-2 * DAY, timedelta(0), "it expired on 2026-11-01 12:00 UTC"),
        (-20 * DAY, DAY - timedelta(seconds=1), "it expires within 1 day"),
    ],
)
def test_a_certificate_of_no_use_now_is_refused(
    begins: timedelta, ends: timedelta, complaint: str
) -> None:
    """V4, V5: estserver issues expired ones with 201 once its CA has expired."""
    assert_refused(complaint, issued_for_us(begins=NOW + begins, ends=NOW + ends))


def test_a_validity_that_ends_before_it_begins_is_refused() -> None:
    """V4: seen with an EST CA that has expired."""
    turned = patched(
        issued_for_us(begins=NOW - DAY, ends=NOW + 400 * DAY),
        (b"261031120000Z", b"281031120000Z"),
    )

    assert_refused(r"its validity ends \(2027-12-06\) before it begins", turned)


def test_a_day_is_enough() -> None:
    assert () == checked(issued_for_us(ends=NOW + DAY)).warnings


@pytest.mark.parametrize(("minutes", "warned"), [(0, False), (10, False), (11, True), (1440, True)])
def test_a_server_clock_ahead_of_ours_is_worth_a_word(minutes: int, warned: bool) -> None:
    """V5: servers do not back-date, and a device's clock may be behind for a while."""
    issued = checked(issued_for_us(begins=NOW + timedelta(minutes=minutes)))

    expected = f"not valid for another {minutes} minutes: is the device's clock behind?"
    assert ((expected,) if warned else ()) == issued.warnings
