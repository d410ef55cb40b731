"""The certificates in a certs-only CMS message, as an EST server answers (RFC 5652, RFC 7030).

Takes what is in the field: indefinite lengths (BouncyCastle), an empty eContent
(estserver cacerts), an empty ``crls`` (Go's pkcs7), signers that nobody asked
for, any order of certificates. Certificates keep their bytes. Signatures are
not looked at: a certs-only message has none to look at.
"""

from __future__ import annotations

from fioagent import der

MAX_CERTIFICATES = 32
_SIGNED_DATA = bytes.fromhex("2a864886f70d010702")  # 1.2.840.113549.1.7.2


class Pkcs7Error(ValueError):
    """Not a certs-only message; the text says why."""


def certificates(message: bytes) -> list[bytes]:
    """DER of each X.509 certificate in ``message`` (BER ContentInfo), in the order sent.

    Raises:
        Pkcs7Error: not SignedData, malformed, or more than MAX_CERTIFICATES.
    """
    try:
        return _certificates(message)
    except der.DerError as error:
        raise Pkcs7Error(f"not a certs-only PKCS#7 message: {error}") from error


def _certificates(message: bytes) -> list[bytes]:
    content_info = der.read_one(message, ber=True).expect(der.SEQUENCE).children(ber=True)
    _require_frame(content_info)
    explicit = content_info[1].expect(der.context(0)).children(ber=True)
    if len(explicit) != 1:
        raise Pkcs7Error("not a certs-only PKCS#7 message: no SignedData inside")
    fields = explicit[0].expect(der.SEQUENCE).children(ber=True)
    if [field.tag for field in fields[:3]] != [der.INTEGER, der.SET, der.SEQUENCE]:
        raise Pkcs7Error("not a certs-only PKCS#7 message: SignedData is malformed")

    # RFC 5652 section 10.2.2: [0] to [3] choices are attribute and other
    # certificates; only the plain SEQUENCE is X.509.
    found = [
        choice.encoded
        for field in fields[3:]
        if field.tag == der.context(0)
        for choice in field.children(ber=True)
        if choice.tag == der.SEQUENCE
    ]
    if len(found) > MAX_CERTIFICATES:
        raise Pkcs7Error(f"{len(found)} certificates where at most {MAX_CERTIFICATES} make sense")
    return found


def _require_frame(content_info: list[der.Element]) -> None:
    """ContentInfo with SignedData in it, RFC 5652 section 3."""
    tags = [element.tag for element in content_info]
    if tags[:2] == [der.INTEGER, der.SET]:  # opencertserver before April 2026
        raise Pkcs7Error("not a certs-only PKCS#7 message: SignedData without its ContentInfo")
    if tags == [der.SEQUENCE, der.SEQUENCE, der.BIT_STRING]:  # Trustpoint before November 2025
        raise Pkcs7Error("not a certs-only PKCS#7 message: it is a bare certificate")
    if len(content_info) != 2 or content_info[0].expect(der.OID).content != _SIGNED_DATA:
        raise Pkcs7Error("not a certs-only PKCS#7 message: the content is not SignedData")
