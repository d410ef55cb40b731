"""Where a factory directory keeps its parts, and the forms of the certificates of its PKI.

Subjects, extensions and lives are those of ``fioctl keys ca``. Who makes which of them is the
business of ``directory`` (the operator), ``certs`` (the cloud) and ``props``.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from fioagent.factory.pki.certificates import (
    BOTH_AUTH,
    SERVER_AUTH,
    Authority,
    Extension,
    build,
    certificate_pem,
    key_usage,
    private_pem,
    subject_name,
    validity,
)

ROOT_DAYS: Final = 20 * 365
BELOW_ROOT_DAYS: Final = 10 * 365
NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,36}[a-z0-9])?")
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


class Paths:
    """Where a factory directory keeps its parts."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.pki = directory / "pki"  # the operator's, unless it is elsewhere
        self.cloud = directory / "cloud"
        self.log = directory / "log"
        self.database = directory / "factory.db"
        self.state = directory / "factory.json"
        self.api_token = self.cloud / "api-token"
        self.push_key = self.cloud / "push.pem"
        self.root = self.pki / "factory_ca.pem"


def new_root(key: ec.EllipticCurvePrivateKey, unit: str, common: str = "Factory-CA") -> Authority:
    """Signed by itself. ``unit`` is the factory's name."""
    subject = subject_name(common, unit)
    extensions: list[Extension] = [
        (x509.BasicConstraints(ca=True, path_length=None), True),
        key_usage(ca=True, crl=True),
        (BOTH_AUTH, False),  # fioctl's Go code; its documents make it critical
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
    ]
    life = validity(_now(), ROOT_DAYS)
    return Authority(build(subject, key.public_key(), subject, key, extensions, life), key)


def sign_device_ca(
    root: Authority, subject: x509.Name, public_key: CertificatePublicKeyTypes
) -> x509.Certificate:
    extensions: list[Extension] = [
        (x509.BasicConstraints(ca=True, path_length=0), True),
        key_usage(ca=True),
        (x509.SubjectKeyIdentifier.from_public_key(public_key), False),
    ]
    return root.sign(subject, public_key, extensions, validity(_now(), BELOW_ROOT_DAYS))


def sign_server(
    root: Authority, subject: x509.Name, public_key: CertificatePublicKeyTypes, hosts: Sequence[str]
) -> x509.Certificate:
    """``hosts``: names and addresses."""
    extensions: list[Extension] = [
        key_usage(digital_signature=True),
        (SERVER_AUTH, False),
        (x509.SubjectAlternativeName([_general_name(host) for host in hosts]), False),
    ]
    return root.sign(subject, public_key, extensions, validity(_now(), BELOW_ROOT_DAYS))


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def write_pair(pair: Authority, certificate: Path, key_file: Path) -> None:
    write_new(key_file, private_pem(pair.key, traditional=True), 0o400)
    write_new(certificate, certificate_pem(pair.certificate), 0o400)


def write_new(path: Path, data: bytes, mode: int) -> None:
    """The file, new; its mode holds before it has any content. No power cut takes it back."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _now() -> datetime:
    return datetime.now(timezone.utc).replace(microsecond=0)
