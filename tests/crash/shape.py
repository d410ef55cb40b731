"""What a device and its factory look like, without what differs between any two devices.

Two devices with the same shape are in the same state: keys, certificates, serial
numbers and times are others, everything that the agent decides by is the same.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from fioagent.factory import Factory
from fioagent.factory.fleet import ecies

Keys: TypeAlias = Mapping[str, ec.EllipticCurvePrivateKey]


def digest(
    files: Mapping[str, bytes],
    keys: Keys,
    factory: Factory,
    uuid: str,
    objects: Sequence[object] = (),
) -> str:
    """Of a device's files, the keys in them, what its token holds, and its factory's records."""
    view = factory.device(uuid)
    shape = {
        "files": {
            name: _content(name, content, keys)
            for name, content in files.items()
            if not name.endswith("/lock")  # holds a process id
        },
        "objects": objects,
        "live": _name_of(view.public_key_pem, keys),
        "next": _name_of(view.next_public_key_pem, keys),
        "denied": len(view.denied),
        "config": _opened_by(dict(view.config), keys),
        "events": [
            (event["eventType"]["id"], event["event"]["success"]) for event in factory.events(uuid)
        ],
    }
    text = json.dumps(shape, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def keys_in(files: Mapping[str, bytes]) -> Keys:
    """The private keys that are files, by their names."""
    found = {name: _key(content) for name, content in files.items()}
    return {name: key for name, key in found.items() if key is not None}


def _content(name: str, content: bytes, keys: Keys) -> object:
    if name.endswith(".journal"):
        return [_record(line) for line in content.splitlines(keepends=True)]
    if name.endswith("sota.toml"):
        return re.findall(r'^tls_\w+ = "(?:.*/)?(.*)"', content.decode(), re.MULTILINE)
    if "config.encrypted" in name and content:
        return _opened_by(json.loads(content), keys)
    if name in ("pkey.pem", "client.pem") and not content.startswith(b"-----"):
        return content.decode()  # the target of a link
    return bool(content)


def _record(line: bytes) -> object:
    if not line.endswith(b"\n"):
        return "torn"
    record = json.loads(line.partition(b" ")[2])
    return [record.get("kind"), record.get("phase")]


def _key(content: bytes) -> ec.EllipticCurvePrivateKey | None:
    if not content.startswith(b"-----BEGIN") or b"PRIVATE KEY-----" not in content:
        return None
    key = load_pem_private_key(content, None)
    return key if isinstance(key, ec.EllipticCurvePrivateKey) else None


def _name_of(public_pem: str | None, keys: Keys) -> str | None:
    for name, key in keys.items():
        pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        if public_pem == pem.decode():
            return name
    return None if public_pem is None else "another"


def _opened_by(entries: Mapping[str, Any], keys: Keys) -> list[str]:
    sealed = [entry["Value"] for entry in entries.values() if not entry.get("Unencrypted")]
    return [name for name, key in keys.items() if all(opens(value, key) for value in sealed)]


def opens(value: str, key: ec.EllipticCurvePrivateKey) -> bool:
    """An encrypted value of the configuration."""
    try:
        ecies.decrypt(value, key)
    except ecies.EciesError:
        return False
    return True
