"""The factory's own ECIES reads what Go wrote."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fioagent.factory.fleet.ecies import EciesError, decrypt, encrypt
from fioagent.factory.pki.certificates import load_key

# Made with foundriesio/go-ecies; the file says how.
VECTORS: Any = json.loads(
    (Path(__file__).parent.parent / "vectors" / "ecies.json").read_text(encoding="utf-8")
)
KEYS = {key["name"]: load_key(key["private_key_pem"].encode()) for key in VECTORS["keys"]}


def test_every_value_that_go_made_opens() -> None:
    """All curves of go-ecies, all sizes in the file."""
    for vector in VECTORS["decrypt_ok"]:
        opened = decrypt(vector["ciphertext_b64"], KEYS[vector["key"]])
        assert base64.b64decode(vector["plaintext_b64"]) == opened, vector["name"]


def test_what_go_refuses_is_refused() -> None:
    for vector in VECTORS["decrypt_bad"]:
        with pytest.raises(EciesError):
            decrypt(vector["ciphertext_b64"], KEYS[vector["key"]])


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
def test_a_value_opens_with_its_key_only(curve: ec.EllipticCurve) -> None:
    key, other = ec.generate_private_key(curve), ec.generate_private_key(curve)

    value = encrypt(b"secret", key.public_key())

    assert b"secret" == decrypt(value, key)
    assert value != encrypt(b"secret", key.public_key())
    with pytest.raises(EciesError, match="another key"):
        decrypt(value, other)


def test_an_empty_plaintext_gives_the_empty_value_of_fioctl() -> None:
    """go-ecies encrypts nothing to nothing, and then cannot decrypt it."""
    key = ec.generate_private_key(ec.SECP256R1())

    assert "" == encrypt(b"", key.public_key())
    with pytest.raises(EciesError):
        decrypt("", key)
