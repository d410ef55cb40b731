"""What the EST server asks of a certificate request: estserver's rules, in its words.

Decides; does not issue. Each refusal is an answer 400 of estserver.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import ExtensionOID

# Bits and purposes are compared as DER, not by meaning, and so other encodings are refused.
ALLOWED: Final = {
    ExtensionOID.KEY_USAGE: (bytes.fromhex("03020780"), "KeyUsage"),
    ExtensionOID.EXTENDED_KEY_USAGE: (
        bytes.fromhex("300a06082b06010505070302"),
        "ExtendedKeyUsage",
    ),
}

# What pyca says of a request or a certificate that it cannot read.
UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


class CsrError(ValueError):
    """The request is refused; the text is the answer."""


def decode(body: bytes) -> x509.CertificateSigningRequest:
    """The request in ``body``: base64 with CR and LF anywhere, no other white space, no armour.

    RFC 8951 would tolerate spaces and tabs as well. estserver does not, and a client that
    works here must work there.

    Raises:
        CsrError: as estserver puts it.
    """
    try:
        der = base64.b64decode(body.replace(b"\r", b"").replace(b"\n", b""), validate=True)
    except binascii.Error as error:
        raise CsrError(f"The CSR payload is not base64 encoded: {error}") from error
    if not der:
        raise CsrError("The CSR could not be decoded: asn1: syntax error: sequence truncated")
    try:
        request = x509.load_der_x509_csr(der)
        _check_extensions(request.extensions)
        _ = request.subject, request.public_key()
    except CsrError:
        raise
    except UNREADABLE as error:
        raise CsrError(f"The CSR could not be decoded: {error}") from error
    return request


def _check_extensions(extensions: x509.Extensions) -> None:
    for extension in extensions:
        allowed, name = ALLOWED.get(extension.oid, (None, ""))
        if allowed is not None and extension.value.public_bytes() != allowed:
            raise CsrError(f"The CSR could not be decoded: Unsupported CSR {name} value")


def is_signed(request: x509.CertificateSigningRequest) -> bool:
    """By its own key."""
    try:
        return request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm, InvalidSignature):
        return False


def check_signature(request: x509.CertificateSigningRequest, ca: x509.Certificate) -> None:
    """The request is signed with its own key, in the way the CA's certificate was signed.

    The second half is a rule of estserver alone. With our P-256 root it leaves
    ecdsa-with-SHA256.

    Raises:
        CsrError: as estserver puts it.
    """
    if not is_signed(request):
        raise CsrError("The CSR signature is invalid: x509: verification failure")
    if request.signature_algorithm_oid != ca.signature_algorithm_oid:
        raise CsrError("Signature algorithm of the CSR does not match that of the CA")


def check_same_device(request: x509.CertificateSigningRequest, current: x509.Certificate) -> None:
    """Subject and alternative names are those of the ``current`` certificate, byte for byte.

    Raises:
        CsrError: as estserver puts it.
    """
    if request.subject.public_bytes() != current.subject.public_bytes():
        raise CsrError("Subject field of CSR must match the current client certificate")
    if _alternative_name(request.extensions) != _alternative_name(current.extensions):
        raise CsrError("SubjectAltName field of CSR must match the current client certificate")


def _alternative_name(extensions: x509.Extensions) -> bytes | None:
    """DER of the value; whether it is critical does not count."""
    for extension in extensions:
        if extension.oid == ExtensionOID.SUBJECT_ALTERNATIVE_NAME:
            return bytes(extension.value.public_bytes())
    return None
