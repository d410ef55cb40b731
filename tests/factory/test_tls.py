"""Handshakes: who is let in, why the others are not, and that nobody waits for anybody."""

from __future__ import annotations

import http.client
import socket
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from fioagent.factory import Factory
from fioagent.factory.servers.server import THREADS
from tests.factory.conftest import Lab
from tests.factory.peers import SERVER_AUTH, TIMEOUT_S, Credential, tls_context

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
BODY = b'{"next_pubkey": "' + b"x" * 5000 + b'"}'


def alert(lab: Lab, credential: Credential, version: ssl.TLSVersion) -> str:
    """What the client reads when it sends a request with a body at once, like a real one."""
    context = tls_context(lab.factory, version)
    context.load_cert_chain(credential.certificate_file, credential.key_file)
    port = urlsplit(lab.urls.gateway).port
    connection = http.client.HTTPSConnection("localhost", port, context=context, timeout=TIMEOUT_S)
    try:
        connection.request("PATCH", "/device", BODY)
        connection.getresponse()
    except ssl.SSLError as error:
        return error.reason or str(error)
    finally:
        connection.close()
    return "none"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"ca": "foreign-ca"}, "TLSV1_ALERT_UNKNOWN_CA"),
        ({"expired": True}, "SSLV3_ALERT_CERTIFICATE_EXPIRED"),
        # Go sends bad_certificate here; OpenSSL cannot be told to.
        ({"purpose": SERVER_AUTH}, "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE"),
    ],
    ids=["unknown-ca", "expired", "no-client-auth"],
)
def test_a_bad_certificate_is_answered_with_the_alert_that_says_why(
    lab: Lab, version: ssl.TLSVersion, how: dict[str, object], expected: str
) -> None:
    """In TLS 1.3 as well, where the client has sent its request before it is refused."""
    credential = lab.credential(**how)  # type: ignore[arg-type]  # a table of one keyword each

    # Ten times: a reset would overtake the alert only now and then.
    assert {expected} == {alert(lab, credential, version) for _ in range(10)}
    assert 0 == lab.factory.handshakes("gateway")[0]
    assert [] == lab.factory.requests("gateway")


@pytest.mark.parametrize("version", VERSIONS)
def test_both_versions_of_tls_serve(lab: Lab, version: ssl.TLSVersion) -> None:
    assert "none" == alert(lab, lab.credential(), version)


def test_tls_1_1_is_refused(lab: Lab) -> None:
    """The floor is 1.2, as on the public gateways."""
    context = tls_context(lab.factory, ssl.TLSVersion.TLSv1_2)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1

    port = urlsplit(lab.urls.gateway).port
    with socket.create_connection(("localhost", port or 0)) as raw, pytest.raises(ssl.SSLError):
        context.wrap_socket(raw, server_hostname="localhost")


def test_idle_connections_cost_no_thread(lab: Lab) -> None:
    """Three times as many kept-alive clients as threads, and each is served again and again."""
    clients = [lab.device(f"device-{number}") for number in range(THREADS * 3)]
    lab.factory.clear_requests()

    for _ in range(2):
        assert {200} == {client.get("/device").status_code for client in clients}

    assert (0, 0) == lab.factory.handshakes("gateway")  # nobody had to connect again


def test_requests_in_one_tls_record_are_all_served(lab: Lab) -> None:
    """What TLS has decrypted already does not wake a selector; the server looks for it."""
    credential = lab.credential()
    context = tls_context(lab.factory, ssl.TLSVersion.TLSv1_3)
    context.load_cert_chain(credential.certificate_file, credential.key_file)
    port = urlsplit(lab.urls.gateway).port or 0
    # Longer than the server's read buffer of 8 KiB, shorter than a record of 16 KiB.
    one = b"GET /device HTTP/1.1\r\nHost: localhost\r\nX-Filler: " + b"x" * 4000 + b"\r\n\r\n"
    count = 3

    with (
        socket.create_connection(("localhost", port), timeout=TIMEOUT_S) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as tls,
    ):
        tls.sendall(one * count)
        received = b""
        while received.count(b'"update_name"') < count and (more := tls.recv(65536)):
            received += more

    assert count == received.count(b"HTTP/1.1 200")


def test_plain_http_to_a_tls_port_harms_nobody(lab: Lab) -> None:
    port = urlsplit(lab.urls.gateway).port
    with requests.Session() as session:
        session.trust_env = False
        with pytest.raises(requests.ConnectionError):
            session.get(f"http://localhost:{port}/device", timeout=TIMEOUT_S)

    assert 200 == lab.device().get("/device").status_code
    assert "TLS handshake failed" in (lab.factory.paths.log / "gateway.log").read_text()


def test_ipv6_addresses_are_served_under_their_name(unserved: Factory, tmp_path: Path) -> None:
    """The certificate has ::1, and the URL has the brackets."""
    with unserved.serving({"gateway": ("::1", 0)}) as urls, requests.Session() as session:
        session.trust_env = False
        answer = session.get(
            f"{urls.gateway}/nowhere", verify=str(unserved.paths.root), timeout=TIMEOUT_S
        )

    assert urls.gateway.startswith("https://[::1]:")
    assert 404 == answer.status_code
