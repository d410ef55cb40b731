"""What a fault does to one request: before the application, in its answer, on the line.

Its own answer, of the action ``status``, is given by ``answers``, so that the log shows it.
Waiting costs nobody else anything: whoever waits has a stand-in among the threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fioagent.factory.servers.answers import DROP, FAULT, closed
from fioagent.factory.servers.faults import STALE_DATE, Fault, Faults
from fioagent.factory.servers.tls import CONNECTION, PEER

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from fioagent.factory.servers.tls import TlsConnection

GARBAGE: Final = b"\x00\xff not what you asked for \xfe{[<\x00"
WRONG_TYPE: Final = "text/html; charset=UTF-8"

Application = Callable[..., Iterable[bytes]]


class Faulty:
    """WSGI around an application whose faults are carried out."""

    def __init__(self, app: Application, faults: Faults) -> None:
        self._app = app
        self._faults = faults

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        client = environ.get(PEER)
        fault = self._faults.of_request(
            environ["REQUEST_METHOD"], environ["PATH_INFO"], client.name if client else ""
        )
        if fault is None:
            return self._app(environ, start_response)
        return _spoil(fault, self._app, environ, start_response)


def _spoil(
    fault: Fault, app: Application, environ: WSGIEnvironment, start_response: StartResponse
) -> Iterable[bytes]:
    connection: TlsConnection = environ[CONNECTION]
    waits = fault.action != "trickle"
    environ[FAULT] = fault
    environ[DROP] = fault.action in ("drop", "reset")
    if waits and not fault.done:
        connection.server.pause(fault.delay)
    answer = _answer_of(app, environ)
    if waits and fault.done:
        connection.server.pause(fault.delay)
    if environ[DROP]:
        connection.resets = fault.action == "reset"
        return []
    _alter(fault, answer)
    start_response(answer.status, answer.headers)
    if fault.action == "cut":
        return _cut(answer.body)
    if fault.action == "trickle":
        return _trickle(answer.body, fault.delay, connection)
    return [answer.body]


@dataclass(slots=True)
class _Answer:
    """What the application answered, held back."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes = b""

    def set_header(self, name: str, value: str) -> None:
        self.headers = [(k, v) for k, v in self.headers if k.lower() != name.lower()]
        self.headers.append((name, value))

    def set_body(self, body: bytes) -> None:
        """An answer that may have none stays without."""
        if self.status[:3] not in ("204", "304"):
            self.body = body
            self.set_header("Content-Length", str(len(body)))


def _answer_of(app: Application, environ: WSGIEnvironment) -> _Answer:
    answer = _Answer("", [])

    def start(status: str, headers: list[tuple[str, str]], _error: object = None) -> None:
        answer.status, answer.headers = status, list(headers)

    answer.body = b"".join(app(environ, start))
    return answer


def _alter(fault: Fault, answer: _Answer) -> None:
    if fault.action == "truncate":
        answer.set_body(answer.body[: len(answer.body) // 2])
    elif fault.action == "garbage":
        answer.set_body(GARBAGE)
    elif fault.action == "content-type":
        answer.set_header("Content-Type", fault.content_type or WRONG_TYPE)
    elif fault.action == "date":
        answer.set_header("Date", fault.date or STALE_DATE)


def _cut(body: bytes) -> Iterator[bytes]:
    """Of an answer without a body the head arrives, and the connection is closed."""
    yield body[: len(body) // 2]
    raise closed()


def _trickle(body: bytes, pause_s: float, connection: TlsConnection) -> Iterator[bytes]:
    for place in range(len(body)):
        connection.server.pause(pause_s)
        yield body[place : place + 1]
