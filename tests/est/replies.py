"""Raw HTTP answers, to the byte: what ``http.server`` would tidy up goes out as it stands."""

from __future__ import annotations

import base64
import textwrap
import time
from collections.abc import Callable, Sequence
from typing import Final

from tests.est import messages
from tests.est.certificates import Change, unchanged
from tests.est.server import Exchange, Reply

CERTS_ONLY: Final = "application/pkcs7-mime; smime-type=certs-only"
CRLF: Final = b"\r\n"
Body = Callable[[Exchange], bytes]
_BLOCK: Final = 64 * 1024


def folded(der: bytes, columns: int = 64, end: str = "\n") -> bytes:
    lines = textwrap.wrap(base64.b64encode(der).decode(), columns)
    return ("".join(line + end for line in lines)).encode()


def http(
    status: object = 200,
    body: bytes = b"",
    kind: str | None = CERTS_ONLY,
    *headers: str,
    length: bool = True,
) -> bytes:
    """A whole answer; ``headers`` are lines without their ends."""
    lines = [f"HTTP/1.1 {status} Said" if isinstance(status, int) else str(status)]
    if kind is not None:
        lines.append(f"Content-Type: {kind}")
    lines += headers
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def raw(data: bytes) -> Reply:
    """These bytes, then the end of the connection."""

    def reply(exchange: Exchange) -> None:
        exchange.send(data)
        exchange.close()

    return reply


def says(
    status: object, body: bytes = b"", kind: str | None = "text/plain", *headers: str
) -> Reply:
    """An answer with a length; the connection stays."""
    data = http(status, body, kind, *headers)
    return lambda exchange: exchange.send(data)


# --- enrolments ---


def leaf(exchange: Exchange) -> bytes:
    """Certs-only with the certificate that was asked for."""
    return messages.certs_only(exchange.issue())


def changed(change: Change, ca: str = "online-ca") -> Body:
    """The same, with something else about the certificate."""
    return lambda exchange: messages.certs_only(exchange.issue(change, ca))


def packed(pack: Callable[..., bytes], change: Change = unchanged) -> Body:
    """The certificate that was asked for, and ``pack`` makes the message."""
    return lambda exchange: pack(exchange.issue(change))


def issues(
    body: Body = leaf,
    *,
    status: object = 200,
    kind: str | None = CERTS_ONLY,
    encode: Callable[[bytes], bytes] = folded,
    headers: Sequence[str] = (),
) -> Reply:
    """An enrolment that succeeds, but for what is said otherwise."""

    def reply(exchange: Exchange) -> None:
        exchange.send(http(status, encode(body(exchange)), kind, *headers))

    return reply


def framed(frame: Callable[[bytes], bytes], body: Body = leaf) -> Reply:
    """``frame`` makes the whole answer of the base64; then the connection ends."""

    def reply(exchange: Exchange) -> None:
        exchange.send(frame(folded(body(exchange))))
        exchange.close()

    return reply


def chunked(body: bytes, size: int = 100) -> bytes:
    """RFC 9112 section 7.1, with a last chunk and no trailer."""
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    coded = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    head = http(200, b"", CERTS_ONLY, "Transfer-Encoding: chunked", length=False)
    return head + coded + b"0\r\n\r\n"


def with_issuer(exchange: Exchange) -> bytes:
    """The certificate that was asked for and its issuer."""
    issuer = exchange.lab.authority_der("online-ca")
    return messages.certs_only(exchange.issue(), issuer)


good: Final = issues(with_issuer)


# --- what takes its time, or has no end ---


def endless(head: bytes, block: bytes) -> Reply:
    """``head``, then ``block`` again and again until the client has enough."""

    def reply(exchange: Exchange) -> None:
        exchange.send(head)
        repeated = block * (_BLOCK // len(block) + 1)
        while not exchange.gone:
            exchange.send(repeated)

    return reply


def drips(data: bytes, every_s: float = 0.25) -> Reply:
    """Byte by byte: no pause is long, and it would never end."""

    def reply(exchange: Exchange) -> None:
        for at in range(len(data)):
            if exchange.gone:
                return
            exchange.send(data[at : at + 1])
            time.sleep(every_s)  # the server, not the test, takes its time

    return reply


def silent(exchange: Exchange) -> None:
    """Nothing, until the client hangs up."""
    exchange.wait_for_the_end()


def hangs_up(exchange: Exchange) -> None:
    exchange.close()


def resets(exchange: Exchange) -> None:
    exchange.reset()


def in_turn(*replies: Reply) -> Reply:
    """One for each enrolment, the last one for ever."""

    def reply(exchange: Exchange) -> None:
        count = len(exchange.server.enrolments())
        replies[min(count, len(replies)) - 1](exchange)

    return reply


def cuts(data: bytes) -> Reply:
    """These bytes, then the line's end without TLS's."""

    def reply(exchange: Exchange) -> None:
        exchange.send(data)
        exchange.cut()

    return reply
