"""Rows: status lines, framing and the servers' own words."""

from __future__ import annotations

import gzip
from typing import Final

from tests.est.replies import (
    CERTS_ONLY,
    chunked,
    cuts,
    endless,
    folded,
    framed,
    hangs_up,
    http,
    in_turn,
    issues,
    leaf,
    raw,
    resets,
    says,
)
from tests.est.scenario import Scenario, put_off, refused, taken
from tests.est.server import Exchange, Reply

# --- status codes ---

# What is no status counts as 5xx: RFC 9110 section 15.
_TEMPORARY: Final = (408, 425, 429, *range(500, 512), 520, 599, 600, 999)
_DEFINITE: Final = (
    *(204, 205, 206, 207, 226, 299),
    *(400, 401, 402, 403, 404, 405, 406, 407, 409, 410, 411, 412, 413, 414, 415, 416, 417, 418),
    *(421, 422, 423, 424, 426, 428, 431, 451, 499),
)
STATUS: Final = [
    taken("201 in place of 200", issues(status=201)),
    *(
        put_off(f"{code}", f"answered {code}: so it is", says(code, b"so it is"))
        for code in _TEMPORARY
    ),
    *(
        refused(
            f"{code}", f"answered {code}", says(code, b"" if code in (204, 205) else b"so it is")
        )
        for code in _DEFINITE
    ),
    refused(
        "401 with a wish for a password",
        "answered 401: who are you",
        says(401, b"who are you", "text/plain", 'WWW-Authenticate: Basic realm="est"'),
        asked=1,
    ),
    refused("304", "answered 304", says(304)),
]

# --- the servers' own words ---

_ANSI: Final = b"no\r\n\x1b[31m\x1b]0;title\x07 \x00\x08\x7f and \xe2\x80\xae\xe2\x80\xa8no"


def _words(title: str, line: str, body: bytes, kind: str | None) -> Scenario:
    return refused(title, line, says(400, body, kind))


WORDS: Final = [
    _words("words with control characters", "answered 400: no [31m ]0;title and no", _ANSI, None),
    _words(
        "a page of an application server",
        "answered 400: No",
        b"<html>\n<body>No</body>",
        "text/html",
    ),
    _words("JSON", 'answered 400: {"message":"No"}', b'{"message":"No"}', "application/json"),
    _words(
        "XML",
        "answered 400: No such profile",
        b"<PKIException><Message>No such profile</Message>",
        "application/xml",
    ),
    _words("no words", "answered 400: (Said)", b"", None),
    _words("words in Latin-1", "answered 400: gr", b"gr\xfc\xdfe", "text/plain"),
    _words("words in UTF-8", "answered 400: grüße", "grüße".encode(), "text/plain; charset=utf-8"),
    _words("words in UTF-16", "answered 400: ", "no".encode("utf-16"), "text/plain"),
    _words("white space for words", "answered 400: (Said)", b" \r\n\t\x00", "text/plain"),
    _words("a certificate and 400", "answered 400", b"MIIB", CERTS_ONLY),
    _words("a hundred thousand words", "answered 400: xxx", b"x" * 100_000, "text/plain"),
    refused(
        "400 and estserver's word on algorithms",
        "Signature algorithm",
        says(400, b"Signature algorithm of the CSR does not match that of the CA"),
    ),
]

# --- framing ---


_HEAD: Final = http(200, b"", CERTS_ONLY, length=False)


def _plain(*lines: str, first: str = "HTTP/1.1 200 OK") -> Reply:
    """Headers as given, then the base64, then the end of the connection."""
    head = "\r\n".join([first, f"Content-Type: {CERTS_ONLY}", *lines, "", ""]).encode("latin-1")
    return framed(lambda body: head + body)


def _length(more: int) -> Reply:
    return framed(
        lambda body: (
            http(200, b"", CERTS_ONLY, f"Content-Length: {len(body) + more}", length=False) + body
        )
    )


def _after(before: bytes) -> Reply:
    return framed(lambda body: before + http(200, body))


def _piecewise(exchange: Exchange) -> None:
    """Each byte a record of its own."""
    for byte in http(200, folded(leaf(exchange))):
        exchange.send(bytes([byte]))


def _cut_in_the_middle(exchange: Exchange) -> None:
    cuts(http(200, folded(leaf(exchange)))[:-9])(exchange)


def _reset_in_the_middle(exchange: Exchange) -> None:
    exchange.send(http(200, folded(leaf(exchange)))[:-9])
    exchange.reset()


FRAMES: Final = [
    taken("chunks", framed(chunked)),
    taken(
        "chunks with extensions and a trailer",
        framed(
            lambda b: (
                chunked(b)
                .replace(b"64\r\n", b'64;a="b"\r\n')
                .replace(b"\r\n0\r\n\r\n", b"\r\n0\r\nX-Sum: 1\r\n\r\n")
            )
        ),
    ),
    taken("chunks of one byte", framed(lambda b: chunked(b, 1))),
    taken("HTTP/1.0 without a length", _plain(first="HTTP/1.0 200 OK")),
    taken("HTTP/1.1 without a length", _plain()),
    taken("a pseudo header Status", _plain("Status: 200 OK")),
    taken("no reason phrase", _plain(first="HTTP/1.1 200")),
    taken("a reason phrase of 5000 characters", _plain(first="HTTP/1.1 200 " + "O" * 5000)),
    taken(
        "header names in small letters",
        framed(lambda b: http(200, b).replace(b"Content-", b"content-")),
    ),
    taken(
        "line ends of LF alone",
        framed(lambda b: b"HTTP/1.1 200 OK\nContent-Type: application/pkcs7-mime\n\n" + b),
    ),
    taken(
        "folded headers",
        framed(lambda b: http(200, b, "application/pkcs7-mime;\r\n smime-type=certs-only")),
    ),
    taken(
        "ninety headers",
        framed(lambda b: http(200, b, CERTS_ONLY, *(f"X-{n}: {n}" for n in range(90)))),
    ),
    taken(
        "a header of 60,000 characters",
        framed(lambda b: http(200, b, CERTS_ONLY, "X-Long: " + "x" * 60_000)),
    ),
    taken("100 first", _after(b"HTTP/1.1 100 Continue\r\n\r\n")),
    taken("each byte by itself", _piecewise),
    taken(
        "the right length twice",
        framed(lambda b: http(200, b, CERTS_ONLY, f"Content-Length: {len(b)}")),
    ),
    taken("more than its length says", framed(lambda b: http(200, b) + b"HTTP/1.1 500 No\r\n\r\n")),
    put_off("less than its length says", "it was cut off", _length(10)),
    put_off("headers cut off", "it was cut off", framed(lambda b: http(200, b)[:40])),
    put_off("less than its length says, and no end of TLS", "it was cut off", _cut_in_the_middle),
    put_off("a reset in the middle", "it was cut off", _reset_in_the_middle),
    put_off(
        "the end in the middle of a chunk",
        "it was cut off",
        framed(lambda b: chunked(b)[:300]),
    ),
    put_off("chunks without the last one", "it was cut off", framed(lambda b: chunked(b)[:-5])),
    put_off(
        "chunks with a size that is none",
        "cannot",
        framed(lambda b: chunked(b).replace(b"64\r\n", b"zz\r\n")),
    ),
    put_off(
        "chunks with a negative size",
        "cannot",
        framed(lambda b: chunked(b).replace(b"64\r\n", b"-1\r\n")),
    ),
    put_off("no answer", "cannot reach localhost", hangs_up),
    put_off("a reset for an answer", "cannot reach localhost", resets),
    put_off("no answer, and no end of TLS", "cannot reach localhost", cuts(b"")),
    put_off(
        "nothing but 100, without an end", "cannot", endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n")
    ),
    put_off("half a status line", "cannot", raw(b"HTTP/1.1 2")),
    put_off("no HTTP", "cannot", raw(b"SSH-2.0-OpenSSH_9.2\r\n")),
    put_off("HTTP/2", "cannot", raw(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + b"\x00" * 18)),
    put_off("HTTP/0.9", "cannot", raw(b"<html>ok</html>\n")),
    put_off("a status that is no number", "cannot", _plain(first="HTTP/1.1 abc OK")),
    put_off("a status of two digits", "cannot", _plain(first="HTTP/1.1 20 OK")),
    put_off(
        "a status line of 100,000 characters",
        "cannot",
        _plain(first="HTTP/1.1 200 " + "O" * 100_000),
    ),
    put_off("a header of 100,000 characters", "cannot", _plain("X-Long: " + "x" * 100_000)),
    put_off("a thousand headers", "cannot", _plain(*(f"X-{n}: {n}" for n in range(1000)))),
    put_off(
        "headers without an end", "cannot", endless(b"HTTP/1.1 200 OK\r\n", b"X-More: and more\r\n")
    ),
    put_off("a status line without an end", "cannot", endless(b"HTTP/1.1 200 ", b"O")),
    put_off(
        "a chunk size without an end",
        "cannot",
        endless(http(200, b"", CERTS_ONLY, "Transfer-Encoding: chunked", length=False), b"0"),
    ),
    put_off(
        "two lengths that differ",
        "cannot",
        framed(lambda b: http(200, b, CERTS_ONLY, "Content-Length: 7")),
    ),
    put_off("a body without an end", "longer than", endless(_HEAD, b"MIIB\n")),
    put_off(
        "chunks without an end",
        "longer than",
        endless(
            http(200, b"", CERTS_ONLY, "Transfer-Encoding: chunked", length=False), b"4\r\nMIIB\r\n"
        ),
    ),
    put_off("white space without an end", "longer than", endless(_HEAD, b" \r\n")),
    put_off(
        "a length of a terabyte",
        "longer than",
        endless(
            http(200, b"", CERTS_ONLY, "Content-Length: 1000000000000", length=False), b"MIIB\n"
        ),
    ),
    put_off(
        "503 and words without an end",
        "answered 503: no no no",
        endless(http(503, b"", None, "Retry-After: 3600", length=False), b"no "),
        waits_s=(3540, 5460),
    ),
    refused(
        "400 and words without an end",
        "answered 400: no no no",
        endless(http(400, b"", "text/plain", length=False), b"no "),
    ),
    refused(
        "400 and chunks of words without an end",
        "answered 400: no no no",
        endless(
            http(400, b"", "text/plain", "Transfer-Encoding: chunked", length=False),
            b"3\r\nno \r\n",
        ),
    ),
    refused(
        "400 and one byte of words too many",
        "answered 400: xxx",
        says(400, b"x" * (256 * 1024 + 1)),
    ),
]


def _encoded(exchange: Exchange) -> None:
    body = gzip.compress(folded(leaf(exchange)))
    exchange.send(http(200, body, CERTS_ONLY, "Content-Encoding: gzip"))


ENCODED: Final = [
    put_off("a compressed body", "it is compressed (gzip)", _encoded),
    put_off(
        "five megabytes of compressed nothing",
        "cannot",
        says(200, gzip.compress(b" " * 50_000_000), CERTS_ONLY, "Content-Encoding: gzip"),
    ),
]

# --- what only time mends ---

TRIES: Final = [
    put_off(
        "no answer once, then one", "cannot reach localhost", in_turn(hangs_up, issues()), asked=1
    ),
]

ALL: Final = [*STATUS, *WORDS, *FRAMES, *ENCODED, *TRIES]
