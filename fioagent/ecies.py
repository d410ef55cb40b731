"""ECIES as foundriesio/go-ecies does it, byte for byte: the encryption of device configuration.

::

    message = R || IV(16) || AES-CTR(Ke, IV, plaintext) || HMAC(SHA(Km), IV || ciphertext)
    Ke || Km = SHA(00000001 || Z)        NIST SP 800-56C one step; Z = x of ECDH, left-padded

P-256 with AES-128 and SHA-256, P-384 with AES-192 and SHA-384, P-521 with
AES-256 and SHA-512. R is an uncompressed point. The private key is only asked
for ``exchange``, so a token's key does as well as a file's.
"""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_IV_SIZE = 16
_COUNTER = b"\x00\x00\x00\x01"


class EciesError(ValueError):
    """The message does not open with this key; never says which part failed to fit."""


@dataclass(frozen=True, slots=True)
class _Suite:
    digest: hashes.HashAlgorithm
    digest_name: str
    key_size: int  # bytes, of the AES key and of Km before it is hashed


_SUITES = {
    "secp256r1": _Suite(hashes.SHA256(), "sha256", 16),
    "secp384r1": _Suite(hashes.SHA384(), "sha384", 24),
    "secp521r1": _Suite(hashes.SHA512(), "sha512", 32),
}


def encrypt(plaintext: bytes, recipient: ec.EllipticCurvePublicKey) -> bytes:
    """A message that only ``recipient`` opens; a fresh ephemeral key, so two calls differ.

    An empty plaintext gives a full message (Go decrypts it to nothing). go-ecies
    itself answers an empty one, which its own decryption then refuses.
    """
    suite = _suite(recipient)
    ephemeral = ec.generate_private_key(recipient.curve)
    cipher_key, mac_key = _derive(suite, ephemeral.exchange(ec.ECDH(), recipient), recipient)
    initial = os.urandom(_IV_SIZE)
    encryptor = Cipher(algorithms.AES(cipher_key), modes.CTR(initial)).encryptor()
    sealed = initial + encryptor.update(plaintext) + encryptor.finalize()
    point = ephemeral.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return point + sealed + hmac.digest(mac_key, sealed, suite.digest_name)


def decrypt(message: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """The plaintext.

    Raises:
        EciesError: not made for this key, damaged, or cut short.
    """
    public = key.public_key()
    suite = _suite(public)
    point_size = 1 + 2 * _coordinate_size(public)
    tag_size = suite.digest.digest_size
    if len(message) < point_size + _IV_SIZE + tag_size:
        raise EciesError("too short for an ECIES message")
    point, sealed, tag = (
        message[:point_size],
        message[point_size:-tag_size],
        message[-tag_size:],
    )
    # Only uncompressed points: go-ecies makes no others and refuses them.
    if point[0] != 4:
        raise EciesError("the ephemeral key is not an uncompressed point")
    try:
        ephemeral = ec.EllipticCurvePublicKey.from_encoded_point(public.curve, point)
    except ValueError as error:
        raise EciesError("the ephemeral key is not on the curve") from error
    cipher_key, mac_key = _derive(suite, key.exchange(ec.ECDH(), ephemeral), public)
    if not hmac.compare_digest(tag, hmac.digest(mac_key, sealed, suite.digest_name)):
        raise EciesError("made for another key, or damaged")
    decryptor = Cipher(algorithms.AES(cipher_key), modes.CTR(sealed[:_IV_SIZE])).decryptor()
    return decryptor.update(sealed[_IV_SIZE:]) + decryptor.finalize()


def _suite(key: ec.EllipticCurvePublicKey) -> _Suite:
    suite = _SUITES.get(key.curve.name)
    if suite is None:
        raise EciesError(f"no ECIES parameters for the curve {key.curve.name}")
    return suite


def _derive(suite: _Suite, shared: bytes, key: ec.EllipticCurvePublicKey) -> tuple[bytes, bytes]:
    # Padded here because tokens may strip the leading zeros of Z.
    padded = shared.rjust(_coordinate_size(key), b"\x00")
    block = _digest(suite, _COUNTER + padded)
    return block[: suite.key_size], _digest(suite, block[suite.key_size : 2 * suite.key_size])


def _digest(suite: _Suite, data: bytes) -> bytes:
    digest = hashes.Hash(suite.digest)
    digest.update(data)
    return digest.finalize()


def _coordinate_size(key: ec.EllipticCurvePublicKey) -> int:
    return (key.curve.key_size + 7) // 8
