"""HTTP servers of the factory: cheroot with our TLS, in threads."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

from cheroot.workers import threadpool
from cheroot.wsgi import Server
from flask import Flask

from fioagent.factory.answers import Edge
from fioagent.factory.faults import Faults
from fioagent.factory.mischief import Faulty
from fioagent.factory.tls import TlsAdapter, TlsConnection
from fioagent.factory.traffic import Traffic

THREADS: Final = 16
BACKLOG: Final = 256
IDLE_TIMEOUT_S: Final = 30
STAND_IN_FROM_S: Final = 0.1  # a shorter pause is not worth a thread
STOP_POLL_S: Final = 0.02  # cheroot looks this often whether it is to stop

# What cheroot puts into its queue for a thread that shall end.
_END_OF_THREAD: Final[Any] = threadpool._SHUTDOWNREQUEST  # type: ignore[attr-defined]  # noqa: SLF001

Address = tuple[str, int]


class FactoryServer(Server):
    """cheroot, quiet, with room for many idle connections."""

    ConnectionClass = TlsConnection
    nodelay = True
    expiration_interval = STOP_POLL_S
    keep_alive_conn_limit = 1000  # they wait in the selector and cost no thread

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
        self._traffic = traffic
        self.faults = faults
        self._leaving = threading.Event()
        self.thread = threading.Thread(target=self.serve, name=f"factory {app.name}", daemon=True)

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
        """To our log. A traceback is a mistake of ours, and goes to stderr as well."""
        self._traffic.saw_trouble(msg)
        if traceback:
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
