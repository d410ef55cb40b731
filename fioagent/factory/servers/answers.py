"""HTTP answers in the forms of the public servers, and the one they cannot give: none."""

from __future__ import annotations

import io
import json
import sqlite3
import time
from collections.abc import Callable, Iterable
from errno import ECONNABORTED
from typing import TYPE_CHECKING, Any, Final

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from fioagent.factory.errors import RefusedError
from fioagent.factory.servers.faults import Fault
from fioagent.factory.servers.incoming import read_json
from fioagent.factory.servers.tls import PEER, Peer
from fioagent.factory.servers.traffic import Request, Traffic

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

FAULT: Final = "fioagent.fault"  # WSGI environ: the Fault that this request has met
DROP: Final = "fioagent.drop"  # WSGI environ: close the connection instead of answering
QUIET: Final = "fioagent.quiet"  # WSGI environ: not noted, for it is a look only
MAX_BODY: Final = 100 * 1024  # bytes; update-server and dg-satellite answer 413 above
MAX_DRAINED: Final = 4 * 1024 * 1024  # bytes of a refused body that we read, to be heard


def text(status: int, body: str) -> Response:
    return Response(body, status, content_type="text/plain; charset=UTF-8")


def as_json(status: int, value: object) -> Response:
    body = json.dumps(value, separators=(",", ":"))
    return Response(body, status, content_type="application/json")


def message(status: int, reason: str) -> Response:
    return as_json(status, {"message": reason})


def json_object() -> dict[str, Any]:
    """The body of the request. RefusedError: it is not a JSON object."""
    try:
        found = read_json(request.get_data())
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise RefusedError(400, "Failed to parse request JSON body")
    return found


def nothing(status: int) -> Response:
    """No body and no type: 204 and 304."""
    answer = Response(status=status)
    del answer.headers["Content-Type"]
    return answer


def drop() -> Response:
    """The connection is closed without an answer; what was changed stays changed."""
    request.environ[DROP] = True
    return Response(status=500)


def quietly(answer: Response) -> Response:
    """``answer``, of which no log and no list of requests will tell."""
    request.environ[QUIET] = True
    return answer


def peer() -> Peer | None:
    found: Peer | None = request.environ.get(PEER)
    return found


def new_app(name: str, traffic: Traffic) -> Flask:
    """An application with the routers' own errors in JSON, that notes each request."""
    app = Flask(name, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.url_map.strict_slashes = False
    app.register_error_handler(HTTPException, _router_error)
    app.register_error_handler(RefusedError, _refused)

    @app.errorhandler(sqlite3.OperationalError)
    def cannot_keep(error: sqlite3.OperationalError) -> Response:
        """A full disk, most of all. The transaction is undone, and the client may come again."""
        traffic.saw_trouble(f"cannot do what was asked: {error}")
        return message(500, f"cannot do what was asked: {error}")

    @app.after_request
    def note(answer: Response) -> Response:
        if request.environ.get(QUIET):
            return answer
        dropped = bool(request.environ.get(DROP))
        too_large = answer.status_code == 413
        seen = peer()
        traffic.saw_request(
            Request(
                request.method,
                request.full_path.rstrip("?"),
                0 if dropped else answer.status_code,
                seen.digest if seen else "",
                b"" if too_large else request.get_data(),
                {name.lower(): value for name, value in request.headers},
                time.time(),
                seen.name if seen else "",
            ),
            seen,
        )
        return answer

    # Flask asks these in the opposite order: what is noted is what is answered.
    app.before_request(_instead)
    app.after_request(_in_its_place)
    return app


def _instead() -> Response | None:
    """A request that meets a fault may not be carried out."""
    fault: Fault | None = request.environ.get(FAULT)
    return None if fault is None or fault.carries_out else Response()


def _in_its_place(answer: Response) -> Response:
    fault: Fault | None = request.environ.get(FAULT)
    if fault is None or fault.action != "status":
        return answer
    given = text(fault.status, fault.body)
    if fault.content_type:
        given.headers["Content-Type"] = fault.content_type
    if fault.retry_after:
        given.headers["Retry-After"] = str(fault.retry_after)
    return given


def _router_error(error: Exception) -> Response:
    """Unknown route and wrong method need no authentication, and answer in JSON."""
    if not isinstance(error, HTTPException) or error.code is None:
        raise error
    return message(error.code, error.name)


def _refused(error: RefusedError) -> Response:
    """What fioctl shows of a refusal is this member."""
    return message(error.status, str(error))


class Edge:
    """WSGI around an application: bodies come in whole, and :func:`drop` is carried out."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        _read_whole(environ)
        body = self._app(environ, start_response)
        if environ.get(DROP):
            raise closed()
        return body


def closed() -> ConnectionAbortedError:
    """For this kind of error cheroot closes the connection and says nothing."""
    return ConnectionAbortedError(ECONNABORTED, "closed on purpose")


def _read_whole(environ: WSGIEnvironment) -> None:
    """The body in memory, before any transaction: a slow client holds up nobody else.

    Also when it is too large: closing with unread data becomes a reset, and then the client
    never reads its 413. cheroot would leave the end of a chunked body in the connection, and
    werkzeug would cut such a body at the limit instead of refusing it.
    """
    if not (environ.get("CONTENT_LENGTH") or "0").isdecimal():
        raise closed()  # -5: where the next request would begin, nobody can tell
    stream = environ["wsgi.input"]
    body = stream.read(MAX_DRAINED)
    if environ.pop("wsgi.input_terminated", False):
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        if stream.closed:
            list(stream.read_trailer_lines())
    elif len(body) < min(int(environ.get("CONTENT_LENGTH") or 0), MAX_DRAINED):
        raise closed()  # the client went away in the middle
    environ["wsgi.input"] = io.BytesIO(body)
    environ["CONTENT_LENGTH"] = str(len(body))
