"""Lines to the factory on which answers come late, so that a phase lasts as long as it has to."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

_CHUNK: Final = 65536
_LOOK_S: Final = 0.02  # from one look at a file to the next


@contextlib.contextmanager
def slow_line(port: int, delay_s: float) -> Iterator[int]:
    """A port on loopback that leads to ``port``; whatever comes back is late by ``delay_s``."""
    with _line(port, lambda _: time.sleep(delay_s)) as near:
        yield near


@contextlib.contextmanager
def held_line(port: int, connection: int, release: Path) -> Iterator[int]:
    """Likewise; nothing comes back over the nth connection before the file ``release`` is there."""

    def hold(number: int) -> None:
        while number == connection and not release.exists():
            time.sleep(_LOOK_S)

    with _line(port, hold) as near:
        yield near


@contextlib.contextmanager
def _line(port: int, before_each: Callable[[int], None]) -> Iterator[int]:
    """``before_each`` piece of an answer, with the number of its connection, counted from 1."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        accepting = threading.Thread(
            target=_accept, args=(listening, port, before_each), daemon=True
        )
        accepting.start()
        yield int(listening.getsockname()[1])
        listening.shutdown(socket.SHUT_RDWR)  # ends the accept
        accepting.join()


def _accept(listening: socket.socket, port: int, before_each: Callable[[int], None]) -> None:
    threads: list[threading.Thread] = []
    while True:
        try:
            near, _ = listening.accept()
        except OSError:
            break
        number = len(threads) + 1
        arguments = (near, port, lambda number=number: before_each(number))
        thread = threading.Thread(target=_connect, args=arguments, daemon=True)
        thread.start()
        threads.append(thread)
    for thread in threads:
        thread.join()


def _connect(near: socket.socket, port: int, before_each: Callable[[], None]) -> None:
    with near, socket.create_connection(("localhost", port)) as far:
        back = threading.Thread(target=_carry, args=(far, near, before_each), daemon=True)
        back.start()
        _carry(near, far, lambda: None)
        back.join()


def _carry(source: socket.socket, sink: socket.socket, before_each: Callable[[], None]) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_CHUNK):
            before_each()  # the line, not the test, takes its time
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
