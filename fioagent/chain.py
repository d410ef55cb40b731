"""From a certificate to a trust anchor, as far as the certificates at hand lead. Pure.

Anchors are the configured ones and no others: what a server sends, with a certificate
or as its cacerts, helps to find the way and is never trusted for that. So old and new
roots that vouch for each other (RFC 7030 section 4.1.3: OldWithNew, NewWithOld) are
steps on the way like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from fioagent.x509 import Certificate

MAX_STEPS: Final = 8
WEAK_HASHES: Final = frozenset(("md5", "sha1"))


class ChainError(ValueError):
    """An issuer is at hand, and it is none, or too weak; the text says why."""


@dataclass(frozen=True, slots=True)
class Path:
    """How far it leads.

    Attributes:
        anchored: to a configured anchor.
        end: what is missing where it ends, in words; empty where it is anchored.
        issuer_known: whether there is any step at all.
        notes: what is worth a word about the issuers.
    """

    anchored: bool
    end: str
    issuer_known: bool
    notes: tuple[str, ...] = ()


def path(
    leaf: Certificate, company: Sequence[Certificate], anchors: Sequence[Certificate], now: datetime
) -> Path:
    """The way from ``leaf`` over ``company`` to one of ``anchors``.

    Raises:
        ChainError: no issuer of that name has signed ``leaf``, or one on the way is too weak.
    """
    current, notes = leaf, list[str]()
    # A root that is no anchor ends the way; the same key signed by another may lead on.
    known = [*anchors, *sorted(company, key=lambda each: has_signed(each, each))]
    for step in range(MAX_STEPS):
        issuer = _issuer(current, known)
        if issuer is None or issuer.der == current.der:
            if issuer is None and step == 0 and _named(leaf, known):
                raise ChainError("its signature is not that of the issuer it names")
            return Path(False, _missing(current), step > 0, tuple(notes))
        if issuer.not_after < now:
            notes.append(f"its issuer {issuer.subject!r} has expired")
        require_strong(issuer)
        if any(issuer.der == anchor.der for anchor in anchors):
            return Path(True, "", True, tuple(notes))
        _require_strong_signature(issuer)
        current = issuer
    return Path(False, f"no root within {MAX_STEPS} steps", True, tuple(notes))


def _missing(end: Certificate) -> str:
    if end.issuer_der == end.subject_der:
        return f"root {end.subject!r} is not in the trust file"
    return f"issuer {end.issuer!r} is nowhere at hand"


def _named(certificate: Certificate, known: Sequence[Certificate]) -> list[Certificate]:
    return [each for each in known if each.subject_der == certificate.issuer_der]


def _issuer(certificate: Certificate, known: Sequence[Certificate]) -> Certificate | None:
    """The first of its name that has signed it, and whose key it says it was."""
    another_key = False
    for each in _named(certificate, known):
        if not has_signed(each, certificate):
            continue
        if not _is_ca(each):
            raise ChainError(f"its issuer {each.subject!r} is no CA")
        wanted, own = _authority_key_id(certificate), subject_key_id(each)
        if wanted in (None, own) or own is None:
            return each
        another_key = True
    if another_key:
        raise ChainError("its authority key identifier is not that of its issuer")
    return None


def has_signed(issuer: Certificate, certificate: Certificate) -> bool:
    """By name and signature; a root has signed itself."""
    try:
        certificate.parsed.verify_directly_issued_by(issuer.parsed)
    except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return True


def says_ca(certificate: Certificate) -> bool | None:
    """What its basic constraints say; None where it has none."""
    try:
        found = certificate.parsed.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:
        return None
    except (ValueError, x509.DuplicateExtension):
        return False
    return found.value.ca


def _is_ca(certificate: Certificate) -> bool:
    """Old roots of version 1 have no extension to say so."""
    said = says_ca(certificate)
    return certificate.issuer_der == certificate.subject_der if said is None else said


def _authority_key_id(certificate: Certificate) -> bytes | None:
    try:
        found = certificate.parsed.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return None
    return found.value.key_identifier


def subject_key_id(certificate: Certificate) -> bytes | None:
    """None where it has none that can be read."""
    try:
        found = certificate.parsed.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return None
    return found.value.digest


def require_strong(issuer: Certificate) -> None:
    """As OpenSSL judges at its security level 2. Raises ChainError."""
    key = issuer.parsed.public_key()
    weak_rsa = isinstance(key, rsa.RSAPublicKey) and key.key_size < 2048
    weak_ec = isinstance(key, ec.EllipticCurvePublicKey) and key.key_size < 224
    if weak_rsa or weak_ec:
        raise ChainError("the key of its issuer is too short")


def _require_strong_signature(issuer: Certificate) -> None:
    """Of an issuer that is no anchor: nobody looks at an anchor's own."""
    algorithm = issuer.parsed.signature_hash_algorithm
    if algorithm is not None and algorithm.name in WEAK_HASHES:
        raise ChainError(f"its issuer {issuer.subject!r} is signed with {algorithm.name}")
