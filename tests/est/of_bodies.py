"""Rows: base64 and PKCS#7 in every form of the field, and in forms of nobody."""

from __future__ import annotations

import base64
from typing import Final

from tests.est import messages
from tests.est.messages import certs_only, content_info, indefinite, long_form, signed_data
from tests.est.of_certificates import EXPIRED
from tests.est.replies import folded, issues, packed
from tests.est.scenario import Scenario, refused, taken
from tests.est.server import Exchange
from tests.unit.made import oid, split, tlv

DAMAGED: Final = "is damaged: "
NO_MESSAGE: Final = DAMAGED + "not a certs-only PKCS#7 message"


def _line(der: bytes) -> bytes:
    return base64.b64encode(der)


def _padded(der: bytes) -> bytes:
    """A good message whose base64 does end in padding."""
    for more in range(3):
        message = content_info(
            signed_data(der, digests=tlv(0x30, b"\x05\x00" + bytes([4, more]) + b"x" * more))
        )
        if len(message) % 3:
            return message
    raise AssertionError("three lengths in a row")


def _whole(text: bytes) -> bytes:
    """A multiple of four characters."""
    return text[: len(text) // 4 * 4]


TEXT: Final = [
    taken("base64 in one line", issues(encode=_line)),
    taken("base64 in lines of 76 with CR LF", issues(encode=lambda d: folded(d, 76, "\r\n"))),
    taken("base64 in lines of CR alone", issues(encode=lambda d: folded(d, 64, "\r"))),
    taken("base64 with tabs and spaces", issues(encode=lambda d: folded(d, 60, " \t\r\n "))),
    taken("base64 in lines of one character", issues(encode=lambda d: folded(d, 1))),
    taken(
        "base64 with white space around", issues(encode=lambda d: b"\r\n\n " + _line(d) + b"\n\n")
    ),
    taken("base64 that ends in a NUL", issues(encode=lambda d: folded(d) + b"\x00")),
    taken("binary DER", issues(encode=bytes)),
    refused(
        "base64 with a NUL inside",
        DAMAGED + "not base64",
        issues(encode=lambda d: _line(d)[:40] + b"\x00" + _line(d)[40:]),
    ),
    refused(
        "base64 with a byte order mark",
        DAMAGED + "not base64",
        issues(encode=lambda d: b"\xef\xbb\xbf" + _line(d)),
    ),
    refused(
        "base64 in UTF-16",
        DAMAGED + "not base64",
        issues(encode=lambda d: _line(d).decode().encode("utf-16")),
    ),
    refused("base64url", DAMAGED + "not base64", issues(encode=lambda d: b"MII-_" + _line(d)[5:])),
    refused(
        "base64 without its padding",
        DAMAGED + "not base64",
        issues(packed(_padded), encode=lambda d: _line(d).rstrip(b"=")),
    ),
    refused(
        "base64 in quotes", DAMAGED + "not base64", issues(encode=lambda d: b'"' + _line(d) + b'"')
    ),
    refused("base64 of base64", NO_MESSAGE, issues(encode=lambda d: _line(_line(d)))),
    refused("hexadecimal digits", NO_MESSAGE, issues(encode=lambda d: _whole(d.hex().encode()))),
    refused("an empty body", DAMAGED + "it is empty", issues(encode=lambda _: b"")),
    refused("a body of white space", DAMAGED + "it is empty", issues(encode=lambda _: b" \r\n\t")),
    refused("a NUL alone", DAMAGED + "it is empty", issues(encode=lambda _: b"\x00")),
    refused(
        "text under the type of certificates",
        DAMAGED,
        issues(encode=lambda _: b"Request was rejected"),
    ),
    refused(
        "a page under the type of certificates",
        DAMAGED,
        issues(encode=lambda _: b"<html>Log in</html>"),
    ),
    refused(
        "a PEM certificate",
        DAMAGED,
        issues(encode=lambda _: b"-----BEGIN CERTIFICATE-----\nMIIB\n"),
    ),
]


def _lab(exchange: Exchange, *which: str) -> list[bytes]:
    return [exchange.lab.root_der if w == "root" else exchange.lab.authority_der(w) for w in which]


def _order(*which: str) -> object:
    def body(exchange: Exchange) -> bytes:
        made = [exchange.issue() if w == "leaf" else _lab(exchange, w)[0] for w in which]
        return certs_only(*made)

    return body


def _message(title: str, pack: object) -> Scenario:
    return taken(title, issues(packed(pack)))  # type: ignore[arg-type]


def _other_choice(number: int) -> bytes:
    return tlv(0xA0 | number, tlv(0x02, b"\x01"))


MESSAGES: Final = [
    _message("indefinite lengths around the certificate", messages.ber),
    _message(
        "indefinite lengths inside definite ones",
        lambda der: content_info(signed_data(der, how=indefinite)),
    ),
    _message(
        "definite lengths inside indefinite ones",
        lambda der: content_info(signed_data(der), how=indefinite),
    ),
    _message(
        "lengths in more octets than needed",
        lambda der: content_info(signed_data(der, how=long_form), how=long_form),
    ),
    _message(
        "an empty eContent",
        lambda d: content_info(signed_data(d, e_content=messages.EMPTY_E_CONTENT)),
    ),
    _message(
        "an eContent",
        lambda d: content_info(signed_data(d, e_content=tlv(0xA0, tlv(0x04, b"text")))),
    ),
    _message("empty crls", lambda d: content_info(signed_data(d, crls=messages.EMPTY_CRLS))),
    _message(
        "crls with something in them",
        lambda d: content_info(signed_data(d, crls=tlv(0xA1, tlv(0x30, b"\x05\x00")))),
    ),
    _message(
        "a digest algorithm", lambda d: content_info(signed_data(d, digests=messages.SHA256_DIGEST))
    ),
    _message(
        "a signer", lambda d: content_info(signed_data(d, signers=tlv(0x30, tlv(0x02, b"\x01"))))
    ),
    _message("version 3", lambda d: content_info(signed_data(d, version=3))),
    _message("the certificate twice", lambda d: certs_only(d, d)),
    *(
        _message(
            f"another kind of certificate, [{n}]",
            lambda d, n=n: certs_only(_other_choice(n), d, _other_choice(n)),
        )
        for n in range(4)
    ),
    taken("the issuers behind it", issues(_order("leaf", "online-ca", "root"))),  # type: ignore[arg-type]
    taken("the issuers before it", issues(_order("root", "online-ca", "leaf"))),  # type: ignore[arg-type]
    taken("it among its issuers", issues(_order("online-ca", "leaf", "root"))),  # type: ignore[arg-type]
    taken("CAs of others beside it", issues(_order("foreign-ca", "leaf", "local-ca"))),  # type: ignore[arg-type]
    taken(
        "an issuer that cannot be read beside it",
        issues(packed(lambda d: certs_only(tlv(0x30, b"\x05\x00"), d))),
    ),
    taken("thirty-one others", issues(lambda ex: certs_only(*_lab(ex, "root") * 31, ex.issue()))),
    refused(
        "thirty-two others",
        "33 certificates where at most 32",
        issues(lambda ex: certs_only(*_lab(ex, "root") * 32, ex.issue())),
    ),
    taken(
        "two for our key, the first one good",
        issues(lambda ex: certs_only(ex.issue(), ex.issue(EXPIRED))),
    ),
    refused(
        "two for our key, the second one good",
        "it expired on",
        issues(lambda ex: certs_only(ex.issue(EXPIRED), ex.issue())),
    ),
    refused("its issuer instead", "it is for another key", issues(_order("online-ca"))),  # type: ignore[arg-type]
]


def _without_certificates() -> bytes:
    """SignedData of RFC 5652 with its optional fields left out."""
    signed = split(split(certs_only())[0][1])[1][1]
    fields = [whole for tag, _, whole in split(split(signed)[0][1]) if tag != 0xA0]
    return content_info(tlv(0x30, *fields))


def _broken(title: str, make: object) -> Scenario:
    return refused(title, NO_MESSAGE, issues(make))  # type: ignore[arg-type]


NO_MESSAGES: Final = [
    _broken("a bare certificate", lambda ex: ex.issue()),
    _broken("SignedData without ContentInfo", packed(signed_data)),
    _broken(
        "EnvelopedData",
        packed(lambda d: content_info(signed_data(d), kind=messages.ENVELOPED_DATA)),
    ),
    _broken("data", packed(lambda d: content_info(tlv(0x04, d), kind=messages.DATA))),
    _broken("ContentInfo without content", lambda _: tlv(0x30, oid(messages.SIGNED_DATA))),
    _broken(
        "ContentInfo with two contents",
        packed(
            lambda d: tlv(
                0x30, oid(messages.SIGNED_DATA), tlv(0xA0, signed_data(d), signed_data(d))
            )
        ),
    ),
    _broken("empty SignedData", lambda _: content_info(tlv(0x30))),
    _broken("bytes behind the message", packed(lambda d: certs_only(d) + b"\x00\x00")),
    _broken("two messages", packed(lambda d: certs_only(d) * 2)),
    _broken("a message that is cut off", packed(lambda d: certs_only(d)[:-10])),
    _broken("a message with its first half only", packed(lambda d: certs_only(d)[: len(d) // 2])),
    _broken(
        "a length far beyond the end",
        packed(lambda d: b"\x30\x84\x7f\xff\xff\xff" + certs_only(d)[4:]),
    ),
    _broken(
        "a length of eight octets", packed(lambda d: b"\x30\x88" + b"\x00" * 6 + certs_only(d)[2:])
    ),
    _broken("a length of 127 octets", packed(lambda d: b"\x30\xff" + certs_only(d)[2:])),
    _broken("indefinite lengths without an end", packed(lambda d: messages.ber(d)[:-8])),
    _broken(
        "an indefinite length on a string", lambda _: content_info(tlv(0x30, b"\x04\x80\x00\x00"))
    ),
    _broken("nesting without an end", lambda _: messages.deep()),
    _broken("a tag number above 30", lambda _: b"\x3f\x81\x00\x00"),
    _broken("JSON", lambda _: b'{"certificate": null}'),
    _broken("a key", lambda _: tlv(0x30, tlv(0x02, b"\x00"), tlv(0x04, b"k" * 32))),
    refused(
        "certificates that are strings",
        "the answer holds none",
        issues(packed(lambda d: certs_only(tlv(0x04, d)))),
    ),
    refused(
        "no certificates field", "the answer holds none", issues(lambda _: _without_certificates())
    ),
]


TYPES: Final = (
    [
        taken(f"the type {kind or 'missing'}", issues(kind=kind))
        for kind in (
            "application/pkcs7-mime",
            "application/pkcs7-mime;smime-type=certs-only",
            'Application/PKCS7-Mime; Smime-Type="certs-only"; charset=utf-8',
            "application/x-pkcs7-mime",
            "application/pkcs7-mime; smime-type=server-generated-key",
            None,
        )
    ]
    + [
        refused(f"the type {kind}", f"with {kind}, not with a certificate", issues(kind=kind))
        for kind in (
            "text/html",
            "text/plain",
            "application/json",
            "application/pkcs10",
            "application/pkix-cert",
            "application/octet-stream",
            "multipart/mixed",
        )
    ]
    + [
        refused("a type that is no type", "not with a certificate", issues(kind="certificate")),
        taken("an unknown transfer encoding", issues(headers=["Content-Transfer-Encoding: 8bit"])),
    ]
)

ALL: Final = [*TEXT, *MESSAGES, *NO_MESSAGES, *TYPES]
