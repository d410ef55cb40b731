"""Checks on a certificate that an EST server has sent us.

Decides; does not fetch, store or log. What RFC 7030 section 4.2.3 asks of a
client and what the device gateway asks on top is all here; building a whole
chain is not: the gateway does it, and a handshake tells the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from fioagent.errors import PeerError, TemporaryError
from fioagent.x509 import Certificate, CertificateError

MAX_DER = 8 * 1024  # bytes; tokens and OP-TEE's heap take no more
_FUTURE_LIMIT = timedelta(hours=24)
_WEAK_HASHES = frozenset(("md5", "sha1"))
_KNOWN_CRITICAL = frozenset(
    (
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.CERTIFICATE_POLICIES,
    )
)


@dataclass(frozen=True, slots=True)
class Policy:
    """What a factory may loosen or tighten; ``[est]`` in the settings file.

    Attributes:
        allow_san_loss: estserver drops the SubjectAltName that it asks for.
        require_chain: refuse a certificate whose issuer is nowhere at hand.
        skew: how far the server's clock may be ahead of ours without a word.
        minimum_life: less than this left, and the certificate is no use.
    """

    allow_san_loss: bool = False
    require_chain: bool = False
    skew: timedelta = timedelta(minutes=10)
    minimum_life: timedelta = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Issued:
    """The certificate to use, and what an operator should know about it."""

    certificate: Certificate
    warnings: tuple[str, ...]


def check(
    answer: Sequence[bytes],
    *,
    spki: bytes,
    renewed: Certificate,
    roots: Sequence[Certificate],
    now: datetime,
    policy: Policy,
) -> Issued:
    """The one certificate in ``answer`` for our key, fit to replace ``renewed``.

    Args:
        answer: DER, any order; the others are candidate issuers.
        spki: DER SubjectPublicKeyInfo of the new key.
        renewed: the live certificate.
        roots: the configured trust anchors.
        now: the device's clock, plausible.
        policy: what the factory allows.

    Raises:
        PeerError: "cannot use the certificate ...: <why>".
        TemporaryError: the same, of one that is not valid for days to come.
    """
    if not answer:
        raise _refused("the answer holds none")
    certificates = [parsed for encoded in answer if (parsed := _parsed(encoded)) is not None]
    ours = [candidate for candidate in certificates if candidate.spki_der == spki]
    if not certificates:
        raise _refused("it cannot be read")
    if not ours:
        raise _refused("it is for another key than the one we asked for")
    new = ours[0]
    others = [candidate for candidate in certificates if candidate is not new]
    try:
        warnings = [
            *_identity(new, renewed, policy),
            *_validity(new, now, policy),
            *_usage(new.parsed),
            *_form(new),
            *_issuer(new, [*others, *roots], policy),
        ]
    except (ValueError, KeyError, x509.DuplicateExtension, UnsupportedAlgorithm) as error:
        raise _refused(f"it is malformed: {error}") from error
    return Issued(new, tuple(warnings))


def _refused(why: str) -> PeerError:
    return PeerError(f"cannot use the certificate that the EST server issued: {why}")


def _parsed(encoded: bytes) -> Certificate | None:
    """None for one that we cannot read: an issuer that a server adds may be of any kind."""
    try:
        return Certificate.from_der(encoded)
    except CertificateError:
        return None


def _identity(new: Certificate, renewed: Certificate, policy: Policy) -> list[str]:
    warnings = []
    same_issuer = new.issuer_der == renewed.issuer_der
    # The gateway denies the old certificate after the switch: a serial number
    # that is used again could lock the device out.
    if same_issuer and new.parsed.serial_number == renewed.parsed.serial_number:
        raise _refused(f"it has the serial number of the live one, {renewed.serial}")
    if new.subject_der != renewed.subject_der:
        if _loose(new.parsed.subject) != _loose(renewed.parsed.subject):
            raise _refused(f"its subject is {new.subject!r}, not {renewed.subject!r}")
        warnings.append("the server re-encoded the subject")
    if _names(new.parsed) != _names(renewed.parsed):
        if not policy.allow_san_loss or _names(new.parsed):
            raise _refused("its SubjectAltName is not that of the live one")
        warnings.append("the server dropped the SubjectAltName")
    if not same_issuer:
        warnings.append("issued by another CA than the one before")
    return warnings


def _loose(name: x509.Name) -> list[frozenset[tuple[str, str | bytes]]]:
    """The name without its string types."""
    return [frozenset((a.oid.dotted_string, a.value) for a in rdn) for rdn in name.rdns]


def _names(certificate: x509.Certificate) -> frozenset[x509.GeneralName]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(found.value)


def _validity(new: Certificate, now: datetime, policy: Policy) -> list[str]:
    if new.not_before >= new.not_after:
        raise _refused(f"its validity ends ({new.not_after:%Y-%m-%d}) before it begins")
    if new.not_after <= now:
        raise _refused(
            f"it expired on {new.not_after:%Y-%m-%d %H:%M} UTC, "
            f"and the device's clock says {now:%Y-%m-%d %H:%M}"
        )
    if new.not_after - now < policy.minimum_life:
        raise _refused(f"it expires within {policy.minimum_life}")
    ahead = new.not_before - now
    if ahead > _FUTURE_LIMIT:
        # A clock that is behind is the likely reason, and time mends it.
        raise TemporaryError(
            f"cannot use the certificate that the EST server issued: it is valid from "
            f"{new.not_before:%Y-%m-%d %H:%M} UTC, and the device's clock says "
            f"{now:%Y-%m-%d %H:%M}",
            hint="wait for time synchronisation, or set the clock",
        )
    if ahead > policy.skew:
        minutes = int(ahead.total_seconds()) // 60
        return [f"not valid for another {minutes} minutes: is the device's clock behind?"]
    return []


def _usage(certificate: x509.Certificate) -> list[str]:
    warnings = []
    by_type = {type(extension.value): extension.value for extension in certificate.extensions}
    extended = by_type.get(x509.ExtendedKeyUsage)
    if not isinstance(extended, x509.ExtendedKeyUsage):
        warnings.append("it has no extended key usage")
    elif ExtendedKeyUsageOID.CLIENT_AUTH not in extended:
        if ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE not in extended:
            raise _refused("it is not for client authentication")
        warnings.append("it is for any extended key usage")
    usage = by_type.get(x509.KeyUsage)
    if isinstance(usage, x509.KeyUsage):
        if not usage.digital_signature:
            raise _refused("its key usage does not allow digital signatures")
        if usage.key_cert_sign or usage.crl_sign:
            raise _refused("its key usage is that of a CA")
    constraints = by_type.get(x509.BasicConstraints)
    if isinstance(constraints, x509.BasicConstraints) and constraints.ca:
        raise _refused("it is a CA certificate")
    return warnings


def _form(new: Certificate) -> list[str]:
    certificate = new.parsed
    if len(new.der) > MAX_DER:
        raise _refused(f"it is longer than {MAX_DER} bytes")
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in _KNOWN_CRITICAL:
            raise _refused(f"unknown critical extension {extension.oid.dotted_string}")
    algorithm = certificate.signature_hash_algorithm
    if algorithm is not None and algorithm.name in _WEAK_HASHES:
        raise _refused(f"it is signed with {algorithm.name}")
    if not 0 < certificate.serial_number < 1 << 159:
        return ["its serial number is longer than RFC 5280 allows"]
    return []


def _issuer(new: Certificate, known: Sequence[Certificate], policy: Policy) -> list[str]:
    """Signature of the issuer, where an issuer is at hand.

    estserver sends roots without the CA that issued, so its absence is no error by default.
    """
    named = [candidate for candidate in known if candidate.subject_der == new.issuer_der]
    for candidate in named:
        try:
            new.parsed.verify_directly_issued_by(candidate.parsed)
        except (InvalidSignature, ValueError, TypeError):
            continue
        _require_strong(candidate)
        return []
    if named:
        raise _refused("its signature is not that of the issuer it names")
    if policy.require_chain:
        raise _refused(f"its issuer {new.issuer!r} is nowhere at hand (est.require_chain)")
    return []


def _require_strong(issuer: Certificate) -> None:
    key = issuer.parsed.public_key()
    weak_rsa = isinstance(key, rsa.RSAPublicKey) and key.key_size < 2048
    weak_ec = isinstance(key, ec.EllipticCurvePublicKey) and key.key_size < 224
    if weak_rsa or weak_ec:
        raise _refused("the key of its issuer is too short")
