"""The encryption of go-ecies, checked against messages that Go has made and refused."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st

from fioagent.ecies import EciesError, decrypt, encrypt

from . import made

# github.com/foundriesio/go-ecies v0.3.0, Encrypt(rand, pub, m, nil, nil); see the file itself.
_VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parent.parent / "vectors" / "ecies.json").read_text("utf-8")
)
_GOOD = _VECTORS["decrypt_ok"]
_BAD = _VECTORS["decrypt_bad"]
_KEY = made.new_key()
_MESSAGE = encrypt(b"hello", _KEY.public_key())


def _key(name: str) -> ec.EllipticCurvePrivateKey:
    text = next(key["private_key_pem"] for key in _VECTORS["keys"] if key["name"] == name)
    key = load_pem_private_key(text.encode(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def test_the_vectors_are_all_here() -> None:
    """A file that lost its cases would pass every test below."""
    assert 20 == len(_GOOD)
    assert {"p256-a", "p256-b", "p384", "p521"} == {case["key"] for case in _GOOD}
    assert {
        "empty-ciphertext (this is what Encrypt of an empty plaintext returns)",
        "wrong-key",
        "ciphertext-flipped",
        "iv-flipped",
        "truncated-by-1",
        "only-the-point",
        "compressed-point (0x02/0x03)",
        "leading-byte-0x00",
        "trailing-byte",
    } == {case["name"] for case in _BAD}


@pytest.mark.parametrize("case", _GOOD, ids=lambda case: f"{case['name']} {case['key']}")
def test_what_go_sealed_opens(case: dict[str, str]) -> None:
    message = base64.b64decode(case["ciphertext_b64"])

    assert base64.b64decode(case["plaintext_b64"]) == decrypt(message, _key(case["key"]))


@pytest.mark.parametrize("case", _BAD, ids=lambda case: str(case["name"]))
def test_what_go_refuses_is_refused(case: dict[str, str]) -> None:
    """The empty message too: that "" means an empty file is known to the document, not here."""
    with pytest.raises(EciesError):
        decrypt(base64.b64decode(case["ciphertext_b64"]), _key(case["key"]))


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 70_000])
@pytest.mark.parametrize(
    ("curve", "overhead"),
    [(ec.SECP256R1(), 113), (ec.SECP384R1(), 97 + 16 + 48), (ec.SECP521R1(), 133 + 16 + 64)],
    ids=["P-256", "P-384", "P-521"],
)
def test_what_is_sealed_opens_again(curve: ec.EllipticCurve, overhead: int, size: int) -> None:
    """Point, IV, ciphertext of the plaintext's length and tag; a full message for nothing too."""
    key = made.new_key(curve)
    plaintext = b"\xc3" * size

    message = encrypt(plaintext, key.public_key())

    assert overhead + size == len(message)
    assert b"\x04" == message[:1]
    assert plaintext == decrypt(message, key)


def test_two_messages_share_nothing() -> None:
    """A fresh ephemeral key and a fresh IV each time."""
    one, two = (encrypt(b"", _KEY.public_key()) for _ in range(2))

    assert one[:65] != two[:65]
    assert one[65:81] != two[65:81]


def test_every_cut_is_refused() -> None:
    for cut in range(len(_MESSAGE)):
        with pytest.raises(EciesError):
            decrypt(_MESSAGE[:cut], _KEY)


@pytest.mark.parametrize("byte", range(len(_MESSAGE)))
def test_every_turned_bit_is_refused(byte: int) -> None:
    """Nothing in a message is without protection: point, IV, ciphertext, tag."""
    for bit in range(8):
        damaged = bytearray(_MESSAGE)
        damaged[byte] ^= 1 << bit

        with pytest.raises(EciesError):
            decrypt(bytes(damaged), _KEY)


class _Token:
    """A key in a token: it strips the leading zeros of Z, and never shows itself."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self.shared = b""

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._key.public_key()

    def exchange(self, algorithm: ec.ECDH, peer: ec.EllipticCurvePublicKey) -> bytes:
        self.shared = self._key.exchange(algorithm, peer).lstrip(b"\x00")
        return self.shared


@pytest.mark.parametrize("curve", made.CURVES, ids=lambda curve: str(curve.name))
def test_a_token_may_strip_leading_zeros(curve: ec.EllipticCurve) -> None:
    """One message in 256 has a shared secret that begins with zero; it opens all the same."""
    key = made.new_key(curve)
    token = _Token(key)
    whole = (curve.key_size + 7) // 8 - (1 if curve.key_size == 521 else 0)

    for _ in range(20_000):
        message = encrypt(b"secret", key.public_key())
        assert b"secret" == decrypt(message, cast("ec.EllipticCurvePrivateKey", token))
        if len(token.shared) < whole:
            return
    raise AssertionError("no such secret came up")


@pytest.mark.parametrize("curve", [ec.SECP224R1(), ec.SECP256K1()], ids=lambda c: str(c.name))
def test_other_curves_have_no_parameters(curve: ec.EllipticCurve) -> None:
    """go-ecies knows the NIST curves from P-256 up."""
    key = made.new_key(curve)

    with pytest.raises(EciesError, match=f"no ECIES parameters for the curve {curve.name}"):
        encrypt(b"x", key.public_key())
    with pytest.raises(EciesError, match=f"no ECIES parameters for the curve {curve.name}"):
        decrypt(_MESSAGE, key)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_else(message: bytes) -> None:
    with pytest.raises(EciesError):
        decrypt(message, _KEY)


@given(st.binary(min_size=48, max_size=120))
def test_arbitrary_bytes_behind_a_real_point_raise_nothing_else(rest: bytes) -> None:
    """Past the point the tag alone decides."""
    with pytest.raises(EciesError):
        decrypt(_MESSAGE[:65] + rest, _KEY)
