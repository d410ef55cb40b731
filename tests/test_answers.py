"""What servers may answer, over real TLS, one scenario a row."""

from __future__ import annotations

import base64
import contextlib
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from fioagent import tls
from fioagent.errors import (
    AgentError,
    CredentialRefusedError,
    NotSupportedError,
    PeerError,
    TemporaryError,
)
from fioagent.est import HttpEst
from fioagent.gateway import HttpGateway
from fioagent.http import MAX_BODY, Session
from tests import cloud
from tests.world import World

OK_TYPE = "application/pkcs7-mime; smime-type=certs-only"


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, whole."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": OK_TYPE})


Ask = Callable[[Answer], list[bytes]]
Connect = Callable[..., Session]  # of any number of answers


class QuietServer(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has read enough is no trouble."""


@pytest.fixture
def connect(world: World) -> Iterator[Connect]:
    """Connects to a server that gives the wanted answers in turn, the last one for ever."""
    wanted: list[Answer] = []
    sessions: list[Session] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 5

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            answer = wanted.pop(0) if len(wanted) > 1 else wanted[0]
            if answer.status == 0:
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # the client may have read enough
                self.wfile.write(answer.body)

        do_GET = do_PATCH = do_POST  # noqa: N815  # the library's names

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the library's name
            """Nothing."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*cloud.pair(world.factory, "est-tls-crt"))
    with QuietServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()

        def session(*answers: Answer) -> Session:
            wanted[:] = answers
            client = tls.client_context((world.storage / "root.crt").read_bytes())
            client.load_cert_chain(*world.live_pair())
            sessions.append(Session(f"https://localhost:{server.server_port}/est", client))
            return sessions[-1]

        yield session
        for each in sessions:
            each.close()
        server.shutdown()
        thread.join()


@pytest.fixture
def ask(connect: Connect) -> Ask:
    """The certificates in the wanted answer to a re-enrolment."""
    return lambda answer: HttpEst(connect(answer)).reenroll(b"\x30\x03\x02\x01\x00").certificates


@pytest.fixture
def message(world: World) -> tuple[bytes, bytes]:
    """A certs-only message in DER, and the certificate in it."""
    certificate = x509.load_pem_x509_certificate(world.old_certificate)
    packed = pkcs7.serialize_certificates([certificate], Encoding.DER)
    return packed, certificate.public_bytes(Encoding.DER)


def encoded(packed: bytes) -> bytes:
    return base64.b64encode(packed)


@pytest.mark.parametrize(
    "shape",
    [
        encoded,
        base64.encodebytes,
        lambda packed: base64.encodebytes(packed).replace(b"\n", b"\r\n\t "),
        lambda packed: encoded(packed) + b"\x00",
        bytes,
    ],
    ids=["one line", "folded", "white space", "trailing NUL", "binary DER"],
)
@pytest.mark.parametrize("status", [200, 201])
@pytest.mark.parametrize(
    "kind",
    [OK_TYPE, "application/pkcs7-mime", "Application/X-PKCS7-Mime", None],
)
def test_every_form_of_a_good_answer_is_taken(
    ask: Ask,
    message: tuple[bytes, bytes],
    shape: Callable[[bytes], bytes],
    status: int,
    kind: str | None,
) -> None:
    """Servers in the field fold, wrap, end and name it in their own ways."""
    headers = {} if kind is None else {"Content-Type": kind}

    assert [message[1]] == ask(Answer(status, shape(message[0]), headers))


@pytest.mark.parametrize(
    ("answer", "kind", "line"),
    [
        (Answer(202, headers={"Retry-After": "7"}), TemporaryError, "wants us to wait"),
        (Answer(202, headers={}), TemporaryError, "wants us to wait"),
        (Answer(429, b"slow down", {"Retry-After": "9"}), TemporaryError, "answered 429"),
        (Answer(500, b"oops"), TemporaryError, "answered 500: oops"),
        (Answer(401, b"who are you"), CredentialRefusedError, "answered 401: who are you"),
        (Answer(404, b"{}"), NotSupportedError, "answered 404"),
        (Answer(400, b"a\r\n\x1b[31mb"), PeerError, r"answered 400: a \[31mb$"),
        (Answer(400, b"x" * 5000), PeerError, "answered 400: x{512}$"),
        (Answer(307, headers={"Location": "https://h/"}), PeerError, "redirects to 'https://h/'"),
        (Answer(200, b"", {"Content-Type": OK_TYPE}), PeerError, "is damaged: it is empty"),
        (Answer(200, b"-----BEGIN", {"Content-Type": OK_TYPE}), PeerError, "not base64"),
        (Answer(200, b"\xff\xfe", {"Content-Type": OK_TYPE}), PeerError, "not base64"),
        (Answer(200, b"MAA=", {"Content-Type": OK_TYPE}), PeerError, "not a certs-only PKCS#7"),
        (Answer(200, b"rejected", {"Content-Type": "text/plain"}), PeerError, "with text/plain"),
        (Answer(200, b"A" * (MAX_BODY + 1)), TemporaryError, "longer than"),
    ],
)
def test_every_other_answer_is_one_plain_line(
    ask: Ask, answer: Answer, kind: type[AgentError], line: str
) -> None:
    """200 is not success, and the server's words are cut and cleaned."""
    with pytest.raises(kind, match=line) as caught:
        ask(answer)

    assert str(caught.value).startswith("cannot ")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        (Answer(202, headers={"Retry-After": "7"}), 7.0),
        (Answer(202, headers={}), 300.0),
        (Answer(503, headers={"Retry-After": "11"}), 11.0),
        (Answer(503, headers={}), None),
    ],
)
def test_the_servers_wish_to_wait_is_kept(ask: Ask, answer: Answer, seconds: float) -> None:
    """RFC 7030 section 4.2.3: not before."""
    with pytest.raises(TemporaryError) as caught:
        ask(answer)

    assert seconds == caught.value.retry_after_s


def test_a_gateway_that_sends_its_whole_configuration_has_accepted_us(connect: Connect) -> None:
    """However long it is: the check reads how it begins."""
    longer = Answer(200, b" {" + b"x" * (MAX_BODY + 1), {"Content-Type": "application/json"})

    assert HttpGateway(connect(longer)).check() == 200


def test_a_connection_that_died_while_it_was_kept_is_made_anew(connect: Connect) -> None:
    """Once: a NAT or an idle timeout on the way is no reason to pause."""
    session = connect(Answer(204, headers={}), Answer(0), Answer(204, headers={}))

    assert [session.request("GET", "/").status for _ in range(2)] == [204, 204]


def test_a_change_is_not_repeated_behind_our_back(connect: Connect) -> None:
    """That its answer was lost has to be known: the gateway may have taken it."""
    session = connect(Answer(204, headers={}), Answer(0), Answer(405, b"", {}))
    session.request("GET", "/")

    with pytest.raises(TemporaryError, match="cannot reach localhost"):
        session.request("PATCH", "/device", body=b"{}")


def test_a_server_that_never_answers_is_asked_no_third_time(connect: Connect) -> None:
    """Nor is a first request repeated: nothing says that the connection was old."""
    session = connect(Answer(204, headers={}), Answer(0))

    assert session.request("GET", "/").status == 204
    with pytest.raises(TemporaryError, match="cannot reach localhost"):
        session.request("GET", "/")


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (302, b"", TemporaryError),
        (400, b"no", PeerError),
        (401, b"no", CredentialRefusedError),
        (403, b"no", CredentialRefusedError),
        (404, b"no", NotSupportedError),
        (405, b"no", NotSupportedError),
        (429, b"no", TemporaryError),
        (500, b"no", TemporaryError),
        (502, b"no", TemporaryError),
        (502, b"Key rotation is not supported", CredentialRefusedError),
    ],
)
def test_a_gateways_no_is_definite_or_not(
    connect: Connect, status: int, body: bytes, kind: type[AgentError]
) -> None:
    """Only a definite one may end a rotation."""
    with pytest.raises(kind) as caught:
        HttpGateway(connect(Answer(status, body, {}))).check()

    assert type(caught.value) is kind
