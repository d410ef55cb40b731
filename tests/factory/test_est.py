"""The EST server refuses what estserver refuses, in its words, and answers as RFC 7030 asks."""

from __future__ import annotations

import base64
import socket
import ssl
import subprocess
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.factory.conftest import Lab
from tests.factory.peers import (
    CLIENT_AUTH,
    SERVER_AUTH,
    SIGNATURE_ONLY,
    TIMEOUT_S,
    Client,
    certificates,
    csr,
    subject,
    tls_context,
)

BOTH = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH])
AGREEMENT = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=True,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


@pytest.fixture
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def client(lab: Lab) -> Client:
    return lab.client(lab.credential())


@pytest.fixture
def request_(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A request as the device should make it, in base64."""
    return base64.b64encode(csr(subject("device-1"), key))


def issued(answer: requests.Response) -> x509.Certificate:
    (certificate,) = certificates(answer)
    return certificate


# --- what is issued, and how it is sent ---


def test_an_enrolment_is_answered_as_rfc_7030_asks(client: Client, request_: bytes) -> None:
    """200, certs-only, base64 in lines of 64 with a newline at the end."""
    answer = client.enrol(request_)

    assert 200 == answer.status_code
    assert "application/pkcs7-mime; smime-type=certs-only" == answer.headers["Content-Type"]
    assert "base64" == answer.headers["Content-Transfer-Encoding"]
    assert answer.text.endswith("\n")
    assert 64 == max(len(line) for line in answer.text.splitlines())


def test_an_enrolment_can_be_answered_as_estserver_does(
    lab: Lab, client: Client, request_: bytes
) -> None:
    """201, the bare type, one line without an end."""
    lab.factory.set_knob("est_success", "201")

    answer = client.enrol(request_)

    assert (201, "application/pkcs7-mime") == (answer.status_code, answer.headers["Content-Type"])
    assert "Content-Transfer-Encoding" not in answer.headers
    assert "\n" not in answer.text
    assert 1 == len(certificates(answer))


def test_an_enrolment_can_be_answered_in_one_line(
    lab: Lab, client: Client, request_: bytes
) -> None:
    """As strongSwan 5.9.8 needs it; the rest is as RFC 7030 asks."""
    lab.factory.set_knob("est_body", "one-line")

    answer = client.enrol(request_)

    assert 200 == answer.status_code
    assert "\n" not in answer.text
    assert 1 == len(certificates(answer))


def test_header_names_are_written_as_libest_wants_them(client: Client, request_: bytes) -> None:
    """It compares bytes."""
    names = list(client.enrol(request_).headers)

    assert {"Content-Type", "Content-Length"} <= set(names)


def test_the_certificate_is_the_one_of_estserver(
    lab: Lab, client: Client, key: ec.EllipticCurvePrivateKey, request_: bytes
) -> None:
    """Usages as requested, the second not critical; no CA; from now on, for three years."""
    certificate = issued(client.enrol(request_))

    assert subject("device-1") == certificate.subject
    assert key.public_key() == certificate.public_key()
    assert lab.clock.now == certificate.not_valid_before_utc.timestamp()
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert timedelta(days=3 * 365) == life
    found = {type(e.value): e.critical for e in certificate.extensions}
    assert {
        x509.KeyUsage: True,
        x509.ExtendedKeyUsage: False,
        x509.BasicConstraints: True,
        x509.AuthorityKeyIdentifier: False,
    } == found
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    purpose = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert (SIGNATURE_ONLY, CLIENT_AUTH) == (usage, purpose)


def test_usages_that_are_not_asked_for_are_not_issued(
    client: Client, key: ec.EllipticCurvePrivateKey
) -> None:
    body = csr(subject("device-1"), key, usage=None, purpose=None)

    extensions = issued(client.enrol(base64.b64encode(body))).extensions

    kinds = {type(extension.value) for extension in extensions}
    assert {x509.BasicConstraints, x509.AuthorityKeyIdentifier} == kinds


@pytest.mark.parametrize(
    ("ca", "name"),
    [("online-ca", "ota-devices-CA"), ("local-ca", "fio-"), ("foreign-ca", "foreign-devices-CA")],
)
def test_the_issuing_ca_can_be_chosen(
    lab: Lab, client: Client, request_: bytes, ca: str, name: str
) -> None:
    lab.factory.set_knob("est_ca", ca)

    issuer = issued(client.enrol(request_)).issuer

    (common,) = issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert str(common.value).startswith(name)


def test_a_life_is_cut_to_the_ca(lab: Lab, client: Client, request_: bytes) -> None:
    lab.factory.set_knob("est_validity_days", "36500")

    ca = x509.load_pem_x509_certificate((lab.factory.paths.pki / "online-crt").read_bytes())
    assert ca.not_valid_after_utc == issued(client.enrol(request_)).not_valid_after_utc


@pytest.mark.parametrize(("value", "kept"), [("off", True), ("on", False)])
def test_an_alternative_name_is_kept_unless_the_knob_drops_it(
    lab: Lab, key: ec.EllipticCurvePrivateKey, value: str, kept: bool
) -> None:
    lab.factory.set_knob("est_drop_san", value)
    client = lab.client(lab.credential(san="device.test"))
    body = csr(subject("device-1"), key, san="device.test")

    extensions = issued(client.enrol(base64.b64encode(body))).extensions

    assert kept == any(isinstance(e.value, x509.SubjectAlternativeName) for e in extensions)


def test_a_replaced_key_may_enrol(lab: Lab, request_: bytes) -> None:
    """EST knows no deny list: neither a lock nor a switch-over matters to it."""
    old, new = lab.device(), lab.client(lab.credential())
    old.announce(new.public_key)
    assert 200 == old.enrol(request_).status_code

    new.get("/device")

    assert 403 == old.get("/device").status_code
    assert 200 == old.enrol(request_).status_code


def test_an_issued_certificate_works_at_the_gateway(lab: Lab, client: Client) -> None:
    """The key re-used as well: estserver does not mind, and the gateway does not notice."""
    assert client.credential is not None
    client.get("/device")
    body = csr(subject("device-1"), client.credential.key)
    certificate = issued(client.enrol(base64.b64encode(body)))

    renewed = lab.client(
        type(client.credential).save(
            lab.tmp_path / "renewed", "device-1", client.credential.key, certificate
        )
    )

    assert 200 == renewed.get("/device").status_code


def test_cacerts_needs_no_certificate_and_shows_the_chain(lab: Lab) -> None:
    """Root and issuing CA, as RFC 7030 asks; estserver shows the root alone."""
    session = lab.client().session

    full = session.get(f"{lab.urls.est}/cacerts")
    lab.factory.set_knob("est_success", "201")
    bare = session.get(f"{lab.urls.est}/cacerts")

    root = x509.load_pem_x509_certificate(lab.factory.paths.root.read_bytes())
    online = x509.load_pem_x509_certificate((lab.factory.paths.pki / "online-crt").read_bytes())
    assert (200, {root, online}) == (full.status_code, set(certificates(full)))
    assert (200, [root]) == (bare.status_code, certificates(bare))


def test_simpleenroll_lets_any_device_have_any_name(
    client: Client, key: ec.EllipticCurvePrivateKey
) -> None:
    """As estserver does. It needs a certificate, but not a matching one."""
    body = csr(subject("device-2"), key)

    answer = client.enrol(base64.b64encode(body), "/simpleenroll")

    assert subject("device-2") == issued(answer).subject


@pytest.mark.parametrize("fold", [b"\n", b"\r\n"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_folded_and_a_chunked_request_are_read(
    client: Client, request_: bytes, fold: bytes, chunked: bool
) -> None:
    folded = fold.join(request_[at : at + 64] for at in range(0, len(request_), 64)) + fold

    answer = client.enrol(iter([folded]) if chunked else folded)  # type: ignore[arg-type]

    assert 200 == answer.status_code
    assert 200 == client.enrol(folded).status_code  # the connection is still good


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_resumed_session_is_the_same_client(
    lab: Lab, request_: bytes, version: ssl.TLSVersion
) -> None:
    """Its one certificate is remembered, although it is not sent again."""
    credential = lab.credential()
    context = tls_context(lab.factory, version)
    context.load_cert_chain(credential.certificate_file, credential.key_file)
    address = ("localhost", urlsplit(lab.urls.est).port or 0)
    head = "POST /.well-known/est/simplereenroll HTTP/1.1\r\nHost: localhost\r\n"
    head += f"Content-Type: application/pkcs10\r\nContent-Length: {len(request_)}\r\n\r\n"

    session, resumed = None, []
    for _ in range(2):
        with (
            socket.create_connection(address, timeout=TIMEOUT_S) as raw,
            context.wrap_socket(raw, server_hostname="localhost", session=session) as tls,
        ):
            tls.sendall(head.encode() + request_)
            assert tls.recv(65536).startswith(b"HTTP/1.1 200")
            session = tls.session
            resumed.append(tls.session_reused)

    assert [False, True] == resumed


# --- what is refused ---


def refusal(answer: requests.Response) -> str:
    """The text of a refusal, which is a 400 in plain text."""
    assert (400, "text/plain; charset=UTF-8") == (
        answer.status_code,
        answer.headers["Content-Type"],
    )
    return answer.text


@pytest.mark.parametrize("path", ["/simpleenroll", "/simplereenroll"])
def test_exactly_one_client_certificate_is_wanted(lab: Lab, request_: bytes, path: str) -> None:
    """None and a chain of two are refused alike."""
    for client in (lab.client(), lab.client(lab.credential(with_chain=True))):
        answer = client.enrol(request_, path)
        assert (401, "Client must provide certificate") == (answer.status_code, answer.text)


@pytest.mark.parametrize("content_type", ["", "application/pkcs10; charset=x", "text/plain"])
def test_the_content_type_is_exact(client: Client, request_: bytes, content_type: str) -> None:
    text = refusal(client.enrol(request_, content_type=content_type))

    assert f"Invalid content-type: {content_type}. Must be application/pkcs10" == text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda body: b"", "The CSR could not be decoded: asn1: syntax error: sequence truncated"),
        (lambda body: body[:40] + b" " + body[40:], "The CSR payload is not base64 encoded: "),
        (lambda body: b"-----BEGIN X-----\n" + body, "The CSR payload is not base64 encoded: "),
        (base64.b64decode, "The CSR payload is not base64 encoded: "),
        (lambda body: body[:40], "The CSR could not be decoded: "),
    ],
    ids=["empty", "space", "armour", "der", "cut"],
)
def test_a_body_that_is_no_request(
    client: Client, request_: bytes, change: object, said: str
) -> None:
    assert callable(change)

    assert refusal(client.enrol(change(request_))).startswith(said)


@pytest.mark.parametrize("usage", [AGREEMENT])
def test_another_key_usage(
    client: Client, key: ec.EllipticCurvePrivateKey, usage: x509.KeyUsage
) -> None:
    body = base64.b64encode(csr(subject("device-1"), key, usage=usage))

    text = refusal(client.enrol(body))

    assert "The CSR could not be decoded: Unsupported CSR KeyUsage value" == text


@pytest.mark.parametrize("purpose", [SERVER_AUTH, BOTH])
def test_another_extended_key_usage(
    client: Client, key: ec.EllipticCurvePrivateKey, purpose: x509.ExtendedKeyUsage
) -> None:
    body = base64.b64encode(csr(subject("device-1"), key, purpose=purpose))

    text = refusal(client.enrol(body))

    assert "The CSR could not be decoded: Unsupported CSR ExtendedKeyUsage value" == text


def printable(uuid: str) -> x509.Name:
    """The same words in another string type."""
    kind = x509.name._ASN1Type.PrintableString
    return x509.Name([x509.NameAttribute(part.oid, part.value, kind) for part in subject(uuid)])


@pytest.mark.parametrize(
    "name",
    [subject("device-2"), subject("device-1", "other"), printable("device-1"),
     x509.Name(list(reversed(list(subject("device-1")))))],
    ids=["cn", "ou", "string-type", "order"],
)  # fmt: skip
def test_another_subject(client: Client, key: ec.EllipticCurvePrivateKey, name: x509.Name) -> None:
    """Byte for byte: string types and order count."""
    text = refusal(client.enrol(base64.b64encode(csr(name, key))))

    assert "Subject field of CSR must match the current client certificate" == text


@pytest.mark.parametrize(
    ("has", "asks"), [("a.test", None), (None, "a.test"), ("a.test", "b.test")]
)
def test_another_alternative_name(
    lab: Lab, key: ec.EllipticCurvePrivateKey, has: str | None, asks: str | None
) -> None:
    client = lab.client(lab.credential(san=has))

    text = refusal(client.enrol(base64.b64encode(csr(subject("device-1"), key, san=asks))))

    assert text.startswith("SubjectAltName field of CSR must match")


def test_another_signature_algorithm(client: Client) -> None:
    """A P-384 key with SHA-256 passes: the CA's way of signing counts, not the key."""
    key = ec.generate_private_key(ec.SECP384R1())
    name = subject("device-1")

    text = refusal(client.enrol(base64.b64encode(csr(name, key, digest=hashes.SHA384()))))

    assert "Signature algorithm of the CSR does not match that of the CA" == text
    assert 200 == client.enrol(base64.b64encode(csr(name, key))).status_code


def test_a_bad_signature(client: Client, key: ec.EllipticCurvePrivateKey) -> None:
    """Made with another key: the proof of possession."""
    body = bytearray(csr(subject("device-1"), key))
    body[-1] ^= 1

    assert refusal(client.enrol(base64.b64encode(body))).startswith("The CSR signature is invalid")


@pytest.mark.parametrize("path", ["/serverkeygen", "/csrattrs", "/fullcmc", "/label/cacerts"])
def test_other_operations_and_labels_are_not_there(lab: Lab, path: str) -> None:
    """Absent from estserver by design."""
    answer = lab.client().session.get(lab.urls.est + path)

    assert (404, {"message": "Not Found"}) == (answer.status_code, answer.json())


# --- faults ---


@pytest.mark.parametrize(
    ("value", "status"), [("202", 202), ("403", 403), ("500", 500), ("503", 503)]
)
def test_another_answer(lab: Lab, client: Client, request_: bytes, value: str, status: int) -> None:
    """202 and 503 say when to come back."""
    lab.factory.set_knob("est_answer", value)
    lab.factory.set_knob("est_retry_after_s", "7")

    answer = client.enrol(request_)

    assert status == answer.status_code
    assert ("7" if value in ("202", "503") else None) == answer.headers.get("Retry-After")


@pytest.mark.parametrize("value", ["garbage", "html"])
def test_an_answer_that_is_no_certificate(
    lab: Lab, client: Client, request_: bytes, value: str
) -> None:
    lab.factory.set_knob("est_answer", value)

    answer = client.enrol(request_)

    assert 200 == answer.status_code
    with pytest.raises(ValueError, match=r"."):
        certificates(answer)


def test_an_answer_without_a_certificate(lab: Lab, client: Client, request_: bytes) -> None:
    """A certs-only message that is well formed, and empty."""
    lab.factory.set_knob("est_issue", "empty")

    answer = client.enrol(request_)

    assert 200 == answer.status_code
    shown = subprocess.run(
        ["openssl", "pkcs7", "-inform", "DER", "-print_certs"],
        input=base64.b64decode(answer.content),
        capture_output=True,
        check=True,
    )
    assert b"" == shown.stdout.strip()


def test_the_same_certificate_again(lab: Lab, client: Client, request_: bytes) -> None:
    lab.factory.set_knob("est_issue", "same-cert")
    assert client.credential is not None

    assert client.credential.certificate == issued(client.enrol(request_))


def test_a_certificate_for_another_key(
    lab: Lab, client: Client, key: ec.EllipticCurvePrivateKey, request_: bytes
) -> None:
    lab.factory.set_knob("est_issue", "other-key")

    assert key.public_key() != issued(client.enrol(request_)).public_key()


def test_a_certificate_for_another_subject(lab: Lab, client: Client, request_: bytes) -> None:
    lab.factory.set_knob("est_issue", "other-subject")

    assert subject("device-1") != issued(client.enrol(request_)).subject


def test_a_certificate_for_servers(lab: Lab, client: Client, request_: bytes) -> None:
    lab.factory.set_knob("est_issue", "no-client-auth")

    extensions = issued(client.enrol(request_)).extensions

    assert SERVER_AUTH == extensions.get_extension_for_class(x509.ExtendedKeyUsage).value


@pytest.mark.parametrize("value", ["expired", "not-yet-valid"])
def test_a_certificate_out_of_its_time(
    lab: Lab, client: Client, request_: bytes, value: str
) -> None:
    lab.factory.set_knob("est_issue", value)

    certificate = issued(client.enrol(request_))

    now = lab.clock.now
    if value == "expired":
        assert certificate.not_valid_after_utc.timestamp() < now
    else:
        assert certificate.not_valid_before_utc.timestamp() > now


@pytest.mark.parametrize(
    ("value", "said"), [("foreign-ca", "unable to get local issuer"), ("wrong-host", "localhost")]
)
def test_the_wrong_tls_certificate(lab: Lab, request_: bytes, value: str, said: str) -> None:
    """From the next connection on, without a restart; and back again."""
    lab.factory.set_knob("est_tls", value)
    with pytest.raises(requests.exceptions.SSLError, match=said):
        lab.client(lab.credential()).enrol(request_)

    lab.factory.set_knob("est_tls", "normal")
    assert 200 == lab.client(lab.credential()).enrol(request_).status_code
