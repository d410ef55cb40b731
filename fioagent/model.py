"""Values that more than one part of the agent speaks of."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, NewType

RotationId = NewType("RotationId", str)  # [A-Za-z0-9_-]{1,63}: the event server drops others
Facts = Mapping[str, "str | int | bool"]  # what a phase wrote down; digests and references only


class Store(str, enum.Enum):
    """Where private keys live: ``tls.pkey_source`` of sota.toml."""

    FILE = "file"
    PKCS11 = "pkcs11"


@dataclass(frozen=True, slots=True)
class CredentialRef:
    """Where a key and its certificate are, in the words that sota.toml uses.

    Attributes:
        store: file or token.
        key: path of the private key, or its object id as text ("01").
        certificate: path of the certificate, or its object id as text ("03").
    """

    store: Store
    key: str
    certificate: str


@dataclass(frozen=True, slots=True)
class ObjectIds:
    """Ids that a new credential may have in a token, in this order; empty: the usual ones.

    Attributes:
        keys: of key pairs ("01", "07").
        certificates: of certificates ("03", "09").
    """

    keys: tuple[str, ...] = ()
    certificates: tuple[str, ...] = ()


# sota.toml keys that name the live credential, per store: key first, then certificate.
SOTA_KEYS: Mapping[Store, tuple[str, str]] = {
    Store.FILE: ("import.tls_pkey_path", "import.tls_clientcert_path"),
    Store.PKCS11: ("p11.tls_pkey_id", "p11.tls_clientcert_id"),
}


@dataclass(frozen=True, slots=True)
class Target:
    """What a device runs, for its events; "" and "0" where that cannot be known (fioconfig)."""

    name: str = ""
    version: str = "0"


class Issuance(NamedTuple):
    """What an EST server has answered to a request.

    Attributes:
        certificates: DER, in the order sent.
        notes: what was odd about the answer, and no reason to refuse it.
    """

    certificates: list[bytes]
    notes: tuple[str, ...] = ()


class Exit(enum.IntEnum):
    """Exit codes of the command line; documented in README.md and stable."""

    DONE = 0
    FAILED = 1
    TRY_AGAIN = 75  # EX_TEMPFAIL of sysexits.h
    CONFIG = 78  # EX_CONFIG of sysexits.h
    HANDLER = 123  # fioconfig's: a handler has ended with it


def sha256_hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
