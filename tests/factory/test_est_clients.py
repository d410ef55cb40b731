"""EST clients of others against the factory's EST server, and what openssl says of the result.

A server that only our own client understands would prove nothing about that client.
"""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from tests import needs
from tests.factory.conftest import Lab
from tests.factory.peers import Credential, csr, subject

LIMIT_S = 60


@pytest.fixture
def old(lab: Lab) -> Credential:
    """What is renewed."""
    return lab.credential()


@pytest.fixture
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def request_file(key: ec.EllipticCurvePrivateKey, tmp_path: Path) -> Path:
    """A request for the device's name under ``key``."""
    path = tmp_path / "request.der"
    path.write_bytes(csr(subject("device-1"), key))
    return path


def run(*command: str | Path, feed: bytes = b"") -> bytes:
    """What the program prints when it is fed so; it has to succeed."""
    words = [str(word) for word in command]
    done = subprocess.run(words, input=feed, capture_output=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stdout


def check_issued(
    lab: Lab, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, directory: Path
) -> None:
    """The device's name, the new key, and a chain to the root that openssl takes."""
    assert key.public_key() == certificate.public_key()
    assert subject("device-1") == certificate.subject
    path = directory / "issued.pem"
    path.write_bytes(certificate.public_bytes(Encoding.PEM))
    paths = lab.factory.paths
    run(
        *("openssl", "verify", "-purpose", "sslclient", "-CAfile", paths.root),
        *("-untrusted", paths.pki / "online-crt", path),
    )


# --- curl, with requests made by hand ---


def ask(lab: Lab, *more: str | Path) -> tuple[str, bytes]:
    """Status with the version of HTTP, and body."""
    out = run(
        "curl",
        "-sS",
        "-w",
        "\n%{http_code} %{http_version}",
        "--cacert",
        lab.factory.paths.root,
        *more,
    )
    body, _, status = out.rpartition(b"\n")
    return status.decode(), body


@pytest.mark.parametrize("version", ["--http1.0", "--http1.1"])
def test_curl_renews(
    lab: Lab,
    old: Credential,
    key: ec.EllipticCurvePrivateKey,
    request_file: Path,
    tmp_path: Path,
    version: str,
) -> None:
    """As the page on the factory shows it, for a person without any EST client."""
    run("openssl", "base64", "-in", request_file, "-out", tmp_path / "body")
    status, body = ask(
        lab,
        *(version, "--cert", old.certificate_file, "--key", old.key_file),
        *("-H", "Content-Type: application/pkcs10"),
        *("-H", "Content-Transfer-Encoding: base64"),
        *("--data-binary", f"@{tmp_path / 'body'}", f"{lab.urls.est}/simplereenroll"),
    )
    message = base64.b64decode(body)

    printed = run("openssl", "pkcs7", "-inform", "DER", "-print_certs", feed=message)

    assert f"200 {version[-3:].removesuffix('.0')}" == status
    check_issued(lab, x509.load_pem_x509_certificate(printed), key, tmp_path)


def test_curl_reads_the_cas_without_a_certificate(lab: Lab, tmp_path: Path) -> None:
    """RFC 7030 section 4.1.2: cacerts is for those who have none yet."""
    status, body = ask(lab, f"{lab.urls.est}/cacerts")
    message = base64.b64decode(body)

    printed = run("openssl", "pkcs7", "-inform", "DER", "-print_certs", feed=message)

    assert "200 1.1" == status
    found = x509.load_pem_x509_certificates(printed)
    root = x509.load_pem_x509_certificate(lab.factory.paths.root.read_bytes())
    assert {root, lab.factory.authority("online-ca").certificate} == set(found)


def test_curl_is_told_why_not(lab: Lab, request_file: Path) -> None:
    """Without a certificate nothing is issued."""
    status, body = ask(
        lab,
        *("-H", "Content-Type: application/pkcs10"),
        *("--data-binary", f"@{request_file}", f"{lab.urls.est}/simplereenroll"),
    )

    assert ("401 1.1", b"Client must provide certificate") == (status, body.strip())


# --- strongSwan ---


def test_strongswan_renews(
    lab: Lab,
    old: Credential,
    key: ec.EllipticCurvePrivateKey,
    request_file: Path,
    tmp_path: Path,
) -> None:
    """``pki --est``; 5.9.8 reads base64 in one line alone, hence the knob."""
    need("pki", "strongswan-pki and libstrongswan-standard-plugins")
    lab.factory.set_knob("est_body", "one-line")
    # By address: version 6 asks ::1 first where the name is localhost, and gives up.
    url = f"https://127.0.0.1:{urlsplit(lab.urls.est).port}"

    printed = run(
        *("pki", "--est", "--url", url, "--in", request_file),
        *("--cacert", lab.factory.paths.root, "--cert", old.certificate_file),
        *("--key", old.key_file, "--outform", "pem"),
    )

    check_issued(lab, x509.load_pem_x509_certificate(printed), key, tmp_path)


# --- libest ---


def estclient(lab: Lab, directory: Path, *what: str | Path) -> x509.Certificate:
    """The last certificate in the message that it has kept; its exit status says nothing."""
    if shutil.which("estclient") is None:
        pytest.skip("NOT TRIED: no estclient here; Debian 12 has no libest-utils, 13 does")
    url = urlsplit(lab.urls.est)
    where = ("-s", str(url.hostname), "-p", str(url.port), "-o", directory)
    run(
        *("env", f"EST_OPENSSL_CACERT={lab.factory.paths.root}"),
        *("estclient", *what, *where),
    )
    (kept,) = directory.glob("*.pkcs7")
    message = base64.b64decode(kept.read_bytes())
    printed = run("openssl", "pkcs7", "-inform", "DER", "-print_certs", feed=message)
    return x509.load_pem_x509_certificates(printed)[-1]


def test_libest_reads_the_cas(lab: Lab, tmp_path: Path) -> None:
    """Over HTTP/1.0, as Debian's does."""
    found = estclient(lab, tmp_path, "-g")

    paths = lab.factory.paths
    roots = {paths.root.read_bytes(), (paths.pki / "online-crt").read_bytes()}
    assert found in {x509.load_pem_x509_certificate(pem) for pem in roots}


def test_libest_renews(lab: Lab, old: Credential, tmp_path: Path) -> None:
    """For the key that it has: its own way of simplereenroll."""
    found = estclient(
        lab, tmp_path, "-r", "-c", old.certificate_file, "-k", old.key_file, "-x", old.key_file
    )

    check_issued(lab, found, old.key, tmp_path)


def test_libest_enrols(
    lab: Lab,
    old: Credential,
    key: ec.EllipticCurvePrivateKey,
    request_file: Path,
    tmp_path: Path,
) -> None:
    """With a request that is given, for another key."""
    request = tmp_path / "request.pem"
    run("openssl", "req", "-inform", "DER", "-in", request_file, "-out", request)

    found = estclient(
        lab, tmp_path, "-e", "-y", request, "-c", old.certificate_file, "-k", old.key_file
    )

    check_issued(lab, found, key, tmp_path)


def need(program: str, packages: str) -> None:
    if shutil.which(program) is None:
        needs.missing(f"cannot try {program}: install {packages}")
