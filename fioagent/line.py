"""A TLS connection with deadlines: whatever the other end does, each call ends in time.

A timeout of a socket begins anew with every byte, so a peer that sends one byte a
minute holds a program for ever. Here the moment is fixed, for the handshake and for
each exchange, and so is how much may come in.
"""

from __future__ import annotations

import io
import select
import socket
import ssl
import time
from collections.abc import Callable
from typing import Final, TypeVar

from fioagent import openssl

HANDSHAKE_TIMEOUT_S: Final = 30.0
IDLE_TIMEOUT_S: Final = 30.0  # without a byte

_Result = TypeVar("_Result")


class FloodError(OSError):
    """More came in than may be."""


class Line:
    """What ``http.client`` asks of a socket, over TLS. Shaken when it is made.

    Attributes:
        until: by ``time.monotonic``; no call returns later.
        allowance: bytes that may still come in.
        has_ended: the other end has said all that it will say.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        connected: socket.socket,
        host: str,
        timeout_s: float = HANDSHAKE_TIMEOUT_S,
    ) -> None:
        """Takes ``connected`` over, and closes it where the handshake fails."""
        self.until = time.monotonic() + timeout_s
        self.allowance = 0
        self.has_ended = False
        try:
            connected.setblocking(False)
            self._tls = context.wrap_socket(
                connected, server_hostname=host, do_handshake_on_connect=False
            )
        except BaseException:
            connected.close()
            raise
        try:
            self._patiently(self._tls.do_handshake)
        except BaseException:
            self._tls.close()
            raise

    @property
    def tls(self) -> ssl.SSLSocket:
        return self._tls

    def is_stale(self) -> bool:
        """Whether it was closed, or something came in that nobody has asked for.

        Not by session tickets, which some servers send after their first answer.
        """
        if not self._poll(select.POLLIN, 0.0):
            return False
        openssl.forget_errors()
        try:
            self._tls.recv(1)
        except ssl.SSLWantReadError:
            return False
        except OSError:
            pass
        return True

    def sendall(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._patiently(lambda: self._tls.send(view)) :]  # noqa: B023  # called at once

    def makefile(self, mode: str) -> io.BufferedReader:
        """For reading alone, as ``http.client`` does it."""
        del mode
        return io.BufferedReader(_Reader(self))

    def receive_into(self, buffer: memoryview) -> int:
        """As ``socket.recv_into``. Raises FloodError behind the allowance."""
        if self.allowance <= 0:
            raise FloodError
        received = self._patiently(lambda: self._tls.recv_into(buffer[: self.allowance]))
        self.allowance -= received
        self.has_ended = self.has_ended or not received
        return received

    def close(self) -> None:
        """Nothing: ``http.client`` calls it before it has read the last answer."""

    def end(self) -> None:
        self._tls.close()

    def _patiently(self, act: Callable[[], _Result]) -> _Result:
        while True:
            openssl.forget_errors()
            try:
                return act()
            except ssl.SSLWantReadError:
                self._wait(select.POLLIN)
            except ssl.SSLWantWriteError:
                self._wait(select.POLLOUT)

    def _wait(self, event: int) -> None:
        left = min(self.until - time.monotonic(), IDLE_TIMEOUT_S)
        if left <= 0 or not self._poll(event, left):
            raise TimeoutError

    def _poll(self, event: int, patience_s: float) -> list[tuple[int, int]]:
        waiting = select.poll()
        waiting.register(self._tls, event)
        return waiting.poll(patience_s * 1000)


class _Reader(io.RawIOBase):
    def __init__(self, line: Line) -> None:
        self._line = line

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # what BufferedReader gives
        return self._line.receive_into(memoryview(buffer))
