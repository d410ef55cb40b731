"""What the cloud has of a factory's PKI: certificates, states of device CAs, keys of its own.

Certificates and states are in the database; ``certs_change`` decides what may become of them.
The keys are files in ``cloud/``, each named by its digest. One is made for every request for
a certificate and is used once a certificate for it is there, so a request that nobody answers
disturbs nothing. Functions run inside the caller's transaction.

A new factory has the shared PKI, with a root, TLS certificate and online CA that the operator
does not own, until it gets a root of its own.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from fioagent.factory.errors import RefusedError
from fioagent.factory.pki.certificates import (
    Authority,
    certificate_pem,
    issuer_of,
    key_digest,
    load_authority,
    load_key,
    new_key,
    private_pem,
    public_pem,
    subject_name,
)
from fioagent.factory.pki.forms import Paths, new_root, sign_device_ca, sign_server, write_new
from fioagent.factory.store import factory_name, read_meta, set_meta

ACTIVE: Final = "active"
DISABLED: Final = "disabled"  # its devices are served, and no new one of it registers
REVOKED: Final = "revoked"  # no longer trusted; kept to tell whose devices were stranded

SERVERS: Final = ("tls-crt", "est-tls-crt")
ONLINE_CA: Final = "ota-devices-CA"
ISSUERS_CACHED: Final = 4096  # a few kilobytes each


class CertsError(RefusedError):
    """Certificates are not what they must be."""

    def __init__(self, message: str, hint: str = "", *, status: int = 400) -> None:
        super().__init__(status, message, hint)


@dataclass(frozen=True, slots=True)
class DeviceCa:
    pem: str
    state: str

    @property
    def certificate(self) -> x509.Certificate:
        return _load(self.pem)

    @property
    def serial(self) -> str:
        """Decimal, as fioctl takes and shows it."""
        return str(self.certificate.serial_number)


@lru_cache(maxsize=64)
def _load(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


# --- what there is ---


def certificate(db: sqlite3.Connection, name: str) -> x509.Certificate | None:
    """The one called root-crt, tls-crt or est-tls-crt. There is always a root."""
    row = db.execute("SELECT pem FROM certs WHERE name = ?", (name,)).fetchone()
    return _load(row["pem"]) if row else None


def root(db: sqlite3.Connection) -> x509.Certificate:
    """What devices are to trust: the factory's root, or that of the shared PKI."""
    found = certificate(db, "root-crt")
    if found is None:
        raise CertsError("cannot use the factory: it has no root, its making was interrupted")
    return found


def is_owned(db: sqlite3.Connection) -> bool:
    """Whether the factory has a root of its own."""
    return bool(read_meta(db, "certs-created-at"))


def device_cas(db: sqlite3.Connection) -> list[DeviceCa]:
    """In the order in which they came, the revoked ones too."""
    rows = db.execute("SELECT pem, state FROM device_cas ORDER BY rowid")
    return [DeviceCa(row["pem"], row["state"]) for row in rows]


def trusted_cas(db: sqlite3.Connection) -> list[DeviceCa]:
    """What gateway and EST server trust: device CAs, never the root."""
    return [ca for ca in device_cas(db) if ca.state != REVOKED]


def user_id(db: sqlite3.Connection) -> str:
    """Of the lab's one user, who owns what registers itself: 24 hex digits, as in the cloud."""
    return read_meta(db, "user-id")


def version(db: sqlite3.Connection) -> str:
    """Another one after each change: what was made of the certificates is to be made anew."""
    return read_meta(db, "certs-version")


def changed(db: sqlite3.Connection) -> None:
    set_meta(db, "certs-version", str(int(version(db) or 0) + 1))


# --- devices and their CAs ---


def issuer(db: sqlite3.Connection, device_certificate: str) -> DeviceCa | None:
    """The device CA, trusted or not, that issued the certificate (PEM).

    Of several with one key, as after a renewal, one that still counts.
    """
    cas = sorted(device_cas(db), key=lambda ca: (ACTIVE, DISABLED, REVOKED).index(ca.state))
    index = _issuer(device_certificate, tuple(ca.pem for ca in cas))
    return None if index is None else cas[index]


@lru_cache(maxsize=ISSUERS_CACHED)
def _issuer(device_certificate: str, cas: tuple[str, ...]) -> int | None:
    """Which of ``cas`` it is. Remembered: the gateway asks at every request."""
    known = [_load(ca) for ca in cas]
    found = issuer_of(x509.load_pem_x509_certificate(device_certificate.encode()), known)
    return None if found is None else known.index(found)


def registration_refusal(db: sqlite3.Connection, device_certificate: str) -> str:
    """Why a new device with this certificate (PEM) may not register; empty: it may."""
    ca = issuer(db, device_certificate)
    if ca is None:
        return "its certificate is not by a device CA of the factory"
    if ca.state != ACTIVE:
        return f"its certificate is by the device CA {ca.serial}, which is {ca.state}"
    return ""


def check_may_issue(db: sqlite3.Connection, ca: x509.Certificate) -> None:
    """CertsError: a new device with a certificate by this CA could not register."""
    states = {known.serial: known.state for known in device_cas(db)}
    state = states.get(str(ca.serial_number), "not one of the factory's")
    if state != ACTIVE:
        raise CertsError(
            f"cannot issue a certificate: the device CA {ca.serial_number} is {state}",
            "hint: take another device CA",
            status=409,
        )


def dependants(db: sqlite3.Connection) -> Counter[str]:
    """How many devices came last with a certificate of each CA, by its serial."""
    rows = db.execute("SELECT certificate FROM devices WHERE certificate != ''")
    found = (issuer(db, row["certificate"]) for row in rows.fetchall())
    return Counter(ca.serial for ca in found if ca is not None)


# --- keys ---


def request(db: sqlite3.Connection, paths: Paths, purpose: str) -> str:
    """A certificate request (PEM) for a new key of the cloud: tls, est-tls or online-ca."""
    name = factory_name(db)
    key = new_key()
    builder = x509.CertificateSigningRequestBuilder()
    if purpose == "online-ca":
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        builder = builder.subject_name(subject_name(ONLINE_CA, name))
        builder = builder.add_extension(constraints, critical=True)
    else:
        hosts = _hosts(purpose, name)
        names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
        builder = builder.subject_name(subject_name(hosts[0], name))
        builder = builder.add_extension(names, critical=False)
    signed = builder.sign(key, hashes.SHA256())
    path = _key_file(paths, purpose, public_pem(key.public_key()))
    write_new(path, private_pem(key, traditional=True), 0o400)
    return signed.public_bytes(Encoding.PEM).decode("ascii")


def _hosts(purpose: str, name: str) -> list[str]:
    """DNS names only: the documents' way to copy them with openssl fails on an address.

    The gateway is named first and the ostree host second, as in the real certificate. Of EST
    there is exactly one: fioctl makes its URL of it, and refuses any other number.
    """
    if purpose == "est-tls":
        return ["localhost"]
    return [f"{name}.ota-lite.test", f"{name}.ostree.test", "localhost"]


def key_file(paths: Paths, purpose: str, owner: x509.Certificate) -> Path | None:
    """The key of that certificate; None: it is not a key that the cloud made for the purpose."""
    path = _key_file(paths, purpose, public_pem(owner.public_key()))
    return path if path.is_file() else None


def _key_file(paths: Paths, purpose: str, public_key: str) -> Path:
    return paths.cloud / f"{purpose}-{key_digest(public_key)[:16]}.key"


def server_pair(
    db: sqlite3.Connection, paths: Paths, name: str
) -> tuple[x509.Certificate, Path] | None:
    """Certificate and key file of tls-crt or est-tls-crt; None: there is no such certificate."""
    found = certificate(db, name)
    key = found and key_file(paths, name.removesuffix("-crt"), found)
    return (found, key) if found and key else None


def authority(db: sqlite3.Connection, paths: Paths, name: str) -> Authority:
    """The device CA called online-ca, local-ca or foreign-ca, to sign with.

    The online CA is the newest that is active; the local one is that of ``pki/``, which a lab
    has at hand and the cloud would not.

    Raises:
        CertsError: there is none.
    """
    if name == "online-ca":
        for ca in reversed(device_cas(db)):
            key = key_file(paths, name, ca.certificate)
            if ca.state == ACTIVE and key is not None:
                return Authority(ca.certificate, load_key(key.read_bytes()))
    else:
        directory = paths.pki if name == "local-ca" else paths.cloud
        files = directory / f"{name}.pem", directory / f"{name}.key"
        if all(file.is_file() for file in files):
            return load_authority(*files)
    raise CertsError(
        f"cannot sign with the {name}: the factory has none that is active", status=503
    )


def usual_ca(paths: Paths) -> str:
    """Who signs for a lab's devices if nobody says: the local CA, where it is at hand."""
    return "local-ca" if (paths.pki / "local-ca.key").is_file() else "online-ca"


# --- the shared PKI ---


def create_shared(db: sqlite3.Connection, paths: Paths) -> None:
    """What a new factory has: nobody keeps the key of this root."""
    set_meta(db, "user-id", secrets.token_hex(12))
    shared = new_root(new_key(), "shared", "Shared-CA")
    names = {}
    for purpose in ("tls", "online-ca"):
        wanted = x509.load_pem_x509_csr(request(db, paths, purpose).encode())
        if purpose == "tls":
            hosts = [*_hosts(purpose, factory_name(db)), "127.0.0.1", "::1"]
            names[purpose] = sign_server(shared, wanted.subject, wanted.public_key(), hosts)
        else:
            names[purpose] = sign_device_ca(shared, wanted.subject, wanted.public_key())
    put(db, "root-crt", shared.certificate)
    put(db, "tls-crt", names["tls"])
    put_device_ca(db, names["online-ca"], ACTIVE)
    changed(db)


def put(db: sqlite3.Connection, name: str, value: x509.Certificate) -> None:
    db.execute("INSERT OR REPLACE INTO certs VALUES (?, ?)", (name, _text(value)))


def put_device_ca(db: sqlite3.Connection, value: x509.Certificate, state: str) -> None:
    """New, or one that is there in another state: it keeps its place."""
    db.execute(
        "INSERT INTO device_cas VALUES (?, ?, ?)"
        " ON CONFLICT (serial) DO UPDATE SET state = excluded.state",
        (str(value.serial_number), _text(value), state),
    )


def _text(value: x509.Certificate) -> str:
    return certificate_pem(value).decode("ascii")
