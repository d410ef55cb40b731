"""What an EST server says to this device, asked without touching it: for integrators.

Reads the device's pair, trust and settings; writes nothing. What a server is asked is
what a rotation asks, and what it answers is judged by the same checks.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from fioagent import causes, certcheck, chain, esturl, x509
from fioagent.csrattrs import Demands
from fioagent.errors import ConfigError, PeerError, TemporaryError
from fioagent.model import Store
from fioagent.ports import Est
from fioagent.rotation import wanting
from fioagent.rotation.preflight import require_pair
from fioagent.site import Device
from fioagent.x509 import Certificate, CertificateError

_CURVES = {curve.name: curve for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())}


@dataclass(frozen=True, slots=True)
class Report:
    """An answer, explained.

    Attributes:
        lines: for people.
        fields: for machines.
    """

    lines: Sequence[str]
    fields: Mapping[str, object]


def server(device: Device, given: str | None) -> str:
    """The base address that a rotation would use.

    Raises:
        ConfigError: none is known, or it cannot be used.
    """
    secrets = device.settings.config_secrets_directory
    found = given or device.settings.est_server or wanting.est_url_of_trigger(device, secrets)
    if not found:
        raise ConfigError.of(causes.NO_EST, {"doing": "ask"})
    return esturl.labelled(esturl.base_url(found), device.settings.est_label)


def cacerts(device: Device, url: str) -> Report:
    """The CA's certificates, and what each is good for here.

    Raises:
        TemporaryError, PeerError: no answer, or none of use.
    """
    answer = _est(device, url).cacerts()
    company = _readable(answer)
    roots = device.sessions.trusted_roots()
    lines, rows = [f"{len(answer)} certificates from {url}/cacerts"], []
    for certificate in company:
        role = _role(certificate, company, roots, device)
        lines.append(f"  {certificate.subject}, until {certificate.not_after:%Y-%m-%d}: {role}")
        rows.append({**certificate.described(), "subject": certificate.subject, "role": role})
    unread = len(answer) - len(company)
    if unread:
        lines.append(f"  {unread} of them cannot be read, and are ignored")
    lines.append("They help to check a new certificate; none is trusted because of this answer.")
    return Report(lines, {"certificates": rows, "unreadable": unread})


def _role(
    certificate: Certificate,
    company: Sequence[Certificate],
    roots: Sequence[Certificate],
    device: Device,
) -> str:
    if any(certificate.der == root.der for root in roots):
        return "in the trust file"
    try:
        way = chain.path(certificate, company, roots, device.clock.now())
    except chain.ChainError as error:
        return f"not used: {error}"
    return "leads to the trust file" if way.anchored else f"leads to no trusted root: {way.end}"


def csrattrs(device: Device, url: str) -> Report:
    """What the server wants of a request, and what is made of it.

    Raises:
        TemporaryError: nobody could be asked.
    """
    wanted = _demands(_est(device, url), device)
    if not wanted.known:
        raise TemporaryError(f"cannot tell what {url} wants: {'; '.join(wanted.notes)}")
    lines = [f"{url}/csrattrs", *(f"  {line}" for line in _explained(wanted, device))]
    return Report(lines, _fields(wanted))


def _demands(est: Est, device: Device) -> Demands:
    """What the server wants; a problem, too, where a key in a token cannot be so."""
    wanted = est.csrattrs(_live(device).san_der)
    makes_p256_alone = device.live_credential().store is Store.PKCS11
    if makes_p256_alone and wanted.problem is None and wanted.curve not in (None, "secp256r1"):
        problem = f"the server asks for a key on {wanted.curve}, and in a token P-256 alone is made"
        return dataclasses.replace(wanted, problem=problem)
    return wanted


def _explained(wanted: Demands, device: Device) -> list[str]:
    lines = []
    if wanted.linked:
        used = device.settings.est_proof_of_possession == "asked"
        done = "done, over TLS 1.2" if used else 'not done: est.proof_of_possession is "never"'
        lines.append(f"wants the request bound to its connection: {done}")
    if wanted.curve is not None and wanted.problem is None:
        lines.append(f"wants a key on {wanted.curve}: done")
    if wanted.digest != Demands().digest:
        lines.append(f"wants a signature with {wanted.digest}: done")
    if wanted.extensions:
        lines.append(f"wants {len(wanted.extensions)} more extensions in the request: done")
    lines += [f"note: {note}" for note in wanted.notes]
    if wanted.problem is not None:
        lines.append(f"cannot be done: {wanted.problem}")
    if not device.settings.est_csrattrs:
        lines.append("not heeded by rotations: est.csrattrs is false")
    return lines or ["asks for nothing beyond what every request of ours has"]


def _fields(wanted: Demands) -> dict[str, object]:
    extensions = [each.hex() for each in wanted.extensions]
    return {**dataclasses.asdict(wanted), "extensions": extensions, "notes": list(wanted.notes)}


def reenroll(device: Device, url: str) -> Report:
    """A certificate asked for under a key in memory, judged, and thrown away with that key.

    Raises:
        TemporaryError, PeerError: what a rotation would have stopped at, in its words.
    """
    est, live = _est(device, url), _live(device)
    settings = device.settings
    wanted = _demands(est, device) if settings.est_csrattrs else Demands()
    if wanted.problem is not None:
        raise PeerError(f"cannot enrol: {wanted.problem}")
    key = ec.generate_private_key(_curve(device, wanted))
    request = x509.signing_request(key, live, digest=wanted.digest, extensions=wanted.extensions)
    company = _company(est) if settings.est_cacerts else []
    bound = wanted.linked and settings.est_proof_of_possession == "asked"
    linked = functools.partial(x509.linked_request, request, key) if bound else None
    answer = est.reenroll(request, linked)
    issued = certcheck.check(
        answer.certificates,
        spki=x509.spki_der(key.public_key()),
        renewed=live,
        roots=device.sessions.trusted_roots(),
        company=company,
        now=device.clock.now(),
        policy=settings.certificate_policy,
    )
    notes = [*wanted.notes, *answer.notes, *issued.warnings]
    new = issued.certificate
    lines = [
        f"{url}/simplereenroll issued a certificate that passes every check",
        f"  subject  {new.subject}",
        f"  serial   {new.serial}",
        f"  issuer   {new.issuer}",
        f"  valid    {new.not_before:%Y-%m-%d %H:%M} to {new.not_after:%Y-%m-%d %H:%M} UTC",
        *(f"  note     {note}" for note in notes),
        "It is thrown away with its key; nothing on the device was changed. The CA has issued",
        "it all the same. Whether the gateway takes such a certificate was not tried.",
    ]
    return Report(lines, {**new.described(), "notes": notes, "linked": bound})


def _curve(device: Device, wanted: Demands) -> ec.EllipticCurve:
    if wanted.curve is not None:
        return _CURVES[wanted.curve]
    return device.keys.private_key(device.live_credential()).curve


def _company(est: Est) -> list[Certificate]:
    try:
        return _readable(est.cacerts())
    except (PeerError, TemporaryError):
        return []


def _readable(answer: Sequence[bytes]) -> list[Certificate]:
    found = []
    for encoded in answer:
        try:
            found.append(Certificate.from_der(encoded))
        except CertificateError:
            continue
    return found


def _live(device: Device) -> Certificate:
    return require_pair(device, device.live_credential())


def _est(device: Device, url: str) -> Est:
    return device.sessions.est(url, device.live_credential())
