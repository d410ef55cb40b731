"""The other side of the factory's servers: credentials and HTTP clients of test devices."""

from __future__ import annotations

import base64
import ssl
import time
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    pkcs7,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fioagent.factory import Factory, Urls

CLIENT_AUTH = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
SERVER_AUTH = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
SIGNATURE_ONLY = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)
TIMEOUT_S = 10


class Clock:
    """The factory's time. It stands still unless a test moves it."""

    def __init__(self) -> None:
        self.now = float(int(time.time()))

    def __call__(self) -> float:
        return self.now

    def tick(self, seconds: float = 1) -> None:
        self.now += seconds


def spki_pem(key: ec.EllipticCurvePrivateKey) -> str:
    public = key.public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def subject(uuid: str, factory: str = "lab-factory") -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, uuid),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, factory),
        ]
    )


@dataclass
class Credential:
    """A key, its certificate, and both as files."""

    uuid: str
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    certificate_file: Path
    key_file: Path

    @property
    def public_key(self) -> str:
        return spki_pem(self.key)

    @classmethod
    def issue(  # what a test may want different in a certificate
        cls,
        factory: Factory,
        directory: Path,
        uuid: str,
        *,
        ca: str = "local-ca",
        key: ec.EllipticCurvePrivateKey | None = None,
        purpose: x509.ExtendedKeyUsage | None = CLIENT_AUTH,
        san: str | None = None,
        expired: bool = False,
        with_chain: bool = False,
    ) -> Credential:
        """Signed by the factory's CA of that name, by code that is not the factory's own."""
        authority = factory.authority(ca)
        issuer, issuer_key = authority.certificate, authority.key
        own_id = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        issuer_id = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own_id)
        key = key or ec.generate_private_key(ec.SECP256R1())
        start = datetime.now(timezone.utc) - timedelta(days=10)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject(uuid))
            .issuer_name(issuer.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + timedelta(days=1 if expired else 100))
            .add_extension(SIGNATURE_ONLY, critical=True)
            .add_extension(issuer_id, critical=False)
        )
        if purpose is not None:
            builder = builder.add_extension(purpose, critical=True)
        if san is not None:
            name = x509.SubjectAlternativeName([x509.DNSName(san)])
            builder = builder.add_extension(name, critical=False)
        certificate = builder.sign(issuer_key, hashes.SHA256())
        chain = issuer.public_bytes(Encoding.PEM) if with_chain else b""
        return cls.save(directory, uuid, key, certificate, chain)

    @classmethod
    def save(
        cls,
        directory: Path,
        uuid: str,
        key: ec.EllipticCurvePrivateKey,
        certificate: x509.Certificate,
        chain: bytes = b"",
    ) -> Credential:
        directory.mkdir()
        certificate_file, key_file = directory / "client.pem", directory / "pkey.pem"
        certificate_file.write_bytes(certificate.public_bytes(Encoding.PEM) + chain)
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return cls(uuid, key, certificate, certificate_file, key_file)


class Client:
    """A device, or whoever has its key, on one kept-alive connection per server."""

    def __init__(self, factory: Factory, urls: Urls, credential: Credential | None) -> None:
        self.urls = urls
        self.credential = credential
        self.session = requests.Session()
        self.session.trust_env = False  # the environment of the tests may name other CAs
        self.session.verify = str(factory.paths.root)
        if credential is not None:
            self.session.cert = (str(credential.certificate_file), str(credential.key_file))

    def close(self) -> None:
        self.session.close()

    @property
    def public_key(self) -> str:
        assert self.credential is not None
        return self.credential.public_key

    def send(self, method: str, path: str, **more: Any) -> requests.Response:
        return self.session.request(method, self.urls.gateway + path, timeout=TIMEOUT_S, **more)

    def get(self, path: str, **headers: str) -> requests.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.send("GET", path, headers=named)

    def announce(self, public_key: str) -> requests.Response:
        return self.send("PATCH", "/device", json={"next_pubkey": public_key})

    def patch_config(self, public_key: str, **files: str) -> requests.Response:
        listed = [{"name": n, "value": v, "unencrypted": False} for n, v in files.items()]
        body = {"reason": "test", "files": listed, "public-key": public_key}
        return self.send("PATCH", "/config", json=body)

    def enrol(
        self, body: bytes, path: str = "/simplereenroll", content_type: str = "application/pkcs10"
    ) -> requests.Response:
        headers = {"Content-Type": content_type}
        url = self.urls.est + path
        return self.session.post(url, body, headers=headers, timeout=TIMEOUT_S)


def csr(  # what a test may want different in a request
    name: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    *,
    usage: x509.KeyUsage | None = SIGNATURE_ONLY,
    purpose: x509.ExtendedKeyUsage | None = CLIENT_AUTH,
    san: str | None = None,
    digest: hashes.HashAlgorithm | None = None,
) -> bytes:
    """A request in DER."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    if usage is not None:
        builder = builder.add_extension(usage, critical=True)
    if purpose is not None:
        builder = builder.add_extension(purpose, critical=True)
    if san is not None:
        names = x509.SubjectAlternativeName([x509.DNSName(san)])
        builder = builder.add_extension(names, critical=False)
    algorithm = digest or hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(Encoding.DER)  # type: ignore[arg-type]


def certificates(answer: requests.Response) -> list[x509.Certificate]:
    """What an EST answer holds."""
    return pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer.content))


def tls_context(factory: Factory, version: ssl.TLSVersion) -> ssl.SSLContext:
    """A client of exactly this version that trusts the factory's root."""
    context = ssl.create_default_context(cafile=factory.paths.root)
    context.minimum_version = context.maximum_version = version
    return context


def client_context(root: Path, credential: Credential) -> ssl.SSLContext:
    """A client with this pair that trusts the factory's root."""
    context = ssl.create_default_context(cafile=root)
    context.load_cert_chain(credential.certificate_file, credential.key_file)
    return context
