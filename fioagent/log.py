"""One line of log: to the journal with fields where we are a service, else plain text.

``journalctl FIOAGENT_ROTATION_ID=certs-...`` is a rotation's history. Fields
hold names, phases and serial numbers; never a key, a PIN or a configuration value:
callers pass what an ``AgentError`` says, and what the command line shows.
Light enough for the resident process.
"""

from __future__ import annotations

import _socket
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

ERROR: Final = 3
WARNING: Final = 4
NOTICE: Final = 5
INFO: Final = 6

# MESSAGE_ID: what kind of thing happened, fixed for ever (docs/service.md).
STARTED: Final = "69e0ef20677d481693ed6bbec84e4400"
STOPPED: Final = "c68627ef5e5e4f77bea931de1f728c69"
RELOADED: Final = "e77e5c7c26214d6ba124ffa3775abba1"
WORKER_FAILED: Final = "aeb6d74eaee04489be12155a53040876"
PHASE: Final = "a0ae191fde8547658c9f4bdf5b27b574"
RESUMED: Final = "b8e61789ea9f46dc9540271a628e5208"
ENDED: Final = "5a0a9c185d6046689b4c1099a8262f6d"
TROUBLE: Final = "a75a0c71332d4994a64dca0ee7db65aa"

_SOCKET: Final = "/run/systemd/journal/socket"


class Log:
    """Where this process's lines go, found out once."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._stream = environ.get("JOURNAL_STREAM", "")
        self.is_journal = self.reads(2)

    def reads(self, descriptor: int) -> bool:
        """Whether the journal reads what is written there (systemd.exec(5), JOURNAL_STREAM)."""
        try:
            found = os.fstat(descriptor)
        except OSError:
            return False
        return bool(self._stream) and self._stream == f"{found.st_dev}:{found.st_ino}"

    def say(self, kind: str, priority: int, message: str, fields: Mapping[str, object]) -> None:
        """``fields`` by their names without the prefix ``FIOAGENT_``; None is left out."""
        if self.is_journal:
            try:
                _send(kind, priority, message, fields)
            except OSError:  # the socket is away, or does not take as much
                _write(f"<{priority}>{message}\n")
            return
        _write(f"fioagent: {message}\n")


def _send(kind: str, priority: int, message: str, fields: Mapping[str, object]) -> None:
    entry = {
        "MESSAGE": message,
        "MESSAGE_ID": kind,
        "PRIORITY": priority,
        "SYSLOG_IDENTIFIER": "fioagent",
        **{f"FIOAGENT_{name}": value for name, value in fields.items() if value is not None},
    }
    datagram = b"".join(_field(name, str(value)) for name, value in entry.items())
    journal = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
    try:
        journal.sendto(datagram, _SOCKET)
    finally:
        journal.close()


def _field(name: str, value: str) -> bytes:
    """systemd.io/JOURNAL_NATIVE_PROTOCOL: a value with a line end goes with its length."""
    raw = value.encode("utf-8", "replace")
    if b"\n" not in raw:
        return name.encode() + b"=" + raw + b"\n"
    return name.encode() + b"\n" + len(raw).to_bytes(8, "little") + raw + b"\n"


def _write(line: str) -> None:
    try:
        sys.stderr.write(line)
        sys.stderr.flush()
    except OSError:  # nobody reads it any more
        return
