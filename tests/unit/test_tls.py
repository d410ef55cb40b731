"""Handshakes with a real server over loopback: who refused whom, and what was sent."""

from __future__ import annotations

import socket
import ssl
import threading
from datetime import datetime, timedelta, timezone
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from fioagent import tls
from fioagent.disk import LocalDisk
from fioagent.errors import CredentialRefusedError, TemporaryError
from fioagent.keystore.file import FileKeyStore
from fioagent.model import CredentialRef, Store

from . import made
from .made import Authority, Extension

_NOW = datetime.now(timezone.utc).replace(microsecond=0)
_ROOT = made.authority("root", _NOW - timedelta(days=10))
_CA = made.authority("device-ca", _NOW - timedelta(days=10))
_VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
_HERE = "127.0.0.1"


def _pair(directory: Path, name: str, ca: Authority, *, days: int = 9, behind: bytes = b"") -> Path:
    """Key and certificate in one file; for a server of this host and for a client alike."""
    key = made.new_key()
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    names = [] if name == "client" else _server_names(name)
    extensions: list[Extension] = [(x509.ExtendedKeyUsage(usages), False), *names]
    certificate = ca.issue(
        key.public_key(),
        made.common_name(_HERE),
        extensions=extensions,
        begins=_NOW - timedelta(days=5),
        ends=_NOW + timedelta(days=days),
    )
    path = directory / f"{name}.pem"
    path.write_bytes(made.key_pem(key) + made.pem(certificate) + behind)
    return path


def _server_names(name: str) -> list[Extension]:
    if name == "nameless":
        return []
    known: list[x509.GeneralName] = [x509.DNSName("gateway.example")]
    if name != "stranger":
        known.append(x509.IPAddress(IPv4Address(_HERE)))
    return [(x509.SubjectAlternativeName(known), False)]


class _Server(threading.Thread):
    """Takes one connection. ``closes`` ends it right after the handshake."""

    def __init__(
        self,
        pair: Path,
        *,
        version: ssl.TLSVersion,
        trusted: Authority = _CA,
        tickets: int = 2,
        greeting: bytes = b"",
        closes: bool = False,
        politely: bool = False,
    ) -> None:
        super().__init__()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair)
        context.load_verify_locations(cadata=made.pem(trusted.certificate).decode())
        context.verify_mode = ssl.CERT_REQUIRED
        context.minimum_version = context.maximum_version = version
        context.num_tickets = tickets
        self._tls = context
        self._listener = socket.create_server((_HERE, 0))
        self._listener.settimeout(20)
        self._greeting = greeting
        self._closes = closes
        self._politely = politely
        self.port: int = self._listener.getsockname()[1]
        self.chain_length = 0
        self.received = b""

    def run(self) -> None:
        try:
            raw, _ = self._listener.accept()
            raw.settimeout(20)
            with self._tls.wrap_socket(raw, server_side=True) as connection:
                inner: Any = connection._sslobj  # type: ignore[attr-defined]  # public from 3.13
                self.chain_length = len(inner.get_unverified_chain())
                if self._greeting:
                    connection.sendall(self._greeting)
                if self._politely:
                    connection.unwrap()
                while not self._closes and (data := connection.recv(1000)):
                    self.received += data
        except OSError:
            return  # what the client makes of it is what counts

    def __enter__(self) -> _Server:  # noqa: PYI034  # typing has Self from 3.11 on
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.join()
        self._listener.close()


def _client(pair: Path | None, *trusted: Authority) -> ssl.SSLContext:
    anchors = b"".join(made.pem(each.certificate) for each in trusted or (_ROOT,))
    context = tls.client_context(anchors)
    if pair is not None:
        context.load_cert_chain(pair)
    return context


@pytest.fixture
def server_pair(tmp_path: Path) -> Path:
    return _pair(tmp_path, "server", _ROOT)


@pytest.fixture
def client_pair(tmp_path: Path) -> Path:
    return _pair(tmp_path, "client", _CA)


@pytest.mark.parametrize("version", _VERSIONS, ids=lambda version: str(version.name))
def test_a_credential_that_is_taken_is_no_error(
    server_pair: Path, client_pair: Path, version: ssl.TLSVersion
) -> None:
    """And not one byte of a request was sent to find out."""
    with _Server(server_pair, version=version) as server:
        tls.handshake(_client(client_pair), _HERE, server.port)

    assert (1, b"") == (server.chain_length, server.received)


def test_a_server_without_tickets_is_content_by_its_silence(
    server_pair: Path, client_pair: Path
) -> None:
    """TLS 1.3 has no word for yes; after some round trips silence is one."""
    with _Server(server_pair, version=ssl.TLSVersion.TLSv1_3, tickets=0) as server:
        tls.handshake(_client(client_pair), _HERE, server.port)

    assert 1 == server.chain_length


def test_a_server_that_speaks_first_is_content(server_pair: Path, client_pair: Path) -> None:
    version = ssl.TLSVersion.TLSv1_3
    with _Server(server_pair, version=version, tickets=0, greeting=b"\x00") as server:
        tls.handshake(_client(client_pair), _HERE, server.port)

    assert 1 == server.chain_length


@pytest.mark.parametrize("tickets", [0, 2])
@pytest.mark.parametrize("version", _VERSIONS, ids=lambda version: str(version.name))
def test_a_ca_that_the_server_does_not_know_is_a_refusal(
    server_pair: Path, client_pair: Path, version: ssl.TLSVersion, tickets: int
) -> None:
    """A definite word, whenever it comes; with what the operator has to look at."""
    with _Server(server_pair, version=version, trusted=_ROOT, tickets=tickets) as server:
        with pytest.raises(
            CredentialRefusedError,
            match=rf"127\.0\.0\.1:{server.port} refuses the device's certificate: unknown ca",
        ) as caught:
            tls.handshake(_client(client_pair), _HERE, server.port)
        assert "device CAs" in str(caught.value.hint)


@pytest.mark.parametrize("version", _VERSIONS, ids=lambda version: str(version.name))
def test_a_certificate_that_has_expired_is_a_refusal(
    tmp_path: Path, server_pair: Path, version: ssl.TLSVersion
) -> None:
    expired = _pair(tmp_path, "client", _CA, days=-1)

    with (
        _Server(server_pair, version=version) as server,
        pytest.raises(CredentialRefusedError, match="certificate: certificate expired"),
    ):
        tls.handshake(_client(expired), _HERE, server.port)


def test_no_certificate_at_all_is_a_refusal(server_pair: Path) -> None:
    version = ssl.TLSVersion.TLSv1_3
    with (
        _Server(server_pair, version=version) as server,
        pytest.raises(CredentialRefusedError, match="certificate required"),
    ):
        tls.handshake(_client(None), _HERE, server.port)


@pytest.mark.parametrize("politely", [False, True])
def test_a_server_that_closes_without_a_word_has_not_refused(
    server_pair: Path, client_pair: Path, politely: bool
) -> None:
    """Only a definite word of the peer counts; this may be a proxy or a restart."""
    version = ssl.TLSVersion.TLSv1_3
    with (
        _Server(server_pair, version=version, tickets=0, closes=True, politely=politely) as server,
        pytest.raises(
            TemporaryError, match=rf"cannot reach 127\.0\.0\.1:{server.port}: the server"
        ),
    ):
        tls.handshake(_client(client_pair), _HERE, server.port)


def test_under_tls_1_2_the_verdict_comes_before_the_close(
    server_pair: Path, client_pair: Path
) -> None:
    with _Server(server_pair, version=ssl.TLSVersion.TLSv1_2, closes=True) as server:
        tls.handshake(_client(client_pair), _HERE, server.port)

    assert 1 == server.chain_length


@pytest.mark.parametrize("name", ["stranger", "nameless"])
@pytest.mark.parametrize("version", _VERSIONS, ids=lambda version: str(version.name))
def test_a_server_of_another_name_is_not_trusted(
    tmp_path: Path, client_pair: Path, name: str, version: ssl.TLSVersion
) -> None:
    """The common name does not count, RFC 9525; and this is no word about our certificate."""
    pair = _pair(tmp_path, name, _ROOT)

    with (
        _Server(pair, version=version) as server,
        pytest.raises(
            TemporaryError, match=rf"cannot trust 127\.0\.0\.1:{server.port}: .*mismatch"
        ) as caught,
    ):
        tls.handshake(_client(client_pair), _HERE, server.port)
    assert "import.tls_cacert_path" in str(caught.value.hint)


def test_a_common_name_can_be_taken_for_a_name(tmp_path: Path, client_pair: Path) -> None:
    """est.accept_common_name, for servers whose certificate has no SubjectAltName at all."""
    key = made.new_key()
    certificate = _ROOT.issue(
        key.public_key(),
        made.common_name("localhost"),
        extensions=[],
        ends=_NOW + timedelta(days=9),
    )
    pair = tmp_path / "old.pem"
    pair.write_bytes(made.key_pem(key) + made.pem(certificate))
    anchors = made.pem(_ROOT.certificate)

    for taken in (False, True):
        context = tls.client_context(anchors, tls.Choices(common_name=taken))
        context.load_cert_chain(client_pair)
        with _Server(pair, version=ssl.TLSVersion.TLSv1_3) as server:
            if taken:
                tls.handshake(context, "localhost", server.port)
            else:
                with pytest.raises(TemporaryError, match="mismatch"):
                    tls.handshake(context, "localhost", server.port)


def test_the_issuers_in_the_trust_file_can_go_along(server_pair: Path, client_pair: Path) -> None:
    """est.send_chain, for servers that lack the one between their root and our certificate."""
    anchors = made.pem(_ROOT.certificate) + made.pem(_CA.certificate)
    context = tls.client_context(anchors, tls.Choices(send_chain=True))
    context.load_cert_chain(client_pair)

    with _Server(server_pair, version=ssl.TLSVersion.TLSv1_3) as server:
        tls.handshake(context, _HERE, server.port)

    assert 2 == server.chain_length


def test_rfc_5280_to_the_letter_is_a_choice() -> None:
    """The PKI of Foundries' documents has a root that fails it; off unless it is asked for."""
    anchors = made.pem(_ROOT.certificate)

    flags = [
        tls.client_context(anchors, tls.Choices(strict=on)).verify_flags for on in (False, True)
    ]

    assert [bool(each & ssl.VERIFY_X509_STRICT) for each in flags] == [False, True]
    assert not tls.client_context(anchors).verify_flags & ssl.VERIFY_X509_STRICT


def test_a_server_of_another_root_is_not_trusted(server_pair: Path, client_pair: Path) -> None:
    """The trust file alone counts, never the system's store."""
    with (
        _Server(server_pair, version=ssl.TLSVersion.TLSv1_3) as server,
        pytest.raises(TemporaryError, match=r"cannot trust .*unable to get local issuer"),
    ):
        tls.handshake(_client(client_pair, _CA), _HERE, server.port)


@pytest.mark.parametrize("version", _VERSIONS, ids=lambda version: str(version.name))
@pytest.mark.parametrize("behind", [False, True], ids=["leaf file", "file with its issuer"])
def test_the_leaf_goes_out_alone(
    tmp_path: Path, server_pair: Path, version: ssl.TLSVersion, behind: bool
) -> None:
    """Although the trust file has its issuer, and even if its own file has: estserver wants one."""
    issuer = made.pem(_CA.certificate) if behind else b""
    pair = str(_pair(tmp_path, "client", _CA, behind=issuer))
    context = _client(None, _ROOT, _CA)
    FileKeyStore(LocalDisk(), str(tmp_path)).use_for_tls(
        CredentialRef(Store.FILE, pair, pair), context
    )

    with _Server(server_pair, version=version) as server:
        tls.handshake(context, _HERE, server.port)

    assert 1 == server.chain_length


def test_a_port_where_nobody_listens_is_not_reached() -> None:
    with socket.create_server((_HERE, 0)) as listener:
        port = listener.getsockname()[1]

    with pytest.raises(TemporaryError, match=rf"cannot reach 127\.0\.0\.1:{port}: connection ref"):
        tls.handshake(_client(None), _HERE, port)


def test_a_server_that_speaks_no_tls_is_told() -> None:
    """A plain HTTP port, or a captive portal."""
    with socket.create_server((_HERE, 0)) as listener:
        answer = threading.Thread(target=_answer_plainly, args=(listener,))
        answer.start()
        port = listener.getsockname()[1]

        with pytest.raises(TemporaryError, match=rf"cannot speak TLS with 127\.0\.0\.1:{port}: "):
            tls.handshake(_client(None), _HERE, port)
        answer.join()


def _answer_plainly(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (socket.gaierror(-2, "Name or service not known"), "cannot find gw.example: Name or"),
        (TimeoutError("timed out"), "cannot reach gw.example:8443: timed out"),
        (OSError(113, "No route to host"), "cannot reach gw.example:8443: no route to host"),
        (
            ConnectionResetError(104, "Connection reset by peer"),
            "cannot reach gw.example:8443: con",
        ),
    ],
)
def test_trouble_on_the_line_is_never_a_refusal(error: OSError, message: str) -> None:
    explained = tls.explained(error, "gw.example", 8443)

    assert isinstance(explained, TemporaryError)
    assert str(explained).startswith(message)


@pytest.mark.parametrize(
    "anchors", [b"", b"\xff\xfe", b"text", b"-----BEGIN CERTIFICATE-----\nMII"]
)
def test_a_trust_file_without_a_certificate_is_refused(anchors: bytes) -> None:
    """As the one error that callers turn into words; power may fail while it is written."""
    with pytest.raises(ssl.SSLError):
        tls.client_context(anchors)


def test_nothing_before_tls_1_2_is_spoken() -> None:
    context = _client(None)

    assert ssl.TLSVersion.TLSv1_2 == context.minimum_version
    assert ssl.CERT_REQUIRED == context.verify_mode
    assert context.check_hostname
