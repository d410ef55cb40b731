"""Encryption of configuration values to a device, as ``fioctl`` does it.

Written from the description of go-ecies, and apart from the agent's own code on purpose: a
mistake must not pass because both sides make it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

IV_SIZE: Final = 16  # bytes


class Parameters(NamedTuple):
    digest: str
    key_size: int  # bytes, of the AES key
    point_size: int  # bytes, of an uncompressed point


PARAMETERS: Final = {
    "secp256r1": Parameters("sha256", 16, 65),
    "secp384r1": Parameters("sha384", 24, 97),
    "secp521r1": Parameters("sha512", 32, 133),
}


class EciesError(Exception):
    """The value was not encrypted to this key, or is damaged."""


def encrypt(plaintext: bytes, recipient: ec.EllipticCurvePublicKey) -> str:
    """``plaintext`` for the holder of ``recipient``: base64, as a configuration value.

    An empty plaintext gives an empty value: go-ecies returns nothing for it, and fioctl
    uploads just that, although no device can read it.
    """
    if not plaintext:
        return ""
    parameters = PARAMETERS[recipient.curve.name]
    ephemeral = ec.generate_private_key(recipient.curve)
    point = ephemeral.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    cipher_key, mac_key = _keys(parameters, ephemeral.exchange(ec.ECDH(), recipient))

    iv = os.urandom(IV_SIZE)
    sealed = iv + _ctr(cipher_key, iv, plaintext)
    tag = hmac.digest(mac_key, sealed, parameters.digest)
    return base64.b64encode(point + sealed + tag).decode("ascii")


def decrypt(value: str, recipient: ec.EllipticCurvePrivateKey) -> bytes:
    """The plaintext of a value made by :func:`encrypt`, or by fioctl.

    Raises:
        EciesError: for another key, damaged, or not such a value at all.
    """
    parameters = PARAMETERS[recipient.curve.name]
    try:
        message = base64.b64decode(value, validate=True)
        peer = ec.EllipticCurvePublicKey.from_encoded_point(
            recipient.curve, message[: parameters.point_size]
        )
    except (binascii.Error, ValueError) as error:
        raise EciesError(f"cannot decrypt: {error}") from error
    # from_encoded_point reads compressed points as well; go-ecies does not.
    if message[0] != 4:
        raise EciesError("cannot decrypt: the ephemeral point is compressed")

    tag_size = hashlib.new(parameters.digest).digest_size
    sealed, tag = message[parameters.point_size : -tag_size], message[-tag_size:]
    if len(sealed) < IV_SIZE:
        raise EciesError("cannot decrypt: the value is too short")
    cipher_key, mac_key = _keys(parameters, recipient.exchange(ec.ECDH(), peer))
    if not hmac.compare_digest(hmac.digest(mac_key, sealed, parameters.digest), tag):
        raise EciesError("cannot decrypt: the value was made for another key, or is damaged")
    return _ctr(cipher_key, sealed[:IV_SIZE], sealed[IV_SIZE:])


def _keys(parameters: Parameters, shared: bytes) -> tuple[bytes, bytes]:
    """NIST SP 800-56C one-step, one block; the MAC key is hashed once more, to a full digest."""
    block = hashlib.new(parameters.digest, b"\0\0\0\1" + shared).digest()
    cipher_key, mac_seed = block[: parameters.key_size], block[parameters.key_size :]
    mac_seed = mac_seed[: parameters.key_size]
    return cipher_key, hashlib.new(parameters.digest, mac_seed).digest()


def _ctr(key: bytes, iv: bytes, data: bytes) -> bytes:
    encryptor = Cipher(algorithms.AES(key), modes.CTR(iv)).encryptor()
    return encryptor.update(data) + encryptor.finalize()
