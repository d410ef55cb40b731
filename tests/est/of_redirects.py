"""Rows: redirects. The same origin is followed, nobody else gets the request (RFC 7030 3.2.1)."""

from __future__ import annotations

from typing import Final

from tests.est.replies import http, in_turn, issues, says
from tests.est.scenario import Scenario, refused, taken
from tests.est.server import BASE, Exchange, Reply


def to(target: str, status: int = 307) -> Reply:
    """``target`` may name the server's own ``{port}``."""

    def reply(exchange: Exchange) -> None:
        place = target.format(port=exchange.server.port, base=BASE)
        exchange.send(http(status, b"", None, f"Location: {place}"))

    return reply


def _followed(title: str, target: str, status: int = 307) -> Scenario:
    return taken(title, in_turn(to(target, status), issues()), asked=2)


def _elsewhere(title: str, target: str, line: str, status: int = 307) -> Scenario:
    return refused(title, line, in_turn(to(target, status), issues()), asked=1)


OWN: Final = "https://localhost:{port}"

# They would turn the request into a question, or say nothing of where.
_LOST: Final = "which would lose the request"
_OTHERS: Final = {300: "answered 300", 301: _LOST, 302: _LOST, 303: _LOST, 305: "answered 305"}

ALL: Final = [
    _followed("307 to another label", OWN + "{base}/label/simplereenroll"),
    _followed("308 to another label", OWN + "{base}/label/simplereenroll", 308),
    _followed("307 to the same place", OWN + "{base}/simplereenroll"),
    _followed("307 by a path", "{base}/label/simplereenroll"),
    _followed("307 by a path without the port", "//localhost:{port}{base}/label/simplereenroll"),
    _followed("307 to the host in capitals", "https://LOCALHOST:{port}{base}/simplereenroll"),
    taken(
        "three redirects",
        in_turn(*[to("{base}/label/simplereenroll")] * 3, issues()),
        asked=4,
    ),
    refused(
        "four redirects",
        "redirect",
        in_turn(*[to("{base}/label/simplereenroll")] * 4, issues()),
        asked=4,
    ),
    refused("redirects in a circle", "redirect", to("{base}/simplereenroll"), asked=4),
    _elsewhere(
        "307 to another port", "https://localhost:1{base}/simplereenroll", "https://localhost:1/"
    ),
    _elsewhere("307 to another host", "https://other.test:{port}{base}/x", "https://other.test:"),
    _elsewhere("307 to the address of the host", "https://127.0.0.1:{port}{base}/x", "127.0.0.1"),
    _elsewhere("307 to http", "http://localhost:{port}{base}/simplereenroll", "http://localhost"),
    _elsewhere("307 to a file", "file:///etc/passwd", "file:///etc/passwd"),
    _elsewhere("307 out of the well-known path", OWN + "/login", "/login"),
    _elsewhere("307 out of it by dots", OWN + "{base}/../../login", "login"),
    _elsewhere(
        "307 with a user",
        "https://user:word@localhost:{port}{base}/simplereenroll",
        "that is no plain address",
    ),
    _elsewhere("307 to nowhere", "", "redirect"),
    _elsewhere("307 to what is no URL", "https://[::1", "redirect"),
    _elsewhere("307 with control characters", OWN + "/\x1b[31m\t", "redirect"),
    _elsewhere("307 to a path of 5000 characters", OWN + "/" + "x" * 5000, "redirect"),
    *(
        _elsewhere(f"{status} to the same origin", OWN + "{base}/simplereenroll", line, status)
        for status, line in _OTHERS.items()
    ),
    refused("307 without Location", "redirect", says(307), asked=1),
    refused("two of Location", "redirect", says(307, b"", None, "Location: /a", "Location: /b")),
]
