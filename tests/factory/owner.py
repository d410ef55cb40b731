"""The operator who has the factory's root: certificates and lists for it, right and wrong."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from fioagent.factory import Factory
from fioagent.factory.pki.certificates import Authority, load_authority
from tests.factory.peers import SERVER_AUTH, TIMEOUT_S, subject

DAY = timedelta(days=1)


def today() -> datetime:
    return datetime.now(timezone.utc).replace(microsecond=0)


def name(common: str, unit: str = "lab-factory") -> x509.Name:
    return subject(common, unit)


def pem(value: x509.Certificate | x509.CertificateRevocationList) -> str:
    return value.public_bytes(Encoding.PEM).decode()


def sign(  # what a test may want different in a certificate
    authority: Authority | None,
    who: x509.Name,
    key: ec.EllipticCurvePrivateKey | None = None,
    *,
    public_key: Any = None,
    ca: bool = True,
    san: str | None = None,
    purpose: x509.ExtendedKeyUsage | None = None,
    days: int = 100,
    serial: int | None = None,
) -> x509.Certificate:
    """A certificate by ``authority``; by its own ``key`` without one."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    ends = today() + timedelta(days=days)
    builder = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(authority.certificate.subject if authority else who)
        .public_key(public_key or key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(min(today(), ends) - DAY)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if authority is not None:  # Python 3.13 wants it of a server
        above = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
        builder = builder.add_extension(above, critical=False)
    if san is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(san)]), False)
    if purpose is not None:
        builder = builder.add_extension(purpose, critical=True)
    return builder.sign(authority.key if authority else key, hashes.SHA256())


def crl(
    authority: Authority,
    *serials: int,
    reason: x509.ReasonFlags | None = x509.ReasonFlags.privilege_withdrawn,
    made: datetime | None = None,
) -> str:
    """A list in PEM, good for a quarter of an hour from when it was ``made``."""
    made = made or today()
    builder = x509.CertificateRevocationListBuilder().issuer_name(authority.certificate.subject)
    builder = builder.last_update(made).next_update(made + timedelta(minutes=15))
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(made)
        if reason is not None:
            entry = entry.add_extension(x509.CRLReason(reason), critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    return pem(builder.sign(authority.key, hashes.SHA256()))


class Owner:
    """Over HTTP, with the operator's token."""

    def __init__(self, factory: Factory, api: str) -> None:
        self.factory = factory
        self._url = f"{api}/ota/factories/lab-factory/"
        self._headers = {"OSF-TOKEN": factory.paths.api_token.read_text().strip()}

    def root(self) -> Authority:
        return load_authority(self.factory.paths.root, self.factory.paths.pki / "factory_ca.key")

    def ask(self, method: str, what: str = "certs/", **more: Any) -> requests.Response:
        return requests.request(
            method, self._url + what, headers=self._headers, timeout=TIMEOUT_S, **more
        )

    def certs(self) -> dict[str, Any]:
        answer = self.ask("GET")
        assert answer.status_code == 200, answer.text
        shown: dict[str, Any] = answer.json()
        return shown

    def change(self, **pems: str) -> requests.Response:
        given = {member.replace("_", "-"): value for member, value in pems.items()}
        return self.ask("PATCH", json={**given, "change-meta": {}})

    def retire(self, ca: str, reason: x509.ReasonFlags | None) -> None:
        """By a list of the root's; ``ca`` is a name like local-ca."""
        serial = self.factory.authority(ca).certificate.serial_number
        answer = self.change(ca_revoke_crl=crl(self.root(), serial, reason=reason))
        assert answer.status_code == 200, answer.text

    def request(self, member: str) -> x509.CertificateSigningRequest:
        """One for a new key of the cloud."""
        flags = dict.fromkeys(("first-time-init", "tls-csr", "ca-csr", "est-tls-csr"), False)
        answer = self.ask("POST", json={**flags, member: True})
        assert answer.status_code == 201, answer.text
        return x509.load_pem_x509_csr(answer.json()[member].encode())

    def server(self, member: str = "tls-csr", **how: Any) -> x509.Certificate:
        """For a new key of the cloud, and as it should be but for ``how``."""
        wanted = self.request(member)
        usual: dict[str, Any] = {
            "public_key": wanted.public_key(),
            "ca": False,
            "san": "localhost",
            "purpose": SERVER_AUTH,
        }
        return sign(self.root(), wanted.subject, **{**usual, **how})
