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


def run(*command: str | Path) -> bytes:
    """What the program prints; it has to succeed."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, timeout=LIMIT_S, check=False)
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
    """Status and body."""
    out = run("curl", "-sS", "-w", "\n%{http_code}", "--cacert", lab.factory.paths.root, *more)
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
    (tmp_path / "answer").write_bytes(base64.b64decode(body))

    printed = run(
        *("openssl", "pkcs7", "-inform", "DER", "-print_certs", "-in", tmp_path / "answer")
    )

    assert "200" == status
    check_issued(lab, x509.load_pem_x509_certificate(printed), key, tmp_path)


def test_curl_reads_the_cas_without_a_certificate(lab: Lab, tmp_path: Path) -> None:
    """RFC 7030 section 4.1.2: cacerts is for those who have none yet."""
    status, body = ask(lab, f"{lab.urls.est}/cacerts")
    (tmp_path / "answer").write_bytes(base64.b64decode(body))

    printed = run(
        *("openssl", "pkcs7", "-inform", "DER", "-print_certs", "-in", tmp_path / "answer")
    )

    assert "200" == status
    found = x509.load_pem_x509_certificates(printed)
    root = x509.load_pem_x509_certificate(lab.factory.paths.root.read_bytes())
    assert {root, lab.factory.paths.authority("online-ca").certificate} == set(found)


def test_curl_is_told_why_not(lab: Lab, request_file: Path) -> None:
    """Without a certificate nothing is issued."""
    status, body = ask(
        lab,
        *("-H", "Content-Type: application/pkcs10"),
        *("--data-binary", f"@{request_file}", f"{lab.urls.est}/simplereenroll"),
    )

    assert ("401", b"Client must provide certificate") == (status, body.strip())


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
    url = urlsplit(lab.urls.est)

    printed = run(
        *("pki", "--est", "--url", f"https://{url.hostname}:{url.port}", "--in", request_file),
        *("--cacert", lab.factory.paths.root, "--cert", old.certificate_file),
        *("--key", old.key_file, "--outform", "pem"),
    )

    check_issued(lab, x509.load_pem_x509_certificate(printed), key, tmp_path)


# --- libest ---


def test_libest_reads_the_cas_and_enrols(
    lab: Lab, old: Credential, request_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``estclient`` of Debian's libest-utils, with a key of its own making."""
    if shutil.which("estclient") is None:
        pytest.skip("NOT TRIED: no estclient here; Debian 12 has no libest-utils, later ones do")
    monkeypatch.setenv("EST_OPENSSL_CACERT", str(lab.factory.paths.root))
    url = urlsplit(lab.urls.est)
    where = ("-s", str(url.hostname), "-p", str(url.port), "-o", tmp_path)
    run("openssl", "req", "-inform", "DER", "-in", request_file, "-out", tmp_path / "request.pem")

    run("estclient", "-g", *where)
    run(
        *("estclient", "-e", *where, "-y", tmp_path / "request.pem"),
        *("-c", old.certificate_file, "-k", old.key_file),
    )

    answers = sorted(path.name for path in tmp_path.glob("*.pkcs7"))
    assert answers == ["cacert-0-0.pkcs7", "cert-0-0.pkcs7"]


def need(program: str, packages: str) -> None:
    if shutil.which(program) is None:
        needs.missing(f"cannot try {program}: install {packages}")
