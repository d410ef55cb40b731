"""Connections end in time and lead somewhere: drips, floods, dead addresses, proxies."""

from __future__ import annotations

import contextlib
import ctypes
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from fioagent import dial, openssl, tls
from fioagent.errors import TemporaryError
from fioagent.http import Limits, Session
from fioagent.line import Line
from fioagent.proxy import Proxy
from tests.tunnel import Act, Tunnel, listening

from . import made

_NOW = datetime.now(timezone.utc).replace(microsecond=0)
_ROOT = made.authority("root", _NOW - timedelta(days=10))
_STRANGER = made.authority("Corporate Web Filter", _NOW - timedelta(days=10))
_HERE = "127.0.0.1"


@pytest.fixture
def client() -> ssl.SSLContext:
    return tls.client_context(made.pem(_ROOT.certificate))


def _server_context(directory: Path, ca: made.Authority = _ROOT) -> ssl.SSLContext:
    key = made.new_key()
    names: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.IPAddress(IPv4Address(_HERE))]
    certificate = ca.issue(
        key.public_key(),
        made.common_name("server"),
        extensions=[(x509.SubjectAlternativeName(names), False)],
        begins=_NOW - timedelta(days=1),
        ends=_NOW + timedelta(days=9),
    )
    path = directory / "server.pem"
    path.write_bytes(made.key_pem(key) + made.pem(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def _over_tls(context: ssl.SSLContext, act: Act) -> Act:
    def act_over_tls(connection: socket.socket) -> None:
        connection.settimeout(10)
        with context.wrap_socket(connection, server_side=True) as line:
            act(line)

    return act_over_tls


def _drips(byte: bytes, *, before: bytes = b"") -> Act:
    """Sends ``byte`` for ever, one by one, faster than any idle timeout; until nobody listens."""

    def act(line: Any) -> None:
        line.recv(4096)
        line.sendall(before)
        while True:
            line.sendall(byte)
            time.sleep(0.02)  # the server's pace, and what is under test

    return act


@pytest.mark.parametrize(
    "before",
    [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"],
    ids=["status line", "header", "body"],
)
def test_an_answer_that_drips_ends_at_its_time(
    tmp_path: Path, client: ssl.SSLContext, before: bytes
) -> None:
    """Each byte begins a socket's timeout anew; the moment is fixed here."""
    drip = _over_tls(_server_context(tmp_path), _drips(b"x", before=before))
    with listening(drip) as port:
        session = Session(f"https://{_HERE}:{port}/", client, None, Limits(1000, 0.5))
        started = time.monotonic()

        with pytest.raises(TemporaryError, match=r"timed out|drips"):
            session.request("GET", "x")

        assert time.monotonic() - started < 5


def test_a_handshake_that_drips_ends_at_its_time(client: ssl.SSLContext) -> None:
    with (
        listening(_drips(b"\x00", before=b"\x16\x03\x03\x40\x00")) as port,
        pytest.raises(TimeoutError),
    ):
        Line(client, dial.connect(_HERE, port), _HERE, timeout_s=0.5)


def _found(*hosts: str, port: int = 1) -> list[tuple[Any, ...]]:
    """As getaddrinfo gives it."""
    six, four = socket.AF_INET6, socket.AF_INET
    return [
        (six, 1, 6, "", (host, port, 0, 0)) if ":" in host else (four, 1, 6, "", (host, port))
        for host in hosts
    ]


def test_errors_that_others_leave_to_openssl_are_not_the_connections(
    tmp_path: Path, client: ssl.SSLContext
) -> None:
    """SoftHSM asks for an engine that is not there whenever it makes a key, as is done here."""

    def twice(line: Any) -> None:
        for _ in range(2):
            line.recv(4096)
            time.sleep(0.1)  # so that the client has to wait, and asks OpenSSL why
            line.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with listening(_over_tls(_server_context(tmp_path), twice)) as port:
        session = Session(f"https://{_HERE}:{port}", client)
        assert session.request("POST", "/", body=b"x").status == 204
        openssl._library().call("ENGINE_by_id", ctypes.c_void_p, ctypes.c_char_p(b"nobody"))

        assert session.request("POST", "/", body=b"x").status == 204

        session.close()


def test_a_bound_request_goes_out_over_its_own_connection_or_not_at_all(
    tmp_path: Path, client: ssl.SSLContext
) -> None:
    """A token may take its time to sign; over another connection it would be a wrong proof."""
    got: list[bytes] = []
    closed = threading.Event()

    def act(line: Any) -> None:
        if closed.is_set():
            got.append(line.recv(4096))
            line.sendall(b"HTTP/1.1 401 Unauthorized\r\n\r\n")
        socket.socket.shutdown(line, socket.SHUT_RDWR)
        closed.set()

    def body(_binding: bytes) -> bytes:
        closed.wait(10)
        return b"signed"

    with listening(_over_tls(_server_context(tmp_path), act)) as port:
        session = Session(f"https://{_HERE}:{port}", client)

        with pytest.raises(TemporaryError, match="cannot"):
            session.request_bound("POST", "/", body=body, headers={})

    assert not any(got)


@contextlib.contextmanager
def _deaf(address: str, port: int) -> Iterator[None]:
    """A place that does not answer: its queue is full, and the system drops what else comes."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server((address, port), backlog=0))
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield


def test_an_address_that_leads_nowhere_is_passed_by() -> None:
    """One where nobody listens, one that does not answer, and one where somebody does."""
    with listening(lambda _: None) as port, _deaf("127.0.0.2", port):
        addresses = dial.by_turns(_found("::1", "127.0.0.2", _HERE, port=port))
        started = time.monotonic()

        with dial.reached(addresses, patience_s=0.3) as line:
            assert line.getpeername()[0] == _HERE

        assert 0.2 < time.monotonic() - started < 5


def test_a_name_server_that_is_silent_is_not_waited_for() -> None:
    """What the C library does about it is nobody's business, and the process ends all the same."""
    program = (
        "import threading, time; from fioagent import dial\n"
        "try: dial.resolved('est.example', 1, 0.3, lambda *_: time.sleep(60))\n"
        "except OSError as error: print(error.strerror, threading.active_count())"
    )

    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=True
    )

    assert ran.stdout == "no name server answers 2\n"


def test_a_lookup_for_which_there_is_no_memory_is_trouble_of_the_line() -> None:
    """A thread needs some; what the device lacks is no reason for a traceback."""
    program = (
        "import resource; from fioagent import dial\n"
        "pages = int(open('/proc/self/statm').read().split()[0])\n"
        "resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize(),) * 2)\n"
        "try: dial.resolved('localhost', 1)\n"
        "except OSError as error: print(error.strerror)"
    )

    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=True
    )

    assert ran.stdout == "can't start new thread\n"


@pytest.mark.parametrize(
    ("host", "line"),
    [
        ("nowhere.invalid", "cannot find nowhere.invalid: "),
        ("est..example", "cannot find est..example: that is no name of a host"),
        ("e" * 64, f"cannot find {'e' * 64}: that is no name of a host"),
    ],
)
def test_a_name_that_is_nowhere_is_told(client: ssl.SSLContext, host: str, line: str) -> None:
    with pytest.raises(TemporaryError, match=re.escape(line)):
        Session(f"https://{host}", client).request("GET", "/")


def test_the_families_take_turns() -> None:
    """RFC 8305 section 4: one family that is broken delays by one address, not by all."""
    addresses = dial.by_turns(_found(*(f"100::{n}" for n in range(9)), _HERE))

    assert [host for _, (host, *_) in addresses[:3]] == ["100::0", _HERE, "100::1"]
    assert len(addresses) == 8


# --- proxies ---


def _proxy(port: int, authorization: str | None = None) -> Proxy:
    return Proxy(_HERE, port, authorization)


def _says(text: bytes) -> Act:
    def act(line: Any) -> None:
        line.recv(4096)
        line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text))

    return act


def test_a_tunnel_leads_to_the_server(tmp_path: Path, client: ssl.SSLContext) -> None:
    """TLS is with the server, and the proxy is told name, port and password."""
    tunnel = Tunnel()
    server = _over_tls(_server_context(tmp_path), _says(b"hello"))
    with listening(server) as port, listening(tunnel) as through:
        session = Session(f"https://localhost:{port}", client, _proxy(through, "Basic eDp5"))

        assert session.request("GET", "/").body == b"hello"
        session.close()

    (asked,) = tunnel.asked
    assert asked.startswith(f"CONNECT localhost:{port} HTTP/1.1\r\n".encode())
    assert b"\r\nProxy-Authorization: Basic eDp5\r\n" in asked


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (b"HTTP/1.1 407 Who\r\n\r\n", "answered 407 Who; it wants a user and a password"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n<html>", "answered 403 Forbidden"),
        (b"SSH-2.0\r\n\r\n", "is no HTTP proxy"),
        (b"", "does not answer"),
        (b"x" * 20_000, "does not answer"),
    ],
)
def test_a_proxy_that_will_not_is_named(client: ssl.SSLContext, answer: bytes, line: str) -> None:
    """Temporary, as all trouble on the way; without the password."""
    with listening(Tunnel(answer)) as through:
        session = Session("https://est.example", client, _proxy(through, "Basic eDp5"))

        with pytest.raises(TemporaryError, match=line) as caught:
            session.request("GET", "/")

    assert f"{_HERE}:{through}" in str(caught.value)
    assert "proxy.url" in str(caught.value.hint)
    assert "eDp5" not in str(caught.value)


def test_a_proxy_that_is_not_there_is_named(client: ssl.SSLContext) -> None:
    with socket.create_server((_HERE, 0)) as unused:
        port = unused.getsockname()[1]

    with pytest.raises(TemporaryError, match=rf"cannot reach the proxy {_HERE}:{port}: connection"):
        Session("https://est.example", client, _proxy(port)).handshake()


@pytest.mark.parametrize("bare", [False, True])
def test_whoever_intercepts_is_named(tmp_path: Path, client: ssl.SSLContext, bare: bool) -> None:
    """By the issuer of the certificate that it shows; it gets no byte of a request."""
    received: list[bytes] = []
    server = _over_tls(
        _server_context(tmp_path, _STRANGER), lambda line: received.append(line.recv(99))
    )
    with listening(server) as port:
        session = Session(f"https://localhost:{port}", client)

        with pytest.raises(TemporaryError, match='is from "Corporate Web Filter"') as caught:
            session.handshake() if bare else session.request("GET", "/secret")

    assert str(caught.value).startswith(f"cannot trust localhost:{port}: ")
    assert "intercepts TLS" in str(caught.value.hint)
    assert not any(received)
