"""What lies on a device, read without a line of the agent's code.

The oracle judges by this: files through any ``ports.Disk``, TOML and PEM by the
libraries, the journal as the lines of JSON that it is.
"""

from __future__ import annotations

import functools
import json
import re
import sys
import zlib
from dataclasses import dataclass
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fioagent.factory.fleet import ecies
from fioagent.factory.pki import certificates
from fioagent.ports import Disk

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

JOURNAL: Final = "fioagent/rotation.journal"
_ENDED: Final = re.compile(r"fioagent/ended-\d{6}-.*\.journal")
_KEY: Final = re.compile(
    rb"-----BEGIN (?:EC )?PRIVATE KEY-----.+?-----END (?:EC )?PRIVATE KEY-----", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Journal:
    """The records of one rotation, as dictionaries; a torn last line is left out."""

    name: str
    records: tuple[dict[str, Any], ...]

    @property
    def begun(self) -> dict[str, Any]:
        """The facts of the first record."""
        return dict(self.records[0]["facts"])

    @property
    def phases(self) -> list[str]:
        """In the order in which they were reached."""
        return [each["phase"] for each in self.records if each["kind"] == "phase"]

    @property
    def key_sha256(self) -> str | None:
        """Of the new public key; None where none was made."""
        made = (each for each in self.records if each["kind"] == "phase")
        found = [each["facts"] for each in made if each["phase"] == "key-generated"]
        return str(found[0]["spki_sha256"]) if found else None


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a device.

    Attributes:
        storage: the directory, with a slash at its end.
        files: content of everything in storage and in our directory there, by relative name.
        real: where each of them leads.
        live: paths or ids of key and certificate that sota.toml names; empty where it names none.
        open: the journal of the open rotation; None where there is none.
        ended: journals of ended rotations, oldest first.
    """

    storage: str
    files: dict[str, bytes]
    real: dict[str, str]
    live: tuple[str, str]
    open: Journal | None
    ended: tuple[Journal, ...]

    @property
    def key_pems(self) -> list[bytes]:
        """Every private key that lies anywhere, each once; in fioconfig's state too."""
        unfolded = (content.replace(b"\\n", b"\n") for content in self.files.values())
        found = (pem for content in unfolded for pem in _KEY.findall(content))
        return list(dict.fromkeys(found))

    def pair(self, key: str, certificate: str) -> tuple[bytes | None, x509.Certificate | None]:
        """PEM of the key and the certificate at these paths or ids, links followed."""
        paths = {self.storage + name: content for name, content in self.files.items()}
        key, certificate = placed(self.storage, key, certificate)
        return paths.get(key), _certificate(paths.get(certificate))


def placed(storage: str, key: str, certificate: str) -> tuple[str, str]:
    """Paths of what sota.toml and journals name: ids are those of the simulated token."""
    if not key.isdecimal():
        return key, certificate
    return f"{storage}pkey.{key}.tls.pem", f"{storage}client.{certificate}.client.pem"


def at(disk: Disk, storage: str) -> Look:
    """Reads everything in ``storage``."""
    files, real = {}, {}
    for directory in ("", "fioagent/"):
        for name in disk.names(f"{storage}/{directory}"):
            path = f"{storage}/{directory}{name}"
            content = None if disk.is_directory(path) else disk.read_if_there(path)
            if content is not None:
                files[directory + name], real[directory + name] = content, disk.real_path(path)
    journals = {
        name: _journal(name, content)
        for name, content in files.items()
        if name == JOURNAL or _ENDED.fullmatch(name)
    }
    return Look(
        f"{storage}/",
        files,
        real,
        live_paths(files.get("sota.toml", b"")),
        journals.get(JOURNAL),
        tuple(journals[name] for name in sorted(journals) if name != JOURNAL),
    )


@functools.lru_cache(maxsize=1024)
def live_paths(sota: bytes) -> tuple[str, str]:
    """Key and certificate that a sota.toml names; empty where it names none."""
    try:
        read = tomllib.loads(sota.decode())
        if read["tls"]["pkey_source"] == "pkcs11":
            return read["p11"]["tls_pkey_id"], read["p11"]["tls_clientcert_id"]
        return read["import"]["tls_pkey_path"], read["import"]["tls_clientcert_path"]
    except (ValueError, KeyError, TypeError):
        return "", ""


@functools.lru_cache(maxsize=1024)
def _journal(name: str, content: bytes) -> Journal:
    lines = content.split(b"\n")[:-1]  # one without its end was never written
    whole = [line[9:] for line in lines if line[:8] == b"%08x" % zlib.crc32(line[9:])]
    records = [json.loads(line) for line in whole[1:]]
    return Journal(name, tuple(records))


@functools.lru_cache(maxsize=1024)
def _key(pem: bytes) -> ec.EllipticCurvePrivateKey | None:
    found = _KEY.search(pem)
    try:
        loaded = load_pem_private_key(found.group(0), None) if found else None
    except ValueError:
        loaded = None
    return loaded if isinstance(loaded, ec.EllipticCurvePrivateKey) else None


@functools.lru_cache(maxsize=1024)
def public_pem(pem: bytes) -> str | None:
    """SPKI PEM of a private key; None for what is none."""
    loaded = _key(pem)
    return None if loaded is None else certificates.public_pem(loaded.public_key())


@functools.lru_cache(maxsize=1024)
def _certificate(pem: bytes | None) -> x509.Certificate | None:
    """None for what is no certificate."""
    try:
        return x509.load_pem_x509_certificate(pem or b"")
    except ValueError:
        return None


@functools.lru_cache(maxsize=8192)
def opened(value: str, pem: bytes) -> bytes | None:
    """An encrypted value of the configuration, by the factory's own code; None: not with this."""
    loaded = _key(pem)
    try:
        return None if loaded is None else ecies.decrypt(value, loaded)
    except ecies.EciesError:
        return None
