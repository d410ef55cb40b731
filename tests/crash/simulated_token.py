"""A token that is a few files beside the others, so that a power cut leaves what it left.

``keystore.token.Token`` in its methods; what lies above is the agent's own. An
object is in the disk's dictionary the moment it is made, and a pair is two objects.
"""

from __future__ import annotations

import re
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from pkcs11 import Attribute, ObjectClass

from fioagent.errors import ConfigError
from fioagent.factory.pki import certificates
from fioagent.keystore.token import Found
from fioagent.keystore.token_errors import MissingError, Place, explained
from tests.crash.memory import File, MemoryDisk

_NAMES: Final = {
    ObjectClass.PRIVATE_KEY: "pkey",
    ObjectClass.PUBLIC_KEY: "public",
    ObjectClass.CERTIFICATE: "client",
}
_NAME: Final = re.compile(r"(pkey|public|client)\.(\d\d)\.(\w+)(?:\.\d+)?\.pem")


class SimulatedToken:
    """Objects as ``<class>.<id>.<label>.pem`` in ``storage``; a second one has a number."""

    def __init__(self, disk: MemoryDisk, storage: str) -> None:
        self._disk = disk
        self._storage = storage

    def __str__(self) -> str:
        return "the token"

    # --- looking ---

    def objects(self, identifier: bytes) -> list[Found]:
        return [Found(kind, identifier, label) for kind, _, label in self._with(identifier)]

    def certificates(self, identifier: bytes) -> list[bytes]:
        found = self._with(identifier, ObjectClass.CERTIFICATE)
        pems = [self._disk.read(path) for _, path, _ in found]
        return [x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER) for pem in pems]

    def point(self, identifier: bytes) -> bytes:
        public = load_pem_public_key(self._one(identifier, ObjectClass.PUBLIC_KEY))
        self._one(identifier, ObjectClass.PRIVATE_KEY)
        assert isinstance(public, ec.EllipticCurvePublicKey)
        return public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    # --- using ---

    def sign(self, identifier: bytes, digest: bytes) -> bytes:
        return self._key(identifier).sign(digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))

    def derive(self, identifier: bytes, point: bytes) -> bytes:
        other = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        return self._key(identifier).exchange(ec.ECDH(), other)

    # --- changing ---

    def generate(self, identifier: bytes, label: str) -> None:
        key = certificates.new_key()
        public = certificates.public_pem(key.public_key()).encode()
        self._put(ObjectClass.PUBLIC_KEY, identifier, label, public)
        self._put(ObjectClass.PRIVATE_KEY, identifier, label, certificates.private_pem(key))

    def half_generated(self, identifier: bytes, label: str) -> None:
        """What a cut in the middle of it leaves."""
        public = certificates.public_pem(certificates.new_key().public_key()).encode()
        self._put(ObjectClass.PUBLIC_KEY, identifier, label, public)

    def store_certificate(self, attributes: dict[Attribute, object]) -> None:
        value, identifier = attributes[Attribute.VALUE], attributes[Attribute.ID]
        assert isinstance(value, bytes)
        assert isinstance(identifier, bytes)
        pem = certificates.certificate_pem(x509.load_der_x509_certificate(value))
        label = str(attributes[Attribute.LABEL])
        self._put(ObjectClass.CERTIFICATE, identifier, label, pem)

    def destroy(self, kind: ObjectClass, identifier: bytes, label: str) -> None:
        for _, path, found in self._with(identifier, kind):
            if found == label:
                del self._disk.entries[path]

    def close(self) -> None:
        """It keeps no session."""

    # --- its files ---

    def _put(self, kind: ObjectClass, identifier: bytes, label: str, pem: bytes) -> None:
        start = path = f"{self._storage}/{_NAMES[kind]}.{identifier.hex()}.{label}"
        count = 1
        while f"{path}.pem" in self._disk.entries:
            count += 1
            path = f"{start}.{count}"
        self._disk.entries[f"{path}.pem"] = File(pem, 0o600)

    def _with(self, identifier: bytes, *kinds: ObjectClass) -> list[tuple[ObjectClass, str, str]]:
        """Class, path and label of each."""
        found = []
        for name in self._disk.names(self._storage):
            match = _NAME.fullmatch(name)
            if match is not None and match[2] == identifier.hex():
                kind = next(kind for kind, word in _NAMES.items() if word == match[1])
                if not kinds or kind in kinds:
                    found.append((kind, f"{self._storage}/{name}", match[3]))
        return found

    def _one(self, identifier: bytes, kind: ObjectClass) -> bytes:
        found = self._with(identifier, kind)
        if len(found) != 1:
            error = MissingError(len(found), kind, identifier)
            raise explained(error, "use", Place("", "simulated"))
        return self._disk.read(found[0][1])

    def _key(self, identifier: bytes) -> ec.EllipticCurvePrivateKey:
        key = load_pem_private_key(self._one(identifier, ObjectClass.PRIVATE_KEY), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ConfigError("no elliptic-curve key")
        return key
