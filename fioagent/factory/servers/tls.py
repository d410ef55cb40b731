"""Mutual TLS for cheroot: a handshake that holds up nobody, and whose refusals arrive.

cheroot shakes hands in the thread that accepts, and closes at once after a failure. Both are
wrong here: a silent client must not stop the others, and a client is to read *why* it was
refused. So the handshake goes on whenever the client has said something, a connection that is
waiting for it costs no thread, and after a failed one we read on until the client hangs up: a
reset would overtake the alert.
"""

from __future__ import annotations

import socket
import ssl
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cheroot.errors import FatalSSLAlert
from cheroot.makefile import StreamReader, StreamWriter
from cheroot.server import HTTPConnection, HTTPRequest
from cheroot.ssl import Adapter
from cryptography import x509

from fioagent.factory.pki.certificates import certificate_pem, common_name, key_digest, public_pem
from fioagent.factory.servers.faults import Fault

REQUEST_TIMEOUT_S: Final = 30.0  # between two pieces of a request, once it has begun
LINGER_S: Final = 1.0

# A record of TLS: alert, fatal, handshake_failure.
HANDSHAKE_FAILURE: Final = bytes.fromhex("15 0303 0002 0228")

CONNECTION: Final = "fioagent.connection"  # WSGI environ: TlsConnection
PEER: Final = "fioagent.peer"  # WSGI environ: Peer, or None without a client certificate


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end: the first certificate the client sent, already verified."""

    certificate: x509.Certificate
    certificate_pem: str
    sent: int  # certificates, with the chain
    name: str  # CN
    public_key: str  # SPKI PEM
    digest: str


_NO_CHECK_TIME: Final = 0x200000  # X509_V_FLAG_NO_CHECK_TIME; the ssl module has no name for it


def server_context(
    pair: tuple[Path, Path] | None, client_cas: str, *, any_age: bool = False
) -> ssl.SSLContext:
    """TLS 1.2 or newer; a client certificate is verified if there is one.

    ``pair``: our certificate and its key; without one no handshake succeeds. ``client_cas``: PEM
    of those whose clients are taken. ``any_age``: a certificate that has expired is taken too.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if pair is not None:
        context.load_cert_chain(*pair)
    if client_cas:
        context.load_verify_locations(cadata=client_cas)
    context.verify_mode = ssl.CERT_OPTIONAL
    # The anchors are device CAs, which the root has signed; the root itself is not an anchor.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if any_age:
        context.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME)
    # One session ticket, as Go servers send: by it a client learns that it was accepted.
    context.num_tickets = 1
    return context


class TlsAdapter(Adapter):
    """Wraps each accepted socket with the context of the moment, without a handshake."""

    def __init__(self, context: Callable[[], ssl.SSLContext]) -> None:
        self._context = context

    def bind(self, sock: socket.socket) -> socket.socket:
        return sock

    def wrap(self, sock: socket.socket) -> tuple[ssl.SSLSocket, dict[str, Any]]:
        try:
            tls = self._context().wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        except OSError as error:
            sock.close()
            raise FatalSSLAlert(*error.args) from error
        return tls, {}

    def get_environ(self) -> dict[str, Any]:
        return {}

    def makefile(self, sock: ssl.SSLSocket, mode: str = "r", bufsize: int = -1) -> object:
        reader_or_writer = StreamReader if "r" in mode else StreamWriter
        return reader_or_writer(sock, mode, bufsize)


class _Spoken:
    """A server, as one that speaks another version of HTTP."""

    def __init__(self, server: object, protocol: str) -> None:
        self._server = server
        self.protocol = protocol

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)


class TlsRequest(HTTPRequest):
    """Answered in its own version: Debian's libest client takes no other."""

    def send_headers(self) -> None:
        server = self.server
        self.server = _Spoken(server, self.response_protocol)
        try:
            super().send_headers()
        finally:
            self.server = server


class TlsConnection(HTTPConnection):
    """Shakes hands before the first request, bit by bit, in whatever worker has the time."""

    RequestHandlerClass = TlsRequest
    begun = False  # its handshake
    shaken = False
    resets = False  # at the end, instead of closing

    def communicate(self) -> bool:
        """Whether the connection stays; it then waits for the client to say more."""
        if isinstance(self.socket, ssl.SSLSocket) and not self.shaken:
            if not self.begun:
                if not _has_spoken(self.socket):
                    return True
                if (fault := self.server.faults.of_connection()) is not None:
                    self._refuse(self.socket, fault)
                    return False
            self.begun = True
            return self._shake_hands(self.socket)
        self.socket.settimeout(REQUEST_TIMEOUT_S)
        self.ssl_env = {**(self.ssl_env or {}), CONNECTION: self}
        return bool(super().communicate())  # type: ignore[no-untyped-call]  # cheroot's stub

    def _shake_hands(self, tls: ssl.SSLSocket) -> bool:
        tls.settimeout(0)
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            return True
        except OSError as error:  # ssl.SSLError is one
            self.server.saw_handshake(error)
            _linger(tls)
            return False
        self.shaken = True
        self.ssl_env = {PEER: _peer(tls)}
        self.server.saw_handshake(None)
        return True

    def _refuse(self, tls: ssl.SSLSocket, fault: Fault) -> None:
        """In place of the handshake: below TLS."""
        try:
            socket.socket.recv(tls, 65536)
            self.server.pause(fault.delay)
            if fault.action == "tls-alert":
                socket.socket.sendall(tls, HANDSHAKE_FAILURE)
        except OSError:
            pass  # the client has given up
        self.server.saw_handshake(ConnectionAbortedError(f"the fault {fault.action}"))
        _linger(tls)

    def close(self) -> None:
        if self.resets:
            # Without a shutdown, and nothing lingers: the kernel says RST.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.rfile.close()
            self.socket.close()
        else:
            super().close()


def _has_spoken(tls: ssl.SSLSocket) -> bool:
    """The client, or its end has come."""
    tls.settimeout(0)
    try:
        socket.socket.recv(tls, 1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _linger(tls: ssl.SSLSocket) -> None:
    """Nothing more from us; what the client still sends is read and thrown away.

    Closing with unread data makes the kernel send a reset, and the reset makes the client's
    kernel drop the alert that explains it. In TLS 1.3 there is such data: the client believes
    the handshake done and has sent its request.
    """
    deadline = time.monotonic() + LINGER_S
    try:
        tls.shutdown(socket.SHUT_WR)
        while (left_s := deadline - time.monotonic()) > 0:
            tls.settimeout(left_s)
            if not tls.recv(16384):
                return
    except OSError:
        return


def _peer(tls: ssl.SSLSocket) -> Peer | None:
    der = tls.getpeercert(binary_form=True)
    if der is None:
        return None
    certificate = x509.load_der_x509_certificate(der)
    public_key = public_pem(certificate.public_key())
    return Peer(
        certificate,
        certificate_pem(certificate).decode("ascii"),
        _certificates_sent(tls),
        common_name(certificate),
        public_key,
        key_digest(public_key),
    )


def _certificates_sent(tls: ssl.SSLSocket) -> int:
    """At least the one we know of: a resumed session does not bring the others again."""
    if sys.version_info >= (3, 13):
        chain = tls.get_unverified_chain()
    else:
        # The same function before it became public.
        chain = tls._sslobj.get_unverified_chain()  # type: ignore[attr-defined]  # noqa: SLF001
    return max(1, len(chain or ()))
