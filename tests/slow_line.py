"""A line to the factory on which every answer takes its time, so that a phase lasts a moment."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Final

_CHUNK: Final = 65536


@contextlib.contextmanager
def slow_line(port: int, delay_s: float) -> Iterator[int]:
    """A port on loopback that leads to ``port``; whatever comes back is late by ``delay_s``."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        accepting = threading.Thread(target=_accept, args=(listening, port, delay_s), daemon=True)
        accepting.start()
        yield int(listening.getsockname()[1])
        listening.shutdown(socket.SHUT_RDWR)  # ends the accept
        accepting.join()


def _accept(listening: socket.socket, port: int, delay_s: float) -> None:
    threads = []
    while True:
        try:
            near, _ = listening.accept()
        except OSError:
            break
        thread = threading.Thread(target=_connect, args=(near, port, delay_s), daemon=True)
        thread.start()
        threads.append(thread)
    for thread in threads:
        thread.join()


def _connect(near: socket.socket, port: int, delay_s: float) -> None:
    with near, socket.create_connection(("localhost", port)) as far:
        back = threading.Thread(target=_carry, args=(far, near, delay_s), daemon=True)
        back.start()
        _carry(near, far, 0.0)
        back.join()


def _carry(source: socket.socket, sink: socket.socket, late_s: float) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_CHUNK):
            time.sleep(late_s)  # the line, not the test, takes its time
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
