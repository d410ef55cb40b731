"""The service tells systemd how it is: one datagram (sd_notify(3)).

Not by the sdnotify library: it imports ``socket``, and with it enum and
selectors, 1.2 MB of a process that has 10 (docs/adr/0008).
"""

from __future__ import annotations

import _socket
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from typing import Final

_PATIENCE_S: Final = 5.0  # a systemd that does not listen must not hold a commit up


class Notify:
    """Silent where nobody listens: by hand, or under another init."""

    def __init__(self, environ: MutableMapping[str, str], pid: int) -> None:
        """Takes its variables out of ``environ``: workers must not speak for the service."""
        address = environ.pop("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        usec = environ.pop("WATCHDOG_USEC", "")
        watched = environ.pop("WATCHDOG_PID", str(pid))
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
        self._socket.settimeout(_PATIENCE_S)
        #: Seconds between two signs of life; None where nobody waits for them.
        self.alive_every_s: float | None = None
        if address and usec.isdigit() and int(usec) and watched == str(pid):
            self.alive_every_s = int(usec) / 2_000_000

    def ready(self, status: str) -> None:
        self._send("READY=1", f"STATUS={status}")

    def status(self, status: str) -> None:
        self._send(f"STATUS={status}")

    def alive(self) -> None:
        self._send("WATCHDOG=1")

    def reloading(self) -> None:
        # The time is what Type=notify-reload compares with its own signal.
        since_boot_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={since_boot_us}")

    def stopping(self, status: str) -> None:
        self._send("STOPPING=1", f"STATUS={status}")

    def extend(self, seconds: float) -> None:
        """Stopping takes up to so long from now."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        text = "\n".join(" ".join(line.split()) for line in lines)
        try:
            self._socket.sendto(text.encode("utf-8", "replace"), self._address)
        except OSError:
            return  # systemd is restarting itself; the next word gets there
