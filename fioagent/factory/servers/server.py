"""HTTP servers of the factory: cheroot with our TLS, in threads."""

from __future__ import annotations

import logging
import resource
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Sequence
from errno import EMFILE, ENFILE
from typing import Any, Final

from cheroot.connections import ConnectionManager
from cheroot.workers import threadpool
from cheroot.wsgi import Server
from flask import Flask

from fioagent.factory.servers.answers import Edge
from fioagent.factory.servers.faults import Faults
from fioagent.factory.servers.mischief import Faulty
from fioagent.factory.servers.tls import TlsAdapter, TlsConnection
from fioagent.factory.servers.traffic import Traffic

THREADS: Final = 16
BACKLOG: Final = 4096  # connections that wait to be accepted; the kernel has a limit of its own
IDLE_POLL_S: Final = 1.0
IDLE_TIMEOUT_S: Final = 120  # a device that waits for its turn on a busy machine comes back late
OPEN_FILES: Final = 16_384  # wanted; what is there is shared by the three servers
SPARE_FILES: Final = 128  # for everything but connections
NO_FILE_PAUSE_S: Final = 0.1
STAND_IN_FROM_S: Final = 0.1  # a shorter pause is not worth a thread
STOP_POLL_S: Final = 0.02  # cheroot looks this often whether it is to stop

# What cheroot puts into its queue for a thread that shall end.
_END_OF_THREAD: Final[Any] = threadpool._SHUTDOWNREQUEST  # type: ignore[attr-defined]  # noqa: SLF001

Address = tuple[str, int]


class Connections(ConnectionManager):  # its stub leaves out what is overridden here
    """cheroot's, for many connections and for few files."""

    _looked_at = 0.0

    def _expire(self, threshold: float) -> None:
        """Not whenever it is asked whether to stop: it looks at all connections."""
        now = time.monotonic()
        if now - self._looked_at >= IDLE_POLL_S:
            self._looked_at = now
            super()._expire(threshold)  # type: ignore[misc]

    def _from_server_socket(self, server_socket: socket.socket) -> Any:
        """A new connection; None while no file is left for one, which then waits its turn.

        cheroot would begin its loop anew, meet the same error first, and never come to the
        connections whose end frees a file.
        """
        try:
            return super()._from_server_socket(server_socket)  # type: ignore[misc]
        except OSError as error:
            if error.errno not in {EMFILE, ENFILE}:
                raise
            self.server.saw_trouble(f"cannot accept a connection: {error.strerror}")
            time.sleep(NO_FILE_PAUSE_S)
            return None


class FactoryServer(Server):
    """cheroot, quiet, with room for many idle connections."""

    ConnectionClass = TlsConnection
    nodelay = True
    expiration_interval = STOP_POLL_S

    def __init__(self, address: Address, app: Flask, traffic: Traffic, faults: Faults) -> None:
        super().__init__(
            address,
            Edge(Faulty(app.wsgi_app, faults)),
            numthreads=THREADS,
            server_name="fioagent-factory",
            request_queue_size=BACKLOG,
            timeout=IDLE_TIMEOUT_S,
            shutdown_timeout=0.1,  # type: ignore[arg-type]  # any number will do
        )
        # They wait in the selector and cost no thread, but a file each. Beyond this number an
        # answer ends its connection.
        self.keep_alive_conn_limit = max(1, (open_files() - SPARE_FILES) // 6)
        self._traffic = traffic
        self.faults = faults
        self._leaving = threading.Event()
        self.thread = threading.Thread(target=self.serve, name=f"factory {app.name}", daemon=True)

    def prepare(self) -> None:
        super().prepare()
        self._connections.close()  # type: ignore[has-type]  # cheroot's stub
        self._connections = Connections(self)

    def saw_trouble(self, text: str) -> None:
        self._traffic.saw_trouble(text)

    def saw_handshake(self, error: Exception | None) -> None:
        self._traffic.saw_handshake(error)

    def pause(self, seconds: float) -> None:
        """At least so long, or until the server stops. Another thread works meanwhile.

        Afterwards one thread ends, whichever is free first: there are as many as before.
        """
        if seconds < STAND_IN_FROM_S or self._leaving.is_set():
            self._leaving.wait(seconds)
            return
        stand_in = threadpool.WorkerThread(self)  # type: ignore[no-untyped-call]  # cheroot's stub
        stand_in.name, stand_in.daemon = "CP Server stand-in", True
        stand_in.start()
        try:
            self._leaving.wait(seconds)
        finally:
            self.requests.put(_END_OF_THREAD)

    def stop(self) -> None:
        self._leaving.set()
        super().stop()

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:
        """To our log. A traceback is a mistake of ours, and goes to stderr as well.

        Unless the client has gone away, which cheroot does not recognize below TLS.
        """
        self._traffic.saw_trouble(msg)
        if traceback and not isinstance(sys.exc_info()[1], (ssl.SSLError, ConnectionError)):
            super().error_log(msg, level, traceback)

    @staticmethod
    def bind_socket(socket_: socket.socket, bind_addr: Address) -> socket.socket:
        """Ours is closed when it cannot be bound; cheroot forgets it.

        And it may be bound again at once after a stop: devices know the port by heart.
        """
        socket_.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            socket_.bind(bind_addr)
        except OSError:
            socket_.close()
            raise
        return socket_

    def put_conn(self, conn: Any) -> None:
        """An idle connection waits in the selector, unless TLS holds bytes the kernel gave up.

        cheroot asks its own buffer only. The rest of a TLS record that is decrypted already
        would never wake the selector.
        """
        if self.ready and isinstance(conn.socket, ssl.SSLSocket) and conn.socket.pending():
            self.process_conn(conn)
        else:
            super().put_conn(conn)


def open_files() -> int:
    """How many files this process may have open; as many as we want, if it is allowed them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < OPEN_FILES:
        soft = OPEN_FILES if hard < 0 else min(OPEN_FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft if soft >= 0 else OPEN_FILES


def start(
    address: Address,
    app: Flask,
    traffic: Traffic,
    context: Callable[[], ssl.SSLContext] | None,
    faults: Faults,
) -> FactoryServer:
    """Listening, at ``bind_addr``: the address given, with a real port for port 0.

    OSError: the address cannot be bound.
    """
    server = FactoryServer(address, app, traffic, faults)
    server.ssl_adapter = TlsAdapter(context) if context else None
    server.prepare()
    server.thread.start()
    return server


def stop(servers: Sequence[FactoryServer]) -> None:
    """All at the same time: each waits for its selector."""
    stoppers = [threading.Thread(target=server.stop) for server in servers]
    for stopper in stoppers:
        stopper.start()
    for thread in (*stoppers, *(server.thread for server in servers)):
        thread.join()


def is_free(address: Address) -> bool:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError:
            return False
    return True
