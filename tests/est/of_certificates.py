"""Rows: what may be wrong with an issued certificate, and what may only look so.

By the checks of certcheck.py, in its order; what is not said otherwise is as a CA issues it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.est import messages
from tests.est.certificates import (
    A_CA,
    CLIENT_AUTH,
    DAY,
    FOR_CLIENTS,
    SERVER_AUTH,
    Change,
    Parts,
    alternative_names,
    extension,
    now,
    purposes,
    spki_of,
    usage,
)
from tests.est.replies import changed, issues, packed
from tests.est.scenario import Scenario, refused, taken
from tests.est.server import Exchange
from tests.unit.made import CN, OU, PRINTABLE, UTF8, attribute, name, split, tlv

USE: Final = "cannot use the certificate that the EST server issued: "


def rsa_key(size: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, size)


# --- changes ---


def _with(**fields: object) -> Change:
    return lambda parts: replace(parts, **fields)  # type: ignore[arg-type]


def _times(start: float, end: float) -> Change:
    """Days from now."""
    return lambda parts: replace(parts, not_before=now() + start * DAY, not_after=now() + end * DAY)


def _extensions(*wanted: bytes) -> Change:
    """These, and the authority key identifier."""
    return lambda parts: replace(parts, extensions=(*wanted, parts.extensions[-1]))


def _also(*more: bytes) -> Change:
    return lambda parts: replace(parts, extensions=(*parts.extensions, *more))


def usual_but(kind: str, instead: bytes | None) -> Change:
    """The extension with that OID, in hex, replaced or left out."""

    def change(parts: Parts) -> Parts:
        others = [e for e in parts.extensions if bytes.fromhex("0603" + kind) not in e[:10]]
        return replace(parts, extensions=(*([instead] if instead else []), *others))

    return change


def _subject(rewrite: Callable[[str, str], bytes]) -> Change:
    """``rewrite`` gets CN and OU of the request."""

    def change(parts: Parts) -> Parts:
        values = [split(split(rdn)[0][1])[1][1] for _, rdn, _ in split(split(parts.subject)[0][1])]
        return replace(parts, subject=rewrite(*(value.decode() for value in values)))

    return change


def _cn(value: str, tag: int = UTF8) -> bytes:
    return attribute(CN, tag, value.encode())


def _ou(value: str, tag: int = UTF8) -> bytes:
    return attribute(OU, tag, value.encode())


def _serial_of(exchange: Exchange) -> Change:
    to_sign = split(split(exchange.request.certificate)[0][1])[0][1]
    return _with(serial=split(to_sign)[1][1])


USAGE, PURPOSES, CONSTRAINTS = "551d0f", "551d25", "551d13"


def _unusable(title: str, why: str, change: Change) -> Scenario:
    return refused(title, USE + why, issues(changed(change)))


def _fine(title: str, change: Change, said: str = "") -> Scenario:
    return taken(title, issues(changed(change)), said)


KEYS: Final = [
    _unusable(
        "a certificate for another key",
        "it is for another key",
        lambda parts: replace(parts, spki=spki_of(ec.generate_private_key(ec.SECP256R1()))),
    ),
    _unusable(
        "a certificate for an RSA key",
        "it is for another key",
        lambda parts: replace(parts, spki=spki_of(rsa_key(2048))),
    ),
    refused(
        "the live certificate again",
        USE + "it is for another key",
        issues(lambda exchange: messages.certs_only(exchange.request.certificate)),
    ),
    refused(
        "the serial number of the live one",
        USE + "it has the serial number of the live one",
        issues(
            lambda exchange: messages.certs_only(exchange.issue(_serial_of(exchange), "local-ca"))
        ),
    ),
]

NAMES: Final = [
    _unusable("another CN", "its subject is", _subject(lambda _, ou: name(_cn("else"), _ou(ou)))),
    _unusable("another OU", "its subject is", _subject(lambda cn, _: name(_cn(cn), _ou("else")))),
    _unusable("no subject", "its subject is", _with(subject=name())),
    _unusable("the CN alone", "its subject is", _subject(lambda cn, _: name(_cn(cn)))),
    _unusable(
        "one more part in the subject",
        "its subject is",
        _subject(lambda cn, ou: name(_cn(cn), _ou(ou), _ou("more"))),
    ),
    _unusable(
        "the subject in another order",
        "its subject is",
        _subject(lambda cn, ou: name(_ou(ou), _cn(cn))),
    ),
    _unusable(
        "the subject in one RDN",
        "its subject is",
        _subject(lambda cn, ou: name(b"".join(sorted((_cn(cn), _ou(ou)))))),
    ),
    _unusable(
        "the subject in capitals",
        "its subject is",
        _subject(lambda cn, ou: name(_cn(cn.upper()), _ou(ou.upper()))),
    ),
    _fine(
        "the subject as PrintableString",
        _subject(lambda cn, ou: name(_cn(cn, PRINTABLE), _ou(ou, PRINTABLE))),
        "the server re-encoded the subject",
    ),
    _unusable(
        "a SubjectAltName that nobody asked for",
        "its SubjectAltName is not that of the live one",
        _also(alternative_names("other.test")),
    ),
]

EXPIRED: Final = _times(-2, -1)
VALIDITY: Final = [
    _unusable("an expired certificate", "it expired on", EXPIRED),
    _unusable("one that ends before it begins", "its validity ends", _times(0, -365)),
    _unusable("one that lasts no time", "its validity ends", _times(0, 0)),
    _fine("one for twelve hours", _times(0, 0.5)),
    _unusable("the last twelve hours of ten days", "it expires within", _times(-10, 0.5)),
    _fine("one for two days", _times(0, 2)),
    _fine("one for fifty years", _times(0, 50 * 365)),
    _fine("one that began a year ago", _times(-365, 365)),
    _fine("one that expires before the live one", _times(-1, 0.9)),
]

USES: Final = [
    _unusable(
        "for servers only", "it is not for client", usual_but(PURPOSES, purposes(SERVER_AUTH))
    ),
    _fine("for servers and clients", usual_but(PURPOSES, purposes(SERVER_AUTH, CLIENT_AUTH))),
    _fine("no extended key usage", usual_but(PURPOSES, None), "it has no extended key usage"),
    _fine("no key usage", usual_but(USAGE, None)),
    _fine("no basic constraints", usual_but(CONSTRAINTS, None)),
    _fine("no extension but the authority's key", _extensions(), "it has no extended key usage"),
    _unusable(
        "key usage without signatures",
        "its key usage does not allow digital signatures",
        usual_but(USAGE, usage("0520")),
    ),
    _unusable(
        "key usage of a CA", "its key usage is that of a CA", usual_but(USAGE, usage("0284"))
    ),
    _unusable(
        "key usage for revocation lists",
        "its key usage is that of a CA",
        usual_but(USAGE, usage("0182")),
    ),
    _unusable("a CA", "it is a CA certificate", usual_but(CONSTRAINTS, A_CA)),
]

FORM: Final = [
    _unusable(
        "an unknown critical extension",
        "unknown critical extension 1.3.6.1.4.1.99999.1",
        _also(extension("2b06010401868d1f01", b"\x05\x00", critical=True)),
    ),
    _fine("an unknown extension", _also(extension("2b06010401868d1f01", b"\x05\x00"))),
    _unusable("the same extension twice", "it is malformed", _also(FOR_CLIENTS)),
    _unusable("an extension that is no DER", "it is malformed", usual_but(USAGE, usage("ffff"))),
    _unusable(
        "longer than 8 KiB",
        "it is longer than 8192 bytes",
        _also(extension("2b06010401868d1f01", tlv(0x04, b"x" * 8200))),
    ),
    _unusable("signed with SHA-1", "it is signed with sha1", _with(digest=hashes.SHA1())),  # noqa: S303  # that is the row
    _fine("signed with SHA-384", _with(digest=hashes.SHA384())),
    _fine("a serial number of one octet", _with(serial=b"\x01")),
    _fine("a serial number of twenty octets", _with(serial=b"\x7f" * 20)),
    _fine(
        "a serial number of twenty-one octets",
        _with(serial=b"\x7f" * 21),
        "its serial number is not one that RFC 5280 allows",
    ),
    _fine("a certificate of version 1", _with(version=b"", extensions=())),
    _unusable(
        "an issuer's name that OpenSSL does not read",
        "OpenSSL cannot read it",
        _with(issuer=name(attribute(CN, UTF8, b"\xff\xfe"))),
    ),
    refused(
        "no certificate at all",
        USE + "the answer holds none",
        issues(lambda _: messages.certs_only()),
    ),
    refused(
        "something else in place of a certificate",
        USE + "it cannot be read",
        issues(lambda _: messages.certs_only(tlv(0x30, b"\x05\x00"))),
    ),
    refused(
        "a certificate with its end missing",
        USE + "it cannot be read",
        issues(packed(lambda der: messages.certs_only(tlv(0x30, split(der)[0][1][:-40])))),
    ),
]


ALL: Final = [*KEYS, *NAMES, *VALIDITY, *USES, *FORM]
