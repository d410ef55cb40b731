"""What the servers saw: one line per request in a log, and the requests for tests to look at."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Final, NamedTuple, TextIO

from fioagent.factory.servers.tls import Peer

REQUESTS_KEPT: Final = 10_000
BYTES_KEPT: Final = 32 * 1024 * 1024  # of their bodies
SHORT_DIGEST: Final = 12  # hex digits; enough for a person to tell keys apart


class Request(NamedTuple):
    method: str
    path: str  # with the query string
    status: int  # 0: the connection was closed without an answer
    key: str  # digest of the client's key; empty without a certificate
    body: bytes
    headers: Mapping[str, str]  # names in lower case
    at: float = 0.0  # unix seconds, by the machine's clock
    device: str = ""  # the client certificate's CN; empty without a certificate


@dataclass
class Traffic:
    """Of one server. Safe to read while the server works."""

    log: TextIO
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _requests: deque[Request] = field(default_factory=deque)
    _bytes: int = 0  # of their bodies
    _handshakes: int = 0
    _refused_handshakes: int = 0
    seen: int = 0  # requests ever: whoever has looked knows by it whether to look again
    _log_fails: bool = False

    def saw_request(self, request: Request, peer: Peer | None) -> None:
        name, digest = (peer.name, peer.digest[:SHORT_DIGEST]) if peer else ("-", "-")
        status = request.status or "dropped"
        with self._lock:
            self._remember(request)
            self.seen += 1
            self._write(f"{request.method} {request.path} {name} {digest} {status}")

    def _remember(self, request: Request) -> None:
        self._requests.append(request)
        self._bytes += len(request.body)
        while len(self._requests) > REQUESTS_KEPT or self._bytes > BYTES_KEPT:
            self._bytes -= len(self._requests.popleft().body)

    def saw_handshake(self, error: Exception | None) -> None:
        with self._lock:
            if error is None:
                self._handshakes += 1
            else:
                self._refused_handshakes += 1
                self._write(f"TLS handshake failed: {error}")

    def saw_trouble(self, text: str) -> None:
        with self._lock:
            self._write(text)

    def requests(self) -> list[Request]:
        with self._lock:
            return list(self._requests)

    def handshakes(self) -> tuple[int, int]:
        """Completed and failed."""
        with self._lock:
            return self._handshakes, self._refused_handshakes

    def clear(self) -> None:
        with self._lock:
            self._requests.clear()
            self._bytes = 0
            self._handshakes = self._refused_handshakes = 0

    def _write(self, text: str) -> None:
        if self.log.closed:  # a worker's last words after the server has stopped
            return
        now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        # A path or a name comes from outside: it must not start a line of its own.
        try:
            self.log.write(f"{now} {_one_line(text)}\n")
            self.log.flush()
        except OSError as error:
            # What was done is done, and is answered. Lines that do not fit are lost.
            if not self._log_fails:
                print(f"cannot write {self.log.name}: {error.strerror}", file=sys.stderr)
            self._log_fails = True
        else:
            self._log_fails = False


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)


def open_log(directory: Path, server: str) -> TextIO:
    directory.mkdir(exist_ok=True)
    return (directory / f"{server}.log").open("a", encoding="utf-8")
