"""Who a push comes from: a token signed by a key of this factory, as Pub/Sub's is by Google's.

Google's form and claims, so that a receiver changes nothing but where it fetches the
certificates from. The key is made when it is first needed.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
from datetime import datetime, timedelta, timezone
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from fioagent.factory.pki.forms import Paths, write_new

RSA_BITS: Final = 2048
CERTIFICATE_DAYS: Final = 3650
TOKEN_LIFE_S: Final = 3600
ISSUER: Final = "https://accounts.google.com"  # receivers' libraries compare it
SENDER: Final = "push@fioagent-factory.test"


def certificates(paths: Paths) -> dict[str, str]:
    """By key id, in PEM: the document at googleapis.com/oauth2/v1/certs, of this factory."""
    _, certificate = _load(paths)
    return {_key_id(certificate): certificate.public_bytes(Encoding.PEM).decode()}


def token(paths: Paths, audience: str, now: float) -> str:
    """A JWT for the receiver at ``audience``, good for an hour from ``now``, unix seconds."""
    key, certificate = _load(paths)
    head = {"alg": "RS256", "kid": _key_id(certificate), "typ": "JWT"}
    claims = {
        "aud": audience,
        "azp": SENDER,
        "email": SENDER,
        "email_verified": True,
        "exp": int(now) + TOKEN_LIFE_S,
        "iat": int(now),
        "iss": ISSUER,
        "sub": SENDER,
    }
    signed = b".".join(_base64url(json.dumps(part).encode()) for part in (head, claims))
    signature = key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
    return (signed + b"." + _base64url(signature)).decode()


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _key_id(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()[:40]


def _load(paths: Paths) -> tuple[rsa.RSAPrivateKey, x509.Certificate]:
    """Key and certificate are one file: there is never one without the other."""
    if not paths.push_key.exists():
        _make(paths)
    pem = paths.push_key.read_bytes()
    key = load_pem_private_key(pem, None)
    assert isinstance(key, rsa.RSAPrivateKey)  # noqa: S101  # what _make has written
    return key, x509.load_pem_x509_certificate(pem)


def _make(paths: Paths) -> None:
    """Complete or not at all; whoever is first wins, should two want it at once."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    temporary = paths.push_key.with_suffix(f".{secrets.token_hex(8)}")
    write_new(temporary, pem + _certificate(key).public_bytes(Encoding.PEM), 0o400)
    try:
        os.link(temporary, paths.push_key)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()


def _certificate(key: rsa.RSAPrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, SENDER)])
    start = datetime.now(timezone.utc) - timedelta(days=1)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=CERTIFICATE_DAYS))
        .sign(key, hashes.SHA256())
    )
