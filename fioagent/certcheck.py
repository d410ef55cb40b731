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
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from fioagent import chain, der
from fioagent.errors import PeerError, TemporaryError
from fioagent.x509 import Certificate, CertificateError

MAX_DER = 8 * 1024  # bytes; tokens and OP-TEE's heap take no more
_DAY = timedelta(days=1)
_FUTURE_LIMIT = timedelta(hours=24)
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
        minimum_life: less than this left, and the certificate is no use. None: a day, or
            a tenth of its whole life where that is less.
    """

    allow_san_loss: bool = False
    require_chain: bool = False
    skew: timedelta = timedelta(minutes=10)
    minimum_life: timedelta | None = None


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
    company: Sequence[Certificate] = (),
    now: datetime,
    policy: Policy,
) -> Issued:
    """The one certificate in ``answer`` for our key, fit to replace ``renewed``.

    Args:
        answer: DER, any order; the others are candidate issuers.
        spki: DER SubjectPublicKeyInfo of the new key.
        renewed: the live certificate.
        roots: the configured trust anchors.
        company: other issuers, such as the server's cacerts; not trusted for that.
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
            *_issuer(new, [*others, *company], roots, now, policy),
        ]
    except (ValueError, KeyError, x509.DuplicateExtension, UnsupportedAlgorithm) as error:
        raise _refused(f"it is malformed: {error}") from error
    return Issued(new, tuple(warnings))


def _refused(why: str, hint: str | None = None) -> PeerError:
    return PeerError(f"cannot use the certificate that the EST server issued: {why}", hint=hint)


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
    if _names(new) != _names(renewed):
        if not policy.allow_san_loss or _names(new):
            hint = None if _names(new) else "est.allow_san_loss takes it without one"
            raise _refused("its SubjectAltName is not that of the live one", hint)
        warnings.append("the server dropped the SubjectAltName")
    if not same_issuer:
        warnings.append("issued by another CA than the one before")
    return warnings


def _loose(name: x509.Name) -> list[frozenset[tuple[str, str | bytes]]]:
    """The name without its string types."""
    return [frozenset((a.oid.dotted_string, a.value) for a in rdn) for rdn in name.rdns]


def _names(certificate: Certificate) -> frozenset[bytes]:
    """DER of each GeneralName: some kinds the library does not read, RFC 5280 section 4.2.1.6."""
    if certificate.san_der is None:
        return frozenset()
    value = der.read_one(certificate.san_der).children()[-1].expect(der.OCTET_STRING)
    names = der.read_one(value.content).expect(der.SEQUENCE).content
    return frozenset(each.encoded for each in der.read_all(names))


def _validity(new: Certificate, now: datetime, policy: Policy) -> list[str]:
    if new.not_before >= new.not_after:
        raise _refused(f"its validity ends ({new.not_after:%Y-%m-%d}) before it begins")
    if new.not_after <= now:
        raise _refused(
            f"it expired on {new.not_after:%Y-%m-%d %H:%M} UTC, "
            f"and the device's clock says {now:%Y-%m-%d %H:%M}"
        )
    least = policy.minimum_life
    if least is None:
        least = min(_DAY, (new.not_after - new.not_before) / 10)
    if new.not_after - now < least:
        raise _refused(f"it expires within {least} (est.minimum_life)")
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
    if algorithm is not None and algorithm.name in chain.WEAK_HASHES:
        raise _refused(f"it is signed with {algorithm.name}")
    _require_openssl_reads(new.der)
    if not 0 < certificate.serial_number < 1 << 159:
        return ["its serial number is not one that RFC 5280 allows"]
    return []


def _require_openssl_reads(encoded: bytes) -> None:
    """TLS is OpenSSL's business, and it reads names that ``cryptography`` leaves alone."""
    import ssl  # noqa: PLC0415  # "fioagent status" loads us, and no TLS

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=encoded)
    except ssl.SSLError:
        # An error that a token's module has left behind is taken for one of this; it is gone now.
        try:
            context.load_verify_locations(cadata=encoded)
        except ssl.SSLError as error:
            raise _refused("OpenSSL cannot read it") from error


def _issuer(
    new: Certificate,
    company: Sequence[Certificate],
    roots: Sequence[Certificate],
    now: datetime,
    policy: Policy,
) -> list[str]:
    """The way to a configured root, as far as issuers are at hand.

    estserver sends roots without the CA that issued, so its absence is no error by default.
    """
    try:
        found = chain.path(new, company, roots, now)
    except chain.ChainError as error:
        raise _refused(str(error)) from error
    if found.anchored:
        return [*found.notes]
    if policy.require_chain:
        raise _refused(f"its {found.end} (est.require_chain)")
    return [*found.notes, f"not checked up to a root: {found.end}"]
