"""A proxy on loopback that leads wherever it is asked to, and remembers what it was asked."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

Act = Callable[[Any], None]  # on a connection


@contextlib.contextmanager
def listening(act: Act, *, address: str = "127.0.0.1") -> Iterator[int]:
    """A port whose connections are given to ``act``, each in a thread."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as listener:
        thread = threading.Thread(target=_serve, args=(listener, act))
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _serve(listener: socket.socket, act: Act) -> None:
    threads = []
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            break
        thread = threading.Thread(target=_act, args=(connection, act))
        thread.start()
        threads.append(thread)
    for thread in threads:
        thread.join()


def _act(connection: socket.socket, act: Act) -> None:
    with connection, contextlib.suppress(OSError):
        act(connection)


class Tunnel:
    """A proxy that carries bytes; remembers what it was asked."""

    def __init__(self, answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n") -> None:
        self.answer = answer
        self.asked: list[bytes] = []

    def __call__(self, near: Any) -> None:
        head = near.recv(4096)
        self.asked.append(head)
        near.sendall(self.answer)
        if b" 200 " not in self.answer:
            return
        host, _, port = head.split()[1].decode().rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port))) as far:
            back = threading.Thread(target=_carry, args=(far, near))
            back.start()
            _carry(near, far)
            back.join()


def _carry(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
