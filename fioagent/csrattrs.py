"""What an EST server asks of a certificate request: RFC 7030 section 4.5.2, RFC 8951 section 4.

A hint of a server, so it may ask for more than we do by ourselves, and never for less:
names come from the certificate that is renewed, and neither key nor signature gets
weaker. What is not understood is ignored, as both RFCs want it; what is understood and
cannot be done is a ``problem``, told before a key is made. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fioagent import der

MAX_ATTRIBUTES: Final = 64
MAX_COPIED: Final = 2048  # bytes of extensions; some servers refuse a request beyond 4096

_CHALLENGE: Final = "1.2.840.113549.1.9.7"  # challengePassword
_EXTENSION_REQUEST: Final = "1.2.840.113549.1.9.14"
_EC_KEY: Final = "1.2.840.10045.2.1"
_RSA_KEY: Final = "1.2.840.113549.1.1.1"
# RFC 9908 section 3.4: the whole request, and an extension of it, as templates.
_TEMPLATES: Final = ("1.2.840.113549.1.9.16.2.61", "1.2.840.113549.1.9.16.2.62")
_SIGNATURES: Final = {
    "1.2.840.10045.4.3.2": "sha256",
    "1.2.840.10045.4.3.3": "sha384",
    "1.2.840.10045.4.3.4": "sha512",
}
_CURVES: Final = {
    "1.2.840.10045.3.1.7": "secp256r1",
    "1.3.132.0.34": "secp384r1",
    "1.3.132.0.35": "secp521r1",
}
_WEAK_CURVES: Final = ("1.2.840.10045.3.1.1", "1.3.132.0.33")  # P-192, P-224
_SUBJECT_ALT_NAME: Final = "2.5.29.17"
_KEY_USAGE: Final = "2.5.29.15"
_EXTENDED_KEY_USAGE: Final = "2.5.29.37"
# Ours already (see x509), or nothing that a device asks for.
_OWN: Final = (_KEY_USAGE, _EXTENDED_KEY_USAGE, "2.5.29.19")


@dataclass(frozen=True, slots=True)
class Demands:
    """What a request has to have besides what each of ours has.

    Attributes:
        linked: the proof of possession is bound to the TLS connection, RFC 7030 section 3.5.
        curve: of the key, as ``cryptography`` names it; None: that of the key before.
        digest: that the request is signed with.
        extensions: DER Extensions to ask for.
        problem: why this device cannot do it; None where it can.
        notes: what was ignored and is worth a word.
        known: False where the server could not be asked.
    """

    linked: bool = False
    curve: str | None = None
    digest: str = "sha256"
    extensions: tuple[bytes, ...] = ()
    problem: str | None = None
    notes: tuple[str, ...] = ()
    known: bool = True


class CsrAttrsError(ValueError):
    """Not CsrAttrs; the text says why."""


def parse(message: bytes, renewed_san: bytes | None) -> Demands:
    """Of DER CsrAttrs, ``SEQUENCE OF CHOICE { OID, Attribute }``.

    ``renewed_san``: DER Extension of the certificate that is renewed, to tell a contradiction.

    Raises:
        CsrAttrsError: malformed, or more than MAX_ATTRIBUTES.
    """
    try:
        return _parse(message, renewed_san)
    except der.DerError as error:
        raise CsrAttrsError(f"not CsrAttrs: {error}") from error


def _parse(message: bytes, renewed_san: bytes | None) -> Demands:
    wanted = der.read_one(message, ber=True).expect(der.SEQUENCE).children(ber=True)
    if len(wanted) > MAX_ATTRIBUTES:
        raise CsrAttrsError(f"not CsrAttrs: more than {MAX_ATTRIBUTES} attributes")
    bare = [der.dotted(each) for each in wanted if each.tag == der.OID]
    attributes: dict[str, list[list[der.Element]]] = {}
    for each in wanted:
        if each.tag == der.SEQUENCE:
            oid, values = _attribute(each)
            attributes.setdefault(oid, []).append(values)
    notes = []
    if any(oid in attributes or oid in bare for oid in _TEMPLATES):
        notes.append("the server sent an RFC 9908 template, which is not supported")
    curve, problem = _key(attributes, notes)
    return Demands(
        linked=_CHALLENGE in bare or _CHALLENGE in attributes,
        curve=curve,
        # A bare curve or hash is no demand: old servers list what they know (libest).
        digest=next((_SIGNATURES[oid] for oid in bare if oid in _SIGNATURES), "sha256"),
        extensions=_extensions(attributes.get(_EXTENSION_REQUEST, []), renewed_san, notes),
        problem=problem,
        notes=tuple(notes),
    )


def _attribute(element: der.Element) -> tuple[str, list[der.Element]]:
    parts = element.children(ber=True)
    if len(parts) != 2 or parts[0].tag != der.OID:
        raise CsrAttrsError("not CsrAttrs: an attribute without type or values")
    return der.dotted(parts[0]), parts[1].expect(der.SET).children(ber=True)


def _key(
    attributes: dict[str, list[list[der.Element]]], notes: list[str]
) -> tuple[str | None, str | None]:
    """Curve and problem. RFC 9908 section 3.2: at most one attribute, with one value or none."""
    asked = [(oid, values) for oid in (_EC_KEY, _RSA_KEY) for values in attributes.get(oid, [])]
    if not asked:
        return None, None
    if len(asked) > 1 or len(asked[0][1]) > 1:
        notes.append("the server asks for several kinds of key at once, which was ignored")
        return None, None
    oid, values = asked[0]
    if oid == _RSA_KEY:
        return None, "the server asks for an RSA key, and configuration is encrypted to EC keys"
    curve = der.dotted(values[0]) if values and values[0].tag == der.OID else None
    if curve in _WEAK_CURVES:
        notes.append("the server asks for a curve below P-256, which was ignored")
    elif curve is not None and curve not in _CURVES:
        return None, f"the server asks for a key on the curve {curve}, which is not known here"
    return _CURVES.get(curve or ""), None


def _extensions(
    requests: list[list[der.Element]], renewed_san: bytes | None, notes: list[str]
) -> tuple[bytes, ...]:
    """Of the one extension request; RFC 7030's own example, with an OID in it, has none."""
    values = [value for request in requests for value in request if value.tag == der.SEQUENCE]
    if not values:
        return ()
    if len(values) != 1:
        notes.append("the server sent several extension requests, which were ignored")
        return ()
    copied: list[bytes] = []
    for extension in values[0].children(ber=True):
        parts = extension.children(ber=True) if extension.tag == der.SEQUENCE else []
        if len(parts) < 2 or parts[0].tag != der.OID or parts[-1].tag != der.OCTET_STRING:
            notes.append("the server asks for an extension that is malformed, which was ignored")
            continue
        oid = der.dotted(parts[0])
        if oid == _SUBJECT_ALT_NAME:
            if parts[-1].content and extension.encoded != renewed_san:
                notes.append("the server asks for another SubjectAltName, which was ignored")
        elif oid not in _OWN and parts[-1].content:
            copied.append(extension.encoded)
    if sum(map(len, copied)) > MAX_COPIED:
        notes.append(f"the server asks for more than {MAX_COPIED} bytes of extensions: ignored")
        return ()
    return tuple(copied)
