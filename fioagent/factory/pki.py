"""The PKI of a new factory.

``pki/`` is what ``fioctl keys ca create`` leaves on the operator's disk: names, subjects,
extensions, validities and modes as fioctl leaves them. ``cloud/`` is what the cloud
keeps to itself: the keys that never leave it. Beside them lies a second PKI that nobody
trusts, so that tests can present the wrong certificate to either side.
"""

from __future__ import annotations

import ipaddress
import os
import re
import secrets
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from cryptography import x509

from fioagent.factory.certificates import (
    BOTH_AUTH,
    SERVER_AUTH,
    Authority,
    Extension,
    build,
    certificate_pem,
    key_usage,
    load_authority,
    new_key,
    private_pem,
    subject_name,
    validity,
)

ROOT_DAYS: Final = 20 * 365
BELOW_ROOT_DAYS: Final = 10 * 365
NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,36}[a-z0-9])?")

DEVICE_CA: Final[tuple[Extension, ...]] = (
    (x509.BasicConstraints(ca=True, path_length=0), True),
    key_usage(ca=True),
)


class Paths:
    """Where a factory directory keeps its parts."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.pki = directory / "pki"
        self.cloud = directory / "cloud"
        self.log = directory / "log"
        self.database = directory / "factory.db"
        self.state = directory / "factory.json"
        self.api_token = self.cloud / "api-token"
        self.push_key = self.cloud / "push.pem"
        self.root = self.pki / "factory_ca.pem"

    def authority(self, name: str) -> Authority:
        """The device CA called ``name``: local-ca, online-ca or foreign-ca."""
        if name == "local-ca":
            return load_authority(self.pki / "local-ca.pem", self.pki / "local-ca.key")
        if name == "online-ca":
            return load_authority(self.pki / "online-crt", self.cloud / "online-ca.key")
        return load_authority(self.cloud / "foreign-ca.pem", self.cloud / "foreign-ca.key")

    def device_cas(self) -> tuple[Path, ...]:
        """What the gateway and the EST server trust: the device CAs, never the root."""
        return self.pki / "local-ca.pem", self.pki / "online-crt"


def create(paths: Paths, name: str) -> None:
    """Both PKIs of the factory ``name``, in directories that do not exist yet."""
    paths.pki.mkdir(mode=0o700)
    paths.cloud.mkdir(mode=0o700)

    root = _root(paths.pki / "factory_ca.pem", paths.pki / "factory_ca.key", name)
    # A user id of the cloud has 24 hex digits; it names the owner of auto-registered devices.
    owner = f"fio-{secrets.token_hex(12)}"
    _device_ca(root, paths.pki / "local-ca.pem", paths.pki / "local-ca.key", owner, name)
    _device_ca(
        root, paths.pki / "online-crt", paths.cloud / "online-ca.key", "ota-devices-CA", name
    )
    # The real gateway certificate names the gateway first and the ostree host second.
    hosts = [f"{name}.ota-lite.test", f"{name}.ostree.test", *_LOOPBACK]
    _server(root, paths.pki / "tls-crt", paths.cloud / "tls.key", hosts, name)
    # A real EST certificate has one DNS name: fioctl refuses to work with any other number.
    # Here loopback must do as well.
    hosts = [f"{name}.est.test", *_LOOPBACK]
    _server(root, paths.cloud / "est-tls.pem", paths.cloud / "est-tls.key", hosts, name)

    write_new(paths.api_token, f"{secrets.token_urlsafe(30)}\n".encode(), 0o600)
    _create_foreign(paths.cloud, root, name)


def _create_foreign(cloud: Path, root: Authority, name: str) -> None:
    """The PKI that nobody trusts, and a TLS certificate of the real one for another host."""
    other = "foreign-factory"
    foreign = _root(cloud / "foreign-root.pem", cloud / "foreign-root.key", other)
    _device_ca(
        foreign, cloud / "foreign-ca.pem", cloud / "foreign-ca.key", "foreign-devices-CA", other
    )
    hosts = [*_LOOPBACK]
    _server(foreign, cloud / "foreign-tls.pem", cloud / "foreign-tls.key", hosts, other)
    hosts = ["wrong-host.test"]
    _server(root, cloud / "wrong-host.pem", cloud / "wrong-host.key", hosts, name)


_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


def _root(certificate: Path, key_file: Path, name: str) -> Authority:
    key = new_key()
    subject = subject_name("Factory-CA", name)
    extensions: list[Extension] = [
        (x509.BasicConstraints(ca=True, path_length=None), True),
        key_usage(ca=True, crl=True),
        (BOTH_AUTH, False),  # fioctl's Go code; its documents make it critical
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
    ]
    root = Authority(
        build(subject, key.public_key(), subject, key, extensions, validity(_now(), ROOT_DAYS)),
        key,
    )
    _write_pair(root, certificate, key_file)
    return root


def _device_ca(root: Authority, certificate: Path, key_file: Path, common: str, unit: str) -> None:
    key = new_key()
    own_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    signed = root.sign(
        subject_name(common, unit),
        key.public_key(),
        [*DEVICE_CA, (own_id, False)],
        validity(_now(), BELOW_ROOT_DAYS),
    )
    _write_pair(Authority(signed, key), certificate, key_file)


def _server(
    root: Authority, certificate: Path, key_file: Path, hosts: list[str], unit: str
) -> None:
    key = new_key()
    signed = root.sign(
        subject_name(hosts[0], unit),
        key.public_key(),
        [
            key_usage(digital_signature=True),
            (SERVER_AUTH, False),
            (x509.SubjectAlternativeName([_general_name(host) for host in hosts]), False),
        ],
        validity(_now(), BELOW_ROOT_DAYS),
    )
    _write_pair(Authority(signed, key), certificate, key_file)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write_pair(pair: Authority, certificate: Path, key_file: Path) -> None:
    write_new(key_file, private_pem(pair.key, traditional=True), 0o400)
    write_new(certificate, certificate_pem(pair.certificate), 0o400)


def write_new(path: Path, data: bytes, mode: int) -> None:
    """The file, new; its mode holds before it has any content."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def _now() -> datetime:
    return datetime.now(timezone.utc).replace(microsecond=0)
