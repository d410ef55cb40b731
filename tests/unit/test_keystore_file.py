"""Keys in files: made once, never shown, refused in words, and gone when they are replaced."""

from __future__ import annotations

import os
import ssl
import subprocess
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fioagent.errors import ConfigError
from fioagent.x509 import Certificate

from . import keystores, made

_CERTIFICATE = keystores.CA.issue(keystores.KEY.public_key())


@pytest.mark.parametrize("curve", made.CURVES, ids=lambda curve: str(curve.name))
def test_a_new_key_is_of_the_kind_of_the_old_one(tmp_path: Path, curve: ec.EllipticCurve) -> None:
    """And for us alone from its first byte on."""
    old, new = (
        keystores.put(keystores.pair(tmp_path), made.new_key(curve)),
        keystores.pair(tmp_path, ".r"),
    )
    store = keystores.store(tmp_path)

    store.generate(new, old, announced=False)

    assert curve.name == store.private_key(new).curve.name
    assert 0o600 == Path(new.key).stat().st_mode & 0o7777
    assert store.private_key(new).private_numbers() != store.private_key(old).private_numbers()
    assert ["client.pem", "pkey.pem", "pkey.r.pem"] == sorted(os.listdir(tmp_path))


def test_generating_again_keeps_the_key(tmp_path: Path) -> None:
    """The request was signed with it, and a server may have seen that request."""
    old, new = keystores.put(keystores.pair(tmp_path)), keystores.pair(tmp_path, ".r")
    store = keystores.store(tmp_path)
    store.generate(new, old, announced=False)
    first = Path(new.key).read_bytes()

    store.generate(new, old, announced=False)

    assert first == Path(new.key).read_bytes()


def test_generating_over_something_else_is_refused(tmp_path: Path) -> None:
    """Whatever stands there is not ours to replace."""
    old, new = keystores.put(keystores.pair(tmp_path)), keystores.pair(tmp_path, ".r")
    Path(new.key).write_bytes(b"something else")

    with pytest.raises(ConfigError, match=f"cannot read the private key {new.key}"):
        keystores.store(tmp_path).generate(new, old, announced=False)

    assert b"something else" == Path(new.key).read_bytes()


def _with_parameters(_: Path) -> bytes:
    """As ``openssl ecparam -genkey`` writes it, with which devices are registered."""
    command = ["openssl", "ecparam", "-name", "prime256v1", "-genkey"]
    return subprocess.run(command, check=True, capture_output=True).stdout


@pytest.mark.parametrize(
    "make",
    [
        lambda _: made.key_pem(keystores.KEY),
        lambda _: made.key_pem(keystores.KEY, traditional=True),
        _with_parameters,
        lambda _: made.pem(_CERTIFICATE) + made.key_pem(keystores.KEY),
        lambda _: made.key_pem(keystores.KEY).replace(b"\n", b"\r\n"),
    ],
    ids=["PKCS#8", "SEC 1", "EC PARAMETERS before it", "certificate before it", "CRLF"],
)
def test_a_key_is_read_in_every_form_of_the_field(
    tmp_path: Path, make: Callable[[Path], bytes]
) -> None:
    credential = keystores.pair(tmp_path)
    Path(credential.key).write_bytes(make(tmp_path))

    assert 256 == keystores.store(tmp_path).private_key(credential).curve.key_size


_RSA = rsa.generate_private_key(65537, 2048)
_ED = ed25519.Ed25519PrivateKey.generate()
_ENCRYPTED = keystores.KEY.private_bytes(
    Encoding.PEM,
    PrivateFormat.TraditionalOpenSSL,
    serialization.BestAvailableEncryption(b"password"),
)
_NO_KEYS = {
    "RSA": _RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    "RSA of old": _RSA.private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
    ),
    "Ed25519": _ED.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    "encrypted": _ENCRYPTED,
    "PKCS#8 encrypted": keystores.KEY.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"password")
    ),
    "cut off": made.key_pem(keystores.KEY)[:-40],
    "damaged": made.key_pem(keystores.KEY).replace(b"\nMIG", b"\nMIH"),
    "a letter too many": made.key_pem(keystores.KEY).replace(b"\nMIG", b"\nMIG*"),
    "a certificate": made.pem(_CERTIFICATE),
    "empty": b"",
}


@pytest.mark.parametrize("content", _NO_KEYS.values(), ids=_NO_KEYS.keys())
def test_any_other_key_is_refused_without_a_word_of_it(tmp_path: Path, content: bytes) -> None:
    """The message names the file; neither it nor the traceback quotes a line of the key."""
    credential = keystores.pair(tmp_path)
    Path(credential.key).write_bytes(content)

    with pytest.raises(
        ConfigError, match=f"cannot (read|use) the private key {credential.key}: not an "
    ) as caught:
        keystores.store(tmp_path).private_key(credential)

    told = "".join(traceback.format_exception(caught.value)) + str(caught.value.hint)
    lines = [line for line in content.decode().split() if len(line) > 20]
    assert not [line for line in lines if line in told]


def test_an_absent_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"cannot read {tmp_path}/pkey.pem: no such file"):
        keystores.store(tmp_path).private_key(keystores.pair(tmp_path))


def test_a_certificate_is_stored_and_read_to_the_byte(tmp_path: Path) -> None:
    credential, store = keystores.pair(tmp_path), keystores.store(tmp_path)
    assert store.certificate(credential) is None

    store.store_certificate(credential, Certificate.from_der(made.der(_CERTIFICATE)))

    stored = store.certificate(credential)
    assert stored is not None
    assert made.der(_CERTIFICATE) == stored.der
    assert made.pem(_CERTIFICATE) == Path(credential.certificate).read_bytes()
    assert 0o600 == Path(credential.certificate).stat().st_mode & 0o7777


def test_a_file_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    credential = keystores.pair(tmp_path)
    Path(credential.certificate).write_bytes(b"?")

    with pytest.raises(ConfigError, match=f"cannot read the certificate {credential.certificate}"):
        keystores.store(tmp_path).certificate(credential)


@pytest.mark.parametrize("taken", ["key", "certificate"])
@pytest.mark.parametrize("dangling", [False, True])
def test_a_place_has_to_be_free(tmp_path: Path, taken: str, dangling: bool) -> None:
    """Also from a link that leads nowhere: writing there would make a file elsewhere."""
    credential, store = keystores.pair(tmp_path, ".r"), keystores.store(tmp_path)
    store.require_free(credential)
    path = Path(str(getattr(credential, taken)))
    if dangling:
        path.symlink_to("nowhere")
    else:
        path.touch()

    with pytest.raises(ConfigError, match=f"cannot rotate: {path} exists already") as caught:
        store.require_free(credential)
    assert "--id" in str(caught.value.hint)


def test_destroying_twice_is_fine_and_touches_nothing_else(tmp_path: Path) -> None:
    """A replayed retirement neither fails nor takes a neighbour with it."""
    other, credential = (
        keystores.put(keystores.pair(tmp_path)),
        keystores.put(keystores.pair(tmp_path, ".r")),
    )

    for _ in range(2):
        keystores.store(tmp_path).destroy(credential)

    assert {other.key, other.certificate} == {str(path) for path in tmp_path.iterdir()}


def test_a_pair_that_does_not_fit_is_told_before_any_handshake(tmp_path: Path) -> None:
    credential = keystores.put(keystores.pair(tmp_path))
    Path(credential.key).write_bytes(made.key_pem(made.new_key()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    with pytest.raises(
        ConfigError, match=f"cannot use {credential.certificate} with {credential.key}: key values"
    ):
        keystores.store(tmp_path).use_for_tls(credential, context)


@pytest.mark.parametrize("absent", ["key", "certificate"])
def test_half_a_pair_is_told(tmp_path: Path, absent: str) -> None:
    credential = keystores.put(keystores.pair(tmp_path))
    Path(str(getattr(credential, absent))).unlink()

    with pytest.raises(ConfigError, match=r"cannot (use|find)"):
        keystores.store(tmp_path).use_for_tls(credential, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
