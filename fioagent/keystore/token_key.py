"""A private key in a token, as ``cryptography`` knows private keys.

Deriving from the abstract class is cryptography's own way for keys that it does
not hold ("Cloud KMS and HSM Asymmetric Keys" in its documentation). So requests
are signed, and the configuration is opened, by the same code as with a file.
"""

from __future__ import annotations

from typing import NoReturn, Union

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fioagent.keystore.token import Token

Buffer = Union[bytes, bytearray, memoryview]  # noqa: UP007  # evaluated, and by Python 3.10 too


class TokenKey(ec.EllipticCurvePrivateKey):
    """A P-256 key by its object id; the token is asked for each signature."""

    def __init__(self, token: Token, identifier: bytes) -> None:
        """Raises AgentError: it is not there, or the token cannot be used."""
        self._token = token
        self._id = identifier
        point = token.point(identifier)
        self._public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public.curve

    @property
    def key_size(self) -> int:
        return self._public.key_size

    @property
    def point(self) -> bytes:
        """The public key, X9.62 uncompressed."""
        return self._public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public

    def sign(self, data: Buffer, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """DER ECDSA-Sig-Value."""
        algorithm = signature_algorithm.algorithm
        if isinstance(algorithm, utils.Prehashed):
            return self._token.sign(self._id, bytes(data))
        digest = hashes.Hash(algorithm)
        digest.update(bytes(data))
        return self._token.sign(self._id, digest.finalize())

    def sign_digest(self, digest: bytes) -> bytes:
        """For TLS, which hashes by itself."""
        return self._token.sign(self._id, digest)

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> bytes:
        del algorithm
        point = peer_public_key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return self._token.derive(self._id, point)

    def private_numbers(self) -> NoReturn:
        raise NotImplementedError("the key does not leave its token")

    def private_bytes(self, *_args: object, **_options: object) -> NoReturn:
        raise NotImplementedError("the key does not leave its token")

    def __copy__(self) -> TokenKey:
        return self

    def __deepcopy__(self, memo: object) -> TokenKey:
        return self
