"""File key stores and pairs in a directory of the test's."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from fioagent.disk import LocalDisk
from fioagent.keystore.file import FileKeyStore
from fioagent.model import CredentialRef, Store

from . import made

CA = made.authority()
KEY = made.new_key()


def store(storage: Path, disk: LocalDisk | None = None) -> FileKeyStore:
    return FileKeyStore(disk or LocalDisk(), str(storage))


def pair(directory: Path, mark: str = "") -> CredentialRef:
    return CredentialRef(
        Store.FILE, str(directory / f"pkey{mark}.pem"), str(directory / f"client{mark}.pem")
    )


def put(credential: CredentialRef, key: ec.EllipticCurvePrivateKey = KEY) -> CredentialRef:
    Path(credential.key).write_bytes(made.key_pem(key))
    Path(credential.certificate).write_bytes(made.pem(CA.issue(key.public_key())))
    return credential
