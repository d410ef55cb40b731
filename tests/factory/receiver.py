"""Who is told by a push queue: a web server that does with each message what a test says."""

from __future__ import annotations

import base64
import json
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WAIT_S = 30

Answer = Callable[["Pushed"], int]


@dataclass(frozen=True)
class Pushed:
    """One request of the queue."""

    body: dict[str, Any]
    authorization: str

    @property
    def id(self) -> str:
        return str(self.body["message"]["messageId"])

    @property
    def type(self) -> str:
        return str(self.body["message"]["attributes"]["event-type"])

    @property
    def payload(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads(base64.b64decode(self.body["message"]["data"]))
        return loaded

    @property
    def token(self) -> str:
        scheme, _, token = self.authorization.partition(" ")
        assert scheme == "Bearer"
        return token


class Receiver:
    """Listens inside the ``with``. ``answer`` gives the status; 0 closes without a word."""

    def __init__(self, answer: Answer = lambda _: 204, port: int = 0) -> None:
        self.answer = answer
        self.pushed: queue.Queue[Pushed] = queue.Queue()  # each attempt, once it is answered
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                pushed = Pushed(body, self.headers["Authorization"])
                status = receiver.answer(pushed)
                if status:
                    self.send_response(status)
                    self.end_headers()
                self.close_connection = True
                receiver.pushed.put(pushed)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/events?of=lab"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Receiver:  # noqa: PYI034  # Self came with Python 3.11
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def next(self) -> Pushed:
        return self.pushed.get(timeout=WAIT_S)

    def until(self, kind: str) -> list[Pushed]:
        """All that comes, up to the first of this type."""
        found = [self.next()]
        while found[-1].type != kind:
            found.append(self.next())
        return found
