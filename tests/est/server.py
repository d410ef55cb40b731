"""The listener: real TLS, one request at a time, and an answer of whatever bytes are wanted."""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fioagent.factory import Factory
from fioagent.factory.pki.certificates import Authority
from fioagent.factory.servers.tls import server_context
from tests import cloud
from tests.est.certificates import Change, Parts, below, for_request, unchanged

BASE: Final = "/.well-known/est"
_PATIENCE_S: Final = 180.0  # for a client that neither reads nor hangs up: longer than any deadline


@dataclass(frozen=True, slots=True)
class Request:
    """What a client sent; names of headers in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    certificate: bytes  # DER of the client's; empty without one
    certificates_sent: int
    binding: str  # base64 of tls-unique; empty where TLS has none

    @property
    def csr(self) -> x509.CertificateSigningRequest:
        return x509.load_der_x509_csr(base64.b64decode(self.body))


class Lab:
    """The factory's CAs, and a directory for credentials of servers."""

    def __init__(self, factory: Factory, directory: Path) -> None:
        self.factory = factory
        self.directory = directory

    def authority(self, which: str) -> Authority:
        return self.factory.authority(which)

    def authority_der(self, which: str) -> bytes:
        return self.authority(which).certificate.public_bytes(Encoding.DER)

    @property
    def root_der(self) -> bytes:
        return ssl.PEM_cert_to_DER_cert(self.factory.paths.root.read_text())


class Exchange:
    """One request that waits for its answer."""

    def __init__(self, server: EstServer, line: ssl.SSLSocket, request: Request) -> None:
        self.server = server
        self.lab = server.lab
        self.request = request
        self._line = line
        self.gone = False

    def send(self, data: bytes) -> None:
        """As it is; a client that has gone is noted, and no error."""
        try:
            self._line.sendall(data)
            self.server.sent += len(data)
        except OSError:
            self.gone = True

    def close(self) -> None:
        """An orderly end, once what was sent has been taken."""
        self.gone = True
        with contextlib.suppress(OSError):
            self._line.unwrap()
        _drain(self._line)

    def cut(self) -> None:
        """The line ends and TLS has not said so: what anybody on the way can do."""
        self.gone = True
        _drain(self._line)

    def reset(self) -> None:
        self.gone = True
        # RFC 9293: no lingering means a reset instead of an end.
        self._line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._line.close()

    def wait_for_the_end(self) -> None:
        """Until the client hangs up; nothing is sent."""
        self.gone = True
        with contextlib.suppress(OSError):
            while self._line.recv(65536):
                pass

    def template(self) -> Parts:
        """A certificate of the CA that issues, for the key of the device's live one."""
        device = x509.load_der_x509_certificate(self.request.certificate)
        spki = device.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return below(self.lab.authority("online-ca"), device.subject.public_bytes(), spki)

    def issue(self, change: Change = unchanged, ca: str = "online-ca") -> bytes:
        """DER of the certificate that the request asks for, but for ``change``."""
        request = base64.b64decode(self.request.body)
        return change(for_request(request, self.lab.authority(ca))).signed()


Reply = Callable[[Exchange], None]
Line = Callable[[socket.socket], None]  # what is spoken instead of TLS
Context = Callable[[Lab], ssl.SSLContext]


def ordinary(lab: Lab) -> ssl.SSLContext:
    """The factory's own EST credential; client certificates by the device CAs."""
    return server_context(cloud.pair(lab.factory, "est-tls-crt"), cloud.trusted(lab.factory))


def not_there(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")


@dataclass(frozen=True, slots=True)
class Script:
    """What the server does: with a connection, with TLS, and with each operation."""

    enrol: Reply
    cacerts: Reply = not_there
    csrattrs: Reply = not_there
    tls: Context = ordinary
    line: Line | None = None


@dataclass
class EstServer:
    """Serves a script on a port of loopback until the end of the test.

    Attributes:
        requests: those that came whole, in their order.
        sent: bytes that clients have taken, or their kernels.
        names: that clients have asked for in TLS; None for no name.
    """

    lab: Lab
    script: Script
    host: str = "localhost"
    requests: list[Request] = field(default_factory=list)
    sent: int = 0
    names: set[str | None] = field(default_factory=set)
    _threads: list[threading.Thread] = field(default_factory=list)
    _open: list[socket.socket] = field(default_factory=list)

    @contextlib.contextmanager
    def serving(self) -> Iterator[EstServer]:
        address = {"[::1]": "::1"}.get(self.host, "127.0.0.1")
        family = socket.AF_INET6 if address == "::1" else socket.AF_INET
        with socket.create_server((address, 0), family=family) as listening:
            self.port = int(listening.getsockname()[1])
            accepting = threading.Thread(target=self._accept, args=(listening,))
            accepting.start()
            try:
                yield self
            finally:
                listening.shutdown(socket.SHUT_RDWR)  # ends the accept
                accepting.join()
                for line in self._open:
                    # Under TLS, not through it: a client may keep its end until it is collected.
                    with contextlib.suppress(OSError):
                        socket.socket.shutdown(line, socket.SHUT_RDWR)
                for thread in self._threads:
                    thread.join(_PATIENCE_S)

    @property
    def url(self) -> str:
        return f"https://{self.host}:{self.port}{BASE}"

    def enrolments(self) -> list[Request]:
        return [request for request in self.requests if request.method == "POST"]

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                line, _ = listening.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(line, self.script), daemon=True)
            thread.start()
            self._threads = [each for each in self._threads if each.is_alive()] + [thread]

    def _serve(self, line: socket.socket, script: Script) -> None:
        line.settimeout(_PATIENCE_S)
        with line, contextlib.suppress(OSError):
            if script.line is not None:
                script.line(line)
                return
            context = script.tls(self.lab)
            context.sni_callback = lambda _tls, name, _context: self.names.add(name)
            tls = context.wrap_socket(line, server_side=True, do_handshake_on_connect=False)
            with tls:
                self._open.append(tls)
                self._shake_and_answer(tls, script)
                self._open.remove(tls)

    def _shake_and_answer(self, tls: ssl.SSLSocket, script: Script) -> None:
        try:
            tls.do_handshake()
        except OSError:
            _drain(tls)  # a reset would overtake the alert that says why
            return
        with contextlib.suppress(OSError):
            self._answer_all(tls, script)

    def _answer_all(self, tls: ssl.SSLSocket, script: Script) -> None:
        with tls.makefile("rb") as lines:
            while (request := _read(tls, lines)) is not None:
                self.requests.append(request)
                exchange = Exchange(self, tls, request)
                _reply(script, request)(exchange)
                if exchange.gone:
                    return


def _reply(script: Script, request: Request) -> Reply:
    operation = request.target.rpartition("/")[2]
    by_name = {"cacerts": script.cacerts, "csrattrs": script.csrattrs}
    return by_name.get(operation, script.enrol)


def _read(tls: ssl.SSLSocket, lines: object) -> Request | None:
    """The next request; None at the end of the connection."""
    readline, read = lines.readline, lines.read  # type: ignore[attr-defined]  # BufferedReader
    try:
        method, target, _ = readline().decode("latin-1").split(" ", 2)
    except (ValueError, OSError):
        return None
    headers = {}
    while (header := readline().decode("latin-1").strip()) != "":
        name, _, value = header.partition(":")
        headers[name.lower()] = value.strip()
    body = read(int(headers.get("content-length", "0")))
    unique = tls.get_channel_binding("tls-unique") or b""
    chain = tls._sslobj.get_unverified_chain() or ()  # type: ignore[attr-defined]  # public in 3.13
    return Request(
        method,
        target,
        headers,
        body,
        tls.getpeercert(binary_form=True) or b"",
        len(chain),
        # CPython gives a value for TLS 1.3 as well, where tls-unique is not defined.
        base64.b64encode(unique).decode() if tls.version() == "TLSv1.2" else "",
    )


def _drain(line: socket.socket) -> None:
    """Until the other side hangs up."""
    with contextlib.suppress(OSError):
        line.shutdown(socket.SHUT_WR)
        while line.recv(65536):
            pass
