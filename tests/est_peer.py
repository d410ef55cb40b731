"""An EST server over real TLS that answers each path as a test says, and looks at what it got.

Signs with a CA of the lab factory. What it does beyond the factory's own server:
wants of csrattrs, requests that are bound to their connection, redirects, odd framing.
"""

from __future__ import annotations

import base64
import contextlib
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from tests import cloud
from tests.token_world import TokenWorld
from tests.world import World

BASE = "/.well-known/est"
CERTS_ONLY = "application/pkcs7-mime; smime-type=certs-only"


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, whole; ``raw`` instead of all of it."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes | None = None


@dataclass(frozen=True, slots=True)
class Got:
    """One request.

    Attributes:
        binding: tls-unique of its connection; None under TLS 1.3.
    """

    method: str
    path: str
    body: bytes
    version: str
    binding: bytes | None

    @property
    def request(self) -> x509.CertificateSigningRequest:
        return x509.load_der_x509_csr(base64.b64decode(self.body))


Respond = Callable[[Got], Answer]


class Peer:
    """What is answered by path below ``/.well-known/est``; 404 elsewhere."""

    def __init__(self, world: World | TokenWorld) -> None:
        self._world = world
        self.url = ""
        self.got: list[Got] = []
        self.answers: dict[str, Respond] = {"/simplereenroll": self.enrolled}

    def enrolled(self, got: Got) -> Answer:
        """The certificate that was asked for."""
        return packed(self.issue(got.request))

    def issue(
        self, request: x509.CertificateSigningRequest, ca: str = "online-ca"
    ) -> x509.Certificate:
        now = datetime.now(timezone.utc).replace(microsecond=0)
        extensions = [(each.value, each.critical) for each in request.extensions]
        return self._world.factory.authority(ca).sign(
            request.subject, request.public_key(), extensions, (now, now + timedelta(days=365))
        )

    def answer(self, got: Got) -> Answer:
        self.got.append(got)
        respond = self.answers.get(got.path.removeprefix(BASE))
        return Answer(404) if respond is None else respond(got)

    def asked(self, path: str) -> list[Got]:
        return [got for got in self.got if got.path == f"{BASE}{path}"]


def packed(*certificates: x509.Certificate) -> Answer:
    message = pkcs7.serialize_certificates(list(certificates), Encoding.DER)
    return Answer(200, base64.encodebytes(message), {"Content-Type": CERTS_ONLY})


@contextlib.contextmanager
def serving(
    world: World | TokenWorld, *, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> Iterator[Peer]:
    """On a port of loopback, with the certificate of the factory's EST server."""
    peer = Peer(world)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            connection: Any = self.connection
            answer = peer.answer(
                Got(
                    self.command,
                    self.path,
                    body,
                    connection.version(),
                    connection.get_channel_binding("tls-unique"),
                )
            )
            if answer.raw is not None:
                self.close_connection = True
                self.wfile.write(answer.raw)
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(answer.body)

        do_GET = do_POST  # noqa: N815  # the library's name

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the library's name
            """Nothing."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*cloud.pair(world.factory, "est-tls-crt"))
    context.maximum_version = newest
    with _QuietServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        peer.url = f"https://localhost:{server.server_port}{BASE}"
        try:
            yield peer
        finally:
            server.shutdown()
            thread.join()


class _QuietServer(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has read enough is no trouble."""
