"""The first two phases: a key with its request, and a certificate for it.

What an EST server wants of a request is asked before there is a key, because it may
want another kind of key. Where nobody could be asked, the request is made all the
same, and made anew should it turn out that the server wants more.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from fioagent import certcheck, x509
from fioagent.certcheck import Issued
from fioagent.csrattrs import Demands
from fioagent.errors import CredentialRefusedError, PeerError, TemporaryError
from fioagent.model import Facts, Issuance
from fioagent.ports import Est
from fioagent.rotation.machine import Phase, Rotation
from fioagent.rotation.preflight import require_clock, require_derives_as, require_pair
from fioagent.site import Device
from fioagent.x509 import Certificate, CertificateError

_NOT_KNOWN: Final = "not known"
# What a server says to a certificate that is not valid yet, depending on its TLS library.
_CLOCK_ALERTS: Final = ("bad certificate", "certificate expired", "certificate unknown")
_SETTLING_TIME: Final = timedelta(minutes=10)


def generate_key(rotation: Rotation, device: Device) -> Facts:
    """A new key at its own place, and the request that it signs, before anybody sees either.

    Raises:
        PeerError: the server wants a request that this device cannot make; no key is made.
    """
    renewed = require_pair(device, rotation.old)
    wanted = _demands(rotation, device, renewed)
    if wanted.problem is not None:
        raise PeerError(
            f"cannot enrol: {wanted.problem}",
            hint="with est.csrattrs = false the server is asked all the same",
        )
    announced = rotation.announced
    device.keys.generate(rotation.new, rotation.old, announced=announced, curve=wanted.curve)
    key = device.keys.private_key(rotation.new)
    require_derives_as(key, device.keys.private_key(rotation.old))
    request = x509.signing_request(key, renewed, digest=wanted.digest, extensions=wanted.extensions)
    return {
        "csr": base64.b64encode(request).decode("ascii"),
        "spki_sha256": x509.spki_sha256(key.public_key()),
        **({"linked": True} if wanted.linked else {}),
        **({} if wanted.known else {"csrattrs": _NOT_KNOWN}),
        **({"notes": "; ".join(wanted.notes)} if wanted.notes else {}),
    }


def _demands(rotation: Rotation, device: Device, renewed: Certificate) -> Demands:
    if not device.settings.est_csrattrs:
        return Demands()
    wanted = _est(rotation, device).csrattrs(renewed.san_der)
    if wanted.linked and device.settings.est_proof_of_possession == "never":
        return dataclasses.replace(wanted, linked=False)
    return wanted


def _est(rotation: Rotation, device: Device) -> Est:
    return device.sessions.est(rotation.est_url, rotation.old)


def must_ask_anew(rotation: Rotation, device: Device) -> bool:
    """Whether the request has to be made once more before it goes out.

    Only where the server could not be asked when it was made. Then it is asked now,
    after a first failure: so a server that is down costs no time twice in one run.
    A key other than that of the request is what a power cut left of making it anew.
    """
    facts = rotation.facts[Phase.KEY_GENERATED]
    if facts.get("csrattrs") != _NOT_KNOWN or not device.settings.est_csrattrs:
        return False
    if device.keys.certificate(rotation.new) is not None:
        return False
    if not device.keys.has_key(rotation.new):
        return True
    key = device.keys.private_key(rotation.new)
    if x509.spki_sha256(key.public_key()) != facts["spki_sha256"]:
        return True
    if not rotation.failures:
        return False
    wanted = _demands(rotation, device, require_pair(device, rotation.old))
    return wanted.known and _differs(wanted, key.curve.name)


def _differs(wanted: Demands, curve: str) -> bool:
    """From a request that was made without a word of the server."""
    usual = Demands()
    return (
        wanted.problem is not None
        or wanted.curve not in (None, curve)
        or (wanted.linked, wanted.digest, wanted.extensions)
        != (usual.linked, usual.digest, usual.extensions)
    )


def issue_certificate(rotation: Rotation, device: Device) -> Facts:
    """A certificate that passes every check and that the gateway's TLS takes.

    After a 202 or a lost answer the same request goes out again, byte for byte:
    servers find a pending one by it, and an ECDSA signature is never the same twice.
    """
    require_clock(device, require_pair(device, rotation.old))
    issued, odd = _stored(rotation, device), list[str]()
    if issued is None:
        company = _company(rotation, device)
        answer = _enrol(rotation, device)
        odd += answer.notes
        issued = _checked(answer.certificates, company, rotation, device)
        device.keys.store_certificate(rotation.new, issued.certificate)
    odd += issued.warnings
    _require_trusted(rotation, device, issued)
    return {**issued.certificate.described(), **({"warnings": "; ".join(odd)} if odd else {})}


def _stored(rotation: Rotation, device: Device) -> Issued | None:
    """An earlier run's certificate, or one taken over; None where it is of no use any more."""
    stored = device.keys.certificate(rotation.new)
    if stored is None:
        return None
    try:
        return _checked([stored.der], [], rotation, device)
    except PeerError:
        return None


def _enrol(rotation: Rotation, device: Device) -> Issuance:
    request = base64.b64decode(rotation.fact(Phase.KEY_GENERATED, "csr"))
    if not rotation.facts[Phase.KEY_GENERATED].get("linked", False):
        return _est(rotation, device).reenroll(request)
    # Good for one connection, so it is made on it; what is durable is the key (docs/adr/0011).
    key = device.keys.private_key(rotation.new)
    linked = functools.partial(x509.linked_request, request, key)
    return _est(rotation, device).reenroll(request, linked)


def _company(rotation: Rotation, device: Device) -> list[Certificate]:
    """Issuers that the server names, to check by and not to trust; none where it does not say.

    Not asked where it has just failed to answer: a server that hangs costs its time once.
    """
    failing = rotation.facts[Phase.KEY_GENERATED].get("csrattrs") == _NOT_KNOWN
    if not device.settings.est_cacerts or (failing and not rotation.failures):
        return []
    try:
        found = _est(rotation, device).cacerts()
    except (PeerError, TemporaryError):
        return []
    company = []
    for encoded in found:
        try:
            company.append(Certificate.from_der(encoded))
        except CertificateError:
            continue
    return company


def _checked(
    answer: Sequence[bytes], company: Sequence[Certificate], rotation: Rotation, device: Device
) -> Issued:
    return certcheck.check(
        answer,
        spki=x509.spki_der(device.keys.private_key(rotation.new).public_key()),
        renewed=require_pair(device, rotation.old),
        roots=device.sessions.trusted_roots(),
        company=company,
        now=device.clock.now(),
        policy=device.settings.certificate_policy,
    )


def _require_trusted(rotation: Rotation, device: Device, issued: Issued) -> None:
    """A CA that the gateway does not trust is found while backing out is free."""
    try:
        match device.settings.rotation_trust_check:
            case "gateway":
                device.sessions.gateway(rotation.new).handshake()
            case "est":
                device.sessions.est(rotation.est_url, rotation.new).handshake()
    except CredentialRefusedError as error:
        # EST servers do not back-date, and a gateway's clock may be behind theirs.
        age = device.clock.now() - issued.certificate.not_before
        if error.alert in _CLOCK_ALERTS and age < _SETTLING_TIME:
            raise TemporaryError(f"{error}; the certificate may be too young for it") from error
        raise
