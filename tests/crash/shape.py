"""What a device and its factory look like, without what differs between any two devices.

Two devices with the same shape are in the same state: keys, certificates, serial
numbers and times are others, everything that the agent decides by is the same.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from fioagent.factory import ecies
from tests.world import World

Keys = Mapping[str, ec.EllipticCurvePrivateKey]


def digest(world: World) -> str:
    text = json.dumps(shape(world), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def shape(world: World) -> dict[str, Any]:
    files = world.files()
    keys = {
        name: key
        for name, content in {**files, "old": world.old_key}.items()
        if (key := _key(content)) is not None
    }
    view = world.factory.device(world.uuid)
    return {
        "files": {
            name: _content(name, content, keys)
            for name, content in files.items()
            if not name.endswith("/lock")  # holds a process id
        },
        "live": _name_of(view.public_key_pem, keys),
        "next": _name_of(view.next_public_key_pem, keys),
        "denied": len(view.denied),
        "config": _opened_by(dict(view.config), keys),
        "events": world.event_names(),
    }


def _content(name: str, content: bytes, keys: Keys) -> object:
    if name.endswith(".journal"):
        return [_record(line) for line in content.splitlines(keepends=True)]
    if name.endswith("sota.toml"):
        return re.findall(r'^tls_\w+ = ".*/(.*)"', content.decode(), re.MULTILINE)
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
    return [name for name, key in keys.items() if all(_opens(value, key) for value in sealed)]


def _opens(value: str, key: ec.EllipticCurvePrivateKey) -> bool:
    try:
        ecies.decrypt(value, key)
    except ecies.EciesError:
        return False
    return True
