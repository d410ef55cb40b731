"""A key that OpenSSL never sees proves itself in a handshake, and a failing one is told apart."""

from __future__ import annotations

import functools
import ssl
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from fioagent import openssl

from . import made

_NOW = datetime.now(timezone.utc).replace(microsecond=0)
_CA = made.authority("ca", _NOW - timedelta(days=9))
_KEY = made.new_key()
_CERTIFICATE = _CA.issue(
    _KEY.public_key(),
    extensions=[(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)],
    begins=_NOW - timedelta(days=5),
    ends=_NOW + timedelta(days=9),
)


def sign(digest: bytes) -> bytes:
    """As a token, which signs what is as long as a SHA-256 digest."""
    algorithm = ec.ECDSA(utils.Prehashed(hashes.SHA256()))
    return _KEY.sign(digest[:32], algorithm)


def point(key: ec.EllipticCurvePrivateKey = _KEY) -> bytes:
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def der(certificate: x509.Certificate = _CERTIFICATE) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def client() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def shaken(context: ssl.SSLContext, version: ssl.TLSVersion, place: Path) -> bytes | None:
    """The client's certificate as the server has accepted it, after a handshake in memory."""
    key, name = made.new_key(), place / "server.pem"
    server_certificate = _CA.issue(key.public_key(), begins=_NOW, ends=_NOW + timedelta(days=1))
    name.write_bytes(made.key_pem(key) + made.pem(server_certificate))
    accepting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    accepting.load_cert_chain(name)
    accepting.load_verify_locations(cadata=made.pem(_CA.certificate).decode())
    accepting.verify_mode = ssl.CERT_REQUIRED
    accepting.minimum_version = accepting.maximum_version = version
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = context.wrap_bio(back, there)
    theirs = accepting.wrap_bio(there, back, server_side=True)
    for _ in range(4):
        for side in (ours, theirs):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return theirs.getpeercert(binary_form=True)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_signer_proves_itself(tmp_path: Path, version: ssl.TLSVersion) -> None:
    asked: list[bytes] = []
    context = client()

    def signs(digest: bytes) -> bytes:
        asked.append(digest)
        return sign(digest)

    openssl.use_signer(context, der(), point(), signs)

    assert shaken(context, version, tmp_path) == der()
    assert len(asked) == 1
    assert openssl.sign_error() is None


def test_a_signature_of_another_key_is_not_accepted(tmp_path: Path) -> None:
    """The server checks it, so a token that mixes up its keys gets nowhere."""
    other = made.new_key()
    context = client()
    openssl.use_signer(
        context,
        der(),
        point(),
        lambda digest: other.sign(digest[:32], ec.ECDSA(utils.Prehashed(hashes.SHA256()))),
    )

    with pytest.raises(ssl.SSLError):
        shaken(context, ssl.TLSVersion.TLSv1_3, tmp_path)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_why_it_did_not_sign_is_kept(tmp_path: Path, version: ssl.TLSVersion) -> None:
    """OpenSSL says no more than that it failed."""

    def refuses(digest: bytes) -> bytes:
        raise LookupError(len(digest))

    context = client()
    openssl.use_signer(context, der(), point(), refuses)

    with pytest.raises(ssl.SSLError):
        shaken(context, version, tmp_path)

    assert isinstance(openssl.sign_error(), LookupError)
    assert openssl.sign_error() is None


def test_a_certificate_of_another_key_is_refused() -> None:
    with pytest.raises(openssl.OpenSslError, match="key values mismatch"):
        openssl.use_signer(client(), der(), point(made.new_key()), sign)


def test_what_is_no_certificate_is_refused() -> None:
    with pytest.raises(openssl.OpenSslError, match="SSL_CTX_use_certificate_ASN1"):
        openssl.use_signer(client(), b"none", point(), sign)


def test_a_context_outlives_its_maker(tmp_path: Path) -> None:
    """OpenSSL calls the signer when nothing of Python's points to it any more."""

    def made_here() -> ssl.SSLContext:
        context = client()
        openssl.use_signer(context, der(), point(), functools.partial(sign))
        return context

    contexts = [made_here() for _ in range(50)]

    assert all(shaken(c, ssl.TLSVersion.TLSv1_3, tmp_path) == der() for c in contexts)


def test_this_python_can_do_it() -> None:
    openssl.require_signers()
