"""A terminal with somebody before it: 80 columns, keys to press, a screen to read."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping
from types import TracebackType

from tests.world import World

COLUMNS = 80
_LIMIT_S = 120.0  # of a machine with much else to do; nothing waits so long by itself


class Console:
    """``fioagent`` with a terminal of its own, as a login on a serial line has it."""

    def __init__(self, world: World, *arguments: str, environ: Mapping[str, str]) -> None:
        self.printed = b""
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
        self._process = subprocess.Popen(
            # Without a terminal of its own a process gets no Control-C from it.
            ["setsid", "--ctty", sys.executable, "-m", "fioagent", *arguments],
            env={**os.environ, **world.device.env, "TERM": "vt102", "LC_ALL": "C", **environ},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)

    def __enter__(self) -> Console:  # noqa: PYI034  # typing.Self came with 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, what: BaseException | None, at: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._ours)

    def read_until(self, text: str) -> None:
        while text.encode() not in self.printed:
            assert self._read(), f"{text!r} did not come: {self.printed!r}"

    def press(self, key: str) -> None:
        os.write(self._ours, key.encode())

    def exit_status(self) -> int:
        """Once it has ended and all of its words are read."""
        while self._read():
            pass
        return self._process.wait(_LIMIT_S)

    @property
    def screen(self) -> list[str]:
        """What a person sees at the end, where a terminal obeys carriage return and line feed."""
        rows, column = [""], 0
        for character in self.printed.decode():
            if character == "\r":
                column = 0
            elif character == "\n":
                rows.append("")
            else:
                if column == COLUMNS:
                    rows.append("")
                    column = 0
                rows[-1] = rows[-1][:column].ljust(column) + character + rows[-1][column + 1 :]
                column += 1
        return [row.rstrip() for row in rows]

    def _read(self) -> bytes:
        ready, _, _ = select.select([self._ours], [], [], _LIMIT_S)
        assert ready, f"nothing more came: {self.printed!r}"
        try:
            found = os.read(self._ours, 4096)
        except OSError:  # EIO: nobody has the other side any more
            return b""
        self.printed += found
        return found
